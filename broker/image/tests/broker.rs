//! The bill of materials of the broker itself.

use std::path::Path;

use bucketmq_image::{Features, Materials, host_target};
use serde_json::Value;

fn broker(features: Features) -> Materials {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    Materials::of(&root, "bucketmq", &host_target().expect("a compiler"), features).expect("materials")
}

#[test]
fn the_broker_is_made_of_what_is_compiled_in_and_of_nothing_else() {
    let materials = broker(Features::Package);
    let names: Vec<&str> = materials.names().map(|(name, _)| name).collect();
    for name in ["tokio", "rustls", "slatedb", "aws-lc-sys", "tikv-jemalloc-sys", "bucketmq-storage"] {
        assert!(names.contains(&name), "{name}");
    }
    // In the lock file, for tests or for other machines or because some feature could want them.
    for name in ["ring", "quinn", "proptest", "tempfile", "windows-sys", "serde_derive", "bucketmq-servers"] {
        assert!(!names.contains(&name), "{name}");
    }
}

#[test]
fn the_bill_is_the_same_twice_and_has_no_loose_ends() {
    let materials = broker(Features::Package);
    let text = materials.cyclonedx().expect("a bill");
    assert_eq!(text, broker(Features::Package).cyclonedx().expect("a bill"));

    let bill: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(bill["metadata"]["component"]["name"], "bucketmq");
    let strings = |value: &Value| -> Vec<String> {
        value.as_array().map(|array| array.iter().filter_map(Value::as_str).map(str::to_owned).collect()).unwrap_or_default()
    };
    let components = bill["components"].as_array().expect("components");
    let mut references: Vec<&str> = components.iter().filter_map(|component| component["bom-ref"].as_str()).collect();
    references.extend(bill["metadata"]["component"]["bom-ref"].as_str());
    let dependencies = bill["dependencies"].as_array().expect("dependencies");
    assert_eq!(dependencies.len(), references.len());
    for dependency in dependencies {
        for reference in strings(&dependency["dependsOn"]).iter().map(String::as_str).chain(dependency["ref"].as_str()) {
            assert!(references.contains(&reference), "{reference}");
        }
    }
    let tokio = components.iter().find(|component| component["name"] == "tokio").expect("tokio");
    assert_eq!(tokio["licenses"][0]["expression"], "MIT");
    assert_eq!(tokio["hashes"][0]["content"].as_str().map(str::len), Some(64));
    assert!(tokio["purl"].as_str().is_some_and(|purl| purl.starts_with("pkg:cargo/tokio@1.")));
    assert!(tokio["properties"][0]["value"].as_str().is_some_and(|features| features.contains("net")));
    let ours = components.iter().find(|component| component["name"] == "bucketmq-storage").expect("our own");
    assert!(ours["purl"].is_null() && ours["hashes"].is_null());
}

#[test]
fn every_crate_of_others_stands_in_the_licences_with_a_licence() {
    let materials = broker(Features::Package);
    let text = materials.licences().expect("licences");
    let (list, _) = text.split_once("\n\n").map(|(_, rest)| rest.split_once("\n\n").expect("a list")).expect("a heading");
    for (name, version) in materials.names().filter(|(name, _)| !name.starts_with("bucketmq")) {
        let start = format!("{name} {version}: ");
        let line = list.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("{name} is missing"));
        assert!(line.len() > start.len(), "{line}");
    }
    assert!(text.contains("Permission is hereby granted"));
    assert!(!text.contains(env!("CARGO_MANIFEST_DIR")));
}

#[test]
fn what_tests_use_has_the_features_of_the_whole_workspace() {
    let names = |features| broker(features).names().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    let (alone, with_others) = (names(Features::Package), names(Features::Workspace));
    assert!(alone.iter().all(|name| with_others.contains(name)));
}
