//! The task of one Network Connection: bytes in, packets handled in place, bytes out. One future, no channel, no lock across an await.
//!
//! It reads into the thread's buffer, handles everything whole in it and keeps only the incomplete rest. It writes with one call per
//! wake-up whatever acknowledgements it made and others delivered. When idle it owns no buffer at all.

mod packets;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bucketmq_access::{Exchange, Principal};
use bucketmq_listener::{ConnectionPermit, ListenerHandle, Transport};
use bucketmq_packet::message::QueueEntry;
use bucketmq_packet::{
    AcknowledgeLevel, ConnAck, ConnAckProperties, Disconnect, Packet, PacketType, ProtocolVersion, ReasonCode, Violation,
};
use bucketmq_session::{AliasesIn, Gate, PageWanted, Session};
use bucketmq_storage::{Position, ReadError, Sequence, ShardId};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tracing::debug;

use crate::broker::Broker;
use crate::buffers::{self, READ_BYTES};
use crate::client::{ClientRef, Flow};
use crate::config::Limits;
use crate::deliver::{PAGE_BYTES, StoreBacklog};
use crate::durable::pledges::Pledges;
use crate::durable::waits::Waits;
use crate::metrics::Closed;
use crate::moment::Moment;
use crate::publish::{HOLD_MS_MAX, MatchCache, Scratch, wake};
use crate::rate::{Rates, pause};

/// Reads per wake-up: then other connections have their turn.
const READS_MAX: usize = 4;
/// A closing connection gets this long to take its last bytes.
const LINGER: Duration = Duration::from_secs(2);

/// Why a Network Connection ends.
#[derive(Debug)]
pub enum Closing {
    /// The Client sent DISCONNECT; its Will goes out only for 0x04 [MQTT-3.14.4-3].
    Disconnect {
        /// True for Reason Code 0x04.
        with_will: bool,
    },
    /// The socket was closed.
    Peer,
    /// The socket failed.
    Io(io::Error),
    /// Another connection has the Session now [MQTT-3.1.4-3].
    TakenOver,
    /// The Client broke a rule.
    Violation(Violation),
    /// The broker wants it.
    Server(ReasonCode),
}

