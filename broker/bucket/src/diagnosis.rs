//! What a failed request says about the bucket: who has to mend what, in words that stay the same as long as the trouble does.
//!
//! The text of an error names its request, its object and how often it was tried, which is right for a log. A status that others compare, such as a
//! Kubernetes condition, needs one text for one trouble: nothing here depends on which request met it.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use object_store::Error;

use crate::local::LocalError;
use crate::measured::TimedOut;
use crate::open::OpenError;
use crate::probe::{CREATING, ProbeError};
use crate::s3::S3Error;

/// Causes looked at below an error.
const CAUSES_MAX: usize = 32;

/// Sorted by who can mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ailment {
    /// The credentials: they are missing, wrong, over, or may not do what a broker does.
    AccessDenied,
    /// There is no such bucket.
    NotFound,
    /// The network, DNS, TLS, or a server that does not answer in time, is overloaded or fails.
    Unreachable,
    /// It answers, and cannot keep what a broker promises.
    Unsuitable,
    /// Anything else.
    Invalid,
}

/// What is wrong with a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// Sorted by who can mend it.
    pub ailment: Ailment,
    /// What is wrong and what to do, without the bucket's name; never a secret, a request's id, an object's name or a number that changes.
    pub text: String,
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Diagnosis {
    fn new(ailment: Ailment, text: impl Into<String>) -> Self {
        Self { ailment, text: text.into() }
    }

    /// Of an error or of one of its causes: the first that says something about the bucket. `None` when none does.
    pub fn of(error: &(dyn StdError + 'static)) -> Option<Self> {
        causes(error).find_map(Self::of_one)
    }

    /// Of a request.
    pub fn of_request(error: &Error) -> Self {
        match error {
            Error::PermissionDenied { source, .. } | Error::Unauthenticated { source, .. } => {
                of_kind(source.as_ref()).unwrap_or_else(|| denied(""))
            }
            Error::NotFound { .. } if names_no_bucket(error) => no_bucket(),
            Error::NotFound { .. } => Self::new(Ailment::Invalid, "an object is not there: `bucketmq bucket verify` names what is missing"),
            Error::Generic { source, .. } => of_kind(source.as_ref()).unwrap_or_else(|| of_text(error)),
            other => of_text(other),
        }
    }

    fn of_one(error: &(dyn StdError + 'static)) -> Option<Self> {
        // SlateDB shares the errors of its bucket.
        if let Some(error) = error.downcast_ref::<Error>().or_else(|| error.downcast_ref::<Arc<Error>>().map(Arc::as_ref)) {
            return Some(Self::of_request(error));
        }
        if let Some(ProbeError::Broken { rule, .. }) = error.downcast_ref() {
            let text = format!("it breaks a rule, so state would be lost: {}; upgrade the server, or use one that keeps it", rule.text());
            return Some(Self::new(Ailment::Unsuitable, text));
        }
        if let Some(ProbeError::Failed { action: CREATING, source: Error::NotFound { .. } }) = error.downcast_ref() {
            return Some(no_bucket());
        }
        match error.downcast_ref::<OpenError>()? {
            // The cause says it.
            OpenError::Client { .. } => None,
            OpenError::Local(LocalError::Io { source, .. }) => Some(of_file(source)),
            OpenError::Local(unfit) => Some(Self::new(Ailment::Unsuitable, unfit.to_string())),
            other => Some(Self::new(Ailment::Invalid, other.to_string())),
        }
    }
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source()).take(CAUSES_MAX)
}

fn denied(what: &str) -> Diagnosis {
    let what = if what.is_empty() { String::new() } else { format!(" ({what})") };
    let text = format!("these credentials may not use it{what}: compare their rights with what `bucketmq bucket policy` prints");
    Diagnosis::new(Ailment::AccessDenied, text)
}

/// Also of a write that creates an object: what else could be missing?
pub(crate) fn no_bucket() -> Diagnosis {
    Diagnosis::new(Ailment::NotFound, "there is no such bucket: make it first, or mend its name in the URL")
}

fn no_credentials() -> Diagnosis {
    let text = "there are no credentials that could be used: look at the role of the pod or instance, or at the keys that were given";
    Diagnosis::new(Ailment::AccessDenied, text)
}

fn no_answer_in_time() -> Diagnosis {
    Diagnosis::new(Ailment::Unreachable, "it does not answer in time: look at the network between and at the server")
}

/// What the server answered.
fn of_answer(status: u16, code: &str) -> Diagnosis {
    let answer = format!("{status} {code}");
    let answer = answer.trim_end();
    match (status, code) {
        // What has no object in its request, such as a list, and an answer without a code, has no bucket.
        (_, "NoSuchBucket" | "ContainerNotFound") | (404, "") => no_bucket(),
        // An answer to HEAD has no code.
        (403, "AccessDenied" | "") => denied(""),
        (_, "RequestTimeTooSkewed") => Diagnosis::new(Ailment::Invalid, "the clock of this machine is off: mend it"),
        (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") | (401, _) => {
            let text = format!("it does not take these credentials ({answer}): they are wrong or have ended");
            Diagnosis::new(Ailment::AccessDenied, text)
        }
        (301 | 307, _) | (_, "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
            Diagnosis::new(Ailment::Invalid, "the bucket is in another region: mend region=... in the URL")
        }
        (403, _) => denied(answer),
        (408 | 429 | 500.., _) => {
            Diagnosis::new(Ailment::Unreachable, format!("the server answers {answer}: it is overloaded, unwell or full"))
        }
        (_, "SlowDown" | "RequestTimeout" | "InternalError" | "ServiceUnavailable" | "OperationAborted") => {
            Diagnosis::new(Ailment::Unreachable, format!("the server answers {answer}: it is overloaded or unwell"))
        }
        _ => Diagnosis::new(Ailment::Invalid, format!("the server answers {answer}: the broker's log has its words")),
    }
}

/// By the types of the causes.
fn of_kind(error: &(dyn StdError + Send + Sync + 'static)) -> Option<Diagnosis> {
    if let Some(error) = error.downcast_ref::<S3Error>() {
        return Some(match error {
            S3Error::Answer { status, code, .. } => of_answer(*status, code),
            S3Error::NoAnswer { problem, .. } => of_no_answer(problem),
            S3Error::Protocol { .. } => {
                Diagnosis::new(Ailment::Invalid, "the server does not keep to the protocol: the broker's log says how")
            }
        });
    }
    if error.is::<TimedOut>() {
        return Some(no_answer_in_time());
    }
    let error: &(dyn StdError + 'static) = error;
    // Below a request over a network there is one as well, and its text has more.
    let over_network = causes(error).any(|cause| cause.is::<object_store::client::HttpError>());
    let file = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>()).filter(|_| !over_network);
    file.map(of_file)
}

/// Of object_store's own back ends, whose errors have no public type: by what they say.
fn of_text(error: &(dyn StdError + 'static)) -> Diagnosis {
    let text = all_text(error);
    if let Some(status) = status_in(&text) {
        return of_answer(status, if names_no_bucket(error) { "NoSuchBucket" } else { "" });
    }
    if causes(error).any(|cause| cause.is::<object_store::client::HttpError>()) {
        return of_no_answer(&text);
    }
    if text.contains("token request") || text.contains("credential") {
        return no_credentials();
    }
    Diagnosis::new(Ailment::Invalid, "a request to it fails: the broker's log says how")
}

/// The status in an answer's text, as object_store writes it.
fn status_in(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}

fn names_no_bucket(error: &(dyn StdError + 'static)) -> bool {
    let text = all_text(error);
    ["NoSuchBucket", "ContainerNotFound", "bucket does not exist", "container does not exist"].iter().any(|name| text.contains(name))
}

fn all_text(error: &(dyn StdError + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// No answer came: why, as far as the words of the causes tell.
fn of_no_answer(problem: &str) -> Diagnosis {
    let problem = problem.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| problem.contains(word));
    if has(&["credential", "token request"]) {
        return no_credentials();
    }
    let text = if has(&["dns error", "failed to lookup address", "name or service not known", "name resolution"]) {
        "its name does not resolve: look at the URL and at DNS"
    } else if has(&["certificate", "handshake", "tls"]) {
        "TLS with it fails: look at its certificate, and at ca=... in the URL"
    } else if has(&["connection refused"]) {
        "the connection is refused: look at the URL and whether the server runs"
    } else if has(&["unreachable", "no route"]) {
        "there is no way to it through the network"
    } else if has(&["timed out", "timeout", "timedout"]) {
        return no_answer_in_time();
    } else if has(&["reset", "broken pipe", "closed", "incomplete", "eof", "aborted", "interrupted"]) {
        "connections to it break off: look at the network between and at the server"
    } else {
        "there is no connection to it: the broker's log says why"
    };
    Diagnosis::new(Ailment::Unreachable, text)
}

fn of_file(error: &io::Error) -> Diagnosis {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Diagnosis::new(Ailment::AccessDenied, "this user may not write there: its owner has to be the broker's user")
        }
        io::ErrorKind::NotFound => Diagnosis::new(Ailment::NotFound, "the directory is gone: put it back"),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Diagnosis::new(Ailment::Invalid, "there is no room left: make some, and writes go on by themselves")
        }
        kind => Diagnosis::new(Ailment::Invalid, format!("the file system fails: {kind}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Rule;

    fn answer(status: u16, code: &str, object: &str, request_id: &str) -> Error {
        let error = S3Error::Answer {
            operation: "PutObject",
            status,
            code: code.to_owned(),
            message: format!("no {object}"),
            request_id: request_id.to_owned(),
        };
        Error::Generic { store: "S3", source: Box::new(error) }
    }

    fn no_answer(problem: &str) -> Error {
        Error::Generic { store: "S3", source: Box::new(S3Error::NoAnswer { operation: "GetObject", problem: problem.to_owned() }) }
    }

    #[test]
    fn answers_are_sorted_by_who_can_mend_it() {
        for (status, code, expected) in [
            (404, "NoSuchBucket", Ailment::NotFound),
            (404, "NoSuchUpload", Ailment::Invalid),
            (403, "AccessDenied", Ailment::AccessDenied),
            (403, "", Ailment::AccessDenied),
            (403, "AllAccessDisabled", Ailment::AccessDenied),
            (403, "InvalidAccessKeyId", Ailment::AccessDenied),
            (400, "ExpiredToken", Ailment::AccessDenied),
            (401, "", Ailment::AccessDenied),
            (503, "SlowDown", Ailment::Unreachable),
            (500, "InternalError", Ailment::Unreachable),
            (507, "", Ailment::Unreachable),
            (429, "", Ailment::Unreachable),
            (400, "RequestTimeout", Ailment::Unreachable),
            (301, "PermanentRedirect", Ailment::Invalid),
            (400, "InvalidArgument", Ailment::Invalid),
        ] {
            assert_eq!(Diagnosis::of_request(&answer(status, code, "x", "1")).ailment, expected, "{status} {code}");
        }
    }

    #[test]
    fn one_trouble_has_one_text_whichever_request_met_it() {
        for (status, code) in [(403, "AccessDenied"), (503, "SlowDown"), (404, "NoSuchBucket"), (400, "InvalidArgument")] {
            let one = Diagnosis::of_request(&answer(status, code, "shards/00/wal/1.sst", "4442587FB7D0A2F9"));
            let other = Diagnosis::of_request(&answer(status, code, "own/00", "F9A2D0B77F584244"));
            assert_eq!(one, other);
            assert!(!one.text.contains("own/00") && !one.text.contains("F9A2"), "{one}");
        }
    }

    #[test]
    fn what_keeps_an_answer_away_is_told_by_the_words_of_its_causes() {
        for (problem, expected) in [
            ("dispatch failure: io error: client error (Connect): dns error: failed to lookup address information", "does not resolve"),
            ("dispatch failure: io error: client error (Connect): tcp connect error: Connection refused (os error 111)", "is refused"),
            ("dispatch failure: io error: client error (Connect): invalid peer certificate: UnknownIssuer", "TLS with it fails"),
            ("request has timed out: operation timed out (operation timeout) after 30s", "in time"),
            ("dispatch failure: io error: client error (SendRequest): connection closed before message completed", "break off"),
            ("dispatch failure: something new", "no connection"),
        ] {
            let found = Diagnosis::of_request(&no_answer(problem));
            assert!(found.ailment == Ailment::Unreachable && found.text.contains(expected), "{problem}: {found:?}");
        }
        let found = Diagnosis::of_request(&no_answer("no credentials: give the pod a role; no credentials found"));
        assert_eq!(found.ailment, Ailment::AccessDenied);
        let slow = Error::Generic { store: "bucket", source: Box::new(TimedOut { kind: "put", after: std::time::Duration::from_secs(7) }) };
        let found = Diagnosis::of_request(&slow);
        assert!(found.ailment == Ailment::Unreachable && !found.text.contains('7'), "{found:?}");
    }

    #[test]
    fn causes_are_found_below_other_errors() {
        let failed = ProbeError::Failed { action: "creating an object", source: answer(403, "AccessDenied", "probe/1", "1") };
        assert_eq!(Diagnosis::of(&failed).map(|found| found.ailment), Some(Ailment::AccessDenied));
        let broken = |found: &str| ProbeError::Broken { rule: Rule::OneCreatorWins, found: found.to_owned() };
        let found = Diagnosis::of(&broken("3 succeeded")).expect("it says something");
        assert_eq!(found.ailment, Ailment::Unsuitable);
        assert_eq!(Some(found), Diagnosis::of(&broken("4 succeeded")), "the number is chance");
        let region = Diagnosis::of(&OpenError::Region).expect("it says something");
        assert!(region.ailment == Ailment::Invalid && region.text.contains("region="), "{region:?}");
        assert_eq!(Diagnosis::of(&io::Error::other("not of a bucket")), None);
    }

    #[test]
    fn an_object_that_is_missing_is_no_bucket_that_is() {
        let missing = |text: &str| Error::NotFound { path: "own/00".to_owned(), source: text.into() };
        let of_object = Diagnosis::of_request(&missing("Server returned non-2xx status code: 404 Not Found: NoSuchKey"));
        assert_eq!(of_object.ailment, Ailment::Invalid);
        let of_bucket = Diagnosis::of_request(&missing("Server returned non-2xx status code: 404 Not Found: NoSuchBucket"));
        assert_eq!(of_bucket.ailment, Ailment::NotFound);
        let creating = ProbeError::Failed { action: CREATING, source: missing("404") };
        assert_eq!(Diagnosis::of(&creating).map(|found| found.ailment), Some(Ailment::NotFound));
    }

    #[test]
    fn a_directory_has_its_own_troubles() {
        for (kind, expected) in [
            (io::ErrorKind::PermissionDenied, Ailment::AccessDenied),
            (io::ErrorKind::NotFound, Ailment::NotFound),
            (io::ErrorKind::StorageFull, Ailment::Invalid),
        ] {
            let error = Error::Generic { store: "file", source: Box::new(io::Error::from(kind)) };
            assert_eq!(Diagnosis::of_request(&error).ailment, expected, "{kind}");
        }
    }
}
