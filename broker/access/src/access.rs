//! [`Access`]: what is in force, and how it is replaced while Clients are connected.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bucketmq_packet::ReasonCode;
use parking_lot::Mutex;

use crate::authentication::{self, Attempt, AuthenticationMethod, Exchange, Heard, Refusal, Step, Verdict, Verifier};
use crate::authorization::Values;
use crate::config::{Config, OnDeny};
use crate::principal::{Origin, Principal};
use crate::snapshot::{LoadError, Snapshot};
use crate::watch::Seen;

/// How often a password is hashed for one attempt, should the users file change meanwhile.
const ROUNDS: usize = 2;

/// Who may connect, publish and subscribe. One for the whole broker.
pub struct Access {
    snapshot: ArcSwap<Snapshot>,
    generation: AtomicU64,
    verifier: Verifier,
    /// What was read from disk last. Reloads hold it, so that they happen one after the other.
    seen: Mutex<Seen>,
}

impl Access {
    /// Reads roles and users.
    pub fn load(config: &Config) -> Result<Self, LoadError> {
        Self::with_verifier(config, Verifier::new()?)
    }

    pub(crate) fn with_verifier(config: &Config, verifier: Verifier) -> Result<Self, LoadError> {
        let mut seen = Seen::default();
        let content = read(&mut seen, config)?;
        let snapshot = Snapshot::build(config, content.as_deref(), 1, None)?;
        Ok(Self { snapshot: ArcSwap::from_pointee(snapshot), generation: AtomicU64::new(1), verifier, seen: Mutex::new(seen) })
    }

    /// Reads roles and users again: all of it comes into force, or an error tells why nothing did. `true` if anything is new, in
    /// which case [`generation`](Self::generation) is, too, and live principals are to be [refreshed](Self::refresh).
    pub fn reload(&self, config: &Config) -> Result<bool, LoadError> {
        let mut seen = self.seen.lock();
        self.replace(&mut seen, config)
    }

    /// Reads the users file again, with the configuration in force. See [`changed_on_disk`](Self::changed_on_disk).
    pub fn reload_users(&self) -> Result<bool, LoadError> {
        let mut seen = self.seen.lock();
        let config = self.snapshot.load().config.clone();
        self.replace(&mut seen, &config)
    }

    fn replace(&self, seen: &mut Seen, config: &Config) -> Result<bool, LoadError> {
        let before = self.snapshot.load_full();
        let content = read(seen, config)?;
        if before.config == *config && before.users_hash == content.as_deref().map(crate::snapshot::hash) {
            return Ok(false);
        }
        // Only this writes the generation, under the lock that the caller holds.
        let generation = self.generation.load(Ordering::Relaxed) + 1;
        let snapshot = Snapshot::build(config, content.as_deref(), generation, Some(&before))?;
        tracing::info!(generation, users = snapshot.user_count(), users_hash = snapshot.users_hash.as_deref(), "users and roles reloaded");
        self.snapshot.store(Arc::new(snapshot));
        // After the snapshot: who sees the new number finds the new snapshot.
        self.generation.store(generation, Ordering::Release);
        Ok(true)
    }

    /// Whether the users file is another than the one read last: to be asked every few seconds, then [`reload_users`](Self::reload_users).
    /// True once for each change, also if the file was or is broken. One `stat` in most cases; a changed file is read.
    pub fn changed_on_disk(&self) -> bool {
        let mut seen = self.seen.lock();
        let path: Option<PathBuf> = self.snapshot.load().config.users_file.clone();
        seen.differs(path.as_deref())
    }

    /// Changes with every reload that brought something new. Costs nothing to ask; compare it with [`Principal::generation`].
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// SHA-256 in hexadecimal of the users file in force, if one is configured.
    pub fn hash(&self) -> Option<Arc<str>> {
        self.snapshot.load().users_hash.clone()
    }

    /// What happens to a PUBLISH that is denied.
    pub fn on_deny(&self) -> OnDeny {
        self.snapshot.load().config.on_deny
    }

    /// Whether a listener may name this role for anonymous Clients.
    pub fn has_role(&self, name: &str) -> bool {
        self.snapshot.load().config.has_role(name)
    }

    /// Users in force.
    pub fn user_count(&self) -> usize {
        self.snapshot.load().user_count()
    }

    /// Whether a user name and password can be checked at all: whether a users file is configured.
    pub fn accepts_passwords(&self) -> bool {
        self.snapshot.load().users().is_some()
    }

    /// Whether a certificate can lead to a principal: whether there is a users file, or are `certificate_roles`.
    pub fn accepts_certificates(&self) -> bool {
        self.snapshot.load().accepts_certificates()
    }

    /// Who this Client is, or why it is refused. Ready at once unless a hash has to be computed.
    pub async fn authenticate(&self, attempt: Attempt<'_>) -> Result<Principal, Refusal> {
        match self.authenticate_now(&attempt) {
            Some(result) => result,
            // Boxed, because one connection in its life waits here and every connection would carry it.
            None => Box::pin(self.authenticate_slowly(attempt)).await,
        }
    }