impl From<Violation> for Closing {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl From<io::Error> for Closing {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A publisher that waits: for a full subscriber, or for its own rate.
struct Hold {
    sleep: Pin<Box<Sleep>>,
    /// What has to be durable first; the time does not matter then.
    waits: Option<Waits>,
    target: Option<ClientRef>,
    /// What the target's count of drains was when the wait began.
    drained: u32,
}

type Page = Pin<Box<dyn Future<Output = Result<Vec<(Sequence, QueueEntry)>, ReadError>> + Send>>;

/// What a Session that outlives the broker waits for.
#[derive(Default)]
struct Reading {
    /// Until this is durable, messages may not leave.
    gate: Option<(Waits, Gate)>,
    registered: Option<(ShardId, Position)>,
    /// The next part of its queue.
    page: Option<(PageWanted, Page)>,
}

/// One Network Connection with an accepted CONNECT.
pub struct Connection {
    pub(crate) terms: Terms,
    pub(crate) cache: Option<Box<MatchCache>>,
    pub(crate) aliases_in: Option<Box<AliasesIn>>,
    /// A re-authentication under way.
    pub(crate) exchange: Option<Box<Exchange>>,
    /// QoS 1 PUBLISHes of this batch whose PUBACK is not written yet.
    pub(crate) unacknowledged: usize,
    /// Acknowledgements that wait for the bucket.
    pub(crate) pledges: Option<Box<Pledges>>,
    /// At the beginning of this batch it was confirmed that this broker owns the shards.
    pub(crate) confirmed: bool,
    /// What the QoS 1 PUBLISHes wait for that did not go through the outbox, as far as it was not durable at the last look.
    pub(crate) direct: Waits,
    /// The retained messages of the run that is held have been written.
    pub(crate) retained_written: bool,
    /// What the Session waits for from the bucket.
    reading: Option<Box<Reading>>,
    transport: Option<Transport>,
    permit: Option<ConnectionPermit>,
    /// The beginning of a packet whose rest has not come, or everything not handled while held.
    pending: Vec<u8>,
    writing: Vec<u8>,
    written: usize,
    /// The socket took nothing more at the last try.
    blocked: bool,
    /// PUBLISHes and bytes of the batch being handled, for the rates.
    batch_messages: u64,
    batch_bytes: u64,
    hold: Option<Box<Hold>>,
    /// Whom the last hold waited for in vain: only this subscriber lags, not others that happen to be full as well.
    hold_over: Option<ClientRef>,
    reprocess: bool,
    /// Not read because too much waits for the bucket.
    unread: bool,
    /// When the batch that is held was read.
    received: Option<Moment>,
    /// The same of the oldest message in `writing`.
    writing_since: Option<Moment>,
}

/// What [`Connection::new`] takes over from the CONNECT phase.
pub struct Opened {
    /// The socket.
    pub transport: Transport,
    /// Counts against the connection limits until dropped.
    pub permit: ConnectionPermit,
    /// Bytes already read behind CONNECT.
    pub pending: Vec<u8>,
    /// CONNACK, to be written first.
    pub connack: Vec<u8>,
    /// Everything else.
    pub terms: Terms,
}

/// What CONNECT and CONNACK agreed.
pub struct Terms {
    /// The broker.
    pub broker: Arc<Broker>,
    /// The Session's owner.
    pub client: ClientRef,
    /// Who it is.
    pub principal: Principal,
    /// Version of all packets.
    pub version: ProtocolVersion,
    /// Which of the Session's connections this is.
    pub epoch: u32,
    /// Largest packet the Client may send, as told in CONNACK.
    pub max_packet_size: u32,
    /// Largest packet the Client takes [MQTT-3.1.2-24].
    pub client_max_packet_size: u32,
    /// QoS 1 and 2 the Client may have in flight.
    pub receive_maximum: u16,
    /// Largest QoS the Client may publish.
    pub max_qos: u8,
    /// Session Expiry Interval was 0 in CONNECT: DISCONNECT may not change it [MQTT-3.1.2-23].
    pub expires_at_once: bool,
    /// What its acknowledgements promise.
    pub acknowledge: AcknowledgeLevel,
    /// The listener it came through.
    pub listener: Arc<ListenerHandle>,
    /// Message and byte rates, when there are limits.
    pub rates: Option<Box<Rates>>,
}

/// What acknowledgements of a connection promise: its roles say so, or its listener, or the broker.
pub(crate) fn level(principal: &Principal, listener: &ListenerHandle, limits: &Limits) -> AcknowledgeLevel {
    principal.acknowledge().or(listener.config().acknowledge).unwrap_or(limits.acknowledge)
}

impl Connection {
    /// A connection about to send CONNACK.
    pub fn new(opened: Opened) -> Self {
        let Opened { transport, permit, pending, connack, terms } = opened;
        Self {
            terms,
            cache: None,
            aliases_in: None,
            exchange: None,
            unacknowledged: 0,
            pledges: None,
            confirmed: false,
            direct: Waits::default(),
            retained_written: false,
            reading: None,
            transport: Some(transport),
            permit: Some(permit),
            reprocess: !pending.is_empty(),
            pending,
            writing: connack,
            written: 0,
            blocked: false,
            batch_messages: 0,
            batch_bytes: 0,
            hold: None,
            hold_over: None,
            unread: false,
            received: None,
            writing_since: None,
        }
    }

    /// Where acknowledgements of this task go.
    #[inline]
    pub(crate) fn writing_mut(&mut self) -> &mut Vec<u8> {
        if self.writing.capacity() == 0 {
            self.writing = buffers::spare();
        }
        &mut self.writing
    }

