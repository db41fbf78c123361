//! What one Conductor server says: queue sizes, and how many tasks may run at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    time::Duration,
};

use conductor_client::{Client, Error, Kind, QueueName};
use futures::{StreamExt, stream};
use scaling::Instant;

use super::{Failure, QueueReading, Unavailable};
use crate::{
    controller::observed::{Key, Share},
    references::Unresolved,
    worker::Worker,
};

/// How often task definitions are read again.
const LIMITS_AGAIN: Duration = Duration::from_secs(60);

/// How many task definitions are read in one tick, and how many of these at once: many workers
/// that start together are no burst at the server.
const LIMITS_PER_TICK: usize = 64;
const LIMITS_AT_ONCE: usize = 4;

/// What is known of a server.
#[derive(Debug, Default)]
pub(super) struct Server {
    queues: BTreeMap<QueueName, QueueReading>,
    limits: BTreeMap<String, Limit>,
    served: BTreeMap<QueueName, Vec<(Key, u32)>>,
}

#[derive(Debug, Clone, Copy)]
struct Limit {
    value: Option<u32>,
    read: Instant,
}

/// A limit, where there is one, or that it cannot be read.
pub(super) type Read = Result<Option<u32>, Unread>;

/// It cannot be read now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unread;

/// Why a call brought nothing.
#[derive(Debug, Clone)]
pub(super) struct Failed {
    kind: Failure,
    message: String,
}

/// The answer to one question for all queues.
pub(super) type Sizes = Result<BTreeMap<QueueName, u64>, Failed>;

impl Server {
    /// Notes who serves what.
    pub(super) fn serve<'a>(&mut self, workers: impl IntoIterator<Item = (&'a Key, &'a Worker)>) {
        self.served.clear();
        for (key, worker) in workers {
            for task in worker.tasks.iter().filter(|_| !worker.suspend) {
                let slots = task.concurrency.unwrap_or(worker.slots).min(worker.slots);
                let entry = self.served.entry(task.queue.clone()).or_default();
                entry.push((key.clone(), slots));
            }
        }
    }

    /// Notes an answer. A size that is not read anew keeps its time.
    pub(super) fn note_sizes(&mut self, asked: &[QueueName], sizes: &Sizes, now: Instant) {
        self.queues.retain(|queue, _| asked.contains(queue));
        for queue in asked {
            let reading = self.queues.entry(queue.clone()).or_default();
            match sizes {
                Ok(sizes) => {
                    reading.size = sizes.get(queue).map(|&size| (now, size));
                    reading.failing = None;
                }
                Err(failed) => {
                    let since = reading.failing.as_ref().map_or(now, |f| f.since);
                    reading.failing = Some(Unavailable {
                        since,
                        kind: failed.kind,
                        message: failed.message.clone(),
                    });
                }
            }
        }
    }

    /// The task types whose definitions are to be read again.
    pub(super) fn limits_due(&self, asked: &[QueueName], now: Instant) -> Vec<String> {
        let types: BTreeSet<&str> = asked.iter().map(QueueName::task_type).collect();
        types
            .into_iter()
            .filter(|name| {
                self.limits
                    .get(*name)
                    .is_none_or(|limit| now.seconds_since(limit.read) >= LIMITS_AGAIN.as_secs_f64())
            })
            .take(LIMITS_PER_TICK)
            .map(str::to_owned)
            .collect()
    }

    /// Notes limits; one that could not be read stays as it was. One that was not answered in
    /// time is due again at once, unless none was: such a server is left alone for a while.
    pub(super) fn note_limits(
        &mut self,
        asked: &[String],
        limits: &BTreeMap<String, Read>,
        now: Instant,
    ) {
        let answers = limits.values().any(Result::is_ok);
        for name in asked {
            let read = match limits.get(name) {
                Some(read) => *read,
                None if answers => continue,
                None => Err(Unread),
            };
            let value = read.unwrap_or_else(|Unread| self.limits.get(name).and_then(|l| l.value));
            self.limits.insert(name.clone(), Limit { value, read: now });
        }
    }

    /// What is known of a worker's queues.
    pub(super) fn queues_of(&self, worker: &Worker) -> BTreeMap<QueueName, QueueReading> {
        worker
            .tasks
            .iter()
            .filter_map(|task| self.queues.get_key_value(&task.queue))
            .map(|(queue, reading)| (queue.clone(), reading.clone()))
            .collect()
    }

    /// What is known of the limits of a worker's task types.
    pub(super) fn limits_of(&self, worker: &Worker) -> BTreeMap<String, u32> {
        worker
            .tasks
            .iter()
            .filter_map(|task| {
                let name = task.queue.task_type();
                Some((name.to_owned(), self.limits.get(name)?.value?))
            })
            .collect()
    }
}

