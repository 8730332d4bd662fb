//! What the proxy does to requests, seen by a client that signs them.

mod client;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bucketmq_servers::{Counts, Fault, FaultProxy, Kind, Latency, Operation, Options, ProxyOptions, Server};
use futures_util::TryStreamExt;
use futures_util::future::join_all;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode};

use client::{Store, client};

const READ: Duration = Duration::from_millis(15);
const WRITE: Duration = Duration::from_millis(30);

fn start(kind: Kind) -> (Server, FaultProxy, Arc<dyn Store>) {
    let server = kind.start(Options::default()).expect("a server");
    let proxy = FaultProxy::start(&server, ProxyOptions::default()).expect("a proxy");
    let store = client(proxy.access());
    (server, proxy, store)
}

/// The status of the answer that `error` tells of, and the error whole.
fn told(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

#[tokio::test]
async fn requests_and_bytes_are_counted_exactly() {
    for kind in [Kind::Versitygw, Kind::Azurite, Kind::FakeGcs] {
        let (_server, proxy, store) = start(kind);
        let (wal, manifest) = (Path::from("p/0/wal/1"), Path::from("p/0/manifest/1"));
        store.put(&wal, vec![1; 1000].into()).await.unwrap();
        store.put(&manifest, vec![2; 10].into()).await.unwrap();
        store.get(&wal).await.unwrap().bytes().await.unwrap();
        store.get_range(&wal, 100..300).await.unwrap();
        store.head(&wal).await.unwrap();
        store.list(Some(&Path::from("p/0/wal"))).try_collect::<Vec<_>>().await.unwrap();
        let mut upload = store.put_multipart(&Path::from("p/1/big")).await.unwrap();
        upload.put_part(vec![3; 5 << 20].into()).await.unwrap();
        upload.complete().await.unwrap();

        let counts = proxy.counts();
        let of = |counts: &Counts| Operation::ALL.map(|operation| counts.of(operation));
        // Azure has no request to begin a multipart upload.
        let multipart = if kind == Kind::Azurite { 2 } else { 3 };
        assert_eq!(of(&counts), [2, 1, 1, 2, multipart, 0, 0], "{kind:?}");
        let wal = proxy.counts_under("p/0/wal/");
        assert_eq!((of(&wal), wal.bytes_up), ([2, 1, 1, 1, 0, 0, 0], 1000), "{kind:?}");
        assert_eq!(proxy.counts_under("p/0/manifest/").bytes_up, 10, "{kind:?}");
        // The list is in it, too.
        assert!(wal.bytes_down >= 1200, "{kind:?} {wal:?}");
        assert!(proxy.counts_under("p/1/").bytes_up >= 5 << 20, "{kind:?}");
        proxy.reset_counts();
        assert_eq!(proxy.counts(), Counts::default());
    }
}

#[tokio::test]
async fn only_what_an_object_holds_counts_as_its_bytes() {
    let (_server, proxy, store) = start(Kind::Versitygw);
    let path = Path::from("a");
    store.put(&path, vec![1; 1234].into()).await.unwrap();
    store.get(&path).await.unwrap().bytes().await.unwrap();
    assert_eq!((proxy.counts().bytes_up, proxy.counts().bytes_down), (1234, 1234));
}

#[tokio::test]
async fn latency_is_at_least_what_was_asked_and_little_more() {
    let (_server, proxy, store) = start(Kind::Versitygw);
    let path = Path::from("a");
    store.put(&path, "warm".into()).await.unwrap();
    let mut without = (Duration::MAX, Duration::MAX);
    for _ in 0..20 {
        without = (without.0.min(get_time(&*store, &path).await), without.1.min(put_time(&*store, &path).await));
    }
    proxy.set_latency(READ, WRITE);
    assert_eq!(proxy.latency(), Latency { read: READ, write: WRITE });
    let mut with = (Duration::MAX, Duration::MAX);
    for _ in 0..20 {
        let (read, write) = (get_time(&*store, &path).await, put_time(&*store, &path).await);
        assert!(read >= READ && write >= WRITE, "{read:?} {write:?}");
        with = (with.0.min(read), with.1.min(write));
    }
    println!("without latency {without:?}, with {with:?}");
    // The best of twenty, because other tests run beside this one.
    assert!(with.0 < without.0 + READ + Duration::from_millis(10) && with.1 < without.1 + WRITE + Duration::from_millis(10));
}

async fn get_time(store: &dyn Store, path: &Path) -> Duration {
    let started = Instant::now();
    store.get(path).await.expect("an object").bytes().await.expect("all of it");
    started.elapsed()
}

async fn put_time(store: &dyn Store, path: &Path) -> Duration {
    let started = Instant::now();
    store.put(path, "content".into()).await.expect("a write");
    started.elapsed()
}

#[tokio::test]
async fn errors_of_the_store_are_told_as_each_cloud_writes_them() {
    for kind in [Kind::Versitygw, Kind::Moto, Kind::Azurite, Kind::FakeGcs] {
        let (_server, proxy, store) = start(kind);
        let path = Path::from("a");
        store.put(&path, "before".into()).await.unwrap();
        for (fault, status, code) in [
            (Fault::InternalError, "500", "InternalError"),
            (Fault::SlowDown, "503", if kind == Kind::Azurite { "ServerBusy" } else { "SlowDown" }),
            (Fault::AccessDenied, "403", if kind == Kind::Azurite { "AuthorizationPermissionMismatch" } else { "AccessDenied" }),
            (Fault::ReadOnly, "403", ""),
            (Fault::Full, "507", "InsufficientStorage"),
        ] {
            proxy.inject(fault.next(1));
            let error = told(store.put(&path, "refused".into()).await.unwrap_err());
            assert!(error.contains(status) && error.contains(code), "{kind:?} {fault:?}: {error}");
            assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "before", "{kind:?} {fault:?}");
        }
        proxy.inject(Fault::AccessDenied.next(1));
        assert!(matches!(store.head(&path).await.unwrap_err(), Error::PermissionDenied { .. }), "{kind:?}");
        assert_eq!(proxy.counts().faults, 6, "{kind:?}");
    }
}

