//! `broker.toml`: exactly what the broker reads, and only what the user said; everything else has the broker's own default.

use kube::ResourceExt;
use toml::{Table, Value};

use super::{Settings, bucket_owner, file_key, is_durable, prefix};
use crate::crd::{
    AccessRule, AcknowledgeLevel, Bucket, CertificateIdentity, ClientAuth, CredentialsType, Effect, Level, Limits, Listener, LogFormat,
    LogLevel, MqttBroker, MqttRole, OnDeny, Operation, Protocol, Provider, Quantity, QuantityError, QueueOverflow, SharedStrategy,
    TlsVersion,
};
use crate::names::{ADMIN_PORT, short_hash};

/// Where everything is mounted.
pub const MOUNT: &str = "/etc/bucketmq";

/// The path of a mounted file.
pub fn mount(key: &str) -> String {
    format!("{MOUNT}/{key}")
}

/// The configuration, rendered.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// The file.
    pub toml: String,
    /// What `/readyz` says when this file is in force.
    pub revision: String,
    /// Hash of what a user can say that is in it; the operator's own version is not.
    pub inputs: String,
}

/// Renders the configuration. `contents`: a hash of the files it names, so that a changed file is a new revision.
pub fn render(broker: &MqttBroker, roles: &[&MqttRole], contents: &str, settings: &Settings) -> Result<Rendered, QuantityError> {
    let mut root = root(broker, roles, settings)?;
    let toml = toml::to_string(&root).expect("tables of texts and numbers are TOML");
    let revision = short_hash(format!("{toml}\n{contents}"));
    root.insert("revision".to_owned(), Value::String(revision.clone()));
    let said = serde_json::json!({
        "spec": &broker.spec,
        "roles": roles.iter().map(|role| (role.name_any(), &role.spec.rules, &role.spec.acknowledge)).collect::<Vec<_>>(),
        "contents": contents,
        "cluster": settings.cluster_id,
    });
    let toml = toml::to_string(&root).expect("tables of texts and numbers are TOML");
    Ok(Rendered { toml, revision, inputs: short_hash(said.to_string()) })
}

fn root(broker: &MqttBroker, roles: &[&MqttRole], settings: &Settings) -> Result<Table, QuantityError> {
    let spec = &broker.spec;
    let mut listeners = Vec::new();
    for item in &spec.listeners {
        listeners.push(Value::Table(listener(item)?));
    }
    let mut root = Table::new();
    root.insert("listeners".to_owned(), Value::Array(listeners));
    root.insert("limits".to_owned(), Value::Table(limits(&spec.limits, spec.persistence.level)?));
    root.insert("access".to_owned(), Value::Table(access(broker, roles)));
    root.insert("admin".to_owned(), table([("listen", format!("0.0.0.0:{ADMIN_PORT}").into())]));
    let format = match spec.observability.logging.format {
        LogFormat::Json => "json",
        LogFormat::Text => "text",
    };
    let level = match spec.observability.logging.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    root.insert("log".to_owned(), table([("format", format.into()), ("level", level.into())]));
    if let Some(bucket) = spec.persistence.bucket.as_ref().filter(|_| is_durable(broker)) {
        root.insert("bucket".to_owned(), Value::Table(persistence(broker, bucket, settings)));
    }
    if let Some(seconds) = spec.observability.sys_interval_seconds {
        root.insert("sys_topics".to_owned(), table([("interval", seconds_text(i64::from(seconds)))]));
    }
    Ok(root)
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Table(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn seconds_text(seconds: i64) -> Value {
    format!("{seconds}s").into()
}

fn bytes(quantity: &Quantity) -> Result<Value, QuantityError> {
    Ok(Value::Integer(i64::try_from(quantity.value()?).unwrap_or(i64::MAX)))
}

fn acknowledge(level: AcknowledgeLevel) -> Value {
    match level {
        AcknowledgeLevel::Durable => "durable".into(),
        AcknowledgeLevel::Buffered => "buffered".into(),
    }
}

fn texts(list: &[String]) -> Value {
    Value::Array(list.iter().cloned().map(Value::String).collect())
}

/// Puts what was said; what was not is left to the broker.
struct Said<'a>(&'a mut Table);

impl Said<'_> {
    fn put(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.0.insert(key.to_owned(), value.into());
        }
    }

    fn put_bytes(&mut self, key: &str, quantity: Option<&Quantity>) -> Result<(), QuantityError> {
        self.put(key, quantity.map(bytes).transpose()?);
        Ok(())
    }
}

