//! SUBSCRIBE and UNSUBSCRIBE: what is granted, what is routed, and which retained messages follow.

use std::sync::atomic::{Ordering, fence};

use bucketmq_access::Principal;
use bucketmq_packet::{
    Packet, PacketType, ProtocolVersion, QoS, ReasonCode, RetainHandling, SubAck, Subscribe, SubscriptionOptions, UnsubAck, Unsubscribe,
    Violation, topic,
};
use bucketmq_routing::Options;
use bucketmq_storage::Batch;
use bucketmq_storage::record::session::Presence;

use crate::broker::Broker;
use crate::client::ClientRef;
use crate::config::Limits;
use crate::connection::{Closing, Connection};
use crate::durable::records;
use crate::publish::Scratch;
use crate::retained::RetainedWalk;

impl Connection {
    /// Grants what may be granted; SUBACK goes out when every filter is live [MQTT-3.8.4-1] [MQTT-3.8.4-5].
    pub(crate) fn handle_subscribe(&mut self, subscribe: &Subscribe<'_>, limits: &Limits, scratch: &mut Scratch) -> Result<(), Closing> {
        if subscribe.subscription_identifier.is_some() && !limits.subscription_identifiers {
            return Err(Closing::Violation(Violation {
                reason_code: ReasonCode::SubscriptionIdentifiersNotSupported,
                clause: "MQTT-3.2.2-17",
                detail: "Subscription Identifiers are not available on this Server",
                packet_type: Some(PacketType::Subscribe),
            }));
        }
        let mut reason_codes = Vec::with_capacity(subscribe.filters.len());
        let mut joined_group = false;
        for (filter, options) in &subscribe.filters {
            let outcome = self.subscribe_one(filter, *options, subscribe.subscription_identifier, limits);
            joined_group |= !outcome.is_error() && filter.starts_with("$share/");
            reason_codes.push(outcome);
        }
        let suback = SubAck { packet_id: subscribe.packet_id, reason_codes, reason_string: None, user_properties: Vec::new() };
        let waits = self.all_promised();
        self.answer_packet(waits, &Packet::SubAck(suback));
        if joined_group {
            // SUBACK first: what waited in the group's queue goes to the Session's output behind it.
            let broker = self.terms.broker.clone();
            broker.drain_groups_for(&self.terms.client);
        }
        let mut state = self.terms.client.lock();
        if !state.walks.is_empty() {
            // This task's own flush sends them.
            scratch.wakes.push(state.schedule());
        }
        Ok(())
    }

    fn subscribe_one(&mut self, filter: &str, options: SubscriptionOptions, identifier: Option<u32>, limits: &Limits) -> ReasonCode {
        let v5 = self.terms.version == ProtocolVersion::V5;
        let Ok(parsed) = topic::check_filter(filter) else { return ReasonCode::TopicFilterInvalid };
        if topic::levels(parsed.filter) > limits.max_topic_levels as usize {
            return ReasonCode::TopicFilterInvalid;
        }
        if parsed.share_name.is_some() && !limits.shared_subscriptions {
            return ReasonCode::SharedSubscriptionsNotSupported;
        }
        if !limits.wildcard_subscriptions && topic::has_wildcard(parsed.filter) {
            return ReasonCode::WildcardSubscriptionsNotSupported;
        }
        if !self.terms.principal.may_subscribe(parsed.filter) {
            self.terms.broker.metrics.denied.add(1);
            return ReasonCode::NotAuthorized;
        }
        let broker = self.terms.broker.clone();
        let granted =
            SubscriptionOptions { qos: options.qos.min(QoS::try_from(self.terms.max_qos).unwrap_or(QoS::ExactlyOnce)), ..options };
        let mut state = self.terms.client.lock();
        if state.epoch != self.terms.epoch {
            return ReasonCode::UnspecifiedError;
        }
        let count = state.session.subscriptions().len();
        if count >= limits.max_subscriptions as usize && !state.session.subscriptions().contains_key(filter) {
            return ReasonCode::QuotaExceeded;
        }
        let shared = parsed.share_name.is_some();
        // [MQTT-3.8.4-3] The same filter again replaces the Subscription and loses nothing.
        let (subscription, replaced) = state.session.subscribe(filter, shared, granted, identifier);
        if self.terms.client.stored {
            let mut batch = Batch::default();
            records::put_subscription(&mut batch, &self.terms.client, filter, subscription, granted.retain_as_published && v5);
            if subscription.share > 0 && replaced.is_none() {
                // The last number given to a share stands there.
                records::put_session(&mut batch, &self.terms.client, &state.session, Presence::Connected);
            }
            broker.store.write(self.terms.client.shard, batch);
        }
        drop(state);
        let routed = Options {
            qos: granted.qos,
            no_local: granted.no_local,
            // Before 5.0 RETAIN is 0 on what an established Subscription gets [3.1.1 MQTT-3.3.1-9].
            retain_as_published: granted.retain_as_published && v5,
            subscription_identifier: identifier,
        };
        broker.route(|routes| match parsed.share_name {
            Some(share) => routes.subscribe_shared(share, parsed.filter, self.terms.client.clone(), routed),
            None => routes.subscribe(parsed.filter, self.terms.client.clone(), routed),
        });
        if shared {
            if replaced.is_none() {
                broker.groups.join(filter);
            }
        } else {
            // [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]; for Shared Subscriptions none are sent (4.8.2).
            let wanted = match granted.retain_handling {
                RetainHandling::SendAtSubscribe => true,
                RetainHandling::SendIfNew => replaced.is_none(),
                RetainHandling::DoNotSend => false,
            };
            fence(Ordering::SeqCst);
            if wanted && broker.store.retained_usage().messages > 0 {
                self.terms.client.lock().walks.push(RetainedWalk::new(parsed.filter, granted.qos, identifier));
            }
        }
        match granted.qos {
            QoS::AtMostOnce => ReasonCode::Success,
            QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
            QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
        }
    }

