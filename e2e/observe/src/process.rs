//! A program that is gone when its handle is, or when this process is, however that ends.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context;

/// So much of what a program has said is shown when it fails.
const LOG_LINES: usize = 40;

pub(crate) struct Process {
    shell: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, with its output in `log`.
    pub(crate) fn start(command: &Command, log: &Path) -> anyhow::Result<Self> {
        let output = File::create(log).with_context(|| format!("create {}", log.display()))?;
        // Our end of the pipe closes when we end, even by a signal that cannot be caught: then `read` returns.
        let script = r#""$@" & child=$!; read -r _; kill -9 $child; wait"#;
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            shell.env(name, value.unwrap_or_default());
        }
        shell.stdin(Stdio::piped()).stdout(output.try_clone()?).stderr(output);
        let shell = shell.spawn().with_context(|| format!("start {command:?}"))?;
        Ok(Self { shell, log: log.to_owned() })
    }

    /// The end of what it has said.
    pub(crate) fn log(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        self.shell.wait().ok();
    }
}
