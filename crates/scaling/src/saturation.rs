//! Whether more slots still get more done.
//!
//! Where all handlers wait for one database that serves 40 calls at a time, 80 slots take twice
//! as long for each call and get no more done. So what a number of running slots gets done is
//! compared with what it would, were each as fast as at half as many. A slower version of the
//! handler looks the same at first, so a cap has to be proven at a lower number, and is
//! withdrawn if fewer slots are no faster.

use crate::Instant;

/// How long a level that was measured is believed, and a cap that is not confirmed, in seconds.
const KEEP: f64 = 600.0;
/// Shortest time over which anything is measured, in seconds.
const SHORTEST: f64 = 8.0;
/// Tasks that must end while something is measured.
const LEAST_TASKS: f64 = 50.0;
/// A level that was measured before counts for at most so many tasks.
const MOST_TASKS: f64 = 500.0;
/// A level is a number of running slots up to this share above or below.
const SAME_LEVEL: f64 = 0.15;
/// Slots that get done what so many times fewer would: saturated.
const WASTE: f64 = 2.0;
/// More slots that take this many times as long: not more, until it is known why.
const SUSPICIOUS: f64 = 1.5;
/// A cap leaves this much above the knee: enough to see the knee move away.
const ROOM: f64 = 1.15;
/// Tasks that take no more than this many times as long as without saturation: no knee yet.
const FAST: f64 = 1.1;
/// Weight of one more level in the knee.
const KNEE_WEIGHT: f64 = 0.5;
/// So many execution times after the last slots were taken away, those of before have ended.
const SETTLING: f64 = 2.0;
/// A first cap takes away no more than half of the slots, and each execution time later half
/// of the rest: tasks that began slowly still hold their slots.
const HALF: f64 = 0.5;
/// A cap is proven below this share of the slots at which it was found.
const PROOF: f64 = 0.75;
/// So many execution times after fewer slots run, a cap that is not proven is wrong.
const PATIENCE: f64 = 4.0;
/// How long nothing is capped after a cap was found to be wrong, in seconds.
const PARDON: f64 = 600.0;
/// What is left unexplained of execution times beyond this share: the tasks have changed.
const CHANGED: f64 = 0.25;
/// Standard errors that a mean is taken to be off.
const SURE: f64 = 2.0;
/// Weight of one more tick in the estimated spread of execution times.
const SPREAD_WEIGHT: f64 = 0.1;
/// The same where the tick shows a wider spread: it is better not to be sure too soon.
const WIDER_WEIGHT: f64 = 0.5;

/// A task type's execution times at some numbers of running slots, and the cap that follows.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Saturation {
    levels: Vec<Level>,
    measuring: Option<(Instant, Sums)>,
    suspected: Option<Suspected>,
    cap: Option<Cap>,
    /// Variance of one execution time, from the differences of the means of two ticks.
    variance: Option<f64>,
    /// Tasks that ended in the tick before, and their mean.
    before: Option<(f64, f64)>,
    pardoned_until: Option<Instant>,
}

/// A steady state that was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Level {
    running: f64,
    /// Mean execution time, in seconds, and its standard error.
    execution: f64,
    error: f64,
    /// From so many tasks.
    tasks: f64,
    /// Tasks waited all the time.
    full: bool,
    at: Instant,
}

/// More slots take longer.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Suspected {
    /// Most slots that ran since.
    slots: f64,
    sums: Sums,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Cap {
    slots: f64,
    /// Slots that get as much done as more do.
    knee: f64,
    /// Execution time without saturation, in seconds.
    unsaturated: f64,
    /// The longest that tasks took, in seconds.
    slowest: f64,
    /// From when on what is measured tells of the slots that are left.
    settles: Instant,
    confirmed: Instant,
    proof: Option<Proof>,
}

/// What a cap still has to show.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Proof {
    /// Running slots where the cap was found.
    running: f64,
    /// Since when fewer run.
    since: Option<Instant>,
    sums: Sums,
}

/// Ticks added up.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Sums {
    seconds: f64,
    slot_seconds: f64,
    tasks: f64,
    task_seconds: f64,
    /// Some tick was not full.
    slack: bool,
}

impl Sums {
    fn add(&mut self, seen: Seen) {
        self.seconds += seen.seconds;
        self.slot_seconds += seen.running * seen.seconds;
        self.tasks += seen.ended;
        self.task_seconds += seen.ended_seconds;
        self.slack |= !seen.full;
    }

    fn running(&self) -> f64 {
        self.slot_seconds / self.seconds
    }

    fn execution(&self) -> f64 {
        self.task_seconds / self.tasks.max(1.0)
    }

    fn is_enough(&self, seconds: f64) -> bool {
        self.seconds >= seconds.max(SHORTEST) && self.tasks >= LEAST_TASKS
    }
}

