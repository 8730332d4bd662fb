//! `bucketmq sub`.

use std::collections::HashMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use bucketmq_packet::topic::{check_filter, matches};
use bucketmq_packet::{
    Ack, Packet, PacketIdentifier, PacketType, ProtocolVersion, Publish, QoS, ReasonCode, RetainHandling, Subscribe, SubscriptionOptions,
    Unsubscribe,
};
use tokio::time::{Instant, sleep, sleep_until};

use super::connection::Connection;
use super::error::ClientError;
use super::format::Format;
use super::local_time::LocalTime;
use super::message::{Incoming, Message};
use super::options::{ConnectionOptions, Settings, qos};
use super::properties::Target;

/// Between attempts to connect again: the first wait, and the longest.
const RECONNECT_DELAY: Duration = Duration::from_millis(500);
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(30);

/// Subscribe to topics and print what comes
#[derive(Debug, Clone, clap::Args)]
#[command(
    disable_help_flag = true,
    disable_version_flag = true,
    after_help = "A connection that is lost is made again. Exit codes: 0, with -C when so many have come; 27 after -W; the Reason Code where \
                  the server refused; otherwise as mosquitto_sub.\n\nFields of -F: %t topic, %p payload, %x %X payload in hex, %l its length, %q QoS, %r retain, %m packet \
                  identifier, %j %J JSON, %U Unix time, %I ISO 8601 time; MQTT 5: %A topic alias, %C content type, %D correlation data, %E \
                  message expiry, %F payload format indicator, %P user properties, %R response topic, %S subscription identifiers; @Y and \
                  others: parts of the time as strftime has them, @N nanoseconds; \\n and others: control characters."
)]
pub struct SubArgs {
    /// Topic Filter to subscribe to; may be repeated
    #[arg(short, long = "topic", value_name = "FILTER", required_unless_present_any = ["unsubscribe", "url"])]
    topics: Vec<String>,
    /// Do not print topics that match; may be repeated
    #[arg(short = 'T', long, value_name = "FILTER")]
    filter_out: Vec<String>,
    /// Unsubscribe from this Topic Filter of the Session; may be repeated
    #[arg(short = 'U', long, value_name = "FILTER")]
    unsubscribe: Vec<String>,
    /// Highest Quality of Service to receive
    #[arg(short, long, default_value = "0", value_parser = qos)]
    qos: QoS,
    /// Leave after this many messages
    #[arg(short = 'C', value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Leave after this many seconds, connecting included, with exit code 27
    #[arg(short = 'W', value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    wait: Option<u64>,
    /// Leave as soon as the server has acknowledged the Subscriptions
    #[arg(short = 'E')]
    exit_after_subscribing: bool,
    /// Do not print messages that were retained
    #[arg(short = 'R', conflicts_with = "retained_only")]
    no_retained: bool,
    /// Print messages that were retained and leave at the first that was not
    #[arg(long)]
    retained_only: bool,
    /// Clear each retained message that comes and is not filtered out by -T
    #[arg(long)]
    remove_retained: bool,
    /// Receive RETAIN as the publisher set it, MQTT 5 only
    #[arg(long)]
    retain_as_published: bool,
    /// Do not receive what this client publishes itself, MQTT 5 only
    #[arg(long)]
    no_local: bool,
    /// Retained messages: always, new (only for a new Subscription) or never, MQTT 5 only
    #[arg(long, value_name = "WHEN", default_value = "always", value_parser = retain_handling)]
    retain_handling: RetainHandling,
    /// Print only this percentage of the messages
    #[arg(long, value_name = "PERCENT", default_value_t = 100.0)]
    random_filter: f64,
    /// Print by this format, see below
    #[arg(short = 'F', value_name = "FORMAT", conflicts_with_all = ["verbose", "json"])]
    format: Option<Format>,
    /// Print a JSON object for each message, as -F %j
    #[arg(long, conflicts_with = "verbose")]
    json: bool,
    /// JSON on several lines
    #[arg(long)]
    pretty: bool,
    /// Print the topic before the payload
    #[arg(short, long)]
    verbose: bool,
    /// No end of line after a message
    #[arg(short = 'N')]
    no_newline: bool,
    #[command(flatten)]
    connection: ConnectionOptions,
}

impl SubArgs {
    /// Does it. The exit code says how it went.
    pub fn run(self) -> ExitCode {
        super::run(self.connection.quiet, async {
            let settings = self.connection.settle(&[Target::Subscribe, Target::Unsubscribe])?;
            let topics: Vec<String> = self.topics.iter().chain(&settings.topic).cloned().collect();
            for filter in topics.iter().chain(&self.unsubscribe).chain(&self.filter_out) {
                check_filter(filter).map_err(|error| ClientError::Usage(format!("{filter}: {error}")))?;
            }
            if topics.is_empty() && self.unsubscribe.is_empty() {
                return Err(ClientError::Usage("no topic: give one by -t, or in the URL of -L".to_owned()));
            }
            let v5_options = self.retain_as_published || self.no_local || self.retain_handling != RetainHandling::SendAtSubscribe;
            if v5_options && settings.version != ProtocolVersion::V5 {
                let problem = "--retain-as-published, --no-local and --retain-handling are for MQTT 5 only: leave out -V";
                return Err(ClientError::Usage(problem.to_owned()));
            }
            Subscriber::new(&self, topics, &settings).run().await
        })
    }

