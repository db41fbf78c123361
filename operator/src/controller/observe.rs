//! Reads what there is, from memory alone: the watches' stores and the sampling.

use std::collections::BTreeMap;

use api::SIDECAR_CONTAINER;
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{ContainerState, ContainerStatus, Pod, PodStatus},
    policy::v1::PodDisruptionBudget,
};
use kube::{Resource, api::ObjectMeta};

use super::{
    Context,
    observed::{
        Key, LiveBudget, LiveDeployment, LiveHints, LiveMark, LivePod, Observed, Origin,
        SidecarState, Trouble, TroubleKind,
    },
    plan::HINTS,
};
use crate::{
    CORDON_KEY, DRAINING_LABEL, DRAINING_SINCE, LONG_TASK_HINTS, ROLLOUT_RESUMED, ROLLOUT_STALLED,
    ROLLOUT_STALLED_BY, SIDECAR_UPGRADE, SPEC_HASH, TEMPLATE_HASH,
    error::Error,
    stores::{Guarded, RawDeployment, deletion_cost, key_of, template_of},
};

/// All that a plan for this worker is made from.
pub(super) fn observe(context: &Context, object: &Guarded) -> Result<Observed, Error> {
    let meta = object.meta();
    let key = key_of(meta).ok_or(Error::Nameless)?;
    let worker = context.stores.parse(&key, object);
    let (round, shared) = match &worker {
        Ok(worker) => (
            context.sampling.take(&key, worker),
            context.sampling.shares(&key, worker),
        ),
        Err(_) => (None, BTreeMap::new()),
    };
    let pods = pods(context, &key);
    Ok(Observed {
        told: context.cordons.told(pods.iter().map(|pod| &*pod.uid)),
        unread_since: context.contact.unread_since(),
        key_of_cordons: context.cordons.public_key(),
        uid: meta.uid.clone().unwrap_or_default(),
        generation: meta.generation.unwrap_or_default(),
        deleting: meta.deletion_timestamp.is_some(),
        worker,
        status: object
            .0
            .as_ref()
            .ok()
            .and_then(|worker| worker.status.clone())
            .unwrap_or_default(),
        deployment: context.stores.deployment(&key).map(|live| LiveDeployment {
            newest: context.stores.newest_template(&live),
            ..deployment(&live)
        }),
        budgets: budgets(context, &key),
        pods,
        round,
        shared,
        turn: context.turns.offer(&key, &context.stores),
        memory: context.memory(&key),
        tick: context.tick,
        key,
    })
}

fn deployment(live: &RawDeployment) -> LiveDeployment {
    let meta = &live.metadata;
    let spec = &live.spec;
    let status = live.status.clone().unwrap_or_default();
    let annotation = |name| meta.annotations.as_ref()?.get(name).cloned();
    let count = |n: Option<i32>| n.and_then(|n| u32::try_from(n).ok()).unwrap_or_default();
    let condition = |kind: &str, is: &str| {
        let found = status
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == kind && c.status == is)?;
        Some((
            found.reason.clone().unwrap_or_default(),
            found.message.clone().unwrap_or_default(),
        ))
    };
    LiveDeployment {
        uid: meta.uid.clone().unwrap_or_default(),
        owner: owner(meta),
        generation: meta.generation.unwrap_or_default(),
        observed_generation: status.observed_generation.unwrap_or_default(),
        wanted: spec.replicas.map_or(1, |n| count(Some(n))),
        replicas: count(status.replicas),
        updated: count(status.updated_replicas),
        ready: count(status.ready_replicas),
        failure: condition("ReplicaFailure", "True").map(|(_, message)| message),
        stalled: condition("Progressing", "False")
            .filter(|(reason, _)| reason == "ProgressDeadlineExceeded")
            .map(|(_, message)| message),
        paused: spec.paused.unwrap_or_default(),
        stalled_for: annotation(ROLLOUT_STALLED),
        stalled_by: annotation(ROLLOUT_STALLED_BY),
        resumed_for: annotation(ROLLOUT_RESUMED),
        newest: None,
        origin: Origin {
            spec: annotation(SPEC_HASH),
            template: annotation(TEMPLATE_HASH),
            upgrade_since: annotation(SIDECAR_UPGRADE),
        },
        template: spec.template.clone(),
    }
}

