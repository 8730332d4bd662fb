//! What the proxy does just now, and what it has counted; shared by its connections, its control endpoint and its handle.

use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::Kind;
use crate::proxy::body::Direction;
use crate::proxy::counts::{Book, Counts};
use crate::proxy::fault::{Fault, Rule, When};
use crate::proxy::operation::Operation;

/// Time added to what the store takes by itself, half before it sees the request and half after.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latency {
    /// To GET, HEAD and lists.
    pub read: Duration,
    /// To everything else.
    pub write: Duration,
}

/// A fault that was put in, to lift it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleId(pub(crate) u64);

/// Shared by all who work on the proxy.
pub(crate) struct State {
    /// Whose requests these are.
    pub(crate) kind: Kind,
    behaviour: Mutex<Behaviour>,
    book: Mutex<Book>,
}

struct Behaviour {
    latency: Latency,
    is_refusing: bool,
    rules: Vec<(RuleId, Rule)>,
    rules_made: u64,
    random: StdRng,
}

impl State {
    pub(crate) fn new(kind: Kind, latency: Latency, seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        let behaviour = Behaviour { latency, is_refusing: false, rules: Vec::new(), rules_made: 0, random };
        Self { kind, behaviour: Mutex::new(behaviour), book: Mutex::default() }
    }

    /// Counts a request that has come; says where its bytes count, what to add to its time and what goes wrong with it.
    pub(crate) fn arrived(&self, operation: Operation, key: &str) -> (usize, Duration, Option<Fault>) {
        let (latency, fault) = self.behaviour.lock().decide(operation, key);
        let mut book = self.book.lock();
        let directory = book.request(operation, key);
        book.directory(directory).faults += u64::from(fault.is_some());
        (directory, latency, fault)
    }

    pub(crate) fn bytes(&self, directory: usize, direction: Direction, length: usize) {
        let mut book = self.book.lock();
        let counts = book.directory(directory);
        match direction {
            Direction::Up => counts.bytes_up += length as u64,
            Direction::Down => counts.bytes_down += length as u64,
        }
    }

    pub(crate) fn counts_under(&self, prefix: &str) -> Counts {
        self.book.lock().under(prefix)
    }

    pub(crate) fn reset_counts(&self) {
        self.book.lock().reset();
    }

    pub(crate) fn latency(&self) -> Latency {
        self.behaviour.lock().latency
    }

    pub(crate) fn set_latency(&self, latency: Latency) {
        self.behaviour.lock().latency = latency;
    }

    pub(crate) fn is_refusing(&self) -> bool {
        self.behaviour.lock().is_refusing
    }

    pub(crate) fn set_refusing(&self, is_refusing: bool) {
        self.behaviour.lock().is_refusing = is_refusing;
    }

    pub(crate) fn inject(&self, rule: Rule) -> RuleId {
        let mut behaviour = self.behaviour.lock();
        behaviour.rules_made += 1;
        let id = RuleId(behaviour.rules_made);
        behaviour.rules.push((id, rule));
        id
    }

    /// False if it was not there any more.
    pub(crate) fn lift(&self, id: RuleId) -> bool {
        let mut behaviour = self.behaviour.lock();
        let before = behaviour.rules.len();
        behaviour.rules.retain(|(other, _)| *other != id);
        behaviour.rules.len() < before
    }

    pub(crate) fn heal(&self) {
        self.behaviour.lock().rules.clear();
    }

    pub(crate) fn json(&self) -> Value {
        let behaviour = self.behaviour.lock();
        let rule = |(id, rule): &(RuleId, Rule)| {
            let mut value =
                json!({ "id": id.0, "fault": rule.fault.name(), "on": rule.operations.iter().map(|on| on.name()).collect::<Vec<_>>() });
            match rule.when {
                When::Always => {}
                When::Next(count) => value["next"] = count.into(),
                When::Probability(probability) => value["probability"] = probability.into(),
            }
            if let Some(key) = &rule.key {
                value["key"] = key.as_str().into();
            }
            value
        };
        json!({
            "refusing": behaviour.is_refusing,
            "latency": { "read": humantime::format_duration(behaviour.latency.read).to_string(),
                         "write": humantime::format_duration(behaviour.latency.write).to_string() },
            "faults": behaviour.rules.iter().map(rule).collect::<Vec<_>>(),
        })
    }
}

impl Behaviour {
    /// The first rule that concerns the request and whose turn it is.
    fn decide(&mut self, operation: Operation, key: &str) -> (Duration, Option<Fault>) {
        let latency = if operation.is_read() { self.latency.read } else { self.latency.write };
        let random = &mut self.random;
        let found = self.rules.iter_mut().position(|(_, rule)| {
            rule.concerns(operation, key)
                && match &mut rule.when {
                    When::Always => true,
                    When::Next(count) => {
                        let is_due = *count > 0;
                        *count = count.saturating_sub(1);
                        is_due
                    }
                    When::Probability(probability) => random.random_bool(*probability),
                }
        });
        let fault = found.map(|at| self.rules[at].1.fault);
        self.rules.retain(|(_, rule)| rule.when != When::Next(0));
        (latency, fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State::new(Kind::Moto, Latency::default(), 1)
    }

    #[test]
    fn the_next_ones_are_counted_down_and_then_all_is_well() {
        let state = state();
        state.inject(Fault::SlowDown.next(2).on_writes());
        let faults: Vec<_> = (0..4).map(|_| state.arrived(Operation::Put, "a").2).collect();
        assert_eq!(faults, [Some(Fault::SlowDown), Some(Fault::SlowDown), None, None]);
        assert_eq!((state.counts_under("").faults, state.json()["faults"].as_array().map(Vec::len)), (2, Some(0)));
    }

    #[test]
    fn a_probability_is_met_and_the_same_seed_repeats_it() {
        let run = || {
            let state = state();
            state.inject(Fault::Reset.with_probability(0.25));
            (0..4000).map(|_| state.arrived(Operation::Get, "a").2.is_some()).collect::<Vec<_>>()
        };
        let faults = run().into_iter().filter(|fault| *fault).count();
        assert!((900..1100).contains(&faults), "{faults}");
        assert_eq!(run(), run());
    }

    #[test]
    fn a_lifted_fault_is_gone_and_others_stay() {
        let state = state();
        let reset = state.inject(Fault::Reset.always());
        state.inject(Fault::Hang.always());
        assert_eq!(state.arrived(Operation::Get, "a").2, Some(Fault::Reset));
        assert!(state.lift(reset) && !state.lift(reset));
        assert_eq!(state.arrived(Operation::Get, "a").2, Some(Fault::Hang));
        state.heal();
        assert_eq!(state.arrived(Operation::Get, "a").2, None);
    }
}
