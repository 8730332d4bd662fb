//! The command line of the binary `bucketmq`.
//!
//! Exit codes: 0 all went well; 1 it failed; 2 the command line is wrong; 78 (`EX_CONFIG`) the configuration is, which systemd is told not to answer by a
//! restart. `pub` and `sub` end with those of mosquitto's tools.

mod bucket;
mod check_config;
pub mod client;
mod import;
mod passwd;
mod version;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ConfigErrors, ENVIRONMENT_PREFIX, Loaded, ServeFlags, init_log};

/// The configuration is wrong: `EX_CONFIG` of `sysexits.h`.
pub const EXIT_CONFIG: u8 = 78;
/// The command line is wrong, as clap says it.
const EXIT_USAGE: u8 = 2;
/// Another process owns the bucket: `EX_TEMPFAIL` of `sysexits.h`.
const EXIT_OWNED: u8 = 75;

const EXIT_CODES: &str = "\
Exit codes: 0 well, 1 failed, 2 wrong command line, 78 wrong configuration;
those of pub and sub are mosquitto's.";

const SERVE_EXAMPLES: &str = "\
Examples:
  bucketmq serve
      for everybody on this machine, on port 1883
  bucketmq serve --config /etc/bucketmq/bucketmq.toml
  bucketmq serve --listen 'tcp://0.0.0.0:1883?anonymous=local' --listen 'ws://0.0.0.0:8080?anonymous=local'
      for everybody on the network; quote the URL, or the shell reads ? and &
  BUCKETMQ_LIMITS__MAX_PACKET_SIZE=256KiB bucketmq serve --log-format json

Flags win over the environment (BUCKETMQ_SECTION__KEY), the environment over the file.
SIGHUP reads everything again; SIGTERM and Ctrl-C drain and end.

Exit codes: 0 drained and ended, 1 failed, 2 wrong command line, 78 wrong configuration.";

/// An MQTT broker: 3.1, 3.1.1 and 5.0.
#[derive(Debug, Parser)]
#[command(name = "bucketmq", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the broker.
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(ConfigArgs),
    /// Says what is wrong with a configuration, without starting anything.
    #[command(after_help = check_config::EXAMPLES)]
    CheckConfig(check_config::CheckConfigArgs),
    /// Adds, changes or removes a user in a users file.
    #[command(after_help = passwd::EXAMPLES)]
    Passwd(passwd::PasswdArgs),
    /// Brings what another broker has or left into a bucket.
    #[command(after_help = import::EXAMPLES)]
    Import(import::ImportArgs),
    /// Looks into a bucket, checks and mends it, takes snapshots and goes back to them, copies, exports and deletes it.
    #[command(after_help = bucket::EXAMPLES)]
    Bucket(bucket::BucketArgs),
    /// Publishes messages to any broker, with the options of mosquitto_pub.
    Pub(Box<client::PubArgs>),
    /// Subscribes at any broker and prints what comes, with the options of mosquitto_sub.
    Sub(Box<client::SubArgs>),
    /// Says which version this is.
    #[command(after_help = "Exit code: 0.")]
    Version(version::VersionArgs),
}

/// Where a configuration comes from.
#[derive(Debug, Args)]
struct ConfigArgs {
    /// The configuration file (TOML). Without it everything has its default.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: ServeFlags,
}

impl ConfigArgs {
    fn load(&self) -> Result<Loaded, ConfigErrors> {
        Config::load(self.config.as_deref(), environment(), &self.flags)
    }
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to stdout, what is wrong to stderr; nobody is left to tell if that fails.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match cli.command {
        Command::Serve(args) => serve(&args),
        Command::CheckConfig(args) => args.run(),
        Command::Passwd(args) => args.run(),
        Command::Import(args) => args.run(),
        Command::Bucket(args) => args.run(),
        Command::Pub(args) => args.run(),
        Command::Sub(args) => args.run(),
        Command::Version(args) => args.run(),
    }
}

fn serve(args: &ConfigArgs) -> ExitCode {
    let loaded = match args.load() {
        Ok(loaded) => loaded,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    match init_log(&loaded.config.log) {
        Ok(log) => crate::serve::run(loaded, log),
        Err(error) => fail(&error.to_string()),
    }
}

/// Our part of the environment. What is not UTF-8 is no value of any key and is shown as well as it can be.
fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value))).filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX))
}

/// Writes to stdout. That the reader has gone, as `head` does, is no failure.
fn print(text: &str) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => fail(&format!("cannot write: {error}")),
        _ => ExitCode::SUCCESS,
    }
}

/// Says why on stderr.
fn fail(problem: &str) -> ExitCode {
    eprintln!("Error: {problem}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_takes_its_flags() {
        let cli = Cli::try_parse_from([
            "bucketmq",
            "serve",
            "--config",
            "b.toml",
            "--listen",
            "tcp://[::]:1",
            "--listen",
            "unix:/s",
            "--bucket",
            "memory://",
            "--admin",
            "",
            "--log-level",
            "debug",
            "--log-format",
            "json",
        ]);
        let Ok(Cli { command: Command::Serve(args) }) = cli else { panic!("{cli:?}") };
        assert_eq!(args.config.as_deref(), Some(std::path::Path::new("b.toml")));
        assert_eq!(args.flags.listen, ["tcp://[::]:1", "unix:/s"]);
        assert_eq!((args.flags.admin.as_deref(), args.flags.bucket.as_deref()), (Some(""), Some("memory://")));
    }

    #[test]
    fn a_wrong_command_line_ends_with_2_and_help_with_0() {
        for (arguments, code) in [
            (&["bucketmq"][..], 2),
            (&["bucketmq", "serve", "--lissen", "x"], 2),
            (&["bucketmq", "serve", "--log-format", "xml"], 2),
            (&["bucketmq", "serve", "--help"], 0),
            (&["bucketmq", "--version"], 0),
        ] {
            assert_eq!(Cli::try_parse_from(arguments).unwrap_err().exit_code(), code, "{arguments:?}");
        }
    }

    #[test]
    fn every_command_explains_itself() {
        fn explains_itself(command: &mut clap::Command) {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Usage:"), "{help}");
            assert!(help.to_lowercase().contains("exit code"), "{} has no exit codes:\n{help}", command.get_name());
            if ["bucket", "import"].contains(&command.get_name()) {
                // Rendering adds clap's own `help`.
                command.get_subcommands_mut().filter(|command| command.get_name() != "help").for_each(explains_itself);
            }
        }
        Cli::command().get_subcommands_mut().for_each(explains_itself);
    }
}
