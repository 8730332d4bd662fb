//! The clients and how each is told its [`Job`].

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::{Event, Job, Received, Role, Running, Transport, Version};

/// A whole job, 10,000 messages through the slowest client on a busy machine included.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A client other people use (and ours).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RealClient {
    /// `mosquitto_pub` and `mosquitto_sub`.
    Mosquitto,
    /// paho-mqtt for Python.
    Paho,
    /// MQTT.js.
    MqttJs,
    /// rumqttc, its modules for 3.1.1 and 5.0.
    Rumqttc,
    /// `bucketmq pub` and `bucketmq sub`.
    Bucketmq,
}

impl RealClient {
    /// Starts the client on `job`.
    pub fn start(self, job: &Job) -> anyhow::Result<Running> {
        match self {
            Self::Mosquitto => command_line(&program("mosquitto_pub")?, &program("mosquitto_sub")?, &[], job),
            Self::Bucketmq => {
                let bucketmq = bucketmq_binary::beside_test()?;
                let websocket: &[&str] = if job.transport == Transport::Ws { &["--ws=/mqtt"] } else { &[] };
                command_line(&bucketmq, &bucketmq, websocket, job)
            }
            Self::Paho => {
                let python = installed(cache()?.join("paho/bin/python"))?;
                let mut command = Command::new(python);
                command.arg(here().join("paho/driver.py"));
                driver(command, job)
            }
            Self::MqttJs => {
                let modules = installed(cache()?.join("mqttjs/node_modules"))?;
                let mut command = Command::new(program("node")?);
                command.arg(here().join("mqttjs/driver.mjs")).env("MQTTJS_MODULES", modules);
                driver(command, job)
            }
            Self::Rumqttc => {
                let test = std::env::current_exe()?;
                let path = test.ancestors().nth(2).context("tests run from target/PROFILE/deps")?.join("rumqttc-driver");
                driver(Command::new(path), job)
            }
        }
    }
}

/// This crate. As cargo says when it runs a test: one that was built in another checkout would look there.
fn here() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// Where `e2e/clients/install` puts things.
fn cache() -> anyhow::Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::home_dir().map(|home| home.join(".cache"));
    Ok(base.or_else(home).context("neither XDG_CACHE_HOME nor a home directory")?.join("bucketmq"))
}

fn installed(path: PathBuf) -> anyhow::Result<PathBuf> {
    ensure!(path.exists(), "{} is missing: run e2e/clients/install", path.display());
    Ok(path)
}

fn program(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is missing: run e2e/clients/install"))
}

/// A driver takes the job as its argument and writes events as JSON.
fn driver(mut command: Command, job: &Job) -> anyhow::Result<Running> {
    command.arg(serde_json::to_string(job)?);
    Running::start(command, None, |line| serde_json::from_str(line).ok(), TIMEOUT)
}

/// `mosquitto_pub`, `mosquitto_sub` and what takes the same options.
fn command_line(publish: &Path, subscribe: &Path, more: &[&str], job: &Job) -> anyhow::Result<Running> {
    let is_ours = publish == subscribe;
    let mut options = Vec::new();
    let mut input = None;
    let mut add = |words: &[&str]| options.extend(words.iter().map(|word| (*word).to_owned()));
    if is_ours {
        add(&[if job.role == Role::Publish { "pub" } else { "sub" }]);
    }
    let (port, qos, count) = (job.port.to_string(), job.qos.to_string(), job.count.to_string());
    let seconds = job.linger_ms.div_ceil(1000).to_string();
    add(&["-h", &job.host, "-p", &port, "-i", &job.client_id, "-t", &job.topic, "-q", &qos]);
    add(&[
        "-V",
        match job.version {
            Version::V3_1 => "31",
            Version::V3_1_1 => "311",
            Version::V5 => "5",
        },
    ]);
    for (option, file) in [("--cafile", &job.ca), ("--cert", &job.cert), ("--key", &job.key)] {
        if let Some(file) = file {
            add(&[option, file]);
        }
    }
    if let Some(will) = &job.will {
        let qos = will.qos.to_string();
        add(&["--will-topic", &will.topic, "--will-payload", &will.payload, "--will-qos", &qos]);
        if will.retain {
            add(&["--will-retain"]);
        }
    }
    add(more);
    match job.role {
        Role::Publish => {
            match &job.payload {
                Some(payload) if payload.is_empty() => add(&["-n"]),
                Some(payload) => add(&["-m", payload]),
                None => {
                    add(&["-l"]);
                    input = Some((0..job.count).map(|number| format!("{number}\n")).collect());
                }
            }
            if job.retain {
                add(&["-r"]);
            }
        }
        Role::Subscribe => {
            add(&["-d", "-F", "message %q %r %p"]);
            if !job.clean {
                add(&["-c"]);
            }
            match (job.count, job.linger_ms) {
                (0, 0) => add(&["-E"]),
                // Neither can stay after a last message; with none to come they end with 27.
                (0, _) => add(&["-W", &seconds]),
                _ => add(&["-C", &count]),
            }
        }
    }
    // Ours tells what it does on stderr, mosquitto's on stdout and late unless it is told to write line by line.
    let ends_with_27 = job.role == Role::Subscribe && job.count == 0 && job.linger_ms > 0;
    let script = if ends_with_27 { r#"stdbuf -oL "$0" "$@" 2>&1; [ $? -eq 27 ]"# } else { r#"exec stdbuf -oL "$0" "$@" 2>&1"# };
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(if job.role == Role::Publish { publish } else { subscribe }).args(options);
    Running::start(command, input, spoken, TIMEOUT)
}

/// A line of `-d` or of the format above.
fn spoken(line: &str) -> Option<Event> {
    if let Some(message) = line.strip_prefix("message ") {
        let (qos, rest) = message.split_once(' ')?;
        let (retain, payload) = rest.split_once(' ')?;
        return Some(Event::Message(Received { payload: payload.to_owned(), qos: qos.parse().ok()?, retain: retain == "1" }));
    }
    if line.contains("received CONNACK") {
        // Mosquitto's does not tell.
        let session_present = line.starts_with("received").then(|| line.contains("session present"));
        return Some(Event::Connected { session_present });
    }
    line.contains("received SUBACK").then_some(Event::Subscribed)
}
