//! One contender under one load.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cluster::until;
use conductor_client::QueueName;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    clock::now,
    contender::{Contender, Place, Setting, manifests},
    ledger::{Execution, Ledger},
    load::Load,
    replay::{self, Outcome},
    stage::Stage,
    watch::{Log, Watch},
};

/// Everything that was seen. Times are seconds since its beginning.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The load's name.
    pub scenario: String,
    /// The contender's name.
    pub contender: String,
    /// What was tuned for it.
    pub setting: Setting,
    /// A task should have started within it.
    pub max_wait: f64,
    /// How long the load is.
    pub duration: f64,
    /// The jobs, by their arrival.
    pub outcomes: Vec<Outcome>,
    /// Pods and replicas.
    pub log: Log,
    /// The queue's size, once a second.
    pub queue: Vec<(f64, u64)>,
    /// What the handlers wrote down.
    pub executions: Vec<Execution>,
    /// The status of the `ConductorWorker` at the end; null for the others.
    pub status: Value,
}

/// A run that is under way.
pub struct Running<'a> {
    stage: &'a Stage,
    load: &'a Load,
    contender: Contender,
    setting: Setting,
    place: Place,
    namespace: String,
    ledger: Ledger,
    watch: Watch,
}

impl<'a> Running<'a> {
    /// Sets the contender up in a namespace of its own, and waits until it is as the load wants
    /// it at its beginning. Pods reach Conductor at `conductor`.
    pub fn set_up(
        stage: &'a Stage,
        load: &'a Load,
        contender: Contender,
        setting: Setting,
        conductor: &str,
    ) -> Result<Self> {
        let name = format!("{}-{}", load.name, contender.name());
        let namespace = format!("live-{name}");
        let bed = &stage.bed;
        // One that was interrupted may have left it.
        let gone = ["--ignore-not-found", "--timeout=180s"];
        bed.kubectl(&[&["delete", "namespace", &namespace][..], &gone].concat())?;
        bed.kubectl(&["create", "namespace", &namespace])?;
        let ledger = bed.wait(Ledger::start(stage.address))?;
        let watch = bed.wait(async { Watch::start(&stage.kube, &namespace) });
        let place = Place {
            name,
            conductor: conductor.to_owned(),
            ledger: ledger.url(),
            handler: bed.image("live-handler")?,
            worker: bed.image("live-worker")?,
        };
        bed.wait(replay::define(&bed.conductor, load, &place.name))?;
        if let Some(period) = contender.hpa_sync() {
            stage.hpa_sync(period)?;
        }
        for manifest in manifests(contender, load, setting, &place)? {
            bed.kubectl_with(
                &["apply", "-n", &namespace, "-f", "-"],
                &manifest.to_string(),
            )?;
        }
        let running = Self {
            stage,
            load,
            contender,
            setting,
            place,
            namespace,
            ledger,
            watch,
        };
        running.settle()?;
        Ok(running)
    }

    fn settle(&self) -> Result<()> {
        let pods = self.setting.idle_pods(self.load.min);
        let bound = Duration::from_secs(180);
        until("the contender is as it should begin", bound, || {
            let log = self.watch.log();
            ensure!(
                log.ready() == usize::try_from(pods)? && log.here() == log.ready(),
                "{} of {} pods are ready, and {pods} should be",
                log.ready(),
                log.here()
            );
            let condition = match self.contender {
                Contender::Operator => self.condition("conductorworker", "MetricsAvailable")?.0,
                Contender::Keda | Contender::KedaFast => self.condition("scaledobject", "Ready")?.0,
                Contender::Fixed => "True".to_owned(),
            };
            ensure!(condition == "True", "its condition is {condition:?}");
            Ok(Some(()))
        })
    }

    /// The status and the message of a condition of the run's own object; empty where it has none.
    pub fn condition(&self, kind: &str, name: &str) -> Result<(String, String)> {
        let object = self.object(kind)?;
        let conditions = object["status"]["conditions"].as_array();
        let found = conditions.and_then(|all| all.iter().find(|c| c["type"] == name));
        let field = |name: &str| {
            let text = found.and_then(|c| c[name].as_str());
            text.unwrap_or_default().to_owned()
        };
        Ok((field("status"), field("message")))
    }

    fn object(&self, kind: &str) -> Result<Value> {
        let bed = &self.stage.bed;
        bed.get(&[kind, &self.place.name, "-n", &self.namespace])
    }

    /// What was seen of its pods so far.
    pub fn log(&self) -> Log {
        self.watch.log()
    }

    /// The load, and what follows until nothing changes any more, or the load's time is over.
    pub fn go(self) -> Result<Run> {
        self.go_with(|_, _| Ok(true))
    }

