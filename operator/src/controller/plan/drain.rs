//! How the number of pods that are to work becomes replicas, without taking one that works.
//!
//! ```text
//! fewer are wanted ─> victims: marked, told to take no more tasks (renewed)
//!                       └─> idle, unready, and idle once more ─> replicas are lowered by them
//! more are wanted  ─> victims are told to take tasks again, most tasks first; then new pods
//! ```
//!
//! Deployment.spec.replicas is what is to work and the victims that are still there. A victim is
//! one by its mark, an annotation: another operator process goes on where this one ended.

mod look;
mod marks;
mod orders;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    time::Duration,
};

use self::marks::is_victim;
pub(super) use self::{look::SHOWN, orders::renewal};
use super::{
    Because, Mark,
    rollout::Rollout,
    scale::current,
    victims::{Seen, Takeable, Work, first_to_go, first_to_stay, rank, takeable},
};
use crate::{
    controller::observed::{Leaving, LivePod, Memory, Now, Observed, SidecarState, Taken},
    cordons::Order,
};

/// What is aimed at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aim {
    /// How many pods are to work.
    pub(super) active: u32,
    /// What may be done about those that are too many.
    pub(super) may: May,
    /// How long those may go on with what they have.
    pub(super) max_drain: Option<Duration>,
}

/// What may be done about pods that are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum May {
    /// Nothing: what is known is too old, or Kubernetes would take others.
    Hold,
    /// They may be told to go, and be taken.
    Lower,
    /// The same, but all at once: while pods are replaced Kubernetes would take others.
    LowerToNone,
    /// None is to go: one that is cordoned is unready, and new ones must be ready before old ones
    /// are replaced.
    Release,
}

/// What is to be done, and what there is.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Drained {
    /// What the Deployment is to have.
    pub(super) replicas: u32,
    /// How many pods are to work.
    pub(super) active: u32,
    /// How many were until now, where that is another number.
    pub(super) before: Option<u32>,
    /// More are asked for than were, since they are there.
    pub(super) is_kept: bool,
    /// Pods to mark, or to unmark.
    pub(super) marks: Vec<Mark>,
    /// Pods to tell something.
    pub(super) orders: Vec<Order>,
    /// Names of pods that are to go from now on.
    pub(super) chosen: Vec<String>,
    /// Names of pods that were to go and are not any more.
    pub(super) released: Vec<String>,
    /// Why the pods may go that replicas are lowered for.
    pub(super) taken: Vec<Because>,
    /// Names of those of them that are not idle.
    pub(super) overdue: Vec<String>,
    /// Names of pods that were to be taken, and in whose place others went.
    pub(super) spared: Vec<String>,
    /// How many went, and within which time, once none is to go any more.
    pub(super) gone: Option<(u32, Duration)>,
    /// UIDs of the pods that leave and are still there.
    pub(super) leaving: BTreeSet<String>,
    /// How many are to go when they are idle, and are not known to be.
    pub(super) busy: u32,
}

/// The pods there are, but for those that are being deleted.
struct Pool<'a> {
    /// What the Deployment was asked to have.
    replicas: u32,
    /// Those for which replicas were lowered: Kubernetes takes them soon.
    going: Vec<&'a LivePod>,
    /// Those that are to go.
    victims: Vec<&'a LivePod>,
    /// Those that work, or will.
    others: Vec<&'a LivePod>,
}

impl<'a> Pool<'a> {
    fn of(
        observed: &'a Observed,
        rollout: Rollout,
        memory: &Memory,
        replicas: u32,
        now: Now,
    ) -> Self {
        let is_victim = |pod: &LivePod| is_victim(memory, pod, now);
        let mut going: Vec<&LivePod> = observed.staying().collect();
        going.sort_by_key(|pod| (rank(pod), !is_victim(pod)));
        let excess = if rollout.is_replacing() {
            0
        } else {
            going.len().saturating_sub(size(replicas))
        };
        let rest = going.split_off(excess);
        let (victims, others) = rest.into_iter().partition(|pod| is_victim(pod));
        Self {
            replicas,
            going,
            victims,
            others,
        }
    }

    fn active(&self) -> u32 {
        self.replicas.saturating_sub(count(self.victims.len()))
    }

