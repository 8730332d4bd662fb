//! What an S3 server answered, sorted by what follows from it.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use object_store::Error;

use super::STORE;

/// A request that failed, for people.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    /// The server answered.
    #[error("{operation}: {status} {code}{}{}{}", lead(": ", message), lead(" (request ", request_id), if request_id.is_empty() { "" } else { ")" })]
    Answer {
        /// Such as `PutObject`.
        operation: &'static str,
        /// HTTP status.
        status: u16,
        /// S3's own code, such as `SlowDown`.
        code: String,
        /// The server's words, and what to do where that is known.
        message: String,
        /// What the server's log knows the request by.
        request_id: String,
    },
    /// No answer: no connection, no credentials, a timeout.
    #[error("{operation}: {problem}")]
    NoAnswer {
        /// Such as `PutObject`.
        operation: &'static str,
        /// The whole chain of causes.
        problem: String,
    },
    /// An answer that breaks the protocol.
    #[error("{operation}: the server {problem}")]
    Protocol {
        /// Such as `GetObject`.
        operation: &'static str,
        /// What it did.
        problem: String,
    },
}

fn lead(before: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{before}{text}") }
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    NotFound,
    NoSuchUpload,
    /// 412: the condition does not hold.
    Precondition,
    /// 409: another write of the same key is under way, so nothing is known about the condition.
    Conflict,
    NotModified,
    Denied,
    Unauthenticated,
    /// May be better in a moment. A write may have been stored all the same.
    Transient,
    Other,
}

#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    pub(super) error: S3Error,
}

impl Failure {
    /// Sorts an error of the SDK.
    pub(super) fn of<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> Failure
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let Some(response) = error.raw_response() else {
            let mut problem = chain(error);
            let kind = match error {
                SdkError::ConstructionFailure(_) => Kind::Other,
                // None anywhere, as opposed to some that could not be fetched just now.
                _ if problem.contains("no credentials found") => {
                    problem = format!(
                        "no credentials: give the pod or instance a role, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; {problem}"
                    );
                    Kind::Unauthenticated
                }
                _ => Kind::Transient,
            };
            return Failure { kind, error: S3Error::NoAnswer { operation, problem } };
        };
        let status = response.status().as_u16();
        let header = |name: &str| response.headers().get(name).unwrap_or_default().to_owned();
        let metadata = error.as_service_error().map(ProvideErrorMetadata::meta);
        let code = metadata.and_then(|metadata| metadata.code()).unwrap_or_default().to_owned();
        let mut message = metadata.and_then(|metadata| metadata.message()).unwrap_or_default().to_owned();
        if let Some(advice) = advice(status, &code, &header("x-amz-bucket-region")) {
            message = if message.is_empty() { advice } else { format!("{message}; {advice}") };
        }
        // A 2xx whose body could not be read was handled and may be asked for again.
        let kind = if (200..300).contains(&status) { Kind::Transient } else { kind(status, &code) };
        Failure { kind, error: S3Error::Answer { operation, status, code, message, request_id: header("x-amz-request-id") } }
    }

    pub(super) fn protocol(operation: &'static str, problem: impl Into<String>) -> Failure {
        Failure { kind: Kind::Other, error: S3Error::Protocol { operation, problem: problem.into() } }
    }

    pub(super) fn at(self, path: &str) -> Error {
        let (path, source) = (path.to_owned(), Box::new(self.error));
        match self.kind {
            Kind::NotFound => Error::NotFound { path, source },
            Kind::Precondition => Error::Precondition { path, source },
            Kind::NotModified => Error::NotModified { path, source },
            Kind::Denied => Error::PermissionDenied { path, source },
            Kind::Unauthenticated => Error::Unauthenticated { path, source },
            Kind::NoSuchUpload | Kind::Conflict | Kind::Transient | Kind::Other => Error::Generic { store: STORE, source },
        }
    }

    pub(super) fn already_exists(self, path: &str) -> Error {
        Error::AlreadyExists { path: path.to_owned(), source: Box::new(self.error) }
    }

    pub(super) fn precondition(self, path: &str) -> Error {
        Error::Precondition { path: path.to_owned(), source: Box::new(self.error) }
    }
}

/// An error and its causes. The SDK's own text adds the whole structure behind them.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn kind(status: u16, code: &str) -> Kind {
    match (status, code) {
        // Not "no such object": who takes it for that would go on as if the bucket were empty.
        (_, "NoSuchBucket") => Kind::Other,
        (_, "NoSuchUpload") => Kind::NoSuchUpload,
        (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") | (401, _) => {
            Kind::Unauthenticated
        }
        // The clock was set; from this answer on requests are signed by the server's.
        (_, "SlowDown" | "RequestTimeout" | "RequestTimeTooSkewed" | "InternalError" | "ServiceUnavailable" | "OperationAborted") => {
            if status == 409 {
                Kind::Conflict
            } else {
                Kind::Transient
            }
        }
        (304, _) => Kind::NotModified,
        (403, _) => Kind::Denied,
        (404, _) => Kind::NotFound,
        (409, _) => Kind::Conflict,
        (412, _) => Kind::Precondition,
        (408 | 429 | 500 | 502 | 503 | 504, _) => Kind::Transient,
        _ => Kind::Other,
    }
}

fn advice(status: u16, code: &str, region: &str) -> Option<String> {
    let text = match (status, code) {
        (_, "NoSuchBucket") => "make the bucket first, or mend its name in the URL".to_owned(),
        (301 | 307, _) | (_, "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => match region {
            "" => "the bucket is in another region: add region=... to the URL".to_owned(),
            region => format!("the bucket is in another region: add region={region} to the URL"),
        },
        (_, "RequestTimeTooSkewed") => "the clock of this machine is off: requests are signed by the server's from here on".to_owned(),
        (403, "AccessDenied" | "") => {
            "these credentials may not do that; compare their rights with what `bucketmq bucket policy` prints".to_owned()
        }
        _ => return None,
    };
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_sorted_by_what_follows_from_them() {
        for (status, code, expected) in [
            (404, "NoSuchKey", Kind::NotFound),
            (404, "", Kind::NotFound),
            (404, "NoSuchBucket", Kind::Other),
            (404, "NoSuchUpload", Kind::NoSuchUpload),
            (409, "ConditionalRequestConflict", Kind::Conflict),
            (409, "OperationAborted", Kind::Conflict),
            (412, "PreconditionFailed", Kind::Precondition),
            (403, "AccessDenied", Kind::Denied),
            (403, "InvalidAccessKeyId", Kind::Unauthenticated),
            (400, "ExpiredToken", Kind::Unauthenticated),
            (503, "SlowDown", Kind::Transient),
            (503, "", Kind::Transient),
            (400, "RequestTimeout", Kind::Transient),
            (500, "InternalError", Kind::Transient),
            (400, "InvalidArgument", Kind::Other),
            (301, "PermanentRedirect", Kind::Other),
        ] {
            assert_eq!(kind(status, code), expected, "{status} {code}");
        }
    }

    #[test]
    fn a_bucket_elsewhere_is_answered_with_its_region() {
        assert!(advice(301, "PermanentRedirect", "eu-west-1").is_some_and(|advice| advice.contains("region=eu-west-1")));
    }
}
