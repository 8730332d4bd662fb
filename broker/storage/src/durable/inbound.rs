//! The Packet Identifiers of QoS 2 messages that Clients have sent and not released, as they stand in one shard.

use bucketmq_packet::PacketIdentifier;
use hashbrown::{HashMap, HashSet};

use super::pending::Rows;
use crate::record::Record;
use crate::record::inbound::Inbound;
use crate::store::SessionNumber;

#[derive(Debug, Default)]
pub(super) struct Identifiers {
    /// Ascending; a Session without any is not in it.
    known: HashMap<SessionNumber, Vec<PacketIdentifier>>,
    changed: HashSet<SessionNumber>,
}

impl Identifiers {
    /// A record that was found when the shard was opened.
    pub(super) fn found(&mut self, session: SessionNumber, record: Inbound) {
        self.known.insert(session, record.ids);
    }

    /// Nothing has changed since the last batch.
    pub(super) fn is_empty(&self) -> bool {
        self.changed.is_empty()
    }

    /// `id` is in use from now on.
    pub(super) fn begin(&mut self, session: SessionNumber, id: PacketIdentifier) {
        let ids = self.known.entry(session).or_default();
        if let Err(place) = ids.binary_search(&id) {
            ids.insert(place, id);
            self.changed.insert(session);
        }
    }

    /// `id` is free again.
    pub(super) fn finish(&mut self, session: SessionNumber, id: PacketIdentifier) {
        let Some(ids) = self.known.get_mut(&session) else { return };
        if let Ok(place) = ids.binary_search(&id) {
            ids.remove(place);
            if ids.is_empty() {
                self.known.remove(&session);
            }
            self.changed.insert(session);
        }
    }

    /// The Session ends; its record is deleted with everything else of it.
    pub(super) fn end(&mut self, session: SessionNumber) {
        self.known.remove(&session);
        self.changed.remove(&session);
    }

    /// Puts what has changed into `rows`.
    pub(super) fn take(&mut self, rows: &mut Rows) {
        for session in self.changed.drain() {
            let record = self.known.get(&session).map(|ids| Inbound { ids: ids.clone() }.encode());
            rows.insert(Inbound::key(&session), record);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_identifiers_of_a_session_are_one_row_and_none_are_no_row() {
        let (session, other) = (SessionNumber(1), SessionNumber(2));
        let id = |id| PacketIdentifier::new(id).expect("not 0");
        let mut identifiers = Identifiers::default();
        let take = |identifiers: &mut Identifiers| {
            let mut rows = Rows::default();
            identifiers.take(&mut rows);
            let ids = |row: Vec<u8>| Inbound::decode(&row).expect("decodes").ids.iter().map(|id| id.get()).collect::<Vec<_>>();
            let mut taken: Vec<_> =
                rows.into_iter().map(|(key, row)| (Inbound::decode_key(&key).expect("decodes").0, row.map(ids))).collect();
            taken.sort_unstable();
            taken
        };
        identifiers.found(other, Inbound { ids: vec![id(9)] });
        [7, 3, 7, 5].into_iter().for_each(|number| identifiers.begin(session, id(number)));
        assert_eq!(take(&mut identifiers), [(1, Some(vec![3, 5, 7]))]);
        identifiers.finish(session, id(3));
        identifiers.finish(session, id(4));
        identifiers.finish(other, id(9));
        assert_eq!(take(&mut identifiers), [(1, Some(vec![5, 7])), (2, None)]);
        identifiers.finish(other, id(9));
        identifiers.begin(session, id(8));
        identifiers.end(session);
        assert!(identifiers.is_empty() && take(&mut identifiers).is_empty());
    }
}
