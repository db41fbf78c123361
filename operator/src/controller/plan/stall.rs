//! Stopping the rollout of a version that does not work, while pods of the one before do.
//!
//! ```text
//! its pods fail their tasks, or do not get ready ──> the Deployment is paused, and marked with the
//!   template                                          │         │                │
//!   another template is wanted ───────────────────────┤         │                │
//!   all of its pods have shown that they work, once ──┤         │                │
//!   no pod is left to be kept ────────────────────────┴> goes on                 │
//!   somebody resumes the Deployment ─────────────────────────────> goes on, and is not stopped again
//! ```
//!
//! The mark, annotations, says that the pause is the operator's, for which template and why: another
//! operator process goes on where this one ended. A pause without it is somebody's own.
//!
//! It goes on by itself once for each template, since each time old pods are replaced until it is
//! stopped again.

mod done;
mod well;

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

pub(in crate::controller) use self::done::Done;
use self::well::Well;
use super::{rollout::Rollout, scale::reading};
use crate::{
    ROLLOUT_RESUMED, ROLLOUT_STALLED, ROLLOUT_STALLED_BY, TEMPLATE_HASH,
    controller::observed::{LiveDeployment, LivePod, Memory, Now, Observed, Sent, TroubleKind},
    sampling::Round,
    worker::fingerprint,
};

/// The reason in conditions and events.
pub(super) const STALLED: &str = "RolloutStalled";

/// How old the last tasks may be that an old pod has ended well, where the new version has not been
/// there for longer. Tasks may be long, and few.
const LATELY: Duration = Duration::from_secs(600);

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

/// Why a rollout is stopped, as far as it matters for what it waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cause {
    fault: Fault,
    /// Whose tasks are failed; none where that is no matter of tasks, or is not known.
    queue: Option<String>,
}

impl Cause {
    /// As it is written on the Deployment. What is not understood is what asks for most.
    fn read(written: Option<&str>) -> Self {
        let words = written.unwrap_or_default();
        let (fault, queue) = words.split_once(' ').unwrap_or((words, ""));
        if fault == Fault::NotReady.as_str() {
            return Self {
                fault: Fault::NotReady,
                queue: None,
            };
        }
        Self {
            fault: Fault::Breaker,
            queue: (!queue.is_empty()).then(|| queue.to_owned()),
        }
    }

    fn written(&self) -> String {
        let fault = self.fault.as_str();
        match &self.queue {
            Some(queue) => format!("{fault} {queue}"),
            None => fault.to_owned(),
        }
    }
}

/// What is remembered of a rollout that is stopped.
#[derive(Debug, Clone, PartialEq)]
pub struct Stalled {
    cause: Cause,
    /// What was seen last: which pod, and what it does; none after a restart.
    what: Option<String>,
    /// Since when all of the new pods are well.
    well: Option<Well>,
    /// It has gone on by itself before: now it does not.
    has_resumed: bool,
    /// It is to go on, and that has not been written yet.
    goes_on: bool,
}

impl Stalled {
    /// It is stopped, and is to stay so.
    pub fn is_held(&self) -> bool {
        !self.goes_on
    }
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

/// What becomes of a rollout, and what is written about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Course {
    pub(super) step: Step,
    /// Why it is or was stopped.
    cause: Option<Cause>,
    /// It has gone on by itself.
    has_resumed: bool,
    /// How many pods of the versions before there are, where it was stopped and another template
    /// is wanted.
    pub(super) kept: u32,
}

impl Course {
    /// The Deployment is to be paused.
    pub(super) fn is_held(&self) -> bool {
        matches!(self.step, Step::Stop(_) | Step::Hold)
    }

