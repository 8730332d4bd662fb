//! All cases.

mod bad_input;
mod election;
mod issuing;
pub mod nodes;
mod objects;
mod rest;
mod rules;
pub mod scale;
mod upgrade;
mod watching;

use std::future::Future;
use std::pin::Pin;

use crate::{Measured, World};

/// What a case gives back.
pub type Verdict = anyhow::Result<Vec<Measured>>;

/// One case.
#[derive(Clone, Copy)]
pub struct Case {
    /// What it shows.
    pub name: &'static str,
    /// What it needs.
    pub needs: Needs,
    run: for<'a> fn(&'a World) -> Pin<Box<dyn Future<Output = Verdict> + 'a>>,
}

impl Case {
    /// Runs it.
    pub async fn run(&self, world: &World) -> Verdict {
        (self.run)(world).await
    }
}

/// What a case needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// A control plane and one operator that watches all namespaces, which others may use at the same time.
    Objects,
    /// A control plane for itself: it starts operators of its own, or counts what is written.
    Alone,
}

/// A case of stage B.
macro_rules! node_case {
    ($module:ident :: $name:ident) => {
        Case { name: stringify!($name), needs: Needs::Alone, run: |world| Box::pin(nodes::$module::$name(world)) }
    };
}

/// The cases of stage B, in the order they run.
pub const STAGE_B: &[Case] = &[
    node_case!(smoke::smoke),
    node_case!(smoke::restricted_namespace),
    node_case!(life::configuration_changes_live),
    node_case!(life::certificate_changes_without_a_restart),
    node_case!(life::hibernated_and_woken),
    node_case!(life::deleted_with_retain_and_made_again),
    node_case!(life::deleted_with_everything_in_the_bucket),
    node_case!(life::a_bucket_that_cannot_be_used_is_told),
    node_case!(charts::a_broker_is_installed_tested_upgraded_and_uninstalled),
    node_case!(charts::an_operator_that_is_uninstalled_leaves_the_brokers),
    node_case!(moves::rolling_update_under_load),
    node_case!(moves::node_drained_under_load),
    node_case!(moves::rollout_to_a_broken_image),
    node_case!(failures::killed_under_load),
    node_case!(failures::deleted_by_force_under_load),
    node_case!(failures::object_store_down_and_back),
    node_case!(failures::two_processes_at_once),
    node_case!(failures::node_loses_its_power_under_load),
];

macro_rules! case {
    ($needs:ident, $module:ident :: $name:ident) => {
        Case { name: stringify!($name), needs: Needs::$needs, run: |world| Box::pin($module::$name(world)) }
    };
}

/// The cases of stage A, in the order they run.
pub const STAGE_A: &[Case] = &[
    case!(Objects, rules::every_rule_is_enforced_by_the_api_server),
    case!(Objects, rules::golden_objects_are_taken),
    case!(Objects, rules::explain_reads_like_documentation),
    case!(Alone, rules::rendered_charts_are_taken),
    case!(Objects, objects::one_object_becomes_everything_a_broker_needs),
    case!(Objects, objects::a_child_that_is_deleted_comes_back),
    case!(Objects, objects::what_somebody_edits_is_put_right),
    case!(Objects, objects::what_is_not_wanted_any_more_goes),
    case!(Objects, objects::limits_and_roles_replace_no_pod_and_an_image_does),
    case!(Objects, objects::zero_replicas_hibernate_through_the_scale_subresource),
    case!(Objects, objects::a_paused_broker_is_left_alone),
    case!(Objects, objects::our_own_certificate_is_made_and_handed_to_users),
    case!(Objects, objects::a_generated_password_is_a_secret_of_the_user_and_a_hash_of_the_broker),
    case!(Objects, objects::a_namespace_goes_with_everything_in_it),
    case!(Objects, bad_input::a_missing_secret_is_told_and_healed),
    case!(Objects, bad_input::a_bad_key_pair_leaves_the_last_good_one),
    case!(Objects, bad_input::an_unknown_role_leaves_the_last_good_configuration),
    case!(Objects, bad_input::the_older_of_two_users_with_one_name_has_it),
    case!(Objects, bad_input::a_role_for_nobody_is_told),
    case!(Objects, bad_input::a_user_of_no_broker_is_told),
    case!(Objects, bad_input::an_object_of_somebody_else_is_not_touched),
    case!(Alone, rest::a_restarted_operator_writes_nothing),
    case!(Alone, rest::an_operator_of_another_release_restarts_no_broker),
    case!(Alone, rest::nothing_is_written_at_rest),
    case!(Alone, election::the_next_operator_goes_on_when_the_leader_dies),
    case!(Alone, election::one_namespace_only),
    case!(Alone, election::missing_definitions_mean_not_ready_and_one_bad_object_stops_no_other),
    case!(Alone, upgrade::definitions_older_than_the_operator_and_their_upgrade),
    case!(Alone, issuing::certificates_come_from_cert_manager),
    case!(Alone, watching::alerts_and_dashboard_are_answered),
    case!(Alone, rest::the_rights_of_the_chart_were_enough),
];
