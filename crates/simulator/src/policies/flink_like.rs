//! The Flink autoscaler's rule, with times that fit W instead of its minutes.
//! <https://nightlies.apache.org/flink/flink-kubernetes-operator-docs-main/docs/custom-resource/autoscaler/>

use std::collections::VecDeque;

use crate::{
    observation::Observation,
    policy::{Policy, ScaleDown},
    scenario::Scenario,
};

/// Seconds between two decisions.
const TICK: f64 = 15.0;
/// Seconds over which rates are measured.
const WINDOW: f64 = 60.0;
/// Fewer must be enough for this long.
const DOWN_DELAY: f64 = 240.0;
/// With nothing to do for this long, all pods go.
const IDLE: f64 = 60.0;
/// Utilisation aimed at, and the band in which nothing changes.
const AIM: f64 = 0.7;
const HIGH: f64 = 1.0;
const LOW: f64 = 0.4;
/// A backlog that takes longer than this at the rate of arrivals forbids to scale down.
const BACKLOGGED: f64 = 300.0;
/// Seconds that a change takes until it helps.
const RESTART: f64 = 10.0;
/// Seconds a task takes before any was seen to end.
const FIRST_GUESS: f64 = 1.0;

/// target = lag/C + rate·R/C + rate/utilisation, in slots by the measured time a task takes.
#[derive(Debug)]
pub struct FlinkLike {
    catch_up: f64,
    slots: f64,
    /// Busy seconds per task, by type.
    each: Vec<f64>,
    idle_since: Option<f64>,
    /// Time, queue sizes, and started, ended and executing seconds by type.
    seen: VecDeque<(f64, Vec<Point>)>,
    /// Since when fewer would do, and the most that would.
    fewer: Option<(f64, u32)>,
}

#[derive(Debug, Clone, Copy)]
struct Point {
    queue: f64,
    started: f64,
    ended: f64,
    occupied: f64,
}

impl FlinkLike {
    /// For this scenario's pool.
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            catch_up: scenario.target.max_wait,
            slots: f64::from(scenario.pods.slots),
            each: vec![FIRST_GUESS; scenario.types.len()],
            idle_since: None,
            seen: VecDeque::new(),
            fewer: None,
        }
    }

    /// The time a task takes, where some ended in the window.
    fn measure(&mut self) {
        let (Some((_, before)), Some((_, now))) = (self.seen.front(), self.seen.back()) else {
            return;
        };
        for ((a, b), each) in before.iter().zip(now).zip(&mut self.each) {
            if b.ended > a.ended {
                *each = (b.occupied - a.occupied) / (b.ended - a.ended);
            }
        }
    }

    /// Slots wanted at a utilisation, and whether a backlog is being caught up with.
    fn slots(&self, utilisation: f64) -> Option<(f64, bool)> {
        let ((from, before), (to, now)) = (self.seen.front()?, self.seen.back()?);
        let seconds = to - from;
        if seconds <= 0.0 {
            return None;
        }
        let mut slots = 0.0;
        let (mut lag, mut rates) = (0.0, 0.0);
        for ((a, b), each) in before.iter().zip(now).zip(&self.each) {
            let rate = ((b.started - a.started + b.queue - a.queue) / seconds).max(0.0);
            slots += each
                * (b.queue / self.catch_up
                    + rate * RESTART / self.catch_up
                    + rate / utilisation);
            lag += b.queue;
            rates += rate;
        }
        Some((slots, lag > rates * BACKLOGGED))
    }
}

impl Policy for FlinkLike {
    fn scale_down(&self) -> ScaleDown {
        ScaleDown::Blind
    }

    fn tick(&self) -> f64 {
        TICK
    }

    fn desired(&mut self, seen: &Observation) -> u32 {
        let current = seen.active();
        if seen.queue().is_none() {
            return current;
        }
        let points = seen.tasks.iter().map(|t| Point {
            queue: t.queue.unwrap_or(0) as f64,
            started: t.started as f64,
            ended: t.ended as f64,
            occupied: t.occupied_seconds,
        });
        self.seen.push_back((seen.now, points.collect()));
        while self.seen.len() > 2 && seen.now - self.seen[0].0 > WINDOW {
            self.seen.pop_front();
        }
        self.measure();
        let busy = seen.tasks.iter().any(|t| t.queue != Some(0) || t.running > 0);
        if busy {
            self.idle_since = None;
        } else if seen.now - *self.idle_since.get_or_insert(seen.now) >= IDLE {
            self.fewer = None;
            return 0;
        }
        let (Some((aim, backlogged)), Some((high, _)), Some((low, _))) =
            (self.slots(AIM), self.slots(HIGH), self.slots(LOW))
        else {
            return current;
        };
        let have = f64::from(current) * self.slots;
        let wanted = (aim / self.slots - 1e-9).ceil() as u32;
        if have < high || (current == 0 && wanted > 0) {
            self.fewer = None;
            return wanted.max(current);
        }
        if have <= low || backlogged || wanted >= current {
            self.fewer = None;
            return current;
        }
        let (since, most) = self.fewer.get_or_insert((seen.now, wanted));
        *most = wanted.max(*most);
        if seen.now - *since < DOWN_DELAY {
            return current;
        }
        let most = *most;
        self.fewer = None;
        most
    }

    /// Its metrics are in a ConfigMap.
    fn restart(&mut self, _: &Observation) {}
}
