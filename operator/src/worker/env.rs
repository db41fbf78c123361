//! What the sidecar is told.

use std::fmt;

use api::Payload;
use serde_json::{Map, Value, json};

use super::{Connection, Handler, Probe, Task, Worker, write_duration};
use crate::CORDON_KEY;

/// The volume with what the connection refers to; the sidecar alone mounts it.
pub(super) const VOLUME: &str = "conductor-connection";

/// Where it is mounted.
pub const MOUNT: &str = "/etc/conductor";

/// The volume for results that Conductor does not take for now.
pub(super) const SPOOL_VOLUME: &str = "conductor-spool";

/// Where it is mounted.
pub const SPOOL_MOUNT: &str = "/var/spool/conductor-worker";

/// The volume with what the pod's own annotations say; the sidecar alone mounts it.
pub(super) const CORDON_VOLUME: &str = "conductor-cordon";

/// Where it is mounted.
pub const CORDON_MOUNT: &str = "/etc/conductor-cordon";

/// The file of a directory of that volume.
struct Mounted {
    kind: &'static str,
    name: String,
    files: &'static [(&'static str, &'static str)],
}

impl Connection {
    /// The objects that are mounted, each with its keys and their places below [`MOUNT`].
    fn mounted(&self) -> Vec<Mounted> {
        let of = |kind, name: &Option<String>, files| {
            Some(Mounted {
                kind,
                name: name.clone()?,
                files,
            })
        };
        [
            of(
                "secret",
                &self.auth_secret,
                &[("key", "auth/key"), ("secret", "auth/secret")],
            ),
            of("configMap", &self.ca_config_map, &[("ca.crt", "ca.crt")]),
            of(
                "secret",
                &self.client_cert_secret,
                &[("tls.crt", "client/tls.crt"), ("tls.key", "client/tls.key")],
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The volume that holds what it refers to; none if it refers to nothing.
    pub fn volume(&self) -> Option<Value> {
        let sources: Vec<Value> = self
            .mounted()
            .into_iter()
            .map(|Mounted { kind, name, files }| {
                let items: Vec<Value> = files
                    .iter()
                    .map(|(key, path)| json!({"key": key, "path": path}))
                    .collect();
                json!({kind: {"name": name, "items": items}})
            })
            .collect();
        (!sources.is_empty()).then(|| json!({"name": VOLUME, "projected": {"sources": sources}}))
    }

    fn env(&self) -> Vec<(&'static str, String)> {
        let at = |path: &str| format!("{MOUNT}/{path}");
        let mut env = Vec::new();
        if self.auth_secret.is_some() {
            env.push(("CONDUCTOR_AUTH_DIR", at("auth")));
        }
        if self.ca_config_map.is_some() {
            env.push(("CONDUCTOR_CA_FILE", at("ca.crt")));
        }
        if self.client_cert_secret.is_some() {
            env.push(("CONDUCTOR_CLIENT_CERT_FILE", at("client/tls.crt")));
            env.push(("CONDUCTOR_CLIENT_KEY_FILE", at("client/tls.key")));
        }
        if !self.headers.is_empty() {
            env.push(("CONDUCTOR_HEADERS", json!(self.headers).to_string()));
        }
        env
    }
}

impl Worker {
    /// The volume of the spool. Its limit is there for what goes wrong: the sidecar keeps below
    /// half of it, and a pod that exceeds it is evicted.
    pub fn spool_volume(&self) -> Value {
        let limit = self.sidecar.spool_size.kibibytes * 2;
        json!({"name": SPOOL_VOLUME, "emptyDir": {"sizeLimit": format!("{limit}Ki")}})
    }

    /// What a sidecar in a pod is told besides.
    pub fn pod_env(&self) -> [(&'static str, String); 3] {
        [
            ("CORDON_PUBLIC_KEY_FILE", format!("{CORDON_MOUNT}/key")),
            ("SPOOL_DIR", SPOOL_MOUNT.to_owned()),
            (
                "SPOOL_SIZE",
                format!("{}Ki", self.sidecar.spool_size.kibibytes),
            ),
        ]
    }

    /// What the sidecar is told, as environment variables, in the order of its own help. Not
    /// among them: `CONDUCTOR_WORKER_ID` and `POD_UID`, which differ from pod to pod.
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
        let mut env = vec![("CONDUCTOR_SERVER_URL", self.connection.to_string())];
        env.extend(self.connection.env());
        env.extend([
            ("CONDUCTOR_TASKS", tasks_json(&self.tasks)),
            ("CONDUCTOR_CONCURRENCY", self.slots.to_string()),
            ("HANDLER_PORT", port.to_string()),
            ("HANDLER_PROBE", probe.to_string()),
            ("HANDLER_PAYLOAD", payload.to_owned()),
        ]);
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

/// The volume with the key that may cordon the pod: a file that follows an annotation, so that
/// another key needs no other pod template.
pub fn cordon_volume() -> Value {
    let field = format!("metadata.annotations['{CORDON_KEY}']");
    let item = json!({"path": "key", "fieldRef": {"fieldPath": field}});
    json!({"name": CORDON_VOLUME, "downwardAPI": {"items": [item]}})
}

/// Where the handler finds the sidecar's local task API, as `CONDUCTOR_SERVER_URL` has it.
pub fn local_api(port: u16) -> String {
    format!("http://127.0.0.1:{port}/api")
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
