//! What a seed means: who is there, what they do, and what goes wrong when.

use bucketmq_cluster::Takeover;

use crate::bucket::{Manners as BucketManners, Outage};
use crate::network::Manners as NetworkManners;
use crate::random::Dice;

/// How long a Session lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lives {
    /// For ever, and is never given up.
    Forever,
    /// So many seconds without a connection.
    Seconds(u32),
    /// As long as the connection.
    Connection,
}

/// What a Client publishes.
#[derive(Debug, Clone)]
pub struct Publishing {
    /// Milliseconds between two messages on average.
    pub every_ms: u64,
    /// Topics of each kind.
    pub topics: u64,
    /// Of a thousand messages so many at QoS 0, and of the rest so many at QoS 2.
    pub qos0_per_mille: u64,
    /// See above.
    pub qos2_per_mille: u64,
    /// So many are retained.
    pub retain_per_mille: u64,
    /// So many expire within seconds.
    pub expire_per_mille: u64,
    /// Bytes of a payload.
    pub size: (u64, u64),
    /// Messages in flight.
    pub window: usize,
}

/// What a Client is like.
#[derive(Debug, Clone)]
pub struct Profile {
    /// 5.0, or 3.1.1.
    pub v5: bool,
    /// Its Session.
    pub lives: Lives,
    /// What it publishes.
    pub publishing: Option<Publishing>,
    /// Topic Filters and the QoS it asks for.
    pub subscribes: Vec<(String, u8)>,
    /// QoS and delay in seconds of its Wills.
    pub will: Option<(u8, u32)>,
    /// Keep Alive in seconds.
    pub keep_alive: u16,
    /// Receive Maximum.
    pub receive_maximum: u16,
    /// Milliseconds until it acknowledges.
    pub answers_ms: (u64, u64),
    /// Of a million milliseconds with a connection so many end it: in order, by a reset, in silence.
    pub leaves_per_million: [u64; 3],
    /// Milliseconds it stays away.
    pub away_ms: (u64, u64),
    /// It comes late.
    pub first_ms: (u64, u64),
    /// Of a thousand connections so many begin with Clean Start although there is a Session.
    pub gives_up_per_mille: u64,
    /// It only looks at what is retained and goes again.
    pub reader: bool,
}

/// What happens to brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// The broker dies; another starts after so many milliseconds.
    Crash {
        /// The machine with it: nobody closes its sockets.
        silent: bool,
        /// Until the next one.
        down_ms: u64,
    },
    /// It is told to stop; another starts when it is gone.
    Stop,
    /// A second broker starts while the first one is still there, and takes all new connections.
    Rival {
        /// So many milliseconds before, the first one loses its way to the bucket; none: it never does.
        cut_off_ms: Option<u64>,
        /// It gets the way back so many milliseconds after that.
        back_ms: u64,
        /// The Clients of the first one lose their connections.
        move_clients: bool,
    },
}

/// How a broker comes to own the shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// It asks `own/00`, as real ones do.
    Asks(Takeover),
    /// It opens them, whoever has them: the fence of each shard's database decides. Harder than what brokers do, because two of them do more at the
    /// same time.
    Forces,
}

/// The plan of a run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How a second broker comes to own the shards.
    pub entry: Entry,
    /// A broker that died starts again under its name, as in the same pod; otherwise under another one.
    pub keeps_name: bool,
    /// Shards.
    pub shards: u16,
    /// Messages in flight to a Client.
    pub max_inflight: u16,
    /// The bucket.
    pub bucket: BucketManners,
    /// And its outages.
    pub outages: Vec<Outage>,
    /// The network.
    pub network: NetworkManners,
    /// Who is there.
    pub clients: Vec<Profile>,
    /// What happens to brokers, and when.
    pub blows: Vec<(u64, Blow)>,
    /// Each machine has a clock of its own, up to [`SKEW_SECONDS`] from the others, and at these times all of them are set to something else.
    pub clocks: Option<Vec<u64>>,
    /// Clients act up to here; then comes calm.
    pub active_ms: u64,
    /// After the calm nothing happens for so long, but that one Client sleeps: the bucket is compacted, and what is old in it is deleted.
    pub sleep_ms: Option<u64>,
    /// After the calm, once more a crash: what is in memory only shows.
    pub last_crash: bool,
}

/// How far a clock is ahead, or behind.
pub const SKEW_SECONDS: u64 = 3_600;

/// Before this, everybody arrives in peace.
const PEACE_MS: u64 = 1_500;

