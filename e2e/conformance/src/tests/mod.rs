//! The tests, one file for each part of the protocol. Each file opens with the list of its tests and the statements they show.

use bucketmq_packet::ProtocolVersion;

use crate::outcome::Outcome;
use crate::run::Run;

/// Lists a file's tests: name, the statements it shows in 5.0 and in 3.1.1 (bare ids, without "MQTT-"), the hard areas it covers. It runs in
/// each version that is named; `v31[]` adds MQTT 3.1, which has no numbered statements.
macro_rules! tests {
    ($($name:ident $(v5[$($five:literal),*])? $(v3[$($three:literal),*])? $(area[$($area:literal),*])? $(v31[$($oldest:literal),*])?;)*) => {
        /// The tests of this file.
        pub(super) const TESTS: &[$crate::tests::Test] = &[$(
            $crate::tests::Test {
                name: stringify!($name),
                v5: tests!(@ids $([$($five),*])?),
                v3: tests!(@ids $([$($three),*])?),
                areas: &[$($($area),*)?],
                v31: tests!(@ids $([$($oldest),*])?).is_some(),
                run: $name,
            }
        ),*];
    };
    (@ids) => { None::<&'static [&'static str]> };
    (@ids [$($id:literal),*]) => { Some(&[$($id),*] as &'static [&'static str]) };
}

mod acknowledgements;
mod authentication;
mod connack;
mod connect;
mod disconnect;
mod enhanced;
mod expiry;
mod flow;
mod format;
mod keep_alive;
mod order;
mod properties;
mod publish;
mod qos_in;
mod qos_out;
mod restricted;
mod retained;
mod session;
mod shared;
mod subscribe;
mod takeover;
mod topic_alias;
mod topics;
mod unsubscribe;
mod websocket;
mod will;

/// A test and what it shows.
#[derive(Debug, Clone, Copy)]
pub struct Test {
    /// Unique over all files; reads as a sentence.
    pub name: &'static str,
    /// Statements of 5.0; `None`: does not run in 5.0.
    pub v5: Option<&'static [&'static str]>,
    /// Statements of 3.1.1; `None`: does not run in 3.1.1.
    pub v3: Option<&'static [&'static str]>,
    /// Hard areas.
    pub areas: &'static [&'static str],
    /// Runs in 3.1 too.
    pub v31: bool,
    /// The test.
    pub run: fn(&Run<'_>) -> Outcome,
}

impl Test {
    /// The statements shown in `version`; `None` if the test does not run there.
    pub fn shows(&self, version: ProtocolVersion) -> Option<&'static [&'static str]> {
        match version {
            ProtocolVersion::V5 => self.v5,
            ProtocolVersion::V3_1_1 => self.v3,
            ProtocolVersion::V3_1 => self.v31.then_some(&[]),
        }
    }
}

/// Every test, in the order of the files.
pub fn all() -> impl Iterator<Item = &'static Test> {
    [
        // What takes longest comes first, so that it is done when the rest is.
        restricted::TESTS,
        keep_alive::TESTS,
        expiry::TESTS,
        will::TESTS,
        session::TESTS,
        format::TESTS,
        connect::TESTS,
        connack::TESTS,
        takeover::TESTS,
        authentication::TESTS,
        enhanced::TESTS,
        publish::TESTS,
        properties::TESTS,
        qos_in::TESTS,
        qos_out::TESTS,
        acknowledgements::TESTS,
        order::TESTS,
        retained::TESTS,
        subscribe::TESTS,
        unsubscribe::TESTS,
        topics::TESTS,
        shared::TESTS,
        flow::TESTS,
        topic_alias::TESTS,
        disconnect::TESTS,
        websocket::TESTS,
    ]
    .into_iter()
    .flatten()
}
