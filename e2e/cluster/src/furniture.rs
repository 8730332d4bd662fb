//! What a cluster with nodes is furnished with: DNS and an S3 server, and the images of these and of what holds a pod's namespaces.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use crate::addresses::Ranges;
use crate::cluster::Cluster;
use crate::folder::make_folder;
use crate::oci::{Archive, Layer};
use crate::{installed, kubectl, wait};

/// The image every pod begins with.
pub(crate) const PAUSE: &str = "bucketmq.local/pause:local";
const COREDNS: &str = "bucketmq.local/coredns:local";
const S3: &str = "bucketmq.local/versitygw:local";

/// What the S3 server takes for its owner's name. There is nothing to keep from anybody.
pub const S3_ACCESS_KEY: &str = "local-cluster";
/// And for its password.
pub const S3_SECRET_KEY: &str = "local-cluster-secret";
/// Where it listens, in the Service and in the pod.
pub const S3_PORT: u16 = 7070;

/// Label of the node that tests never take away: DNS and the S3 server are on it.
pub const STAYS: &str = "bucketmq.local/stays";

/// Part of the archives' names: counted up when they are built in another way.
const FORMAT: u32 = 1;
/// Pods start in a second or two; busy machines take longer.
const FURNISHED_LIMIT: Duration = Duration::from_secs(180);

/// The archives of the images, made where a program is newer than its own.
pub(crate) fn archives(progress: fn(&str)) -> anyhow::Result<Vec<PathBuf>> {
    let folder = installed::cache()?.join("images");
    make_folder(&folder)?;
    let programs =
        [(PAUSE, installed::program(installed::PAUSE)?), (COREDNS, installed::program(installed::COREDNS)?), (S3, installed::versitygw()?)];
    programs.iter().map(|(image, program)| archive(&folder, image, program, progress)).collect()
}

fn archive(folder: &Path, image: &str, program: &Path, progress: fn(&str)) -> anyhow::Result<PathBuf> {
    let name = program.file_name().context("a program has a name")?.to_string_lossy();
    let path = folder.join(format!("{name}-{FORMAT}.tar"));
    let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    if modified(&path).is_none_or(|archive| modified(program).is_none_or(|program| program > archive)) {
        progress(&format!("making the image {image}"));
        let bytes = std::fs::read(program).with_context(|| format!("read {}", program.display()))?;
        let there = format!("/{name}");
        // These programs are static: nothing else is needed.
        let layer = Layer::new().directory("/tmp", 0o1777).file(&there, bytes, 0o755);
        Archive::new(image).layer(layer).user("65532:65532").entrypoint([there]).write(&path)?;
    }
    Ok(path)
}

/// The image of the S3 server as an archive, for clusters that are not of this crate; it is made if it is not there.
pub fn s3_archive(progress: fn(&str)) -> anyhow::Result<PathBuf> {
    let folder = installed::cache()?.join("images");
    make_folder(&folder)?;
    archive(&folder, S3, &installed::versitygw()?, progress)
}

/// The objects of the S3 server, with its Service at this address, for clusters that are not of this crate. They want a node with the label [`STAYS`].
pub fn s3_objects(address: std::net::Ipv4Addr) -> String {
    fill_s3(include_str!("furniture/s3.yaml"), address)
}

/// Asks for all of it.
pub(crate) fn apply(cluster: &Cluster, ranges: Ranges) -> anyhow::Result<()> {
    let objects = [include_str!("furniture/dns.yaml"), include_str!("furniture/s3.yaml")].join("---\n");
    let objects = fill(&objects, ranges);
    kubectl::run(&cluster.folder, &["apply", "--server-side", "--filename=-"], &objects).map(|_| ())
}

fn fill(objects: &str, ranges: Ranges) -> String {
    let text = objects.replace("$DNS_ADDRESS", &ranges.dns().to_string()).replace("$COREDNS_IMAGE", COREDNS);
    fill_s3(&text, ranges.s3())
}

fn fill_s3(objects: &str, address: std::net::Ipv4Addr) -> String {
    let words = [
        ("$STAYS", STAYS.to_owned()),
        ("$S3_ACCESS_KEY", S3_ACCESS_KEY.to_owned()),
        ("$S3_SECRET_KEY", S3_SECRET_KEY.to_owned()),
        ("$S3_ADDRESS", address.to_string()),
        ("$S3_IMAGE", S3.to_owned()),
        ("$S3_PORT", S3_PORT.to_string()),
    ];
    words.iter().fold(objects.to_owned(), |text, (word, value)| text.replace(word, value))
}

/// Waits until every node is Ready, and DNS and S3 answer.
pub(crate) fn wait_furnished(cluster: &Cluster) -> anyhow::Result<()> {
    wait::until_true("Ready nodes", FURNISHED_LIMIT, || {
        cluster.check_parts()?;
        let ready = cluster.ready_nodes()?;
        Ok(cluster.nodes().iter().all(|node| ready.contains(&node.name())))
    })?;
    let timeout = format!("--timeout={}s", FURNISHED_LIMIT.as_secs());
    for (namespace, deployment) in [("kube-system", "deployment/coredns"), ("s3", "deployment/s3")] {
        kubectl::run(&cluster.folder, &["rollout", "status", deployment, "--namespace", namespace, &timeout], "")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_to_fill_in() {
        for text in [include_str!("furniture/dns.yaml"), include_str!("furniture/s3.yaml")] {
            let filled = fill(text, Ranges::new(1));
            assert!(!filled.contains('$'), "{filled}");
        }
        assert!(fill(include_str!("furniture/s3.yaml"), Ranges::new(1)).contains("clusterIP: 10.97.0.20\n"));
    }
}
