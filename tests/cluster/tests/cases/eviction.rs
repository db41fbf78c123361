//! Pods that are evicted, as by the drain of a node: one after another, and nothing is lost.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cluster::{Bed, Load, OPERATOR, until};
use serde_json::{Value, json};

use super::{
    WORKERS,
    drain::{fill, greeting, scale, settled, stats, times, worker},
    work::{
        condition, executed_once, greet_in, ledger, ledger_url, object, patch_worker, pods,
        whole_pods,
    },
};

const MINUTE: Duration = Duration::from_secs(60);

/// How many pods there are. A quarter of them is one.
const PODS: u32 = 4;

/// What became of an eviction.
#[derive(Debug, PartialEq, Eq)]
enum Evicted {
    Yes,
    /// A budget has no room for it: 429.
    NotNow,
}

/// Asks for an eviction once, as `kubectl drain` does.
fn evict(bed: &Bed, pod: &str) -> Result<Evicted> {
    let path = format!("/api/v1/namespaces/{WORKERS}/pods/{pod}/eviction");
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": pod, "namespace": WORKERS},
    });
    match bed.kubectl_with(
        &["create", "--raw", &path, "-f", "-"],
        &eviction.to_string(),
    ) {
        Ok(_) => Ok(Evicted::Yes),
        Err(error) if format!("{error:#}").contains("disruption budget") => Ok(Evicted::NotNow),
        Err(error) => Err(error),
    }
}

/// Asks until the budget lets it pass.
fn evicted(bed: &Bed, pod: &str) -> Result<()> {
    until(&format!("{pod} may be evicted"), MINUTE, || {
        Ok((evict(bed, pod)? == Evicted::Yes).then_some(()))
    })
}

/// Waits until every pod is at work.
fn at_work(bed: &Bed, there: &[String]) -> Result<()> {
    until("every pod is at work", MINUTE, || {
        for pod in there {
            let stats = stats(bed, pod)?;
            ensure!(stats["inFlight"].as_u64() > Some(0), "{pod} says {stats}");
        }
        Ok(Some(()))
    })
}

/// Waits until a pod is not there any more.
fn gone(bed: &Bed, pod: &str) -> Result<()> {
    until(&format!("{pod} is gone"), 2 * MINUTE, || {
        let there = pods(bed)?;
        ensure!(!there.iter().any(|p| p == pod), "{there:?}");
        Ok(Some(()))
    })
}

/// The worker's own budget, once Kubernetes has seen so many healthy pods.
fn budget(bed: &Bed, healthy: u64) -> Result<Value> {
    until("the budget knows the pods", MINUTE, || {
        let budget = bed.get(&["poddisruptionbudget", "greet", "-n", WORKERS])?;
        let status = &budget["status"];
        ensure!(
            status["currentHealthy"] == healthy
                && status["observedGeneration"] == budget["metadata"]["generation"],
            "its status is {status}"
        );
        Ok(Some(budget))
    })
}

/// kubelet says so where a hook finds nobody, or has an error for an answer.
fn no_hook_failed(bed: &Bed) -> Result<()> {
    let selector = "--field-selector=reason=FailedPreStopHook";
    let events = bed.get(&["events", "-n", WORKERS, selector])?;
    let events = events["items"].as_array().context("no items")?;
    ensure!(events.is_empty(), "{events:#?}");
    Ok(())
}

/// Every workflow is done by one execution of its only attempt. `before`: the length of the
/// ledger at the start.
fn once_each(bed: &Bed, load: &Load<'_>, before: usize) -> Result<()> {
    let outcome = load.check(greeting)?;
    ensure!(outcome.wrong.is_empty(), "{}", outcome.wrong.join("\n"));
    let written = ledger(bed)?;
    executed_once(bed, &written[before..], outcome.tasks.len())
}

/// As many pods as there are to be, whose tasks take so many milliseconds. By none: a version of
/// before could be taken for this one.
fn pods_that_take(bed: &Bed, millis: u32) -> Result<Vec<String>> {
    scale(bed, 0)?;
    settled(bed, 0)?;
    greet_in(bed, millis, &ledger_url(bed)?)?;
    scale(bed, PODS)?;
    settled(bed, PODS)
}

pub(crate) fn evictions_under_load_lose_and_repeat_nothing(bed: &Bed) -> Result<()> {
    pods_that_take(bed, 2000)?;
    let before = ledger(bed)?.len();
    let mut load = Load::new(bed, "greeting");
    for round in 0..usize::try_from(times("EVICTIONS")?)? {
        fill(bed, &mut load)?;
        let there = settled(bed, PODS)?;
        at_work(bed, &there)?;
        let victim = &there[round % there.len()];
        evicted(bed, victim)?;
        gone(bed, victim)?;
    }
    load.finish(5 * MINUTE)?;
    once_each(bed, &load, before)?;
    no_hook_failed(bed)
}

