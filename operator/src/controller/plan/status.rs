//! What the operator answers.
//!
//! Some of a status is measured and never still: it is written at most once a minute. The
//! rest is written when it changes.

use std::time::Duration;

use api::{ConductorWorkerStatus, ScalingLimits, ScalingStatus};
use scaling::Reason;

use super::{
    Event,
    budget::Budget,
    conditions::{Conditions, Tri, written},
    drain::Drained,
    grace, history, kept,
    measured::{measure, terms},
    notices,
    readable::{self, Failing, wall},
    scale::Scaled,
    stall, upgrade,
};
use crate::{
    DRAINING_LABEL, WORKER_LABEL,
    controller::observed::{Memory, Now, Observed, TroubleKind, Written},
    worker::Worker,
};

/// How often measurements alone are written.
const MEASURED: Duration = Duration::from_secs(60);

/// The reason of `ScalingLimited` where it is false.
const WITHIN_LIMITS: &str = "WithinLimits";

/// How long what was written is trusted to be there although it has not been read.
const TRUSTED: Duration = Duration::from_secs(10);

/// The status as it is now: what was read may be older than what was written.
pub(super) fn last<'a>(
    observed: &'a Observed,
    memory: &'a Memory,
    now: Now,
) -> &'a ConductorWorkerStatus {
    match &memory.written {
        Some(written) if now.clock.seconds_since(written.at) < TRUSTED.as_secs_f64() => {
            &written.status
        }
        _ => &observed.status,
    }
}

/// Whether a status is to be written.
pub(super) fn is_due(
    last: &ConductorWorkerStatus,
    new: &ConductorWorkerStatus,
    written: Option<&Written>,
    now: Now,
) -> bool {
    if last == new {
        return false;
    }
    if unmeasured(last) != unmeasured(new) {
        return true;
    }
    let is_due = written.is_none_or(|w| now.clock.seconds_since(w.at) >= MEASURED.as_secs_f64());
    // While nothing is to be done, nothing is measured that is worth a write.
    is_due && !(is_idle(last) && is_idle(new))
}

fn is_idle(status: &ConductorWorkerStatus) -> bool {
    status.queue == Some(0) && status.in_flight == 0
}

/// A status without what is measured.
fn unmeasured(status: &ConductorWorkerStatus) -> ConductorWorkerStatus {
    let mut status = ConductorWorkerStatus {
        queue: None,
        in_flight: 0,
        tasks: Vec::new(),
        ..status.clone()
    };
    if let Some(scaling) = &mut status.scaling {
        *scaling = ScalingStatus {
            desired: scaling.desired,
            reason: history::kind(&scaling.reason).to_owned(),
            ..ScalingStatus::default()
        };
    }
    for condition in &mut status.conditions {
        condition.message.clear();
        // It comes and goes with each task, where one pod is kept for a few.
        if condition.reason == Reason::AtMinReplicas.as_str() {
            WITHIN_LIMITS.clone_into(&mut condition.reason);
        }
        if condition.reason == WITHIN_LIMITS {
            condition.status.clear();
            condition.last_transition_time.clear();
        }
    }
    status
}

/// What someone should look at, once when it begins.
pub(super) fn warnings(last: &ConductorWorkerStatus, new: &ConductorWorkerStatus) -> Vec<Event> {
    let bad = [
        ("Stalled", "True"),
        ("ConnectionHealthy", "False"),
        ("MetricsAvailable", "False"),
        (grace::TOO_SHORT, "True"),
        (upgrade::FAILED, "True"),
    ];
    let mut events: Vec<Event> = Vec::new();
    for (kind, status) in bad {
        let find = |s: &ConductorWorkerStatus| {
            let found = s.conditions.iter().find(|c| c.type_ == kind)?;
            (found.status == status).then(|| (found.reason.clone(), found.message.clone()))
        };
        if let Some((reason, message)) = find(new)
            && find(last).is_none_or(|(before, _)| before != reason)
            && events.iter().all(|e| e.reason != reason)
        {
            events.push(Event {
                warning: true,
                reason,
                message,
            });
        }
    }
    events
}

