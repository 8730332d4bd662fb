//! Files, variables and flags as people write them, right and wrong.

use std::io::Write;

use super::*;

fn no_variables() -> impl Iterator<Item = (String, String)> {
    std::iter::empty()
}

fn variables(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>().into_iter()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn load_text(text: &str) -> Result<Config, ConfigErrors> {
    let file = file(text);
    Config::load(Some(file.path()), no_variables(), &ServeFlags::default()).map(|loaded| loaded.config)
}

/// Errors as `line: key: problem`.
fn errors(text: &str) -> Vec<String> {
    let errors = load_text(text).expect_err("it should be refused").0;
    let line = |error: &ConfigError| match &error.origin {
        Origin::File { line, .. } => format!("{line}: {}: {}", error.key, error.problem),
        other => format!("{other}: {}: {}", error.key, error.problem),
    };
    errors.iter().map(line).collect()
}

fn load_variables(text: &str, pairs: &[(&str, &str)]) -> Result<Config, String> {
    let file = file(text);
    let loaded = Config::load(Some(file.path()), variables(pairs), &ServeFlags::default());
    loaded.map(|loaded| loaded.config).map_err(|errors| errors.to_string())
}

#[test]
fn without_anything_the_loopback_is_open_to_everybody_on_it() {
    let config = Config::load(None, no_variables(), &ServeFlags::default()).unwrap().config;
    let [listener] = &config.listeners[..] else { panic!("one listener") };
    assert_eq!(
        (listener.url.as_str(), listener.anonymous_role(), listener.name.as_str()),
        ("tcp://127.0.0.1:1883", Some("local"), "tcp-1883")
    );
    assert_eq!(config.limits, Limits::default());
    assert_eq!((config.admin.listen.as_str(), config.bucket.url.to_string()), ("127.0.0.1:9090", "memory://".to_owned()));
    assert_eq!(
        (config.log.level.as_str(), config.log.format, config.sys_topics.interval),
        ("info", LogFormat::Text, Duration::from_secs(10))
    );
}

#[test]
fn every_section_is_read() {
    let config = load_text(
        r#"
        [[listeners]]
        url = "tcp://0.0.0.0:1883"
        anonymous = "guest"
        bytes_rate = "1.5MiB"
        [[listeners]]
        name = "secure"
        url = "tls://0.0.0.0:8883"
        connect_timeout = "5s"
        tls = { certificates = [{ cert = "a.pem", key = "a.key" }], client_ca = "ca.pem", min_version = "1.3" }
        [limits]
        max_packet_size = 4096
        keep_alive_max = "1h 30m"
        session_queue_overflow = "reject_new"
        shared_strategy = "least_inflight"
        queue_qos0 = true
        max_qos = 0x1
        [access]
        users_file = "/etc/users"
        on_deny = "drop"
        [access.roles.guest]
        rules = ["allow connect", { effect = "allow", operations = ["subscribe"], filter = "public/#" }]
        [admin]
        listen = ""
        [log]
        level = "warn,bucketmq=debug"
        format = "json"
        [bucket]
        url = "memory://"
        [sys_topics]
        interval = "0s"
        "#,
    )
    .unwrap();
    assert_eq!(config.listeners[0].bytes_rate.as_u64(), 3 << 19);
    assert_eq!(config.listeners[1].connect_timeout, Duration::from_secs(5));
    assert_eq!(config.limits.max_packet_size.as_u64(), 4096);
    assert_eq!(config.limits.keep_alive_max, Duration::from_secs(5400));
    assert_eq!(config.limits.session_queue_overflow, QueueOverflow::RejectNew);
    assert_eq!(config.limits.shared_strategy, SharedStrategy::LeastInflight);
    assert!(config.limits.queue_qos0 && config.limits.max_qos == 1);
    assert_eq!(config.access.roles["guest"].rules.len(), 2);
    assert_eq!(config.log.format, LogFormat::Json);
    assert!(config.sys_topics.interval.is_zero());
}

#[test]
fn what_is_wrong_is_told_with_line_and_key_and_what_was_expected() {
    let table: &[(&str, &str)] = &[
        ("[limits]\nmax_paket_size = 1", "2: limits.max_paket_size: unknown key, did you mean `max_packet_size`?"),
        ("[limits]\n\nmax-qos = 1", "3: limits.max-qos: unknown key, did you mean `max_qos`?"),
        ("[limit]\nmax_qos = 1", "1: limit: unknown key, did you mean `limits`?"),
        ("[log]\ncolour = true", "2: log.colour: unknown key, expected `level` or `format`"),
        ("[federation]", "1: federation: unknown key, expected one of `listeners`, `limits`, `access`"),
        ("[limits]\nmax_qos = 3", "2: limits.max_qos: expected a whole number from 0 to 2, found 3"),
        ("[limits]\nmax_qos = 300", "2: limits.max_qos: expected a whole number from 0 to 255, found 300"),
        ("[limits]\nmax_qos = -1", "2: limits.max_qos: expected a whole number from 0 to 255, found -1"),
        ("[limits]\nmax_qos = '1'", "2: limits.max_qos: expected a whole number from 0 to 255, found \"1\""),
        ("[limits]\nreceive_maximum = 65_536", "2: limits.receive_maximum: expected a whole number from 0 to 65535, found 65536"),
        ("limits.queue_qos0 = 'yes'", "1: limits.queue_qos0: expected true or false, found \"yes\""),
        ("[limits]\nkeep_alive_max = 300", "2: limits.keep_alive_max: expected a time such as \"30s\", \"5m\" or \"7d\", found 300"),
        (
            "[limits]\nkeep_alive_max = '5 parsecs'",
            "2: limits.keep_alive_max: expected a time such as \"30s\", \"5m\" or \"7d\", found \"5 parsecs\"",
        ),
        ("[limits]\nbytes_rate = 'lots'", "2: limits.bytes_rate: expected a size such as \"512KiB\" or \"1MiB\", found \"lots\""),
        ("[limits]\nbytes_rate = -1", "2: limits.bytes_rate: expected a size such as \"512KiB\" or \"1MiB\", found -1"),
        ("[limits]\nretained_bytes = true", "2: limits.retained_bytes: expected a size such as \"512KiB\" or \"1MiB\", found true"),
        (
            "[limits]\nshared_strategy = 'round-robin'",
            "2: limits.shared_strategy: expected one of `round_robin`, `random`, `sticky`, `least_inflight`, found \"round-robin\", did you mean \
             `round_robin`?",
        ),
        (
            "[limits]\nsession_queue_overflow = 2",
            "2: limits.session_queue_overflow: expected one of `drop_oldest`, `reject_new`, `disconnect`, found 2",
        ),
        ("limits = 3", "1: limits: expected a table, found 3"),
        ("revision = 7", "1: revision: expected a string, found 7"),
        ("revision = \"a\\u0007\"", "1: revision: expected up to 256 bytes without control characters, found 2"),
        ("[listeners]\nurl = 'tcp://[::]'", "1: listeners: expected an array, found a table"),
        ("[[listeners]]\nname = 'a'", "1: listeners[0].url: this key is missing"),
        ("[[listeners]]\nurl = 1883", "2: listeners[0].url: expected a string, found 1883"),
        ("[[listeners]]\nurl = 'tcp://[::]:1883'\nanonymus = 'local'", "3: listeners[0].anonymus: unknown key, did you mean `anonymous`?"),
        (
            "[[listeners]]\nurl = 'tcp://[::]:1883'\nanonymous = 'locl'",
            "3: listeners[0].anonymous: expected the role `local` or one of [access.roles]",
        ),
        ("[[listeners]]\nurl = 'tcp://[::]:1883'", "1: listeners[0]: listener \"tcp-1883\": nobody could connect to tcp://[::]:1883"),
        ("[[listeners]]\nurl = 'mqtt://[::]:1883'", "2: listeners[0].url: "),
        ("[[listeners]]\nurl = 'tls://[::]:8883'\nanonymous = 'local'", "1: listeners[0].tls: is needed for tls://"),
        (
            "[[listeners]]\nurl = 'tcp://[::]:1'\nanonymous = 'local'\nproxy_protocol = ['10.0.0.0/33']",
            "4: listeners[0].proxy_protocol[0]: \"10.0.0.0/33\" is not a network like 10.0.0.0/8",
        ),
        (
            "[[listeners]]\nurl = 'tcp://[::]:1'\nanonymous = 'local'\n[[listeners]]\nurl = 'tcp://[::]:1'\nanonymous = 'local'",
            "5: listeners[1].url: another listener has tcp://[::]:1 already",
        ),
        ("[access]\non_deny = 'ignore'", "2: access.on_deny: expected one of `reject`, `disconnect`, `drop`, found \"ignore\""),
        ("[access.roles.a]\nrules = ['allow connect',\n 'permit x']", "3: access.roles.a.rules[1]: \"permit x\": "),
        ("[access.roles.a]\nrules = [7]", "2: access.roles.a.rules[0]: expected a rule such as \"allow publish site/%c/#\" or a table"),
        (
            "[access.roles.a]\nrules = [{ effect = 'allow', operation = 'x' }]",
            "2: access.roles.a.rules[0].operation: unknown key, did you mean `operations`?",
        ),
        ("[[listeners]]\nulr = 'tcp://[::]'", "2: listeners[0].ulr: unknown key, did you mean `url`?"),
        ("[access.roles.local]\nrules = []", "1: access.roles.local: this role is built in"),
        ("[access]\ncertificate_roles = ['a']", "2: access.certificate_roles: `a` is not configured"),
        ("[admin]\nlisten = '9090'", "2: admin.listen: \"9090\": the port is missing"),
        ("[log]\nlevel = 'inof'", "2: log.level: expected off, error, warn, info, debug or trace"),
        ("[log]\nformat = 'xml'", "2: log.format: expected `text` or `json`, found \"xml\""),
        ("[bucket]\nurl = 'ftp://mine'", "2: bucket.url: "),
        ("[bucket]\nurl = 's3://mine?secret_access_key=hunter2'", "2: bucket.url: "),
        ("[bucket]\nattempt_timeout = '1h'", "2: bucket.attempt_timeout: is at most request_timeout"),
        ("[sys_topics]\ninterval = '2d'", "2: sys_topics.interval: expected whole seconds from 0s to 1d, found 2d"),
        ("[log]\nlevel = 1979-05-27", "2: log.level: expected a string, found a date"),
        ("[log]\nlevel = 'info\n", "2: : this is not TOML: "),
        ("[log]\nlevel = 'info'\nlevel = 'warn'\n", "3: : this is not TOML: "),
    ];
    for (text, expected) in table {
        let errors = errors(text);
        assert!(errors.len() == 1 && errors[0].starts_with(expected), "{text}\nexpected {expected}\nfound    {errors:#?}");
    }
}

#[test]
fn several_mistakes_are_told_together() {
    let text = "[limits]\nmax_qos = 'two'\nmaxqos = 1\nkeep_alive_max = 1\nmax_inflight = 0\n[[listeners]]\nurl = 7\n[[listeners]]\nurl = 'tcp://[::]'\nbacklog = 'x'\n[log]\nformat = 1\n";
    let errors = errors(text);
    let places: Vec<String> = errors.iter().map(|error| error.splitn(3, ": ").take(2).collect::<Vec<_>>().join(" ")).collect();
    for place in [
        "2 limits.max_qos",
        "3 limits.maxqos",
        "4 limits.keep_alive_max",
        "5 limits.max_inflight",
        "7 listeners[0].url",
        "10 listeners[1].backlog",
        "12 log.format",
    ] {
        assert!(places.iter().any(|found| found == place), "{place}: {errors:#?}");
    }
    assert_eq!(errors.len(), 7, "{errors:#?}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Some(Path::new("/nowhere/b.toml")), no_variables(), &ServeFlags::default()).unwrap_err();
    assert!(error.to_string().starts_with("--config: cannot read /nowhere/b.toml: No such file"), "{error}");
}

#[test]
fn flags_win_over_variables_and_variables_over_the_file() {
    let file = file(
        "[log]\nlevel = 'error'\nformat = 'json'\n[admin]\nlisten = 'a:1'\n[[listeners]]\nurl = 'tcp://[::]:1'\nanonymous = 'local'\n",
    );
    let variables = || {
        variables(&[
            ("BUCKETMQ_LOG__LEVEL", "warn"),
            ("BUCKETMQ_ADMIN__LISTEN", "b:2"),
            ("BUCKETMQ_LISTENERS__0__URL", "tcp://[::]:2"),
            ("PATH", "/bin"),
        ])
    };
    let from_variables = Config::load(Some(file.path()), variables(), &ServeFlags::default()).unwrap().config;
    assert_eq!((from_variables.log.level.as_str(), from_variables.log.format), ("warn", LogFormat::Json));
    assert_eq!(from_variables.listeners[0].url, "tcp://[::]:2");
    assert_eq!(from_variables.listeners[0].anonymous, "local");

    let flags = ServeFlags {
        listen: vec!["tcp://[::]:3?anonymous=local".into(), "unix:/run/m.sock?anonymous=local".into()],
        bucket: Some("memory://".into()),
        member: Some("broker-7".into()),
        takeover: Some("new".into()),
        admin: Some(String::new()),
        log_level: Some("trace".into()),
        log_format: Some(LogFormat::Text),
    };
    let config = Config::load(Some(file.path()), variables(), &flags).unwrap().config;
    assert_eq!(config.listeners.iter().map(|listener| listener.url.as_str()).collect::<Vec<_>>(), ["tcp://[::]:3", "unix:/run/m.sock"]);
    assert_eq!((config.log.level.as_str(), config.log.format, config.admin.listen.as_str()), ("trace", LogFormat::Text, ""));
    assert_eq!((config.cluster.member.as_str(), config.cluster.takeover), ("broker-7", bucketmq_cluster::Takeover::New));
}

#[test]
fn variables_are_read_by_the_type_of_their_place() {
    let config = load_variables(
        "[access]\nusers_file = 'users'\n",
        &[
            ("BUCKETMQ_LIMITS__MAX_QOS", "1"),
            ("BUCKETMQ_LIMITS__QUEUE_QOS0", "true"),
            ("BUCKETMQ_LIMITS__MAX_PACKET_SIZE", "2MiB"),
            ("BUCKETMQ_LIMITS__OUTPUT_BUFFER_BYTES", "65536"),
            ("BUCKETMQ_LIMITS__KEEP_ALIVE_MAX", "2m"),
            ("BUCKETMQ_LIMITS__SHARED_STRATEGY", "sticky"),
            ("BUCKETMQ_LISTENERS__0__URL", "tcp://[::]:1"),
            ("BUCKETMQ_LISTENERS__0__NAME", "1883"),
            ("BUCKETMQ_LISTENERS__0__PROXY_PROTOCOL", "['10.0.0.0/8', '::1']"),
            ("BUCKETMQ_LISTENERS__1__URL", "tls://[::]:2"),
            ("BUCKETMQ_LISTENERS__1__TLS__CERTIFICATES__0__CERT", "a.pem"),
            ("BUCKETMQ_LISTENERS__1__TLS__CERTIFICATES__0__KEY", "a.key"),
            ("BUCKETMQ_LISTENERS__1__TLS__MIN_VERSION", "1.3"),
            ("BUCKETMQ_ACCESS__ROLES__SENSOR__RULES", "[\"allow connect\"]"),
            ("BUCKETMQ_ACCESS__ROLES__SENSOR__RULES__1", "allow publish true"),
            ("BUCKETMQ_ACCESS__ROLES__SENSOR__RULES__2", "{ effect = 'deny', operations = ['connect'] }"),
            ("BUCKETMQ_ACCESS__CERTIFICATE_ROLES", "['sensor']"),
            ("BUCKETMQ_USERNAME", "ann"),
            ("BUCKETMQ_PASSWORD", "secret"),
            ("BUCKETMQ_SERVICE_HOST", "10.0.0.1"),
            ("BUCKETMQ_PORT", "tcp://10.0.0.1:1883"),
        ],
    )
    .unwrap();
    let limits = &config.limits;
    assert_eq!((limits.max_qos, limits.queue_qos0, limits.shared_strategy), (1, true, SharedStrategy::Sticky));
    assert_eq!((limits.max_packet_size.as_u64(), limits.output_buffer_bytes.as_u64()), (2 << 20, 65_536));
    assert_eq!(limits.keep_alive_max, Duration::from_secs(120));
    assert_eq!((config.listeners[0].name.as_str(), config.listeners[0].proxy_protocol.len()), ("1883", 2));
    assert_eq!(config.listeners[1].tls.as_ref().unwrap().certificates[0].key, Path::new("a.key"));
    assert_eq!(config.access.roles["sensor"].rules.len(), 3);
    assert_eq!(config.access.certificate_roles, ["sensor"]);
}

#[test]
fn eleven_listeners_come_in_the_order_of_their_numbers() {
    let pairs: Vec<(String, String)> = (0..11)
        .flat_map(|number| {
            [
                (format!("BUCKETMQ_LISTENERS__{number}__URL"), format!("tcp://[::]:{}", number + 1)),
                (format!("BUCKETMQ_LISTENERS__{number}__ANONYMOUS"), "local".to_owned()),
            ]
        })
        .collect();
    let config = Config::load(None, pairs.into_iter(), &ServeFlags::default()).unwrap().config;
    assert_eq!(config.listeners[10].url, "tcp://[::]:11");
}

#[test]
fn an_empty_variable_unsets_what_is_optional() {
    let config = load_variables("[access]\nusers_file = 'users'\n", &[("BUCKETMQ_ACCESS__USERS_FILE", "")]).unwrap();
    assert_eq!(config.access.users_file, None);
}

#[test]
fn what_is_wrong_with_a_variable_is_told_with_its_name() {
    for (variable, value, expected) in [
        (
            "BUCKETMQ_LIMITS__MAX_QOS",
            "two",
            "BUCKETMQ_LIMITS__MAX_QOS: limits.max_qos: expected a whole number from 0 to 255, found \"two\"",
        ),
        ("BUCKETMQ_LIMITS__MAX_QOS", "3", "BUCKETMQ_LIMITS__MAX_QOS: limits.max_qos: expected a whole number from 0 to 2, found 3"),
        ("BUCKETMQ_LIMITS__QUEUE_QOS0", "yes", "BUCKETMQ_LIMITS__QUEUE_QOS0: limits.queue_qos0: expected true or false, found \"yes\""),
        ("BUCKETMQ_LIMITS__MAX_QS", "1", "BUCKETMQ_LIMITS__MAX_QS: limits.max_qs: unknown key, did you mean `BUCKETMQ_LIMITS__MAX_QOS`?"),
        ("BUCKETMQ_LIMITS_MAX_QOS", "1", "BUCKETMQ_LIMITS_MAX_QOS: limits_max_qos: unknown key, did you mean `BUCKETMQ_LIMITS__MAX_QOS`?"),
        ("BUCKETMQ_LIMITS__MAX_QOS__X", "1", "BUCKETMQ_LIMITS__MAX_QOS__X: limits.max_qos.x: unknown key, there is nothing below"),
        (
            "BUCKETMQ_FEDERATION__NAME",
            "a",
            "BUCKETMQ_FEDERATION__NAME: federation.name: unknown key, expected `BUCKETMQ_` followed by one of ACCESS",
        ),
        ("BUCKETMQ_LISTENERS__1__URL", "tcp://[::]", "BUCKETMQ_LISTENERS__1__URL: listeners[1].url: there is no element 1"),
        (
            "BUCKETMQ_LISTENERS__0__URK",
            "x",
            "BUCKETMQ_LISTENERS__0__URK: listeners[0].urk: unknown key, did you mean `BUCKETMQ_LISTENERS__0__URL`?",
        ),
        ("BUCKETMQ_LISTENERS__0__NAME", "x", "BUCKETMQ_LISTENERS__0__NAME: listeners[0].url: this key is missing"),
        (
            "BUCKETMQ_ACCESS__CERTIFICATE_ROLES",
            "sensor",
            "BUCKETMQ_ACCESS__CERTIFICATE_ROLES: access.certificate_roles: expected an array such as",
        ),
        ("BUCKETMQ_LIMITS", "7", "BUCKETMQ_LIMITS: limits: expected a table, found 7"),
    ] {
        let error = load_variables("", &[(variable, value)]).unwrap_err();
        assert!(error.starts_with(expected) && !error.contains('\n'), "{variable}={value}\nexpected {expected}\nfound    {error}");
    }
}

#[test]
fn what_is_wrong_with_a_flag_is_told_with_its_name() {
    let flags = ServeFlags { listen: vec!["tcp://[::]:1?anonymus=x".into()], ..ServeFlags::default() };
    let error = Config::load(None, no_variables(), &flags).unwrap_err().to_string();
    assert!(error.starts_with("--listen: anonymus: is not a parameter"), "{error}");
    let flags = ServeFlags { bucket: Some("ftp://b".into()), ..ServeFlags::default() };
    let error = Config::load(None, no_variables(), &flags).unwrap_err().to_string();
    assert!(error.starts_with("--bucket: bucket.url: ") && error.contains("s3://name/prefix"), "{error}");

    let flags = ServeFlags { listen: vec!["tcp://0.0.0.0:1".into()], ..ServeFlags::default() };
    let error = Config::load(None, no_variables(), &flags).unwrap_err().to_string();
    assert!(error.contains("nobody could connect") && error.contains("anonymous=ROLE"), "{error}");
}

#[test]
fn listeners_without_a_name_get_one_that_no_other_has() {
    let listen = ["tcp://127.0.0.1:1883", "tcp://[::1]:1883", "tcp://127.0.0.2:1883?name=tcp-1883-2"];
    let listen = listen.map(|url| format!("{url}{}anonymous=local", if url.contains('?') { '&' } else { '?' })).to_vec();
    let config = Config::load(None, no_variables(), &ServeFlags { listen, ..ServeFlags::default() }).unwrap().config;
    let names: Vec<&str> = config.listeners.iter().map(|listener| listener.name.as_str()).collect();
    assert_eq!(names, ["tcp-1883", "tcp-1883-3", "tcp-1883-2"]);

    let twice = "[[listeners]]\nname = 'a'\nurl = 'tcp://[::]:1'\nanonymous = 'local'\n[[listeners]]\nname = 'a'\nurl = 'tcp://[::]:2'\nanonymous = 'local'\n";
    assert_eq!(errors(twice), ["6: listeners[1].name: another listener is called \"a\" already"]);
}

#[test]
fn equal_configurations_have_equal_hashes_however_they_were_written() {
    let hash = |text: &str| load_text(text).unwrap().hash();
    let plain = hash("");
    assert_eq!(plain.len(), 64);
    assert_eq!(plain, hash("[limits]\nmax_packet_size = '1024KiB'\nkeep_alive_default = '1m'\n[log]\nlevel = \"info\"\n"));
    assert_ne!(plain, hash("[limits]\nmax_packet_size = 1048577\n"));
    let listener = |rate: &str| hash(&format!("[[listeners]]\nurl = 'tcp://[::]:1'\nanonymous = 'local'\nbytes_rate = {rate}\n"));
    assert_ne!(listener("1048576"), listener("1048577"));
    assert_eq!(listener("1048576"), listener("'1MiB'"));
}

#[test]
fn what_is_in_force_can_be_written_down_and_read_again() {
    let config =
        load_text("[limits]\nmax_packet_size = 1048577\n[[listeners]]\nurl = 'tcp://[::]:1'\nanonymous = 'local'\nbytes_rate = 1025\n")
            .unwrap();
    let again: Config = serde_json::from_value(config.to_json()).unwrap();
    assert_eq!(again, config);
}

#[test]
fn a_reload_reads_the_file_again_and_keeps_the_flags() {
    let file = file("[log]\nlevel = 'warn'\n");
    let flags = ServeFlags { admin: Some("[::1]:1".into()), ..ServeFlags::default() };
    let loaded = Config::load(Some(file.path()), variables(&[("BUCKETMQ_LIMITS__MAX_QOS", "1")]), &flags).unwrap();
    assert_eq!(loaded.reload().unwrap(), loaded);

    std::fs::write(
        file.path(),
        "revision = '7'\n[log]\nlevel = 'debug'\nformat = 'json'\n[bucket]\nmax_attempts = 2\nmin_flush_interval = '1s'\n[sys_topics]\ninterval = '1s'\n",
    )
    .unwrap();
    let mut next = loaded.reload().unwrap();
    assert_eq!((next.config.log.level.as_str(), next.config.limits.max_qos, next.config.admin.listen.as_str()), ("debug", 1, "[::1]:1"));
    assert_eq!(restart_needed(&loaded.config, &next.config), ["bucket", "log.format", "sys_topics.interval"]);
    assert_ne!(loaded.hash(), next.hash());
    keep_until_restart(&loaded.config, &mut next.config);
    assert!(restart_needed(&loaded.config, &next.config).is_empty() && next.config.log.level == "debug");
    assert_eq!((next.config.bucket.max_attempts, next.config.bucket.min_flush_interval), (4, Duration::from_secs(1)));
    assert_eq!(next.config.revision, "7");

    std::fs::write(file.path(), "[log]\nlevl = 'debug'\n").unwrap();
    assert!(loaded.reload().unwrap_err().to_string().contains(":2:1: log.levl: unknown key, did you mean `level`?"));
}
