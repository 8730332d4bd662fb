//! How many, how fast, how long.

use std::time::{Duration, Instant};

use bucketmq_listener::{Config, Refusal, Totals};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Authority, Broker, eventually, is_closed};

#[tokio::test]
async fn connections_over_the_limit_of_a_listener_are_closed_until_one_goes() {
    let mut broker = Broker::from_url("tcp://127.0.0.1:0?max_connections=2").await;
    let _clients = (broker.connect().await, broker.connect().await);
    let (first, _second) = (broker.next().await, broker.next().await);
    assert!(is_closed(&mut broker.connect().await).await);
    broker.refused(Refusal::ListenerConnections).await;
    assert_eq!((first.listener.connections(), first.listener.counters.accepted()), (2, 3));
    drop(first);
    let _third = broker.connect().await;
    broker.next().await;
}

#[tokio::test]
async fn the_total_counts_over_all_listeners_and_changes_while_running() {
    let configs = [Config::new("tcp://127.0.0.1:0"), Config::new("tcp://127.0.0.1:0")];
    let totals = Totals::new(1, 0);
    let mut broker = Broker::start_with(&configs, totals.clone()).await;
    let _client = broker.connect().await;
    let _first = broker.next().await;
    let other = broker.listeners.bound()[1].clone();
    assert!(is_closed(&mut TcpStream::connect(other.local_addrs[0]).await.unwrap()).await);
    eventually(|| other.handle.counters.refused(Refusal::TotalConnections) == 1).await;
    totals.set_max_connections(2);
    let _client = TcpStream::connect(other.local_addrs[0]).await.unwrap();
    let _second = broker.next().await;
    assert_eq!(totals.connections(), 2);
}

#[tokio::test]
async fn while_shedding_new_connections_are_closed() {
    let totals = Totals::new(0, 0);
    let mut broker = Broker::start_with(&[Config::new("tcp://127.0.0.1:0")], totals.clone()).await;
    totals.set_shedding(true);
    assert!(is_closed(&mut broker.connect().await).await);
    broker.refused(Refusal::Shedding).await;
    totals.set_shedding(false);
    let _client = broker.connect().await;
    broker.next().await;
}

#[tokio::test]
async fn over_the_accept_rate_connections_wait_and_none_is_lost() {
    for (url, total) in [("tcp://127.0.0.1:0?max_connection_rate=40", 0), ("tcp://127.0.0.1:0", 40)] {
        let mut broker = Broker::start_with(&[Config::from_url(url).unwrap()], Totals::new(0, total)).await;
        let begin = Instant::now();
        let mut held = Vec::new();
        for _ in 0..24 {
            held.push(broker.connect().await);
        }
        for _ in 0..24 {
            broker.next().await;
        }
        // 40 a second, of which the first 4 may come at once.
        assert!(begin.elapsed() >= Duration::from_millis(450), "{:?}", begin.elapsed());
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_ended_at_the_deadline_and_gives_back_its_place() {
    let authority = Authority::new();
    authority.issue_server("server", "broker.example");
    let tls = Config { connect_timeout: Duration::from_millis(200), ..authority.listener(authority.tls(&["server"])) };
    let ws = Config { connect_timeout: Duration::from_millis(200), ..Config::new("ws://127.0.0.1:0") };
    let proxy = Config::from_url("tcp://127.0.0.1:0?proxy_protocol=127.0.0.0/8&connect_timeout=200ms").unwrap();
    for (config, beginning) in [(tls, &b"\x16\x03\x01"[..]), (ws, b"GET /mqtt HTTP/1.1\r\n"), (proxy, b"PROXY TCP4 ")] {
        let mut broker = Broker::start(&[config]).await;
        let mut client = broker.connect().await;
        client.write_all(beginning).await.unwrap();
        assert!(is_closed(&mut client).await);
        broker.refused(Refusal::Timeout).await;
        let totals = broker.listeners.totals().clone();
        eventually(|| totals.connections() == 0).await;
        assert!(broker.nothing().await);
    }
}

#[tokio::test]
async fn the_deadline_for_connect_is_told_from_the_accept_on() {
    let mut broker = Broker::from_url("tcp://127.0.0.1:0?connect_timeout=5s").await;
    let before = tokio::time::Instant::now();
    let _client = broker.connect().await;
    let left = broker.next().await.connect_deadline - before;
    assert!(left > Duration::from_secs(4) && left < Duration::from_secs(7), "{left:?}");
}
