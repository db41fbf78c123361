//! The `PodDisruptionBudget`: how many of a worker's pods may be evicted at once.
//!
//! Kubernetes evicts no pod that two budgets cover. Where somebody else's covers a worker's pods, the
//! worker gets none, and loses the one it has.

use std::collections::BTreeMap;

use kube::core::{Selector, SelectorExt};
use serde_json::{Value, json};

use super::{
    conditions::{Conditions, Tri},
    deployment::metadata,
    is_due,
};
use crate::{
    WORKER_LABEL,
    controller::observed::{Key, LiveBudget, Memory, Now, Observed},
    worker::Worker,
};

/// There while somebody else's budget is in the way.
const FOREIGN: &str = "ForeignDisruptionBudget";

/// There while the API server refuses what is sent.
const REFUSED: &str = "DisruptionBudgetRefused";

/// What is to be done about the budget.
#[derive(Debug, Clone, PartialEq)]
pub enum BudgetStep {
    /// Apply this.
    Apply(Value),
    /// Delete the one of this UID, which is the worker's own.
    Delete(String),
}

/// What was found.
pub(super) struct Budget<'a> {
    /// What is to be done.
    pub(super) step: Option<BudgetStep>,
    /// Somebody else's that is in the way.
    another: Option<&'a LiveBudget>,
}

/// A worker's budget. A quarter, rounded up, is never none: no budget stops the drain of a node for
/// good. Unready pods may always go, or those that are cordoned and idle would count against it.
fn object(key: &Key, uid: &str) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(key, uid),
        "spec": {
            "maxUnavailable": "25%",
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": {WORKER_LABEL: key.name}},
        },
    })
}

/// What is to become of the budget of a worker with these pods. Nothing, where it is not known what
/// budgets there are.
pub(super) fn budget<'a>(
    observed: &'a Observed,
    worker: &Worker,
    memory: &mut Memory,
    deployment: &Value,
    now: Now,
) -> Budget<'a> {
    let Some(budgets) = &observed.budgets else {
        return Budget {
            step: None,
            another: None,
        };
    };
    let is_own = |budget: &LiveBudget| budget.owner.as_ref() == Some(&observed.uid);
    let labels = labels(&deployment["spec"]["template"]);
    let is_named = |budget: &LiveBudget| budget.name == observed.key.name;
    let (own, others): (Vec<_>, Vec<_>) = budgets.iter().partition(|budget| is_own(budget));
    let another = others
        .into_iter()
        .find(|budget| is_named(budget) || covers(budget, &labels))
        .filter(|_| !worker.suspend);
    let own = own.into_iter().find(|budget| is_named(budget));

    let is_wanted = !worker.suspend && another.is_none();
    // Null where there is to be none.
    let object = if is_wanted {
        object(&observed.key, &observed.uid)
    } else {
        Value::Null
    };
    let live = own.map(|own| (&*own.uid, own.generation));
    let is_due = is_due(live, &mut memory.budget, &object, now);
    let step = match own {
        _ if !is_due => None,
        _ if is_wanted => Some(BudgetStep::Apply(object)),
        Some(own) => Some(BudgetStep::Delete(own.uid.clone())),
        None => None,
    };
    Budget { step, another }
}

/// The labels of a template's pods.
fn labels(template: &Value) -> BTreeMap<String, String> {
    let labels = template["metadata"]["labels"].as_object();
    let labels = labels.into_iter().flatten();
    labels
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// Whether a budget is about pods with these labels. One without a selector is about none.
fn covers(budget: &LiveBudget, labels: &BTreeMap<String, String>) -> bool {
    let selector = budget.selector.clone().map(Selector::try_from);
    selector.is_some_and(|selector| selector.is_ok_and(|selector| selector.matches(labels)))
}

impl Budget<'_> {
    /// Says why there is none, while that is so.
    pub(super) fn tell(&self, conditions: &mut Conditions, observed: &Observed, memory: &Memory) {
        if observed.budgets.is_none() {
            conditions.keep(FOREIGN);
        }
        if let Some(another) = self.another {
            let message = format!(
                "the PodDisruptionBudget {} is somebody else's: this worker gets none, since Kubernetes evicts no pod that two of them cover; delete yours to have the operator's",
                another.name
            );
            conditions.set(FOREIGN, Tri::True, FOREIGN, message);
        }
        if let Some(refused) = &memory.budget.refused {
            let message = format!(
                "a change of the PodDisruptionBudget was refused: {}",
                refused.message
            );
            conditions.set(REFUSED, Tri::True, REFUSED, message);
        }
    }
}
