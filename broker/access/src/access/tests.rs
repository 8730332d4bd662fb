//! Clients of all kinds, and what reloads do to them.

use std::fs;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::*;
use crate::authentication::passwd::{self, Secret};
use crate::authentication::{Mechanism, ScramClient};

/// "password", at a cost that tests can bear.
const ARGON2: &str = "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc";
/// Another salt, so no known password.
const OTHER: &str = "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHR0$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc";

const ROLES: &str = r##"
certificate_roles = []
[roles.sensor]
rules = ["allow connect", "allow publish site/%c/#", "allow subscribe cmd/%u/#", "deny publish $SYS/#"]
[roles.own]
rules = ["allow connect %u-*", "allow publish out/#"]
[roles.mute]
rules = ["deny publish #"]
"##;

struct Fixture {
    folder: tempfile::TempDir,
    config: Config,
    access: Access,
}

impl Fixture {
    fn new(users: &str) -> Self {
        Self::with_config(users, ROLES)
    }

    fn with_config(users: &str, config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        fs::write(&path, users).unwrap();
        let config = Config { users_file: Some(path), ..toml::from_str(config).unwrap() };
        let access = Access::load(&config).unwrap();
        Self { folder, config, access }
    }

    fn users(&self) -> &Path {
        self.config.users_file.as_deref().unwrap()
    }

    fn write_users(&self, users: &str) {
        fs::write(self.users(), users).unwrap();
    }

    async fn by_password(&self, username: &str, password: &str) -> Result<Principal, Refusal> {
        self.access.authenticate(password_of(username, password)).await
    }
}

fn nothing() -> Attempt<'static> {
    Attempt {
        client_id: "c1",
        username: None,
        password: None,
        certificate_identity: None,
        anonymous_role: None,
        listener: "tcp",
        remote_addr: None,
    }
}

fn password_of<'a>(username: &'a str, password: &'a str) -> Attempt<'a> {
    Attempt { username: Some(username), password: Some(password.as_bytes()), ..nothing() }
}

fn certificate(identity: &str) -> Attempt<'_> {
    Attempt { certificate_identity: Some(identity), ..nothing() }
}

fn anonymous(role: &str) -> Attempt<'_> {
    Attempt { anonymous_role: Some(role), ..nothing() }
}

/// Whether the answer has to wait for a hash.
fn must_hash(access: &Access, attempt: Attempt<'_>) -> bool {
    access.authenticate_now(&attempt).is_none()
}