/// It says that a rollout is stopped.
pub(super) fn is_stopped(status: &ConductorWorkerStatus) -> bool {
    let mut conditions = status.conditions.iter();
    conditions.any(|c| c.type_ == "Stalled" && c.reason == stall::STALLED)
}

/// The spec cannot be run. All else stays as it is.
pub(super) fn invalid(
    observed: &Observed,
    memory: &Memory,
    message: &str,
    now: Now,
) -> ConductorWorkerStatus {
    let last = last(observed, memory, now);
    let mut conditions = Conditions::after(&last.conditions, observed.generation, now.wall);
    conditions.set("Ready", Tri::False, "InvalidSpec", message.to_owned());
    conditions.set("Reconciling", Tri::False, "InvalidSpec", String::new());
    conditions.set("Stalled", Tri::True, "InvalidSpec", message.to_owned());
    conditions.keep_others();
    ConductorWorkerStatus {
        observed_generation: Some(observed.generation),
        conditions: conditions.done(),
        ..last.clone()
    }
}

/// The status of a worker that can be run.
pub(super) fn status(
    observed: &Observed,
    worker: &Worker,
    scaled: &Scaled,
    budget: &Budget<'_>,
    memory: &Memory,
    owned_by_another: bool,
    now: Now,
) -> ConductorWorkerStatus {
    let last = last(observed, memory, now);
    let pods = if owned_by_another {
        Pods::default()
    } else {
        Pods::of(observed, &scaled.drained)
    };
    let round = memory.round.as_ref();
    let mut status = ConductorWorkerStatus {
        observed_generation: Some(observed.generation),
        replicas: pods.there,
        ready_replicas: pods.ready,
        draining: pods.leaving,
        // The API server reads no != here: kubectl scale would fail.
        selector: format!("{WORKER_LABEL}={},!{DRAINING_LABEL}", observed.key.name),
        connection: Some(worker.connection.to_string()),
        scaling: Some(scaling_status(last, observed, worker, scaled, memory, now)),
        ..last.clone()
    };
    // Before the first round, what was measured last stays.
    if let Some(round) = round {
        measure(&mut status, observed, worker, memory, round, now);
    }

    let failing = round.and_then(readable::failing);
    let failing = failing.as_ref();
    let verdict = if owned_by_another {
        Verdict::stalled(
            "DeploymentExists",
            format!(
                "the Deployment {} is not this worker's: delete it, or give the worker another name",
                observed.key.name
            ),
        )
    } else {
        verdict(observed, worker, scaled, pods, memory, failing, last)
    };
    let mut conditions = Conditions::after(&last.conditions, observed.generation, now.wall);
    let Verdict {
        ready,
        reconciling,
        stalled,
        reason,
        message,
    } = verdict;
    conditions.set("Ready", ready.into(), reason, message.clone());
    let said = |on: bool| if on { message.clone() } else { String::new() };
    conditions.set("Reconciling", reconciling.into(), reason, said(reconciling));
    conditions.set("Stalled", stalled.into(), reason, said(stalled));
    readable::connection(&mut conditions, worker, round, failing);
    readable::metrics(&mut conditions, observed, worker, round, now);
    let limited = is_limit(scaled.reason);
    conditions.set(
        "ScalingLimited",
        limited.into(),
        if limited {
            scaled.reason
        } else {
            WITHIN_LIMITS
        },
        if limited {
            scaled.message.clone()
        } else {
            String::new()
        },
    );
    let active = scaled.drained.active;
    notices::set(&mut conditions, observed, worker, round, active);
    grace::tell(&mut conditions, worker, memory, now);
    budget.tell(&mut conditions, observed, memory);
    status.conditions = conditions.done();
    status
}

