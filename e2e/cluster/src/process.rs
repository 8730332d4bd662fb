//! Processes that outlive the one that started them. Each belongs to a cluster by a variable in its environment, which whatever it starts inherits, so
//! that none is forgotten even when this program is killed between a start and the note of it.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::folder::Folder;
use crate::wait;

/// Names the folder of the cluster a process belongs to.
const MARK: &str = "BUCKETMQ_LOCAL_CLUSTER";
/// How many lines of a log a failure shows.
const LOG_LINES: usize = 20;
/// How long the kernel may take to end what was killed.
const END_LIMIT: Duration = Duration::from_secs(20);

/// A process, told from a later one with the same number by when it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// In ticks since the machine was started.
    started: u64,
}

/// A part of a cluster: a process with a name.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) process: Process,
}

/// What a process does, in one letter of `/proc/PID/stat`.
pub(crate) const STOPPED: char = 'T';
const ENDED: [char; 2] = ['Z', 'X'];

impl Process {
    /// The one with this number now.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let (state, started) = stat(pid)?;
        (!ENDED.contains(&state)).then_some(Self { pid, started })
    }

    pub(crate) fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Alive, and not stopped by a signal.
    pub(crate) fn is_running(self) -> bool {
        self.is_alive() && self.state() != Some(STOPPED)
    }

    /// `None` when it has ended.
    pub(crate) fn state(self) -> Option<char> {
        stat(self.pid).filter(|(_, started)| *started == self.started).map(|(state, _)| state)
    }

    /// One that has ended gets none.
    pub(crate) fn signal(self, signal: Signal) -> anyhow::Result<()> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw).filter(|_| self.is_alive()) else { return Ok(()) };
        match kill_process(pid, signal) {
            Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("signal process {}", self.pid)),
        }
    }

    /// As a power cut would; back when it is gone.
    pub(crate) fn kill(self) -> anyhow::Result<()> {
        self.signal(Signal::KILL)?;
        wait::until_true(&format!("the end of process {}", self.pid), END_LIMIT, || Ok(!self.is_alive()))
    }
}

/// The state of a process and when it was started.
fn stat(pid: u32) -> Option<(char, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the name, may hold blanks and ends with the last parenthesis.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    Some((fields.next()?.chars().next()?, fields.nth(18)?.parse().ok()?))
}

/// The numbers of all processes.
pub(crate) fn all() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// A command that belongs to the cluster of `folder`, with its standard error in the log of `part`.
pub(crate) fn command(folder: &Folder, part: &str, program: impl AsRef<OsStr>) -> anyhow::Result<Command> {
    let mut command = marked(folder, program);
    command.stdin(Stdio::null()).stderr(log(folder, part)?);
    Ok(command)
}

/// A command that belongs to the cluster of `folder`.
pub(crate) fn marked(folder: &Folder, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env(MARK, &folder.path);
    command
}

/// Where a part writes to.
pub(crate) fn log(folder: &Folder, part: &str) -> anyhow::Result<File> {
    let path = folder.log(part);
    OpenOptions::new().create(true).append(true).open(&path).with_context(|| format!("open {}", path.display()))
}

/// Leaves `program` running with its output in the log, and tells its number as this shell's namespace counts. A session of its own: what ends ours, as
/// Ctrl-C does, does not end it.
pub(crate) const LEAVE_RUNNING: &str = r#"setsid "$@" </dev/null >&2 & echo $!"#;

/// Starts `program`, and notes it.
pub(crate) fn start<A: AsRef<OsStr>>(
    folder: &Folder,
    part: &str,
    program: &Path,
    arguments: impl IntoIterator<Item = A>,
) -> anyhow::Result<Part> {
    let mut command = command(folder, part, "sh")?;
    command.args(["-c", LEAVE_RUNNING, "sh"]).arg(program).args(arguments);
    let pid = number_from(&mut command).with_context(|| format!("start {}", program.display()))?;
    note(folder, part, Process::of(pid))
}

/// Runs `command` and reads the number it prints.
pub(crate) fn number_from(command: &mut Command) -> anyhow::Result<u32> {
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().with_context(|| format!("{command:?} ended with {} and said {text:?}", output.status))
}

/// Notes a process as this part of the cluster; `None` when it has ended already.
pub(crate) fn note(folder: &Folder, part: &str, process: Option<Process>) -> anyhow::Result<Part> {
    let process = process.with_context(|| format!("{part} ended at once: {}", end_of_log(folder, part)))?;
    let path = folder.path.join("pids").join(part);
    std::fs::write(&path, format!("{} {}\n", process.pid, process.started)).with_context(|| format!("write {}", path.display()))?;
    Ok(Part { name: part.to_owned(), process })
}

/// The part with this name, running or not.
pub(crate) fn part(folder: &Folder, name: &str) -> Option<Part> {
    let text = std::fs::read_to_string(folder.path.join("pids").join(name)).ok()?;
    let (pid, started) = text.trim().split_once(' ')?;
    Some(Part { name: name.to_owned(), process: Process { pid: pid.parse().ok()?, started: started.parse().ok()? } })
}

/// All parts, running or not, by name.
pub(crate) fn parts(folder: &Folder) -> Vec<Part> {
    let entries = std::fs::read_dir(folder.path.join("pids")).into_iter().flatten().filter_map(Result::ok);
    let mut parts: Vec<Part> = entries.filter_map(|entry| part(folder, entry.file_name().to_str()?)).collect();
    parts.sort_by(|one, other| one.name.cmp(&other.name));
    parts
}

/// An error where a part has ended, with what it said last.
pub(crate) fn check(folder: &Folder, part: &Part) -> anyhow::Result<()> {
    ensure!(part.process.is_alive(), "{} ended: {}", part.name, end_of_log(folder, &part.name));
    Ok(())
}

/// What a part said last.
pub(crate) fn end_of_log(folder: &Folder, part: &str) -> String {
    let path = folder.log(part);
    let text = std::fs::read(&path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    format!("the end of {}:\n{}", path.display(), lines[lines.len().saturating_sub(LOG_LINES)..].join("\n"))
}

/// Kills all that belongs to the cluster of `folder`, and comes back when it is gone.
pub(crate) fn kill_all(folder: &Folder) -> anyhow::Result<()> {
    let mark = format!("{MARK}={}", folder.path.display());
    wait::until_true("the end of all processes of the cluster", END_LIMIT, || {
        let ours: Vec<Process> = all().filter(|pid| is_marked(*pid, mark.as_bytes())).filter_map(Process::of).collect();
        for process in &ours {
            process.signal(Signal::KILL)?;
        }
        Ok(ours.is_empty())
    })
}

/// Who was killed has no environment left, so a process that nobody waited for does not count.
fn is_marked(pid: u32, mark: &[u8]) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable == mark)
}
