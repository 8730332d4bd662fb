//! The loop that serves publishers and subscribers, one per thread.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::histogram::Histogram;
use crate::publisher::{Acknowledged, Publisher};
use crate::socket::Poller;
use crate::subscriber::{Common, Subscriber};

/// After publishing, silence of this length means that what is missing is lost.
const SILENCE: u64 = 2_000_000_000;
/// Silence that ends a run which has no end of its own.
const STALL: u64 = 15_000_000_000;
/// When all has arrived: how long to wait for what comes twice.
const LINGER: u64 = 50_000_000;
/// Bytes read at once.
const READ: usize = 256 * 1024;

/// What the threads of a run know of each other. Times are nanoseconds since `epoch`.
#[derive(Debug)]
pub struct Progress {
    epoch: Instant,
    received: AtomicU64,
    sent: AtomicU64,
    acknowledged: AtomicU64,
    published: AtomicU64,
    publishing: AtomicUsize,
    last_activity: AtomicU64,
    failed: AtomicBool,
    deliveries: Deliveries,
}

/// How many messages must arrive.
#[derive(Clone, Copy, Debug)]
pub enum Deliveries {
    /// So many for each one published.
    Each(u64),
    /// So many altogether.
    Total(u64),
}

impl Progress {
    /// A run by `workers` threads; its clock begins now.
    pub fn new(workers: usize, deliveries: Deliveries) -> Progress {
        Progress {
            epoch: Instant::now(),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            published: AtomicU64::new(0),
            publishing: AtomicUsize::new(workers),
            last_activity: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            deliveries,
        }
    }

    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Whether publishers are as far ahead of the subscribers as they may be.
    fn is_ahead(&self, limit: u64) -> bool {
        match self.deliveries {
            Deliveries::Each(each) => (each * self.sent.load(Relaxed)).saturating_sub(self.received.load(Relaxed)) >= limit,
            Deliveries::Total(_) => false,
        }
    }

    fn complete(&self) -> bool {
        let expected = match self.deliveries {
            Deliveries::Each(each) => each * self.published.load(Relaxed),
            Deliveries::Total(total) => total,
        };
        self.publishing.load(Relaxed) == 0 && self.received.load(Relaxed) >= expected
    }
}

/// Sends messages at a steady rate, each publisher in turn.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Messages per second of this thread.
    pub rate: f64,
    /// What is due goes out at multiples of this many nanoseconds; 0: exactly when it is due.
    pub tick: u64,
}

/// The share of one thread.
#[derive(Debug, Default)]
pub struct Worker {
    /// Subscribing connections.
    pub subscribers: Vec<Subscriber>,
    /// Publishing connections.
    pub publishers: Vec<Publisher>,
    /// A round takes at least so long, so that events gather while there is nothing else to do.
    pub gather: Duration,
    /// Messages that may be under way before publishing pauses; 0: no bound.
    pub ahead: u64,
    /// None: as fast as possible.
    pub pace: Option<Pace>,
    /// How long to publish; None: each publisher has a limit.
    pub duration: Option<Duration>,
}

/// What one thread saw.
#[derive(Debug)]
pub struct Outcome {
    /// The connections, with what they counted.
    pub worker: Worker,
    /// What the subscribers counted together.
    pub common: Common,
    /// What the publishers had acknowledged.
    pub acknowledged: Acknowledged,
    /// When the last message arrived.
    pub last_message: u64,
    /// When the last publisher was done.
    pub published_at: u64,
    /// How late paced messages were sent.
    pub lateness: Histogram,
}

impl Worker {
    /// Runs until everything has arrived, or nothing arrives any more.
    pub fn run(mut self, progress: &Progress) -> anyhow::Result<Outcome> {
        let mut run = Run {
            poller: Poller::new()?,
            buffer: vec![0; READ],
            scratch: Vec::new(),
            common: Common::default(),
            acknowledged: Acknowledged::default(),
            lateness: Histogram::default(),
            ready_publishers: Vec::new(),
            ready_subscribers: Vec::new(),
            last_message: 0,
            active: false,
            held: false,
        };
        let result = run.serve(&mut self, progress);
        if result.is_err() {
            progress.failed.store(true, Relaxed);
        }
        let published_at = result?;
        Ok(Outcome {
            worker: self,
            common: run.common,
            acknowledged: run.acknowledged,
            last_message: run.last_message,
            published_at,
            lateness: run.lateness,
        })
    }
}

