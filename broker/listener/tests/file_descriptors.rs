//! Out of file descriptors: alone in its process, because the limit is the process's.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bucketmq_listener::{Config, Listeners, Totals};
use tokio::net::TcpStream;

/// Room for what a runtime and a test harness need.
const LIMIT: libc::rlim_t = 256;

#[tokio::test]
async fn a_process_without_free_file_descriptors_accepts_again_when_there_are_some() {
    let limit = libc::rlimit { rlim_cur: LIMIT, rlim_max: LIMIT };
    // SAFETY: the pointer is to a whole `rlimit` that lives through the call, and lowering the limit takes nothing from what is open.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    let listeners = Listeners::bind(&[Config::new("tcp://127.0.0.1:0")], Totals::new(0, 0)).await.unwrap();
    let bound = listeners.bound().remove(0);
    let served = Arc::new(AtomicU64::new(0));
    let count = served.clone();
    listeners
        .serve(move |accepted| {
            count.fetch_add(1, Ordering::Relaxed);
            drop(accepted);
            std::future::ready(())
        })
        .unwrap();
    let mut fill: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    // One for the client's own end.
    fill.pop();
    let _client = TcpStream::connect(bound.local_addrs[0]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(350)).await;
    let errors = bound.handle.counters.accept_errors();
    assert!((1..=6).contains(&errors), "it rests between its attempts: {errors}");
    assert_eq!(served.load(Ordering::Relaxed), 0);
    drop(fill);
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert_eq!(served.load(Ordering::Relaxed), 1, "the one that waited");
}
