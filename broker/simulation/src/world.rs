//! A run: time goes on step by step; in each step the bucket, the network, the Clients and the brokers do what is due, always in the same order.

use bucketmq_cluster::Takeover;
use bucketmq_storage::Shards;

use crate::bucket::Bucket;
use crate::checker;
use crate::client::{Around, Client};
use crate::history::{Event, History};
use crate::host::{Host, Name, Phase, Setup};
use crate::network::Wire;
use crate::plant::Plant;
use crate::random::Dice;
use crate::reality;
use crate::scenario::{Blow, Entry, Lives, Plan, Profile, SKEW_SECONDS};
use crate::trace::Trace;

/// Milliseconds of a step, and of one while everybody sleeps.
const STEP_MS: u64 = 1;
const SLEEP_STEP_MS: u64 = 100;
/// What ended by itself is started again after this long.
const RESTART_MS: u64 = 500;
/// Everything has to be settled for this long: Wills wait for 6 s at most.
const QUIET_MS: u64 = 10_000;
/// After this long in calm weather in which nothing happened, whoever is not settled never will be.
const CALM_MAX_MS: u64 = 60_000;
/// A broker has so long to stop.
const STOP_MAX_MS: u64 = 40_000;

/// Something that will happen.
#[derive(Debug, Clone, Copy)]
enum Coming {
    Blow(Blow),
    /// All clocks are set.
    Clocks,
    /// A broker starts.
    Start(Newcomer),
    /// The way to the bucket is open again.
    Unblock(usize),
    /// The Clients of this broker lose their connections once another one serves.
    Move(usize),
}

/// Who starts.
#[derive(Debug, Clone, Copy)]
enum Newcomer {
    /// Somebody new, who is to replace the one that is there.
    Rival,
    /// This member again, after it ended, or somebody new in its place.
    After(usize),
    /// This member: it waits.
    Again(usize),
}

/// A run.
pub struct World {
    seed: u64,
    plan: Plan,
    now: u64,
    trace: Trace,
    history: History,
    bucket: Bucket,
    setup: Setup,
    /// All there ever were, by number; those that are over are gone.
    hosts: Vec<Option<Host>>,
    /// Names there were so far.
    members: usize,
    /// Those that have been seen serving.
    up: Vec<bool>,
    clients: Vec<Client>,
    wires: Vec<Wire>,
    connections: u64,
    coming: Vec<(u64, Coming)>,
    failures: Vec<String>,
    network: Dice,
    step_ms: u64,
}

/// How a run went.
#[derive(Debug)]
pub struct Outcome {
    /// What went wrong.
    pub failures: Vec<String>,
    /// Messages published, and acknowledged.
    pub messages: (usize, usize),
    /// Brokers started.
    pub hosts: usize,
    /// Requests to the bucket.
    pub requests: u64,
    /// Simulated milliseconds.
    pub ms: u64,
}

/// Runs `seed`.
pub fn run(seed: u64, plant: Option<Plant>, trace: Trace) -> anyhow::Result<Outcome> {
    let plan = Plan::of(seed);
    trace.note(format_args!("{plan:?}"));
    let mut world = World::new(seed, plan, plant, trace)?;
    world.live()?;
    let mut failures = std::mem::take(&mut world.failures);
    failures.extend(checker::check(&world.history, &world.plan.clients));
    let messages = world.history.messages.iter().filter(|message| message.will_delay.is_none());
    Ok(Outcome {
        failures,
        messages: (messages.clone().count(), messages.filter(|message| message.acknowledged.is_some()).count()),
        hosts: world.hosts.len(),
        requests: world.bucket.requests(),
        ms: world.now,
    })
}

impl World {
    fn new(seed: u64, plan: Plan, plant: Option<Plant>, trace: Trace) -> anyhow::Result<Self> {
        let ignores_conditions = plant == Some(Plant::LostFence);
        let bucket = Bucket::new(seed, plan.bucket, plan.outages.clone(), ignores_conditions, trace.clone());
        let setup = Setup { shards: Shards::new(plan.shards)?, max_inflight: plan.max_inflight, plant };
        let clients = plan.clients.iter().enumerate();
        let clients = clients.map(|(index, profile)| Client::new(index, profile.clone(), Dice::new(seed, &format!("client {index}"))));
        let mut coming: Vec<_> = plan.blows.iter().map(|(at, blow)| (*at, Coming::Blow(*blow))).collect();
        coming.extend(plan.clocks.iter().flatten().map(|at| (*at, Coming::Clocks)));
        coming.insert(0, (0, Coming::Start(Newcomer::Rival)));
        Ok(Self {
            seed,
            clients: clients.collect(),
            now: 0,
            trace,
            history: History { brokers_ask: plan.entry != Entry::Forces, ..History::default() },
            bucket,
            setup,
            hosts: Vec::new(),
            members: 0,
            up: Vec::new(),
            wires: Vec::new(),
            connections: 0,
            coming,
            failures: Vec::new(),
            network: Dice::new(seed, "network"),
            step_ms: STEP_MS,
            plan,
        })
    }

