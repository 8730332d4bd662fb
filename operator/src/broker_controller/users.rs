//! The users file: MqttUsers and the roles that MqttRoles give them, as the broker reads it.
//!
//! Promise: a hash that is there is kept as long as the password it was made of, so that nothing changes in the file while nobody changed anything; a
//! password that somebody brought is kept as argon2id only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bucketmq_access::authentication::line::{SecretField, User};
use k8s_openapi::api::core::v1::Secret;
use kube::core::{Expression, Selector, SelectorExt};
use kube::{Resource, ResourceExt};
use serde::{Deserialize, Serialize};

use crate::crd::{MqttRole, MqttUser, UserAuthentication};
use crate::names::short_hash;

/// Roles of one user that the broker takes.
const ROLES_MAX: usize = 32;
/// A Secret holds 1 MiB; the file gets what is left beside the note of where each password came from.
const TEXT_MAX: usize = 700 * 1024;

/// The rendered file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    /// The file.
    pub text: String,
    /// By user name: whose it is and what it was made of.
    pub notes: BTreeMap<String, Note>,
}

/// What is known of a line, for the next time and for the status of its MqttUser.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Name of the MqttUser.
    pub user: String,
    /// The version of the Secret its password was taken from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Why its line is not what its MqttUser says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<(String, String)>,
}

impl Users {
    /// What stands in the Secret beside the file.
    pub fn sources_text(&self) -> String {
        serde_json::to_string(&self.notes).expect("texts are JSON")
    }

    /// Reads a Secret that was written before.
    pub fn of_secret(secret: &Secret) -> Self {
        let text = |key: &str| {
            let bytes = secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.clone()).unwrap_or_default();
            String::from_utf8(bytes).unwrap_or_default()
        };
        Self { text: text("users"), notes: serde_json::from_str(&text("sources")).unwrap_or_default() }
    }

    /// SHA-256 of the file, which `/readyz` tells too.
    pub fn hash(&self) -> String {
        crate::names::sha256(&self.text)
    }

    /// The users of the file by their names.
    pub fn lines(&self) -> BTreeMap<String, User> {
        let users = self.text.lines().filter_map(|line| User::from_line(line).ok().flatten());
        users.map(|user| (user.name.clone(), user)).collect()
    }

    /// Whether it fits into a Secret.
    pub fn is_too_large(&self) -> bool {
        self.text.len() > TEXT_MAX
    }
}

/// The User Name of an MqttUser.
pub fn username(user: &MqttUser) -> String {
    user.spec.username.clone().unwrap_or_else(|| user.name_any())
}

/// Of several MqttUsers with one name the oldest has it; of equally old ones the first by name.
pub fn owners(users: &[Arc<MqttUser>]) -> BTreeMap<String, Arc<MqttUser>> {
    let mut owners: BTreeMap<String, Arc<MqttUser>> = BTreeMap::new();
    for user in users {
        let age = |user: &MqttUser| (user.creation_timestamp().map(|time| time.0), user.name_any());
        let name = username(user);
        match owners.get(&name) {
            Some(other) if age(other) <= age(user) => {}
            _ => {
                owners.insert(name, user.clone());
            }
        }
    }
    owners
}

/// The roles each MqttUser has, by its name; sorted.
pub fn roles_by_user(users: &[Arc<MqttUser>], roles: &[Arc<MqttRole>]) -> BTreeMap<String, Vec<String>> {
    let mut by_user: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for role in roles {
        for user in subjects(role, users) {
            by_user.entry(user).or_default().insert(role.name_any());
        }
    }
    by_user.into_iter().map(|(user, roles)| (user, roles.into_iter().take(ROLES_MAX).collect())).collect()
}

/// The MqttUsers that have a role.
pub fn subjects(role: &MqttRole, users: &[Arc<MqttUser>]) -> BTreeSet<String> {
    let named: BTreeSet<&String> = role.spec.subjects.users.iter().collect();
    let selector =
        role.spec.subjects.user_selector.as_ref().map(|selector| Selector::try_from(selector.clone()).unwrap_or_else(|_| nothing()));
    let selected = |user: &MqttUser| selector.as_ref().is_some_and(|selector| selector.matches(user.labels()));
    users.iter().filter(|user| named.contains(&user.name_any()) || selected(user)).map(|user| user.name_any()).collect()
}

/// A selector that Kubernetes would not take selects nobody.
fn nothing() -> Selector {
    Selector::from(Expression::In("bucketmq.io/none".to_owned(), BTreeSet::new()))
}

