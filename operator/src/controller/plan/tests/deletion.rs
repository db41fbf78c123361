//! The end of a worker.

use super::*;

/// Kubernetes' garbage collector takes what the worker owns; nobody has to be there for it.
#[test]
fn deletion_needs_neither_the_operator_nor_conductor() {
    let plan = World::new(json!({})).plan();
    let Some(BudgetStep::Apply(budget)) = plan.budget else {
        panic!("{:?}", plan.budget);
    };
    for object in [plan.deployment.unwrap(), budget] {
        let metadata = &object["metadata"];
        let owners = metadata["ownerReferences"].as_array().unwrap();
        assert_eq!(owners.len(), 1, "{metadata}");
        assert_eq!(owners[0]["kind"], "ConductorWorker");
        assert_eq!(owners[0]["uid"], "w", "{metadata}");
        assert!(metadata.get("finalizers").is_none(), "{metadata}");
    }

    // While it is under way the operator does nothing, whatever Conductor does.
    for away in [false, true] {
        let mut world = World::running(2, json!({}));
        world.observed.deleting = true;
        world.read(100, &[1, 1]);
        if away {
            world.unread(Some(Failure::Unreachable), None);
        }
        let plan = world.plan();
        assert!(plan.is_empty() && plan.requeue.is_none(), "{plan:?}");
    }
}
