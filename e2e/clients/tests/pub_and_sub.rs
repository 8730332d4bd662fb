//! `bucketmq pub` and `bucketmq sub` as a person uses them: properties, formats, exit codes.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use bucketmq_binary::beside_test;
use bucketmq_e2e_clients::{Broker, Transport};
use serde_json::Value;

fn command(name: &str, broker: &Broker, line: &str) -> Command {
    let mut command = Command::new(beside_test().expect("the binary"));
    command.arg(name).args(["-p", &broker.port(Transport::Tcp).to_string()]).args(line.split(' '));
    command
}

fn run(name: &str, broker: &Broker, line: &str) -> Output {
    command(name, broker, line).output().expect("it runs")
}

fn publish(broker: &Broker, line: &str) {
    let output = run("pub", broker, line);
    assert!(output.status.success(), "pub {line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Starts `sub` and waits until its Subscription is acknowledged.
fn subscribe(broker: &Broker, line: &str) -> Child {
    let mut child = command("sub", broker, line).arg("-d").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut errors = BufReader::new(child.stderr.take().expect("stderr")).lines();
    let suback = errors.find(|line| line.as_ref().is_ok_and(|line| line.contains("received SUBACK")));
    assert!(suback.is_some(), "sub {line} ended before SUBACK");
    std::thread::spawn(move || errors.for_each(drop));
    child
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn properties_of_mqtt_5_go_all_the_way() {
    let broker = Broker::start().expect("a broker");
    let subscriber =
        subscribe(&broker, "-t orders/# -q 1 -C 1 --json -D SUBSCRIBE subscription-identifier 12 -D CONNECT topic-alias-maximum 4");
    publish(
        &broker,
        "-t orders/7 -q 1 -m {} -D PUBLISH content-type application/json -D PUBLISH response-topic replies/7 -D PUBLISH correlation-data 7 \
         -D PUBLISH user-property shop north -D PUBLISH user-property shop south -D PUBLISH message-expiry-interval 60 \
         -D PUBLISH payload-format-indicator 1",
    );
    let output = subscriber.wait_with_output().expect("it ends");
    let message: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let properties = &message["properties"];
    assert_eq!((message["topic"].as_str(), message["qos"].as_u64(), message["payload"].as_str()), (Some("orders/7"), Some(1), Some("{}")));
    assert_eq!(properties["content-type"], "application/json");
    assert_eq!(properties["response-topic"], "replies/7");
    assert_eq!(properties["correlation-data"], "7");
    assert_eq!(properties["payload-format-indicator"], 1);
    assert_eq!(properties["subscription-identifier"], serde_json::json!([12]));
    assert_eq!(properties["user-properties"][1], serde_json::json!({ "name": "shop", "value": "south" }));
    assert!(properties["message-expiry-interval"].as_u64().is_some_and(|seconds| (59..=60).contains(&seconds)));
}

#[test]
fn message_is_printed_by_its_format() {
    let broker = Broker::start().expect("a broker");
    publish(&broker, "-t a/b -r -m hi");
    let output = run("sub", &broker, "-t a/+ -C 1 -F %t|%p|%x|%l|%r");
    assert_eq!(text(&output.stdout), "a/b|hi|6869|2|1\n");
    assert_eq!(text(&run("sub", &broker, "-t a/+ -C 1 -v").stdout), "a/b hi\n");
    assert_eq!(text(&run("sub", &broker, "-t a/+ -C 1 -N").stdout), "hi");
}

#[test]
fn topics_are_filtered_out() {
    let broker = Broker::start().expect("a broker");
    ["a", "b", "c"].iter().for_each(|topic| publish(&broker, &format!("-t filter/{topic} -r -m {topic}")));
    let output = run("sub", &broker, "-t filter/# -T filter/b -W 1 --quiet");
    let mut lines: Vec<_> = text(&output.stdout).lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["a", "c"]);
}

#[test]
fn retained_messages_are_removed() {
    let broker = Broker::start().expect("a broker");
    publish(&broker, "-t old/1 -r -q 1 -m x");
    run("sub", &broker, "-t old/# --remove-retained -W 1");
    let output = run("sub", &broker, "-t old/# -W 1");
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
}

#[test]
fn exit_code_tells_what_happened() {
    let broker = Broker::start().expect("a broker");
    for (name, line, code, told) in [
        ("sub", "-t a -W 1", 27, "timed out"),
        ("sub", "-t a -E", 0, ""),
        ("pub", "-t a/# -m x", 1, "wildcard"),
        ("pub", "-t $SYS/x -m x -q 1", 135, "Not authorized"),
        ("pub", "-h 127.0.0.1 -t a -m x -q 3", 2, "0, 1 or 2"),
        ("pub", "-t a -f no-such-file", 14, "no-such-file"),
    ] {
        let output = run(name, &broker, line);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{name} {line}: {errors}");
        assert!(errors.contains(told), "{name} {line}: {errors}");
    }
    let nobody = Command::new(beside_test().expect("the binary")).args(["pub", "-p", "1", "-t", "a", "-m", "x"]).output().expect("it runs");
    assert_eq!(nobody.status.code(), Some(14), "{}", text(&nobody.stderr));
}

#[test]
fn subscriber_comes_back_when_the_broker_does() {
    let mut broker = Broker::start().expect("a broker");
    let subscriber = subscribe(&broker, "-t again -C 1");
    broker.restart().expect("the broker starts again");
    let mut tries = 0;
    let mut child = subscriber;
    // The Subscription is made again some time after the broker listens; until then messages go to nobody.
    while child.try_wait().expect("its state").is_none() {
        publish(&broker, "-t again -m back");
        std::thread::sleep(std::time::Duration::from_millis(50));
        tries += 1;
        assert!(tries < 400, "it did not come back");
    }
    assert_eq!(text(&child.wait_with_output().expect("it ended").stdout), "back\n");
}
