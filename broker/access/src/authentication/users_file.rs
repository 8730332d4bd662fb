//! The users file: its lines, and the users they make. The format is described in [`super`].

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::Job;
use super::credential::{Credential, SCRAM, SecretError, Work};
use super::scram::{ITERATIONS_DEFAULT, Mechanism, SALT_LEN, ScramVerifier};
use crate::authorization::{RoleSet, Roles, check_role_name};

/// Roles of one user. Each is a list of rules that a principal may have to ask; 32 of them are more than a person can keep apart.
pub(crate) const ROLES_MAX: usize = 32;
/// What a User Name of CONNECT can hold.
const NAME_LEN_MAX: usize = 65_535;

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each message says it")]
pub enum UserError {
    #[error("the line has {0} fields, expected `name:secret:roles`, such as `ann:$argon2id$...:operator,sensor`")]
    Fields(usize),
    #[error("the user name is empty")]
    NameEmpty,
    #[error("the user name begins or ends with white space; write `%20` for a space that belongs to it")]
    NameWhiteSpace,
    #[error("the user name has `{0}`, expected `%` and two hexadecimal digits; write `%25` for a percent sign")]
    NameEscape(String),
    #[error("the user name is not UTF-8, has more than {NAME_LEN_MAX} bytes, or contains U+0000, so that no CONNECT could hold it")]
    NameText,
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("`{0}` is no name of a role, expected letters, digits, `_`, `-`, `.`, and commas between names")]
    RoleName(String),
    #[error("{0} roles, expected at most {ROLES_MAX}")]
    TooManyRoles(usize),
    #[error("`{0}` is no option, expected `enabled=true` or `enabled=false`")]
    Option(String),
    #[error("user `{name}` stands already in line {first}; expected each name once")]
    Duplicate { name: String, first: usize },
    #[error("user `{user}` has the role `{role}`, which is not configured; expected `local` or a name under `access.roles`")]
    UnknownRole { user: String, role: String },
    #[error("the file is not UTF-8")]
    Utf8,
}

/// A line as it was read, before it is known whether its roles exist.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    pub(crate) name: String,
    /// The field as it stands; it was checked.
    pub(crate) secret: &'a str,
    pub(crate) credential: Option<Credential>,
    pub(crate) roles: Vec<&'a str>,
    pub(crate) enabled: bool,
}

impl<'a> Line<'a> {
    /// `None` for a comment.
    pub(crate) fn parse(text: &'a str) -> Result<Option<Self>, UserError> {
        if text.trim().is_empty() || text.starts_with('#') {
            return Ok(None);
        }
        let short = || UserError::Fields(text.split(':').count());
        let (name, rest) = text.trim_end().split_once(':').ok_or_else(short)?;
        // A verifier of SCRAM has two colons of its own: it stands here as other programs write it.
        let colons = if rest.starts_with(SCRAM) { 2 } else { 0 };
        let (end, _) = rest.match_indices(':').nth(colons).ok_or_else(short)?;
        let (secret, rest) = (&rest[..end], &rest[end + 1..]);
        let mut fields = rest.split(':');
        let roles = fields.next().unwrap_or_default();
        let name = decode_name(name)?;
        let credential = Credential::parse(secret)?;
        let roles = parse_roles(roles)?;
        let mut enabled = None;
        for option in fields {
            enabled = match (option, enabled) {
                ("enabled=true", None) => Some(true),
                ("enabled=false", None) => Some(false),
                _ => return Err(UserError::Option(option.to_owned())),
            };
        }
        Ok(Some(Self { name, secret, credential, roles, enabled: enabled.unwrap_or(true) }))
    }

    /// The line that says this.
    pub(crate) fn format(name: &str, secret: &str, roles: &[String], enabled: bool) -> String {
        let enabled = if enabled { "" } else { ":enabled=false" };
        format!("{}:{secret}:{}{enabled}", encode_name(name), roles.join(","))
    }
}

fn parse_roles(text: &str) -> Result<Vec<&str>, UserError> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let roles: Vec<&str> = text.split(',').map(str::trim).collect();
    if let Some(bad) = roles.iter().find(|role| !check_role_name(role)) {
        return Err(UserError::RoleName((*bad).to_owned()));
    }
    if roles.len() > ROLES_MAX {
        return Err(UserError::TooManyRoles(roles.len()));
    }
    Ok(roles)
}

/// Whether a user may have this name.
pub(crate) fn check_name(name: &str) -> Result<(), UserError> {
    match name {
        "" => Err(UserError::NameEmpty),
        name if name.len() > NAME_LEN_MAX || name.contains('\0') => Err(UserError::NameText),
        _ => Ok(()),
    }
}