/// Which of a worker's queues others serve too, whoever they are to that server.
pub(super) fn shares_of(
    identities: &[&Server],
    key: &Key,
    worker: &Worker,
) -> BTreeMap<QueueName, Share> {
    let mut shares = BTreeMap::new();
    for task in &worker.tasks {
        let servers: Vec<&(Key, u32)> = identities
            .iter()
            .filter_map(|server| server.served.get(&task.queue))
            .flatten()
            .collect();
        let own = servers.iter().find(|(k, _)| k == key);
        let with: Vec<Key> = servers
            .iter()
            .map(|(other, _)| other)
            .filter(|other| *other != key)
            .cloned()
            .collect();
        if let Some((_, own)) = own
            && !with.is_empty()
        {
            let share = Share {
                with,
                own: *own,
                all: servers.iter().map(|(_, slots)| slots).sum(),
            };
            shares.insert(task.queue.clone(), share);
        }
    }
    shares
}

// === the calls ===

/// One call for all queues, as long as `patience` lasts.
pub(super) async fn sizes(client: &Client, queues: &[QueueName], patience: Duration) -> Sizes {
    match in_time(patience, client.queue_sizes(queues)).await {
        Some(Ok(sizes)) => Ok(sizes),
        Some(Err(error)) => Err(Failed::of(&error)),
        None => Err(Failed {
            kind: Failure::Unreachable,
            message: format!("no answer within {} s", patience.as_secs()),
        }),
    }
}

/// `concurrentExecLimit` by task type, of those that are answered while `patience` lasts.
pub(super) async fn limits(
    client: &Client,
    names: &[String],
    patience: Duration,
) -> BTreeMap<String, Read> {
    let mut names = names.to_vec();
    // Those whose turn comes too late are others the next time.
    fastrand::shuffle(&mut names);
    stream::iter(names)
        .map(async |name: String| {
            let read = match client.task_def(&name).await {
                Ok(def) => Ok(def
                    .concurrent_exec_limit
                    .and_then(|limit| u32::try_from(limit).ok())
                    .filter(|&limit| limit > 0)),
                Err(error) if error.kind() == Kind::Gone => Ok(None),
                Err(_) => Err(Unread),
            };
            (name, read)
        })
        .buffer_unordered(LIMITS_AT_ONCE)
        .take_until(tokio::time::sleep(patience))
        .collect()
        .await
}

async fn in_time<T>(patience: Duration, call: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(patience, call).await.ok()
}

impl From<Unresolved> for Failed {
    fn from(unresolved: Unresolved) -> Self {
        let (kind, message) = match unresolved {
            Unresolved::Secret(why) => (Failure::SecretNotFound, why),
            Unresolved::ConfigMap(why) => (Failure::ConfigMapNotFound, why),
            Unresolved::Invalid(why) => (Failure::ConnectionInvalid, why),
            Unresolved::Forbidden(why) => (Failure::Forbidden, why),
            Unresolved::Unknown(why) => (Failure::Unreachable, why),
        };
        Self { kind, message }
    }
}

impl Failed {
    /// No client can be made.
    pub(super) fn invalid(message: String) -> Self {
        Self {
            kind: Failure::ConnectionInvalid,
            message,
        }
    }

    #[cfg(test)]
    pub(super) fn kind(&self) -> Failure {
        self.kind
    }

    #[cfg(test)]
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Whether other keys may do.
    pub(super) fn is_unauthorized(&self) -> bool {
        self.kind == Failure::Unauthorized
    }

