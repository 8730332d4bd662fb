//! Where `e2e/servers/install` puts things.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// The program at `path` below the cache directory.
pub(crate) fn program(path: &str) -> anyhow::Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::home_dir().map(|home| home.join(".cache"));
    let cache = base.or_else(home).context("neither XDG_CACHE_HOME nor a home directory")?.join("bucketmq/servers");
    let program = cache.join(path);
    let name = Path::new(path).components().next().map(|part| part.as_os_str().to_string_lossy()).unwrap_or_default();
    ensure!(program.exists(), "{} is missing: run `e2e/servers/install {name}`", program.display());
    Ok(program)
}