/// Polls once: `None` if that was not enough.
fn at_once(access: &Access, attempt: Attempt<'_>) -> Option<Result<Principal, Refusal>> {
    match pin!(access.authenticate(attempt)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

fn reason(result: Result<Principal, Refusal>) -> ReasonCode {
    result.unwrap_err().reason_code
}

#[test]
fn anonymous_clients_are_let_in_only_where_a_listener_says_as_what() {
    let access = Access::load(&Config::default()).unwrap();
    let principal = at_once(&access, anonymous("local")).unwrap().unwrap();
    assert_eq!((principal.username(), principal.method()), (None, AuthenticationMethod::Anonymous));
    assert!(principal.may_publish("a") && !principal.may_publish("$SYS/a") && principal.may_subscribe("$SYS/#"));
    assert_eq!(reason(at_once(&access, nothing()).unwrap()), ReasonCode::NotAuthorized);
    assert_eq!(reason(at_once(&access, anonymous("sensor")).unwrap()), ReasonCode::NotAuthorized);
}

#[test]
fn principals_of_roles_without_placeholders_share_their_rules() {
    let access = Access::load(&Config::default()).unwrap();
    let [a, b] = [(); 2].map(|()| at_once(&access, anonymous("local")).unwrap().unwrap());
    assert!(Arc::ptr_eq(&a.rules, &b.rules));
}

#[tokio::test]
async fn user_name_and_password_are_ignored_only_where_nothing_could_check_them() {
    let access = Access::load(&Config::default()).unwrap();
    let attempt = Attempt { anonymous_role: Some("local"), ..password_of("ann", "password") };
    let principal = at_once(&access, attempt).unwrap().unwrap();
    assert_eq!(principal.username(), None, "a name that nobody checked is no name");
    assert_eq!(reason(at_once(&access, password_of("ann", "password")).unwrap()), ReasonCode::BadUserNameOrPassword);

    let fixture = Fixture::new(&format!("ann:{ARGON2}:sensor"));
    for attempt in [password_of("ann", "wrong"), password_of("bob", "password")] {
        let result = fixture.access.authenticate(Attempt { anonymous_role: Some("local"), ..attempt }).await;
        assert_eq!(reason(result), ReasonCode::BadUserNameOrPassword);
    }
    for attempt in [Attempt { password: None, ..password_of("ann", "") }, Attempt { username: None, ..password_of("", "password") }] {
        let result = at_once(&fixture.access, Attempt { anonymous_role: Some("local"), ..attempt }).unwrap();
        assert_eq!(reason(result), ReasonCode::BadUserNameOrPassword);
    }
}

#[tokio::test]
async fn a_password_is_hashed_once_and_then_remembered() {
    let fixture = Fixture::new(&format!("ann:{ARGON2}:sensor"));
    assert!(must_hash(&fixture.access, password_of("ann", "password")));
    let principal = fixture.by_password("ann", "password").await.unwrap();
    assert_eq!((principal.username(), principal.method()), (Some("ann"), AuthenticationMethod::Password));
    assert!(principal.may_publish("site/c1/t") && !principal.may_publish("site/c2/t"));
    assert!(principal.may_subscribe("cmd/ann/#") && !principal.may_subscribe("cmd/+/#"));
    assert!(at_once(&fixture.access, password_of("ann", "password")).unwrap().is_ok());
}

#[tokio::test]
async fn a_wrong_password_is_never_remembered() {
    let fixture = Fixture::new(&format!("ann:{ARGON2}:sensor"));
    for _ in 0..2 {
        assert!(must_hash(&fixture.access, password_of("ann", "wrong")));
        assert_eq!(reason(fixture.by_password("ann", "wrong").await), ReasonCode::BadUserNameOrPassword);
    }
    fixture.by_password("ann", "password").await.unwrap();
    assert_eq!(reason(fixture.by_password("ann", "wrong").await), ReasonCode::BadUserNameOrPassword);
    assert_eq!(reason(fixture.by_password("ann", "").await), ReasonCode::BadUserNameOrPassword);
}

#[tokio::test]
async fn every_refusal_by_the_users_file_costs_a_hash_if_any_user_has_a_slow_one() {
    let sha256 = "$sha256$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let fixture = Fixture::new(&format!("ann:{ARGON2}:sensor\noff:{ARGON2}:sensor:enabled=false\ncert:!:sensor\ndev:{sha256}:sensor"));
    let mut details = Vec::new();
    for user in ["ann", "off", "cert", "dev", "nobody", ""] {
        let attempt = if user == "off" { password_of(user, "password") } else { password_of(user, "wrong") };
        assert!(must_hash(&fixture.access, attempt), "{user} must not be told apart by time");
        let refusal = fixture.access.authenticate(attempt).await.unwrap_err();
        assert_eq!(refusal.reason_code, ReasonCode::BadUserNameOrPassword);
        details.push(refusal.detail);
    }
    details.dedup();
    assert_eq!(details.len(), 1);

    let fixture = Fixture::new(&format!("dev:{sha256}:sensor"));
    for user in ["dev", "nobody"] {
        assert!(at_once(&fixture.access, password_of(user, "wrong")).unwrap().is_err(), "nothing is slow here");
    }
}

#[tokio::test]
async fn generated_secrets_are_checked_at_once() {
    let fixture = Fixture::new("");
    let changed = passwd::set_user(fixture.users(), "dev", Secret::Generate, Some(&["sensor".into()])).unwrap();
    assert!(fixture.access.changed_on_disk() && fixture.access.reload_users().unwrap());
    let secret = changed.generated.unwrap();
    assert!(at_once(&fixture.access, password_of("dev", &secret)).unwrap().is_ok());
}

#[test]
fn a_certificate_is_the_user_of_its_name() {
    let fixture = Fixture::new("gw:!:sensor\noff:!:sensor:enabled=false");
    let principal = at_once(&fixture.access, certificate("gw")).unwrap().unwrap();
    assert_eq!((principal.username(), principal.method()), (Some("gw"), AuthenticationMethod::Certificate));
    assert!(principal.may_subscribe("cmd/gw/#"));
    for stranger in ["off", "other", ""] {
        let result = at_once(&fixture.access, Attempt { anonymous_role: Some("local"), ..certificate(stranger) }).unwrap();
        assert_eq!(reason(result), ReasonCode::NotAuthorized, "{stranger}: no fall to a weaker method");
    }
}

#[test]
fn a_certificate_and_another_user_name_are_refused() {
    let fixture = Fixture::new(&format!("gw:!:sensor\nann:{ARGON2}:sensor"));
    let same = Attempt { username: Some("gw"), password: Some(b"whatever"), ..certificate("gw") };
    assert_eq!(at_once(&fixture.access, same).unwrap().unwrap().method(), AuthenticationMethod::Certificate);
    let other = Attempt { username: Some("ann"), password: Some(b"password"), ..certificate("gw") };
    assert_eq!(reason(at_once(&fixture.access, other).unwrap()), ReasonCode::BadUserNameOrPassword);
}

#[test]
fn certificates_of_unknown_names_have_the_certificate_roles() {
    let config = Config { certificate_roles: vec!["local".into()], ..Config::default() };
    let access = Access::load(&config).unwrap();
    let principal = at_once(&access, certificate("new")).unwrap().unwrap();
    assert_eq!(principal.username(), Some("new"));
    assert!(principal.may_publish("a"));
    assert_eq!(reason(at_once(&access, certificate("")).unwrap()), ReasonCode::NotAuthorized);
    assert!(access.refresh(&principal).is_some());
    assert!(access.reload(&Config::default()).unwrap());
    assert!(access.refresh(&principal).is_none());

    let fixture = Fixture::with_config("off:!:local:enabled=false", "certificate_roles = ['local']");
    assert_eq!(reason(at_once(&fixture.access, certificate("off")).unwrap()), ReasonCode::NotAuthorized);
}

#[tokio::test]
async fn roles_decide_who_may_connect() {
    let fixture = Fixture::new(&format!("ann:{ARGON2}:own\nbob:{ARGON2}:mute\neve:{ARGON2}:"));
    let as_client = |user, client_id| Attempt { client_id, ..password_of(user, "password") };
    assert!(fixture.access.authenticate(as_client("ann", "ann-1")).await.is_ok());
    for (user, client_id) in [("ann", "bob-1"), ("bob", "c1"), ("eve", "c1")] {
        let refusal = fixture.access.authenticate(as_client(user, client_id)).await.unwrap_err();
        assert_eq!((refusal.reason_code, refusal.method), (ReasonCode::NotAuthorized, AuthenticationMethod::Password), "{user}");
    }
}

#[tokio::test]
async fn a_reload_withdraws_and_grants_on_live_principals() {
    let fixture = Fixture::new(&format!("ann:{ARGON2}:sensor"));
    let principal = fixture.by_password("ann", "password").await.unwrap();
    assert_eq!(principal.generation(), fixture.access.generation());
    assert!(!fixture.access.reload(&fixture.config).unwrap(), "nothing is new");
    assert_eq!(principal.generation(), fixture.access.generation());

    fixture.write_users(&format!("ann:{ARGON2}:sensor,mute"));
    assert!(fixture.access.reload(&fixture.config).unwrap());
    assert_ne!(principal.generation(), fixture.access.generation());
    let refreshed = fixture.access.refresh(&principal).unwrap();
    assert_eq!(refreshed.generation(), fixture.access.generation());
    assert!(!refreshed.may_publish("site/c1/t") && refreshed.may_subscribe("cmd/ann/x"));
    assert!(at_once(&fixture.access, password_of("ann", "password")).unwrap().is_ok(), "still remembered");

    let mut config = fixture.config.clone();
    config.roles.get_mut("sensor").unwrap().rules = vec!["allow connect".into(), "allow publish else/%u".into()];
    config.roles.get_mut("mute").unwrap().rules.clear();
    assert!(fixture.access.reload(&config).unwrap());
    let refreshed = fixture.access.refresh(&refreshed).unwrap();
    assert!(refreshed.may_publish("else/ann") && !refreshed.may_publish("site/c1/t") && !refreshed.may_subscribe("cmd/ann/x"));
}

#[tokio::test]
async fn who_is_gone_disabled_or_has_a_new_password_does_not_survive_a_reload() {
    for users in
        ["", &format!("ann:{ARGON2}:sensor:enabled=false"), &format!("ann:{OTHER}:sensor"), "ann:!:sensor", &format!("ann:{ARGON2}:")]
    {
        let fixture = Fixture::new(&format!("ann:{ARGON2}:sensor"));
        let principal = fixture.by_password("ann", "password").await.unwrap();
        fixture.write_users(users);
        assert!(fixture.access.reload(&fixture.config).unwrap());
        assert!(fixture.access.refresh(&principal).is_none(), "{users}");
        assert!(fixture.by_password("ann", "password").await.is_err(), "{users}");
    }
    let fixture = Fixture::new("");
    let principal = at_once(&fixture.access, anonymous("sensor")).unwrap().unwrap();
    let config = Config { roles: Default::default(), ..fixture.config.clone() };
    assert!(fixture.access.reload(&config).unwrap());
    assert!(fixture.access.refresh(&principal).is_none(), "its role is gone");
}

#[tokio::test]
async fn a_certificate_user_does_not_care_about_its_password() {
    let fixture = Fixture::new(&format!("gw:{ARGON2}:sensor"));
    let principal = at_once(&fixture.access, certificate("gw")).unwrap().unwrap();
    fixture.write_users("gw:!:sensor");
    assert!(fixture.access.reload_users().unwrap());
    assert!(fixture.access.refresh(&principal).is_some());
    fixture.write_users("");
    assert!(fixture.access.reload_users().unwrap());
    assert!(fixture.access.refresh(&principal).is_none());
}

#[tokio::test]
async fn a_reload_happens_whole_or_not_at_all() {
    let fixture = Fixture::new(&format!("ann:{ARGON2}:sensor"));
    let principal = fixture.by_password("ann", "password").await.unwrap();
    let hash = fixture.access.hash();
    let mut broken_rule = fixture.config.clone();
    broken_rule.on_deny = OnDeny::Drop;
    broken_rule.roles.get_mut("own").unwrap().rules.push("allow everything".into());
    let unknown = Config { certificate_roles: vec!["gone".into()], ..fixture.config.clone() };
    let no_file = Config { users_file: Some(fixture.folder.path().join("none")), ..fixture.config.clone() };
    for (config, expected) in [
        (&broken_rule, "access.roles.own.rules[2] \"allow everything\": `everything` is no operation, expected"),
        (&unknown, "access.certificate_roles: `gone` is not configured; expected `local` or a name under `access.roles`"),
        (&no_file, "access.users_file: cannot read "),
    ] {
        let error = fixture.access.reload(config).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    fixture.write_users("bob:!:sensor\nann:!:gone");
    let error = fixture.access.reload(&fixture.config).unwrap_err().to_string();
    let expected = ":2: user `ann` has the role `gone`, which is not configured; expected `local` or a name under `access.roles`";
    assert_eq!(error, format!("{}{expected}", fixture.users().display()));

    assert_eq!((fixture.access.generation(), fixture.access.hash()), (principal.generation(), hash));
    assert_eq!((fixture.access.on_deny(), fixture.access.user_count()), (OnDeny::Reject, 1));
    assert!(at_once(&fixture.access, password_of("ann", "password")).unwrap().is_ok());
}

#[test]
fn a_broken_users_file_is_complained_about_once() {
    let fixture = Fixture::new("ann:!:sensor");
    assert!(!fixture.access.changed_on_disk());
    fixture.write_users("ann");
    assert!(fixture.access.changed_on_disk());
    assert!(fixture.access.reload_users().is_err());
    assert!(!fixture.access.changed_on_disk());
    fixture.write_users("bob:!:sensor");
    assert!(fixture.access.changed_on_disk() && fixture.access.reload_users().unwrap());
    assert!(!fixture.access.changed_on_disk());
}

#[test]
fn what_is_in_force_can_be_asked() {
    let fixture = Fixture::new("ann:!:sensor");
    // printf ann:!:sensor | sha256sum
    let hash = fixture.access.hash().unwrap();
    assert_eq!((hash.len(), &*hash), (64, &*crate::snapshot::hash(b"ann:!:sensor")));
    assert_eq!(&*crate::snapshot::hash(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert!(fixture.access.has_role("own") && fixture.access.has_role("local") && !fixture.access.has_role("x"));
    assert!(fixture.access.accepts_passwords() && fixture.access.accepts_certificates());
    let access = Access::load(&Config::default()).unwrap();
    assert!(access.hash().is_none() && !access.accepts_passwords() && !access.accepts_certificates());
}

#[tokio::test]
async fn a_user_that_changes_while_its_password_is_hashed_is_judged_by_what_is_in_force_then() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { users_file: Some(folder.path().join("users")), ..toml::from_str(ROLES).unwrap() };
    let users = config.users_file.clone().unwrap();
    fs::write(&users, format!("ann:{ARGON2}:sensor")).unwrap();
    // No lane: the attempt waits until the file has changed.
    let access = Arc::new(Access::with_verifier(&config, Verifier::with_bounds(0, 9, Duration::from_secs(60)).unwrap()).unwrap());
    let attempt = tokio::spawn({
        let access = access.clone();
        async move { access.authenticate(password_of("ann", "password")).await }
    });
    while access.verifier.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    fs::write(&users, "ann:!:sensor").unwrap();
    assert!(access.reload_users().unwrap());
    access.verifier.add_lane();
    assert_eq!(reason(attempt.await.unwrap()), ReasonCode::BadUserNameOrPassword);
}

#[test]
fn waiting_for_a_connection_costs_little_memory() {
    let access = Access::load(&Config::default()).unwrap();
    let future = access.authenticate(nothing());
    assert!(size_of_val(&future) <= 320, "{}", size_of_val(&future));
}

#[test]
fn what_is_shown_of_an_attempt_holds_no_password() {
    assert!(!format!("{:?}", password_of("ann", "hunter2")).contains("hunter2"));
}

/// "pencil", RFC 7677 3.
const SCRAM: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=\
                     :wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

impl Fixture {
    /// The Client's and the Server's side of an exchange up to the proof, which is returned with the state.
    fn challenged(&self, username: &str, password: &str) -> (ScramClient, Exchange, Vec<u8>) {
        let (mut client, client_first) = ScramClient::start(Mechanism::Sha256, username, password.as_bytes()).unwrap();
        let mut exchange = self.access.exchange("SCRAM-SHA-256").unwrap();
        let Ok(Step::Continue(server_first)) = self.access.proceed(&mut exchange, &nothing(), Some(&client_first)) else {
            panic!("no challenge")
        };
        let client_final = client.prove(&server_first).unwrap();
        (client, exchange, client_final)
    }

    fn by_scram(&self, username: &str, password: &str, attempt: &Attempt<'_>) -> Result<Principal, Refusal> {
        let (client, mut exchange, client_final) = self.challenged(username, password);
        match self.access.proceed(&mut exchange, attempt, Some(&client_final))? {
            Step::Accept(principal, server_final) => {
                client.check(&server_final).unwrap();
                assert!(self.access.proceed(&mut exchange, attempt, Some(&client_final)).is_err(), "once is enough");
                Ok(principal)
            }
            Step::Continue(_) => panic!("nothing more was to be said"),
        }
    }

    /// Salt and iterations that the Server names for this user.
    fn look(&self, mechanism: &str, username: &str) -> String {
        let mut exchange = self.access.exchange(mechanism).unwrap();
        match self.access.proceed(&mut exchange, &nothing(), Some(format!("n,,n={username},r=abc").as_bytes())) {
            Ok(Step::Continue(server_first)) => String::from_utf8(server_first).unwrap().split_once(",s=").unwrap().1.to_owned(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn scram_proves_a_user() {
    let fixture = Fixture::new(&format!("ann:{SCRAM}:sensor\n"));
    let principal = fixture.by_scram("ann", "pencil", &nothing()).unwrap();
    assert_eq!((principal.username(), principal.method().name()), (Some("ann"), "scram"));
    assert_eq!(principal.method().authentication_method(), Some("SCRAM-SHA-256"));
    assert!(principal.may_publish("site/c1/a") && !principal.may_publish("out/a"));
    let refusal = fixture.by_scram("ann", "pencils", &nothing()).unwrap_err();
    assert_eq!((refusal.reason_code, refusal.method), (ReasonCode::NotAuthorized, AuthenticationMethod::Scram(Mechanism::Sha256)));
}

#[test]
fn who_is_proven_is_who_connect_and_certificate_name() {
    let fixture = Fixture::new(&format!("ann:{SCRAM}:sensor\nbob:!:sensor\nout:{SCRAM}:sensor:enabled=false\nc1:{SCRAM}:own\n"));
    let named = |username| Attempt { username: Some(username), password: Some(b"whatever"), ..nothing() };
    assert!(fixture.by_scram("ann", "pencil", &named("ann")).is_ok());
    assert!(fixture.by_scram("ann", "pencil", &certificate("ann")).is_ok());
    for attempt in [named("bob"), certificate("bob")] {
        assert_eq!(reason(fixture.by_scram("ann", "pencil", &attempt)), ReasonCode::NotAuthorized);
    }
    assert_eq!(reason(fixture.by_scram("out", "pencil", &nothing())), ReasonCode::NotAuthorized, "disabled");
    assert_eq!(reason(fixture.by_scram("c1", "pencil", &nothing())), ReasonCode::NotAuthorized, "no rule lets this client id in");
}

#[test]
fn a_user_who_is_not_there_looks_like_one_who_is() {
    let other = SCRAM.replace("4096", "5000").replace("W22ZaJ0SNY7soEsUEjb6gQ==", "c2FsdHNhbHQ=");
    let users = format!("ann:{SCRAM}:sensor\nbob:{other}:sensor\neve:{ARGON2}:sensor\n");
    let fixture = Fixture::new(&users);
    let mut seen = std::collections::BTreeSet::new();
    for number in 0..40 {
        let look = fixture.look("SCRAM-SHA-256", &format!("nobody-{number}"));
        assert_eq!(look, fixture.look("SCRAM-SHA-256", &format!("nobody-{number}")), "the same at each try");
        let (salt, iterations) = look.split_once(",i=").unwrap();
        assert!([(24, "4096"), (12, "5000")].contains(&(salt.len(), iterations)), "{look}");
        seen.insert(look);
    }
    assert_eq!(seen.len(), 40, "to each their own salt");
    assert_ne!(seen.first(), seen.last());
    assert!(fixture.look("SCRAM-SHA-256", "ann").starts_with("W22Z"));
    // A password that is right for argon2 does not help where there is no verifier, nor does the other mechanism.
    assert_eq!(reason(fixture.by_scram("eve", "password", &nothing())), ReasonCode::NotAuthorized);
    assert_eq!(reason(fixture.by_scram("nobody", "pencil", &nothing())), ReasonCode::NotAuthorized);
    assert!(fixture.look("SCRAM-SHA-512", "ann").ends_with(",i=100000"), "nobody has such a verifier: the default");
    let elsewhere = Fixture::new(&users);
    assert_ne!(fixture.look("SCRAM-SHA-256", "nobody"), elsewhere.look("SCRAM-SHA-256", "nobody"), "another process, another key");
}

#[test]
fn an_exchange_goes_in_order() {
    let fixture = Fixture::new(&format!("ann:{SCRAM}:sensor\n"));
    let mut exchange = fixture.access.exchange("SCRAM-SHA-256").unwrap();
    // CONNECT may name the method alone; then the Client is asked for its first message, once.
    assert!(matches!(fixture.access.proceed(&mut exchange, &nothing(), None), Ok(Step::Continue(data)) if data.is_empty()));
    assert!(fixture.access.proceed(&mut exchange, &nothing(), None).is_err());
    assert!(fixture.access.proceed(&mut exchange, &nothing(), Some(b"n,,n=ann,r=abc")).is_err(), "it was over");

    let (_, mut exchange, _) = fixture.challenged("ann", "pencil");
    assert!(fixture.access.proceed(&mut exchange, &nothing(), None).is_err());
    let mut exchange = fixture.access.exchange("SCRAM-SHA-256").unwrap();
    assert!(fixture.access.proceed(&mut exchange, &nothing(), Some(b"rubbish")).is_err());
    assert_eq!(format!("{exchange:?}"), "Exchange { method: \"scram\", .. }");
}

#[test]
fn only_what_is_offered_begins() {
    let fixture = Fixture::new("");
    assert!(fixture.access.exchange("SCRAM-SHA-256").is_some() && fixture.access.exchange("SCRAM-SHA-512").is_some());
    assert!(fixture.access.exchange("SCRAM-SHA-1").is_none() && fixture.access.exchange("").is_none());
    assert!(Access::load(&Config::default()).unwrap().exchange("SCRAM-SHA-256").is_none(), "there are no users");
}

#[test]
fn a_user_who_changes_during_the_exchange_is_refused() {
    let fixture = Fixture::new(&format!("ann:{SCRAM}:sensor\n"));
    for (users, accepted) in [
        (format!("ann:{SCRAM}:sensor,mute\n"), true),
        (format!("ann:{SCRAM}:sensor:enabled=false\n"), false),
        ("ann:!:sensor\n".to_owned(), false),
        ("bob:!:sensor\n".to_owned(), false),
    ] {
        fixture.write_users(&format!("ann:{SCRAM}:sensor\n"));
        fixture.access.reload_users().unwrap();
        let (_, mut exchange, client_final) = fixture.challenged("ann", "pencil");
        fixture.write_users(&users);
        fixture.access.reload_users().unwrap();
        match fixture.access.proceed(&mut exchange, &nothing(), Some(&client_final)) {
            Ok(Step::Accept(principal, _)) => assert!(accepted && !principal.may_publish("site/c1/a"), "the roles of today"),
            other => assert!(!accepted && other.is_err(), "{users}"),
        }
    }
}

#[tokio::test]
async fn a_user_of_scram_may_send_the_password_itself() {
    let fixture = Fixture::new(&format!("ann:{SCRAM}:sensor\n"));
    assert!(must_hash(&fixture.access, password_of("ann", "pencil")));
    let principal = fixture.by_password("ann", "pencil").await.unwrap();
    assert_eq!(principal.method(), AuthenticationMethod::Password);
    assert!(!must_hash(&fixture.access, password_of("ann", "pencil")), "remembered");
    assert_eq!(reason(fixture.by_password("ann", "pencils").await), ReasonCode::BadUserNameOrPassword);
    assert!(must_hash(&fixture.access, password_of("nobody", "pencil")), "it costs the same");
    assert_eq!(reason(fixture.by_password("nobody", "pencil").await), ReasonCode::BadUserNameOrPassword);
}

#[test]
fn a_proven_user_with_a_new_password_does_not_survive_a_reload() {
    let fixture = Fixture::new(&format!("ann:{SCRAM}:sensor\n"));
    let principal = fixture.by_scram("ann", "pencil", &nothing()).unwrap();
    fixture.write_users(&format!("ann:{SCRAM}:mute,sensor\n"));
    fixture.access.reload_users().unwrap();
    let principal = fixture.access.refresh(&principal).unwrap();
    assert_eq!(principal.method(), AuthenticationMethod::Scram(Mechanism::Sha256));
    fixture.write_users(&format!("ann:{}:sensor\n", SCRAM.replace("4096", "4097")));
    fixture.access.reload_users().unwrap();
    assert!(fixture.access.refresh(&principal).is_none());
}
