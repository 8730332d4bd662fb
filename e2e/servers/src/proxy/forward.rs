//! A request's way through: counted, delayed, broken if a fault says so, sent on, and its answer the way back.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::http::uri::{Authority, Scheme};
use hyper::{HeaderMap, Method, Request, Response, Uri, Version};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;

use crate::Kind;
use crate::proxy::body::{AnyBody, Corrupted, Counted, Direction, Error, Truncated};
use crate::proxy::fault::Fault;
use crate::proxy::gcs::Gcs;
use crate::proxy::operation;
use crate::proxy::state::State;

/// A connection to the store that was idle for longer is not used again: stores close them, Node's after five seconds, and a request that crosses the
/// close is lost.
const IDLE: Duration = Duration::from_secs(3);

/// Sends requests to the store.
pub(crate) struct Forward {
    state: Arc<State>,
    store: Store,
    gcs: Option<Gcs>,
}

impl Forward {
    pub(crate) fn new(state: Arc<State>, upstream: SocketAddr) -> anyhow::Result<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client =
            Client::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).pool_timer(TokioTimer::new()).set_host(false).build(connector);
        let store = Store { client, authority: upstream.to_string().parse()? };
        let gcs = (state.kind == Kind::FakeGcs).then(Gcs::new);
        Ok(Self { state, store, gcs })
    }

    /// Answers `request`. An error ends its connection without an answer, with a reset where `reset` is set.
    pub(crate) async fn handle(&self, request: Request<Incoming>, reset: &AtomicBool) -> Result<Response<AnyBody>, Error> {
        let (operation, key) = operation::of(self.state.kind, request.method(), request.uri());
        let (directory, latency, fault) = self.state.arrived(operation, &key);
        let lost = || -> Error {
            reset.store(true, Ordering::Relaxed);
            anyhow::anyhow!("reset by the fault proxy")
        };
        match fault {
            Some(Fault::Reset) => return Err(lost()),
            Some(Fault::Hang) => return std::future::pending().await,
            _ => {}
        }
        let is_head = request.method() == Method::HEAD;
        let request = request.map(|body| Counted { body, state: self.state.clone(), directory, direction: Direction::Up });
        if let Some(answer) = fault.and_then(|fault| fault.answer(self.state.kind)) {
            // Read to its end, so that the connection can stay.
            request.into_body().collect().await?;
            tokio::time::sleep(latency).await;
            let body = |body: Bytes| if is_head { Bytes::new() } else { body };
            return Ok(self.counted(answer.map(|text| whole(body(text))), directory));
        }
        let came = Instant::now();
        if !latency.is_zero() {
            tokio::time::sleep(latency / 2).await;
        }
        let sent = Instant::now();
        let response = match &self.gcs {
            Some(gcs) => gcs.handle(&self.store, request.map(AnyBody::new)).await,
            None => self.store.send(request.map(AnyBody::new)).await,
        };
        // What the client of a store that is gone would see.
        let mut response = response.map_err(|_| lost())?;
        if !latency.is_zero() {
            // What the store took, and ours: a timer that was late before makes up for it now.
            tokio::time::sleep_until(came + sent.elapsed() + latency).await;
        }
        // They speak of our connection to the store; the client's stays.
        response.headers_mut().remove(CONNECTION);
        response.headers_mut().remove("keep-alive");
        *response.version_mut() = Version::HTTP_11;
        let response = match fault {
            Some(Fault::ResponseLost) => {
                response.into_body().collect().await?;
                return Err(lost());
            }
            Some(Fault::Truncated) => response.map(truncated),
            Some(Fault::Corrupted) => response.map(corrupted),
            _ => response,
        };
        Ok(self.counted(response, directory))
    }

    fn counted(&self, response: Response<AnyBody>, directory: usize) -> Response<AnyBody> {
        let state = self.state.clone();
        response.map(|body| AnyBody::new(Counted { body, state, directory, direction: Direction::Down }))
    }
}

/// The server behind.
pub(crate) struct Store {
    client: Client<HttpConnector, AnyBody>,
    authority: Authority,
}

impl Store {
    /// Sends `request` as it is: path, query and headers, `host` among them, are the client's, because its signature covers them.
    pub(crate) async fn send(&self, request: Request<AnyBody>) -> Result<Response<AnyBody>, Error> {
        let (mut head, body) = request.into_parts();
        let mut uri = head.uri.into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(self.authority.clone());
        head.uri = Uri::from_parts(uri)?;
        head.version = Version::HTTP_11;
        head.headers.remove(CONNECTION);
        if !head.headers.contains_key(HOST) {
            head.headers.insert(HOST, HeaderValue::from_str(self.authority.as_str())?);
        }
        let response = self.client.request(Request::from_parts(head, body)).await?;
        Ok(response.map(|body| AnyBody::new(body.map_err(Into::into))))
    }

    /// Sends a request of our own with a body at hand, and reads the whole answer.
    pub(crate) async fn ask(&self, method: Method, target: &str, headers: HeaderMap, body: Bytes) -> Result<Response<Bytes>, Error> {
        let mut request = Request::new(whole(body));
        *request.method_mut() = method;
        *request.uri_mut() = target.parse()?;
        *request.headers_mut() = headers;
        let (head, body) = self.send(request).await?.into_parts();
        Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
    }
}

/// A body at hand.
pub(crate) fn whole(bytes: Bytes) -> AnyBody {
    AnyBody::new(Full::new(bytes).map_err(|never: Infallible| match never {}))
}

/// Only a body that says how long it is has a middle.
fn truncated(body: AnyBody) -> AnyBody {
    let size = body.size_hint();
    match size.exact() {
        Some(length) if length > 0 => AnyBody::new(Truncated { body, left: length / 2, flush: None, size }),
        _ => body,
    }
}

/// As [`truncated`].
fn corrupted(body: AnyBody) -> AnyBody {
    match body.size_hint().exact() {
        Some(length) if length > 0 => AnyBody::new(Corrupted { body, at: length / 2, passed: 0 }),
        _ => body,
    }
}
