//! `file://` with several processes at one directory, and with processes that are killed at any moment.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path as FilePath;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bucketmq_bucket::LocalStore;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, UpdateVersion,
};

const PROCESSES: usize = 16;
const CREATES: usize = 20;
const INCREMENTS: usize = 25;
const KILLS: u64 = 20;
const DELETED_BEHIND: u64 = 10;

/// To the real standard output, a whole line at once: a process that dies says a thing or does not.
macro_rules! say {
    ($($words:tt)*) => {
        std::io::stdout().write_all(format!("\n{}\n", format_args!($($words)*)).as_bytes()).expect("somebody listens")
    };
}

/// Starts this test binary again in the role of `role`.
fn child(role: &str, dir: &FilePath, number: u64) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("our own path"));
    command.args(["--exact", "a_child", "--nocapture", "--test-threads=1"]);
    command.env("BUCKET_CHILD", role).env("BUCKET_DIR", dir).env("BUCKET_NUMBER", number.to_string());
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a child")
}

/// Does nothing unless it was started by another test here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child() {
    let Ok(role) = std::env::var("BUCKET_CHILD") else { return };
    let dir = std::env::var("BUCKET_DIR").expect("a directory");
    let number: u64 = std::env::var("BUCKET_NUMBER").expect("a number").parse().expect("a number");
    let store = Arc::new(LocalStore::open(FilePath::new(&dir)).expect("a store"));
    match role.as_str() {
        "race" => race(&store, number).await,
        _ => write_for_ever(store, number).await,
    }
}

/// Content that says what it is, so that half of it is noticed, with the same number as an attribute.
fn content(number: u64) -> PutPayload {
    let length = (number * 7919 % 40_000) as usize;
    let mut text = format!("{number} {length} ").into_bytes();
    text.extend((0..length).map(|at| (at as u64 * number % 251) as u8));
    text.into()
}

fn options(mode: PutMode, number: u64) -> PutOptions {
    PutOptions { attributes: attributes(number), ..mode.into() }
}

fn attributes(number: u64) -> Attributes {
    [(Attribute::Metadata("number".into()), number.to_string())].into_iter().collect()
}

/// The number of a whole object. Anything else is a torn one.
async fn number_of(store: &dyn ObjectStore, location: &Path) -> Result<u64, Error> {
    let result = store.get(location).await?;
    let said: u64 =
        result.attributes.get(&Attribute::Metadata("number".into())).expect("its attribute").as_ref().parse().expect("a number");
    let bytes = result.bytes().await?;
    let number: u64 = String::from_utf8_lossy(bytes.split(|byte| *byte == b' ').next().expect("a word")).parse().expect("a number");
    assert_eq!(bytes, bytes::Bytes::from(content(number)), "{location} is torn");
    assert_eq!(said, number, "{location} has the attributes of another version");
    Ok(number)
}