    /// What it makes of the Deployment.
    pub(super) fn edit(&self, object: &mut Value) {
        let template = template_of(object);
        let annotations = &mut object["metadata"]["annotations"];
        if self.has_resumed {
            annotations[ROLLOUT_RESUMED] = json!(template);
        }
        if matches!(self.step, Step::Run | Step::Resume) {
            return;
        }
        annotations[ROLLOUT_STALLED] = json!(template);
        if let Some(cause) = &self.cause {
            annotations[ROLLOUT_STALLED_BY] = json!(cause.written());
        }
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
) -> Course {
    memory.done.note(observed, now);
    let before = memory.stalled.take();
    let course = |step, cause, has_resumed| Course {
        step,
        cause,
        has_resumed,
        kept: 0,
    };
    let live = observed.deployment.as_ref();
    let own = |live: &&LiveDeployment| live.owner.as_deref() == Some(observed.uid.as_str());
    let Some(live) = live.filter(own) else {
        return course(Step::Run, None, false);
    };
    let known = Known::of(live, &memory.deployment);
    let look = Look {
        observed,
        live,
        round: observed.round.as_ref().or(memory.round.as_ref()),
        done: &memory.done,
        now,
    };
    let template = template_of(object);
    let has_resumed = known.resumed == Some(&*template);
    // Once no old pod is left it is over, and what was written about it goes.
    let ran = course(Step::Run, None, has_resumed && rollout.is_incomplete());
    if known.mark != Some(&*template) {
        // What is read is about what is wanted, and may be stopped.
        let fault = (rollout.is_of_what_is_wanted() && !known.paused).then(|| look.fault());
        let Some((cause, what)) = fault.flatten() else {
            let is_ended = known.paused && known.mark.is_some();
            let kept = match &live.newest {
                _ if !is_ended => 0,
                // Not known for a moment after a restart; too many end what they have.
                None => observed.staying().count(),
                Some(_) => look.old_pods().count(),
            };
            return Course {
                kept: u32::try_from(kept).unwrap_or(u32::MAX),
                ..ran
            };
        };
        let step = Step::Stop(cause.fault);
        memory.stalled = Some(Stalled {
            cause: cause.clone(),
            what: Some(what),
            well: None,
            has_resumed,
            goes_on: false,
        });
        return course(step, Some(cause), has_resumed);
    }
    let cause = Cause::read(known.cause);
    if !known.paused {
        return if rollout.is_incomplete() {
            course(Step::LetRun, Some(cause), has_resumed)
        } else {
            ran
        };
    }
    // A rollout is stopped for the sake of pods that are there.
    if !rollout.is_behind && (live.wanted, live.replicas) == (0, 0) {
        return ran;
    }
    let mut stalled = before.unwrap_or(Stalled {
        cause,
        what: None,
        well: None,
        has_resumed,
        goes_on: false,
    });
    if let Some((cause, what)) = look.fault() {
        // What asks for more stays.
        if (cause.fault, stalled.cause.fault) != (Fault::NotReady, Fault::Breaker) {
            stalled.cause = cause;
        }
        stalled.what = Some(what);
    }
    let well = look.well();
    stalled.well = well.map(|seen| seen.after(stalled.well.take()));
    let well = stalled.well.as_ref();
    stalled.goes_on = !has_resumed
        && well.is_some_and(|well| {
            well.is_enough(&stalled.cause, now) && look.all_are_ready_for(well.time())
        });
    let step = if stalled.goes_on {
        Step::Resume
    } else {
        Step::Hold
    };
    let course = course(
        step,
        Some(stalled.cause.clone()),
        has_resumed || stalled.goes_on,
    );
    // It is kept also where it goes on, which may not be written.
    memory.stalled = Some(stalled);
    course
}

/// Whether the rollout of this template is stopped by an operator.
pub(super) fn is_stopped(live: &LiveDeployment, sent: &Sent, template: &str) -> bool {
    let known = Known::of(live, sent);
    known.paused && known.mark == Some(template)
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
    let apply = "apply the old spec again or a mended one";
    let since = match &stalled.what {
        Some(what) => format!(", since {what}"),
        None => String::new(),
    };
    match &stalled.well {
        _ if stalled.has_resumed => format!(
            "{stopped}: it went on by itself once and had to be stopped again, so that it stays stopped: {apply}, or write kubectl rollout resume deployment/{}{since}",
            observed.key.name
        ),
        Some(well) => format!("{stopped}: {}", well.words(&stalled.cause)),
        None => format!("{stopped}: {apply}{since}"),
    }
}

/// What is there, with what was sent and has not been read yet.
struct Known<'a> {
    /// The template of which the rollout was stopped.
    mark: Option<&'a str>,
    /// Why, as it was written.
    cause: Option<&'a str>,
    /// The template of which the rollout has gone on by itself.
    resumed: Option<&'a str>,
    paused: bool,
}

