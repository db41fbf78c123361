//! The calls.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use reqwest::{Method, RequestBuilder, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};

use url::Url;

use crate::{
    ApiBase, Connection, Error, Malformed, PollData, QueueName, StartWorkflow, Task, TaskDef,
    TaskResult, Workflow, WorkflowDef,
    link::{Answer, Link},
    task,
};

/// The longest a poll may wait at the server: more is answered 400.
pub const LONG_POLL_MAX: Duration = Duration::from_secs(5);

/// The most tasks to ask for at once: Redis servers give no more than 100.
pub const MAX_BATCH: usize = 100;

/// How long a connection or an answer may take, beyond a long poll's own time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A URL of 6 KB is below what Tomcat (8 KB) and common gateways take.
const MAX_QUERY: usize = 6 * 1024;

const BATCH_POLL: &str = "batch_poll";

/// A client of one Conductor server. Cheap to clone; clones share their connections and token.
#[derive(Clone)]
pub struct Client {
    pub(crate) link: Arc<Link>,
    base: ApiBase,
    addresses: Arc<Addresses>,
}

/// Where every task's report goes.
struct Addresses {
    tasks: Url,
    update_v2: Url,
}

/// A batch poll.
#[derive(Debug, Clone, Copy)]
pub struct BatchPoll<'a> {
    /// The task type.
    pub task_type: &'a str,
    /// Who polls.
    pub worker_id: &'a str,
    /// The domain; none for the default queue.
    pub domain: Option<&'a str>,
    /// How many tasks at most, 1 to [`MAX_BATCH`]; more is asked for as that many.
    pub count: usize,
    /// How long the server may wait, at most [`LONG_POLL_MAX`]. With `count` above 1, SQL
    /// servers up to 3.32 answer only when the batch is full or this has passed.
    pub wait: Duration,
}

impl Client {
    /// A client of the server at `base`, without authentication.
    ///
    /// # Panics
    /// When no rustls crypto provider is installed.
    pub fn new(base: ApiBase) -> Result<Self, Error> {
        Self::with_connection(base.into())
    }

    /// A client of a server. With credentials or files, call it within a tokio runtime: a
    /// task keeps them fresh until the last clone of the client is dropped.
    ///
    /// # Panics
    /// When no rustls crypto provider is installed.
    pub fn with_connection(connection: Connection) -> Result<Self, Error> {
        let base = connection.base().clone();
        let link = Arc::new(Link::new(connection)?);
        Ok(Self {
            link,
            addresses: Arc::new(Addresses {
                tasks: base.join(&["tasks"]),
                update_v2: base.join(&["tasks", "update-v2"]),
            }),
            base,
        })
    }

    /// The server's address.
    pub fn base(&self) -> &ApiBase {
        &self.base
    }

    // === tasks ===

    /// `GET /tasks/poll/{type}`: one task, or none. The server waits up to 100 ms.
    ///
    /// Never drop the future of a poll: the server would hand its task to nobody, until the
    /// task's response time-out.
    pub async fn poll(
        &self,
        task_type: &str,
        worker_id: &str,
        domain: Option<&str>,
    ) -> Result<Option<Task>, Error> {
        const CALL: &str = "poll";
        let request = self
            .request(Method::GET, &["tasks", "poll", task_type], PATIENCE)
            .query(&poll_query(worker_id, domain));
        let body = self.link.send(CALL, request).await?.body;
        if body.is_empty() {
            return Ok(None);
        }
        self.read(CALL, &body).map(Some)
    }

    /// `GET /tasks/poll/batch/{type}`: up to `count` tasks. Never drop its future, as with
    /// [`Client::poll`]. One that cannot be read makes an error of the whole answer.
    pub async fn batch_poll(&self, poll: BatchPoll<'_>) -> Result<Vec<Task>, Error> {
        let each = self.batch_poll_each(poll).await?;
        let all: Result<Vec<Task>, Malformed> = each.into_iter().collect();
        all.map_err(|e| self.nonsense(BATCH_POLL, e))
    }

