//! What the sidecars say: `GET http://POD:2112/stats`.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use conductor_client::QueueName;
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use scaling::Instant;
use serde::Deserialize;

use super::{Growth, PodReading, TaskReading};
use crate::{clock::Clock, stores::deletion_cost};

/// How long a sidecar may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many are asked at once, for each Conductor server.
const AT_ONCE: usize = 64;

/// A thousand task types fit into it.
const MAX_BODY: usize = 1024 * 1024;

/// A sidecar to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    uid: String,
    address: SocketAddr,
    /// It is about to go, so that what it has in work matters in each round.
    leaving: bool,
}

impl Target {
    /// The sidecar of a pod that has an address.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        Some(Self {
            uid: pod.metadata.uid.clone()?,
            address: SocketAddr::new(ip(pod)?, api::SIDECAR_PORT),
            leaving: pod.metadata.deletion_timestamp.is_some()
                || deletion_cost(pod).is_some_and(|cost| cost < 0),
        })
    }
}

/// How many pods of each pool are asked in one round: all, where the pool has at most `whole`
/// pods or `at_most` suffices for everybody; else a fair share of `at_most`, and `whole` at
/// least. `pools` are numbers of pods.
pub(super) fn quotas(pools: &[usize], whole: usize, at_most: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..pools.len()).collect();
    order.sort_by_key(|&i| pools[i]);
    let mut quotas = vec![0; pools.len()];
    let mut left = at_most;
    for (done, i) in order.into_iter().enumerate() {
        // What smaller pools do not need of their share is for the larger ones.
        let share = left / (pools.len() - done);
        quotas[i] = pools[i].min(share.max(whole));
        left = left.saturating_sub(quotas[i]);
    }
    quotas
}

/// A pod's address, if it has one yet.
pub(crate) fn ip(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}

/// As much of `/stats` as is used. Whatever is missing is nothing: sidecars of other versions
/// are understood as far as they go.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Stats {
    started_at: i64,
    observed_at: i64,
    draining: bool,
    cordoned: bool,
    in_flight: u32,
    polls_in_flight: u32,
    tasks: Vec<TaskStats>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct TaskStats {
    task_type: String,
    domain: Option<String>,
    in_flight: u32,
    oldest_start: Option<i64>,
    started: u64,
    completed: u64,
    failed: u64,
    handed_back: u64,
    deferred: u64,
    executing_seconds: f64,
    occupied_seconds: f64,
    polls: u64,
    poll_errors: u64,
    idle: bool,
    idle_seconds: f64,
    broken: Option<bool>,
    execute_seconds: Digest,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Digest {
    sum: f64,
    count: u64,
    p95: f64,
}

/// What a sidecar said, and when.
#[derive(Debug)]
pub(super) struct Answer {
    at: Instant,
    stats: Stats,
}

/// A client for sidecars: they are near, and never behind a proxy.
pub(crate) fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .build()
}

/// Asks all of them, as long as `patience` lasts: what they say by UID, and when each did.
pub(super) async fn ask(
    http: &reqwest::Client,
    mut targets: Vec<Target>,
    clock: Clock,
    patience: Duration,
) -> HashMap<String, Answer> {
    // Those that are too late for `patience` are others the next time.
    fastrand::shuffle(&mut targets);
    stream::iter(targets)
        .map(
            async |target: Target| match ask_one(http, target.address).await {
                Ok(stats) => {
                    let at = clock.now().clock;
                    Some((target.uid, Answer { at, stats }))
                }
                Err(error) => {
                    tracing::debug!(address = %target.address, error, "a sidecar does not answer");
                    None
                }
            },
        )
        .buffer_unordered(AT_ONCE)
        .take_until(tokio::time::sleep(patience))
        .filter_map(std::future::ready)
        .collect()
        .await
}

async fn ask_one(http: &reqwest::Client, address: SocketAddr) -> Result<Stats, String> {
    let url = format!("http://{address}/stats");
    let answer = http
        .get(url)
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(|e| e.to_string())?;
    read(answer).await
}

/// The statistics in an answer.
pub(crate) async fn read(mut answer: reqwest::Response) -> Result<Stats, String> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|e| e.to_string())? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_BODY {
            return Err("the answer is too long".to_owned());
        }
    }
    serde_json::from_slice(&body).map_err(|e| e.to_string())
}

// === what becomes of it ===

