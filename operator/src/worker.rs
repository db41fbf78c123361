//! The validated spec: what a [`ConductorWorkerSpec`] means, defaults filled in.
//!
//! Most of what is refused here is refused by the API server already, with the same words.
//! The rest is what CEL cannot see, and what runs without an API server.

mod connection;
mod duration;
mod env;
mod fingerprint;
mod schedule;
mod template;

use std::time::Duration;

use api::{ConductorWorkerSpec, LogFormat, LogLevel, Mode, Payload, Resources};
use conductor_client::{ApiBase, QueueName};
use jiff::Timestamp;
use serde_json::{Map, Value};

pub use connection::Connection;
pub use duration::{parse_duration, write_duration};
pub use env::{CORDON_MOUNT, MOUNT, SPOOL_MOUNT, cordon_volume, local_api};
pub use fingerprint::fingerprint;
pub use schedule::{Floor, Schedule};

/// D/W where only `drainWithin` is written.
const DRAIN_SHARE: f64 = 0.6;

/// What the operator itself is set to, where a worker does not say.
#[derive(Debug, Clone, PartialEq)]
pub struct Defaults {
    /// Conductor's address.
    pub conductor_url: Option<ApiBase>,
    /// The sidecar's image.
    pub sidecar_image: String,
    /// When it is pulled: a Kubernetes pull policy.
    pub sidecar_image_pull_policy: String,
}

/// A worker that can be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    /// How Conductor is reached.
    pub connection: Connection,
    /// At least one, no two for the same queue.
    pub tasks: Vec<Task>,
    /// Slots in one pod, at least 1.
    pub slots: u32,
    /// The container that does the work.
    pub handler: Handler,
    /// The container that is added.
    pub sidecar: Sidecar,
    /// Who decides the number of pods, and how.
    pub scale: Scale,
    /// Times at which more pods are kept.
    pub schedules: Vec<Schedule>,
    /// How long a pod that is too many may go on with what it has.
    pub max_drain: Option<Duration>,
    /// Run nothing.
    pub suspend: bool,
    /// How long a pod may take to end.
    pub grace: Duration,
    /// The user's pod template, as written.
    pub template: Map<String, Value>,
    /// Another one where the user has changed something that pods are made from.
    pub fingerprint: String,
}

/// A task type to work off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its queue: type and domain.
    pub queue: QueueName,
    /// Where the handler takes it.
    pub path: String,
    /// Most slots of a pod, at most the pod's.
    pub concurrency: Option<u32>,
    /// The longest pause between polls.
    pub poll_interval: Option<Duration>,
    /// The longest call.
    pub timeout: Option<Duration>,
}

/// The container that does the work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handler {
    /// Its name; it is one of the template's.
    pub container: String,
    /// Where it listens.
    pub port: u16,
    /// How the sidecar finds out that it is ready.
    pub probe: Probe,
    /// What a call brings.
    pub payload: Payload,
    /// Statuses that fail a task for good: `404` or `400-407`.
    pub terminal_status_codes: Option<Vec<String>>,
}

/// How the sidecar finds out that the handler is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// A connection can be made.
    Tcp(u16),
    /// A GET is answered with success.
    Http {
        /// The port.
        port: u16,
        /// The path, with its leading `/`.
        path: String,
    },
}

/// A size of at least a kibibyte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolSize {
    /// In KiB, at most 2³⁰.
    pub kibibytes: u64,
}

/// The container that is added.
#[derive(Debug, Clone, PartialEq)]
pub struct Sidecar {
    /// How much may wait on a pod's disk for Conductor to take it.
    pub spool_size: SpoolSize,
    /// Its image.
    pub image: String,
    /// When the image is pulled.
    pub image_pull_policy: String,
    /// Its resources.
    pub resources: Resources,
    /// How much it logs; its own default where absent.
    pub log_level: Option<LogLevel>,
    /// How it logs; its own default where absent.
    pub log_format: Option<LogFormat>,
}

/// Who decides the number of pods.
#[derive(Debug, Clone, PartialEq)]
pub enum Scale {
    /// The operator.
    Auto(Bounds),
    /// `replicas`; the operator says what it would do.
    Recommend {
        /// What it decides within.
        bounds: Bounds,
        /// What runs.
        replicas: u32,
    },
    /// `replicas`.
    External {
        /// What runs.
        replicas: u32,
    },
}

/// What a decision keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Fewest pods.
    pub min: u32,
    /// Most pods, at least `min`.
    pub max: u32,
    /// A task should start within this.
    pub max_wait: Duration,
    /// A backlog should be gone within this.
    pub drain_within: Option<Duration>,
}

/// Why a spec cannot be run, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("spec.{field}: {message}")]
pub struct InvalidSpec {
    field: String,
    message: String,
}

impl InvalidSpec {
    fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }

    /// The field, as a path below `spec`.
    pub fn field(&self) -> &str {
        &self.field
    }
}

