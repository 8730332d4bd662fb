//! TCP and Unix sockets.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::time::Duration;

use bucketmq_listener::{BindError, Config, Listeners, Totals, Transport};
use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};

use crate::support::{Broker, talk};

#[tokio::test]
async fn a_tcp_connection_comes_with_its_addresses_and_without_delay() {
    let mut broker = Broker::from_url("tcp://127.0.0.1:0?name=plain&anonymous=local").await;
    let mut client = broker.connect().await;
    let mut server = broker.next().await;
    assert_eq!(server.remote_addr, Some(client.local_addr().unwrap()));
    assert_eq!(server.transport.local_addr(), Some(broker.addr()));
    assert_eq!(server.listener.name(), "plain");
    assert_eq!(server.listener.config().anonymous_role(), Some("local"));
    assert!(server.tls.is_none());
    let Transport::Tcp(stream) = &server.transport else { panic!("plain TCP") };
    assert!(stream.nodelay().unwrap());
    talk(&mut server, &mut client).await;
}

#[tokio::test]
async fn a_peer_that_vanished_is_asked_three_times_a_minute_apart_after_five_minutes() {
    let mut broker = Broker::from_url("tcp://127.0.0.1:0").await;
    let _client = broker.connect().await;
    let server = broker.next().await;
    let socket = SockRef::from(server.transport.tcp().expect("plain TCP"));
    assert!(socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(300));
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(60));
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
}

#[tokio::test]
async fn every_address_of_both_kinds_is_one_listener_unless_it_is_for_ipv6_only() {
    let mut broker = Broker::from_url("tcp://[::]:0").await;
    let port = broker.addr().port();
    let client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    assert_eq!(broker.next().await.remote_addr, Some(client.local_addr().unwrap()), "IPv4 is told as IPv4");
    let client = TcpStream::connect(("::1", port)).await.unwrap();
    assert_eq!(broker.next().await.remote_addr, Some(client.local_addr().unwrap()));

    let broker = Broker::from_url("tcp://[::]:0?ipv6_only=true").await;
    assert!(TcpStream::connect(("127.0.0.1", broker.addr().port())).await.is_err());
    assert!(TcpStream::connect(("::1", broker.addr().port())).await.is_ok());
}

#[tokio::test]
async fn a_host_name_is_all_of_its_addresses_at_one_port() {
    let mut broker = Broker::from_url("tcp://localhost:0").await;
    let addresses = broker.listeners.bound()[0].local_addrs.clone();
    assert!(addresses.iter().all(|address| address.ip().is_loopback() && address.port() == addresses[0].port()));
    for address in addresses {
        TcpStream::connect(address).await.unwrap();
        broker.next().await;
    }
}

#[tokio::test]
async fn what_cannot_be_bound_is_an_error_and_nothing_stays_bound() {
    let taken = Listeners::bind(&[Config::new("tcp://127.0.0.1:0")], Totals::new(0, 0)).await.unwrap();
    taken.serve(|accepted| async move { drop(accepted) }).unwrap();
    let port = taken.bound()[0].local_addrs[0].port();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mqtt.sock");
    let configs = [Config::new(format!("unix:{}", path.display())), Config::new(format!("tcp://127.0.0.1:{port}"))];
    let error = Listeners::bind(&configs, Totals::new(0, 0)).await.unwrap_err();
    assert!(matches!(&error, BindError::Socket { .. }), "{error}");
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
    assert!(!path.exists());
    // Two that wait have both bound it: whoever serves first has it.
    let waiting = Listeners::bind(&[Config::new("tcp://127.0.0.1:0")], Totals::new(0, 0)).await.unwrap();
    let address = format!("tcp://{}", waiting.bound()[0].local_addrs[0]);
    let other = Listeners::bind(&[Config::new(address)], Totals::new(0, 0)).await.unwrap();
    waiting.serve(|accepted| async move { drop(accepted) }).unwrap();
    assert!(matches!(other.serve(|accepted| async move { drop(accepted) }), Err(BindError::Socket { .. })));
    let error = Listeners::bind(&[Config::new("tcp://no-such-host.invalid:0")], Totals::new(0, 0)).await.unwrap_err();
    assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
}

