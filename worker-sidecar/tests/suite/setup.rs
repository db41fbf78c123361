//! A sidecar between an in-memory Conductor and a scripted handler.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use conductor_client::Workflow;
use embedded_conductor::Options;
use harness::{Call, Handler, Reply, Server, eventually, unique};
use prometheus::{
    Registry,
    proto::{Metric, MetricFamily},
};
use serde_json::Value;
use tokio::task::JoinHandle;
use worker_sidecar::{
    config::{Config, HandlerConfig, TaskConfig},
    pipeline::Sidecar,
};

/// Longer than anything here takes.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A grace period longer than that: nothing is cut.
pub(crate) const LONG_GRACE: Duration = Duration::from_secs(30);

/// A grace period with seconds between its limits: a busy machine keeps them in order. It
/// ends before [`SOON`] does.
pub(crate) const SHORT_GRACE: Duration = Duration::from_secs(15);

/// The three of them.
pub(crate) struct Setup {
    pub(crate) server: Server,
    pub(crate) handler: Handler,
    pub(crate) task: String,
}

/// A sidecar at work.
pub(crate) struct Running {
    pub(crate) sidecar: Arc<Sidecar>,
    pub(crate) run: JoinHandle<()>,
    registry: Registry,
}

impl Setup {
    /// A task type that exists, and a handler that does this.
    pub(crate) async fn new(
        behaviour: impl Fn(&Call) -> Reply + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::of(Server::embedded().await?, behaviour).await
    }

    /// The same with a Conductor that notes what becomes of each task.
    pub(crate) async fn with_journal(
        behaviour: impl Fn(&Call) -> Reply + Send + Sync + 'static,
    ) -> Result<Self> {
        let options = Options {
            journal: true,
            ..Options::default()
        };
        Self::of(Server::embedded_with(options).await?, behaviour).await
    }

    async fn of(
        server: Server,
        behaviour: impl Fn(&Call) -> Reply + Send + Sync + 'static,
    ) -> Result<Self> {
        let task = unique("task");
        server.register(&task).await?;
        Ok(Self {
            handler: Handler::start(behaviour).await?,
            server,
            task,
        })
    }

    /// A sidecar's settings for the task type.
    pub(crate) fn config(&self) -> Result<Config> {
        let tasks = vec![TaskConfig::new(&self.task)];
        let mut config = Config::new(self.server.base().parse()?, tasks, "sidecar-1".to_owned());
        config.slots = 4;
        // Long polls take a third of it, and a test's end waits for one.
        config.grace = Duration::from_secs(9);
        config.handler = HandlerConfig::new(self.handler.port());
        Ok(config)
    }

    /// A sidecar with four slots.
    pub(crate) fn run(&self) -> Result<Running> {
        Running::start(self.config()?)
    }

    /// Starts a workflow of one such task; its id.
    pub(crate) async fn start(&self, value: impl Into<Value>) -> Result<String> {
        self.server.start(&self.task, value.into()).await
    }

    /// Runs one task to its workflow's end.
    pub(crate) async fn once(&self, value: impl Into<Value>) -> Result<Workflow> {
        let id = self.start(value).await?;
        self.server.ended(&id, SOON).await
    }

    /// Waits until the handler runs so many calls.
    pub(crate) async fn at_work(&self, calls: usize) -> Result<()> {
        eventually("calls under way", SOON, async || {
            match self.handler.running() {
                n if n == calls => Ok(()),
                n => Err(n),
            }
        })
        .await
    }
}

impl Running {
    pub(crate) fn start(config: Config) -> Result<Self> {
        let registry = Registry::new();
        let sidecar = Sidecar::new(config, &registry)?;
        Ok(Self::of(sidecar, registry))
    }

    /// One that its registry is given with.
    pub(crate) fn of(sidecar: Arc<Sidecar>, registry: Registry) -> Self {
        let told = sidecar.clone();
        let run = tokio::spawn(
            sidecar
                .clone()
                .run(async move { told.shutdown_begun().await }),
        );
        Self {
            sidecar,
            run,
            registry,
        }
    }

    /// The sum of a counter over its labels.
    pub(crate) fn counted(&self, name: &str) -> f64 {
        self.sum(name, |metric| metric.get_counter().get_value())
    }

    /// The same, of those with this label.
    pub(crate) fn counted_of(&self, name: &str, label: &str) -> f64 {
        let counter = |metric: &Metric| metric.get_counter().get_value();
        self.sum(name, |metric| of(label, metric).map_or(0.0, counter))
    }

    /// How often a histogram with these labels was observed.
    pub(crate) fn observed(&self, name: &str, labels: &[&str]) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().filter(|family| family.name() == name);
        let metrics = family.flat_map(MetricFamily::get_metric);
        let labelled = metrics.filter(|m| labels.iter().all(|label| of(label, m).is_some()));
        labelled
            .map(|metric| metric.get_histogram().get_sample_count())
            .sum()
    }

    /// A gauge with this label, as a scrape would see it.
    pub(crate) fn shows(&self, name: &str, label: &str) -> f64 {
        self.sidecar.refresh_metrics();
        let gauge = |metric: &Metric| metric.get_gauge().get_value();
        self.sum(name, |metric| of(label, metric).map_or(0.0, gauge))
    }

    fn sum(&self, name: &str, value: impl Fn(&Metric) -> f64) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().filter(|family| family.name() == name);
        family.flat_map(MetricFamily::get_metric).map(value).sum()
    }

    /// Ends it after the tasks it has.
    pub(crate) async fn end(self) -> Result<()> {
        self.sidecar.begin_shutdown();
        tokio::time::timeout(SOON, self.run).await??;
        Ok(())
    }
}

fn of<'m>(label: &str, metric: &'m Metric) -> Option<&'m Metric> {
    let has = metric.get_label().iter().any(|l| l.value() == label);
    has.then_some(metric)
}
