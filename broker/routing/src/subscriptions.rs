//! All Subscriptions of all Clients.

use std::hash::Hash;
use std::sync::Arc;

use crate::filters::Filters;
use crate::generation::Generation;
use crate::group::Group;
use crate::matches::Matches;
use crate::options::Options;
use crate::subscribers::Change;
use crate::trie::{Places, Trie};

/// The Subscriptions, by Topic Filter. Filters are taken as valid (`bucketmq_packet::topic::check_filter`) and without `$share/{ShareName}/`.
///
/// `S` is what the caller delivers to; it is cloned into every match, so it should be a reference count or a number. A subscriber has at most
/// one plain Subscription to a filter, and one to each Shared Subscription [MQTT-3.8.4-3].
#[derive(Debug)]
pub struct Subscriptions<S> {
    filters: Filters<S>,
    /// Slots of those filters that have a wildcard.
    trie: Trie,
    generation: Generation,
    plain: usize,
    shared: usize,
}

impl<S> Subscriptions<S> {
    /// No Subscriptions.
    pub fn new() -> Self {
        Self { filters: Filters::new(), trie: Trie::new(), generation: Generation::default(), plain: 0, shared: 0 }
    }

    /// A number that is another one after every change. Adding what is already there changes nothing.
    pub fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// The same number for who does not hold the lock.
    pub fn watch(&self) -> Generation {
        self.generation.clone()
    }

    /// Plain Subscriptions.
    pub fn len(&self) -> usize {
        self.plain
    }

    /// Members of Shared Subscriptions.
    pub fn shared_len(&self) -> usize {
        self.shared
    }

    /// True when there is neither a plain nor a shared one.
    pub fn is_empty(&self) -> bool {
        self.plain == 0 && self.shared == 0
    }

    /// The Shared Subscription `$share/{share}/{filter}`.
    pub fn group(&self, share: &str, filter: &str) -> Option<&Arc<Group<S>>> {
        let slot = self.filters.find(filter)?;
        self.filters.get(slot).subscribers.group(share)
    }
}

impl<S> Default for Subscriptions<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Clone + Eq + Hash> Subscriptions<S> {
    /// Adds a Subscription or replaces it; false: replaced [MQTT-3.8.4-3].
    pub fn subscribe(&mut self, filter: &str, subscriber: S, options: Options) -> bool {
        let slot = self.slot_for(filter);
        let change = self.filters.get_mut(slot).subscribers.subscribe(subscriber, options);
        self.plain += usize::from(change == Change::Added);
        self.changed(change)
    }

    /// Removes a Subscription; false: there was none [MQTT-3.10.4-1].
    pub fn unsubscribe(&mut self, filter: &str, subscriber: &S) -> bool {
        let Some(slot) = self.filters.find(filter) else { return false };
        if !self.filters.get_mut(slot).subscribers.unsubscribe(subscriber) {
            return false;
        }
        self.plain -= 1;
        self.removed(slot);
        true
    }

    /// Joins the Shared Subscription or replaces the options of the member; false: replaced.
    pub fn subscribe_shared(&mut self, share: &str, filter: &str, subscriber: S, options: Options) -> bool {
        let slot = self.slot_for(filter);
        let change = self.filters.get_mut(slot).subscribers.subscribe_shared(share, filter, subscriber, options);
        self.shared += usize::from(change == Change::Added);
        self.changed(change)
    }

    /// Leaves the Shared Subscription; false: was no member.
    pub fn unsubscribe_shared(&mut self, share: &str, filter: &str, subscriber: &S) -> bool {
        let Some(slot) = self.filters.find(filter) else { return false };
        if !self.filters.get_mut(slot).subscribers.unsubscribe_shared(share, subscriber) {
            return false;
        }
        self.shared -= 1;
        self.removed(slot);
        true
    }

    /// Replaces what stands in `out` by everything that matches the Topic Name `topic`: each plain subscriber once, with what all its matching
    /// Subscriptions together ask for, and each Shared Subscription once.
    pub fn matches(&self, topic: &str, out: &mut Matches<S>) {
        out.clear();
        let mut found = Places::new();
        // A name has no wildcard, so the only filter with the same text is the one without a wildcard.
        if let Some(slot) = self.filters.find(topic) {
            found.push(slot);
        }
        self.trie.find(topic, &mut found);
        out.collect(found.as_slice(), |slot| &self.filters.get(slot).subscribers);
    }

    fn slot_for(&mut self, filter: &str) -> u32 {
        if let Some(slot) = self.filters.find(filter) {
            return slot;
        }
        let slot = self.filters.insert(filter);
        if has_wildcard(filter) {
            self.trie.set(filter, slot);
        }
        slot
    }

    fn changed(&mut self, change: Change) -> bool {
        if change != Change::Same {
            self.generation.advance();
        }
        change == Change::Added
    }

    /// Somebody left the filter at `slot`: it goes with its last subscriber.
    fn removed(&mut self, slot: u32) {
        self.generation.advance();
        let filter = self.filters.get(slot);
        if !filter.subscribers.is_empty() {
            return;
        }
        if has_wildcard(filter.text()) {
            self.trie.remove(filter.text());
        }
        if let Some(moved) = self.filters.remove(slot)
            && has_wildcard(moved)
        {
            self.trie.set(moved, slot);
        }
        if self.trie.is_sparse() {
            self.pack_trie();
        }
    }

    fn pack_trie(&mut self) {
        self.trie = Trie::new();
        for (slot, filter) in self.filters.iter().enumerate().filter(|(_, filter)| has_wildcard(filter.text())) {
            self.trie.set(filter.text(), slot as u32);
        }
    }
}

/// In a valid filter a wildcard is a whole level, so its character tells.
fn has_wildcard(filter: &str) -> bool {
    filter.bytes().any(|byte| byte == b'+' || byte == b'#')
}

#[cfg(test)]
mod tests;
