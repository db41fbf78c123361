//! Taking a part away for long, from the middle of a scale-down on.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use crate::{
    process::script,
    retry::{again, mended, until},
    world::{World, address},
};

/// A cordon's time to live, and time to see it.
const CORDON_ENDS: Duration = Duration::from_secs(30 + 10);

/// How long an operator goes on renewing cordons that cannot read anything.
const RENEWED: Duration = Duration::from_secs(30);

/// How long it may take until pods are cordoned.
const CHOSEN: Duration = Duration::from_secs(120);

/// How often a scale-down is begun anew whose pods were done before the part had gone.
const TIMES: usize = 4;

/// What a scale-down needs to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Ours. It is told to end, and does so in its own time.
    Operator,
    /// Kubernetes' API server. It is killed.
    ApiServer,
}

/// What a pod does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    /// It takes tasks.
    Works,
    /// It takes none until the cordon ends.
    Cordoned,
    /// It was told to end.
    Ends,
    /// It does not answer.
    Nothing,
}

impl Does {
    fn of(stats: &Value) -> Self {
        match (&stats["draining"], &stats["cordoned"]) {
            (Value::Bool(true), _) => Self::Ends,
            (Value::Bool(false), Value::Bool(true)) => Self::Cordoned,
            (Value::Bool(false), Value::Bool(false)) => Self::Works,
            _ => Self::Nothing,
        }
    }
}

/// Takes a part away in the middle of a scale-down, for long. Pods that were told to take no more
/// tasks take some again when that was not renewed for its time to live, and none goes meanwhile.
pub async fn without(world: &World<'_>, part: Part) -> Result<()> {
    for _ in 0..TIMES {
        let was_away = scale_down_without(world, part).await;
        if mended(was_away, world.as_many_as_before()).await? {
            return Ok(());
        }
        eprintln!("no pod was cordoned any more when it had gone: once more");
    }
    bail!("of {TIMES} scale-downs none had a pod cordoned when the {part:?} had gone")
}

/// Whether pods were still cordoned when it had gone. If not, it comes back at once.
async fn scale_down_without(world: &World<'_>, part: Part) -> Result<bool> {
    world.scale(1).await?;
    let pods = world.running().await?;
    until("pods are cordoned", CHOSEN, || async {
        let does = look(&pods).await?;
        ensure!(does.contains(&Does::Cordoned), "they are {does:?}");
        Ok(())
    })
    .await?;
    let begun = Instant::now();
    let away = async {
        part.take_away(world).await?;
        meanwhile(world, part, pods, begun).await
    };
    // Whatever came of it: those who come next need it.
    let was_away = mended(away.await, part.bring_back(world)).await?;
    world.settle(1).await?;
    Ok(was_away)
}

/// What is to be while it is away: cordons end, and every pod stays.
async fn meanwhile(
    world: &World<'_>,
    part: Part,
    mut pods: Vec<Pod>,
    begun: Instant,
) -> Result<bool> {
    if part == Part::Operator {
        // It may have removed some before it ended.
        pods = world.running().await?;
    }
    let before = names(&pods);
    let does = look(&pods).await?;
    if !does.contains(&Does::Cordoned) {
        return Ok(false);
    }
    let stays = pods.into_iter().zip(does);
    // Those that were told to end before it had gone do so.
    let stays = stays.filter(|(_, does)| matches!(does, Does::Works | Does::Cordoned));
    let stays: Vec<Pod> = stays.map(|(pod, _)| pod).collect();
    let all_work = || async {
        let does = look(&stays).await?;
        ensure!(part.lets(&does), "they are {does:?}");
        Ok(())
    };
    let bound = match part {
        Part::Operator => CORDON_ENDS,
        Part::ApiServer => RENEWED + CORDON_ENDS,
    };
    until("no pod is cordoned any more", bound, all_work).await?;
    sleep_until(begun + world.setting.away).await;
    all_work().await.context("a pod did not stay")?;
    if part == Part::Operator {
        let after = names(&world.running().await?);
        ensure!(
            before == after,
            "pods came or went while no operator was there: {before:?}, then {after:?}"
        );
    }
    Ok(true)
}

