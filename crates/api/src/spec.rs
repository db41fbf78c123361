//! What a user writes.

#![expect(
    unreachable_pub,
    reason = "KubeSchema repeats each type inside a function"
)]

use std::{borrow::Cow, collections::BTreeMap};

use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::PodTemplate;

/// A duration above zero. CEL reads what Go reads, so the pattern keeps to that.
const DURATION: &str =
    r"self.matches('^([0-9]{1,6}([.][0-9]{1,3})?(ms|s|m|h))+$') && duration(self) > duration('0s')";
const DURATION_MESSAGE: &str = "write a duration above zero, such as 250ms, 30s, 10m or 2h";

/// What gateways take, which is less than what HTTP allows.
const HEADER_NAMES: &str = "self.all(name, name.matches('^[A-Za-z0-9_.-]{1,128}$'))";
const OUR_HEADERS: &str = "self.all(name, !name.matches('^(?i)(host|content-length|content-type|transfer-encoding|connection|upgrade|te|trailer|x-authorization)$'))";

/// The first container's preStop, or that of the named one.
const HANDLER_PRE_STOP: &str = "has(self.handler) && has(self.handler.container) \
    ? self.template.spec.containers.all(c, c.name != self.handler.container || !has(c.lifecycle) || !has(c.lifecycle.preStop)) \
    : size(self.template.spec.containers) == 0 || !has(self.template.spec.containers[0].lifecycle) || !has(self.template.spec.containers[0].lifecycle.preStop)";

/// A set of pods that work off Conductor's tasks through an ordinary HTTP handler. The
/// operator adds the sidecar that polls, keeps leases and reports, and runs as many pods as
/// the work needs.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "conductor-oss.org",
    version = "v1alpha1",
    kind = "ConductorWorker",
    namespaced,
    shortname = "cw",
    category = "all",
    category = "conductor",
    status = "crate::ConductorWorkerStatus",
    derive = "PartialEq",
    doc = "Pods that work off Conductor's tasks through an ordinary HTTP handler, as many as the work needs.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.scaling.desired", description = "Pods asked for"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas", description = "Pods that take work"),
    printcolumn(name = "Busy", type_ = "integer", json_path = ".status.inFlight", description = "Tasks that run"),
    printcolumn(name = "Queue", type_ = "integer", json_path = ".status.queue", description = "Tasks that wait"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", description = "Why it is ready, or why not"),
    printcolumn(name = "Max", type_ = "integer", json_path = ".spec.scaling.maxReplicas", description = "Most pods", priority = 1),
    printcolumn(name = "Scaling", type_ = "string", json_path = ".status.scaling.reason", description = "What decided the number of pods", priority = 1),
    printcolumn(name = "Sidecar", type_ = "string", json_path = ".status.sidecarImage", description = "The sidecar's image in the newest pods", priority = 1),
    printcolumn(name = "Connection", type_ = "string", json_path = ".status.connection", description = "Conductor's address", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 52").message("the name must have at most 52 characters, so that its pods' names fit; write a shorter one"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.scaling.mode != 'Auto' || !has(self.replicas)")
    .message("scaling.mode is Auto: the operator decides the number of pods; leave replicas out, or set scaling.mode to External")
    .field_path(".replicas"))]
#[x_kube(validation = Rule::new("self.scaling.mode == 'Auto' || has(self.replicas)")
    .message("scaling.mode is External or Recommend: write replicas, the number of pods to run")
    .field_path(".scaling.mode"))]
#[x_kube(validation = Rule::new("!has(self.handler) || !has(self.handler.container) || self.template.spec.containers.exists(c, c.name == self.handler.container)")
    .message("handler.container must be the name of a container in template.spec.containers; leave it out for the first one")
    .field_path(".handler.container"))]
#[x_kube(validation = Rule::new(HANDLER_PRE_STOP)
    .message("the handler's container must not have lifecycle.preStop: the operator sets one that waits until no task runs; remove it, and let the handler finish on SIGTERM")
    .field_path(".template"))]
#[x_kube(validation = Rule::new("!has(self.template.spec.hostNetwork) || !self.template.spec.hostNetwork")
    .message("template.spec.hostNetwork must not be true: handler and sidecar talk over the pod's own loopback; remove it")
    .field_path(".template"))]
#[x_kube(validation = Rule::new("!has(self.template.spec.restartPolicy) || self.template.spec.restartPolicy == 'Always'")
    .message("template.spec.restartPolicy must be Always; leave it out")
    .field_path(".template"))]