    /// The same, telling every second how late it is; it does not end before the answer is true.
    pub fn go_with(self, each: impl FnMut(&Self, f64) -> Result<bool>) -> Result<Run> {
        let zero = now();
        let (ids, queue) = self.stage.bed.wait(self.work(each))?;
        let mut log = self.watch.log();
        let mut outcomes = self
            .stage
            .bed
            .wait(replay::outcomes(&self.stage.bed.conductor, &ids))?;
        let mut executions = self.ledger.executions();
        let status = match self.contender {
            Contender::Operator => self.object("conductorworker")?["status"].take(),
            _ => Value::Null,
        };
        since(zero, &mut outcomes, &mut log, &mut executions);
        self.tear_down()?;
        Ok(Run {
            scenario: self.load.name.clone(),
            contender: self.contender.name().to_owned(),
            setting: self.setting,
            max_wait: self.load.max_wait,
            duration: self.load.duration,
            outcomes,
            log,
            queue,
            executions,
            status,
        })
    }

    async fn work(
        &self,
        mut each: impl FnMut(&Self, f64) -> Result<bool>,
    ) -> Result<(Vec<String>, Vec<(f64, u64)>)> {
        let zero = Instant::now();
        let conductor = &self.stage.bed.conductor;
        let queue_name = QueueName::new(&self.place.name, None);
        let mut queue = Vec::new();
        let mut replay =
            std::pin::pin!(replay::replay(conductor, self.load, &self.place.name, zero));
        let mut ids = None;
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let end = zero + Duration::from_secs_f64(self.load.duration);
        while Instant::now() < end {
            tokio::select! {
                started = &mut replay, if ids.is_none() => ids = Some(started?),
                _ = second.tick() => {
                    let size = conductor.queue_size(&queue_name).await?;
                    let elapsed = zero.elapsed().as_secs_f64();
                    queue.push((elapsed, size));
                    let may_end = each(self, elapsed)?;
                    if may_end && ids.is_some() && size == 0 && self.is_over() {
                        break;
                    }
                }
            }
        }
        let ids = ids.context("the load's time was over before all of it was started")?;
        Ok((ids, queue))
    }

    /// Whether all is done and the pods are as few as they may be.
    fn is_over(&self) -> bool {
        let executions = self.ledger.executions();
        let done = executions.iter().filter(|e| e.ended.is_some()).count();
        let log = self.watch.log();
        let fewest = self.setting.idle_pods(self.load.min);
        done >= self.load.jobs.len() && u32::try_from(log.here()).is_ok_and(|n| n == fewest)
    }

    fn tear_down(&self) -> Result<()> {
        let bed = &self.stage.bed;
        if self.contender == Contender::Operator {
            let all = ["delete", "conductorworkers", "--all", "-n", &self.namespace];
            bed.kubectl(&[&all[..], &["--timeout=120s"]].concat())?;
        }
        bed.kubectl(&["delete", "namespace", &self.namespace, "--timeout=180s"])?;
        Ok(())
    }
}

/// Times since 1970 become times since the run's beginning.
fn since(zero: f64, outcomes: &mut [Outcome], log: &mut Log, executions: &mut [Execution]) {
    let shift = |at: &mut Option<f64>| {
        if let Some(at) = at {
            *at -= zero;
        }
    };
    for outcome in outcomes {
        outcome.visible -= zero;
        shift(&mut outcome.started);
        shift(&mut outcome.ended);
    }
    log.shift(-zero);
    for execution in executions {
        execution.began -= zero;
        shift(&mut execution.ended);
        shift(&mut execution.cut);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::PodSeen;

    #[test]
    fn times_are_counted_from_the_beginning() {
        let mut outcomes = [Outcome {
            visible: 105.0,
            started: Some(106.0),
            ended: None,
            attempts: 1,
            completed: false,
        }];
        let mut log = Log {
            pods: vec![PodSeen {
                name: String::new(),
                created: 99.0,
                ready: Some(101.0),
                leaving: None,
                gone: None,
            }],
            replicas: vec![(98.0, 1)],
        };
        let mut executions = [Execution {
            task: String::new(),
            pod: String::new(),
            began: 106.5,
            ended: Some(107.0),
            cut: None,
        }];
        since(100.0, &mut outcomes, &mut log, &mut executions);
        assert_eq!((outcomes[0].visible, outcomes[0].started), (5.0, Some(6.0)));
        assert_eq!((log.pods[0].created, log.pods[0].ready), (-1.0, Some(1.0)));
        assert_eq!(log.replicas, [(-2.0, 1)]);
        assert_eq!((executions[0].began, executions[0].ended), (6.5, Some(7.0)));
    }
}
