//! The filters with wildcards, by level.
//!
//! A node stands for the levels that lead to it. Its literal children are found in one table for the whole trie, keyed by parent and level, so
//! a node costs the same with one child and with a million; its `+` child and the filter that goes on with `#` stand in the node itself.
//! Nothing here calls itself: a filter of 65,535 levels is only long.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::filters::{Key, shrink_table};

const ROOT: u32 = 0;
const NONE: u32 = u32::MAX;
/// Places remembered without allocating: more branches than that are rare.
const INLINE: usize = 16;
/// Below this many nodes the trie is not worth packing.
const PACK_MIN: usize = 1024;

#[derive(Debug)]
struct Node {
    /// The level: a literal or "+".
    name: Box<str>,
    /// In a node that is free: the next free one.
    parent: u32,
    plus: u32,
    /// Slot of the filter that ends here.
    here: u32,
    /// Slot of the filter that goes on with "/#".
    rest: u32,
    /// How many children stand in the table.
    literals: u32,
}

impl Node {
    fn new(name: &str, parent: u32) -> Self {
        Self { name: name.into(), parent, plus: NONE, here: NONE, rest: NONE, literals: 0 }
    }

    fn is_bare(&self) -> bool {
        self.plus == NONE && self.here == NONE && self.rest == NONE && self.literals == 0
    }
}

/// Finds the slots of all filters with wildcards that match a Topic Name.
#[derive(Debug)]
pub(crate) struct Trie {
    nodes: Vec<Node>,
    children: HashTable<Key>,
    first_free: u32,
    free: usize,
    hasher: DefaultHashBuilder,
}

