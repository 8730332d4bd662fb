//! Container images without Docker: an OCI image layout in a tar archive, as `ctr images import` and `docker load` read it. The same input gives the
//! same bytes, whoever writes it and when: files are sorted, belong to root, and are of 1970.
//!
//! ```no_run
//! use bucketmq_local_cluster::oci::{Archive, Layer};
//!
//! let base = Layer::new().directory("/tmp", 0o1777).file("/etc/passwd", "nonroot:x:65532:65532::/tmp:/nologin\n", 0o644);
//! let program = Layer::new().file("/usr/bin/hello", std::fs::read("target/release/hello")?, 0o755);
//! let written = Archive::new("example.local/hello:1")
//!     .layer(base)
//!     .layer(program)
//!     .user("65532:65532")
//!     .entrypoint(["/usr/bin/hello"])
//!     .env("PATH", "/usr/bin")
//!     .label("org.opencontainers.image.licenses", "Apache-2.0")
//!     .write("hello.tar")?;
//! assert!(written.digest.starts_with("sha256:"));
//! # anyhow::Ok(())
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use flate2::{Compression, GzBuilder};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// One layer: what lies at which path. Directories on the way there are made, with mode 0755.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    /// By path without the first slash; so a directory comes before what is in it.
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone)]
enum Entry {
    Directory { mode: u32 },
    File { bytes: Vec<u8>, mode: u32 },
    Link { target: String },
}

impl Layer {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// A file.
    pub fn file(self, path: &str, bytes: impl Into<Vec<u8>>, mode: u32) -> Self {
        self.entry(path, Entry::File { bytes: bytes.into(), mode })
    }

    /// All of these files: path, content, mode.
    pub fn files<P: AsRef<str>, B: Into<Vec<u8>>>(self, files: impl IntoIterator<Item = (P, B, u32)>) -> Self {
        files.into_iter().fold(self, |layer, (path, bytes, mode)| layer.file(path.as_ref(), bytes, mode))
    }

    /// A directory that is empty, or not of mode 0755.
    pub fn directory(self, path: &str, mode: u32) -> Self {
        self.entry(path, Entry::Directory { mode })
    }

    /// A symbolic link.
    pub fn link(self, path: &str, target: &str) -> Self {
        self.entry(path, Entry::Link { target: target.to_owned() })
    }

    /// The last one of a path counts.
    fn entry(mut self, path: &str, entry: Entry) -> Self {
        let path = path.trim_matches('/');
        for (at, _) in path.match_indices('/') {
            self.entries.entry(path[..at].to_owned()).or_insert(Entry::Directory { mode: 0o755 });
        }
        self.entries.insert(path.to_owned(), entry);
        self
    }

    fn tar(&self) -> anyhow::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, entry) in &self.entries {
            ensure!(is_plain(path), "/{path} is no path of a file in an image: name it without empty parts, `.` and `..`");
            let mut header = tar::Header::new_gnu();
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            let written = match entry {
                Entry::Directory { mode } => {
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_mode(*mode);
                    header.set_size(0);
                    archive.append_data(&mut header, format!("{path}/"), [].as_slice())
                }
                Entry::File { bytes, mode } => {
                    header.set_entry_type(tar::EntryType::Regular);
                    header.set_mode(*mode);
                    header.set_size(bytes.len() as u64);
                    archive.append_data(&mut header, path, bytes.as_slice())
                }
                Entry::Link { target } => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_mode(0o777);
                    header.set_size(0);
                    archive.append_link(&mut header, path, target)
                }
            };
            written.with_context(|| format!("put /{path} into a layer"))?;
        }
        archive.into_inner().context("finish a layer")
    }
}

fn is_plain(path: &str) -> bool {
    path.split('/').all(|part| !["", ".", ".."].contains(&part))
}

