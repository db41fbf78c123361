//! Stopping the rollout of a version that does not work, while pods of the one before do.
//!
//! ```text
//! its pods fail their tasks, or do not get ready ──> the Deployment is paused, and marked with the
//!   template                                          │         │                │
//!   another template is wanted ───────────────────────┤         │                │
//!   all of its pods are well for a minute ────────────┤         │                │
//!   no pod is left to be kept ────────────────────────┴> goes on                 │
//!   somebody resumes the Deployment ─────────────────────────────> goes on, and is not stopped again
//! ```
//!
//! The mark, an annotation, says that the pause is the operator's and for which template: another
//! operator process goes on where this one ended. A pause without it is somebody's own.

use std::{collections::BTreeMap, time::Duration};

use scaling::Instant;
use serde_json::{Value, json};

use super::{rollout::Rollout, scale::reading};
use crate::{
    ROLLOUT_STALLED, TEMPLATE_HASH,
    controller::observed::{LiveDeployment, LivePod, Memory, Now, Observed, Sent, TroubleKind},
    sampling::Round,
    worker::fingerprint,
};

/// The reason in conditions and events.
pub(super) const STALLED: &str = "RolloutStalled";

/// How long all pods of a version that was stopped must be well before it goes on.
const WELL: Duration = Duration::from_secs(60);

/// When a new pod counts as available while its rollout is stopped, in seconds: never. Where as
/// many new pods are available as are asked for (of one pod: one), Kubernetes would remove all old
/// ones although the Deployment is paused.
const NEVER: u64 = 365 * 24 * 3600;

/// Why a rollout is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A new pod fails nearly every task of a type.
    Breaker,
    /// A new pod does not get ready.
    NotReady,
}

impl Fault {
    /// Every one, for those who count them.
    pub const ALL: [Self; 2] = [Self::Breaker, Self::NotReady];

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Breaker => "breaker",
            Self::NotReady => "not-ready",
        }
    }
}

/// What is remembered of a rollout that is stopped.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stalled {
    /// What was seen last: of which kind, which pod, and what it does; none after a restart.
    why: Option<(Fault, String)>,
    /// Since when all of the new pods are well.
    well_since: Option<Instant>,
}

/// What becomes of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It runs, if there is one.
    Run,
    /// It goes on: its pods are well.
    Resume,
    /// It is stopped from now on.
    Stop(Fault),
    /// It is stopped.
    Hold,
    /// It was stopped, and somebody has resumed it.
    LetRun,
}

impl Step {
    /// The Deployment is to be paused.
    pub(super) fn is_held(self) -> bool {
        matches!(self, Self::Stop(_) | Self::Hold)
    }

    /// What it makes of the Deployment.
    pub(super) fn edit(self, object: &mut Value) {
        if matches!(self, Self::Run | Self::Resume) {
            return;
        }
        let template = template_of(object);
        object["metadata"]["annotations"][ROLLOUT_STALLED] = json!(template);
        if self.is_held() {
            let spec = &mut object["spec"];
            spec["paused"] = json!(true);
            spec["minReadySeconds"] = json!(NEVER);
            // It must be the longer one, and does not run while the Deployment is paused.
            spec["progressDeadlineSeconds"] = json!(NEVER + 1);
        }
    }
}