    /// Pods that were asked for and are not there yet.
    fn missing(&self) -> usize {
        let there = self.going.len() + self.victims.len() + self.others.len();
        size(self.replicas).saturating_sub(there)
    }
}

/// Pods that work or will, and those that leave.
pub(super) struct Split {
    /// How many are asked for that do not leave.
    pub(super) active: u32,
    /// UIDs of those that leave.
    pub(super) leaving: BTreeSet<String>,
}

/// Tells apart who leaves, before anything is decided.
pub(super) fn split(observed: &Observed, rollout: Rollout, memory: &Memory, now: Now) -> Split {
    let replicas = current(observed, memory).unwrap_or_default();
    let pool = Pool::of(observed, rollout, memory, replicas, now);
    let leaving = pool.going.iter().chain(&pool.victims);
    Split {
        active: pool.active(),
        leaving: leaving.map(|pod| pod.uid.clone()).collect(),
    }
}

/// Makes replicas, marks and orders of the number of pods that are to work.
pub(super) fn drain(
    observed: &Observed,
    rollout: Rollout,
    memory: &mut Memory,
    aim: Aim,
    now: Now,
) -> Drained {
    let Aim {
        active: target,
        may,
        max_drain,
    } = aim;
    let Some(replicas) = current(observed, memory) else {
        memory.leaving.active = Some(target);
        return Drained {
            replicas: target,
            active: target,
            ..Drained::default()
        };
    };
    let is_kept = rollout.kept() > replicas;
    let replicas = replicas.max(rollout.kept());
    memory.leaving.forget(observed, now);
    let spared = spared(observed, rollout, memory, replicas);
    let pool = Pool::of(observed, rollout, memory, replicas, now);
    memory.leaving.note_unready(&pool, now);

    // Others that became like those that Kubernetes is about to take could go in their place.
    let may = if pool.going.is_empty() {
        may
    } else {
        May::Hold
    };
    let before = pool.active();
    let active = match may {
        May::Hold => target.max(before),
        May::Lower | May::LowerToNone => target,
        May::Release => target.max(replicas),
    };
    let seen = look::all(observed, memory, max_drain, now);
    let mut sides = Sides::of(&pool, &seen);
    sides.release(match may {
        // There may be more than were asked for.
        May::Release => u32::MAX,
        May::Hold | May::Lower | May::LowerToNone => active.saturating_sub(before),
    });
    match may {
        May::Hold | May::Release => {}
        May::Lower => {
            sides.choose(size(before.saturating_sub(active)).saturating_sub(pool.missing()));
            sides.swap();
        }
        // There may be more than were asked for.
        May::LowerToNone => sides.choose(usize::MAX),
    }
    let costs = marks::costs(memory, &sides.victims, now);
    let found = take(observed, &sides, &costs, may);

    let replicas = if may == May::LowerToNone {
        let all = found.pods.len() == sides.victims.len();
        if all { 0 } else { replicas }
    } else {
        let asked = active.saturating_add(count(sides.victims.len()));
        let lowered = asked.saturating_sub(count(found.pods.len()));
        match count(unsafe_to_go(observed, &pool, &seen, &costs)) {
            0 => lowered,
            again => lowered.max(replicas.saturating_add(again)),
        }
    };
    let taken = |seen: &&Seen<'_>| found.pods.iter().any(|pod| pod.uid == seen.pod.uid);
    let (gone, stay): (Vec<Seen<'_>>, Vec<Seen<'_>>) =
        sides.victims.iter().copied().partition(|seen| taken(&seen));
    let was = |pods: &[&LivePod], seen: &&Seen<'_>| pods.iter().any(|p| p.uid == seen.pod.uid);
    let overdue = gone
        .iter()
        .filter(|seen| seen.may_go == Some(Because::Overdue));
    let chosen = stay.iter().filter(|seen| was(&pool.others, seen));
    let released = sides.others.iter().filter(|seen| was(&pool.victims, seen));
    let leaving = pool
        .going
        .iter()
        .copied()
        .chain(sides.victims.iter().map(|seen| seen.pod));
    let before = memory.leaving.active.replace(active).unwrap_or(before);
    let taken: Vec<Because> = gone.iter().filter_map(|seen| seen.may_go).collect();
    // Told until they are gone, or a cordon could end before; one that had not started when it
    // was taken may have by now.
    let going = pool.going.iter().copied().filter(|pod| {
        is_victim(memory, pod, now)
            || (pod.sidecar != SidecarState::Unstarted && memory.leaving.has_taken(pod))
    });
    let going: Vec<&LivePod> = going.collect();
    let victims = sides.victims.iter().map(|seen| seen.pod);
    let away: Vec<&LivePod> = going.iter().copied().chain(victims).collect();
    let marked = going.iter().map(|pod| (*pod, false));
    let marked = marked.chain(stay.iter().map(|seen| (seen.pod, seen.work.is_busy())));
    let marked: Vec<(&LivePod, bool)> = marked.collect();
    memory.leaving.note_taken(&found.pods, replicas);
    Drained {
        replicas,
        active,
        // Pods that others delete change it, too, and that is undone without a word.
        before: (before != active).then_some(before),
        is_kept,
        marks: marks::marks(observed, memory, &marked, &sides.others, &found.tied, now),
        orders: orders::orders(observed, &mut memory.leaving, &away, &sides.others, now),
        chosen: names(chosen),
        released: names(released),
        overdue: names(overdue),
        gone: memory.leaving.note_gone(&taken, stay.len(), now),
        taken,
        spared,
        leaving: leaving.map(|pod| pod.uid.clone()).collect(),
        busy: count(stay.iter().filter(|seen| seen.work.is_busy()).count()),
    }
}

