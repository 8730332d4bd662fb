//! Images as they are written.

use std::io::Read;

use super::*;

fn image() -> Archive {
    let base = Layer::new().directory("/tmp", 0o1777).file("/etc/passwd", "root:x:0:0::/:/nologin\n", 0o644);
    let program = Layer::new().file("/usr/bin/hello", vec![7; 5000], 0o755).link("/bin", "usr/bin");
    Archive::new("example.local/hello:1")
        .layer(base)
        .layer(program)
        .user("65532:65532")
        .entrypoint(["/usr/bin/hello", "--loud"])
        .env("PATH", "/usr/bin")
        .label("org.opencontainers.image.licenses", "Apache-2.0")
}

fn write(image: &Archive) -> (Written, Vec<u8>) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("image.tar");
    let written = image.write(&path).expect("written");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing unfinished is left");
    (written, std::fs::read(path).expect("the archive"))
}

fn contents(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().expect("entries").map(|entry| {
        let mut entry = entry.expect("an entry");
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("its bytes");
        (entry.path().expect("its path").to_string_lossy().into_owned(), bytes)
    });
    entries.collect()
}

fn blob(contents: &BTreeMap<String, Vec<u8>>, described: &Value) -> Vec<u8> {
    let digest = described["digest"].as_str().expect("a digest");
    let bytes = contents[&digest.replace("sha256:", "blobs/sha256/")].clone();
    assert_eq!(super::digest(&bytes), digest);
    assert_eq!(described["size"], bytes.len());
    bytes
}

#[test]
fn the_same_input_gives_the_same_bytes_in_whatever_order_it_comes() {
    let (first, bytes) = write(&image());
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let (second, same) = write(&image());
    assert_eq!(first, second);
    assert!(bytes == same);
    let layer = |turned: bool| {
        let files = [("/a/one", "1", 0o644), ("/b", "2", 0o600)];
        if turned { Layer::new().files(files.into_iter().rev()) } else { Layer::new().files(files) }
    };
    assert_eq!(layer(false).tar().expect("a layer"), layer(true).tar().expect("a layer"));
}

#[test]
fn another_label_is_another_image() {
    let (first, _) = write(&image());
    let (second, _) = write(&image().label("version", "next"));
    assert_ne!(first.digest, second.digest);
}

#[test]
fn each_part_is_found_by_its_digest_from_the_index_down() {
    let (written, archive) = write(&image().also_named("example.local/hello:next"));
    let contents = contents(&archive);
    assert_eq!(contents["oci-layout"], br#"{"imageLayoutVersion":"1.0.0"}"#);
    let index: Value = serde_json::from_slice(&contents["index.json"]).expect("the index");
    let names: Vec<_> = (0..2).map(|at| index["manifests"][at]["annotations"]["io.containerd.image.name"].clone()).collect();
    assert_eq!(names, ["example.local/hello:1", "example.local/hello:next"]);
    assert_eq!(index["manifests"][0]["digest"], written.digest);

    let manifest = blob(&contents, &index["manifests"][0]);
    let manifest: Value = serde_json::from_slice(&manifest).expect("the manifest");
    let config: Value = serde_json::from_slice(&blob(&contents, &manifest["config"])).expect("the config");
    assert_eq!(
        config["config"],
        json!({
            "User": "65532:65532", "Entrypoint": ["/usr/bin/hello", "--loud"], "Env": ["PATH=/usr/bin"], "WorkingDir": "/",
            "Labels": { "org.opencontainers.image.licenses": "Apache-2.0" },
        })
    );
    let mut unpacked = 0;
    for at in 0..2 {
        let mut tar = Vec::new();
        let layer = blob(&contents, &manifest["layers"][at]);
        flate2::read::GzDecoder::new(layer.as_slice()).read_to_end(&mut tar).expect("a layer");
        assert_eq!(config["rootfs"]["diff_ids"][at], super::digest(&tar));
        unpacked += tar.len() as u64;
    }
    assert_eq!(written.unpacked_bytes, unpacked);
    let blobs = contents.iter().filter(|(name, _)| name.starts_with("blobs/"));
    assert_eq!(written.compressed_bytes, blobs.map(|(_, bytes)| bytes.len() as u64).sum::<u64>());
}

#[test]
fn directories_come_before_what_is_in_them_and_all_is_roots() {
    let long = format!("/{}/file", "a-long-name/".repeat(20));
    let layer = Layer::new().file("/usr/bin/hello", "x", 0o755).directory("/usr", 0o700).link("/bin", "usr/bin").file(&long, "y", 0o644);
    let tar = layer.tar();
    assert!(tar.expect_err("an empty part").to_string().contains("without empty parts"));

    let long = long.replace("//", "/");
    let layer = Layer::new().file("/usr/bin/hello", "x", 0o755).directory("/usr", 0o700).link("/bin", "usr/bin").file(&long, "y", 0o644);
    let tar = layer.tar().expect("a layer");
    let mut archive = tar::Archive::new(tar.as_slice());
    let mut seen = Vec::new();
    for entry in archive.entries().expect("entries") {
        let entry = entry.expect("an entry");
        let header = entry.header();
        assert_eq!((header.uid().ok(), header.gid().ok(), header.mtime().ok()), (Some(0), Some(0), Some(0)));
        let path = entry.path().expect("a path").to_string_lossy().into_owned();
        seen.push((path, header.mode().expect("a mode"), entry.link_name().expect("a link").map(|to| to.to_string_lossy().into_owned())));
    }
    assert_eq!(seen.iter().filter(|(path, _, _)| path.starts_with("a-long")).count(), 21);
    assert!(seen.contains(&(long.trim_start_matches('/').to_owned(), 0o644, None)));
    seen.retain(|(path, _, _)| !path.starts_with("a-long"));
    let expected = [("bin", 0o777, Some("usr/bin")), ("usr/", 0o700, None), ("usr/bin/", 0o755, None), ("usr/bin/hello", 0o755, None)];
    assert_eq!(seen, expected.map(|(path, mode, link)| (path.to_owned(), mode, link.map(str::to_owned))));
}

#[test]
fn what_cannot_be_an_image_is_refused_with_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("image.tar");
    let refused = |image: Archive| format!("{:#}", image.write(&path).expect_err("refused"));
    assert!(refused(Archive::new("example.local/hello:1")).contains("no layer"));
    assert!(refused(Archive::new("example.local:5000/hello").layer(Layer::new())).contains("without a tag"));
    assert!(refused(Archive::new("a:1").layer(Layer::new().file("/a/../b", "", 0o644))).contains("/a/.."));
    assert!(!path.exists());
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}
