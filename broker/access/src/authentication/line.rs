//! Single lines of a users file, for programs that render the whole file and keep it elsewhere than on disk.

use std::fmt;

use zeroize::Zeroizing;

use super::credential::{Argon2Hash, Credential, MemoryKey, SaltedSha256, SecretError};
use super::users_file::{Line, ROLES_MAX, UserError, check_name};
use crate::authorization::check_role_name;

/// What a user of a line proves itself with, as it stands in the line: a hash, or `!`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretField(Zeroizing<String>);

/// Hashes are not shown either.
impl fmt::Debug for SecretField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretField")
    }
}

impl SecretField {
    /// Argon2id of a password that a person thought of. Takes some 35 ms of CPU and 19 MiB.
    pub fn argon2id(password: &[u8]) -> Result<Self, getrandom::Error> {
        Argon2Hash::create(password).map(Self::new)
    }

    /// Salted SHA-256 of a secret that has at least 128 random bits; nothing else may be kept so.
    pub fn salted_sha256(secret: &[u8]) -> Result<Self, getrandom::Error> {
        SaltedSha256::create(secret).map(Self::new)
    }

    /// None: only a certificate of its name lets the user in.
    pub fn certificate_only() -> Self {
        Self::new("!".to_owned())
    }

    /// What somebody has hashed already, such as `$argon2id$...` or a verifier of SCRAM; what no users file could hold is refused.
    pub fn verbatim(text: &str) -> Result<Self, SecretError> {
        Credential::parse(text).map(|_| Self::new(text.to_owned()))
    }

    fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Whether this is a password of it; as slow as the hash is.
    pub fn is_of(&self, password: &[u8]) -> bool {
        let Ok(key) = MemoryKey::random() else { return false };
        matches!(Credential::parse(&self.0), Ok(Some(credential)) if credential.verify(&key, password))
    }
}

/// A user as the users file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The User Name in CONNECT, or the name in a certificate.
    pub name: String,
    /// What it proves itself with.
    pub secret: SecretField,
    /// Its roles.
    pub roles: Vec<String>,
    /// Whether it is let in.
    pub enabled: bool,
}

impl User {
    /// Its line, without the end of the line.
    pub fn to_line(&self) -> Result<String, UserError> {
        check_name(&self.name)?;
        if let Some(bad) = self.roles.iter().find(|role| !check_role_name(role)) {
            return Err(UserError::RoleName(bad.clone()));
        }
        if self.roles.len() > ROLES_MAX {
            return Err(UserError::TooManyRoles(self.roles.len()));
        }
        Ok(Line::format(&self.name, &self.secret.0, &self.roles, self.enabled))
    }

    /// The user of a line; `None` for a comment or nothing.
    pub fn from_line(line: &str) -> Result<Option<Self>, UserError> {
        let user = Line::parse(line)?.map(|line| Self {
            secret: SecretField::new(line.secret.to_owned()),
            roles: line.roles.iter().map(|role| (*role).to_owned()).collect(),
            enabled: line.enabled,
            name: line.name,
        });
        Ok(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(secret: SecretField) -> User {
        User { name: "ann: the first".to_owned(), secret, roles: vec!["a".to_owned(), "b".to_owned()], enabled: false }
    }

    #[test]
    fn a_line_says_the_user_it_was_made_of() {
        for secret in [SecretField::certificate_only(), SecretField::salted_sha256(b"0123456789abcdef0123456789abcdef").unwrap()] {
            let user = user(secret);
            assert_eq!(User::from_line(&user.to_line().unwrap()).unwrap(), Some(user));
        }
    }

    #[test]
    fn a_secret_knows_its_password_and_no_other() {
        for secret in [SecretField::argon2id(b"correct").unwrap(), SecretField::salted_sha256(b"correct").unwrap()] {
            assert!(secret.is_of(b"correct"));
            assert!(!secret.is_of(b"wrong"));
        }
        assert!(!SecretField::certificate_only().is_of(b""));
    }

    #[test]
    fn a_name_or_role_that_no_line_could_hold_is_refused() {
        let mut nobody = user(SecretField::certificate_only());
        nobody.name.clear();
        assert_eq!(nobody.to_line(), Err(UserError::NameEmpty));
        let mut strange = user(SecretField::certificate_only());
        strange.roles = vec!["a,b".to_owned()];
        assert_eq!(strange.to_line(), Err(UserError::RoleName("a,b".to_owned())));
        strange.roles = vec!["a".to_owned(); 33];
        assert_eq!(strange.to_line(), Err(UserError::TooManyRoles(33)));
    }

    #[test]
    fn a_hash_that_somebody_brings_is_taken_as_it_is_and_a_password_is_not() {
        let hash = "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc";
        let scram = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=\
                     :wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        for text in [hash, scram, "!"] {
            let user = user(SecretField::verbatim(text).unwrap());
            let line = user.to_line().unwrap();
            assert!(line.contains(text), "{line}");
            assert_eq!(User::from_line(&line).unwrap(), Some(user));
        }
        // The password of RFC 7677's example.
        assert!(SecretField::verbatim(scram).unwrap().is_of(b"pencil"));
        assert_eq!(SecretField::verbatim("pencil"), Err(SecretError::NoHash));
        assert_eq!(SecretField::verbatim(""), Err(SecretError::Empty));
        assert!(SecretField::verbatim(&format!("{hash}:local")).is_err(), "it would be another field");
    }

    #[test]
    fn a_hash_is_not_shown() {
        let secret = SecretField::salted_sha256(b"0123456789abcdef").unwrap();
        assert_eq!(format!("{secret:?}"), "SecretField");
    }
}
