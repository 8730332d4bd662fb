//! The Server's side: client-first in, server-first out; client-final in, server-final out.

use base64ct::{Base64, Encoding};

use super::message::{check_nonce, decode, ignore_extensions, take, text, unescape};
use super::{ScramError, ScramVerifier};

/// The first message of a Client, taken apart.
#[derive(Debug)]
pub(crate) struct ClientFirst<'a> {
    /// Who it says it is.
    pub(crate) username: String,
    gs2_header: &'a str,
    nonce: &'a str,
    bare: &'a str,
}

impl<'a> ClientFirst<'a> {
    pub(crate) fn parse(data: &'a [u8]) -> Result<Self, ScramError> {
        let message = text(data)?;
        let mut parts = message.splitn(3, ',');
        let (binding, identity) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let bare = parts.next().ok_or(ScramError("the first message has no header"))?;
        match binding {
            // `y`: the Client could bind to a channel and sees that we do not offer it, which is so.
            "n" | "y" => {}
            binding if binding.starts_with("p=") => return Err(ScramError("channel binding, which is not offered")),
            _ => return Err(ScramError("the header is none of SCRAM")),
        }
        let mut attributes = bare.split(',');
        let username = unescape(take(&mut attributes, 'n')?)?;
        let nonce = take(&mut attributes, 'r')?;
        check_nonce(nonce)?;
        ignore_extensions(attributes)?;
        // The user on whose behalf the Client acts: nobody may act for another.
        if !identity.is_empty() && unescape(identity.strip_prefix("a=").ok_or(ScramError("the header is none of SCRAM"))?)? != username {
            return Err(ScramError("an authorization identity that is not the user"));
        }
        let gs2_header = &message[..message.len() - bare.len()];
        Ok(Self { username, gs2_header, nonce, bare })
    }

    /// How the users file may spell the name otherwise (RFC 5802 5.1 \[n\]: SASLprep).
    pub(crate) fn prepared_username(&self) -> Option<String> {
        super::saslprep(&self.username)
    }
}

/// A Server that has answered the first message and waits for the last.
#[derive(Debug)]
pub(crate) struct ServerExchange {
    /// The `c=` that has to come: the header as it came first, so that nobody changed it on the way.
    binding: String,
    /// Of both sides.
    nonce: String,
    /// client-first-message-bare and server-first-message, with commas behind them.
    auth_message: String,
}

impl ServerExchange {
    /// Answers the first message: the state to keep and server-first. `nonce` is ours, and fresh.
    pub(crate) fn start(first: &ClientFirst<'_>, nonce: &str, verifier: &ScramVerifier) -> (Self, Vec<u8>) {
        let nonce = format!("{}{nonce}", first.nonce);
        let server_first = format!("r={nonce},s={},i={}", Base64::encode_string(&verifier.salt), verifier.iterations);
        let auth_message = format!("{},{server_first},", first.bare);
        (Self { binding: Base64::encode_string(first.gs2_header.as_bytes()), nonce, auth_message }, server_first.into_bytes())
    }

    /// Judges the last message: server-final, if the Client knows the password of `verifier`, which has to be the one of [`start`](Self::start).
    pub(crate) fn finish(self, data: &[u8], verifier: &ScramVerifier) -> Result<Vec<u8>, ScramError> {
        let message = text(data)?;
        // The proof comes last, whatever extensions stand before it.
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(ScramError("the last message has no proof"))?;
        let mut attributes = without_proof.split(',');
        if take(&mut attributes, 'c')? != self.binding {
            return Err(ScramError("the header is another than in the first message"));
        }
        if take(&mut attributes, 'r')? != self.nonce {
            return Err(ScramError("the nonce is not that of this exchange"));
        }
        ignore_extensions(attributes)?;
        let auth_message = self.auth_message + without_proof;
        if !verifier.is_proven_by(&decode(proof)?, auth_message.as_bytes()) {
            return Err(ScramError("the proof is wrong"));
        }
        Ok(format!("v={}", Base64::encode_string(&verifier.signature(auth_message.as_bytes()))).into_bytes())
    }
}
