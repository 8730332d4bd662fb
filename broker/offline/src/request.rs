//! Asking a broker that serves for a snapshot, through the bucket: no port, no credentials, no address.
//!
//! One object, `snapshots/requests/next`: who asks makes it, the broker looks for it every [`LOOK`], marks it taken, and writes its answer there. Who
//! asked deletes it. A broker pays one read for each look.

use std::time::Duration;

use bucketmq_storage::durable::Place;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};
use rand::Rng;
use serde::{Deserialize, Serialize};
use thiserror::Error as ThisError;
use tokio::time::{Instant, sleep};

use crate::Progress;
use crate::json::now_ms;

/// The object.
const OBJECT: &str = "snapshots/requests/next";
/// How often a broker looks for it: half a request a second costs half a dollar a month at the list price of S3.
pub const LOOK: Duration = Duration::from_secs(2);
/// How often who asks looks for the answer.
const POLL: Duration = Duration::from_millis(200);
/// A broker that serves has seen a request by then.
const TAKEN_MAX: Duration = Duration::from_secs(8);
/// And has answered it by then.
const ANSWERED_MAX: Duration = Duration::from_secs(60);
/// A request nobody has come back for is another's to replace, and so is an answer, sooner.
const FORGOTTEN_MS: u64 = 300_000;
const ANSWER_FORGOTTEN_MS: u64 = 90_000;
/// A broker does what was asked for up to so long ago: its clock and that of who asks may differ by hours.
const ASKED_MAX_MS: u64 = 24 * 3_600_000;

/// A wish for a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Random: who asks knows its own again.
    pub id: String,
    /// What to call the snapshot.
    pub label: String,
    /// When it was asked for, milliseconds since 1970.
    pub asked_at_ms: u64,
    /// How far it is.
    pub state: State,
}

/// How far a request is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum State {
    /// Nobody has seen it.
    Asked,
    /// A broker is at it.
    Taken,
    /// There is a snapshot.
    Done {
        /// Its name.
        snapshot: String,
    },
    /// There is none.
    Failed {
        /// Why.
        why: String,
    },
}

/// A request came to nothing.
#[derive(Debug, ThisError)]
pub enum RequestError {
    /// The bucket.
    #[error("the broker cannot be asked through the bucket")]
    Bucket(#[from] Error),
    /// The broker said so.
    #[error("the broker could not take a snapshot: {0}")]
    Failed(String),
    /// It began and did not end.
    #[error("the broker has begun a snapshot and not said in {} s how it went", ANSWERED_MAX.as_secs())]
    Unanswered,
    /// Somebody else is asking.
    #[error("somebody else is asking for a snapshot: try again")]
    Busy,
}

/// Asks for a snapshot called `label`, and waits for it: its name, or `None` when no broker is listening.
pub async fn ask(place: &Place, label: &str, progress: Progress<'_>) -> Result<Option<String>, RequestError> {
    let id = format!("{:032x}", rand::rng().random::<u128>());
    let request = Request { id, label: label.to_owned(), asked_at_ms: now_ms(), state: State::Asked };
    let before = look(place).await?;
    let mode = match before {
        None => PutMode::Create,
        Some((before, _)) if before.is_under_way() => return Err(RequestError::Busy),
        Some((_, version)) => PutMode::Update(version),
    };
    put(place, &request, mode).await?;
    progress("asking the broker through the bucket");
    let outcome = wait(place, &request).await;
    // Whatever came of it, nobody is asking any more, unless it is somebody else.
    if matches!(look(place).await, Ok(Some((found, _))) if found.id == request.id) {
        let _ = place.bucket.delete(&Path::from(OBJECT)).await;
    }
    outcome
}

async fn wait(place: &Place, request: &Request) -> Result<Option<String>, RequestError> {
    let asked = Instant::now();
    loop {
        sleep(POLL).await;
        match look(place).await?.filter(|(found, _)| found.id == request.id).map(|(found, _)| found.state) {
            None => return Err(RequestError::Busy),
            Some(State::Done { snapshot }) => return Ok(Some(snapshot)),
            Some(State::Failed { why }) => return Err(RequestError::Failed(why)),
            Some(State::Asked) if asked.elapsed() > TAKEN_MAX => return Ok(None),
            Some(State::Taken) if asked.elapsed() > ANSWERED_MAX => return Err(RequestError::Unanswered),
            Some(State::Asked | State::Taken) => {}
        }
    }
}

impl Request {
    fn is_under_way(&self) -> bool {
        let forgotten_ms = match self.state {
            State::Asked | State::Taken => FORGOTTEN_MS,
            // Who asked may not have read it yet.
            State::Done { .. } | State::Failed { .. } => ANSWER_FORGOTTEN_MS,
        };
        now_ms().saturating_sub(self.asked_at_ms) < forgotten_ms
    }
}

async fn look(place: &Place) -> Result<Option<(Request, UpdateVersion)>, Error> {
    let got = match place.bucket.get(&Path::from(OBJECT)).await {
        Err(Error::NotFound { .. }) => return Ok(None),
        other => other?,
    };
    let version = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
    // What is no request is as good as none that anybody waits for.
    let nobody = Request { id: String::new(), label: String::new(), asked_at_ms: 0, state: State::Asked };
    Ok(Some((serde_json::from_slice(&got.bytes().await?).unwrap_or(nobody), version)))
}

async fn put(place: &Place, request: &Request, mode: PutMode) -> Result<UpdateVersion, RequestError> {
    let payload = PutPayload::from(serde_json::to_vec(request).expect("texts and a number"));
    match place.bucket.put_opts(&Path::from(OBJECT), payload, PutOptions { mode, ..PutOptions::default() }).await {
        Ok(written) => Ok(written.into()),
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotFound { .. }) => Err(RequestError::Busy),
        Err(error) => Err(error.into()),
    }
}