    /// Forgets Subscriptions; what is in flight is finished [MQTT-3.10.4-2] [MQTT-3.10.4-3].
    pub(crate) fn handle_unsubscribe(&mut self, unsubscribe: &Unsubscribe<'_>) {
        let reason_codes =
            unsubscribe.filters.iter().map(|filter| self.terms.broker.unsubscribe(&self.terms.client, self.terms.epoch, filter)).collect();
        let unsuback = UnsubAck { packet_id: unsubscribe.packet_id, reason_codes, reason_string: None, user_properties: Vec::new() };
        let waits = self.all_promised();
        self.answer_packet(waits, &Packet::UnsubAck(unsuback));
    }

    /// After a reload: Subscriptions the principal may no longer have stop working.
    pub(crate) fn drop_forbidden_subscriptions(&mut self) {
        self.terms.broker.drop_forbidden(&self.terms.client, self.terms.epoch, Some(&self.terms.principal));
    }
}

impl Broker {
    /// Takes the Subscription to `filter` from `client`, unless its Session has gone on to another connection than `epoch`.
    fn unsubscribe(&self, client: &ClientRef, epoch: u32, filter: &str) -> ReasonCode {
        let Ok(parsed) = topic::check_filter(filter) else { return ReasonCode::TopicFilterInvalid };
        // [MQTT-3.10.4-1] Compared character by character.
        let orphans = {
            let mut batch = Batch::default();
            let mut state = client.lock();
            if state.epoch != epoch {
                return ReasonCode::UnspecifiedError;
            }
            if state.session.unsubscribe(filter).is_none() {
                return ReasonCode::NoSubscriptionExisted;
            }
            state.walks.retain(|walk| walk.filter() != filter);
            let (letters, orphans) = if parsed.share_name.is_some() {
                self.take_orphans(client, &mut state, Some(filter), &mut batch)
            } else {
                Default::default()
            };
            if client.stored {
                records::delete_subscription(&mut batch, client, filter);
                self.write_with(client.shard, batch, letters);
            }
            orphans
        };
        self.route(|routes| match parsed.share_name {
            Some(share) => routes.unsubscribe_shared(share, parsed.filter, client),
            None => routes.unsubscribe(parsed.filter, client),
        });
        for orphan in orphans {
            self.rehome(orphan);
        }
        if parsed.share_name.is_some() {
            self.groups.leave(filter, &*self.store);
        }
        ReasonCode::Success
    }

    /// Takes from `client` what its principal may not have; everything when there is none any more.
    fn drop_forbidden(&self, client: &ClientRef, epoch: u32, principal: Option<&Principal>) {
        let filters: Vec<_> = client.lock().session.subscriptions().keys().cloned().collect();
        for filter in filters {
            let may = |parsed: topic::Filter<'_>| principal.is_some_and(|principal| principal.may_subscribe(parsed.filter));
            if !topic::check_filter(&filter).is_ok_and(may) {
                self.unsubscribe(client, epoch, &filter);
            }
        }
        let mut state = client.lock();
        if state.epoch == epoch
            && state.session.will.as_ref().is_some_and(|will| !principal.is_some_and(|principal| principal.may_publish(&will.topic)))
        {
            state.session.will = None;
            if self.store.outlives_process() {
                let mut batch = Batch::default();
                records::delete_will(&mut batch, client);
                self.store.write(client.shard, batch);
            }
        }
    }

    /// Looks at Sessions that were found in the bucket: what their users lost while no broker was there is taken from them. Without users nothing is
    /// known of anybody, and a Session of an anonymous Client waits for its Client.
    pub(crate) fn look_at_absent(&self) {
        if !self.access.accepts_certificates() {
            return;
        }
        let mut owned = Vec::new();
        self.registry.for_each(|client| owned.extend(client.owner.is_some().then(|| client.clone())));
        for client in owned {
            let principal = client.owner.as_deref().and_then(|owner| self.access.absent(owner, &client.id));
            let epoch = {
                let mut state = client.lock();
                state.absent = principal.clone().map(Box::new);
                state.epoch
            };
            self.drop_forbidden(&client, epoch, principal.as_ref());
        }
    }

    /// The access rules have changed: connections look for themselves, Sessions without one are looked at here.
    pub fn access_changed(&self) {
        self.wake_all();
        let mut absent = Vec::new();
        self.registry.for_each(|client| {
            if client.lock().absent.is_some() {
                absent.push(client.clone());
            }
        });
        for client in absent {
            let (epoch, principal) = {
                let mut state = client.lock();
                let Some(absent) = &mut state.absent else { continue };
                let principal = self.access.refresh(absent);
                if let Some(principal) = &principal {
                    **absent = principal.clone();
                }
                (state.epoch, principal)
            };
            self.drop_forbidden(&client, epoch, principal.as_ref());
        }
    }
}
