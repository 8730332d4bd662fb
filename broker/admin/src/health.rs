//! What is known of the broker's health: what is still awaited, what is in force, whether the runtime still beats.
//!
//! Cheap to write from anywhere: a token dropped, a fact set, a beat stored in one atomic. Only `/livez` and `/readyz` read it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use serde::{Serialize, Serializer};

use crate::bucket_health::BucketHealth;

/// A heartbeat older than this means that the runtime no longer runs its tasks. Beats come every second or so, and the longest thing
/// a healthy broker does on a worker is milliseconds; 30 s tells a stuck process from a machine that swapped.
const HEARTBEAT_AGE_MAX: Duration = Duration::from_secs(30);

/// The last second RFC 3339 can write: 9999-12-31T23:59:59Z, which certificates without an end carry too.
const RFC_3339_SECONDS_MAX: u64 = 253_402_300_799;

/// The health of one process, shared by all that contribute to it.
#[derive(Debug)]
pub struct Health {
    started_at: Instant,
    /// Milliseconds from `started_at` to the last beat.
    last_beat_ms: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many tokens are out, by name.
    awaiting: BTreeMap<&'static str, usize>,
    owner: Option<String>,
    bucket: Option<BucketHealth>,
    draining: bool,
    config_hash: Option<String>,
    revision: Option<String>,
    users_hash: Option<String>,
    certificates: Vec<Certificate>,
    last_reload: Option<LastReload>,
}

/// One certificate that a listener presents now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// The listener's name.
    pub listener: String,
    /// Such as `CN=broker.example`.
    pub subject: String,
    /// SHA-256 of the certificate in hex.
    pub sha256: String,
    /// When it ends, in seconds since 1970; written as RFC 3339.
    #[serde(serialize_with = "seconds_as_rfc_3339")]
    pub not_after: i64,
}

#[derive(Clone, Debug, Serialize)]
struct LastReload {
    at: String,
    ok: bool,
    error: Option<String>,
}

/// The body of `/readyz`. An operator reads it, so its fields are a promise.
#[derive(Debug, Serialize)]
pub(crate) struct Readiness {
    pub(crate) ready: bool,
    awaiting: Vec<&'static str>,
    /// Which member owns the bucket while this one waits for it.
    owner: Option<String>,
    /// How the bucket is; `None` without one.
    bucket: Option<BucketHealth>,
    draining: bool,
    version: &'static str,
    config_hash: Option<String>,
    /// What the configuration in force calls itself; `None` when it does not say.
    revision: Option<String>,
    users_hash: Option<String>,
    certificates: Vec<Certificate>,
    last_reload: Option<LastReload>,
}

/// Something the broker waits for before it is ready. Dropping it says that the wait is over.
#[derive(Debug)]
#[must_use = "dropping the token says that the wait is over"]
pub struct ReadinessToken {
    health: Arc<Health>,
    name: &'static str,
}

impl Health {
    /// Nothing awaited, nothing known, the first beat now. Take the tokens of all that has to start before serving it: a broker that
    /// awaits nothing is ready.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { started_at: Instant::now(), last_beat_ms: AtomicU64::new(0), state: Mutex::default() })
    }

    /// A process whose only beat was `age` ago.
    #[cfg(test)]
    pub(crate) fn silent_for(age: Duration) -> Arc<Self> {
        let started_at = Instant::now().checked_sub(age).expect("the machine runs for longer than that");
        Arc::new(Self { started_at, last_beat_ms: AtomicU64::new(0), state: Mutex::default() })
    }

    /// Makes `/readyz` wait for `name` until the token is dropped. Names may be taken several times.
    pub fn awaiting(self: &Arc<Self>, name: &'static str) -> ReadinessToken {
        *self.state.lock().awaiting.entry(name).or_default() += 1;
        ReadinessToken { health: Arc::clone(self), name }
    }

    /// Whether nothing is awaited and the broker is not draining.
    pub fn is_ready(&self) -> bool {
        self.state.lock().is_ready()
    }

    /// Which member owns the bucket that this one waits for; `None` when it waits for nobody.
    pub fn set_owner(&self, member: Option<&str>) {
        self.state.lock().owner = member.map(str::to_owned);
    }

    /// How the bucket is.
    pub fn set_bucket(&self, bucket: BucketHealth) {
        self.state.lock().bucket = Some(bucket);
    }

    /// While the broker drains it is not ready, so that nobody sends it new Clients.
    pub fn set_draining(&self, draining: bool) {
        self.state.lock().draining = draining;
    }

    /// The hash of the configuration in force, and what it calls itself, if anything.
    pub fn set_config(&self, hash: String, revision: &str) {
        let mut state = self.state.lock();
        state.config_hash = Some(hash);
        state.revision = (!revision.is_empty()).then(|| revision.to_owned());
    }

    /// The hash of the users file in force; `None` without one.
    pub fn set_users_hash(&self, hash: Option<String>) {
        self.state.lock().users_hash = hash;
    }

    /// The certificates in force, all listeners together.
    pub fn set_certificates(&self, certificates: Vec<Certificate>) {
        self.state.lock().certificates = certificates;
    }

    /// How the reload that ended just now went. After an error all that is in force is what was in force before.
    pub fn set_last_reload(&self, result: Result<(), String>) {
        let error = result.err();
        let at = rfc_3339(SystemTime::now());
        self.state.lock().last_reload = Some(LastReload { at, ok: error.is_none(), error });
    }

    /// A sign of life of the runtime, due at least every few seconds from a task of its own.
    pub fn beat(&self) {
        self.beat_at(Instant::now());
    }

    fn beat_at(&self, now: Instant) {
        let elapsed_ms = u64::try_from(now.duration_since(self.started_at).as_millis()).unwrap_or(u64::MAX);
        // Relaxed: nothing else is published by a beat. Two tasks that beat together must not turn time back.
        self.last_beat_ms.fetch_max(elapsed_ms, Ordering::Relaxed);
    }

    /// The age of the last beat if it is too old for a living process.
    pub(crate) fn stopped_for(&self, now: Instant) -> Option<Duration> {
        let last_beat = Duration::from_millis(self.last_beat_ms.load(Ordering::Relaxed));
        let age = now.duration_since(self.started_at).saturating_sub(last_beat);
        (age > HEARTBEAT_AGE_MAX).then_some(age)
    }

    pub(crate) fn readiness(&self, version: &'static str) -> Readiness {
        let state = self.state.lock();
        Readiness {
            ready: state.is_ready(),
            awaiting: state.awaiting.keys().copied().collect(),
            owner: state.owner.clone(),
            bucket: state.bucket.clone(),
            draining: state.draining,
            version,
            config_hash: state.config_hash.clone(),
            revision: state.revision.clone(),
            users_hash: state.users_hash.clone(),
            certificates: state.certificates.clone(),
            last_reload: state.last_reload.clone(),
        }
    }
}

