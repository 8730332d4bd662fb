//! Configuration of the whole broker: a TOML file, over it the environment, over that the flags of `serve`.
//!
//! Promise: a configuration is taken whole or refused whole. What is refused is told with file, line and key (or variable, or flag), what was expected
//! and, for a name, the one that was probably meant; and all of it that can be found at one time.
//!
//! Each room owns its section's type; [`Limits`] and the small sections are here. Relative paths count from the working directory.

mod deserialize;
mod env;
mod error;
mod limits;
mod log;
pub mod reference;
mod schema;
mod tree;
mod units;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bucketmq_access::LoadError;
use bucketmq_access::authorization::RoleError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use env::PREFIX as ENVIRONMENT_PREFIX;
pub use error::{ConfigError, ConfigErrors, Origin};
pub use limits::{LimitError, Limits, PACKET_SIZE_MAX, QueueOverflow, SharedStrategy};
pub use log::{LevelError, Log, LogError, LogFormat, LogHandle, init as init_log};
use tree::{KeyPath, Node, Value};

/// Where the broker listens when nobody said: the loopback, where whoever can connect is on this machine.
pub const DEFAULT_LISTENER: &str = "tcp://127.0.0.1:1883?anonymous=local";

/// More than any hash or version of a file.
const REVISION_LEN_MAX: usize = 256;

/// Everything that can be configured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where Clients connect, one `[[listeners]]` for each. Without any: `tcp://127.0.0.1:1883` with the role `local` for everybody, because a broker
    /// that was just started should answer, and only to its own machine. Changed by a reload without dropping a connection of those that stay.
    pub listeners: Vec<bucketmq_listener::Config>,
    /// Bounds for every Client and for the broker as a whole. Changed by a reload.
    pub limits: Limits,
    /// Who may connect, publish and subscribe. Changed by a reload; what is withdrawn stops working on live Sessions.
    pub access: bucketmq_access::Config,
    /// Health and metrics over HTTP. Changed by a restart.
    pub admin: bucketmq_admin::Config,
    /// What the broker tells about itself. The level is changed by a reload, the format by a restart.
    pub log: Log,
    /// Where durable state lives. Changed by a restart.
    pub bucket: bucketmq_bucket::BucketConfig,
    /// Who owns the bucket when several brokers are given it. Changed by a restart.
    pub cluster: bucketmq_cluster::Config,
    /// The `$SYS` topics, the broker about itself. Changed by a restart.
    pub sys_topics: SysTopics,
    /// A text that `/readyz` tells back: who renders the file sees which one is in force. Up to 256 bytes. Changed by a reload.
    pub revision: String,
}

/// The `$SYS` topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SysTopics {
    /// How often they are published, in whole seconds up to 1d. 10s by default, as in other brokers; 0s switches them off.
    #[serde(with = "units::time")]
    #[schemars(with = "String")]
    pub interval: Duration,
}

impl Default for SysTopics {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10) }
    }
}

/// What the flags of `serve` say about the configuration. They win over environment and file.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct ServeFlags {
    /// Listen here, instead of what the configuration says; may be repeated.
    ///
    /// tcp://127.0.0.1:1883, tls://, ws://, wss:// or unix:/path, with ?anonymous=ROLE and other keys of a listener where they apply, such as
    /// tls://0.0.0.0:8883?cert=server.pem&key=server.key&client_ca=ca.pem
    #[arg(long, value_name = "URL")]
    pub listen: Vec<String>,
    /// Where durable state lives, such as s3://name/prefix?region=eu-central-1 or file:///var/lib/bucketmq; memory:// keeps none.
    #[arg(long, value_name = "URL")]
    pub bucket: Option<String>,
    /// The name of this broker, which no other running one of this bucket has, such as the name of its pod. Default: the host's.
    #[arg(long, value_name = "NAME")]
    pub member: Option<String>,
    /// Whether to take the bucket over from a broker that lives: never, new (once) or always.
    #[arg(long, value_name = "WHEN")]
    pub takeover: Option<String>,
    /// Where health and metrics are served, such as http://127.0.0.1:9090; empty switches them off.
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// off, error, warn, info, debug or trace; also of parts, such as info,bucketmq_listener=debug.
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// How a line of the log looks.
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// A configuration and where it came from, so that it can be read again.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What is to be in force.
    pub config: Config,
    /// The file, if one was named.
    pub file: Option<PathBuf>,
    /// The flags that were laid over it.
    pub flags: ServeFlags,
    environment: Vec<(String, String)>,
}

