//! The program itself.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use conductor_client::BatchPoll;
use embedded_conductor::{Fault, On};
use harness::{Reply, eventually};
use runtime::cordon::{Action, SigningKey};
use serde_json::{Value, json};
use tokio::process::Command;
use worker_sidecar::record;

use crate::{
    cordon::OPERATOR,
    setup::{SOON, Setup},
};

pub(crate) fn sidecar() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker-sidecar"));
    command.env_clear().kill_on_drop(true);
    // Many run side by side; those that need it choose a port.
    command.env("LOCAL_API_PORT", "0");
    command
}

/// Free now; whoever takes it in between fails the test, and says so.
pub(crate) fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.port())
}

#[tokio::test]
async fn a_bad_value_ends_with_64_and_says_what_to_write() -> Result<()> {
    for (arguments, says) in [
        (
            vec![],
            "--conductor-url (CONDUCTOR_SERVER_URL): not given; write an address such as http://conductor:8080/api",
        ),
        (
            vec!["--conductor-url", "c", "--tasks", "[]"],
            "--conductor-url (CONDUCTOR_SERVER_URL): \"c\" is not a Conductor address",
        ),
        (
            vec![
                "--conductor-url",
                "http://c",
                "--tasks",
                r#"[{"name":"t"}]"#,
                "--auth-dir",
                "/nowhere",
            ],
            "--auth-dir (CONDUCTOR_AUTH_DIR): /nowhere/key cannot be read",
        ),
        (vec!["--no-such-flag"], "--no-such-flag"),
    ] {
        let out = sidecar().args(&arguments).output().await?;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        ensure!(
            out.status.code() == Some(64),
            "{arguments:?}: {:?}",
            out.status
        );
        ensure!(said.contains(says), "{arguments:?}: {said}");
    }
    let help = sidecar().arg("--help").output().await?;
    ensure!(help.status.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_works_and_ends_with_0_when_told() -> Result<()> {
    let setup = Setup::new(|call| match call.input["value"].as_str() {
        Some("long") => Reply::hang(),
        _ => Reply::output(call.input.clone()),
    })
    .await?;
    let (port, local) = (free_port()?, free_port()?);
    let key = SigningKey::from_pem(OPERATOR)?;
    let mut child = sidecar()
        .env("CONDUCTOR_SERVER_URL", setup.server.base())
        .env("CONDUCTOR_TASKS", json!([{"name": setup.task}]).to_string())
        .env("HANDLER_PORT", setup.handler.port().to_string())
        .env("LISTEN", format!("127.0.0.1:{port}"))
        .env("LOCAL_API_PORT", local.to_string())
        .env("CORDON_PUBLIC_KEY", key.public())
        .env("CONDUCTOR_WORKER_ID", "greet-1")
        .env("POD_UID", "uid")
        .stderr(Stdio::inherit())
        .spawn()?;
    let workflow = setup.once("x").await?;
    ensure!(workflow.output["value"] == "x");
    let task = workflow.tasks[0].task_id();
    let by_local_api = reqwest::get(format!("http://127.0.0.1:{local}/api/tasks/{task}")).await?;
    ensure!(by_local_api.text().await?.contains("COMPLETED"));
    let metrics = reqwest::get(format!("http://127.0.0.1:{port}/metrics"))
        .await?
        .text()
        .await?;
    let line = format!(
        "task_execution_started_total{{taskType=\"{}\"}} 1",
        setup.task
    );
    ensure!(metrics.contains(&line), "no {line} in:\n{metrics}");

    let long = setup.start("long").await?;
    setup.at_work(1).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let cordoned = reqwest::Client::new()
        .put(format!("http://127.0.0.1:{port}/cordon?ttl=1s"))
        .bearer_auth(key.sign("greet-1/uid", Action::Cordon, now));
    let cordoned = cordoned.send().await?.error_for_status()?;
    ensure!(cordoned.text().await?.contains(r#""cordoned":true"#));

    let told = sidecar()
        .arg("terminating")
        .env("LISTEN", format!("127.0.0.1:{port}"))
        .status()
        .await?;
    ensure!(told.success());
    let ready = format!("http://127.0.0.1:{port}/readyz");
    eventually(
        "unready once the pod ends",
        SOON,
        async || match reqwest::get(&ready).await {
            Ok(answer) if answer.status().as_u16() == 503 => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await?;
    setup.handler.release();
    setup.server.completed(&long, SOON).await?;
    let id = child.id().context("it has ended")?;
    let killed = Command::new("kill").arg(id.to_string()).status().await?;
    ensure!(killed.success());
    let status = tokio::time::timeout(SOON, child.wait()).await??;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// What is wrong with one task's requests is found by its id.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_the_handler_that_is_not_passed_on_is_logged_with_its_task() -> Result<()> {
    runtime::install_tls_provider();
    let (nobody, local) = (free_port()?, free_port()?);
    let mut child = sidecar()
        .env("CONDUCTOR_SERVER_URL", format!("http://127.0.0.1:{nobody}"))
        .env("CONDUCTOR_TASKS", json!([{"name": "greet"}]).to_string())
        .env("HANDLER_PORT", nobody.to_string())
        .env("LISTEN", "127.0.0.1:0")
        .env("LOCAL_API_PORT", local.to_string())
        .env("LOG_FORMAT", "json")
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let api = format!("http://127.0.0.1:{local}/api/tasks");
    let client = reqwest::Client::new();
    let by_id = || client.get(format!("{api}/by-id"));
    eventually("no answer", SOON, async || match by_id().send().await {
        Ok(answer) if answer.status().as_u16() == 503 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    let update = json!({"taskId": "in-a-body", "workflowInstanceId": "w", "status": "COMPLETED"});
    let answer = client.post(&api).json(&update).send().await?;
    ensure!(answer.status().as_u16() == 503, "{answer:?}");
    child.start_kill()?;
    let out = child.wait_with_output().await?;
    let logs = String::from_utf8(out.stderr)? + &String::from_utf8(out.stdout)?;
    for task in ["by-id", "in-a-body"] {
        let named = format!(r#""task":"{task}""#);
        let of_task = |line: &str| line.contains("not be passed on") && line.contains(&named);
        ensure!(logs.lines().any(of_task), "{task}: {logs}");
    }
    Ok(())
}

/// Polls a task, and leaves a result of it as a process before would have.
async fn leave_result(spool: &Path, number: u32, setup: &Setup, output: Value) -> Result<()> {
    let poll = BatchPoll {
        task_type: &setup.task,
        worker_id: "before",
        domain: None,
        count: 1,
        wait: Duration::ZERO,
    };
    let mut tasks = setup.server.client().batch_poll(poll).await?;
    let task = tasks.pop().context("no task")?;
    let report = json!({"taskType": setup.task, "leaseSeconds": 60, "update": {
        "workflowInstanceId": task.workflow_id(), "taskId": task.task_id(), "status": "COMPLETED",
        "workerId": "before", "outputData": output,
    }});
    let record = record::write(&serde_json::from_str(&report.to_string())?);
    std::fs::write(spool.join(format!("{number:020}.result")), record)?;
    Ok(())
}

/// While the disk is full the results on it are the only ones that can make room.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_at_the_start_stops_the_polls_and_what_is_on_it_is_delivered() -> Result<()> {
    let setup = Setup::new(|_| Reply::output(json!({"by": "the handler"}))).await?;
    let id = setup.start(1).await?;
    let spool = tempfile::tempdir()?;
    let output = json!({"by": "the process before"});
    leave_result(spool.path(), 1, &setup, output).await?;

    let port = free_port()?;
    // No file may grow: what is written fails as on a full disk (EFBIG instead of ENOSPC).
    let mut full = Command::new("sh");
    full.args(["-c", "trap '' XFSZ; ulimit -S -f 0; exec \"$0\""])
        .arg(env!("CARGO_BIN_EXE_worker-sidecar"))
        .env_clear()
        .kill_on_drop(true)
        .env("LOCAL_API_PORT", "0")
        .env("CONDUCTOR_SERVER_URL", setup.server.base())
        .env("CONDUCTOR_TASKS", json!([{"name": setup.task}]).to_string())
        .env("HANDLER_PORT", setup.handler.port().to_string())
        .env("LISTEN", format!("127.0.0.1:{port}"))
        .env("SPOOL_DIR", spool.path())
        // Maybe a file, which must not grow either.
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = full.spawn()?;
    let workflow = setup.server.completed(&id, SOON).await?;
    ensure!(
        workflow.output["by"] == "the process before",
        "{workflow:?}"
    );
    let shows = async |lines: &[&str]| {
        eventually("the metrics", SOON, async || {
            let metrics = reqwest::get(format!("http://127.0.0.1:{port}/metrics"));
            let text = async { metrics.await?.text().await };
            match text.await {
                Ok(text) if lines.iter().all(|line| text.contains(line)) => Ok(()),
                other => Err(format!("not {lines:?} in {other:?}")),
            }
        })
        .await
    };
    let next = setup.start(2).await?;
    let polls = format!("task_poll_total{{taskType=\"{}\"}}", setup.task);
    shows(&[
        "worker_handler_ready 1",
        "worker_spool_trouble{trouble=\"broken\"} 1",
        &format!("{polls} 0"),
    ])
    .await?;

    let process = child.id().context("it has ended")?.to_string();
    let room = Command::new("prlimit")
        .args(["--pid", &process, "--fsize=unlimited:"])
        .status()
        .await
        .context("prlimit, of util-linux")?;
    ensure!(room.success());
    let workflow = setup.server.completed(&next, SOON).await?;
    ensure!(workflow.output["by"] == "the handler", "{workflow:?}");
    shows(&["worker_spool_trouble{trouble=\"broken\"} 0"]).await
}

/// What waits on disk is not in memory too: a worker with a small limit would be killed, and
/// again at each start.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_needs_little_memory_after_a_restart() -> Result<()> {
    const RESULTS: u32 = 48;
    let setup = Setup::new(|_| Reply::output(json!({}))).await?;
    let spool = tempfile::tempdir()?;
    let mut ids = Vec::new();
    for number in 0..RESULTS {
        ids.push(setup.start(number).await?);
        let output = json!({"big": "x".repeat(1 << 20)});
        leave_result(spool.path(), number, &setup, output).await?;
    }
    let faults = setup.server.as_embedded().context("embedded")?.faults();
    faults.set(Fault::Status(503), On::Everything);
    let port = free_port()?;
    let child = sidecar()
        .env("CONDUCTOR_SERVER_URL", setup.server.base())
        .env("CONDUCTOR_TASKS", json!([{"name": setup.task}]).to_string())
        .env("HANDLER_PORT", setup.handler.port().to_string())
        .env("LISTEN", format!("127.0.0.1:{port}"))
        .env("SPOOL_DIR", spool.path())
        .env("CONDUCTOR_CONCURRENCY", "1")
        .stderr(Stdio::null())
        .spawn()?;
    let metrics = format!("http://127.0.0.1:{port}/metrics");
    let failed = format!("task_update_error{{taskType=\"{}\"}}", setup.task);
    eventually("some attempts have failed", SOON, async || {
        let text = async { reqwest::get(&metrics).await?.text().await };
        let text = text.await.map_err(|error| error.to_string())?;
        let line = text.lines().find_map(|line| line.strip_prefix(&failed));
        match line.and_then(|count| count.trim().parse().ok()) {
            Some(3_u64..) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let process = child.id().context("it has ended")?;
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let memory = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
    let memory = memory.and_then(|l| l.trim().strip_suffix(" kB"));
    let kibibytes: u32 = memory.context("RssAnon")?.trim().parse()?;
    ensure!(
        kibibytes < RESULTS * 1024 / 2,
        "{kibibytes} KiB are in memory while {RESULTS} MiB wait on disk"
    );
    faults.clear();
    for id in &ids {
        setup.server.completed(id, SOON).await?;
    }
    Ok(())
}