    /// Encodes `packet` into the task's own output.
    pub(crate) fn write_packet(&mut self, packet: &Packet<'_>) {
        let version = self.terms.version;
        packet.encode(version, self.writing_mut());
        self.terms.broker.metrics.sent(packet.packet_type(), 1);
    }

    /// True when a hold for `target` has lasted its time.
    pub(crate) fn hold_is_over(&self, target: &ClientRef) -> bool {
        self.hold_over.as_ref() == Some(target)
    }

    /// Stops reading until `target` has room, for [`HOLD_MS_MAX`] at most.
    pub(crate) fn hold(&mut self, target: ClientRef) {
        self.terms.broker.metrics.holds.add(1);
        let sleep = Box::pin(tokio::time::sleep(Duration::from_millis(HOLD_MS_MAX)));
        let drained = target.drained();
        self.hold = Some(Box::new(Hold { sleep, waits: None, target: Some(target), drained }));
    }

    /// Stops reading until `waits` is durable.
    pub(crate) fn hold_until(&mut self, waits: Waits) {
        let sleep = Box::pin(tokio::time::sleep(Duration::MAX));
        self.hold = Some(Box::new(Hold { sleep, waits: Some(waits), target: None, drained: 0 }));
    }

    /// Has `write` encode acknowledgements that may leave when `waits` is durable, behind those before them.
    pub(crate) fn answer(&mut self, mut waits: Waits, write: impl FnOnce(&mut Vec<u8>)) {
        if self.pledges.is_none() && (waits.is_empty() || waits.is_durable(&*self.terms.broker.store)) {
            return write(self.writing_mut());
        }
        let mut owed = Vec::new();
        write(&mut owed);
        self.pledges.get_or_insert_default().owe(waits, 0, &owed);
    }

    /// The same for a packet.
    pub(crate) fn answer_packet(&mut self, waits: Waits, packet: &Packet<'_>) {
        let version = self.terms.version;
        self.answer(waits, |out| packet.encode(version, out));
        self.terms.broker.metrics.sent(packet.packet_type(), 1);
    }

    /// What SUBACK and UNSUBACK wait for.
    pub(crate) fn all_promised(&self) -> Waits {
        if self.terms.acknowledge == AcknowledgeLevel::Buffered { Waits::default() } else { self.all_of_client() }
    }

    /// What an answer from memory waits for: everything written of this Client.
    pub(crate) fn all_of_client(&self) -> Waits {
        let Terms { broker, client, .. } = &self.terms;
        if client.stored { Waits::one(client.shard, broker.store.position(client.shard)) } else { Waits::default() }
    }

    /// Moves the acknowledgements whose time has come to the output.
    fn poll_pledges(&mut self, context: &mut Context<'_>) -> Result<(), Closing> {
        let Some(mut pledges) = self.pledges.take() else { return Ok(()) };
        let broker = self.terms.broker.clone();
        pledges.poll(&broker, context, self.writing_mut()).map_err(|_| Closing::Server(ReasonCode::ImplementationSpecificError))?;
        if !pledges.is_empty() {
            self.pledges = Some(pledges);
        }
        Ok(())
    }

    /// True when the Client has to wait with more until what it sent before is acknowledged: a rule of 5.0 that others are held to by not being read.
    fn is_over_quota(&self, limits: &Limits) -> bool {
        self.pledges.as_ref().is_some_and(|pledges| {
            pledges.bytes() as u64 > limits.output_buffer_bytes.as_u64()
                || self.terms.broker.store.unwritten_bytes() > limits.unwritten_bytes.as_u64()
                || self.terms.version != ProtocolVersion::V5 && pledges.publishes() >= usize::from(self.terms.receive_maximum)
        })
    }