fn names(pods: &[Pod]) -> Vec<String> {
    pods.iter().map(Pod::name_any).collect()
}

/// What each of the pods does.
async fn look(pods: &[Pod]) -> Result<Vec<Does>> {
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(5))
        .build()?;
    let mut all = Vec::new();
    for pod in pods {
        let ip = address(pod)?;
        let answer = http.get(format!("http://{ip}:2112/stats")).send().await;
        all.push(match answer {
            Ok(answer) => answer.json().await.map_or(Does::Nothing, |s| Does::of(&s)),
            Err(_) => Does::Nothing,
        });
    }
    Ok(all)
}

impl Part {
    /// Whether pods that stood there when it had gone may do this when their cordons have ended.
    fn lets(self, does: &[Does]) -> bool {
        let may = |does: &Does| match does {
            Does::Works => true,
            Does::Cordoned => false,
            // The kubelet may have been told of a pod's end just before: it is not asked who goes.
            Does::Ends | Does::Nothing => self == Self::ApiServer,
        };
        does.contains(&Does::Works) && does.iter().all(may)
    }

    async fn take_away(self, world: &World<'_>) -> Result<()> {
        match self {
            Self::Operator => operators(world, 0).await,
            Self::ApiServer => script("part", &["stop", "kube-apiserver"]).await,
        }
    }

    async fn bring_back(self, world: &World<'_>) -> Result<()> {
        match self {
            Self::Operator => operators(world, 1).await,
            Self::ApiServer => script("part", &["start", "kube-apiserver"]).await,
        }
    }
}

/// Has so many operators run, and waits until it is so.
async fn operators(world: &World<'_>, replicas: i32) -> Result<()> {
    let client = world.stage.kube.clone();
    let deployments: Api<Deployment> = Api::namespaced(client, cluster::OPERATOR);
    let patch = Patch::Merge(serde_json::json!({"spec": {"replicas": replicas}}));
    let field = PatchParams::default();
    let name = cluster::RELEASE;
    again("operators are scaled", || async {
        Ok(deployments
            .patch_scale(name, &field, &patch)
            .await
            .map(drop)?)
    })
    .await?;
    again("as many operators run", || async {
        let pods = operator(world).await?.len();
        ensure!(i32::try_from(pods)? == replicas, "{pods} are there");
        Ok(())
    })
    .await
}

/// The operator's pods.
pub async fn operator(world: &World<'_>) -> Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(world.stage.kube.clone(), cluster::OPERATOR);
    Ok(pods.list(&ListParams::default()).await?.items)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_that_says_nothing_of_itself_does_not_work() {
        let does = |stats: Value| Does::of(&stats);
        assert_eq!(
            does(json!({"cordoned": false, "draining": false})),
            Does::Works
        );
        assert_eq!(
            does(json!({"cordoned": true, "draining": false})),
            Does::Cordoned
        );
        assert_eq!(
            does(json!({"cordoned": true, "draining": true})),
            Does::Ends
        );
        assert_eq!(does(json!({"status": 404})), Does::Nothing);
    }

    #[test]
    fn no_pod_goes_and_none_stays_cordoned_while_the_operator_is_away() {
        use Does::{Cordoned, Ends, Nothing, Works};
        for (does, operator, api_server) in [
            (&[Works, Works][..], true, true),
            (&[Works, Cordoned], false, false),
            (&[Works, Nothing], false, true),
            (&[Works, Ends], false, true),
            (&[Nothing, Nothing], false, false),
            (&[], false, false),
        ] {
            assert_eq!(Part::Operator.lets(does), operator, "{does:?}");
            assert_eq!(Part::ApiServer.lets(does), api_server, "{does:?}");
        }
    }
}
