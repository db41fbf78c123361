//! What the sidecars say: `GET http://POD:2112/stats`.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use conductor_client::QueueName;
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use scaling::Instant;
use serde::Deserialize;

use super::{Growth, PodReading, TaskReading};
use crate::clock::Clock;

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
}

impl Target {
    /// The sidecar of a pod that has an address.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        let ip: IpAddr = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
        Some(Self {
            uid: pod.metadata.uid.clone()?,
            address: SocketAddr::new(ip, api::SIDECAR_PORT),
        })
    }
}

/// As much of `/stats` as is used. Whatever is missing is nothing: sidecars of other versions
/// are understood as far as they go.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Stats {
    started_at: i64,
    observed_at: i64,
    draining: bool,
    in_flight: u32,
    tasks: Vec<TaskStats>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct TaskStats {
    task_type: String,
    domain: Option<String>,
    in_flight: u32,
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
}

/// What a sidecar said, and when.
#[derive(Debug)]
pub(super) struct Answer {
    at: Instant,
    stats: Stats,
}

/// A client for sidecars: they are near, and never behind a proxy.
pub(super) fn client() -> reqwest::Result<reqwest::Client> {
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
    // Those whose turn comes too late are others the next time.
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
    let mut answer = http
        .get(url)
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(|e| e.to_string())?;
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
    asked: Option<Instant>,
}

#[derive(Debug)]
struct Known {
    reading: PodReading,
    started_at: i64,
    counters: BTreeMap<QueueName, Growth>,
}

impl Pods {
    /// Notes the answers of those pods of `present` that gave one. What a pod counted stays
    /// counted when it has gone. The asking began at `asked`.
    pub(super) fn note(
        &mut self,
        present: &[String],
        answers: Vec<(String, Answer)>,
        asked: Instant,
    ) {
        self.known.retain(|uid, _| present.contains(uid));
        for (uid, Answer { at, stats }) in answers {
            let before = self.known.get(&uid);
            let counters = stats.counters();
            match before {
                Some(known) if known.started_at == stats.started_at => {
                    for (queue, count) in &counters {
                        let earlier = known.counters.get(queue).copied().unwrap_or_default();
                        self.growth
                            .entry(queue.clone())
                            .or_default()
                            .add(&count.since(&earlier));
                    }
                }
                // It started since the last round: all that it counts is new. Another one is
                // new to this operator only.
                _ if stats.is_younger_than(self.asked, at) => {
                    for (queue, count) in &counters {
                        self.growth.entry(queue.clone()).or_default().add(count);
                    }
                }
                _ => {}
            }
            let known = Known {
                reading: stats.reading(at),
                started_at: stats.started_at,
                counters,
            };
            self.known.insert(uid, known);
        }
        self.asked = Some(asked);
    }

    /// The pods' last readings.
    pub(super) fn readings(&self) -> BTreeMap<String, PodReading> {
        self.known
            .iter()
            .map(|(uid, known)| (uid.clone(), known.reading.clone()))
            .collect()
    }

    /// The growth since this was last asked for.
    pub(super) fn spend(&mut self) -> BTreeMap<QueueName, Growth> {
        std::mem::take(&mut self.growth)
    }
}

impl Stats {
    fn is_younger_than(&self, asked: Option<Instant>, now: Instant) -> bool {
        let age = self.observed_at.saturating_sub(self.started_at).max(0);
        let age = Duration::from_millis(age.unsigned_abs()).as_secs_f64();
        // The pod's own clock on both sides: clocks of nodes differ.
        asked.is_some_and(|asked| age <= now.seconds_since(asked))
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
                    executing_seconds: task.executing_seconds,
                    occupied_seconds: task.occupied_seconds,
                    polls: task.polls,
                    poll_errors: task.poll_errors,
                };
                (task.queue(), count)
            })
            .collect()
    }

    fn reading(&self, at: Instant) -> PodReading {
        PodReading {
            at,
            in_flight: self.in_flight,
            draining: self.draining,
            tasks: self
                .tasks
                .iter()
                .map(|task| {
                    let reading = TaskReading {
                        in_flight: task.in_flight,
                        idle: task.idle,
                    };
                    (task.queue(), reading)
                })
                .collect(),
        }
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

    #[test]
    fn anything_is_understood_as_far_as_it_goes() {
        let stats: Stats = serde_json::from_str("{}").unwrap();
        assert_eq!(stats.reading(at(1)).in_flight, 0);
    }
}