impl Config {
    /// Reads the file, lays the variables that begin with `BUCKETMQ_` and then the flags over it, and checks everything that can be checked without a
    /// socket and without another file.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        flags: &ServeFlags,
    ) -> Result<Loaded, ConfigErrors> {
        let environment: Vec<_> = environment.filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX)).collect();
        let config = load(file, &environment, flags).map_err(ConfigErrors)?;
        Ok(Loaded { config, file: file.map(Path::to_owned), flags: flags.clone(), environment })
    }

    /// SHA-256 in hexadecimal of all that is in force, defaults included; not of files that are only named. Equal configurations have equal hashes,
    /// however they were written.
    pub fn hash(&self) -> String {
        let text = self.to_json().to_string();
        Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// All that is in force as JSON, keys in alphabetical order.
    pub fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::to_value(self).expect("every section is made of numbers, texts, lists and tables with text keys");
        for (listener, config) in json["listeners"].as_array_mut().into_iter().flatten().zip(&self.listeners) {
            // The crate of sizes writes them rounded.
            listener["bytes_rate"] = units::size_text(config.bytes_rate).into();
        }
        json.sort_all_objects();
        json
    }
}

impl Loaded {
    /// Reads everything again: the new configuration, or why this one should stay in force.
    pub fn reload(&self) -> Result<Self, ConfigErrors> {
        Config::load(self.file.as_deref(), self.environment.iter().cloned(), &self.flags)
    }

    /// See [`Config::hash`].
    pub fn hash(&self) -> String {
        self.config.hash()
    }
}

/// The keys whose new values come into force with a restart only.
pub fn restart_needed(old: &Config, new: &Config) -> Vec<&'static str> {
    let changed = [
        ("admin.listen", old.admin.listen != new.admin.listen),
        ("bucket", new.bucket != bucket_until_restart(old, new)),
        ("cluster", old.cluster != new.cluster),
        ("log.format", old.log.format != new.log.format),
        ("sys_topics.interval", old.sys_topics.interval != new.sys_topics.interval),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
}

/// What is in force of `[bucket]` after a reload.
fn bucket_until_restart(old: &Config, new: &Config) -> bucketmq_bucket::BucketConfig {
    bucketmq_bucket::BucketConfig { min_flush_interval: new.bucket.min_flush_interval, ..old.bucket.clone() }
}

/// Puts the values that wait for a restart back to what is in force, so that the configuration kept after a reload, and its hash, are the truth.
pub fn keep_until_restart(old: &Config, new: &mut Config) {
    new.admin.listen.clone_from(&old.admin.listen);
    new.bucket = bucket_until_restart(old, new);
    new.cluster.clone_from(&old.cluster);
    new.log.format = old.log.format;
    new.sys_topics.interval = old.sys_topics.interval;
}

