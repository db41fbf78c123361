//! The pool: pods, their slots, and who goes first.

use crate::{
    policy::ScaleDown,
    random::{Stream, below},
};

/// A task that runs in a pod.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    pub(super) attempt: u32,
    pub(super) kind: u32,
    pub(super) since: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    Ready,
    Leaving,
    Gone,
}

#[derive(Debug, Clone)]
pub(super) struct Pod {
    pub(super) phase: Phase,
    pub(super) created: f64,
    pub(super) ready_at: f64,
    pub(super) running: Vec<Running>,
    pub(super) idle: u32,
    /// Polls that were on their way when the pod was told to leave count no more.
    pub(super) epoch: u32,
}

/// All pods that ever were.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) pods: Vec<Pod>,
    /// Those that are not gone, in order of creation.
    pub(super) present: Vec<u32>,
    /// An entry for each idle slot: its pod.
    pub(super) idle: Vec<u32>,
    pub(super) ready: u32,
    pub(super) starting: u32,
    pub(super) most_active: u32,
    /// Pod-seconds of those that are gone.
    gone_seconds: f64,
    slots: u32,
}

impl Pool {
    pub(super) fn new(slots: u32) -> Self {
        Self {
            pods: Vec::new(),
            present: Vec::new(),
            idle: Vec::new(),
            ready: 0,
            starting: 0,
            most_active: 0,
            gone_seconds: 0.0,
            slots,
        }
    }

    pub(super) fn active(&self) -> u32 {
        self.ready + self.starting
    }

    pub(super) fn get(&self, pod: u32) -> &Pod {
        &self.pods[pod as usize]
    }

    pub(super) fn get_mut(&mut self, pod: u32) -> &mut Pod {
        &mut self.pods[pod as usize]
    }

    pub(super) fn present(&self) -> impl Iterator<Item = &Pod> {
        self.present.iter().map(|p| self.get(*p))
    }

    /// A pod is created; it is ready at `ready_at`.
    pub(super) fn create(&mut self, now: f64, ready_at: f64) -> u32 {
        let number = self.pods.len() as u32;
        self.pods.push(Pod {
            phase: Phase::Starting,
            created: now,
            ready_at,
            running: Vec::with_capacity(self.slots.min(64) as usize),
            idle: 0,
            epoch: 0,
        });
        self.present.push(number);
        self.starting += 1;
        self.most_active = self.most_active.max(self.active());
        number
    }

    /// A starting pod is ready; true unless it is gone.
    pub(super) fn get_ready(&mut self, pod: u32) -> bool {
        if self.get(pod).phase != Phase::Starting {
            return false;
        }
        self.get_mut(pod).phase = Phase::Ready;
        self.starting -= 1;
        self.ready += 1;
        true
    }

    /// A slot of a ready pod found nothing.
    pub(super) fn rest(&mut self, pod: u32) {
        self.get_mut(pod).idle += 1;
        self.idle.push(pod);
    }

    /// A random idle slot that may take a task is woken: its pod, or `None` if there is none.
    pub(super) fn wake(
        &mut self,
        random: &mut Stream,
        may_take: impl Fn(&Pod) -> bool,
    ) -> Option<u32> {
        // Mostly the first drawn will do; where few pods may, they are looked for one by one.
        const DRAWS: usize = 8;
        if self.idle.is_empty() {
            return None;
        }
        let mut at = below(random, self.idle.len());
        for draw in 0.. {
            if may_take(self.get(self.idle[at])) {
                break;
            }
            if draw < DRAWS {
                at = below(random, self.idle.len());
            } else if draw < DRAWS + self.idle.len() {
                at = (at + 1) % self.idle.len();
            } else {
                return None;
            }
        }
        let pod = self.idle.swap_remove(at);
        self.get_mut(pod).idle -= 1;
        Some(pod)
    }

    /// The leaving pod to take back first: that with most tasks, then the youngest.
    pub(super) fn leaving_to_keep(&self) -> Option<u32> {
        let leaving = self.present.iter().copied();
        leaving
            .filter(|p| self.get(*p).phase == Phase::Leaving)
            .max_by_key(|p| (self.get(*p).running.len(), *p))
    }

    /// A leaving pod stays.
    pub(super) fn take_back(&mut self, pod: u32) {
        self.get_mut(pod).phase = Phase::Ready;
        self.ready += 1;
        self.most_active = self.most_active.max(self.active());
    }

    /// The pod that is to go next: starting ones first, the newest of them; then of the ready
    /// ones the emptiest (drain) and the most recently ready.
    pub(super) fn victim(&self, how: ScaleDown) -> Option<u32> {
        let newest_starting = self
            .present
            .iter()
            .rev()
            .find(|p| self.get(**p).phase == Phase::Starting);
        if newest_starting.is_some() {
            return newest_starting.copied();
        }
        let ready = self.present.iter().copied();
        ready
            .filter(|p| self.get(*p).phase == Phase::Ready)
            .min_by(|a, b| {
                let (x, y) = (self.get(*a), self.get(*b));
                let fewest = match how {
                    ScaleDown::Blind => std::cmp::Ordering::Equal,
                    ScaleDown::Drain => x.running.len().cmp(&y.running.len()),
                };
                fewest
                    .then_with(|| y.ready_at.total_cmp(&x.ready_at))
                    .then_with(|| b.cmp(a))
            })
    }

    /// A pod stops polling; true if it has tasks to wait for, else it is gone.
    pub(super) fn leave(&mut self, pod: u32, now: f64) -> bool {
        if self.get(pod).phase == Phase::Starting {
            self.starting -= 1;
        } else {
            self.ready -= 1;
        }
        if self.get(pod).idle > 0 {
            self.idle.retain(|p| *p != pod);
        }
        let leaving = self.get_mut(pod);
        leaving.idle = 0;
        leaving.epoch += 1;
        leaving.phase = Phase::Leaving;
        if leaving.running.is_empty() {
            self.remove(pod, now);
            return false;
        }
        true
    }

    /// A leaving pod is gone.
    pub(super) fn remove(&mut self, pod: u32, now: f64) {
        self.get_mut(pod).phase = Phase::Gone;
        self.gone_seconds += now - self.get(pod).created;
        self.present.retain(|p| *p != pod);
    }

    /// From creation to removal or `now`, over all pods.
    pub(super) fn pod_seconds(&self, now: f64) -> f64 {
        self.gone_seconds + self.present().map(|p| now - p.created).sum::<f64>()
    }
}