    /// [`authenticate`](Self::authenticate) as far as it goes without waiting: `None` if a hash has to be computed.
    pub fn authenticate_now(&self, attempt: &Attempt<'_>) -> Option<Result<Principal, Refusal>> {
        let snapshot = self.snapshot.load();
        match authentication::examine(&snapshot, &self.verifier, attempt) {
            Verdict::Accept(origin) => Some(admit(origin, attempt.client_id.into())),
            Verdict::Refuse(refusal) => Some(Err(refusal)),
            Verdict::Hash(_) => None,
        }
    }

    async fn authenticate_slowly(&self, attempt: Attempt<'_>) -> Result<Principal, Refusal> {
        for _ in 0..ROUNDS {
            let verdict = authentication::examine(&self.snapshot.load(), &self.verifier, &attempt);
            match verdict {
                Verdict::Accept(origin) => return admit(origin, attempt.client_id.into()),
                Verdict::Refuse(refusal) => return Err(refusal),
                Verdict::Hash(job) => self.verifier.run(job, attempt.password.unwrap_or_default()).await?,
            }
            // The password was right and is remembered: ask again, of what is in force now.
        }
        match self.authenticate_now(&attempt) {
            Some(result) => result,
            None => Err(Refusal::new(ReasonCode::ServerBusy, AuthenticationMethod::Password, "the user changed while it was verified")),
        }
    }

    /// Begins an enhanced authentication by the Authentication Method of this name (5.0 4.12). None if we do not offer it: because
    /// nobody knows it, or because there are no users to hold anything against.
    pub fn exchange(&self, authentication_method: &str) -> Option<Exchange> {
        Exchange::begin(authentication_method).filter(|_| self.accepts_passwords())
    }

    /// Hears the next message of an exchange. Never waits: what is slow about it is the Client's to compute. The users are those in
    /// force now; a user who has changed since the exchange began is refused.
    pub fn proceed(&self, exchange: &mut Exchange, attempt: &Attempt<'_>, data: Option<&[u8]>) -> Result<Step, Refusal> {
        let snapshot = self.snapshot.load();
        let method = exchange.method();
        let refuse = |detail| Refusal::new(ReasonCode::NotAuthorized, method, detail);
        let users = snapshot.users().ok_or_else(|| refuse("no users file is configured"))?;
        let (user, data) = match exchange.hear(users, self.verifier.key(), data)? {
            Heard::Continue(data) => return Ok(Step::Continue(data)),
            Heard::Proven(user, data) => (user, data),
        };
        let now = users.get(&user.name).filter(|now| now.enabled && now.credential == user.credential);
        let user = now.ok_or_else(|| refuse("the user is disabled, or has changed meanwhile"))?.clone();
        // Rather refused than connected as somebody it did not ask to be.
        if [attempt.username, attempt.certificate_identity].into_iter().flatten().any(|name| *name != *user.name) {
            return Err(refuse("the user name or the certificate is not that of the user who was proven"));
        }
        let principal = admit(Origin::User { user, method }, attempt.client_id.into())?;
        Ok(Step::Accept(principal, data))
    }

    /// Who the user of this name would be if it connected now, however it would prove that; `None` when no such user may connect. For Sessions whose
    /// Client was not seen since the broker started.
    pub fn absent(&self, username: &str, client_id: &str) -> Option<Principal> {
        let user = self.snapshot.load().certified(username)?;
        admit(Origin::User { user, method: AuthenticationMethod::Certificate }, client_id.into()).ok()
    }

    /// What became of a principal after a reload: with the rules of today, or `None` if it is to be disconnected, because the user is
    /// gone or disabled, its password has changed, or its roles do not let it connect any more.
    pub fn refresh(&self, principal: &Principal) -> Option<Principal> {
        let snapshot = self.snapshot.load();
        let origin = match &principal.origin {
            Origin::Anonymous(role) => Origin::Anonymous(snapshot.anonymous(&role.name)?),
            Origin::User { user, method: AuthenticationMethod::Certificate } => {
                Origin::User { user: snapshot.certified(&user.name)?, method: AuthenticationMethod::Certificate }
            }
            Origin::User { user, method } => {
                let now = snapshot.users()?.get(&user.name).filter(|now| now.enabled && now.credential == user.credential)?;
                Origin::User { user: now.clone(), method: *method }
            }
        };
        admit(origin, principal.client_id.clone()).ok()
    }
}

fn read(seen: &mut Seen, config: &Config) -> Result<Option<Vec<u8>>, LoadError> {
    let path = config.users_file.as_deref();
    seen.read(path).map_err(|source| LoadError::Read { path: path.unwrap_or_else(|| "".as_ref()).to_owned(), source })
}

/// The last question: whether the roles let this Client connect.
fn admit(origin: Origin, client_id: Arc<str>) -> Result<Principal, Refusal> {
    let values = Values { username: origin.username(), client_id: &client_id };
    if !origin.roles().may_connect(&values) {
        let detail = "no role allows, or one denies, to connect with this client id";
        return Err(Refusal::new(ReasonCode::NotAuthorized, origin.method(), detail));
    }
    let rules = origin.roles().rules(&values);
    Ok(Principal { origin, client_id, rules })
}

#[cfg(test)]
#[path = "access/tests.rs"]
mod tests;