    /// Asks the bucket for what the Session wants from it, and gives the Session what has come. True: something came.
    fn poll_reading(&mut self, context: &mut Context<'_>) -> Result<bool, Closing> {
        let Some(mut reading) = self.reading.take() else { return Ok(false) };
        let Terms { broker, client, epoch, .. } = &self.terms;
        let mut came = false;
        if let Some((waits, gate)) = &mut reading.gate
            && let Poll::Ready(outcome) = waits.poll_once(&*broker.store, context, &mut reading.registered)
        {
            outcome.map_err(|_| Closing::Server(ReasonCode::ImplementationSpecificError))?;
            let mut state = client.lock();
            if state.epoch == *epoch {
                state.session.open_gate(*gate);
            }
            drop(state);
            reading.gate = None;
            came = true;
        }
        if let Some((wanted, page)) = &mut reading.page
            && let Poll::Ready(page) = page.as_mut().poll(context)
        {
            let page = page.map_err(|error| {
                tracing::warn!(client_id = &*client.id, error = %error, "a queue cannot be read");
                Closing::Server(ReasonCode::ImplementationSpecificError)
            })?;
            let page = page.into_iter().map(|(sequence, entry)| (sequence.0, entry)).collect();
            let mut state = client.lock();
            if state.epoch == *epoch {
                state.session.accept_page(*wanted, page, &mut StoreBacklog::new(broker, client));
            }
            drop(state);
            reading.page = None;
            came = true;
        }
        if reading.gate.is_some() || reading.page.is_some() {
            self.reading = Some(reading);
        }
        Ok(came)
    }

    /// Writes what there is and what comes from the bucket meanwhile.
    fn poll_output(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Closing>> {
        loop {
            let outcome = self.poll_flush(context);
            match self.poll_reading(context) {
                Err(closing) => return Poll::Ready(Err(closing)),
                Ok(true) if !matches!(outcome, Poll::Ready(Err(_))) => {}
                Ok(_) => return outcome,
            }
        }
    }

    /// Looks at what others want of this task: take-over, close.
    fn look(&mut self, context: &Context<'_>) -> Result<(), Closing> {
        let mut state = self.terms.client.lock();
        if state.epoch != self.terms.epoch {
            return Err(Closing::TakenOver);
        }
        state.arrive(context.waker());
        match state.closing.take() {
            Some(reason_code) => Err(Closing::Server(reason_code)),
            None => Ok(()),
        }
    }

    /// Writes as much as the socket takes. Ready: nothing is left that this task knows of; what is delivered later wakes it.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Closing>> {
        loop {
            // Acknowledgements and what others delivered leave in one write.
            // What the socket has refused is not added to: the rest stays where it is bounded, in the Session.
            // Once it is out, the Session is looked at again: its wake-up was used when the socket was still full.
            let left_over = self.blocked || self.written > 0;
            let more = left_over || self.refill();
            if self.writing.is_empty() {
                break;
            }
            while self.written < self.writing.len() {
                let Some(transport) = &mut self.transport else { return Poll::Ready(Err(Closing::Peer)) };
                match Pin::new(transport).poll_write(context, &self.writing[self.written..]) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into())),
                    Poll::Ready(Ok(count)) => {
                        self.written += count;
                        self.terms.broker.metrics.bytes_sent.add(count as u64);
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                    Poll::Pending => {
                        self.blocked = true;
                        return Poll::Pending;
                    }
                }
            }
            if let Some(since) = self.writing_since.take() {
                let broker = &self.terms.broker;
                broker.metrics.delivery_duration.observe(broker.moment().since_ns(since), 1);
            }
            self.blocked = false;
            self.writing.clear();
            self.written = 0;
            if !more {
                break;
            }
        }
        if self.writing.capacity() > 0 {
            buffers::give_back(std::mem::take(&mut self.writing));
        }
        // TLS keeps bytes of its own until the socket takes them.
        if let Some(transport) = &mut self.transport
            && !matches!(transport, Transport::Tcp(_))
            && let Poll::Ready(Err(error)) = Pin::new(transport).poll_flush(context)
        {
            return Poll::Ready(Err(error.into()));
        }
        Poll::Ready(Ok(()))
    }