fn load(file: Option<&Path>, environment: &[(String, String)], flags: &ServeFlags) -> Result<Config, Vec<ConfigError>> {
    let mut tree = match file {
        Some(path) => Node::from_toml(path, &read_file(path)?)?,
        None => Node::empty(Origin::Default),
    };
    let mut errors = env::lay_over(&mut tree, environment);
    lay_flags_over(&mut tree, flags);
    let (config, wrong) = deserialize::read::<Config>(&tree);
    errors.extend(wrong);
    let Some(config) = config else { return Err(errors) };
    if !errors.is_empty() {
        // Listeners and roles with a part missing would be blamed for that part; numbers stand for themselves.
        let told: HashSet<String> = errors.iter().map(|error| error.key.clone()).collect();
        errors.extend(check_limits(&config.limits, &tree).filter(|error| !told.contains(&error.key)));
        return Err(errors);
    }
    let (config, errors) = complete(config, &tree, flags);
    if errors.is_empty() { Ok(config) } else { Err(errors) }
}

fn read_file(path: &Path) -> Result<String, Vec<ConfigError>> {
    std::fs::read_to_string(path).map_err(|error| {
        let problem = format!("cannot read {}: {error}", path.display());
        vec![ConfigError { origin: Origin::Flag("--config"), key: String::new(), problem }]
    })
}

fn lay_flags_over(tree: &mut Node, flags: &ServeFlags) {
    let format = flags.log_format.map(|format| match format {
        LogFormat::Text => "text".to_owned(),
        LogFormat::Json => "json".to_owned(),
    });
    for (flag, key, value) in [
        ("--bucket", "bucket.url", &flags.bucket),
        ("--member", "cluster.member", &flags.member),
        ("--takeover", "cluster.takeover", &flags.takeover),
        ("--admin", "admin.listen", &flags.admin),
        ("--log-level", "log.level", &flags.log_level),
        ("--log-format", "log.format", &format),
    ] {
        if let Some(value) = value {
            let node = Node { origin: Origin::Flag(flag), value: Value::String(value.clone()) };
            // It fails where the section is no table, which the types will tell.
            let _ = tree.set(&KeyPath::parse(key).0, node);
        }
    }
}

/// Listeners from the flags or the default, names for those without; then all that types alone cannot check.
fn complete(mut config: Config, tree: &Node, flags: &ServeFlags) -> (Config, Vec<ConfigError>) {
    let mut errors = Vec::new();
    let at = |key: &str| tree.origin_of(&KeyPath::parse(key).0).clone();
    let mut wrong = |origin: Origin, key: String, problem: String| errors.push(ConfigError { origin, key, problem });

    let from_flags = !flags.listen.is_empty();
    if from_flags {
        config.listeners.clear();
        for url in &flags.listen {
            match bucketmq_listener::Config::from_url(url) {
                Ok(listener) => config.listeners.push(listener),
                Err(error) => wrong(Origin::Flag("--listen"), error.key, format!("{} (in {url})", error.problem)),
            }
        }
    } else if config.listeners.is_empty() {
        config.listeners.push(bucketmq_listener::Config::from_url(DEFAULT_LISTENER).expect("the default is a listener"));
    }
    let place = |index: usize, key: &str| {
        let dot = if key.is_empty() { "" } else { "." };
        let key = format!("listeners[{index}]{dot}{key}");
        if from_flags { (Origin::Flag("--listen"), key) } else { (at(&key), key) }
    };
    for (index, key, problem) in check_listeners(&mut config) {
        let (origin, key) = place(index, key.as_str());
        wrong(origin, key, problem);
    }
    errors.extend(check_limits(&config.limits, tree));
    let mut wrong = |origin: Origin, key: String, problem: String| errors.push(ConfigError { origin, key, problem });
    if let Some((key, problem)) = check_roles(&config.access) {
        wrong(at(&key), key, problem);
    }
    if config.revision.len() > REVISION_LEN_MAX || config.revision.chars().any(char::is_control) {
        let problem = format!("expected up to {REVISION_LEN_MAX} bytes without control characters, found {}", config.revision.len());
        wrong(at("revision"), "revision".into(), problem);
    }
    if let Err(error) = config.admin.address() {
        // Its text begins with the key, which stands before it here.
        let problem = error.to_string();
        let problem = problem.strip_prefix("admin.listen ").map(str::to_owned).unwrap_or(problem);
        wrong(at("admin.listen"), "admin.listen".into(), problem);
    }
    if let Err(error) = log::parse_level(&config.log.level) {
        wrong(at("log.level"), "log.level".into(), error.to_string());
    }
    if let Err(error) = config.bucket.validate() {
        let key = format!("bucket.{}", error.key);
        wrong(at(&key), key, error.problem);
    }
    if let Err(error) = config.cluster.member() {
        wrong(at("cluster.member"), "cluster.member".into(), error.to_string());
    }
    let interval = config.sys_topics.interval;
    if interval.subsec_nanos() != 0 || interval > Duration::from_secs(86_400) {
        let problem = format!("expected whole seconds from 0s to 1d, found {}", units::time_text(interval));
        wrong(at("sys_topics.interval"), "sys_topics.interval".into(), problem);
    }
    (config, errors)
}

