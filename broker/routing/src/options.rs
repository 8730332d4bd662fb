//! What a Client asks for with one Subscription, as far as routing minds.

use std::num::NonZeroU32;

use bucketmq_packet::QoS;

/// Subscription Options and the Subscription Identifier (5.0 3.8.3.1, 3.8.2.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Granted Maximum QoS.
    pub qos: QoS,
    /// Messages of the subscriber's own do not come back.
    pub no_local: bool,
    /// RETAIN is passed on as it was published.
    pub retain_as_published: bool,
    /// 1 to 268,435,455; 0 does not exist on the wire and counts as none.
    pub subscription_identifier: Option<u32>,
}

impl Options {
    /// Granted `qos`, nothing else asked for.
    pub const fn new(qos: QoS) -> Self {
        Self { qos, no_local: false, retain_as_published: false, subscription_identifier: None }
    }
}

/// [`Options`] in eight bytes, as they stand in the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) identifier: Option<NonZeroU32>,
    pub(crate) qos: QoS,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
}

impl From<Options> for Packed {
    fn from(options: Options) -> Self {
        Self {
            identifier: options.subscription_identifier.and_then(NonZeroU32::new),
            qos: options.qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
        }
    }
}
