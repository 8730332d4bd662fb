//! `bucketmq passwd`: the users file by hand or by script.
//!
//! The secret never stands on the command line, where every user of the machine could read it.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use bucketmq_access::authentication::passwd::{Changed, Secret, delete_user, set_enabled, set_user};
use bucketmq_access::authentication::{ITERATIONS_DEFAULT, ITERATIONS_MAX, ITERATIONS_MIN, Mechanism};
use clap::{ArgGroup, Args};
use serde_json::json;
use zeroize::Zeroizing;

pub(super) const EXAMPLES: &str = "\
Examples:
  bucketmq passwd /etc/bucketmq/users ann --roles operator
      asks for a password; on a terminal twice, without showing it
  printf '%s' \"$SECRET\" | bucketmq passwd users device-7 --roles sensor
  bucketmq passwd users device-8 --roles sensor --generate
      prints a new random secret, once; cheap to check, so best for fleets
  bucketmq passwd users eve --roles operator --scram
      for Clients that log in by SCRAM-SHA-256; the password itself serves, too
  bucketmq passwd users gateway.example.org --roles sensor --certificate-only
  bucketmq passwd users ann --keep --roles operator,sensor
  bucketmq passwd users ann --delete

A running broker reads the file again by itself.

Exit codes: 0 done, 1 failed and nothing changed, 2 wrong command line.";

/// A password longer than this is refused: MQTT's field for it holds 65,535 bytes.
const PASSWORD_MAX: usize = 65_535;

/// What `passwd` takes.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("action").args(["generate", "certificate_only", "keep", "delete", "enable", "disable"]))]
#[command(group = ArgGroup::new("no_roles").args(["delete", "enable", "disable"]).conflicts_with("roles").multiple(true))]
pub struct PasswdArgs {
    /// The users file; made if there is none, readable by its owner only.
    file: PathBuf,
    /// The name of the user, or of a certificate.
    user: String,
    /// The roles of the user, which replace those it has. Without any role a user may do nothing.
    #[arg(long, value_name = "ROLE,...", value_delimiter = ',')]
    roles: Option<Vec<String>>,
    /// Makes a random secret of 192 bits and prints it.
    #[arg(long)]
    generate: bool,
    /// Keeps the password, or the random secret, so that the user may prove it by SCRAM without sending it: SCRAM-SHA-256, or =SCRAM-SHA-512.
    #[arg(
        long,
        value_name = "METHOD",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = Mechanism::Sha256.name(),
        value_parser = mechanism,
        conflicts_with_all = ["certificate_only", "keep", "no_roles"]
    )]
    scram: Option<Mechanism>,
    /// Hashes that a Client of SCRAM computes each time it logs in, and who has stolen this file for each guess. A random secret needs no more than
    /// the fewest.
    #[arg(long, value_name = "COUNT", requires = "scram", conflicts_with = "generate", default_value_t = ITERATIONS_DEFAULT,
          value_parser = clap::value_parser!(u32).range(i64::from(ITERATIONS_MIN)..=i64::from(ITERATIONS_MAX)))]
    iterations: u32,
    /// Takes no password of this user, only a certificate of this name.
    #[arg(long)]
    certificate_only: bool,
    /// Keeps the secret, to change the roles only.
    #[arg(long, requires = "roles")]
    keep: bool,
    /// Removes the user.
    #[arg(long)]
    delete: bool,
    /// Shuts the user out and keeps its line.
    #[arg(long)]
    disable: bool,
    /// Lets the user in again.
    #[arg(long)]
    enable: bool,
    /// Answers with an object: user, action, roles and, if one was generated, secret.
    #[arg(long)]
    json: bool,
}

/// What was done, to be told.
#[derive(Debug)]
struct Done {
    action: &'static str,
    roles: Option<Vec<String>>,
    secret: Option<Zeroizing<String>>,
}

impl PasswdArgs {
    /// Changes the file and says what was done.
    pub fn run(self) -> ExitCode {
        match self.change(ask) {
            Ok(done) => self.tell(&done),
            Err(problem) => super::fail(&problem),
        }
    }

