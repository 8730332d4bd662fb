//! SCRAM (RFC 5802) with SHA-256 (RFC 7677) and SHA-512: both sides prove that they know the password, and neither sends it.
//!
//! Here stands what both sides compute and what the users file keeps; [`server`] and [`client`] are the two sides of an exchange:
//! bytes in, bytes out, no I/O, no clock. Channel binding is not offered, so `n,,` and `y,,` are the headers that are taken.

pub(super) mod client;
mod message;
pub(super) mod server;

use std::fmt;

use base64ct::{Base64, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::credential::SecretError;

/// What RFC 7677 asks for at least.
pub const ITERATIONS_MIN: u32 = 4096;
/// A password in CONNECT is held against a verifier by as many: under a second, less than the deadline of the queue.
pub const ITERATIONS_MAX: u32 = 1_000_000;
/// 16 ms of SHA-256 on a server. The Client computes as many at each new connection unless it remembers, and a small device is a
/// hundred times slower, so more is for who knows their devices.
pub const ITERATIONS_DEFAULT: u32 = 100_000;
/// Bytes of a message of the other side. Nonces and keys take 200; the rest is for the name.
pub const MESSAGE_LEN_MAX: usize = 4096;
/// 128 bits, so that no two users share a salt by chance.
pub(super) const SALT_LEN: usize = 16;
/// 144 bits, and 24 characters without padding.
const NONCE_LEN: usize = 18;

/// What is wrong with a message of the other side. For a log: a stranger is told no more than that it was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScramError(pub(crate) &'static str);

/// The hash of an exchange, and with it its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mechanism {
    /// SCRAM-SHA-256.
    Sha256,
    /// SCRAM-SHA-512.
    Sha512,
}

impl Mechanism {
    /// Every one there is.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// As the Authentication Method of MQTT names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// The mechanism of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }

    /// Bytes of a hash, and of every key.
    fn len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// `H` of the RFC.
    fn hash(self, bytes: &[u8]) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        })
    }

    /// `HMAC` of the RFC.
    fn hmac(self, key: &[u8], text: &[u8]) -> Zeroizing<Vec<u8>> {
        fn of<M: Mac + KeyInit>(key: &[u8], text: &[u8]) -> Zeroizing<Vec<u8>> {
            let mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes a key of any length");
            Zeroizing::new(mac.chain_update(text).finalize().into_bytes().to_vec())
        }
        match self {
            Self::Sha256 => of::<Hmac<Sha256>>(key, text),
            Self::Sha512 => of::<Hmac<Sha512>>(key, text),
        }
    }

    /// `SaltedPassword` of the RFC: what takes its time.
    fn salted_password(self, password: &[u8], salt: &[u8], iterations: u32) -> Zeroizing<Vec<u8>> {
        let password = prepared(password);
        let mut salted = Zeroizing::new(vec![0; self.len()]);
        match self {
            Self::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(&password, salt, iterations, &mut salted),
            Self::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(&password, salt, iterations, &mut salted),
        }
        salted
    }

    fn client_key(self, salted_password: &[u8]) -> Zeroizing<Vec<u8>> {
        self.hmac(salted_password, b"Client Key")
    }

    fn server_key(self, salted_password: &[u8]) -> Zeroizing<Vec<u8>> {
        self.hmac(salted_password, b"Server Key")
    }

    /// Computes what a wrong password costs a user with a verifier, for nobody.
    pub(super) fn waste(self, password: &[u8], iterations: u32) {
        std::hint::black_box(self.salted_password(password, &[0; SALT_LEN], iterations));
    }
}

/// After SASLprep (RFC 4013). What that does not take, such as bytes that are no text, stays as it is, as PostgreSQL has it: a
/// password of MQTT is bytes, and one that was right must not become wrong.
fn prepared(password: &[u8]) -> Zeroizing<Vec<u8>> {
    let prepared = std::str::from_utf8(password).ok().and_then(saslprep);
    Zeroizing::new(prepared.map_or_else(|| password.to_vec(), String::into_bytes))
}

fn saslprep(text: &str) -> Option<String> {
    stringprep::saslprep(text).ok().map(|text| text.into_owned()).filter(|text| !text.is_empty())
}

/// Whether every Client understands this password alike: SASLprep takes it.
pub(super) fn is_portable(password: &[u8]) -> bool {
    std::str::from_utf8(password).is_ok_and(|text| saslprep(text).is_some())
}

/// Printable and without a comma, as the RFC wants it.
pub(super) fn nonce() -> Result<String, getrandom::Error> {
    let mut bytes = [0; NONCE_LEN];
    getrandom::fill(&mut bytes)?;
    Ok(Base64::encode_string(&bytes))
}