struct Run {
    poller: Poller,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    common: Common,
    acknowledged: Acknowledged,
    lateness: Histogram,
    ready_publishers: Vec<usize>,
    ready_subscribers: Vec<usize>,
    last_message: u64,
    active: bool,
    held: bool,
}

impl Run {
    fn serve(&mut self, worker: &mut Worker, progress: &Progress) -> anyhow::Result<u64> {
        let subscribers = worker.subscribers.len();
        for (token, subscriber) in worker.subscribers.iter().enumerate() {
            self.poller.add(&subscriber.stream, token as u64)?;
        }
        for (number, publisher) in worker.publishers.iter_mut().enumerate() {
            self.poller.add(&publisher.stream, (subscribers + number) as u64)?;
            publisher.queued = true;
            self.ready_publishers.push(number);
        }
        let start = progress.now();
        let deadline = worker.duration.map(|duration| start + duration.as_nanos() as u64);
        let mut schedule = worker.pace.map(|pace| Schedule { pace, start, sent: 0 }).filter(|_| !worker.publishers.is_empty());
        let (mut stopped, mut published_at) = (false, None);
        let gather = if worker.pace.is_some() { 0 } else { worker.gather.as_nanos() as u64 };
        let mut round_from = start;
        loop {
            let now = progress.now();
            if !stopped && deadline.is_some_and(|deadline| now >= deadline) {
                stopped = true;
                schedule = None;
                for (number, publisher) in worker.publishers.iter_mut().enumerate() {
                    publisher.stop();
                    queue(number, &mut publisher.queued, &mut self.ready_publishers);
                }
            }
            if let Some(schedule) = &mut schedule {
                schedule.release(now, worker, &mut self.ready_publishers);
            }
            self.read_ready(worker, progress)?;
            self.pump_ready(worker, progress)?;

            if published_at.is_none() && (stopped || deadline.is_none()) && worker.publishers.iter().all(Publisher::is_done) {
                published_at = Some(progress.now());
                progress.published.fetch_add(worker.publishers.iter().map(Publisher::sent).sum(), Relaxed);
                progress.publishing.fetch_sub(1, Relaxed);
            }
            let silence = now.saturating_sub(progress.last_activity.load(Relaxed).max(start));
            let over = (progress.complete() && silence > LINGER)
                || (stopped && silence > SILENCE)
                || (deadline.is_none() && silence > STALL)
                || progress.failed.load(Relaxed);
            if over {
                return Ok(published_at.unwrap_or(now));
            }
            let until = match (&schedule, deadline) {
                // Subscribers of this thread wake us; those of another one do not.
                _ if self.held && self.ready_subscribers.is_empty() => now + 1_000_000,
                _ if !self.ready_publishers.is_empty() || !self.ready_subscribers.is_empty() => now,
                (Some(schedule), Some(deadline)) => schedule.next().min(deadline),
                (Some(schedule), None) => schedule.next(),
                (None, Some(deadline)) if !stopped => deadline,
                _ => now + 10_000_000,
            };
            if until > now && gather > 0 {
                let passed = progress.now() - round_from;
                if passed < gather {
                    thread::sleep(Duration::from_nanos(gather - passed));
                }
            }
            let timeout = if until == now { 0 } else { until.saturating_sub(progress.now()) };
            self.poller.wait(Duration::from_nanos(timeout))?;
            round_from = progress.now();
            self.handle_events(worker, progress)?;
        }
    }

