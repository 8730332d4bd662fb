//! Who a Client is: the methods, in the order in which they are asked.
//!
//! | method | takes | becomes |
//! |---|---|---|
//! | certificate | a Client certificate that the listener verified | the user of that name in the users file, or one with the `certificate_roles` |
//! | password | a user name and a password | the user of that name in the users file |
//! | scram | an Authentication Method `SCRAM-SHA-256` or `SCRAM-SHA-512` in CONNECT | the user who was proven, of the users file |
//! | anonymous | neither, on a listener that lets such Clients in | nobody, with the role that the listener names |
//!
//! The first method that finds something to look at decides; nothing falls through to a weaker one. So:
//!
//! - A certificate is proof enough: a password beside it is not looked at, and a user name in CONNECT must be the certificate's or
//!   absent, else the Client is refused (0x86) rather than connected as somebody it did not ask to be. A user who was disabled in
//!   the users file is refused, and so is an unknown one (0x87) unless there are `certificate_roles`.
//! - A wrong password is refused (0x86) also where the listener would have let the Client in without any. Only when no users
//!   file is configured at all, so that nothing could be checked, does such a listener ignore user name and password.
//! - Who names an Authentication Method is judged by that method alone: an unknown one is refused (0x8C), a failed one too (0x87), and
//!   a password beside it is not looked at. A user name in CONNECT and the name in a certificate must be the one that is proven (0x87).
//! - Who offers nothing on a listener without an anonymous role is refused (0x87).
//!
//! Then the rules on connect of the principal's roles decide about the client id (0x87).
//!
//! # The users file
//!
//! ```text
//! # name:secret:roles[:key=value]...
//! ann:$argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>:operator,sensor
//! device-7:$sha256$<salt>$<hash>:sensor
//! gateway.example.org:!:sensor
//! bob:$argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>:sensor:enabled=false
//! eve:SCRAM-SHA-256$100000:<salt>$<StoredKey>:<ServerKey>:sensor
//! ```
//!
//! UTF-8, one user a line; empty lines and lines that begin with `#` are comments, and `passwd` keeps them.
//!
//! - *name*: as in CONNECT or the certificate, not empty. `%` and two hexadecimal digits stand for a byte: write `%3A` for a colon,
//!   `%25` for a percent sign, `%23` for a leading `#`, `%20` for a space at an end. Each name stands once.
//! - *secret*: `$argon2id$v=19$m=KiB,t=passes,p=lanes$salt$hash` (the PHC string, parameters inside) for what a person thought of;
//!   `$sha256$salt$hash`, the SHA-256 of salt and secret, only for generated secrets of at least 128 random bits, which nobody
//!   can guess however cheap a guess is; `!` for a user whom only a certificate lets in. Base64 without padding.
//!   `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, or the same with `512`, for who logs in by SCRAM (RFC 5802), and with the
//!   password itself too; as PostgreSQL writes it, in Base64 with padding, its two colons included. 4,096 to 1,000,000 iterations.
//! - *roles*: names separated by commas, all of which the configuration knows. None at all is allowed and allows nothing.
//! - *key=value*: `enabled=false` shuts a user out and keeps the line. Other keys are refused until they mean something.
//!
//! # What a password costs
//!
//! Argon2 takes some 35 ms of CPU by design, and a password held against a verifier of SCRAM 16 ms. Both run on blocking
//! threads, as many at a time as there are cores; the queue is as long as can be served within its deadline, and who comes later is
//! told 0x89 (Server busy). A password that was right once is remembered for the life of the process under a keyed hash, with its
//! user, so that a reconnecting Client costs a microsecond. Refusals cost the same whether the user exists or not, by hashing for
//! nobody. An exchange of SCRAM costs us microseconds: there the Client hashes.

mod anonymous;
mod certificate;
mod credential;
mod enhanced;
pub mod line;
pub mod passwd;
mod password;
mod scram;
mod users_file;
mod verifier;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bucketmq_packet::ReasonCode;

