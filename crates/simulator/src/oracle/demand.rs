//! The slot-seconds used if every task started as early as the engine and X permit.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use crate::{
    points::factor,
    scenario::Scenario,
    workload::{NONE, Workload},
};

/// Resolution of the curve, in seconds.
const CELL: f64 = 1.0;

/// A(t), for each type and for all.
pub(super) struct Demand {
    kinds: Vec<Curve>,
    all: Curve,
}

impl Demand {
    pub(super) fn of(scenario: &Scenario, workload: &Workload) -> Self {
        let mut kinds = vec![Growth::new(scenario.duration); scenario.types.len()];
        Unbounded::new(scenario, workload).run(|kind, from, to| kinds[kind].add(from, to));
        let kinds: Vec<Curve> = kinds.into_iter().map(Growth::curve).collect();
        let mut all = kinds[0].clone();
        for kind in &kinds[1..] {
            for (sum, used) in all.0.iter_mut().zip(&kind.0) {
                *sum += used;
            }
        }
        Self { kinds, all }
    }

    /// Slot-seconds used until `t`.
    pub(super) fn used(&self, t: f64) -> f64 {
        self.all.at(t)
    }

    pub(super) fn used_by(&self, kind: usize, t: f64) -> f64 {
        self.kinds[kind].at(t)
    }
}

/// Slot-seconds used until each cell's begin.
#[derive(Debug, Clone)]
struct Curve(Vec<f64>);

impl Curve {
    fn at(&self, t: f64) -> f64 {
        if t <= 0.0 {
            return 0.0;
        }
        let cell = (t / CELL).floor() as usize;
        let last = self.0.len() - 1;
        if cell >= last {
            return self.0[last];
        }
        let share = t / CELL - cell as f64;
        self.0[cell] + share * (self.0[cell + 1] - self.0[cell])
    }
}

/// Changes of the curve's slope: an execution adds (t − from)⁺ − (t − to)⁺.
#[derive(Debug, Clone)]
struct Growth {
    slope: Vec<f64>,
    offset: Vec<f64>,
}

impl Growth {
    fn new(duration: f64) -> Self {
        let cells = (duration / CELL).ceil() as usize + 2;
        Self {
            slope: vec![0.0; cells],
            offset: vec![0.0; cells],
        }
    }

    fn add(&mut self, from: f64, to: f64) {
        self.bend(from, 1.0);
        self.bend(to, -1.0);
    }

    fn bend(&mut self, at: f64, sign: f64) {
        let cell = (at / CELL).floor() as usize + 1;
        if let (Some(slope), Some(offset)) = (self.slope.get_mut(cell), self.offset.get_mut(cell)) {
            *slope += sign;
            *offset += sign * (cell as f64 * CELL - at);
        }
    }

    fn curve(self) -> Curve {
        let (mut used, mut slope) = (0.0, 0.0);
        let cells = self.slope.iter().zip(&self.offset);
        let curve = cells.map(|(bend, offset)| {
            used += slope * CELL + offset;
            slope += bend;
            used
        });
        Curve(curve.collect())
    }
}

/// A run without pods: only the engine's limits, outages of the server and X hold tasks back.
struct Unbounded<'a> {
    scenario: &'a Scenario,
    workload: &'a Workload,
    queues: Vec<VecDeque<Waiting>>,
    running: Vec<u32>,
    /// Window number and starts in it.
    windows: Vec<(f64, u32)>,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    added: u64,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    task: u32,
    failures: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    End {
        task: u32,
        failures: u32,
    },
    Visible {
        task: u32,
        failures: u32,
    },
    /// A limit lets start again.
    Look,
}

/// A time that is not negative: its bits are in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Time(u64);

impl Time {
    fn new(t: f64) -> Self {
        Self(t.to_bits())
    }