fn scaling_status(
    last: &ConductorWorkerStatus,
    observed: &Observed,
    worker: &Worker,
    scaled: &Scaled,
    memory: &Memory,
    now: Now,
) -> ScalingStatus {
    let last = last.scaling.as_ref();
    let since = memory.standing.as_ref();
    let since = since.map_or_else(|| written(now.wall), |s| s.since.clone());
    let mut status = ScalingStatus {
        desired: scaled.desired,
        reason: scaled.reason.to_owned(),
        message: scaled.message.clone(),
        decided_at: since,
        limits: limits(worker, now),
        history: memory.history.clone().unwrap_or_default(),
        // Before the first decision, what was measured and learnt last stays.
        measured_at: last.and_then(|s| s.measured_at.clone()),
        terms: last.and_then(|s| s.terms),
        memory: last.and_then(|s| s.memory.clone()),
    };
    match &memory.decided {
        Some(decided) => {
            let at = wall(now, decided.at);
            status.measured_at = Some(written(at));
            status.terms = Some(terms(decided, observed, memory.round.as_ref()));
            status.memory = kept::kept(worker, memory, at);
        }
        // Nothing is decided here.
        None if memory.round.is_some() => {
            (status.measured_at, status.terms, status.memory) = (None, None, None);
        }
        None => {}
    }
    status
}

fn limits(worker: &Worker, now: Now) -> Option<ScalingLimits> {
    let bounds = worker.bounds_at(now.wall).filter(|_| !worker.suspend)?;
    Some(ScalingLimits {
        min: bounds.min,
        max: bounds.max,
        schedule: worker.floor(now.wall).map(|floor| floor.words()),
    })
}

/// How many pods there are.
#[derive(Debug, Clone, Copy, Default)]
struct Pods {
    /// Those that work, or will.
    there: u32,
    /// Of these, ready ones.
    ready: u32,
    /// Those that are to go, and are not being deleted yet.
    leaving: u32,
}

impl Pods {
    fn of(observed: &Observed, drained: &Drained) -> Self {
        let mut pods = Self::default();
        for pod in observed.staying() {
            if drained.leaving.contains(&pod.uid) {
                pods.leaving += 1;
            } else {
                pods.there += 1;
                pods.ready += u32::from(pod.ready_since.is_some());
            }
        }
        pods
    }
}

// === the conditions ===

struct Verdict {
    ready: bool,
    reconciling: bool,
    stalled: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn stalled(reason: &'static str, message: String) -> Self {
        Self {
            ready: false,
            reconciling: false,
            stalled: true,
            reason,
            message,
        }
    }
}

