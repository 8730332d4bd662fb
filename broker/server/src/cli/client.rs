//! `bucketmq pub` and `bucketmq sub`: MQTT Clients for the command line, with the option letters of `mosquitto_pub` and `mosquitto_sub`.
//!
//! They speak 5.0 unless told otherwise, over TCP, TLS, WebSocket and Unix sockets, and know nothing of the broker they are shipped with: they serve
//! against any. Exit codes are those of mosquitto's tools: the Reason Code where a Server refused, 27 for a time-out, otherwise see
//! [`error::ClientError::exit_code`].

mod connection;
mod error;
mod format;
mod link;
mod local_time;
mod message;
mod options;
mod properties;
mod publish;
mod retained;
mod subscribe;
mod tls;
mod url;

pub use error::ClientError;
pub use publish::PubArgs;
pub use retained::{Source, SourceOptions};
pub use subscribe::SubArgs;

use std::process::ExitCode;

/// Runs one command to its end on this thread and says on stderr, unless `quiet`, why it failed.
fn run(quiet: bool, command: impl Future<Output = Result<(), ClientError>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return finish(quiet, &ClientError::Io(error)),
    };
    match runtime.block_on(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => finish(quiet, &error),
    }
}

fn finish(quiet: bool, error: &ClientError) -> ExitCode {
    if !quiet {
        eprintln!("Error: {error}");
    }
    ExitCode::from(error.exit_code())
}
