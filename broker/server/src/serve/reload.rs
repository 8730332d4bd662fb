//! What changes while the broker serves: configuration, users, certificates; and what `/readyz` says of it.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use bucketmq_admin::Certificate;
use tracing::{error, info, warn};

use super::term::Term;
use crate::config::{Loaded, keep_until_restart, restart_needed};

/// What tells one version of the configuration file from the next, also when a symbolic link to it is swapped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamp(u64, u64, Option<SystemTime>);

impl Stamp {
    pub(super) fn of(loaded: &Loaded) -> Option<Self> {
        let metadata = std::fs::metadata(loaded.file.as_ref()?).ok()?;
        Some(Self(metadata.ino(), metadata.len(), metadata.modified().ok()))
    }
}

/// How the last reload of each thing went: what failed stays told until that very thing is repaired.
pub(super) struct Outcomes {
    config: Result<(), String>,
    users: Result<(), String>,
    /// TLS files could not be used at the last look.
    tls_failed: bool,
}

impl Default for Outcomes {
    fn default() -> Self {
        Self { config: Ok(()), users: Ok(()), tls_failed: false }
    }
}

impl Term<'_> {
    /// Reloads what has changed on disk.
    pub(super) async fn look_at_files(&mut self) {
        let stamp = Stamp::of(&self.process.loaded);
        if stamp != self.process.seen {
            self.process.seen = stamp;
            info!("the configuration file has changed: reloading");
            self.reload().await;
        } else if self.broker.access.changed_on_disk() {
            self.reload_users();
        }
        self.report();
    }

    /// Applies the configuration as it is now, all of it or nothing.
    pub(super) async fn reload(&mut self) {
        let outcome = self.try_reload().await;
        if let Err(error) = &outcome {
            error!(error = %format!("{error:#}"), "reload failed, what was in force stays");
        }
        if outcome.is_ok() {
            // The users were read with it.
            self.process.outcomes.users = Ok(());
        }
        self.process.outcomes.config = outcome.map_err(|error| format!("{error:#}"));
        self.reloaded();
    }

    fn reloaded(&self) {
        let Outcomes { config, users, .. } = &self.process.outcomes;
        self.process.health.set_last_reload(config.clone().and_then(|()| users.clone()));
    }

    async fn try_reload(&mut self) -> anyhow::Result<()> {
        let mut new = self.process.loaded.reload()?;
        let old = &self.process.loaded.config;
        for key in restart_needed(old, &new.config) {
            warn!(key, "changed, but takes effect only at the next start");
        }
        keep_until_restart(old, &mut new.config);
        // Listeners first: it is the step that can fail for reasons outside the files, and it changes nothing when it does.
        let changed = self.broker.access.reload(&new.config.access)?;
        if let Err(error) = self.listeners.reload(&new.config.listeners).await {
            self.broker.access.reload(&old.access).context("going back to the old access rules")?;
            return Err(error.into());
        }
        self.process.log.set_level(&new.config.log.level)?;
        self.listeners.totals().set_max_connections(u64::from(new.config.limits.max_connections));
        self.listeners.totals().set_max_connection_rate(u64::from(new.config.limits.max_connection_rate));
        self.state.set_min_flush_interval(new.config.bucket.min_flush_interval);
        self.broker.limits.store(Arc::new(new.config.limits.clone()));
        self.process.health.set_config(new.hash(), &new.config.revision);
        self.process.loaded = new;
        if changed {
            self.broker.access_changed();
        }
        info!("configuration reloaded");
        Ok(())
    }

    fn reload_users(&mut self) {
        let outcome = self.broker.access.reload_users();
        match &outcome {
            Ok(true) => {
                info!(users = self.broker.access.user_count(), "users reloaded");
                self.broker.access_changed();
            }
            Ok(false) => {}
            Err(error) => error!(error = %error, "users not reloaded, those before stay"),
        }
        self.process.outcomes.users = outcome.map(|_| ()).map_err(|error| error.to_string());
        self.reloaded();
    }

    /// Tells `/readyz` what is in force.
    pub(super) fn report(&mut self) {
        let health = &self.process.health;
        health.set_users_hash(self.broker.access.hash().map(|hash| hash.to_string()));
        let certificates = self.listeners.certificates().into_iter().map(|certificate| Certificate {
            listener: certificate.listener,
            subject: certificate.subject,
            sha256: certificate.fingerprint,
            not_after: certificate.not_after,
        });
        health.set_certificates(certificates.collect());
        match self.listeners.failures().into_iter().next() {
            Some(failure) => {
                self.process.outcomes.tls_failed = true;
                health.set_last_reload(Err(format!("listener {}: {}", failure.listener, failure.error)));
            }
            // Repaired: from here on the rest counts again.
            None if std::mem::take(&mut self.process.outcomes.tls_failed) => self.reloaded(),
            None => {}
        }
    }
}
