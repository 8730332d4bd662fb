//! Starts the brokers that are compared, each with the listeners the tests need, and stops them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::run::Target;
use crate::secured::{FORBIDDEN, OTHER_USER, PASSWORD, USER};

/// Processes that make up the broker under test; they end with this value.
#[derive(Debug)]
pub struct Brokers {
    /// Name and version, for the table.
    pub name: String,
    /// Where the tests go.
    pub target: Target,
    processes: Vec<Child>,
    folder: PathBuf,
}

impl Drop for Brokers {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // Already gone is as good.
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A port nobody listens on.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn folder(name: &str) -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("bucketmq-conformance-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

/// Waits until something listens.
fn await_listener(process: &mut Child, port: u16, log: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let log = || std::fs::read_to_string(log).unwrap_or_default();
        if let Some(status) = process.try_wait()? {
            bail!("the broker ended ({status}):\n{}", log());
        }
        ensure!(Instant::now() < deadline, "nothing listens on port {port}:\n{}", log());
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn start(command: &mut Command, port: u16, log: &Path) -> Result<Child> {
    let file = std::fs::File::create(log)?;
    let mut process =
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn().with_context(|| format!("starting {command:?}"))?;
    if let Err(error) = await_listener(&mut process, port, log) {
        let _ = process.kill();
        let _ = process.wait();
        return Err(error);
    }
    Ok(process)
}

/// Mosquitto twice: with everything, and with what it can be denied.
pub fn mosquitto(binary: &Path, wait: Duration) -> Result<Brokers> {
    let folder = folder("mosquitto")?;
    let version = output(Command::new(binary).arg("-h"))?;
    let name = version
        .lines()
        .next()
        .and_then(|line| line.split_whitespace().nth(2))
        .map_or("Mosquitto".into(), |number| format!("Mosquitto {number}"));
    let [main, websocket, restricted, secured] = [free_port()?, free_port()?, free_port()?, free_port()?];
    let passwords = folder.join("passwords");
    std::fs::write(&passwords, "")?;
    for user in [USER, OTHER_USER] {
        let said = output(Command::new("mosquitto_passwd").arg("-b").arg(&passwords).args([user, PASSWORD]))?;
        ensure!(std::fs::read_to_string(&passwords)?.contains(user), "mosquitto_passwd: {said}");
    }
    let acl = folder.join("acl");
    // Without `allow` nothing is; a filter is checked only on delivery, so what is forbidden is denied by name as well.
    let mut rules = String::new();
    for user in [USER, OTHER_USER] {
        writeln!(rules, "user {user}\ntopic readwrite #\ntopic deny {FORBIDDEN}#")?;
    }
    std::fs::write(&acl, rules)?;
    let full = format!(
        "per_listener_settings true\nuser root\nmax_packet_size 1048576\nsys_interval 1\nmax_queued_messages 0\n\
         listener {main} 127.0.0.1\nallow_anonymous true\n\
         listener {websocket} 127.0.0.1\nprotocol websockets\nallow_anonymous true\n\
         listener {secured} 127.0.0.1\nallow_anonymous false\npassword_file {}\nacl_file {}\n",
        passwords.display(),
        acl.display()
    );
    let limited = format!(
        "per_listener_settings true\nuser root\nretain_available false\nmax_keepalive 10\n\
         listener {restricted} 127.0.0.1\nallow_anonymous true\nmax_qos 1\nmax_topic_alias 0\n"
    );
    let mut processes = Vec::new();
    for (config, port, what) in [(full, main, "full"), (limited, restricted, "limited")] {
        let path = folder.join(format!("{what}.conf"));
        std::fs::write(&path, config)?;
        processes.push(start(Command::new(binary).arg("-c").arg(&path), port, &folder.join(format!("{what}.log")))?);
    }
    let target = Target {
        address: format!("127.0.0.1:{main}"),
        websocket: Some(format!("ws://127.0.0.1:{websocket}/mqtt")),
        restricted: Some(format!("127.0.0.1:{restricted}")),
        secured: Some(format!("127.0.0.1:{secured}")),
        wait,
    };
    Ok(Brokers { name, target, processes, folder })
}

/// BucketMQ twice: with everything, and with little.
pub fn bucketmq(binary: &Path, wait: Duration) -> Result<Brokers> {
    let folder = folder("bucketmq")?;
    let version = output(Command::new(binary).arg("version"))?;
    let number = version.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit())).unwrap_or("").to_owned();
    let [main, websocket, restricted, secured] = [free_port()?, free_port()?, free_port()?, free_port()?];
    let users = folder.join("users");
    for user in [USER, OTHER_USER] {
        let mut passwd = Command::new(binary)
            .arg("passwd")
            .arg(&users)
            .arg(user)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        passwd.stdin.take().context("passwd has a stdin")?.write_all(format!("{PASSWORD}\n").as_bytes())?;
        ensure!(passwd.wait()?.success(), "bucketmq passwd did not succeed");
    }
    let full = std::fs::read_to_string(crate::folder().join("brokers/bucketmq.toml"))?;
    let limited = std::fs::read_to_string(crate::folder().join("brokers/bucketmq-restricted.toml"))?;
    let fill = |text: String| {
        text.replace("@MAIN@", &main.to_string())
            .replace("@WEBSOCKET@", &websocket.to_string())
            .replace("@SECURED@", &secured.to_string())
            .replace("@RESTRICTED@", &restricted.to_string())
            .replace("@USERS@", &users.display().to_string())
            .replace("@USER@", USER)
            .replace("@OTHER_USER@", OTHER_USER)
            .replace("@FORBIDDEN@", FORBIDDEN)
    };
    let mut processes = Vec::new();
    for (config, port, what) in [(full, main, "full"), (limited, restricted, "limited")] {
        let path = folder.join(format!("{what}.toml"));
        std::fs::write(&path, fill(config))?;
        processes.push(start(Command::new(binary).arg("serve").arg("--config").arg(&path), port, &folder.join(format!("{what}.log")))?);
    }
    let target = Target {
        address: format!("127.0.0.1:{main}"),
        websocket: Some(format!("ws://127.0.0.1:{websocket}/mqtt")),
        restricted: Some(format!("127.0.0.1:{restricted}")),
        secured: Some(format!("127.0.0.1:{secured}")),
        wait,
    };
    Ok(Brokers { name: format!("BucketMQ {number}").trim_end().into(), target, processes, folder })
}

/// The binary to test: the one that is named, or the newest of the target folder's release, fast and debug builds.
pub fn find_bucketmq(named: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(path) = named {
        ensure!(path.is_file(), "{} is no file", path.display());
        return Ok(path);
    }
    // This program stands in one of them itself.
    let target = std::env::current_exe()?
        .parent()
        .and_then(Path::parent)
        .map(Path::to_path_buf)
        .context("this program stands in no target folder")?;
    ["release", "fast", "debug"]
        .iter()
        .map(|profile| target.join(profile).join("bucketmq"))
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .max()
        .map(|(_, path)| path)
        .with_context(|| format!("no bucketmq below {}: build it, or name it by --bucketmq", target.display()))
}
