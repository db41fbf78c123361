//! Code in a handler, on Conductor's official clients, while its call is under way: a Conductor,
//! the sidecar's program, a handler, and the client's program.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use conductor_client::TaskStatus;
use harness::{Handler, Reply, Server, eventually, unique};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(60);

struct World {
    server: Server,
    handler: Handler,
    task: String,
    sidecar: Child,
    admin: String,
    api: String,
}

impl World {
    /// A sidecar whose handler answers no call until it is told to.
    async fn new() -> Result<Self> {
        let server = Server::embedded().await?;
        let task = server.register(&unique("held")).await?;
        let handler = Handler::start(|_| Reply::hang()).await?;
        // Free now; whoever takes them in between fails this test, and says so.
        let taken = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0"));
        let [admin, api] = taken.map(|l| l.and_then(|l| l.local_addr()));
        let (admin, api) = (admin?, api?);
        let sidecar = local_api::sidecar()
            .await?
            .env("CONDUCTOR_SERVER_URL", server.base())
            .env("CONDUCTOR_TASKS", json!([{"name": task}]).to_string())
            .env("CONDUCTOR_CONCURRENCY", "2")
            .env("HANDLER_PORT", handler.port().to_string())
            .env("LISTEN", admin.to_string())
            .env("LOCAL_API_PORT", api.port().to_string())
            .env("GRACE_PERIOD", "15s")
            .stderr(Stdio::inherit())
            .spawn()?;
        Ok(Self {
            server,
            handler,
            task,
            sidecar,
            admin: format!("http://{admin}"),
            api: format!("http://{api}/api"),
        })
    }

    /// A workflow, and its one task's id.
    async fn start(&self, name: &str) -> Result<(String, String)> {
        let workflow = self.server.start(name, json!(7)).await?;
        let seen = self.server.client().get_workflow(&workflow, true).await?;
        let task = seen.tasks.first().context("no task")?;
        Ok((workflow, task.task_id().to_owned()))
    }

    /// Ends the sidecar as a pod's end does.
    async fn end(mut self) -> Result<()> {
        let id = self.sidecar.id().context("the sidecar has ended")?;
        let killed = Command::new("kill").arg(id.to_string()).status().await?;
        ensure!(killed.success());
        let status = tokio::time::timeout(SOON, self.sidecar.wait()).await??;
        ensure!(status.success(), "the sidecar: {status}");
        self.server.stop().await
    }
}

fn refused(answer: &Value, status: u16, says: &str) -> Result<()> {
    let body = answer["body"].as_str().unwrap_or_default();
    let said: Value = serde_json::from_str(body).unwrap_or_default();
    ensure!(
        answer["status"] == status && said["status"] == status && said["retryable"] == false,
        "{answer}"
    );
    ensure!(
        said["message"].as_str().is_some_and(|m| m.contains(says)),
        "{answer}"
    );
    Ok(())
}

/// `sync`: the client has a call that updates by reference name and waits.
async fn works(client: Command, sync: bool) -> Result<()> {
    let world = World::new().await?;
    let server = &world.server;
    let foreign = server.register(&unique("foreign")).await?;
    let (workflow, held) = world.start(&world.task).await?;
    eventually("its call is under way", SOON, async || {
        match world.handler.running() {
            1 => Ok(()),
            n => Err(n),
        }
    })
    .await?;
    let (by_id, other) = world.start(&foreign).await?;
    let (by_reference, by_reference_task) = world.start(&foreign).await?;
    let (by_sync, _) = world.start(&foreign).await?;

    let mut client = client;
    client
        .args([&held, &other, &by_reference])
        .args(sync.then_some(&by_sync));
    client
        .env("CONDUCTOR_SERVER_URL", &world.api)
        .env("NO_PROXY", "127.0.0.1");
    client
        .env_remove("CONDUCTOR_AUTH_KEY")
        .env_remove("CONDUCTOR_AUTH_SECRET");
    let printed = local_api::ran(&mut client, "the client failed").await?;
    let line = printed.lines().last().unwrap_or_default();
    let answers: Value = serde_json::from_str(line).with_context(|| printed.clone())?;

    ensure!(
        answers["got"] == json!({"status": "IN_PROGRESS", "input": {"value": 7}}),
        "{answers}"
    );
    let logged = answers["logs"][0].as_str().unwrap_or_default();
    ensure!(logged.trim_matches('"') == "half way", "{answers}");
    refused(&answers["inProgress"], 409, "202")?;
    refused(&answers["polled"], 403, "GET /api/tasks/{id}")?;
    ensure!(answers["updatedForeign"] == *other, "{answers}");
    ensure!(
        answers["updatedByReference"] == *by_reference_task,
        "{answers}"
    );
    ensure!(answers["updatedHeld"] == *held, "{answers}");
    ensure!(!sync || answers["updatedSync"] == *by_sync, "{answers}");

    server.completed(&by_id, SOON).await?;
    server.completed(&by_reference, SOON).await?;
    if sync {
        server.completed(&by_sync, SOON).await?;
    }
    server.completed(&workflow, SOON).await?;
    ensure!(world.handler.running() == 1, "the call goes on");
    world
        .handler
        .set(|_| Reply::output(json!({"by": "answer"})));
    world.handler.release();
    let ignored = format!(
        "worker_answers_ignored_total{{taskType=\"{}\"}} 1",
        world.task
    );
    eventually("the answer is ignored", SOON, async || {
        let metrics = reqwest::get(format!("{}/metrics", world.admin)).await;
        let text = metrics.map_err(|e| e.to_string())?.text().await;
        match text.map_err(|e| e.to_string())? {
            text if text.contains(&ignored) => Ok(()),
            text => Err(text),
        }
    })
    .await?;
    let task = server.client().get_task(&held).await?;
    let output = task.output_data().context("no output")?;
    ensure!(
        task.status() == TaskStatus::Completed && output.get() == r#"{"by":"client"}"#,
        "{output}"
    );
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_go_client_works_unchanged() -> Result<()> {
    works(local_api::go().await?, false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_works_unchanged() -> Result<()> {
    works(local_api::python().await?, true).await
}
