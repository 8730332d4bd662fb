//! A Session is there as long as it was promised, and no longer.

use super::{Connection, View};
use crate::history::End;
use crate::scenario::{Lives, Profile};

/// Times are rounded to seconds, and whoever looks for what is over looks four times a second.
const SLACK_MS: u64 = 1_300;
/// The same when the broker may have been busy with other things.
const LATE_MS: u64 = 4_000;

pub(super) fn check(view: &View<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    for (client, connections) in &view.connections {
        let profile = &view.profiles[*client];
        for (place, connection) in connections.iter().enumerate() {
            let Some((at, present, _)) = connection.accepted.filter(|_| !connection.clean) else { continue };
            let before = &connections[..place];
            let Some(last) = before.iter().rfind(|before| before.accepted.is_some()) else {
                continue;
            };
            let of_session: Vec<_> = before.iter().filter(|before| before.session == last.session).collect();
            let proven = of_session.iter().any(|before| before.proven);
            // An attempt that got no CONNACK may have been understood all the same, and the Session be as old as that.
            let attempts: Vec<_> = before.iter().filter(|before| before.asked >= last.asked).collect();
            if let Some(what) = judge(view, profile, &attempts, proven, present, connection.asked, at) {
                broken.push(format!("at {at} client {client}: {what}"));
            }
        }
    }
    broken
}

fn judge(view: &View<'_>, profile: &Profile, before: &[&Connection], proven: bool, present: bool, asked: u64, at: u64) -> Option<String> {
    let first = before.first()?;
    // Whoever lost its broker in silence learns it later than the next broker.
    let first_end = first.ended?.0.min(first.broker_lost(view, at));
    let last_end = before.iter().filter_map(|connection| Some(latest_end(profile, connection.ended?))).max()?;
    match profile.lives {
        Lives::Connection => None,
        Lives::Forever => (proven && !present).then(|| format!("its Session of {first_end} is gone")),
        Lives::Seconds(seconds) => {
            let life = u64::from(seconds) * 1_000;
            if !present && proven && at + SLACK_MS < first_end + life {
                return Some(format!("its Session is gone {} ms after {first_end}, it was to live {seconds} s", at - first_end));
            }
            // A Session that was connected when its broker died starts its clock when the next one opens.
            let opened = view.brokers.values().map(|broker| broker.started).filter(|started| *started <= asked).max().unwrap_or(0);
            let opened = if view.had_rivals(first_end, asked) { asked } else { opened + LATE_MS };
            let since = last_end.max(opened);
            (present && asked > since + life + LATE_MS)
                .then(|| format!("its Session is still there {} ms after {since}, it was to live {seconds} s", asked - since))
        }
    }
}

/// When the broker knew at the latest.
fn latest_end(profile: &Profile, (at, how): (u64, End)) -> u64 {
    match how {
        End::Goodbye => at + 500,
        // A Client that lost its machine's broker in silence: the next broker does not know more.
        End::Cut | End::Silence => at + u64::from(profile.keep_alive) * 1_500 + 2_000,
    }
}