/// Decides by the Deployment as it is to be; what is seen is remembered.
pub(super) fn step(
    observed: &Observed,
    rollout: Rollout,
    memory: &mut Memory,
    object: &Value,
    now: Now,
) -> Step {
    let before = memory.stalled.take();
    let live = observed.deployment.as_ref();
    let own = |live: &&LiveDeployment| live.owner.as_deref() == Some(observed.uid.as_str());
    let Some(live) = live.filter(own) else {
        return Step::Run;
    };
    let known = Known::of(live, &memory.deployment);
    let look = Look {
        observed,
        live,
        round: observed.round.as_ref().or(memory.round.as_ref()),
        now,
    };
    let template = template_of(object);
    if known.mark != Some(&*template) {
        // What is read is about what is wanted, and may be stopped.
        let fault = (rollout.is_of_what_is_wanted() && !known.paused).then(|| look.fault());
        let Some((fault, what)) = fault.flatten() else {
            return Step::Run;
        };
        memory.stalled = Some(Stalled {
            why: Some((fault, what)),
            well_since: None,
        });
        // What was to be sent the last time and was not is no other stop.
        return if before.is_some() {
            Step::Hold
        } else {
            Step::Stop(fault)
        };
    }
    if !known.paused {
        return if rollout.is_incomplete() {
            Step::LetRun
        } else {
            Step::Run
        };
    }
    // A rollout is stopped for the sake of pods that are there.
    if !rollout.is_behind && (live.wanted, live.replicas) == (0, 0) {
        return Step::Run;
    }
    let mut stalled = before.unwrap_or_default();
    if let Some(why) = look.fault() {
        stalled.why = Some(why);
    }
    stalled.well_since = look
        .all_are_well()
        .then(|| stalled.well_since.unwrap_or(now.clock));
    if stalled.well_since.is_some_and(|since| {
        now.clock.seconds_since(since) >= WELL.as_secs_f64() && look.all_are_ready_for(WELL)
    }) {
        return Step::Resume;
    }
    memory.stalled = Some(stalled);
    Step::Hold
}

/// A template as it is known again, by this operator process and by others: by its fingerprint as it
/// was rendered, which stays where a later operator keeps what an earlier one had rendered.
fn template_of(object: &Value) -> String {
    let rendered = object["metadata"]["annotations"][TEMPLATE_HASH].as_str();
    rendered.map_or_else(|| fingerprint(&object["spec"]["template"]), str::to_owned)
}

/// One sentence about a rollout that is stopped, of which nothing else need be said.
pub(super) fn words(observed: &Observed, stalled: &Stalled) -> String {
    let old = observed.deployment.as_ref().map_or(0, |live| {
        let olds = observed.pods.iter().filter(|pod| is_old(live, pod));
        olds.count()
    });
    let kept = match old {
        // Not known for a moment after a restart.
        0 => "the pods of the version before go on".to_owned(),
        1 => "1 pod of the version before goes on".to_owned(),
        n => format!("{n} pods of the version before go on"),
    };
    let stopped = format!("the rollout is stopped, and {kept}");
    match &stalled.why {
        _ if stalled.well_since.is_some() => format!(
            "{stopped}: it is continued once all new pods have been ready for {} s, and fail no longer",
            WELL.as_secs()
        ),
        Some((_, what)) => {
            format!("{stopped}: apply the old spec again or a mended one, since {what}")
        }
        None => format!("{stopped}: apply the old spec again or a mended one"),
    }
}

/// What is there, with what was sent and has not been read yet.
struct Known<'a> {
    /// The template of which the rollout was stopped.
    mark: Option<&'a str>,
    paused: bool,
}

impl<'a> Known<'a> {
    fn of(live: &'a LiveDeployment, sent: &'a Sent) -> Self {
        let sent = sent.applied.as_ref().filter(|sent| sent.uid == live.uid);
        let later = sent.filter(|sent| sent.generation > live.generation);
        let mark = match sent {
            // A change of it alone makes no generation.
            Some(sent) => sent.object["metadata"]["annotations"][ROLLOUT_STALLED].as_str(),
            None => live.stalled_for.as_deref(),
        };
        let paused = match later {
            Some(sent) => sent.object["spec"]["paused"] == true,
            None => live.paused,
        };
        Self { mark, paused }
    }
}

// === the pods ===

/// It was made from a template before the newest.
fn is_old(live: &LiveDeployment, pod: &LivePod) -> bool {
    let templates = pod.template.as_ref().zip(live.newest.as_ref());
    !pod.terminating && templates.is_some_and(|(own, newest)| own != newest)
}

struct Look<'a> {
    observed: &'a Observed,
    live: &'a LiveDeployment,
    round: Option<&'a Round>,
    now: Now,
}

