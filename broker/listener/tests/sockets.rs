//! Listeners with real sockets: what a Client, a proxy, an administrator and an attacker meet.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like the tests themselves")]

#[path = "sockets/limits.rs"]
mod limits;
#[path = "sockets/plain.rs"]
mod plain;
#[path = "sockets/proxy.rs"]
mod proxy;
#[path = "sockets/reload.rs"]
mod reload;
#[path = "sockets/support.rs"]
mod support;
#[path = "sockets/tls.rs"]
mod tls;
#[path = "sockets/websocket.rs"]
mod websocket;
