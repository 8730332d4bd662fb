//! Why `pub` or `sub` failed, and the exit code that says so.

use bucketmq_packet::{ProtocolVersion, ReasonCode, Violation};

/// What ended a command.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The options contradict each other or cannot be read.
    #[error("{0}")]
    Usage(String),
    /// A file, stdin or stdout.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A file that an option names.
    #[error("{path}: {source}")]
    File {
        /// As it was given.
        path: String,
        /// Why it cannot be read.
        source: std::io::Error,
    },
    /// The name of the host is not known.
    #[error("cannot look up {host}: {source}")]
    Lookup {
        /// As it was given.
        host: String,
        /// What the resolver said.
        source: std::io::Error,
    },
    /// Nobody listens there.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Host and port, or the path of the socket.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Certificates, keys, or the handshake.
    #[error("TLS: {0}")]
    Tls(String),
    /// The HTTP request that should have become a WebSocket.
    #[error("WebSocket: {0}")]
    WebSocket(String),
    /// An exchange of `--auth-method` went wrong on our side, or the Server did not show that it knows the user.
    #[error("authentication: {0}")]
    Authentication(String),
    /// CONNACK with a failure.
    #[error("connection refused: {reason_code}{}", detail(.reason_string))]
    Refused {
        /// What we spoke.
        version: ProtocolVersion,
        /// Why.
        reason_code: ReasonCode,
        /// What the Server adds.
        reason_string: Option<String>,
    },
    /// The Server sent DISCONNECT.
    #[error("disconnected by the server: {reason_code}{}", detail(.reason_string))]
    Disconnected {
        /// Why.
        reason_code: ReasonCode,
        /// What the Server adds.
        reason_string: Option<String>,
    },
    /// An acknowledgement, or what CONNACK allowed, says no.
    #[error("{what}: {reason_code}{}", detail(.reason_string))]
    Denied {
        /// Which request.
        what: &'static str,
        /// Why.
        reason_code: ReasonCode,
        /// What the Server adds.
        reason_string: Option<String>,
    },
    /// SUBACK says no to what there is no point in going on without.
    #[error("the subscription to {filter} was refused: {reason_code}{}", detail(.reason_string))]
    Unsubscribed {
        /// What was asked for.
        filter: String,
        /// Why.
        reason_code: ReasonCode,
        /// What the Server adds.
        reason_string: Option<String>,
    },
    /// The Network Connection ended without DISCONNECT.
    #[error("the connection was lost: {0}")]
    Lost(std::io::Error),
    /// What came breaks the specification.
    #[error("the server broke the protocol: {0}")]
    Protocol(Violation),
    /// Ctrl-C before everything was published.
    #[error("interrupted, {0} messages without acknowledgement")]
    Interrupted(usize),
    /// `-W` passed.
    #[error("timed out")]
    TimedOut,
}

fn detail(reason_string: &Option<String>) -> String {
    reason_string.as_ref().map_or_else(String::new, |text| format!(" ({text})"))
}

impl ClientError {
    /// A file that an option names cannot be read.
    pub fn file(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::File { path: path.display().to_string(), source }
    }

    /// As documented for mosquitto's tools: the code of CONNACK or another refusal, else the number libmosquitto has for it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 1,
            Self::Protocol(_) => 2,
            Self::Lost(_) => 7,
            Self::Tls(_) => 8,
            Self::Connect { .. } | Self::Io(_) | Self::File { .. } => 14,
            Self::Lookup { .. } => 15,
            Self::Authentication(_) => 11,
            Self::WebSocket(_) => 13,
            Self::TimedOut => 27,
            // 128 and the number of SIGINT, as shells have it.
            Self::Interrupted(_) => 130,
            Self::Refused { version: ProtocolVersion::V3_1 | ProtocolVersion::V3_1_1, reason_code, .. } => return_code(*reason_code),
            Self::Refused { reason_code, .. }
            | Self::Disconnected { reason_code, .. }
            | Self::Denied { reason_code, .. }
            | Self::Unsubscribed { reason_code, .. } => reason_code.value().max(1),
        }
    }

    /// True where another attempt may go better without anything being changed.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Lost(_) | Self::Connect { .. } | Self::Lookup { .. } => true,
            Self::Disconnected { reason_code, .. } | Self::Refused { reason_code, .. } => matches!(
                reason_code,
                ReasonCode::ServerUnavailable
                    | ReasonCode::ServerBusy
                    | ReasonCode::ServerShuttingDown
                    | ReasonCode::KeepAliveTimeout
                    | ReasonCode::ConnectionRateExceeded
                    | ReasonCode::MaximumConnectTime
            ),
            _ => false,
        }
    }
}

/// The return code of 3.1.1 that a Reason Code was made from.
fn return_code(reason_code: ReasonCode) -> u8 {
    match reason_code {
        ReasonCode::UnsupportedProtocolVersion => 1,
        ReasonCode::ClientIdentifierNotValid => 2,
        ReasonCode::ServerUnavailable => 3,
        ReasonCode::BadUserNameOrPassword => 4,
        ReasonCode::NotAuthorized => 5,
        other => other.value(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_exits_with_the_code_the_version_has_for_it() {
        let refused = |version| ClientError::Refused { version, reason_code: ReasonCode::NotAuthorized, reason_string: None };
        assert_eq!(refused(ProtocolVersion::V5).exit_code(), 135);
        assert_eq!(refused(ProtocolVersion::V3_1_1).exit_code(), 5);
        assert_eq!(ClientError::TimedOut.exit_code(), 27);
    }

    #[test]
    fn the_reason_string_is_told() {
        let error =
            ClientError::Disconnected { reason_code: ReasonCode::ServerShuttingDown, reason_string: Some("back in a minute".to_owned()) };
        assert_eq!(error.to_string(), "disconnected by the server: 0x8B Server shutting down (back in a minute)");
        assert!(error.is_passing());
    }
}
