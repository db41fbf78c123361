//! What becomes of each task: when it could be taken first, and when its last attempt started.

use crate::workload::{NONE, Workload};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Not visible yet.
    Hidden,
    /// Waits, or was killed and is not back yet.
    Waiting,
    /// Runs or has ended.
    Started,
}

/// A task as the waits are counted: a retry after a failure is one of its own, a second attempt
/// after a kill is not.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    task: u32,
    /// Failures before it.
    number: u32,
    fate: Fate,
    visible: f64,
    started: f64,
}

/// All attempts; those with the numbers of the workload's tasks are their first ones.
#[derive(Debug)]
pub(super) struct Attempts<'a> {
    workload: &'a Workload,
    retries: &'a [u32],
    all: Vec<Attempt>,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(workload: &'a Workload) -> Self {
        let all = (0..workload.tasks.len() as u32).map(|task| Attempt {
            task,
            number: 0,
            fate: Fate::Hidden,
            visible: 0.0,
            started: 0.0,
        });
        Self {
            workload,
            retries: &workload.retries,
            all: all.collect(),
        }
    }

    /// The type of its task.
    pub(super) fn kind(&self, attempt: u32) -> usize {
        self.task(attempt).kind as usize
    }

    /// Execution time before all factors.
    pub(super) fn length(&self, attempt: u32) -> f64 {
        let task = self.task(attempt);
        if task.fails == NONE {
            task.service
        } else {
            let number = self.all[attempt as usize].number;
            self.workload.attempts[(task.fails + number) as usize]
        }
    }

    /// A task of the workload can be taken.
    pub(super) fn first(&mut self, task: u32, now: f64) {
        self.visible(task, now);
    }

    /// It can be taken; a killed one keeps the time at which it first could.
    pub(super) fn visible(&mut self, attempt: u32, now: f64) {
        let attempt = &mut self.all[attempt as usize];
        if attempt.fate == Fate::Hidden {
            attempt.fate = Fate::Waiting;
            attempt.visible = now;
        }
    }

    pub(super) fn start(&mut self, attempt: u32, now: f64) {
        let attempt = &mut self.all[attempt as usize];
        attempt.fate = Fate::Started;
        attempt.started = now;
    }

    pub(super) fn kill(&mut self, attempt: u32) {
        self.all[attempt as usize].fate = Fate::Waiting;
    }

    /// The attempt that follows one that ended, if that failed and has retries left.
    pub(super) fn retry(&mut self, attempt: u32) -> Option<u32> {
        let task = self.task(attempt);
        if task.fails == NONE {
            return None;
        }
        let before = self.all[attempt as usize];
        let number = before.number + 1;
        if number > self.retries[task.kind as usize] {
            return None;
        }
        self.all.push(Attempt {
            number,
            fate: Fate::Hidden,
            ..before
        });
        Some(self.all.len() as u32 - 1)
    }

    /// When a waiting attempt could be taken first.
    pub(super) fn visible_since(&self, attempt: u32) -> f64 {
        self.all[attempt as usize].visible
    }

    /// All waits at the end of the run, and how many of them were not over.
    pub(super) fn waits(&self, end: f64) -> (Vec<f64>, u64) {
        let mut unstarted = 0;
        let waits = self.all.iter().filter_map(|a| match a.fate {
            Fate::Hidden => None,
            Fate::Waiting => {
                unstarted += 1;
                Some(end - a.visible)
            }
            Fate::Started => Some(a.started - a.visible),
        });
        (waits.collect(), unstarted)
    }

    /// From a burst to the last start among its tasks, the largest over the bursts.
    pub(super) fn burst_drain(&self, end: f64) -> Option<f64> {
        let of_bursts = self.all.iter().filter_map(|a| {
            let burst = self.workload.tasks[a.task as usize].burst;
            if burst == NONE || a.number > 0 || a.fate == Fate::Hidden {
                return None;
            }
            let started = match a.fate {
                Fate::Started => a.started,
                _ => end,
            };
            Some(started - self.workload.bursts[burst as usize])
        });
        of_bursts.reduce(f64::max)
    }

    fn task(&self, attempt: u32) -> &crate::workload::Task {
        &self.workload.tasks[self.all[attempt as usize].task as usize]
    }
}
