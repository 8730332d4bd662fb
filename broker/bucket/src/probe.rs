//! Whether a bucket can keep state: asked once, at the start, by doing what the broker relies on.
//!
//! Stores that ignore a condition answer 200 like those that obey it, so only a race tells them apart. A probe is 67 writes of a few bytes below
//! `probe/`, which it removes again.

use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Attribute, Error, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutResult, UpdateVersion};

/// Writers in a race. Servers that look first and write then were seen to let 2 to 16 of them win.
const WRITERS: usize = 16;
/// Races of creators. A broken server was seen to get one of twenty right, so three in a row tell.
const RACES: usize = 3;
/// Where a probe writes, below the prefix.
const FOLDER: &str = "probe";
/// What a probe that died left behind is removed after this long, by the bucket's clock and this host's, which may differ by hours.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 3600);
/// The user metadata that is written and read. Letters only: Azure takes no dash.
const KEY: &str = "bucketmqprobe";

/// The first thing that is done.
pub(crate) const CREATING: &str = "creating an object";

/// What a bucket must obey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Of writers that create one object at the same time, exactly one succeeds (`If-None-Match: *`).
    OneCreatorWins,
    /// An update that names an older version is refused (`If-Match`).
    StaleUpdateIsRefused,
    /// An update that names the present version succeeds.
    FreshUpdateIsAccepted,
    /// Of writers that update one version at the same time, exactly one succeeds.
    OneUpdaterWins,
    /// User metadata comes back.
    MetadataComesBack,
    /// What was written is read and listed at once.
    WritesAreSeen,
}

impl Rule {
    /// In a few words.
    pub fn text(self) -> &'static str {
        match self {
            Rule::OneCreatorWins => "of 16 writers that create one object at the same time, exactly one must succeed (If-None-Match: *)",
            Rule::StaleUpdateIsRefused => "an update that names an older version must be refused (If-Match)",
            Rule::FreshUpdateIsAccepted => "an update that names the present version must succeed (If-Match)",
            Rule::OneUpdaterWins => "of 16 writers that update one version at the same time, exactly one must succeed (If-Match)",
            Rule::MetadataComesBack => "user metadata must come back with HEAD",
            Rule::WritesAreSeen => "what was written must be read and listed at once",
        }
    }
}

/// Why a bucket is not used.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It would lose state, or let two brokers own it.
    #[error(
        "the bucket breaks a rule: {}; {found}. State would be lost. Upgrade the server, or use one that keeps the rule: Amazon S3, Google Cloud Storage (gs://), \
         Azure Blob Storage (az://), or a server that its makers test for conditional writes",
        rule.text()
    )]
    Broken {
        /// Which rule.
        rule: Rule,
        /// What happened instead.
        found: String,
    },
    /// It could not be asked.
    #[error("the bucket cannot be tried ({action}): {source}")]
    Failed {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        source: Error,
    },
}

fn failed(action: &'static str) -> impl FnOnce(Error) -> ProbeError {
    move |source| ProbeError::Failed { action, source }
}

fn broken(rule: Rule, found: impl Into<String>) -> Result<(), ProbeError> {
    Err(ProbeError::Broken { rule, found: found.into() })
}

/// Tries `store` and cleans up.
///
/// # Errors
///
/// When it breaks a [`Rule`], or cannot be asked.
pub async fn probe(store: &dyn ObjectStore) -> Result<(), ProbeError> {
    let run = format!("{:032x}", rand::random::<u128>());
    let result = try_rules(store, &run).await;
    // An error of the rules counts more than one of the broom.
    match (result, clean(store, &run).await) {
        (Ok(()), Err(error)) => Err(failed("removing what was written")(error)),
        (result, _) => result,
    }
}

