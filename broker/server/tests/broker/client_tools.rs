//! `bucketmq pub` and `sub` as a check of a broker uses them: who they are from the environment, how it went from the exit code.

use std::net::TcpListener;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use crate::client::{Broker, binary, until, users_file};

const SECURED: &str = "[[listeners]]\nurl = \"tcp://@ADDRESS@\"\n[access]\nusers_file = \"users\"\n[access.roles.worker]\n\
                       rules = [\"allow connect\", \"allow publish,subscribe work/#\"]\n";
/// The most a machine that is busy adds to what is waited for.
const SOME: Duration = Duration::from_secs(5);

fn client(port: u16, arguments: &[&str], environment: &[(&str, &str)]) -> std::process::Command {
    let mut command = binary();
    command.args(arguments).args(["-h", "127.0.0.1", "-p", &port.to_string()]).envs(environment.iter().copied());
    command
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_message_goes_round_with_name_and_password_from_the_environment() {
    let broker = Broker::start_with_users(SECURED, &users_file(&[("ann", "worker")]));
    let (port, ann) = (broker.address.port(), [("BUCKETMQ_USERNAME", "ann"), ("BUCKETMQ_PASSWORD", "secret")]);
    let waiting = client(port, &["sub", "-t", "work/a", "-q", "1", "-C", "1", "-W", "10"], &ann).stdout(Stdio::piped()).spawn().unwrap();
    until(|| (broker.metric("mqtt_subscriptions") >= 1).then_some(()));
    let sent = told(&client(port, &["pub", "-t", "work/a", "-q", "1", "-m", "round"], &ann).output().unwrap());
    assert_eq!(sent.0, Some(0), "{sent:?}");
    assert_eq!(told(&waiting.wait_with_output().unwrap()), (Some(0), "round\n".to_owned(), String::new()));
    // The name alone may stand on the command line.
    let named = told(&client(port, &["pub", "-u", "ann", "-t", "work/a", "-m", "x"], &ann[1..]).output().unwrap());
    assert_eq!(named.0, Some(0), "{named:?}");
}

#[test]
fn the_exit_code_tells_what_is_wrong() {
    let broker = Broker::start_with_users(SECURED, &users_file(&[("ann", "worker")]));
    let port = broker.address.port();
    let (ann, wrong) =
        ([("BUCKETMQ_USERNAME", "ann"), ("BUCKETMQ_PASSWORD", "secret")], [("BUCKETMQ_USERNAME", "ann"), ("BUCKETMQ_PASSWORD", "no")]);
    for (arguments, environment, code, says) in [
        // 0x86 and 0x87.
        (&["sub", "-t", "work/a", "-C", "1", "-W", "10"][..], &wrong[..], 134, "bad user name or password"),
        (&["pub", "-t", "work/a", "-m", "x"], &[], 135, "not authorized"),
        (&["pub", "-t", "other", "-q", "1", "-m", "x"], &ann, 135, "not authorized"),
        (&["sub", "-t", "other", "-C", "1", "-W", "10"], &ann, 135, "all subscriptions were refused"),
        (&["sub", "-t", "work/a", "-C", "1", "-W", "1"], &ann, 27, "timed out"),
    ] {
        let ended = told(&client(port, arguments, environment).output().unwrap());
        assert!(ended.0 == Some(code) && ended.2.to_lowercase().contains(says), "{arguments:?}: {ended:?}");
        assert!(!ended.2.contains("secret"), "{ended:?}");
    }
}

#[test]
fn a_server_that_never_answers_holds_nobody_up_for_longer_than_asked() {
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let began = Instant::now();
    let ended = told(&client(deaf.local_addr().unwrap().port(), &["sub", "-t", "t", "-C", "1", "-W", "1"], &[]).output().unwrap());
    assert_eq!(ended.0, Some(27), "{ended:?}");
    assert!(began.elapsed() < Duration::from_secs(1) + SOME, "{:?}", began.elapsed());
}
