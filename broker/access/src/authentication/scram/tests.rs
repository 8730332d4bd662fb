//! The example of RFC 7677, both sides against each other, and everything that may be wrong with a message.

use proptest::prelude::*;

use super::client::ScramClient;
use super::server::{ClientFirst, ServerExchange};
use super::*;

const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const WITHOUT_PROOF: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";

struct Example {
    mechanism: Mechanism,
    verifier: &'static str,
    proof: &'static str,
    signature: &'static str,
}

/// The first is that of RFC 7677 3, the second the same with SHA-512, computed by Python's hashlib.
const EXAMPLES: [Example; 2] = [
    Example {
        mechanism: Mechanism::Sha256,
        verifier: "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=\
                   :wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
        proof: "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        signature: "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    },
    Example {
        mechanism: Mechanism::Sha512,
        verifier: "SCRAM-SHA-512$4096:W22ZaJ0SNY7soEsUEjb6gQ==\
                   $6AAub3065EYRmyFpM2RNwqK+eGnrkYuEWbXn19LsEmBqzu8QaCXNc1FwpnX9NhH2hK/60dzj9DoO5DvVkOHbvg==\
                   :jZHbYjC1aHh0/hKbxyBuGFjDrgjgKTT1esA7awWiKcRZ0o/0b1yWEebBeSVkkCFewf91nLDfKF24mvD5nmE6rA==",
        proof: "gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ==",
        signature: "ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0vSVlKDanekLtifDSeVGT4+5ZxXnJq199RVG2rR7N7Zw==",
    },
];

fn verifier(text: &str) -> Result<ScramVerifier, SecretError> {
    let (name, rest) = text.split_once('$').unwrap();
    ScramVerifier::parse(Mechanism::from_name(name).unwrap(), rest)
}

fn first(text: &str) -> Result<String, ScramError> {
    ClientFirst::parse(text.as_bytes()).map(|first| first.username)
}

/// What the example's Server makes of this last message.
fn last(text: &str) -> Result<Vec<u8>, ScramError> {
    let verifier = verifier(EXAMPLES[0].verifier).unwrap();
    let first = ClientFirst::parse(CLIENT_FIRST.as_bytes()).unwrap();
    ServerExchange::start(&first, SERVER_NONCE, &verifier).0.finish(text.as_bytes(), &verifier)
}

#[test]
fn the_example_of_the_rfc_comes_out_on_both_sides() {
    for Example { mechanism, verifier: text, proof, signature } in EXAMPLES {
        let salt = Base64::decode_vec(SALT).unwrap();
        assert_eq!(ScramVerifier::with_salt(mechanism, 4096, &salt, b"pencil"), text);
        let verifier = verifier(text).unwrap();
        assert!(verifier.is_of(b"pencil") && !verifier.is_of(b"pencils"));

        let (mut client, client_first) = ScramClient::with_nonce(mechanism, "user", b"pencil", CLIENT_NONCE.to_owned());
        assert_eq!(client_first, CLIENT_FIRST.as_bytes());
        let understood = ClientFirst::parse(&client_first).unwrap();
        assert_eq!(understood.username, "user");
        let (exchange, server_first) = ServerExchange::start(&understood, SERVER_NONCE, &verifier);
        assert_eq!(server_first, SERVER_FIRST.as_bytes());
        let client_final = client.prove(&server_first).unwrap();
        assert_eq!(client_final, format!("{WITHOUT_PROOF},p={proof}").into_bytes());
        let server_final = exchange.finish(&client_final, &verifier).unwrap();
        assert_eq!(server_final, format!("v={signature}").into_bytes());
        assert_eq!(client.check(&server_final), Ok(()));
    }
}

#[test]
fn what_is_created_is_read_and_differs_each_time() {
    for mechanism in Mechanism::ALL {
        let [one, two] = [0; 2].map(|_| ScramVerifier::create(mechanism, ITERATIONS_MIN, b"secret").unwrap());
        assert_ne!(one, two);
        assert!(verifier(&one).unwrap().is_of(b"secret") && verifier(&two).unwrap().is_of(b"secret"));
        assert_eq!(Mechanism::from_name(mechanism.name()), Some(mechanism));
    }
    for name in ["SCRAM-SHA-1", "scram-sha-256", "SCRAM-SHA-256-PLUS", "PLAIN", ""] {
        assert_eq!(Mechanism::from_name(name), None);
    }
}

