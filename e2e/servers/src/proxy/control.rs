//! The control endpoint, for shell scripts: what the handle's methods do, over HTTP.

use std::sync::Arc;

use anyhow::{Context, bail};
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::proxy::fault::Rule;
use crate::proxy::operation::parameter;
use crate::proxy::state::{Latency, RuleId, State};
use crate::proxy::{Commands, refuse};

/// Answered to `GET /`.
pub(crate) const HELP: &str = "\
GET    /state                                what is going on, as JSON
PUT    /latency?read=15ms&write=30ms         time added to each request
POST   /faults?fault=slow-down               until it is lifted; answers with its id
         &next=3 | &probability=0.1          or so many times, or so often
         &on=reads|writes|put,get..          or only to these requests
         &key=wal/                           or only to keys that hold this
       faults: reset hang internal-error slow-down access-denied response-lost truncated corrupted read-only full
DELETE /faults?id=1                          lifts one; without id, all
PUT    /refuse?on=true                       connections are refused, those that are there reset; on=false ends it
GET    /counts?prefix=p/                     requests and bytes, of keys with this prefix or of all
DELETE /counts                               from zero again
";

/// Answers a request to the control endpoint.
pub(crate) async fn handle<B>(request: Request<B>, state: Arc<State>, commands: Commands) -> Response<Bytes> {
    let mut response =
        match answer(request.method(), request.uri().path(), request.uri().query().unwrap_or_default(), &state, &commands).await {
            Ok(Some(Value::String(text))) => return Response::new(Bytes::from(text)),
            Ok(Some(value)) => Response::new(Bytes::from(format!("{value}\n"))),
            Ok(None) => status(StatusCode::NOT_FOUND, json!({ "error": "GET / tells what there is" })),
            Err(error) => status(StatusCode::BAD_REQUEST, json!({ "error": format!("{error:#}") })),
        };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn status(status: StatusCode, value: Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(format!("{value}\n")));
    *response.status_mut() = status;
    response
}

/// None for what is not there.
async fn answer(method: &Method, path: &str, query: &str, state: &State, commands: &Commands) -> anyhow::Result<Option<Value>> {
    let given = |name: &str| parameter(query, name);
    let done = || Ok(Some(json!({ "ok": true })));
    match (method, path) {
        (&Method::GET, "/") => Ok(Some(HELP.into())),
        (&Method::GET, "/state") => Ok(Some(state.json())),
        (&Method::PUT, "/latency") => {
            let Latency { mut read, mut write } = state.latency();
            for (name, value) in [("read", &mut read), ("write", &mut write)] {
                if let Some(text) = given(name) {
                    *value = humantime::parse_duration(&text).with_context(|| format!("{name}={text}"))?;
                }
            }
            state.set_latency(Latency { read, write });
            done()
        }
        (&Method::POST, "/faults") => {
            let fault = given("fault").context("fault=NAME")?;
            let mut rule = Rule::parse(&fault, given("next").as_deref(), given("probability").as_deref())?;
            if let Some(names) = given("on") {
                rule = rule.on_named(&names)?;
            }
            if let Some(key) = given("key") {
                rule = rule.key_containing(&key);
            }
            Ok(Some(json!({ "id": state.inject(rule).0 })))
        }
        (&Method::DELETE, "/faults") => {
            match given("id") {
                Some(id) => {
                    if !state.lift(RuleId(id.parse().context("id=NUMBER")?)) {
                        bail!("there is no fault {id}");
                    }
                }
                None => state.heal(),
            }
            done()
        }
        (&Method::PUT, "/refuse") => {
            let is_refusing = given("on").context("on=true or on=false")?.parse().context("on=true or on=false")?;
            let (sender, receiver) = tokio::sync::oneshot::channel();
            refuse(commands, is_refusing, Box::new(move || _ = sender.send(())));
            // The proxy is stopping when nobody answers.
            receiver.await.ok();
            done()
        }
        (&Method::GET, "/counts") => Ok(Some(state.counts_under(&given("prefix").unwrap_or_default()).json())),
        (&Method::DELETE, "/counts") => {
            state.reset_counts();
            done()
        }
        _ => Ok(None),
    }
}
