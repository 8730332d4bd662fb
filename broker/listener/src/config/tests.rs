//! Configuration as people write it, in TOML and on the command line.

use super::*;

#[test]
fn an_entry_that_says_only_its_url_gets_every_default() {
    let config: Config = toml::from_str("url = 'tcp://127.0.0.1:1883'").unwrap();
    assert_eq!(config, Config::new("tcp://127.0.0.1:1883"));
    assert_eq!(config.name(), "tcp-1883");
    assert_eq!(config.validate(), Ok(()));
}

#[test]
fn an_entry_survives_being_written_and_read() {
    let url = "wss://0.0.0.0:8443/chat?cert=a.pem&key=a.key&cert=b.pem&key=b.key&client_ca=ca.pem&crl=crl.pem&client_auth=optional&min_version=1.3\
               &identity=san_uri&allowed_origins=https://a.example,https://b.example&proxy_protocol=10.0.0.0/8&proxy_protocol=fd00::/8&name=web\
               &max_connections=5&max_connection_rate=6&messages_rate=7&bytes_rate=8MiB&max_qos=1&backlog=9&connect_timeout=3s&anonymous=guest";
    let config = Config::from_url(url).unwrap();
    let tls = config.tls.as_ref().unwrap();
    assert_eq!(tls.certificates[1], Certificate { cert: "b.pem".into(), key: "b.key".into() });
    assert_eq!(tls.identity, IdentityField::SanUri);
    assert_eq!(config.client_auth(), ClientAuth::Optional);
    assert_eq!(config.allowed_origins.len(), 2);
    assert_eq!(config.proxy_protocol.len(), 2);
    assert_eq!(config.web_socket_path(), "/chat");
    assert_eq!(config.bytes_rate, ByteSize::mib(8));
    assert_eq!(config.connect_timeout, Duration::from_secs(3));
    let written = toml::to_string(&config).unwrap();
    assert_eq!(toml::from_str::<Config>(&written).unwrap(), config, "{written}");
}

#[test]
fn an_unknown_key_is_refused() {
    for text in ["url = 'tcp://127.0.0.1'\nmax_conections = 1", "url = 'tls://127.0.0.1'\n[tls]\ncertificate = 'a.pem'"] {
        let error = toml::from_str::<Config>(text).unwrap_err().to_string();
        assert!(error.contains("unknown field"), "{error}");
    }
}

#[test]
fn a_wrong_parameter_is_named_with_those_that_apply() {
    for (url, key, says) in [
        ("tcp://127.0.0.1?anonymus=local", "anonymus", "tcp takes acknowledge, anonymous"),
        ("tcp://127.0.0.1?cert=a.pem", "cert", "belongs to tls, wss only"),
        ("tls://127.0.0.1?cert=a&key=b&path=/x", "path", "belongs to ws, wss only"),
        ("unix:/run/a.sock?proxy_protocol=10.0.0.0/8", "proxy_protocol", "belongs to tcp, tls, ws, wss only"),
        ("tcp://127.0.0.1?mode=0660", "mode", "belongs to unix only"),
        ("tls://127.0.0.1", "cert", "needs cert=FILE&key=FILE"),
        ("tls://127.0.0.1?cert=a.pem", "key", "needs cert=FILE&key=FILE"),
        ("tls://127.0.0.1?cert=a&key=b&client_auth=maybe", "client_auth", "none, optional or required"),
        ("tls://127.0.0.1?cert=a&key=b&client_auth=required", "tls.client_ca", "is needed"),
        ("tls://127.0.0.1?cert=a&key=b&crl=c", "tls.crl", "needs a client_ca"),
        ("tls://127.0.0.1?cert=a&key=b&client_ca=c&client_auth=none", "tls.client_auth", "never uses"),
        ("tls://127.0.0.1?cert=a&key=b&min_version=1.1", "min_version", "1.2 or 1.3"),
        ("tcp://127.0.0.1?anonymous=a&anonymous=b", "anonymous", "twice"),
        ("tcp://127.0.0.1?anonymous=", "anonymous", "needs a value"),
        ("tcp://127.0.0.1?max_qos=3", "max_qos", "0, 1 or 2"),
        ("tcp://127.0.0.1?connect_timeout=soon", "connect_timeout", "a time like 10s"),
        ("tcp://127.0.0.1?connect_timeout=0s", "connect_timeout", "more than 0s"),
        ("tcp://127.0.0.1?proxy_protocol=lan", "proxy_protocol", "a network like"),
        ("tcp://127.0.0.1?proxy_identity=true", "proxy_identity", "with proxy_protocol"),
        ("tcp://127.0.0.1?name=a%20b", "name", "letters"),
        ("tcp://127.0.0.1?name=%zz", "name", "hex digits"),
        ("ws://127.0.0.1?path=mqtt", "path", "begins with /"),
        ("ws://127.0.0.1/a?path=/b", "path", "say it once"),
    ] {
        let error = Config::from_url(url).unwrap_err();
        assert_eq!(error.key, key, "{url}: {error}");
        assert!(error.problem.contains(says), "{url}: {error}");
    }
}

#[test]
fn parameters_in_a_configured_url_are_refused_because_they_have_keys() {
    let error = Config::new("tcp://127.0.0.1?anonymous=local").validate().unwrap_err();
    assert!(error.problem.contains("--listen"), "{error}");
}

#[test]
fn a_listener_that_nobody_could_pass_is_told_what_to_add() {
    let closed = Config::new("tls://127.0.0.1:8883");
    let problem = closed.problem_without(false).unwrap();
    for says in ["tls-8883", "anonymous", "users file", "client_ca"] {
        assert!(problem.contains(says), "{problem}");
    }
    assert_eq!(closed.problem_without(true), None);
    assert_eq!(Config::from_url("tcp://127.0.0.1?anonymous=local").unwrap().problem_without(false), None);
    assert_eq!(Config::from_url("tls://127.0.0.1?cert=a&key=b&client_ca=c").unwrap().problem_without(false), None);
}

#[test]
fn the_schema_describes_every_key() {
    let schema = serde_json_like(&schemars::schema_for!(Config));
    for key in ["anonymous", "proxy_protocol", "max_connection_rate", "connect_timeout"] {
        assert!(schema.contains(key), "{schema}");
    }
}

fn serde_json_like(schema: &schemars::Schema) -> String {
    format!("{:?}", schema.as_value())
}
