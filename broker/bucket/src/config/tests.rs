//! Bucket URLs and the limits beside them.

use super::*;

fn url(text: &str) -> BucketUrl {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn bucket_urls_are_taken_apart() {
    let BucketUrl::S3(s3) = url("s3://my-bucket/prod/a?region=eu-central-1&kms_key=alias/mqtt&profile=ops&ca=/etc/ca.pem") else {
        panic!()
    };
    assert_eq!((s3.bucket.as_str(), s3.prefix.as_ref(), s3.path_style), ("my-bucket", "prod/a", false));
    assert_eq!(
        (s3.region.as_deref(), s3.kms_key.as_deref(), s3.profile.as_deref()),
        (Some("eu-central-1"), Some("alias/mqtt"), Some("ops"))
    );
    let BucketUrl::S3(s3) = url("s3://my_Bucket?endpoint=http://127.0.0.1:7070/") else { panic!() };
    assert_eq!((s3.endpoint.as_deref(), s3.path_style), (Some("http://127.0.0.1:7070"), true));
    let BucketUrl::Gcs(gcs) = url("gs://my-bucket/p/?anonymous=true&endpoint=http://localhost:4443") else { panic!() };
    assert_eq!((gcs.bucket.as_str(), gcs.prefix.as_ref(), gcs.anonymous), ("my-bucket", "p", true));
    let BucketUrl::Azure(azure) = url("az://account1/state/a/b") else { panic!() };
    assert_eq!((azure.account.as_str(), azure.container.as_str(), azure.prefix.as_ref()), ("account1", "state", "a/b"));
    assert_eq!(url("file:///var/lib/my%20broker/"), BucketUrl::File("/var/lib/my broker".into()));
    assert_eq!(url("memory://"), BucketUrl::Memory);
}

#[test]
fn a_bucket_url_is_written_as_it_is_read() {
    for text in [
        "s3://my-bucket",
        "s3://my-bucket/prod/a%20b?region=eu-central-1&ca=/etc/my%20ca.pem&kms_key=alias/mqtt&profile=ops",
        "s3://my-bucket?endpoint=https://storage.example:9000",
        "s3://my-bucket?endpoint=https://storage.example:9000&path_style=false",
        "s3://my-bucket?path_style=true",
        "gs://my-bucket/p?endpoint=http://localhost:4443&anonymous=true",
        "az://account1/state/a/b?ca=ca.pem",
        "file:///var/lib/my%20broker",
        "memory://",
    ] {
        assert_eq!(url(text).to_string(), text);
        assert_eq!(url(&url(text).to_string()), url(text));
    }
}

#[test]
fn a_wrong_bucket_url_is_answered_with_the_part_and_what_would_be_right() {
    for (text, key, says) in [
        ("", "url", "s3://name/prefix"),
        ("my-bucket", "url", "has no scheme"),
        ("http://my-bucket", "url", "is not a scheme"),
        ("s3://", "url.name", "is missing"),
        ("s3:///prefix", "url.name", "is missing"),
        ("s3://ab", "url.name", "3 to 63"),
        ("s3://My-Bucket", "url.name", "lower-case"),
        ("s3://my-bucket-", "url.name", "both ends"),
        ("s3://my-bucket/a//b", "url.prefix", "names with '/'"),
        ("s3://my-bucket/../b", "url.prefix", "names with '/'"),
        ("s3://my-bucket/a#b", "url", "%23"),
        ("s3://my-bucket/%zz", "url", "two hex digits"),
        ("s3://my-bucket?regoin=x", "url.regoin", "s3:// takes ca, endpoint, kms_key, path_style, profile, region"),
        ("s3://my-bucket?anonymous=true", "url.anonymous", "belongs to gs:// only"),
        ("s3://my-bucket?region=", "url.region", "needs a value"),
        ("s3://my-bucket?region=a&region=b", "url.region", "twice"),
        ("s3://my-bucket?path_style=yes", "url.path_style", "true or false"),
        ("s3://my-bucket?endpoint=storage.example", "url.endpoint", "begins with https://"),
        ("s3://my-bucket?endpoint=http://", "url.endpoint", "host"),
        ("gs://my-bucket?region=eu", "url.region", "belongs to s3:// only"),
        ("az://account1", "url.container", "is missing"),
        ("az://my-account/state", "url.account", "letters and digits"),
        ("file://var/lib", "url", "three slashes"),
        ("file:///", "url", "three slashes"),
        ("file:///var?ca=x", "url.ca", "file:// takes none"),
        ("memory://x", "url", "neither name nor path"),
    ] {
        let error = text.parse::<BucketUrl>().expect_err(text);
        assert_eq!(error.key, key, "{text}: {error}");
        assert!(error.problem.contains(says), "{text}: {error}");
    }
}

#[test]
fn secrets_are_refused_unseen_and_told_where_to_go() {
    for text in [
        "s3://AKIAHUSH:hush@my-bucket",
        "s3://my-bucket?secret_access_key=hush",
        "s3://my-bucket?AWS_ACCESS_KEY_ID=hush",
        "s3://my-bucket?session_token=hush",
        "s3://my-bucket?key=hush",
        "s3://my-bucket?endpoint=https://me:hush@storage.example",
        "gs://my-bucket?credentials=hush",
        "az://account1/state?sig=hush",
        "az://account1/state?account_key=hush",
    ] {
        let error = text.parse::<BucketUrl>().expect_err(text).to_string();
        assert!(error.contains("secrets go into"), "{error}");
        assert!(!error.to_lowercase().contains("hush"), "{error}");
    }
}

#[test]
fn unknown_keys_are_refused_and_defaults_fill_the_rest() {
    let config: BucketConfig = toml::from_str("url = \"s3://my-bucket\"\nrequest_timeout = \"20s\"\n").unwrap();
    assert_eq!(config, BucketConfig { request_timeout: Duration::from_secs(20), ..BucketConfig::new(url("s3://my-bucket")) });
    config.validate().unwrap();
    assert!(
        toml::from_str::<BucketConfig>("url = \"s3://my-bucket\"\ntimeout = \"1s\"\n").unwrap_err().to_string().contains("unknown field")
    );
    assert!(toml::from_str::<BucketConfig>("url = \"s3://ab\"\n").unwrap_err().to_string().contains("url.name"));
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    let good = BucketConfig::new(BucketUrl::Memory);
    for (config, key) in [
        (BucketConfig { request_timeout: Duration::ZERO, ..good.clone() }, "request_timeout"),
        (BucketConfig { attempt_timeout: Duration::from_secs(31), ..good.clone() }, "attempt_timeout"),
        (BucketConfig { connect_timeout: Duration::from_secs(11), ..good.clone() }, "connect_timeout"),
        (BucketConfig { max_attempts: 0, ..good.clone() }, "max_attempts"),
        (BucketConfig { min_flush_interval: Duration::from_millis(1001), ..good.clone() }, "min_flush_interval"),
        (BucketConfig { owner: "a\nb".to_owned(), ..good.clone() }, "owner"),
        (BucketConfig { owner: "a".to_owned(), adopt: "b".repeat(257), ..good.clone() }, "adopt"),
        (BucketConfig { adopt: "b".to_owned(), ..good.clone() }, "adopt"),
    ] {
        assert_eq!(config.validate().unwrap_err().key, key);
    }
}