    fn seconds(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl<'a> Unbounded<'a> {
    fn new(scenario: &'a Scenario, workload: &'a Workload) -> Self {
        let kinds = scenario.types.len();
        Self {
            scenario,
            workload,
            queues: vec![VecDeque::new(); kinds],
            running: vec![0; kinds],
            windows: vec![(0.0, 0); kinds],
            events: BinaryHeap::new(),
            added: 0,
        }
    }

    fn add(&mut self, at: f64, event: Event) {
        self.added += 1;
        self.events
            .push(Reverse((Time::new(at), self.added, event)));
    }

    /// Calls `used` with type, start and end of each execution that starts within the run.
    fn run(mut self, mut used: impl FnMut(usize, f64, f64)) {
        let duration = self.scenario.duration;
        for kind in &self.scenario.types {
            if let Some(limit) = kind.rate_limit {
                let windows = (duration / limit.window).ceil() as u32;
                for n in 1..=windows {
                    self.add(f64::from(n) * limit.window, Event::Look);
                }
            }
        }
        for outage in &self.scenario.outages {
            self.add(outage.to, Event::Look);
        }
        let mut next = 0;
        loop {
            let task = self.workload.tasks.get(next);
            let visible_at = task.map_or(f64::INFINITY, |t| t.visible);
            let event_at = self
                .events
                .peek()
                .map_or(f64::INFINITY, |Reverse((at, ..))| at.seconds());
            let now = visible_at.min(event_at);
            if now >= duration {
                return;
            }
            if visible_at <= event_at {
                self.enqueue(next as u32, 0);
                next += 1;
            } else if let Some(Reverse((_, _, event))) = self.events.pop() {
                match event {
                    Event::End { task, failures } => self.end(task, failures, now),
                    Event::Visible { task, failures } => self.enqueue(task, failures),
                    Event::Look => (),
                }
            }
            self.start(now, &mut used);
        }
    }

    fn enqueue(&mut self, task: u32, failures: u32) {
        let kind = self.workload.tasks[task as usize].kind as usize;
        self.queues[kind].push_back(Waiting { task, failures });
    }

    fn end(&mut self, task: u32, failures: u32, now: f64) {
        let of = self.workload.tasks[task as usize];
        let kind = of.kind as usize;
        self.running[kind] -= 1;
        if let Some(fail) = &self.scenario.types[kind].fail
            && of.fails != NONE
            && failures < fail.retries
        {
            let failures = failures + 1;
            self.add(now + fail.retry_delay, Event::Visible { task, failures });
        }
    }

    /// Starts all that may.
    fn start(&mut self, now: f64, used: &mut impl FnMut(usize, f64, f64)) {
        if self.scenario.is_server_away(now) {
            return;
        }
        let slots = f64::from(self.scenario.pods.slots);
        let most = self
            .scenario
            .downstream
            .map_or(f64::INFINITY, |d| d.capacity.max(1.0));
        for kind in 0..self.queues.len() {
            let of = &self.scenario.types[kind];
            while let Some(&Waiting { task, failures }) = self.queues[kind].front() {
                let running: u32 = self.running.iter().sum();
                let limit = of.concurrent_exec_limit.unwrap_or(u32::MAX);
                if self.running[kind] >= limit || f64::from(running + 1) > most {
                    break;
                }
                if let Some(rate) = of.rate_limit {
                    let number = (now / rate.window + 1e-9).floor();
                    if number > self.windows[kind].0 {
                        self.windows[kind] = (number, 0);
                    }
                    if self.windows[kind].1 >= rate.count {
                        break;
                    }
                    self.windows[kind].1 += 1;
                }
                self.queues[kind].pop_front();
                self.running[kind] += 1;
                let drawn = self.workload.tasks[task as usize];
                let base = if drawn.fails == NONE {
                    drawn.service
                } else {
                    self.workload.attempts[(drawn.fails + failures) as usize]
                };
                // Under a plan without spare capacity pods are full.
                let full = of.slowdown.map_or(1.0, |s| s.alpha + s.beta * slots);
                let end = now + base * factor(&of.service_scale, now) * full;
                used(kind, now, end);
                self.add(end, Event::End { task, failures });
            }
        }
    }
}
