//! Asks for the sizes of many queues, in as few requests as will do.
//!
//! ```text
//! queues ─> chunks of 6 KB ─> /queue/sizes ─┬─> sizes
//!                                           ├─ 403, 404, …: halves, down to the queue it is about
//!                                           └─ no such endpoint: /queue/size, one by one
//! ```
//!
//! What was found out is remembered: a queue that is refused is left out of the others'
//! requests, and tried again now and then.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use conductor_client::{Client, QueueName, queue_chunks};
use futures::{StreamExt, stream};
use scaling::Instant;

use super::{budget::Budget, failed::Failed};
use crate::clock::Clock;

/// How soon a server that has no `/queue/sizes` is asked for it again, in seconds: it may have
/// been upgraded.
const SIZES_AGAIN: f64 = 600.0;

/// How soon a queue that was refused is tried again, in seconds: somebody may have allowed it.
const REFUSED_AGAIN: f64 = 60.0;

/// How many refused queues are then tried one by one, where they are refused together.
const TRIES: usize = 8;

/// How many queues are asked for at once, one by one.
const AT_ONCE: usize = 4;

/// A server's requests, shared by all that ask it.
#[derive(Debug, Clone)]
pub(super) struct Requests {
    budget: Arc<Mutex<Budget>>,
    clock: Clock,
}

impl Requests {
    pub(super) fn new(budget: Budget, clock: Clock) -> Self {
        Self {
            budget: Arc::new(Mutex::new(budget)),
            clock,
        }
    }

    /// Takes one request, if one is left.
    pub(super) fn take(&self) -> bool {
        let now = self.now();
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        budget.take(now)
    }

    fn now(&self) -> Instant {
        self.clock.now().clock
    }

    #[cfg(test)]
    pub(super) fn unbounded() -> Self {
        let clock = Clock::start();
        Self::new(Budget::new(1e9, 1.0, clock.now().clock), clock)
    }
}

/// What came of asking. A queue that is in neither was not asked for: its turn comes.
#[derive(Debug, Clone, Default)]
pub(super) struct Sizes {
    /// Sizes, each with the time at which it arrived.
    pub(super) read: BTreeMap<QueueName, (Instant, u64)>,
    /// Why others cannot be read.
    pub(super) failed: BTreeMap<QueueName, Failed>,
    /// In how many rounds like this one each queue is asked for once; at least 1.
    pub(super) rounds: u32,
}

impl Sizes {
    /// None can be read.
    pub(super) fn none(queues: &[QueueName], failed: &Failed) -> Self {
        let failed = queues.iter().map(|q| (q.clone(), failed.clone()));
        Self {
            failed: failed.collect(),
            rounds: 1,
            ..Self::default()
        }
    }

    /// Whether other keys may do.
    pub(super) fn are_unauthorized(&self) -> bool {
        self.failed.values().any(Failed::is_unauthorized)
    }

    /// Whether the server can be asked at all.
    pub(super) fn are_answered(&self) -> bool {
        self.failed.values().all(Failed::is_of_what_was_asked)
    }

    fn has(&self, queue: &QueueName) -> bool {
        self.read.contains_key(queue) || self.failed.contains_key(queue)
    }
}

/// What was found out about how a server answers.
#[derive(Debug)]
pub(super) struct Asker {
    requests: Requests,
    /// `/queue/sizes` has answered.
    has_sizes: bool,
    /// It is not there; found out when.
    no_sizes: Option<Instant>,
    refused: BTreeSet<QueueName>,
    /// When these were tried last; long ago where it is none.
    tried: Option<Instant>,
    /// Whose turn it is, where not all could be asked for.
    next: Option<QueueName>,
    rounds: u32,
    /// Rounds since one in which requests were left.
    passed: u32,
    /// When the server said that it wants to be left alone, and how.
    pause: Option<(Instant, Failed)>,
}

/// Why a request brought nothing.
enum No {
    /// It was understood and is not granted.
    Refused(Failed),
    /// No request brings anything now.
    Over(Failed),
    /// No request is left, or no time.
    Spent,
}

impl Asker {
    pub(super) fn new(requests: Requests) -> Self {
        Self {
            requests,
            has_sizes: false,
            no_sizes: None,
            refused: BTreeSet::new(),
            tried: None,
            next: None,
            rounds: 1,
            passed: 0,
            pause: None,
        }
    }