impl Worker {
    /// Reads a spec; the first thing that is wrong with it is the error.
    pub fn parse(spec: &ConductorWorkerSpec, defaults: &Defaults) -> Result<Self, InvalidSpec> {
        let ConductorWorkerSpec {
            connection,
            tasks,
            concurrency,
            handler,
            sidecar,
            scaling,
            replicas,
            suspend,
            template,
        } = spec;
        let connection = connection::parse(connection.as_ref(), defaults)?;
        let fingerprint = fingerprint::of_spec(spec, &connection);
        if !(1..=1000).contains(concurrency) {
            return Err(InvalidSpec::new(
                "concurrency",
                "write a number of slots from 1 to 1000",
            ));
        }
        let tasks = parse_tasks(tasks, *concurrency)?;
        let handler = template::parse_handler(&handler.clone().unwrap_or_default(), template)?;
        template::check(template, &handler)?;
        template::check_volumes(template, &connection)?;
        let grace = template::parse_grace(template, &tasks)?;
        let scale = parse_scale(scaling, *replicas, &tasks)?;
        let schedules = parse_schedules(scaling)?;
        let max_drain = optional_duration(scaling.max_drain.as_deref(), "scaling.maxDrain")?;
        let sidecar = parse_sidecar(sidecar.clone().unwrap_or_default(), defaults)?;
        Ok(Self {
            connection,
            tasks,
            slots: *concurrency,
            handler,
            sidecar,
            scale,
            schedules,
            max_drain,
            suspend: *suspend,
            grace,
            template: template.0.clone(),
            fingerprint,
        })
    }

    /// What decisions keep to, at any time; none where nothing is decided.
    pub fn bounds(&self) -> Option<Bounds> {
        match self.scale {
            Scale::Auto(bounds) | Scale::Recommend { bounds, .. } => Some(bounds),
            Scale::External { .. } => None,
        }
    }

    /// The schedule that keeps more pods now than `minReplicas` does, where one holds.
    pub fn floor(&self, now: Timestamp) -> Option<Floor<'_>> {
        let min = self.bounds()?.min;
        let holding = self.schedules.iter().filter(|s| s.min > min);
        let floors = holding.filter_map(|schedule| {
            let until = schedule.holds_until(now)?;
            Some(Floor { schedule, until })
        });
        floors.max_by_key(|floor| (floor.schedule.min, floor.until))
    }

    /// What decisions keep to now.
    pub fn bounds_at(&self, now: Timestamp) -> Option<Bounds> {
        let bounds = self.bounds()?;
        let min = self.floor(now).map_or(bounds.min, |f| f.schedule.min);
        Some(Bounds { min, ..bounds })
    }
}

// === the parts ===

fn parse_tasks(tasks: &[api::Task], slots: u32) -> Result<Vec<Task>, InvalidSpec> {
    if tasks.is_empty() {
        return Err(InvalidSpec::new(
            "tasks",
            "write at least one task, such as: - name: resize_image",
        ));
    }
    let mut parsed: Vec<Task> = Vec::with_capacity(tasks.len());
    for (i, task) in tasks.iter().enumerate() {
        let at = |field: &str| format!("tasks[{i}].{field}");
        let api::Task {
            name,
            domain,
            path,
            concurrency,
            poll_interval,
            timeout,
        } = task;
        if name.is_empty() || name.contains('/') {
            return Err(InvalidSpec::new(
                at("name"),
                "write the task definition's name; one that is empty or has a / in it can never be polled",
            ));
        }
        if domain == "NO_DOMAIN" {
            return Err(InvalidSpec::new(
                at("domain"),
                "NO_DOMAIN is how workflows say that a task has no domain; leave domain out",
            ));
        }
        if !path.starts_with('/') || path.contains(['?', '#']) || path.contains(char::is_whitespace)
        {
            return Err(InvalidSpec::new(
                at("path"),
                "write a path that starts with /, without a query, such as /resize",
            ));
        }
        if *concurrency == Some(0) {
            return Err(InvalidSpec::new(
                at("concurrency"),
                "write a number of slots, at least 1",
            ));
        }
        if concurrency.is_some_and(|c| c > slots) {
            return Err(InvalidSpec::new(
                at("concurrency"),
                "a task's concurrency must not be above the pod's; raise spec.concurrency, or leave the task's out for all slots",
            ));
        }
        let queue = QueueName::new(name, Some(domain));
        if parsed.iter().any(|t| t.queue == queue) {
            return Err(InvalidSpec::new(
                at("name"),
                format!("{queue} is listed twice; remove one"),
            ));
        }
        parsed.push(Task {
            queue,
            path: path.clone(),
            concurrency: *concurrency,
            poll_interval: optional_duration(poll_interval.as_deref(), &at("pollInterval"))?,
            timeout: optional_duration(timeout.as_deref(), &at("timeout"))?,
        });
    }
    Ok(parsed)
}

