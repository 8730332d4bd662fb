//! How long a connection pauses when its Client, or its listener as a whole, sends more than it may. TCP then slows the Client down.

use std::time::Duration;

use bucketmq_listener::{ListenerHandle, Rate};

/// What came in one batch, and what it costs.
#[derive(Debug)]
pub struct Rates {
    messages: Rate,
    bytes: Rate,
}

impl Rates {
    /// The Client's own limits per second, 0 for none; `None` without any.
    pub fn new(messages: u64, bytes: u64) -> Option<Box<Self>> {
        (messages > 0 || bytes > 0).then(|| Box::new(Self { messages: Rate::new(messages), bytes: Rate::new(bytes) }))
    }
}

/// Accounts for `messages` PUBLISH packets and `bytes` bytes, and says how long not to read; zero mostly.
pub fn pause(own: Option<&Rates>, listener: &ListenerHandle, messages: u64, bytes: u64) -> Duration {
    let shared = listener.messages_rate.take(messages).max(listener.bytes_rate.take(bytes));
    own.map_or(shared, |own| shared.max(own.messages.take(messages)).max(own.bytes.take(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_without_limits_has_no_buckets() {
        assert!(Rates::new(0, 0).is_none());
        assert!(Rates::new(1, 0).is_some());
    }
}
