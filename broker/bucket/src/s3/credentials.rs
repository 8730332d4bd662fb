//! The credentials of requests: from the SDK's default chain, and looked for anew while the broker runs.
//!
//! The SDK reads keys of a file once and keeps them for as long as the process lives. Whoever rotates keys, by hand or by a Secret that is mounted, would
//! have to restart the broker. So what says nothing of its own end is looked for again after [`FRESH_FOR`], and at once, though not more often than each
//! [`AGAIN`], when the server has refused it. What says when it ends (a role of a pod or an instance) is looked for [`BEFORE_END`] before that, and when
//! it is refused each [`ROLE_AGAIN`] at most.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use aws_config::Region;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, future};
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Credentials, Intercept, RuntimeComponents, SharedHttpClient};
use aws_sdk_s3::error::BoxError;
use parking_lot::Mutex;
use tracing::{info, warn};

/// Keys of a file are read again after this time: rotated ones are in use by then, while those before are still valid.
const FRESH_FOR: Duration = Duration::from_secs(60);
/// Credentials that end are replaced so long before, when they live longer than twice that.
const BEFORE_END: Duration = Duration::from_secs(300);
/// Between two looks because the server refuses what there is, and after a look that found nothing.
const AGAIN: Duration = Duration::from_secs(1);
/// The same for roles, whose services count requests.
const ROLE_AGAIN: Duration = Duration::from_secs(30);
/// A look may take so long: a role is a request or two.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// Where the chain looks.
#[derive(Clone)]
struct Chain {
    http: SharedHttpClient,
    region: Option<Region>,
    profile: Option<String>,
}

impl Chain {
    /// The environment, the profile, web identity (IRSA), EKS Pod Identity, ECS and the instance's role, in that order. Made anew each time: the SDK's
    /// keeps the files it has read.
    async fn look(&self) -> provider::Result {
        let mut chain = DefaultCredentialsChain::builder().configure(ProviderConfig::default().with_http_client(self.http.clone()));
        if let Some(region) = &self.region {
            chain = chain.region(region.clone());
        }
        if let Some(profile) = &self.profile {
            chain = chain.profile_name(profile);
        }
        chain.build().await.provide_credentials().await
    }
}

/// Credentials that were found.
struct Known {
    credentials: Credentials,
    /// When the last look began to count, whether it found something else or not.
    looked: Instant,
    fresh_until: Instant,
    /// None: they do not say.
    ends: Option<Instant>,
}

impl Known {
    fn new(credentials: Credentials) -> Self {
        let looked = Instant::now();
        // Counted once: the clock of the host may be set while they are in use.
        let left = credentials.expiry().map(|expiry| expiry.duration_since(SystemTime::now()).unwrap_or_default());
        let fresh_for = left.map_or(FRESH_FOR, |left| left.saturating_sub(BEFORE_END).max(left / 2));
        Self { credentials, looked, fresh_until: looked + fresh_for, ends: left.map(|left| looked + left) }
    }

    /// The shortest time between two looks.
    fn again(&self) -> Duration {
        if self.ends.is_some() { ROLE_AGAIN } else { AGAIN }
    }

    fn is_fresh(&self, now: Instant) -> bool {
        now < self.fresh_until
    }

    fn is_valid(&self, now: Instant) -> bool {
        self.ends.is_none_or(|ends| now < ends)
    }
}

/// Gives the credentials of each request.
pub(super) struct Rotating {
    chain: Chain,
    known: Mutex<Option<Known>>,
    looking: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Rotating {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Rotating").finish_non_exhaustive()
    }
}

impl Rotating {
    pub(super) fn new(http: SharedHttpClient, region: Option<Region>, profile: Option<String>) -> Arc<Self> {
        Arc::new(Self { chain: Chain { http, region, profile }, known: Mutex::default(), looking: tokio::sync::Mutex::default() })
    }

    /// What is known and holds; with `fresh`, only when it has not to be looked for again.
    fn known(&self, fresh: bool) -> Option<Credentials> {
        let now = Instant::now();
        let known = self.known.lock();
        known.as_ref().filter(|known| known.is_valid(now) && (!fresh || known.is_fresh(now))).map(|known| known.credentials.clone())
    }

    async fn current(&self) -> provider::Result {
        if let Some(credentials) = self.known(true) {
            return Ok(credentials);
        }
        let _turn = match self.looking.try_lock() {
            Ok(turn) => turn,
            // Somebody looks, and what there was may still do.
            Err(_) => match self.known(false) {
                Some(credentials) => return Ok(credentials),
                None => self.looking.lock().await,
            },
        };
        if let Some(credentials) = self.known(true) {
            return Ok(credentials);
        }
        let error = match tokio::time::timeout(LOOK_MAX, self.chain.look()).await {
            Ok(Ok(credentials)) => {
                self.put(credentials.clone());
                return Ok(credentials);
            }
            Ok(Err(error)) => error,
            Err(_) => CredentialsError::provider_timed_out(LOOK_MAX),
        };
        // A file that is being replaced, a service that does not answer: what there is goes on until it ends.
        let Some(credentials) = self.known(false) else { return Err(error) };
        warn!(error = chain_of(&error), "no new credentials for the bucket: those before stay in use");
        if let Some(known) = &mut *self.known.lock() {
            known.looked = Instant::now();
            known.fresh_until = known.looked + known.again();
        }
        Ok(credentials)
    }

    fn put(&self, credentials: Credentials) {
        let before = self.known.lock().replace(Known::new(credentials.clone()));
        if before.is_some_and(|before| before.credentials.access_key_id() != credentials.access_key_id()) {
            info!(access_key = credentials.access_key_id(), "new credentials for the bucket");
        }
    }

    /// The server does not take what there is.
    fn refused(&self) {
        let now = Instant::now();
        if let Some(known) = self.known.lock().as_mut().filter(|known| now >= known.looked + known.again()) {
            known.fresh_until = known.fresh_until.min(now);
        }
    }
}

fn chain_of(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// What the client asks.
#[derive(Debug, Clone)]
pub(super) struct Source(pub(super) Arc<Rotating>);

impl ProvideCredentials for Source {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.0.current())
    }
}

/// Tells of refusals: keys that are gone or do not fit (403), tokens that have ended (400).
#[derive(Debug)]
pub(super) struct Refusals(pub(super) Arc<Rotating>);

impl Intercept for Refusals {
    fn name(&self) -> &'static str {
        "Refusals"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if matches!(context.response().status().as_u16(), 400 | 401 | 403) {
            self.0.refused();
        }
        Ok(())
    }
}