    fn of(error: &Error) -> Self {
        let kind = match error.kind() {
            Kind::Retryable { .. } => Failure::Unreachable,
            Kind::Unauthorized if error.status() == Some(403) => Failure::Forbidden,
            Kind::Unauthorized => Failure::Unauthorized,
            Kind::Rejected | Kind::Gone => Failure::Refused,
        };
        Self {
            kind,
            message: error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::at(Duration::from_secs(seconds))
    }

    #[test]
    fn a_failure_keeps_the_last_size_and_its_own_beginning() {
        let queue = QueueName::new("greet", None);
        let asked = [queue.clone()];
        let mut server = Server::default();
        server.note_sizes(&asked, &Ok([(queue.clone(), 7)].into()), at(1));
        for second in 2..4 {
            let failed = Failed {
                kind: Failure::Unreachable,
                message: "no".to_owned(),
            };
            server.note_sizes(&asked, &Err(failed), at(second));
        }
        let reading = &server.queues[&queue];
        assert_eq!(reading.size, Some((at(1), 7)));
        assert_eq!(reading.failing.as_ref().unwrap().since, at(2));
        server.note_sizes(&asked, &Ok([(queue.clone(), 8)].into()), at(9));
        assert_eq!(server.queues[&queue].failing, None);
        server.note_sizes(&[], &Ok(BTreeMap::new()), at(10));
        assert!(server.queues.is_empty(), "nobody asks any more");
    }

    #[test]
    fn limits_are_read_once_a_minute_and_outlive_a_failure() {
        let asked = [
            QueueName::new("greet", None),
            QueueName::new("greet", Some("gpu")),
        ];
        let mut server = Server::default();
        assert_eq!(server.limits_due(&asked, at(0)), ["greet"]);
        let asked_for = ["greet".to_owned()];
        let read = |read: Read| [("greet".to_owned(), read)].into();
        server.note_limits(&asked_for, &read(Ok(Some(5))), at(0));
        assert!(server.limits_due(&asked, at(59)).is_empty());
        assert_eq!(server.limits_due(&asked, at(60)), ["greet"]);
        server.note_limits(&asked_for, &read(Err(Unread)), at(60));
        assert_eq!(server.limits["greet"].value, Some(5));
        server.note_limits(&asked_for, &read(Ok(None)), at(120));
        assert_eq!(server.limits["greet"].value, None);
    }

    #[test]
    fn limits_that_come_too_late_are_asked_for_again_unless_none_comes() {
        let asked = ["a", "b"].map(|name| QueueName::new(name, None));
        let names = ["a".to_owned(), "b".to_owned()];
        let mut server = Server::default();
        let both = ["a", "b"].map(|name| (name.to_owned(), Ok(Some(5))));
        server.note_limits(&names, &both.into(), at(0));
        server.note_limits(&names, &[("a".to_owned(), Ok(None))].into(), at(60));
        assert_eq!(server.limits["b"].value, Some(5));
        assert_eq!(server.limits_due(&asked, at(65)), ["b"]);
        server.note_limits(&names, &BTreeMap::new(), at(65));
        assert_eq!(server.limits["b"].value, Some(5));
        assert!(server.limits_due(&asked, at(124)).is_empty());
    }

    #[test]
    fn a_queue_is_shared_by_all_identities_of_a_server() {
        let defaults = crate::worker::Defaults {
            conductor_url: None,
            sidecar_image: String::new(),
            sidecar_image_pull_policy: String::new(),
        };
        let worker = |secret: &str| {
            let spec = serde_json::json!({
                "connection": {"url": "http://c", "authSecretRef": {"name": secret}},
                "tasks": [{"name": "greet"}],
                "concurrency": 3,
                "scaling": {"maxWait": "30s"},
                "template": {"spec": {"containers": [{"name": "app", "image": "greet:dev"}]}},
            });
            Worker::parse(&serde_json::from_value(spec).unwrap(), &defaults).unwrap()
        };
        let key = |name: &str| Key {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
        };
        let (one, two) = (worker("a"), worker("b"));
        let mut servers = [Server::default(), Server::default()];
        servers[0].serve([(&key("one"), &one)]);
        servers[1].serve([(&key("two"), &two)]);
        let all: Vec<&Server> = servers.iter().collect();
        let shares = shares_of(&all, &key("one"), &one);
        let expected = Share {
            with: vec![key("two")],
            own: 3,
            all: 6,
        };
        assert_eq!(shares[&QueueName::new("greet", None)], expected);
        assert!(shares_of(&all[..1], &key("one"), &one).is_empty());
    }

    #[tokio::test]
    async fn definitions_that_hang_are_given_up() {
        runtime::install_tls_provider();
        // It takes connections and never answers.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/api", silent.local_addr().unwrap());
        let base = conductor_client::ApiBase::parse(&url).unwrap();
        let client = Client::new(base).unwrap();
        let names: Vec<String> = (0..LIMITS_PER_TICK).map(|i| i.to_string()).collect();
        let patience = Duration::from_millis(50);
        let read = in_time(patience * 40, limits(&client, &names, patience)).await;
        assert!(read.unwrap().is_empty());
    }
}
