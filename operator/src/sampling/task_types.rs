//! What is read once a minute about each task type: its definition's limits, and who polls it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use conductor_client::{Client, Kind, PollData, QueueName, TaskDef};
use futures::{StreamExt, stream};
use scaling::{Instant, RateLimit};

use super::{Limits, Pollers, sizes::Requests};

/// How often a task type is read again, in seconds.
const AGAIN: f64 = 60.0;

/// Limits that cannot be read any more count for so long, in seconds.
const OUTLIVE: f64 = 3600.0;

/// How many are read in one tick, and how many of these at once: many workers that start
/// together are no burst at the server.
const PER_TICK: usize = 64;
const AT_ONCE: usize = 4;

/// How long a poller is told of after it was last seen, in seconds. Conductor shows only the
/// last one to poll, so that one among many is seldom seen.
const TOLD: f64 = 600.0;

/// More names than this say nothing more.
const NAMES: usize = 20;

/// What is known of a server's task types.
#[derive(Debug, Default)]
pub(super) struct TaskTypes {
    known: BTreeMap<String, Known>,
    polled: BTreeMap<QueueName, Polled>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    limits: Limits,
    /// When they were asked for.
    read: Instant,
    /// When they were last told.
    told: Instant,
}

/// Who polled a queue.
#[derive(Debug, Default)]
struct Polled {
    /// When the last poll ended, by the server's clock.
    last: i64,
    /// Pollers that are not ours: when they were last seen, and when they had polled.
    others: BTreeMap<String, (Instant, i64)>,
}

/// What was said of a task type.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Said {
    pub(super) limits: Result<Limits, Unread>,
    /// Absent where it cannot be read.
    pub(super) pollers: Option<Vec<PollData>>,
}

/// It cannot be read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unread;

impl TaskTypes {
    /// The task types that are to be read again.
    pub(super) fn due(&self, queues: &[QueueName], now: Instant) -> Vec<String> {
        let types: BTreeSet<&str> = queues.iter().map(QueueName::task_type).collect();
        types
            .into_iter()
            .filter(|name| {
                let known = self.known.get(*name);
                known.is_none_or(|known| now.seconds_since(known.read) >= AGAIN)
            })
            .take(PER_TICK)
            .map(str::to_owned)
            .collect()
    }

    /// Notes what was said of the task types that were asked for. Limits that could not be read stay
    /// as they were, for an hour. A type that was not answered in time is due again at once, unless none was:
    /// such a server is left alone for a while. `ours` are the names of our pods, those that
    /// went a moment ago included.
    pub(super) fn note(
        &mut self,
        asked: &[String],
        said: &BTreeMap<String, Said>,
        ours: impl Fn(&str) -> bool,
        now: Instant,
    ) {
        let answers = said.values().any(|said| said.limits.is_ok());
        for name in asked {
            let limits = match said.get(name) {
                Some(said) => said.limits,
                None if answers => continue,
                None => Err(Unread),
            };
            let before = self.known.get(name).copied();
            let before = before.filter(|known| now.seconds_since(known.told) < OUTLIVE);
            let known = match (limits, before) {
                (Err(Unread), Some(before)) => Known {
                    read: now,
                    ..before
                },
                (limits, _) => Known {
                    limits: limits.unwrap_or_default(),
                    read: now,
                    told: now,
                },
            };
            self.known.insert(name.clone(), known);
        }
        for rows in said.values().filter_map(|said| said.pollers.as_ref()) {
            for row in rows {
                self.note_poll(row, &ours, now);
            }
        }
        for polled in self.polled.values_mut() {
            let is_told = |seen: Instant| now.seconds_since(seen) < TOLD;
            polled.others.retain(|_, (seen, _)| is_told(*seen));
        }
    }

    /// Only a poll since the last look counts: who polled before that may have gone long ago.
    fn note_poll(&mut self, row: &PollData, ours: impl Fn(&str) -> bool, now: Instant) {
        // A poll for an empty domain is no poll of this queue, and is given nothing.
        if row.domain.as_deref() == Some("") {
            return;
        }
        let queue = QueueName::new(&row.queue_name, row.domain.as_deref());
        let polled = self.polled.entry(queue).or_default();
        let is_new = polled.last > 0 && row.last_poll_time > polled.last;
        polled.last = row.last_poll_time;
        let id = row.worker_id.clone().unwrap_or_default();
        if is_new && !ours(&id) && (polled.others.len() < NAMES || polled.others.contains_key(&id))
        {
            polled.others.insert(id, (now, row.last_poll_time));
        }
    }

