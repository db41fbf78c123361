//! The simulation: one run of a pool under a policy, event by event.
//!
//! ```text
//! tasks ──> queues ──poll──> slots of pods ──> ended, failed (again into the queue) or killed
//!             │                   ▲
//!             └──> observation ─> policy ─> pods created, removed, taken back
//! ```

mod attempts;
mod events;
mod observe;
mod pods;
mod queues;
mod trace;

use attempts::Attempts;
use events::{Event, Events};
use observe::Looks;
use pods::{Phase, Pod, Pool, Running};
use queues::Queue;
pub use trace::{Moment, Trace};

use crate::{
    distribution::Sampler,
    points::factor,
    policy::{Policy, ScaleDown},
    random::{Purpose, Stream, below, stream, unit},
    scenario::Scenario,
    workload::Workload,
};

/// What came of a run.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Waits of all tasks that became visible, those that were not started included.
    pub waits: Vec<f64>,
    /// Tasks not started by the end.
    pub unstarted: u64,
    /// Pod-seconds.
    pub pod_seconds: f64,
    /// Executions killed.
    pub killed: u64,
    /// Their executed seconds.
    pub wasted_seconds: f64,
    /// Changes of the desired number.
    pub changes: u64,
    /// Changes whose direction differs from the one before.
    pub reversals: u64,
    /// Most active pods at one time.
    pub max_pods: u32,
    /// From a burst to the last start among its tasks, the largest over the bursts; the end of
    /// the run stands for tasks that were not started.
    pub burst_drain: Option<f64>,
    /// The run over time, where it was asked for.
    pub trace: Option<Trace>,
}

/// Runs a scenario under a policy. `trace` asks for this many moments over the run.
pub fn run(
    scenario: &Scenario,
    workload: &Workload,
    seed: u64,
    policy: &mut dyn Policy,
    trace: Option<u32>,
) -> Outcome {
    let mut world = World::new(scenario, workload, seed, policy.scale_down());
    world.looks.times_from(policy.tick(), scenario);
    let mut traced = trace.map(|moments| Trace::new(scenario, moments));
    world.begin();
    let mut restarted = false;
    let mut tick: u32 = 0;
    loop {
        let decide_at = f64::from(tick) * policy.tick();
        let trace_at = traced.as_ref().and_then(Trace::next_at);
        let until = decide_at
            .min(trace_at.unwrap_or(f64::INFINITY))
            .min(scenario.duration);
        world.advance(until);
        if until >= scenario.duration {
            break;
        }
        if trace_at == Some(until) {
            let moment = world.moment();
            if let Some(traced) = &mut traced {
                traced.push(moment);
            }
        }
        if decide_at > until {
            continue;
        }
        tick += 1;
        if scenario.is_down(until) {
            restarted = true;
            continue;
        }
        let observed = world.observe();
        if std::mem::take(&mut restarted) {
            policy.restart(&observed);
        }
        let desired = policy.desired(&observed);
        world.scale_to(desired);
    }
    let mut outcome = world.outcome();
    outcome.trace = traced;
    outcome
}

struct World<'a> {
    scenario: &'a Scenario,
    workload: &'a Workload,
    scale_down: ScaleDown,
    now: f64,
    events: Events,
    /// The next of the workload's tasks to become visible, and of its delayed ones to appear.
    next_task: usize,
    next_delayed: usize,
    queues: Vec<Queue>,
    pool: Pool,
    attempts: Attempts<'a>,
    looks: Looks,
    start_up: Sampler,
    start_ups: Stream,
    polling: Stream,
    desired: u32,
    last_step: i64,
    idle_seconds: f64,
    idle_since: f64,
    started_up: Vec<f64>,
    outcome: Outcome,
}

