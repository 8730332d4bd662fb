//! Which addresses a cluster with nodes has. A few may run side by side, each in a slot of its own.

use std::net::Ipv4Addr;

/// Clusters with nodes on one machine: more would not fit its memory.
pub(crate) const SLOTS: u8 = 4;

/// The ranges of one slot. Those of the first are Kubernetes' usual ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ranges {
    slot: u8,
}

impl Ranges {
    pub(crate) fn new(slot: u8) -> Self {
        Self { slot }
    }

    /// The bridge that joins the nodes; a name of a link has up to 15 characters.
    pub(crate) fn bridge(self) -> String {
        format!("bmq{}", self.slot)
    }

    /// The host's end of a node's link.
    pub(crate) fn link(self, node: u8) -> String {
        format!("bmq{}-n{node}", self.slot)
    }

    /// The machine itself, on the bridge: the control plane listens here.
    pub(crate) fn host(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 250, self.slot, 1)
    }

    /// The node with this number, from 1.
    pub(crate) fn node(self, node: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 250, self.slot, 10 + node)
    }

    /// All pods of a node.
    pub(crate) fn pods_of(self, node: u8) -> String {
        format!("10.{}.{node}.0/24", 244 + self.slot)
    }

    /// All pods.
    pub(crate) fn pods(self) -> String {
        format!("10.{}.0.0/16", 244 + self.slot)
    }

    /// All Services.
    pub(crate) fn services(self) -> String {
        format!("10.{}.0.0/16", 96 + self.slot)
    }

    /// The Service of the API server.
    pub(crate) fn kubernetes(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 96 + self.slot, 0, 1)
    }

    /// The Service of the cluster's DNS.
    pub(crate) fn dns(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 96 + self.slot, 0, 10)
    }

    /// The Service of the S3 server.
    pub(crate) fn s3(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 96 + self.slot, 0, 20)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_ranges_are_the_same() {
        let all: Vec<String> = (0..SLOTS)
            .map(Ranges::new)
            .flat_map(|ranges| [ranges.pods(), ranges.services(), format!("{}/24", ranges.host()), ranges.bridge()])
            .collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert!(all.iter().all(|range| !range.starts_with("10.250.0.0/16")));
    }

    #[test]
    fn names_of_links_are_short_enough() {
        assert!((0..SLOTS).all(|slot| Ranges::new(slot).link(crate::options::NODES_MAX).len() <= 15));
    }
}
