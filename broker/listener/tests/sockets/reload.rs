//! Changes while connections are open: of the configuration and of the files it names.

use std::os::unix::fs::symlink;

use bucketmq_listener::Config;
use bucketmq_listener::config::{Certificate, Tls};
use tokio::net::{TcpStream, UnixStream};

use crate::support::{Authority, Broker, certificate_in, dns, eventually, is_closed, shown, talk, tls_connect};

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_new_clients_and_old_ones_stay() {
    let authority = Authority::new();
    authority.issue_server("server", "broker.example");
    let mut broker = Broker::start(&[authority.listener(authority.tls(&["server"]))]).await;
    let mut old_client = tls_connect(broker.addr(), authority.client(None), "broker.example").await.unwrap();
    let mut old_server = broker.next().await;
    let before = broker.listeners.certificates();

    authority.issue_server("server", "broker.example");
    broker.listeners.reload_certificates().await;
    let new_client = tls_connect(broker.addr(), authority.client(None), "broker.example").await.unwrap();
    assert_eq!(shown(&new_client), certificate_in(&authority.path("server.pem")));
    let after = broker.listeners.certificates();
    assert_eq!((after.len(), &after[0].subject), (1, &"CN=broker.example".to_owned()));
    assert_ne!(before[0].fingerprint, after[0].fingerprint);
    assert!(after[0].not_after > after[0].not_before && after[0].listener == "tls-0");
    talk(&mut old_server, &mut old_client).await;
}

#[tokio::test]
async fn a_secret_that_kubernetes_swaps_is_noticed_by_itself() {
    let authority = Authority::new();
    // What the kubelet mounts: files that are links into `..data`, which is a link to a directory and is replaced as a whole.
    let volume = tempfile::tempdir().unwrap();
    for version in ["..v1", "..v2"] {
        std::fs::create_dir(volume.path().join(version)).unwrap();
        authority.issue_in(&volume.path().join(version), "tls", 1, "broker.example", vec![dns("broker.example")]);
    }
    symlink("..v1", volume.path().join("..data")).unwrap();
    symlink("..data/tls.pem", volume.path().join("tls.crt")).unwrap();
    symlink("..data/tls.key", volume.path().join("tls.key")).unwrap();
    let pair = Certificate { cert: volume.path().join("tls.crt"), key: volume.path().join("tls.key") };
    let broker = Broker::start(&[authority.listener(Tls { certificates: vec![pair], ..Tls::default() })]).await;
    let before = broker.listeners.certificates()[0].fingerprint.clone();

    symlink("..v2", volume.path().join("..data_tmp")).unwrap();
    std::fs::rename(volume.path().join("..data_tmp"), volume.path().join("..data")).unwrap();
    eventually(|| broker.listeners.certificates()[0].fingerprint != before).await;
    let client = tls_connect(broker.addr(), authority.client(None), "broker.example").await.unwrap();
    assert_eq!(shown(&client), certificate_in(&volume.path().join("..v2/tls.pem")));
}

#[tokio::test]
async fn a_bad_pair_is_reported_and_the_old_one_stays_in_force_until_it_is_repaired() {
    let authority = Authority::new();
    authority.issue_server("server", "broker.example");
    authority.issue_server("other", "broker.example");
    let broker = Broker::start(&[authority.listener(authority.tls(&["server"]))]).await;
    let good = certificate_in(&authority.path("server.pem"));
    for (file, bytes, says) in [
        ("server.key", std::fs::read(authority.path("other.key")).unwrap(), "is not the key of"),
        ("server.key", b"-----BEGIN PRIVATE KEY-----\nMIIE".to_vec(), "holds no private key"),
        ("server.pem", Vec::new(), "holds no certificate"),
    ] {
        let kept = std::fs::read(authority.path(file)).unwrap();
        std::fs::write(authority.path(file), bytes).unwrap();
        broker.listeners.reload_certificates().await;
        let failures = broker.listeners.failures();
        assert!(failures.len() == 1 && failures[0].error.contains(says) && failures[0].listener == "tls-0", "{failures:?}");
        let client = tls_connect(broker.addr(), authority.client(None), "broker.example").await.unwrap();
        assert_eq!(shown(&client), good);
        std::fs::write(authority.path(file), kept).unwrap();
        eventually(|| broker.listeners.failures().is_empty()).await;
    }
}

