//! The server's process: started, filled and asked.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, Result};
use conductor_client::{ApiBase, Client, StartWorkflow, TaskDef, WorkflowDef};
use embedded_conductor::{BatchFill, Move};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::{prepare, usage};

/// What happened at the server since its start.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Workflows, here the same as tasks, that completed.
    pub completed: u64,
    /// Workflows that ended otherwise.
    pub failed: u64,
    /// Tasks given to polls.
    pub delivered: u64,
    /// Tasks put back into their queue by a worker.
    pub handed_back: u64,
    /// Polls that ended.
    pub polls: u64,
    /// Updates that changed a task.
    pub updates: u64,
}

/// What a task did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// Polls can see it.
    Queued,
    /// A poll has it.
    Given,
    /// It has ended.
    Ended,
}

impl From<Move> for What {
    fn from(what: Move) -> Self {
        match what {
            Move::Queued => Self::Queued,
            Move::Given => Self::Given,
            Move::Ended => Self::Ended,
        }
    }
}

/// A line of the journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Step {
    /// The task's id.
    pub task: String,
    /// What it did.
    pub what: What,
    /// When, in microseconds since 1970.
    pub at: i64,
}

/// How to run the server.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Note each step of each task.
    pub journal: bool,
    /// When a batch poll that found fewer tasks than it asked for is answered.
    pub batch_fill: BatchFill,
    /// How many ended workflows are kept; the server's own number by default.
    pub keep_ended: Option<usize>,
}

/// A server of its own for one run. Ends when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where Conductor's API is.
    pub base: String,
    beside: String,
    http: reqwest::Client,
    /// For what is not filling.
    pub client: Client,
}

/// Workflows that are started at once.
const AT_ONCE: usize = 16;

impl Server {
    /// Starts one that knows a workflow of one task for each of `types`, named as the type.
    /// Tasks have the server's own lease of an hour: nothing comes back during a run.
    pub async fn start(options: Options, types: &[&str]) -> Result<Self> {
        let mut command = Command::new(prepare::beside("bench-server")?);
        if options.batch_fill == BatchFill::Sql {
            command.args(["--batch-fill", "sql"]);
        }
        if options.journal {
            command.arg("--journal");
        }
        if let Some(keep) = options.keep_ended {
            command.args(["--keep-ended", &keep.to_string()]);
        }
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let mut line = async || lines.next_line().await?.context("the server has ended");
        let (base, beside) = (line().await?, line().await?);
        let client = Client::new(ApiBase::parse(&base)?)?;
        register(&client, types).await?;
        let http = reqwest::Client::builder().tcp_nodelay(true).build()?;
        Ok(Self {
            child,
            base,
            beside,
            http,
            client,
        })
    }

    /// Starts `number` workflows of a type, each with an input of `size` bytes.
    pub async fn fill(&self, task_type: &str, number: usize, size: usize) -> Result<()> {
        let body = bytes::Bytes::from(start_request(task_type, size));
        stream::iter(0..number)
            .map(|_| self.start_one(body.clone()))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await
    }

    /// Starts one workflow, of [`start_request`].
    pub async fn start_one(&self, body: bytes::Bytes) -> Result<()> {
        let url = format!("{}/workflow", self.base);
        let request = self
            .http
            .post(url)
            .header("content-type", "application/json");
        let answer = request.body(body).send().await?.error_for_status()?;
        answer.bytes().await?;
        Ok(())
    }

    /// What happened so far.
    pub async fn counts(&self) -> Result<Counts> {
        self.ask("counts").await
    }

    /// What tasks did since the last time.
    pub async fn journal(&self) -> Result<Vec<Step>> {
        self.ask("journal").await
    }

    /// Processor time until now.
    pub fn cpu(&self) -> Result<Duration> {
        usage::cpu(self.child.id().context("the server has ended")?)
    }

