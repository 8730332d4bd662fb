//! A Shared Subscription that has had to keep messages because none of its members was connected: the number of its queue.

use super::{Fault, Kind, Reader, Record, Writer};
use crate::store::SessionNumber;

/// The queue of a Shared Subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Its number.
    pub number: SessionNumber,
}

impl Record for Group {
    const KIND: Kind = Kind::Group;
    /// The filter as subscribed, `$share/{name}/` included.
    type Key = String;

    fn put_key(filter: &String, out: &mut Writer) {
        out.rest(filter.as_bytes());
    }

    fn take_key(input: &mut Reader<'_>) -> Result<String, Fault> {
        Ok(input.rest_string("Topic Filter")?.to_owned())
    }

    fn put(&self, out: &mut Writer) {
        out.session(self.number);
    }

    fn take(_version: u8, input: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Self { number: input.session()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::round_trip;

    #[test]
    fn a_group_comes_back() {
        round_trip(&"$share/g/a/#".to_owned(), &Group { number: SessionNumber(12) });
    }
}
