//! Decides what to write, from what was observed.
//!
//! ```text
//! Observed ─> scale ──> pods that are to work, State ─> drain ─> replicas, marks, orders
//!          ─> deployment(worker) ─> upgrade: as it is rendered, or with the template that is there
//!                                   ──> apply it? (changed, or changed by others)
//!          ─> status ──> write it? (changed; measurements once a minute)
//! ```
//!
//! # Invariants
//! - No IO, no clock, no randomness, nothing that can fail.
//! - Planning again on what a plan leads to gives nothing to do.

mod budget;
mod conditions;
mod deployment;
mod drain;
pub(super) mod grace;
mod hints;
mod history;
mod kept;
mod measured;
mod notices;
pub(super) mod rate;
mod readable;
mod rollout;
mod scale;
pub(super) mod stall;
mod status;
mod tell;
mod told;
mod upgrade;
mod victims;

use std::time::Duration;

use api::ConductorWorkerStatus;
use jiff::Timestamp;
use serde_json::{Value, json};

pub use self::{
    budget::BudgetStep,
    deployment::deployment,
    hints::{HINTS, Hint, Hinting, SentHint},
    stall::{Fault, Stalled},
    upgrade::{Standing, Turn, turn},
    victims::Because,
};
use self::{rollout::Rollout, stall::Step};
use super::observed::{Memory, Now, Observed, Refused, Sent};
use crate::cordons::Order;

/// How long at most something that the API server refused is not sent again.
const REFUSED_AGAIN: Duration = Duration::from_secs(60);

/// The same of what has been refused so many times in a row: one that has just started refuses what
/// it will allow in a moment, when it has read who may do what.
fn refused_again(times: u32) -> Duration {
    let doubled = 1_u64.checked_shl(times.saturating_sub(1));
    doubled.map_or(REFUSED_AGAIN, |seconds| {
        Duration::from_secs(seconds).min(REFUSED_AGAIN)
    })
}

/// What is to be written, in this order.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Pods to mark as ones that are to go, or to unmark.
    pub marks: Vec<Mark>,
    /// Pods to tell to take no more tasks, or to take them again.
    pub orders: Vec<Order>,
    /// What to write on pods for node autoscalers.
    pub hints: Vec<Hint>,
    /// The Deployment to apply.
    pub deployment: Option<Value>,
    /// What to do about the `PodDisruptionBudget`.
    pub budget: Option<BudgetStep>,
    /// The status as it should be.
    pub status: ConductorWorkerStatus,
    /// Whether it is to be written.
    pub write_status: bool,
    /// What is to be told.
    pub events: Vec<Event>,
    /// What is to be counted.
    pub counts: Counts,
    /// How far the upgrade of the sidecar has come.
    pub upgrade: Standing,
    /// What is to be remembered.
    pub memory: Memory,
    /// When to look again if nothing happens before.
    pub requeue: Option<Duration>,
}

/// A pod to mark or to unmark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The pod's name.
    pub pod: String,
    /// Its UID.
    pub uid: String,
    /// Since when it is to go; none: it stays.
    pub since: Option<Timestamp>,
    /// Its deletion cost; without effect where it stays.
    pub cost: i32,
    /// The key that may cordon it.
    pub key: String,
}

/// What is to be counted about pods that go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// Pods that are to go and are still there.
    pub draining: usize,
    /// Why the pods may go that replicas are lowered for.
    pub taken: Vec<Because>,
    /// Pods in whose place others went.
    pub spared: usize,
    /// Why the rollout is stopped by the Deployment that is applied.
    pub stopped: Option<Fault>,
}

/// Something to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Someone should look at it.
    pub warning: bool,
    /// In one word.
    pub reason: String,
    /// In one sentence.
    pub message: String,
}

impl Plan {
    /// True where nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
            && self.orders.is_empty()
            && self.hints.is_empty()
            && self.deployment.is_none()
            && self.budget.is_none()
            && !self.write_status
            && self.events.is_empty()
    }
}