/// What one tick showed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// Mean of the running tasks over the tick.
    pub(crate) running: f64,
    /// Tasks that ended.
    pub(crate) ended: f64,
    /// Sum of their execution times, in seconds.
    pub(crate) ended_seconds: f64,
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
        if seen.running <= 0.0 || seen.seconds <= 0.0 {
            self.measuring = None;
            self.suspected = None;
            return;
        }
        self.spread(seen);
        // While slots are taken away, what is measured tells of those that were there.
        let unsettled = |cap: &Cap| cap.proof.is_some() || now < cap.settles;
        let level = self.measure(seen, now);
        let level = level.filter(|_| !self.cap.as_ref().is_some_and(unsettled));
        if let Some(level) = level {
            self.learn(level, now);
        }
        match self.cap.take() {
            Some(cap) if now.seconds_since(cap.confirmed) >= KEEP => (),
            Some(cap) if cap.proof.is_some() => self.prove(cap, seen, now),
            Some(cap) => self.cap = Some(cap.follow(level, seen, now)),
            None => self.suspect(seen, now),
        }
    }

    /// Von Neumann's estimate: differences of neighbours leave a trend out.
    fn spread(&mut self, seen: Seen) {
        if seen.ended <= 0.0 {
            return;
        }
        let mean = seen.ended_seconds / seen.ended;
        if let Some((n, other)) = self.before.replace((seen.ended, mean)) {
            let variance = (mean - other).powi(2) / (1.0 / n + 1.0 / seen.ended);
            let known = self.variance.get_or_insert(variance);
            let weight = if variance > *known {
                WIDER_WEIGHT
            } else {
                SPREAD_WEIGHT
            };
            *known += weight * (variance - *known);
        }
    }

    /// Standard error of the mean of so many execution times.
    fn error(&self, tasks: f64) -> f64 {
        self.variance
            .map_or(f64::INFINITY, |v| (v / tasks.max(1.0)).sqrt())
    }

    /// The level, once it has been held for long enough.
    fn measure(&mut self, seen: Seen, now: Instant) -> Option<Level> {
        let (since, mut sums) = match self.measuring {
            Some((since, sums)) if near(seen.running, sums.running()) => (since, sums),
            _ => {
                let mut sums = Sums::default();
                sums.add(seen);
                self.measuring = Some((now, sums));
                return None;
            }
        };
        // Tasks that began at the level before tell of that one.
        let turned_over = now.seconds_since(since) > 1.5 * seen.execution;
        sums = if turned_over { sums } else { Sums::default() };
        sums.add(seen);
        if !sums.is_enough(1.5 * sums.execution()) {
            self.measuring = Some((since, sums));
            return None;
        }
        let level = Level {
            running: sums.running(),
            execution: sums.execution(),
            error: self.error(sums.tasks),
            tasks: sums.tasks,
            full: !sums.slack,
            at: now,
        };
        let mut next = Sums::default();
        next.add(seen);
        self.measuring = Some((since, next));
        Some(level)
    }

    fn learn(&mut self, level: Level, now: Instant) {
        if self.levels.iter().any(|other| changed(*other, level)) {
            self.levels.clear();
            self.forgive(now);
        }
        let same = |l: &Level| bucket(l.running) == bucket(level.running);
        let level = match self.levels.iter().position(same) {
            Some(i) => self.levels.swap_remove(i).with(level),
            None => level,
        };
        let error = self.error(level.tasks);
        self.levels.push(Level { error, ..level });
    }

    /// More is not asked for while it is unclear whether it helps. Where it does not, the
    /// throughput of the slots says how many would do: X·S, were they as fast as a few are.
    fn suspect(&mut self, seen: Seen, now: Instant) {
        let pardoned = self.pardoned_until.is_some_and(|until| now < until);
        let few = self.unsaturated(seen.running / SUSPICIOUS);
        let Some((execution, error)) = few.filter(|_| seen.full && !pardoned) else {
            self.suspected = None;
            return;
        };
        let fast = execution + SURE * error;
        let least = seen.ended_seconds / seen.ended.max(1.0) - SURE * self.error(seen.ended);
        if least < SUSPICIOUS * fast {
            self.suspected = None;
            return;
        }
        let suspected = self.suspected.get_or_insert(Suspected {
            slots: 0.0,
            sums: Sums::default(),
        });
        suspected.slots = suspected.slots.max(seen.running);
        suspected.sums.add(seen);
        let sums = suspected.sums;
        let running = sums.running();
        let throughput = sums.tasks / sums.seconds;
        if sums.is_enough(2.0 * fast) && throughput * fast < running / WASTE {
            let knee = throughput * execution;
            self.suspected = None;
            self.cap = Some(Cap {
                slots: (ROOM * knee).max(HALF * running),
                knee,
                unsaturated: execution,
                // Little's law.
                slowest: running / throughput,
                settles: now,
                confirmed: now,
                proof: Some(Proof {
                    running,
                    since: None,
                    sums: Sums::default(),
                }),
            });
        }
    }

    /// Fewer slots must be faster: in a saturated state the time goes with their number.
    fn prove(&mut self, mut cap: Cap, seen: Seen, now: Instant) {
        if let Some(proof) = &mut cap.proof
            && seen.running < PROOF * proof.running
        {
            let since = *proof.since.get_or_insert(now);
            proof.sums.add(seen);
            if proof.sums.is_enough(0.0) {
                let sums = std::mem::take(&mut proof.sums);
                let share = sums.running() / proof.running;
                // Tasks that began before are the slowest, and end first.
                cap.slowest = cap.slowest.max(sums.execution());
                let most = sums.execution();
                if most < cap.slowest * f64::midpoint(1.0, share) {
                    cap.proof = None;
                    cap.settles = now.after(SETTLING * cap.slowest);
                    cap.confirmed = now;
                } else if now.seconds_since(since) > PATIENCE * cap.slowest {
                    self.cap = Some(cap);
                    self.levels.clear();
                    self.forgive(now);
                    return;
                }
            }
        }
        self.cap = Some(cap);
    }

    fn forgive(&mut self, now: Instant) {
        if self.cap.take().is_some_and(|cap| cap.proof.is_some()) {
            self.pardoned_until = Some(now.after(PARDON));
        }
    }

    /// Execution time at `most` running slots or fewer, in seconds, and its standard error.
    fn unsaturated(&self, most: f64) -> Option<(f64, f64)> {
        self.levels
            .iter()
            .filter(|low| low.running <= most)
            .map(|low| (low.execution, self.error(low.tasks)))
            .min_by(|a, b| (a.0 + a.1).total_cmp(&(b.0 + b.1)))
    }

    /// Most slots that are of use; none where that is not known.
    pub(crate) fn cap(&self) -> Option<f64> {
        match (&self.cap, &self.suspected) {
            (Some(cap), _) => Some(cap.slots),
            (None, Some(suspected)) => Some(suspected.slots),
            (None, None) => None,
        }
    }

    /// The cap has just been found, so what was wanted before does not count.
    pub(crate) fn is_news(&self) -> bool {
        let news = |cap: &Cap| cap.proof.is_some() || cap.slots > ROOM * cap.knee;
        self.cap.as_ref().is_some_and(news)
    }
}

