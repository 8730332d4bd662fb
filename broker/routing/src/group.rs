//! One Shared Subscription: the members that take turns, and whose turn it is.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::options::Options;

const PREFIX: &str = "$share/";
/// Times a random choice is drawn anew when it falls on a member that cannot take a message.
const DRAWS_MAX: usize = 4;

/// How the member is chosen that gets a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// One after the other.
    #[default]
    RoundRobin,
    /// Any, all equally often.
    Random,
    /// The same member for the same publisher; when a member comes or goes, only the publishers it gains or loses move.
    Sticky,
    /// The member with the fewest messages on their way; among equals one after the other.
    LeastInflight,
}

/// A Client in a Shared Subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member<S> {
    /// Whom to deliver to.
    pub subscriber: S,
    /// What this member asked for: each has a granted QoS of its own [MQTT-4.8.2-3].
    pub options: Options,
    /// Tells members apart for `Sticky`; given when the member joins and kept until it leaves.
    ticket: u64,
}

/// A Shared Subscription: a ShareName, a Topic Filter and at least one member. A change of the members makes a new value when somebody still
/// holds the old one, so a group can be used without the lock of the Subscriptions.
#[derive(Debug)]
pub struct Group<S> {
    /// `$share/{ShareName}/{filter}`
    name: Box<str>,
    share_len: u16,
    members: Vec<Member<S>>,
    next_ticket: u64,
    cursor: AtomicU64,
}

impl<S: Clone> Clone for Group<S> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            share_len: self.share_len,
            members: self.members.clone(),
            next_ticket: self.next_ticket,
            cursor: AtomicU64::new(self.cursor.load(Ordering::Relaxed)),
        }
    }
}

impl<S> Group<S> {
    /// As the Client names it: `$share/{ShareName}/{filter}`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The ShareName.
    pub fn share(&self) -> &str {
        &self.name[PREFIX.len()..PREFIX.len() + usize::from(self.share_len)]
    }

    /// The Topic Filter, without `$share/{ShareName}/`.
    pub fn filter(&self) -> &str {
        &self.name[PREFIX.len() + usize::from(self.share_len) + 1..]
    }

    /// The members, in no particular order; never empty.
    pub fn members(&self) -> &[Member<S>] {
        &self.members
    }

    /// The member that gets the next message [MQTT-4.8.2-4].
    ///
    /// `load` says how many messages a member has on their way, `None` that it cannot take one now. `LeastInflight` compares the numbers;
    /// the other strategies only ask whether there are any: a member that reports more than zero is passed over while another reports zero.
    /// `key` stands for the publisher. `None`: no member can take a message.
    pub fn pick(&self, strategy: Strategy, key: u64, load: impl Fn(&S) -> Option<u32>) -> Option<&Member<S>> {
        if let [only] = self.members.as_slice() {
            return load(&only.subscriber).map(|_| only);
        }
        let place = match strategy {
            Strategy::RoundRobin => self.pick_next(load),
            Strategy::Random => self.pick_random(key, load),
            Strategy::Sticky => self.pick_sticky(key, load),
            Strategy::LeastInflight => self.pick_least(load),
        }?;
        self.members.get(place)
    }

    fn pick_next(&self, load: impl Fn(&S) -> Option<u32>) -> Option<usize> {
        let turn = self.cursor.fetch_add(1, Ordering::Relaxed);
        let (place, skipped) = self.first_free(turn, load)?;
        if skipped > 0 {
            // Or the member behind one that is away would get its turns too.
            self.cursor.fetch_add(skipped, Ordering::Relaxed);
        }
        Some(place)
    }

    fn pick_random(&self, key: u64, load: impl Fn(&S) -> Option<u32>) -> Option<usize> {
        let count = self.members.len() as u64;
        let mut drawn = 0;
        for _ in 0..DRAWS_MAX {
            // A counter well mixed is as good as a random number here and keeps this room free of entropy.
            drawn = mix(self.cursor.fetch_add(1, Ordering::Relaxed) ^ key.rotate_left(32));
            let place = (drawn % count) as usize;
            if load(&self.members[place].subscriber) == Some(0) {
                return Some(place);
            }
        }
        self.first_free(drawn, load).map(|(place, _)| place)
    }

    /// Highest random weight: each pair of publisher and member has a score, the best member that can take a message wins.
    fn pick_sticky(&self, key: u64, load: impl Fn(&S) -> Option<u32>) -> Option<usize> {
        let mut best: Option<(bool, u64, usize)> = None;
        for (place, member) in self.members.iter().enumerate() {
            let score = mix(key ^ mix(member.ticket));
            if best.is_some_and(|(idle, high, _)| idle && high >= score) {
                continue;
            }
            let Some(inflight) = load(&member.subscriber) else { continue };
            if best.is_none_or(|(idle, high, _)| (idle, high) < (inflight == 0, score)) {
                best = Some((inflight == 0, score, place));
            }
        }
        best.map(|(_, _, place)| place)
    }

    fn pick_least(&self, load: impl Fn(&S) -> Option<u32>) -> Option<usize> {
        let start = self.cursor.fetch_add(1, Ordering::Relaxed);
        let mut best: Option<(u32, usize)> = None;
        for place in self.places_from(start) {
            match load(&self.members[place].subscriber) {
                Some(0) => return Some(place),
                Some(inflight) if best.is_none_or(|(least, _)| inflight < least) => best = Some((inflight, place)),
                _ => {}
            }
        }
        best.map(|(_, place)| place)
    }

    /// From `start` on, the first member without load, else the first that can take a message at all; and how many were passed over.
    fn first_free(&self, start: u64, load: impl Fn(&S) -> Option<u32>) -> Option<(usize, u64)> {
        let mut second = None;
        for (skipped, place) in self.places_from(start).enumerate() {
            match load(&self.members[place].subscriber) {
                Some(0) => return Some((place, skipped as u64)),
                Some(_) if second.is_none() => second = Some((place, skipped as u64)),
                _ => {}
            }
        }
        second
    }

    fn places_from(&self, start: u64) -> impl Iterator<Item = usize> {
        let count = self.members.len();
        let start = (start % count as u64) as usize;
        (start..count).chain(0..start)
    }
}

impl<S: Eq> Group<S> {
    pub(crate) fn new(share: &str, filter: &str) -> Self {
        let share_len = u16::try_from(share.len()).expect("part of a Topic Filter, which has up to 65,535 bytes");
        let name = [PREFIX, share, "/", filter].concat().into();
        Self { name, share_len, members: Vec::new(), next_ticket: 0, cursor: AtomicU64::new(0) }
    }

    pub(crate) fn place(&self, subscriber: &S) -> Option<usize> {
        self.members.iter().position(|member| member.subscriber == *subscriber)
    }

    pub(crate) fn join(&mut self, subscriber: S, options: Options) {
        self.members.push(Member { subscriber, options, ticket: self.next_ticket });
        self.next_ticket += 1;
    }

    pub(crate) fn change(&mut self, place: usize, options: Options) {
        self.members[place].options = options;
    }

    pub(crate) fn leave(&mut self, place: usize) {
        self.members.swap_remove(place);
    }
}

/// The finishing step of splitmix64: every bit of the result depends on every bit of `x`.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests;
