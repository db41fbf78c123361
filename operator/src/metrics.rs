//! What the operator measures of itself and of the workers.

mod terms;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus::{
    GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
    core::Collector,
};
use runtime::cordon::Action;
use scaling::Reason;

use self::terms::TermGauges;
use crate::{
    controller::{
        observed::{Key, Now, Observed},
        plan::{Because, Counts, Fault, Plan, Stalled},
    },
    cordons::Untold,
};

const WORKER: [&str; 2] = ["namespace", "worker"];
const QUEUE: [&str; 4] = ["namespace", "worker", "task_type", "domain"];

/// How a reconcile ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was written.
    Ok,
    /// It is tried again.
    Error,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
        }
    }
}

/// How far the upgrade of a worker's sidecar has come.
const UPGRADES: [&str; 3] = ["behind", "under_way", "failed"];

fn upgrades_gauge() -> prometheus::Result<IntGaugeVec> {
    let opts = Opts::new(
        "conductor_worker_sidecar_upgrades",
        "Workers whose pods have another sidecar than this operator adds (behind), are given it in their turn (under_way), or do not work with it, so that no other is begun (failed).",
    );
    IntGaugeVec::new(opts, &["state"])
}

/// The metrics. Clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    reconciles: IntCounterVec,
    /// How long reconciles take.
    pub reconcile_seconds: Histogram,
    decisions: IntCounterVec,
    told: IntCounterVec,
    desired: IntGaugeVec,
    ready: IntGaugeVec,
    draining: IntGaugeVec,
    removed: IntCounterVec,
    others_removed: IntCounter,
    stalled: IntGaugeVec,
    stopped: IntCounterVec,
    upgrades: IntGaugeVec,
    queue: IntGaugeVec,
    sample_age: GaugeVec,
    terms: TermGauges,
    /// Which series there are of a worker, so that they go with it.
    series: Arc<Mutex<BTreeMap<Key, Vec<[String; 4]>>>>,
}

