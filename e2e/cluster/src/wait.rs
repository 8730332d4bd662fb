//! Waiting for what others do, with a limit and a reason.

use std::time::{Duration, Instant};

use anyhow::bail;

/// Between two looks.
const STEP: Duration = Duration::from_millis(50);

/// Looks until there is something, an error, or `limit` has passed.
pub(crate) fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if started.elapsed() > limit {
            bail!("{what}: not within {limit:?}");
        }
        std::thread::sleep(STEP);
    }
}

/// As [`until`], for what is only true or not.
pub(crate) fn until_true(what: &str, limit: Duration, mut look: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    until(what, limit, || Ok(look()?.then_some(())))
}
