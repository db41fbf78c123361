//! The cases, in their order.

use anyhow::Result;
use cluster::Bed;

mod drain;
mod eviction;
mod install;
mod refused;
mod rollout;
mod upgrade;
mod work;

/// A case by its name.
pub(crate) type Case = (&'static str, fn(&Bed) -> Result<()>);

/// Where the workers are.
const WORKERS: &str = "e2e";

pub(crate) const ALL: &[Case] = &[
    (
        "helm_install_and_upgrade_update_the_crd",
        install::helm_install_and_upgrade_update_the_crd,
    ),
    (
        "monitors_are_accepted_by_the_real_crds",
        install::monitors_are_accepted_by_the_real_crds,
    ),
    (
        "bad_manifests_are_refused_with_what_to_write",
        refused::bad_manifests_are_refused_with_what_to_write,
    ),
    (
        "a_worker_starts_with_no_pods_and_says_so",
        work::a_worker_starts_with_no_pods_and_says_so,
    ),
    (
        "five_hundred_workflows_through_a_rolling_update",
        work::five_hundred_workflows_through_a_rolling_update,
    ),
    (
        "scale_follows_an_external_hand",
        work::scale_follows_an_external_hand,
    ),
    (
        "scale_downs_under_load_remove_no_pod_that_works",
        drain::scale_downs_under_load_remove_no_pod_that_works,
    ),
    (
        "pods_that_are_too_many_come_back_when_load_returns",
        drain::pods_that_are_too_many_come_back_when_load_returns,
    ),
    (
        "evictions_under_load_lose_and_repeat_nothing",
        eviction::evictions_under_load_lose_and_repeat_nothing,
    ),
    (
        "a_quarter_of_the_pods_is_evicted_at_once_and_no_more",
        eviction::a_quarter_of_the_pods_is_evicted_at_once_and_no_more,
    ),
    (
        "a_cordoned_idle_pod_is_evicted_though_the_budget_is_used_up",
        eviction::a_cordoned_idle_pod_is_evicted_though_the_budget_is_used_up,
    ),
    (
        "a_budget_of_the_users_takes_the_place_of_the_operators",
        eviction::a_budget_of_the_users_takes_the_place_of_the_operators,
    ),
    (
        "node_autoscalers_leave_a_pod_alone_while_its_task_outlasts_the_grace",
        eviction::node_autoscalers_leave_a_pod_alone_while_its_task_outlasts_the_grace,
    ),
    (
        "a_version_that_fails_its_tasks_is_stopped_and_the_old_one_goes_on",
        rollout::a_version_that_fails_its_tasks_is_stopped_and_the_old_one_goes_on,
    ),
    (
        "upgrades_of_the_operator_replace_pods_in_turn_and_halt_on_failure",
        upgrade::upgrades_of_the_operator_replace_pods_in_turn_and_halt_on_failure,
    ),
    (
        "deletion_leaves_nothing_behind",
        work::deletion_leaves_nothing_behind,
    ),
    (
        "helm_uninstall_keeps_the_resources",
        install::helm_uninstall_keeps_the_resources,
    ),
];