#[tokio::test]
async fn a_bucket_that_is_read_only_or_full_can_still_be_read() {
    let (_server, proxy, store) = start(Kind::Versitygw);
    let path = Path::from("a");
    store.put(&path, "before".into()).await.unwrap();
    for fault in [Fault::ReadOnly, Fault::Full] {
        let id = proxy.inject(fault.always());
        for _ in 0..3 {
            store.put(&path, "after".into()).await.unwrap_err();
            store.put_multipart(&path).await.unwrap_err();
            assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "before");
        }
        // Deleting makes room.
        let delete = store.delete(&Path::from("other")).await;
        assert_eq!(delete.is_err(), fault == Fault::ReadOnly, "{delete:?}");
        assert!(proxy.lift(id));
        store.put(&path, "before".into()).await.unwrap();
    }
}

#[tokio::test]
async fn a_reset_request_never_reaches_the_store_and_a_lost_answer_comes_too_late() {
    let (_server, proxy, store) = start(Kind::Versitygw);
    let path = Path::from("a");
    proxy.inject(Fault::Reset.next(1));
    let error = told(store.put_opts(&path, "reset".into(), PutMode::Create.into()).await.unwrap_err());
    assert!(error.contains("ConnectionReset") || error.contains("IncompleteMessage"), "{error}");
    assert!(matches!(store.head(&path).await.unwrap_err(), Error::NotFound { .. }));

    proxy.inject(Fault::ResponseLost.next(1));
    let error = told(store.put_opts(&path, "applied".into(), PutMode::Create.into()).await.unwrap_err());
    assert!(error.contains("ConnectionReset") || error.contains("IncompleteMessage"), "{error}");
    assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "applied");
    let again = store.put_opts(&path, "again".into(), PutMode::Create.into()).await.unwrap_err();
    assert!(matches!(again, Error::AlreadyExists { .. }), "{again:?}");
}