/// Names in a role that are no users of the broker.
pub fn unknown_subjects(role: &MqttRole, users: &[Arc<MqttUser>]) -> Vec<String> {
    let known: BTreeSet<String> = users.iter().map(|user| user.name_any()).collect();
    role.spec.subjects.users.iter().filter(|name| !known.contains(*name)).cloned().collect()
}

/// A password as it is now.
pub enum Password {
    /// By certificate only.
    None,
    /// Where it comes from has not changed.
    Unchanged {
        /// The version of the Secret.
        source: String,
    },
    /// One that was made at random.
    Random {
        /// The version of the Secret.
        source: String,
        /// It.
        password: Vec<u8>,
    },
    /// One that a person may have thought of.
    Brought {
        /// The version of the Secret.
        source: String,
        /// It.
        password: Vec<u8>,
    },
    /// It cannot be had.
    Problem {
        /// For the condition.
        reason: &'static str,
        /// For people.
        message: String,
    },
}

/// Renders the file. Hashing takes its time: call it where that does not matter. `passwords` by name of the MqttUser.
pub fn render(
    owners: &BTreeMap<String, Arc<MqttUser>>,
    roles: &BTreeMap<String, Vec<String>>,
    passwords: &BTreeMap<String, Password>,
    before: &Users,
) -> Result<Users, RenderError> {
    let known = before.lines();
    let mut users = Users::default();
    for (name, user) in owners {
        if user.meta().deletion_timestamp.is_some() {
            continue;
        }
        // Of another MqttUser of the same name: its password is not this one's.
        let is_same = before.notes.get(name).is_some_and(|note| note.user == user.name_any());
        let kept = known.get(name).filter(|_| is_same).map(|line| line.secret.clone());
        let mut note = Note { user: user.name_any(), ..Note::default() };
        let secret = secret_of(passwords.get(&user.name_any()), kept, &mut note)?;
        let roles = roles.get(&user.name_any()).cloned().unwrap_or_default();
        if let Some(secret) = secret {
            let line = User { name: name.clone(), secret, roles, enabled: user.spec.enabled };
            match line.to_line() {
                Ok(line) => {
                    users.text.push_str(&line);
                    users.text.push('\n');
                }
                Err(error) => note.problem = Some(("InvalidUsername".to_owned(), error.to_string())),
            }
        }
        users.notes.insert(name.clone(), note);
    }
    Ok(users)
}

/// Why no file could be rendered.
#[derive(Debug, thiserror::Error)]
#[error("no random numbers for a salt: {0}")]
pub struct RenderError(String);

impl From<bucketmq_access::authentication::passwd::PasswdError> for RenderError {
    fn from(error: bucketmq_access::authentication::passwd::PasswdError) -> Self {
        Self(error.to_string())
    }
}

fn secret_of(password: Option<&Password>, kept: Option<SecretField>, note: &mut Note) -> Result<Option<SecretField>, RenderError> {
    fn random(error: impl std::fmt::Display) -> RenderError {
        RenderError(error.to_string())
    }
    let secret = match password {
        None => kept,
        Some(Password::None) => Some(SecretField::certificate_only()),
        Some(Password::Unchanged { source }) => {
            note.source.clone_from(source);
            kept
        }
        Some(Password::Random { source, password }) => {
            note.source.clone_from(source);
            match kept {
                Some(kept) if kept.is_of(password) => Some(kept),
                _ => Some(SecretField::salted_sha256(password).map_err(random)?),
            }
        }
        Some(Password::Brought { source, password }) => {
            note.source.clone_from(source);
            match kept {
                Some(kept) if kept.is_of(password) => Some(kept),
                _ => Some(SecretField::argon2id(password).map_err(random)?),
            }
        }
        Some(Password::Problem { reason, message }) => {
            note.problem = Some(((*reason).to_owned(), message.clone()));
            kept
        }
    };
    Ok(secret)
}

/// The key of a Secret that a password stands in, and whether somebody brought it. `None`: by certificate only.
pub fn password_source(user: &MqttUser) -> Option<(String, String, bool)> {
    if user.spec.authentication == UserAuthentication::Certificate {
        return None;
    }
    Some(match &user.spec.password {
        Some(password) => (password.secret_ref.name.clone(), password.secret_ref.key.clone(), true),
        None => (crate::names::credentials(&user.name_any()), "password".to_owned(), false),
    })
}

/// The version of a Secret as a short text, with the key in it: another key of the same Secret is another source.
pub fn version_of(secret: &impl Resource, key: &str) -> String {
    let meta = secret.meta();
    short_hash(format!("{}/{}/{key}", meta.uid.as_deref().unwrap_or_default(), meta.resource_version.as_deref().unwrap_or_default()))
}

#[cfg(test)]
mod tests;
