//! The Kubernetes operator: what a user can write ([`crd`]), and how it becomes a broker ([`broker_controller`]).
//!
//! A reconcile has five steps, each in a file of its own under `broker_controller/`: observe, validate (pure), build (pure, one file per Kubernetes kind),
//! apply, report. MqttUsers and MqttRoles are rendered by their broker; their own controllers make the Secret of a user and tell how they are.
//!
//! Promises: one bad object stops no other; at rest nothing is written; a new release of the operator restarts no broker.

pub mod apply;
pub mod broker_controller;
pub mod cache;
pub mod cli;
mod conditions;
pub mod context;
pub mod crd;
mod events;
mod health;
pub mod metrics;
pub mod names;
pub mod pki;
mod readyz;
mod role_controller;
mod run;
mod status;
mod user_controller;
