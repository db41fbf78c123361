//! The processes of containers, as the machine under them sees them; and the cluster's parts.

use std::{fs, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use cluster::root;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use rustix::process::{Pid, Signal, kill_process};

/// Sends a signal to every process of a pod's container. An error where it has none.
pub fn signal(pod: &Pod, container: &str, signal: Signal) -> Result<()> {
    let id = container_id(pod, container)
        .with_context(|| format!("the pod has no running container {container}"))?;
    let pids = processes(&id)?;
    ensure!(!pids.is_empty(), "the container {container} has no process");
    for pid in pids {
        // An error: it has ended meanwhile.
        let _ = kill_process(pid, signal);
    }
    Ok(())
}

fn container_id(pod: &Pod, container: &str) -> Option<String> {
    let status = pod.status.as_ref()?;
    let all = status.container_statuses.iter().flatten();
    let all = all.chain(status.init_container_statuses.iter().flatten());
    let running = |c: &&ContainerStatus| {
        c.name == container && c.state.as_ref().is_some_and(|s| s.running.is_some())
    };
    let id = all.filter(|c| c.name == container).find(running)?;
    let id = id.container_id.as_deref()?;
    id.strip_prefix("containerd://").map(str::to_owned)
}

/// Those whose control group is the container's.
fn processes(id: &str) -> Result<Vec<Pid>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else {
            continue;
        };
        // An error: it has ended meanwhile.
        if fs::read_to_string(entry.path().join("cgroup")).is_ok_and(|groups| groups.contains(id)) {
            pids.push(pid);
        }
    }
    Ok(pids)
}

/// Runs a script of tests/cluster; what it reports is for who watches.
pub async fn script(name: &str, args: &[&str]) -> Result<()> {
    let status = tokio::process::Command::new(root().join("tests/cluster").join(name))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .await
        .with_context(|| format!("tests/cluster/{name} could not be started"))?;
    ensure!(
        status.success(),
        "tests/cluster/{name} {}: {status}",
        args.join(" ")
    );
    Ok(())
}
