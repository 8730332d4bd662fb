//! What a principal may do: rules, roles, and their compiled form.
//!
//! A role is a list of rules. A rule allows or denies `connect`, `publish` or `subscribe` for a pattern. All rules of all roles of
//! a principal count together, their order does not: **one deny that matches beats every allow, and no match is a deny.**
//!
//! # Rules
//!
//! ```text
//! allow connect                        any client id
//! allow connect %u-*                   client ids that begin with the user name and a hyphen
//! allow publish site/%c/#              topics under site/<client id>
//! allow subscribe cmd/+/%u             Subscriptions that ask for no more than this filter does
//! allow publish,subscribe shared/#     both
//! deny publish $SYS/#
//! allow publish *                      every topic, those that begin with $ too
//! ```
//!
//! `connect` is a rule like the others: a role without `allow connect` lets nobody in. It is asked before any Session is touched,
//! so it is also what keeps one user's Client from taking over the Session of another's.
//!
//! **Patterns of connect** are client ids in which `*` stands for any run of characters, also none. Nothing else is special.
//! `%u` is the user name, `%%` a percent sign. Choose what follows `%u` so that no user name contains it: with `%u-*`, a user `a`
//! may also connect as `a-b-1`, which a user `a-b` may want.
//!
//! **Patterns of publish and subscribe** are Topic Filters, with `%u` for the user name, `%c` for the client id and `%%` for a
//! percent sign. `*` alone means every topic. A filter that begins with a wildcard does not match topics that begin with `$`
//! [MQTT-4.7.2-1]; `$SYS/#` has to be written. A Subscription is allowed if one allow rule covers all that its filter could ever
//! match (two rules do not add up), and denied if a deny rule could match anything that it matches. Rules on Shared Subscriptions
//! name the filter behind `$share/NAME/`.
//!
//! **Placeholders never widen a rule.** A value that is empty or absent (an anonymous Client has no user name), or that contains
//! `+`, `#`, `/` or NUL, or that begins with `$` where the filter begins with the placeholder, makes an allow rule on publish or
//! subscribe match nothing. A deny rule fails closed instead: the level that holds the placeholder becomes `+`, or, if the value
//! contains `/` or `#`, that level and all behind it become `#`. In patterns of connect a value stands for itself, a `*` in it
//! too; without a value an allow rule matches nothing and a deny rule matches as if `*` were written.

mod client_id_pattern;
mod pattern;
mod role;
mod rule;
mod rules;
mod template;

pub(crate) use role::Roles;
pub use role::{LOCAL_ROLE, RoleError, check_role_name};
pub(crate) use rule::check_rule;
pub use rule::{Effect, Operation, RuleError};
pub(crate) use rules::{RoleSet, Rules};
pub(crate) use template::Values;
