//! Enhanced authentication (5.0 4.12): methods of more than one message.
//!
//! An [`Exchange`] is what the Server remembers between two messages of the Client: bytes in, bytes out. It does no I/O and knows no
//! clock; deadlines and packets are the connection's. A further method is a further variant of `Kind`, with a file of its own.
//!
//! Promise: until the last message nothing tells whether a user exists. Who is unknown, or has no verifier of the method, gets a salt
//! that stays the same while the process lives and looks like the salts of those who are known, and fails at the proof.

use std::fmt;
use std::sync::Arc;

use bucketmq_packet::ReasonCode;

use super::credential::MemoryKey;
use super::scram::server::{ClientFirst, ServerExchange};
use super::scram::{Mechanism, ScramError, ScramVerifier, nonce};
use super::{AuthenticationMethod, Refusal, User, UsersFile};
use crate::principal::Principal;

/// An enhanced authentication under way. Some hundred bytes; under 16 KiB with the longest nonce, as no message is longer than 4 KiB.
pub struct Exchange(Kind);

enum Kind {
    Scram(Scram),
}

/// What comes next.
#[derive(Debug)]
pub enum Step {
    /// The Client is asked for more, with this data; empty: it has not said anything yet.
    Continue(Vec<u8>),
    /// This is who it is. The data shows the Client who we are.
    Accept(Principal, Vec<u8>),
}

/// The same before it is known what the user may do.
pub(crate) enum Heard {
    Continue(Vec<u8>),
    Proven(Arc<User>, Vec<u8>),
}

impl Exchange {
    /// Begins with the method of this name, if that is one of ours.
    pub(crate) fn begin(name: &str) -> Option<Self> {
        let mechanism = Mechanism::from_name(name)?;
        Some(Self(Kind::Scram(Scram { mechanism, state: State::Begun { asked: false } })))
    }

    /// How the Client says who it is.
    pub fn method(&self) -> AuthenticationMethod {
        match &self.0 {
            Kind::Scram(scram) => AuthenticationMethod::Scram(scram.mechanism),
        }
    }

    /// Hears the next message of the Client. After a refusal the exchange is over.
    pub(crate) fn hear(&mut self, users: &UsersFile, key: &MemoryKey, data: Option<&[u8]>) -> Result<Heard, Refusal> {
        match &mut self.0 {
            Kind::Scram(scram) => scram.hear(users, key, data),
        }
    }
}

/// Without what was said.
impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("method", &self.method().name()).finish_non_exhaustive()
    }
}

struct Scram {
    mechanism: Mechanism,
    state: State,
}

enum State {
    /// Nothing was said. `asked`: we have asked for the first message, which CONNECT may leave out.
    Begun { asked: bool },
    /// Our challenge is out.
    Challenged { exchange: ServerExchange, candidate: Candidate },
    /// Accepted or refused.
    Over,
}

/// Whom the Client says it is.
enum Candidate {
    User(Arc<User>),
    /// Nobody, which only the proof shall tell.
    Nobody(ScramVerifier),
}

impl Scram {
    fn hear(&mut self, users: &UsersFile, key: &MemoryKey, data: Option<&[u8]>) -> Result<Heard, Refusal> {
        let refuse = |detail| Refusal::new(ReasonCode::NotAuthorized, AuthenticationMethod::Scram(self.mechanism), detail);
        let rejected = |ScramError(detail)| refuse(detail);
        match (std::mem::replace(&mut self.state, State::Over), data) {
            (State::Begun { asked: false }, None) => {
                self.state = State::Begun { asked: true };
                Ok(Heard::Continue(Vec::new()))
            }
            (State::Begun { .. }, Some(data)) => {
                let first = ClientFirst::parse(data).map_err(rejected)?;
                let candidate = Candidate::find(users, key, self.mechanism, &first);
                let nonce = nonce().map_err(|_| refuse("no random numbers"))?;
                let verifier = candidate.verifier(self.mechanism).ok_or_else(|| refuse("the user has no verifier"))?;
                let (exchange, server_first) = ServerExchange::start(&first, &nonce, verifier);
                self.state = State::Challenged { exchange, candidate };
                Ok(Heard::Continue(server_first))
            }
            (State::Challenged { exchange, candidate }, Some(data)) => {
                let verifier = candidate.verifier(self.mechanism).ok_or_else(|| refuse("the user has no verifier"))?;
                let server_final = exchange.finish(data, verifier).map_err(rejected)?;
                match candidate {
                    Candidate::User(user) => Ok(Heard::Proven(user, server_final)),
                    Candidate::Nobody(_) => Err(refuse("the user is unknown or has no verifier of this method")),
                }
            }
            (State::Begun { asked: true } | State::Challenged { .. }, None) => Err(refuse("no authentication data")),
            (State::Over, _) => Err(refuse("the exchange is over")),
        }
    }
}

impl Candidate {
    fn find(users: &UsersFile, key: &MemoryKey, mechanism: Mechanism, first: &ClientFirst<'_>) -> Self {
        // For everybody, so that it takes as long for those who are there.
        let (salt, choice) = key.invented(&first.username);
        let look = users.invented_look(mechanism, choice);
        // As it was sent, which is how this file spells it, or else as SASLprep spells it.
        let user = users.get(&first.username).or_else(|| users.get(&first.prepared_username()?));
        match user.filter(|user| user.scram(mechanism).is_some()) {
            Some(user) => Self::User(user.clone()),
            None => Self::Nobody(ScramVerifier::of_nobody(mechanism, look.iterations, &salt[..look.salt_len.min(salt.len())])),
        }
    }

    fn verifier(&self, mechanism: Mechanism) -> Option<&ScramVerifier> {
        match self {
            Self::User(user) => user.scram(mechanism),
            Self::Nobody(verifier) => Some(verifier),
        }
    }
}