#[x_kube(validation = Rule::new("!has(self.template.spec.terminationGracePeriodSeconds) || self.template.spec.terminationGracePeriodSeconds >= 15")
    .message("template.spec.terminationGracePeriodSeconds must be at least 15: the last seconds are for handing back what is unfinished")
    .field_path(".template"))]
#[x_kube(validation = Rule::new("self.template.spec.containers.all(c, c.name != 'conductor-sidecar') && (!has(self.template.spec.initContainers) || self.template.spec.initContainers.all(c, c.name != 'conductor-sidecar'))")
    .message("conductor-sidecar is the container that the operator adds; give yours another name")
    .field_path(".template"))]
#[x_kube(validation = Rule::new("self.template.spec.containers.all(c, !has(c.ports) || c.ports.all(p, !has(p.containerPort) || (p.containerPort != 2112 && p.containerPort != 2113)))")
    .message("ports 2112 and 2113 are the sidecar's; let the container listen on another")
    .field_path(".template"))]
#[x_kube(validation = Rule::new("self.tasks.all(t, !has(t.concurrency) || t.concurrency <= self.concurrency)")
    .message("a task's concurrency must not be above the pod's; raise spec.concurrency, or leave the task's out for all slots")
    .field_path(".tasks"))]
pub struct ConductorWorkerSpec {
    /// Where Conductor is. Absent: the operator's default connection, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,

    /// The task types to work off, at least one. They share the pod's slots.
    #[x_kube(validation = Rule::new("size(self) > 0").message("write at least one task, such as: - name: resize_image"))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned(), "domain".to_owned()]))]
    #[schemars(length(max = 64))]
    pub tasks: Vec<Task>,

    /// Slots in one pod: how many tasks it works on at once, all task types together.
    #[serde(default = "one")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 1000").message("write a number of slots from 1 to 1000"))]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub concurrency: u32,

    /// The container that does the work, and how it is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<Handler>,

    /// The container that the operator adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sidecar: Option<Sidecar>,

    /// How the number of pods is found.
    pub scaling: Scaling,

    /// The number of pods in the modes External and Recommend; the target of `kubectl scale`
    /// and of a horizontal pod autoscaler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub replicas: Option<u32>,

    /// True: pods finish what they work on and go; none runs until it is false again.
    #[serde(default)]
    pub suspend: bool,

    /// An ordinary pod template with the container that does the work. It is used as written;
    /// the operator adds its sidecar and a preStop hook that waits for running tasks.
    /// `terminationGracePeriodSeconds` bounds that wait; absent, it is what the longest
    /// `tasks[].timeout` needs (10 s more, of one below 20 s half as much again, at least 15), or
    /// 600.
    pub template: PodTemplate,
}

/// Where Conductor is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// The address of Conductor's API, with or without the final `/api`.
    #[x_kube(validation = Rule::new(r"self.matches('^https?://[^/?#@\\s]+(/[^?#\\s]*)?$')")
        .message("write an address that starts with http:// or https://, without credentials or query, such as http://conductor:8080/api"))]
    #[schemars(length(max = 2048))]
    pub url: String,

    /// A Secret of the worker's namespace with an application's key and secret under `key` and
    /// `secret`, for servers with authentication (Orkes). Absent: none. A changed Secret is used
    /// without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_secret_ref: Option<NameRef>,

    /// A ConfigMap of the worker's namespace with the certificates of the authorities to trust
    /// under `ca.crt`. Absent: the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_config_map_ref: Option<NameRef>,

    /// A Secret of the worker's namespace with a client certificate under `tls.crt` and its key
    /// under `tls.key` (type kubernetes.io/tls), for servers that ask for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cert_secret_ref: Option<NameRef>,

    /// More headers on each request to Conductor, for gateways, such as X-Tenant: shop. Not for
    /// secrets: everybody who can read the worker can read them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[x_kube(validation = Rule::new(HEADER_NAMES)
        .message("write headers by their names, such as X-Tenant, of letters, digits and -_. alone"))]
    #[x_kube(validation = Rule::new(OUR_HEADERS)
        .message("Host, Content-Length, Content-Type, Transfer-Encoding, Connection, Upgrade, TE and Trailer are set by the sidecar, and X-Authorization by authSecretRef; leave them out"))]
    #[schemars(extend("maxProperties" = 16))]
    pub headers: BTreeMap<String, HeaderText>,
}

