//! rumqttc on one job: see `src/job.rs` for what the job says and what is answered. Its modules for 3.1.1 and 5.0 have the same shape and different
//! types, so one macro writes both drivers.

use std::time::Duration;

use anyhow::{Context, bail};
use bucketmq_e2e_clients::{Event, Job, Received, Role, Version};
use rumqttc::{TlsConfiguration, Transport};

/// Messages on their way at a time.
const WINDOW: u16 = 20;

fn main() -> anyhow::Result<()> {
    let job: Job = serde_json::from_str(&std::env::args().nth(1).context("expected a job")?)?;
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    match job.version {
        Version::V5 => v5::run(&job),
        _ => v3::run(&job),
    }
}

fn say(event: &Event) {
    println!("{}", serde_json::to_string(event).expect("events are JSON"));
}

fn transport(job: &Job) -> anyhow::Result<Transport> {
    Ok(match (&job.ca, &job.cert, &job.key) {
        (Some(ca), cert, key) => Transport::Tls(TlsConfiguration::Simple {
            ca: std::fs::read(ca)?,
            alpn: None,
            client_auth: match (cert, key) {
                (Some(cert), Some(key)) => Some((std::fs::read(cert)?, std::fs::read(key)?)),
                _ => None,
            },
        }),
        _ => Transport::Tcp,
    })
}

fn payloads(job: &Job) -> Vec<String> {
    job.payload.clone().map_or_else(|| (0..job.count).map(|number| number.to_string()).collect(), |payload| vec![payload])
}

/// What is left to do until the client may leave.
struct Progress {
    /// Acknowledgements (or, at QoS 0, packets sent) that are to come.
    unacknowledged: usize,
    received: usize,
    subscribed: bool,
}

impl Progress {
    fn is_done(&self, job: &Job) -> bool {
        match job.role {
            Role::Publish => self.unacknowledged == 0,
            Role::Subscribe => self.subscribed && self.received >= job.count,
        }
    }
}

macro_rules! driver {
    ($module:ident, $($rumqttc:ident)::+, $packet:path, $qos:path, $options:expr) => {
        mod $module {
            use $packet as Packet;
            use $qos as QoS;
            use $($rumqttc)::+::{Client, Event as Notification};

            use super::*;

            fn qos(number: u8) -> QoS {
                match number {
                    0 => QoS::AtMostOnce,
                    1 => QoS::AtLeastOnce,
                    _ => QoS::ExactlyOnce,
                }
            }

            pub fn run(job: &Job) -> anyhow::Result<()> {
                let (client, mut connection) = Client::new($options(job, qos)?, 100);
                let mut progress = Progress { unacknowledged: payloads(job).len(), received: 0, subscribed: false };
                let mut is_leaving = false;
                loop {
                    // A job that is done stays for as long as it was asked to, and takes what comes meanwhile.
                    let wait = if progress.is_done(job) { Duration::from_millis(job.linger_ms.max(1)) } else { Duration::from_secs(120) };
                    let Ok(notification) = connection.recv_timeout(wait) else {
                        if !progress.is_done(job) {
                            bail!("nothing came");
                        }
                        client.try_disconnect()?;
                        is_leaving = true;
                        continue;
                    };
                    match notification {
                        Ok(Notification::Outgoing(rumqttc::Outgoing::Disconnect)) => return Ok(()),
                        Ok(Notification::Outgoing(rumqttc::Outgoing::Publish(0))) => progress.unacknowledged -= 1,
                        Ok(Notification::Incoming(packet)) => handle(job, &client, &mut progress, &packet)?,
                        Ok(_) => {}
                        Err(_) if is_leaving => return Ok(()),
                        Err(error) => bail!("{error}"),
                    }
                }
            }

            fn handle(job: &Job, client: &Client, progress: &mut Progress, packet: &Packet) -> anyhow::Result<()> {
                match packet {
                    Packet::ConnAck(connack) => {
                        say(&Event::Connected { session_present: Some(connack.session_present) });
                        match job.role {
                            Role::Publish => {
                                let (client, job) = (client.clone(), job.clone());
                                std::thread::spawn(move || {
                                    for payload in payloads(&job) {
                                        client.publish(job.topic.clone(), qos(job.qos), job.retain, payload).expect("the connection is there");
                                    }
                                });
                            }
                            Role::Subscribe => client.subscribe(job.topic.clone(), qos(job.qos))?,
                        }
                    }
                    Packet::SubAck(_) => {
                        say(&Event::Subscribed);
                        progress.subscribed = true;
                    }
                    Packet::PubAck(_) | Packet::PubComp(_) => progress.unacknowledged -= 1,
                    Packet::Publish(publish) => {
                        progress.received += 1;
                        let payload = String::from_utf8_lossy(&publish.payload).into_owned();
                        say(&Event::Message(Received { payload, qos: publish.qos as u8, retain: publish.retain }));
                    }
                    _ => {}
                }
                Ok(())
            }
        }
    };
}

driver!(v3, rumqttc, rumqttc::Packet, rumqttc::QoS, |job: &Job, qos: fn(u8) -> rumqttc::QoS| -> anyhow::Result<_> {
    let mut options = rumqttc::MqttOptions::new(&job.client_id, &job.host, job.port);
    options.set_clean_session(job.clean).set_inflight(WINDOW).set_transport(transport(job)?);
    if let Some(will) = &job.will {
        options.set_last_will(rumqttc::LastWill::new(&will.topic, will.payload.as_bytes(), qos(will.qos), will.retain));
    }
    Ok(options)
});

driver!(v5, rumqttc::v5, rumqttc::v5::mqttbytes::v5::Packet, rumqttc::v5::mqttbytes::QoS, |job: &Job,
                                                                                           qos: fn(u8) -> rumqttc::v5::mqttbytes::QoS|
 -> anyhow::Result<_> {
    let mut options = rumqttc::v5::MqttOptions::new(&job.client_id, &job.host, job.port);
    let expiry = if job.clean { 0 } else { 3600 };
    options.set_clean_start(job.clean).set_session_expiry_interval(Some(expiry));
    options.set_outgoing_inflight_upper_limit(WINDOW).set_transport(transport(job)?);
    if let Some(will) = &job.will {
        let will = rumqttc::v5::mqttbytes::v5::LastWill::new(&will.topic, will.payload.as_bytes(), qos(will.qos), will.retain, None);
        options.set_last_will(will);
    }
    Ok(options)
});
