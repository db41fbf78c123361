//! The numbers behind the decisions, as gauges.

use std::collections::BTreeSet;

use prometheus::{GaugeVec, Opts, core::Collector};
use scaling::{TaskTerms, Terms};

use super::{QUEUE, WORKER};
use crate::controller::{
    observed::{Key, Observed},
    plan::Plan,
};

type Row<T> = (&'static str, &'static str, fn(&T) -> f64);

const OF_WORKER: [Row<Terms>; 4] = [
    (
        "current_replicas",
        "Pods that took work, or were about to, before the last decision.",
        |t| f64::from(t.current),
    ),
    (
        "wanted_replicas",
        "Pods that are needed, before windows and bounds; it need not be a whole number.",
        |t| t.want,
    ),
    (
        "drain_target_seconds",
        "Seconds within which a backlog is to be gone.",
        |t| t.drain_seconds,
    ),
    (
        "start_up_seconds",
        "Seconds that a new pod needs to be ready, as measured.",
        |t| t.start_up_seconds,
    ),
];

const OF_QUEUE: [Row<TaskTerms>; 5] = [
    (
        "backlog",
        "Waiting tasks that a free slot could take.",
        |t| t.backlog,
    ),
    (
        "load_slots",
        "Slots that keep the backlog from growing.",
        |t| t.load,
    ),
    (
        "drain_slots",
        "Slots that empty the backlog in time.",
        |t| t.drain,
    ),
    ("need_slots", "Slots that are needed.", |t| t.need),
    (
        "execution_seconds",
        "Mean seconds that a task holds the handler, as measured.",
        |t| t.execution_seconds,
    ),
];

/// A gauge for each number, and a few beside them.
#[derive(Debug, Clone)]
pub(super) struct TermGauges {
    of_worker: Vec<GaugeVec>,
    of_queue: Vec<GaugeVec>,
    min: GaugeVec,
    max: GaugeVec,
    pods_age: GaugeVec,
}

impl TermGauges {
    pub(super) fn new() -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            GaugeVec::new(Opts::new(format!("conductor_worker_{name}"), help), labels)
        };
        Ok(Self {
            of_worker: OF_WORKER
                .iter()
                .map(|(name, help, _)| gauge(name, help, &WORKER))
                .collect::<Result<_, _>>()?,
            of_queue: OF_QUEUE
                .iter()
                .map(|(name, help, _)| gauge(name, help, &QUEUE))
                .collect::<Result<_, _>>()?,
            min: gauge(
                "min_replicas",
                "Fewest pods of a worker for now, by minReplicas or a schedule.",
                &WORKER,
            )?,
            max: gauge("max_replicas", "Most pods of a worker.", &WORKER)?,
            pods_age: gauge(
                "stats_age_seconds",
                "How old the oldest statistics of a worker's ready pods were at the last decision.",
                &WORKER,
            )?,
        })
    }

    pub(super) fn collectors(&self) -> Vec<Box<dyn Collector>> {
        let all = self.of_worker.iter().chain(&self.of_queue);
        all.chain([&self.min, &self.max, &self.pods_age])
            .map(|gauge| Box::new(gauge.clone()) as Box<dyn Collector>)
            .collect()
    }

    /// Takes over what was decided last; what is not decided is not shown. The worker's queues
    /// in the labels of `before` that are no longer its own are taken away.
    pub(super) fn note(&self, observed: &Observed, plan: &Plan, before: &[[String; 4]]) {
        let Key { namespace, name } = &observed.key;
        let labels = [namespace.as_str(), name.as_str()];
        let worker = observed.worker.as_ref().ok();
        let decided = plan.memory.decided.as_ref();
        let (Some(worker), Some(decided)) = (worker, decided) else {
            self.forget(&observed.key, before);
            return;
        };
        let terms = &decided.decision.terms;
        for ((_, _, value), gauge) in OF_WORKER.iter().zip(&self.of_worker) {
            gauge.with_label_values(&labels).set(value(terms));
        }
        let scaling = plan.status.scaling.as_ref();
        if let Some(limits) = scaling.and_then(|s| s.limits.as_ref()) {
            self.min.with_label_values(&labels).set(limits.min.into());
            self.max.with_label_values(&labels).set(limits.max.into());
        }
        match scaling.and_then(|s| s.terms?.pods_age_seconds) {
            Some(age) => self.pods_age.with_label_values(&labels).set(age),
            // There is no pod; an error: nor was there one.
            None => drop(self.pods_age.remove_label_values(&labels)),
        }
        let mut shown = BTreeSet::new();
        if terms.tasks.len() == worker.tasks.len() {
            for (task, terms) in worker.tasks.iter().zip(&terms.tasks) {
                let domain = task.queue.domain().unwrap_or_default();
                let queue = [namespace, name, task.queue.task_type(), domain];
                shown.insert(queue.map(str::to_owned));
                for ((_, _, value), gauge) in OF_QUEUE.iter().zip(&self.of_queue) {
                    gauge.with_label_values(&queue).set(value(terms));
                }
            }
        }
        for queue in before.iter().filter(|queue| !shown.contains(*queue)) {
            self.forget_queue(queue);
        }
    }

    /// Takes a worker's series away, and those of its queues.
    pub(super) fn forget(&self, key: &Key, queues: &[[String; 4]]) {
        let labels = [key.namespace.as_str(), key.name.as_str()];
        let all = self.of_worker.iter();
        for gauge in all.chain([&self.min, &self.max, &self.pods_age]) {
            // An error: there is no such series.
            let _ = gauge.remove_label_values(&labels);
        }
        for queue in queues {
            self.forget_queue(queue);
        }
    }

    fn forget_queue(&self, queue: &[String; 4]) {
        for gauge in &self.of_queue {
            let _ = gauge.remove_label_values(queue);
        }
    }
}
