//! `[log]`: what is told, how, and how the level changes while the broker runs. Logs go to standard error.

use std::io::IsTerminal;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Registry, fmt, reload};

/// What the broker tells about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `off`, `error`, `warn`, `info`, `debug` (per connection) or `trace` (per packet), and levels of parts behind it, such as
    /// `info,bucketmq_listener=debug`. `info` by default: the life of the process, nothing per connection.
    pub level: String,
    /// `text` or `json`. `text` by default, in colour on a terminal.
    pub format: LogFormat,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object per line.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// Why a level is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected off, error, warn, info, debug or trace, or these for parts such as \"info,bucketmq_listener=debug\", found {found:?}")]
pub struct LevelError {
    found: String,
}

/// Why logs could not be switched on.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is none.
    #[error("log.level: {0}")]
    Level(#[from] LevelError),
    /// Something else in this process takes the logs already.
    #[error("logs go elsewhere already: {0}")]
    Taken(#[from] TryInitError),
}

/// Changes the level while the broker runs.
#[derive(Debug, Clone)]
pub struct LogHandle(reload::Handle<Targets, Registry>);

impl LogHandle {
    /// From now on. On error, what was in force stays.
    pub fn set_level(&self, level: &str) -> Result<(), LevelError> {
        let targets = parse_level(level)?;
        // It fails only when the subscriber is gone, and then nobody listens.
        let _ = self.0.reload(targets);
        Ok(())
    }
}

/// Switches logs on for the whole process; once.
pub fn init(log: &Log) -> Result<LogHandle, LogError> {
    let (filter, handle) = reload::Layer::new(parse_level(&log.level)?);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    match log.format {
        LogFormat::Text => registry.with(lines.with_ansi(std::io::stderr().is_terminal())).try_init()?,
        LogFormat::Json => registry.with(lines.json().flatten_event(true).with_current_span(true).with_span_list(false)).try_init()?,
    }
    Ok(LogHandle(handle))
}

/// It says at each try to reach a bucket where it found its keys, as if that were news.
const TALKATIVE: &str = "aws_config";

/// Strict where `Targets` is not: it would take `inof` for a part of the program that shall tell everything.
pub(crate) fn parse_level(level: &str) -> Result<Targets, LevelError> {
    let error = || LevelError { found: level.to_owned() };
    let mut targets = Targets::new();
    for part in level.split(',').map(str::trim) {
        match part.split_once('=') {
            None => {
                let level = named(part).ok_or_else(error)?;
                targets = targets.with_default(level);
                if level == LevelFilter::INFO {
                    targets = targets.with_target(TALKATIVE, LevelFilter::WARN);
                }
            }
            Some((target, level)) if !target.is_empty() => targets = targets.with_target(target, named(level).ok_or_else(error)?),
            Some(_) => return Err(error()),
        }
    }
    Ok(targets)
}

fn named(level: &str) -> Option<LevelFilter> {
    let names = ["off", "error", "warn", "info", "debug", "trace"];
    names.contains(&level).then(|| level.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn levels_hold_for_all_or_for_parts() {
        let targets = parse_level("warn,bucketmq_listener=debug").unwrap();
        assert!(targets.would_enable("bucketmq_listener::tls", &Level::DEBUG));
        assert!(!targets.would_enable("bucketmq", &Level::INFO));
        let (quiet, asked) = (parse_level("info").unwrap(), parse_level("info,aws_config=info").unwrap());
        assert!(!quiet.would_enable("aws_config::profile", &Level::INFO) && asked.would_enable("aws_config::profile", &Level::INFO));
        assert!(!parse_level("off").unwrap().would_enable("bucketmq", &Level::ERROR));
    }

    #[test]
    fn a_misspelt_level_is_refused() {
        for level in ["inof", "", "INFO ,", "info,", "=debug", "info,a=loud", "5"] {
            assert!(parse_level(level).unwrap_err().to_string().starts_with("expected off, error"), "{level}");
        }
    }

    #[test]
    fn the_level_changes_while_the_process_runs() {
        let handle = init(&Log { level: "error".to_owned(), format: LogFormat::Json }).unwrap();
        assert!(!tracing::enabled!(tracing::Level::DEBUG));
        handle.set_level("debug").unwrap();
        assert!(tracing::enabled!(tracing::Level::DEBUG));
        assert!(handle.set_level("loud").is_err());
        assert!(tracing::enabled!(tracing::Level::DEBUG));
        handle.set_level("off").unwrap();
    }
}
