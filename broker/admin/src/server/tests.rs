//! Over real sockets, with bytes by hand.

use prometheus::{IntCounter, IntGauge};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::health::ReadinessToken;

struct Fixture {
    address: SocketAddr,
    health: Arc<Health>,
    token: Option<ReadinessToken>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

async fn start(limits: Limits) -> Fixture {
    start_with(limits, Health::new(), || {}).await
}

async fn start_with(limits: Limits, health: Arc<Health>, before_gather: impl Fn() + Send + Sync + 'static) -> Fixture {
    let registry = Registry::new();
    let counter = IntCounter::new("mqtt_test_total", "A counter.").unwrap();
    counter.inc_by(3);
    let gauge = IntGauge::new("mqtt_test_scrapes", "Refreshed before each scrape.").unwrap();
    registry.register(Box::new(counter)).unwrap();
    registry.register(Box::new(gauge.clone())).unwrap();
    let token = Some(health.awaiting("listeners"));
    let server = Server::bind(&Config { listen: "http://127.0.0.1:0".to_owned() }).await.unwrap().unwrap();
    let server = Server { limits, ..server };
    let address = server.local_addr();
    let (stop, stopped) = oneshot::channel();
    let on_gather = move || {
        before_gather();
        gauge.inc();
    };
    let shutdown = async { stopped.await.unwrap_or(()) };
    let serving = tokio::spawn(server.serve(registry, health.clone(), "1.2.3", Arc::new(on_gather), shutdown));
    Fixture { address, health, token, stop, serving }
}

/// Sends one request and reads until the server closes: status, head, body.
async fn ask(fixture: &Fixture, method: &str, path: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: broker\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

#[tokio::test]
async fn metrics_are_refreshed_before_each_scrape() {
    let fixture = start(Limits::default()).await;
    for scrape in 1..=2 {
        let (status, head, body) = ask(&fixture, "GET", "/metrics").await;
        assert_eq!(status, 200);
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        assert!(body.contains("mqtt_test_total 3\n"), "{body}");
        assert!(body.contains(&format!("mqtt_test_scrapes {scrape}\n")), "{body}");
    }
}

#[tokio::test]
async fn readiness_is_503_until_nothing_is_awaited_and_again_while_draining() {
    let mut fixture = start(Limits::default()).await;
    let (status, head, body) = ask(&fixture, "GET", "/readyz").await;
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &json["ready"], &json["awaiting"]), (503, &false.into(), &serde_json::json!(["listeners"])), "{body}");
    assert!(body.contains(r#""bucket":null"#), "{body}");
    assert!(head.contains("content-type: application/json") && head.contains("cache-control: no-store"), "{head}");

    fixture.token = None;
    fixture.health.set_config("c0".to_owned(), "r7");
    fixture.health.set_last_reload(Ok(()));
    let (status, _, body) = ask(&fixture, "GET", "/readyz").await;
    assert!(status == 200 && body.contains(r#""config_hash":"c0""#) && body.contains(r#""ok":true,"error":null"#), "{status} {body}");
    fixture.health.set_draining(true);
    let (status, _, body) = ask(&fixture, "GET", "/readyz").await;
    assert!(status == 503 && body.contains(r#""draining":true"#), "{status} {body}");
}

#[tokio::test]
async fn the_process_lives_before_and_while_its_heart_beats() {
    let fixture = start(Limits::default()).await;
    assert_eq!(ask(&fixture, "GET", "/livez").await.0, 200);
    fixture.health.beat();
    let (status, _, body) = ask(&fixture, "GET", "/livez").await;
    assert_eq!((status, body.as_str()), (200, "ok\n"));
}

#[tokio::test]
async fn other_paths_and_methods_are_answered_by_problems() {
    let fixture = start(Limits::default()).await;
    for (method, path, expected, says) in
        [("GET", "/admin", 404, "/admin"), ("POST", "/readyz", 405, "GET and HEAD, not POST"), ("DELETE", "/nothing", 404, "/ lists")]
    {
        let (status, head, body) = ask(&fixture, method, path).await;
        assert_eq!(status, expected, "{method} {path}");
        assert!(head.contains("content-type: application/problem+json"), "{head}");
        assert!(expected != 405 || head.contains("allow: get,head"), "{head}");
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(json["status"], expected);
        assert!(json["title"].is_string() && json["detail"].as_str().unwrap().contains(says), "{body}");
    }
    let (status, _, body) = ask(&fixture, "GET", "/").await;
    assert!(status == 200 && body.contains("/metrics"), "{body}");
    let (status, _, body) = ask(&fixture, "HEAD", "/readyz").await;
    assert_eq!((status, body.as_str()), (503, ""));
}

/// What comes until the server closes, which it has to do in time.
async fn read_to_close(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.expect("closed in time").unwrap_or(0);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn silent_slow_and_old_connections_are_closed() {
    let fixture =
        start(Limits { header_timeout: Duration::from_millis(200), connection_lifetime: Duration::from_millis(600), ..Limits::default() })
            .await;
    let mut silent = TcpStream::connect(fixture.address).await.unwrap();
    assert!(!read_to_close(&mut silent).await.contains("200 OK"));
    let mut idle_after_an_answer = TcpStream::connect(fixture.address).await.unwrap();
    idle_after_an_answer.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(read_to_close(&mut idle_after_an_answer).await.ends_with("ok\n"));
    let mut slow = TcpStream::connect(fixture.address).await.unwrap();
    slow.write_all(b"GET /livez HT").await.unwrap();
    assert!(!read_to_close(&mut slow).await.contains("200 OK"));
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let fixture = start(Limits::default()).await;
    for head in [format!("x: {}\r\n", "a".repeat(Limits::default().header_bytes_max)), "x: a\r\n".repeat(Limits::default().headers_max + 1)]
    {
        let mut stream = TcpStream::connect(fixture.address).await.unwrap();
        stream.write_all(format!("GET /livez HTTP/1.1\r\nhost: a\r\n{head}\r\n").as_bytes()).await.unwrap();
        let answer = read_to_close(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_a_place() {
    let fixture = start(Limits { connections_max: 1, header_timeout: Duration::from_millis(300), ..Limits::default() }).await;
    let _silent = TcpStream::connect(fixture.address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let before = tokio::time::Instant::now();
    assert_eq!(ask(&fixture, "GET", "/livez").await.0, 200);
    assert!(before.elapsed() > Duration::from_millis(150), "the silent connection held the place");
}

#[tokio::test]
async fn a_shutdown_ends_idle_connections_and_gives_the_address_back() {
    let fixture = start(Limits::default()).await;
    let mut idle = TcpStream::connect(fixture.address).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut some = [0; 12];
    idle.read_exact(&mut some).await.unwrap();
    fixture.stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), fixture.serving).await.expect("ends in time").unwrap();
    assert!(read_to_close(&mut idle).await.ends_with("ok\n"));
    assert!(TcpStream::connect(fixture.address).await.is_err());
}

#[tokio::test]
async fn what_cannot_be_listened_on_is_named_and_nothing_is_nothing() {
    let bind = async |listen: &str| Server::bind(&Config { listen: listen.to_owned() }).await.map(|server| server.is_some());
    assert!(!bind("").await.unwrap());
    let error = bind("192.0.2.1:9090").await.unwrap_err();
    assert_eq!(error.to_string(), "admin.listen: cannot listen on 192.0.2.1:9090");
    assert!(bind("9090").await.unwrap_err().to_string().contains("expected host:port"));
}

#[tokio::test]
async fn a_process_whose_heart_stopped_is_dead_until_it_beats_again() {
    let fixture = start_with(Limits::default(), Health::silent_for(Duration::from_secs(40)), || {}).await;
    let (status, head, body) = ask(&fixture, "GET", "/livez").await;
    assert!(status == 503 && head.contains("content-type: application/problem+json"), "{status} {head}");
    assert!(body.contains("the last heartbeat was 40 s ago") || body.contains("the last heartbeat was 41 s ago"), "{body}");
    fixture.health.beat();
    assert_eq!(ask(&fixture, "GET", "/livez").await.0, 200);
}

#[tokio::test]
async fn readyz_tells_what_is_in_force_after_a_reload_that_failed() {
    let mut fixture = start(Limits::default()).await;
    fixture.token = None;
    fixture.health.set_config("c0".to_owned(), "r7");
    fixture.health.set_users_hash(Some("5e".to_owned()));
    fixture.health.set_bucket(crate::BucketHealth::new(crate::BucketReason::Slow, "s3://b: it is slow"));
    let certificate = crate::Certificate {
        listener: "tls".to_owned(),
        subject: "CN=broker.example".to_owned(),
        sha256: "ab".to_owned(),
        not_after: 1_795_392_000,
    };
    fixture.health.set_certificates(vec![certificate]);
    fixture.health.set_last_reload(Err("bucketmq.toml:3: unknown key".to_owned()));
    let (status, _, body) = ask(&fixture, "GET", "/readyz").await;
    let mut json: serde_json::Value = serde_json::from_str(&body).unwrap();
    let at = json["last_reload"]["at"].take();
    assert!(humantime::parse_rfc3339(at.as_str().unwrap()).is_ok(), "{at}");
    assert_eq!(status, 200, "it goes on with what it had");
    let certificates = serde_json::json!([
        { "listener": "tls", "subject": "CN=broker.example", "sha256": "ab", "not_after": "2026-11-23T00:00:00Z" }
    ]);
    assert_eq!(
        json,
        serde_json::json!({
            "ready": true, "awaiting": [], "draining": false, "version": "1.2.3", "config_hash": "c0", "revision": "r7", "users_hash": "5e",
            "owner": null, "bucket": { "healthy": false, "reason": "Slow", "message": "s3://b: it is slow" },
            "certificates": certificates, "last_reload": { "at": null, "ok": false, "error": "bucketmq.toml:3: unknown key" },
        })
    );
}

#[tokio::test]
async fn a_peer_that_never_reads_gives_its_place_back_at_the_end_of_its_lifetime() {
    let limits = Limits {
        connections_max: 1,
        connection_lifetime: Duration::from_millis(800),
        close_timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    let fixture = start(limits).await;
    let mut deaf = TcpStream::connect(fixture.address).await.unwrap();
    let requests = "GET /readyz HTTP/1.1\r\nhost: a\r\n\r\n".repeat(1000);
    // Until both directions are full and the server waits for the peer.
    let flood = async { while deaf.write_all(requests.as_bytes()).await.is_ok() {} };
    assert!(tokio::time::timeout(Duration::from_millis(500), flood).await.is_err(), "still connected");
    let answer = tokio::time::timeout(Duration::from_secs(10), ask(&fixture, "GET", "/livez")).await;
    assert_eq!(answer.expect("the place is free").0, 200);
}

#[tokio::test]
async fn a_scrape_that_panics_costs_its_connection_only() {
    let fixture = start_with(Limits::default(), Health::new(), || panic!("a gauge that cannot be read")).await;
    for _ in 0..2 {
        let mut stream = TcpStream::connect(fixture.address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        assert_eq!(read_to_close(&mut stream).await, "");
        assert_eq!(ask(&fixture, "GET", "/livez").await.0, 200);
    }
}

#[tokio::test]
async fn a_scrape_that_waits_too_long_is_told_so_and_health_is_not_held_up() {
    let broker = Broker {
        registry: Registry::new(),
        health: Health::new(),
        version: "1.2.3",
        on_gather: Arc::new(|| {}),
        gathering: tokio::sync::Mutex::default(),
    };
    // Held for ever, as by a scrape that does not end.
    std::mem::forget(broker.gathering.try_lock().unwrap());
    let router = routes::router(broker, Duration::from_millis(100));
    for (path, expected) in [("/metrics", "HTTP/1.1 503"), ("/livez", "HTTP/1.1 200")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, remote_addr) = listener.accept().await.unwrap();
        let (_closing, closed) = watch::channel(None);
        let serving = tokio::spawn(connection(accepted, remote_addr, router.clone(), closed, Limits::default()));
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
        let answer = read_to_close(&mut stream).await;
        assert!(answer.starts_with(expected), "{path}: {answer}");
        serving.await.unwrap();
    }
}
