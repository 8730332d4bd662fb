//! The options both commands have: where the Server is and who we are.

use std::net::IpAddr;
use std::path::PathBuf;

use bucketmq_access::authentication::Mechanism;
use bucketmq_packet::{ProtocolVersion, QoS};

use super::error::ClientError;
use super::properties::{Given, Properties, Target};
use super::tls::TlsOptions;
use super::url::Url;

/// Seconds, where nothing else is asked for.
const KEEP_ALIVE: u16 = 60;

/// Where a user name is looked for that the command line does not have, and a password.
const USERNAME_VARIABLE: &str = "BUCKETMQ_USERNAME";
/// See [`USERNAME_VARIABLE`].
const PASSWORD_VARIABLE: &str = "BUCKETMQ_PASSWORD";

/// `mosquitto_pub`'s and `mosquitto_sub`'s common options.
#[derive(Debug, Clone, clap::Args)]
pub struct ConnectionOptions {
    /// Host to connect to [default: localhost]
    #[arg(short = 'h', long, value_name = "HOST")]
    host: Option<String>,
    /// Port to connect to [default: 1883, with TLS 8883; with --ws 80 or 443]
    #[arg(short, long)]
    port: Option<u16>,
    /// Everything at once: mqtt(s)://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC, or ws(s)://
    #[arg(short = 'L', long, conflicts_with_all = ["host", "port", "unix"])]
    url: Option<Url>,
    /// Connect to this Unix socket
    #[arg(long, value_name = "PATH", conflicts_with_all = ["host", "port", "ws"])]
    unix: Option<PathBuf>,
    /// Accepted for mosquitto's sake: small packets are never held back
    #[arg(long, hide = true)]
    nodelay: bool,

    /// MQTT version: 5, 311 or 31 (mosquitto's tools speak 311 by default, these speak 5)
    #[arg(short = 'V', long, value_name = "VERSION", default_value = "5", value_parser = version)]
    protocol_version: ProtocolVersion,
    /// Client Identifier [default: the server chooses; before MQTT 5 a random one]
    #[arg(short, long, conflicts_with = "id_prefix")]
    id: Option<String>,
    /// Client Identifier: this prefix and the process id
    #[arg(short = 'I', long, value_name = "PREFIX")]
    id_prefix: Option<String>,
    /// Seconds between packets before the server gives us up; 0: it never does
    #[arg(short, long, value_name = "SECONDS", default_value_t = KEEP_ALIVE)]
    keepalive: u16,
    /// Resume the Session of the Client Identifier, and leave it behind at the end
    #[arg(short = 'c', long)]
    disable_clean_session: bool,
    /// Seconds the Session outlives the connection, MQTT 5 only; -1: for ever [default: 0, with -c -1]
    #[arg(short = 'x', long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = session_expiry)]
    session_expiry_interval: Option<u32>,
    #[command(flatten)]
    way: WayOptions,
    #[command(flatten)]
    will: WillOptions,
    #[command(flatten)]
    properties: Properties,

    /// Tell on stderr which packets come and go
    #[arg(short, long)]
    pub debug: bool,
    /// No messages about errors; the exit code tells
    #[arg(long)]
    pub quiet: bool,
    /// Print this help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// How a Server is reached and who asks: what everything that connects has.
#[derive(Debug, Clone, clap::Args)]
pub struct WayOptions {
    /// Speak over WebSocket, at this path of the HTTP server
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = "/mqtt", require_equals = true)]
    ws: Option<String>,
    /// Local address to connect from
    #[arg(short = 'A', value_name = "ADDRESS")]
    bind: Option<IpAddr>,
    /// User name [default: the environment variable BUCKETMQ_USERNAME]
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// Password. Others on this machine see it in the list of processes: the environment variable BUCKETMQ_PASSWORD keeps it to yourself; where
    /// BUCKETMQ_USERNAME is set too it is that user's only
    #[arg(short = 'P', long, value_name = "PASSWORD")]
    pw: Option<String>,
    /// Prove the password by this method without sending it, MQTT 5 only: SCRAM-SHA-256 or SCRAM-SHA-512
    #[arg(long, value_name = "METHOD", value_parser = super::super::passwd::mechanism)]
    auth_method: Option<Mechanism>,
    #[command(flatten)]
    tls: TlsOptions,
}

