//! What clusters with nodes change on the machine itself, and take back: a bridge for each, routes to its pods and Services, and kernel settings that they
//! share.

use std::fs::File;
use std::io::Write;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

use crate::addresses::{Ranges, SLOTS};
use crate::folder::{self, Folder};
use crate::installed;

/// Shared by all users of a machine, who would have caches of their own; gone after a restart, like the settings.
const SHARED: &str = "/run/bucketmq-local-cluster";
/// What this program sets (the first) and kubelets set.
const SETTINGS: [&str; 7] = [
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// Holds off all others who change the machine, until it is dropped.
pub(crate) fn lock() -> anyhow::Result<File> {
    folder::lock(&Path::new(SHARED).join("lock"))
}

/// Runs `ip` with each line of `commands`.
pub(crate) fn ip(commands: &str) -> anyhow::Result<()> {
    ip_by(Command::new(installed::in_path("ip").context("ip is missing: run `e2e/cluster/install packages`")?), commands)
}

/// As [`ip`], by a command that ends where `ip`'s options begin.
pub(crate) fn ip_by(mut command: Command, commands: &str) -> anyhow::Result<()> {
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(commands.as_bytes()).context("write to ip")?;
    }
    let output = child.wait_with_output().context("wait for ip")?;
    ensure!(output.status.success(), "`ip` failed: {}, at one of:\n{commands}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// A slot nobody has; who asks holds the [`lock`] until its bridge is there.
pub(crate) fn free_slot() -> anyhow::Result<u8> {
    // An address one can listen on is somebody's already.
    let is_free = |ranges: &Ranges| owner(*ranges).is_none() && UdpSocket::bind((ranges.host(), 0)).is_err();
    let free = (0..SLOTS).find(|slot| is_free(&Ranges::new(*slot)));
    free.with_context(|| format!("{SLOTS} clusters with nodes run already: end one by e2e/cluster/down"))
}

/// The folder of the cluster whose bridge this is. One that was cut off before it could say has none.
fn owner(ranges: Ranges) -> Option<PathBuf> {
    let text = std::fs::read_to_string(format!("/sys/class/net/{}/ifalias", ranges.bridge())).ok()?;
    Some(text.trim()).filter(|text| !text.is_empty()).map(PathBuf::from)
}

/// Whether the bridge is there, and that of this cluster.
pub(crate) fn is_owner(folder: &Folder, ranges: Ranges) -> bool {
    owner(ranges).is_some_and(|owner| owner == folder.path)
}

/// Makes the bridge, with the routes that lead over it.
pub(crate) fn make_bridge(folder: &Folder, ranges: Ranges) -> anyhow::Result<()> {
    let bridge = ranges.bridge();
    if is_link(&bridge) {
        ip(&format!("link delete {bridge}"))?;
    }
    ip(&format!(
        "link add {bridge} type bridge\n\
         link set {bridge} alias {}\n\
         address add {}/24 dev {bridge}\n\
         link set {bridge} up\n",
        folder.path.display(),
        ranges.host()
    ))?;
    save_settings()?;
    set("net/ipv4/ip_forward", "1")
}

/// Lets this machine reach the pods of a node, and the Services by the first one.
pub(crate) fn make_routes(ranges: Ranges, node: u8) -> anyhow::Result<()> {
    let mut routes = format!("route replace {} via {}\n", ranges.pods_of(node), ranges.node(node));
    if node == 1 {
        routes += &format!("route replace {} via {}\n", ranges.services(), ranges.node(node));
    }
    ip(&routes)
}

/// Removes the bridge, if it is that of this cluster, its routes with it, and puts the settings back when no other bridge is left.
pub(crate) fn remove_bridge(folder: &Folder, ranges: Ranges) -> anyhow::Result<()> {
    let _lock = lock()?;
    if is_owner(folder, ranges) {
        ip(&format!("link delete {}\n", ranges.bridge()))?;
    }
    if (0..SLOTS).all(|slot| !is_link(&Ranges::new(slot).bridge())) {
        restore_settings()?;
        std::fs::remove_dir_all(SHARED).with_context(|| format!("remove {SHARED}"))?;
    }
    Ok(())
}

/// Removes a link that may be there, and its other end.
pub(crate) fn remove_link(link: &str) -> anyhow::Result<()> {
    if is_link(link) { ip(&format!("link delete {link}\n")) } else { Ok(()) }
}

fn is_link(link: &str) -> bool {
    Path::new("/sys/class/net").join(link).exists()
}

fn saved(setting: &str) -> PathBuf {
    Path::new(SHARED).join(setting.replace('/', "."))
}

/// The first cluster finds them as they were.
fn save_settings() -> anyhow::Result<()> {
    for setting in SETTINGS.iter().filter(|setting| !saved(setting).exists()) {
        let path = Path::new("/proc/sys").join(setting);
        let value = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        std::fs::write(saved(setting), value).with_context(|| format!("save {}", path.display()))?;
    }
    Ok(())
}

fn restore_settings() -> anyhow::Result<()> {
    let mut failed = Vec::new();
    for setting in SETTINGS {
        if let Ok(value) = std::fs::read_to_string(saved(setting))
            && let Err(error) = set(setting, value.trim())
        {
            failed.push(format!("{error:#}"));
        }
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("; "));
    }
    Ok(())
}

fn set(setting: &str, value: &str) -> anyhow::Result<()> {
    let path = Path::new("/proc/sys").join(setting);
    std::fs::write(&path, value).with_context(|| format!("write {value} to {}", path.display()))
}
