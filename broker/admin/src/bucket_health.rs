//! How the bucket is, for `/readyz`: a reason that a program compares and a line that a person reads.
//!
//! Both are copied into the status of a Kubernetes resource, so they stay the same as long as the trouble does, and neither ever changes its meaning.

use serde::Serialize;

/// Why the bucket is used, or is not. The names are those of `/readyz` and of Kubernetes conditions: they are a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum BucketReason {
    /// It answers, and everything in it can be read.
    Healthy,
    /// It is being tried, or its shards are being opened.
    Opening,
    /// The credentials are missing, wrong or over, or may not do what a broker does.
    AccessDenied,
    /// There is no such bucket.
    NotFound,
    /// No connection, no name, no TLS, no answer in time; or a server that is overloaded or fails.
    Unreachable,
    /// It cannot keep what a broker promises: it breaks a rule of the probe, or a lifecycle rule takes objects away.
    Unsuitable,
    /// The prefix belongs to another owner.
    PrefixInUse,
    /// A later release, or something else, has written what this one cannot read.
    FormatUnknown,
    /// Shards cannot be read; the others are served.
    ShardRefused,
    /// It answers, but writes wait longer than they may, and acknowledgements with them.
    Slow,
    /// Anything else: the message and the broker's log tell.
    Invalid,
}

/// How the bucket is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BucketHealth {
    healthy: bool,
    reason: BucketReason,
    message: String,
}

impl BucketHealth {
    /// `message`: one line, what, where and what to do; without secrets, ids of requests and numbers that change.
    pub fn new(reason: BucketReason, message: impl Into<String>) -> Self {
        Self { healthy: reason == BucketReason::Healthy, reason, message: message.into() }
    }

    /// Why.
    pub fn reason(&self) -> BucketReason {
        self.reason
    }

    /// For a person.
    pub fn message(&self) -> &str {
        &self.message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_written_as_kubernetes_wants_them_and_one_of_them_is_healthy() {
        let reasons = [
            (BucketReason::Healthy, "Healthy"),
            (BucketReason::Opening, "Opening"),
            (BucketReason::AccessDenied, "AccessDenied"),
            (BucketReason::NotFound, "NotFound"),
            (BucketReason::Unreachable, "Unreachable"),
            (BucketReason::Unsuitable, "Unsuitable"),
            (BucketReason::PrefixInUse, "PrefixInUse"),
            (BucketReason::FormatUnknown, "FormatUnknown"),
            (BucketReason::ShardRefused, "ShardRefused"),
            (BucketReason::Slow, "Slow"),
            (BucketReason::Invalid, "Invalid"),
        ];
        for (reason, name) in reasons {
            let json = serde_json::to_value(BucketHealth::new(reason, "s3://b: x")).unwrap();
            assert_eq!(json, serde_json::json!({ "healthy": name == "Healthy", "reason": name, "message": "s3://b: x" }));
        }
    }
}