fn parse_scale(
    scaling: &api::Scaling,
    replicas: Option<u32>,
    tasks: &[Task],
) -> Result<Scale, InvalidSpec> {
    let api::Scaling {
        mode,
        min_replicas,
        max_replicas,
        max_wait,
        drain_within,
        schedules: _,
        max_drain: _,
    } = scaling;
    let max_wait = optional_duration(max_wait.as_deref(), "scaling.maxWait")?;
    let drain_within = optional_duration(drain_within.as_deref(), "scaling.drainWithin")?;
    let wanted = || {
        replicas.ok_or_else(|| {
            InvalidSpec::new(
                "scaling.mode",
                "scaling.mode is External or Recommend: write replicas, the number of pods to run",
            )
        })
    };
    if *mode == Mode::External {
        return Ok(Scale::External {
            replicas: wanted()?,
        });
    }

    let max_wait = match (max_wait, drain_within) {
        (Some(wait), _) => wait,
        (None, Some(drain)) => drain.div_f64(DRAIN_SHARE),
        (None, None) => {
            return Err(InvalidSpec::new(
                "scaling",
                "write maxWait, the time within which a task should start (such as 30s), or drainWithin, the time within which a backlog should be gone (such as 2m)",
            ));
        }
    };
    if *max_replicas == 0 {
        return Err(InvalidSpec::new(
            "scaling.maxReplicas",
            "write at least 1; to run nothing, set suspend to true",
        ));
    }
    // Conductor routes around a domain that nobody has polled for ten seconds.
    let in_a_domain = tasks.iter().any(|t| t.queue.domain().is_some());
    let min = min_replicas.unwrap_or(u32::from(in_a_domain));
    if min > *max_replicas {
        return Err(InvalidSpec::new(
            "scaling.minReplicas",
            format!(
                "minReplicas ({min}) must not be above maxReplicas ({max_replicas}); lower the one or raise the other"
            ),
        ));
    }
    let bounds = Bounds {
        min,
        max: *max_replicas,
        max_wait,
        drain_within,
    };
    match mode {
        Mode::Auto if replicas.is_some() => Err(InvalidSpec::new(
            "replicas",
            "scaling.mode is Auto: the operator decides the number of pods; leave replicas out, or set scaling.mode to External",
        )),
        Mode::Auto => Ok(Scale::Auto(bounds)),
        Mode::Recommend | Mode::External => Ok(Scale::Recommend {
            bounds,
            replicas: wanted()?,
        }),
    }
}

fn parse_schedules(scaling: &api::Scaling) -> Result<Vec<Schedule>, InvalidSpec> {
    let schedules = scaling.schedules.iter().enumerate();
    schedules
        .map(|(i, schedule)| {
            let field = format!("scaling.schedules[{i}]");
            Schedule::parse(schedule, &field, scaling.max_replicas)
        })
        .collect()
}

const DEFAULT_SPOOL_SIZE: &str = "64Mi";

impl SpoolSize {
    fn parse(given: &str) -> Result<Self, InvalidSpec> {
        let refuse = || {
            let what = format!("{given:?} is no size; write one such as 64Mi or 512Ki");
            InvalidSpec::new("sidecar.spoolSize", what)
        };
        let (digits, unit) = given
            .strip_suffix("Mi")
            .map(|digits| (digits, 1 << 10))
            .or_else(|| given.strip_suffix("Ki").map(|digits| (digits, 1)))
            .ok_or_else(refuse)?;
        let number: u64 = digits.parse().map_err(|_| refuse())?;
        match number.checked_mul(unit) {
            Some(kibibytes @ 1..=0x4000_0000) => Ok(Self { kibibytes }),
            _ => Err(refuse()),
        }
    }
}

fn parse_sidecar(sidecar: api::Sidecar, defaults: &Defaults) -> Result<Sidecar, InvalidSpec> {
    let api::Sidecar {
        image,
        spool_size,
        resources,
        log_level,
        log_format,
    } = sidecar;
    if image.as_deref() == Some("") {
        return Err(InvalidSpec::new(
            "sidecar.image",
            "write an image, or leave it out for the operator's",
        ));
    }
    let spool_size = spool_size.unwrap_or_else(|| DEFAULT_SPOOL_SIZE.to_owned());
    Ok(Sidecar {
        spool_size: SpoolSize::parse(&spool_size)?,
        image: image.unwrap_or_else(|| defaults.sidecar_image.clone()),
        image_pull_policy: defaults.sidecar_image_pull_policy.clone(),
        resources: resources.unwrap_or_else(default_resources),
        log_level,
        log_format,
    })
}

/// Idle it needs under 12 MiB; payloads in flight and TLS come on top.
fn default_resources() -> Resources {
    let text = |s: &str| api::Quantity::Text(s.to_owned());
    Resources {
        requests: [
            ("cpu".to_owned(), text("10m")),
            ("memory".to_owned(), text("32Mi")),
        ]
        .into(),
        limits: std::collections::BTreeMap::new(),
    }
}

fn optional_duration(text: Option<&str>, field: &str) -> Result<Option<Duration>, InvalidSpec> {
    text.map(|text| {
        parse_duration(text).ok_or_else(|| {
            InvalidSpec::new(
                field,
                format!("{text:?}: write a duration above zero, such as 250ms, 30s, 10m or 2h"),
            )
        })
    })
    .transpose()
}