#[tokio::test]
async fn listeners_come_and_go_and_connections_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mqtt.sock");
    let first = Config { name: "first".into(), ..Config::new("tcp://127.0.0.1:0") };
    let unix = Config { name: "unix".into(), ..Config::new(format!("unix:{}", path.display())) };
    let mut broker = Broker::start(std::slice::from_ref(&first)).await;
    let addr = broker.addr();
    let mut client = broker.connect().await;
    let mut server = broker.next().await;

    let changed = Config { max_connections: 1, anonymous: "guest".into(), messages_rate: 7, ..first.clone() };
    broker.listeners.reload(&[changed, unix.clone()]).await.unwrap();
    assert_eq!(broker.addr(), addr, "the socket and its port stay");
    assert_eq!(server.listener.config().anonymous_role(), Some("guest"), "also for who is connected");
    assert_eq!(server.listener.messages_rate.per_second(), 7);
    assert!(is_closed(&mut broker.connect().await).await, "the new limit holds, and the old connection counts");
    let mut over_unix = UnixStream::connect(&path).await.unwrap();
    let mut unix_server = broker.next().await;

    broker.listeners.reload(&[unix]).await.unwrap();
    for _ in 0..500 {
        if TcpStream::connect(addr).await.is_err() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(TcpStream::connect(addr).await.is_err());
    talk(&mut server, &mut client).await;

    broker.listeners.reload(&[first]).await.unwrap();
    eventually(|| !path.exists()).await;
    talk(&mut unix_server, &mut over_unix).await;
}

#[tokio::test]
async fn a_reload_that_fails_changes_nothing() {
    let authority = Authority::new();
    authority.issue_server("server", "broker.example");
    let first = Config { name: "first".into(), ..Config::new("tcp://127.0.0.1:0") };
    let mut broker = Broker::start(std::slice::from_ref(&first)).await;
    let changed = Config { max_qos: 0, ..first };
    let broken_tls = Config { name: "tls".into(), ..authority.listener(authority.tls(&["missing"])) };
    let taken = Config { name: "taken".into(), ..Config::new(format!("tcp://127.0.0.1:{}", broker.addr().port())) };
    let wrong = Config { max_qos: 3, ..Config::new("tcp://127.0.0.1:0") };
    for bad in [broken_tls, taken, wrong] {
        broker.listeners.reload(&[changed.clone(), bad]).await.unwrap_err();
        assert_eq!(broker.listeners.bound().len(), 1);
        assert_eq!(broker.handle().config().max_qos, 2);
        let _client = broker.connect().await;
        broker.next().await;
    }
}

#[tokio::test]
async fn a_listener_that_is_renamed_or_speaks_something_else_keeps_its_port() {
    let authority = Authority::new();
    authority.issue_server("server", "broker.example");
    let before = Broker::from_url("tcp://127.0.0.1:0").await;
    let port = before.addr().port();
    before.listeners.close().await;
    let url = format!("tcp://127.0.0.1:{port}");
    let mut broker = Broker::start(&[Config::new(&url)]).await;
    broker.listeners.reload(&[Config { name: "renamed".into(), ..Config::new(&url) }]).await.unwrap();
    let _client = broker.connect().await;
    assert_eq!(broker.next().await.listener.name(), "renamed");
    let tls = Config { tls: Some(authority.tls(&["server"])), ..Config::new(format!("tls://127.0.0.1:{port}")) };
    broker.listeners.reload(&[tls]).await.unwrap();
    let mut client = tls_connect(broker.addr(), authority.client(None), "broker.example").await.unwrap();
    talk(&mut broker.next().await, &mut client).await;
}
