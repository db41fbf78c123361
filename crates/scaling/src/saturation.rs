//! Whether more slots still get more done.
//!
//! Where all handlers wait for one database that serves 40 calls at a time, 80 slots take twice
//! as long for each call and get no more done. The throughput at one number of running slots is
//! compared with that at twice as many: a slower version of the handler looks the same at the
//! higher number alone, so a cap has to be proven at a lower one and is withdrawn otherwise.

use crate::Instant;

/// How long a level that was measured is believed, in seconds.
const KEEP: f64 = 600.0;
/// Shortest time over which a level is measured, in seconds.
const SHORTEST: f64 = 8.0;
/// Tasks that must end while a level is measured.
const LEAST_TASKS: f64 = 50.0;
/// A level is a number of running slots up to this share above or below.
const SAME_LEVEL: f64 = 0.15;
/// Twice the slots that get less than this share of twice as much done: saturated.
const GAIN: f64 = 0.5;
/// A cap leaves this much above the knee, so that a knee that moves is seen.
const ROOM: f64 = 1.15;
/// How long a cap holds before it is tried whether more would help, in seconds.
const HOLD: f64 = 300.0;
/// How long that is tried, in seconds, and with how many times the cap.
const PROBE: f64 = 120.0;
const PROBE_FACTOR: f64 = 1.6;
/// How long nothing is capped after a cap was found to be wrong, in seconds.
const PARDON: f64 = 600.0;
/// A level that gets this share more or less done than before: the tasks have changed.
const CHANGED: f64 = 0.25;