/// Ready: the rollout is complete, and a pod is ready or none is wanted.
fn verdict(
    observed: &Observed,
    worker: &Worker,
    scaled: &Scaled,
    there: Pods,
    memory: &Memory,
    failing: Option<&Failing<'_>>,
    last: &ConductorWorkerStatus,
) -> Verdict {
    if let Some(refused) = &memory.deployment.refused {
        let message = format!("the Deployment was refused: {}", refused.message);
        return Verdict::stalled("DeploymentRefused", message);
    }
    // New pods wait for it, whatever else they wait for.
    if let Some(Failing { why, .. }) = failing.filter(|f| f.why.kind.is_of_references()) {
        return Verdict::stalled(why.kind.as_str(), why.message.clone());
    }
    if let Some(stalled) = memory.stalled.as_ref().filter(|s| s.is_held()) {
        return Verdict::stalled(stall::STALLED, stall::words(observed, stalled));
    }
    let Some(live) = &observed.deployment else {
        return Verdict {
            ready: false,
            reconciling: true,
            stalled: false,
            reason: "Starting",
            message: "the Deployment is being made".to_owned(),
        };
    };
    // After a restart nothing is known to have been sent: what runs is taken for what is
    // wanted until it has been sent again, or each worker would look unready for a tick.
    let changes = scaled.rollout.changes();
    let rolling = if live.updated < live.replicas || changes {
        true
    } else {
        // Whether the change is one of the template cannot be seen; it was known when it was
        // sent.
        scaled.rollout.is_behind
            && last
                .conditions
                .iter()
                .any(|c| c.type_ == "Ready" && c.reason == "RollingOut")
    };
    let wanted = scaled.drained.active;
    let ready = !rolling && (wanted == 0 || there.ready > 0);
    let missing = there.ready < wanted;
    let leaving = match there.leaving {
        0 => String::new(),
        1 => ", 1 ends what it has and goes".to_owned(),
        n => format!(", {n} end what they have and go"),
    };
    let pods = format!("{} of {wanted} pods are ready{leaving}", there.ready);

    if let Some((reason, stalled, why)) = trouble(observed, rolling || missing) {
        return Verdict {
            ready,
            reconciling: !stalled,
            stalled,
            reason,
            message: format!("{pods}; {why}"),
        };
    }
    let (reason, message) = match failing {
        // One that is continued now is read as paused still.
        _ if rolling && live.paused && memory.stalled.is_none() => {
            let name = &observed.key.name;
            let paused =
                format!("somebody has paused it (kubectl rollout resume deployment/{name})");
            (
                "RollingOut",
                format!("{pods}; a new version is there, and {paused}"),
            )
        }
        _ if rolling => ("RollingOut", format!("{pods}; a new version is rolled out")),
        _ if !ready => ("Starting", pods),
        Some(failing) => (
            failing.why.kind.as_str(),
            format!("{pods}; {}", failing.words(worker)),
        ),
        None if is_worth_a_word(scaled.reason) => {
            (scaled.reason, format!("{pods}; {}", scaled.message))
        }
        None if worker.suspend => ("Suspended", "suspend is true: no pod is to run".to_owned()),
        None if wanted == 0 => (
            "ScaledToZero",
            if there.leaving == 0 {
                "no work, no pods".to_owned()
            } else {
                format!("no pod is to work{leaving}")
            },
        ),
        None => ("Running", pods),
    };
    Verdict {
        ready,
        reconciling: rolling || missing,
        stalled: false,
        reason,
        message,
    }
}

/// What keeps pods from getting ready: its reason, whether it will not pass by itself, and why.
fn trouble(observed: &Observed, waited_for: bool) -> Option<(&'static str, bool, String)> {
    let live = observed.deployment.as_ref()?;
    if !waited_for {
        return None;
    }
    if let Some(why) = &live.failure {
        let quota = why.contains("exceeded quota");
        let reason = if quota {
            "QuotaExceeded"
        } else {
            "PodsRefused"
        };
        return Some((reason, true, why.clone()));
    }
    let of_pod = observed
        .staying()
        .find_map(|pod| Some((pod, pod.trouble.as_ref()?)));
    if let Some((pod, trouble)) = of_pod {
        // A node may come.
        let stalled = trouble.kind != TroubleKind::Unschedulable;
        let why = format!("{}: {}", pod.name, trouble.message);
        return Some((trouble.kind.as_str(), stalled, why));
    }
    let why = live.stalled.clone()?;
    Some((stall::STALLED, true, why))
}

fn is_limit(reason: &str) -> bool {
    [
        Reason::CappedByMaxReplicas,
        Reason::CappedByTaskLimit,
        Reason::CappedByRateLimit,
        Reason::DownstreamSaturated,
        Reason::AtMinReplicas,
    ]
    .iter()
    .any(|r| r.as_str() == reason)
}

/// What a worker's one-word summary tells rather than that it runs.
fn is_worth_a_word(reason: &str) -> bool {
    [
        Reason::CappedByMaxReplicas,
        Reason::CappedByTaskLimit,
        Reason::CappedByRateLimit,
        Reason::DownstreamSaturated,
        Reason::StaleMetrics,
        Reason::ServerAway,
    ]
    .iter()
    .any(|r| r.as_str() == reason)
}
