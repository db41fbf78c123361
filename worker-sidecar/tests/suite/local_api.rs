//! The handler's own calls of Conductor, through the sidecar. With the official clients: see
//! tests/local-api.

use anyhow::{Context, Result, ensure};
use conductor_client::{StartWorkflow, Task, TaskDef, TaskStatus, WorkflowDef, WorkflowStatus};
use embedded_conductor::{Fault, On};
use harness::{Reply, Server, eventually, unique};
use prometheus::Registry;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use worker_sidecar::{config::TaskConfig, local_api, pipeline::Sidecar};

use crate::setup::{Running, SOON, Setup};

/// A sidecar with its local API, and its metrics.
struct Local {
    setup: Setup,
    running: Running,
    registry: Registry,
    base: String,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Local {
    async fn new(setup: Setup) -> Result<Self> {
        Self::with(setup, None).await
    }

    /// The same, with a second task type.
    async fn with(setup: Setup, second: Option<&str>) -> Result<Self> {
        let mut config = setup.config()?;
        config.tasks.extend(second.map(TaskConfig::new));
        config.handler.payload_limit = 64 << 10;
        let registry = Registry::new();
        let sidecar = Sidecar::new(config, &registry)?;
        let running = Running::of(sidecar.clone(), registry.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let base = format!("http://{}/api", listener.local_addr()?);
        let router = local_api::router(sidecar);
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self {
            setup,
            running,
            registry,
            base,
            serving,
        })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        reqwest::Client::new().request(method, format!("{}{path}", self.base))
    }

    async fn send(&self, request: RequestBuilder) -> Result<(u16, String)> {
        let answer = tokio::time::timeout(SOON, request.send()).await??;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    async fn get(&self, path: &str) -> Result<(u16, String)> {
        self.send(self.request(Method::GET, path)).await
    }

    async fn post(&self, path: &str, body: &Value) -> Result<(u16, String)> {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// The task of a workflow, by Conductor's own word.
    async fn task(&self, workflow: &str) -> Result<Task> {
        let client = self.setup.server.client();
        let mut workflow = client.get_workflow(workflow, true).await?;
        Ok(workflow.tasks.swap_remove(0))
    }

    /// A task whose call hangs.
    async fn held(&self) -> Result<(String, Task)> {
        let workflow = self.setup.start(1).await?;
        self.setup.at_work(1).await?;
        let task = self.task(&workflow).await?;
        Ok((workflow, task))
    }

    /// A scheduled task of a type that this sidecar does not poll.
    async fn foreign(&self) -> Result<(String, Task)> {
        let name = self.setup.server.register(&unique("foreign")).await?;
        let workflow = self.setup.server.start(&name, json!(1)).await?;
        let task = self.task(&workflow).await?;
        Ok((workflow, task))
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts are small whole numbers"
    )]
    fn counted(&self, name: &str, label: &str) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == name);
        let metrics = family.map_or(&[][..], |f| f.get_metric());
        let with = metrics
            .iter()
            .filter(|m| m.get_label().iter().any(|l| l.value() == label));
        with.map(|m| m.get_counter().get_value() as u64).sum()
    }

    async fn end(self) -> Result<()> {
        self.running.end().await?;
        self.serving.abort();
        Ok(())
    }
}

fn update(task: &Task, status: &str, output: &Value) -> Value {
    json!({"taskId": task.task_id(), "workflowInstanceId": task.workflow_id(), "status": status,
        "outputData": output})
}