    fn format(&self) -> Format {
        match (&self.format, self.json, self.verbose) {
            (Some(format), ..) => format.clone(),
            (None, true, _) => Format::json(),
            (None, false, true) => Format::verbose(),
            (None, false, false) => Format::payload(),
        }
    }
}

fn retain_handling(text: &str) -> Result<RetainHandling, String> {
    match text {
        "always" => Ok(RetainHandling::SendAtSubscribe),
        "new" => Ok(RetainHandling::SendIfNew),
        "never" => Ok(RetainHandling::DoNotSend),
        _ => Err("expected always, new or never".to_owned()),
    }
}

/// What a command does and has seen, over all its connections.
struct Subscriber<'a> {
    args: &'a SubArgs,
    topics: Vec<String>,
    settings: &'a Settings,
    format: Format,
    out: io::BufWriter<io::Stdout>,
    printed: u64,
    /// QoS 2 messages before their PUBREL.
    unreleased: HashMap<PacketIdentifier, Message>,
    /// Answers that are to come on this connection.
    awaited: usize,
}

/// Whether to go on after a packet.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    Leave,
}

impl<'a> Subscriber<'a> {
    fn new(args: &'a SubArgs, topics: Vec<String>, settings: &'a Settings) -> Self {
        Self {
            args,
            topics,
            settings,
            format: args.format(),
            out: io::BufWriter::new(io::stdout()),
            printed: 0,
            unreleased: HashMap::new(),
            awaited: 0,
        }
    }

