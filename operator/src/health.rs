//! `/livez`, `/readyz` and `/metrics` of the operator.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing};
use parking_lot::Mutex;
use prometheus::{Encoder, Registry, TextEncoder};
use serde_json::json;
use tokio::net::TcpListener;

use crate::context::Context;

/// What is known of the process.
#[derive(Default)]
pub struct Health {
    context: Mutex<Option<Arc<Context>>>,
}

impl Health {
    /// From now on what is awaited is read from there.
    pub fn watch(&self, context: Arc<Context>) {
        *self.context.lock() = Some(context);
    }

    fn awaiting(&self) -> Vec<&'static str> {
        match &*self.context.lock() {
            Some(context) => context.caches.awaiting(),
            None => vec!["API server"],
        }
    }
}

/// Takes the address.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("--listen {address} cannot be used"))
}

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, health: Arc<Health>, registry: Registry) {
    let router = Router::new()
        .route("/livez", routing::get(|| async { "ok\n" }))
        .route("/readyz", routing::get(ready))
        .route("/metrics", routing::get(metrics))
        .with_state((health, registry));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(error = %error, "health and metrics are served no more");
    }
}

type Shared = (Arc<Health>, Registry);

/// Ready means that every kind has been seen whole; whoever does not have the lease is ready to take it. A kind the API server does not know is awaited.
async fn ready(State((health, _)): State<Shared>) -> Response {
    let awaiting = health.awaiting();
    let status = if awaiting.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({ "ready": awaiting.is_empty(), "awaiting": awaiting, "version": env!("CARGO_PKG_VERSION") });
    (status, Json(body)).into_response()
}

async fn metrics(State((_, registry)): State<Shared>) -> Response {
    let mut text = Vec::new();
    let encoder = TextEncoder::new();
    match encoder.encode(&registry.gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
