//! Conditions of the small kinds, which have one: Ready.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::Resource;

use crate::context::Context;
use crate::events::tell;

/// The present, in whole seconds, as conditions have it.
pub fn now() -> Time {
    Time(Timestamp::from_second(Timestamp::now().as_second()).expect("the present is in range"))
}

/// A condition; its time is the one of `before` while its status is.
pub fn condition(
    type_: &str,
    status: &str,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    before: &[Condition],
    now: Time,
) -> Condition {
    let old = before.iter().find(|old| old.type_ == type_ && old.status == status);
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.chars().take(1024).collect(),
        observed_generation: generation,
        last_transition_time: old.map_or(now, |old| old.last_transition_time.clone()),
    }
}

/// Tells what changed: trouble, and its end.
pub async fn tell_change<K: Resource<DynamicType = ()>>(object: &K, before: &[Condition], after: &[Condition], context: &Context) {
    for condition in after {
        let old = before.iter().find(|old| old.type_ == condition.type_);
        let is_same =
            old.is_some_and(|old| old.status == condition.status && old.reason == condition.reason && old.message == condition.message);
        // What is on its way needs no event, and neither does what was never wrong.
        let is_good = condition.status == "True";
        let was_trouble = old.is_some_and(|old| old.status == "False" && old.reason != "Pending");
        if is_same || condition.reason == "Pending" || (is_good && !was_trouble) {
            continue;
        }
        let message = if condition.message.is_empty() { "all is well again" } else { &condition.message };
        tell(object, !is_good, &condition.reason, message, context).await;
    }
}