/// What is known of one worker's pods.
#[derive(Debug, Default)]
pub(super) struct Pods {
    known: BTreeMap<String, Known>,
    growth: BTreeMap<QueueName, Growth>,
    /// When the first round began.
    began: Option<Instant>,
    /// When each pod had its last turn.
    turns: HashMap<String, Instant>,
    /// When the last round of turns was.
    round: Instant,
    rounds: u32,
}

#[derive(Debug)]
struct Known {
    reading: PodReading,
    started_at: i64,
    counters: BTreeMap<QueueName, Growth>,
}

impl Pods {
    /// The pods whose turn it is: those that are leaving always, and `quota` of the others, those
    /// whose last turn is the longest ago. Over a few rounds each has its turn, and what it
    /// counted in between is not lost.
    pub(super) fn take_turns(
        &mut self,
        mut pods: Vec<Target>,
        quota: usize,
        now: Instant,
    ) -> Vec<Target> {
        pods.sort_by(|a, b| {
            let turn = |pod: &Target| self.turns.get(&pod.uid).copied();
            b.leaving
                .cmp(&a.leaving)
                .then_with(|| turn(a).cmp(&turn(b)))
        });
        let leaving = pods.iter().filter(|pod| pod.leaving).count();
        let rounds = (pods.len() - leaving).div_ceil(quota.max(1)).max(1);
        self.rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
        pods.truncate(quota.saturating_add(leaving));
        self.turns
            .extend(pods.iter().map(|pod| (pod.uid.clone(), now)));
        self.round = now;
        pods
    }

    /// In how many rounds each pod has its turn once.
    pub(super) fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Notes the answers of those pods of `present` that gave one. What a pod counted stays
    /// counted when it has gone. The asking began at `asked`.
    pub(super) fn note(
        &mut self,
        present: &[String],
        answers: Vec<(String, Answer)>,
        asked: Instant,
    ) {
        let present: HashSet<&String> = present.iter().collect();
        self.known.retain(|uid, _| present.contains(uid));
        self.turns.retain(|uid, _| present.contains(uid));
        for (uid, Answer { at, stats }) in answers {
            let counters = stats.counters();
            let none = BTreeMap::new();
            let before = match self.known.get(&uid) {
                Some(known) if known.started_at == stats.started_at => Some(&known.counters),
                // It started again: all that it counts is new.
                Some(_) => Some(&none),
                // All of it is new too where it started since there were rounds. What counted
                // before that is new to this operator only.
                None => stats.is_younger_than(self.began, at).then_some(&none),
            };
            for (queue, count) in before.iter().flat_map(|_| &counters) {
                let earlier = before.and_then(|b| b.get(queue)).copied();
                self.growth
                    .entry(queue.clone())
                    .or_default()
                    .add(&count.since(&earlier.unwrap_or_default()));
            }
            let known = Known {
                reading: stats.reading(at),
                started_at: stats.started_at,
                counters,
            };
            self.known.insert(uid, known);
        }
        self.began.get_or_insert(asked);
    }

    /// The pods' last readings.
    pub(super) fn readings(&self) -> BTreeMap<String, PodReading> {
        self.known
            .iter()
            .map(|(uid, known)| {
                let mut reading = known.reading.clone();
                let turn = self.turns.get(uid).copied();
                reading.earlier = turn.is_some_and(|turn| turn < self.round);
                if reading.earlier {
                    for task in reading.tasks.values_mut() {
                        task.idle = false;
                    }
                }
                (uid.clone(), reading)
            })
            .collect()
    }

    /// The growth since this was last asked for.
    pub(super) fn spend(&mut self) -> BTreeMap<QueueName, Growth> {
        std::mem::take(&mut self.growth)
    }
}

impl Stats {
    /// From a moment to the reading, both by the pod's own clock: clocks of nodes differ.
    fn since(&self, moment: i64) -> Duration {
        let age = self.observed_at.saturating_sub(moment).max(0);
        Duration::from_millis(age.unsigned_abs())
    }

    fn is_younger_than(&self, began: Option<Instant>, now: Instant) -> bool {
        let age = self.since(self.started_at).as_secs_f64();
        began.is_some_and(|began| age <= now.seconds_since(began))
    }

    fn counters(&self) -> BTreeMap<QueueName, Growth> {
        self.tasks
            .iter()
            .map(|task| {
                let count = Growth {
                    started: task.started,
                    ended: task
                        .completed
                        .saturating_add(task.failed)
                        .saturating_add(task.handed_back)
                        .saturating_add(task.deferred),
                    idle_seconds: task.idle_seconds,
                    ended_seconds: task.execute_seconds.sum,
                    executing_seconds: task.executing_seconds,
                    occupied_seconds: task.occupied_seconds,
                    polls: task.polls,
                    poll_errors: task.poll_errors,
                };
                (task.queue(), count)
            })
            .collect()
    }

