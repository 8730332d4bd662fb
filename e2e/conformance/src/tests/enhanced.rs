//! Enhanced authentication (5.0 4.12), where the broker offers SCRAM-SHA-256: no Server has to offer any method.

use bucketmq_packet::property::Property;

use crate::bytes::Bytes;
use crate::client::Client;
use crate::ensure;
use crate::outcome::{Failure, Outcome, failed, not_applicable};
use crate::reply::{Authentication, Reply};
use crate::run::Run;
use crate::scram::{METHOD, Proof, Scram};
use crate::secured::{PASSWORD, SCRAM_USER};

tests! {
    authentication_exchange_opens_a_session v5["4.12.0-2", "4.12.0-5"];
    failed_authentication_exchange_closes v5["4.12.0-4", "3.1.4-2"];
    packet_other_than_auth_during_authentication_closes v5["3.1.2-30"];
    auth_of_another_method_during_authentication_closes v5["4.12.0-5"];
    challenge_is_no_larger_than_it_has_to_be_for_a_client_that_takes_no_more v5["3.15.2-2", "3.15.2-3"];
    re_authentication_leaves_the_connection_working v5["4.12.1-1", "4.12.0-2", "4.12.0-5"];
    failed_re_authentication_closes v5["4.12.1-2"];
    re_authentication_by_another_method_closes v5["4.12.1-1"];
}

const NOT_OFFERED: &str = "the broker asks for no proof by SCRAM-SHA-256";
const CONTINUE: u8 = 0x18;
const AGAIN: u8 = 0x19;

fn auth(t: &Run<'_>, code: u8, method: &str, data: &[u8]) -> Vec<u8> {
    let properties = [Property::AuthenticationMethod(method), Property::AuthenticationData(data)];
    Bytes::new(t.version).u8(code).properties(&properties).packet(0xF0)
}

fn scram(t: &Run<'_>, password: &str) -> Scram {
    Scram::new(SCRAM_USER, password, &t.id("nonce"))
}

/// A Client that has been asked for a proof. A broker that refuses before does not offer the method.
fn challenged(t: &Run<'_>, scram: &Scram, maximum_packet_size: Option<u32>) -> Outcome<(Client, Authentication)> {
    let connect = t.connect("a").at(&t.secured()?).authentication_method(METHOD).authentication_data(&scram.client_first());
    let mut client = match maximum_packet_size {
        Some(bytes) => connect.maximum_packet_size(bytes).start()?,
        None => connect.start()?,
    };
    match client.reply() {
        Ok(Reply::Auth(auth)) => {
            checked(&auth, CONTINUE)?;
            Ok((client, auth))
        }
        Ok(Reply::ConnAck(refused)) if refused.code >= 0x80 => not_applicable(NOT_OFFERED),
        Ok(other) => failed(format!("{} instead of AUTH", other.name())),
        Err(Failure::Failed(why)) if why.contains("closed") => not_applicable(NOT_OFFERED),
        Err(other) => Err(other),
    }
}

/// [MQTT-4.12.0-5]
fn checked(auth: &Authentication, code: u8) -> Outcome {
    ensure!(auth.code == code, "AUTH 0x{:02X} instead of 0x{code:02X}", auth.code);
    ensure!(auth.method.as_deref() == Some(METHOD), "AUTH names the method {:?}", auth.method);
    Ok(())
}

/// A Client that has proven itself.
fn proven(t: &Run<'_>) -> Outcome<Client> {
    let scram = scram(t, PASSWORD);
    let (mut client, challenge) = challenged(t, &scram, None)?;
    let Proof { client_final, server_final } = scram.prove(&challenge.data)?;
    client.send(&auth(t, CONTINUE, METHOD, &client_final));
    match client.reply()? {
        Reply::ConnAck(accepted) if accepted.code == 0 => {
            ensure!(accepted.authentication_method.as_deref() == Some(METHOD), "CONNACK names {:?}", accepted.authentication_method);
            ensure!(accepted.authentication_data == server_final, "the broker does not prove itself in CONNACK");
            Ok(client)
        }
        other => failed(format!("{} instead of CONNACK 0x00", other.name())),
    }
}