impl State {
    fn is_ready(&self) -> bool {
        self.awaiting.is_empty() && !self.draining
    }
}

impl Drop for ReadinessToken {
    fn drop(&mut self) {
        let still_awaited: Vec<_> = {
            let mut state = self.health.state.lock();
            if let Some(count) = state.awaiting.get_mut(self.name) {
                *count -= 1;
                if *count == 0 {
                    state.awaiting.remove(self.name);
                }
            }
            state.awaiting.keys().copied().collect()
        };
        if still_awaited.is_empty() {
            tracing::info!(started = self.name, "nothing is awaited any more");
        } else {
            tracing::info!(started = self.name, ?still_awaited, "started; others are still awaited");
        }
    }
}

fn rfc_3339(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    rfc_3339_of_seconds(seconds)
}

fn rfc_3339_of_seconds(seconds: u64) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(RFC_3339_SECONDS_MAX));
    humantime::format_rfc3339_seconds(time).to_string()
}

/// What ended before 1970 is written as 1970: it has ended.
fn seconds_as_rfc_3339<S: Serializer>(seconds: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc_3339_of_seconds(u64::try_from(*seconds).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_that_every_token_of_every_name_is_dropped() {
        let health = Health::new();
        let listeners = [health.awaiting("listeners"), health.awaiting("listeners")];
        let storage = health.awaiting("storage");
        let [first, second] = listeners;
        drop(first);
        assert_eq!(health.readiness("1").awaiting, ["listeners", "storage"]);
        drop(second);
        assert_eq!(health.readiness("1").awaiting, ["storage"]);
        assert!(!health.is_ready());
        drop(storage);
        assert!(health.is_ready());
    }

    #[test]
    fn a_draining_broker_is_not_ready_again() {
        let health = Health::new();
        health.set_draining(true);
        drop(health.awaiting("late"));
        assert!(!health.is_ready());
    }

    #[test]
    fn half_a_minute_without_a_beat_is_death_and_a_beat_revives() {
        let health = Health::new();
        let start = health.started_at;
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(health.stopped_for(after(30)), None, "starting counts as a beat");
        assert_eq!(health.stopped_for(after(31)), Some(Duration::from_secs(31)));
        health.beat_at(after(31));
        assert_eq!(health.stopped_for(after(61)), None);
        health.beat_at(after(20));
        assert_eq!(health.stopped_for(after(61)), None, "an older beat does not turn time back");
        assert_eq!(health.stopped_for(after(70)), Some(Duration::from_secs(39)));
    }

    #[test]
    fn times_are_rfc_3339_whatever_a_certificate_says() {
        for (not_after, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1970-01-01T00:00:00Z"),
            (1_795_392_000, "2026-11-23T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
            (i64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            let certificate = Certificate { listener: "tls".into(), subject: "CN=a".into(), sha256: "00".into(), not_after };
            assert_eq!(serde_json::to_value(certificate).unwrap()["not_after"], expected);
        }
    }

    #[test]
    fn hash_and_revision_change_together() {
        let health = Health::new();
        assert!(health.readiness("1").revision.is_none());
        health.set_config("a".to_owned(), "7");
        let ready = health.readiness("1");
        assert_eq!((ready.config_hash.as_deref(), ready.revision.as_deref()), (Some("a"), Some("7")));
        health.set_config("b".to_owned(), "");
        assert_eq!(health.readiness("1").revision, None, "who says none has none");
    }

    #[test]
    fn the_last_reload_replaces_the_one_before() {
        let health = Health::new();
        assert!(health.readiness("1").last_reload.is_none());
        health.set_last_reload(Err("line 3: unknown key".to_owned()));
        let failed = health.readiness("1").last_reload.unwrap();
        assert_eq!((failed.ok, failed.error.as_deref()), (false, Some("line 3: unknown key")));
        health.set_last_reload(Ok(()));
        let passed = health.readiness("1").last_reload.unwrap();
        assert_eq!((passed.ok, passed.error), (true, None));
        assert!(humantime::parse_rfc3339(&passed.at).is_ok());
    }
}