#[tokio::test]
async fn a_hanging_request_is_not_applied_and_others_pass() {
    let (_server, proxy, store) = start(Kind::Versitygw);
    let path = Path::from("wal/1");
    proxy.inject(Fault::Hang.always().on(&[Operation::Put]).key_containing("wal/"));
    let hanging = tokio::time::timeout(Duration::from_millis(300), store.put(&path, "hangs".into())).await;
    assert!(hanging.is_err());
    store.put(&Path::from("manifest/1"), "passes".into()).await.unwrap();
    assert!(matches!(store.head(&path).await.unwrap_err(), Error::NotFound { .. }));
    proxy.heal();
    store.put(&path, "passes".into()).await.unwrap();
}

#[tokio::test]
async fn objects_are_cut_short_or_damaged_on_their_way_and_not_in_the_store() {
    for kind in [Kind::Versitygw, Kind::Moto, Kind::Azurite, Kind::FakeGcs] {
        let (_server, proxy, store) = start(kind);
        for length in [1, 2, 100, 3 << 20] {
            let path = Path::from(format!("object-{length}"));
            let content: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            store.put(&path, content.clone().into()).await.unwrap();

            proxy.inject(Fault::Truncated.next(1));
            let got = store.get(&path).await.unwrap();
            assert_eq!(got.meta.size, length as u64);
            let mut stream = got.into_stream();
            let mut read = Vec::new();
            let error = loop {
                match stream.try_next().await {
                    Ok(Some(part)) => read.extend_from_slice(&part),
                    Ok(None) => panic!("{kind:?}: the end of {length} bytes after {}", read.len()),
                    Err(error) => break error,
                }
            };
            assert_eq!(read, &content[..length / 2], "{kind:?} {error}");

            proxy.inject(Fault::Corrupted.next(1));
            let damaged = store.get(&path).await.unwrap().bytes().await.unwrap();
            let differing: Vec<_> = (0..length).filter(|at| damaged[*at] != content[*at]).collect();
            assert_eq!((damaged.len(), differing), (length, vec![length / 2]), "{kind:?}");

            assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), content, "{kind:?}");
        }
    }
}