    /// The same, where one task that cannot be read does not take the others with it: the
    /// server has handed all of them out.
    pub async fn batch_poll_each(
        &self,
        poll: BatchPoll<'_>,
    ) -> Result<Vec<Result<Task, Malformed>>, Error> {
        let wait = poll.wait.min(LONG_POLL_MAX);
        let mut query = poll_query(poll.worker_id, poll.domain);
        query.push(("count", poll.count.clamp(1, MAX_BATCH).to_string()));
        query.push(("timeout", wait.as_millis().to_string()));
        let request = self
            .request(
                Method::GET,
                &["tasks", "poll", "batch", poll.task_type],
                wait + PATIENCE,
            )
            .query(&query);
        let body = self.link.send(BATCH_POLL, request).await?.body;
        // Servers before October 2025 answer 204 where none is waiting.
        if body.is_empty() {
            return Ok(Vec::new());
        }
        let text = std::str::from_utf8(&body).map_err(|e| self.nonsense(BATCH_POLL, e))?;
        Task::batch_from_json(text).map_err(|e| self.nonsense(BATCH_POLL, e))
    }

    /// `POST /tasks`: reports a result. `Ok` also when the task was terminal already and the
    /// result thrown away; the server does not tell.
    pub async fn update_task(&self, result: &TaskResult) -> Result<(), Error> {
        self.update_task_within(result, PATIENCE).await
    }

    /// The same, with the longest time that it may take.
    pub async fn update_task_within(
        &self,
        result: &TaskResult,
        patience: Duration,
    ) -> Result<(), Error> {
        let request = self.post(&self.addresses.tasks, patience).json(result);
        self.updated("update_task", request, &result.task_id).await
    }

    /// `POST /tasks/update-v2`: reports a result and polls for one more task of the same type
    /// and domain, with `count` 1 and a wait of 100 ms at the server. Never drop its future,
    /// as with [`Client::poll`]. Servers before December 2024 do not have it: [`Kind::Gone`],
    /// or a 404 or 405.
    ///
    /// [`Kind::Gone`]: crate::Kind::Gone
    pub async fn update_task_v2(
        &self,
        result: &TaskResult,
    ) -> Result<Option<Result<Task, Malformed>>, Error> {
        const CALL: &str = "update_task_v2";
        let request = self.post(&self.addresses.update_v2, PATIENCE).json(result);
        let Answer { status, body } = self.link.send(CALL, request).await?;
        // Conductor has nothing to say but so; an empty page of a gateway has another status.
        if status == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        // What has no id is nobody's task, and the answer not Conductor's.
        let foreign = || self.link.hidden_in(Error::foreign(CALL, status, &body));
        let text = std::str::from_utf8(&body).map_err(|_| foreign())?;
        match Task::from_json(text) {
            Err(_) if !task::has_id(text) => Err(foreign()),
            task => Ok(Some(task)),
        }
    }