    /// The server's requests.
    pub(super) fn requests(&self) -> Requests {
        self.requests.clone()
    }

    /// Asks for all queues (sorted, each once), as long as `patience` and the requests last.
    pub(super) async fn ask(
        &mut self,
        client: &Client,
        queues: &[QueueName],
        patience: Duration,
    ) -> Sizes {
        let now = self.requests.now();
        if let Some((since, failed)) = &self.pause
            && failed.wants_a_pause() > now.seconds_since(*since)
        {
            return Sizes::none(queues, failed);
        }
        self.pause = None;
        let is_due = |since: Instant, after: f64| now.seconds_since(since) >= after;
        if self
            .no_sizes
            .is_some_and(|since| is_due(since, SIZES_AGAIN))
        {
            (self.no_sizes, self.has_sizes) = (None, false);
        }
        self.refused.retain(|q| queues.binary_search(q).is_ok());
        let mut usual: Vec<QueueName> = queues.to_vec();
        usual.retain(|q| !self.refused.contains(q));
        if let Some(next) = &self.next {
            let turn = usual.partition_point(|q| q < next) % usual.len().max(1);
            usual.rotate_left(turn);
        }

        let mut asking = Asking {
            client,
            requests: self.requests.clone(),
            deadline: tokio::time::Instant::now() + patience,
            patience,
            sizes: Sizes::default(),
        };
        let mut end = self.ask_usual(&mut asking, &usual, now).await;
        if end.is_ok()
            && !self.refused.is_empty()
            && self.tried.is_none_or(|since| is_due(since, REFUSED_AGAIN))
        {
            self.tried = Some(now);
            end = self.ask_refused(&mut asking, now).await;
        }
        let mut sizes = asking.sizes;
        if let Err(No::Over(failed)) = end {
            if failed.wants_a_pause() > 0.0 {
                self.pause = Some((now, failed.clone()));
            }
            for queue in &usual {
                if !sizes.has(queue) {
                    sizes.failed.insert(queue.clone(), failed.clone());
                }
            }
        }
        let answered = usual.iter().filter(|q| sizes.has(q)).count();
        self.next = usual.iter().find(|q| !sizes.has(q)).cloned();
        if answered > 0 {
            let rounds = u32::try_from(usual.len().div_ceil(answered)).unwrap_or(u32::MAX);
            self.rounds = rounds.saturating_mul(self.passed.saturating_add(1));
            self.passed = 0;
        } else if !usual.is_empty() {
            self.passed = self.passed.saturating_add(1);
            self.rounds = self.rounds.max(self.passed.saturating_add(1));
        }
        sizes.rounds = self.rounds;
        sizes
    }

    async fn ask_usual(
        &mut self,
        asking: &mut Asking<'_>,
        queues: &[QueueName],
        now: Instant,
    ) -> Result<(), No> {
        let mut groups: VecDeque<Vec<QueueName>> = queue_chunks(queues)
            .into_iter()
            .map(<[_]>::to_vec)
            .collect();
        let mut singles = Vec::new();
        let mut has_looked = false;
        while let Some(mut group) = groups.pop_front() {
            if self.no_sizes.is_some() {
                singles.append(&mut group);
                continue;
            }
            let failed = match asking.many(&group).await {
                Ok(()) => {
                    self.has_sizes = true;
                    // What the answer leaves out may still be asked for by its name.
                    group.retain(|q| !asking.sizes.has(q));
                    singles.append(&mut group);
                    continue;
                }
                Err(No::Refused(failed)) => failed,
                Err(no) => return Err(no),
            };
            if !self.has_sizes && !has_looked && failed.may_be_of_the_endpoint() {
                has_looked = true;
                let first = group.remove(0);
                self.look_for_sizes(asking, first, &group, now).await?;
                groups.push_front(group);
            } else if group.len() == 1 {
                self.refuse(asking, group.swap_remove(0), failed, now);
            } else {
                let half = group.split_off(group.len() / 2);
                groups.push_front(half);
                groups.push_front(group);
            }
        }
        self.ask_singly(asking, singles, now).await
    }

