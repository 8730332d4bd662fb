//! All that is in force at one time: configuration, roles, users. Made whole or not at all, never changed.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::authentication::{Job, User, UserError, UsersFile};
use crate::authorization::{RoleError, RoleSet, Roles};
use crate::config::Config;
use crate::principal::AnonymousRole;

/// Why access could not be loaded or reloaded. After a failed reload, what was in force stays in force.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The users file could not be read.
    #[error("access.users_file: cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The users file has a mistake.
    #[error("{}:{line}: {problem}", path.display())]
    UsersFile {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong and what was expected.
        problem: UserError,
    },
    /// A role has a mistake.
    #[error(transparent)]
    Role(#[from] RoleError),
    /// `certificate_roles` names what is not there.
    #[error("access.certificate_roles: `{0}` is not configured; expected `local` or a name under `access.roles`")]
    CertificateRole(String),
    /// The system has no random numbers, without which no password can be remembered.
    #[error("no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

pub(crate) struct Snapshot {
    pub(crate) config: Config,
    /// SHA-256 of the users file, in hexadecimal.
    pub(crate) users_hash: Option<Arc<str>>,
    users: Option<UsersFile>,
    anonymous: HashMap<String, Arc<AnonymousRole>>,
    /// Of certificates whose name is not in the users file.
    certificate_roles: Option<Arc<RoleSet>>,
}

impl Snapshot {
    /// `content`: of the users file, if one is configured. `before`: from whom what is remembered is taken over.
    pub(crate) fn build(config: &Config, content: Option<&[u8]>, generation: u64, before: Option<&Self>) -> Result<Self, LoadError> {
        let mut roles = Roles::read(&config.roles, generation)?;
        let users = match (&config.users_file, content) {
            (Some(path), Some(content)) => {
                let users = UsersFile::build(content, &mut roles, before.and_then(|before| before.users.as_ref()));
                Some(users.map_err(|(line, problem)| LoadError::UsersFile { path: path.clone(), line, problem })?)
            }
            _ => None,
        };
        let certificate_roles = match &config.certificate_roles[..] {
            [] => None,
            names => Some(roles.set(names.iter().map(String::as_str)).map_err(LoadError::CertificateRole)?),
        };
        let anonymous = roles.each().into_iter().map(|(name, roles)| {
            let role = AnonymousRole { name: name.as_str().into(), roles };
            (name, Arc::new(role))
        });
        Ok(Self { config: config.clone(), users_hash: content.map(hash), users, anonymous: anonymous.collect(), certificate_roles })
    }

    pub(crate) fn users(&self) -> Option<&UsersFile> {
        self.users.as_ref()
    }

    pub(crate) fn user_count(&self) -> usize {
        self.users.as_ref().map_or(0, UsersFile::len)
    }

    pub(crate) fn anonymous(&self, role: &str) -> Option<Arc<AnonymousRole>> {
        self.anonymous.get(role).cloned()
    }

    /// Who the holder of a verified certificate is.
    pub(crate) fn certified(&self, identity: &str) -> Option<Arc<User>> {
        if let Some(user) = self.users.as_ref().and_then(|users| users.get(identity)) {
            return user.enabled.then(|| user.clone());
        }
        let roles = self.certificate_roles.clone().filter(|_| !identity.is_empty())?;
        Some(Arc::new(User { name: identity.into(), credential: None, roles, enabled: true }))
    }

    pub(crate) fn accepts_certificates(&self) -> bool {
        self.users.is_some() || self.certificate_roles.is_some()
    }

    /// What a refusal has to compute, if any user's hash is slow.
    pub(crate) fn dummy(&self) -> Option<Arc<Job>> {
        self.users.as_ref()?.dummy.clone()
    }
}

pub(crate) fn hash(content: &[u8]) -> Arc<str> {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}
