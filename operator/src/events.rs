//! Events on objects of ours: one for each thing that changed.

use kube::Resource;
use kube::runtime::events::{Event, EventType};
use tracing::debug;

use crate::context::Context;

/// An event's text; the API server refuses longer ones.
const NOTE_MAX: usize = 1000;

/// Tells what happened to an object. What cannot be told is not worth a failure.
pub async fn tell<K: Resource<DynamicType = ()>>(object: &K, is_warning: bool, reason: &str, message: &str, context: &Context) {
    let event = Event {
        type_: if is_warning { EventType::Warning } else { EventType::Normal },
        reason: reason.to_owned(),
        note: Some(message.chars().take(NOTE_MAX).collect()),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    if let Err(error) = context.recorder.publish(&event, &object.object_ref(&())).await {
        debug!(error = %error, reason, "an event could not be written");
    }
}
