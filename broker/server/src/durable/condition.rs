//! How the bucket is, as `/readyz` tells it: what went wrong, sorted and in a line that stays the same as long as the trouble does.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use bucketmq_admin::{BucketHealth, BucketReason, Health, ReadinessToken};
use bucketmq_bucket::metrics::Requests;
use bucketmq_bucket::{Ailment, BucketUrl, Diagnosis};
use bucketmq_cluster::{FormatError, ObjectError, TakeError};
use bucketmq_storage::durable::OpenError;
use bucketmq_storage::root::RootError;
use bucketmq_storage::{ReadError, ShardId};
use tokio::time::Instant;
use tracing::{info, warn};

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// A lifecycle rule of the bucket would delete what was acknowledged.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct TakesAway(pub Vec<String>);

/// Everything is as it should be.
pub fn healthy(url: &BucketUrl) -> BucketHealth {
    BucketHealth::new(BucketReason::Healthy, format!("{url}: it answers"))
}

/// It is being tried, or its shards are being opened.
pub fn opening(url: &BucketUrl) -> BucketHealth {
    BucketHealth::new(BucketReason::Opening, format!("{url}: it is being opened"))
}

/// Writes wait, and no request says why.
pub fn slow(url: &BucketUrl) -> BucketHealth {
    let text = "it does not take what is written, or does not say who owns it, within 2 s: acknowledgements wait";
    BucketHealth::new(BucketReason::Slow, format!("{url}: {text}"))
}

/// These shards cannot be read.
pub fn refused(url: &BucketUrl, shards: &[ShardId]) -> BucketHealth {
    let mut numbers: Vec<String> = shards.iter().map(ShardId::to_string).collect();
    numbers.sort_unstable();
    let text = format!(
        "{url}: shards that cannot be read and are refused: {}; `bucketmq bucket verify` tells more, `bucketmq bucket repair` mends them",
        numbers.join(", ")
    );
    BucketHealth::new(BucketReason::ShardRefused, text)
}

/// The prefix is for somebody else.
pub fn in_use(url: &BucketUrl, owner: &str) -> BucketHealth {
    let text = format!("{url}: the prefix belongs to {owner:?}: name another prefix, or take it over with adopt = {owner:?} in [bucket]");
    BucketHealth::new(BucketReason::PrefixInUse, text)
}

/// What a request has met.
pub fn of_diagnosis(url: &BucketUrl, diagnosis: &Diagnosis) -> BucketHealth {
    let reason = match diagnosis.ailment {
        Ailment::AccessDenied => BucketReason::AccessDenied,
        Ailment::NotFound => BucketReason::NotFound,
        Ailment::Unreachable => BucketReason::Unreachable,
        Ailment::Unsuitable => BucketReason::Unsuitable,
        Ailment::Invalid => BucketReason::Invalid,
    };
    BucketHealth::new(reason, format!("{url}: {}", one_line(&diagnosis.text)))
}