    fn live(&mut self) -> anyhow::Result<()> {
        while self.now < self.plan.active_ms {
            self.step()?;
        }
        let sleeper = self.plan.sleep_ms.and_then(|_| self.sleeper());
        if let Some(index) = sleeper {
            let Self { clients, history, trace, now, .. } = self;
            clients[index].sleep(&mut Around { now: *now, history, trace });
        }
        self.calm();
        self.settle()?;
        if let Some(ms) = self.plan.sleep_ms {
            self.sleep(ms)?;
        }
        if let Some(index) = sleeper {
            self.clients[index].wake(self.now);
            self.settle()?;
        }
        if self.plan.last_crash && self.failures.is_empty() {
            self.trace.note("the last crash");
            if let Some(victim) = self.victim() {
                self.crash(victim, false, RESTART_MS);
            }
            self.settle()?;
        }
        self.read_retained()?;
        self.stop_all()
    }

    /// No more misfortunes.
    fn calm(&mut self) {
        self.trace.note("calm");
        self.bucket.calm();
        self.coming.retain(|(_, coming)| matches!(coming, Coming::Start(_) | Coming::Move(_)));
        for host in self.hosts.iter().flatten() {
            host.road.block(false);
        }
        let Self { clients, history, trace, now, hosts, .. } = self;
        for client in clients {
            // Whoever has not noticed yet that its broker is gone would notice only when all is over.
            if (0..hosts.len()).any(|number| hosts[number].is_none() && client.is_at(number)) {
                client.cut(&mut Around { now: *now, history, trace });
            }
            if !client.sleeps() {
                client.calm_down(*now);
            }
        }
    }

    /// Somebody whose queue waits: a Client that comes back whatever happens.
    fn sleeper(&self) -> Option<usize> {
        (1..self.clients.len()).find(|index| {
            let profile = &self.plan.clients[*index];
            profile.lives == Lives::Forever && !profile.subscribes.is_empty() && profile.publishing.is_none()
        })
    }

    /// Nothing happens.
    fn sleep(&mut self, ms: u64) -> anyhow::Result<()> {
        let end = self.now + ms;
        self.step_ms = SLEEP_STEP_MS;
        while self.now < end && self.failures.is_empty() {
            self.step()?;
        }
        self.step_ms = STEP_MS;
        Ok(())
    }

    /// Waits until everybody has got everything.
    fn settle(&mut self) -> anyhow::Result<()> {
        let mut progress = (self.history.events.len(), self.now);
        let mut quiet_since = self.now;
        loop {
            self.step()?;
            if self.history.events.len() > progress.0 {
                progress = (self.history.events.len(), self.now);
                quiet_since = self.now;
            }
            if !self.clients.iter().filter(|client| !client.sleeps()).all(Client::is_settled) || self.serving().is_none() {
                quiet_since = self.now;
            }
            if self.now >= quiet_since + QUIET_MS {
                return Ok(());
            }
            if self.now > progress.1 + CALM_MAX_MS {
                for client in self.clients.iter().filter(|client| !client.is_settled() && !client.sleeps()) {
                    self.failures.push(format!(
                        "client {} is not settled and nothing has happened for {CALM_MAX_MS} ms: {}",
                        client.index,
                        client.unsettled()
                    ));
                }
                if self.serving().is_none() {
                    self.failures.push(format!("no broker serves after {CALM_MAX_MS} ms of calm"));
                }
                return Ok(());
            }
        }
    }

