//! What goes wrong, when, and for whom.

use anyhow::{Context, bail};
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

use crate::Kind;
use crate::proxy::Operation;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The connection is reset before the store sees the request.
    Reset,
    /// No answer for as long as the client waits; the store does not see the request. Lifting the fault frees nobody who hangs already.
    Hang,
    /// 500. On writes alone it is what some stores say when they are full.
    InternalError,
    /// 503, the store's way to ask for fewer requests.
    SlowDown,
    /// 403, as after credentials were withdrawn.
    AccessDenied,
    /// The store applies the request, and the connection is reset instead of the answer.
    ResponseLost,
    /// The first half of the object, then the end of the connection. Concerns reads of objects.
    Truncated,
    /// One bit in the middle of the object is another one. Concerns reads of objects.
    Corrupted,
    /// 403 to what writes.
    ReadOnly,
    /// 507 to what needs room; deletes pass, as they do in a real store.
    Full,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Reset,
        Self::Hang,
        Self::InternalError,
        Self::SlowDown,
        Self::AccessDenied,
        Self::ResponseLost,
        Self::Truncated,
        Self::Corrupted,
        Self::ReadOnly,
        Self::Full,
    ];

    /// As the control endpoint and the command line write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Hang => "hang",
            Self::InternalError => "internal-error",
            Self::SlowDown => "slow-down",
            Self::AccessDenied => "access-denied",
            Self::ResponseLost => "response-lost",
            Self::Truncated => "truncated",
            Self::Corrupted => "corrupted",
            Self::ReadOnly => "read-only",
            Self::Full => "full",
        }
    }

    /// Until it is lifted.
    pub fn always(self) -> Rule {
        Rule { fault: self, when: When::Always, operations: self.concerns(), key: None }
    }

    /// The next `count` requests it concerns.
    pub fn next(self, count: u64) -> Rule {
        Rule { when: When::Next(count), ..self.always() }
    }

    /// Each request it concerns with a probability from 0 to 1, until it is lifted.
    ///
    /// # Panics
    ///
    /// When that is no probability.
    pub fn with_probability(self, probability: f64) -> Rule {
        assert!((0.0..=1.0).contains(&probability), "a probability is between 0 and 1, not {probability}");
        Rule { when: When::Probability(probability), ..self.always() }
    }

    fn concerns(self) -> Vec<Operation> {
        let all = Operation::ALL.into_iter();
        match self {
            Self::Truncated | Self::Corrupted => vec![Operation::Get],
            Self::ReadOnly => all.filter(|operation| !operation.is_read()).collect(),
            Self::Full => vec![Operation::Put, Operation::Multipart],
            _ => all.collect(),
        }
    }

    /// The answer given in the store's place, if that is what happens.
    pub(crate) fn answer(self, kind: Kind) -> Option<Response<Bytes>> {
        let azure = kind == Kind::Azurite;
        let (status, code) = match self {
            Self::InternalError => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
            Self::SlowDown => (StatusCode::SERVICE_UNAVAILABLE, if azure { "ServerBusy" } else { "SlowDown" }),
            Self::AccessDenied | Self::ReadOnly => {
                (StatusCode::FORBIDDEN, if azure { "AuthorizationPermissionMismatch" } else { "AccessDenied" })
            }
            Self::Full => (StatusCode::INSUFFICIENT_STORAGE, "InsufficientStorage"),
            Self::Reset | Self::Hang | Self::ResponseLost | Self::Truncated | Self::Corrupted => return None,
        };
        let mut response = error(status, code, "made by the fault proxy");
        if azure {
            response.headers_mut().insert("x-ms-error-code", HeaderValue::from_static(code));
        }
        Some(response)
    }
}

/// An error as stores write it.
pub(crate) fn error(status: StatusCode, code: &str, message: &str) -> Response<Bytes> {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message><RequestId>0</RequestId></Error>"
    );
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    response
}

impl std::str::FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|fault| fault.name() == name).with_context(|| format!("no fault {name:?}; there are {}", names()))
    }
}

