//! Starts the brokers that are compared, each with the listeners the tests need, and stops them. Their configurations stand in `brokers/`.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::run::Target;
use crate::secured::{OTHER_USER, PASSWORD, USER};

/// Processes that make up the broker under test; they end with this value.
#[derive(Debug)]
pub struct Brokers {
    /// Name and version, for the table.
    pub name: String,
    /// Where the tests go.
    pub target: Target,
    processes: Vec<Child>,
    folder: Folder,
}

impl Drop for Brokers {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // Already gone is as good.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A folder for configurations and logs; it goes with this value.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("bucketmq-conformance-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in the folder of temporary files hurts nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Ports nobody listens on: found all at once, so that they differ.
fn free_ports() -> Result<[u16; 4]> {
    let mut listeners = Vec::new();
    for _ in 0..4 {
        listeners.push(TcpListener::bind(("127.0.0.1", 0))?);
    }
    let mut ports = [0; 4];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

/// What a command says.
fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

/// A configuration of `brokers/` with its names filled in, written to the folder.
fn configuration(folder: &Folder, file: &str, names: &[(&str, String)]) -> Result<PathBuf> {
    let template = crate::folder().join("brokers").join(file);
    let mut text = std::fs::read_to_string(&template).with_context(|| format!("reading {}", template.display()))?;
    for (name, value) in names {
        text = text.replace(&format!("@{name}@"), value);
    }
    let path = folder.0.join(file);
    std::fs::write(&path, text)?;
    Ok(path)
}

/// Starts a broker and waits until it listens on all of its ports.
fn start(folder: &Folder, command: &mut Command, ports: &[u16]) -> Result<Child> {
    let name: Vec<String> = ports.iter().map(u16::to_string).collect();
    let log = folder.0.join(format!("{}.log", name.join("-")));
    let file = std::fs::File::create(&log)?;
    let mut process =
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn().with_context(|| format!("starting {command:?}"))?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while ports.iter().any(|port| TcpStream::connect(("127.0.0.1", *port)).is_err()) {
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        if let Some(status) = process.try_wait()? {
            bail!("{command:?} ended ({status}):\n{}", said());
        }
        if Instant::now() > deadline {
            let _ = process.kill();
            let _ = process.wait();
            bail!("{command:?} does not listen on all of {ports:?}:\n{}", said());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(process)
}

fn broker(name: String, folder: Folder, ports: [u16; 4], wait: Duration, commands: [Command; 2]) -> Result<Brokers> {
    let [main, websocket, restricted, secured] = ports;
    let target = Target {
        address: format!("127.0.0.1:{main}"),
        websocket: Some(format!("ws://127.0.0.1:{websocket}/mqtt")),
        restricted: Some(format!("127.0.0.1:{restricted}")),
        secured: Some(format!("127.0.0.1:{secured}")),
        wait,
    };
    let mut brokers = Brokers { name, target, processes: Vec::new(), folder };
    for (mut command, ports) in commands.into_iter().zip([&[main, websocket, secured][..], &[restricted]]) {
        let process = start(&brokers.folder, &mut command, ports)?;
        brokers.processes.push(process);
    }
    Ok(brokers)
}

fn names(ports: [u16; 4], users: &Path) -> Vec<(&'static str, String)> {
    let named = ["MAIN", "WEBSOCKET", "RESTRICTED", "SECURED"].into_iter().zip(ports).map(|(name, port)| (name, port.to_string()));
    named.chain([("USERS", users.display().to_string())]).collect()
}

/// Mosquitto twice: with everything, and with little.
pub fn mosquitto(binary: &Path, wait: Duration) -> Result<Brokers> {
    let folder = Folder::new("mosquitto")?;
    let version = output(Command::new(binary).arg("-h"))?;
    let number = version.lines().next().and_then(|line| line.split_whitespace().nth(2)).unwrap_or_default();
    let users = folder.0.join("users");
    std::fs::write(&users, "")?;
    for user in [USER, OTHER_USER] {
        let said = output(Command::new("mosquitto_passwd").arg("-b").arg(&users).args([user, PASSWORD]))?;
        ensure!(std::fs::read_to_string(&users)?.contains(user), "mosquitto_passwd: {said}");
    }
    let ports = free_ports()?;
    let mut names = names(ports, &users);
    names.push(("ACL", crate::folder().join("brokers/mosquitto-acl").display().to_string()));
    let run = |file: &str| -> Result<Command> {
        let mut command = Command::new(binary);
        command.arg("-c").arg(configuration(&folder, file, &names)?);
        Ok(command)
    };
    let commands = [run("mosquitto.conf")?, run("mosquitto-restricted.conf")?];
    let name = format!("Mosquitto {number}").trim_end().to_owned();
    broker(name, folder, ports, wait, commands)
}

/// BucketMQ twice: with everything, and with little.
pub fn bucketmq(binary: &Path, wait: Duration) -> Result<Brokers> {
    let folder = Folder::new("bucketmq")?;
    let ports = free_ports()?;
    let names = names(ports, &crate::folder().join("brokers/bucketmq-users"));
    let run = |file: &str| -> Result<Command> {
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(configuration(&folder, file, &names)?);
        Ok(command)
    };
    let commands = [run("bucketmq.toml")?, run("bucketmq-restricted.toml")?];
    // No number: what is committed beside a version of the source was measured with that version.
    broker("BucketMQ".into(), folder, ports, wait, commands)
}
