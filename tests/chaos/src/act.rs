//! Makes things go wrong.

use std::{sync::atomic::Ordering, time::Duration};

use anyhow::{Result, bail, ensure};
use faults::fault::{Fault, On};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, EvictParams},
};
use live::clock::now;
use rustix::process::Signal;
use tokio::time::sleep;

use crate::{
    absence::{Part, operator, without},
    gate::Keys,
    kind::{Event, Kind},
    process::{script, signal},
    retry::{again, mended, until},
    setting::Version,
    victim::{Whom, hit, pods_of},
    world::{HANDLER, World, address},
};

/// The sidecar's container.
const SIDECAR: &str = "conductor-sidecar";

/// How long what is away for a while is away.
const WHILE: Duration = Duration::from_secs(12);

/// How long the kubelet may need to bring a changed Secret to pods: it looks after each every 60 to
/// 90 s (`workerResyncIntervalJitterFactor` of its `pod_workers.go`). To those that end it brings none.
const BROUGHT: Duration = Duration::from_secs(95);

/// How long a broken version may take to be found out.
const FOUND_OUT: Duration = Duration::from_secs(120);

const ERRORS: Fault = Fault::Answer {
    status: 500,
    headers: &[("content-type", "application/json")],
    body: r#"{"status":500,"message":"nothing works today","retryable":true}"#,
};

/// Makes one thing go wrong whose turn it is, and waits until it is over. `dice` choose whom it
/// hits. What it breaks it mends, also where it fails.
pub async fn act(world: &World<'_>, kind: Kind, dice: &mut fastrand::Rng) -> Result<Event> {
    let from = now();
    let pods = match kind {
        Kind::Roll => roll(world, 0).await?,
        Kind::SlowStart => roll(world, 10).await?,
        Kind::BrokenRoll => broken_roll(world).await?,
        Kind::ScaleStorm => scale_storm(world).await?,
        Kind::ScaleDown => scale_down(world, dice.u32(1..world.setting.replicas)).await?,
        Kind::ScaleToOne => scale_down(world, 1).await?,
        Kind::DeletePod => {
            let how = DeleteParams::default();
            let pod = hit(world, Whom::Any, dice, "a pod is deleted", async |pod| {
                world.pods().delete(&pod.name_any(), &how).await?;
                Ok(())
            });
            vec![pod.await?.name_any()]
        }
        // By the same call as `kubectl drain`, again while a budget forbids it.
        Kind::Evict => {
            let how = EvictParams::default();
            let pod = hit(world, Whom::Any, dice, "a pod is evicted", async |pod| {
                world.pods().evict(&pod.name_any(), &how).await?;
                Ok(())
            });
            vec![pod.await?.name_any()]
        }
        Kind::KubeletRestart => part(world, "kubelet").await?,
        Kind::ApiServerRestart => part(world, "kube-apiserver").await?,
        Kind::SidecarKill => kill(world, SIDECAR, Whom::Any, dice).await?,
        Kind::HandlerKill => kill(world, HANDLER, Whom::Proven, dice).await?,
        Kind::HandlerOom => swell(world, dice).await?,
        Kind::HandlerHang => hang(world, dice).await?,
        Kind::ConductorRestart => {
            let how = if dice.bool() { "KILL" } else { "TERM" };
            restart_conductor(how).await?;
            vec![]
        }
        Kind::ConductorErrors => away(world, ERRORS).await,
        Kind::ConductorSilent => away(world, Fault::HalfOpen).await,
        Kind::OperatorKill => kill_operator(world).await?,
        Kind::SecretRotation => rotate(world).await?,
        Kind::NetworkCut => cut(world).await?,
        Kind::OperatorAway => {
            without(world, Part::Operator).await?;
            vec![]
        }
        Kind::ApiServerAway => {
            without(world, Part::ApiServer).await?;
            vec![]
        }
        Kind::QueueStuck => bail!("nobody can do that to Conductor on purpose"),
    };
    Ok(Event {
        kind,
        pods,
        from,
        to: now(),
    })
}

async fn roll(world: &World<'_>, starts_in: u32) -> Result<Vec<String>> {
    let number = world.version.fetch_add(1, Ordering::Relaxed) + 1;
    let version = Version {
        number,
        starts_in,
        ..Version::default()
    };
    world.apply(version).await?;
    world.rolled_out(version).await?;
    Ok(vec![])
}

/// A version that fails everything, until the operator says that it stops there; its pods.
async fn broken_roll(world: &World<'_>) -> Result<Vec<String>> {
    let good = Version {
        number: world.version.load(Ordering::Relaxed),
        ..Version::default()
    };
    let broken = Version {
        number: world.version.fetch_add(1, Ordering::Relaxed) + 1,
        fails: true,
        starts_in: 0,
    };
    let sets = mended(find_out(world, broken).await, async {
        world.apply(good).await?;
        world.rolled_out(good).await?;
        // Its pods have ended.
        world.settle(world.setting.replicas).await
    });
    // Some may have gone before, and others have come in their place.
    let of_it = pods_of(&sets.await?, &world.watch.log());
    ensure!(
        !of_it.is_empty(),
        "a version was found out that had no pods"
    );
    Ok(of_it)
}