/// How many of the pods that Kubernetes is about to take may not go any more: it was slow, and
/// one has started or was told to take tasks again meanwhile. As many are asked for again.
fn unsafe_to_go(
    observed: &Observed,
    pool: &Pool<'_>,
    seen: &BTreeMap<&str, Seen<'_>>,
    costs: &BTreeMap<&str, i32>,
) -> usize {
    if pool.going.is_empty() {
        return 0;
    }
    let may_go = |pod: &LivePod| {
        seen.get(&*pod.uid)
            .is_some_and(|seen| seen.may_go.is_some())
    };
    let to_go = |pod: &LivePod| may_go(pod) && !pool.others.iter().any(|p| p.uid == pod.uid);
    let costs = |pod: &LivePod| possible(costs, pod);
    let safe = takeable(observed.staying(), to_go, costs).pods.len();
    pool.going.len().saturating_sub(safe)
}

/// Which of the victims may go now, and would be those that Kubernetes takes.
fn take<'a>(
    observed: &'a Observed,
    sides: &Sides<'_>,
    costs: &BTreeMap<&str, i32>,
    may: May,
) -> Takeable<'a> {
    if matches!(may, May::Hold | May::Release) {
        return Takeable::default();
    }
    let may_go: BTreeSet<&str> = sides
        .victims
        .iter()
        .filter(|seen| seen.may_go.is_some())
        .map(|seen| &*seen.pod.uid)
        .collect();
    let mut found = takeable(
        observed.staying(),
        |pod| may_go.contains(&*pod.uid),
        |pod| possible(costs, pod),
    );
    if may == May::LowerToNone && found.pods.len() < sides.victims.len() {
        found.pods.clear();
    }
    found
}

/// The deletion costs that a pod may have: what was read of it, or what it has or gets since.
fn possible(costs: &BTreeMap<&str, i32>, pod: &LivePod) -> RangeInclusive<i32> {
    let read = pod.mark.cost;
    let written = costs.get(&*pod.uid).copied().unwrap_or(read);
    written.min(read)..=written.max(read)
}

/// Who is to go, and who is not.
struct Sides<'a> {
    victims: Vec<Seen<'a>>,
    others: Vec<Seen<'a>>,
}

impl<'a> Sides<'a> {
    fn of(pool: &Pool<'_>, seen: &BTreeMap<&str, Seen<'a>>) -> Self {
        let of = |pods: &[&LivePod]| {
            let seen = pods.iter().filter_map(|pod| seen.get(&*pod.uid));
            seen.copied().collect()
        };
        Self {
            victims: of(&pool.victims),
            others: of(&pool.others),
        }
    }

    fn choose(&mut self, n: usize) {
        for seen in first_to_go(&self.others, n) {
            self.others.retain(|other| other.pod.uid != seen.pod.uid);
            self.victims.push(seen);
        }
    }

    fn release(&mut self, n: u32) {
        for seen in first_to_stay(&self.victims, size(n)) {
            self.victims.retain(|other| other.pod.uid != seen.pod.uid);
            self.others.push(seen);
        }
    }