    /// Somebody new looks at everything that is retained.
    fn read_retained(&mut self) -> anyhow::Result<()> {
        let index = self.clients.len();
        let profile = Profile {
            v5: true,
            lives: Lives::Connection,
            publishing: None,
            subscribes: vec![("r/#".to_owned(), 1)],
            will: None,
            keep_alive: 20,
            receive_maximum: 1_000,
            answers_ms: (0, 0),
            leaves_per_million: [0; 3],
            away_ms: (0, 0),
            first_ms: (0, 0),
            gives_up_per_mille: 0,
            reader: true,
        };
        self.plan.clients.push(profile.clone());
        let mut client = Client::new(index, profile, Dice::new(self.seed, "last reader"));
        client.calm_down(self.now);
        self.clients.push(client);
        let end = self.now + 2_000;
        while self.now < end {
            self.step()?;
        }
        Ok(())
    }

    fn stop_all(&mut self) -> anyhow::Result<()> {
        let owner = if self.plan.entry == Entry::Forces { self.newest() } else { self.serving() };
        for (number, host) in self.hosts.iter().enumerate() {
            let Some(host) = host else { continue };
            // Those that wait for the shards wait for ever.
            if Some(number) == owner || self.plan.entry != Entry::Forces && host.phase() == Phase::Opening {
                host.stop();
            } else {
                self.failures.push(format!(
                    "broker {} is still there although another one has taken its shards: {:?}",
                    host.name,
                    host.phase()
                ));
            }
        }
        self.coming.clear();
        let began = self.now;
        while self.hosts.iter().any(Option::is_some) && self.now < began + STOP_MAX_MS {
            self.now += STEP_MS;
            reality::set_now_ms(self.now);
            self.run_hosts(true);
        }
        if self.hosts.iter().any(Option::is_some) {
            self.failures.push(format!("a broker that was told to stop is still there after {STOP_MAX_MS} ms"));
        }
        Ok(())
    }

    fn newest(&self) -> Option<usize> {
        self.hosts.iter().rposition(Option::is_some)
    }

    /// Whom a blow hits: who serves, and of those that force their way the newest.
    fn victim(&self) -> Option<usize> {
        if self.plan.entry == Entry::Forces { self.newest() } else { self.serving().or(self.newest()) }
    }

    /// Who takes new connections: the newest that serves.
    fn serving(&self) -> Option<usize> {
        self.hosts.iter().rposition(|host| host.as_ref().is_some_and(|host| host.phase() == Phase::Serving))
    }

    fn step(&mut self) -> anyhow::Result<()> {
        self.now += self.step_ms;
        let now = self.now;
        reality::set_now_ms(now);
        self.bucket.step(now);
        self.wires.retain(|wire| !wire.is_dead());
        for wire in &self.wires {
            wire.step(now);
        }
        for (_, coming) in self.coming.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>() {
            self.happen(coming)?;
        }
        for index in 0..self.clients.len() {
            if self.clients[index].wants_connection(now) {
                self.connect(index);
            }
            let Self { clients, history, trace, .. } = self;
            clients[index].step(&mut Around { now, history, trace });
        }
        self.run_hosts(false);
        Ok(())
    }

    fn connect(&mut self, index: usize) {
        let now = self.now;
        let Some(host) = self.serving() else { return self.clients[index].not_taken(now) };
        self.connections += 1;
        let dice = Dice::new(self.network.next(), "connection");
        let (wire, end) = Wire::new(self.plan.network, dice);
        let taken = self.hosts[host].as_mut().and_then(|broker| broker.take(&wire, end));
        if taken.is_none() {
            return self.clients[index].not_taken(now);
        }
        self.wires.push(wire.clone());
        let Self { clients, history, trace, .. } = self;
        clients[index].connect(wire, host, &mut Around { now, history, trace });
    }

    fn run_hosts(&mut self, stopping: bool) {
        let newest = self.newest();
        for number in 0..self.hosts.len() {
            let Some(host) = &mut self.hosts[number] else { continue };
            host.run();
            match host.phase() {
                Phase::Serving if !self.up[number] => {
                    self.up[number] = true;
                    self.trace.note(format_args!("{} serves", host.name));
                    self.history.add(self.now, Event::Up { host: number, started: host.owns_since() });
                }
                Phase::GaveWay => {
                    let member = host.member;
                    self.trace.note(format_args!("{} gave way", host.name));
                    self.over(number);
                    if !stopping {
                        self.coming.push((self.now + RESTART_MS, Coming::Start(Newcomer::Again(member))));
                    }
                }
                Phase::Over(why) => {
                    let member = host.member;
                    self.trace.note(format_args!("{} is over: {why:?}", host.name));
                    if stopping && why.is_some() {
                        self.failures.push(format!("{} did not stop well: {why:?}", host.name));
                    }
                    self.over(number);
                    if !stopping && (newest == Some(number) || self.plan.entry != Entry::Forces) {
                        self.coming.push((self.now + RESTART_MS, Coming::Start(Newcomer::After(member))));
                    }
                }
                _ => {}
            }
        }
    }

