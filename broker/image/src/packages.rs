//! What is known of each crate of a tree: its licence, where it came from, and where its sources lie.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::tree::{Key, Node};

/// One crate.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) key: Key,
    pub(crate) node: Node,
    /// An SPDX expression, or empty where the crate names none.
    pub(crate) licence: String,
    pub(crate) description: Option<String>,
    pub(crate) repository: Option<String>,
    /// SHA-256 of the archive in the registry, as the lock file has it. Crates of this workspace have none.
    pub(crate) checksum: Option<String>,
    /// Where its sources lie.
    pub(crate) folder: PathBuf,
    /// Part of this workspace.
    pub(crate) is_ours: bool,
}

/// Adds to the crates of `tree` what `metadata` (of `cargo metadata`) and `lock` (the lock file) know of them.
pub(crate) fn describe(tree: BTreeMap<Key, Node>, metadata: &str, lock: &str) -> anyhow::Result<Vec<Package>> {
    let metadata: Value = serde_json::from_str(metadata).context("read cargo metadata")?;
    let checksums = checksums(lock)?;
    let mut known: BTreeMap<Key, &Value> = BTreeMap::new();
    for package in metadata["packages"].as_array().context("cargo metadata without packages")? {
        let key = key(package)?;
        if tree.contains_key(&key) {
            let Key { name, version } = key.clone();
            ensure!(known.insert(key, package).is_none(), "{name} {version} comes from two sources: an SBOM could not tell them apart");
        }
    }
    tree.into_iter()
        .map(|(key, node)| {
            let found = known.get(&key).with_context(|| format!("cargo metadata does not know {} {}", key.name, key.version))?;
            let text = |field: &str| found[field].as_str().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
            let manifest = text("manifest_path").context("a package without a manifest")?;
            Ok(Package {
                node,
                licence: text("license").map(|licence| licence.replace('/', " OR ")).unwrap_or_default(),
                description: text("description").map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ")),
                repository: text("repository"),
                checksum: checksums.get(&key).cloned(),
                folder: Path::new(&manifest).parent().context("a manifest without a folder")?.to_owned(),
                is_ours: found["source"].is_null(),
                key,
            })
        })
        .collect()
}

fn key(package: &Value) -> anyhow::Result<Key> {
    let text = |field: &str| package[field].as_str().map(str::to_owned).with_context(|| format!("a package without a {field}"));
    Ok(Key { name: text("name")?, version: text("version")? })
}

fn checksums(lock: &str) -> anyhow::Result<BTreeMap<Key, String>> {
    let lock: toml::Table = lock.parse().context("read Cargo.lock")?;
    let packages = lock.get("package").and_then(toml::Value::as_array).context("Cargo.lock without packages")?;
    let checksum = |package: &toml::Value| {
        let text = |field: &str| package.get(field).and_then(toml::Value::as_str).map(str::to_owned);
        Some((Key { name: text("name")?, version: text("version")? }, text("checksum")?))
    };
    Ok(packages.iter().filter_map(checksum).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"{"packages":[
        {"name":"a","version":"1.0.0","license":"MIT/Apache-2.0","source":"registry","manifest_path":"/x/a/Cargo.toml","description":"two\n lines"},
        {"name":"b","version":"1.0.0","license":null,"source":null,"manifest_path":"/x/b/Cargo.toml"},
        {"name":"c","version":"1.0.0","license":"MIT","source":"registry","manifest_path":"/x/c/Cargo.toml"}]}"#;
    const LOCK: &str =
        "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"00\"\n[[package]]\nname = \"b\"\nversion = \"1.0.0\"\n";

    fn tree(names: &[&str]) -> BTreeMap<Key, Node> {
        names.iter().map(|name| (Key { name: (*name).to_owned(), version: "1.0.0".to_owned() }, Node::default())).collect()
    }

    #[test]
    fn a_crate_is_described_by_metadata_and_lock_file() {
        let found = describe(tree(&["a", "b"]), METADATA, LOCK).expect("described");
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].licence.as_str(), found[0].checksum.as_deref(), found[0].is_ours), ("MIT OR Apache-2.0", Some("00"), false));
        assert_eq!(found[0].description.as_deref(), Some("two lines"));
        assert_eq!((found[1].licence.as_str(), found[1].checksum.as_deref(), found[1].is_ours), ("", None, true));
    }

    #[test]
    fn a_crate_that_metadata_does_not_know_is_named() {
        assert!(describe(tree(&["d"]), METADATA, LOCK).unwrap_err().to_string().contains("does not know d 1.0.0"));
    }

    #[test]
    fn the_same_crate_from_two_sources_is_refused() {
        let twice = METADATA.replace("\"c\"", "\"a\"");
        assert!(describe(tree(&["a"]), &twice, LOCK).unwrap_err().to_string().contains("two sources"));
    }
}