    /// Takes what was delivered to the Session into the write buffer. True: there is more to come.
    fn refill(&mut self) -> bool {
        let broker = &self.terms.broker;
        let mut waiters = Vec::new();
        let more = {
            let mut state = self.terms.client.lock();
            let state = &mut *state;
            if state.epoch != self.terms.epoch {
                return false;
            }
            if state.session.wants_pump() {
                let now = broker.wall_ms();
                let before = state.session.waiting();
                let mut dropped = 0;
                state.session.pump(now, &mut StoreBacklog::new(broker, &self.terms.client), buffers::spare, |reason| {
                    dropped += 1;
                    broker.metrics.dropped(reason.into(), 1);
                });
                broker.metrics.sent(PacketType::Publish, before.saturating_sub(state.session.waiting()).saturating_sub(dropped));
            }
            if self.terms.client.stored {
                let reading = &mut self.reading;
                want_from_bucket(broker, &self.terms.client, &mut state.session, reading);
            }
            if !state.walks.is_empty() {
                crate::retained::walk(broker, &self.terms.client, state);
            }
            let full = state.session.link().is_some_and(|link| !link.has_room());
            if state.session.take_output(&mut self.writing) {
                self.writing_since = state.output_since.take();
            } else if let Some(buffer) = state.session.reclaim_buffer() {
                buffers::give_back(buffer);
            }
            if self.terms.client.flow() != Flow::Open
                && state.session.waiting() * 4 <= u64::from(broker.limits.load().session_queue_messages)
            {
                self.terms.client.set_flow(Flow::Open);
                waiters = state.take_waiters();
            }
            // Only a full output can have kept messages back that may go now; acknowledgements wake the task by themselves.
            full && (state.session.wants_pump() || !state.walks.is_empty())
        };
        wake(waiters);
        more
    }

    /// Polls the hold. Ready: there is none any more.
    fn poll_hold(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(hold) = &mut self.hold else { return Poll::Ready(()) };
        if let Some(waits) = &mut hold.waits {
            // A shard that fails ends the broker; until then nothing more is taken.
            let Poll::Ready(Ok(())) = waits.poll(&*self.terms.broker.store, context) else { return Poll::Pending };
            self.hold = None;
            return Poll::Ready(());
        }
        if let Some(target) = &hold.target {
            if target.flow() != Flow::Full {
                self.hold = None;
                return Poll::Ready(());
            }
            target.lock().wait_for_room(context.waker());
            // It may have got room before the waker was there.
            if target.flow() != Flow::Full {
                self.hold = None;
                return Poll::Ready(());
            }
        }
        if hold.sleep.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        // A subscriber that others fill again and again does read: only one that has not moved all this time lags.
        self.hold_over = hold.target.take().filter(|target| target.drained() == hold.drained);
        self.hold = None;
        Poll::Ready(())
    }

