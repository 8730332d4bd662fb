//! What went through, in total and by the directory of the key.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::proxy::Operation;

/// A broker's keys lie in a few directories per shard; a client that makes one per object would fill the memory instead.
const DIRECTORIES_MAX: usize = 10_000;

/// Requests and the bytes of their bodies. A request counts when it arrives, whatever becomes of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    requests: [u64; Operation::ALL.len()],
    /// Bytes of request bodies that came from clients.
    pub bytes_up: u64,
    /// Bytes of response bodies that went to clients.
    pub bytes_down: u64,
    /// Requests that met a fault.
    pub faults: u64,
}

impl Counts {
    /// Requests of one kind.
    pub fn of(&self, operation: Operation) -> u64 {
        self.requests[operation as usize]
    }

    /// Requests that read.
    pub fn reads(&self) -> u64 {
        Operation::ALL.iter().filter(|operation| operation.is_read()).map(|operation| self.of(*operation)).sum()
    }

    /// Requests that write, deletes included.
    pub fn writes(&self) -> u64 {
        self.total() - self.reads()
    }

    /// All requests.
    pub fn total(&self) -> u64 {
        self.requests.iter().sum()
    }

    pub(crate) fn json(&self) -> Value {
        let mut value = json!({ "total": self.total(), "bytes_up": self.bytes_up, "bytes_down": self.bytes_down, "faults": self.faults });
        for operation in Operation::ALL {
            value[operation.name()] = self.of(operation).into();
        }
        value
    }

    fn add(&mut self, other: &Self) {
        self.requests.iter_mut().zip(other.requests).for_each(|(sum, more)| *sum += more);
        self.bytes_up += other.bytes_up;
        self.bytes_down += other.bytes_down;
        self.faults += other.faults;
    }
}

/// All counts. A directory keeps its number for ever, so that a body under way knows where its bytes belong.
#[derive(Debug, Default)]
pub(crate) struct Book {
    numbers: HashMap<String, usize>,
    counts: Vec<Counts>,
}

impl Book {
    /// Counts a request for `key` and returns the number of its directory.
    pub(crate) fn request(&mut self, operation: Operation, key: &str) -> usize {
        let directory = &key[..key.rfind('/').map_or(0, |at| at + 1)];
        let number = match self.numbers.get(directory) {
            Some(number) => *number,
            None => {
                // The last one takes all there is no place for, under a name no key can have.
                let name = if self.counts.len() < DIRECTORIES_MAX { directory } else { "\0" };
                let next = self.counts.len();
                let number = *self.numbers.entry(name.to_owned()).or_insert(next);
                self.counts.resize(self.counts.len().max(number + 1), Counts::default());
                number
            }
        };
        self.counts[number].requests[operation as usize] += 1;
        number
    }

    /// Those of one directory.
    pub(crate) fn directory(&mut self, number: usize) -> &mut Counts {
        &mut self.counts[number]
    }

    /// The sum over all directories whose name begins with `prefix`.
    pub(crate) fn under(&self, prefix: &str) -> Counts {
        let mut sum = Counts::default();
        self.numbers.iter().filter(|(name, _)| name.starts_with(prefix)).for_each(|(_, number)| sum.add(&self.counts[*number]));
        sum
    }

    /// From zero again.
    pub(crate) fn reset(&mut self) {
        self.counts.fill(Counts::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_add_up_by_prefix() {
        let mut book = Book::default();
        book.request(Operation::Put, "p/0/wal/1");
        let number = book.request(Operation::Put, "p/0/wal/2");
        book.directory(number).bytes_up += 7;
        book.request(Operation::Get, "p/1/manifest/3");
        book.request(Operation::List, "p/");
        book.request(Operation::Head, "top");
        assert_eq!((book.under("p/0/").of(Operation::Put), book.under("p/0/").bytes_up), (2, 7));
        assert_eq!((book.under("p/").total(), book.under("").total(), book.under("").reads(), book.under("q/").total()), (4, 5, 3, 0));
        book.reset();
        assert_eq!(book.under(""), Counts::default());
    }

    #[test]
    fn there_is_a_last_directory() {
        let mut book = Book::default();
        for number in 0..DIRECTORIES_MAX + 100 {
            book.request(Operation::Put, &format!("{number}/x"));
        }
        assert_eq!(book.counts.len(), DIRECTORIES_MAX + 1);
        assert_eq!(book.under("").total(), DIRECTORIES_MAX as u64 + 100);
    }
}