impl Plan {
    /// The plan of `seed`.
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "plan");
        let dice = &mut dice;
        let active_ms = dice.between((8_000, 20_000));
        let (blows, outages) = misfortunes(dice, active_ms);
        let publishers = dice.between((1, 3));
        let mut clients = vec![witness(dice)];
        for index in 0..publishers {
            clients.push(publisher(dice, index));
        }
        for _ in 0..dice.between((1, 4)) {
            clients.push(subscriber(dice, publishers));
        }
        if dice.per_mille(300) {
            let filter = format!("$share/group/t/{}/#", dice.between((1, publishers)));
            let qos = dice.pick(&[1, 2]);
            for _ in 0..2 {
                let subscribes = vec![(filter.clone(), qos)];
                clients.push(Profile { subscribes, gives_up_per_mille: 0, ..anybody(dice, Lives::Forever) });
            }
        }
        // Draws of its own, so that the other Clients stay who they were.
        clients.extend(passer_by(&mut Dice::new(seed, "passer-by"), &clients));
        if dice.per_mille(600) {
            clients.push(reader(dice));
        }
        let mut owning = Dice::new(seed, "owning");
        let entry = owning.pick(&[
            Entry::Forces,
            Entry::Asks(Takeover::Never),
            Entry::Asks(Takeover::New),
            Entry::Asks(Takeover::New),
            Entry::Asks(Takeover::Always),
        ]);
        let clocks = clocks(&mut Dice::new(seed, "clocks"), active_ms).filter(|_| entry != Entry::Forces);
        if clocks.is_some() {
            clients.iter_mut().for_each(outlive_clocks);
        }
        Self {
            entry,
            clocks,
            keeps_name: owning.per_mille(700),
            shards: dice.pick(&[1, 2, 2, 4]),
            max_inflight: dice.pick(&[2, 16, 1024]),
            bucket: bucket(dice),
            outages,
            network: NetworkManners { latency_ms: dice.pick(&[(1, 1), (1, 5), (1, 40)]), piece: dice.pick(&[7, 200, 65_536]) },
            clients,
            blows,
            active_ms,
            sleep_ms: dice.per_mille(150).then(|| dice.between((60_000, 2_400_000))),
            last_crash: dice.per_mille(300),
        }
    }
}

/// Of some plans: when clocks are set. Who forces its way into the shards knows nothing of the time of the one before, and is not asked to.
fn clocks(dice: &mut Dice, active_ms: u64) -> Option<Vec<u64>> {
    dice.per_mille(200).then(|| (0..dice.below(3)).map(|_| dice.between((PEACE_MS, active_ms))).collect())
}

/// What ends at a time of day ends at any time where clocks are set.
fn outlive_clocks(profile: &mut Profile) {
    if let Lives::Seconds(_) = profile.lives {
        profile.lives = Lives::Forever;
    }
    if let Some(publishing) = &mut profile.publishing {
        publishing.expire_per_mille = 0;
    }
    if let Some((_, delay)) = &mut profile.will {
        *delay = 0;
    }
}

fn bucket(dice: &mut Dice) -> BucketManners {
    let trouble = dice.pick(&[0, 5, 30, 100]);
    BucketManners {
        write_ms: dice.pick(&[(0, 2), (5, 15), (20, 60), (30, 200)]),
        read_ms: dice.pick(&[(0, 2), (2, 10), (10, 40)]),
        slow_per_mille: dice.pick(&[0, 2, 20]),
        slow_ms: (300, 3_000),
        error_per_mille: trouble,
        lost_per_mille: dice.pick(&[0, trouble / 2, trouble]),
        late_per_mille: dice.pick(&[0, 0, trouble / 4]),
    }
}

fn misfortunes(dice: &mut Dice, active_ms: u64) -> (Vec<(u64, Blow)>, Vec<Outage>) {
    let mut blows = Vec::new();
    for _ in 0..dice.pick(&[0, 1, 1, 2, 4]) {
        let at = dice.between((PEACE_MS, active_ms));
        let blow = match dice.below(10) {
            0..=5 => Blow::Crash { silent: dice.per_mille(300), down_ms: dice.pick(&[0, 100, 1_000, 5_000]) },
            6 => Blow::Stop,
            _ => Blow::Rival {
                cut_off_ms: dice.per_mille(600).then(|| dice.between((0, 3_000))),
                back_ms: dice.between((0, 6_000)),
                move_clients: dice.per_mille(500),
            },
        };
        blows.push((at, blow));
    }
    blows.sort_by_key(|(at, _)| *at);
    let mut outages = Vec::new();
    if dice.per_mille(300) {
        let from = dice.between((PEACE_MS, active_ms));
        outages.push(Outage { from, to: from + dice.between((200, 6_000)), hangs: dice.per_mille(500) });
    }
    (blows, outages)
}