/// Decides what to write.
pub fn plan(observed: &Observed, now: Now) -> Plan {
    let mut memory = if observed.memory.uid == observed.uid {
        observed.memory.clone()
    } else {
        Memory {
            uid: observed.uid.clone(),
            ..Memory::default()
        }
    };
    let worker = match &observed.worker {
        _ if observed.deleting => return nothing(observed, memory),
        Ok(worker) => worker.as_ref(),
        // The last good state keeps running, and nothing is deleted.
        Err(message) => {
            let status = status::invalid(observed, &memory, message, now);
            // An upgrade that fails is not over for it: others go on waiting.
            let upgrade = upgrade::while_invalid(observed, &memory);
            return Plan {
                upgrade,
                ..finish(observed, memory, status, Vec::new(), now)
            };
        }
    };

    let rendered = deployment(&observed.key, &observed.uid, worker, 0);
    let (mut object, upgrade) = upgrade::choose(observed, worker, &memory, rendered, now);
    let rollout = Rollout::of(observed, &memory, &object);
    let course = stall::step(observed, rollout, &mut memory, &object, now);
    course.edit(&mut object);
    let rollout = rollout.on(&course);
    grace::note(observed, worker, &mut memory, now);
    let hints = hints::hints(observed, worker, &mut memory, now);
    let scaled = scale::scale(observed, worker, rollout, &mut memory, now);
    object["spec"]["replicas"] = json!(scaled.drained.replicas);
    history::note(observed, &mut memory, &scaled, now);
    let owned_by_another = observed
        .deployment
        .as_ref()
        .is_some_and(|d| d.owner.as_deref() != Some(observed.uid.as_str()));
    let live = observed.deployment.as_ref();
    let live = live.map(|live| (&*live.uid, live.generation));
    let apply = is_due(live, &mut memory.deployment, &object, now) && !owned_by_another;
    let budget = budget::budget(observed, worker, &mut memory, &object, now);
    let mut status = status::status(
        observed,
        worker,
        &scaled,
        &budget,
        &memory,
        owned_by_another,
        now,
    );

    if owned_by_another {
        return Plan {
            requeue: Some(observed.tick * 3),
            ..finish(observed, memory, status, Vec::new(), now)
        };
    }
    let standing = upgrade.tell(&mut status, observed, &memory, now);
    memory.upgrade = Some(standing.clone());
    let is_refused = memory.deployment.refused.is_some() && !apply;
    let mut events = if is_refused {
        Vec::new()
    } else {
        tell::events(&scaled)
    };
    events.extend(tell::resumed(course.step));
    events.extend(upgrade.event().filter(|_| !is_refused));
    events.extend(tell::unmarked(&memory));
    let drained = scaled.drained;
    let look_again = if drained.leaving.is_empty() {
        observed.tick * 3
    } else {
        drain::renewal(observed).min(drain::SHOWN)
    };
    let again = [&memory.deployment, &memory.budget].map(|sent| sent_again(sent, now));
    let again = again.into_iter().flatten();
    let soonest = again.fold(look_again, Duration::min);
    Plan {
        deployment: apply.then_some(object),
        budget: budget.step,
        counts: Counts {
            draining: drained.leaving.len(),
            taken: drained.taken,
            spared: drained.spared.len(),
            stopped: match course.step {
                Step::Stop(fault) if apply => Some(fault),
                _ => None,
            },
        },
        // The sampling wakes each worker once a tick; this is for the case that it does not.
        requeue: Some(soonest),
        marks: drained.marks,
        orders: drained.orders,
        hints,
        upgrade: standing,
        ..finish(observed, memory, status, events, now)
    }
}

fn nothing(observed: &Observed, memory: Memory) -> Plan {
    Plan {
        marks: Vec::new(),
        orders: Vec::new(),
        hints: Vec::new(),
        counts: Counts::default(),
        upgrade: Standing::default(),
        deployment: None,
        budget: None,
        status: observed.status.clone(),
        write_status: false,
        events: Vec::new(),
        memory,
        requeue: None,
    }
}

fn finish(
    observed: &Observed,
    mut memory: Memory,
    status: ConductorWorkerStatus,
    mut events: Vec<Event>,
    now: Now,
) -> Plan {
    let last = status::last(observed, &memory, now);
    let write_status = status::is_due(last, &status, memory.written.as_ref(), now);
    events.extend(status::warnings(last, &status));
    let mut events = told::once(&mut memory, events, now);
    if memory.deployment.refused.is_none() {
        let mut untold = std::mem::take(&mut memory.untold);
        // What could not be written may have been overtaken.
        let is_so = |event: &Event| event.reason != stall::STALLED || status::is_stopped(&status);
        untold.retain(|event| !events.contains(event) && is_so(event));
        events.splice(0..0, untold);
    }
    Plan {
        status,
        write_status,
        events,
        ..nothing(observed, memory)
    }
}

fn refused_since(refused: &Refused, now: Now) -> Duration {
    Duration::try_from_secs_f64(now.clock.seconds_since(refused.at)).unwrap_or_default()
}

/// When what was refused is to be sent again, from now on.
fn sent_again(sent: &Sent, now: Now) -> Option<Duration> {
    let refused = sent.refused.as_ref()?;
    Some(refused_again(refused.times).saturating_sub(refused_since(refused, now)))
}

/// Whether an object must be sent: it is not there, it is not what was sent last, or someone else
/// has changed it since. That another one was refused is forgotten. `live` is its UID and its
/// generation; the object is null where there is to be none.
fn is_due(live: Option<(&str, i64)>, sent: &mut Sent, object: &Value, now: Now) -> bool {
    sent.refused.take_if(|refused| refused.object != *object);
    if let Some(refused) = &sent.refused
        && refused_since(refused, now) < refused_again(refused.times)
    {
        return false;
    }
    match (live, &sent.applied) {
        (Some((uid, generation)), Some(applied)) => {
            applied.uid != uid || applied.object != *object || generation > applied.generation
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests;
