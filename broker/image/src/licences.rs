//! The licence texts that came with the crates. A text that many carry stands there once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::Materials;
use crate::packages::Package;

/// How a file with a licence begins, in capitals.
const BEGINNINGS: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"];
/// How deep licences are looked for: `aws-lc-sys` has those of the C code it carries in `aws-lc/third_party/fiat`.
const DEPTH_MAX: usize = 4;
/// A text is shorter; what is longer is a file that was called so for another reason.
const TEXT_BYTES_MAX: u64 = 1024 * 1024;
const RULE: &str = "================================================================================";

pub(crate) fn write(materials: &Materials) -> anyhow::Result<String> {
    let root = &materials.packages[materials.root].key;
    let others: Vec<&Package> = materials.packages.iter().filter(|package| !package.is_ours).collect();
    let mut out = format!("What others wrote and is compiled into {} {} for {}\n\n", root.name, root.version, materials.target);
    writeln!(out, "Rust's standard library {}: MIT OR Apache-2.0 (its notices stand beside this file)", materials.rustc)?;
    for package in &others {
        writeln!(out, "{} {}: {}{}", package.key.name, package.key.version, package.licence, whence(package))?;
    }

    let mut users: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut without = Vec::new();
    for package in &others {
        let texts = texts(&package.folder)?;
        if texts.is_empty() {
            without.push(package);
        }
        for text in texts {
            users.entry(text).or_default().insert(format!("{} {}", package.key.name, package.key.version));
        }
    }
    if !without.is_empty() {
        out.push_str("\nThese came without a text of their own; their licences are the ones named above:\n");
        for package in without {
            writeln!(out, "{} {}", package.key.name, package.key.version)?;
        }
    }
    // By who carries them first: the texts themselves have no order that tells anything.
    let mut by_users: Vec<_> = users.into_iter().map(|(text, users)| (users.into_iter().collect::<Vec<_>>().join(", "), text)).collect();
    by_users.sort();
    for (users, text) in by_users {
        write!(out, "\n{RULE}\nCame with {users}\n{RULE}\n\n{text}\n")?;
    }
    Ok(out)
}

fn whence(package: &Package) -> String {
    package.repository.as_ref().map(|url| format!(", {url}")).unwrap_or_default()
}

/// The licence texts below `folder`, without the blanks that make equal texts differ.
fn texts(folder: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut texts = BTreeSet::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for (path, is_folder) in entries(&folder).with_context(|| format!("look for licences in {}", folder.display()))? {
            if is_folder && depth < DEPTH_MAX {
                folders.push((path, depth + 1));
            } else if !is_folder && is_licence(&path) && path.metadata()?.len() <= TEXT_BYTES_MAX {
                let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
                let lines = String::from_utf8_lossy(&bytes);
                let text = lines.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
                texts.insert(text.trim_matches('\n').to_owned());
            }
        }
    }
    texts.remove("");
    Ok(texts)
}

/// Files and folders; no links, which could lead anywhere.
fn entries(folder: &Path) -> anyhow::Result<Vec<(PathBuf, bool)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() || kind.is_file() {
            entries.push((entry.path(), kind.is_dir()));
        }
    }
    Ok(entries)
}

/// `LICENSE`, `LICENSE-MIT`, `license.md`, but no program that is called so.
fn is_licence(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
    let is_program = [".RS", ".PY", ".C", ".H", ".GO", ".JSON", ".TOML"].iter().any(|end| name.ends_with(end));
    !is_program && BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_known_by_their_names() {
        for (name, expected) in [
            ("LICENSE", true),
            ("license-mit.txt", true),
            ("COPYING", true),
            ("NOTICE.md", true),
            ("licence.rs", false),
            ("README.md", false),
        ] {
            assert_eq!(is_licence(Path::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn equal_texts_are_one_and_those_of_carried_code_are_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let carried = folder.path().join("c/third_party/fiat");
        fs::create_dir_all(&carried).expect("folders");
        for (path, text) in
            [(folder.path().join("LICENSE"), "A\r\nB \r\n"), (folder.path().join("COPYING"), "\nA\nB\n"), (carried.join("LICENSE"), "C\n")]
        {
            fs::write(path, text).expect("written");
        }
        let found: Vec<String> = texts(folder.path()).expect("texts").into_iter().collect();
        assert_eq!(found, ["A\nB", "C"]);
    }
}
