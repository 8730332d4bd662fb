//! SCRAM-SHA-256 (RFC 5802, RFC 7677) as a Client speaks it: the one Authentication Method the tests know. Written from the RFC and not shared
//! with any broker, so that it does not make a broker's mistakes.

use base64ct::{Base64, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::ensure;
use crate::outcome::{Outcome, failed};

/// The Authentication Method.
pub const METHOD: &str = "SCRAM-SHA-256";

/// The messages of one exchange.
#[derive(Debug)]
pub struct Scram {
    password: String,
    nonce: String,
    bare: String,
}

/// What the Client sends last, and what the Server then has to send.
#[derive(Debug)]
pub struct Proof {
    /// client-final.
    pub client_final: Vec<u8>,
    /// server-final.
    pub server_final: Vec<u8>,
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.chain_update(text).finalize().into_bytes().to_vec()
}

impl Scram {
    /// `nonce` has to differ from exchange to exchange, as names of a run do.
    pub fn new(username: &str, password: &str, nonce: &str) -> Self {
        Self { password: password.into(), nonce: nonce.into(), bare: format!("n={username},r={nonce}") }
    }

    /// client-first.
    pub fn client_first(&self) -> Vec<u8> {
        format!("n,,{}", self.bare).into_bytes()
    }

    /// Answers server-first.
    pub fn prove(&self, server_first: &[u8]) -> Outcome<Proof> {
        let Ok(message) = std::str::from_utf8(server_first) else { return failed("server-first is not UTF-8") };
        let value = |name: &str| message.split(',').find_map(|attribute| attribute.strip_prefix(name));
        let (Some(nonce), Some(salt), Some(iterations)) = (value("r="), value("s="), value("i=")) else {
            return failed(format!("server-first {message:?} has not r, s and i"));
        };
        ensure!(nonce.starts_with(&self.nonce) && nonce != self.nonce, "server-first has another nonce than the exchange");
        let (Ok(salt), Ok(iterations)) = (Base64::decode_vec(salt), iterations.parse()) else {
            return failed(format!("salt or iterations of {message:?} cannot be read"));
        };
        let mut salted = [0; 32];
        pbkdf2::pbkdf2_hmac::<Sha256>(self.password.as_bytes(), &salt, iterations, &mut salted);
        let without_proof = format!("c=biws,r={nonce}");
        let auth_message = format!("{},{message},{without_proof}", self.bare);
        let client_key = hmac(&salted, "Client Key");
        let signature = hmac(&Sha256::digest(&client_key), &auth_message);
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(one, other)| one ^ other).collect();
        let server_signature = hmac(&hmac(&salted, "Server Key"), &auth_message);
        Ok(Proof {
            client_final: format!("{without_proof},p={}", Base64::encode_string(&proof)).into_bytes(),
            server_final: format!("v={}", Base64::encode_string(&server_signature)).into_bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_7677_comes_out() {
        let scram = Scram::new("user", "pencil", "rOprNGfwEbeRWgbNEkqO");
        assert_eq!(scram.client_first(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let server_first = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let proof = scram.prove(server_first).unwrap();
        assert!(proof.client_final.ends_with(b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="));
        assert_eq!(proof.server_final, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }
}
