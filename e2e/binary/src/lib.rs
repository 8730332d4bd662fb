//! Which binary is tested, bucketmq's or the operator's: the one that is named, the newest of the builds, or the one beside a test.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, bail, ensure};

/// What builds it.
const REMEDY: &str = "run `cargo build --workspace --bins`";
/// The broker.
pub const BROKER: &str = "bucketmq";
/// The operator.
pub const OPERATOR: &str = "bucketmq-operator";
/// Profiles whose builds count, each a folder of the target folder.
const PROFILES: [&str; 3] = ["release", "fast", "debug"];

/// The broker `named`, or the newest of the target folder this program stands in.
pub fn find(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    find_program(BROKER, named)
}

/// The binary `named`, or the newest of this `program` in the target folder this one stands in.
pub fn find_program(program: &str, named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(path) = named {
        ensure!(path.is_file(), "{} is no file", path.display());
        return Ok(path.canonicalize()?);
    }
    let this = std::env::current_exe()?;
    let target = this.ancestors().find(|folder| PROFILES.iter().any(|profile| folder.join(profile).is_dir()));
    newest(target.context("this program stands in no target folder")?, program)
}

fn newest(target: &Path, program: &str) -> anyhow::Result<PathBuf> {
    PROFILES
        .iter()
        .map(|profile| target.join(profile).join(program))
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .max()
        .map(|(_, path)| path)
        .with_context(|| format!("no {program} below {}: {REMEDY}, or name it", target.display()))
}

/// The binary beside this test, which has to be as new as its sources: cargo builds it for no test of another package. `E2E_BINARY` names
/// another one, a release build for instance.
pub fn beside_test() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("E2E_BINARY") {
        return Ok(path.into());
    }
    let test = std::env::current_exe()?;
    let profile = test.ancestors().nth(2).context("tests run from target/PROFILE/deps")?;
    let path = profile.join("bucketmq");
    let built = path.metadata().and_then(|metadata| metadata.modified()).with_context(|| format!("no {}: {REMEDY}", path.display()))?;
    if let Some(source) = newer_source(&profile.join("bucketmq.d"), built) {
        bail!("{} is older than {}: {REMEDY}", path.display(), source.display());
    }
    Ok(path)
}

/// Cargo writes beside a binary which files it was made of.
fn newer_source(dependencies: &Path, built: SystemTime) -> Option<PathBuf> {
    let text = std::fs::read_to_string(dependencies).ok()?;
    let (_, sources) = text.split_once(": ")?;
    let is_newer = |source: &PathBuf| source.metadata().and_then(|metadata| metadata.modified()).is_ok_and(|modified| modified > built);
    sources.split_whitespace().map(PathBuf::from).find(is_newer)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_named_has_to_be_there() {
        assert!(find(Some("/no/such/bucketmq".into())).unwrap_err().to_string().contains("is no file"));
    }

    #[test]
    fn the_newest_build_is_taken() {
        let target = tempfile::tempdir().unwrap();
        assert!(newest(target.path(), BROKER).unwrap_err().to_string().contains("cargo build"));
        for (profile, age) in [("release", 20), ("debug", 10)] {
            fs::create_dir(target.path().join(profile)).unwrap();
            let file = fs::File::create(target.path().join(profile).join("bucketmq")).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        assert!(newest(target.path(), BROKER).unwrap().ends_with("debug/bucketmq"));
    }

    #[test]
    fn a_source_that_changed_since_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (list, source) = (folder.path().join("bucketmq.d"), folder.path().join("main.rs"));
        fs::write(&source, "").unwrap();
        fs::write(&list, format!("bucketmq: {}\n", source.display())).unwrap();
        assert_eq!(newer_source(&list, SystemTime::now() - Duration::from_secs(9)), Some(source));
        assert_eq!(newer_source(&list, SystemTime::now() + Duration::from_secs(9)), None);
    }
}
