//! Whom it hits. What hits nobody's work proves nothing, so a pod is chosen that has some.

use anyhow::{Result, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ContainerStatus, Pod},
};
use kube::ResourceExt as _;
use live::{ledger::Execution, watch::Log};

use crate::{
    retry::again,
    world::{World, version_of, wanted_version},
};

/// A container's start is known to the second.
const SECOND: f64 = 1.0;

/// Which pods may be hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// Any.
    Any,
    /// None of a version that is being rolled out: one that fails all tasks of a pod at once is
    /// taken for one that does not work, and its rollout is stopped for minutes.
    Proven,
}

/// Does something to a pod that is ready and has executions under way, chosen by the dice, again
/// while there is none or it does not work; the pod. A pod of a version that fails every task
/// executes nothing, and is none of them.
pub async fn hit(
    world: &World<'_>,
    whom: Whom,
    dice: &mut fastrand::Rng,
    what: &str,
    strike: impl AsyncFn(&Pod) -> Result<()>,
) -> Result<Pod> {
    let strike = &strike;
    again(what, || {
        let n = dice.usize(..);
        async move {
            let mut pods = world.running().await?;
            if whom == Whom::Proven {
                let deployment = world.live_deployment().await?;
                pods.retain(|pod| !is_new(pod, &deployment));
            }
            // Looked up last: the blow follows at once.
            let mut pods = at_work(pods, &world.ledger.under_way());
            ensure!(
                !pods.is_empty(),
                "no pod is ready and has an execution under way"
            );
            let pod = pods.swap_remove(n % pods.len());
            strike(&pod).await?;
            Ok(pod)
        }
    })
    .await
}

/// Those of the pods that are ready and have an execution under way.
fn at_work(pods: Vec<Pod>, under_way: &[Execution]) -> Vec<Pod> {
    let is_at_work = |pod: &Pod| {
        let name = pod.name_any();
        // What a container took with it when it was killed never ends in the ledger.
        let since = started(pod);
        let mut its = under_way.iter().filter(|e| e.pod == name);
        is_ready(pod) && its.any(|e| since.is_some_and(|since| e.began >= since + SECOND))
    };
    pods.into_iter().filter(is_at_work).collect()
}

/// Whether a pod is of a version that is being rolled out.
fn is_new(pod: &Pod, deployment: &Deployment) -> bool {
    let status = deployment.status.clone().unwrap_or_default();
    // Those that are not ready yet are not waited for: nothing stops what has replaced all others.
    let is_all = status.observed_generation == deployment.metadata.generation
        && status.updated_replicas == status.replicas;
    !is_all && version_of(pod.spec.as_ref()) == wanted_version(deployment)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten());
    conditions
        .filter(|c| c.type_ == "Ready")
        .any(|c| c.status == "True")
}

/// When the last of its containers that run was started, in seconds since 1970.
#[expect(
    clippy::cast_precision_loss,
    reason = "seconds since 1970 have 31 bits"
)]
fn started(pod: &Pod) -> Option<f64> {
    let status = pod.status.as_ref()?;
    let all = status.container_statuses.iter().flatten();
    let all = all.chain(status.init_container_statuses.iter().flatten());
    let started = |c: &ContainerStatus| c.state.as_ref()?.running.as_ref()?.started_at.clone();
    let last = all.filter_map(started).map(|at| at.0.as_second()).max();
    last.map(|at| at as f64)
}

/// All pods of some `ReplicaSets` that ever were, by their names, which begin with their set's.
pub fn pods_of(replica_sets: &[String], log: &Log) -> Vec<String> {
    let is_of = |pod: &str| {
        let mut sets = replica_sets.iter();
        sets.any(|set| pod.rsplit_once('-').is_some_and(|(of, _)| of == set))
    };
    let names = log.pods.iter().map(|pod| &pod.name);
    names.filter(|name| is_of(name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use live::watch::PodSeen;
    use serde_json::json;

    use super::*;

    /// A pod whose handler was started at a second of a minute.
    fn pod(name: &str, ready: bool, second: u32) -> Pod {
        let at = format!("1970-01-01T00:00:{second:02}Z");
        let running = |name: &str, at: &str| json!({"name": name, "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {"startedAt": at}}});
        let pod = json!({
            "metadata": {"name": name},
            "status": {
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
                "containerStatuses": [running("handler", &at)],
                "initContainerStatuses": [running("conductor-sidecar", "1970-01-01T00:00:01Z")],
            },
        });
        serde_json::from_value(pod).unwrap()
    }

    fn execution(pod: &str, began: f64) -> Execution {
        Execution {
            task: "t".to_owned(),
            pod: pod.to_owned(),
            began,
            ended: None,
            cut: None,
        }
    }

    #[test]
    fn only_who_is_ready_and_executes_something_is_hit() {
        let pods = || {
            vec![
                pod("works", true, 2),
                pod("idle", true, 2),
                pod("starts", false, 2),
                // Its handler was killed at 30 s, and what was in it has no end.
                pod("again", true, 30),
            ]
        };
        let under_way = [
            execution("works", 20.0),
            execution("starts", 20.0),
            execution("again", 30.4),
            execution("gone", 20.0),
        ];
        let names = |pods: Vec<Pod>| pods.iter().map(Pod::name_any).collect::<Vec<_>>();
        assert_eq!(names(at_work(pods(), &under_way)), ["works"]);
        let later = [execution("again", 31.0)];
        assert_eq!(names(at_work(pods(), &later)), ["again"]);
        assert!(at_work(pods(), &[]).is_empty());
    }

    #[test]
    fn the_pods_of_a_rollout_are_new_until_it_is_over() {
        let containers = |version: u32| json!([{"name": "handler", "env": [{"name": "VERSION", "value": version.to_string()}]}]);
        let pod = |version| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": containers(version)}})).unwrap()
        };
        let deployment = |seen: i64, updated: u32| -> Deployment {
            let deployment = json!({
                "metadata": {"generation": 7},
                "spec": {
                    "selector": {},
                    "template": {"spec": {"containers": containers(2)}},
                },
                "status": {
                    "observedGeneration": seen,
                    "replicas": 4,
                    "updatedReplicas": updated,
                    "unavailableReplicas": 1,
                },
            });
            serde_json::from_value(deployment).unwrap()
        };
        for goes_on in [deployment(6, 4), deployment(7, 3)] {
            assert!(is_new(&pod(2), &goes_on), "{goes_on:?}");
            assert!(!is_new(&pod(1), &goes_on), "{goes_on:?}");
        }
        assert!(!is_new(&pod(2), &deployment(7, 4)));
    }

    #[test]
    fn a_pod_that_has_gone_is_still_of_its_version() {
        let seen = |name: &str, gone| PodSeen {
            name: name.to_owned(),
            created: 1.0,
            ready: None,
            leaving: gone,
            gone,
        };
        let log = Log {
            pods: vec![
                seen("w-5f7-abcde", Some(3.0)),
                seen("w-5f7-fghij", None),
                seen("w-5f71-klmno", None),
                seen("w-6c-abcde", None),
            ],
            replicas: vec![],
        };
        let of_it = pods_of(&["w-5f7".to_owned()], &log);
        assert_eq!(of_it, ["w-5f7-abcde", "w-5f7-fghij"]);
    }
}
