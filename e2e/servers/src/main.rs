//! `bucketmq-servers`: one object-store server for the shell, with what a client needs to reach it, until Ctrl-C.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bucketmq_servers::{FaultProxy, Kind, Latency, Options, ProxyOptions};
use clap::{Args, Parser, Subcommand};
use serde_json::{Map, json};

/// Real object-store servers for tests and load, behind a proxy that makes them slow or broken.
#[derive(Parser)]
#[command(version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts a server and prints how to reach it, as lines to eval or as JSON; runs until Ctrl-C.
    ///
    /// Exits with 0 after Ctrl-C or SIGTERM, with 1 when the server cannot be started or ends by itself, with 2 when the command line is wrong.
    Run(Run),
}

#[derive(Args)]
struct Run {
    /// Which server.
    server: Kind,
    /// Time added to each request that reads, for instance 15ms. This and every option of the proxy put the proxy before the server.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    latency_read: Option<Duration>,
    /// Time added to each request that writes, for instance 30ms.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    latency_write: Option<Duration>,
    /// Puts the proxy before the server without latency, for its faults and counts.
    #[arg(long)]
    proxy: bool,
    /// Where the proxy's control endpoint listens; `curl` its root to see what it does. A free port by default.
    #[arg(long, value_name = "PORT")]
    control_port: Option<u16>,
    /// Of random faults.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where clients connect to, on 127.0.0.1. A free port by default.
    #[arg(long)]
    port: Option<u16>,
    /// Where data goes, and stays. A temporary directory by default.
    #[arg(long)]
    data: Option<PathBuf>,
    /// The bucket to make.
    #[arg(long, default_value = "bucketmq")]
    bucket: String,
    /// Prints one JSON object instead of lines for the shell.
    #[arg(long)]
    json: bool,
}

/// How often a server is looked after.
const STEP: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let CommandLine { command: Command::Run(run) } = CommandLine::parse();
    match run.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bucketmq-servers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Run {
    fn run(self) -> anyhow::Result<()> {
        // Before the server, so that a Ctrl-C while it starts ends it too.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut asked_to_end = runtime.block_on(async { asked_to_end() })?;
        let is_proxied = self.proxy || self.control_port.is_some() || self.latency_read.is_some() || self.latency_write.is_some();
        let port = self.port.filter(|_| !is_proxied);
        let mut server = self.server.start(Options { bucket: self.bucket, data: self.data, port })?;
        let latency = Latency { read: self.latency_read.unwrap_or_default(), write: self.latency_write.unwrap_or_default() };
        let options = ProxyOptions { port: self.port, control_port: self.control_port, latency, seed: self.seed };
        let proxy = if is_proxied { Some(FaultProxy::start(&server, options)?) } else { None };

        let access = proxy.as_ref().map_or(server.access(), FaultProxy::access);
        let control = proxy.as_ref().map(FaultProxy::control_endpoint);
        let environment = access.environment();
        let text = if self.json {
            let variables: Map<_, _> = environment.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
            let pid = server.pid();
            let data = server.data();
            let told = json!({
                "server": self.server.name(), "endpoint": access.endpoint, "bucket": access.bucket, "environment": variables,
                "control": control, "pid": pid, "data": data,
            });
            format!("{told}\n")
        } else {
            let (name, pid, data) = (self.server.name(), server.pid(), server.data().display());
            let mut text = format!("# {name} at {}, process {pid}, data in {data}\n", access.endpoint);
            for (name, value) in environment {
                text += &format!("export {name}='{value}'\n");
            }
            if let Some(control) = control {
                text += &format!("export PROXY_CONTROL='{control}'\n");
            }
            text
        };
        // In one piece; whoever read what it wanted may be gone.
        match std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error.into()),
            _ => {}
        }
        loop {
            let wait = async { tokio::time::timeout(STEP, asked_to_end.recv()).await.is_ok() };
            if runtime.block_on(wait) {
                return Ok(());
            }
            server.check()?;
        }
    }
}

/// Told at Ctrl-C and SIGTERM.
fn asked_to_end() -> anyhow::Result<tokio::sync::mpsc::Receiver<()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let (mut signals, sender) = (signal(kind)?, sender.clone());
        tokio::spawn(async move {
            signals.recv().await;
            sender.send(()).await.ok();
        });
    }
    Ok(receiver)
}
