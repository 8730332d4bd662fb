//! The scenarios; each makes one run and says what came of it.

mod connections;
pub(crate) mod flow;
pub(crate) mod offline;
mod retained;
mod soak;
mod storm;

use std::thread;

use crate::clients::{self, Client, Greeting};
use crate::options::{Kind, Options};
use crate::report::Report;
use crate::socket::Target;
use crate::tracking::Together;
use crate::wire;
use crate::worker::{Outcome, Progress, Worker};

/// Makes the run that the options ask for.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    match options.scenario {
        Kind::Connections => connections::run(options),
        Kind::FanIn => flow::run(options, flow::Shape::FanIn),
        Kind::FanOut => flow::run(options, flow::Shape::FanOut),
        Kind::Pairs => flow::run(options, flow::Shape::Pairs),
        Kind::Shared => flow::run(options, flow::Shape::Shared),
        Kind::Retained => retained::run(options),
        Kind::Offline => offline::run(options),
        Kind::Soak => soak::run(options),
        Kind::Storm => storm::run(options),
    }
}

/// Runs the workers, one on a thread of its own when there are two.
pub(crate) fn run_workers(workers: Vec<Worker>, progress: &Progress) -> anyhow::Result<Vec<Outcome>> {
    thread::scope(|scope| {
        let mut workers = workers.into_iter();
        let first = workers.next();
        let others: Vec<_> = workers.map(|worker| scope.spawn(|| worker.run(progress))).collect();
        let mut outcomes = Vec::new();
        outcomes.extend(first.map(|worker| worker.run(progress)).transpose()?);
        for other in others {
            outcomes.push(other.join().map_err(|_| anyhow::anyhow!("a thread of the generator panicked"))??);
        }
        Ok(outcomes)
    })
}

/// Client identifiers of this process; another generator beside it has other ones.
fn client_id(role: &str, number: usize) -> String {
    format!("load-{}-{role}-{number}", std::process::id())
}

/// Connections that will publish.
fn publishers(options: &Options, target: &Target, count: usize) -> anyhow::Result<Vec<Client>> {
    let target = Target { send_buffer: (options.send_buffer > 0).then_some(options.send_buffer), ..target.clone() };
    clients::establish(&target, count, options.connecting, |number| Greeting {
        connect: connect(options, &client_id("p", number), true),
        subscribe: None,
    })
}

/// A CONNECT as the options want it; Sessions that are not clean last an hour.
fn connect(options: &Options, client_id: &str, clean: bool) -> Vec<u8> {
    let session_expiry = if clean { 0 } else { 3600 };
    wire::Connect { version: options.protocol, client_id, clean, keep_alive: options.keep_alive, session_expiry, will: None }.encode()
}

/// The window to use where the broker grants `granted`.
fn window(options: &Options, default: u32, granted: u16) -> u32 {
    options.window.unwrap_or(default).clamp(1, u32::from(granted))
}

/// Messages sent by each source.
pub(crate) fn published(outcomes: &[Outcome]) -> Vec<u64> {
    let mut published = Vec::new();
    for publisher in outcomes.iter().flat_map(|outcome| &outcome.worker.publishers) {
        publisher.add_published(&mut published);
    }
    published
}

/// Enters lost, duplicated and reordered into a report.
pub(crate) fn judge(report: &mut Report, outcomes: &[Outcome], published: &[u64]) {
    use crate::subscriber::Tracking;
    let (mut lost, mut duplicated, mut reordered) = (0, 0, 0);
    let mut together: Option<Together> = None;
    for outcome in outcomes {
        for subscriber in &outcome.worker.subscribers {
            match &subscriber.tracking {
                Tracking::Nothing => return,
                Tracking::Ordered(seen) => {
                    lost += seen.lost(published);
                    duplicated += seen.duplicated;
                    reordered += seen.reordered;
                    if seen.strange > 0 {
                        report.failures.push(format!("{} messages nobody sent", seen.strange));
                    }
                }
                Tracking::Shared(seen) => {
                    reordered += seen.reordered;
                    together.get_or_insert_default();
                }
            }
        }
    }
    if let Some(mut together) = together {
        for outcome in outcomes {
            together.merge(&outcome.common.together);
        }
        lost += together.lost(published);
        duplicated += together.duplicated;
    }
    (report.lost, report.duplicated, report.reordered) = (Some(lost), Some(duplicated), Some(reordered));
}