impl<'a> Look<'a> {
    fn new_pods(&self) -> impl Iterator<Item = &'a LivePod> {
        let newest = self.live.newest.as_ref();
        let pods = self.observed.pods.iter();
        pods.filter(move |pod| {
            !pod.terminating && newest.is_some() && pod.template.as_ref() == newest
        })
    }

    fn old_pods(&self) -> impl Iterator<Item = &'a LivePod> {
        let pods = self.observed.pods.iter();
        pods.filter(|pod| is_old(self.live, pod))
    }

    /// What is wrong with the new version and not with the one before.
    fn fault(&self) -> Option<(Fault, String)> {
        // Without it there is nothing to be kept.
        self.old_pods().next()?;
        let (fault, pod, what) = self.fails().or_else(|| self.does_not_start())?;
        Some((fault, format!("{} {what}", pod.name)))
    }

    /// A new pod's breaker is open, and those of the old ones are not: else it is not the version.
    fn fails(&self) -> Option<(Fault, &'a LivePod, String)> {
        let round = self.round?;
        let said = |pod| Some((pod, reading(self.observed, round, pod, self.now)?));
        for (pod, reading) in self.new_pods().filter_map(said) {
            let broken = reading.tasks.iter().filter(|(_, task)| task.broken);
            for (queue, _) in broken {
                // One that was stopped before this one may be among them.
                let mut versions: BTreeMap<_, (usize, usize)> = BTreeMap::new();
                for (old, reading) in self.old_pods().filter_map(said) {
                    let (all, fail) = versions.entry(&old.template).or_default();
                    let task = reading.tasks.get(queue);
                    *all += 1;
                    *fail += usize::from(task.is_some_and(|task| task.broken));
                }
                if versions.values().any(|(all, fail)| 2 * fail < *all) {
                    let what = format!("fails nearly every task of {queue}");
                    return Some((Fault::Breaker, pod, what));
                }
            }
        }
        None
    }

    /// A new pod cannot run, and the old ones have no such trouble; or it takes too long.
    fn does_not_start(&self) -> Option<(Fault, &'a LivePod, String)> {
        let is_old_trouble = |kind| self.old_pods().any(|pod| is_in(pod, kind));
        let in_trouble = self.new_pods().find_map(|pod| {
            let trouble = pod.trouble.as_ref()?;
            // A node may come.
            let will_pass = trouble.kind == TroubleKind::Unschedulable;
            let is_its = !will_pass && !is_old_trouble(trouble.kind);
            is_its.then(|| (pod, format!("does not get ready: {}", trouble.message)))
        });
        let too_late = || {
            let why = self.live.stalled.as_ref()?;
            // The deadline may be told for a moment after the pods have got ready.
            let pod = self.new_pods().find(|pod| pod.ready_since.is_none())?;
            let why = pod.trouble.as_ref().map_or(why, |trouble| &trouble.message);
            Some((pod, format!("has not got ready in time: {why}")))
        };
        let (pod, what) = in_trouble.or_else(too_late)?;
        Some((Fault::NotReady, pod, what))
    }

    /// All new pods are ready, say so themselves, and fail nothing.
    fn all_are_well(&self) -> bool {
        let Some(round) = self.round else {
            return false;
        };
        let mut pods = self.new_pods().peekable();
        let is_there = pods.peek().is_some();
        is_there
            && pods.all(|pod| {
                let reading = reading(self.observed, round, pod, self.now);
                let works = reading.is_some_and(|r| r.tasks.values().all(|task| !task.broken));
                works && pod.ready_since.is_some()
            })
    }

    /// Without a break, which may have been between two looks.
    fn all_are_ready_for(&self, time: Duration) -> bool {
        self.new_pods().all(|pod| {
            pod.ready_since.is_some_and(|since| {
                let ready = Duration::try_from(self.now.wall.duration_since(since));
                ready.is_ok_and(|ready| ready >= time)
            })
        })
    }
}

fn is_in(pod: &LivePod, kind: TroubleKind) -> bool {
    pod.trouble.as_ref().is_some_and(|t| t.kind == kind)
}