    async fn ask<T: serde::de::DeserializeOwned>(&self, what: &str) -> Result<T> {
        let url = format!("{}/{what}", self.beside);
        let answer = self.http.get(url).send().await?.error_for_status()?;
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }

    /// Waits until so many tasks have completed; the counts that said so.
    pub async fn completed(&self, number: u64, within: Duration) -> Result<Counts> {
        self.until(within, &format!("{number} tasks complete"), |counts| {
            counts.completed >= number
        })
        .await
    }

    /// Waits for counts; the first that do.
    pub async fn until(
        &self,
        within: Duration,
        what: &str,
        enough: impl Fn(&Counts) -> bool,
    ) -> Result<Counts> {
        let end = tokio::time::Instant::now() + within;
        loop {
            let counts = self.counts().await?;
            if enough(&counts) {
                return Ok(counts);
            }
            anyhow::ensure!(
                tokio::time::Instant::now() < end,
                "{what}: not within {within:?}; seen last: {counts:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A task type and a workflow of one task for each name.
pub async fn register(client: &Client, types: &[&str]) -> Result<()> {
    let defs: Vec<_> = types.iter().map(|name| TaskDef::named(*name)).collect();
    client.register_task_defs(&defs).await?;
    let workflows: Vec<_> = types.iter().map(|name| workflow(name)).collect();
    client.register_workflow_defs(&workflows).await?;
    Ok(())
}

/// A workflow of one task, which gets the workflow's input.
fn workflow(name: &str) -> WorkflowDef {
    let mut workflow = WorkflowDef::sequence(name, [(name, "task")]);
    for task in &mut workflow.tasks {
        let order = "${workflow.input.order}".into();
        task.input_parameters.insert("order".to_owned(), order);
    }
    workflow
}

/// The body that starts a workflow with an input of `size` bytes.
pub fn start_request(task_type: &str, size: usize) -> String {
    let input = input(size);
    format!(r#"{{"name":"{task_type}","input":{input}}}"#)
}

/// The same as a value.
pub fn start(task_type: &str, size: usize) -> Result<StartWorkflow> {
    Ok(StartWorkflow {
        name: task_type.to_owned(),
        input: serde_json::from_str(&input(size))?,
        ..StartWorkflow::default()
    })
}

/// What tasks are about, as it might be: a document of many small values. A worker that reads
/// its input pays for each of them, which one long text would hide. So many bytes, or the
/// least that there can be, about 250.
fn input(size: usize) -> String {
    const HEAD: &str = r#"{"order":{"id":"ord-2026-0004711","placed":1767225600000,"currency":"EUR","customer":{"name":"Jo Müller","email":"jo@example.com","address":{"street":"Long Street 12","city":"Springfield","postcode":"04711"},"vip":false},"lines":["#;
    const NOTE: &str = r#"],"note":""#;
    const TAIL: &str = r#""}}"#;
    let mut input = HEAD.to_owned();
    let room = size.saturating_sub(NOTE.len() + TAIL.len());
    for number in 0.. {
        let comma = if number == 0 { "" } else { "," };
        let (quantity, cents) = (number % 7 + 1, number * 37 % 10_000);
        let line = format!(
            r#"{comma}{{"sku":"A-{number:05}","name":"Desk lamp \"No. {number}\"","quantity":{quantity},"price":{}.{:02},"tags":["home","light"],"gift":null}}"#,
            cents / 100,
            cents % 100,
        );
        if input.len() + line.len() > room {
            break;
        }
        input += &line;
    }
    let rest = room.saturating_sub(input.len());
    input += NOTE;
    input += &"x".repeat(rest);
    input + TAIL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_json_of_their_size() {
        for size in [300, 1_000, 4_096, 10_000] {
            let input = input(size);
            assert_eq!(input.len(), size);
            let read: serde_json::Value = serde_json::from_str(&input).unwrap();
            let lines = read["order"]["lines"].as_array().unwrap().len();
            assert!(lines >= size.saturating_sub(400) / 130, "{size}: {lines}");
        }
    }
}