/// The nodes that take pods.
fn nodes(bed: &Bed) -> Result<Vec<String>> {
    let found = bed.get(&["nodes"])?;
    let items = found["items"].as_array().context("no items")?;
    let open = items
        .iter()
        .filter(|node| node["spec"]["unschedulable"] != true);
    let names = open.filter_map(|node| node["metadata"]["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

/// No node takes new pods, so what is evicted is not replaced until they do again.
pub(crate) fn a_quarter_of_the_pods_is_evicted_at_once_and_no_more(bed: &Bed) -> Result<()> {
    let there = settled(bed, PODS)?;
    let own = budget(bed, PODS.into())?;
    ensure!(own["spec"]["maxUnavailable"] == "25%", "{}", own["spec"]);
    let before = ledger(bed)?.len();
    let mut load = Load::new(bed, "greeting");
    fill(bed, &mut load)?;
    at_work(bed, &there)?;

    let nodes = nodes(bed)?;
    let each = |verb: &'static str| {
        let names = nodes.iter().map(String::as_str);
        let args: Vec<&str> = std::iter::once(verb).chain(names).collect();
        bed.kubectl(&args).map(drop)
    };
    each("cordon")?;
    let refused = refused_while_one_is_missing(bed, &there);
    // Whatever came of it: nobody else should find them so.
    each("uncordon")?;
    refused?;

    settled(bed, PODS)?;
    budget(bed, PODS.into())?;
    evicted(bed, &there[1])?;
    gone(bed, &there[1])?;
    settled(bed, PODS)?;
    load.finish(5 * MINUTE)?;
    once_each(bed, &load, before)
}

fn refused_while_one_is_missing(bed: &Bed, there: &[String]) -> Result<()> {
    evicted(bed, &there[0])?;
    for _ in 0..2 {
        // At once, and when the first is gone.
        for pod in &there[1..] {
            let second = evict(bed, pod)?;
            ensure!(second == Evicted::NotNow, "{pod} was evicted too");
        }
        gone(bed, &there[0])?;
    }
    let left = pods(bed)?;
    let stays = |pod: &String| left.contains(pod);
    ensure!(there[1..].iter().all(stays), "only {left:?} are left");
    Ok(())
}

/// A pod that is cordoned and idle is not ready. It may go though the budget has no room: the
/// operator, which would remove it itself, is not there meanwhile.
pub(crate) fn a_cordoned_idle_pod_is_evicted_though_the_budget_is_used_up(bed: &Bed) -> Result<()> {
    // Long enough that the operator is gone before a pod gets idle; shorter by far than its
    // cordon lasts then, which is 30 s.
    let there = pods_that_take(bed, 15_000)?;
    let before = ledger(bed)?.len();
    let mut load = Load::new(bed, "greeting");
    let input = |n: usize| object(&json!({"name": format!("number {n}")}));
    load.start(48, input)?;
    at_work(bed, &there)?;
    scale(bed, PODS - 1)?;
    let victim = until("one is cordoned", MINUTE, || {
        for pod in &there {
            if stats(bed, pod)?["cordoned"] == true {
                return Ok(Some(pod.clone()));
            }
        }
        Ok(None)
    })?;
    let operators = |replicas: &str| {
        let operators = ["scale", "deployment", "--all", "-n", OPERATOR, replicas];
        bed.kubectl(&operators).map(drop)
    };
    operators("--replicas=0")?;
    let went = goes_when_idle(bed, &victim, &there);
    operators("--replicas=1")?;
    went?;
    gone(bed, &victim)?;
    settled(bed, PODS - 1)?;
    load.finish(5 * MINUTE)?;
    once_each(bed, &load, before)
}

fn goes_when_idle(bed: &Bed, victim: &str, there: &[String]) -> Result<()> {
    until("no operator is left", MINUTE, || {
        let found = bed.get(&["pods", "-n", OPERATOR])?;
        Ok((found["items"] == json!([])).then_some(()))
    })?;
    let healthy = u64::from(PODS) - 1;
    until("the cordoned pod is idle", MINUTE, || {
        let stats = stats(bed, victim)?;
        ensure!(
            stats["cordoned"] == true && stats["inFlight"] == 0,
            "{victim} says {stats}"
        );
        Ok(Some(()))
    })?;
    let budget = budget(bed, healthy)?;
    let allowed = &budget["status"]["disruptionsAllowed"];
    ensure!(allowed == 0, "{allowed} disruptions are allowed");
    let others = there.iter().filter(|pod| *pod != victim);
    for pod in others {
        let at_work = evict(bed, pod)?;
        ensure!(at_work == Evicted::NotNow, "{pod} was evicted, which works");
    }
    let idle = evict(bed, victim)?;
    ensure!(idle == Evicted::Yes, "{victim} may not go, which is idle");
    Ok(())
}

/// Of a grace period of 15 s a task has a little less; it is marked while one runs for longer, or
/// is of a queue whose tasks have.
pub(crate) fn node_autoscalers_leave_a_pod_alone_while_its_task_outlasts_the_grace(
    bed: &Bed,
) -> Result<()> {
    scale(bed, 0)?;
    settled(bed, 0)?;
    grace(bed, 15)?;
    greet_in(bed, 25_000, &ledger_url(bed)?)?;
    scale(bed, 2)?;
    let there = settled(bed, 2)?;
    let before = ledger(bed)?.len();
    let mut load = Load::new(bed, "greeting");
    load.start(1, |n| object(&json!({"name": format!("number {n}")})))?;
    let busy = until("one pod is at work", MINUTE, || {
        for pod in &there {
            if stats(bed, pod)?["inFlight"] == 1 {
                return Ok(Some(pod.clone()));
            }
        }
        Ok(None)
    })?;
    until("that pod is to be left alone", MINUTE, || {
        let marked = left_alone(bed)?;
        ensure!(marked == [busy.as_str()], "{marked:?} are, of {there:?}");
        Ok(Some(()))
    })?;
    load.finish(2 * MINUTE)?;
    until("every pod may be moved", 3 * MINUTE, || {
        let marked = left_alone(bed)?;
        ensure!(marked.is_empty(), "{marked:?} may not");
        Ok(Some(()))
    })?;
    once_each(bed, &load, before)?;
    scale(bed, 0)?;
    settled(bed, 0)?;
    grace(bed, 60)
}

/// Gives the worker's pods so many seconds to end.
fn grace(bed: &Bed, seconds: u32) -> Result<()> {
    let spec = json!({"template": {"spec": {"terminationGracePeriodSeconds": seconds}}});
    patch_worker(bed, "merge", &json!({"spec": spec}))
}

/// The names of the pods that node autoscalers are told to leave where they are, by both of what
/// they read.
fn left_alone(bed: &Bed) -> Result<Vec<String>> {
    let pods = whole_pods(bed)?;
    let told = pods.iter().map(|pod| &pod["metadata"]).filter(|meta| {
        let annotations = &meta["annotations"];
        annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
            && annotations["karpenter.sh/do-not-disrupt"] == "true"
    });
    let names = told.filter_map(|meta| meta["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

/// Kubernetes evicts no pod that two budgets cover.
pub(crate) fn a_budget_of_the_users_takes_the_place_of_the_operators(bed: &Bed) -> Result<()> {
    const FOREIGN: &str = "ForeignDisruptionBudget";
    scale(bed, 2)?;
    let there = settled(bed, 2)?;
    budget(bed, 2)?;
    let mine = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "mine"},
        "spec": {
            "minAvailable": 1,
            "selector": {"matchLabels": {"conductor-oss.org/worker": "greet"}},
        },
    });
    bed.kubectl_with(&["apply", "-n", WORKERS, "-f", "-"], &mine.to_string())?;
    until("the worker's own budget is gone, and why", MINUTE, || {
        let names = budgets(bed)?;
        let w = worker(bed)?;
        ensure!(
            names == ["mine"] && condition(&w, FOREIGN) == Some("True"),
            "there are {names:?}, and the status is {}",
            w["status"]
        );
        Ok(Some(()))
    })?;
    evicted(bed, &there[0])?;
    gone(bed, &there[0])?;
    settled(bed, 2)?;

    bed.kubectl(&["delete", "poddisruptionbudget", "mine", "-n", WORKERS])?;
    until("the worker's own budget is back", MINUTE, || {
        let names = budgets(bed)?;
        let w = worker(bed)?;
        ensure!(
            names == ["greet"] && condition(&w, FOREIGN).is_none(),
            "there are {names:?}, and the status is {}",
            w["status"]
        );
        Ok(Some(()))
    })?;
    let own = budget(bed, 2)?;
    ensure!(own["spec"]["maxUnavailable"] == "25%", "{}", own["spec"]);
    Ok(())
}

/// The names of the budgets where the workers are.
fn budgets(bed: &Bed) -> Result<Vec<String>> {
    let found = bed.get(&["poddisruptionbudgets", "-n", WORKERS])?;
    let items = found["items"].as_array().context("no items")?;
    let names = items.iter().filter_map(|b| b["metadata"]["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}