/// Which limits are out of their range.
fn check_limits(limits: &Limits, tree: &Node) -> impl Iterator<Item = ConfigError> {
    limits.validate().err().into_iter().flatten().map(|error| {
        let key = format!("limits.{}", error.key);
        ConfigError { origin: tree.origin_of(&KeyPath::parse(&key).0).clone(), key, problem: error.problem }
    })
}

/// What is wrong with which listener; those without a name get one that no other has.
fn check_listeners(config: &mut Config) -> Vec<(usize, String, String)> {
    let mut problems = Vec::new();
    let has_users = config.access.users_file.is_some();
    let mut names: HashSet<String> = HashSet::new();
    let mut urls: HashSet<&str> = HashSet::new();
    for (index, listener) in config.listeners.iter().enumerate() {
        if let Err(error) = listener.validate() {
            problems.push((index, error.key, error.problem));
            continue;
        }
        match listener.anonymous_role() {
            Some(role) if !config.access.has_role(role) => {
                let problem = format!("expected the role `local` or one of [access.roles], found {role:?}");
                problems.push((index, "anonymous".to_owned(), problem));
            }
            _ => problems.extend(listener.problem_without(has_users).map(|problem| (index, String::new(), problem))),
        }
        if !listener.name.is_empty() && !names.insert(listener.name.clone()) {
            problems.push((index, "name".to_owned(), format!("another listener is called {:?} already", listener.name)));
        }
        // Port 0 is another one each time.
        if !listener.url.ends_with(":0") && !urls.insert(&listener.url) {
            problems.push((index, "url".to_owned(), format!("another listener has {} already", listener.url)));
        }
    }
    for listener in config.listeners.iter_mut().filter(|listener| listener.name.is_empty()) {
        let name = listener.name().into_owned();
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| !names.contains(name));
        listener.name = free.expect("there are more numbers than listeners");
        names.insert(listener.name.clone());
    }
    problems
}

/// What is wrong with the roles: they are compiled as the broker does it, without the users file, which is read when the broker starts.
fn check_roles(access: &bucketmq_access::Config) -> Option<(String, String)> {
    let without_users = bucketmq_access::Config { users_file: None, ..access.clone() };
    let error = bucketmq_access::Access::load(&without_users).err()?;
    let key = match &error {
        LoadError::Role(RoleError::BuiltIn) => "access.roles.local".to_owned(),
        LoadError::Role(RoleError::Name(_)) => "access.roles".to_owned(),
        LoadError::Role(RoleError::Rule { role, index, .. }) => format!("access.roles.{role}.rules[{index}]"),
        LoadError::Role(RoleError::TooMany { role, .. }) => format!("access.roles.{role}.rules"),
        LoadError::CertificateRole(_) => "access.certificate_roles".to_owned(),
        _ => "access".to_owned(),
    };
    let text = error.to_string();
    let problem = text.strip_prefix(&key).map(|rest| rest.trim_start_matches([':', ' ']).to_owned()).unwrap_or(text);
    Some((key, problem))
}

#[cfg(test)]
mod tests;
