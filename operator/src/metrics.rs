//! What the operator counts about itself. The state of brokers is for kube-state-metrics and the brokers' own metrics.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// Seconds of a reconcile, from a cache that says "nothing to do" to argon2 hashes of many users.
const BUCKETS: [f64; 9] = [0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 30.0, 120.0];

/// Kinds that are applied, beside those that only some brokers need.
const APPLIED: [&str; 9] = [
    "ConfigMap",
    "Deployment",
    "MqttBroker/status",
    "MqttRole/status",
    "MqttUser/status",
    "NetworkPolicy",
    "Secret",
    "Service",
    "ServiceAccount",
];

/// All metrics of the operator.
#[derive(Debug)]
pub struct Metrics {
    reconciles: IntCounterVec,
    durations: HistogramVec,
    errors: IntCounterVec,
    applies: IntCounterVec,
    watch_failures: IntCounterVec,
    crd_missing: IntGaugeVec,
    leader: IntGauge,
    rollouts: IntGauge,
}

impl Metrics {
    /// Registers everything.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<IntCounterVec> {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let durations = HistogramVec::new(
            HistogramOpts::new("mqtt_operator_reconcile_duration_seconds", "Time of a reconcile, by kind.").buckets(BUCKETS.to_vec()),
            &["kind"],
        )?;
        registry.register(Box::new(durations.clone()))?;
        let crd_missing =
            IntGaugeVec::new(Opts::new("mqtt_operator_crd_missing", "1 while the API server does not know the kind."), &["kind"])?;
        registry.register(Box::new(crd_missing.clone()))?;
        let version = IntGaugeVec::new(Opts::new("mqtt_operator_build_info", "Always 1; the version is the label."), &["version"])?;
        version.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(version))?;
        let metrics = Self {
            reconciles: counter("mqtt_operator_reconcile_total", "Reconciles, by kind and result.", &["kind", "result"])?,
            durations,
            errors: counter(
                "mqtt_operator_reconcile_errors_total",
                "Reconciles that failed and are tried again, by kind and reason.",
                &["kind", "reason"],
            )?,
            applies: counter(
                "mqtt_operator_apply_total",
                "Objects looked at, by kind and whether they had to be written.",
                &["kind", "changed"],
            )?,
            watch_failures: counter("mqtt_operator_watch_restarts_total", "Watches that failed and were made anew, by kind.", &["kind"])?,
            crd_missing,
            leader: gauge("mqtt_operator_leader", "1 while this process reconciles.")?,
            rollouts: gauge("mqtt_operator_rollouts", "Brokers whose pod is being replaced.")?,
        };
        // A series that begins with its first event is one that no rate shows.
        for kind in ["MqttBroker", "MqttUser", "MqttRole"] {
            metrics.crd_missing.with_label_values(&[kind]).set(0);
            // A histogram is there once somebody has asked for it.
            let _ = metrics.durations.with_label_values(&[kind]);
            metrics.reconciles.with_label_values(&[kind, "ok"]).inc_by(0);
            metrics.reconciles.with_label_values(&[kind, "error"]).inc_by(0);
            metrics.watch_failures.with_label_values(&[kind]).inc_by(0);
            for reason in ["api", "other"] {
                metrics.errors.with_label_values(&[kind, reason]).inc_by(0);
            }
        }
        for kind in APPLIED {
            for changed in ["true", "false"] {
                metrics.applies.with_label_values(&[kind, changed]).inc_by(0);
            }
        }
        Ok(metrics)
    }

    /// A reconcile ended.
    pub fn reconciled(&self, kind: &str, took: Duration, error: Option<&'static str>) {
        self.durations.with_label_values(&[kind]).observe(took.as_secs_f64());
        self.reconciles.with_label_values(&[kind, if error.is_some() { "error" } else { "ok" }]).inc();
        if let Some(reason) = error {
            self.errors.with_label_values(&[kind, reason]).inc();
        }
    }

    /// An object was compared with what it should be, and written if it differed.
    pub fn applied(&self, kind: &str, changed: bool) {
        self.applies.with_label_values(&[kind, if changed { "true" } else { "false" }]).inc();
    }

    /// A watch failed.
    pub fn watch_failed(&self, kind: &str) {
        self.watch_failures.with_label_values(&[kind]).inc();
    }

    /// Whether the API server knows the kind.
    pub fn crd_missing(&self, kind: &str, missing: bool) {
        self.crd_missing.with_label_values(&[kind]).set(i64::from(missing));
    }

    /// Whether this process reconciles.
    pub fn set_leader(&self, leader: bool) {
        self.leader.set(i64::from(leader));
    }

    /// How many brokers are being rolled.
    pub fn set_rollouts(&self, rollouts: usize) {
        self.rollouts.set(i64::try_from(rollouts).unwrap_or(i64::MAX));
    }
}
