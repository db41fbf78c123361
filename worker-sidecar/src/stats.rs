//! What the sidecar tells the operator: `/stats`, and the tallies it is made of.
//!
//! Operator and sidecars differ in their versions during an upgrade, so `/stats` stays compatible
//! two versions back and forth: no field goes or changes its meaning, and a new one has a default
//! for those who do not send it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    outcome::{End, Outcome},
    sketch::Sketch,
};

/// The version of [`Stats`].
pub const VERSION: u32 = 1;

/// A snapshot of a sidecar. Counters count since its start; times are epoch milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Rises when a field changes its meaning; new fields do not raise it.
    pub version: u32,
    /// When the sidecar started.
    pub started_at: i64,
    /// When this was read.
    pub observed_at: i64,
    /// It is shutting down: it polls no more.
    pub draining: bool,
    /// It was told to take no more work for now.
    pub cordoned: bool,
    /// The handler takes calls.
    pub handler_ready: bool,
    /// How many tasks may be in work at once.
    pub slots: usize,
    /// How many are, and how many results wait to be delivered: a pod with either is busy. A task
    /// counts from the moment at which its poll no longer does.
    pub in_flight: usize,
    /// How many results lie in the spool, not delivered yet.
    #[serde(default)]
    pub spooled: usize,
    /// Polls in the air, which may still bring tasks to a sidecar that was cordoned meanwhile.
    #[serde(default)]
    pub polls_in_flight: usize,
    /// The task types, in the order of the configuration.
    pub tasks: Vec<TaskStats>,
}

/// A task type's part of [`Stats`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskStats {
    /// Its name in Conductor.
    pub task_type: String,
    /// Its domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// How many of the slots it may use.
    pub slots: usize,
    /// How many tasks are in work, from their poll to the accepted report.
    pub in_flight: usize,
    /// When the oldest of them arrived.
    pub oldest_start: Option<i64>,
    /// Calls of the handler begun.
    pub started: u64,
    /// Ended as COMPLETED.
    pub completed: u64,
    /// Ended as failed, retriable or not.
    pub failed: u64,
    /// Given back without an end.
    pub handed_back: u64,
    /// Put off by the handler's own word (202).
    pub deferred: u64,
    /// Slot-seconds in calls of the handler, running ones included.
    pub executing_seconds: f64,
    /// Slot-seconds from the poll that brought a task to its accepted report, those in work
    /// included.
    pub occupied_seconds: f64,
    /// Polls that were answered or failed.
    pub polls: u64,
    /// Polls that brought nothing.
    pub empty_polls: u64,
    /// Polls that failed.
    pub poll_errors: u64,
    /// A slot is free and the last poll brought nothing.
    pub idle: bool,
    /// Seconds in which answered polls had found nothing.
    #[serde(default)]
    pub idle_seconds: f64,
    /// The handler has failed nearly all of the last tasks: no more are taken, or one as a test.
    #[serde(default)]
    pub broken: bool,
    /// How long calls of the handler take.
    pub execute_seconds: Digest,
    /// How long tasks wait from being scheduled to their first start.
    pub wait_seconds: Digest,
}

/// Durations in seconds: count and sum since the start, quantiles of the recent ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "said above")]
pub struct Digest {
    pub count: u64,
    pub sum: f64,
    pub p50: f64,
    pub p95: f64,
}

/// The time of day, in epoch milliseconds.
pub fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A task type's counts while the sidecar runs.
#[derive(Debug)]
pub struct Tally(Mutex<Counts>);

#[derive(Debug)]
struct Counts {
    next: u64,
    /// Those in work, by arrival: when by our clock, and when by the wall's.
    present: BTreeMap<u64, i64>,
    occupied: Occupancy,
    executing: Occupancy,
    started: u64,
    completed: u64,
    failed: u64,
    handed_back: u64,
    deferred: u64,
    polls: u64,
    empty_polls: u64,
    poll_errors: u64,
    last_poll_empty: bool,
    idle: Duration,
    execute: Sketch,
    wait: Sketch,
}

/// Time summed over things that begin and end, running ones included at any moment: the
/// ended ones' time, plus for those running `n × now − Σ start`.
#[derive(Debug)]
struct Occupancy {
    origin: Instant,
    ended: Duration,
    running: u32,
    starts: Duration,
}