/// What the Server shall publish when we are lost.
#[derive(Debug, Clone, Default, clap::Args)]
struct WillOptions {
    /// Topic of the Will: what the server publishes when this connection is lost
    #[arg(long, value_name = "TOPIC")]
    will_topic: Option<String>,
    /// Payload of the Will [default: empty]
    #[arg(long, value_name = "PAYLOAD", requires = "will_topic")]
    will_payload: Option<String>,
    /// QoS of the Will
    #[arg(long, value_name = "QOS", requires = "will_topic", default_value = "0", value_parser = qos)]
    will_qos: QoS,
    /// Retain the Will
    #[arg(long, requires = "will_topic")]
    will_retain: bool,
}

/// Where to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Host and port.
    Tcp(String, u16),
    /// A socket's path.
    Unix(PathBuf),
}

/// The options with everything decided that they leave open.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the Server is.
    pub place: Place,
    /// Where to connect from.
    pub bind: Option<IpAddr>,
    /// None: plain.
    pub tls: Option<TlsOptions>,
    /// The path, for WebSocket.
    pub websocket: Option<String>,
    /// Spoken from CONNECT on.
    pub version: ProtocolVersion,
    /// May be empty.
    pub client_id: String,
    /// Seconds.
    pub keep_alive: u16,
    /// Start a new Session.
    pub clean_start: bool,
    /// Some only for 5.0.
    pub session_expiry_interval: Option<u32>,
    /// QoS 1 and 2 messages we take at a time; None: what `-D` says.
    pub receive_maximum: Option<u16>,
    /// User Name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<String>,
    /// To prove the password by, instead of sending it; then there are a user name and a password.
    pub auth_method: Option<Mechanism>,
    /// The Will.
    pub will: Option<WillSettings>,
    /// All of `-D`.
    pub properties: Properties,
    /// From the URL.
    pub topic: Option<String>,
    /// Tell of each packet.
    pub debug: bool,
}

/// A Will Message with its properties.
#[derive(Debug, Clone)]
pub struct WillSettings {
    /// Topic Name.
    pub topic: String,
    /// Application Message.
    pub payload: String,
    /// Quality of Service.
    pub qos: QoS,
    /// To be retained.
    pub retain: bool,
    /// From `-D WILL`.
    pub properties: Given,
}

impl ConnectionOptions {
    /// Those of a Client with a Session that ends with its connection.
    pub fn to(url: Url, way: WayOptions, protocol_version: ProtocolVersion, id: Option<String>, debug: bool) -> Self {
        Self {
            host: None,
            port: None,
            url: Some(url),
            unix: None,
            nodelay: false,
            protocol_version,
            id,
            id_prefix: None,
            keepalive: KEEP_ALIVE,
            disable_clean_session: false,
            session_expiry_interval: None,
            way,
            will: WillOptions::default(),
            properties: Properties::default(),
            debug,
            quiet: false,
            help: None,
        }
    }

    /// Decides what the options leave open, or says which contradict each other. `packets`: whose properties this command can send besides those
    /// of CONNECT, the Will and DISCONNECT.
    pub fn settle(&self, packets: &[Target]) -> Result<Settings, ClientError> {
        let version = self.protocol_version;
        let is_v5 = version == ProtocolVersion::V5;
        if !is_v5 && (!self.properties.is_empty() || self.session_expiry_interval.is_some()) {
            return Err(ClientError::Usage("-D and -x are for MQTT 5 only: leave out -V".to_owned()));
        }
        self.properties.only(&[&[Target::Connect, Target::Will, Target::Disconnect], packets].concat())?;
        let client_id = self.client_id();
        let session_expiry_interval = self
            .session_expiry_interval
            .or(self.properties.of(Target::Connect).number("session-expiry-interval"))
            .or(self.disable_clean_session.then_some(u32::MAX))
            .filter(|_| is_v5);
        if client_id.is_empty() && (self.disable_clean_session || session_expiry_interval == Some(u32::MAX)) {
            return Err(ClientError::Usage("a Session that lasts is found again by its Client Identifier: give one by -i".to_owned()));
        }
        let url = self.url.as_ref();
        let websocket = self.way.ws.clone().or_else(|| url.filter(|url| url.websocket).map(|_| "/mqtt".to_owned()));
        let asked_for_tls = self.way.tls.is_given() || url.is_some_and(|url| url.tls) || (self.port == Some(8883) && self.unix.is_none());
        let host = url.map(|url| url.host.clone()).or_else(|| self.host.clone()).unwrap_or_else(|| "localhost".to_owned());
        let port = url.and_then(|url| url.port).or(self.port).unwrap_or(match (asked_for_tls, websocket.is_some()) {
            (false, false) => 1883,
            (true, false) => 8883,
            (false, true) => 80,
            (true, true) => 443,
        });
        let (username, password) = Login {
            username: self.way.username.clone().or_else(|| url.and_then(|url| url.username.clone())),
            password: self.way.pw.clone().or_else(|| url.and_then(|url| url.password.clone())),
        }
        .or(Login { username: std::env::var(USERNAME_VARIABLE).ok(), password: std::env::var(PASSWORD_VARIABLE).ok() });
        // [3.1.1 MQTT-3.1.2-22]
        if password.is_some() && username.is_none() && !is_v5 {
            return Err(ClientError::Usage("before MQTT 5 a password needs a user name: give one by -u".to_owned()));
        }
        if self.way.auth_method.is_some() {
            if !is_v5 {
                return Err(ClientError::Usage("--auth-method is for MQTT 5 only: leave out -V".to_owned()));
            }
            if username.is_none() || password.is_none() {
                return Err(ClientError::Usage("--auth-method needs a user name and a password: give them by -u and -P".to_owned()));
            }
            let given = self.properties.of(Target::Connect);
            let given = given.connect();
            if given.authentication_method.is_some() || given.authentication_data.is_some() {
                return Err(ClientError::Usage("--auth-method sets what -D CONNECT would set: leave that out".to_owned()));
            }
        }
        Ok(Settings {
            place: self.unix.clone().map_or(Place::Tcp(host, port), Place::Unix),
            bind: self.way.bind,
            tls: asked_for_tls.then(|| self.way.tls.clone()),
            websocket,
            version,
            client_id,
            keep_alive: self.keepalive,
            clean_start: !self.disable_clean_session,
            session_expiry_interval,
            receive_maximum: None,
            username,
            password,
            auth_method: self.way.auth_method,
            will: self.will.settle(&self.properties)?,
            properties: self.properties.clone(),
            topic: url.and_then(|url| url.topic.clone()),
            debug: self.debug,
        })
    }