/// An image that is to be written.
#[derive(Debug, Clone)]
pub struct Archive {
    names: Vec<String>,
    layers: Vec<Layer>,
    user: Option<String>,
    entrypoint: Vec<String>,
    command: Vec<String>,
    working_directory: String,
    env: Vec<String>,
    labels: BTreeMap<String, String>,
    architecture: String,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Of the manifest, as nodes and registries show it: `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// What a registry would keep and a node download: manifest, config and compressed layers.
    pub compressed_bytes: u64,
    /// What the layers hold when they are unpacked.
    pub unpacked_bytes: u64,
}

impl Archive {
    /// An image with this name, tag included, that runs on processors of this machine's kind.
    pub fn new(name: &str) -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self {
            names: vec![name.to_owned()],
            layers: Vec::new(),
            user: None,
            entrypoint: Vec::new(),
            command: Vec::new(),
            working_directory: "/".to_owned(),
            env: Vec::new(),
            labels: BTreeMap::new(),
            architecture: architecture.to_owned(),
        }
    }

    /// One more name for the same image.
    pub fn also_named(mut self, name: &str) -> Self {
        self.names.push(name.to_owned());
        self
    }

    /// One more layer, over those there are.
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// Who runs it: `65532:65532`. Root by default.
    pub fn user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// The program and its first arguments.
    pub fn entrypoint<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.entrypoint = words.into_iter().map(Into::into).collect();
        self
    }

    /// Arguments that whoever runs it may replace.
    pub fn command<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.command = words.into_iter().map(Into::into).collect();
        self
    }

    /// Where it runs. `/` by default.
    pub fn working_directory(mut self, path: &str) -> Self {
        self.working_directory = path.to_owned();
        self
    }

    /// One more variable of its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push(format!("{name}={value}"));
        self
    }

    /// One more label.
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The kind of processor it runs on, as Go calls it: `amd64`, `arm64`.
    pub fn architecture(mut self, architecture: &str) -> Self {
        self.architecture = architecture.to_owned();
        self
    }

    /// Writes it. Who reads `path` meanwhile sees what was there before.
    pub fn write(&self, path: impl AsRef<Path>) -> anyhow::Result<Written> {
        let path = path.as_ref();
        let name = path.file_name().with_context(|| format!("{} is no name of a file", path.display()))?;
        let unfinished = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
        let written = self.write_now(&unfinished).and_then(|written| {
            std::fs::rename(&unfinished, path)?;
            Ok(written)
        });
        if written.is_err() {
            std::fs::remove_file(&unfinished).ok();
        }
        written.with_context(|| format!("write the image {} to {}", self.names[0], path.display()))
    }

    fn write_now(&self, path: &Path) -> anyhow::Result<Written> {
        ensure!(!self.layers.is_empty(), "it has no layer");
        for name in &self.names {
            let tag = name.rsplit_once(':').map(|(_, tag)| tag);
            if !tag.is_some_and(|tag| !tag.is_empty() && !tag.contains('/')) {
                bail!("its name {name} is without a tag, for instance {name}:1");
            }
        }
        let mut blobs = Blobs::default();
        let (mut layers, mut diff_ids, mut unpacked_bytes) = (Vec::new(), Vec::new(), 0);
        for layer in &self.layers {
            let tar = layer.tar()?;
            unpacked_bytes += tar.len() as u64;
            diff_ids.push(digest(&tar));
            layers.push(blobs.add(LAYER, compress(&tar)?));
        }
        let config = blobs.add(CONFIG, self.config(&diff_ids).to_string().into_bytes());
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        let manifest = blobs.add(MANIFEST, manifest.to_string().into_bytes());
        let digest = manifest["digest"].as_str().unwrap_or_default().to_owned();
        let index =
            json!({ "schemaVersion": 2, "manifests": self.names.iter().map(|name| self.named(&manifest, name)).collect::<Vec<_>>() });
        let compressed_bytes = blobs.by_digest.values().map(|blob| blob.len() as u64).sum();

        let mut archive = tar::Builder::new(BufWriter::new(File::create(path)?));
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o644);
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, name, bytes)
        };
        add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        add("index.json", index.to_string().as_bytes())?;
        for (hash, blob) in &blobs.by_digest {
            add(&format!("blobs/sha256/{hash}"), blob)?;
        }
        archive.into_inner()?.into_inner().map_err(std::io::IntoInnerError::into_error)?.flush()?;
        Ok(Written { digest, compressed_bytes, unpacked_bytes })
    }

    fn config(&self, diff_ids: &[String]) -> Value {
        let mut run = Map::new();
        run.insert("WorkingDir".to_owned(), json!(self.working_directory));
        let words = [("Entrypoint", &self.entrypoint), ("Cmd", &self.command), ("Env", &self.env)];
        for (name, words) in words.into_iter().filter(|(_, words)| !words.is_empty()) {
            run.insert(name.to_owned(), json!(words));
        }
        if let Some(user) = &self.user {
            run.insert("User".to_owned(), json!(user));
        }
        if !self.labels.is_empty() {
            run.insert("Labels".to_owned(), json!(self.labels));
        }
        json!({
            "architecture": self.architecture, "os": "linux", "created": "1970-01-01T00:00:00Z", "config": run,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        })
    }

    /// containerd takes the whole name from its own annotation, others the tag from the standard's.
    fn named(&self, manifest: &Value, name: &str) -> Value {
        let mut named = manifest.clone();
        let tag = name.rsplit_once(':').map_or(name, |(_, tag)| tag);
        named["platform"] = json!({ "architecture": self.architecture, "os": "linux" });
        named["annotations"] = json!({ "io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag });
        named
    }
}

/// What an archive holds, each once.
#[derive(Default)]
struct Blobs {
    by_digest: BTreeMap<String, Vec<u8>>,
}

impl Blobs {
    /// Keeps `bytes` and describes them.
    fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let digest = digest(&bytes);
        let described = json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() });
        self.by_digest.insert(digest.trim_start_matches("sha256:").to_owned(), bytes);
        described
    }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// Without a time or a name in its header.
fn compress(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

#[cfg(test)]
mod tests;
