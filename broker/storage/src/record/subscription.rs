//! One Subscription of a persistent Session.

use bucketmq_packet::{RetainHandling, SubscriptionOptions};

use super::session::SessionKey;
use super::{Fault, Kind, Reader, Record, Writer, wire};

/// A Subscription as it was granted; its filter stands in the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription {
    /// Options, QoS as granted.
    pub options: SubscriptionOptions,
    /// Subscription Identifier.
    pub identifier: Option<u32>,
    /// The number deliveries through it carry when it is shared; 0 when it is not.
    pub share: u32,
}

impl Record for Subscription {
    const KIND: Kind = Kind::Subscription;
    /// Whose, and the Topic Filter, share name included.
    type Key = (SessionKey, String);

    fn put_key((session, filter): &Self::Key, out: &mut Writer) {
        session.put(out);
        out.rest(filter.as_bytes());
    }

    fn take_key(input: &mut Reader<'_>) -> Result<Self::Key, Fault> {
        Ok((SessionKey::take(input)?, input.rest_string("Topic Filter")?.to_owned()))
    }

    fn put(&self, out: &mut Writer) {
        let SubscriptionOptions { qos, no_local, retain_as_published, retain_handling } = self.options;
        // The byte of SUBSCRIBE (5.0 3.8.3.1).
        out.u8(qos as u8 | u8::from(no_local) << 2 | u8::from(retain_as_published) << 3 | (retain_handling as u8) << 4);
        out.varint(self.identifier.unwrap_or(0).into());
        out.varint(self.share.into());
    }

    fn take(_version: u8, input: &mut Reader<'_>) -> Result<Self, Fault> {
        let byte = input.u8()?;
        if byte & 0xC0 != 0 {
            return Err(Fault::Invalid("Subscription Options"));
        }
        let options = SubscriptionOptions {
            qos: wire::qos(byte & 3)?,
            no_local: byte & 4 != 0,
            retain_as_published: byte & 8 != 0,
            retain_handling: match byte >> 4 {
                0 => RetainHandling::SendAtSubscribe,
                1 => RetainHandling::SendIfNew,
                2 => RetainHandling::DoNotSend,
                _ => return Err(Fault::Invalid("Retain Handling")),
            },
        };
        let identifier = Some(input.varint32("Subscription Identifier")?).filter(|identifier| *identifier > 0);
        Ok(Self { options, identifier, share: input.varint32("share")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::round_trip;

    #[test]
    fn subscriptions_with_all_options_come_back() {
        for byte in 0..0x30_u8 {
            if byte & 3 == 3 {
                continue;
            }
            for (identifier, share) in [(None, 0), (Some(1), 7), (Some(268_435_455), u32::MAX)] {
                let options = SubscriptionOptions {
                    qos: wire::qos(byte & 3).expect("0 to 2"),
                    no_local: byte & 4 != 0,
                    retain_as_published: byte & 8 != 0,
                    retain_handling: [RetainHandling::SendAtSubscribe, RetainHandling::SendIfNew, RetainHandling::DoNotSend]
                        [usize::from(byte >> 4)],
                };
                let key = (SessionKey::of("client"), "$share/group/a/+/\u{e9}".to_owned());
                round_trip(&key, &Subscription { options, identifier, share });
            }
        }
    }
}