    fn change(&self, ask: impl FnOnce(&str) -> Result<Zeroizing<Vec<u8>>, String>) -> Result<Done, String> {
        let (file, user) = (&self.file, self.user.as_str());
        let simple = |action| Done { action, roles: None, secret: None };
        if self.delete {
            return delete_user(file, user).map(|()| simple("deleted")).map_err(|error| error.to_string());
        }
        if self.enable || self.disable {
            let action = if self.enable { "enabled" } else { "disabled" };
            return set_enabled(file, user, self.enable).map(|()| simple(action)).map_err(|error| error.to_string());
        }
        // `--roles ''` is no role, not a role without a name.
        let roles: Option<Vec<String>> = self.roles.as_ref().map(|roles| roles.iter().filter(|role| !role.is_empty()).cloned().collect());
        let password;
        let secret = if self.generate {
            self.scram.map_or(Secret::Generate, Secret::GenerateScram)
        } else if self.certificate_only {
            Secret::CertificateOnly
        } else if self.keep {
            Secret::Keep
        } else {
            password = ask(user)?;
            self.scram.map_or(Secret::Password(&password), |mechanism| Secret::Scram(mechanism, self.iterations, &password))
        };
        let Changed { created, generated, roles } = set_user(file, user, secret, roles.as_deref()).map_err(|error| error.to_string())?;
        Ok(Done { action: if created { "created" } else { "changed" }, roles: Some(roles), secret: generated })
    }

    /// The secret alone goes to stdout, so that a script can take it; the rest is for people.
    fn tell(&self, done: &Done) -> ExitCode {
        let secret = done.secret.as_deref().map(String::as_str);
        let user = &self.user;
        if done.roles.as_ref().is_some_and(Vec::is_empty) {
            eprintln!("Warning: {user} has no role and may do nothing, not even connect; give it one: --keep --roles ROLE");
        }
        if self.json {
            let mut answer = json!({ "user": user, "action": done.action });
            if let Some(roles) = &done.roles {
                answer["roles"] = json!(roles);
            }
            if let Some(secret) = secret {
                answer["secret"] = json!(secret);
            }
            return super::print(&format!("{answer}\n"));
        }
        match done.roles.as_deref() {
            Some(roles @ [_, ..]) => eprintln!("{user} {}, roles: {}", done.action, roles.join(", ")),
            _ => eprintln!("{user} {}", done.action),
        }
        secret.map_or(ExitCode::SUCCESS, |secret| super::print(&format!("{secret}\n")))
    }
}

/// The method of this name, of which clap takes the text.
pub(super) fn mechanism(name: &str) -> Result<Mechanism, String> {
    Mechanism::from_name(&name.to_ascii_uppercase()).ok_or_else(|| {
        let known = Mechanism::ALL.map(Mechanism::name);
        format!("expected {}", known.join(" or "))
    })
}

/// Twice without echo on a terminal, else the first line of stdin.
fn ask(user: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    if !io::stdin().is_terminal() {
        return first_line(io::stdin().lock());
    }
    let prompt = |text: String| {
        // To stderr, because stdout may be taken by a script.
        let mut stderr = io::stderr();
        let asked = write!(stderr, "{text}").and_then(|()| stderr.flush());
        let answer = asked.and_then(|()| rpassword::read_password()).map_err(|error| format!("cannot read the password: {error}"));
        answer.map(|answer| Zeroizing::new(answer.into_bytes()))
    };
    let first = prompt(format!("Password of {user}: "))?;
    if first.is_empty() {
        return Err("the password is empty".to_owned());
    }
    if *prompt("Again: ".to_owned())? != *first {
        return Err("these were two different passwords".to_owned());
    }
    Ok(first)
}

