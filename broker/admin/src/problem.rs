//! Errors as `application/problem+json` (RFC 9457), so that a program need not guess.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// One error response.
#[derive(Debug, Serialize)]
pub(crate) struct Problem {
    /// No page describes these problems further than the status does.
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { r#type: "about:blank", title: status.canonical_reason().unwrap_or("Error"), status: status.as_u16(), detail: detail.into() }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).expect("strings and a number always serialize");
        (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
    }
}
