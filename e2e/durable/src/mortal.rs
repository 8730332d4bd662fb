//! A Client that has a Will and never says DISCONNECT: whenever its connection ends, its Will is due.

use std::time::{Duration, Instant};

use bucketmq_packet::QoS;
use rand::Rng;
use rand::rngs::StdRng;

use crate::history::{Message, What};
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
    random: StdRng,
}

impl Mortal {
    /// Its Wills go to `wills`.
    pub fn new(client: Client, wills: Outlet) -> Self {
        let random = client.scene.random(client.number);
        Self { client, wills, random }
    }

    /// Lives and dies until there is no load any more.
    pub fn run(mut self) {
        while self.client.scene.hour() == Hour::Load {
            let message = Message { stream: self.wills.stream, number: self.wills.next };
            let will = Testament { topic: self.wills.topic.to_string(), payload: payload(message), qos: self.wills.qos };
            // It may have been taken by a broker that died before it could say so.
            self.wills.next += 1;
            let Some((mut link, _)) = self.client.connect(Some(&will)) else { continue };
            let gone = self.live(&mut link, message).err().unwrap_or_else(|| Gone("dies".to_owned()));
            self.client.record(What::Due(message));
            drop(link);
            self.client.gone(&gone);
            std::thread::sleep(AWAY.mul_f64(self.random.random()));
        }
    }

    /// Ok: it is time to die.
    fn live(&mut self, link: &mut Link, will: Message) -> Result<(), Gone> {
        // The Will rests in the batch its SUBACK waits for, or in an earlier one.
        let filter = format!("own/{}", self.client.identity.client_id);
        link.subscribe([filter.as_str()], QoS::AtLeastOnce)?;
        let until = Instant::now() + STAY.mul_f64(self.random.random());
        while Instant::now() < until && self.client.scene.hour() == Hour::Load {
            match link.next(LOOK)? {
                Some(Came::Subscribed(_)) => {
                    self.client.record(What::Subscribed { filter: filter.as_str().into(), qos: 1 });
                    self.client.record(What::Armed(will));
                    self.client.owed = true;
                }
                Some(came) => return Err(Gone(format!("{came:?}"))),
                None => {}
            }
        }
        Ok(())
    }
}