fn said(body: &str) -> Result<Value> {
    serde_json::from_str(body).with_context(|| body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_read_logged_and_updated_as_at_conductor_itself() -> Result<()> {
    let local = Local::new(Setup::new(|_| Reply::output(json!({}))).await?).await?;
    let (workflow, task) = local.foreign().await?;
    let id = task.task_id();

    let (status, body) = local.get(&format!("/tasks/{id}")).await?;
    ensure!(
        status == 200 && said(&body)?["referenceTaskName"] == "task",
        "{body}"
    );
    let (status, body) = local.get(&format!("/tasks/{id}/log")).await?;
    ensure!((status, body.as_str()) == (204, ""), "{status} {body}");
    let line = local.request(Method::POST, &format!("/tasks/{id}/log"));
    let line = line
        .header("content-type", "text/plain")
        .body("half way, größer");
    ensure!(local.send(line).await? == (200, String::new()));
    let (status, body) = local.get(&format!("/tasks/{id}/log")).await?;
    ensure!(
        status == 200 && said(&body)?[0]["log"] == "half way, größer",
        "{body}"
    );

    let done = update(&task, "COMPLETED", &json!({"by": "id"}));
    let (status, body) = local.post("/tasks", &done).await?;
    ensure!((status, body.as_str()) == (200, id), "{status} {body}");
    let ended = local.setup.server.completed(&workflow, SOON).await?;
    ensure!(ended.tasks[0].status() == TaskStatus::Completed);

    // Conductor's own errors come back as they are.
    let (status, body) = local.get("/tasks/nope").await?;
    ensure!(
        status == 404 && said(&body)?["message"] == "Task not found for taskId: nope",
        "{body}"
    );
    let (status, body) = local
        .post("/tasks", &json!({"status": "COMPLETED"}))
        .await?;
    ensure!(
        status == 400 && said(&body)?["validationErrors"].is_array(),
        "{body}"
    );
    ensure!(local.counted("worker_local_api_requests_total", "get_task") >= 2);
    local.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_updated_by_reference_name() -> Result<()> {
    let local = Local::new(Setup::new(|_| Reply::output(json!({}))).await?).await?;
    let (workflow, task) = local.foreign().await?;
    let path = format!("/tasks/{workflow}/task/IN_PROGRESS?workerid=a%20b");
    let (status, body) = local.post(&path, &json!({"step": 1})).await?;
    ensure!((status, body.as_str()) == (200, task.task_id()), "{body}");
    ensure!(local.task(&workflow).await?.worker_id() == Some("a b"));
    let path = format!("/tasks/{workflow}/task/COMPLETED/sync");
    let (status, body) = local.post(&path, &json!({"step": 2})).await?;
    ensure!(
        status == 200 && said(&body)?["workflowId"] == *workflow,
        "{body}"
    );
    local.setup.server.completed(&workflow, SOON).await?;
    let (status, body) = local.post(&path, &json!({})).await?;
    ensure!(
        status == 404 && said(&body)?["retryable"] == false,
        "{body}"
    );
    local.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_update_of_a_held_task_ends_its_lease_and_its_answer_is_ignored() -> Result<()> {
    let setup = Setup::new(|_| Reply::hang()).await?;
    let second = unique("second");
    for task in [&setup.task, &second] {
        let def = TaskDef {
            response_timeout_seconds: Some(2),
            retry_delay_seconds: Some(0),
            ..TaskDef::named(task)
        };
        setup.server.register_def(def).await?;
    }
    let local = Local::with(setup, Some(&second)).await?;
    let extensions = |task: &str| local.counted("worker_lease_extensions_total", task);
    let kept = async |task: &str, times: u64| {
        eventually("the lease is kept", SOON, async || match extensions(task) {
            n if n >= times => Ok(()),
            n => Err(n),
        })
        .await
    };
    let (workflow, task) = local.held().await?;
    kept(&local.setup.task, 1).await?;

    let done = update(
        &task,
        "COMPLETED",
        &json!({"by": "the handler's own update"}),
    );
    let (status, body) = local.post("/tasks", &done).await?;
    ensure!(status == 200, "{body}");
    let before = extensions(&local.setup.task);
    local.setup.server.completed(&workflow, SOON).await?;
    ensure!(local.setup.handler.running() == 1, "the call goes on");
    ensure!(local.running.sidecar.in_flight() == 1, "and holds its slot");
    // Time in which its own lease would have been extended, by another's of the same length.
    let other = local.setup.server.start(&second, json!(2)).await?;
    kept(&second, 3).await?;
    ensure!(extensions(&local.setup.task) <= before, "no lease is left");

    local.setup.handler.release();
    local.setup.server.completed(&other, SOON).await?;
    eventually("its slot is free", SOON, async || {
        match local.running.sidecar.in_flight() {
            0 => Ok(()),
            n => Err(n),
        }
    })
    .await?;
    ensure!(local.counted("worker_answers_ignored_total", &local.setup.task) == 1);
    ensure!(local.running.sidecar.stats().tasks[0].completed == 1);
    let (_, body) = local.get(&format!("/tasks/{}", task.task_id())).await?;
    ensure!(
        said(&body)?["outputData"] == json!({"by": "the handler's own update"}),
        "{body}"
    );
    local.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_task_may_fail_by_reference_name_and_its_200_does_not_undo_it() -> Result<()> {
    let local = Local::new(Setup::new(|_| Reply::hang()).await?).await?;
    let (workflow, _) = local.held().await?;
    let path = format!("/tasks/{workflow}/task/FAILED_WITH_TERMINAL_ERROR");
    let (status, body) = local.post(&path, &json!({"why": "never"})).await?;
    ensure!(status == 200, "{body}");
    local.setup.handler.release();
    let ended = local.setup.server.ended(&workflow, SOON).await?;
    ensure!(ended.status == WorkflowStatus::Failed, "{:?}", ended.status);
    eventually("the answer is ignored", SOON, async || {
        match local.counted("worker_answers_ignored_total", &local.setup.task) {
            1 => Ok(()),
            n => Err(n),
        }
    })
    .await?;
    ensure!(local.running.sidecar.stats().tasks[0].failed == 1);
    local.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_task_is_not_put_back_but_may_be_logged_and_extended() -> Result<()> {
    let local = Local::new(Setup::new(|_| Reply::hang()).await?).await?;
    let (workflow, task) = local.held().await?;
    let id = task.task_id();
    let in_progress = update(&task, "IN_PROGRESS", &json!({}));
    let by_reference = format!("/tasks/{workflow}/task/IN_PROGRESS");
    for (path, body) in [("/tasks", &in_progress), (&by_reference, &json!({}))] {
        let (status, body) = local.post(path, body).await?;
        let said = said(&body)?;
        ensure!(
            status == 409 && said["status"] == 409 && said["retryable"] == false,
            "{body}"
        );
        let message = said["message"].as_str().unwrap_or_default();
        ensure!(
            message.contains("202") && message.contains("/log"),
            "{message}"
        );
    }
    let mut extend = in_progress;
    extend["extendLease"] = json!(true);
    ensure!(local.post("/tasks", &extend).await? == (200, id.to_owned()));
    let line = local
        .request(Method::POST, &format!("/tasks/{id}/log"))
        .body("half way");
    ensure!(local.send(line).await?.0 == 200);

    // Conductor would complete the task and leave its workflow running.
    let (elsewhere, _) = local.foreign().await?;
    let mut mixed = update(&task, "COMPLETED", &json!({}));
    mixed["workflowInstanceId"] = json!(elsewhere);
    let (status, body) = local.post("/tasks", &mixed).await?;
    ensure!(status == 400 && body.contains(&workflow), "{body}");

    local.setup.handler.release();
    let ended = local.setup.server.completed(&workflow, SOON).await?;
    ensure!(ended.tasks.len() == 1 && ended.tasks[0].poll_count() == 1);
    ensure!(local.counted("worker_answers_ignored_total", &local.setup.task) == 0);
    local.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_conductor_did_not_take_ends_nothing() -> Result<()> {
    let local = Local::new(Setup::new(|_| Reply::hang()).await?).await?;
    let (workflow, task) = local.held().await?;
    let embedded = local.setup.server.as_embedded().context("in-memory")?;
    let done = update(&task, "COMPLETED", &json!({"by": "update"}));
    embedded
        .faults()
        .set_times(Fault::Status(503), On::Updates, 1);
    ensure!(local.post("/tasks", &done).await?.0 == 503);
    embedded.faults().set_times(Fault::Close, On::Updates, 1);
    let (status, body) = local.post("/tasks", &done).await?;
    ensure!(status == 503 && said(&body)?["retryable"] == true, "{body}");
    local
        .setup
        .handler
        .set(|_| Reply::output(json!({"by": "answer"})));
    local.setup.handler.release();
    local.setup.server.completed(&workflow, SOON).await?;
    ensure!(local.counted("worker_answers_ignored_total", &local.setup.task) == 0);
    local.end().await
}

/// A connection that leads nowhere: the lease is kept all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_hangs_is_given_up_before_the_lease_is_over() -> Result<()> {
    let setup = Setup::new(|_| Reply::hang()).await?;
    let def = TaskDef {
        response_timeout_seconds: Some(9),
        retry_delay_seconds: Some(0),
        ..TaskDef::named(&setup.task)
    };
    setup.server.register_def(def).await?;
    let local = Local::new(setup).await?;
    let kept = async |times: u64| {
        eventually("the lease is kept", SOON, async || {
            match local.counted("worker_lease_extensions_total", &local.setup.task) {
                n if n >= times => Ok(()),
                n => Err(n),
            }
        })
        .await
    };
    let (workflow, task) = local.held().await?;
    kept(1).await?;
    // The next extension is due in three seconds: it is the update that hangs.
    let embedded = local.setup.server.as_embedded().context("in-memory")?;
    embedded.faults().set_times(Fault::Hang, On::Updates, 1);
    let done = update(&task, "COMPLETED", &json!({"by": "update"}));
    let (status, body) = local.post("/tasks", &done).await?;
    ensure!(status == 503 && said(&body)?["retryable"] == true, "{body}");
    kept(4).await?;
    ensure!(local.setup.handler.running() == 1, "the call goes on");
    local.setup.handler.release();
    let ended = local.setup.server.completed(&workflow, SOON).await?;
    ensure!(ended.tasks.len() == 1, "{} tasks", ended.tasks.len());
    local.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_else_is_refused_with_the_list_of_what_is_allowed() -> Result<()> {
    let local = Local::new(Setup::new(|_| Reply::output(json!({}))).await?).await?;
    let before = local
        .setup
        .server
        .as_embedded()
        .context("in-memory")?
        .counts();
    for (method, path) in [
        ("GET", "/tasks/poll/greet"),
        ("GET", "/tasks/poll/batch/greet"),
        ("POST", "/tasks/update-v2"),
        ("GET", "/tasks/search"),
        ("GET", "/tasks/search-v2"),
        ("GET", "/tasks/externalstoragelocation"),
        ("GET", "/tasks/external-storage-location"),
        ("GET", "/tasks/queue"),
        ("GET", "/tasks/poll/log"),
        ("POST", "/tasks/queue/log"),
        ("GET", "/tasks/%73earch"),
        ("GET", "/tasks/queue/sizes"),
        ("POST", "/tasks/queue/requeue/greet"),
        ("POST", "/tasks/queue/requeue/COMPLETED"),
        ("POST", "/tasks/w/COMPLETED/signal"),
        ("POST", "/tasks/w/COMPLETED/signal/sync"),
        ("POST", "/tasks/w/r/TIMED_OUT"),
        ("POST", "/tasks/w/r/completed"),
        ("GET", "/tasks/w/r/COMPLETED"),
        ("PUT", "/tasks"),
        ("GET", "/tasks"),
        ("HEAD", "/tasks/t"),
        ("DELETE", "/tasks/t"),
        ("DELETE", "/tasks/t/log"),
        ("POST", "/token"),
        ("GET", "/version"),
        ("POST", "/workflow"),
        ("GET", "/workflow/w"),
        ("DELETE", "/workflow/w"),
        ("GET", "/metadata/taskdefs"),
        ("GET", "/tasks/t/"),
        ("GET", "/../health"),
        ("GET", ""),
    ] {
        let request = local.request(method.parse()?, path);
        let (status, body) = local.send(request.body("{}")).await?;
        ensure!(status == 403, "{method} {path}: {status} {body}");
        if method != "HEAD" {
            let said = said(&body)?;
            ensure!(
                said["status"] == 403 && said["retryable"] == false,
                "{body}"
            );
            let message = said["message"].as_str().unwrap_or_default();
            ensure!(
                message.contains("GET /api/tasks/{id}"),
                "{method} {path}: {message}"
            );
        }
    }
    for (path, status) in [
        ("/tasks/search;a=b", 400),
        ("/tasks/a%2Fb", 400),
        ("/tasks/a%3Fb/log", 400),
    ] {
        let (got, body) = local.get(path).await?;
        ensure!(
            got == status && said(&body)?["status"] == status,
            "{path}: {got} {body}"
        );
    }
    let after = local
        .setup
        .server
        .as_embedded()
        .context("in-memory")?
        .counts();
    ensure!(after.updates == before.updates, "nothing reached Conductor");
    ensure!(local.counted("worker_local_api_requests_total", "other") > 15);
    local.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn other_hosts_browsers_and_large_bodies_are_refused() -> Result<()> {
    let local = Local::new(Setup::new(|_| Reply::output(json!({}))).await?).await?;
    let (workflow, task) = local.foreign().await?;
    let done = update(&task, "COMPLETED", &json!({}));
    let post = || local.request(Method::POST, "/tasks").json(&done);
    for (request, status, says) in [
        (post().header("host", "evil.example:2113"), 403, "Host"),
        (
            post().header("origin", "http://evil.example"),
            403,
            "Origin",
        ),
        (
            post().header("content-encoding", "gzip"),
            415,
            "Content-Encoding",
        ),
        (post().body("not JSON"), 400, "TaskResult"),
        (post().body(vec![b' '; (64 << 10) + 1]), 413, "65536"),
    ] {
        let (got, body) = local.send(request).await?;
        let said = said(&body)?;
        ensure!(got == status && said["status"] == status, "{got} {body}");
        ensure!(
            said["message"].as_str().is_some_and(|m| m.contains(says)),
            "{body}"
        );
    }
    ensure!(local.task(&workflow).await?.status() == TaskStatus::Scheduled);
    local.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_task_comes_whole() -> Result<()> {
    let local = Local::new(Setup::new(|_| Reply::output(json!({}))).await?).await?;
    let server: &Server = &local.setup.server;
    let name = server.register(&unique("large")).await?;
    let large = "x".repeat(1 << 20);
    let workflow = server.start(&name, json!(large)).await?;
    let id = local.task(&workflow).await?.task_id().to_owned();
    let (status, body) = local.get(&format!("/tasks/{id}")).await?;
    ensure!(
        status == 200 && said(&body)?["inputData"]["value"] == large,
        "{}",
        body.len()
    );
    local.end().await
}

/// Of a task that is not held it would be passed on piece by piece.
#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_that_is_too_large_to_look_at_is_told_so() -> Result<()> {
    let local = Local::new(Setup::new(|_| Reply::hang()).await?).await?;
    let workflow = local.setup.start("x".repeat(64 << 10)).await?;
    local.setup.at_work(1).await?;
    let path = format!("/tasks/{workflow}/task/COMPLETED");
    let (status, body) = local.post(&format!("{path}/sync"), &json!({})).await?;
    let refused = said(&body)?;
    ensure!(status == 502 && refused["retryable"] == false, "{body}");
    let message = refused["message"].as_str().unwrap_or_default();
    ensure!(
        message.contains("65536") && message.contains("/sync"),
        "{message}"
    );
    // Conductor had taken it.
    local.setup.server.completed(&workflow, SOON).await?;
    local.setup.handler.release();
    local.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_name_is_escaped_on_its_way() -> Result<()> {
    let local = Local::new(Setup::new(|_| Reply::output(json!({}))).await?).await?;
    let (server, name) = (&local.setup.server, unique("odd"));
    let client = server.client();
    client.register_task_defs(&[TaskDef::named(&name)]).await?;
    let def = WorkflowDef::sequence(&name, [(&*name, "größer als?")]);
    client.register_workflow_defs(&[def]).await?;
    let start = StartWorkflow {
        name,
        ..StartWorkflow::default()
    };
    let workflow = client.start_workflow(&start).await?;
    let path = format!("/tasks/{workflow}/gr%C3%B6%C3%9Fer%20als%3F/COMPLETED");
    let (status, body) = local.post(&path, &json!({})).await?;
    ensure!(status == 200 && !body.is_empty(), "{status} {body}");
    server.completed(&workflow, SOON).await?;
    local.end().await
}
