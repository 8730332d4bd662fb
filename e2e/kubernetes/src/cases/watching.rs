//! What people watch the operator by.

use anyhow::ensure;
use bucketmq_observe::asked::{alerts_are_quiet, dashboards_are_full, scraped};
use bucketmq_observe::prometheus::Prometheus;
use bucketmq_observe::{OPERATOR, prometheus};
use serde_json::json;

use super::Verdict;
use crate::load::blocking;
use crate::operator::Options;
use crate::{Space, World};

/// So many scrapes are enough for a rate of what nobody has done yet.
const QUIET_SCRAPES: u32 = 3;
/// So many are enough for a rate over what Grafana's interval would be.
const BUSY_SCRAPES: u32 = 12;

/// Every expression of the operator's alerts and of its dashboard, asked of a real Prometheus: nothing is empty, nothing fires, for one that has nothing to do
/// and for one that works.
pub async fn alerts_and_dashboard_are_answered(world: &World) -> Verdict {
    // Elsewhere nobody asks for these tools.
    prometheus::program("prometheus")?;
    let operator = world.operator(&Options::default()).await?;
    let target = operator.address();
    let prometheus = blocking(move || {
        let prometheus = Prometheus::start(&OPERATOR, target)?;
        scraped(&prometheus, &OPERATOR, QUIET_SCRAPES)?;
        alerts_are_quiet(&prometheus, &OPERATOR, |_| true)?;
        dashboards_are_full(&prometheus, &OPERATOR, |_| true)?;
        Ok(prometheus)
    })
    .await?;
    let space = Space::new(world, "watching").await?;
    space.broker("fleet", json!({ "persistence": { "level": "Memory" } })).await?;
    space.user("ann", "fleet", json!({})).await?;
    space.role("all", "fleet", json!({ "userSelector": {} })).await?;
    space.wait_condition("fleet", "ConfigApplied", "True", "Applied").await?;
    let written = blocking(move || {
        scraped(&prometheus, &OPERATOR, BUSY_SCRAPES)?;
        alerts_are_quiet(&prometheus, &OPERATOR, f64::is_finite)?;
        dashboards_are_full(&prometheus, &OPERATOR, |_| true)?;
        prometheus.ask(r#"sum(mqtt_operator_apply_total{changed="true"})"#)
    })
    .await?;
    ensure!(written.first().is_some_and(|(_, count)| *count >= 5.0), "what was written is not counted: {written:?}");
    operator.stop().await?;
    space.end().await?;
    Ok(Vec::new())
}