    /// Finds out whether there is a `/queue/sizes`, by the first queue of a group that was
    /// refused.
    async fn look_for_sizes(
        &mut self,
        asking: &mut Asking<'_>,
        first: QueueName,
        others: &[QueueName],
        now: Instant,
    ) -> Result<(), No> {
        if !others.is_empty() {
            match asking.many(std::slice::from_ref(&first)).await {
                Ok(()) => {
                    self.has_sizes = true;
                    return Ok(());
                }
                Err(No::Refused(_)) => {}
                Err(no) => return Err(no),
            }
        }
        match asking.size(&first).await {
            Ok(size) => {
                self.no_sizes = Some(now);
                asking.note(first, size);
                Ok(())
            }
            Err(No::Refused(failed)) => {
                self.refuse(asking, first, failed, now);
                Ok(())
            }
            Err(no) => Err(no),
        }
    }

    async fn ask_singly(
        &mut self,
        asking: &mut Asking<'_>,
        queues: Vec<QueueName>,
        now: Instant,
    ) -> Result<(), No> {
        let (requests, shared) = (self.requests.clone(), &*asking);
        let mut found = Vec::new();
        let mut end = Ok(());
        let mut answers = stream::iter(queues)
            .map(async |queue: QueueName| {
                let answer = shared.size(&queue).await;
                (queue, answer, requests.now())
            })
            .buffer_unordered(AT_ONCE);
        while let Some((queue, answer, at)) = answers.next().await {
            match answer {
                Ok(size) => found.push((queue, Ok((at, size)))),
                Err(No::Refused(failed)) => found.push((queue, Err(failed))),
                Err(No::Over(failed)) => {
                    end = Err(No::Over(failed));
                    break;
                }
                // Others may be under way.
                Err(No::Spent) => end = Err(No::Spent),
            }
        }
        drop(answers);
        for (queue, answer) in found {
            match answer {
                Ok(read) => {
                    self.refused.remove(&queue);
                    asking.sizes.read.insert(queue, read);
                }
                Err(failed) => self.refuse(asking, queue, failed, now),
            }
        }
        end
    }

    /// Asks for what was refused: for all of it together, and where that is refused again for
    /// some of it.
    async fn ask_refused(&mut self, asking: &mut Asking<'_>, now: Instant) -> Result<(), No> {
        let mut queues: Vec<QueueName> = self.refused.iter().cloned().collect();
        if self.no_sizes.is_none() {
            for chunk in queue_chunks(&queues) {
                match asking.many(chunk).await {
                    Ok(()) | Err(No::Refused(_)) => {}
                    Err(no) => return Err(no),
                }
            }
            self.refused.retain(|q| !asking.sizes.has(q));
            queues.retain(|q| self.refused.contains(q));
        }
        // Others are tried the next time.
        fastrand::shuffle(&mut queues);
        queues.truncate(TRIES);
        self.ask_singly(asking, queues, now).await
    }

    fn refuse(&mut self, asking: &mut Asking<'_>, queue: QueueName, failed: Failed, now: Instant) {
        if self.refused.is_empty() {
            self.tried = Some(now);
        }
        self.refused.insert(queue.clone());
        asking.sizes.failed.insert(queue, failed);
    }
}

/// One round of requests.
struct Asking<'a> {
    client: &'a Client,
    requests: Requests,
    deadline: tokio::time::Instant,
    patience: Duration,
    sizes: Sizes,
}

