//! When what a Client sends is acknowledged: a word of the configuration that listeners, roles and the broker share.

/// What PUBACK, PUBREC, SUBACK and UNSUBACK of a Network Connection promise when state is kept in a bucket.
///
/// What would cost later messages waits at every level: CONNACK, PUBREL and PUBCOMP. So does delivery at QoS 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[cfg_attr(feature = "config", derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema), serde(rename_all = "lowercase"))]
pub enum AcknowledgeLevel {
    /// It is in the bucket: nothing acknowledged is lost, whatever dies.
    #[default]
    Durable,
    /// It is in the broker's memory and on its way: a process that is killed without warning may lose what it took in the last quarter of a second and
    /// the write or two that were under way.
    Buffered,
}
