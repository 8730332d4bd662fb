//! `bucketmq check-config`: everything that `serve` would refuse before it opens a socket, and the configuration reference.

use std::process::ExitCode;

use bucketmq_access::Access;
use clap::Args;
use serde_json::json;

use super::{ConfigArgs, EXIT_CONFIG};
use crate::config::{Config, ConfigError, ConfigErrors, Origin, reference};

pub(super) const EXAMPLES: &str = "\
Examples:
  bucketmq check-config --config bucketmq.toml
  bucketmq check-config --config bucketmq.toml --json
      what is in force, defaults included, and its hash; or the errors
  bucketmq check-config --reference > configuration.md

Exit codes: 0 right, 2 wrong command line, 78 wrong configuration.";

/// What `check-config` takes: where `serve` would get its configuration from, and how to answer.
#[derive(Debug, Args)]
pub struct CheckConfigArgs {
    #[command(flatten)]
    source: ConfigArgs,
    /// Answers with an object: valid, hash and config, or valid and errors.
    #[arg(long)]
    json: bool,
    /// Prints the reference of all keys in Markdown, and checks nothing.
    #[arg(long)]
    reference: bool,
}

impl CheckConfigArgs {
    /// Checks and says so.
    pub fn run(self) -> ExitCode {
        if self.reference {
            return super::print(&reference::markdown());
        }
        let checked = self.source.load().and_then(|loaded| match check_files(&loaded.config) {
            errors if errors.is_empty() => Ok(loaded.config),
            errors => Err(ConfigErrors(errors)),
        });
        let code = match (&checked, self.json) {
            (Ok(config), true) => {
                super::print(&format!("{:#}\n", json!({ "valid": true, "hash": config.hash(), "config": config.to_json() })))
            }
            (Err(errors), true) => super::print(&format!("{:#}\n", json!({ "valid": false, "errors": errors.0 }))),
            (Ok(config), false) => super::print(&summary(config)),
            (Err(errors), false) => {
                eprintln!("{errors}");
                ExitCode::SUCCESS
            }
        };
        if checked.is_ok() { code } else { ExitCode::from(EXIT_CONFIG) }
    }
}

fn summary(config: &Config) -> String {
    let listeners: Vec<&str> = config.listeners.iter().map(|listener| listener.url.as_str()).collect();
    format!("The configuration is right. Listeners: {}. Hash: {}\n", listeners.join(", "), config.hash())
}

/// The files that the configuration names, read and understood as the broker does it.
fn check_files(config: &Config) -> Vec<ConfigError> {
    let error = |key: String, problem: String| ConfigError { origin: Origin::Default, key, problem };
    let mut errors = Vec::new();
    if let Err(problem) = Access::load(&config.access) {
        let problem = problem.to_string();
        errors.push(error("access.users_file".into(), problem.strip_prefix("access.users_file: ").map(str::to_owned).unwrap_or(problem)));
    }
    for (index, listener) in config.listeners.iter().enumerate() {
        let wrong = bucketmq_listener::check_tls_files(listener);
        errors.extend(wrong.into_iter().map(|wrong| error(format!("listeners[{index}].{}", wrong.key), wrong.problem)));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_not_there_are_named_with_their_keys() {
        let mut config = Config::default();
        config.access.users_file = Some("/nowhere/users".into());
        let mut listener = bucketmq_listener::Config::new("tls://[::1]:0");
        listener.tls = Some(bucketmq_listener::config::Tls {
            certificates: vec![bucketmq_listener::config::Certificate { cert: "/nowhere/a.pem".into(), key: "/".into() }],
            ..Default::default()
        });
        config.listeners.push(listener);
        let errors: Vec<String> = check_files(&config).iter().map(ConfigError::to_string).collect();
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(errors[0].starts_with("access.users_file: cannot read /nowhere/users: "), "{errors:?}");
        assert!(errors[1].starts_with("listeners[0].tls.certificates[0].cert: cannot read /nowhere/a.pem: "), "{errors:?}");
        assert!(errors[2].starts_with("listeners[0].tls.certificates[0].key: cannot read /: it is not a file"), "{errors:?}");
    }
}