fn annotation<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a String> {
    meta.annotations.as_ref()?.get(name)
}

/// The UID of what controls an object.
fn owner(meta: &ObjectMeta) -> Option<String> {
    let owners = meta.owner_references.iter().flatten();
    let mut controllers = owners.filter(|owner| owner.controller == Some(true));
    controllers.next().map(|owner| owner.uid.clone())
}

fn budgets(context: &Context, key: &Key) -> Option<Vec<LiveBudget>> {
    let found = context.stores.budgets_in(&key.namespace)?;
    let mut budgets: Vec<LiveBudget> = found.iter().map(|found| budget(found)).collect();
    budgets.sort_by(|a, b| a.name.cmp(&b.name));
    Some(budgets)
}

fn budget(live: &PodDisruptionBudget) -> LiveBudget {
    let meta = &live.metadata;
    LiveBudget {
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        owner: owner(meta),
        generation: meta.generation.unwrap_or_default(),
        selector: live.spec.as_ref().and_then(|spec| spec.selector.clone()),
    }
}

fn pods(context: &Context, key: &Key) -> Vec<LivePod> {
    let stores = &context.stores;
    let found = stores.pods_of(key);
    let seen = found.iter().map(|found| LivePod {
        on_drained_node: stores.is_on_drained_node(found),
        ..pod(found)
    });
    let mut pods: Vec<LivePod> = seen.collect();
    pods.sort_by(|a, b| a.name.cmp(&b.name));
    pods
}

fn pod(pod: &Pod) -> LivePod {
    let meta = &pod.metadata;
    LivePod {
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        template: template_of(meta),
        created: meta.creation_timestamp.as_ref().map(|t| t.0),
        ready_since: ready_since(pod),
        assigned: pod.spec.as_ref().is_some_and(|s| s.node_name.is_some()),
        on_drained_node: false,
        pending: pod.status.as_ref().is_none_or(is_pending),
        sidecar: sidecar(pod),
        terminating: meta.deletion_timestamp.is_some(),
        mark: mark(pod),
        hints: hints(meta),
        trouble: trouble(pod),
        restarts: restarts(pod),
    }
}

fn mark(pod: &Pod) -> LiveMark {
    let meta = &pod.metadata;
    LiveMark {
        since: annotation(meta, DRAINING_SINCE).and_then(|since| since.parse().ok()),
        labelled: meta
            .labels
            .as_ref()
            .is_some_and(|labels| labels.contains_key(DRAINING_LABEL)),
        cost: deletion_cost(pod).unwrap_or_default(),
        key: annotation(meta, CORDON_KEY).cloned(),
    }
}

fn hints(meta: &ObjectMeta) -> LiveHints {
    let annotation = |name| meta.annotations.as_ref()?.get(name);
    let own = annotation(LONG_TASK_HINTS).map_or("", String::as_str);
    let own = own.split(',').filter(|name| !name.is_empty());
    LiveHints {
        there: HINTS
            .iter()
            .filter_map(|(name, _)| Some(((*name).to_owned(), annotation(name)?.clone())))
            .collect(),
        own: own.map(str::to_owned).collect(),
    }
}

fn is_pending(status: &PodStatus) -> bool {
    status
        .phase
        .as_deref()
        .is_none_or(|phase| phase == "Pending")
}

fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions
        .iter()
        .find(|c| c.type_ == "Ready" && c.status == "True")?;
    let since = ready.last_transition_time.as_ref().map(|t| t.0);
    // Ready is what counts; since when is for ages.
    Some(
        since
            .or_else(|| Some(pod.metadata.creation_timestamp.as_ref()?.0))
            .unwrap_or_default(),
    )
}

