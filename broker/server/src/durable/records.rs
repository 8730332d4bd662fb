//! What is written of a Session: its own record, its Subscriptions, its Will.

use bucketmq_packet::SubscriptionOptions;
use bucketmq_session::{Session, Subscription, Will};
use bucketmq_storage::Batch;
use bucketmq_storage::record::session::{Presence, SessionKey};
use bucketmq_storage::record::{session, subscription, will};

use crate::client::Client;

/// The record of `client`'s Session.
pub fn put_session(batch: &mut Batch, client: &Client, session: &Session, presence: Presence) {
    let record = session::Session {
        client_id: client.id.to_string(),
        owner: client.owner.as_deref().map(str::to_owned),
        number: client.number,
        expiry_interval: session.expiry_interval,
        presence,
        last_share: session.last_share(),
    };
    batch.put(&SessionKey::of(&client.id), &record);
}

/// The record of a Subscription. `retain_as_published` as it is routed.
pub fn put_subscription(batch: &mut Batch, client: &Client, filter: &str, subscription: Subscription, retain_as_published: bool) {
    let Subscription { options, identifier, share } = subscription;
    let options = SubscriptionOptions { retain_as_published, ..options };
    batch.put(&(SessionKey::of(&client.id), filter.to_owned()), &subscription::Subscription { options, identifier, share });
}

/// No Subscription any more.
pub fn delete_subscription(batch: &mut Batch, client: &Client, filter: &str) {
    batch.delete::<subscription::Subscription>(&(SessionKey::of(&client.id), filter.to_owned()));
}

/// The record of a Will; `due_at` in milliseconds since 1970, None while its Client is connected.
pub fn put_will(batch: &mut Batch, client: &Client, waiting: &Will, due_at: Option<u64>) {
    let record = will::Will {
        topic: waiting.topic.to_string(),
        payload: waiting.payload.to_vec(),
        qos: waiting.qos,
        retain: waiting.retain,
        delay_interval: waiting.delay_interval,
        message_expiry_interval: waiting.message_expiry_interval,
        forward: waiting.forward.to_vec(),
        owner: client.owner.as_deref().map(str::to_owned),
        due_at,
    };
    batch.put(&SessionKey::of(&client.id), &record);
}

/// No Will any more.
pub fn delete_will(batch: &mut Batch, client: &Client) {
    batch.delete::<will::Will>(&SessionKey::of(&client.id));
}

/// Nothing of the Session any more.
pub fn delete_session(batch: &mut Batch, client: &Client, session: &Session) {
    batch.delete::<session::Session>(&SessionKey::of(&client.id));
    for filter in session.subscriptions().keys() {
        delete_subscription(batch, client, filter);
    }
    delete_will(batch, client);
}