fn listener(item: &Listener) -> Result<Table, QuantityError> {
    let scheme = match (item.protocol, item.tls.is_some()) {
        (Protocol::Mqtt, false) => "tcp",
        (Protocol::Mqtt, true) => "tls",
        (Protocol::WebSocket, false) => "ws",
        (Protocol::WebSocket, true) => "wss",
    };
    let mut listener = Table::new();
    let mut said = Said(&mut listener);
    said.put("name", Some(item.name.clone()));
    // Both kinds of addresses, where the node has both.
    said.put("url", Some(format!("{scheme}://[::]:{}", item.port)));
    said.put("anonymous", item.anonymous_role.clone());
    said.put("path", item.web_socket_path.clone());
    said.put("allowed_origins", item.allowed_origins.as_deref().map(texts));
    said.put("proxy_protocol", item.proxy_trusted_cidrs.as_deref().filter(|cidrs| !cidrs.is_empty()).map(texts));
    said.put("max_connections", item.max_connections);
    said.put("max_connection_rate", item.max_connection_rate);
    said.put("messages_rate", item.messages_rate);
    said.put_bytes("bytes_rate", item.bytes_rate.as_ref())?;
    said.put("max_qos", item.max_qos);
    said.put("acknowledge", item.acknowledge.map(acknowledge));
    if let Some(tls) = &item.tls {
        let mut section = Table::new();
        let mut said = Said(&mut section);
        let cert = mount(&file_key(&item.name, "crt"));
        let key = mount(&file_key(&item.name, "key"));
        said.put("certificates", Some(Value::Array(vec![table([("cert", cert.into()), ("key", key.into())])])));
        let client_auth = match tls.client_auth {
            ClientAuth::None => None,
            ClientAuth::Optional => Some("optional"),
            ClientAuth::Required => Some("required"),
        };
        said.put("client_auth", client_auth);
        said.put("client_ca", client_auth.map(|_| mount(&file_key(&item.name, "client-ca.crt"))));
        said.put("crl", tls.crl_ref.as_ref().map(|_| mount(&file_key(&item.name, "crl.pem"))));
        let identity = match tls.identity {
            CertificateIdentity::CommonName => "common_name",
            CertificateIdentity::SanDns => "san_dns",
            CertificateIdentity::SanUri => "san_uri",
            CertificateIdentity::SanEmail => "san_email",
            CertificateIdentity::Fingerprint => "fingerprint",
        };
        said.put("identity", client_auth.map(|_| identity));
        let version = match tls.min_version {
            TlsVersion::Tls12 => "1.2",
            TlsVersion::Tls13 => "1.3",
        };
        said.put("min_version", Some(version));
        listener.insert("tls".to_owned(), Value::Table(section));
    }
    Ok(listener)
}

fn limits(limits: &Limits, level: Level) -> Result<Table, QuantityError> {
    let mut section = Table::new();
    let mut said = Said(&mut section);
    said.put("max_connections", limits.max_connections);
    said.put("max_connection_rate", limits.max_connection_rate);
    said.put_bytes("max_packet_size", limits.max_packet_size.as_ref())?;
    said.put("max_qos", limits.max_qos);
    said.put("max_topic_levels", limits.max_topic_levels);
    said.put("topic_alias_maximum", limits.max_topic_alias);
    said.put("topic_alias_maximum_out", limits.max_topic_alias);
    said.put("max_subscriptions", limits.max_subscriptions);
    said.put("receive_maximum", limits.receive_maximum);
    said.put("max_inflight", limits.max_inflight);
    said.put("messages_rate", limits.messages_rate);
    said.put_bytes("bytes_rate", limits.bytes_rate.as_ref())?;
    let keep_alive = limits.keep_alive_seconds.clone().unwrap_or_default();
    said.put("keep_alive_default", keep_alive.default.map(|seconds| seconds_text(i64::from(seconds))));
    said.put("keep_alive_max", keep_alive.max.map(|seconds| seconds_text(i64::from(seconds))));
    said.put("session_expiry_max", limits.session_expiry_seconds_max.map(seconds_text));
    said.put("message_expiry_max", limits.message_expiry_seconds_max.map(seconds_text));
    let queue = limits.session_queue.clone().unwrap_or_default();
    said.put("session_queue_messages", queue.max_messages);
    said.put_bytes("session_queue_bytes", queue.max_bytes.as_ref())?;
    let overflow = queue.overflow.map(|overflow| match overflow {
        QueueOverflow::DropOldest => "drop_oldest",
        QueueOverflow::RejectNew => "reject_new",
        QueueOverflow::Disconnect => "disconnect",
    });
    said.put("session_queue_overflow", overflow);
    let retained = limits.retained.clone().unwrap_or_default();
    said.put("retained_enabled", retained.enabled);
    said.put("retained_messages", retained.max_messages);
    said.put_bytes("retained_bytes", retained.max_bytes.as_ref())?;
    said.put("shared_subscriptions", limits.shared_subscriptions);
    let strategy = limits.shared_strategy.map(|strategy| match strategy {
        SharedStrategy::RoundRobin => "round_robin",
        SharedStrategy::Random => "random",
        SharedStrategy::Sticky => "sticky",
        SharedStrategy::LeastInflight => "least_inflight",
    });
    said.put("shared_strategy", strategy);
    said.put("wildcard_subscriptions", limits.wildcard_subscriptions);
    said.put_bytes("unwritten_bytes", limits.unwritten_bytes.as_ref())?;
    said.put("acknowledge", (level == Level::Buffered).then_some("buffered"));
    Ok(section)
}

