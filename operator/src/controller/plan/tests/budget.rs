//! How many pods may be evicted at once.

use super::*;
use crate::controller::observed::Refused;

/// Somebody else's, over the pods that it selects.
fn another(name: &str, selector: Value) -> LiveBudget {
    LiveBudget {
        name: name.to_owned(),
        uid: "another".to_owned(),
        owner: None,
        generation: 1,
        selector: serde_json::from_value(selector).unwrap(),
    }
}

fn told_of(plan: &Plan, kind: &str) -> Option<String> {
    let mut found = plan.status.conditions.iter().filter(|c| c.type_ == kind);
    found.next().map(|c| c.message.clone())
}

#[test]
fn a_quarter_of_the_pods_may_go_at_once_and_unready_ones_always() {
    let plan = World::new(json!({})).plan();
    let Some(BudgetStep::Apply(object)) = plan.budget else {
        panic!("{:?}", plan.budget);
    };
    let mut metadata = plan.deployment.unwrap()["metadata"].take();
    metadata.as_object_mut().unwrap().remove("annotations");
    assert_eq!(
        object,
        json!({
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": metadata,
            "spec": {
                "maxUnavailable": "25%",
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": {"matchLabels": {"conductor-oss.org/worker": "greet"}},
            },
        })
    );
}

#[test]
fn it_is_sent_where_it_is_not_as_it_was_sent() {
    type Change<'a> = &'a dyn Fn(&mut World);
    let cases: [(&str, bool, Change<'_>); 6] = [
        ("as it was", false, &|_| {}),
        ("changed", true, &|w| w.budgets()[0].generation += 1),
        ("deleted", true, &|w| w.budgets().clear()),
        ("made again", true, &|w| w.budgets()[0].uid = "c".to_owned()),
        ("restart", true, &|w| w.observed.memory = Memory::default()),
        ("unread", false, &|w| w.observed.budgets = None),
    ];
    for (case, is_sent, change) in cases {
        let mut world = World::running(2, json!({}));
        world.settle();
        change(&mut world);
        let sent = matches!(world.plan().budget, Some(BudgetStep::Apply(_)));
        assert_eq!(sent, is_sent, "{case}");
        world.settle();
    }
}

#[test]
fn there_is_none_while_the_worker_is_suspended() {
    let mut world = World::running(2, json!({}));
    world.edit(json!({"suspend": true}));
    let plan = world.plan();
    assert_eq!(plan.budget, Some(BudgetStep::Delete("b".to_owned())));
    world.settle();
    assert!(world.budgets().is_empty());
    world.edit(json!({}));
    assert!(matches!(world.plan().budget, Some(BudgetStep::Apply(_))));
}

#[test]
fn where_somebody_elses_covers_the_pods_there_is_none() {
    let labelled = |labels: Value| json!({"matchLabels": labels});
    let expression = |operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": "team", "operator": operator, "values": values}]});
    let cases = [
        (another("x", json!({})), true),
        (another("x", Value::Null), false),
        (another("x", labelled(json!({"team": "shop"}))), true),
        (another("x", labelled(json!({"team": "bank"}))), false),
        (
            another("x", labelled(json!({"conductor-oss.org/worker": "greet"}))),
            true,
        ),
        (
            another("x", labelled(json!({"conductor-oss.org/worker": "other"}))),
            false,
        ),
        (another("x", expression("In", &["bank", "shop"])), true),
        (another("x", expression("NotIn", &["shop"])), false),
        (another("x", expression("Almost", &[])), false),
        // Its name is taken.
        (another("greet", Value::Null), true),
    ];
    for (another, in_the_way) in cases {
        let template = json!({"template": {"metadata": {"labels": {"team": "shop"}}}});
        let mut world = World::running(2, template.clone());
        let case = format!("{another:?}");
        if another.name == "greet" {
            world.budgets().clear();
        }
        world.budgets().push(another);
        let plan = world.plan();
        let told = told_of(&plan, "ForeignDisruptionBudget");
        assert_eq!(told.is_some(), in_the_way, "{case}");
        assert!(!matches!(plan.budget, Some(BudgetStep::Apply(_))), "{case}");
        world.settle();
        let budgets = world.budgets();
        assert!(budgets.iter().any(|b| b.uid == "another"), "{case}");
        assert_eq!(budgets.iter().any(|b| b.uid == "b"), !in_the_way, "{case}");
        // Nothing is said where none is to be there anyway.
        world.edit(json!({"suspend": true}));
        assert_eq!(told_of(&world.plan(), "ForeignDisruptionBudget"), None);
        world.edit(template);

        // It goes: the worker's own comes back.
        world.budgets().retain(|b| b.uid != "another");
        world.settle();
        assert_eq!(world.budgets().len(), 1, "{case}");
        assert_eq!(told_of(&world.plan(), "ForeignDisruptionBudget"), None);
    }
}

#[test]
fn what_is_known_of_another_is_kept_until_budgets_are_read() {
    let mut world = World::running(2, json!({}));
    world.budgets().push(another("x", json!({})));
    world.settle();
    world.observed.budgets = None;
    world.observed.memory = Memory::default();
    let told = told_of(&world.plan(), "ForeignDisruptionBudget").unwrap();
    assert!(
        told.starts_with("the PodDisruptionBudget x is somebody else's"),
        "{told}"
    );
}

#[test]
fn one_that_is_refused_is_told_and_sent_again_after_a_minute() {
    for suspend in [false, true] {
        let mut world = World::running(2, json!({}));
        world.settle();
        if suspend {
            world.edit(json!({"suspend": true}));
        } else {
            world.budgets().clear();
        }
        let plan = world.plan();
        let object = match plan.budget.clone().unwrap() {
            BudgetStep::Apply(object) => object,
            BudgetStep::Delete(_) => Value::Null,
        };
        assert_eq!(object.is_null(), suspend);
        let mut plan = Plan {
            budget: None,
            ..plan
        };
        plan.memory.budget.refused = Some(Refused {
            object,
            message: "no".to_owned(),
            at: world.now().clock,
            times: 7,
        });
        world.apply(plan);
        world.settle();
        let plan = world.plan();
        assert_eq!(plan.budget, None);
        let told = told_of(&plan, "DisruptionBudgetRefused").unwrap();
        assert_eq!(told, "a change of the PodDisruptionBudget was refused: no");
        world.seconds += 60;
        assert!(world.plan().budget.is_some());

        // What was refused is not wanted any more.
        world.edit(json!({"suspend": !suspend}));
        world.settle();
        assert_eq!(told_of(&world.plan(), "DisruptionBudgetRefused"), None);
    }
}