/// Begins again, and is asked for a proof.
fn again(t: &Run<'_>, client: &mut Client, scram: &Scram) -> Outcome<Proof> {
    client.send(&auth(t, AGAIN, METHOD, &scram.client_first()));
    match client.reply()? {
        Reply::Auth(challenge) => {
            checked(&challenge, CONTINUE)?;
            scram.prove(&challenge.data)
        }
        other => failed(format!("{} instead of AUTH", other.name())),
    }
}

fn authentication_exchange_opens_a_session(t: &Run<'_>) -> Outcome {
    let mut client = proven(t)?;
    client.subscribe(&t.topic("a"), 1)?;
    client.publish(&t.message("a", "mine").qos(1))?;
    client.expect("mine")?;
    Ok(())
}

fn failed_authentication_exchange_closes(t: &Run<'_>) -> Outcome {
    let scram = scram(t, "wrong");
    let (mut client, challenge) = challenged(t, &scram, None)?;
    client.send(&auth(t, CONTINUE, METHOD, &scram.prove(&challenge.data)?.client_final));
    client.closed_with(&[0x86, 0x87])
}

fn packet_other_than_auth_during_authentication_closes(t: &Run<'_>) -> Outcome {
    let (mut client, _) = challenged(t, &scram(t, PASSWORD), None)?;
    client.send(&[0xC0, 0]);
    client.closed_as_protocol_error()
}

fn auth_of_another_method_during_authentication_closes(t: &Run<'_>) -> Outcome {
    let scram = scram(t, PASSWORD);
    let (mut client, challenge) = challenged(t, &scram, None)?;
    client.send(&auth(t, CONTINUE, "conformance-no-such-method", &scram.prove(&challenge.data)?.client_final));
    client.closed_with(&[0x82, 0x87, 0x8C])
}

fn challenge_is_no_larger_than_it_has_to_be_for_a_client_that_takes_no_more(t: &Run<'_>) -> Outcome {
    let (_, challenge) = challenged(t, &scram(t, PASSWORD), None)?;
    let least = u32::try_from(auth(t, CONTINUE, METHOD, &challenge.data).len()).unwrap_or(u32::MAX);
    // Refused is as good: the next challenge may be longer. A larger packet would fail the test by itself.
    let (_, challenge) = challenged(t, &scram(t, PASSWORD), Some(least))?;
    ensure!(challenge.reason_string.is_none() && challenge.user_properties.is_empty(), "AUTH has what does not fit");
    Ok(())
}

fn re_authentication_leaves_the_connection_working(t: &Run<'_>) -> Outcome {
    let mut client = proven(t)?;
    client.subscribe(&t.topic("a"), 1)?;
    let Proof { client_final, server_final } = again(t, &mut client, &scram(t, PASSWORD))?;
    // 4.12.1: other packets go on meanwhile, with the authentication there was.
    client.publish(&t.message("a", "meanwhile").qos(1))?;
    client.expect("meanwhile")?;
    client.send(&auth(t, CONTINUE, METHOD, &client_final));
    match client.reply()? {
        Reply::Auth(success) => {
            checked(&success, 0)?;
            ensure!(success.data == server_final, "the broker does not prove itself in AUTH");
        }
        other => return failed(format!("{} instead of AUTH 0x00", other.name())),
    }
    client.publish(&t.message("a", "after").qos(1))?;
    client.expect("after")?;
    Ok(())
}

fn failed_re_authentication_closes(t: &Run<'_>) -> Outcome {
    let mut client = proven(t)?;
    let proof = again(t, &mut client, &scram(t, "wrong"))?;
    client.send(&auth(t, CONTINUE, METHOD, &proof.client_final));
    client.closed_with(&[0x86, 0x87])
}

fn re_authentication_by_another_method_closes(t: &Run<'_>) -> Outcome {
    let mut client = proven(t)?;
    client.send(&auth(t, AGAIN, "conformance-no-such-method", b""));
    client.closed_with(&[0x82, 0x87, 0x8C])
}
