//! A Conductor to test against, whichever it is.

use anyhow::Context as _;
use conductor_client::{
    ApiBase, Client, Connection, Credentials, StartWorkflow, TaskDef, Workflow, WorkflowDef,
    WorkflowStatus,
};
use embedded_conductor::{Embedded, Options};
use serde_json::{Map, Value};

use crate::{Backend, Conductor, eventually};

/// A running server with a client of it. It ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    client: Client,
    running: Running,
}

#[derive(Debug)]
enum Running {
    Embedded(Box<Embedded>),
    Real(Conductor),
}

impl Server {
    /// The in-memory one.
    pub async fn embedded() -> anyhow::Result<Self> {
        Self::embedded_with(Options::default()).await
    }

    /// The in-memory one, with options. Its client has the key that they ask for.
    pub async fn embedded_with(options: Options) -> anyhow::Result<Self> {
        let keys = options.auth.clone();
        let embedded = Embedded::start(options).await?;
        let base = embedded.base();
        let connection = match keys {
            None => Connection::new(ApiBase::parse(&base)?),
            Some(auth) => {
                Connection::new(ApiBase::parse(&base)?).with_credentials(Credentials::Given {
                    key: auth.key,
                    secret: auth.secret.into(),
                })?
            }
        };
        Self::new(connection, Running::Embedded(Box::new(embedded)))
    }

    /// The real one.
    pub async fn real(backend: Backend) -> anyhow::Result<Self> {
        let conductor = tokio::task::spawn_blocking(move || Conductor::start(backend)).await??;
        let base = conductor.base().to_owned();
        let connection = Connection::new(ApiBase::parse(&base)?);
        Self::new(connection, Running::Real(conductor))
    }

    fn new(connection: Connection, running: Running) -> anyhow::Result<Self> {
        runtime::install_tls_provider();
        let client = Client::with_connection(connection)?;
        Ok(Self { client, running })
    }

    /// A client of it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The API's address.
    pub fn base(&self) -> &str {
        self.client.base().as_str()
    }

    /// The in-memory server itself, with its counts and faults; none if it is the real one.
    pub fn as_embedded(&self) -> Option<&Embedded> {
        match &self.running {
            Running::Embedded(embedded) => Some(embedded),
            Running::Real(_) => None,
        }
    }

    /// The real server itself; none if it is the in-memory one.
    pub fn as_real(&self) -> Option<&Conductor> {
        match &self.running {
            Running::Embedded(_) => None,
            Running::Real(conductor) => Some(conductor),
        }
    }

    /// The in-memory one, to take it away and bring it back.
    pub fn as_embedded_mut(&mut self) -> Option<&mut Embedded> {
        match &mut self.running {
            Running::Embedded(embedded) => Some(embedded),
            Running::Real(_) => None,
        }
    }

    /// Registers a task type without delay between attempts, and a workflow of one such task
    /// that passes its input on. The workflow's name, which is the task's.
    pub async fn register(&self, task_type: &str) -> anyhow::Result<String> {
        let def = TaskDef {
            retry_delay_seconds: Some(0),
            ..TaskDef::named(task_type)
        };
        self.register_def(def).await
    }

    /// The same for a task definition of your own.
    pub async fn register_def(&self, def: TaskDef) -> anyhow::Result<String> {
        let name = def.name.clone();
        self.client.register_task_defs(&[def]).await?;
        let mut workflow = WorkflowDef::sequence(&name, [(&*name, "task")]);
        let input = Value::String("${workflow.input.value}".to_owned());
        workflow.tasks[0]
            .input_parameters
            .insert("value".to_owned(), input);
        self.client.register_workflow_defs(&[workflow]).await?;
        Ok(name)
    }

    /// Starts a workflow with `value` as its input of that name; its id.
    pub async fn start(&self, workflow: &str, value: Value) -> anyhow::Result<String> {
        let start = StartWorkflow {
            name: workflow.to_owned(),
            input: Map::from_iter([("value".to_owned(), value)]),
            ..StartWorkflow::default()
        };
        let id = self.client.start_workflow(&start).await?;
        Ok(id)
    }

    /// Waits until a workflow has ended.
    pub async fn ended(
        &self,
        workflow: &str,
        within: std::time::Duration,
    ) -> anyhow::Result<Workflow> {
        let what = format!("workflow {workflow} has ended");
        eventually(&what, within, async || {
            let workflow = self
                .client
                .get_workflow(workflow, true)
                .await
                .map_err(|e| e.to_string())?;
            if workflow.status.is_terminal() {
                Ok(workflow)
            } else {
                Err(format!("{:?}", workflow.status))
            }
        })
        .await
    }

    /// Waits until a workflow is COMPLETED; an error if it ends otherwise.
    pub async fn completed(
        &self,
        workflow: &str,
        within: std::time::Duration,
    ) -> anyhow::Result<Workflow> {
        let ended = self.ended(workflow, within).await?;
        anyhow::ensure!(
            ended.status == WorkflowStatus::Completed,
            "workflow {workflow} ended {:?}: {}",
            ended.status,
            ended
                .reason_for_incompletion
                .as_deref()
                .unwrap_or("no reason")
        );
        Ok(ended)
    }

    /// Ends it.
    pub async fn stop(self) -> anyhow::Result<()> {
        match self.running {
            Running::Embedded(embedded) => embedded.stop().await,
            Running::Real(conductor) => tokio::task::spawn_blocking(move || drop(conductor))
                .await
                .context("stopping the real Conductor")?,
        }
        Ok(())
    }
}
