//! Each server starts, answers, and is gone when its handle is.

use bucketmq_servers::{Kind, Options};

#[test]
fn each_server_starts_and_dies_with_its_handle() {
    for kind in [Kind::Versitygw, Kind::Moto, Kind::Azurite] {
        let started = std::time::Instant::now();
        let server = kind.start(Options::default()).unwrap();
        let pid = server.pid();
        println!("{}: {:?} {:?} {:?}", kind.name(), started.elapsed(), server.usage().unwrap(), server.data());
        drop(server);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