/// An object of the worker's namespace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
pub struct NameRef {
    /// Its name.
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')")
        .message("write the name of an object in the worker's namespace, such as conductor-keys; leave the reference out if there is none"))]
    #[schemars(length(max = 253))]
    pub name: String,
}

/// A header's value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HeaderText(pub String);

impl JsonSchema for HeaderText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "HeaderText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 4096,
            "x-kubernetes-validations": [{
                "rule": "self.matches('^[ -~]*$')",
                "message": "write a header's value in one line of ASCII",
            }],
        })
    }
}

/// A task type to work off.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// The task type: the name of the task definition.
    #[x_kube(validation = Rule::new("self != '' && !self.contains('/')")
        .message("write the task definition's name; one that is empty or has a / in it can never be polled"))]
    #[schemars(length(max = 255))]
    pub name: String,

    /// Take only tasks that are routed to this domain. Empty: tasks without a domain.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self != 'NO_DOMAIN'")
        .message("NO_DOMAIN is how workflows say that a task has no domain; leave domain out"))]
    #[schemars(length(max = 255))]
    pub domain: String,

    /// Where the handler takes this task type.
    #[serde(default = "root")]
    #[x_kube(validation = Rule::new(r"self.matches('^/[^?#\\s]*$')")
        .message("write a path that starts with /, without a query, such as /resize"))]
    #[schemars(length(max = 1024))]
    pub path: String,

    /// Most slots of a pod that this task type may hold. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1").message("write a number of slots, at least 1"))]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub concurrency: Option<u32>,

    /// The longest pause between two polls of an empty queue, such as 100ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(DURATION).message(DURATION_MESSAGE))]
    #[schemars(length(max = 32))]
    pub poll_interval: Option<String>,

    /// The longest that a call of the handler may take, such as 10m. Absent: until the task's
    /// lease can be kept no longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(DURATION).message(DURATION_MESSAGE))]
    #[schemars(length(max = 32))]
    pub timeout: Option<String>,
}

/// The container that does the work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Handler {
    /// Its name in the template. Absent: the template's first container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub container: Option<String>,

    /// The port it listens on. It is given to the container as the environment variable PORT,
    /// unless the template sets that.
    #[serde(default = "port")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 65535 && self != 2112 && self != 2113")
        .message("write a port from 1 to 65535 other than 2112 and 2113, which are the sidecar's"))]
    #[schemars(range(min = -1_000_000, max = 1_000_000))]
    pub port: i32,

    /// What a call brings: the whole task, or only its `inputData` with the rest in headers.
    #[serde(default)]
    pub payload: Payload,

    /// The HTTP statuses that fail a task for good, without retries: numbers and ranges.
    /// Absent: 400-407, 409-424, 426-428, 430-499.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub terminal_status_codes: Option<Vec<StatusCodes>>,
}

/// What a call of the handler brings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Payload {
    /// The task as Conductor sent it.
    #[default]
    Task,
    /// Its `inputData`.
    Input,
}

/// An HTTP status (`404`) or a range of them (`400-407`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StatusCodes {
    /// One.
    One(u16),
    /// One or a range, as text.
    Text(String),
}

impl JsonSchema for StatusCodes {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "StatusCodes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "maxLength": 7,
            "x-kubernetes-validations": [{
                "rule": "type(self) == string ? self.matches('^[45][0-9]{2}(-[45][0-9]{2})?$') : (self >= 400 && self <= 599)",
                "message": "write a status from 400 to 599 or a range of them, such as 400-407",
            }],
        })
    }
}

/// The container that the operator adds to the pods.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sidecar {
    /// Its image. Absent: the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self != ''").message("write an image, or leave it out for the operator's"))]
    #[schemars(length(max = 1024))]
    pub image: Option<String>,

    /// The most bytes of results that wait on a pod's disk while Conductor does not take them,
    /// such as 64Mi, which is the default. No more tasks are taken while it is full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^[1-9][0-9]{0,5}(Ki|Mi)$')").message("write a size such as 64Mi or 512Ki"))]
    #[schemars(length(max = 16))]
    pub spool_size: Option<String>,

    /// Its resources. Absent: small requests, no limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// How much it logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,

    /// How it logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
}

/// Requests and limits, as in any container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What is reserved, such as cpu: 10m, memory: 16Mi.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub requests: BTreeMap<String, Quantity>,

    /// What must not be exceeded.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub limits: BTreeMap<String, Quantity>,
}

/// An amount, such as `10m`, `16Mi` or `1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Quantity {
    /// A whole number.
    Number(i64),
    /// With a unit.
    Text(String),
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "maxLength": 32,
            // Kubernetes' own pattern of a quantity.
            "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
        })
    }
}

