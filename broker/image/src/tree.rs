//! Reads what `cargo tree` prints: which crates, with which features, depend on which.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};

/// The format `read` understands: the package and its features, behind the depth.
pub(crate) const FORMAT: &str = "{p}\t{f}";

/// One crate in one version. Cargo could take the same from two sources; `packages` refuses that.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// What the tree says of one crate.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) features: BTreeSet<String>,
    pub(crate) dependencies: BTreeSet<Key>,
}

/// All that is below the package `root` of the tree `text`, which may hold more.
pub(crate) fn read(text: &str, root: &str) -> anyhow::Result<BTreeMap<Key, Node>> {
    let mut nodes: BTreeMap<Key, Node> = BTreeMap::new();
    let mut above: Vec<Key> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (depth, key, features) = read_line(line).with_context(|| format!("cargo tree prints {line:?}"))?;
        ensure!(depth <= above.len(), "cargo tree goes down two steps at once: {line:?}");
        above.truncate(depth);
        if let Some(parent) = above.last() {
            nodes.entry(parent.clone()).or_default().dependencies.insert(key.clone());
        }
        nodes.entry(key.clone()).or_default().features.extend(features);
        above.push(key);
    }
    let root = nodes.keys().find(|key| key.name == root).cloned().with_context(|| format!("{root} is not in the tree"))?;
    let mut reached = BTreeSet::new();
    let mut next = vec![root];
    // Ends: each crate is taken in once.
    while let Some(key) = next.pop() {
        if let Some(node) = nodes.get(&key).filter(|_| reached.insert(key.clone())) {
            next.extend(node.dependencies.iter().cloned());
        }
    }
    nodes.retain(|key, _| reached.contains(key));
    Ok(nodes)
}

/// `2serde v1.0.0 (/where/it/is)\tdefault,std (*)`; the star says that what is below was printed before.
fn read_line(line: &str) -> Option<(usize, Key, Vec<String>)> {
    let name_at = line.find(|character: char| !character.is_ascii_digit())?;
    let depth = line[..name_at].parse().ok()?;
    let (package, features) = line[name_at..].split_once('\t')?;
    let mut words = package.split(' ');
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    let features = features.trim_end_matches("(*)").trim();
    let features = features.split(',').filter(|feature| !feature.is_empty()).map(str::to_owned).collect();
    Some((depth, Key { name: name.to_owned(), version: version.to_owned() }, features))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "\
0broker v0.1.0 (/a place/broker)\t
1bytes v1.2.0\tdefault,std
1log v0.4.1+meta\t
2bytes v1.2.0\tdefault,std (*)

0tool v0.1.0 (/a place/tool)\t
1broker v0.1.0 (/a place/broker)\tlate (*)
1clap v4.0.0\t
";

    fn names(nodes: &BTreeMap<Key, Node>) -> Vec<&str> {
        nodes.keys().map(|key| key.name.as_str()).collect()
    }

    #[test]
    fn what_is_below_the_root_is_taken_and_no_more() {
        let nodes = read(TREE, "broker").expect("a tree");
        assert_eq!(names(&nodes), ["broker", "bytes", "log"]);
        assert_eq!(names(&read(TREE, "tool").expect("a tree")), ["broker", "bytes", "clap", "log", "tool"]);
    }

    #[test]
    fn dependencies_versions_and_features_are_read() {
        let nodes = read(TREE, "broker").expect("a tree");
        let of = |name: &str| nodes.iter().find(|(key, _)| key.name == name).expect("in the tree");
        assert_eq!(of("log").0.version, "0.4.1+meta");
        assert_eq!(of("log").1.dependencies.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["bytes"]);
        assert_eq!(of("bytes").1.features.iter().map(String::as_str).collect::<Vec<_>>(), ["default", "std"]);
        assert_eq!(of("broker").1.dependencies.len(), 2);
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        assert!(read("broker v0.1.0\n", "broker").is_err());
        assert!(read("0broker v0.1.0\t\n2bytes v1.2.0\t\n", "broker").is_err());
        assert!(read(TREE, "another").unwrap_err().to_string().contains("another is not in the tree"));
    }
}