/// The other containers do not count: without the sidecar none of them is given work.
fn sidecar(pod: &Pod) -> SidecarState {
    let containers = pod.status.as_ref();
    let containers = containers.and_then(|status| status.init_container_statuses.as_ref());
    let sidecar = containers
        .into_iter()
        .flatten()
        .find(|c| c.name == SIDECAR_CONTAINER);
    let Some(ContainerStatus {
        state, last_state, ..
    }) = sidecar
    else {
        return SidecarState::Unstarted;
    };
    let has_ended = |state: &ContainerState| state.terminated.is_some();
    match (state, last_state) {
        (Some(state), _) if state.running.is_some() => SidecarState::Running,
        (Some(state), _) if has_ended(state) => SidecarState::Down,
        (_, Some(last)) if last.running.is_some() || has_ended(last) => SidecarState::Down,
        _ => SidecarState::Unstarted,
    }
}

fn restarts(pod: &Pod) -> u32 {
    let status = pod.status.iter();
    let containers = status.flat_map(|status| {
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten())
    });
    let restarts = containers.map(|c| u32::try_from(c.restart_count).unwrap_or_default());
    restarts.fold(0, u32::saturating_add)
}

fn trouble(pod: &Pod) -> Option<Trouble> {
    let status = pod.status.as_ref()?;
    let unscheduled = status.conditions.iter().flatten().find(|c| {
        c.type_ == "PodScheduled"
            && c.status == "False"
            && c.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(condition) = unscheduled {
        return Some(Trouble {
            kind: TroubleKind::Unschedulable,
            message: condition.message.clone().unwrap_or_default(),
        });
    }
    let init = status.init_container_statuses.iter().flatten();
    init.chain(status.container_statuses.iter().flatten())
        .find_map(container_trouble)
}

fn container_trouble(container: &ContainerStatus) -> Option<Trouble> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    let kind = match reason {
        "ImagePullBackOff"
        | "ErrImagePull"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable" => TroubleKind::ImagePull,
        "CrashLoopBackOff" => TroubleKind::CrashLoop,
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            TroubleKind::ContainerConfig
        }
        _ => return None,
    };
    let said = waiting.message.as_deref().unwrap_or(reason);
    Some(Trouble {
        kind,
        message: format!("container {}: {said}", container.name),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::stores::DELETION_COST;

    #[test]
    fn a_pod_is_read() {
        let read: Pod = serde_json::from_value(json!({
            "metadata": {
                "name": "a", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z",
                "annotations": {
                    DELETION_COST: "-100", DRAINING_SINCE: "2026-01-01T00:01:00Z", CORDON_KEY: "k",
                },
                "labels": {DRAINING_LABEL: "true", "pod-template-hash": "h"},
            },
            "spec": {"nodeName": "n", "containers": []},
            "status": {
                "phase": "Running",
                "conditions": [
                    {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:09Z"},
                ],
                "containerStatuses": [{
                    "name": "app", "image": "", "imageID": "", "ready": false, "restartCount": 3,
                    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
                }],
            },
        }))
        .unwrap();
        let read = pod(&read);
        let mark = LiveMark {
            since: Some("2026-01-01T00:01:00Z".parse().unwrap()),
            labelled: true,
            cost: -100,
            key: Some("k".to_owned()),
        };
        assert_eq!((read.mark, read.template.as_deref()), (mark, Some("h")));
        assert!(read.assigned && !read.pending && !read.terminating);
        assert_eq!(
            read.ready_since,
            Some("2026-01-01T00:00:09Z".parse().unwrap())
        );
        assert_eq!(read.restarts, 3);
        let trouble = read.trouble.unwrap();
        assert_eq!(trouble.kind, TroubleKind::CrashLoop);
        assert_eq!(trouble.message, "container app: back-off 10s");
    }

    #[test]
    fn a_pod_has_started_when_its_sidecar_has_run() {
        use SidecarState::{Down, Running, Unstarted};

        let waiting = json!({"waiting": {"reason": "PodInitializing"}});
        let running = json!({"running": {}});
        let ended = json!({"terminated": {"exitCode": 1}});
        for (name, state, last_state, expected) in [
            (SIDECAR_CONTAINER, &waiting, json!({}), Unstarted),
            (SIDECAR_CONTAINER, &running, json!({}), Running),
            (SIDECAR_CONTAINER, &waiting, ended.clone(), Down),
            (SIDECAR_CONTAINER, &running, ended.clone(), Running),
            (SIDECAR_CONTAINER, &ended, json!({}), Down),
            ("first", &running, ended.clone(), Unstarted),
        ] {
            let read: Pod = serde_json::from_value(json!({"status": {"initContainerStatuses": [{
                "name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": state, "lastState": last_state,
            }]}}))
            .unwrap();
            let read = pod(&read);
            assert_eq!(read.sidecar, expected, "{name} {state} {last_state}");
            assert!(read.pending && !read.assigned && read.mark == LiveMark::default());
        }
    }

    #[test]
    fn hints_for_autoscalers_are_read_with_who_wrote_them() {
        let [(first, _), (second, _)] = HINTS;
        let read: Pod = serde_json::from_value(json!({"metadata": {"annotations": {
            first: "false", second: "maybe", LONG_TASK_HINTS: first, "other": "o",
        }}}))
        .unwrap();
        let there = [(first, "false"), (second, "maybe")];
        let expected = LiveHints {
            there: there.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            own: vec![first.to_owned()],
        };
        assert_eq!(pod(&read).hints, expected);
    }

    #[test]
    fn a_budget_is_read() {
        let owner = json!({
            "apiVersion": "v", "kind": "k", "name": "n", "uid": "w", "controller": true,
        });
        let read: PodDisruptionBudget = serde_json::from_value(json!({
            "metadata": {"name": "a", "uid": "b", "generation": 2, "ownerReferences": [owner]},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"team": "shop"}}},
        }))
        .unwrap();
        let read = budget(&read);
        assert_eq!((&*read.name, &*read.uid, read.generation), ("a", "b", 2));
        assert_eq!(read.owner.as_deref(), Some("w"));
        let selected = read.selector.unwrap().match_labels.unwrap();
        assert_eq!(selected, [("team".to_owned(), "shop".to_owned())].into());
    }

    #[test]
    fn a_deployment_is_read() {
        let template = json!({"spec": {"containers": [], "fieldOfATimeToCome": {"a": [1]}}});
        let read: RawDeployment = serde_json::from_value(json!({
            "metadata": {
                "uid": "d", "generation": 3,
                "annotations": {
                    SPEC_HASH: "s", TEMPLATE_HASH: "t", SIDECAR_UPGRADE: "u", ROLLOUT_STALLED: "r", "other": "o",
                    ROLLOUT_STALLED_BY: "not-ready", ROLLOUT_RESUMED: "q",
                },
                "ownerReferences": [
                    {"apiVersion": "v", "kind": "k", "name": "n", "uid": "w", "controller": true},
                ],
            },
            "spec": {"replicas": 2, "paused": true, "selector": {}, "template": template},
            "status": {
                "observedGeneration": 2, "replicas": 3, "updatedReplicas": 1, "readyReplicas": 2,
                "conditions": [
                    {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "too long"},
                ],
            },
        }))
        .unwrap();
        let expected = LiveDeployment {
            uid: "d".to_owned(),
            owner: Some("w".to_owned()),
            generation: 3,
            observed_generation: 2,
            wanted: 2,
            replicas: 3,
            updated: 1,
            ready: 2,
            failure: None,
            stalled: Some("too long".to_owned()),
            paused: true,
            stalled_for: Some("r".to_owned()),
            stalled_by: Some("not-ready".to_owned()),
            resumed_for: Some("q".to_owned()),
            newest: None,
            origin: Origin {
                spec: Some("s".to_owned()),
                template: Some("t".to_owned()),
                upgrade_since: Some("u".to_owned()),
            },
            // As it is: applied anew it must change nothing.
            template: Arc::new(template),
        };
        assert_eq!(deployment(&read), expected);
    }
}
