//! Whether the bucket itself deletes, or puts out of reach, what lies under the prefix. Only S3 is asked: its API shows the rules to who may see them.

use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::types::{ExpirationStatus, LifecycleRule, LifecycleRuleFilter, TransitionStorageClass};

use crate::open::Bucket;
use crate::s3::chain;

/// What is known of the bucket's lifecycle rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// No rule touches the prefix.
    Harmless,
    /// These would take state away. Each is a sentence that names its rule.
    TakesAway(Vec<String>),
    /// It cannot be told, for this reason: worth a warning.
    Unknown(String),
}

/// Reads the rules of `bucket`.
pub async fn lifecycle(bucket: &Bucket) -> Lifecycle {
    let Some(store) = &bucket.s3 else {
        return match bucket.url().is_remote() {
            true => Lifecycle::Unknown(format!("{}:// does not show its lifecycle rules here", bucket.url().scheme())),
            false => Lifecycle::Harmless,
        };
    };
    let (client, name) = store.client();
    match client.get_bucket_lifecycle_configuration().bucket(name).send().await {
        Ok(output) => judge(output.rules(), bucket.url().prefix().as_ref()),
        Err(error) => match error.code().unwrap_or_default() {
            "NoSuchLifecycleConfiguration" => Lifecycle::Harmless,
            "AccessDenied" => Lifecycle::Unknown("s3:GetLifecycleConfiguration is not allowed to these credentials".to_owned()),
            "NotImplemented" | "MethodNotAllowed" => Lifecycle::Unknown("the server does not show its lifecycle rules".to_owned()),
            _ => Lifecycle::Unknown(chain(&error)),
        },
    }
}

fn judge(rules: &[LifecycleRule], prefix: &str) -> Lifecycle {
    let enabled = rules.iter().filter(|rule| *rule.status() == ExpirationStatus::Enabled && covers(rule, prefix));
    let harm: Vec<String> = enabled
        .filter_map(|rule| {
            let name = rule.id().unwrap_or("without a name");
            let what = harm(rule)?;
            Some(format!("lifecycle rule {name:?} {what} under the prefix {prefix:?}: take the prefix out of it"))
        })
        .collect();
    if harm.is_empty() { Lifecycle::Harmless } else { Lifecycle::TakesAway(harm) }
}

/// What it does to present objects. Versions that are no longer present and uploads that were given up may go.
fn harm(rule: &LifecycleRule) -> Option<&'static str> {
    let expires = rule.expiration().is_some_and(|expiration| expiration.days().is_some() || expiration.date().is_some());
    let archived = |class: &TransitionStorageClass| matches!(class, TransitionStorageClass::Glacier | TransitionStorageClass::DeepArchive);
    let archives = rule.transitions().iter().filter_map(|transition| transition.storage_class()).any(archived);
    match (expires, archives) {
        (true, _) => Some("deletes objects"),
        (false, true) => Some("moves objects to an archive that cannot be read at once"),
        (false, false) => None,
    }
}

/// Whether it may touch an object below `prefix`. Ours have no tags.
fn covers(rule: &LifecycleRule, prefix: &str) -> bool {
    #[expect(deprecated, reason = "rules written in the older way are still in force")]
    let older = rule.prefix();
    let filter = rule.filter();
    let tagged = filter.is_some_and(|filter| filter.tag().is_some() || filter.and().is_some_and(|and| !and.tags().is_empty()));
    let of = |filter: &LifecycleRuleFilter| filter.prefix().or(filter.and().and_then(|and| and.prefix())).map(str::to_owned);
    let wanted = filter.and_then(of).or(older.map(str::to_owned)).unwrap_or_default();
    let folder = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    !tagged && (folder.starts_with(&wanted) || wanted.starts_with(&folder))
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::{LifecycleExpiration, LifecycleRuleAndOperator, NoncurrentVersionExpiration, Tag, Transition};

    use super::*;

    fn rule(prefix: &str) -> aws_sdk_s3::types::builders::LifecycleRuleBuilder {
        let filter = LifecycleRuleFilter::builder().prefix(prefix).build();
        LifecycleRule::builder().id("r").status(ExpirationStatus::Enabled).filter(filter)
    }

    fn harmful(rule: aws_sdk_s3::types::builders::LifecycleRuleBuilder, prefix: &str) -> bool {
        matches!(judge(&[rule.build().expect("a status")], prefix), Lifecycle::TakesAway(_))
    }

    #[test]
    fn a_rule_that_deletes_below_the_prefix_is_found_and_others_are_not() {
        let expires = || LifecycleExpiration::builder().days(7).build();
        for (of_rule, prefix, expected) in [
            ("", "prod", true),
            ("", "", true),
            ("prod/", "prod", true),
            ("prod", "prod", true),
            ("pro", "prod", true),
            ("prod/shards/", "prod", true),
            ("logs/", "", true),
            ("prod-2/", "prod", false),
            ("logs/", "prod", false),
        ] {
            assert_eq!(harmful(rule(of_rule).expiration(expires()), prefix), expected, "{of_rule:?} {prefix:?}");
        }
        assert!(!harmful(rule("").expiration(expires()).status(ExpirationStatus::Disabled), "prod"));
        let tag = Tag::builder().key("k").value("v").build().expect("a tag");
        let and = LifecycleRuleAndOperator::builder().prefix("prod").tags(tag).build();
        assert!(!harmful(rule("").expiration(expires()).filter(LifecycleRuleFilter::builder().and(and).build()), "prod"));
    }

    #[test]
    fn old_versions_may_go_and_archives_may_not_come() {
        assert!(!harmful(rule("").noncurrent_version_expiration(NoncurrentVersionExpiration::builder().noncurrent_days(1).build()), "p"));
        let to = |class| Transition::builder().days(30).storage_class(class).build();
        assert!(harmful(rule("").transitions(to(TransitionStorageClass::DeepArchive)), "p"));
        assert!(!harmful(rule("").transitions(to(TransitionStorageClass::StandardIa)), "p"));
        let marker = LifecycleExpiration::builder().expired_object_delete_marker(true).build();
        assert!(!harmful(rule("").expiration(marker), "p"));
    }
}
