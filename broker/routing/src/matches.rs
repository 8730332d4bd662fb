//! What matched one Topic Name.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use bucketmq_packet::QoS;
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::group::Group;
use crate::identifiers::Identifiers;
use crate::subscribers::{Entry, Subscribers};

/// Subscribers behind the longest list are compared one by one up to here and through a hash table above.
const SCAN_MAX: usize = 16;

/// The Subscriptions that match a Topic Name. One value can be used for many matches and keeps its memory.
#[derive(Debug, Clone)]
pub struct Matches<S> {
    /// Each subscriber with a plain Subscription once.
    pub plain: Vec<Matched<S>>,
    /// Each Shared Subscription once; one member of it gets the message [MQTT-4.8.2-4].
    pub shared: Vec<Arc<Group<S>>>,
}

/// One subscriber and what its matching Subscriptions together ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matched<S> {
    /// Whom to deliver to.
    pub subscriber: S,
    /// The highest QoS of the matching Subscriptions [MQTT-3.3.4-2].
    pub qos: QoS,
    /// True only if all of them ask for it: another one still wants the message [MQTT-3.8.3-3].
    pub no_local: bool,
    /// True if one of them asks for it [MQTT-3.3.1-13].
    pub retain_as_published: bool,
    /// The Subscription Identifiers of all of them [MQTT-3.3.4-4].
    pub identifiers: Identifiers,
}

impl<S> Matches<S> {
    /// Nothing matched yet.
    pub const fn new() -> Self {
        Self { plain: Vec::new(), shared: Vec::new() }
    }

    /// True when nobody wants the message.
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.shared.is_empty()
    }

    /// Forgets what matched and keeps the memory.
    pub fn clear(&mut self) {
        self.plain.clear();
        self.shared.clear();
    }
}

impl<S> Default for Matches<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Clone + Eq + Hash> Matches<S> {
    /// Adds the subscribers of the filters in the slots `found`, each subscriber once.
    pub(crate) fn collect<'a>(&mut self, found: &[u32], subscribers_of: impl Fn(u32) -> &'a Subscribers<S>)
    where
        S: 'a,
    {
        for slot in found {
            self.shared.extend_from_slice(subscribers_of(*slot).groups());
        }
        if let [only] = found {
            self.plain.extend(subscribers_of(*only).plain().iter().map(Matched::from));
            return;
        }
        // The longest list goes first and as it is. The others are looked up in it, by its own index when it has one.
        let Some(base) = found.iter().copied().max_by_key(|slot| subscribers_of(*slot).plain().len()) else { return };
        let longest = subscribers_of(base);
        self.plain.extend(longest.plain().iter().map(Matched::from));
        let mut behind = Behind { base_len: self.plain.len(), places: HashTable::new(), hasher: None };
        for slot in found.iter().filter(|slot| **slot != base) {
            for entry in subscribers_of(*slot).plain() {
                let place = longest.position(&entry.subscriber).or_else(|| behind.position(&self.plain, &entry.subscriber));
                match place {
                    Some(place) => self.plain[place].merge(entry),
                    None => {
                        self.plain.push(Matched::from(entry));
                        behind.pushed(&self.plain);
                    }
                }
            }
        }
    }
}

/// Finds a subscriber among those that came behind the longest list.
struct Behind {
    base_len: usize,
    places: HashTable<u32>,
    hasher: Option<DefaultHashBuilder>,
}

impl Behind {
    fn position<S: Eq + Hash>(&self, plain: &[Matched<S>], subscriber: &S) -> Option<usize> {
        match &self.hasher {
            None => plain[self.base_len..].iter().position(|matched| matched.subscriber == *subscriber).map(|place| self.base_len + place),
            Some(hasher) => self
                .places
                .find(hasher.hash_one(subscriber), |place| plain[*place as usize].subscriber == *subscriber)
                .map(|place| *place as usize),
        }
    }

    fn pushed<S: Hash>(&mut self, plain: &[Matched<S>]) {
        if plain.len() - self.base_len <= SCAN_MAX {
            return;
        }
        // The first time the table is needed, those already there go in with the new one.
        let from = if self.hasher.is_none() { self.base_len } else { plain.len() - 1 };
        let hasher = self.hasher.get_or_insert_default();
        let hash = |place: u32| hasher.hash_one(&plain[place as usize].subscriber);
        for place in from as u32..plain.len() as u32 {
            self.places.insert_unique(hash(place), place, |place| hash(*place));
        }
    }
}

impl<S: Clone> From<&Entry<S>> for Matched<S> {
    #[inline]
    fn from(entry: &Entry<S>) -> Self {
        Self {
            subscriber: entry.subscriber.clone(),
            qos: entry.options.qos,
            no_local: entry.options.no_local,
            retain_as_published: entry.options.retain_as_published,
            identifiers: entry.options.identifier.into(),
        }
    }
}

impl<S> Matched<S> {
    fn merge(&mut self, entry: &Entry<S>) {
        self.qos = self.qos.max(entry.options.qos);
        self.no_local &= entry.options.no_local;
        self.retain_as_published |= entry.options.retain_as_published;
        if let Some(identifier) = entry.options.identifier {
            self.identifiers.push(identifier);
        }
    }
}