/// Applies a broken version, and waits until the operator says that it stops there; its
/// `ReplicaSets`.
async fn find_out(world: &World<'_>, broken: Version) -> Result<Vec<String>> {
    world.apply(broken).await?;
    until("the broken version is found out", FOUND_OUT, || async {
        let worker = world.workers().get(&world.setting.name).await?;
        let status = worker.status.unwrap_or_default();
        let stalled = status.conditions.iter().find(|c| c.type_ == "Stalled");
        let is_found = stalled.is_some_and(|c| c.status == "True" && c.reason == "RolloutStalled");
        ensure!(is_found, "Stalled is {stalled:?}");
        world.replica_sets(broken.number).await
    })
    .await
}

async fn scale_storm(world: &World<'_>) -> Result<Vec<String>> {
    let most = world.setting.replicas;
    let storm = async {
        for fewer in [1, most / 2, most - 1] {
            world.scale(fewer).await?;
            sleep(Duration::from_secs(4)).await;
            world.scale(most).await?;
            sleep(Duration::from_secs(2)).await;
        }
        Ok(())
    };
    mended(storm.await, world.as_many_as_before()).await?;
    Ok(vec![])
}

/// Down to fewer pods and up again. Whoever is not ours goes as Kubernetes likes.
async fn scale_down(world: &World<'_>, fewer: u32) -> Result<Vec<String>> {
    let down = async {
        world.scale(fewer).await?;
        world.settle(fewer).await
    };
    mended(down.await, world.as_many_as_before()).await?;
    Ok(vec![])
}

/// Ends Conductor with a signal and starts it again with what it knew.
pub async fn restart_conductor(signal: &str) -> Result<()> {
    let restarted = script("bed", &["restart", signal]).await;
    match restarted {
        Ok(()) => Ok(()),
        // It knows nothing then, and this run is lost; others need one.
        failed => mended(failed, script("bed", &["up"])).await,
    }
}

/// Kills a part of the cluster and starts it again.
async fn part(world: &World<'_>, name: &str) -> Result<Vec<String>> {
    let stopped = script("part", &["stop", name]).await;
    if stopped.is_ok() {
        sleep(Duration::from_secs(3)).await;
    }
    mended(stopped, script("part", &["start", name])).await?;
    // Over when it answers.
    again("the API server answers", || async {
        Ok(world.stage.kube.apiserver_version().await.map(drop)?)
    })
    .await?;
    Ok(vec![])
}

/// Kills a container of some pod by -9.
async fn kill(
    world: &World<'_>,
    container: &str,
    whom: Whom,
    dice: &mut fastrand::Rng,
) -> Result<Vec<String>> {
    let what = "a container is killed";
    let pod = hit(world, whom, dice, what, async |pod| {
        signal(pod, container, Signal::KILL)
    });
    Ok(vec![pod.await?.name_any()])
}

/// Has a handler take memory until it is killed for it.
async fn swell(world: &World<'_>, dice: &mut fastrand::Rng) -> Result<Vec<String>> {
    // Nothing else ends the call.
    let http = reqwest::Client::builder().no_proxy().build()?;
    let what = "a handler is killed for its memory";
    let pod = hit(world, Whom::Proven, dice, what, async |pod| {
        let ip = address(pod)?;
        let call = http.post(format!("http://{ip}:8080/swell")).send();
        match tokio::time::timeout(Duration::from_secs(30), call).await {
            // Not one that could not be called at all.
            Ok(Err(error)) if !error.is_connect() => Ok(()),
            other => bail!("{} answers {other:?}", pod.name_any()),
        }
    });
    Ok(vec![pod.await?.name_any()])
}

/// Stops a handler's process and lets it go on.
async fn hang(world: &World<'_>, dice: &mut fastrand::Rng) -> Result<Vec<String>> {
    let what = "a handler stands still";
    let pod = hit(world, Whom::Any, dice, what, async |pod| {
        signal(pod, HANDLER, Signal::STOP)
    });
    let pod = pod.await?;
    sleep(WHILE).await;
    // An error: the container has been replaced meanwhile, and with it what stood still.
    let _ = signal(&pod, HANDLER, Signal::CONT);
    Ok(vec![pod.name_any()])
}

/// Lets every request meet a fault for a while.
async fn away(world: &World<'_>, fault: Fault) -> Vec<String> {
    world.proxy.set(fault, On::Everything, 1.0);
    sleep(WHILE).await;
    world.proxy.clear();
    vec![]
}

async fn kill_operator(world: &World<'_>) -> Result<Vec<String>> {
    again("the operator is killed", || async {
        let pods = operator(world).await?;
        for pod in &pods {
            let containers = pod.spec.iter().flat_map(|s| &s.containers);
            for container in containers {
                signal(pod, &container.name, Signal::KILL)?;
            }
        }
        ensure!(!pods.is_empty(), "it has no pod");
        Ok(())
    })
    .await?;
    Ok(vec![])
}

/// New keys beside the old ones, then the new ones alone.
async fn rotate(world: &World<'_>) -> Result<Vec<String>> {
    let number = world.keys.fetch_add(1, Ordering::Relaxed);
    let (old, new) = (Keys::numbered(number), Keys::numbered(number + 1));
    world.gate.admit(new.clone());
    world.put_keys(&new).await?;
    let grace = Duration::from_secs(world.setting.grace.into());
    sleep(BROUGHT + grace).await;
    world.gate.revoke(&old);
    Ok(vec![])
}

/// Cuts the pods off from everything but the ledger, which is not a part of their world.
async fn cut(world: &World<'_>) -> Result<Vec<String>> {
    let port = world.ledger_port()?.to_string();
    let cut = script("cut", &["on", &port]).await;
    if cut.is_ok() {
        sleep(WHILE).await;
    }
    mended(cut, script("cut", &["off"])).await?;
    Ok(vec![])
}
