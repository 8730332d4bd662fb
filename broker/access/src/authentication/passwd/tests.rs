//! Changing the users file.

use super::super::credential::Credential;
use super::*;

struct Fixture {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn fixture(content: &str) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users");
    if !content.is_empty() {
        fs::write(&path, content).unwrap();
    }
    Fixture { _folder: folder, path }
}

fn content(fixture: &Fixture) -> String {
    fs::read_to_string(&fixture.path).unwrap()
}

fn mode(fixture: &Fixture) -> u32 {
    fs::metadata(&fixture.path).unwrap().mode() & 0o777
}

fn secret_of(fixture: &Fixture, user: &str) -> String {
    let content = content(fixture);
    let mut lines = content.lines().filter_map(|line| Line::parse(line).unwrap());
    lines.find(|line| line.name == user).unwrap().secret.to_owned()
}

fn verifies(secret: &str, password: &[u8]) -> bool {
    let key = super::super::credential::MemoryKey::random().unwrap();
    Credential::parse(secret).unwrap().unwrap().verify(&key, password)
}

#[test]
fn a_new_file_is_for_its_owner_only() {
    let users = fixture("");
    let changed = set_user(&users.path, "ann", Secret::Password(b"pa:ss"), Some(&["sensor".into(), "local".into()])).unwrap();
    assert!(changed.created && changed.generated.is_none());
    assert_eq!(changed.roles, ["sensor", "local"]);
    assert_eq!(mode(&users), 0o600);
    assert!(content(&users).starts_with("ann:$argon2id$v=19$") && content(&users).ends_with(":sensor,local\n"));
    assert!(verifies(&secret_of(&users, "ann"), b"pa:ss"));
    assert!(!content(&users).contains("pa:ss"));
}

#[test]
fn a_generated_secret_is_told_once_and_kept_as_sha256() {
    let users = fixture("");
    let changed = set_user(&users.path, "device-7", Secret::Generate, None).unwrap();
    let generated = changed.generated.unwrap();
    assert_eq!(Base64UrlUnpadded::decode_vec(&generated).unwrap().len() * 8, 192);
    assert!(secret_of(&users, "device-7").starts_with("$sha256$"));
    assert!(verifies(&secret_of(&users, "device-7"), generated.as_bytes()));
    assert!(!content(&users).contains(generated.as_str()));
    assert_ne!(*generated, *generate_secret().unwrap());
}

#[test]
fn a_change_keeps_comments_order_roles_and_mode() {
    let users = fixture("# ours\nann:!:a,b:enabled=false\n\n# theirs\nbob:!:b");
    fs::set_permissions(&users.path, fs::Permissions::from_mode(0o640)).unwrap();
    let changed = set_user(&users.path, "ann", Secret::Generate, None).unwrap();
    assert!(!changed.created);
    assert_eq!(changed.roles, ["a", "b"]);
    let secret = secret_of(&users, "ann");
    assert_eq!(content(&users), format!("# ours\nann:{secret}:a,b:enabled=false\n\n# theirs\nbob:!:b\n"));
    assert_eq!(mode(&users), 0o640);

    set_user(&users.path, "bob", Secret::Keep, Some(&[])).unwrap();
    set_user(&users.path, "ann", Secret::CertificateOnly, None).unwrap();
    set_enabled(&users.path, "ann", true).unwrap();
    set_enabled(&users.path, "bob", false).unwrap();
    assert_eq!(content(&users), "# ours\nann:!:a,b\n\n# theirs\nbob:!::enabled=false\n");

    delete_user(&users.path, "ann").unwrap();
    assert_eq!(content(&users), "# ours\n\n# theirs\nbob:!::enabled=false\n");
    assert_eq!(list_users(&users.path).unwrap(), ["bob"]);
}

#[test]
fn names_that_would_break_the_format_are_escaped() {
    let users = fixture("");
    for name in ["urn:dev:1", "#1", " a b ", "50%", "line\nbreak:!:local", "é"] {
        set_user(&users.path, name, Secret::CertificateOnly, None).unwrap();
    }
    assert_eq!(list_users(&users.path).unwrap(), ["urn:dev:1", "#1", " a b ", "50%", "line\nbreak:!:local", "é"]);
    assert_eq!(content(&users).lines().count(), 6);
}

