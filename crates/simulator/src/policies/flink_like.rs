//! The Flink autoscaler's rule, with times that fit W instead of its minutes, and without its
//! band on the way up.
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
const DOWN_DELAY: f64 = 210.0;
/// With nothing to do for this long, all pods go.
const IDLE: f64 = 60.0;
/// Utilisation aimed at, and that below which pods are taken away.
const AIM: f64 = 0.7;
const LOW: f64 = 0.4;
/// A backlog that takes longer than this at the rate of arrivals forbids to scale down.
const BACKLOGGED: f64 = 300.0;
/// A backlog is caught up with within this many times W.
const CATCH_UP: f64 = 1.5;
/// Seconds that a change takes until it helps.
const RESTART: f64 = 12.0;
/// Seconds a task takes before any was seen to end.
const FIRST_GUESS: f64 = 1.0;

/// target = lag/C + rate·R/C + rate/utilisation, in slots by the measured busy time of a task.
/// What it measures is in a ConfigMap and survives a restart.
#[derive(Debug)]
pub struct FlinkLike {
    catch_up: f64,
    slots: f64,
    /// Busy seconds a task.
    each: f64,
    seen: VecDeque<Point>,
    /// Since when fewer would do, and the most that would.
    fewer: Option<(f64, u32)>,
    idle_since: Option<f64>,
}

/// All types together, counted from the start.
#[derive(Debug, Clone, Copy)]
struct Point {
    at: f64,
    lag: f64,
    started: f64,
    ended: f64,
    busy: f64,
}

impl FlinkLike {
    /// For this scenario's pool.
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            catch_up: CATCH_UP * scenario.target.max_wait,
            slots: f64::from(scenario.pods.slots),
            each: FIRST_GUESS,
            seen: VecDeque::new(),
            fewer: None,
            idle_since: None,
        }
    }

    fn measure(&mut self, seen: &Observation, lag: u64) {
        let mut point = Point {
            at: seen.now,
            lag: lag as f64,
            started: 0.0,
            ended: 0.0,
            busy: 0.0,
        };
        for task in &seen.tasks {
            point.started += task.started as f64;
            point.ended += task.ended as f64;
            point.busy += task.occupied_seconds;
        }
        self.seen.push_back(point);
        while self.seen.len() > 2 && seen.now - self.seen[0].at > WINDOW {
            self.seen.pop_front();
        }
        let ended = point.ended - self.seen[0].ended;
        if ended > 0.0 {
            self.each = (point.busy - self.seen[0].busy) / ended;
        }
    }

    /// Lag and the rate of arrivals; nothing before a second look.
    fn rates(&self) -> Option<(f64, f64)> {
        let (from, to) = (self.seen.front()?, self.seen.back()?);
        let seconds = to.at - from.at;
        let arrived = to.started - from.started + to.lag - from.lag;
        (seconds > 0.0).then(|| (to.lag, (arrived / seconds).max(0.0)))
    }

    fn idles(&mut self, seen: &Observation, lag: u64) -> bool {
        if lag > 0 || seen.running() > 0 {
            self.idle_since = None;
            return false;
        }
        seen.now - *self.idle_since.get_or_insert(seen.now) >= IDLE
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
        let Some(queue) = seen.queue() else {
            return current;
        };
        self.measure(seen, queue);
        if self.idles(seen, queue) {
            self.fewer = None;
            return 0;
        }
        let Some((lag, rate)) = self.rates() else {
            return current;
        };
        let slots = |utilisation: f64| {
            self.each * (lag / self.catch_up + rate * RESTART / self.catch_up + rate / utilisation)
        };
        let wanted = (slots(AIM) / self.slots - 1e-9).ceil() as u32;
        let too_many = f64::from(current) * self.slots > slots(LOW);
        if wanted >= current || !too_many || lag > rate * BACKLOGGED {
            self.fewer = None;
            return wanted.max(current);
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

    fn restart(&mut self, _: &Observation) {}
}