fn access(broker: &MqttBroker, roles: &[&MqttRole]) -> Table {
    let spec = &broker.spec;
    let mut section = Table::new();
    let mut said = Said(&mut section);
    said.put("users_file", Some(mount("users")));
    let on_deny = match spec.authorization.on_deny {
        OnDeny::Reject => "reject",
        OnDeny::Disconnect => "disconnect",
        OnDeny::DropSilently => "drop",
    };
    said.put("on_deny", Some(on_deny));
    let certificate_roles = &spec.authentication.certificate_roles;
    said.put("certificate_roles", (!certificate_roles.is_empty()).then(|| texts(certificate_roles)));
    let mut by_name = Table::new();
    for role in roles {
        let mut entry = Table::new();
        entry.insert("rules".to_owned(), Value::Array(role.spec.rules.iter().flat_map(rules).collect()));
        if let Some(level) = role.spec.acknowledge {
            entry.insert("acknowledge".to_owned(), acknowledge(level));
        }
        by_name.insert(role.name_any(), Value::Table(entry));
    }
    section.insert("roles".to_owned(), Value::Table(by_name));
    section
}

/// A rule of ours names several topics, one of the broker one filter.
fn rules(rule: &AccessRule) -> Vec<Value> {
    let effect = match rule.action {
        Effect::Allow => "allow",
        Effect::Deny => "deny",
    };
    let operations = rule.operations.iter().map(|operation| match operation {
        Operation::Connect => "connect",
        Operation::Publish => "publish",
        Operation::Subscribe => "subscribe",
    });
    let operations = Value::Array(operations.map(Value::from).collect());
    let (key, values) = match (&rule.topics, &rule.client_ids) {
        (Some(topics), _) => ("filter", topics.as_slice()),
        (None, Some(client_ids)) => ("client_id", client_ids.as_slice()),
        (None, None) => ("", Default::default()),
    };
    if values.is_empty() {
        return vec![table([("effect", effect.into()), ("operations", operations)])];
    }
    values.iter().map(|value| table([("effect", effect.into()), ("operations", operations.clone()), (key, value.clone().into())])).collect()
}

fn persistence(broker: &MqttBroker, bucket: &Bucket, settings: &Settings) -> Table {
    let persistence = &broker.spec.persistence;
    let mut section = Table::new();
    let mut said = Said(&mut section);
    said.put("url", Some(bucket_url(bucket, &prefix(broker))));
    said.put("owner", Some(bucket_owner(broker, settings)));
    said.put("adopt", persistence.adopt.clone());
    said.put("on_unusable", Some("wait"));
    said.put("min_flush_interval", persistence.flush_interval_milliseconds.map(|milliseconds| format!("{milliseconds}ms")));
    if let Some(snapshots) = &persistence.snapshots {
        let mut entry = Table::new();
        let mut said = Said(&mut entry);
        said.put("schedule", Some(snapshots.schedule.clone()));
        said.put("retain", snapshots.retain);
        section.insert("snapshots".to_owned(), Value::Table(entry));
    }
    section
}

/// The URL of the bucket, which holds no secret.
pub fn bucket_url(bucket: &Bucket, prefix: &str) -> String {
    let place = match bucket.provider {
        Provider::S3 => format!("s3://{}/{prefix}", bucket.name),
        Provider::Gcs => format!("gs://{}/{prefix}", bucket.name),
        Provider::Azure => format!("az://{}/{}/{prefix}", bucket.account.as_deref().unwrap_or_default(), bucket.name),
    };
    let path_style = bucket.force_path_style.map(|force| force.to_string());
    let parameters: Vec<String> = [
        ("region", bucket.region.as_deref()),
        ("endpoint", bucket.endpoint.as_deref()),
        ("path_style", path_style.as_deref()),
        ("kms_key", bucket.encryption.as_ref().map(|encryption| encryption.kms_key_id.as_str())),
        ("ca", bucket.ca_ref.as_ref().map(|_| CA_PATH)),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some(format!("{key}={}", escaped(value?))))
    .collect();
    if parameters.is_empty() { place } else { format!("{place}?{}", parameters.join("&")) }
}

/// Where the CA of the bucket's endpoint is mounted.
const CA_PATH: &str = "/etc/bucketmq/bucket-ca.crt";

/// What has a meaning in a URL's query is written as `%XX`.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/' | b':');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Whether keys of a Secret are used, and not the identity of the pod.
pub fn has_static_credentials(broker: &MqttBroker) -> bool {
    let bucket = broker.spec.persistence.bucket.as_ref();
    bucket.is_some_and(|bucket| bucket.credentials.type_ == CredentialsType::SecretRef)
}
