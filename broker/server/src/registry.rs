//! Clients by Client Identifier. One owner at a time: opening a Session takes it from whoever had it [MQTT-3.1.4-3].

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use parking_lot::Mutex;

use crate::client::ClientRef;

/// Locks the table is spread over, so that connects do not wait for each other.
const PARTS: usize = 16;

/// All Clients with a Session.
#[derive(Debug, Default)]
pub struct Registry {
    hasher: RandomState,
    parts: [Mutex<HashTable<ClientRef>>; PARTS],
}

impl Registry {
    fn hash(&self, id: &str) -> u64 {
        self.hasher.hash_one(id)
    }

    /// Replaces the Client with `id`: `decide` sees the one that is there and gives the one to be there from now on.
    pub fn replace<T>(&self, id: &str, decide: impl FnOnce(Option<&ClientRef>) -> (Option<ClientRef>, T)) -> T {
        let hash = self.hash(id);
        let mut part = self.parts[hash as usize % PARTS].lock();
        let (new, outcome) = decide(part.find(hash, |client| &*client.id == id));
        let Some(new) = new else { return outcome };
        match part.find_mut(hash, |client| &*client.id == id) {
            Some(place) => *place = new,
            None => {
                part.insert_unique(hash, new, |client| self.hasher.hash_one(&*client.id));
            }
        }
        outcome
    }

    /// Forgets `client`, if it is still the one with its identifier.
    pub fn remove(&self, client: &ClientRef) {
        let hash = self.hash(&client.id);
        let mut part = self.parts[hash as usize % PARTS].lock();
        if let Ok(entry) = part.find_entry(hash, |known| known == client) {
            entry.remove();
        }
        // Room for a million Clients is not kept for ten.
        if part.capacity() > 1024 && part.len() * 8 < part.capacity() {
            let hasher = &self.hasher;
            part.shrink_to(0, |client| hasher.hash_one(&*client.id));
        }
    }

    /// The Client with `id`.
    pub fn get(&self, id: &str) -> Option<ClientRef> {
        let hash = self.hash(id);
        self.parts[hash as usize % PARTS].lock().find(hash, |client| &*client.id == id).cloned()
    }

    /// Calls `look` for every Client, one part at a time; `look` must not call the registry.
    pub fn for_each(&self, mut look: impl FnMut(&ClientRef)) {
        for part in &self.parts {
            for client in part.lock().iter() {
                look(client);
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.lock().len()).sum()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
