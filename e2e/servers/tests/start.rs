//! Each server starts, answers, and is gone when its handle is, whatever becomes of the process that holds it.

mod client;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bucketmq_servers::{Access, Credentials, Kind, Moto, Options, Versitygw};
use object_store::ObjectStoreExt;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use client::client;

const ALL: [Kind; 4] = [Kind::Versitygw, Kind::Moto, Kind::Azurite, Kind::FakeGcs];

/// A dead process that nobody has waited for is dead.
fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !happened() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn each_server_starts_and_dies_with_its_handle() {
    for kind in ALL {
        let started = Instant::now();
        let server = kind.start(Options::default()).unwrap();
        let usage = server.usage().unwrap();
        println!("{}: {:?} {usage:?}", kind.name(), started.elapsed());
        assert!(usage.rss_bytes > 1 << 20 && usage.rss_bytes_max >= usage.rss_bytes);
        let (pid, data) = (server.pid(), server.data().to_owned());
        assert!(is_alive(pid) && data.is_dir());
        drop(server);
        assert!(!is_alive(pid) && !data.exists(), "{kind:?}");
    }
}

#[test]
fn a_panic_takes_the_server_along() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let test = std::thread::spawn(move || {
        let server = Versitygw::start(Options::default()).unwrap();
        sender.send(server.pid()).unwrap();
        panic!("as a failing test does");
    });
    let pid = receiver.recv().unwrap();
    test.join().unwrap_err();
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn a_given_directory_keeps_its_data_and_a_given_port_is_used() {
    for kind in [Kind::Versitygw, Kind::FakeGcs] {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let options = Options { data: Some(directory.path().to_owned()), port: Some(port), ..Options::default() };
        for round in 0..2 {
            let server = kind.start(options.clone()).unwrap();
            assert!(server.endpoint().ends_with(&format!(":{port}")));
            let store = client(server.access());
            if round == 0 {
                store.put(&"a".into(), "kept".into()).await.unwrap();
            }
            assert_eq!(store.get(&"a".into()).await.unwrap().bytes().await.unwrap(), "kept", "{kind:?}");
        }
    }
}

#[tokio::test]
async fn a_forgetful_server_comes_back_empty_with_its_bucket() {
    let mut server = Moto::start(Options::default()).unwrap();
    let store = client(server.access());
    store.put(&"a".into(), "forgotten".into()).await.unwrap();
    server.restart().unwrap();
    store.get(&"a".into()).await.unwrap_err();
    store.put(&"a".into(), "remembered".into()).await.unwrap();
}

#[tokio::test]
async fn there_can_be_more_buckets() {
    for kind in ALL {
        let server = kind.start(Options { bucket: "first".to_owned(), ..Options::default() }).unwrap();
        server.create_bucket("second").unwrap();
        let second = client(&Access { bucket: "second".to_owned(), ..server.access().clone() });
        second.put(&"a".into(), "in the second".into()).await.unwrap();
        client(server.access()).get(&"a".into()).await.unwrap_err();
    }
}

#[test]
fn what_cannot_start_says_why() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = Some(taken.local_addr().unwrap().port());
    let error = Versitygw::start(Options { port, ..Options::default() }).unwrap_err();
    assert!(format!("{error:#}").contains("in use"), "{error:#}");
    assert!(Versitygw::start(Options { bucket: "ab".to_owned(), ..Options::default() }).is_err());
}

/// The command, and the first thing it prints.
fn command(arguments: &[&str]) -> (Child, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bucketmq-servers"));
    let mut child = command.arg("run").args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the command");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
    (child, line)
}

fn number(value: &Value) -> u32 {
    value.as_u64().and_then(|number| number.try_into().ok()).expect("a number")
}

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process");
    kill_process(pid, signal).expect("it is there");
}

#[tokio::test]
async fn the_command_tells_how_to_reach_it_and_ends_when_asked() {
    let (mut child, line) =
        command(&["versitygw", "--json", "--latency-write", "30ms", "--latency-read", "15ms", "--bucket", "from-shell"]);
    let told: Value = serde_json::from_str(&line).unwrap();
    let text = |name: &str| told["environment"][name].as_str().unwrap().to_owned();
    let access = Access {
        kind: Kind::Versitygw,
        endpoint: text("AWS_ENDPOINT_URL"),
        bucket: "from-shell".to_owned(),
        credentials: Credentials::S3 {
            access_key: text("AWS_ACCESS_KEY_ID"),
            secret_key: text("AWS_SECRET_ACCESS_KEY"),
            region: text("AWS_REGION"),
        },
    };
    assert_eq!((text("AWS_BUCKET"), told["endpoint"].as_str()), (access.bucket.clone(), Some(access.endpoint.as_str())));
    assert!(told["control"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    let started = Instant::now();
    client(&access).put(&"a".into(), "content".into()).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(30));
    let pid = number(&told["pid"]);
    assert!(is_alive(pid));
    signal(child.id(), Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!is_alive(pid));
}

#[test]
fn the_command_ends_with_its_server_and_its_server_with_the_command() {
    let (mut child, line) = command(&["versitygw", "--json"]);
    let told: Value = serde_json::from_str(&line).unwrap();
    signal(number(&told["pid"]), Signal::KILL);
    assert_eq!(child.wait().unwrap().code(), Some(1));

    // No destructor runs here.
    let (mut child, line) = command(&["versitygw", "--json"]);
    let told: Value = serde_json::from_str(&line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the server outlives what started it", || !is_alive(number(&told["pid"])));
    wait_until("its data stays", || !Path::new(told["data"].as_str().unwrap()).exists());
}

#[test]
fn the_command_writes_for_a_shell_and_refuses_what_it_does_not_know() {
    let (mut child, line) = command(&["moto"]);
    assert!(line.starts_with("# moto at http://127.0.0.1:"), "{line}");
    signal(child.id(), Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    for arguments in [&["minio"][..], &["versitygw", "--latency-read", "soon"]] {
        assert_eq!(command(arguments).0.wait().unwrap().code(), Some(2));
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    assert_eq!(command(&["versitygw", "--port", &port]).0.wait().unwrap().code(), Some(1));
}