#[tokio::test]
async fn listeners_of_one_name_are_refused_and_those_without_are_numbered() {
    let unnamed = [Config::new("tcp://127.0.0.1:0"), Config::new("tcp://127.0.0.1:0")];
    let listeners = Listeners::bind(&unnamed, Totals::new(0, 0)).await.unwrap();
    let names: Vec<_> = listeners.bound().iter().map(|bound| bound.handle.name().to_owned()).collect();
    assert_eq!(names, ["tcp-0", "tcp-0-2"]);
    let named = Config { name: "one".into(), ..Config::new("tcp://127.0.0.1:0") };
    let error = Listeners::bind(&[named.clone(), named], Totals::new(0, 0)).await.unwrap_err();
    assert!(error.to_string().contains("is taken by another"), "{error}");
}

#[tokio::test]
async fn a_closed_listener_takes_nobody_and_keeps_its_connections() {
    let mut broker = Broker::from_url("tcp://127.0.0.1:0").await;
    let addr = broker.addr();
    let mut client = broker.connect().await;
    let mut server = broker.next().await;
    broker.listeners.close().await;
    assert!(TcpStream::connect(addr).await.is_err());
    talk(&mut server, &mut client).await;
    // The address is free although a connection of it lives.
    Listeners::bind(&[Config::new(format!("tcp://{addr}"))], Totals::new(0, 0)).await.unwrap();
}

#[tokio::test]
async fn a_unix_socket_has_the_permissions_asked_for_and_goes_with_its_listener() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mqtt.sock");
    for mode in ["0600", "0777"] {
        let mut broker = Broker::from_url(&format!("unix:{}?mode={mode}", path.display())).await;
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(format!("{:04o}", metadata.permissions().mode() & 0o7777), mode);
        let mut client = UnixStream::connect(&path).await.unwrap();
        let mut server = broker.next().await;
        assert_eq!(server.remote_addr, None);
        talk(&mut server, &mut client).await;
        broker.listeners.close().await;
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn a_socket_that_a_killed_broker_left_is_replaced_and_one_in_use_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mqtt.sock");
    let config = Config::new(format!("unix:{}", path.display()));
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(std::fs::symlink_metadata(&path).unwrap().file_type().is_socket());
    let first = Broker::start(std::slice::from_ref(&config)).await;
    let error = Listeners::bind(std::slice::from_ref(&config), Totals::new(0, 0)).await.unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    assert!(UnixStream::connect(&path).await.is_ok(), "the first one still listens");
    first.listeners.close().await;
    std::fs::write(&path, "a file").unwrap();
    let error = Listeners::bind(&[config], Totals::new(0, 0)).await.unwrap_err();
    assert!(error.to_string().contains("is no socket"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"a file");
}

#[tokio::test]
async fn a_path_that_another_broker_has_taken_over_is_left_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mqtt.sock");
    let config = Config::new(format!("unix:{}", path.display()));
    let first = Broker::start(std::slice::from_ref(&config)).await;
    std::fs::remove_file(&path).unwrap();
    let _second = Broker::start(&[config]).await;
    first.listeners.close().await;
    assert!(UnixStream::connect(&path).await.is_ok());
}

#[tokio::test]
async fn until_it_is_served_a_listener_has_its_address_and_refuses_connections() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mqtt.sock");
    let configs = [Config::from_url("tcp://127.0.0.1:0").unwrap(), Config::from_url(&format!("unix:{}", path.display())).unwrap()];
    let listeners = Listeners::bind(&configs, Totals::new(0, 0)).await.unwrap();
    let address = listeners.bound()[0].local_addrs[0];
    let refused = tokio::net::TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(tokio::net::UnixStream::connect(&path).await.is_err());
    listeners.serve(|accepted| async move { drop(accepted) }).unwrap();
    assert_eq!(listeners.bound()[0].local_addrs[0], address);
    tokio::net::TcpStream::connect(address).await.unwrap();
    tokio::net::UnixStream::connect(&path).await.unwrap();
}