    /// A pod that has never worked goes in place of one that could work, and an idle one in
    /// place of one that works and cannot be told to stop. Those do not come back: what was
    /// swapped in goes at once.
    fn swap(&mut self) {
        while let Some(spare) = first_to_go(&self.others, 1).pop() {
            let better = self.victims.iter().filter(|victim| match spare.work {
                Work::None => victim.work != Work::None,
                Work::Idle => victim.unable && victim.work.is_busy(),
                Work::Busy { .. } | Work::Unknown => false,
            });
            let better: Vec<Seen<'_>> = better.copied().collect();
            let Some(back) = first_to_stay(&better, 1).pop() else {
                return;
            };
            self.victims.retain(|seen| seen.pod.uid != back.pod.uid);
            self.others.retain(|seen| seen.pod.uid != spare.pod.uid);
            self.victims.push(spare);
            self.others.push(back);
        }
    }
}

// === what is remembered ===

/// Names of pods for which replicas were lowered and which are still there: others went.
fn spared(
    observed: &Observed,
    rollout: Rollout,
    memory: &mut Memory,
    replicas: u32,
) -> Vec<String> {
    let Some(taken) = &mut memory.leaving.taken else {
        return Vec::new();
    };
    taken
        .pods
        .retain(|uid, _| observed.staying().any(|pod| pod.uid == *uid));
    // Raised again before they went, or never lowered: whoever is there may stay.
    let is_over = taken.pods.is_empty() || replicas > taken.replicas;
    let is_settled = !rollout.is_incomplete() && observed.staying().count() <= size(replicas);
    if !is_over && !is_settled {
        return Vec::new();
    }
    let left = memory.leaving.taken.take().map(|taken| taken.pods);
    if is_over {
        return Vec::new();
    }
    left.into_iter().flatten().map(|(_, name)| name).collect()
}

impl Leaving {
    /// Forgets what is about pods that are gone, and what is too old to be needed.
    fn forget(&mut self, observed: &Observed, now: Now) {
        let is_there = |uid: &String| observed.staying().any(|pod| pod.uid == *uid);
        self.marked
            .retain(|uid, marked| marks::is_trusted(marked, now) && is_there(uid));
        self.ordered.retain(|uid, _| is_there(uid));
    }

    fn note_unready(&mut self, pool: &Pool<'_>, now: Now) {
        let before = std::mem::take(&mut self.unready);
        self.unready = pool
            .going
            .iter()
            .chain(&pool.victims)
            .chain(&pool.others)
            .filter(|pod| pod.ready_since.is_none())
            .map(|pod| {
                let since = before.get(&pod.uid).copied().unwrap_or(now.clock);
                (pod.uid.clone(), since)
            })
            .collect();
    }

    fn has_taken(&self, pod: &LivePod) -> bool {
        let taken = self.taken.as_ref();
        taken.is_some_and(|taken| taken.pods.contains_key(&pod.uid))
    }

    fn note_taken(&mut self, pods: &[&LivePod], replicas: u32) {
        if pods.is_empty() {
            return;
        }
        let before = self.taken.take().map(|taken| taken.pods);
        let pods = pods.iter().map(|pod| (pod.uid.clone(), pod.name.clone()));
        self.taken = Some(Taken {
            pods: before.into_iter().flatten().chain(pods).collect(),
            replicas,
        });
    }

    /// How many went that could have worked, and within which time, once none is left to go.
    fn note_gone(&mut self, taken: &[Because], left: usize, now: Now) -> Option<(u32, Duration)> {
        let taken = taken.iter().filter(|why| **why != Because::Unstarted);
        let taken = count(taken.count());
        if left > 0 || taken > 0 {
            let (before, since) = self.gone.unwrap_or((0, now.clock));
            self.gone = Some((before.saturating_add(taken), since));
        }
        if left > 0 {
            return None;
        }
        let (gone, since) = self.gone.take()?;
        let within = Duration::try_from_secs_f64(now.clock.seconds_since(since));
        (gone > 0).then_some((gone, within.unwrap_or_default()))
    }
}

// === the pods ===

fn names<'a>(pods: impl Iterator<Item = &'a Seen<'a>>) -> Vec<String> {
    pods.map(|seen| seen.pod.name.clone()).collect()
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn size(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