impl Asking<'_> {
    /// By `/queue/sizes`; all in one request. What the answer leaves out is left out.
    async fn many(&mut self, queues: &[QueueName]) -> Result<(), No> {
        let sizes = self.send(self.client.queue_sizes(queues)).await?;
        for (queue, size) in sizes {
            self.note(queue, size);
        }
        Ok(())
    }

    /// By `/queue/size`.
    async fn size(&self, queue: &QueueName) -> Result<u64, No> {
        self.send(self.client.queue_size(queue)).await
    }

    fn note(&mut self, queue: QueueName, size: u64) {
        let at = self.requests.now();
        self.sizes.read.insert(queue, (at, size));
    }

    async fn send<T>(
        &self,
        call: impl Future<Output = Result<T, conductor_client::Error>>,
    ) -> Result<T, No> {
        if tokio::time::Instant::now() >= self.deadline || !self.requests.take() {
            return Err(No::Spent);
        }
        match tokio::time::timeout_at(self.deadline, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                let failed = Failed::of(&error);
                Err(if failed.is_of_what_was_asked() {
                    No::Refused(failed)
                } else {
                    No::Over(failed)
                })
            }
            Err(_) => Err(No::Over(Failed::late(self.patience))),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        Json, Router,
        extract::State,
        http::{StatusCode, Uri},
        response::{IntoResponse, Response},
        routing::get,
    };
    use conductor_client::ApiBase;
    use serde_json::{Map, json};

    use super::*;
    use crate::sampling::Failure;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A Conductor with its own mind.
    #[derive(Debug, Clone, Default)]
    struct Mind {
        /// Task types that are refused, and how.
        refused: BTreeMap<String, u16>,
        /// Left out of answers to many.
        left_out: Vec<String>,
        /// What `/queue/sizes` answers in any case.
        sizes: Option<u16>,
        /// What everything is answered.
        everything: Option<u16>,
        /// The requests, by what was asked for: how many types in each.
        many: Vec<usize>,
        one: usize,
    }

    type Shared = Arc<Mutex<Mind>>;

    fn refusal(status: u16) -> Response {
        let body = json!({"status": status, "message": "no", "retryable": false});
        (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
    }

    /// The task types of a query; each has as many waiting tasks as its name has letters.
    fn types_of(uri: &Uri) -> Vec<String> {
        let query = uri.query().unwrap_or_default().split('&');
        query
            .filter_map(|part| part.strip_prefix("taskType=").map(str::to_owned))
            .collect()
    }

    async fn many(State(mind): State<Shared>, uri: Uri) -> Response {
        let mut mind = mind.lock().unwrap();
        let types = types_of(&uri);
        mind.many.push(types.len());
        let refused = types.iter().find_map(|t| mind.refused.get(t).copied());
        if let Some(status) = mind.everything.or(mind.sizes).or(refused) {
            return refusal(status);
        }
        let sizes: Map<_, _> = types
            .into_iter()
            .filter(|t| !mind.left_out.contains(t))
            .map(|t| (t.clone(), t.len().into()))
            .collect();
        Json(sizes).into_response()
    }

    async fn one(State(mind): State<Shared>, uri: Uri) -> Response {
        let mut mind = mind.lock().unwrap();
        mind.one += 1;
        let name = types_of(&uri).remove(0);
        match mind.everything.or(mind.refused.get(&name).copied()) {
            Some(status) => refusal(status),
            None => Json(name.len()).into_response(),
        }
    }

    /// A server and somebody who asks it.
    struct Pair {
        mind: Shared,
        client: Client,
        asker: Asker,
    }

    impl Pair {
        async fn new(mind: Mind, requests: Requests) -> Self {
            runtime::install_tls_provider();
            let mind = Arc::new(Mutex::new(mind));
            let router = Router::new()
                .route("/api/tasks/queue/sizes", get(many))
                .route("/api/tasks/queue/size", get(one))
                .with_state(mind.clone());
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            tokio::spawn(async move { axum::serve(listener, router).await });
            Self {
                mind,
                client: Client::new(ApiBase::parse(&url).unwrap()).unwrap(),
                asker: Asker::new(requests),
            }
        }

        async fn ask(&mut self, queues: &[QueueName]) -> Sizes {
            self.asker.ask(&self.client, queues, PATIENCE).await
        }

        /// The requests since this was asked for last.
        fn requests(&self) -> (usize, usize) {
            let mut mind = self.mind.lock().unwrap();
            (
                std::mem::take(&mut mind.many).len(),
                std::mem::take(&mut mind.one),
            )
        }
    }

    fn queues(n: usize) -> Vec<QueueName> {
        (0..n)
            .map(|i| QueueName::new(format!("type_{i:03}"), None))
            .collect()
    }

    fn refused(names: &[&str], status: u16) -> BTreeMap<String, u16> {
        names.iter().map(|n| ((*n).to_owned(), status)).collect()
    }

    fn failed(sizes: &Sizes) -> Vec<(String, Failure)> {
        let failed = sizes.failed.iter();
        failed.map(|(q, f)| (q.to_string(), f.kind())).collect()
    }

    #[tokio::test]
    async fn many_queues_cost_few_requests() {
        let mut pair = Pair::new(Mind::default(), Requests::unbounded()).await;
        let queues = queues(300);
        let sizes = pair.ask(&queues).await;
        assert_eq!(
            (sizes.read.len(), sizes.failed.len(), sizes.rounds),
            (300, 0, 1)
        );
        assert!(sizes.read.values().all(|(_, size)| *size == 8));
        assert_eq!(pair.requests(), (2, 0));
        assert!(pair.ask(&[]).await.read.is_empty());
        assert_eq!(pair.requests(), (0, 0));
    }

    #[tokio::test]
    async fn one_queue_that_is_refused_takes_no_other_with_it() {
        for (status, kind) in [
            (403, Failure::Forbidden),
            (404, Failure::Refused),
            (400, Failure::Refused),
        ] {
            let mind = Mind {
                refused: refused(&["type_017"], status),
                ..Mind::default()
            };
            let mut pair = Pair::new(mind, Requests::unbounded()).await;
            let queues = queues(64);
            let sizes = pair.ask(&queues).await;
            assert_eq!(sizes.read.len(), 63, "{status}");
            assert_eq!(failed(&sizes), [("type_017".to_owned(), kind)]);
            assert!(sizes.are_answered() && !sizes.are_unauthorized());
            let (many, one) = pair.requests();
            assert!(many + one <= 16, "{status}: {many} and {one} requests");
            // It is remembered: the others are read at once, and it is not asked for.
            let sizes = pair.ask(&queues).await;
            assert_eq!((sizes.read.len(), sizes.failed.len()), (63, 0));
            assert_eq!(pair.requests(), (1, 0));
        }
    }

    #[tokio::test]
    async fn what_was_refused_is_tried_again_now_and_then() {
        let mind = Mind {
            refused: refused(&["type_003", "type_005"], 403),
            ..Mind::default()
        };
        let mut pair = Pair::new(mind, Requests::unbounded()).await;
        let queues = queues(8);
        assert_eq!(pair.ask(&queues).await.failed.len(), 2);
        pair.requests();
        pair.asker.tried = None;
        // Still refused: together, and then each.
        let sizes = pair.ask(&queues).await;
        assert_eq!((sizes.read.len(), sizes.failed.len()), (6, 2));
        assert_eq!(pair.requests(), (2, 2));
        pair.mind.lock().unwrap().refused.remove("type_003");
        pair.asker.tried = None;
        let sizes = pair.ask(&queues).await;
        assert_eq!((sizes.read.len(), sizes.failed.len()), (7, 1));
        pair.mind.lock().unwrap().refused.clear();
        pair.asker.tried = None;
        pair.requests();
        assert_eq!(pair.ask(&queues).await.read.len(), 8);
        assert_eq!(pair.requests(), (2, 0));
        assert_eq!(pair.ask(&queues).await.read.len(), 8);
        assert_eq!(pair.requests(), (1, 0), "as if nothing had been");
    }

    #[tokio::test]
    async fn keys_that_may_read_no_queue_do_not_cost_a_request_each_time() {
        let mind = Mind {
            everything: Some(403),
            ..Mind::default()
        };
        let mut pair = Pair::new(mind, Requests::unbounded()).await;
        let queues = queues(100);
        assert_eq!(pair.ask(&queues).await.failed.len(), 100);
        pair.requests();
        assert!(pair.ask(&queues).await.failed.is_empty());
        assert_eq!(pair.requests(), (0, 0));
        pair.asker.tried = None;
        pair.ask(&queues).await;
        assert_eq!(pair.requests(), (1, TRIES));
    }

    #[tokio::test]
    async fn a_server_without_sizes_is_asked_one_by_one() {
        for status in [404, 405, 501] {
            let mind = Mind {
                sizes: Some(status),
                ..Mind::default()
            };
            let mut pair = Pair::new(mind, Requests::unbounded()).await;
            let queues = queues(20);
            let sizes = pair.ask(&queues).await;
            assert_eq!((sizes.read.len(), sizes.failed.len()), (20, 0), "{status}");
            assert_eq!(pair.requests(), (2, 20));
            assert_eq!(pair.ask(&queues).await.read.len(), 20);
            assert_eq!(pair.requests(), (0, 20), "it is remembered");
            // It is upgraded.
            pair.mind.lock().unwrap().sizes = None;
            pair.asker.no_sizes = None;
            assert_eq!(pair.ask(&queues).await.read.len(), 20);
            assert_eq!(pair.requests(), (1, 0));
        }
    }

    #[tokio::test]
    async fn a_queue_that_an_answer_leaves_out_is_asked_for_alone() {
        let mind = Mind {
            left_out: vec!["type_001".to_owned()],
            ..Mind::default()
        };
        let mut pair = Pair::new(mind, Requests::unbounded()).await;
        assert_eq!(pair.ask(&queues(3)).await.read.len(), 3);
        assert_eq!(pair.requests(), (1, 1));
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_asked_once() {
        for (status, kind) in [(503, Failure::Unreachable), (401, Failure::Unauthorized)] {
            let mind = Mind {
                everything: Some(status),
                ..Mind::default()
            };
            let mut pair = Pair::new(mind, Requests::unbounded()).await;
            let sizes = pair.ask(&queues(300)).await;
            assert_eq!(sizes.failed.len(), 300);
            assert!(sizes.failed.values().all(|f| f.kind() == kind));
            assert_eq!(sizes.are_unauthorized(), kind == Failure::Unauthorized);
            assert!(!sizes.are_answered());
            assert_eq!(pair.requests(), (1, 0));
        }
    }

    #[tokio::test]
    async fn a_server_that_wants_fewer_requests_is_left_alone() {
        let mind = Mind {
            everything: Some(429),
            ..Mind::default()
        };
        let mut pair = Pair::new(mind, Requests::unbounded()).await;
        for requests in [1, 0, 0] {
            assert_eq!(pair.ask(&queues(3)).await.failed.len(), 3);
            assert_eq!(pair.requests(), (requests, 0));
        }
    }

    #[tokio::test]
    async fn a_round_without_a_request_left_makes_the_others_longer() {
        let clock = Clock::start();
        let requests = |n| {
            // So many, and then next to nothing.
            let budget = Budget::new(1e-3, f64::from(n) * 1e3, clock.now().clock);
            Requests::new(budget, clock)
        };
        let mut pair = Pair::new(Mind::default(), requests(1)).await;
        let queues = queues(3);
        let mut ask = async |more| {
            if more {
                pair.asker.requests = requests(1);
            }
            let sizes = pair.ask(&queues).await;
            (sizes.read.len(), sizes.failed.len(), sizes.rounds)
        };
        assert_eq!(ask(false).await, (3, 0, 1));
        assert_eq!(ask(false).await, (0, 0, 2));
        assert_eq!(ask(false).await, (0, 0, 3));
        assert_eq!(ask(true).await, (3, 0, 3), "once in three rounds");
        assert_eq!(ask(true).await, (3, 0, 1));
    }

    #[tokio::test]
    async fn queues_have_their_turns_where_requests_are_few() {
        let mind = Mind {
            sizes: Some(404),
            ..Mind::default()
        };
        let clock = Clock::start();
        // Full at first, and then next to nothing comes back.
        let requests = Requests::new(Budget::new(1e-3, 1e4, clock.now().clock), clock);
        let mut pair = Pair::new(mind, requests).await;
        let queues = queues(9);
        // Ten requests: two are lost on /queue/sizes.
        let sizes = pair.ask(&queues).await;
        assert_eq!((sizes.read.len(), sizes.rounds), (8, 2));
        let mut seen: BTreeMap<QueueName, usize> = BTreeMap::new();
        for _ in 0..9 {
            pair.asker.requests = {
                let budget = Budget::new(1e-3, 3e3, clock.now().clock);
                Requests::new(budget, clock)
            };
            let sizes = pair.ask(&queues).await;
            assert_eq!(
                (sizes.read.len(), sizes.failed.len(), sizes.rounds),
                (3, 0, 3)
            );
            for queue in sizes.read.into_keys() {
                *seen.entry(queue).or_default() += 1;
            }
        }
        assert!(
            seen.len() == 9 && seen.values().all(|&n| n == 3),
            "{seen:?}"
        );
    }
}