/// How much the sidecar logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the usual words")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// The word in the spec and in the sidecar's environment.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How the sidecar logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the usual words")]
pub enum LogFormat {
    Text,
    Json,
}

impl LogFormat {
    /// The word in the spec and in the sidecar's environment.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// How the number of pods is found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.mode == 'External' || has(self.maxWait) || has(self.drainWithin)")
    .message("write maxWait, the time within which a task should start (such as 30s), or drainWithin, the time within which a backlog should be gone (such as 2m)"))]
#[x_kube(validation = Rule::new("!has(self.schedules) || self.schedules.all(s, s.minReplicas <= self.maxReplicas)")
    .message("a schedule's minReplicas must not be above maxReplicas, which is 50 where it is not written; lower the one or raise the other")
    .field_path(".schedules"))]
#[x_kube(validation = Rule::new("!has(self.minReplicas) || self.minReplicas <= self.maxReplicas")
    .message("minReplicas must not be above maxReplicas, which is 50 where it is not written; lower the one or raise the other")
    .field_path(".minReplicas"))]
pub struct Scaling {
    /// Auto: the operator decides. Recommend: it decides and shows, but runs `replicas`.
    /// External: it runs `replicas`, which a person or an autoscaler sets.
    #[serde(default)]
    pub mode: Mode,

    /// Fewest pods. Absent: 0, or 1 when a task has a domain, since Conductor routes around a
    /// domain that nobody polls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub min_replicas: Option<u32>,

    /// Most pods.
    #[serde(default = "fifty")]
    #[x_kube(validation = Rule::new("self >= 1").message("write at least 1; to run nothing, set suspend to true"))]
    #[schemars(range(min = 0, max = 100_000))]
    pub max_replicas: u32,

    /// A task should start within this time, such as 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(DURATION).message(DURATION_MESSAGE))]
    #[schemars(length(max = 32))]
    pub max_wait: Option<String>,

    /// A backlog should be gone within this time, such as 2m. Absent: six tenths of maxWait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(DURATION).message(DURATION_MESSAGE))]
    #[schemars(length(max = 32))]
    pub drain_within: Option<String>,

    /// The longest that a pod which is too many may go on with what it has, such as 30m; then it is
    /// removed, and ends it within its grace period or hands it back. Absent: as long as it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(DURATION).message(DURATION_MESSAGE))]
    #[schemars(length(max = 32))]
    pub max_drain: Option<String>,

    /// Times at which more pods are kept than minReplicas says, such as office hours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub schedules: Vec<Schedule>,
}

/// A time at which more pods are kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// When it begins, as crontab has it: minute, hour, day of month, month and day of week,
    /// such as 0 8 * * 1-5.
    #[x_kube(validation = Rule::new("self.matches('^[^ ]+( [^ ]+){4}$')")
        .message("write five fields: minute, hour, day of month, month and day of week, such as 0 8 * * 1-5"))]
    #[schemars(length(max = 128))]
    pub cron: String,

    /// The time zone that cron is in, such as Europe/Berlin. Absent: UTC.
    #[serde(default = "utc")]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z][A-Za-z0-9_+/-]*$')")
        .message("write a time zone by its name, such as Europe/Berlin or UTC"))]
    #[schemars(length(max = 64))]
    pub time_zone: String,

    /// How long it lasts, such as 10h.
    #[x_kube(validation = Rule::new(DURATION).message(DURATION_MESSAGE))]
    #[schemars(length(max = 32))]
    pub duration: String,

    /// Fewest pods during that time.
    #[schemars(range(min = 0, max = 100_000))]
    pub min_replicas: u32,
}

/// Who decides the number of pods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// The operator.
    #[default]
    Auto,
    /// `replicas`; the operator only says what it would do.
    Recommend,
    /// `replicas`.
    External,
}

impl Default for Handler {
    fn default() -> Self {
        Self {
            container: None,
            port: port(),
            payload: Payload::default(),
            terminal_status_codes: None,
        }
    }
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            min_replicas: None,
            max_replicas: fifty(),
            max_wait: None,
            drain_within: None,
            schedules: Vec::new(),
            max_drain: None,
        }
    }
}

fn one() -> u32 {
    1
}

fn fifty() -> u32 {
    50
}

fn port() -> i32 {
    8080
}

fn utc() -> String {
    "UTC".to_owned()
}

fn root() -> String {
    "/".to_owned()
}