impl Level {
    /// Together with a later one of the same bucket.
    fn with(self, later: Self) -> Self {
        let before = self.tasks.min(MOST_TASKS);
        let tasks = before + later.tasks;
        let mean = |a: f64, b: f64| (a * before + b * later.tasks) / tasks;
        Self {
            running: mean(self.running, later.running),
            execution: mean(self.execution, later.execution),
            tasks,
            ..later
        }
    }
}

impl Cap {
    /// A proven cap goes after the knee.
    fn follow(mut self, level: Option<Level>, seen: Seen, now: Instant) -> Self {
        let target = ROOM * self.knee;
        if self.slots > target {
            // Down to it, by half with each execution time.
            let execution = seen.ended_seconds / seen.ended.max(1.0);
            let kept = HALF.powf(seen.seconds / execution.max(self.unsaturated));
            self.slots = (self.slots * kept).max(target);
            self.settles = now.after(SETTLING * self.slowest);
        } else if let Some(level) = level.filter(|level| level.full) {
            let slower = level.execution / self.unsaturated;
            let knee = if level.execution - level.error < FAST * self.unsaturated {
                self.knee.max(level.running) * ROOM
            } else {
                level.running / slower
            };
            self.knee += KNEE_WEIGHT * (knee - self.knee);
            self.slots = ROOM * self.knee;
            self.confirmed = now;
        }
        self
    }
}

/// What a saturated state cannot explain: there the time grows at most with the number of
/// those that wait, and never falls with it.
fn changed(a: Level, b: Level) -> bool {
    let (low, high) = if a.running <= b.running {
        (a, b)
    } else {
        (b, a)
    };
    let sure = SURE * high.error.hypot(low.error);
    let most = (1.0 + CHANGED) * low.execution * high.running / low.running;
    let least = (1.0 - CHANGED) * low.execution;
    high.execution - sure > most || high.execution + sure < least
}