fn decode_name(text: &str) -> Result<String, UserError> {
    if text.trim() != text {
        return Err(UserError::NameWhiteSpace);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let byte = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(byte.ok_or_else(|| {
            let end = rest.len().min(2);
            UserError::NameEscape(format!("%{}", String::from_utf8_lossy(&rest[..end])))
        })?);
        rest = &rest[2..];
    }
    let name = String::from_utf8(bytes).map_err(|_| UserError::NameText)?;
    check_name(&name)?;
    Ok(name)
}

fn encode_name(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for c in name.chars() {
        if matches!(c, ':' | '%' | '#') || c.is_whitespace() || c.is_control() {
            let mut utf8 = [0; 4];
            for byte in c.encode_utf8(&mut utf8).bytes() {
                write!(text, "%{byte:02X}").expect("a String takes everything");
            }
        } else {
            text.push(c);
        }
    }
    text
}

/// A user in force.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) name: Box<str>,
    /// Shared with the user of the file before, if it says the same, so that what is remembered survives a reload.
    pub(crate) credential: Option<Arc<Credential>>,
    pub(crate) roles: Arc<RoleSet>,
    pub(crate) enabled: bool,
}

impl User {
    /// The verifier of this mechanism, if there is one.
    pub(crate) fn scram(&self, mechanism: Mechanism) -> Option<&ScramVerifier> {
        self.credential.as_ref()?.scram(mechanism)
    }
}

/// The users of one file.
#[derive(Debug, Default)]
pub(crate) struct UsersFile {
    users: HashMap<Box<str>, Arc<User>>,
    /// What a refusal has to cost: the most expensive hash of the file.
    pub(crate) dummy: Option<Arc<Job>>,
    /// How verifiers of SCRAM look from outside, each look once, so that a user who is not there can look like one who is.
    scram_looks: Vec<ScramLook>,
}

/// What a Server tells of a verifier before anything is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ScramLook {
    pub(crate) mechanism: Mechanism,
    pub(crate) iterations: u32,
    pub(crate) salt_len: usize,
}

impl UsersFile {
    /// All users or the first mistake with its line, counted from 1.
    pub(crate) fn build(content: &[u8], roles: &mut Roles, before: Option<&Self>) -> Result<Self, (usize, UserError)> {
        let mut users: HashMap<Box<str>, Arc<User>> = HashMap::new();
        let mut lines: HashMap<Box<str>, usize> = HashMap::new();
        let mut dearest: Option<Work> = None;
        let mut scram_looks = Vec::new();
        for (line, text) in content.split(|byte| *byte == b'\n').enumerate().map(|(index, text)| (index + 1, text)) {
            let text = std::str::from_utf8(text).map_err(|_| (line, UserError::Utf8))?;
            let Some(read) = Line::parse(text).map_err(|problem| (line, problem))? else { continue };
            let name: Box<str> = read.name.into();
            if let Some(first) = lines.insert(name.clone(), line) {
                return Err((line, UserError::Duplicate { name: name.into(), first }));
            }
            let set = roles.set(read.roles.iter().copied());
            let set = set.map_err(|role| (line, UserError::UnknownRole { user: name.to_string(), role }))?;
            if let Some(work) = read.credential.as_ref().and_then(Credential::work)
                && dearest.is_none_or(|dearest| dearest.weight() < work.weight())
            {
                dearest = Some(work);
            }
            if let Some(look) = read.credential.as_ref().and_then(Credential::scram_look)
                && let Err(at) = scram_looks.binary_search(&look)
            {
                scram_looks.insert(at, look);
            }
            let known = before.and_then(|before| before.users.get(&name)?.credential.clone());
            let credential = match (read.credential, known) {
                (Some(new), Some(known)) if new == *known => Some(known),
                (new, _) => new.map(Arc::new),
            };
            users.insert(name.clone(), Arc::new(User { name, credential, roles: set, enabled: read.enabled }));
        }
        Ok(Self { users, dummy: dearest.map(|work| Arc::new(Job::Waste(work))), scram_looks })
    }