    /// A broker has ended by itself.
    fn over(&mut self, number: usize) {
        if let Some(mut host) = self.hosts[number].take() {
            host.crash(false);
            self.history.add(self.now, Event::Down { host: number });
        }
    }

    /// A broker dies; another one starts after `down_ms`.
    fn crash(&mut self, number: usize, silent: bool, down_ms: u64) {
        if let Some(mut host) = self.hosts[number].take() {
            host.crash(silent);
            self.history.add(self.now, Event::Down { host: number });
            self.coming.push((self.now + down_ms, Coming::Start(Newcomer::After(host.member))));
        }
    }

    fn start(&mut self, newcomer: Newcomer) -> anyhow::Result<()> {
        let member = match newcomer {
            Newcomer::Again(member) => member,
            Newcomer::After(member) if self.plan.keeps_name => member,
            Newcomer::After(_) | Newcomer::Rival => {
                self.members += 1;
                self.members
            }
        };
        let entry = match (self.plan.entry, newcomer) {
            // A person insists once.
            (Entry::Asks(Takeover::Always), Newcomer::After(_) | Newcomer::Again(_)) => Entry::Asks(Takeover::New),
            (entry, _) => entry,
        };
        let name = Name { number: self.hosts.len(), member, entry };
        self.hosts.push(Some(Host::start(name, self.bucket.clone(), self.setup, self.trace.clone())?));
        self.up.push(false);
        self.set_clock(self.hosts.len() - 1);
        Ok(())
    }

    /// Sets the clock of a machine to something, where they differ.
    fn set_clock(&mut self, number: usize) {
        let (Some(_), Some(host)) = (&self.plan.clocks, &mut self.hosts[number]) else { return };
        let drawn = Dice::new(self.seed, &format!("clock {number} {}", self.now)).between((0, 2 * SKEW_SECONDS));
        host.skew_seconds = drawn as i64 - SKEW_SECONDS as i64;
        self.trace.note(format_args!("{}: its clock is set {} s ahead", host.name, host.skew_seconds));
    }

    fn happen(&mut self, coming: Coming) -> anyhow::Result<()> {
        match coming {
            Coming::Start(newcomer) => self.start(newcomer)?,
            Coming::Clocks => {
                for number in 0..self.hosts.len() {
                    self.set_clock(number);
                }
            }
            Coming::Unblock(number) => {
                if let Some(host) = &self.hosts[number] {
                    self.trace.note(format_args!("{} has its way to the bucket again", host.name));
                    host.road.block(false);
                }
            }
            Coming::Move(number) => {
                if self.serving().is_none_or(|serving| serving == number) && self.hosts[number].is_some() {
                    self.coming.push((self.now + 50, coming));
                    return Ok(());
                }
                let Self { clients, history, trace, now, .. } = self;
                for client in clients.iter_mut().filter(|client| client.is_at(number)) {
                    client.cut(&mut Around { now: *now, history, trace });
                }
            }
            Coming::Blow(blow) => self.strike(blow),
        }
        Ok(())
    }

    fn strike(&mut self, blow: Blow) {
        // Between two brokers there is nobody to strike.
        let Some(victim) = self.victim() else { return };
        self.trace.note(format_args!("{blow:?}"));
        match blow {
            Blow::Crash { silent, down_ms } => {
                self.crash(victim, silent, down_ms + 1);
            }
            Blow::Stop => {
                // Started again when it is over.
                if let Some(host) = &self.hosts[victim] {
                    host.stop();
                }
            }
            Blow::Rival { cut_off_ms, back_ms, move_clients } => {
                let start = self.now + cut_off_ms.unwrap_or(0) + 1;
                if let (Some(host), Some(_)) = (&self.hosts[victim], cut_off_ms) {
                    host.road.block(true);
                    self.coming.push((start + back_ms, Coming::Unblock(victim)));
                }
                self.coming.push((start, Coming::Start(Newcomer::Rival)));
                if move_clients {
                    self.coming.push((start, Coming::Move(victim)));
                }
            }
        }
    }
}