/// One level is kept of each, so that those of a slow climb are not all taken for one.
fn bucket(running: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "a logarithm is small")]
    let bucket = (running.max(1e-3).ln() / (1.0 + 2.0 * SAME_LEVEL).ln()).floor() as i64;
    bucket
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= SAME_LEVEL * a.max(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Instant {
        Instant::at(std::time::Duration::from_secs(s))
    }

    /// Ticks of 5 s, each with its number of running slots and the seconds that a task takes.
    struct Run {
        saturation: Saturation,
        now: u64,
    }

    impl Run {
        fn new() -> Self {
            Self {
                saturation: Saturation::default(),
                now: 0,
            }
        }

        /// For so long, with execution times that come out 3 % off, up and down.
        fn hold(&mut self, seconds: u64, running: f64, execution: f64) -> &mut Self {
            for _ in 0..seconds / 5 {
                self.now += 5;
                let off = if self.now.is_multiple_of(2) {
                    1.03
                } else {
                    0.97
                };
                let ended = 5.0 * running / execution;
                let seen = Seen {
                    running,
                    ended,
                    ended_seconds: ended * execution * off,
                    execution,
                    seconds: 5.0,
                    full: true,
                };
                self.saturation.observe(seen, at(self.now));
            }
            self
        }

        /// Up in steps, as pods get ready.
        fn climb(&mut self, to: f64, execution: fn(f64) -> f64) -> &mut Self {
            let mut running: f64 = 20.0;
            while running < to {
                running = (running * 1.3).min(to);
                self.hold(5, running, execution(running));
            }
            self
        }

        /// As many as the cap says.
        fn obey(&mut self, seconds: u64, execution: fn(f64) -> f64) -> &mut Self {
            for _ in 0..seconds / 5 {
                let slots = self.saturation.cap().unwrap_or(75.0);
                self.hold(5, slots, execution(slots));
            }
            self
        }

        fn cap(&self) -> f64 {
            self.saturation.cap().expect("a cap")
        }
    }

    /// What a database does that serves 40 calls at a time, 2 s each.
    fn saturated(running: f64) -> f64 {
        2.0 * (running / 40.0).max(1.0)
    }

    #[test]
    fn a_saturated_downstream_is_found_capped_and_followed() {
        let mut run = Run::new();
        run.hold(100, 20.0, 2.0);
        assert_eq!(run.saturation.cap(), None);
        run.climb(160.0, saturated)
            .hold(30, 160.0, saturated(160.0));
        assert!((40.0..=160.0).contains(&run.cap()), "{}", run.cap());
        run.obey(300, saturated);
        assert!((40.0..55.0).contains(&run.cap()), "{}", run.cap());
        run.obey(1200, saturated);
        assert!((40.0..55.0).contains(&run.cap()), "{}", run.cap());
    }

    #[test]
    fn a_cap_goes_up_with_the_knee() {
        let mut run = Run::new();
        run.hold(100, 20.0, 2.0);
        run.climb(160.0, saturated)
            .hold(30, 160.0, saturated(160.0));
        run.obey(300, saturated);
        // The database has been made larger.
        run.obey(300, |_| 2.0);
        assert!(run.cap() > 100.0, "{}", run.cap());
    }

    #[test]
    fn a_slower_version_is_not_taken_for_a_saturated_downstream() {
        // Its tasks take three times as long, so three times as many slots are filled.
        let mut run = Run::new();
        run.hold(100, 25.0, 1.0).climb(75.0, |_| 3.0);
        run.hold(30, 75.0, 3.0);
        if run.saturation.cap().is_some() {
            run.obey(60, |_| 3.0);
        }
        assert_eq!(run.saturation.cap(), None, "fewer slots were no faster");
        run.hold(120, 75.0, 3.0);
        assert_eq!(run.saturation.cap(), None);
    }

    #[test]
    fn a_slower_version_at_the_same_number_forgets_what_was_known() {
        let mut run = Run::new();
        run.hold(100, 25.0, 1.0)
            .hold(60, 27.0, 3.0)
            .hold(120, 75.0, 3.0);
        assert_eq!(run.saturation.cap(), None);
    }

    #[test]
    fn what_scales_is_never_capped() {
        let mut run = Run::new();
        run.hold(60, 20.0, 1.0).climb(400.0, |_| 1.0);
        run.hold(60, 400.0, 1.0);
        assert_eq!(run.saturation.cap(), None);
    }

    #[test]
    fn a_few_long_tasks_among_short_ones_are_no_saturation() {
        let mut run = Run::new();
        run.hold(60, 4.0, 0.05);
        // Now and then one of 600 s ends; more and more slots hold such.
        for tick in 0_u32..200 {
            run.now += 5;
            let long = f64::from(tick % 3);
            let seen = Seen {
                running: 8.0 + f64::from(tick) / 10.0,
                ended: 40.0,
                ended_seconds: 2.0 + 600.0 * long,
                execution: 6.0,
                seconds: 5.0,
                full: true,
            };
            run.saturation.observe(seen, at(run.now));
            // The first one of all may keep the number where it is for a tick.
            assert_eq!(run.saturation.cap, None, "tick {tick}");
        }
    }
}