/// A task in work; dropping it ends its stay.
#[derive(Debug)]
pub struct Stay {
    tally: Arc<Tally>,
    id: u64,
    since: Instant,
}

/// A call of the handler; dropping it ends it.
#[derive(Debug)]
pub struct Call {
    tally: Arc<Tally>,
    since: Instant,
}

impl Occupancy {
    fn new(origin: Instant) -> Self {
        Self {
            origin,
            ended: Duration::ZERO,
            running: 0,
            starts: Duration::ZERO,
        }
    }

    fn begin(&mut self, at: Instant) {
        self.running += 1;
        self.starts += at - self.origin;
    }

    fn end(&mut self, began: Instant, at: Instant) {
        self.running -= 1;
        self.starts -= began - self.origin;
        self.ended += at - began;
    }

    fn total(&self, at: Instant) -> Duration {
        self.ended + ((at - self.origin) * self.running).saturating_sub(self.starts)
    }
}

impl Tally {
    /// Nothing counted yet.
    pub fn new() -> Arc<Self> {
        let origin = Instant::now();
        Arc::new(Self(Mutex::new(Counts {
            next: 0,
            present: BTreeMap::new(),
            occupied: Occupancy::new(origin),
            executing: Occupancy::new(origin),
            started: 0,
            completed: 0,
            failed: 0,
            handed_back: 0,
            deferred: 0,
            polls: 0,
            empty_polls: 0,
            poll_errors: 0,
            last_poll_empty: false,
            idle: Duration::ZERO,
            execute: Sketch::default(),
            wait: Sketch::default(),
        })))
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A poll brought so many tasks, after there had been none for `idle`.
    pub fn polled(&self, got: usize, idle: Duration) {
        let mut counts = self.counts();
        counts.idle += idle;
        counts.polls += 1;
        counts.empty_polls += u64::from(got == 0);
        counts.last_poll_empty = got == 0;
    }

    /// A poll failed.
    pub fn poll_failed(&self) {
        let mut counts = self.counts();
        counts.polls += 1;
        counts.poll_errors += 1;
        counts.last_poll_empty = false;
    }

    /// A task arrived with the poll answered at `since`. `wait`: from scheduled to started,
    /// on its first delivery.
    pub fn arrive(self: &Arc<Self>, since: Instant, wait: Option<Duration>) -> Stay {
        let mut counts = self.counts();
        // Never before the tally began, whatever the caller gives: instants are subtracted.
        let since = since.max(counts.occupied.origin);
        let id = counts.next;
        counts.next += 1;
        counts.present.insert(id, now_ms());
        counts.occupied.begin(since);
        if let Some(wait) = wait {
            counts.wait.add(wait);
        }
        drop(counts);
        Stay {
            tally: self.clone(),
            id,
            since,
        }
    }

    /// A call of the handler begins.
    pub fn call(self: &Arc<Self>) -> Call {
        let since = Instant::now();
        let mut counts = self.counts();
        counts.started += 1;
        counts.executing.begin(since);
        drop(counts);
        Call {
            tally: self.clone(),
            since,
        }
    }

    /// A task has an outcome.
    pub fn ended(&self, outcome: &Outcome) {
        let mut counts = self.counts();
        match outcome.end {
            End::Completed => counts.completed += 1,
            End::Failed(_) | End::Terminal(_) | End::Canceled => counts.failed += 1,
            End::Deferred { .. } => counts.deferred += 1,
            End::HandedBack { .. } => counts.handed_back += 1,
        }
    }

    /// How many tasks are in work.
    pub fn in_flight(&self) -> usize {
        self.counts().present.len()
    }

    /// When the oldest task in work arrived, in epoch milliseconds.
    pub fn oldest(&self) -> Option<i64> {
        self.counts().present.first_key_value().map(|(_, at)| *at)
    }

    /// The wire form. `free`: a slot is free that this type may use. `broken`: its breaker is open.
    pub fn stats(
        &self,
        task_type: &str,
        domain: Option<&str>,
        slots: usize,
        free: bool,
        broken: bool,
    ) -> TaskStats {
        let now = Instant::now();
        let counts = self.counts();
        TaskStats {
            task_type: task_type.to_owned(),
            domain: domain.map(str::to_owned),
            slots,
            in_flight: counts.present.len(),
            oldest_start: counts.present.first_key_value().map(|(_, at)| *at),
            started: counts.started,
            completed: counts.completed,
            failed: counts.failed,
            handed_back: counts.handed_back,
            deferred: counts.deferred,
            executing_seconds: counts.executing.total(now).as_secs_f64(),
            occupied_seconds: counts.occupied.total(now).as_secs_f64(),
            polls: counts.polls,
            empty_polls: counts.empty_polls,
            poll_errors: counts.poll_errors,
            idle: free && counts.last_poll_empty,
            idle_seconds: counts.idle.as_secs_f64(),
            broken,
            execute_seconds: digest(&counts.execute),
            wait_seconds: digest(&counts.wait),
        }
    }
}

fn digest(sketch: &Sketch) -> Digest {
    Digest {
        count: sketch.count(),
        sum: sketch.sum().as_secs_f64(),
        p50: sketch.quantile(0.5),
        p95: sketch.quantile(0.95),
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut counts = self.tally.counts();
        counts.present.remove(&self.id);
        counts.occupied.end(self.since, now);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut counts = self.tally.counts();
        counts.executing.end(self.since, now);
        counts.execute.add(now - self.since);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn running_time_counts_while_it_runs() {
        let tally = Tally::new();
        let one = tally.arrive(Instant::now(), Some(Duration::from_secs(3)));
        let call = tally.call();
        tokio::time::advance(Duration::from_secs(2)).await;
        let two = tally.arrive(Instant::now(), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(call);
        tokio::time::advance(Duration::from_secs(1)).await;

        let stats = tally.stats("t", None, 4, true, false);
        assert_eq!((stats.in_flight, stats.started), (2, 1));
        assert!((stats.executing_seconds - 3.0).abs() < 1e-6);
        assert!((stats.occupied_seconds - 6.0).abs() < 1e-6);
        assert_eq!(
            (stats.execute_seconds.count, stats.wait_seconds.count),
            (1, 1)
        );
        assert!((stats.wait_seconds.sum - 3.0).abs() < 1e-6);

        drop((one, two));
        tokio::time::advance(Duration::from_secs(100)).await;
        let stats = tally.stats("t", None, 4, true, false);
        assert_eq!((stats.in_flight, stats.oldest_start), (0, None));
        assert!((stats.occupied_seconds - 6.0).abs() < 1e-6);
    }

    #[tokio::test]
    async fn idle_means_a_free_slot_and_an_empty_poll() {
        let tally = Tally::new();
        assert!(
            !tally.stats("t", None, 1, true, false).idle,
            "not polled yet"
        );
        tally.polled(0, Duration::from_secs(2));
        assert!(tally.stats("t", None, 1, true, false).idle);
        assert!(!tally.stats("t", None, 1, false, false).idle);
        tally.polled(1, Duration::from_secs(1));
        assert!(!tally.stats("t", None, 1, true, false).idle);
        tally.polled(0, Duration::ZERO);
        tally.poll_failed();
        let idle = tally.stats("t", None, 1, true, false).idle_seconds;
        assert!((idle - 3.0).abs() < 1e-9, "{idle}");
        assert!(!tally.stats("t", None, 1, true, false).idle);
    }

    #[tokio::test]
    async fn the_wire_form_is_the_contracts() {
        let tally = Tally::new();
        let stats = Stats {
            version: VERSION,
            started_at: 1,
            observed_at: 2,
            draining: false,
            cordoned: true,
            handler_ready: true,
            slots: 8,
            in_flight: 0,
            spooled: 0,
            polls_in_flight: 1,
            tasks: vec![
                tally.stats("greet", None, 8, true, false),
                tally.stats("greet", Some("gpu"), 2, true, true),
            ],
        };
        let task = json!({
            "taskType": "greet", "slots": 8, "inFlight": 0, "oldestStart": null,
            "started": 0, "completed": 0, "failed": 0, "handedBack": 0, "deferred": 0,
            "executingSeconds": 0.0, "occupiedSeconds": 0.0,
            "polls": 0, "emptyPolls": 0, "pollErrors": 0, "idle": false, "idleSeconds": 0.0, "broken": false,
            "executeSeconds": {"count": 0, "sum": 0.0, "p50": 0.0, "p95": 0.0},
            "waitSeconds": {"count": 0, "sum": 0.0, "p50": 0.0, "p95": 0.0},
        });
        let mut gpu = task.clone();
        gpu["domain"] = json!("gpu");
        gpu["slots"] = json!(2);
        gpu["broken"] = json!(true);
        // A change here is a change of the contract with operators of other versions.
        let expected = json!({
            "version": 1, "startedAt": 1, "observedAt": 2,
            "draining": false, "cordoned": true, "handlerReady": true,
            "slots": 8, "inFlight": 0, "spooled": 0, "pollsInFlight": 1,
            "tasks": [task, gpu],
        });
        let json = serde_json::to_value(&stats).unwrap();
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_value::<Stats>(json).unwrap(), stats);
    }

    /// Every place in a value that holds no object, with its kind; list items are alike.
    fn kinds(value: &Value, at: &str, found: &mut BTreeMap<String, &'static str>) {
        let kind = match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    kinds(value, &format!("{at}/{name}"), found);
                }
                return;
            }
            Value::Array(items) => {
                for item in items {
                    kinds(item, &format!("{at}/*"), found);
                }
                "list"
            }
            // Absent in one item, there in another.
            Value::Null => return,
            Value::Bool(_) => "bool",
            Value::Number(number) if number.is_f64() => "fraction",
            Value::Number(_) => "integer",
            Value::String(_) => "text",
        };
        found.insert(at.to_owned(), kind);
    }

    fn kinds_of(value: &Value) -> BTreeMap<String, &'static str> {
        let mut found = BTreeMap::new();
        kinds(value, "", &mut found);
        found
    }

    #[tokio::test]
    async fn operators_of_earlier_versions_find_all_that_they_read() {
        let tally = Tally::new();
        let _stay = tally.arrive(Instant::now(), None);
        let now = serde_json::to_value(Stats {
            version: VERSION,
            started_at: 1,
            observed_at: 2,
            draining: false,
            cordoned: false,
            handler_ready: true,
            slots: 8,
            in_flight: 0,
            spooled: 0,
            polls_in_flight: 0,
            tasks: vec![tally.stats("greet", Some("gpu"), 8, true, true)],
        })
        .unwrap();
        let now = kinds_of(&now);
        let answers = harness::skew("stats").unwrap();
        for (name, answer) in &answers {
            for (place, kind) in kinds_of(answer) {
                // What grew into a fraction would be refused by those that read an integer.
                assert_eq!(now.get(&place), Some(&kind), "{place} of {name}");
            }
        }
        let (name, newest) = answers.last().unwrap();
        assert_eq!(
            kinds_of(newest),
            now,
            "the wire is another than in {name}; keep that file and add what is answered now"
        );
    }

    #[test]
    fn answers_of_earlier_versions_are_read() {
        for (name, answer) in harness::skew("stats").unwrap() {
            let stats: Stats = serde_json::from_value(answer).unwrap();
            assert_eq!((stats.in_flight, stats.tasks.len()), (2, 2), "{name}");
        }
    }

    #[test]
    fn a_sidecar_of_another_version_is_understood() {
        let older = json!({
            "version": 1, "startedAt": 1, "observedAt": 2, "draining": false, "cordoned": false,
            "handlerReady": true, "slots": 8, "inFlight": 0, "tasks": [],
        });
        let mut newer = older.clone();
        newer["someDay"] = json!(1);
        for stats in [older, newer] {
            let stats: Stats = serde_json::from_value(stats).unwrap();
            assert_eq!((stats.slots, stats.polls_in_flight), (8, 0));
        }
        // One that does not say that its breaker is open has none, as far as is known.
        let mut task = serde_json::to_value(Tally::new().stats("t", None, 1, true, true)).unwrap();
        task.as_object_mut().unwrap().remove("broken");
        let task: TaskStats = serde_json::from_value(task).unwrap();
        assert!(!task.broken);
    }
}
