//! The Client's side: what `bucketmq pub` and `sub` speak.

use base64ct::{Base64, Encoding};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::message::{check_nonce, decode, escape, ignore_extensions, take, text};
use super::{ITERATIONS_MAX, ITERATIONS_MIN, Mechanism, ScramError, nonce, saslprep};

/// Without channel binding.
const GS2_HEADER: &str = "n,,";

/// A Client that proves itself, and lets the Server prove itself.
pub struct ScramClient {
    mechanism: Mechanism,
    password: Zeroizing<Vec<u8>>,
    nonce: String,
    bare: String,
    /// What the Server has to sign with, once it has sent its first message.
    server_signature: Option<Zeroizing<Vec<u8>>>,
}

impl ScramClient {
    /// Begins: the Client and client-first.
    pub fn start(mechanism: Mechanism, username: &str, password: &[u8]) -> Result<(Self, Vec<u8>), getrandom::Error> {
        Ok(Self::with_nonce(mechanism, username, password, nonce()?))
    }

    pub(super) fn with_nonce(mechanism: Mechanism, username: &str, password: &[u8], nonce: String) -> (Self, Vec<u8>) {
        // A name that SASLprep does not take goes as it is: the Server may know it so.
        let username = saslprep(username).unwrap_or_else(|| username.to_owned());
        let bare = format!("n={},r={nonce}", escape(&username));
        let first = format!("{GS2_HEADER}{bare}").into_bytes();
        (Self { mechanism, password: Zeroizing::new(password.to_vec()), nonce, bare, server_signature: None }, first)
    }

    /// Which one is spoken.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// server-first in, client-final out. Takes its time.
    pub fn prove(&mut self, server_first: &[u8]) -> Result<Vec<u8>, ScramError> {
        if self.server_signature.is_some() {
            return Err(ScramError("a second challenge"));
        }
        let message = text(server_first)?;
        let mut attributes = message.split(',');
        let nonce = take(&mut attributes, 'r')?;
        check_nonce(nonce)?;
        // Else the answer of another exchange could be played back.
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(ScramError("the nonce is not that of this exchange"));
        }
        let salt = decode(take(&mut attributes, 's')?)?;
        let iterations = take(&mut attributes, 'i')?.parse().ok().filter(|n| (ITERATIONS_MIN..=ITERATIONS_MAX).contains(n));
        // Few would give the password away to a false Server, many would keep us busy.
        let iterations = iterations.ok_or(ScramError("iterations outside of 4096 to 1000000"))?;
        ignore_extensions(attributes)?;
        let salted = self.mechanism.salted_password(&self.password, &salt, iterations);
        let client_key = self.mechanism.client_key(&salted);
        let without_proof = format!("c={},r={nonce}", Base64::encode_string(GS2_HEADER.as_bytes()));
        let auth_message = format!("{},{message},{without_proof}", self.bare);
        let signature = self.mechanism.hmac(&self.mechanism.hash(&client_key), auth_message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature.iter()).map(|(a, b)| a ^ b).collect();
        self.server_signature = Some(self.mechanism.hmac(&self.mechanism.server_key(&salted), auth_message.as_bytes()));
        Ok(format!("{without_proof},p={}", Base64::encode_string(&proof)).into_bytes())
    }

    /// server-final in: whether the Server knows the user.
    pub fn check(&self, server_final: &[u8]) -> Result<(), ScramError> {
        let expected = self.server_signature.as_ref().ok_or(ScramError("the Server did not ask for a proof"))?;
        let mut attributes = text(server_final)?.split(',');
        let signature = decode(take(&mut attributes, 'v')?)?;
        ignore_extensions(attributes)?;
        if bool::from(signature.ct_eq(expected)) { Ok(()) } else { Err(ScramError("the Server does not know the password")) }
    }
}
