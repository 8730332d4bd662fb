//! All Topic Filters somebody subscribes to, each once, found by its text.
//!
//! A filter's subscribers stand in a dense array; the table beside it holds four bytes of hash and four of place, so that it grows without
//! touching the filters: a million of them are moved in milliseconds.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::subscribers::Subscribers;

/// Tables and arrays below this many entries are not worth shrinking.
const SHRINK_MIN: usize = 1024;

/// A filter and who subscribes to it. With a subscriber of eight bytes and a text that fits this is one cache line, so that finding an exact
/// topic among millions takes two reads from memory: the table and this.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Filter<S> {
    text: Text,
    pub(crate) subscribers: Subscribers<S>,
}

impl<S> Filter<S> {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(self.text.as_bytes()).expect("was made of a str")
    }
}

/// Bytes that stand in place: with the length and the tag of the enum they make 48.
const INLINE: usize = 46;

/// The text of a filter, looked at as bytes.
#[derive(Debug)]
enum Text {
    Short { len: u8, bytes: [u8; INLINE] },
    Long(Box<str>),
}

impl Text {
    fn new(text: &str) -> Self {
        let mut bytes = [0; INLINE];
        match bytes.get_mut(..text.len()) {
            None => Self::Long(text.into()),
            Some(place) => {
                place.copy_from_slice(text.as_bytes());
                Self::Short { len: text.len() as u8, bytes }
            }
        }
    }

    #[inline]
    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => &bytes[..usize::from(*len)],
            Self::Long(text) => text.as_bytes(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Filters<S> {
    table: HashTable<Key>,
    slots: Vec<Filter<S>>,
    hasher: DefaultHashBuilder,
}

/// Where something stands, with as much of its hash as tells nearly all others apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) hash: u32,
    pub(crate) place: u32,
}

impl Key {
    /// The half of `hash` that is kept.
    #[inline]
    pub(crate) fn half(hash: u64) -> u32 {
        (hash ^ (hash >> 32)) as u32
    }

    /// The table takes its bucket from the low bits and its tag from the high ones.
    #[inline]
    pub(crate) fn whole(hash: u32) -> u64 {
        (u64::from(hash) << 32) | u64::from(hash)
    }
}

/// Gives memory back after most of a table was removed.
pub(crate) fn shrink_table(table: &mut HashTable<Key>) {
    if table.capacity() > SHRINK_MIN && table.len() < table.capacity() / 8 {
        table.shrink_to(table.len() * 2, |key| Key::whole(key.hash));
    }
}

impl<S> Filters<S> {
    pub(crate) fn new() -> Self {
        Self { table: HashTable::new(), slots: Vec::new(), hasher: DefaultHashBuilder::default() }
    }

    #[inline]
    pub(crate) fn find(&self, text: &str) -> Option<u32> {
        let text = text.as_bytes();
        let hash = self.hash(text);
        self.table
            .find(Key::whole(hash), |key| key.hash == hash && self.slots[key.place as usize].text.as_bytes() == text)
            .map(|key| key.place)
    }

    #[inline]
    fn hash(&self, text: &[u8]) -> u32 {
        Key::half(self.hasher.hash_one(text))
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> &Filter<S> {
        &self.slots[slot as usize]
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> &mut Filter<S> {
        &mut self.slots[slot as usize]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Filter<S>> {
        self.slots.iter()
    }

    /// Adds a filter that is not there.
    pub(crate) fn insert(&mut self, text: &str) -> u32 {
        let hash = self.hash(text.as_bytes());
        let place = u32::try_from(self.slots.len()).expect("four billion filters do not fit any memory");
        self.slots.push(Filter { text: Text::new(text), subscribers: Subscribers::None });
        self.table.insert_unique(Key::whole(hash), Key { hash, place }, |key| Key::whole(key.hash));
        place
    }

    /// Removes the filter at `slot`. The last filter moves there, unless it was the last itself; it comes back with its text.
    pub(crate) fn remove(&mut self, slot: u32) -> Option<&str> {
        let hash = self.hash(self.slots[slot as usize].text.as_bytes());
        if let Ok(found) = self.table.find_entry(Key::whole(hash), |key| key.place == slot) {
            found.remove();
        }
        let last = self.slots.len() as u32 - 1;
        if slot != last {
            let hash = self.hash(self.slots[last as usize].text.as_bytes());
            if let Some(key) = self.table.find_mut(Key::whole(hash), |key| key.place == last) {
                key.place = slot;
            }
        }
        self.slots.swap_remove(slot as usize);
        shrink_table(&mut self.table);
        if self.slots.capacity() > SHRINK_MIN && self.slots.len() < self.slots.capacity() / 8 {
            self.slots.shrink_to(self.slots.len() * 2);
        }
        self.slots.get(slot as usize).map(Filter::text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_with_one_subscriber_is_one_cache_line() {
        assert_eq!(size_of::<Filter<std::sync::Arc<u64>>>(), 64);
    }

    #[test]
    fn texts_of_any_length_are_found() {
        let mut filters = Filters::<u32>::new();
        let texts: Vec<String> = (0..200).map(|len| "\u{e9}".repeat(len / 2) + &"x".repeat(len % 2 + 1)).collect();
        for text in &texts {
            filters.insert(text);
        }
        for text in &texts {
            assert_eq!(filters.get(filters.find(text).unwrap()).text(), text);
        }
    }
}