pub use credential::SecretError;
pub(crate) use enhanced::Heard;
pub use enhanced::{Exchange, Step};
pub use scram::client::ScramClient;
pub use scram::{ITERATIONS_DEFAULT, ITERATIONS_MAX, ITERATIONS_MIN, Mechanism, ScramError};
pub use users_file::UserError;
pub(crate) use users_file::{User, UsersFile};
pub(crate) use verifier::{Job, Verifier};

use crate::principal::Origin;
use crate::snapshot::Snapshot;

/// A way to say who a Client is. Each has a file of its own beside this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthenticationMethod {
    /// A Client certificate.
    Certificate,
    /// User name and password, held against the users file.
    Password,
    /// Nothing; the listener names a role.
    Anonymous,
    /// An exchange of SCRAM, held against the users file. Not one of the chain: only who names it in CONNECT is asked for it.
    Scram(Mechanism),
}

impl AuthenticationMethod {
    /// The order in which methods are asked: the strongest proof first.
    pub(crate) const CHAIN: [Self; 3] = [Self::Certificate, Self::Password, Self::Anonymous];

    /// For metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Password => "password",
            Self::Anonymous => "anonymous",
            Self::Scram(_) => "scram",
        }
    }

    /// The Authentication Method of CONNECT, where this is one (5.0 4.12).
    pub fn authentication_method(self) -> Option<&'static str> {
        match self {
            Self::Certificate | Self::Password | Self::Anonymous => None,
            Self::Scram(mechanism) => Some(mechanism.name()),
        }
    }

    fn examine(self, snapshot: &Snapshot, verifier: &Verifier, attempt: &Attempt<'_>) -> Option<Verdict> {
        match self {
            Self::Certificate => certificate::examine(snapshot, attempt),
            Self::Password => password::examine(snapshot, verifier, attempt),
            Self::Anonymous => anonymous::examine(snapshot, attempt),
            Self::Scram(_) => None,
        }
    }
}

/// What a Client brings with it.
#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    /// The client id the connection will have: the assigned one if CONNECT held none.
    pub client_id: &'a str,
    /// The User Name of CONNECT.
    pub username: Option<&'a str>,
    /// The Password of CONNECT.
    pub password: Option<&'a [u8]>,
    /// The name in the Client certificate, which the listener verified.
    pub certificate_identity: Option<&'a str>,
    /// The role of Clients that offer nothing, where the listener has one.
    pub anonymous_role: Option<&'a str>,
    /// The listener's name, for logs.
    pub listener: &'a str,
    /// Where the Client is, for logs.
    pub remote_addr: Option<IpAddr>,
}

/// Without the password.
impl fmt::Debug for Attempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("client_id", &self.client_id)
            .field("username", &self.username)
            .field("password", &self.password.map(|_| "..."))
            .field("certificate_identity", &self.certificate_identity)
            .field("anonymous_role", &self.anonymous_role)
            .field("listener", &self.listener)
            .field("remote_addr", &self.remote_addr)
            .finish()
    }
}

/// Why a Client is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    /// For CONNACK: 0x86, 0x87, 0x88 or 0x89.
    pub reason_code: ReasonCode,
    /// The method that refused.
    pub method: AuthenticationMethod,
    /// For our log, not for the Client: it may say more than a stranger should know.
    pub detail: &'static str,
}

impl Refusal {
    pub(crate) fn new(reason_code: ReasonCode, method: AuthenticationMethod, detail: &'static str) -> Self {
        Self { reason_code, method, detail }
    }
}

/// What a method makes of an attempt. A method that finds nothing to look at has none, and the next is asked.
pub(crate) enum Verdict {
    /// This is who it is.
    Accept(Origin),
    /// No.
    Refuse(Refusal),
    /// A hash has to be computed first, for this.
    Hash(Arc<Job>),
}

/// Asks the methods in order.
pub(crate) fn examine(snapshot: &Snapshot, verifier: &Verifier, attempt: &Attempt<'_>) -> Verdict {
    if let Some(verdict) = AuthenticationMethod::CHAIN.into_iter().find_map(|method| method.examine(snapshot, verifier, attempt)) {
        return verdict;
    }
    // The last method always has a verdict; should one be added that has none, the answer is no.
    Verdict::Refuse(Refusal::new(ReasonCode::NotAuthorized, AuthenticationMethod::Anonymous, "no method took the attempt"))
}