impl Trie {
    pub(crate) fn new() -> Self {
        Self {
            nodes: vec![Node::new("", NONE)],
            children: HashTable::new(),
            first_free: NONE,
            free: 0,
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// True when most nodes are free: building the trie anew gives their memory back.
    pub(crate) fn is_sparse(&self) -> bool {
        self.nodes.len() > PACK_MIN && (self.nodes.len() - self.free) * 8 < self.nodes.len()
    }

    /// Nodes in use, the root not counted.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.nodes.len() - self.free - 1
    }

    /// `filter` stands at `slot` from now on.
    pub(crate) fn set(&mut self, filter: &str, slot: u32) {
        let mut node = ROOT;
        for level in filter.split('/') {
            if level == "#" {
                self.nodes[node as usize].rest = slot;
                return;
            }
            node = match self.step(node, level) {
                NONE => self.add(node, level),
                child => child,
            };
        }
        self.nodes[node as usize].here = slot;
    }

    /// Forgets `filter` and every node only it needed.
    pub(crate) fn remove(&mut self, filter: &str) {
        let mut node = ROOT;
        let mut goes_on = false;
        for level in filter.split('/') {
            if level == "#" {
                goes_on = true;
                break;
            }
            node = self.step(node, level);
            if node == NONE {
                return;
            }
        }
        let end = &mut self.nodes[node as usize];
        *(if goes_on { &mut end.rest } else { &mut end.here }) = NONE;
        while node != ROOT && self.nodes[node as usize].is_bare() {
            node = self.cut(node);
        }
        shrink_table(&mut self.children);
    }

    /// Calls `found` with the slot of every filter that matches `topic`.
    #[inline]
    pub(crate) fn find(&self, topic: &str, found: &mut Places<u32>) {
        let levels = topic.as_bytes();
        // [MQTT-4.7.2-1] A filter that begins with a wildcard does not match a name that begins with $.
        let hidden = levels.first() == Some(&b'$');
        let mut pending = Places::<(u32, u32)>::new();
        let mut next = Some((ROOT, 0));
        while let Some((place, from)) = next {
            let node = &self.nodes[place as usize];
            let wild = !(hidden && place == ROOT);
            // [MQTT-4.7.1-2] "a/#" matches "a" as well.
            if node.rest != NONE && wild {
                found.push(node.rest);
            }
            let from = from as usize;
            next = None;
            if from > levels.len() {
                if node.here != NONE {
                    found.push(node.here);
                }
            } else if node.literals > 0 || (node.plus != NONE && wild) {
                let end = levels[from..].iter().position(|byte| *byte == b'/').map_or(levels.len(), |length| from + length);
                let behind = end as u32 + 1;
                if node.literals > 0 {
                    let child = self.child(place, &levels[from..end]);
                    next = (child != NONE).then_some((child, behind));
                }
                if node.plus != NONE && wild {
                    match next {
                        None => next = Some((node.plus, behind)),
                        Some(_) => pending.push((node.plus, behind)),
                    }
                }
            }
            if next.is_none() {
                next = pending.pop();
            }
        }
    }

    fn step(&self, node: u32, level: &str) -> u32 {
        if level == "+" { self.nodes[node as usize].plus } else { self.child(node, level.as_bytes()) }
    }

    #[inline]
    fn hash(&self, parent: u32, level: &[u8]) -> u32 {
        Key::half(self.hasher.hash_one((parent, level)))
    }

    #[inline]
    fn child(&self, parent: u32, level: &[u8]) -> u32 {
        let hash = self.hash(parent, level);
        let is_it = |key: &Key| {
            let node = &self.nodes[key.place as usize];
            key.hash == hash && node.parent == parent && node.name.as_bytes() == level
        };
        self.children.find(Key::whole(hash), is_it).map_or(NONE, |key| key.place)
    }

    fn add(&mut self, parent: u32, level: &str) -> u32 {
        let node = Node::new(level, parent);
        let place = if self.first_free == NONE {
            self.nodes.push(node);
            u32::try_from(self.nodes.len() - 1).expect("four billion nodes do not fit any memory")
        } else {
            let place = self.first_free;
            self.first_free = self.nodes[place as usize].parent;
            self.free -= 1;
            self.nodes[place as usize] = node;
            place
        };
        if level == "+" {
            self.nodes[parent as usize].plus = place;
        } else {
            let hash = self.hash(parent, level.as_bytes());
            self.children.insert_unique(Key::whole(hash), Key { hash, place }, |key| Key::whole(key.hash));
            self.nodes[parent as usize].literals += 1;
        }
        place
    }

    /// Frees a bare node; its parent comes back.
    fn cut(&mut self, place: u32) -> u32 {
        let Node { name, parent, .. } = std::mem::replace(&mut self.nodes[place as usize], Node::new("", self.first_free));
        if self.nodes[parent as usize].plus == place {
            self.nodes[parent as usize].plus = NONE;
        } else {
            let hash = self.hash(parent, name.as_bytes());
            if let Ok(found) = self.children.find_entry(Key::whole(hash), |key| key.place == place) {
                found.remove();
            }
            self.nodes[parent as usize].literals -= 1;
        }
        self.first_free = place;
        self.free += 1;
        parent
    }
}

/// A short list that needs no allocation.
pub(crate) struct Places<T> {
    inline: [T; INLINE],
    len: usize,
    /// Everything, as soon as `inline` is too short.
    spilled: Vec<T>,
}

impl<T: Copy + Default> Places<T> {
    #[inline]
    pub(crate) fn new() -> Self {
        Self { inline: [T::default(); INLINE], len: 0, spilled: Vec::new() }
    }

    #[inline]
    pub(crate) fn push(&mut self, place: T) {
        if self.spilled.is_empty() && self.len < INLINE {
            self.inline[self.len] = place;
            self.len += 1;
        } else {
            self.spill(place);
        }
    }

    #[cold]
    fn spill(&mut self, place: T) {
        if self.spilled.is_empty() {
            self.spilled.extend_from_slice(&self.inline[..self.len]);
            self.len = 0;
        }
        self.spilled.push(place);
    }

    #[inline]
    fn pop(&mut self) -> Option<T> {
        if self.len > 0 {
            self.len -= 1;
            return Some(self.inline[self.len]);
        }
        self.spilled.pop()
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[T] {
        if self.spilled.is_empty() { &self.inline[..self.len] } else { &self.spilled }
    }
}
