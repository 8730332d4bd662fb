//! Who takes part in a run.

use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bucketmq_packet::{ProtocolVersion, QoS};
use clap::ValueEnum;

use crate::check::{Promise, count};
use crate::history::{Kind, What};
use crate::link::{Came, Gone, Identity};
use crate::mortal::Mortal;
use crate::publisher::{Chosen, Publisher, message_of};
use crate::scene::{Client, Hour, Outlet, Scene};
use crate::subscriber::{Choice, Habits, Subscriber};

/// Between two messages of a publisher: more would show nothing more, and fill the history.
const PACE: Duration = Duration::from_millis(4);
/// Of those whose Sessions end with their connections.
const TRANSIENT_PACE: Duration = Duration::from_millis(20);
/// Until all have subscribed at the beginning, or a reader is served at the end.
const SERVED: Duration = Duration::from_secs(60);
/// So long nothing may come before it is over: what comes twice comes at once.
const QUIET: Duration = Duration::from_secs(3);
/// A retained message that is there comes in this time.
const RETAINED: Duration = Duration::from_secs(5);
/// Seconds the Wills wait: the second Client speaks 3.1.1, which knows no delay.
const WILL_DELAYS: [u32; 3] = [0, 0, 2];
/// What subscribers of everything subscribe to.
const FILTERS: [&str; 3] = ["messages/#", "retained/#", "wills/#"];

/// At which QoS is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// QoS 1.
    #[value(name = "1")]
    One,
    /// QoS 2.
    #[value(name = "2")]
    Two,
    /// Both, also by one publisher.
    Mixed,
}

impl Level {
    fn of(self, number: u32) -> QoS {
        match self {
            Self::One => QoS::AtLeastOnce,
            Self::Two => QoS::ExactlyOnce,
            Self::Mixed if number.is_multiple_of(2) => QoS::AtLeastOnce,
            Self::Mixed => QoS::ExactlyOnce,
        }
    }

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "1",
            Self::Two => "2",
            Self::Mixed => "mixed",
        }
    }
}

/// Clients at work, each on a thread of its own.
pub struct Crowd {
    scene: Scene,
    level: Level,
    publishers: Vec<JoinHandle<()>>,
    subscribers: Vec<JoinHandle<()>>,
}

/// 5.0 and 3.1.1 in turn.
fn lasting(scene: &Scene, name: &str, number: u32) -> Client {
    let version = if number.is_multiple_of(2) { ProtocolVersion::V5 } else { ProtocolVersion::V3_1_1 };
    scene.client(Identity { client_id: format!("{name}-{number}"), version, lasts: true })
}

fn away(stay_ms: u64, away_ms: u64) -> Option<(Duration, Duration)> {
    Some((Duration::from_millis(stay_ms), Duration::from_millis(away_ms)))
}

impl Crowd {
    /// Subscribers that are there before anything is published, and then everybody else.
    ///
    /// Six subscribers of everything: two stay, one of them slow; three come and go, one of them slow; one is slow at QoS 1. Two choose topics, and two
    /// publishers follow them. Four publishers of one stream, two of two, two of retained messages, three with a Will.
    pub fn start(scene: &Scene, level: Level) -> anyhow::Result<Self> {
        let mut crowd = Self { scene: scene.clone(), level, publishers: Vec::new(), subscribers: Vec::new() };
        let (one, two) = (QoS::AtLeastOnce, QoS::ExactlyOnce);
        let habits = |qos, away, is_slow| Habits { filters: FILTERS.map(str::to_owned).to_vec(), qos, away, is_slow };
        let all = [
            habits(two, None, false),
            habits(two, None, true),
            habits(two, away(800, 800), false),
            habits(one, away(400, 2_000), false),
            habits(two, away(2_000, 6_000), true),
            habits(one, None, true),
        ];
        for (habits, number) in all.into_iter().zip(0..) {
            crowd.subscribe(Subscriber::new(lasting(scene, "subscriber", number), habits));
        }
        crowd.wait_for_subscribers()?;
        for number in 0..2 {
            crowd.add_choice(number);
        }
        for number in 0..8 {
            crowd.add_publisher(number);
        }
        for (number, delay) in (0..).zip(WILL_DELAYS) {
            let client = lasting(scene, "mortal", number);
            let wills = client.stream(&format!("wills/{number}"), level.of(number), Kind::Will);
            let mortal = Mortal::new(client, wills, delay);
            crowd.publishers.push(std::thread::spawn(move || mortal.run()));
        }
        Ok(crowd)
    }

    /// A subscriber and a publisher that follows it.
    fn add_choice(&mut self, number: u32) {
        let publisher = lasting(&self.scene, "follower", number);
        let chosen = Chosen::default();
        let choice = Choice { publisher: publisher.number, qos: self.level.of(number), chosen: chosen.clone() };
        let habits = Habits { qos: QoS::ExactlyOnce, away: away(3_000, 500), ..Habits::default() };
        self.subscribe(Subscriber::new(lasting(&self.scene, "chooser", number + 1), habits).choosing(choice));
        self.publish(Publisher::following(publisher, chosen, PACE));
    }