/// A request that a broker has taken on.
#[derive(Debug)]
pub struct Taken {
    request: Request,
    version: UpdateVersion,
}

/// For the broker: the request that waits, taken; `None` without one.
pub async fn take(place: &Place) -> Result<Option<Taken>, RequestError> {
    let Some((request, version)) = look(place).await? else { return Ok(None) };
    if request.state != State::Asked || now_ms().saturating_sub(request.asked_at_ms) > ASKED_MAX_MS {
        return Ok(None);
    }
    let request = Request { state: State::Taken, ..request };
    let version = put(place, &request, PutMode::Update(version)).await?;
    Ok(Some(Taken { request, version }))
}

impl Taken {
    /// What to call the snapshot.
    pub fn label(&self) -> &str {
        &self.request.label
    }

    /// Tells how it went.
    pub async fn answer(self, place: &Place, state: State) -> Result<(), RequestError> {
        put(place, &Request { state, ..self.request }, PutMode::Update(self.version)).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bucketmq_storage::Shards;
    use object_store::memory::InMemory;

    use super::*;

    fn place() -> Place {
        Place { bucket: Arc::new(InMemory::new()), prefix: Path::default(), shards: Shards::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_listens_answers_and_one_that_does_not_is_not_waited_for() {
        let place = place();
        assert_eq!(ask(&place, "x", &|_| {}).await.unwrap(), None);
        assert!(look(&place).await.unwrap().is_none(), "nothing is left behind");
        let asking = tokio::spawn({
            let place = place.clone();
            async move { ask(&place, "mine", &|_| {}).await }
        });
        let taken = loop {
            if let Some(taken) = take(&place).await.unwrap() {
                break taken;
            }
            sleep(POLL).await;
        };
        assert_eq!(taken.label(), "mine");
        assert!(take(&place).await.unwrap().is_none(), "it is taken once");
        assert!(matches!(ask(&place, "other", &|_| {}).await, Err(RequestError::Busy)));
        sleep(Duration::from_secs(20)).await;
        taken.answer(&place, State::Done { snapshot: "s".into() }).await.unwrap();
        assert!(matches!(ask(&place, "other", &|_| {}).await, Err(RequestError::Busy)), "its answer is not read yet");
        assert_eq!(asking.await.unwrap().unwrap(), Some("s".into()));
        assert!(take(&place).await.unwrap().is_none());
    }
}
