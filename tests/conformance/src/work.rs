//! A task type of a case's own, and a workflow of one such task.

use std::time::Duration;

use conductor_client::QueueName;
use harness::eventually;
use serde_json::{Value, json};

use crate::{Answer, Ctx};

/// Longer than anything here takes on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// A task type and the workflow of that name.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    pub(crate) ctx: Ctx,
    pub(crate) name: String,
}

impl Work {
    pub(crate) fn new(ctx: Ctx, name: String) -> Self {
        Self { ctx, name }
    }

    /// Starts the workflow; its id.
    pub(crate) async fn start(&self, value: Value) -> anyhow::Result<String> {
        let request = json!({ "name": self.name, "input": { "value": value } });
        self.ctx.start(&request).await
    }

    /// Starts some; their ids.
    pub(crate) async fn start_many(&self, count: usize) -> anyhow::Result<Vec<String>> {
        let mut ids = Vec::with_capacity(count);
        for n in 0..count {
            ids.push(self.start(json!(n)).await?);
        }
        Ok(ids)
    }

    /// Starts the workflow in domains, as `taskToDomain` of this type.
    pub(crate) async fn start_in(&self, domains: &str) -> anyhow::Result<String> {
        let request = json!({ "name": self.name, "taskToDomain": { &self.name: domains } });
        self.ctx.start(&request).await
    }

    /// A batch poll with these further parameters.
    pub(crate) async fn batch(&self, parameters: &str) -> anyhow::Result<Vec<Value>> {
        let path = format!("/tasks/poll/batch/{}?{parameters}", self.name);
        let answer = self.ctx.get(&path).await?.ok()?;
        match answer.json() {
            Value::Array(tasks) => Ok(tasks),
            other => anyhow::bail!("not a batch: {other}"),
        }
    }

    /// The one task that can be polled, within one second.
    pub(crate) async fn poll(&self) -> anyhow::Result<Value> {
        self.poll_within(1000).await
    }

    /// The one task that can be polled, within this many milliseconds.
    pub(crate) async fn poll_within(&self, millis: u32) -> anyhow::Result<Value> {
        let mut tasks = self
            .batch(&format!("workerid=me&count=1&timeout={millis}"))
            .await?;
        match tasks.pop() {
            Some(task) => Ok(task),
            None => anyhow::bail!("nothing of {} to poll", self.name),
        }
    }

    /// The one task that can be polled, sooner or later.
    pub(crate) async fn poll_soon(&self) -> anyhow::Result<Value> {
        eventually("a task to poll", SOON, async || self.poll().await).await
    }

    /// Nothing can be polled now.
    pub(crate) async fn nothing(&self) -> anyhow::Result<()> {
        let tasks = self.batch("workerid=me&count=1&timeout=0").await?;
        anyhow::ensure!(
            tasks.is_empty(),
            "a task that should not be polled: {tasks:?}"
        );
        Ok(())
    }

    /// Starts the workflow and polls its task.
    pub(crate) async fn start_and_poll(&self) -> anyhow::Result<(String, Value)> {
        let id = self.start(json!(1)).await?;
        let task = self.poll().await?;
        same!("the task's workflow", task["workflowInstanceId"], json!(id));
        Ok((id, task))
    }

    /// Reports on a task: its ids and these fields.
    pub(crate) async fn try_update(&self, task: &Value, fields: Value) -> anyhow::Result<Answer> {
        let mut result = json!({
            "workflowInstanceId": task["workflowInstanceId"],
            "taskId": task["taskId"],
            "workerId": "me",
        });
        if let (Some(result), Value::Object(fields)) = (result.as_object_mut(), fields) {
            result.extend(fields);
        }
        self.ctx.post("/tasks", &result).await
    }

    /// The same; it must be taken.
    pub(crate) async fn update(&self, task: &Value, fields: Value) -> anyhow::Result<()> {
        let answer = self.try_update(task, fields).await?.ok()?;
        same!("answer to an update", json!(answer.text), task["taskId"]);
        Ok(())
    }

    pub(crate) async fn complete(&self, task: &Value) -> anyhow::Result<()> {
        self.update(task, json!({ "status": "COMPLETED" })).await
    }

    pub(crate) async fn fail(&self, task: &Value) -> anyhow::Result<()> {
        let fields = json!({ "status": "FAILED", "reasonForIncompletion": "no" });
        self.update(task, fields).await
    }

    pub(crate) async fn hand_back(&self, task: &Value, seconds: u32) -> anyhow::Result<()> {
        let fields = json!({ "status": "IN_PROGRESS", "callbackAfterSeconds": seconds });
        self.update(task, fields).await
    }

    /// How many wait, delayed ones included.
    pub(crate) async fn size(&self) -> anyhow::Result<u64> {
        self.size_of(&self.name).await
    }

    /// The same of any type.
    pub(crate) async fn size_of(&self, task_type: &str) -> anyhow::Result<u64> {
        let queue = QueueName::new(task_type, None);
        Ok(self.ctx.client().queue_size(&queue).await?)
    }

    /// What a task is like now.
    pub(crate) async fn now(&self, task: &Value) -> anyhow::Result<Value> {
        self.ctx
            .task(task["taskId"].as_str().unwrap_or_default())
            .await
    }

    /// The workflow's status, and its tasks' in order.
    pub(crate) async fn statuses(&self, id: &str) -> anyhow::Result<(String, Vec<String>)> {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let workflow = self.ctx.workflow(id).await?;
        let tasks = workflow["tasks"].as_array().cloned().unwrap_or_default();
        Ok((
            text(&workflow["status"]),
            tasks.iter().map(|t| text(&t["status"])).collect(),
        ))
    }

    /// Waits until the workflow and its tasks have these statuses.
    pub(crate) async fn reaches(
        &self,
        id: &str,
        status: &str,
        tasks: &[&str],
    ) -> anyhow::Result<()> {
        eventually(&format!("{status} with {tasks:?}"), SOON, async || {
            let seen = self.statuses(id).await?;
            anyhow::ensure!(seen.0 == status && seen.1 == tasks, "{seen:?}");
            Ok(())
        })
        .await
    }
}