    /// `POST /tasks` with `extendLease`: the response time-out counts from now again.
    pub async fn extend_lease(
        &self,
        workflow_id: &str,
        task_id: &str,
        worker_id: &str,
    ) -> Result<(), Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        #[expect(clippy::struct_field_names, reason = "Conductor's own words")]
        struct Extend<'a> {
            workflow_instance_id: &'a str,
            task_id: &'a str,
            worker_id: &'a str,
            status: &'a str,
            extend_lease: bool,
        }
        let request = self.post(&self.addresses.tasks, PATIENCE).json(&Extend {
            workflow_instance_id: workflow_id,
            task_id,
            worker_id,
            status: "IN_PROGRESS",
            extend_lease: true,
        });
        self.updated("extend_lease", request, task_id).await
    }

    /// `POST /tasks/{id}/log`: adds a line to the task's log. The server takes any id.
    pub async fn log_task(&self, task_id: &str, line: &str) -> Result<(), Error> {
        let request = self
            .request(Method::POST, &["tasks", task_id, "log"], PATIENCE)
            .header(header::CONTENT_TYPE, "text/plain")
            .body(line.to_owned());
        self.link.send("log_task", request).await.map(drop)
    }

    /// `GET /tasks/{id}/log`: the task's log, empty where indexing is off.
    pub async fn task_logs(&self, task_id: &str) -> Result<Vec<crate::TaskLog>, Error> {
        const CALL: &str = "task_logs";
        let request = self.request(Method::GET, &["tasks", task_id, "log"], PATIENCE);
        let body = self.link.send(CALL, request).await?.body;
        if body.is_empty() {
            return Ok(Vec::new());
        }
        self.read(CALL, &body)
    }

    /// `GET /tasks/{id}`.
    pub async fn get_task(&self, task_id: &str) -> Result<Task, Error> {
        self.get_task_within(task_id, PATIENCE).await
    }

    /// The same, with the longest time that it may take.
    pub async fn get_task_within(&self, task_id: &str, patience: Duration) -> Result<Task, Error> {
        const CALL: &str = "get_task";
        let request = self.request(Method::GET, &["tasks", task_id], patience);
        self.read(CALL, &self.link.send(CALL, request).await?.body)
    }

    // === queues ===

    /// `GET /tasks/queue/sizes`: waiting tasks per queue, delayed ones included, running ones
    /// not. Conductor says 0 of queues that it does not know; one that the answer leaves out is
    /// left out here too. Many queues go in as few requests as URLs allow ([`queue_chunks`]).
    pub async fn queue_sizes(
        &self,
        queues: &[QueueName],
    ) -> Result<BTreeMap<QueueName, u64>, Error> {
        const CALL: &str = "queue_sizes";
        let mut all = BTreeMap::new();
        for chunk in queue_chunks(queues) {
            let names: Vec<String> = chunk.iter().map(ToString::to_string).collect();
            let query: Vec<_> = names.iter().map(|n| ("taskType", n.clone())).collect();
            let sizes: BTreeMap<String, u64> =
                self.get(CALL, &["tasks", "queue", "sizes"], &query).await?;
            let answered = chunk.iter().zip(&names);
            all.extend(answered.filter_map(|(q, name)| Some((q.clone(), *sizes.get(name)?))));
        }
        Ok(all)
    }

    /// `GET /tasks/queue/size`: the same for one queue.
    pub async fn queue_size(&self, queue: &QueueName) -> Result<u64, Error> {
        let mut query = vec![("taskType", queue.task_type().to_owned())];
        if let Some(domain) = queue.domain() {
            query.push(("domain", domain.to_owned()));
        }
        self.get("queue_size", &["tasks", "queue", "size"], &query)
            .await
    }

    /// `GET /tasks/queue/polldata`: the last poller per domain of a task type.
    pub async fn poll_data(&self, task_type: &str) -> Result<Vec<PollData>, Error> {
        let query = [("taskType", task_type.to_owned())];
        self.get("poll_data", &["tasks", "queue", "polldata"], &query)
            .await
    }

    // === definitions ===

    /// `GET /metadata/taskdefs/{name}`.
    pub async fn task_def(&self, name: &str) -> Result<TaskDef, Error> {
        self.get("task_def", &["metadata", "taskdefs", name], &[])
            .await
    }

    /// `POST /metadata/taskdefs`: creates or replaces all of them, or none.
    pub async fn register_task_defs(&self, defs: &[TaskDef]) -> Result<(), Error> {
        let request = self
            .request(Method::POST, &["metadata", "taskdefs"], PATIENCE)
            .json(defs);
        self.link
            .send("register_task_defs", request)
            .await
            .map(drop)
    }

    /// `PUT /metadata/taskdefs`: replaces one that exists.
    pub async fn update_task_def(&self, def: &TaskDef) -> Result<(), Error> {
        let request = self
            .request(Method::PUT, &["metadata", "taskdefs"], PATIENCE)
            .json(def);
        self.link.send("update_task_def", request).await.map(drop)
    }

    /// `PUT /metadata/workflow`: creates or replaces.
    pub async fn register_workflow_defs(&self, defs: &[WorkflowDef]) -> Result<(), Error> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Bulk {
            #[serde(default)]
            bulk_error_results: BTreeMap<String, String>,
        }
        const CALL: &str = "register_workflow_defs";
        let request = self
            .request(Method::PUT, &["metadata", "workflow"], PATIENCE)
            .json(defs);
        // A definition that is refused is only an entry in a 200.
        let body = self.link.send(CALL, request).await?.body;
        let bulk: Bulk = self.read(CALL, &body)?;
        match bulk.bulk_error_results.iter().next() {
            None => Ok(()),
            Some((name, why)) => Err(Error::refused(CALL, format!("{name}: {why}"))),
        }
    }

    // === workflows ===

    /// `POST /workflow`: starts one; its id.
    pub async fn start_workflow(&self, start: &StartWorkflow) -> Result<String, Error> {
        const CALL: &str = "start_workflow";
        let request = self
            .request(Method::POST, &["workflow"], PATIENCE)
            .json(start);
        let body = self.link.send(CALL, request).await?.body;
        let id = std::str::from_utf8(&body).map_err(|e| self.nonsense(CALL, e))?;
        Ok(id.trim().trim_matches('"').to_owned())
    }

    /// `GET /workflow/{id}`.
    pub async fn get_workflow(&self, id: &str, include_tasks: bool) -> Result<Workflow, Error> {
        let query = [("includeTasks", include_tasks.to_string())];
        self.get("get_workflow", &["workflow", id], &query).await
    }

    /// `DELETE /workflow/{id}`: terminates it.
    pub async fn terminate_workflow(&self, id: &str, reason: &str) -> Result<(), Error> {
        let request = self
            .request(Method::DELETE, &["workflow", id], PATIENCE)
            .query(&[("reason", reason)]);
        self.link
            .send("terminate_workflow", request)
            .await
            .map(drop)
    }

    /// `PUT /workflow/decide/{id}`: evaluates it now, time-outs included.
    pub async fn decide_workflow(&self, id: &str) -> Result<(), Error> {
        let request = self.request(Method::PUT, &["workflow", "decide", id], PATIENCE);
        self.link.send("decide_workflow", request).await.map(drop)
    }

    // === how ===

    /// The answer to an update is the task's id. A 200 with something else, such as the page
    /// of a gateway, comes from somebody who did not do it.
    async fn updated(
        &self,
        call: &'static str,
        request: RequestBuilder,
        task_id: &str,
    ) -> Result<(), Error> {
        let Answer { status, body } = self.link.send(call, request).await?;
        let said = body.trim_ascii();
        let said = said.strip_prefix(b"\"").unwrap_or(said);
        let said = said.strip_suffix(b"\"").unwrap_or(said);
        if said == task_id.as_bytes() {
            Ok(())
        } else {
            Err(self.link.hidden_in(Error::foreign(call, status, &body)))
        }
    }

    fn read<T: DeserializeOwned>(&self, call: &'static str, body: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(body).map_err(|e| self.nonsense(call, e))
    }

    /// The readers quote what they do not like.
    fn nonsense(&self, call: &'static str, why: impl fmt::Display) -> Error {
        self.link.hidden_in(Error::nonsense(call, why))
    }

    fn post(&self, address: &Url, patience: Duration) -> RequestBuilder {
        self.link.http().post(address.clone()).timeout(patience)
    }

    pub(crate) fn request(
        &self,
        method: Method,
        path: &[&str],
        patience: Duration,
    ) -> RequestBuilder {
        self.link
            .http()
            .request(method, self.base.join(path))
            .timeout(patience)
    }

    async fn get<T: DeserializeOwned>(
        &self,
        call: &'static str,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<T, Error> {
        let body = self
            .link
            .send(call, self.request(Method::GET, path, PATIENCE).query(query))
            .await?
            .body;
        self.read(call, &body)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

/// An empty `domain` would name a queue of its own, so none is sent for none.
fn poll_query<'a>(worker_id: &str, domain: Option<&str>) -> Vec<(&'a str, String)> {
    let mut query = vec![("workerid", worker_id.to_owned())];
    if let Some(domain) = domain.filter(|d| !d.is_empty()) {
        query.push(("domain", domain.to_owned()));
    }
    query
}