async fn try_rules(store: &dyn ObjectStore, run: &str) -> Result<(), ProbeError> {
    let name = |what: &str| Path::from_iter([FOLDER, &format!("{run}-{what}")]);
    for race in 0..RACES {
        let won = race_for(store, &name(&format!("create-{race}")), &PutMode::Create).await.map_err(failed(CREATING))?;
        if won.len() != 1 {
            return broken(Rule::OneCreatorWins, format!("{} succeeded", won.len()));
        }
    }
    let location = name("update");
    let options =
        PutOptions { attributes: [(Attribute::Metadata(KEY.into()), run.to_owned())].into_iter().collect(), ..PutMode::Create.into() };
    let first = store.put_opts(&location, "first".into(), options).await.map_err(failed("writing an object with metadata"))?;
    metadata_comes_back(store, &location, run).await?;
    let second = match store.put_opts(&location, "second".into(), update(&first).into()).await {
        Ok(second) => second,
        Err(Error::Precondition { .. } | Error::AlreadyExists { .. }) => {
            return broken(Rule::FreshUpdateIsAccepted, "it was refused");
        }
        Err(error) => return Err(failed("updating an object")(error)),
    };
    match store.put_opts(&location, "stale".into(), update(&first).into()).await {
        Err(Error::Precondition { .. }) => {}
        Err(error) => return Err(failed("updating an older version")(error)),
        Ok(_) => return broken(Rule::StaleUpdateIsRefused, "it succeeded"),
    }
    let won = race_for(store, &location, &update(&second)).await.map_err(failed("updating an object"))?;
    let [winner] = won.as_slice() else { return broken(Rule::OneUpdaterWins, format!("{} succeeded", won.len())) };
    is_seen(store, &location, winner).await
}

fn update(version: &PutResult) -> PutMode {
    PutMode::Update(UpdateVersion { e_tag: version.e_tag.clone(), version: version.version.clone() })
}

/// The numbers of those that succeeded.
async fn race_for(store: &dyn ObjectStore, location: &Path, mode: &PutMode) -> Result<Vec<usize>, Error> {
    let write = |number: usize| async move {
        match store.put_opts(location, number.to_string().into(), mode.clone().into()).await {
            Ok(_) => Ok(Some(number)),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    };
    let results = join_all((0..WRITERS).map(write)).await;
    results.into_iter().filter_map(Result::transpose).collect()
}

async fn metadata_comes_back(store: &dyn ObjectStore, location: &Path, expected: &str) -> Result<(), ProbeError> {
    let head = store.get_opts(location, GetOptions::new().with_head(true)).await.map_err(failed("reading metadata"))?;
    match head.attributes.get(&Attribute::Metadata(KEY.into())) {
        Some(value) if value.as_ref() == expected => Ok(()),
        Some(_) => broken(Rule::MetadataComesBack, "another value came back"),
        None => broken(Rule::MetadataComesBack, "it was gone"),
    }
}

async fn is_seen(store: &dyn ObjectStore, location: &Path, winner: &usize) -> Result<(), ProbeError> {
    let read = store.get(location).await.map_err(failed("reading an object"))?.bytes().await.map_err(failed("reading an object"))?;
    if read != winner.to_string().as_bytes() {
        return broken(Rule::WritesAreSeen, "something else was read than the winner of the race wrote");
    }
    let names: Vec<Path> =
        store.list(Some(&Path::from(FOLDER))).map_ok(|meta| meta.location).try_collect().await.map_err(failed("listing objects"))?;
    if names.contains(location) { Ok(()) } else { broken(Rule::WritesAreSeen, "the object was not listed") }
}

/// Removes what this probe wrote, and what others left behind long ago.
async fn clean(store: &dyn ObjectStore, run: &str) -> Result<(), Error> {
    let long_ago = chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now() - LEFT_BEHIND);
    let run = run.to_owned();
    let ours = store
        .list(Some(&Path::from(FOLDER)))
        .try_filter(move |meta| {
            let name = meta.location.filename().unwrap_or_default();
            std::future::ready(name.starts_with(&run) || meta.last_modified < long_ago)
        })
        .map_ok(|meta| meta.location)
        .boxed();
    store.delete_stream(ours).try_collect::<Vec<_>>().await.map(drop)
}

#[cfg(test)]
mod tests;
