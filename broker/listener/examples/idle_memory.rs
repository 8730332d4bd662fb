//! What an idle connection costs: opens many, has each say a little, and prints this process's growth per connection.
//!
//! `cargo run --profile fast -p bucketmq-listener --example idle_memory -- [tcp|tls12|tls13|mtls|ws|wss] [CONNECTIONS]`
//!
//! The Clients live in a child process, so that only the server's side counts. The kernel's socket memory is no part of it.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bucketmq_listener::config::{Certificate, Tls};
use bucketmq_listener::{Config, Listeners, Totals};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, version};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const HOST: &str = "broker.example";

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().unwrap_or_else(|| "tls13".into());
    let connections: usize = arguments.next().map_or(Ok(2000), |count| count.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match (arguments.next(), arguments.next()) {
        (Some(addr), Some(dir)) => runtime.block_on(clients(&mode, connections, addr.parse()?, &dir)),
        _ => runtime.block_on(server(&mode, connections)),
    }
}

async fn server(mode: &str, connections: usize) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let key = KeyPair::generate()?;
    let (cert, key_file) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, CertificateParams::new([HOST.to_owned()])?.self_signed(&key)?.pem())?;
    std::fs::write(&key_file, key.serialize_pem())?;
    let tls = Tls {
        client_ca: (mode == "mtls").then(|| cert.clone()),
        certificates: vec![Certificate { cert, key: key_file }],
        ..Tls::default()
    };
    let config = match mode {
        "tcp" => Config::new("tcp://127.0.0.1:0"),
        "ws" => Config::new("ws://127.0.0.1:0"),
        "wss" => Config { tls: Some(tls), ..Config::new("wss://127.0.0.1:0") },
        "tls12" | "tls13" | "mtls" => Config { tls: Some(tls), ..Config::new("tls://127.0.0.1:0") },
        other => bail!("{other} is none of tcp, tls12, tls13, mtls, ws, wss"),
    };
    let listeners = Listeners::bind(&[config], Totals::new(0, 0)).await?;
    let addr = listeners.bound()[0].local_addrs[0];
    let idle = Arc::new(AtomicUsize::new(0));
    let count = idle.clone();
    listeners.serve(move |accepted| {
        let count = count.clone();
        async move {
            let (mut transport, _permit) = (accepted.transport, accepted.permit);
            drop((accepted.listener, accepted.tls));
            let mut bytes = [0; 16];
            while let Ok(1..) = transport.read(&mut bytes).await {
                if transport.write_all(b"\x20\x03\x00\x00\x00").await.is_err() || transport.flush().await.is_err() {
                    return;
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    })?;
    // One round beforehand, so that what is needed once does not count.
    round(mode, 200, addr, dir.path(), &idle, "warm up").await?;
    round(mode, connections, addr, dir.path(), &idle, mode).await
}

async fn round(
    mode: &str,
    connections: usize,
    addr: SocketAddr,
    dir: &std::path::Path,
    idle: &AtomicUsize,
    title: &str,
) -> anyhow::Result<()> {
    idle.store(0, Ordering::Relaxed);
    let (before, cpu, begin) = (status("VmRSS:")?, cpu()?, Instant::now());
    let mut child = Command::new(std::env::current_exe()?)
        .args([mode, &connections.to_string(), &addr.to_string()])
        .arg(dir)
        .stdin(Stdio::piped())
        .spawn()?;
    while idle.load(Ordering::Relaxed) < connections {
        if let Some(status) = child.try_wait()? {
            bail!("the clients ended: {status}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (took, cpu) = (begin.elapsed(), self::cpu()? - cpu);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let grown = status("VmRSS:")?.saturating_sub(before);
    let (each, cpu) = (grown as f64 / connections as f64, cpu as f64 / connections as f64);
    println!(
        "{title}: {connections} connections in {took:.1?}, {each:.2} KiB each, {cpu:.0} us of CPU each, peak {} KiB",
        status("VmHWM:")?
    );
    // The clients end with their standard input.
    child.stdin.take().context("piped")?.write_all(b"\n")?;
    child.wait()?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    println!("{title}: {:.2} KiB each are left when they are gone", status("VmRSS:")?.saturating_sub(before) as f64 / connections as f64);
    Ok(())
}

/// A field of `/proc/self/status`, in KiB.
fn status(field: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).context("a field of the status")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Microseconds of CPU of this process so far.
fn cpu() -> anyhow::Result<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(") ").next().context("fields")?.split(' ').collect();
    Ok((fields[11].parse::<u64>()? + fields[12].parse::<u64>()?) * 10_000)
}

async fn clients(mode: &str, connections: usize, addr: SocketAddr, dir: &str) -> anyhow::Result<()> {
    let dir = std::path::Path::new(dir);
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(dir.join("cert.pem"))?.collect::<Result<_, _>>()?;
    let mut roots = RootCertStore::empty();
    roots.add(chain[0].clone())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let version = if mode == "tls12" { &version::TLS12 } else { &version::TLS13 };
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version])?.with_root_certificates(roots);
    let mut config = match mode {
        "mtls" => builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(dir.join("key.pem"))?)?,
        _ => builder.with_no_client_auth(),
    };
    // Every connection makes a whole handshake.
    config.resumption = rustls::client::Resumption::disabled();
    let connector = TlsConnector::from(Arc::new(config));
    let mut held: Vec<Box<dyn Send>> = Vec::with_capacity(connections);
    for _ in 0..connections {
        let stream = TcpStream::connect(addr).await?;
        held.push(match mode {
            "tcp" => Box::new(say(stream, false).await?),
            "ws" => Box::new(say(stream, true).await?),
            _ => Box::new(say(connector.connect(ServerName::try_from(HOST)?, stream).await?, mode == "wss").await?),
        });
    }
    // Until the parent has measured.
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
    Ok(())
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, web_socket: bool) -> anyhow::Result<S> {
    if web_socket {
        let request =
            b"GET /mqtt HTTP/1.1\r\nHost: broker.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
        stream.write_all(request).await?;
        stream.flush().await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await?);
        }
        stream.write_all(b"\x82\x85\0\0\0\0hello").await?;
        stream.flush().await?;
        stream.read_exact(&mut [0; 7]).await?;
    } else {
        stream.write_all(b"hello").await?;
        stream.flush().await?;
        stream.read_exact(&mut [0; 5]).await?;
    }
    Ok(stream)
}