    /// What they say of the pod at this moment.
    pub(crate) fn reading(&self, at: Instant) -> PodReading {
        PodReading {
            at,
            in_flight: self.in_flight,
            draining: self.draining,
            earlier: false,
            cordoned: self.cordoned,
            polls: self.polls_in_flight,
            tasks: self
                .tasks
                .iter()
                .map(|task| {
                    let reading = TaskReading {
                        in_flight: task.in_flight,
                        idle: task.idle,
                        broken: task.broken,
                        worked: task.completed.saturating_add(task.deferred),
                        failed: task.failed,
                        oldest: task.oldest_start.map(|began| self.since(began)),
                        p95: task.execute_seconds.p95(),
                    };
                    (task.queue(), reading)
                })
                .collect(),
        }
    }
}

impl Digest {
    fn p95(&self) -> Option<Duration> {
        let known = (self.count > 0).then_some(self.p95)?;
        Duration::try_from_secs_f64(known).ok()
    }
}

impl TaskStats {
    fn queue(&self) -> QueueName {
        QueueName::new(&self.task_type, self.domain.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::at(Duration::from_secs(seconds))
    }

    /// A pod that started `age` seconds ago and has ended `completed` tasks.
    fn stats(started_at: i64, age: i64, completed: u64) -> Stats {
        serde_json::from_value(json!({
            "version": 9, "somethingNew": {}, "startedAt": started_at,
            "observedAt": started_at + age * 1000, "inFlight": 1,
            "tasks": [{"taskType": "greet", "completed": completed, "inFlight": 1, "idle": true}],
        }))
        .unwrap()
    }

    fn ended(pods: &mut Pods) -> u64 {
        pods.spend().values().map(|g| g.ended).sum()
    }

    fn note(pods: &mut Pods, stats: Option<Stats>, second: u64) -> u64 {
        let at = at(second);
        let answers = stats.map(|stats| ("a".to_owned(), Answer { at, stats }));
        pods.note(&["a".to_owned()], answers.into_iter().collect(), at);
        ended(pods)
    }

    #[test]
    fn growth_is_counted_once_over_gaps_resets_and_ends() {
        let mut pods = Pods::default();
        assert_eq!(note(&mut pods, Some(stats(0, 100, 50)), 5), 0, "a baseline");
        assert_eq!(note(&mut pods, Some(stats(0, 105, 53)), 10), 3);
        assert_eq!(note(&mut pods, None, 15), 0, "no answer");
        assert_eq!(
            pods.known["a"].reading.at,
            at(10),
            "the last one, with its time"
        );
        assert_eq!(
            note(&mut pods, Some(stats(0, 115, 60)), 20),
            7,
            "made up for"
        );
        assert_eq!(
            note(&mut pods, Some(stats(118_000, 2, 4)), 25),
            4,
            "restarted"
        );
        pods.note(&[], Vec::new(), at(30));
        assert!(pods.readings().is_empty());
        assert_eq!(ended(&mut pods), 0, "gone");
    }

    #[test]
    fn times_grow_as_counts_do() {
        let said = |seconds: f64| -> Stats {
            serde_json::from_value(json!({"observedAt": 1, "tasks": [{
                "taskType": "greet", "idleSeconds": seconds, "executingSeconds": 2.0 * seconds,
                "occupiedSeconds": 3.0 * seconds, "executeSeconds": {"count": 1, "sum": 4.0 * seconds},
            }]}))
            .unwrap()
        };
        let mut pods = Pods::default();
        note(&mut pods, Some(said(1.0)), 5);
        for seconds in [3.0, 4.5] {
            let at = at(10);
            let stats = said(seconds);
            pods.note(
                &["a".to_owned()],
                vec![("a".to_owned(), Answer { at, stats })],
                at,
            );
        }
        let grown = pods.spend()[&QueueName::new("greet", None)];
        let times = [
            grown.idle_seconds,
            grown.executing_seconds,
            grown.occupied_seconds,
            grown.ended_seconds,
        ];
        for (time, n) in times.into_iter().zip([1.0, 2.0, 3.0, 4.0]) {
            assert!((time - 3.5 * n).abs() < 1e-9, "{times:?}");
        }
    }

    #[test]
    fn a_new_pod_counts_from_its_start_and_one_that_is_new_to_us_does_not() {
        let mut pods = Pods::default();
        pods.note(&[], Vec::new(), at(0));
        assert_eq!(note(&mut pods, Some(stats(0, 3, 9)), 5), 9);
        let mut pods = Pods::default();
        pods.note(&[], Vec::new(), at(0));
        assert_eq!(note(&mut pods, Some(stats(0, 300, 9)), 5), 0);
    }

    #[test]
    fn a_reading_is_as_old_as_its_answer() {
        let mut pods = Pods::default();
        let answer = |second, age| Answer {
            at: at(second),
            stats: stats(0, age, 9),
        };
        pods.note(&["a".to_owned()], Vec::new(), at(5));
        // It started after the asking had begun the last time.
        let answers = vec![("a".to_owned(), answer(11, 5))];
        pods.note(&["a".to_owned()], answers, at(10));
        assert_eq!(pods.readings()["a"].at, at(11));
        assert_eq!(ended(&mut pods), 9);
    }

    fn targets(n: usize) -> Vec<Target> {
        let target = |i| Target {
            uid: format!("uid-{i}"),
            address: "127.0.0.1:2112".parse().unwrap(),
            leaving: false,
        };
        (0..n).map(target).collect()
    }

    #[test]
    fn small_pools_are_asked_whole_and_large_ones_share_what_is_left() {
        for (pools, at_most, expected) in [
            (vec![], 500, vec![]),
            (vec![10, 300, 7], 500, vec![10, 300, 7]),
            (vec![10, 2000, 50], 500, vec![10, 440, 50]),
            (vec![2000, 60, 300], 500, vec![220, 60, 220]),
            // Too little for everybody: the small ones are whole all the same.
            (vec![50; 4], 100, vec![50; 4]),
            (vec![1000, 40], 10, vec![50, 40]),
        ] {
            assert_eq!(quotas(&pools, 50, at_most), expected, "{pools:?}");
        }
    }

    #[test]
    fn each_pod_has_its_turn_and_those_that_leave_have_it_always() {
        let mut pods = Pods::default();
        let mut asked: HashMap<String, u32> = HashMap::new();
        for second in 0..10 {
            let mut all = targets(20);
            all[7].leaving = true;
            for target in pods.take_turns(all, 5, at(second)) {
                *asked.entry(target.uid).or_default() += 1;
            }
            assert_eq!(pods.rounds(), 4);
        }
        assert_eq!(asked.remove("uid-7"), Some(10));
        assert_eq!(asked.len(), 19);
        let least = asked.values().min().unwrap();
        let most = asked.values().max().unwrap();
        // Those of one round are alike for the next.
        assert!(most - least <= 2, "{asked:?}");
        // A pod that is new goes before all that had a turn.
        let turn = pods.take_turns(targets(21), 1, at(10));
        assert_eq!(turn[0].uid, "uid-20");
        // Each, where that is no burden.
        assert_eq!(pods.take_turns(targets(3), 5, at(11)).len(), 3);
        assert_eq!(pods.rounds(), 1);
    }

    #[test]
    fn those_that_leave_take_nobodys_turn() {
        let mut pods = Pods::default();
        let mut asked: HashMap<String, u32> = HashMap::new();
        for second in 0..4 {
            let mut all = targets(20);
            for target in &mut all[..12] {
                target.leaving = true;
            }
            for target in pods.take_turns(all, 5, at(second)) {
                *asked.entry(target.uid).or_default() += 1;
            }
            assert_eq!(pods.rounds(), 2);
        }
        assert_eq!(asked.len(), 20);
        assert!(asked.values().all(|times| *times >= 2), "{asked:?}");
    }

    #[test]
    fn a_pod_whose_turn_is_past_is_not_known_to_be_idle() {
        let mut pods = Pods::default();
        let uids = ["uid-0".to_owned(), "uid-1".to_owned()];
        for second in 1..3 {
            let turn = pods.take_turns(targets(2), 1, at(second));
            let answer = Answer {
                at: at(second),
                stats: stats(0, 100, 9),
            };
            pods.note(&uids, vec![(turn[0].uid.clone(), answer)], at(second));
        }
        let readings = pods.readings();
        let idle = |uid: &str| readings[uid].tasks.values().any(|task| task.idle);
        assert!(readings["uid-0"].earlier && !idle("uid-0"));
        assert!(!readings["uid-1"].earlier && idle("uid-1"));
        assert_eq!(readings["uid-0"].in_flight, 1);
    }

    #[test]
    fn what_a_pod_counts_until_its_first_turn_and_over_a_restart_is_not_lost() {
        let mut pods = Pods::default();
        pods.note(&[], Vec::new(), at(0));
        for second in [5, 10, 15] {
            pods.note(&["a".to_owned()], Vec::new(), at(second));
        }
        assert_eq!(note(&mut pods, Some(stats(0, 19, 9)), 20), 9);
        // It started again right after that, and its next turn comes late.
        pods.note(&["a".to_owned()], Vec::new(), at(25));
        assert_eq!(note(&mut pods, Some(stats(21_000, 18, 4)), 40), 4);
    }

    #[test]
    fn how_long_tasks_run_is_by_the_pods_own_clock() {
        let stats: Stats = serde_json::from_value(json!({
            "observedAt": 90_000, "cordoned": true, "pollsInFlight": 2, "inFlight": 1,
            "tasks": [
                {"taskType": "a", "inFlight": 1, "oldestStart": 87_500, "executeSeconds": {"count": 3, "sum": 9.0, "p50": 3.0, "p95": 4.5}},
                {"taskType": "b", "oldestStart": null, "executeSeconds": {"count": 0, "sum": 0.0, "p50": 0.0, "p95": 0.0}},
                {"taskType": "c", "oldestStart": 91_000, "executeSeconds": {"count": 1, "p95": -1.0}},
            ],
        }))
        .unwrap();
        let reading = stats.reading(at(1));
        assert!(reading.cordoned);
        assert_eq!(reading.polls, 2);
        let seen = |task| {
            let task: TaskReading = reading.tasks[&QueueName::new(task, None)];
            [task.oldest, task.p95].map(|d| d.map(|d| d.as_millis()))
        };
        assert_eq!(seen("a"), [Some(2500), Some(4500)]);
        assert_eq!(seen("b"), [None, None]);
        assert_eq!(seen("c"), [Some(0), None], "a clock that was put back");
    }

    #[test]
    fn what_sidecars_of_earlier_versions_answer_is_understood() {
        let answers = harness::skew("stats").unwrap();
        assert!(answers.len() >= 4, "{answers:?}");
        for (i, (name, answer)) in answers.into_iter().enumerate() {
            let stats: Stats = serde_json::from_value(answer).unwrap();
            let reading = stats.reading(at(1));
            assert!(reading.cordoned && !reading.draining, "{name}");
            assert_eq!(reading.in_flight, 2, "{name}");
            // Nothing is what is missing: polls in the air are told since the third, idle time since
            // the fourth, open breakers since the fifth.
            assert_eq!(reading.polls, u32::from(i >= 2), "{name}");
            let idle_seconds = if i >= 3 { 7.5 } else { 0.0 };
            let task = TaskReading {
                in_flight: 2,
                idle: true,
                oldest: Some(Duration::from_secs(30)),
                p95: Some(Duration::from_millis(4500)),
                broken: (i >= 4).then_some(true),
                worked: 7,
                failed: 2,
            };
            assert_eq!(
                reading.tasks[&QueueName::new("greet", None)],
                task,
                "{name}"
            );
            let gpu = QueueName::new("greet", Some("gpu"));
            assert_eq!(reading.tasks[&gpu].oldest, None, "{name}");
            let count = Growth {
                started: 12,
                ended: 10,
                idle_seconds,
                ended_seconds: 21.5,
                executing_seconds: 31.5,
                occupied_seconds: 40.25,
                polls: 90,
                poll_errors: 3,
            };
            assert_eq!(stats.counters()[&gpu], count, "{name}");
            assert!(stats.is_younger_than(Some(at(0)), at(60)), "{name}");
        }
    }

    #[test]
    fn anything_is_understood_as_far_as_it_goes() {
        let stats: Stats = serde_json::from_str("{}").unwrap();
        assert_eq!(stats.reading(at(1)).in_flight, 0);
    }

    #[test]
    fn a_breaker_is_open_where_the_sidecar_says_so_and_an_older_one_says_nothing() {
        let stats: Stats = serde_json::from_value(json!({"tasks": [
            {"taskType": "a", "broken": true}, {"taskType": "b", "broken": false}, {"taskType": "c"},
        ]}))
        .unwrap();
        let reading = stats.reading(at(1));
        let broken = |task| reading.tasks[&QueueName::new(task, None)].broken;
        assert_eq!(["a", "b", "c"].map(broken), [Some(true), Some(false), None]);
    }
}