    /// Reads once and handles what is whole. Ready(Ok): try again; Pending: nothing more for now.
    fn poll_input(&mut self, context: &mut Context<'_>, limits: &Limits) -> Poll<Result<(), Closing>> {
        if self.hold.is_some() {
            if self.poll_hold(context).is_pending() {
                if self.hold.as_ref().is_some_and(|hold| hold.waits.is_some()) {
                    // What is not read cannot count against the Keep Alive, however long the bucket takes.
                    self.unread = true;
                    self.terms.client.seen(u32::MAX);
                }
                return Poll::Pending;
            }
            self.reprocess = true;
        }
        if self.reprocess {
            self.reprocess = false;
            let input = std::mem::take(&mut self.pending);
            return Poll::Ready(self.handle_input(&input, limits));
        }
        if self.pending.len() >= READ_BYTES / 2 {
            return self.poll_large(context, limits);
        }
        buffers::with_read_buffer(|buffer| {
            let have = self.pending.len();
            buffer[..have].copy_from_slice(&self.pending);
            let mut read = ReadBuf::new(&mut buffer[have..]);
            let Some(transport) = &mut self.transport else { return Poll::Ready(Err(Closing::Peer)) };
            match Pin::new(transport).poll_read(context, &mut read) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Ready(Ok(())) => {}
            }
            let count = read.filled().len();
            if count == 0 {
                return Poll::Ready(Err(Closing::Peer));
            }
            self.arrived(count);
            if have > 0 {
                self.pending = Vec::new();
            }
            Poll::Ready(self.handle_input(&buffer[..have + count], limits))
        })
    }

    /// A packet larger than the shared buffer is collected in a buffer of its own, which grows with what has come.
    fn poll_large(&mut self, context: &mut Context<'_>, limits: &Limits) -> Poll<Result<(), Closing>> {
        if self.pending.capacity() == self.pending.len() {
            self.pending.reserve(self.pending.len());
        }
        let Some(transport) = &mut self.transport else { return Poll::Ready(Err(Closing::Peer)) };
        let mut read = ReadBuf::uninit(self.pending.spare_capacity_mut());
        match Pin::new(transport).poll_read(context, &mut read) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
            Poll::Ready(Ok(())) => {}
        }
        let count = read.filled().len();
        if count == 0 {
            return Poll::Ready(Err(Closing::Peer));
        }
        let length = self.pending.len() + count;
        // SAFETY: `poll_read` has filled, so initialized, `count` bytes behind the old length.
        unsafe { self.pending.set_len(length) };
        self.arrived(count);
        if let Ok(Some(length)) = bucketmq_packet::packet_length(&self.pending)
            && length > self.pending.len()
            && length <= self.terms.max_packet_size as usize
        {
            return Poll::Ready(Ok(()));
        }
        let input = std::mem::take(&mut self.pending);
        Poll::Ready(self.handle_input(&input, limits))
    }

    fn arrived(&mut self, count: usize) {
        self.terms.broker.metrics.bytes_received.add(count as u64);
        self.batch_bytes = count as u64;
    }

    /// Handles every whole packet of `input` and keeps the rest.
    fn handle_input(&mut self, input: &[u8], limits: &Limits) -> Result<(), Closing> {
        let broker = self.terms.broker.clone();
        let began = broker.moment();
        self.confirmed = broker.confirmation.holds_at(began.ns());
        // What was held is as old as its first reading.
        let received = self.received.take().unwrap_or(began);
        let mut scratch = Scratch::take(&broker, received);
        let outcome = self.handle_packets(input, limits, &mut scratch);
        let now = broker.moment();
        scratch.finish(&broker, received, now);
        self.unacknowledged = self.pledges.as_ref().map_or(0, |pledges| pledges.publishes());
        let used = outcome?;
        let second = now.second();
        if used < input.len() {
            self.pending.extend_from_slice(&input[used..]);
        }
        if used > 0 {
            // [MQTT-3.1.2-22] Only whole packets count.
            self.terms.client.seen(second);
        }
        if self.hold.is_some() {
            self.received = Some(received);
        }
        let wait = pause(self.terms.rates.as_deref(), &self.terms.listener, self.batch_messages, self.batch_bytes);
        (self.batch_messages, self.batch_bytes) = (0, 0);
        if !wait.is_zero() && self.hold.is_none() {
            // What is not read cannot count against the Keep Alive.
            self.terms.client.seen(second.saturating_add(u32::try_from(wait.as_secs()).unwrap_or(u32::MAX) + 1));
            self.hold = Some(Box::new(Hold { sleep: Box::pin(tokio::time::sleep(wait)), waits: None, target: None, drained: 0 }));
        }
        Ok(())
    }

    /// After a reload of the access rules: is the principal still who it was, and may its Subscriptions stay?
    fn refresh_access(&mut self) -> Result<(), Closing> {
        if self.terms.broker.access.generation() == self.terms.principal.generation() {
            return Ok(());
        }
        match self.terms.broker.access.refresh(&self.terms.principal) {
            None => Err(Closing::Server(ReasonCode::NotAuthorized)),
            Some(principal) => {
                self.take_principal(principal);
                Ok(())
            }
        }
    }

    /// The Client has other rights from now on.
    pub(crate) fn take_principal(&mut self, principal: Principal) {
        self.terms.acknowledge = level(&principal, &self.terms.listener, &self.terms.broker.limits.load());
        self.terms.principal = principal;
        // A verdict that the old principal got after the rules had changed would pass for one of the new rules.
        self.cache = None;
        self.drop_forbidden_subscriptions();
    }

    fn poll_serve(&mut self, context: &mut Context<'_>) -> Poll<Closing> {
        if let Err(closing) = self.look(context).and_then(|()| self.refresh_access()) {
            return Poll::Ready(closing);
        }
        let limits = self.terms.broker.limits.load();
        if let Err(closing) = self.poll_pledges(context) {
            return Poll::Ready(closing);
        }
        self.unacknowledged = self.pledges.as_ref().map_or(0, |pledges| pledges.publishes());
        let mut blocked = match self.poll_output(context) {
            Poll::Ready(Err(closing)) => return Poll::Ready(closing),
            Poll::Ready(Ok(())) => false,
            Poll::Pending => true,
        };
        for _ in 0..READS_MAX {
            // A Client that does not take its acknowledgements is not read until it does: nothing of its grows without limit.
            if blocked && self.writing.len() - self.written > limits.output_buffer_bytes.as_u64() as usize {
                return Poll::Pending;
            }
            if self.is_over_quota(&limits) {
                // What is not read cannot count against the Keep Alive.
                self.unread = true;
                self.terms.client.seen(u32::MAX);
                return Poll::Pending;
            }
            if std::mem::take(&mut self.unread) {
                self.terms.client.seen(self.terms.broker.second());
            }
            match self.poll_input(context, &limits) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(closing)) => return Poll::Ready(closing),
                Poll::Ready(Ok(())) => {}
            }
            if let Err(closing) = self.poll_pledges(context) {
                return Poll::Ready(closing);
            }
            if !blocked {
                blocked = match self.poll_output(context) {
                    Poll::Ready(Err(closing)) => return Poll::Ready(closing),
                    Poll::Ready(Ok(())) => false,
                    Poll::Pending => true,
                };
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Serves until the connection ends, then ends it properly.
    pub async fn run(mut self) {
        // A role may have lost rights while the Client was away.
        self.drop_forbidden_subscriptions();
        let closing = std::future::poll_fn(|context| self.poll_serve(context)).await;
        debug!(client_id = %self.terms.client.id, closing = ?closing, "connection ends");
        self.terms.broker.metrics.closed(match &closing {
            Closing::Disconnect { .. } => Closed::Disconnect,
            Closing::Peer | Closing::Io(_) => Closed::Network,
            Closing::TakenOver => Closed::TakenOver,
            Closing::Violation(_) => Closed::Violation,
            Closing::Server(ReasonCode::KeepAliveTimeout) => Closed::KeepAlive,
            Closing::Server(_) => Closed::Server,
        });
        self.leave(&closing);
        // Cold and larger than the rest of this future: boxed, so that an idle connection does not carry it.
        Box::pin(self.say_goodbye(closing)).await;
    }

    /// The bucket did not answer in time: CONNACK says so instead of what it was to say, and the Session waits for the next connection.
    pub(crate) async fn refuse_late(mut self) {
        self.writing = Vec::new();
        let properties = ConnAckProperties { reason_string: Some("the bucket does not answer"), ..ConnAckProperties::default() };
        let reason_code = ReasonCode::ServerUnavailable;
        ConnAck { session_present: false, reason_code, properties }.encode(self.terms.version, &mut self.writing);
        self.terms.broker.metrics.closed(Closed::Server);
        let closing = Closing::Disconnect { with_will: true };
        self.leave(&closing);
        Box::pin(self.say_goodbye(closing)).await;
    }

    /// Sends DISCONNECT where the specification has one and lets the peer take the last bytes.
    async fn say_goodbye(&mut self, closing: Closing) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let reason_code = match &closing {
            Closing::TakenOver => Some(ReasonCode::SessionTakenOver),
            Closing::Violation(violation) => {
                self.terms.broker.metrics.violations.add(1);
                debug!(client_id = %self.terms.client.id, reason_code = ?violation.reason_code, clause = violation.clause, detail = violation.detail, "protocol violation");
                Some(violation.reason_code)
            }
            Closing::Server(reason_code) => Some(*reason_code),
            Closing::Disconnect { .. } | Closing::Peer | Closing::Io(_) => None,
        };
        let Some(mut transport) = self.transport.take() else { return };
        let _permit = self.permit.take();
        let mut last = self.writing.split_off(self.written.min(self.writing.len()));
        if let Some(reason_code) = reason_code
            && self.terms.version == ProtocolVersion::V5
        {
            // [MQTT-3.14.0-1] Only after CONNACK 0x00, which this connection has sent. [MQTT-3.1.2-29] DISCONNECT may carry a reason whatever was asked.
            let detail = match &closing {
                Closing::Violation(violation) => Some(violation.detail),
                _ => None,
            };
            let before = last.len();
            Disconnect { reason_code, reason_string: detail, ..Disconnect::default() }.encode(self.terms.version, &mut last);
            // [MQTT-3.14.2-3] The Reason String is left out when the packet would be larger than the Client takes.
            if last.len() - before > self.terms.client_max_packet_size as usize {
                last.truncate(before);
                Disconnect { reason_code, ..Disconnect::default() }.encode(self.terms.version, &mut last);
            }
            self.terms.broker.metrics.sent(PacketType::Disconnect, 1);
        }
        if matches!(closing, Closing::Io(_) | Closing::Peer) {
            return;
        }
        let goodbye = async {
            transport.write_all(&last).await?;
            transport.flush().await?;
            transport.shutdown().await?;
            // What the peer had sent already would turn our last bytes into a reset: take it until it has closed too.
            let mut sink = [0; 4096];
            while transport.read(&mut sink).await? > 0 {}
            io::Result::Ok(())
        };
        let _ = tokio::time::timeout(LINGER, goodbye).await;
    }
}