    /// Forgets what nobody asks for any more.
    pub(super) fn keep(&mut self, queues: &[QueueName]) {
        let is_asked = |name: &str| queues.iter().any(|q| q.task_type() == name);
        self.known.retain(|name, _| is_asked(name));
        self.polled.retain(|queue, _| is_asked(queue.task_type()));
    }

    /// The limits of a task type, where its definition was read.
    pub(super) fn limits(&self, name: &str) -> Option<Limits> {
        Some(self.known.get(name)?.limits)
    }

    /// Who polls a queue beside our pods; none if nobody was seen.
    pub(super) fn pollers(&self, queue: &QueueName) -> Option<Pollers> {
        let others = &self.polled.get(queue)?.others;
        let last_poll = others.values().map(|(_, polled)| *polled).max()?;
        Some(Pollers {
            names: others.keys().cloned().collect(),
            last_poll,
        })
    }
}

/// The limits of a definition; what makes no sense is none.
fn limits_of(def: &TaskDef) -> Limits {
    let above_zero = |n: Option<i64>| n.and_then(|n| u32::try_from(n).ok()).filter(|&n| n > 0);
    Limits {
        at_once: above_zero(def.concurrent_exec_limit),
        rate: above_zero(def.rate_limit_per_frequency).map(|count| {
            // Conductor takes a window of 1 s where none is written.
            let seconds = above_zero(def.rate_limit_frequency_in_seconds).unwrap_or(1);
            RateLimit {
                count,
                window: Duration::from_secs(seconds.into()),
            }
        }),
    }
}

