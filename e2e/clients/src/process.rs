//! A client that runs: its events as they come, and how it ended.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::{Event, Received};

/// Reads an event out of a line; none for a line that says nothing.
pub type Parse = fn(&str) -> Option<Event>;

/// A client's process. Dropping it kills it, which for the broker is a Client that is lost.
pub struct Running {
    child: Child,
    events: Receiver<Event>,
    errors: Receiver<String>,
    seen: Vec<Event>,
    deadline: Instant,
}

impl Running {
    /// Starts `command`, gives it `input`, and reads its output by `parse`. All of it has to happen within `timeout`.
    pub fn start(mut command: Command, input: Option<String>, parse: Parse, timeout: Duration) -> anyhow::Result<Self> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
        if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
            // A client that ends early breaks the pipe; its exit code tells.
            std::thread::spawn(move || stdin.write_all(text.as_bytes()).ok());
        }
        let (event_sender, events) = channel();
        let stdout = BufReader::new(child.stdout.take().context("stdout")?);
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).filter_map(|line| parse(&line)).try_for_each(|event| event_sender.send(event)).ok()
        });
        let (error_sender, errors) = channel();
        let mut stderr = child.stderr.take().context("stderr")?;
        std::thread::spawn(move || {
            let mut text = Vec::new();
            stderr.read_to_end(&mut text).ok();
            error_sender.send(String::from_utf8_lossy(&text).into_owned()).ok()
        });
        Ok(Self { child, events, errors, seen: Vec::new(), deadline: Instant::now() + timeout })
    }

    /// From now on it has no more time than this.
    pub fn hurry(mut self, timeout: Duration) -> Self {
        self.deadline = Instant::now() + timeout;
        self
    }

    /// Waits for SUBACK.
    pub fn subscribed(&mut self) -> anyhow::Result<()> {
        while !self.seen.contains(&Event::Subscribed) {
            match self.events.recv_timeout(self.deadline.saturating_duration_since(Instant::now())) {
                Ok(event) => self.seen.push(event),
                Err(RecvTimeoutError::Timeout) => bail!("no SUBACK in time; so far {:?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => bail!("the client ended before SUBACK: {}", self.errors.recv().unwrap_or_default()),
            }
        }
        Ok(())
    }

    /// Waits until it has ended well, and returns all it said.
    pub fn finish(mut self) -> anyhow::Result<Vec<Event>> {
        let mut seen = std::mem::take(&mut self.seen);
        loop {
            match self.events.recv_timeout(self.deadline.saturating_duration_since(Instant::now())) {
                Ok(event) => seen.push(event),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    self.child.kill()?;
                    let messages = seen.iter().filter(|event| matches!(event, Event::Message(_))).count();
                    bail!("not done in time; {messages} messages came; it said {}", self.errors.recv().unwrap_or_default());
                }
            }
        }
        let status = self.child.wait()?;
        ensure!(status.success(), "the client ended with {status}: {}", self.errors.recv().unwrap_or_default());
        Ok(seen)
    }

    /// As [`Running::finish`], and returns the messages alone.
    pub fn messages(self) -> anyhow::Result<Vec<Received>> {
        let message = |event| if let Event::Message(message) = event { Some(message) } else { None };
        Ok(self.finish()?.into_iter().filter_map(message).collect())
    }

    /// Ends it as a power cut would: no DISCONNECT.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