#[test]
fn what_cannot_be_is_refused_and_nothing_is_written() {
    let users = fixture("");
    let set = |user: &str, secret, roles: Option<&[String]>| set_user(&users.path, user, secret, roles).unwrap_err().to_string();
    assert_eq!(set("", Secret::Generate, None), "the user name is empty");
    assert!(set("a\0", Secret::Generate, None).contains("U+0000"));
    assert_eq!(set("ann", Secret::Password(b""), None), "the password is empty");
    assert_eq!(set("ann", Secret::Keep, None), "there is no user `ann`");
    assert!(set("ann", Secret::Generate, Some(&["a,b".into()])).starts_with("`a,b` is no name of a role"));
    assert_eq!(delete_user(&users.path, "ann").unwrap_err().to_string(), "there is no user `ann`");
    assert_eq!(set_enabled(&users.path, "ann", true).unwrap_err().to_string(), "there is no user `ann`");
    assert!(!users.path.exists());
    let lost = users.path.join("no/folder");
    assert!(matches!(set_user(&lost, "ann", Secret::Generate, None), Err(PasswdError::Io { action: "open", .. })));
}

#[test]
fn a_file_with_a_mistake_is_not_touched() {
    for (text, line) in [("ann:!:a\nbob:hunter2:a\n", 2), ("ann:!:a\nann:!:b\n", 2), ("x\n", 1)] {
        let users = fixture(text);
        let error = set_user(&users.path, "ann", Secret::CertificateOnly, None).unwrap_err();
        assert!(matches!(error, PasswdError::Broken { line: at, .. } if at == line), "{error}");
        assert_eq!(content(&users), text);
    }
}

#[test]
fn a_symbolic_link_stays_one() {
    let users = fixture("ann:!:a\n");
    let link = users.path.with_file_name("link");
    std::os::unix::fs::symlink("users", &link).unwrap();
    set_user(&link, "bob", Secret::CertificateOnly, None).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(content(&users), "ann:!:a\nbob:!:\n");
    assert_eq!(fs::read_dir(users.path.parent().unwrap()).unwrap().count(), 2, "nothing is left behind");
}

#[test]
fn changes_at_once_happen_one_after_the_other() {
    let users = fixture("");
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let path = &users.path;
            scope.spawn(move || {
                for user in 0..5 {
                    set_user(path, &format!("user-{thread}-{user}"), Secret::CertificateOnly, None).unwrap();
                }
            });
        }
    });
    assert_eq!(list_users(&users.path).unwrap().len(), 40);
}

#[test]
fn a_password_for_scram_is_kept_as_a_verifier() {
    let users = fixture("# ours\nbob:!:b\n");
    set_user(&users.path, "ann", Secret::Scram(Mechanism::Sha256, 5000, "p\u{e4}ss".as_bytes()), Some(&["a".into()])).unwrap();
    assert!(secret_of(&users, "ann").starts_with("SCRAM-SHA-256$5000:"));
    assert!(verifies(&secret_of(&users, "ann"), "pa\u{308}ss".as_bytes()), "however it is composed");
    let generated = set_user(&users.path, "device", Secret::GenerateScram(Mechanism::Sha512), None).unwrap().generated.unwrap();
    assert!(secret_of(&users, "device").starts_with("SCRAM-SHA-512$4096:"));
    assert!(verifies(&secret_of(&users, "device"), generated.as_bytes()));
    // The line is one of the file like any other.
    let secret = secret_of(&users, "ann");
    set_user(&users.path, "ann", Secret::Keep, Some(&["c".into()])).unwrap();
    set_enabled(&users.path, "ann", false).unwrap();
    assert!(content(&users).starts_with(&format!("# ours\nbob:!:b\nann:{secret}:c:enabled=false\ndevice:SCRAM-SHA-512$")));
}

#[test]
fn a_password_that_scram_cannot_take_is_refused() {
    let users = fixture("");
    let set = |iterations, password: &[u8]| set_user(&users.path, "a", Secret::Scram(Mechanism::Sha256, iterations, password), None);
    assert!(matches!(set(4096, b""), Err(PasswdError::EmptyPassword)));
    assert!(matches!(set(4096, b"\x07"), Err(PasswdError::PasswordForScram)));
    assert!(matches!(set(4096, b"\xFF"), Err(PasswdError::PasswordForScram)));
    assert!(matches!(set(4095, b"secret"), Err(PasswdError::Iterations(4095))));
    assert!(matches!(set(1_000_001, b"secret"), Err(PasswdError::Iterations(_))));
    assert!(!users.path.exists());
}