/// Reads task types, as long as `patience` and the server's requests last: which were asked for,
/// and what was said in time.
pub(super) async fn read(
    client: &Client,
    names: &[String],
    requests: &Requests,
    patience: Duration,
) -> (Vec<String>, BTreeMap<String, Said>) {
    let mut names = names.to_vec();
    // Those whose turn comes too late are others the next time.
    fastrand::shuffle(&mut names);
    let asked: Vec<String> = names.into_iter().take_while(|_| requests.take()).collect();
    let said = stream::iter(asked.clone())
        .map(async |name: String| {
            let limits = match client.task_def(&name).await {
                Ok(def) => Ok(limits_of(&def)),
                Err(error) if error.kind() == Kind::Gone => Ok(Limits::default()),
                Err(_) => Err(Unread),
            };
            let pollers = if requests.take() {
                client.poll_data(&name).await.ok()
            } else {
                None
            };
            (name, Said { limits, pollers })
        })
        .buffer_unordered(AT_ONCE)
        .take_until(tokio::time::sleep(patience))
        .collect()
        .await;
    (asked, said)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::at(Duration::from_secs(seconds))
    }

    fn said(limits: Result<Option<u32>, Unread>) -> Said {
        let limits = limits.map(|at_once| Limits {
            at_once,
            rate: None,
        });
        Said {
            limits,
            pollers: None,
        }
    }

    fn at_once(types: &TaskTypes, name: &str) -> Option<u32> {
        types.limits(name).and_then(|limits| limits.at_once)
    }

    #[test]
    fn task_types_are_read_once_a_minute_and_limits_outlive_a_failure() {
        let asked = [
            QueueName::new("greet", None),
            QueueName::new("greet", Some("gpu")),
        ];
        let mut types = TaskTypes::default();
        assert_eq!(types.due(&asked, at(0)), ["greet"]);
        let due = ["greet".to_owned()];
        let mut note = |limits, second| {
            let said = [("greet".to_owned(), said(limits))].into();
            types.note(&due, &said, |_| true, at(second));
            (at_once(&types, "greet"), types.due(&asked, at(second + 59)))
        };
        assert_eq!(note(Ok(Some(5)), 0), (Some(5), vec![]));
        assert_eq!(note(Err(Unread), 60), (Some(5), vec![]));
        assert_eq!(note(Ok(None), 120), (None, vec![]));
        assert_eq!(types.due(&asked, at(180)), ["greet"]);
        types.keep(&[QueueName::new("other", None)]);
        assert_eq!(types.limits("greet"), None, "nobody asks any more");
    }

    #[test]
    fn what_comes_too_late_is_asked_for_again_unless_nothing_comes() {
        let asked = ["a", "b"].map(|name| QueueName::new(name, None));
        let names = ["a".to_owned(), "b".to_owned()];
        let mut types = TaskTypes::default();
        let both = ["a", "b"].map(|name| (name.to_owned(), said(Ok(Some(5)))));
        types.note(&names, &both.into(), |_| true, at(0));
        let one = [("a".to_owned(), said(Ok(None)))];
        types.note(&names, &one.into(), |_| true, at(60));
        assert_eq!(at_once(&types, "b"), Some(5));
        assert_eq!(types.due(&asked, at(65)), ["b"]);
        types.note(&names, &BTreeMap::new(), |_| true, at(65));
        assert_eq!(at_once(&types, "b"), Some(5));
        assert!(types.due(&asked, at(124)).is_empty());
    }

    #[test]
    fn limits_are_those_of_the_definition_and_nonsense_is_none() {
        let rate = |count, seconds| {
            let window = Duration::from_secs(seconds);
            Some(RateLimit { count, window })
        };
        for (def, at_once, limit) in [
            (json!({}), None, None),
            (
                json!({"concurrentExecLimit": 3, "rateLimitPerFrequency": 0}),
                Some(3),
                None,
            ),
            (
                json!({"concurrentExecLimit": -1, "rateLimitPerFrequency": 2, "rateLimitFrequencyInSeconds": 5}),
                None,
                rate(2, 5),
            ),
            (
                json!({"rateLimitPerFrequency": 2, "rateLimitFrequencyInSeconds": 0}),
                None,
                rate(2, 1),
            ),
            (json!({"rateLimitPerFrequency": -2}), None, None),
        ] {
            let mut named = json!({"name": "greet"});
            for (key, value) in def.as_object().unwrap() {
                named[key] = value.clone();
            }
            let limits = limits_of(&serde_json::from_value(named).unwrap());
            assert_eq!((limits.at_once, limits.rate), (at_once, limit), "{def}");
        }
    }

    #[test]
    fn who_polls_beside_us_is_told_for_a_while() {
        let (plain, gpu) = (
            QueueName::new("greet", None),
            QueueName::new("greet", Some("gpu")),
        );
        let mut types = TaskTypes::default();
        let mut note = |rows: &[(Option<&str>, Option<&str>, i64)], second| {
            let rows = rows.iter().map(|(domain, id, last_poll_time)| PollData {
                queue_name: "greet".to_owned(),
                domain: domain.map(str::to_owned),
                worker_id: id.map(str::to_owned),
                last_poll_time: *last_poll_time,
            });
            let said = Said {
                limits: Ok(Limits::default()),
                pollers: Some(rows.collect()),
            };
            let said = [("greet".to_owned(), said)].into();
            types.note(&["greet".to_owned()], &said, |id| id == "pod", at(second));
            (types.pollers(&plain), types.pollers(&gpu))
        };
        // Who polled before the first look may be long gone.
        let first = note(&[(None, Some("old"), 100), (Some("gpu"), None, 100)], 0);
        assert_eq!(first, (None, None));
        assert_eq!(note(&[(None, Some("old"), 100)], 60), (None, None));
        assert_eq!(note(&[(None, Some("pod"), 200)], 120), (None, None));
        let rows = [
            (None, Some("b"), 300),
            (Some("gpu"), None, 310),
            (Some(""), Some("c"), 9),
        ];
        let told = |names: &[&str], last_poll| {
            let names = names.iter().map(|n| (*n).to_owned()).collect();
            Some(Pollers { names, last_poll })
        };
        let both = (told(&["b"], 300), told(&[""], 310));
        assert_eq!(note(&rows, 180), both);
        // One of ours polled last: the others are there all the same.
        let rows = [(None, Some("a"), 400)];
        assert_eq!(note(&rows, 240).0, told(&["a", "b"], 400));
        assert_eq!(
            note(&[(None, Some("pod"), 500)], 300).0,
            told(&["a", "b"], 400)
        );
        assert_eq!(note(&[], 780), (told(&["a"], 400), None));
        assert_eq!(note(&[], 840), (None, None));
    }

    #[tokio::test]
    async fn definitions_that_hang_are_given_up() {
        runtime::install_tls_provider();
        // It takes connections and never answers.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/api", silent.local_addr().unwrap());
        let base = conductor_client::ApiBase::parse(&url).unwrap();
        let client = Client::new(base).unwrap();
        let names: Vec<String> = (0..PER_TICK).map(|i| i.to_string()).collect();
        let patience = Duration::from_millis(50);
        let requests = Requests::unbounded();
        let reading = read(&client, &names, &requests, patience);
        let read = tokio::time::timeout(patience * 40, reading).await;
        let (asked, said) = read.unwrap();
        assert_eq!((asked.len(), said.len()), (PER_TICK, 0));
    }
}
