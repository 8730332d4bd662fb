//! Certificates that are replaced while Clients are connected, without any signal: live connections go on, new ones see the new certificate.

use std::os::unix::fs::symlink;
use std::path::Path;

use bucketmq_packet::{QoS, ReasonCode};
use rustls::pki_types::CertificateDer;

use crate::client::{Broker, Came, Client, connect, until};
use crate::tls::{Authority, HOST, TlsStream, in_file, shown};

const TLS: &str = "[[listeners]]\nurl = \"tls://@ADDRESS@\"\nname = \"secure\"\nanonymous = \"local\"\n[listeners.tls]\n\
                   certificates = [{ cert = \"tls.pem\", key = \"tls.key\" }]\n";

fn client(broker: &Broker, authority: &Authority, id: &str) -> Client<TlsStream> {
    let mut client = Client::over(authority.connect(broker.address, None).unwrap(), &connect(id, true, None)).unwrap();
    client.subscribe(id, QoS::AtLeastOnce);
    client
}

/// What a new Client is shown.
fn shown_now(broker: &Broker, authority: &Authority) -> CertificateDer<'static> {
    shown(&authority.connect(broker.address, None).unwrap())
}

fn until_shown(broker: &Broker, authority: &Authority, expected: &Path) {
    let expected = in_file(expected);
    until(|| (shown_now(broker, authority) == expected).then_some(()));
}

fn still_serves(client: &mut Client<TlsStream>, id: &str) {
    client.publish(id, &[7; 50_000], QoS::AtMostOnce);
    assert_eq!(client.next(), Came::Publish(id.to_owned(), vec![7; 50_000]));
}

#[test]
fn a_renewed_certificate_is_shown_to_new_clients_and_old_ones_stay() {
    let authority = Authority::new();
    let broker = Broker::start_with(TLS, |folder| authority.issue(folder, "tls", HOST));
    let before = broker.get("/readyz");
    let mut live = client(&broker, &authority, "live");
    authority.issue(broker.folder.path(), "tls", HOST);
    until_shown(&broker, &authority, &broker.path("tls.pem"));
    still_serves(&mut live, "live");
    still_serves(&mut client(&broker, &authority, "new"), "new");
    // An operator that waits for the new certificate sees it there.
    let sha256 = |ready: &str| ready.split("\"sha256\":\"").nth(1).map(|rest| rest[..64].to_owned()).unwrap();
    until(|| (sha256(&broker.get("/readyz")) != sha256(&before)).then_some(()));
}

#[test]
fn a_secret_that_kubernetes_swaps_by_a_link_is_noticed() {
    let authority = Authority::new();
    let broker = Broker::start_with(TLS, |folder| {
        for version in ["..v1", "..v2"] {
            std::fs::create_dir(folder.join(version)).unwrap();
            authority.issue(&folder.join(version), "tls", HOST);
        }
        symlink("..v1", folder.join("..data")).unwrap();
        symlink("..data/tls.pem", folder.join("tls.pem")).unwrap();
        symlink("..data/tls.key", folder.join("tls.key")).unwrap();
    });
    assert_eq!(shown_now(&broker, &authority), in_file(&broker.path("..v1/tls.pem")));
    let mut live = client(&broker, &authority, "live");
    symlink("..v2", broker.path("..data_tmp")).unwrap();
    std::fs::rename(broker.path("..data_tmp"), broker.path("..data")).unwrap();
    std::fs::remove_dir_all(broker.path("..v1")).unwrap();
    until_shown(&broker, &authority, &broker.path("..v2/tls.pem"));
    still_serves(&mut live, "live");
}

#[test]
fn broken_files_leave_the_old_certificate_in_force_and_readyz_says_so_until_they_are_repaired() {
    let authority = Authority::new();
    let broker = Broker::start_with(TLS, |folder| authority.issue(folder, "tls", HOST));
    let good = in_file(&broker.path("tls.pem"));
    let mut live = client(&broker, &authority, "live");
    let elsewhere = tempfile::tempdir().unwrap();
    authority.issue(elsewhere.path(), "other", HOST);
    let another_key = std::fs::read(elsewhere.path().join("other.key")).unwrap();
    // The first without a signal, which the broker takes a few seconds to see.
    for (file, content, fault, signal) in [
        ("tls.key", &another_key[..], "tls.key is not the key of tls.pem", false),
        ("tls.key", b"-----BEGIN PRIVATE KEY-----\nMIIE", "tls.key holds no private key", true),
        ("tls.pem", b"", "tls.pem holds no certificate", true),
    ] {
        let look = || {
            if signal {
                broker.signal("HUP");
            }
        };
        let kept = std::fs::read(broker.path(file)).unwrap();
        std::fs::write(broker.path(file), content).unwrap();
        look();
        let ready = broker.until_readyz(fault);
        assert!(ready.contains("\"ready\":true") && ready.contains("\"ok\":false") && ready.contains("listener secure"), "{ready}");
        assert_eq!(shown_now(&broker, &authority), good, "{fault}");
        still_serves(&mut live, "live");
        std::fs::write(broker.path(file), kept).unwrap();
        look();
        broker.until_readyz("\"ok\":true");
    }
    authority.issue(broker.folder.path(), "tls", HOST);
    broker.signal("HUP");
    until_shown(&broker, &authority, &broker.path("tls.pem"));
    still_serves(&mut live, "live");
}

#[test]
fn a_reload_of_the_configuration_brings_another_certificate_and_keeps_live_connections() {
    let authority = Authority::new();
    let broker = Broker::start_with(TLS, |folder| {
        authority.issue(folder, "tls", HOST);
        authority.issue(folder, "next", HOST);
    });
    let mut live = client(&broker, &authority, "live");
    let ready = broker.reconfigure(|text| text.replace("tls.pem", "next.pem").replace("tls.key", "missing.key"));
    assert!(ready.contains("\"ok\":false") && ready.contains("cannot read missing.key"), "{ready}");
    assert_eq!(shown_now(&broker, &authority), in_file(&broker.path("tls.pem")));
    let ready = broker.reconfigure(|text| text.replace("missing.key", "next.key"));
    assert!(ready.contains("\"ok\":true"), "{ready}");
    assert_eq!(shown_now(&broker, &authority), in_file(&broker.path("next.pem")));
    still_serves(&mut live, "live");
    assert_eq!(live.subscribe("more", QoS::AtMostOnce), Came::SubAck(vec![ReasonCode::Success]));
}