#[test]
fn what_is_wrong_with_a_verifier_is_told() {
    let good = EXAMPLES[0].verifier;
    for (from, to, expected) in [
        ("$WG5d", ":WG5d", SecretError::Parts("SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey")),
        (":wfPL", "wfPL", SecretError::Parts("SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey")),
        ("dU=", "dU=:x", SecretError::Parts("SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey")),
        ("4096", "4095", SecretError::Iterations("4095".into())),
        ("4096", "1000001", SecretError::Iterations("1000001".into())),
        ("4096", "99999999999", SecretError::Iterations("99999999999".into())),
        ("4096", "+4096", SecretError::Iterations("+4096".into())),
        ("4096", "", SecretError::Iterations(String::new())),
        ("gQ==", "gQ", SecretError::PaddedBase64("salt")),
        (SALT, "c2FsdA==", SecretError::Salt(4)),
        ("T4qY=", "T4qY", SecretError::PaddedBase64("StoredKey")),
        ("wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=", "c2FsdA==", SecretError::Key("ServerKey", 4, 32)),
    ] {
        assert_eq!(verifier(&good.replacen(from, to, 1)).unwrap_err(), expected, "{from} {to}");
    }
    assert_eq!(verifier(&good.replacen("256", "512", 1)).unwrap_err(), SecretError::Key("StoredKey", 32, 64));
}

#[test]
fn a_verifier_shows_no_keys() {
    let shown = format!("{:?}", verifier(EXAMPLES[0].verifier).unwrap());
    assert_eq!(shown, "ScramVerifier { mechanism: Sha256, iterations: 4096, .. }");
}

#[test]
fn passwords_are_prepared_where_they_can_be() {
    // RFC 4013 3: a soft hyphen is nothing, a compatibility character is what it is compatible with.
    for (one, other) in [("I\u{AD}X", "IX"), ("\u{AA}", "a"), ("\u{2168}", "IX"), ("a\u{A0}b", "a b")] {
        assert_eq!(*prepared(one.as_bytes()), other.as_bytes());
        assert!(is_portable(one.as_bytes()));
    }
    for forbidden in ["\u{7}", "\u{627}1", "\u{AD}"] {
        assert_eq!(*prepared(forbidden.as_bytes()), forbidden.as_bytes());
        assert!(!is_portable(forbidden.as_bytes()));
    }
    assert_eq!(*prepared(b"\xFF"), b"\xFF");
    assert!(!is_portable(b"\xFF"));
}

#[test]
fn a_first_message_says_who_it_is() {
    for (text, name) in [
        ("n,,n=user,r=abc", "user"),
        ("y,,n=user,r=abc", "user"),
        ("n,a=user,n=user,r=abc", "user"),
        ("n,,n=a=2Cb=3D2C,r=abc", "a,b=2C"),
        ("n,,n=\u{fc},r=abc,x=extension", "\u{fc}"),
    ] {
        assert_eq!(first(text), Ok(name.to_owned()), "{text}");
    }
    for text in [
        "",
        "n",
        "n,,",
        "n=user,r=abc",
        "p=tls-unique,,n=user,r=abc",
        "q,,n=user,r=abc",
        "n,b=x,n=user,r=abc",
        "n,a=other,n=user,r=abc",
        "n,,n=,r=abc",
        "n,,n=user",
        "n,,n=user,r=",
        "n,,n=user,r=a b",
        "n,,r=abc,n=user",
        "n,,m=x,n=user,r=abc",
        "n,,n=us=er,r=abc",
        "n,,n=us=2cer,r=abc",
        "n,,n=us\0er,r=abc",
        "n,,n=user,r=abc,rubbish",
    ] {
        assert!(first(text).is_err(), "{text}");
    }
    assert!(ClientFirst::parse(b"n,,n=\xFF,r=abc").is_err());
    assert!(first(&format!("n,,n={},r=abc", "u".repeat(MESSAGE_LEN_MAX))).is_err());
    let first = ClientFirst::parse("n,,n=\u{2168},r=abc".as_bytes()).unwrap();
    assert_eq!((first.username.as_str(), first.prepared_username().as_deref()), ("\u{2168}", Some("IX")));
}

