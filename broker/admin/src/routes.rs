//! What each path answers. Reading only: no path changes the broker and no body is read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus::{Encoder, Registry, TextEncoder};

use crate::health::Health;
use crate::problem::Problem;

const INDEX: &str = "\
BucketMQ

/metrics  metrics for Prometheus
/livez    whether the process lives
/readyz   whether it takes Clients, and what is in force
";

/// What the handlers read.
pub(crate) struct Broker {
    pub(crate) registry: Registry,
    pub(crate) health: Arc<Health>,
    pub(crate) version: &'static str,
    pub(crate) on_gather: Arc<dyn Fn() + Send + Sync>,
    /// One scrape at a time: many scrapers cannot take both workers, and `on_gather` never meets itself.
    pub(crate) gathering: tokio::sync::Mutex<()>,
}

pub(crate) fn router(broker: Broker, request_timeout: Duration) -> Router {
    Router::new()
        .route("/", get(|| async { INDEX }))
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn(move |request: Request, next: Next| in_time(request_timeout, request, next)))
        .with_state(Arc::new(broker))
}

async fn in_time(limit: Duration, request: Request, next: Next) -> Response {
    let mut response = match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the answer took too long").into_response(),
    };
    // Health of a moment ago is worth nothing.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn metrics(State(broker): State<Arc<Broker>>) -> Response {
    let _gathering = broker.gathering.lock().await;
    (broker.on_gather)();
    let encoder = TextEncoder::new();
    let mut body = Vec::new();
    match encoder.encode(&broker.registry.gather(), &mut body) {
        Ok(()) => ([(header::CONTENT_TYPE, encoder.format_type().to_owned())], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be encoded");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("metrics cannot be encoded: {error}")).into_response()
        }
    }
}

async fn livez(State(broker): State<Arc<Broker>>) -> Response {
    match broker.health.stopped_for(Instant::now()) {
        None => "ok\n".into_response(),
        Some(age) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("the last heartbeat was {} s ago", age.as_secs())).into_response()
        }
    }
}

async fn readyz(State(broker): State<Arc<Broker>>) -> Response {
    let readiness = broker.health.readiness(broker.version);
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

async fn not_found(uri: Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("nothing is served at {}; / lists what is", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} takes GET and HEAD, not {method}", uri.path()))
}