/// Splits queues so that [`Client::queue_sizes`] asks for each part in one request, whose query
/// is of at most 6 KB.
pub fn queue_chunks(queues: &[QueueName]) -> Vec<&[QueueName]> {
    let mut chunks = Vec::new();
    let (mut from, mut length) = (0, 0);
    for (i, queue) in queues.iter().enumerate() {
        let cost = query_cost(queue);
        if i > from && length + cost > MAX_QUERY {
            chunks.push(&queues[from..i]);
            (from, length) = (i, 0);
        }
        length += cost;
    }
    if from < queues.len() {
        chunks.push(&queues[from..]);
    }
    chunks
}

/// The most bytes that a queue takes in a query: escaping makes a byte three at most.
fn query_cost(queue: &QueueName) -> usize {
    let domain = queue.domain().map_or(0, |domain| domain.len() + 1);
    "taskType=&".len() + 3 * (queue.task_type().len() + domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_queues_are_split_and_none_is_left_out() {
        assert!(
            queue_chunks(&[]).is_empty(),
            "no parameter at all is a 500 at the server"
        );
        let queues: Vec<QueueName> = (0..1000)
            .map(|i| QueueName::new(format!("some_task_type_{i}"), (i % 2 == 0).then_some("gpu")))
            .collect();
        let parts = queue_chunks(&queues);
        assert!(parts.len() > 1);
        assert_eq!(parts.concat(), queues);
        for part in parts {
            let length: usize = part.iter().map(|q| 10 + 3 * q.to_string().len()).sum();
            assert!(length <= MAX_QUERY);
        }
        let huge = [QueueName::new("x".repeat(MAX_QUERY), None)];
        assert_eq!(
            queue_chunks(&huge).len(),
            1,
            "one that is too long is still asked for"
        );
    }
}
