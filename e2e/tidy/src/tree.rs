//! The tracked files of the checkout.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::code;

/// One tracked text file.
#[derive(Debug, Clone)]
pub struct File {
    /// Path from the root, with `/`.
    pub path: String,
    /// Its whole text.
    pub text: String,
}

impl File {
    /// Lines with their numbers from 1.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Lines of a Rust file without what comments and literals hold.
    pub fn code_lines(&self) -> Vec<(usize, String)> {
        code::without_comments_and_literals(&self.text).lines().enumerate().map(|(index, line)| (index + 1, line.to_owned())).collect()
    }

    /// The last part of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// True for Rust source.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// The tracked tree.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// Text files, sorted by path.
    pub files: Vec<File>,
    /// Paths of everything tracked, the binary files included.
    pub paths: Vec<String>,
}

impl Tree {
    /// Reads what git tracks under `root`, as it stands in the work tree.
    pub fn tracked(root: &Path) -> anyhow::Result<Self> {
        let output = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output().context("run git ls-files")?;
        ensure!(output.status.success(), "git ls-files failed in {}", root.display());
        let mut tree = Self::default();
        for path in String::from_utf8(output.stdout)?.split_terminator('\0') {
            // Deleted and not yet committed, a symbolic link, or a submodule.
            let full = root.join(path);
            if !full.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
                continue;
            }
            tree.paths.push(path.to_owned());
            let bytes = std::fs::read(&full).with_context(|| format!("read {path}"))?;
            if let Some(text) = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0')) {
                tree.files.push(File { path: path.to_owned(), text });
            }
        }
        Ok(tree)
    }

    /// A tree of these files, for tests.
    pub fn of(files: &[(&str, &str)]) -> Self {
        Self {
            files: files.iter().map(|(path, text)| File { path: (*path).to_owned(), text: (*text).to_owned() }).collect(),
            paths: files.iter().map(|(path, _)| (*path).to_owned()).collect(),
        }
    }

    /// The Rust files.
    pub fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_rust())
    }

    /// The file at `path`.
    pub fn get(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// True for a tracked file, or a directory with one in it.
    pub fn holds(&self, path: &str) -> bool {
        self.paths
            .iter()
            .any(|tracked| tracked == path || tracked.strip_prefix(path).is_some_and(|rest| path.is_empty() || rest.starts_with('/')))
    }
}
