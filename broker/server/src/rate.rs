//! Message and byte rates: a bucket that may go into debt by one batch and is then waited for. TCP does the rest.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A bucket of `per_second` tokens that holds one second's worth.
#[derive(Debug)]
pub struct Bucket {
    per_second: u64,
    tokens: f64,
    filled_at: Instant,
}

impl Bucket {
    /// A full bucket; None for 0, which means no limit.
    pub fn new(per_second: u64, now: Instant) -> Option<Self> {
        (per_second > 0).then(|| Self { per_second, tokens: per_second as f64, filled_at: now })
    }

    /// Takes `count`; may leave a debt.
    pub fn take(&mut self, count: u64, now: Instant) {
        let rate = self.per_second as f64;
        let gained = now.saturating_duration_since(self.filled_at).as_secs_f64() * rate;
        self.tokens = (self.tokens + gained).min(rate) - count as f64;
        self.filled_at = now;
    }

    /// How long until the debt is paid.
    pub fn debt(&self) -> Option<Duration> {
        (self.tokens < 0.0).then(|| Duration::from_secs_f64((-self.tokens / self.per_second as f64).min(60.0)))
    }
}

/// The buckets one connection draws on: its own, and its listener's which it shares.
#[derive(Debug, Default)]
pub struct Rates {
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
    listener: Option<Arc<ListenerRates>>,
}

/// A listener's buckets.
#[derive(Debug)]
pub struct ListenerRates {
    messages: Mutex<Option<Bucket>>,
    bytes: Mutex<Option<Bucket>>,
}

impl ListenerRates {
    /// None when neither is limited.
    pub fn new(messages: u64, bytes: u64) -> Option<Arc<Self>> {
        let now = Instant::now();
        (messages > 0 || bytes > 0)
            .then(|| Arc::new(Self { messages: Mutex::new(Bucket::new(messages, now)), bytes: Mutex::new(Bucket::new(bytes, now)) }))
    }
}

impl Rates {
    /// The buckets of a connection; None when nothing is limited.
    pub fn new(messages: u64, bytes: u64, listener: Option<Arc<ListenerRates>>) -> Option<Box<Self>> {
        let now = Instant::now();
        let rates = Self { messages: Bucket::new(messages, now), bytes: Bucket::new(bytes, now), listener };
        (rates.messages.is_some() || rates.bytes.is_some() || rates.listener.is_some()).then(|| Box::new(rates))
    }

    /// PUBLISHes came.
    pub fn messages(&mut self, count: u64) {
        let now = Instant::now();
        if let Some(bucket) = &mut self.messages {
            bucket.take(count, now);
        }
        if let Some(listener) = &self.listener
            && let Some(bucket) = &mut *listener.messages.lock()
        {
            bucket.take(count, now);
        }
    }

    /// Bytes came.
    pub fn bytes(&mut self, count: u64) {
        let now = Instant::now();
        if let Some(bucket) = &mut self.bytes {
            bucket.take(count, now);
        }
        if let Some(listener) = &self.listener
            && let Some(bucket) = &mut *listener.bytes.lock()
        {
            bucket.take(count, now);
        }
    }

    /// How long the connection should not be read.
    pub fn wait(&mut self) -> Option<Duration> {
        let own = [&self.messages, &self.bytes].into_iter().flatten().filter_map(Bucket::debt).max();
        let shared = self.listener.as_ref().and_then(|listener| {
            let messages = listener.messages.lock().as_ref().and_then(Bucket::debt);
            let bytes = listener.bytes.lock().as_ref().and_then(Bucket::debt);
            messages.max(bytes)
        });
        own.max(shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_one_second_at_once_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(100, start).expect("limited");
        bucket.take(100, start);
        assert_eq!(bucket.debt(), None);
        bucket.take(50, start);
        assert_eq!(bucket.debt(), Some(Duration::from_millis(500)));
        bucket.take(0, start + Duration::from_millis(600));
        assert_eq!(bucket.debt(), None);
    }

    #[test]
    fn zero_means_no_limit() {
        assert!(Rates::new(0, 0, None).is_none());
        assert!(ListenerRates::new(0, 0).is_none());
    }
}