    fn client_id(&self) -> String {
        let process = std::process::id();
        match (&self.id, &self.id_prefix) {
            (Some(id), _) => id.clone(),
            (None, Some(prefix)) => format!("{prefix}{process}"),
            (None, None) if self.protocol_version == ProtocolVersion::V5 || self.disable_clean_session => String::new(),
            // 3.1 wants 1 to 23 characters.
            (None, None) => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                format!("bmq-{process:x}-{:x}", now.subsec_nanos())
            }
        }
    }
}

/// Who somebody says it is, as far as one place tells.
struct Login {
    username: Option<String>,
    password: Option<String>,
}

impl Login {
    /// What is not here, from the environment: but a password that stands there beside a name is of that name only.
    fn or(self, environment: Login) -> (Option<String>, Option<String>) {
        let known = environment.username.filter(|name| !name.is_empty());
        let username = self.username.or_else(|| known.clone());
        let is_theirs = username.is_some() && (known.is_none() || known == username);
        let password = self.password.or_else(|| environment.password.filter(|_| is_theirs));
        (username, password)
    }
}

impl WillOptions {
    fn settle(&self, properties: &Properties) -> Result<Option<WillSettings>, ClientError> {
        let Some(topic) = &self.will_topic else { return Ok(None) };
        bucketmq_packet::topic::check_name(topic).map_err(|error| ClientError::Usage(format!("--will-topic {topic}: {error}")))?;
        Ok(Some(WillSettings {
            topic: topic.clone(),
            payload: self.will_payload.clone().unwrap_or_default(),
            qos: self.will_qos,
            retain: self.will_retain,
            properties: properties.of(Target::Will),
        }))
    }
}

/// 5, 311 or 31.
pub fn version(text: &str) -> Result<ProtocolVersion, String> {
    match text.to_ascii_lowercase().trim_start_matches("mqttv") {
        "5" | "50" | "5.0" => Ok(ProtocolVersion::V5),
        "311" | "3.1.1" => Ok(ProtocolVersion::V3_1_1),
        "31" | "3.1" => Ok(ProtocolVersion::V3_1),
        _ => Err("expected 5, 311 or 31".to_owned()),
    }
}

fn session_expiry(text: &str) -> Result<u32, String> {
    match text {
        "-1" | "∞" => Ok(u32::MAX),
        _ => text.parse().map_err(|_| "expected seconds, or -1 for ever".to_owned()),
    }
}