#[test]
fn a_last_message_counts_only_for_its_exchange() {
    let proof = EXAMPLES[0].proof;
    assert!(last(&format!("{WITHOUT_PROOF},p={proof}")).is_ok());
    for text in [
        String::new(),
        WITHOUT_PROOF.to_owned(),
        format!("{WITHOUT_PROOF},p="),
        format!("{WITHOUT_PROOF},p=AAAA"),
        format!("{WITHOUT_PROOF},p=!{proof}"),
        format!("{WITHOUT_PROOF},p={}", proof.replacen('d', "e", 1)),
        // What was not signed.
        format!("{WITHOUT_PROOF},x=y,p={proof}"),
        format!("m=x,{WITHOUT_PROOF},p={proof}"),
        // `y,,` instead of `n,,`: somebody changed the header on the way.
        format!("{},p={proof}", WITHOUT_PROOF.replacen("biws", "eSws", 1)),
        format!("{},p={proof}", WITHOUT_PROOF.replacen("hvY", "hvZ", 1)),
        format!("c=biws,r={CLIENT_NONCE},p={proof}"),
    ] {
        assert!(last(&text).is_err(), "{text}");
    }
}

#[test]
fn a_client_trusts_no_server_that_does_not_prove_itself() {
    let client = || ScramClient::with_nonce(Mechanism::Sha256, "user", b"pencil", CLIENT_NONCE.to_owned()).0;
    for (from, to) in [
        ("rOpr", "sOpr"),
        (SERVER_NONCE, ""),
        ("i=4096", "i=4095"),
        ("i=4096", "i=1000001"),
        ("i=4096", "i=many"),
        ("s=W22Z", "s=!"),
        (",s=", ",t="),
        ("r=", "m=x,r="),
    ] {
        assert!(client().prove(SERVER_FIRST.replacen(from, to, 1).as_bytes()).is_err(), "{from} {to}");
    }
    let mut client = client();
    assert!(client.check(format!("v={}", EXAMPLES[0].signature).as_bytes()).is_err(), "before it was asked for a proof");
    client.prove(SERVER_FIRST.as_bytes()).unwrap();
    assert!(client.prove(SERVER_FIRST.as_bytes()).is_err());
    for wrong in ["", "e=other-error", "v=", "v=AAAA"] {
        assert!(client.check(wrong.as_bytes()).is_err(), "{wrong}");
    }
    assert!(client.check(format!("v={}", EXAMPLES[0].signature).as_bytes()).is_ok());
}

proptest! {
    #[test]
    fn any_name_comes_through(name in "[^\0]{1,12}") {
        let (_, client_first) = ScramClient::with_nonce(Mechanism::Sha256, &name, b"secret", CLIENT_NONCE.to_owned());
        let understood = ClientFirst::parse(&client_first).unwrap();
        prop_assert!(understood.username == name || Some(understood.username.clone()) == saslprep(&name));
    }

    #[test]
    fn no_message_panics(data in proptest::collection::vec(any::<u8>(), 0..60), text in "[nyp,=ra2C3Dm:x]{0,40}") {
        let verifier = verifier(EXAMPLES[0].verifier).unwrap();
        for data in [data.as_slice(), text.as_bytes()] {
            if let Ok(first) = ClientFirst::parse(data) {
                ServerExchange::start(&first, SERVER_NONCE, &verifier);
            }
            let first = ClientFirst::parse(CLIENT_FIRST.as_bytes()).unwrap();
            prop_assert!(ServerExchange::start(&first, SERVER_NONCE, &verifier).0.finish(data, &verifier).is_err());
            let mut client = ScramClient::with_nonce(Mechanism::Sha256, "user", b"pencil", CLIENT_NONCE.to_owned()).0;
            let _ = client.prove(data);
            let _ = client.check(data);
        }
        let _ = ScramVerifier::parse(Mechanism::Sha256, &text);
    }
}