/// Without its end of line. A password is bytes, but a NUL or a second line shows that something else was sent.
fn first_line(input: impl BufRead) -> Result<Zeroizing<Vec<u8>>, String> {
    // One allocation, so that no copy stays behind when it grows.
    let mut line = Zeroizing::new(Vec::with_capacity(PASSWORD_MAX + 3));
    let mut input = input.take(PASSWORD_MAX as u64 + 3);
    io::Read::read_to_end(&mut input, &mut line).map_err(|error| format!("cannot read the password: {error}"))?;
    if line.ends_with(b"\n") {
        line.pop();
        if line.ends_with(b"\r") {
            line.pop();
        }
    }
    match &line[..] {
        [] => Err("the password is empty; it is read from stdin".to_owned()),
        line if line.len() > PASSWORD_MAX => Err(format!("the password is longer than {PASSWORD_MAX} bytes")),
        line if line.contains(&b'\n') || line.contains(&0) => Err("expected one line with the password on stdin, found more".to_owned()),
        _ => Ok(line),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: PasswdArgs,
    }

    fn args(folder: &tempfile::TempDir, rest: &[&str]) -> Result<PasswdArgs, clap::Error> {
        let file = folder.path().join("users").into_os_string();
        let arguments = ["passwd".into(), file].into_iter().chain(rest.iter().map(Into::into));
        Command::try_parse_from(arguments).map(|command| command.args)
    }

    fn change(folder: &tempfile::TempDir, rest: &[&str], password: &str) -> Result<Done, String> {
        args(folder, rest).unwrap().change(|_| first_line(password.as_bytes()))
    }

    fn content(folder: &tempfile::TempDir) -> String {
        std::fs::read_to_string(folder.path().join("users")).unwrap()
    }

    #[test]
    fn a_user_is_created_changed_shut_out_and_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let done = change(&folder, &["ann", "--roles", "a,b"], "secret\n").unwrap();
        assert_eq!((done.action, done.roles), ("created", Some(vec!["a".to_owned(), "b".to_owned()])));
        assert!(content(&folder).starts_with("ann:$argon2id$"));
        let before = content(&folder);
        assert_eq!(change(&folder, &["ann", "--keep", "--roles", "c"], "").unwrap().action, "changed");
        assert_eq!(content(&folder), before.replace("a,b", "c"));
        change(&folder, &["ann", "--disable"], "").unwrap();
        assert!(content(&folder).ends_with(":enabled=false\n"));
        change(&folder, &["ann", "--enable"], "").unwrap();
        change(&folder, &["ann", "--delete"], "").unwrap();
        assert_eq!(content(&folder), "");
        assert!(change(&folder, &["ann", "--delete"], "").unwrap_err().contains("there is no user `ann`"));
    }

    #[test]
    fn a_generated_secret_is_handed_out_and_a_certificate_needs_none() {
        let folder = tempfile::tempdir().unwrap();
        let done = change(&folder, &["device", "--generate", "--roles", "a"], "").unwrap();
        assert_eq!(done.secret.unwrap().len(), 32);
        change(&folder, &["gateway", "--certificate-only"], "").unwrap();
        assert!(content(&folder).contains("\ngateway:!:"));
    }

    #[test]
    fn a_user_of_scram_has_a_verifier() {
        let folder = tempfile::tempdir().unwrap();
        change(&folder, &["ann", "--scram", "--roles", "a", "--iterations", "5000"], "secret\n").unwrap();
        change(&folder, &["bob", "--scram=scram-sha-512", "--roles", "a", "--iterations", "4096"], "secret\n").unwrap();
        assert_eq!(change(&folder, &["device", "--scram", "--generate"], "").unwrap().secret.unwrap().len(), 32);
        let content = content(&folder);
        assert!(content.starts_with("ann:SCRAM-SHA-256$5000:") && content.contains("\nbob:SCRAM-SHA-512$4096:"), "{content}");
        assert!(content.contains("\ndevice:SCRAM-SHA-256$4096:"), "{content}");
        for rest in [
            &["a", "--scram=SCRAM-SHA-1"][..],
            &["a", "--scram", "--iterations", "4095"],
            &["a", "--scram", "--iterations", "1000001"],
            &["a", "--iterations", "5000"],
            &["a", "--scram", "--generate", "--iterations", "5000"],
            &["a", "--scram", "--certificate-only"],
            &["a", "--scram", "--delete"],
            &["a", "--scram", "--keep", "--roles", "x"],
        ] {
            assert_eq!(args(&folder, rest).unwrap_err().exit_code(), 2, "{rest:?}");
        }
        assert!(change(&folder, &["a", "--scram"], "\u{7}").unwrap_err().contains("RFC 4013"));
    }

    #[test]
    fn without_roles_an_empty_list_is_told() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(change(&folder, &["a", "--generate"], "").unwrap().roles, Some(Vec::new()));
        assert_eq!(change(&folder, &["b", "--generate", "--roles", ""], "").unwrap().roles, Some(Vec::new()));
    }

    #[test]
    fn options_that_contradict_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for rest in [
            &["a", "--delete", "--generate"][..],
            &["a", "--delete", "--roles", "x"],
            &["a", "--keep"],
            &["a", "--enable", "--disable"],
            &[],
        ] {
            assert_eq!(args(&folder, rest).unwrap_err().exit_code(), 2, "{rest:?}");
        }
    }

    #[test]
    fn a_password_is_one_line_without_its_end() {
        for (input, expected) in [("a b", "a b"), ("secret\n", "secret"), ("secret\r\n", "secret"), (" \u{e9} \n", " \u{e9} ")] {
            assert_eq!(&first_line(input.as_bytes()).unwrap()[..], expected.as_bytes());
        }
        for input in ["", "\n", "\r\n", "a\nb\n", "a\0b"] {
            assert!(first_line(input.as_bytes()).is_err(), "{input:?}");
        }
        assert!(first_line(&vec![b'x'; PASSWORD_MAX][..]).is_ok());
        assert!(first_line(&vec![b'x'; PASSWORD_MAX + 1][..]).unwrap_err().contains("longer than 65535"));
    }
}