/// Somebody who is nearly always there and takes everything at QoS 2: who sees what was lost, and Wills.
fn witness(dice: &mut Dice) -> Profile {
    let subscribes = vec![("t/#".to_owned(), 2), ("w/#".to_owned(), 2), ("r/#".to_owned(), 2)];
    Profile {
        subscribes,
        first_ms: (0, 0),
        leaves_per_million: [5, 20, 5],
        will: None,
        gives_up_per_mille: 0,
        ..anybody(dice, Lives::Forever)
    }
}

fn anybody(dice: &mut Dice, lives: Lives) -> Profile {
    let v5 = dice.per_mille(700) || matches!(lives, Lives::Seconds(_));
    Profile {
        v5,
        lives,
        publishing: None,
        subscribes: Vec::new(),
        will: dice.per_mille(500).then(|| (dice.below(3) as u8, if v5 { dice.pick(&[0, 0, 1, 3, 6]) } else { 0 })),
        keep_alive: dice.pick(&[3, 6, 20]),
        receive_maximum: dice.pick(&[1, 8, 64, 1_000]),
        answers_ms: dice.pick(&[(0, 0), (0, 20), (0, 300)]),
        leaves_per_million: [dice.pick(&[0, 20, 100]), dice.pick(&[0, 20, 150]), dice.pick(&[0, 0, 50])],
        away_ms: dice.pick(&[(0, 50), (50, 2_000), (1_000, 9_000)]),
        first_ms: (0, 1_000),
        gives_up_per_mille: dice.pick(&[0, 0, 100, 300]),
        reader: false,
    }
}

fn publisher(dice: &mut Dice, index: u64) -> Profile {
    let lives = dice.pick(&[Lives::Forever, Lives::Forever, Lives::Forever, Lives::Seconds(3), Lives::Connection]);
    let publishing = Publishing {
        every_ms: dice.pick(&[4, 10, 10, 40, 40, 150, 150]),
        topics: dice.between((1, 3)),
        qos0_per_mille: dice.pick(&[0, 100]),
        qos2_per_mille: dice.pick(&[0, 300, 500, 1_000]),
        retain_per_mille: dice.pick(&[0, 100, 300]),
        expire_per_mille: dice.pick(&[0, 0, 200]),
        size: dice.pick(&[(8, 8), (8, 300), (100, 5_000)]),
        window: dice.pick(&[1, 4, 30, 60]),
    };
    let mut profile = Profile { publishing: Some(publishing), ..anybody(dice, lives) };
    if dice.per_mille(200) {
        profile.subscribes.push((format!("t/{}/#", index + 1), dice.pick(&[1, 2])));
    }
    profile
}

fn subscriber(dice: &mut Dice, publishers: u64) -> Profile {
    let lives = dice.pick(&[Lives::Forever, Lives::Forever, Lives::Seconds(2), Lives::Seconds(5), Lives::Connection]);
    let qos = dice.pick(&[1, 2, 2]);
    let subscribes = match dice.below(3) {
        0 => vec![("t/#".to_owned(), qos)],
        1 => (1..=publishers).map(|publisher| (format!("t/{publisher}/+"), dice.pick(&[1, 2]))).collect(),
        _ => vec![(format!("t/{}/0", dice.between((1, publishers))), qos), ("r/+/+".to_owned(), dice.pick(&[1, 2]))],
    };
    Profile { subscribes, ..anybody(dice, lives) }
}

/// Another member of the Shared Subscription, if there is one at QoS 1, whose Session ends now and then: what it leaves is for the others. At QoS 2 some
/// of that would be lost by right [MQTT-4.8.2-5].
fn passer_by(dice: &mut Dice, clients: &[Profile]) -> Option<Profile> {
    let member = clients.last().filter(|last| last.subscribes.iter().any(|(filter, qos)| filter.starts_with("$share/") && *qos == 1))?;
    let lives = Lives::Seconds(dice.pick(&[1, 3]));
    let passer_by = Profile { subscribes: member.subscribes.clone(), ..anybody(dice, lives) };
    dice.per_mille(700).then_some(passer_by)
}

fn reader(dice: &mut Dice) -> Profile {
    Profile {
        subscribes: vec![("r/#".to_owned(), 1)],
        will: None,
        reader: true,
        leaves_per_million: [600, 100, 0],
        away_ms: (100, 1_500),
        first_ms: (PEACE_MS, PEACE_MS + 1_000),
        ..anybody(dice, Lives::Connection)
    }
}