#[tokio::test]
async fn while_it_refuses_nobody_gets_in_and_then_all_is_as_before() {
    let (_server, proxy, store) = start(Kind::Versitygw);
    let path = Path::from("a");
    for _ in 0..3 {
        store.put(&path, "content".into()).await.unwrap();
        let mut open = TcpStream::connect(proxy.address()).unwrap();
        proxy.inject(Fault::Hang.always());
        open.write_all(b"GET /hanging/object HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        while proxy.counts().of(Operation::Get) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        proxy.refuse(true);
        proxy.heal();
        assert_eq!(open.read(&mut [0; 100]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(TcpStream::connect(proxy.address()).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        store.put(&path, "refused".into()).await.unwrap_err();
        proxy.refuse(false);
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "content");
        proxy.reset_counts();
    }
}

#[tokio::test]
async fn a_killed_server_is_gone_for_its_clients_and_back_with_its_data() {
    let (mut server, proxy, store) = start(Kind::Versitygw);
    let path = Path::from("a");
    store.put(&path, "durable".into()).await.unwrap();
    for _ in 0..3 {
        server.kill();
        store.get(&path).await.unwrap_err();
        server.restart().unwrap();
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "durable");
    }
    assert_eq!(proxy.counts().of(Operation::Get), 6);
}

#[tokio::test]
async fn connections_stay_through_errors() {
    let (_server, proxy, _store) = start(Kind::Moto);
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    proxy.inject(Fault::SlowDown.next(1).on(&[Operation::Put]));
    for (request, status) in [
        ("GET /bucketmq/none HTTP/1.1\r\nhost: x\r\n\r\n", "404"),
        ("PUT /bucketmq/a HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello", "503"),
        ("PUT /bucketmq/a HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello", "200"),
        // It is not public.
        ("GET /bucketmq/a HTTP/1.1\r\nhost: x\r\n\r\n", "403"),
    ] {
        stream.write_all(request.as_bytes()).unwrap();
        let answer = read_answer(&mut stream);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
    }
}

/// Reads one answer and leaves the connection open.
fn read_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let ends = |answer: &[u8]| {
        let text = String::from_utf8_lossy(answer).to_lowercase();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
        Some(length.map_or(body.ends_with("0\r\n\r\n"), |length| body.len() >= length))
    };
    while !ends(&answer).unwrap_or_default() {
        let mut part = [0; 4096];
        match stream.read(&mut part).expect("an answer") {
            0 => break,
            count => answer.extend_from_slice(&part[..count]),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_shell_script_can_do_it_all() {
    let (_server, proxy, store) = start(Kind::Versitygw);
    let address: SocketAddr = proxy.control_endpoint().trim_start_matches("http://").parse().unwrap();
    let path = Path::from("p/wal/1");
    let control = |request: &str| {
        let mut stream = TcpStream::connect(address).expect("the control endpoint");
        stream.write_all(format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).expect("a request");
        read_answer(&mut stream)
    };
    assert!(control("GET /").contains("slow-down"));
    assert!(control("PUT /latency?write=30ms&read=15ms").contains("200 OK"));
    assert!(put_time(&*store, &path).await >= WRITE);
    control("PUT /latency?write=0ms&read=0ms");

    let made = control("POST /faults?fault=access-denied&on=writes&key=wal/");
    assert!(made.contains(r#"{"id":1}"#), "{made}");
    store.put(&path, "refused".into()).await.unwrap_err();
    store.put(&Path::from("p/other"), "passes".into()).await.unwrap();
    let state = control("GET /state");
    assert!(state.contains(r#""fault":"access-denied""#) && state.contains(r#""key":"wal/""#), "{state}");
    control("DELETE /faults?id=1");
    store.put(&path, "passes".into()).await.unwrap();

    assert!(control("PUT /refuse?on=true").contains("200 OK"));
    assert!(control("GET /state").contains(r#""refusing":true"#));
    store.put(&path, "refused".into()).await.unwrap_err();
    control("PUT /refuse?on=false");
    store.put(&path, "passes".into()).await.unwrap();

    let counts = control("GET /counts?prefix=p/wal/");
    assert!(counts.contains(r#""put":4"#) && counts.contains(r#""faults":1"#), "{counts}");
    control("DELETE /counts");
    assert_eq!(proxy.counts(), Counts::default());
    for wrong in ["POST /faults", "POST /faults?fault=none", "PUT /latency?read=long", "PUT /refuse?on=maybe", "DELETE /faults?id=9"] {
        assert!(control(wrong).contains("400 Bad Request"), "{wrong}");
    }
    assert!(control("GET /nothing").contains("404 Not Found"));
}

#[tokio::test]
async fn a_proxy_has_the_port_it_is_given_and_not_one_that_is_taken() {
    let (server, proxy, _store) = start(Kind::Versitygw);
    let port = proxy.address().port();
    let options = ProxyOptions { port: Some(port), ..ProxyOptions::default() };
    FaultProxy::start(&server, options.clone()).unwrap_err();
    drop(proxy);
    let proxy = FaultProxy::start(&server, options).unwrap();
    assert_eq!(proxy.address().port(), port);
    client(proxy.access()).put(&Path::from("a"), "content".into()).await.unwrap();
}

/// Only optimized code is worth measuring, and one request at a time costs mostly the kernel's going to sleep and waking; the figures are printed in any
/// case.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_costs_less_than_100_us_of_processor_time() {
    const REQUESTS: u32 = 4000;
    let (_server, proxy, store) = start(Kind::Versitygw);
    for clients in [1, 32] {
        let before = proxy.cpu().unwrap();
        let work = (0..clients).map(|number| {
            let (store, path) = (store.clone(), Path::from(format!("{number}")));
            async move {
                for _ in 0..REQUESTS / clients / 2 {
                    store.put(&path, vec![0; 4096].into()).await.unwrap();
                    store.get(&path).await.unwrap().bytes().await.unwrap();
                }
            }
        });
        join_all(work).await;
        let each = (proxy.cpu().unwrap() - before) / REQUESTS;
        println!("{each:?} per request, {clients} at a time");
        assert!(cfg!(debug_assertions) || clients == 1 || each < Duration::from_micros(100), "{each:?}");
    }
}
