//! A server that answers S3 requests as a test says, one after another: for what real servers do once in a year.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use bucketmq_bucket::{BucketConfig, S3Store, S3Url};

/// What arrived.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Step {
    /// Status, headers and body.
    Answer(u16, Vec<(&'static str, &'static str)>, &'static str),
    /// The object of the first request, as HEAD would show it.
    OurObject,
    /// The connection breaks after the request was read.
    Break,
    /// Nothing, for ever.
    Silence,
}

impl Step {
    /// An object that somebody else wrote, as HEAD shows it.
    pub fn object_of_another(e_tag: &'static str) -> Step {
        Step::Answer(200, vec![("ETag", e_tag), ("Last-Modified", DATE)], "")
    }

    /// An error with S3's code.
    pub fn error(status: u16, body: &'static str) -> Step {
        Step::Answer(status, vec![("Content-Type", "application/xml")], body)
    }

    /// A PUT that worked.
    pub fn stored() -> Step {
        Step::Answer(200, vec![("ETag", "\"new\"")], "")
    }
}

pub struct Script {
    requests: Receiver<Request>,
    pub endpoint: String,
}

impl Script {
    pub fn of(steps: Vec<Step>) -> Script {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let (sender, requests) = channel();
        std::thread::spawn(move || serve(&listener, steps, &sender));
        Script { requests, endpoint }
    }

    /// What arrived until now.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.try_iter().collect()
    }

    pub async fn store(&self) -> S3Store {
        self.store_with(|_| {}).await
    }

    pub async fn store_with(&self, change: impl FnOnce(&mut BucketConfig)) -> S3Store {
        // SAFETY: every test of the binary sets the same values before it reads the environment.
        unsafe {
            std::env::set_var("AWS_ACCESS_KEY_ID", "someone");
            std::env::set_var("AWS_SECRET_ACCESS_KEY", "hush");
        }
        let url = format!("s3://bucket?region=us-east-1&endpoint={}", self.endpoint);
        let mut config = BucketConfig::new(url.parse().expect("a bucket URL"));
        change(&mut config);
        let bucketmq_bucket::BucketUrl::S3(url) = &config.url else { unreachable!("it is S3") };
        S3Store::connect(&S3Url { kms_key: None, ..url.clone() }, &config).await.expect("a client")
    }
}

fn serve(listener: &TcpListener, steps: Vec<Step>, sender: &Sender<Request>) {
    let mut first: Option<Request> = None;
    let mut silent = Vec::new();
    for step in steps {
        let Ok((stream, _)) = listener.accept() else { return };
        let Some(request) = read(&stream) else { continue };
        let first = first.get_or_insert_with(|| request.clone()).clone();
        if sender.send(request).is_err() {
            return;
        }
        match step {
            Step::Break => drop(stream),
            Step::Silence => silent.push(stream),
            Step::Answer(status, headers, body) => answer(stream, status, &headers, body),
            Step::OurObject => {
                let id = first.header("x-amz-meta-bucketmq-put-id").to_owned();
                answer(stream, 200, &[("x-amz-meta-bucketmq-put-id", &id), ("ETag", "\"ours\""), ("Last-Modified", DATE)], "");
            }
        }
    }
    // Longer than any test waits.
    std::thread::sleep(std::time::Duration::from_secs(60));
    drop(silent);
}

pub const DATE: &str = "Wed, 21 Oct 2026 07:28:00 GMT";

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let request = Request { method, target, headers };
    let mut body = vec![0; request.header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(request)
}

fn answer(mut stream: TcpStream, status: u16, headers: &[(&str, &str)], body: &str) {
    let mut text = format!("HTTP/1.1 {status} -\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(body);
    let _ = stream.write_all(text.as_bytes());
}