    async fn run(mut self) -> Result<(), ClientError> {
        let deadline = self.args.wait.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        // A server that does not answer must not hold up who waits for so long only.
        let mut connection = tokio::select! {
            opened = Connection::open(self.settings) => opened?,
            () = until(deadline) => return Err(ClientError::TimedOut),
        };
        let mut delay = RECONNECT_DELAY;
        let mut stop = Stop::new()?;
        loop {
            let started = Instant::now();
            let ended = tokio::select! {
                ended = self.serve(&mut connection) => ended,
                () = stop.asked() => Ok(()),
                () = until(deadline) => Err(ClientError::TimedOut),
            };
            match ended {
                Ok(()) => return connection.close(self.settings).await,
                Err(ClientError::TimedOut) => {
                    connection.close(self.settings).await.ok();
                    return Err(ClientError::TimedOut);
                }
                // Whoever reads our output has seen enough, as `head` does.
                Err(ClientError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => return connection.close(self.settings).await,
                Err(error) if error.is_passing() => self.tell(&error),
                Err(error) => return Err(error),
            }
            if started.elapsed() > RECONNECT_DELAY_MAX {
                delay = RECONNECT_DELAY;
            }
            connection = tokio::select! {
                opened = self.reconnect(&mut delay) => opened?,
                () = stop.asked() => return Ok(()),
                () = until(deadline) => return Err(ClientError::TimedOut),
            };
        }
    }

    /// Tries until it succeeds or there is no point in it.
    async fn reconnect(&self, delay: &mut Duration) -> Result<Connection, ClientError> {
        loop {
            sleep(*delay).await;
            *delay = (*delay * 2).min(RECONNECT_DELAY_MAX);
            match Connection::open(self.settings).await {
                Err(error) if error.is_passing() => self.tell(&error),
                opened => return opened,
            }
        }
    }

    fn tell(&self, error: &ClientError) {
        if !self.args.connection.quiet {
            eprintln!("Warning: {error}; connecting again");
        }
    }

    /// Subscribes and prints until there is a reason to leave.
    async fn serve(&mut self, connection: &mut Connection) -> Result<(), ClientError> {
        if !connection.granted.session_present {
            self.unreleased.clear();
        }
        self.request(connection);
        loop {
            while let Some(incoming) = connection.buffered()? {
                if self.handle(incoming, connection)? == Next::Leave {
                    self.out.flush()?;
                    return connection.flush().await;
                }
            }
            self.out.flush()?;
            connection.flush().await?;
            connection.wait().await?;
        }
    }

    fn request(&mut self, connection: &mut Connection) {
        const SUBSCRIBE: PacketIdentifier = PacketIdentifier::new(1).expect("not 0");
        const UNSUBSCRIBE: PacketIdentifier = PacketIdentifier::new(2).expect("not 0");
        let SubArgs { qos, no_local, retain_as_published, retain_handling, .. } = *self.args;
        let options = SubscriptionOptions { qos, no_local, retain_as_published, retain_handling };
        let given = self.settings.properties.of(Target::Subscribe);
        self.awaited = 0;
        if !self.topics.is_empty() {
            self.awaited += 1;
            connection.queue(&Packet::Subscribe(Subscribe {
                packet_id: SUBSCRIBE,
                subscription_identifier: given.number("subscription-identifier"),
                user_properties: given.user(),
                filters: self.topics.iter().map(|filter| (filter.as_str(), options)).collect(),
            }));
        }
        if !self.args.unsubscribe.is_empty() {
            self.awaited += 1;
            let given = self.settings.properties.of(Target::Unsubscribe);
            connection.queue(&Packet::Unsubscribe(Unsubscribe {
                packet_id: UNSUBSCRIBE,
                filters: self.args.unsubscribe.iter().map(String::as_str).collect(),
                user_properties: given.user(),
            }));
        }
    }

    fn handle(&mut self, incoming: Incoming, connection: &mut Connection) -> Result<Next, ClientError> {
        match incoming {
            Incoming::Message(message) => match (message.qos, message.packet_id) {
                (QoS::AtLeastOnce, Some(id)) => {
                    connection.queue(&Packet::PubAck(Ack::success(id)));
                    return self.take(message, connection);
                }
                (QoS::ExactlyOnce, Some(id)) => {
                    connection.queue(&Packet::PubRec(Ack::success(id)));
                    self.unreleased.insert(id, message);
                }
                _ => return self.take(message, connection),
            },
            Incoming::Ack(PacketType::PubRel, id, _) => {
                // [MQTT-4.3.3-11] Also for one that is not known (any more).
                connection.queue(&Packet::PubComp(Ack::success(id)));
                if let Some(message) = self.unreleased.remove(&id) {
                    return self.take(message, connection);
                }
            }
            Incoming::Answer(packet_type, reason_codes, reason_string) => {
                self.awaited = self.awaited.saturating_sub(1);
                self.check(packet_type, &reason_codes, reason_string)?;
                let nothing_to_come = self.topics.is_empty() && self.settings.clean_start;
                if self.awaited == 0 && (self.args.exit_after_subscribing || nothing_to_come) {
                    return Ok(Next::Leave);
                }
            }
            _ => {}
        }
        Ok(Next::GoOn)
    }

    /// Refused Subscriptions are told; when none is left that is the end.
    fn check(&self, packet_type: PacketType, reason_codes: &[ReasonCode], reason_string: Option<String>) -> Result<(), ClientError> {
        if packet_type != PacketType::SubAck {
            return Ok(());
        }
        let refused = |(_, code): &(&String, &ReasonCode)| code.is_error();
        let Some((_, first)) = self.topics.iter().zip(reason_codes).find(refused) else { return Ok(()) };
        if reason_codes.iter().all(|code| code.is_error()) {
            return Err(ClientError::Denied { what: "all subscriptions were refused", reason_code: *first, reason_string });
        }
        for (filter, reason_code) in self.topics.iter().zip(reason_codes).filter(refused) {
            if !self.args.connection.quiet {
                eprintln!("Warning: subscription to {filter} was refused: {reason_code}");
            }
        }
        Ok(())
    }

    /// Prints a message unless an option keeps it back.
    fn take(&mut self, message: Message, connection: &mut Connection) -> Result<Next, ClientError> {
        let args = self.args;
        if args.filter_out.iter().any(|filter| matches(filter, &message.topic)) {
            return Ok(Next::GoOn);
        }
        if args.retained_only && !message.retain {
            return Ok(Next::Leave);
        }
        if args.remove_retained && message.retain && !message.payload.is_empty() {
            connection.queue(&Packet::Publish(Publish {
                dup: false,
                qos: QoS::AtMostOnce,
                retain: true,
                topic: &message.topic,
                packet_id: None,
                properties: Default::default(),
                payload: b"",
            }));
        }
        let kept_back = (args.no_retained && message.retain) || rand::random_range(0.0..100.0) >= args.random_filter;
        if kept_back {
            return Ok(Next::GoOn);
        }
        match self.format.render(&message, LocalTime::now(), args.pretty) {
            Some(line) => self.out.write_all(&line)?,
            None => {
                eprintln!("Error: the payload on topic {} is not JSON", message.topic);
                return Ok(Next::GoOn);
            }
        }
        if !args.no_newline {
            self.out.write_all(b"\n")?;
        }
        self.printed += 1;
        Ok(if args.count == Some(self.printed) { Next::Leave } else { Next::GoOn })
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Ctrl-C, or SIGTERM.
struct Stop(tokio::signal::unix::Signal, tokio::signal::unix::Signal);

impl Stop {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self(signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}
