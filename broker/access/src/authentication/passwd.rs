//! Changes the users file: what stands behind `bucketmq passwd`.
//!
//! Promise: the file is replaced whole or not at all, keeps its comments, order, owner and mode (0600 if it is new), also behind a
//! symbolic link; a file with a mistake in it is not touched; and two programs that change it at once do so one after the other.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64ct::{Base64UrlUnpadded, Encoding};
use zeroize::Zeroizing;

use super::credential::{Argon2Hash, SaltedSha256};
use super::scram::{ITERATIONS_MAX, ITERATIONS_MIN, Mechanism, ScramVerifier, is_portable};
use super::users_file::{Line, UserError, check_name};
use crate::authorization::check_role_name;

/// Bytes of a generated secret: 192 random bits, more than the 128 that `$sha256$` asks for, and 32 characters without padding.
const GENERATED_LEN: usize = 24;

/// What a user shall prove itself with.
#[derive(Clone, Copy)]
pub enum Secret<'a> {
    /// A password that a person thought of: kept as Argon2id.
    Password(&'a [u8]),
    /// A new random secret, handed out once in [`Changed::generated`]: kept as salted SHA-256.
    Generate,
    /// A password for SCRAM: kept as a verifier with this many iterations.
    Scram(Mechanism, u32, &'a [u8]),
    /// A new random secret for SCRAM, handed out once in [`Changed::generated`]: kept as a verifier with the fewest iterations,
    /// which are enough for what nobody can guess.
    GenerateScram(Mechanism),
    /// None: only a certificate of this name lets the user in.
    CertificateOnly,
    /// What it has now.
    Keep,
}

/// What was done.
#[derive(Debug)]
pub struct Changed {
    /// Whether the user is new.
    pub created: bool,
    /// The secret that was generated. It stands nowhere else.
    pub generated: Option<Zeroizing<String>>,
    /// The roles the user has now. None means that it may do nothing, not even connect.
    pub roles: Vec<String>,
}

/// Why the users file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum PasswdError {
    /// The file could not be read or replaced.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file has a mistake, which comes first.
    #[error("{}:{line}: {problem}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        problem: UserError,
    },
    /// The name cannot be a user's.
    #[error("{0}")]
    Name(UserError),
    /// The name cannot be a role's.
    #[error("`{0}` is no name of a role, expected 1 to 64 letters, digits, `_`, `-` or `.`")]
    Role(String),
    /// There is no such user.
    #[error("there is no user `{0}`")]
    UnknownUser(String),
    /// A password of nothing.
    #[error("the password is empty")]
    EmptyPassword,
    /// A password that Clients of SCRAM would not take, or each in its own way.
    #[error("the password is not for SCRAM: it has control characters, unassigned ones, or mixes directions of writing (RFC 4013)")]
    PasswordForScram,
    /// Too few or too many.
    #[error("{0} iterations, expected {ITERATIONS_MIN} to {ITERATIONS_MAX}")]
    Iterations(u32),
    /// The system has no random numbers.
    #[error("no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

/// Adds a user or changes its secret and roles. `roles`: `None` keeps them (a new user has none).
pub fn set_user(path: &Path, user: &str, secret: Secret<'_>, roles: Option<&[String]>) -> Result<Changed, PasswdError> {
    check_name(user).map_err(PasswdError::Name)?;
    if let Some(bad) = roles.unwrap_or_default().iter().find(|role| !check_role_name(role)) {
        return Err(PasswdError::Role(bad.clone()));
    }
    // Before the file is locked: a hash takes its time.
    let (text, generated) = match secret {
        Secret::Password(b"") => return Err(PasswdError::EmptyPassword),
        Secret::Password(password) => (Some(Argon2Hash::create(password)?), None),
        Secret::Generate => {
            let generated = generate_secret()?;
            (Some(SaltedSha256::create(generated.as_bytes())?), Some(generated))
        }
        Secret::Scram(_, _, b"") => return Err(PasswdError::EmptyPassword),
        Secret::Scram(_, iterations, _) if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations) => {
            return Err(PasswdError::Iterations(iterations));
        }
        Secret::Scram(_, _, password) if !is_portable(password) => return Err(PasswdError::PasswordForScram),
        Secret::Scram(mechanism, iterations, password) => (Some(ScramVerifier::create(mechanism, iterations, password)?), None),
        Secret::GenerateScram(mechanism) => {
            let generated = generate_secret()?;
            (Some(ScramVerifier::create(mechanism, ITERATIONS_MIN, generated.as_bytes())?), Some(generated))
        }
        Secret::CertificateOnly => (Some("!".to_owned()), None),
        Secret::Keep => (None, None),
    };
    let (created, roles) = edit(path, user, |line| {
        let secret = text.as_deref().or(line.map(|line| line.secret)).ok_or_else(|| PasswdError::UnknownUser(user.to_owned()))?;
        let kept = || line.map(|line| line.roles.iter().map(|role| (*role).to_owned()).collect()).unwrap_or_default();
        let roles: Vec<String> = roles.map_or_else(kept, <[String]>::to_vec);
        let enabled = line.is_none_or(|line| line.enabled);
        Ok((Some(Line::format(user, secret, &roles, enabled)), (line.is_none(), roles)))
    })?;
    Ok(Changed { created, generated, roles })
}