    /// How a user who is not there looks to SCRAM: like one of those who are, and always like the same.
    pub(crate) fn invented_look(&self, mechanism: Mechanism, choice: u64) -> ScramLook {
        let looks: Vec<&ScramLook> = self.scram_looks.iter().filter(|look| look.mechanism == mechanism).collect();
        let at = usize::try_from(choice % (looks.len() as u64).max(1)).unwrap_or(0);
        looks.get(at).map_or(ScramLook { mechanism, iterations: ITERATIONS_DEFAULT, salt_len: SALT_LEN }, |look| **look)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<User>> {
        self.users.get(name)
    }

    pub(crate) fn len(&self) -> usize {
        self.users.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn build(content: &str) -> Result<UsersFile, (usize, UserError)> {
        UsersFile::build(content.as_bytes(), &mut Roles::read(&BTreeMap::new(), 1).unwrap(), None)
    }

    #[test]
    fn users_comments_and_empty_lines_are_read() {
        let users = build("# comment\n\nann:!:local\r\n  \nurn%3adev%3A7:!:local,local:enabled=false\nbob:!:\n").unwrap();
        assert_eq!(users.len(), 3);
        assert!(users.get("ann").unwrap().enabled);
        assert!(!users.get("urn:dev:7").unwrap().enabled);
        assert!(users.get("bob").is_some() && users.get("# comment").is_none());
        assert!(users.dummy.is_none());
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        for (content, line, problem) in [
            ("a:!:local\nann", 2, UserError::Fields(1)),
            ("ann:!", 1, UserError::Fields(2)),
            (":!:local", 1, UserError::NameEmpty),
            ("ann :!:local", 1, UserError::NameWhiteSpace),
            ("%zz:!:local", 1, UserError::NameEscape("%zz".into())),
            ("a%2:!:local", 1, UserError::NameEscape("%2".into())),
            ("%00:!:local", 1, UserError::NameText),
            ("%ff:!:local", 1, UserError::NameText),
            ("ann:secret:local", 1, UserError::Secret(SecretError::NoHash)),
            ("ann:!:local,,local", 1, UserError::RoleName(String::new())),
            ("ann:!:sens or", 1, UserError::RoleName("sens or".into())),
            ("ann:!:local:disabled", 1, UserError::Option("disabled".into())),
            ("ann:!:local:enabled=true:enabled=false", 1, UserError::Option("enabled=false".into())),
            ("ann:!:local\n#\nann:!:", 3, UserError::Duplicate { name: "ann".into(), first: 1 }),
            ("ann:!:local\nbob:!:sensor", 2, UserError::UnknownRole { user: "bob".into(), role: "sensor".into() }),
        ] {
            assert_eq!(build(content).unwrap_err(), (line, problem), "{content}");
        }
        let many = format!("ann:!:{}", vec!["local"; 33].join(","));
        assert_eq!(build(&many).unwrap_err(), (1, UserError::TooManyRoles(33)));
        let binary = UsersFile::build(b"# \n\xff", &mut Roles::read(&BTreeMap::new(), 1).unwrap(), None);
        assert_eq!(binary.unwrap_err(), (2, UserError::Utf8));
    }

    #[test]
    fn a_verifier_of_scram_stands_with_its_colons() {
        let scram = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=\
                     :wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        let text = Line::format("ann", scram, &["local".to_owned()], false);
        let line = Line::parse(&text).unwrap().unwrap();
        assert_eq!((line.name.as_str(), line.secret, &line.roles[..], line.enabled), ("ann", scram, &["local"][..], false));
        assert!(build(&format!("ann:{scram}:")).unwrap().dummy.is_some());
        for (content, problem) in [
            (format!("ann:{scram}"), UserError::Fields(4)),
            ("ann:SCRAM-SHA-256$4096:x:local".to_owned(), UserError::Fields(4)),
            (format!("ann:{}:local", scram.replace("256", "1")), UserError::Secret(SecretError::Algorithm("SCRAM-SHA-1".into()))),
            (format!("ann:{}:local", scram.replace("4096", "1")), UserError::Secret(SecretError::Iterations("1".into()))),
        ] {
            assert_eq!(build(&content).unwrap_err(), (1, problem), "{content}");
        }
    }

    #[test]
    fn what_is_remembered_survives_a_reload_unless_the_hash_changed() {
        let hash = "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc";
        let mut roles = Roles::read(&BTreeMap::new(), 1).unwrap();
        let before = build(&format!("ann:{hash}:local\nbob:{hash}:local\n")).unwrap();
        let other = hash.replace("c29tZXNhbHQ", "c29tZXNhbHR0");
        let after = UsersFile::build(format!("ann:{hash}:\nbob:{other}:local").as_bytes(), &mut roles, Some(&before)).unwrap();
        let credential = |users: &UsersFile, name| users.get(name).unwrap().credential.clone().unwrap();
        assert!(Arc::ptr_eq(&credential(&before, "ann"), &credential(&after, "ann")));
        assert!(!Arc::ptr_eq(&credential(&before, "bob"), &credential(&after, "bob")));
        assert!(after.dummy.is_some());
    }

    proptest! {
        #[test]
        fn a_written_line_reads_back(name in "[^\0]{1,12}", enabled: bool, roles in proptest::collection::vec("[a-z]{1,3}", 0..3)) {
            let text = Line::format(&name, "!", &roles, enabled);
            let line = Line::parse(&text).unwrap().unwrap();
            prop_assert_eq!(&line.name, &name);
            prop_assert_eq!(line.roles, roles);
            prop_assert_eq!(line.enabled, enabled);
            prop_assert_eq!(text.lines().count(), 1);
        }

        #[test]
        fn no_line_panics(text in "\\PC{0,40}") {
            let _ = Line::parse(&text);
        }
    }
}