/// How often a fault happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum When {
    /// Every time.
    Always,
    /// So many times more.
    Next(u64),
    /// Each time with this probability, from 0 to 1.
    Probability(f64),
}

/// A fault, how often it happens, and to which requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub(crate) fault: Fault,
    pub(crate) when: When,
    pub(crate) operations: Vec<Operation>,
    pub(crate) key: Option<String>,
}

impl Rule {
    /// Only requests of these kinds. A fault that concerns a few kinds by its nature concerns no others by this.
    pub fn on(mut self, operations: &[Operation]) -> Self {
        self.operations.retain(|operation| operations.contains(operation));
        self
    }

    /// Only requests that read.
    pub fn on_reads(mut self) -> Self {
        self.operations.retain(|operation| operation.is_read());
        self
    }

    /// Only requests that write.
    pub fn on_writes(mut self) -> Self {
        self.operations.retain(|operation| !operation.is_read());
        self
    }

    /// Only requests whose key (of lists: prefix) holds this text.
    pub fn key_containing(mut self, text: &str) -> Self {
        self.key = Some(text.to_owned());
        self
    }

    /// As [`Rule::on`], from `all`, `reads`, `writes` or kinds with commas between them.
    pub(crate) fn on_named(self, names: &str) -> anyhow::Result<Self> {
        match names {
            "all" => Ok(self),
            "reads" => Ok(self.on_reads()),
            "writes" => Ok(self.on_writes()),
            names => {
                let find = |name: &str| Operation::ALL.into_iter().find(|operation| operation.name() == name);
                let found = names.split(',').map(|name| find(name).with_context(|| format!("no kind of request {name:?}")));
                Ok(self.on(&found.collect::<anyhow::Result<Vec<_>>>()?))
            }
        }
    }

    /// As [`Fault::always`] and its siblings, from what a shell script writes.
    pub(crate) fn parse(fault: &str, next: Option<&str>, probability: Option<&str>) -> anyhow::Result<Self> {
        let fault: Fault = fault.parse()?;
        match (next, probability) {
            (None, None) => Ok(fault.always()),
            (Some(next), None) => Ok(fault.next(next.parse().context("next=NUMBER")?)),
            (None, Some(probability)) => {
                let probability: f64 = probability.parse().context("probability=NUMBER")?;
                if !(0.0..=1.0).contains(&probability) {
                    bail!("a probability is between 0 and 1, not {probability}");
                }
                Ok(fault.with_probability(probability))
            }
            (Some(_), Some(_)) => bail!("either next or probability"),
        }
    }

    pub(crate) fn concerns(&self, operation: Operation, key: &str) -> bool {
        self.operations.contains(&operation) && self.key.as_ref().is_none_or(|text| key.contains(text.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_faults() {
        assert!(Fault::ALL.iter().all(|fault| fault.name().parse::<Fault>().unwrap() == *fault));
        assert!("nothing".parse::<Fault>().unwrap_err().to_string().contains("slow-down"));
    }

    #[test]
    fn a_rule_concerns_what_it_says() {
        let rule = Fault::ReadOnly.always().on_named("put,get").unwrap().key_containing("wal/");
        assert!(rule.concerns(Operation::Put, "p/wal/1"));
        assert!(!rule.concerns(Operation::Get, "p/wal/1") && !rule.concerns(Operation::Put, "p/manifest/1"));
        assert!(!rule.concerns(Operation::Delete, "p/wal/1"));
        assert!(Fault::Hang.always().on_named("reads").unwrap().concerns(Operation::List, ""));
        assert!(Fault::Hang.always().on_named("everything").is_err());
    }

    #[test]
    fn what_a_script_writes_is_checked() {
        assert_eq!(Rule::parse("hang", None, Some("0.25")).unwrap(), Fault::Hang.with_probability(0.25));
        assert_eq!(Rule::parse("full", Some("3"), None).unwrap(), Fault::Full.next(3));
        assert!(Rule::parse("hang", None, Some("2")).is_err() && Rule::parse("hang", Some("1"), Some("1")).is_err());
    }
}
