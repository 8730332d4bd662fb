//! `unix:` listeners of the real binary: messages, the socket's file, and what stands at its path at the start.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use bucketmq_packet::{QoS, ReasonCode};

use crate::client::{Broker, Came, Client, PATIENCE, connect, run};

const UNIX: &str = "[[listeners]]\nurl = \"unix:@FOLDER@/mqtt.sock\"\nanonymous = \"local\"\n";

fn unix_client(path: &Path, id: &str) -> Client<UnixStream> {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Client::over(stream, &connect(id, true, None)).unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn messages_pass_between_a_unix_socket_and_tcp() {
    let mut broker = Broker::start(&format!("{UNIX}[[listeners]]\nurl = \"tcp://@ADDRESS@\"\nanonymous = \"local\"\n"));
    let path = broker.path("mqtt.sock");
    let mut over_unix = unix_client(&path, "unix");
    let mut over_tcp = broker.client("tcp");
    over_unix.subscribe("to/unix", QoS::AtLeastOnce);
    over_tcp.subscribe("to/tcp", QoS::AtLeastOnce);
    assert_eq!(over_tcp.publish_acknowledged("to/unix", b"one"), Came::PubAck(ReasonCode::Success));
    assert_eq!(over_unix.next(), Came::Publish("to/unix".to_owned(), b"one".to_vec()));
    assert_eq!(over_unix.publish_acknowledged("to/tcp", &[7; 100_000]), Came::PubAck(ReasonCode::Success));
    assert_eq!(over_tcp.next(), Came::Publish("to/tcp".to_owned(), vec![7; 100_000]));
    assert_eq!(broker.metric("mqtt_connections{listener=\"unix\",protocol=\"unix\"}"), 1);

    broker.signal("TERM");
    assert_eq!(over_unix.next(), Came::Disconnect(ReasonCode::ServerShuttingDown));
    drop((over_unix, over_tcp));
    assert_eq!(broker.wait().code(), Some(0), "{}", broker.log());
    assert!(!path.exists(), "the file goes with the broker");
}

#[test]
fn the_file_of_a_socket_is_for_user_and_group_or_as_configured() {
    let broker = Broker::start(&format!("{UNIX}[[listeners]]\nurl = \"unix:@FOLDER@/own.sock\"\nanonymous = \"local\"\nmode = \"0600\"\n"));
    assert_eq!(mode(&broker.path("mqtt.sock")), 0o660);
    assert_eq!(mode(&broker.path("own.sock")), 0o600);
    unix_client(&broker.path("own.sock"), "a");
}

#[test]
fn a_socket_that_a_killed_broker_left_is_replaced() {
    let mut broker = Broker::start(UNIX);
    let path = broker.path("mqtt.sock");
    broker.signal("KILL");
    broker.wait();
    assert!(std::fs::symlink_metadata(&path).unwrap().file_type().is_socket(), "nobody was left to remove it");
    broker.start_again();
    unix_client(&path, "a");
}

#[test]
fn a_path_that_somebody_listens_on_or_that_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mqtt.sock");
    let serve = || {
        let url = format!("unix:{}?anonymous=local", path.display());
        run(&["serve", "--listen", &url, "--admin", ""], folder.path(), "")
    };
    let somebody = UnixListener::bind(&path).unwrap();
    let (code, _, errors) = serve();
    assert!(code == 1 && errors.contains("mqtt.sock is in use: somebody listens there"), "{code} {errors}");
    UnixStream::connect(&path).unwrap();
    drop(somebody);
    std::fs::remove_file(&path).unwrap();

    std::fs::write(&path, "somebody's notes").unwrap();
    let (code, _, errors) = serve();
    assert!(code == 1 && errors.contains("mqtt.sock exists and is no socket; it is not removed"), "{code} {errors}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "somebody's notes");
}

#[test]
fn a_unix_listener_that_a_reload_takes_away_takes_its_file_with_it_and_leaves_its_clients() {
    let broker = Broker::start(&format!("[[listeners]]\nurl = \"tcp://@ADDRESS@\"\nanonymous = \"local\"\n{UNIX}"));
    let path = broker.path("mqtt.sock");
    let mut client = unix_client(&path, "a");
    let ready = broker.reconfigure(|text| {
        let from = text.rfind("[[listeners]]").unwrap();
        let to = text.find("[admin]").unwrap();
        format!("{}{}", &text[..from], &text[to..])
    });
    assert!(ready.contains("\"ok\":true"), "{ready}");
    crate::client::until(|| (!path.exists()).then_some(()));
    assert_eq!(client.subscribe("still", QoS::AtMostOnce), Came::SubAck(vec![ReasonCode::Success]));
}
