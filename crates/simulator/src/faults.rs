//! Samples that come late, are missing, or are old.

use std::collections::VecDeque;

use crate::{
    observation::Observation,
    policy::{Policy, ScaleDown},
    random::{Purpose, Stream, stream, unit},
};

/// What is wrong with the samples, beside what the scenario says. Shares are of the looks that
/// a policy takes, each by itself.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Faults {
    /// Queue sizes are this many seconds old.
    pub late: f64,
    /// Share of the looks at which no queue size can be read.
    pub missing: f64,
    /// Share of the looks at which the queue sizes are those of the look before.
    pub stale: f64,
    /// Share of the looks at which pods do not answer: their counters are those of the look
    /// before, and known to be.
    pub silent: f64,
}

impl Faults {
    /// True if something is wrong.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// A policy whose samples are faulty.
pub(crate) struct Faulty<'a> {
    policy: &'a mut dyn Policy,
    faults: Faults,
    random: Stream,
    /// Queue sizes as they were, and when, as far back as `late` reaches.
    queues: VecDeque<(f64, Vec<Option<u64>>)>,
    before: Option<Observation>,
}

impl<'a> Faulty<'a> {
    pub(crate) fn new(policy: &'a mut dyn Policy, faults: Faults, seed: u64) -> Self {
        Self {
            policy,
            faults,
            random: stream(seed, Purpose::Faults, 0),
            queues: VecDeque::new(),
            before: None,
        }
    }

    fn happens(&mut self, share: f64) -> bool {
        unit(&mut self.random) < share
    }

    /// What is seen of what could be seen.
    fn spoil(&mut self, truth: &Observation) -> Observation {
        let mut seen = truth.clone();
        let sizes = truth.tasks.iter().map(|t| t.queue).collect();
        self.queues.push_back((truth.now, sizes));
        // The youngest that is old enough holds.
        let old_enough = truth.now - self.faults.late;
        while self.queues.get(1).is_some_and(|(at, _)| *at <= old_enough) {
            self.queues.pop_front();
        }
        if let Some((at, sizes)) = self.queues.front() {
            for (task, size) in seen.tasks.iter_mut().zip(sizes) {
                // Before the start there was nothing to see.
                task.queue = if *at <= old_enough { *size } else { Some(0) };
            }
        }
        let (stale, missing, silent) = (
            self.happens(self.faults.stale),
            self.happens(self.faults.missing),
            self.happens(self.faults.silent),
        );
        if let (true, Some(before)) = (stale, &self.before) {
            for (task, before) in seen.tasks.iter_mut().zip(&before.tasks) {
                task.queue = before.queue;
            }
        }
        if missing {
            for task in &mut seen.tasks {
                task.queue = None;
            }
        }
        if let (true, Some(before)) = (silent, &self.before) {
            for (task, before) in seen.tasks.iter_mut().zip(&before.tasks) {
                let queue = task.queue;
                *task = *before;
                task.queue = queue;
            }
            seen.empty = before.empty.min(seen.ready);
            seen.idle_slots = before.idle_slots;
            seen.idle_seconds = before.idle_seconds;
            seen.stats_complete = false;
        }
        self.before = Some(seen.clone());
        seen
    }
}

impl Policy for Faulty<'_> {
    fn scale_down(&self) -> ScaleDown {
        self.policy.scale_down()
    }

    fn tick(&self) -> f64 {
        self.policy.tick()
    }

    fn desired(&mut self, seen: &Observation) -> u32 {
        let spoilt = self.spoil(seen);
        self.policy.desired(&spoilt)
    }

    fn restart(&mut self, seen: &Observation) {
        self.policy.restart(seen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::TaskObservation;

    /// Remembers what it saw.
    #[derive(Default)]
    struct Witness(Vec<(Option<u64>, u64, bool)>);

    impl Policy for Witness {
        fn scale_down(&self) -> ScaleDown {
            ScaleDown::Drain
        }
        fn tick(&self) -> f64 {
            5.0
        }
        fn desired(&mut self, seen: &Observation) -> u32 {
            self.0.push((
                seen.tasks[0].queue,
                seen.tasks[0].started,
                seen.stats_complete,
            ));
            0
        }
        fn restart(&mut self, _: &Observation) {}
    }

    fn watched(faults: Faults) -> Vec<(Option<u64>, u64, bool)> {
        let mut witness = Witness::default();
        let mut spoilt = Faulty::new(&mut witness, faults, 1);
        for n in 0..400_u64 {
            spoilt.desired(&Observation {
                now: n as f64 * 5.0,
                tasks: vec![TaskObservation {
                    queue: Some(n),
                    started: n,
                    ..TaskObservation::default()
                }],
                stats_complete: true,
                ..Observation::default()
            });
        }
        witness.0
    }

    #[test]
    fn without_faults_everything_is_seen() {
        let seen = watched(Faults::default());
        assert!((0..).zip(&seen).all(|(n, s)| *s == (Some(n), n, true)));
    }

    #[test]
    fn late_sizes_are_those_of_then() {
        let seen = watched(Faults {
            late: 12.0,
            ..Faults::default()
        });
        assert_eq!(seen[1].0, Some(0), "before the start there was nothing");
        // 12 s before 50 s is 38 s; what was seen last until then is of 35 s.
        assert_eq!(seen[10].0, Some(7));
        assert_eq!(seen[10].1, 10, "counters of pods are fresh");
    }

    #[test]
    fn shares_are_kept() {
        let share = |hit: usize| hit as f64 / 400.0;
        let missing = watched(Faults {
            missing: 0.3,
            ..Faults::default()
        });
        let hit = missing.iter().filter(|s| s.0.is_none()).count();
        assert!((share(hit) - 0.3).abs() < 0.1, "{hit}");
        let stale = watched(Faults {
            stale: 0.5,
            ..Faults::default()
        });
        let hit = stale.windows(2).filter(|w| w[0].0 == w[1].0).count();
        assert!((share(hit) - 0.5).abs() < 0.1, "{hit}");
        let silent = watched(Faults {
            silent: 0.2,
            ..Faults::default()
        });
        let hit = silent.iter().filter(|s| !s.2).count();
        assert!((share(hit) - 0.2).abs() < 0.1, "{hit}");
        assert!(
            silent.windows(2).all(|w| w[1].2 || w[1].1 == w[0].1),
            "counters stand still"
        );
    }
}