/// What the users file keeps of a password. It does not let anybody log in, but whoever has it can guess passwords, and play the Server.
#[derive(PartialEq, Eq)]
pub(crate) struct ScramVerifier {
    pub(super) mechanism: Mechanism,
    pub(super) iterations: u32,
    pub(super) salt: Box<[u8]>,
    stored_key: Box<[u8]>,
    server_key: Box<[u8]>,
}

/// Without the keys.
impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mechanism, iterations, salt: _, stored_key: _, server_key: _ } = self;
        f.debug_struct("ScramVerifier").field("mechanism", mechanism).field("iterations", iterations).finish_non_exhaustive()
    }
}

impl ScramVerifier {
    /// Reads what stands behind `SCRAM-SHA-256$`.
    pub(super) fn parse(mechanism: Mechanism, text: &str) -> Result<Self, SecretError> {
        const FORM: &str = "SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey";
        let halves = text.split_once('$').and_then(|(cost, keys)| Some((cost.split_once(':')?, keys.split_once(':')?)));
        let Some(((iterations, salt), (stored_key, server_key))) =
            halves.filter(|_| text.bytes().filter(|b| b":$".contains(b)).count() == 3)
        else {
            return Err(SecretError::Parts(FORM));
        };
        let digits = !iterations.is_empty() && iterations.bytes().all(|b| b.is_ascii_digit());
        let in_bounds = digits.then(|| iterations.parse().ok()).flatten().filter(|n| (ITERATIONS_MIN..=ITERATIONS_MAX).contains(n));
        let decode = |part, text| Base64::decode_vec(text).map_err(|_| SecretError::PaddedBase64(part));
        let key = |part, text| -> Result<Box<[u8]>, SecretError> {
            let key = decode(part, text)?;
            if key.len() == mechanism.len() { Ok(key.into()) } else { Err(SecretError::Key(part, key.len(), mechanism.len())) }
        };
        let iterations = in_bounds.ok_or_else(|| SecretError::Iterations(iterations.to_owned()))?;
        let salt = decode("salt", salt)?;
        if !(8..=64).contains(&salt.len()) {
            return Err(SecretError::Salt(salt.len()));
        }
        let (stored_key, server_key) = (key("StoredKey", stored_key)?, key("ServerKey", server_key)?);
        Ok(Self { mechanism, iterations, salt: salt.into(), stored_key, server_key })
    }

    /// The verifier of a new password, as it is written to the file.
    pub(super) fn create(mechanism: Mechanism, iterations: u32, password: &[u8]) -> Result<String, getrandom::Error> {
        let mut salt = [0; SALT_LEN];
        getrandom::fill(&mut salt)?;
        Ok(Self::with_salt(mechanism, iterations, &salt, password))
    }

    fn with_salt(mechanism: Mechanism, iterations: u32, salt: &[u8], password: &[u8]) -> String {
        let salted = mechanism.salted_password(password, salt, iterations);
        let [stored_key, server_key] = [mechanism.hash(&mechanism.client_key(&salted)), mechanism.server_key(&salted)];
        let [salt, stored_key, server_key] = [salt, &stored_key, &server_key].map(Base64::encode_string);
        format!("{}${iterations}:{salt}${stored_key}:{server_key}", mechanism.name())
    }

    /// One that nobody has the password of: for users who do not exist.
    pub(super) fn of_nobody(mechanism: Mechanism, iterations: u32, salt: &[u8]) -> Self {
        let key = || vec![0; mechanism.len()].into_boxed_slice();
        Self { mechanism, iterations, salt: salt.into(), stored_key: key(), server_key: key() }
    }

    /// Whether this is the password, the slow way.
    pub(super) fn is_of(&self, password: &[u8]) -> bool {
        let salted = self.mechanism.salted_password(password, &self.salt, self.iterations);
        let stored_key = self.mechanism.hash(&self.mechanism.client_key(&salted));
        stored_key.ct_eq(&self.stored_key).into()
    }

    /// Whether `proof`, made for `auth_message`, is that of somebody who knows the password.
    fn is_proven_by(&self, proof: &[u8], auth_message: &[u8]) -> bool {
        if proof.len() != self.mechanism.len() {
            return false;
        }
        let signature = self.mechanism.hmac(&self.stored_key, auth_message);
        let client_key = Zeroizing::new(proof.iter().zip(signature.iter()).map(|(a, b)| a ^ b).collect::<Vec<u8>>());
        self.mechanism.hash(&client_key).ct_eq(&self.stored_key).into()
    }

    /// What shows the Client that we know the user.
    fn signature(&self, auth_message: &[u8]) -> Zeroizing<Vec<u8>> {
        self.mechanism.hmac(&self.server_key, auth_message)
    }
}

#[cfg(test)]
mod tests;