    fn add_publisher(&mut self, number: u32) {
        let client = lasting(&self.scene, "publisher", number);
        let live = |qos: QoS| client.stream(&format!("messages/{number}/{}", qos as u8), qos, Kind::Live);
        let outlets: Vec<Outlet> = match number {
            4..6 if self.level == Level::Mixed => vec![live(QoS::AtLeastOnce), live(QoS::ExactlyOnce)],
            0..6 => vec![live(self.level.of(number / 2))],
            _ => vec![
                client.stream(&format!("retained/{number}"), self.level.of(number), Kind::Retained),
                client.stream(&format!("cleared/{number}"), self.level.of(number), Kind::Cleared),
            ],
        };
        self.publish(Publisher::new(client, outlets, PACE));
    }

    /// One publisher at each QoS and one subscriber, whose Sessions end with their connections.
    pub fn add_transient(&mut self) {
        let transient =
            |scene: &Scene, name: &str| scene.client(Identity { client_id: name.to_owned(), version: ProtocolVersion::V5, lasts: false });
        let habits = Habits { filters: vec!["transient/#".to_owned()], qos: QoS::ExactlyOnce, ..Habits::default() };
        self.subscribe(Subscriber::new(transient(&self.scene, "transient-subscriber"), habits));
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let client = transient(&self.scene, &format!("transient-publisher-{}", qos as u8));
            let outlet = client.stream(&format!("transient/{}", qos as u8), qos, Kind::Transient);
            self.publish(Publisher::new(client, vec![outlet], TRANSIENT_PACE));
        }
    }

    fn publish(&mut self, publisher: Publisher) {
        self.publishers.push(std::thread::spawn(move || publisher.run()));
    }

    fn subscribe(&mut self, subscriber: Subscriber) {
        self.subscribers.push(std::thread::spawn(move || subscriber.run()));
    }

    fn wait_for_subscribers(&self) -> anyhow::Result<()> {
        let begin = Instant::now();
        let wanted = self.subscribers.len() * FILTERS.len();
        let subscribed = |what: &What| matches!(what, What::Subscribed { .. });
        while self.scene.recorder.read(|history| history.events.iter().filter(|event| subscribed(&event.what)).count()) < wanted {
            ensure!(begin.elapsed() < SERVED, "nobody could subscribe");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Waits until everything owed has come, handshakes have ended and all is quiet; gives up when nothing at all has come for `patience`.
    pub fn drain(&self, patience: Duration) {
        self.scene.strike(Hour::Finish);
        let recorder = &self.scene.recorder;
        let moves = |what: &What| matches!(what, What::Arrived { .. } | What::Completed(_) | What::Acknowledged(_));
        let last = || recorder.read(|history| history.events.iter().rev().find(|event| moves(&event.what)).map(|event| event.at));
        let began = recorder.now();
        let mut looked_at = 0;
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let quiet = recorder.now().saturating_sub(last().unwrap_or_default().max(began));
            if quiet > patience {
                return;
            }
            let events = recorder.read(|history| history.events.len());
            let is_done = self.scene.open_handshakes.load(Ordering::Relaxed) == 0;
            if quiet > QUIET && is_done && events != looked_at && self.publishers.iter().all(JoinHandle::is_finished) {
                // It is looked again as soon as there is one event more.
                looked_at = events;
                let verdict = recorder.read(count);
                if verdict.broken(Promise::Delivered) + verdict.broken(Promise::WillFired) == 0 {
                    return;
                }
            }
        }
    }

    /// Looks what is retained, and ends everybody.
    pub fn end(self) -> anyhow::Result<()> {
        let found = read_retained(&self.scene);
        self.scene.strike(Hour::End);
        for thread in self.publishers.into_iter().chain(self.subscribers) {
            thread.join().map_err(|_| anyhow::anyhow!("a Client panicked"))?;
        }
        found
    }
}

/// What a new Subscription gets for the topics of retained messages.
fn read_retained(scene: &Scene) -> anyhow::Result<()> {
    let streams: Vec<(u32, String)> = scene.recorder.read(|history| {
        let retained = history.streams.iter().zip(0..).filter(|(stream, _)| matches!(stream.kind, Kind::Retained | Kind::Cleared));
        retained.map(|(stream, number)| (number, stream.topic.to_string())).collect()
    });
    let mut client = scene.client(Identity { client_id: "reader".to_owned(), version: ProtocolVersion::V5, lasts: false });
    let begin = Instant::now();
    let (mut link, _) = loop {
        if let Some(connected) = client.connect(None) {
            break connected;
        }
        ensure!(begin.elapsed() < SERVED, "nobody could connect to read the retained messages");
    };
    let gone = |gone: Gone| anyhow::anyhow!("reading the retained messages: {}", gone.0);
    link.subscribe(streams.iter().map(|(_, topic)| topic.as_str()), QoS::AtMostOnce).map_err(gone)?;
    let mut found = vec![None; streams.len()];
    while found.iter().any(Option::is_none)
        && let Some(came) = link.next(RETAINED).map_err(gone)?
    {
        if let Came::Publish { topic, payload, .. } = came {
            let place = streams.iter().position(|(_, of)| *of == topic).context("a topic nobody asked for")?;
            found[place] = message_of(&payload);
        }
    }
    for ((stream, _), message) in streams.into_iter().zip(found) {
        client.record(What::RetainedFound { stream, number: message.map(|message| message.number) });
    }
    link.leave();
    Ok(())
}
