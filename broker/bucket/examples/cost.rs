//! What requests to a bucket cost here: `cargo run --release -p bucketmq-bucket --example cost -- s3://my-bucket/cost?region=eu-central-1`.
//!
//! Creates, reads and deletes objects of 20 KB below the prefix, one after another and sixteen at a time. Give it a prefix of its own.

use std::time::{Duration, Instant};

use bucketmq_bucket::{Bucket, BucketConfig, metrics::Kind, probe};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Attribute, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

const SIZE: usize = 20_000;
const SINGLY: usize = 200;
const TOGETHER: usize = 1000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1).ok_or_else(|| anyhow::anyhow!("say which bucket: cost URL"))?;
    let bucket = Bucket::open(&BucketConfig::new(url.parse()?)).await?;
    let store = bucket.store();
    let started = Instant::now();
    probe(store.as_ref()).await?;
    println!("probe: {:?}", started.elapsed());
    for (count, at_a_time) in [(SINGLY, 1), (TOGETHER, 16)] {
        let names: Vec<Path> = (0..count).map(|number| Path::from(format!("cost/{number}"))).collect();
        let put = |name: Path| {
            let store = &store;
            // With user metadata, as SlateDB writes.
            let attributes = [(Attribute::Metadata("id".into()), "1")].into_iter().collect();
            let options = PutOptions { attributes, ..PutMode::Create.into() };
            async move { store.put_opts(&name, PutPayload::from(vec![7; SIZE]), options).await.map(drop) }
        };
        measure("create", count, at_a_time, stream::iter(names.clone()).map(put)).await?;
        let get = |name: Path| {
            let store = &store;
            async move { store.get(&name).await?.bytes().await.map(drop) }
        };
        measure("get", count, at_a_time, stream::iter(names.clone()).map(get)).await?;
        let started = Instant::now();
        store.delete_stream(stream::iter(names).map(Ok).boxed()).try_collect::<Vec<_>>().await?;
        println!("delete {count} in one stream: {:?}", started.elapsed());
    }
    let requests = bucket.requests();
    println!("requests: {}", Kind::ALL.map(|kind| format!("{} {}", kind.label(), requests.total(kind))).join(", "));
    Ok(())
}

async fn measure<F>(what: &str, count: usize, at_a_time: usize, requests: impl stream::Stream<Item = F>) -> anyhow::Result<()>
where
    F: Future<Output = object_store::Result<()>>,
{
    let (started, cpu) = (Instant::now(), processor_time());
    requests.buffer_unordered(at_a_time).try_collect::<Vec<_>>().await?;
    let (wall, cpu) = (started.elapsed().as_secs_f64(), (processor_time() - cpu).as_micros() as f64);
    println!("{what}, {at_a_time} at a time: {:.0}/s, {:.0} us of processor each", count as f64 / wall, cpu / count as f64);
    Ok(())
}

/// Of this process; steps of 10 ms. Zero where there is no /proc.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
