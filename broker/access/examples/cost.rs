//! What access costs: `cargo run --profile fast --package bucketmq-access --example cost`.

use std::hint::black_box;
use std::time::Instant;

use bucketmq_access::authentication::passwd::{self, Secret};
use bucketmq_access::authentication::{ITERATIONS_DEFAULT, Mechanism, ScramClient};
use bucketmq_access::{Access, Attempt, Config, RoleConfig, RuleConfig, Step};

const SCRAM: [(&str, Mechanism); 2] = [("scram-256", Mechanism::Sha256), ("scram-512", Mechanism::Sha512)];
const ROUNDS: u32 = 1_000_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join(format!("bucketmq-users-{}", std::process::id()));
    let roles = ["sensor".to_owned()];
    passwd::set_user(&path, "person", Secret::Password(b"correct horse"), Some(&roles))?;
    let generated = passwd::set_user(&path, "device", Secret::Generate, Some(&roles))?.generated.ok_or("no secret")?;
    for (user, mechanism) in SCRAM {
        passwd::set_user(&path, user, Secret::Scram(mechanism, ITERATIONS_DEFAULT, b"correct horse"), Some(&roles))?;
    }
    let rules = ["allow connect", "allow publish site/%c/#", "allow subscribe cmd/%u/#", "deny publish,subscribe $SYS/#"];
    let mut config = Config { users_file: Some(path.clone()), ..Config::default() };
    config.roles.insert("sensor".into(), RoleConfig { rules: rules.map(RuleConfig::from).into(), acknowledge: None });
    let access = Access::load(&config)?;
    std::fs::remove_file(&path)?;

    let nothing = Attempt {
        client_id: "client-0001",
        username: None,
        password: None,
        certificate_identity: None,
        anonymous_role: Some("local"),
        listener: "tcp",
        remote_addr: None,
    };
    let person = Attempt { username: Some("person"), password: Some(b"correct horse"), ..nothing };
    let device = Attempt { username: Some("device"), password: Some(generated.as_bytes()), ..nothing };

    let start = Instant::now();
    let principal = access.authenticate(person).await?;
    println!("authenticate, password for the first time  {:9.3} ms", start.elapsed().as_secs_f64() * 1e3);
    for (user, mechanism) in SCRAM {
        let start = Instant::now();
        access.authenticate(Attempt { username: Some(user), ..person }).await?;
        println!("{:42} {:9.3} ms", format!("authenticate, password of {user}"), start.elapsed().as_secs_f64() * 1e3);
        exchange(&access, &nothing, user, mechanism)?;
    }
    for (name, attempt) in [("remembered password", person), ("generated secret", device), ("anonymous", nothing)] {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            black_box(access.authenticate(black_box(attempt)).await?);
        }
        println!("authenticate, {name:28} {:9.1} ns", nanoseconds(start));
    }
    let local = access.authenticate(nothing).await?;
    for (name, principal) in [("placeholders", &principal), ("local", &local)] {
        measure(&format!("may_publish, {name}"), || principal.may_publish(black_box("site/client-0001/temperature")));
        measure(&format!("may_subscribe, {name}"), || principal.may_subscribe(black_box("cmd/person/+/set")));
        measure(&format!("refresh, {name}"), || access.refresh(black_box(principal)).is_some());
    }
    measure("generation", || access.generation() != black_box(&principal).generation());
    Ok(())
}

/// What the Client computes, and what the Server does.
fn exchange(access: &Access, attempt: &Attempt<'_>, user: &str, mechanism: Mechanism) -> Result<(), Box<dyn std::error::Error>> {
    let (mut client, client_first) = ScramClient::start(mechanism, user, b"correct horse")?;
    let start = Instant::now();
    let mut exchange = access.exchange(mechanism.name()).ok_or("not offered")?;
    let Step::Continue(server_first) = access.proceed(&mut exchange, attempt, Some(&client_first))? else { return Err("too soon".into()) };
    let mut served = start.elapsed();
    let start = Instant::now();
    let client_final = client.prove(&server_first)?;
    println!("{:42} {:9.3} ms", format!("exchange, the Client's part, {user}"), start.elapsed().as_secs_f64() * 1e3);
    let start = Instant::now();
    access.proceed(&mut exchange, attempt, Some(&client_final))?;
    served += start.elapsed();
    println!("{:42} {:9.3} ms", format!("exchange, the Server's part, {user}"), served.as_secs_f64() * 1e3);
    Ok(())
}

fn measure(name: &str, ask: impl Fn() -> bool) {
    let start = Instant::now();
    for _ in 0..ROUNDS {
        black_box(ask());
    }
    println!("{name:42} {:9.1} ns", nanoseconds(start));
}

fn nanoseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS)
}