/// Notes what the Session wants from the bucket and has not asked for yet, and tells the bucket what is over.
fn want_from_bucket(broker: &Arc<Broker>, client: &ClientRef, session: &mut Session, reading: &mut Option<Box<Reading>>) {
    session.settle(&mut StoreBacklog::new(broker, client));
    if session.wants_gate() && reading.as_ref().is_none_or(|reading| reading.gate.is_none()) {
        let gate = session.ask(&mut StoreBacklog::new(broker, client));
        let waits = Waits::one(client.shard, broker.store.position(client.shard));
        reading.get_or_insert_default().gate = gate.map(|gate| (waits, gate));
    }
    if let Some(wanted) = session.page_wanted()
        && reading.as_ref().is_none_or(|reading| reading.page.is_none())
    {
        let (store, number) = (broker.store.clone(), client.number);
        let page = async move { store.page(number, Sequence(wanted.from), wanted.max_entries, PAGE_BYTES).await };
        reading.get_or_insert_default().page = Some((wanted, Box::pin(page)));
    }
}

pub(crate) fn unexpected(packet_type: PacketType, clause: &'static str, detail: &'static str) -> Closing {
    Violation { reason_code: ReasonCode::ProtocolError, clause, detail, packet_type: Some(packet_type) }.into()
}