/// Shuts a user out without forgetting it, or lets it in again.
pub fn set_enabled(path: &Path, user: &str, enabled: bool) -> Result<(), PasswdError> {
    edit(path, user, |line| {
        let line = line.ok_or_else(|| PasswdError::UnknownUser(user.to_owned()))?;
        let roles: Vec<String> = line.roles.iter().map(|role| (*role).to_owned()).collect();
        Ok((Some(Line::format(user, line.secret, &roles, enabled)), ()))
    })
}

/// Removes a user.
pub fn delete_user(path: &Path, user: &str) -> Result<(), PasswdError> {
    edit(path, user, |line| match line {
        Some(_) => Ok((None, ())),
        None => Err(PasswdError::UnknownUser(user.to_owned())),
    })
}

/// The names in the file, in its order.
pub fn list_users(path: &Path) -> Result<Vec<String>, PasswdError> {
    let content = read(path)?.unwrap_or_default();
    let lines = content.lines().enumerate();
    let names = lines.filter_map(|(index, text)| parse(path, index, text).map(|line| line.map(|line| line.name)).transpose());
    names.collect()
}

/// 192 random bits as 32 characters that no shell, URL or configuration file has to quote.
pub fn generate_secret() -> Result<Zeroizing<String>, PasswdError> {
    let mut bytes = Zeroizing::new([0; GENERATED_LEN]);
    getrandom::fill(&mut *bytes)?;
    Ok(Zeroizing::new(Base64UrlUnpadded::encode_string(&*bytes)))
}

/// Replaces, adds (at the end) or removes the line of one user. `change` sees the line there is and returns the one there shall be.
fn edit<T>(
    path: &Path,
    user: &str,
    change: impl FnOnce(Option<&Line<'_>>) -> Result<(Option<String>, T), PasswdError>,
) -> Result<T, PasswdError> {
    // The file behind a symbolic link is replaced, not the link.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // The folder is what stays the same while files are renamed into it. The lock goes with the handle.
    let lock = File::open(folder).map_err(|source| failed("open", folder, source))?;
    lock.lock().map_err(|source| failed("lock", folder, source))?;

    let before = read(path)?.unwrap_or_default();
    let mut found = None;
    for (index, text) in before.lines().enumerate() {
        if let Some(line) = parse(path, index, text)?.filter(|line| line.name == user) {
            match &found {
                None => found = Some((index, line)),
                Some((first, _)) => {
                    let problem = UserError::Duplicate { name: user.to_owned(), first: first + 1 };
                    return Err(PasswdError::Broken { path: path.clone(), line: index + 1, problem });
                }
            }
        }
    }
    let (new, result) = change(found.as_ref().map(|(_, line)| line))?;
    let at = found.map(|(index, _)| index);
    let mut after = Zeroizing::new(String::with_capacity(before.len() + 256));
    for (index, text) in before.lines().enumerate() {
        let text = if Some(index) == at { new.as_deref() } else { Some(text) };
        text.into_iter().for_each(|text| after.extend([text, "\n"]));
    }
    if let (None, Some(new)) = (at, &new) {
        after.extend([new.as_str(), "\n"]);
    }
    replace(folder, path, after.as_bytes())?;
    Ok(result)
}

fn parse<'a>(path: &Path, index: usize, text: &'a str) -> Result<Option<Line<'a>>, PasswdError> {
    Line::parse(text).map_err(|problem| PasswdError::Broken { path: path.to_owned(), line: index + 1, problem })
}

/// The content, or `None` if there is no file.
fn read(path: &Path) -> Result<Option<String>, PasswdError> {
    let mut content = String::new();
    match File::open(path).and_then(|mut file| file.read_to_string(&mut content)) {
        Ok(_) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed("read", path, source)),
    }
}

/// Writes beside the file, makes that durable, then renames: whoever reads sees the old file or the new.
fn replace(folder: &Path, path: &Path, content: &[u8]) -> Result<(), PasswdError> {
    let mut random = [0; 8];
    getrandom::fill(&mut random)?;
    let temporary = folder.join(format!(".users-{:016x}.tmp", u64::from_le_bytes(random)));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        if let Ok(before) = fs::metadata(path) {
            let own = file.metadata()?;
            if (own.uid(), own.gid()) != (before.uid(), before.gid()) {
                // Or the broker, which owns the file, could not read it any more.
                std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid()))?;
            }
            file.set_permissions(fs::Permissions::from_mode(before.mode() & 0o777))?;
        }
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        // The new name is durable once its folder is.
        File::open(folder)?.sync_all()
    })();
    written.map_err(|source| {
        // After the rename there is nothing to remove, which is as well.
        let _ = fs::remove_file(&temporary);
        failed("replace", path, source)
    })
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> PasswdError {
    PasswdError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
#[path = "passwd/tests.rs"]
mod tests;