    /// Subscribers first: what a full subscriber holds up is the broker's trouble, and must not be made by us.
    fn handle_events(&mut self, worker: &mut Worker, progress: &Progress) -> anyhow::Result<()> {
        let subscribers = worker.subscribers.len();
        for at in 0..self.poller.count() {
            let (token, writable) = self.poller.event(at);
            if let Some(subscriber) = worker.subscribers.get_mut(token as usize) {
                if writable {
                    subscriber.flush()?;
                }
                self.read_subscriber(token as usize, subscriber, progress)?;
            }
        }
        self.note_received(progress);
        for at in 0..self.poller.count() {
            let (token, _) = self.poller.event(at);
            if let Some(number) = (token as usize).checked_sub(subscribers) {
                let publisher = &mut worker.publishers[number];
                let before = self.acknowledged.messages;
                let read = publisher.read(&mut self.buffer, &mut self.scratch, &mut self.acknowledged, || progress.now())?;
                self.active |= read > 0;
                if self.acknowledged.messages > before {
                    progress.acknowledged.fetch_add(self.acknowledged.messages - before, Relaxed);
                }
                queue(number, &mut publisher.queued, &mut self.ready_publishers);
            }
        }
        self.note_activity(progress);
        Ok(())
    }

    #[inline]
    fn read_subscriber(&mut self, number: usize, subscriber: &mut Subscriber, progress: &Progress) -> anyhow::Result<()> {
        if subscriber.read(&mut self.buffer, &mut self.common, || progress.now())? {
            queue(number, &mut subscriber.queued, &mut self.ready_subscribers);
        }
        Ok(())
    }

    fn read_ready(&mut self, worker: &mut Worker, progress: &Progress) -> anyhow::Result<()> {
        if self.ready_subscribers.is_empty() {
            return Ok(());
        }
        for number in std::mem::take(&mut self.ready_subscribers) {
            let subscriber = &mut worker.subscribers[number];
            subscriber.queued = false;
            self.read_subscriber(number, subscriber, progress)?;
        }
        self.note_received(progress);
        self.note_activity(progress);
        Ok(())
    }

    fn pump_ready(&mut self, worker: &mut Worker, progress: &Progress) -> anyhow::Result<()> {
        let now = progress.now();
        let mut kept = 0;
        self.held = false;
        for at in 0..self.ready_publishers.len() {
            let number = self.ready_publishers[at];
            let publisher = &mut worker.publishers[number];
            if worker.ahead > 0 && progress.is_ahead(worker.ahead) && !publisher.is_stopped() {
                self.held = true;
            } else {
                let before = publisher.sent();
                publisher.queued = publisher.pump(now, &mut self.scratch, &mut self.lateness)?;
                let sent = publisher.sent() - before;
                if sent > 0 {
                    self.active = true;
                    progress.sent.fetch_add(sent, Relaxed);
                }
            }
            if publisher.queued {
                self.ready_publishers[kept] = number;
                kept += 1;
            }
        }
        self.ready_publishers.truncate(kept);
        self.note_activity(progress);
        Ok(())
    }

    fn note_received(&mut self, progress: &Progress) {
        let received = std::mem::take(&mut self.common.received);
        if received > 0 {
            progress.received.fetch_add(received, Relaxed);
            self.last_message = progress.now();
            self.active = true;
        }
    }

    fn note_activity(&mut self, progress: &Progress) {
        if std::mem::take(&mut self.active) {
            progress.last_activity.store(progress.now(), Relaxed);
        }
    }
}

fn queue(number: usize, queued: &mut bool, ready: &mut Vec<usize>) {
    if !*queued {
        *queued = true;
        ready.push(number);
    }
}

/// Message number n is due at start + n / rate, whatever became of the ones before it.
struct Schedule {
    pace: Pace,
    start: u64,
    sent: u64,
}

impl Schedule {
    fn due(&self) -> u64 {
        self.start + (self.sent as f64 * 1e9 / self.pace.rate) as u64
    }

    /// When to look again.
    fn next(&self) -> u64 {
        match self.pace.tick {
            0 => self.due(),
            tick => self.start + (self.due() - self.start).next_multiple_of(tick),
        }
    }

    fn release(&mut self, now: u64, worker: &mut Worker, ready: &mut Vec<usize>) {
        while self.next() <= now {
            let number = (self.sent % worker.publishers.len() as u64) as usize;
            let publisher = &mut worker.publishers[number];
            publisher.due(self.due());
            queue(number, &mut publisher.queued, ready);
            self.sent += 1;
        }
    }
}

impl Progress {
    /// How many messages have arrived at the subscribers of all threads.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// How many messages the publishers of all threads had acknowledged, their handshakes over.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Relaxed)
    }
}
