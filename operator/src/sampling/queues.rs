//! What one Conductor server says of its queues, and who serves them.

use std::collections::BTreeMap;

use conductor_client::QueueName;
use scaling::Instant;

use super::{
    Limits, Pollers, QueueReading, Unavailable, failed::Failed, sizes::Sizes, task_types::TaskTypes,
};
use crate::{
    controller::observed::{Key, Share},
    worker::Worker,
};

/// What is known of a server.
#[derive(Debug, Default)]
pub(super) struct Server {
    queues: BTreeMap<QueueName, QueueReading>,
    served: BTreeMap<QueueName, Vec<(Key, u32)>>,
    /// Its task types.
    pub(super) task_types: TaskTypes,
}

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

    /// Notes what came of asking. A size that is not read anew keeps its time.
    pub(super) fn note_sizes(&mut self, asked: &[QueueName], sizes: &Sizes, now: Instant) {
        self.queues
            .retain(|queue, _| asked.binary_search(queue).is_ok());
        for queue in asked {
            let reading = self.queues.entry(queue.clone()).or_default();
            reading.rounds = sizes.rounds;
            if let Some(&read) = sizes.read.get(queue) {
                reading.size = Some(read);
                reading.failing = None;
            } else if let Some(failed) = sizes.failed.get(queue) {
                let since = reading.failing.as_ref().map_or(now, |f| f.since);
                reading.failing = Some(unavailable(failed, since));
            }
        }
        self.task_types.keep(asked);
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
    pub(super) fn limits_of(&self, worker: &Worker) -> BTreeMap<String, Limits> {
        let names = worker.tasks.iter().map(|task| task.queue.task_type());
        names
            .filter_map(|name| Some((name.to_owned(), self.task_types.limits(name)?)))
            .collect()
    }

    /// Who polls a worker's queues beside our pods.
    pub(super) fn pollers_of(&self, worker: &Worker) -> BTreeMap<QueueName, Pollers> {
        let queues = worker.tasks.iter().map(|task| &task.queue);
        queues
            .filter_map(|queue| Some((queue.clone(), self.task_types.pollers(queue)?)))
            .collect()
    }
}

fn unavailable(failed: &Failed, since: Instant) -> Unavailable {
    Unavailable {
        since,
        kind: failed.kind(),
        message: failed.message().to_owned(),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::at(Duration::from_secs(seconds))
    }

    #[test]
    fn a_failure_keeps_the_last_size_and_its_own_beginning() {
        let queue = QueueName::new("greet", None);
        let asked = [queue.clone()];
        let mut server = Server::default();
        let read = |second, size| Sizes {
            read: [(queue.clone(), (at(second), size))].into(),
            rounds: 1,
            ..Sizes::default()
        };
        server.note_sizes(&asked, &read(1, 7), at(1));
        for second in 2..4 {
            let failed = Sizes::none(&asked, &Failed::invalid("no".to_owned()));
            server.note_sizes(&asked, &failed, at(second));
        }
        // Its turn does not come in each round.
        let others = Sizes {
            rounds: 3,
            ..Sizes::default()
        };
        server.note_sizes(&asked, &others, at(5));
        let reading = &server.queues[&queue];
        assert_eq!((reading.size, reading.rounds), (Some((at(1), 7)), 3));
        assert_eq!(reading.failing.as_ref().unwrap().since, at(2));
        server.note_sizes(&asked, &read(9, 8), at(9));
        assert_eq!(server.queues[&queue].failing, None);
        server.note_sizes(&[], &Sizes::default(), at(10));
        assert!(server.queues.is_empty(), "nobody asks any more");
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
}
