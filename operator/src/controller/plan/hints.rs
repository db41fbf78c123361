//! What keeps node autoscalers away from a pod while a task runs in it that takes longer than the
//! grace period leaves: moved, it would be handed back and begun again.
//!
//! What somebody else has written on the pod, by the template or by hand, is never touched: which
//! of the annotations are ours is said by one more.

use std::{collections::BTreeMap, time::Duration};

use scaling::Instant;

use super::{REFUSED_AGAIN, grace, scale::readings};
use crate::{
    LONG_TASK_HINTS,
    controller::observed::{LivePod, Memory, Now, Observed},
    sampling::PodReading,
    worker::Worker,
};

/// What the autoscalers read: the Cluster Autoscaler and Karpenter.
pub const HINTS: [(&str, &str); 2] = [
    ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
    ("karpenter.sh/do-not-disrupt", "true"),
];

/// How long nothing long must have run before they are taken away: a pod that begins one task
/// after another is not written to for each.
const QUIET: Duration = Duration::from_secs(60);

/// How long what was sent is trusted to be there although it has not been read.
const TRUSTED: Duration = Duration::from_secs(10);

/// Annotations of a pod to write; those without a value to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// The pod's name.
    pub pod: String,
    /// Its UID.
    pub uid: String,
    /// Whether they are there afterwards.
    pub on: bool,
    /// By their names.
    pub annotations: BTreeMap<String, Option<String>>,
}

/// What is remembered of pods, by their UIDs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Hinting {
    /// What was sent, or refused: what is read may be older.
    pub sent: BTreeMap<String, SentHint>,
    /// Since when nothing long has run.
    quiet: BTreeMap<String, Instant>,
}

/// Hints as they were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentHint {
    /// Whether they are there.
    pub on: bool,
    /// The API server has refused them.
    pub refused: bool,
    /// When.
    pub at: Instant,
}

/// What is to be written by the round that has just been read. Without one, and where a pod has
/// not answered lately, everything stays as it is.
pub(super) fn hints(
    observed: &Observed,
    worker: &Worker,
    memory: &mut Memory,
    now: Now,
) -> Vec<Hint> {
    let Some(round) = &observed.round else {
        return Vec::new();
    };
    let is_there = |uid: &String| observed.pods.iter().any(|pod| pod.uid == *uid);
    memory.hinting.quiet.retain(|uid, _| is_there(uid));
    memory.hinting.sent.retain(|uid, sent| {
        let kept = if sent.refused { REFUSED_AGAIN } else { TRUSTED };
        now.clock.seconds_since(sent.at) < kept.as_secs_f64() && is_there(uid)
    });
    let mut hints = Vec::new();
    for (pod, reading) in readings(observed, round, now) {
        // One that was read in an earlier turn may have begun or ended something since.
        let Some(reading) = reading.filter(|reading| !reading.earlier && !pod.terminating) else {
            continue;
        };
        let is_long = runs_long(worker, memory, reading);
        let hinting = &mut memory.hinting;
        if is_long {
            hinting.quiet.remove(&pod.uid);
        }
        let sent = hinting.sent.get(&pod.uid);
        let is_on = sent.map_or(!pod.hints.own.is_empty(), |sent| sent.on);
        let hint = if is_long && !is_on {
            add(pod)
        } else if !is_long && is_on {
            let quiet = hinting.quiet.entry(pod.uid.clone()).or_insert(now.clock);
            let is_over = now.clock.seconds_since(*quiet) >= QUIET.as_secs_f64();
            is_over.then(|| remove(pod))
        } else {
            None
        };
        hints.extend(hint.filter(|_| sent.is_none()));
    }
    hints
}

fn runs_long(worker: &Worker, memory: &Memory, reading: &PodReading) -> bool {
    let mut tasks = reading.tasks.iter();
    tasks.any(|(queue, task)| grace::outlasts(worker, memory, queue, task))
}

/// Those that nobody else has written.
fn add(pod: &LivePod) -> Option<Hint> {
    let free = |name: &&str| !pod.hints.there.contains_key(*name);
    let names: Vec<&str> = HINTS.iter().map(|(name, _)| *name).filter(free).collect();
    if names.is_empty() {
        return None;
    }
    let ours = HINTS.iter().filter(|(name, _)| names.contains(name));
    let mut annotations: BTreeMap<String, Option<String>> = ours
        .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())))
        .collect();
    annotations.insert(LONG_TASK_HINTS.to_owned(), Some(names.join(",")));
    Some(hint(pod, true, annotations))
}

/// Ours, but for what somebody else has made of them.
fn remove(pod: &LivePod) -> Hint {
    let as_written = |name: &&String| {
        let there = pod.hints.there.get(*name);
        let mut hints = HINTS.iter();
        hints.any(|(hint, value)| hint == name && there.is_some_and(|there| there == value))
    };
    let ours = pod.hints.own.iter().filter(as_written);
    let mut annotations: BTreeMap<String, Option<String>> =
        ours.map(|name| (name.clone(), None)).collect();
    annotations.insert(LONG_TASK_HINTS.to_owned(), None);
    hint(pod, false, annotations)
}

fn hint(pod: &LivePod, on: bool, annotations: BTreeMap<String, Option<String>>) -> Hint {
    Hint {
        pod: pod.name.clone(),
        uid: pod.uid.clone(),
        on,
        annotations,
    }
}