impl<'a> Known<'a> {
    fn of(live: &'a LiveDeployment, sent: &'a Sent) -> Self {
        let (sent, unread) = (sent.last(live), sent.unread(live));
        let written = |name: &str, live: &'a Option<String>| match sent {
            // A change of it alone makes no generation.
            Some(sent) => sent.object["metadata"]["annotations"][name].as_str(),
            None => live.as_deref(),
        };
        let paused = match unread {
            Some(sent) => sent.object["spec"]["paused"] == true,
            None => live.paused,
        };
        Self {
            mark: written(ROLLOUT_STALLED, &live.stalled_for),
            cause: written(ROLLOUT_STALLED_BY, &live.stalled_by),
            resumed: written(ROLLOUT_RESUMED, &live.resumed_for),
            paused,
        }
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
    done: &'a Done,
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
    fn fault(&self) -> Option<(Cause, String)> {
        // Without it there is nothing to be kept.
        self.old_pods().next()?;
        let (cause, pod, what) = self.fails().or_else(|| self.does_not_start())?;
        Some((cause, format!("{} {what}", pod.name)))
    }

    /// A new pod's breaker is open, and more old ones do these tasks than fail them: else it is not
    /// the version. An old pod that says nothing of it, or has ended none for a while, is neither.
    fn fails(&self) -> Option<(Cause, &'a LivePod, String)> {
        let round = self.round?;
        let said = |pod| Some((pod, reading(self.observed, round, pod, self.now)?));
        let lately = self.age().max(LATELY);
        for (pod, reading) in self.new_pods().filter_map(said) {
            let broken = reading.tasks.iter();
            for (queue, _) in broken.filter(|(_, task)| task.broken == Some(true)) {
                // One that was stopped before this one may be among them.
                let mut versions: BTreeMap<_, (usize, usize)> = BTreeMap::new();
                for (old, reading) in self.old_pods().filter_map(said) {
                    let (work, fail) = versions.entry(&old.template).or_default();
                    let task = reading.tasks.get(queue);
                    let fails = task.is_some_and(|task| task.broken == Some(true));
                    let works = !fails && self.done.is_well(&old.uid, queue, lately, self.now);
                    *fail += usize::from(fails);
                    *work += usize::from(works);
                }
                if versions.values().any(|(work, fail)| work > fail) {
                    let what = format!("fails nearly every task of {queue}");
                    let cause = Cause {
                        fault: Fault::Breaker,
                        queue: Some(queue.to_string()),
                    };
                    return Some((cause, pod, what));
                }
            }
        }
        None
    }

    /// For how long pods of the new version have been there.
    fn age(&self) -> Duration {
        let made = self.new_pods().filter_map(|pod| pod.created).min();
        let age = made.map(|made| Duration::try_from(self.now.wall.duration_since(made)));
        age.and_then(Result::ok).unwrap_or_default()
    }

    /// A new pod cannot run, and the old ones have no such trouble; or it takes too long.
    fn does_not_start(&self) -> Option<(Cause, &'a LivePod, String)> {
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
        let cause = Cause {
            fault: Fault::NotReady,
            queue: None,
        };
        Some((cause, pod, what))
    }

    /// What the new pods have counted, where all are ready, say so themselves, and fail nothing.
    fn well(&self) -> Option<Well> {
        let round = self.round?;
        let counted = self.new_pods().map(|pod| {
            let reading = reading(self.observed, round, pod, self.now)?;
            let is_broken = reading.tasks.values().any(|task| task.broken == Some(true));
            let is_well = pod.ready_since.is_some() && !is_broken;
            is_well.then(|| (pod.uid.clone(), well::Counts::of(pod, reading)))
        });
        let counted: BTreeMap<_, _> = counted.collect::<Option<_>>()?;
        (!counted.is_empty()).then(|| Well::new(counted, self.now.clock))
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
