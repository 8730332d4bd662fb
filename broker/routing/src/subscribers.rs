//! Who subscribes to one Topic Filter: plain subscribers and Shared Subscriptions.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::group::Group;
use crate::options::{Options, Packed};

/// Lists are searched one by one up to here and by an index above: 32 entries of 16 bytes are eight cache lines.
const SCAN_MAX: usize = 32;

/// A plain Subscription to the filter this stands at.
#[derive(Debug)]
pub(crate) struct Entry<S> {
    pub(crate) subscriber: S,
    pub(crate) options: Packed,
}

/// Nearly all filters have one plain subscriber, which stands in place.
#[derive(Debug, Default)]
pub(crate) enum Subscribers<S> {
    #[default]
    None,
    One(Entry<S>),
    Many(Box<Many<S>>),
}

#[derive(Debug)]
pub(crate) struct Many<S> {
    plain: Vec<Entry<S>>,
    /// Places in `plain`, kept from `SCAN_MAX` + 1 subscribers on.
    index: Option<Index>,
    /// Sorted by ShareName.
    groups: Vec<Arc<Group<S>>>,
}

#[derive(Debug, Default)]
struct Index {
    places: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Replaced,
    /// It stood there as it is.
    Same,
}

impl<S> Subscribers<S> {
    #[inline]
    pub(crate) fn plain(&self) -> &[Entry<S>] {
        match self {
            Self::None => &[],
            Self::One(entry) => std::slice::from_ref(entry),
            Self::Many(many) => &many.plain,
        }
    }

    #[inline]
    pub(crate) fn groups(&self) -> &[Arc<Group<S>>] {
        match self {
            Self::None | Self::One(_) => &[],
            Self::Many(many) => &many.groups,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(crate) fn group(&self, share: &str) -> Option<&Arc<Group<S>>> {
        let groups = self.groups();
        groups.binary_search_by(|group| group.share().cmp(share)).ok().map(|place| &groups[place])
    }

    /// Turns into `Many`, whatever it was.
    fn many(&mut self) -> &mut Many<S> {
        if !matches!(self, Self::Many(_)) {
            let plain = match std::mem::take(self) {
                Self::One(entry) => vec![entry],
                Self::None | Self::Many(_) => Vec::new(),
            };
            *self = Self::Many(Box::new(Many { plain, index: None, groups: Vec::new() }));
        }
        match self {
            Self::Many(many) => many,
            Self::None | Self::One(_) => unreachable!("was made Many above"),
        }
    }

    /// Gives `Many` up when less will do.
    fn settle(&mut self) {
        let Self::Many(many) = self else { return };
        if !many.groups.is_empty() || many.plain.len() > 1 {
            return;
        }
        *self = many.plain.pop().map_or(Self::None, Self::One);
    }
}

impl<S: Clone + Eq + Hash> Subscribers<S> {
    /// Place of `subscriber` in [`plain`](Self::plain).
    pub(crate) fn position(&self, subscriber: &S) -> Option<usize> {
        match self {
            Self::None => None,
            Self::One(entry) => (entry.subscriber == *subscriber).then_some(0),
            Self::Many(many) => many.position(subscriber),
        }
    }

    /// Adds the Subscription or replaces it [MQTT-3.8.4-3].
    pub(crate) fn subscribe(&mut self, subscriber: S, options: Options) -> Change {
        let options = Packed::from(options);
        if let Some(place) = self.position(&subscriber) {
            let entry = match self {
                Self::One(entry) => entry,
                Self::Many(many) => &mut many.plain[place],
                Self::None => unreachable!("has no position"),
            };
            let change = if entry.options == options { Change::Same } else { Change::Replaced };
            entry.options = options;
            return change;
        }
        let entry = Entry { subscriber, options };
        if self.is_empty() {
            *self = Self::One(entry);
        } else {
            self.many().push(entry);
        }
        Change::Added
    }

    /// False: there was none.
    pub(crate) fn unsubscribe(&mut self, subscriber: &S) -> bool {
        let Some(place) = self.position(subscriber) else { return false };
        match self {
            Self::Many(many) => many.remove(place),
            Self::None | Self::One(_) => *self = Self::None,
        }
        self.settle();
        true
    }

    /// Joins the Shared Subscription, making it when it is not there.
    pub(crate) fn subscribe_shared(&mut self, share: &str, filter: &str, subscriber: S, options: Options) -> Change {
        let groups = &mut self.many().groups;
        let group = match groups.binary_search_by(|group| group.share().cmp(share)) {
            Ok(place) => &mut groups[place],
            Err(place) => {
                groups.insert(place, Arc::new(Group::new(share, filter)));
                &mut groups[place]
            }
        };
        match group.place(&subscriber) {
            None => {
                Arc::make_mut(group).join(subscriber, options);
                Change::Added
            }
            Some(place) if group.members()[place].options == options => Change::Same,
            Some(place) => {
                Arc::make_mut(group).change(place, options);
                Change::Replaced
            }
        }
    }

    /// Leaves the Shared Subscription, which goes with its last member. False: was no member.
    pub(crate) fn unsubscribe_shared(&mut self, share: &str, subscriber: &S) -> bool {
        let Self::Many(many) = self else { return false };
        let Ok(at) = many.groups.binary_search_by(|group| group.share().cmp(share)) else { return false };
        let Some(place) = many.groups[at].place(subscriber) else { return false };
        if many.groups[at].members().len() == 1 {
            many.groups.remove(at);
        } else {
            Arc::make_mut(&mut many.groups[at]).leave(place);
        }
        self.settle();
        true
    }
}

impl<S: Clone + Eq + Hash> Many<S> {
    fn position(&self, subscriber: &S) -> Option<usize> {
        match &self.index {
            None => self.plain.iter().position(|entry| entry.subscriber == *subscriber),
            Some(index) => index
                .places
                .find(index.hasher.hash_one(subscriber), |place| self.plain[*place as usize].subscriber == *subscriber)
                .map(|place| *place as usize),
        }
    }

    fn push(&mut self, entry: Entry<S>) {
        self.plain.push(entry);
        let from = match &self.index {
            Some(_) => self.plain.len() - 1,
            None if self.plain.len() > SCAN_MAX => 0,
            None => return,
        };
        let Index { places, hasher } = self.index.get_or_insert_default();
        let hash = |place: u32| hasher.hash_one(&self.plain[place as usize].subscriber);
        for place in from as u32..self.plain.len() as u32 {
            places.insert_unique(hash(place), place, |place| hash(*place));
        }
    }

    /// The last entry moves to the place that becomes free.
    fn remove(&mut self, place: usize) {
        if let Some(Index { places, hasher }) = &mut self.index {
            let last = self.plain.len() - 1;
            let hash = |place: usize| hasher.hash_one(&self.plain[place].subscriber);
            if let Ok(found) = places.find_entry(hash(place), |at| *at as usize == place) {
                found.remove();
            }
            if place != last
                && let Some(moved) = places.find_mut(hash(last), |at| *at as usize == last)
            {
                *moved = place as u32;
            }
        }
        self.plain.swap_remove(place);
        if self.plain.len() <= SCAN_MAX / 2 {
            self.index = None;
        }
        if self.plain.len() < self.plain.capacity() / 4 {
            self.plain.shrink_to(self.plain.len() * 2);
        }
    }
}
