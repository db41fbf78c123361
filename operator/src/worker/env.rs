//! What the sidecar is told.

use std::fmt;

use api::Payload;
use serde_json::{Map, Value, json};

use super::{Handler, Probe, Task, Worker, write_duration};

impl Worker {
    /// What the sidecar is told, as environment variables, in the order of its own help. Not
    /// among them: `CONDUCTOR_WORKER_ID`, which differs from pod to pod.
    pub fn sidecar_env(&self) -> Vec<(&'static str, String)> {
        let Handler {
            container: _,
            port,
            probe,
            payload,
            terminal_status_codes,
        } = &self.handler;
        let payload = match payload {
            Payload::Task => "task",
            Payload::Input => "input",
        };
        let mut env = vec![
            ("CONDUCTOR_SERVER_URL", self.connection.to_string()),
            ("CONDUCTOR_TASKS", tasks_json(&self.tasks)),
            ("CONDUCTOR_CONCURRENCY", self.slots.to_string()),
            ("HANDLER_PORT", port.to_string()),
            ("HANDLER_PROBE", probe.to_string()),
            ("HANDLER_PAYLOAD", payload.to_owned()),
        ];
        if let Some(codes) = terminal_status_codes {
            env.push(("HANDLER_TERMINAL_STATUS_CODES", codes.join(",")));
        }
        env.push(("GRACE_PERIOD", write_duration(self.grace)));
        if let Some(level) = self.sidecar.log_level {
            env.push(("LOG_LEVEL", level.as_str().to_owned()));
        }
        if let Some(format) = self.sidecar.log_format {
            env.push(("LOG_FORMAT", format.as_str().to_owned()));
        }
        env
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "tcp:{port}"),
            Self::Http { port, path } => write!(f, "http://127.0.0.1:{port}{path}"),
        }
    }
}

/// What the sidecar's `--tasks` takes; what is absent stays absent.
fn tasks_json(tasks: &[Task]) -> String {
    let tasks: Vec<Value> = tasks
        .iter()
        .map(|task| {
            let Task {
                queue,
                path,
                concurrency,
                poll_interval,
                timeout,
            } = task;
            let mut json = Map::new();
            json.insert("name".to_owned(), json!(queue.task_type()));
            if let Some(domain) = queue.domain() {
                json.insert("domain".to_owned(), json!(domain));
            }
            json.insert("path".to_owned(), json!(path));
            if let Some(concurrency) = concurrency {
                json.insert("concurrency".to_owned(), json!(concurrency));
            }
            if let Some(interval) = poll_interval {
                json.insert("pollInterval".to_owned(), json!(write_duration(*interval)));
            }
            if let Some(timeout) = timeout {
                json.insert("timeout".to_owned(), json!(write_duration(*timeout)));
            }
            Value::Object(json)
        })
        .collect();
    Value::Array(tasks).to_string()
}