/// Why the bucket, its owner's record or its shards cannot be used.
pub fn of_error(url: &BucketUrl, error: &(dyn StdError + 'static)) -> BucketHealth {
    let causes = || std::iter::successors(Some(error), |error| (*error).source());
    let known = causes().find_map(of_cause);
    if let Some((reason, text)) = known {
        return BucketHealth::new(reason, format!("{url}: {}", one_line(&text)));
    }
    match Diagnosis::of(error) {
        Some(diagnosis) => of_diagnosis(url, &diagnosis),
        None => {
            // Of ours, so that it says the same each time; what is below it need not.
            let ours = causes().find_map(|cause| {
                let shard = cause.downcast_ref::<OpenError>().map(ToString::to_string);
                shard.or_else(|| cause.downcast_ref::<ReadError>().map(ToString::to_string))
            });
            let text = ours.unwrap_or_else(|| "it cannot be used".to_owned());
            BucketHealth::new(BucketReason::Invalid, format!("{url}: {text}: the broker's log says why"))
        }
    }
}

fn of_cause(cause: &(dyn StdError + 'static)) -> Option<(BucketReason, String)> {
    if let Some(takes_away) = cause.downcast_ref::<TakesAway>() {
        return Some((BucketReason::Unsuitable, takes_away.to_string()));
    }
    if let Some(ObjectError::Format { object, source }) = cause.downcast_ref() {
        return Some((BucketReason::FormatUnknown, format!("{object}: {source}")));
    }
    if let Some(TakeError::Unreadable(ObjectError::Format { object, source })) = cause.downcast_ref() {
        return Some((BucketReason::FormatUnknown, format!("{object}: {source}")));
    }
    if let Some(error) = cause.downcast_ref::<FormatError>() {
        return Some((BucketReason::FormatUnknown, error.to_string()));
    }
    if let Some(error @ OpenError::Format { .. }) = cause.downcast_ref() {
        return Some((BucketReason::FormatUnknown, error.to_string()));
    }
    match cause.downcast_ref::<RootError>().or_else(|| match cause.downcast_ref() {
        Some(OpenError::Root(error)) => Some(error),
        _ => None,
    })? {
        error @ RootError::Format(_) => Some((BucketReason::FormatUnknown, error.to_string())),
        error @ RootError::Unfinished => Some((BucketReason::Invalid, error.to_string())),
        RootError::Bucket(_) => None,
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Tells `/readyz` and the log how the bucket is before it is served.
pub struct Reporter {
    health: Arc<Health>,
    /// Held while something is wrong, by what is awaited.
    unready: Option<(&'static str, ReadinessToken)>,
    /// What was told last, if something is wrong.
    told: Option<BucketReason>,
}

impl Reporter {
    /// Nothing was told yet.
    pub fn new(health: Arc<Health>) -> Self {
        Self { health, unready: None, told: None }
    }

    /// It cannot be used for now; `error` is what the log says of it, once for each reason.
    pub fn trouble(&mut self, bucket: BucketHealth, error: &str) {
        self.awaiting("bucket", bucket, error);
    }

    /// Its prefix is for somebody else.
    pub fn in_use(&mut self, bucket: BucketHealth) {
        let message = bucket.message().to_owned();
        self.awaiting("prefix", bucket, &message);
    }

    fn awaiting(&mut self, name: &'static str, bucket: BucketHealth, error: &str) {
        let reason = bucket.reason();
        if self.told != Some(reason) {
            self.told = Some(reason);
            warn!(reason = ?reason, error, "the bucket cannot be used: trying again until it can");
        }
        if self.unready.as_ref().is_none_or(|(awaited, _)| *awaited != name) {
            // The new one first, or for a moment nothing would be awaited.
            self.unready = Some((name, self.health.awaiting(name)));
        }
        self.health.set_bucket(bucket);
    }

    /// Nothing is wrong with it.
    pub fn fine(&mut self, bucket: BucketHealth) {
        if self.told.take().is_some() {
            info!("the bucket can be used");
        }
        self.health.set_bucket(bucket);
        self.unready = None;
    }

    /// As long as this runs: tells what requests meet while the shards are opened, because those are made again and again. A trouble counts for
    /// `memory`, which is longer than one request takes.
    pub async fn watch(&mut self, url: &BucketUrl, requests: &Requests, memory: Duration) -> Infallible {
        let began = Instant::now();
        let mut before = None;
        loop {
            let trouble = requests.last_trouble().filter(|trouble| trouble.at >= began && trouble.at.elapsed() < memory);
            let diagnosis = trouble.as_ref().map(|trouble| trouble.diagnosis.clone());
            if before != diagnosis {
                match &trouble {
                    Some(trouble) => self.trouble(of_diagnosis(url, &trouble.diagnosis), &trouble.text),
                    None => self.fine(opening(url)),
                }
                before = diagnosis;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;
    use bucketmq_bucket::{ProbeError, Rule};
    use object_store::Error;

    use super::*;

    fn url() -> BucketUrl {
        "s3://fleet/prod?region=eu-central-1".parse().unwrap()
    }

    fn of(error: impl Into<anyhow::Error>) -> BucketHealth {
        of_error(&url(), error.into().context("somewhere on the way").as_ref())
    }

    #[test]
    fn every_error_of_a_start_has_its_reason() {
        let denied = || Error::PermissionDenied { path: "probe/1".to_owned(), source: "no".into() };
        let object = || "own/00".to_owned();
        let unknown = FormatError::Unknown { found: 2 };
        for (health, reason) in [
            (of(ProbeError::Failed { action: "creating an object", source: denied() }), BucketReason::AccessDenied),
            (of(ProbeError::Broken { rule: Rule::OneCreatorWins, found: "2 succeeded".to_owned() }), BucketReason::Unsuitable),
            (of(TakesAway(vec!["lifecycle rule \"r\" deletes objects".to_owned()])), BucketReason::Unsuitable),
            (of(ObjectError::Bucket { object: object(), source: denied() }), BucketReason::AccessDenied),
            (of(TakeError::Unreadable(ObjectError::Format { object: object(), source: unknown })), BucketReason::FormatUnknown),
            (of(OpenError::Root(RootError::Bucket(denied()))), BucketReason::AccessDenied),
            (of(OpenError::Root(RootError::Format("format 2".to_owned()))), BucketReason::FormatUnknown),
            (of(RootError::Unfinished), BucketReason::Invalid),
            (of(ReadError { shard: ShardId(3), source: "x".into() }), BucketReason::Invalid),
            (of(anyhow::anyhow!("something else")), BucketReason::Invalid),
        ] {
            assert_eq!(health.reason(), reason, "{health:?}");
            assert!(
                health.message().starts_with("s3://fleet/prod?region=eu-central-1: ") && !health.message().contains('\n'),
                "{health:?}"
            );
        }
        let read = of(ReadError { shard: ShardId(3), source: "attempt 7".into() });
        assert!(read.message().contains("shard 03") && !read.message().contains('7'), "{read:?}");
    }

    #[test]
    fn refused_shards_are_named_in_their_order() {
        let health = refused(&url(), &[ShardId(7), ShardId(3)]);
        assert!(health.reason() == BucketReason::ShardRefused && health.message().contains(": 03, 07;"), "{health:?}");
    }

    #[test]
    fn what_is_below_a_context_is_found() {
        let error =
            Err::<(), _>(Error::Unauthenticated { path: String::new(), source: "no".into() }).context("a").context("b").unwrap_err();
        assert_eq!(of_error(&url(), error.as_ref()).reason(), BucketReason::AccessDenied);
    }
}