impl<'a> World<'a> {
    fn new(
        scenario: &'a Scenario,
        workload: &'a Workload,
        seed: u64,
        scale_down: ScaleDown,
    ) -> Self {
        Self {
            scenario,
            workload,
            scale_down,
            now: 0.0,
            events: Events::default(),
            next_task: 0,
            next_delayed: 0,
            queues: scenario.types.iter().map(Queue::new).collect(),
            pool: Pool::new(scenario.pods.slots),
            attempts: Attempts::new(workload),
            looks: Looks::default(),
            start_up: Sampler::new(&scenario.pods.start),
            start_ups: stream(seed, Purpose::StartUp, 0),
            polling: stream(seed, Purpose::Polling, 0),
            desired: 0,
            last_step: 0,
            idle_seconds: 0.0,
            idle_since: 0.0,
            started_up: Vec::new(),
            outcome: Outcome::default(),
        }
    }

    /// The pool at time 0, and what happens by the clock alone.
    fn begin(&mut self) {
        let scenario = self.scenario;
        for _ in 0..scenario.pods.initial {
            let pod = self.pool.create(0.0, 0.0);
            self.get_ready(pod);
        }
        self.desired = scenario.pods.initial;
        for (kind, queue) in (0..).zip(&self.queues) {
            if let Some(window) = queue.window() {
                self.events.add(window, Event::Window { kind });
            }
        }
        for outage in &scenario.outages {
            if scenario.is_server_away(outage.from) {
                self.events.add(outage.to, Event::ServerBack);
            }
        }
        for at in self.looks.late() {
            self.events.add(at, Event::Look);
        }
    }

