//! Hashes of passwords as they stand in the users file, and the memory of a password that was right.

use std::sync::OnceLock;

use argon2::{Algorithm, Argon2, Params, Version};
use base64ct::{Base64Unpadded, Encoding};
use blake2::Blake2sMac256;
use blake2::digest::{KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::scram::{ITERATIONS_MAX, ITERATIONS_MIN, Mechanism, ScramVerifier};
use super::users_file::ScramLook;

/// OWASP's first choice, which is also the library's: 19 MiB, two passes, one lane; some 35 ms.
const ARGON2_DEFAULT: Cost = Cost { memory_kib: Params::DEFAULT_M_COST, passes: Params::DEFAULT_T_COST, lanes: Params::DEFAULT_P_COST };
/// What the users file may ask of us: 256 MiB on each core at a time.
const MEMORY_KIB_MAX: u32 = 256 * 1024;
/// 16 passes over 256 MiB are under 4 s, less than the deadline of the queue.
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;
/// 128 bits, so that no two users share a salt by chance.
const SALT_LEN: usize = 16;
const HASH_LEN: usize = 32;

/// How verifiers of SCRAM begin. They have colons in them, as no other secret has.
pub(crate) const SCRAM: &str = "SCRAM-";

/// What is wrong with the secret of a user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each message says it")]
pub enum SecretError {
    #[error("the secret is empty, expected `$argon2id$...`, `$sha256$...`, `SCRAM-SHA-256$...` or `!`; `bucketmq passwd` writes it")]
    Empty,
    #[error(
        "the secret is no hash, expected `$argon2id$...`, `$sha256$...`, `SCRAM-SHA-256$...` or `!`; a password itself must not stand here"
    )]
    NoHash,
    #[error("`{0}` hashes are not supported, expected `argon2id`, `sha256`, `SCRAM-SHA-256` or `SCRAM-SHA-512`")]
    Algorithm(String),
    #[error("the hash has the wrong number of parts, expected `{0}`")]
    Parts(&'static str),
    #[error("Argon2 version `{0}` is not supported, expected `v=19`")]
    Version(String),
    #[error("the Argon2 parameters `{0}` are not valid, expected `m=KiB,t=passes,p=lanes`")]
    Parameters(String),
    #[error(
        "the Argon2 parameters `{0}` are out of bounds: m at least 8 times p and at most {MEMORY_KIB_MAX} (KiB), t 1 to {PASSES_MAX}, p 1 \
         to {LANES_MAX}"
    )]
    Bounds(String),
    #[error("the {0} is not Base64 without padding")]
    Base64(&'static str),
    #[error("the salt has {0} bytes, expected 8 to 64")]
    Salt(usize),
    #[error("the hash has {0} bytes, expected {1}")]
    Hash(usize, &'static str),
    #[error("the {0} is not Base64 with padding")]
    PaddedBase64(&'static str),
    #[error("the iterations `{0}` are no number from {ITERATIONS_MIN} to {ITERATIONS_MAX}")]
    Iterations(String),
    #[error("the {0} has {1} bytes, expected {2}")]
    Key(&'static str, usize, usize),
}

/// What a user has to know, and what we know of it. Equal if the file says the same.
#[derive(Debug)]
pub(crate) struct Credential {
    pub(crate) secret: Secret,
    /// The keyed hash of the password that was right. One place is enough: there is one right password, and when it changes in the
    /// file, so does the hash, and this whole value is replaced. So the memory is bounded by the users and forgets by itself.
    remembered: OnceLock<[u8; 32]>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Secret {
    Argon2id(Argon2Hash),
    Sha256(SaltedSha256),
    Scram(ScramVerifier),
}

/// What checking a password costs, where that is much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Argon2id(Cost),
    Scram { mechanism: Mechanism, iterations: u32 },
}

impl Work {
    /// For comparing: about as many nanoseconds, by `examples/cost.rs`.
    pub(crate) fn weight(self) -> u64 {
        match self {
            Self::Argon2id(cost) => cost.blocks() * 900,
            Self::Scram { mechanism: Mechanism::Sha256, iterations } => u64::from(iterations) * 160,
            Self::Scram { mechanism: Mechanism::Sha512, iterations } => u64::from(iterations) * 600,
        }
    }

    /// Does it for nobody, so that an unknown user takes as long as a known one.
    pub(crate) fn waste(self, password: &[u8]) {
        match self {
            Self::Argon2id(cost) => cost.waste(password),
            Self::Scram { mechanism, iterations } => mechanism.waste(password, iterations),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Argon2Hash {
    pub(crate) cost: Cost,
    salt: Box<[u8]>,
    hash: Box<[u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SaltedSha256 {
    salt: Box<[u8]>,
    hash: [u8; 32],
}

/// A random key of one process, under which it remembers passwords.
pub(crate) struct MemoryKey([u8; 32]);

impl MemoryKey {
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self(key))
    }

    fn tag(&self, salt: &[u8], password: &[u8]) -> [u8; 32] {
        // Fixed-length front, so that salt and password cannot be shifted against each other.
        self.mac(salt.len() as u64, &[salt, password])
    }

    /// Random bytes that stay the same for this name as long as the process lives: 64, the longest salt there is, and some to choose by.
    pub(crate) fn invented(&self, name: &str) -> ([u8; 64], u64) {
        // Lengths that no salt has, so that these are never tags of a password.
        let [first, second, choice] = [1, 2, 3].map(|number| self.mac(u64::MAX - number, &[name.as_bytes()]));
        let mut salt = [0; 64];
        salt[..32].copy_from_slice(&first);
        salt[32..].copy_from_slice(&second);
        (salt, choice.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn mac(&self, front: u64, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = Blake2sMac256::new_from_slice(&self.0).expect("a key of 32 bytes is what BLAKE2s takes");
        mac.update(&front.to_le_bytes());
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }
}

impl PartialEq for Credential {
    fn eq(&self, other: &Self) -> bool {
        self.secret == other.secret
    }
}

impl From<Secret> for Credential {
    fn from(secret: Secret) -> Self {
        Self { secret, remembered: OnceLock::new() }
    }
}

impl Credential {
    /// Reads the secret of a line; `None` is `!`.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, SecretError> {
        let secret = match text {
            "" => return Err(SecretError::Empty),
            "!" => return Ok(None),
            text if text.starts_with(SCRAM) => {
                let (name, rest) = text.split_once('$').ok_or(SecretError::NoHash)?;
                let mechanism = Mechanism::from_name(name).ok_or_else(|| SecretError::Algorithm(name.to_owned()))?;
                Secret::Scram(ScramVerifier::parse(mechanism, rest)?)
            }
            text => {
                let (algorithm, rest) = text.strip_prefix('$').and_then(|text| text.split_once('$')).ok_or(SecretError::NoHash)?;
                match algorithm {
                    "argon2id" => Secret::Argon2id(Argon2Hash::parse(rest)?),
                    "sha256" => Secret::Sha256(SaltedSha256::parse(rest)?),
                    other => return Err(SecretError::Algorithm(other.to_owned())),
                }
            }
        };
        Ok(Some(secret.into()))
    }

    /// Whether this very password was right before.
    pub(crate) fn remembers(&self, key: &MemoryKey, password: &[u8]) -> bool {
        let (Some(remembered), Some(salt)) = (self.remembered.get(), self.secret.slow_salt()) else {
            return false;
        };
        remembered.ct_eq(&key.tag(salt, password)).into()
    }

    /// Whether this is the password, the slow way. A right one is remembered.
    pub(crate) fn verify(&self, key: &MemoryKey, password: &[u8]) -> bool {
        let right = match &self.secret {
            Secret::Sha256(own) => own.is_hash_of(password),
            Secret::Argon2id(own) => own.is_hash_of(password),
            Secret::Scram(own) => own.is_of(password),
        };
        if let (true, Some(salt)) = (right, self.secret.slow_salt()) {
            self.remembered.get_or_init(|| key.tag(salt, password));
        }
        right
    }

    /// What [`verify`](Self::verify) costs, if that is much.
    pub(crate) fn work(&self) -> Option<Work> {
        match &self.secret {
            Secret::Sha256(_) => None,
            Secret::Argon2id(own) => Some(Work::Argon2id(own.cost)),
            Secret::Scram(own) => Some(Work::Scram { mechanism: own.mechanism, iterations: own.iterations }),
        }
    }

    /// How it looks to SCRAM, if it is for that.
    pub(crate) fn scram_look(&self) -> Option<ScramLook> {
        match &self.secret {
            Secret::Scram(own) => Some(ScramLook { mechanism: own.mechanism, iterations: own.iterations, salt_len: own.salt.len() }),
            _ => None,
        }
    }

    /// The verifier of this mechanism, if the user has one.
    pub(crate) fn scram(&self, mechanism: Mechanism) -> Option<&ScramVerifier> {
        match &self.secret {
            Secret::Scram(own) if own.mechanism == mechanism => Some(own),
            _ => None,
        }
    }
}

impl Secret {
    /// The salt of a hash that is worth remembering.
    fn slow_salt(&self) -> Option<&[u8]> {
        match self {
            Self::Sha256(_) => None,
            Self::Argon2id(own) => Some(&own.salt),
            Self::Scram(own) => Some(&own.salt),
        }
    }
}

impl Argon2Hash {
    fn parse(text: &str) -> Result<Self, SecretError> {
        let parts: Vec<&str> = text.split('$').collect();
        let [version, parameters, salt, hash] = parts[..] else {
            return Err(SecretError::Parts("$argon2id$v=19$m=KiB,t=passes,p=lanes$salt$hash"));
        };
        if version != "v=19" {
            return Err(SecretError::Version(version.to_owned()));
        }
        let cost = Cost::parse(parameters)?;
        let hash = decode("hash", hash)?;
        if !(16..=64).contains(&hash.len()) {
            return Err(SecretError::Hash(hash.len(), "16 to 64"));
        }
        Ok(Self { cost, salt: decode_salt(salt)?, hash: hash.into() })
    }

    /// The hash of a new password, as it is written to the file.
    pub(crate) fn create(password: &[u8]) -> Result<String, getrandom::Error> {
        let mut salt = [0; SALT_LEN];
        getrandom::fill(&mut salt)?;
        let mut hash = [0; HASH_LEN];
        let Cost { memory_kib, passes, lanes } = ARGON2_DEFAULT;
        ARGON2_DEFAULT.hash(password, &salt, &mut hash);
        let [salt, hash] = [Base64Unpadded::encode_string(&salt), Base64Unpadded::encode_string(&hash)];
        Ok(format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${hash}"))
    }

    fn is_hash_of(&self, password: &[u8]) -> bool {
        let mut hash = vec![0; self.hash.len()];
        self.cost.hash(password, &self.salt, &mut hash);
        hash.ct_eq(&self.hash).into()
    }
}

impl Cost {
    fn parse(text: &str) -> Result<Self, SecretError> {
        let bad = || SecretError::Parameters(text.to_owned());
        let mut parts = text.split(',');
        let mut next = |name: &str| {
            let value = parts.next()?.strip_prefix(name)?;
            // Digits only: `parse` alone would take `+1` too.
            value.bytes().all(|b| b.is_ascii_digit()).then(|| value.parse::<u32>().ok()).flatten()
        };
        let (memory_kib, passes, lanes) = (next("m=").ok_or_else(bad)?, next("t=").ok_or_else(bad)?, next("p=").ok_or_else(bad)?);
        if parts.next().is_some() {
            return Err(bad());
        }
        let bounds = (1..=PASSES_MAX).contains(&passes) && (1..=LANES_MAX).contains(&lanes);
        if !bounds || !(8 * lanes..=MEMORY_KIB_MAX).contains(&memory_kib) {
            return Err(SecretError::Bounds(text.to_owned()));
        }
        Ok(Self { memory_kib, passes, lanes })
    }

    /// Blocks of 1 KiB computed.
    fn blocks(self) -> u64 {
        u64::from(self.memory_kib) * u64::from(self.passes)
    }

    fn hash(self, password: &[u8], salt: &[u8], out: &mut [u8]) {
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(out.len())).expect("bounds were checked when it was read");
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(password, salt, out)
            .expect("a password and a salt of MQTT's lengths are within Argon2's");
    }

    fn waste(self, password: &[u8]) {
        let mut out = [0; HASH_LEN];
        self.hash(password, &[0; SALT_LEN], &mut out);
        std::hint::black_box(out);
    }
}

impl SaltedSha256 {
    fn parse(text: &str) -> Result<Self, SecretError> {
        let Some((salt, hash)) = text.split_once('$').filter(|(_, hash)| !hash.contains('$')) else {
            return Err(SecretError::Parts("$sha256$salt$hash"));
        };
        let hash = decode("hash", hash)?;
        let hash = hash.as_slice().try_into().map_err(|_| SecretError::Hash(hash.len(), "32"))?;
        Ok(Self { salt: decode_salt(salt)?, hash })
    }

    /// The hash of a generated secret, as it is written to the file.
    pub(crate) fn create(secret: &[u8]) -> Result<String, getrandom::Error> {
        let mut salt = [0; SALT_LEN];
        getrandom::fill(&mut salt)?;
        let hash = Self::hash(&salt, secret);
        Ok(format!("$sha256${}${}", Base64Unpadded::encode_string(&salt), Base64Unpadded::encode_string(&hash)))
    }

    pub(crate) fn is_hash_of(&self, secret: &[u8]) -> bool {
        Self::hash(&self.salt, secret).ct_eq(&self.hash).into()
    }

    fn hash(salt: &[u8], secret: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(salt).chain_update(secret).finalize().into()
    }
}

fn decode_salt(text: &str) -> Result<Box<[u8]>, SecretError> {
    let salt = decode("salt", text)?;
    if (8..=64).contains(&salt.len()) { Ok(salt.into()) } else { Err(SecretError::Salt(salt.len())) }
}

fn decode(part: &'static str, text: &str) -> Result<Vec<u8>, SecretError> {
    Base64Unpadded::decode_vec(text).map_err(|_| SecretError::Base64(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> MemoryKey {
        MemoryKey([7; 32])
    }

    fn parse(text: &str) -> Credential {
        Credential::parse(text).unwrap().unwrap()
    }

    #[test]
    fn what_is_written_is_read_and_verifies() {
        let argon2 = parse(&Argon2Hash::create(b"correct horse").unwrap());
        assert!(argon2.verify(&key(), b"correct horse") && !argon2.verify(&key(), b"correct horsf"));
        let sha256 = parse(&SaltedSha256::create(b"0123456789abcdef").unwrap());
        assert!(sha256.verify(&key(), b"0123456789abcdef") && !sha256.verify(&key(), b"0123456789abcdeg"));
        assert_eq!(Credential::parse("!"), Ok(None));
    }

    #[test]
    fn hashes_of_other_programs_verify() {
        // The reference implementation's test: argon2id, v=19, t=2, m=256, p=2, "password" with salt "somesalt".
        let credential = parse("$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc");
        assert!(credential.verify(&key(), b"password") && !credential.verify(&key(), b"Password"));
        // printf saltsaltsecret | sha256sum
        let hash = Base64Unpadded::encode_string(&Sha256::digest(b"saltsaltsecret"));
        assert!(parse(&format!("$sha256$c2FsdHNhbHQ${hash}")).verify(&key(), b"secret"));
    }

    #[test]
    fn a_right_password_is_remembered_and_a_wrong_one_is_not() {
        let credential = parse("$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc");
        assert!(!credential.verify(&key(), b"wrong"));
        assert!(!credential.remembers(&key(), b"wrong") && !credential.remembers(&key(), b"password"));
        assert!(credential.verify(&key(), b"password"));
        assert!(credential.remembers(&key(), b"password"));
        assert!(!credential.remembers(&key(), b"wrong") && !credential.remembers(&key(), b""));
        assert!(!credential.remembers(&MemoryKey([8; 32]), b"password"), "another process has another key");
    }

    #[test]
    fn what_is_wrong_with_a_secret_is_told() {
        let hash = "bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc";
        let argon2 = |rest: &str| format!("$argon2id${rest}");
        for (text, expected) in [
            (String::new(), SecretError::Empty),
            ("hunter2".into(), SecretError::NoHash),
            ("$".into(), SecretError::NoHash),
            ("$7$101$c2FsdA$aGFzaA".into(), SecretError::Algorithm("7".into())),
            ("$argon2i$v=19$m=8,t=1,p=1$c29tZXNhbHQ$x".into(), SecretError::Algorithm("argon2i".into())),
            (argon2("v=19$m=256,t=2,p=2$c29tZXNhbHQ"), SecretError::Parts("$argon2id$v=19$m=KiB,t=passes,p=lanes$salt$hash")),
            (argon2(&format!("v=16$m=256,t=2,p=2$c29tZXNhbHQ${hash}")), SecretError::Version("v=16".into())),
            (argon2(&format!("v=19$t=2,m=256,p=2$c29tZXNhbHQ${hash}")), SecretError::Parameters("t=2,m=256,p=2".into())),
            (argon2(&format!("v=19$m=+256,t=2,p=2$c29tZXNhbHQ${hash}")), SecretError::Parameters("m=+256,t=2,p=2".into())),
            (argon2(&format!("v=19$m=,t=2,p=2$c29tZXNhbHQ${hash}")), SecretError::Parameters("m=,t=2,p=2".into())),
            (argon2(&format!("v=19$m=9999999,t=2,p=2$c29tZXNhbHQ${hash}")), SecretError::Bounds("m=9999999,t=2,p=2".into())),
            (argon2(&format!("v=19$m=256,t=17,p=2$c29tZXNhbHQ${hash}")), SecretError::Bounds("m=256,t=17,p=2".into())),
            (argon2(&format!("v=19$m=15,t=2,p=2$c29tZXNhbHQ${hash}")), SecretError::Bounds("m=15,t=2,p=2".into())),
            (argon2(&format!("v=19$m=256,t=2,p=2$c29tZXNhbHQ=${hash}")), SecretError::Base64("salt")),
            (argon2(&format!("v=19$m=256,t=2,p=2$c29t${hash}")), SecretError::Salt(3)),
            (argon2("v=19$m=256,t=2,p=2$c29tZXNhbHQ$c29t"), SecretError::Hash(3, "16 to 64")),
            ("$sha256$c2FsdHNhbHQ".into(), SecretError::Parts("$sha256$salt$hash")),
            ("$sha256$c2FsdHNhbHQ$aGFzaA".into(), SecretError::Hash(4, "32")),
            (format!("$sha256$c2FsdHNhbHQ$!{hash}"), SecretError::Base64("hash")),
        ] {
            assert_eq!(Credential::parse(&text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn the_default_costs_what_the_recommendation_says() {
        assert!(Argon2Hash::create(b"x").unwrap().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
    }
}
