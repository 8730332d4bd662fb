//! `bucketmq check-config` and `bucketmq serve` with TLS files that are no good: both name the file and what is wrong with it.

use std::path::Path;

use crate::client::run;
use crate::tls::{Authority, HOST};

const CONFIG: &str = "[[listeners]]\nurl = \"tls://127.0.0.1:0\"\nanonymous = \"local\"\n[listeners.tls]\nclient_ca = \"ca.pem\"\ncrl = \"crl.pem\"\n\
                      certificates = [{ cert = \"server.pem\", key = \"server.key\" }, { cert = \"second.pem\", key = \"second.key\" }]\n\
                      [admin]\nlisten = \"\"\n";

fn write_good_files(folder: &Path) {
    let authority = Authority::new();
    authority.issue(folder, "server", HOST);
    authority.issue(folder, "second", HOST);
    std::fs::write(folder.join("ca.pem"), &authority.pem).unwrap();
    std::fs::write(folder.join("crl.pem"), authority.revoking(&[1])).unwrap();
    std::fs::write(folder.join("broker.toml"), CONFIG).unwrap();
}

fn check(folder: &Path) -> (i32, String, String) {
    run(&["check-config", "--config", "broker.toml"], folder, "")
}

const NO_PEM: &str = "not a certificate";
/// PEM around bytes that are nothing.
fn hollow(label: &str) -> String {
    format!("-----BEGIN {label}-----\nMIIB\n-----END {label}-----\n")
}

#[test]
fn good_tls_files_are_right() {
    let folder = tempfile::tempdir().unwrap();
    write_good_files(folder.path());
    let (code, output, errors) = check(folder.path());
    assert!(code == 0 && output.contains("The configuration is right"), "{output}{errors}");
}

#[test]
fn a_tls_file_that_is_no_good_is_named_with_its_key_and_its_fault_and_the_broker_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_good_files(folder);
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
    let certificate_and_trash = read("server.pem") + &hollow("CERTIFICATE");
    for (file, content, key, fault) in [
        ("server.pem", NO_PEM.to_owned(), "certificates[0].cert", "server.pem holds no certificate in PEM"),
        ("server.pem", hollow("CERTIFICATE"), "certificates[0].cert", "server.pem does not begin with an X.509 certificate"),
        (
            "second.pem",
            certificate_and_trash,
            "certificates[1].cert",
            "second.pem holds something else than an X.509 certificate at place 2",
        ),
        ("server.key", String::new(), "certificates[0].key", "server.key holds no private key in PEM that is not encrypted"),
        (
            "server.key",
            hollow("ENCRYPTED PRIVATE KEY"),
            "certificates[0].key",
            "server.key holds no private key in PEM that is not encrypted",
        ),
        ("second.key", hollow("PRIVATE KEY"), "certificates[1].key", "second.key holds a key that cannot be used"),
        ("second.key", read("server.key"), "certificates[1].key", "second.key is not the key of second.pem"),
        ("ca.pem", read("server.key"), "client_ca", "ca.pem holds no certificate in PEM"),
        ("ca.pem", hollow("CERTIFICATE"), "client_ca", "ca.pem holds a certificate that cannot be a CA"),
        ("crl.pem", read("ca.pem"), "crl", "crl.pem holds no revocation list in PEM"),
        ("crl.pem", hollow("X509 CRL"), "crl", "crl.pem holds a revocation list that cannot be used"),
    ] {
        let good = read(file);
        std::fs::write(folder.join(file), content).unwrap();
        let (code, _, errors) = check(folder);
        assert!(code == 78 && errors.contains(&format!("listeners[0].tls.{key}: {fault}")), "{fault}: {code} {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        // 1 and not 78: the file may be repaired, and systemd goes on trying.
        let (code, _, errors) = run(&["serve", "--config", "broker.toml"], folder, "");
        assert!(code == 1 && errors.contains("tls-0") && errors.contains(fault), "{fault}: {code} {errors}");
        std::fs::write(folder.join(file), good).unwrap();
    }
    assert_eq!(check(folder).0, 0);
}

#[test]
fn all_that_is_wrong_is_told_at_one_time() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_good_files(folder);
    std::fs::remove_file(folder.join("server.pem")).unwrap();
    std::fs::remove_file(folder.join("server.key")).unwrap();
    std::fs::create_dir(folder.join("server.key")).unwrap();
    std::fs::write(folder.join("ca.pem"), NO_PEM).unwrap();
    std::fs::write(folder.join("crl.pem"), NO_PEM).unwrap();
    let (code, output, _) = run(&["check-config", "--config", "broker.toml", "--json"], folder, "");
    assert_eq!(code, 78);
    for (key, problem) in [
        ("certificates[0].cert", "cannot read server.pem"),
        ("certificates[0].key", "cannot read server.key: it is not a file"),
        ("client_ca", "ca.pem holds no certificate"),
        ("crl", "crl.pem holds no revocation list"),
    ] {
        assert!(output.contains(&format!("\"key\": \"listeners[0].tls.{key}\"")) && output.contains(problem), "{key}: {output}");
    }
    assert_eq!(output.matches("\"problem\"").count(), 4, "{output}");
}