/// 0, 1 or 2.
pub fn qos(text: &str) -> Result<QoS, String> {
    text.parse::<u8>().ok().and_then(|number| QoS::try_from(number).ok()).ok_or_else(|| "expected 0, 1 or 2".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    #[command(disable_help_flag = true)]
    struct Line {
        #[command(flatten)]
        options: ConnectionOptions,
    }

    fn settle(line: &str) -> Result<Settings, String> {
        let words = line.split_whitespace();
        let line = Line::try_parse_from(std::iter::once("sub").chain(words)).map_err(|error| error.to_string())?;
        line.options.settle(&[]).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_given_is_mqtt_5_on_this_machine() {
        let settings = settle("").expect("right");
        assert_eq!(settings.place, Place::Tcp("localhost".to_owned(), 1883));
        assert_eq!((settings.version, settings.clean_start, settings.client_id.as_str()), (ProtocolVersion::V5, true, ""));
        assert!(settings.tls.is_none());
    }

    #[test]
    fn ports_follow_the_transport() {
        for (line, port, tls) in [
            ("--cafile ca.pem", 8883, true),
            ("-p 8883", 8883, true),
            ("-L mqtts://a/b", 8883, true),
            ("--ws", 80, false),
            ("--ws=/x", 80, false),
            ("-L wss://a", 443, true),
            ("-L mqtt://a:1884/b", 1884, false),
        ] {
            let settings = settle(line).expect(line);
            assert!(matches!(settings.place, Place::Tcp(_, found) if found == port), "{line}: {:?}", settings.place);
            assert_eq!(settings.tls.is_some(), tls, "{line}");
        }
    }

    #[test]
    fn a_lasting_session_has_an_identifier_and_lasts() {
        assert_eq!(settle("-c -i me").expect("right").session_expiry_interval, Some(u32::MAX));
        assert_eq!(settle("-c -i me -x 60").expect("right").session_expiry_interval, Some(60));
        assert_eq!(settle("-c -i me -V 311").expect("right").session_expiry_interval, None);
        assert!(settle("-c").expect_err("no identifier").contains("-i"));
        assert!(settle("-x -1").expect_err("no identifier").contains("-i"));
    }

    #[test]
    fn older_versions_have_neither_properties_nor_empty_identifiers() {
        assert!(settle("-V mqttv311 -D CONNECT receive-maximum 3").expect_err("properties").contains("MQTT 5"));
        assert!(settle("-V 31 -P secret").expect_err("password alone").contains("-u"));
        let id = settle("-V 31").expect("right").client_id;
        assert!((1..=23).contains(&id.len()), "{id}");
    }

    #[test]
    fn a_password_is_proven_where_there_is_one() {
        let settings = settle("-u me -P secret --auth-method scram-sha-512").expect("right");
        assert_eq!(settings.auth_method, Some(Mechanism::Sha512));
        for (line, told) in [
            ("--auth-method SCRAM-SHA-256 -u me", "-P"),
            ("--auth-method SCRAM-SHA-256 -P secret", "-u"),
            ("--auth-method SCRAM-SHA-256 -u me -P secret -V 311", "-V"),
            ("--auth-method SCRAM-SHA-256 -u me -P secret -D CONNECT authentication-method x", "-D"),
            ("--auth-method PLAIN -u me -P secret", "SCRAM-SHA-512"),
        ] {
            assert!(settle(line).expect_err(line).contains(told), "{line}");
        }
    }

    #[test]
    fn the_environment_has_what_the_command_line_has_not_and_a_password_only_for_its_own_user() {
        for (given, environment, expected) in [
            (("", ""), ("ann", "secret"), ("ann", "secret")),
            (("ann", ""), ("ann", "secret"), ("ann", "secret")),
            (("bob", ""), ("ann", "secret"), ("bob", "")),
            (("bob", ""), ("", "secret"), ("bob", "secret")),
            (("bob", "own"), ("ann", "secret"), ("bob", "own")),
            (("", "own"), ("ann", "secret"), ("ann", "own")),
            (("", ""), ("", "secret"), ("", "")),
            (("", ""), ("ann", ""), ("ann", "")),
        ] {
            let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            let login = |(username, password)| Login { username: some(username), password: some(password) };
            let expected = (some(expected.0), some(expected.1));
            assert_eq!(login(given).or(login(environment)), expected, "{given:?} {environment:?}");
        }
        let empty = Login { username: Some(String::new()), password: Some("secret".to_owned()) };
        assert_eq!(Login { username: None, password: None }.or(empty), (None, None), "a variable that was left empty names nobody");
    }

    #[test]
    fn contradictions_are_refused() {
        for line in ["-i a -I b", "-L mqtt://a/b -h c", "--will-payload x", "--unix /s -p 1", "-V 4", "-x soon"] {
            assert!(settle(line).is_err(), "{line}");
        }
    }
}