    /// Everything until `until` happens, that of this very moment included.
    fn advance(&mut self, until: f64) {
        loop {
            let task = self.workload.tasks.get(self.next_task);
            let visible_at = task.map_or(f64::INFINITY, |t| t.visible);
            let delayed = self.workload.delayed.get(self.next_delayed);
            let appears_at =
                delayed.map_or(f64::INFINITY, |n| self.workload.tasks[*n as usize].appears);
            let event_at = self.events.next_at().unwrap_or(f64::INFINITY);
            let at = visible_at.min(appears_at).min(event_at);
            if at > until || at >= self.scenario.duration {
                break;
            }
            self.now = at;
            if appears_at <= at {
                let task = self.workload.delayed[self.next_delayed] as usize;
                self.queues[self.workload.tasks[task].kind as usize].delayed += 1;
                self.next_delayed += 1;
            } else if visible_at <= at {
                let number = self.next_task as u32;
                let task = self.workload.tasks[self.next_task];
                if task.visible > task.appears {
                    self.queues[task.kind as usize].delayed -= 1;
                }
                self.next_task += 1;
                self.attempts.first(number, at);
                self.enqueue(number);
            } else if let Some((_, event)) = self.events.pop() {
                self.happen(event);
            }
        }
        self.now = until;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Counted { attempt } => {
                self.queues[self.attempts.kind(attempt)].delayed += 1;
            }
            Event::Visible { attempt } => {
                self.queues[self.attempts.kind(attempt)].delayed -= 1;
                self.attempts.visible(attempt, self.now);
                self.enqueue(attempt);
            }
            Event::Poll { pod, epoch, delay } => {
                if self.pool.get(pod).epoch == epoch {
                    self.poll(pod, delay);
                }
            }
            Event::End { pod, attempt } => self.end(pod, attempt),
            Event::Ready { pod } => self.get_ready(pod),
            Event::Deadline { pod } => self.kill(pod),
            Event::Window { kind } => self.begin_window(kind as usize),
            Event::ServerBack => {
                for kind in 0..self.queues.len() {
                    for _ in 0..self.queues[kind].visible.len() {
                        if !self.wake_for(kind) {
                            break;
                        }
                    }
                }
            }
            Event::Look => {
                let sizes = self.queues.iter().map(Queue::size).collect();
                self.looks.take(sizes);
            }
        }
    }

    /// A task can be taken from now on.
    fn enqueue(&mut self, attempt: u32) {
        let kind = self.attempts.kind(attempt);
        self.queues[kind].visible.push_back(attempt);
        self.wake_for(kind);
    }

    /// Wakes an idle slot that may take a task of this type; false if there is none.
    fn wake_for(&mut self, kind: usize) -> bool {
        if self.pool.idle.is_empty() {
            return false;
        }
        self.account_idle();
        let cap = self.scenario.types[kind].slot_cap;
        let woken = self
            .pool
            .wake(&mut self.polling, |pod| has_room(pod, kind, cap));
        if let Some(pod) = woken {
            self.poll_soon(pod);
        }
        woken.is_some()
    }

    /// A slot of this pod polls after its delay.
    fn poll_soon(&mut self, pod: u32) {
        let poll = self.scenario.poll;
        let delay = poll.min + (poll.max - poll.min) * unit(&mut self.polling);
        let epoch = self.pool.get(pod).epoch;
        self.events
            .add(self.now + delay, Event::Poll { pod, epoch, delay });
    }

    /// A slot asks for each type in turn, from a random one on.
    fn poll(&mut self, pod: u32, delay: f64) {
        let kinds = self.queues.len();
        let away = !self.scenario.outages.is_empty() && self.scenario.is_server_away(self.now);
        if !away {
            let first = if kinds > 1 {
                below(&mut self.polling, kinds)
            } else {
                0
            };
            for n in 0..kinds {
                let kind = (first + n) % kinds;
                let cap = self.scenario.types[kind].slot_cap;
                if self.queues[kind].would_give(self.now) && has_room(self.pool.get(pod), kind, cap)
                {
                    self.queues[kind].polling += delay;
                    self.start(pod, kind);
                    return;
                }
            }
        }
        self.account_idle();
        self.pool.rest(pod);
        if !away {
            // What this pod has no room for, an idle slot elsewhere may take.
            for kind in 0..kinds {
                if self.scenario.types[kind].slot_cap.is_some()
                    && self.queues[kind].would_give(self.now)
                {
                    self.wake_for(kind);
                }
            }
        }
    }

    /// The head of this type's queue starts in this pod.
    fn start(&mut self, pod: u32, kind: usize) {
        let Some(attempt) = self.queues[kind].visible.pop_front() else {
            return;
        };
        self.queues[kind].start(self.now);
        self.attempts.start(attempt, self.now);
        let in_pod = self.pool.get_mut(pod);
        in_pod.running.push(Running {
            attempt,
            kind: kind as u32,
            since: self.now,
        });
        let in_pod = in_pod.running.len() as f64;
        let of = &self.scenario.types[kind];
        let mut length = self.attempts.length(attempt) * factor(&of.service_scale, self.now);
        if let Some(s) = of.slowdown {
            length *= s.alpha + s.beta * in_pod;
        }
        if let Some(downstream) = self.scenario.downstream {
            let running: u32 = self.queues.iter().map(|q| q.running).sum();
            length *= (f64::from(running) / downstream.capacity).max(1.0);
        }
        self.events
            .add(self.now + length, Event::End { pod, attempt });
    }

    fn end(&mut self, pod: u32, attempt: u32) {
        // A pod that was killed has no tasks: what would have ended now does not.
        let running = &mut self.pool.get_mut(pod).running;
        let Some(at) = running.iter().position(|r| r.attempt == attempt) else {
            return;
        };
        let ended = running.swap_remove(at);
        let kind = ended.kind as usize;
        self.queues[kind].stop(self.now);
        self.queues[kind].ended += 1;
        self.queues[kind].ended_seconds += self.now - ended.since;
        if let Some(retry) = self.attempts.retry(attempt) {
            let delay = self.scenario.types[kind]
                .fail
                .as_ref()
                .map_or(0.0, |f| f.retry_delay);
            self.queues[kind].delayed += 1;
            self.events
                .add(self.now + delay, Event::Visible { attempt: retry });
        }
        match self.pool.get(pod).phase {
            Phase::Leaving if self.pool.get(pod).running.is_empty() => {
                self.pool.remove(pod, self.now);
            }
            Phase::Ready => self.poll_soon(pod),
            _ => (),
        }
        // A limit lets one more start, or the pod has room for one more of a capped type.
        let capped = self.scenario.types[kind].slot_cap.is_some();
        if (self.queues[kind].is_limited() || capped) && self.queues[kind].would_give(self.now) {
            self.wake_for(kind);
        }
    }

    fn begin_window(&mut self, kind: usize) {
        let queue = &self.queues[kind];
        let waiting = u32::try_from(queue.visible.len()).unwrap_or(u32::MAX);
        for _ in 0..waiting.min(queue.starts_left(self.now)) {
            if !self.wake_for(kind) {
                break;
            }
        }
        if let Some(window) = self.queues[kind].window() {
            let number = (self.now / window).round() + 1.0;
            self.events
                .add(number * window, Event::Window { kind: kind as u32 });
        }
    }

    fn get_ready(&mut self, pod: u32) {
        if !self.pool.get_ready(pod) {
            return;
        }
        let created = self.pool.get(pod).created;
        if self.now > 0.0 {
            self.started_up.push(self.now - created);
        }
        for _ in 0..self.scenario.pods.slots {
            self.poll_soon(pod);
        }
    }

    /// The grace of a pod is over.
    fn kill(&mut self, pod: u32) {
        if self.pool.get(pod).phase != Phase::Leaving {
            return;
        }
        let lost = std::mem::take(&mut self.pool.get_mut(pod).running);
        self.pool.remove(pod, self.now);
        let server = self.scenario.server;
        for running in lost {
            let kind = running.kind as usize;
            self.queues[kind].stop(self.now);
            self.outcome.killed += 1;
            self.outcome.wasted_seconds += self.now - running.since;
            self.attempts.kill(running.attempt);
            let attempt = running.attempt;
            let noticed = self.now + server.response_timeout;
            self.events.add(noticed, Event::Counted { attempt });
            self.events
                .add(noticed + server.retry_delay, Event::Visible { attempt });
            if self.queues[kind].is_limited() && self.queues[kind].would_give(self.now) {
                self.wake_for(kind);
            }
        }
    }

    /// Creates, removes and takes back pods until `desired` are active.
    fn scale_to(&mut self, desired: u32) {
        let desired = desired.clamp(self.scenario.pods.min, self.scenario.pods.max);
        let step = i64::from(desired) - i64::from(self.desired);
        if step != 0 {
            self.outcome.changes += 1;
            if step.signum() == -self.last_step {
                self.outcome.reversals += 1;
            }
            self.last_step = step.signum();
            self.desired = desired;
        }
        while self.pool.active() < desired {
            if self.scale_down == ScaleDown::Drain
                && let Some(pod) = self.pool.leaving_to_keep()
            {
                self.pool.take_back(pod);
                let busy = self.pool.get(pod).running.len();
                for _ in busy..self.scenario.pods.slots as usize {
                    self.poll_soon(pod);
                }
                continue;
            }
            let scale = factor(&self.scenario.pods.start_scale, self.now);
            let start_up = self.start_up.draw(&mut self.start_ups) * scale;
            let pod = self.pool.create(self.now, self.now + start_up);
            self.events.add(self.now + start_up, Event::Ready { pod });
        }
        self.account_idle();
        while self.pool.active() > desired
            && let Some(pod) = self.pool.victim(self.scale_down)
        {
            let has_tasks = self.pool.leave(pod, self.now);
            if has_tasks && self.scale_down == ScaleDown::Blind {
                let deadline = self.now + self.scenario.pods.grace;
                self.events.add(deadline, Event::Deadline { pod });
            }
        }
    }

    /// Brings the integral of idle slots up to now; called before their number changes.
    fn account_idle(&mut self) {
        self.idle_seconds += self.pool.idle.len() as f64 * (self.now - self.idle_since);
        self.idle_since = self.now;
    }

    fn outcome(mut self) -> Outcome {
        let end = self.scenario.duration;
        self.outcome.pod_seconds = self.pool.pod_seconds(end);
        self.outcome.max_pods = self.pool.most_active;
        (self.outcome.waits, self.outcome.unstarted) = self.attempts.waits(end);
        self.outcome.burst_drain = self.attempts.burst_drain(end);
        self.outcome
    }
}

/// The pod has room for one more of this type.
fn has_room(pod: &Pod, kind: usize, cap: Option<u32>) -> bool {
    cap.is_none_or(|cap| {
        let of_kind = pod.running.iter().filter(|r| r.kind as usize == kind);
        of_kind.count() < cap as usize
    })
}