/// A task type's throughput at some numbers of running slots, and the cap that follows.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Saturation {
    levels: Vec<Level>,
    measuring: Option<Measuring>,
    cap: Option<Cap>,
    pardoned_until: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Level {
    running: f64,
    /// Tasks a second.
    throughput: f64,
    at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Measuring {
    running: f64,
    /// Seconds since the level was reached: first those of the tasks' turnover.
    since: Instant,
    tasks: f64,
    slot_seconds: f64,
    seconds: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Cap {
    slots: f64,
    since: Instant,
    /// Where it was found: it is proven below 0.75 of it.
    found_at: f64,
    proven: bool,
}

/// What one tick showed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// Mean of the running tasks over the tick.
    pub(crate) running: f64,
    /// Tasks that ended.
    pub(crate) ended: f64,
    /// Mean execution time, in seconds (S).
    pub(crate) execution: f64,
    /// Length of the tick, in seconds.
    pub(crate) seconds: f64,
    /// Tasks wait and no slot that may take them is free.
    pub(crate) full: bool,
}

impl Saturation {
    /// Takes in what a tick showed.
    pub(crate) fn observe(&mut self, seen: Seen, now: Instant) {
        self.levels
            .retain(|level| now.seconds_since(level.at) < KEEP);
        if !seen.full || seen.running <= 0.0 || seen.seconds <= 0.0 {
            self.measuring = None;
            return;
        }
        let measuring = match self.measuring {
            Some(m) if near(seen.running, m.running) => self.measuring.insert(Measuring { ..m }),
            _ => {
                self.measuring = Some(Measuring {
                    running: seen.running,
                    since: now,
                    tasks: 0.0,
                    slot_seconds: 0.0,
                    seconds: 0.0,
                });
                return;
            }
        };
        // Tasks that began at the level before tell of that one.
        if now.seconds_since(measuring.since) <= seen.execution {
            return;
        }
        measuring.tasks += seen.ended;
        measuring.slot_seconds += seen.running * seen.seconds;
        measuring.seconds += seen.seconds;
        if measuring.seconds < (1.5 * seen.execution).max(SHORTEST) || measuring.tasks < LEAST_TASKS
        {
            return;
        }
        let level = Level {
            running: measuring.slot_seconds / measuring.seconds,
            throughput: measuring.tasks / measuring.seconds,
            at: now,
        };
        *measuring = Measuring {
            tasks: 0.0,
            slot_seconds: 0.0,
            seconds: 0.0,
            ..*measuring
        };
        self.learn(level, now);
    }

    fn learn(&mut self, level: Level, now: Instant) {
        let known = self
            .levels
            .iter()
            .position(|l| near(level.running, l.running));
        if let Some(i) = known {
            let before = self.levels[i];
            let expected = before.throughput * level.running / before.running;
            if (level.throughput / expected - 1.0).abs() > CHANGED {
                self.levels.clear();
                self.cap = None;
            } else {
                self.levels.remove(i);
            }
        }
        self.levels.push(level);
        self.prove(level, now);
        self.probe(level);
        if self.cap.is_none() && self.pardoned_until.is_none_or(|until| now >= until) {
            self.cap = self.knee(level).map(|slots| Cap {
                slots,
                since: now,
                found_at: level.running,
                proven: false,
            });
        }
    }

    /// Whether the lower level that a cap led to gets as much done as the higher one did.
    fn prove(&mut self, level: Level, now: Instant) {
        let Some(cap) = &mut self.cap else { return };
        if cap.proven || level.running >= 0.75 * cap.found_at {
            return;
        }
        let Some(high) = self.levels.iter().find(|l| near(l.running, cap.found_at)) else {
            return;
        };
        let knee = level.running * high.throughput / level.throughput;
        if knee > 0.75 * cap.found_at {
            self.cap = None;
            self.levels.clear();
            self.pardoned_until = Some(now.after(PARDON));
        } else {
            cap.slots = ROOM * knee;
            cap.proven = true;
        }
    }

    /// A probe above the cap that gets more done takes the cap away.
    fn probe(&mut self, level: Level) {
        let Some(cap) = self.cap else { return };
        let within = |l: &&Level| l.running <= ROOM * cap.slots && !near(l.running, level.running);
        let below = self.levels.iter().filter(within);
        let Some(below) = below.max_by(|a, b| a.running.total_cmp(&b.running)) else {
            return;
        };
        let gain =
            (level.throughput / below.throughput - 1.0) / (level.running / below.running - 1.0);
        if level.running > ROOM * cap.slots && gain > GAIN {
            self.cap = None;
        }
    }

    /// The slots that get as much done as `high` does, where a level of at most half shows it.
    fn knee(&self, high: Level) -> Option<f64> {
        self.levels
            .iter()
            .filter(|low| low.running <= high.running / 2.0)
            .filter(|low| high.throughput / low.throughput < GAIN * high.running / low.running)
            .map(|low| ROOM * low.running * high.throughput / low.throughput)
            .reduce(f64::max)
    }

    /// Most slots that are of use; none where that is not known.
    pub(crate) fn cap(&mut self, now: Instant) -> Option<f64> {
        let cap = self.cap.as_mut()?;
        let age = now.seconds_since(cap.since);
        if age < HOLD {
            Some(cap.slots)
        } else if age < HOLD + PROBE {
            Some(cap.slots * PROBE_FACTOR)
        } else {
            // The probe showed no more than before, or it would have dropped the cap.
            cap.since = now;
            Some(cap.slots)
        }
    }
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= SAME_LEVEL * a.max(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds ticks of 5 s at `running` slots, each of which takes `execution` seconds a task.
    fn feed(s: &mut Saturation, from: u64, to: u64, running: f64, execution: f64) {
        for t in (from..to).step_by(5) {
            let seen = Seen {
                running,
                ended: 5.0 * running / execution,
                execution,
                seconds: 5.0,
                full: true,
            };
            s.observe(seen, at(t));
        }
    }

    fn at(s: u64) -> Instant {
        Instant::at(std::time::Duration::from_secs(s))
    }

    /// What a database does that serves 40 calls at a time, 2 s each.
    fn saturated(running: f64) -> f64 {
        2.0 * (running / 40.0).max(1.0)
    }

    #[test]
    fn a_saturated_downstream_is_found_capped_and_proven() {
        let mut s = Saturation::default();
        feed(&mut s, 0, 60, 20.0, saturated(20.0));
        assert_eq!(s.cap(at(60)), None);
        feed(&mut s, 60, 160, 160.0, saturated(160.0));
        let cap = s.cap(at(160)).unwrap();
        assert!((40.0..50.0).contains(&cap), "{cap}");
        feed(&mut s, 160, 260, cap, saturated(cap));
        let cap = s.cap(at(260)).unwrap();
        assert!((40.0..60.0).contains(&cap), "{cap}");
        // After a while it is tried whether more would help, and it would not.
        assert!(s.cap(at(480)).unwrap() > 1.5 * cap);
        feed(&mut s, 480, 560, 1.6 * cap, saturated(1.6 * cap));
        let again = s.cap(at(600)).unwrap();
        assert!((40.0..60.0).contains(&again), "{again}");
    }

    #[test]
    fn a_slower_version_is_not_taken_for_a_saturated_downstream() {
        let mut s = Saturation::default();
        feed(&mut s, 0, 60, 20.0, 1.0);
        feed(&mut s, 60, 160, 60.0, 4.0);
        let cap = s.cap(at(160)).unwrap();
        assert!(cap < 30.0, "{cap}");
        // The cap is followed, and fewer slots get less done in the same proportion.
        feed(&mut s, 160, 260, cap, 4.0);
        assert_eq!(s.cap(at(260)), None);
        feed(&mut s, 260, 360, 60.0, 4.0);
        assert_eq!(s.cap(at(360)), None);
    }

    #[test]
    fn what_scales_is_never_capped() {
        let mut s = Saturation::default();
        for (i, running) in [5.0, 10.0, 20.0, 40.0, 80.0, 160.0].into_iter().enumerate() {
            let from = 60 * u64::try_from(i).unwrap();
            feed(&mut s, from, from + 60, running, 1.0);
            assert_eq!(s.cap(at(from + 60)), None);
        }
    }

    #[test]
    fn a_probe_that_gets_more_done_takes_the_cap_away() {
        let mut s = Saturation::default();
        feed(&mut s, 0, 60, 20.0, saturated(20.0));
        feed(&mut s, 60, 160, 160.0, saturated(160.0));
        let cap = s.cap(at(160)).unwrap();
        feed(&mut s, 160, 460, cap, saturated(cap));
        // The database has been made larger.
        let probe = s.cap(at(480)).unwrap();
        assert!(probe > cap);
        feed(&mut s, 480, 560, probe, 2.0);
        assert_eq!(s.cap(at(560)), None);
    }
}
