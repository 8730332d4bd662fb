//! Which bucket is meant, and what is found there.

use std::path::PathBuf;

use anyhow::Context;
use bucketmq_bucket::{Bucket, BucketConfig, BucketUrl, probe};
use bucketmq_offline::{Exclusive, Site, SiteError, ensure_not_owned};
use bucketmq_storage::durable::Place;
use bucketmq_storage::{ShardId, Shards};
use clap::Args;
use object_store::path::Path;

use super::{Failure, progress};
use crate::cli::environment;
use crate::config::{Config, ServeFlags};

/// Where the bucket is.
#[derive(Debug, Args)]
pub(super) struct BucketOf {
    /// The bucket and prefix, such as s3://name/prefix?region=eu-central-1 or file:///var/lib/bucketmq.
    #[arg(long, value_name = "URL")]
    bucket: Option<String>,
    /// The broker's configuration file, which names the bucket unless --bucket does.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl BucketOf {
    /// What `serve` would make of it.
    pub(super) fn configured(&self) -> Result<BucketConfig, Failure> {
        let flags = ServeFlags { bucket: self.bucket.clone(), ..ServeFlags::default() };
        let loaded = Config::load(self.config.as_deref(), environment(), &flags).map_err(|errors| Failure::Config(errors.to_string()))?;
        match loaded.config.bucket {
            BucketConfig { url: BucketUrl::Memory, .. } => {
                Err(Failure::Usage("which bucket? Name it by --bucket URL or --config FILE; memory:// keeps nothing to look at".into()))
            }
            config => Ok(config),
        }
    }

    /// Opens it; nothing is asked of it yet.
    pub(super) async fn open(&self) -> Result<Opened, Failure> {
        open(self.configured()?).await
    }
}

async fn open(config: BucketConfig) -> Result<Opened, Failure> {
    if let BucketUrl::File(folder) = &config.url
        && !folder.is_dir()
    {
        return Err(Failure::Other(anyhow::anyhow!("{}: there is no such directory", config.url)));
    }
    Ok(Opened { bucket: Bucket::open(&config).await.context("the bucket cannot be used")? })
}

/// A bucket.
pub(super) struct Opened {
    /// It.
    pub(super) bucket: Bucket,
}

impl Opened {
    /// What is in it.
    pub(super) async fn site(&self) -> Result<Site, Failure> {
        Ok(Site::find(self.bucket.store()).await.with_context(|| self.bucket.url().to_string())?)
    }

    /// The same when it may be damaged.
    pub(super) async fn damaged_site(&self) -> Result<Site, Failure> {
        Ok(Site::find_damaged(self.bucket.store()).await.with_context(|| self.bucket.url().to_string())?)
    }

    /// The prefix alone, whatever state it is in, with its objects and their bytes.
    pub(super) async fn count(&self) -> Result<(Place, u64, u64), Failure> {
        let place = Place { bucket: self.bucket.store(), prefix: Path::default(), shards: Shards::default() };
        let (objects, size) = bucketmq_offline::delete::count(&place).await.with_context(|| self.bucket.url().to_string())?;
        Ok((place, objects, size))
    }

    /// Refuses when there is nothing.
    pub(super) fn expect_something(&self, objects: u64) -> Result<(), Failure> {
        match objects {
            0 => Err(anyhow::Error::new(SiteError::Empty).context(self.bucket.url().to_string()).into()),
            _ => Ok(()),
        }
    }

    /// Makes sure that no broker owns it, in a bucket that keeps the rules this rests on.
    pub(super) async fn own(&self, place: &Place) -> Result<Exclusive, Failure> {
        probe(&*self.bucket.store()).await.with_context(|| self.bucket.url().to_string())?;
        let owned = ensure_not_owned(place, self.bucket.broker_lock(), &progress).await;
        Ok(owned.with_context(|| self.bucket.url().to_string())?)
    }

    /// Makes sure that no broker owns it, and looks again at what is there.
    pub(super) async fn own_site(&self, site: &Site) -> Result<(Site, Exclusive), Failure> {
        let exclusive = self.own(&site.place).await?;
        match site.again().await.with_context(|| self.bucket.url().to_string()) {
            Ok(site) => Ok((site, exclusive)),
            Err(error) => {
                exclusive.release().await;
                Err(error.into())
            }
        }
    }
}

/// The shard that was named, if there is one of that number.
pub(super) fn shard_of(site: &Site, number: Option<u16>) -> Result<Option<ShardId>, Failure> {
    let count = site.place.shards.count();
    match number {
        Some(number) if number >= count => {
            Err(Failure::Usage(format!("there is no shard {number:02}: this bucket has {count}, from 00 to {:02}", count - 1)))
        }
        number => Ok(number.map(ShardId)),
    }
}