async fn race(store: &LocalStore, process: u64) {
    for number in 0..CREATES {
        let mode = options(PutMode::Create, process);
        match store.put_opts(&Path::from(format!("race/{number}")), content(process), mode).await {
            Ok(_) => say!("won {number}"),
            Err(Error::AlreadyExists { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let counter = Path::from("counter");
    for _ in 0..INCREMENTS {
        loop {
            let there = store.get(&counter).await.expect("the counter");
            let version = UpdateVersion { e_tag: there.meta.e_tag.clone(), version: None };
            let value: u64 = String::from_utf8_lossy(&there.bytes().await.expect("its value")).parse().expect("a number");
            match store.put_opts(&counter, (value + 1).to_string().into(), PutMode::Update(version).into()).await {
                Ok(_) => break,
                Err(Error::Precondition { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[tokio::test]
async fn sixteen_processes_have_one_winner_in_every_race_and_lose_no_increment() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = LocalStore::open(dir.path()).expect("a store");
    store.put(&Path::from("counter"), "0".into()).await.expect("the counter");
    let started = Instant::now();
    let children: Vec<Child> = (0..PROCESSES as u64).map(|process| child("race", dir.path(), process)).collect();
    let mut winners: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (process, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output().expect("its output");
        assert!(output.status.success(), "process {process} failed");
        for line in String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| line.strip_prefix("won ")) {
            winners.entry(line.to_owned()).or_default().push(process);
        }
    }
    assert_eq!(winners.len(), CREATES);
    for (number, won) in &winners {
        assert_eq!(won.len(), 1, "race {number}: {won:?}");
        assert_eq!(number_of(&store, &Path::from(format!("race/{number}"))).await.expect("the object"), won[0] as u64);
    }
    let counter = store.get(&Path::from("counter")).await.expect("the counter").bytes().await.expect("its value");
    assert_eq!(counter, (PROCESSES * INCREMENTS).to_string());
    say!("{CREATES} races and {} increments by {PROCESSES} processes in {:?}", PROCESSES * INCREMENTS, started.elapsed());
}

/// Says what was acknowledged, line by line, until it is killed.
async fn write_for_ever(store: Arc<LocalStore>, round: u64) {
    let from = round * 1_000_000;
    let logs = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for number in from.. {
                store
                    .put_opts(&Path::from(format!("log/{number}")), content(number), options(PutMode::Create, number))
                    .await
                    .expect("a create");
                say!("log {number}");
                if let Some(old) = number.checked_sub(DELETED_BEHIND).filter(|old| *old >= from) {
                    say!("delete {old}");
                    store.delete(&Path::from(format!("log/{old}"))).await.expect("a delete");
                    say!("deleted {old}");
                }
            }
        }
    });
    let manifests = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            let location = Path::from("manifest");
            let mut mode = match store.head(&location).await {
                Ok(meta) => PutMode::Update(UpdateVersion { e_tag: meta.e_tag, version: None }),
                Err(_) => PutMode::Create,
            };
            for number in from.. {
                let put = store.put_opts(&location, content(number), options(mode, number)).await.expect("an update");
                say!("manifest {number}");
                mode = PutMode::Update(put.into());
            }
        }
    });
    let parts = tokio::spawn(async move {
        for number in from.. {
            let location = Path::from(format!("parts/{}", number % 3));
            let options = PutMultipartOptions { attributes: attributes(number), ..Default::default() };
            let mut upload = store.put_multipart_opts(&location, options).await.expect("an upload");
            let whole = bytes::Bytes::from(content(number));
            for at in (0..whole.len()).step_by(8000) {
                upload.put_part(whole.slice(at..whole.len().min(at + 8000)).into()).await.expect("a part");
            }
            upload.complete().await.expect("an object");
            say!("parts/{} {number}", number % 3);
        }
    });
    let _ = tokio::join!(logs, manifests, parts);
}

#[derive(Default)]
struct Acknowledged {
    logs: BTreeSet<u64>,
    deleted: BTreeSet<u64>,
    /// Replaced again and again by one writer each: the newest number that was acknowledged.
    newest: BTreeMap<String, u64>,
    count: usize,
}

impl Acknowledged {
    fn read(&mut self, line: &str) {
        let Some((what, Ok(number))) = line.split_once(' ').map(|(what, number)| (what, number.parse())) else { return };
        match what {
            "log" => drop(self.logs.insert(number)),
            "delete" => drop(self.logs.remove(&number)),
            "deleted" => drop(self.deleted.insert(number)),
            "manifest" | "parts/0" | "parts/1" | "parts/2" => drop(self.newest.insert(what.to_owned(), number)),
            _ => return,
        }
        self.count += 1;
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_and_nothing_is_torn_when_a_writer_is_killed() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut acknowledged = Acknowledged::default();
    for round in 1..=KILLS {
        let mut writer = child("write", dir.path(), round);
        let mut lines = BufReader::new(writer.stdout.take().expect("its output")).lines();
        // Until the first acknowledgement the process is only starting.
        for line in lines.by_ref() {
            let before = acknowledged.count;
            acknowledged.read(&line.expect("a line"));
            if acknowledged.count > before {
                break;
            }
        }
        let deadline = Instant::now() + Duration::from_millis(rand::random::<u64>() % 500);
        while Instant::now() < deadline {
            acknowledged.read(&lines.next().expect("it goes on").expect("a line"));
        }
        writer.kill().expect("SIGKILL");
        writer.wait().expect("its end");
        // What it said before it died counts, also when we read it later.
        for line in lines {
            acknowledged.read(&line.expect("a line"));
        }
        verify(dir.path(), &acknowledged).await;
    }
    say!("{KILLS} kills, {} acknowledged writes, none lost or torn", acknowledged.count);
    sweep_leaves_objects_and_their_attributes(dir.path()).await;
}

async fn verify(dir: &FilePath, acknowledged: &Acknowledged) {
    let store = LocalStore::open(dir).expect("a store");
    for number in &acknowledged.logs {
        assert_eq!(number_of(&store, &Path::from(format!("log/{number}"))).await.expect("an acknowledged object"), *number);
    }
    for number in &acknowledged.deleted {
        let result = store.head(&Path::from(format!("log/{number}"))).await;
        assert!(matches!(result, Err(Error::NotFound { .. })), "log/{number} was deleted: {result:?}");
    }
    for (name, number) in &acknowledged.newest {
        let there = number_of(&store, &Path::from(name.as_str())).await.expect("an acknowledged object");
        assert!(there >= *number, "{name}: {there} is older than {number}");
    }
    let names: Vec<Path> = store.list(None).map_ok(|meta| meta.location).try_collect().await.expect("a list");
    for name in names {
        number_of(&store, &name).await.expect("a whole object");
    }
}

/// Later, with the clock of the sidecars set back, an opening removes those that the killed processes left, and only those.
async fn sweep_leaves_objects_and_their_attributes(dir: &FilePath) {
    let own = dir.join(".bucketmq");
    let files = |folder: &str| {
        std::fs::read_dir(own.join(folder)).expect("a folder").map(|entry| entry.expect("an entry").path()).collect::<Vec<_>>()
    };
    let (staged, sidecars) = (files("staging").len(), files("attributes"));
    let long_ago = std::fs::FileTimes::new().set_modified(std::time::SystemTime::now() - Duration::from_secs(48 * 3600));
    for path in &sidecars {
        std::fs::File::options().write(true).open(path).expect("a file").set_times(long_ago).expect("times");
    }
    let store = LocalStore::open(dir).expect("a store");
    let names: Vec<Path> = store.list(None).map_ok(|meta| meta.location).try_collect().await.expect("a list");
    for name in &names {
        number_of(&store, name).await.expect("a whole object");
    }
    assert_eq!(files("attributes").len(), names.len());
    say!("left behind by {KILLS} kills: {staged} staged files, {} sidecars", sidecars.len() - names.len());
}
