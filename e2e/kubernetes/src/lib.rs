//! The operator and its brokers on a real Kubernetes, case by case.
//!
//! A case is an async function that gets a [`World`], makes a namespace of its own ([`Space`]), and returns what it measured or why it failed. Stage A is a
//! control plane without nodes: objects, conditions, what the operator writes. Stage B has nodes: pods that are killed, nodes that go, brokers under load.

pub mod audit;
pub mod cases;
pub mod ground;
pub mod kind;
pub mod load;
pub mod operator;
pub mod report;
pub mod space;
pub mod world;

pub use report::{Measured, Outcome};
pub use space::Space;
pub use world::World;