impl Metrics {
    /// All of them, registered.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let opts = |name: &str, help: &str| Opts::new(format!("conductor_worker_{name}"), help);
        let metrics = Self {
            reconciles: IntCounterVec::new(
                opts("reconciles_total", "Reconciles, by how they ended."),
                &["result"],
            )?,
            reconcile_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "conductor_worker_reconcile_seconds",
                    "How long reconciles take.",
                )
                .buckets(vec![0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0]),
            )?,
            decisions: IntCounterVec::new(
                opts(
                    "decisions_total",
                    "Decisions about a number of pods, by what decided.",
                ),
                &["reason"],
            )?,
            told: IntCounterVec::new(
                opts(
                    "cordon_calls_total",
                    "Calls that told a pod to take no more tasks, or to take them again, by how they ended.",
                ),
                &["action", "result"],
            )?,
            desired: IntGaugeVec::new(
                opts("desired_replicas", "Pods that a worker is to have."),
                &WORKER,
            )?,
            ready: IntGaugeVec::new(
                opts("ready_replicas", "Pods of a worker that take work."),
                &WORKER,
            )?,
            draining: IntGaugeVec::new(
                opts(
                    "draining_replicas",
                    "Pods of a worker that take no more tasks and go when they have ended those they have.",
                ),
                &WORKER,
            )?,
            removed: IntCounterVec::new(
                opts(
                    "pods_removed_total",
                    "Pods that replicas were lowered for, by why each could go.",
                ),
                &["because"],
            )?,
            others_removed: IntCounter::with_opts(opts(
                "other_pods_removed_total",
                "Pods that were to be removed, and in whose place others were.",
            ))?,
            stalled: IntGaugeVec::new(
                opts(
                    "rollout_stalled",
                    "1 while a worker's rollout is stopped, since the new version does not work.",
                ),
                &WORKER,
            )?,
            stopped: IntCounterVec::new(
                opts(
                    "rollouts_stopped_total",
                    "Rollouts that were stopped, by what is wrong with the new version.",
                ),
                &["because"],
            )?,
            upgrades: upgrades_gauge()?,
            queue: IntGaugeVec::new(
                opts(
                    "queue_size",
                    "Tasks that wait in a worker's queue, as last read.",
                ),
                &QUEUE,
            )?,
            sample_age: GaugeVec::new(
                opts(
                    "sample_age_seconds",
                    "How old the oldest queue size of a worker is that is in use.",
                ),
                &WORKER,
            )?,
            terms: TermGauges::new()?,
            series: Arc::default(),
        };
        metrics.start_at_zero();
        metrics.upgrades([0; 3]);
        for collector in metrics.all() {
            registry.register(collector)?;
        }
        Ok(metrics)
    }

    /// A counter that appears with its first event cannot be rated.
    fn start_at_zero(&self) {
        for outcome in [Outcome::Ok, Outcome::Error] {
            self.reconciles.with_label_values(&[outcome.as_str()]);
        }
        for reason in Reason::ALL {
            self.decisions.with_label_values(&[reason.as_str()]);
        }
        for action in [Action::Cordon, Action::Uncordon] {
            self.told.with_label_values(&[&*action.to_string(), "ok"]);
            for why in Untold::ALL {
                self.told
                    .with_label_values(&[&*action.to_string(), why.as_str()]);
            }
        }
        for because in Because::ALL {
            self.removed.with_label_values(&[because.as_str()]);
        }
        for fault in Fault::ALL {
            self.stopped.with_label_values(&[fault.as_str()]);
        }
    }

    fn collectors(&self) -> [Box<dyn Collector>; 14] {
        [
            Box::new(self.reconciles.clone()),
            Box::new(self.reconcile_seconds.clone()),
            Box::new(self.decisions.clone()),
            Box::new(self.told.clone()),
            Box::new(self.desired.clone()),
            Box::new(self.ready.clone()),
            Box::new(self.draining.clone()),
            Box::new(self.removed.clone()),
            Box::new(self.others_removed.clone()),
            Box::new(self.stalled.clone()),
            Box::new(self.stopped.clone()),
            Box::new(self.upgrades.clone()),
            Box::new(self.queue.clone()),
            Box::new(self.sample_age.clone()),
        ]
    }

    fn all(&self) -> impl Iterator<Item = Box<dyn Collector>> {
        self.collectors().into_iter().chain(self.terms.collectors())
    }

    /// A reconcile ended.
    pub fn reconciled(&self, outcome: Outcome) {
        self.reconciles.with_label_values(&[outcome.as_str()]).inc();
    }

    /// A pod was told something, or was not.
    pub fn told(&self, action: Action, result: &str) {
        let action = action.to_string();
        self.told.with_label_values(&[&*action, result]).inc();
    }

    /// How many workers' sidecars are behind, under way and failed.
    pub fn upgrades(&self, counts: [usize; 3]) {
        for (state, count) in UPGRADES.into_iter().zip(counts) {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.upgrades.with_label_values(&[state]).set(count);
        }
    }

    /// A plan was made.
    pub fn note(&self, observed: &Observed, plan: &Plan, now: Now) {
        let Key { namespace, name } = &observed.key;
        let worker = [namespace.as_str(), name.as_str()];
        if observed.round.is_some()
            && plan.memory.decided.is_some()
            && let Some(scaling) = &plan.status.scaling
        {
            self.decisions.with_label_values(&[&scaling.reason]).inc();
        }
        if let Some(scaling) = &plan.status.scaling {
            self.desired
                .with_label_values(&worker)
                .set(scaling.desired.into());
        }
        let ready = plan.status.ready_replicas;
        self.ready.with_label_values(&worker).set(ready.into());
        let draining = i64::try_from(plan.counts.draining).unwrap_or(i64::MAX);
        self.draining.with_label_values(&worker).set(draining);
        let stalled = plan.memory.stalled.as_ref().is_some_and(Stalled::is_held);
        let stalled = i64::from(stalled);
        self.stalled.with_label_values(&worker).set(stalled);

        let mut series = Vec::new();
        let mut oldest: f64 = 0.0;
        let queues = plan.memory.round.iter().flat_map(|round| &round.queues);
        for (queue, reading) in queues {
            let labels = [
                namespace.clone(),
                name.clone(),
                queue.task_type().to_owned(),
                queue.domain().unwrap_or_default().to_owned(),
            ];
            if let Some((at, size)) = reading.size {
                let size = i64::try_from(size).unwrap_or(i64::MAX);
                self.queue.with_label_values(&labels).set(size);
                oldest = oldest.max(now.clock.seconds_since(at));
            }
            series.push(labels);
        }
        self.sample_age.with_label_values(&worker).set(oldest);
        let before = self
            .series
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(observed.key.clone(), series.clone())
            .unwrap_or_default();
        self.terms.note(observed, plan, &before);
        for gone in before.iter().filter(|s| !series.contains(s)) {
            let _ = self.queue.remove_label_values(gone);
        }
    }

    /// A plan was written.
    pub fn written(&self, counts: &Counts) {
        for because in &counts.taken {
            self.removed.with_label_values(&[because.as_str()]).inc();
        }
        self.others_removed
            .inc_by(u64::try_from(counts.spared).unwrap_or(u64::MAX));
    }

    /// The Deployment of a plan was written, whatever becomes of the rest.
    pub fn applied(&self, counts: &Counts) {
        if let Some(fault) = counts.stopped {
            self.stopped.with_label_values(&[fault.as_str()]).inc();
        }
    }

    /// Forgets the workers that are gone.
    pub fn forget_gone(&self, is_there: impl Fn(&Key) -> bool) {
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|key, series| {
            if is_there(key) {
                return true;
            }
            let worker = [key.namespace.as_str(), key.name.as_str()];
            // An error: there is no such series.
            let _ = self.desired.remove_label_values(&worker);
            let _ = self.ready.remove_label_values(&worker);
            let _ = self.draining.remove_label_values(&worker);
            let _ = self.stalled.remove_label_values(&worker);
            let _ = self.sample_age.remove_label_values(&worker);
            self.terms.forget(key, series);
            for labels in series {
                let _ = self.queue.remove_label_values(labels);
            }
            false
        });
    }

    /// All metrics as a table, for the documentation.
    pub fn reference() -> prometheus::Result<String> {
        let metrics = Self::new(&Registry::new())?;
        let mut text = "# Metrics of the operator\n\n\
            Generated by the tests of the operator (`UPDATE=1`); do not edit. Served at `/metrics` on port 8080.\n\n\
            | metric | labels | meaning |\n| --- | --- | --- |\n"
            .to_owned();
        for collector in metrics.all() {
            for desc in collector.desc() {
                let labels = desc.variable_labels.join(", ");
                let row = format!("| `{}` | {labels} | {} |\n", desc.fq_name, desc.help);
                text.push_str(&row);
            }
        }
        Ok(text)
    }
}
