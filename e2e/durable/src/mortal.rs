//! A Client that has a Will and never says DISCONNECT: whenever its connection ends, its Will is due.

use std::time::{Duration, Instant};

use bucketmq_packet::QoS;
use rand::Rng;
use rand::rngs::StdRng;

use crate::history::{Event, Message, What};
use crate::link::{Came, Gone, Link, Testament};
use crate::publisher::payload;
use crate::scene::{Client, Hour, Outlet};

/// How long it sleeps before it looks what hour it is.
const LOOK: Duration = Duration::from_millis(50);
/// It stays for up to so long, and is away for up to so long.
const STAY: Duration = Duration::from_secs(5);
const AWAY: Duration = Duration::from_secs(1);

/// A Client with a Will.
pub struct Mortal {
    client: Client,
    wills: Outlet,
    /// Seconds its Wills wait.
    delay: u32,
    random: StdRng,
}

impl Mortal {
    /// Its Wills go to `wills`, so many seconds after its connections end.
    pub fn new(client: Client, wills: Outlet, delay: u32) -> Self {
        let random = client.scene.random(client.number);
        Self { client, wills, delay, random }
    }

    /// Lives and dies until there is no load any more.
    pub fn run(mut self) {
        while self.client.scene.hour() == Hour::Load {
            let message = Message { stream: self.wills.stream, number: self.wills.next };
            let (topic, payload) = (self.wills.topic.to_string(), payload(message));
            let will = Testament { topic, payload, qos: self.wills.qos, delay: self.delay };
            // It may have been taken by a broker that died before it could say so.
            self.wills.next += 1;
            let Some((mut link, _)) = self.client.connect(Some(&will)) else { continue };
            let mut is_armed = false;
            let gone = self.live(&mut link, message, &mut is_armed).err().unwrap_or_else(|| Gone("dies".to_owned()));
            // Where a broker may be frozen another one may have seen the end long before.
            let delay = if self.client.scene.silence.is_some() { 0 } else { self.delay };
            self.client.record(What::Due { message, delay });
            drop(link);
            self.client.gone(&gone);
            if is_armed && self.delay > 0 {
                self.wait_for(message);
            }
            std::thread::sleep(AWAY.mul_f64(self.random.random()));
        }
    }

    /// Whoever comes back before the delay is over takes its Will back [MQTT-3.1.3-9].
    fn wait_for(&self, will: Message) {
        let mut seen = 0;
        let comes = |event: &Event| matches!(event.what, What::Arrived { message, .. } if message == will);
        while self.client.scene.hour() == Hour::Load {
            let has_come = self.client.scene.recorder.read(|history| {
                let since = std::mem::replace(&mut seen, history.events.len());
                history.events[since..].iter().any(comes)
            });
            if has_come {
                return;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Ok: it is time to die.
    fn live(&mut self, link: &mut Link, will: Message, is_armed: &mut bool) -> Result<(), Gone> {
        // The Will rests in the batch its SUBACK waits for, or in an earlier one.
        let filter = format!("own/{}", self.client.identity.client_id);
        link.subscribe([filter.as_str()], QoS::AtLeastOnce)?;
        let until = Instant::now() + STAY.mul_f64(self.random.random());
        while Instant::now() < until && self.client.scene.hour() == Hour::Load {
            match link.next(LOOK)? {
                Some(Came::Subscribed(_)) => {
                    self.client.record(What::Subscribed { filter: filter.as_str().into(), qos: 1 });
                    self.client.record(What::Armed(will));
                    *is_armed = true;
                    self.client.owed = true;
                }
                Some(came) => return Err(Gone(format!("{came:?}"))),
                None => {}
            }
            self.client.listens(link)?;
        }
        Ok(())
    }
}
