//! What the sidecar is to do. How it is typed is in [`crate::args`].

use std::{fmt, ops::RangeInclusive, path::PathBuf, str::FromStr, time::Duration};

use conductor_client::{ApiBase, Connection};
use serde::Deserialize;

use crate::breaker;

/// Everything the pipeline needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// How Conductor is reached.
    pub conductor: Connection,
    /// The task types to poll, at least one.
    pub tasks: Vec<TaskConfig>,
    /// How many tasks may be in work at once, at least 1.
    pub slots: usize,
    /// How the sidecar calls itself towards Conductor: the pod's name.
    pub worker_id: String,
    /// The user's container.
    pub handler: HandlerConfig,
    /// How long a shutdown may take.
    pub grace: Duration,
    /// Where results go that Conductor does not take; none keeps them in memory.
    pub spool: Option<SpoolConfig>,
    /// When a type's breaker opens; none never.
    pub breaker: Option<breaker::Settings>,
}

/// A folder for results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolConfig {
    /// The folder: an emptyDir of the pod.
    pub dir: PathBuf,
    /// The most bytes to keep.
    pub limit: u64,
}

/// A task type.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskConfig {
    /// Its name in Conductor.
    pub name: String,
    /// Its domain; none for the default queue.
    #[serde(default)]
    pub domain: Option<String>,
    /// Where the handler takes it.
    #[serde(default = "root")]
    pub path: String,
    /// At most so many of the slots.
    #[serde(default)]
    pub concurrency: Option<usize>,
    /// The longest pause between polls of an empty queue.
    #[serde(default = "poll_interval", deserialize_with = "duration")]
    pub poll_interval: Duration,
    /// The longest a call to the handler may take.
    #[serde(default, deserialize_with = "some_duration")]
    pub timeout: Option<Duration>,
}

/// The user's container.
#[derive(Debug, Clone)]
pub struct HandlerConfig {
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// How its readiness is found out.
    pub probe: Probe,
    /// What is sent to it.
    pub payload: Payload,
    /// Which HTTP statuses fail a task for good.
    pub terminal: StatusSet,
    /// The largest answer that is taken, in bytes.
    pub payload_limit: usize,
}

/// How the handler's readiness is found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// It accepts connections on this port.
    Tcp(u16),
    /// It answers GET with 200 to 399.
    Http(http::Uri),
}

/// What is sent to the handler.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Payload {
    /// The whole task, as Conductor sent it.
    #[default]
    Task,
    /// Its `inputData`.
    Input,
}

/// A set of HTTP statuses from 400 to 599.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusSet(Vec<RangeInclusive<u16>>);

/// A text that is not what it should be; says what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

impl Config {
    /// The defaults of every setting that has one; the server wants no authentication.
    pub fn new(conductor: ApiBase, tasks: Vec<TaskConfig>, worker_id: String) -> Self {
        Self {
            conductor: conductor.into(),
            tasks,
            slots: 1,
            worker_id,
            handler: HandlerConfig::new(8080),
            grace: Duration::from_secs(30),
            spool: None,
            breaker: Some(breaker::Settings::default()),
        }
    }
}

impl HandlerConfig {
    /// A handler on this port, with the defaults.
    pub fn new(port: u16) -> Self {
        Self {
            port,
            probe: Probe::Tcp(port),
            payload: Payload::Task,
            terminal: StatusSet::default(),
            payload_limit: 10 << 20,
        }
    }
}

impl TaskConfig {
    /// A task type with the defaults.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            domain: None,
            path: root(),
            concurrency: None,
            poll_interval: poll_interval(),
            timeout: None,
        }
    }

    fn check(&self) -> Result<(), Invalid> {
        let refuse = |why: &str| Err(Invalid(format!("task {:?}: {why}", self.name)));
        if self.name.is_empty() {
            return refuse("its name is empty");
        }
        if self.domain.as_deref() == Some("") {
            return refuse("its domain is empty; leave it out for the default queue");
        }
        if !self.path.starts_with('/') {
            return refuse("its path must start with /");
        }
        if self.concurrency == Some(0) {
            return refuse("its concurrency must be 1 or more");
        }
        if self.poll_interval.is_zero() {
            return refuse("its pollInterval must be above 0");
        }
        if self.timeout == Some(Duration::ZERO) {
            return refuse("its timeout must be above 0");
        }
        Ok(())
    }
}

/// Reads the task types from their JSON array.
pub fn parse_tasks(given: &str) -> Result<Vec<TaskConfig>, Invalid> {
    let tasks: Vec<TaskConfig> = serde_json::from_str(given).map_err(|e| Invalid(e.to_string()))?;
    if tasks.is_empty() {
        return Err(Invalid("there is no task type in it".to_owned()));
    }
    for (i, task) in tasks.iter().enumerate() {
        task.check()?;
        let twice = |other: &TaskConfig| other.name == task.name && other.domain == task.domain;
        if tasks[..i].iter().any(twice) {
            return Err(Invalid(format!("task {:?} is listed twice", task.name)));
        }
    }
    Ok(tasks)
}

/// Reads a duration such as `250ms`, `30s`, `10m`, `2h` or `1m30s`.
pub fn parse_duration(given: &str) -> Result<Duration, Invalid> {
    let refuse = || {
        Invalid(format!(
            "{given:?} is not a duration such as 250ms, 30s, 10m or 2h"
        ))
    };
    let mut rest = given;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(refuse());
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .ok_or_else(refuse)?;
        let number: u64 = rest[..digits].parse().map_err(|_| refuse())?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let millis = match &rest[..letters] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(refuse()),
        };
        rest = &rest[letters..];
        let part = number.checked_mul(millis).map(Duration::from_millis);
        total = part
            .and_then(|part| total.checked_add(part))
            .ok_or_else(refuse)?;
    }
    Ok(total)
}

/// Reads a number of bytes such as `1048576`, `512Ki` or `10Mi`.
pub fn parse_bytes(given: &str) -> Result<usize, Invalid> {
    let refuse = || Invalid(format!("{given:?} is not a size such as 512Ki or 10Mi"));
    let (digits, unit) = if let Some(digits) = given.strip_suffix("Ki") {
        (digits, 1 << 10)
    } else if let Some(digits) = given.strip_suffix("Mi") {
        (digits, 1 << 20)
    } else {
        (given, 1)
    };
    let number: usize = digits.parse().map_err(|_| refuse())?;
    number
        .checked_mul(unit)
        .filter(|&n| n > 0)
        .ok_or_else(refuse)
}

/// Reads when a breaker opens: `90%/20` for 90 % of the last 20, or `off`.
pub fn parse_breaker(given: &str) -> Result<Option<breaker::Settings>, Invalid> {
    let refuse = || {
        Invalid(format!(
            "{given:?} is no share of a number of tasks such as 90%/20"
        ))
    };
    if given == "off" {
        return Ok(None);
    }
    let (share, window) = given.split_once("%/").ok_or_else(refuse)?;
    let share: u8 = share.parse().map_err(|_| refuse())?;
    let window: u16 = window.parse().map_err(|_| refuse())?;
    if !(1..=100).contains(&share) || !(1..=1000).contains(&window) {
        return Err(refuse());
    }
    Ok(Some(breaker::Settings {
        ratio: f64::from(share) / 100.0,
        window: window.into(),
        ..breaker::Settings::default()
    }))
}

impl Probe {
    /// Reads `tcp`, `tcp:PORT` or `http://127.0.0.1:PORT/PATH`; `port` is the handler's own.
    pub fn parse(given: &str, port: u16) -> Result<Self, Invalid> {
        if given == "tcp" {
            return Ok(Self::Tcp(port));
        }
        if let Some(port) = given.strip_prefix("tcp:") {
            return match port.parse() {
                Ok(port) if port > 0 => Ok(Self::Tcp(port)),
                _ => Err(Invalid(format!("{port:?} is not a port"))),
            };
        }
        let url = url::Url::parse(given);
        let url = url
            .ok()
            .filter(|url| url.scheme() == "http" && url.has_host());
        match url.and_then(|url| url.as_str().parse().ok()) {
            Some(uri) => Ok(Self::Http(uri)),
            None => Err(Invalid(format!("{given:?} is no probe"))),
        }
    }
}

impl Probe {
    /// An http probe of port `from` on port `to` instead; none for other probes.
    pub fn moved(&self, from: u16, to: u16) -> Option<Self> {
        let Self::Http(uri) = self else { return None };
        let host = uri
            .host()
            .filter(|_| uri.port_u16().unwrap_or(80) == from)?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let moved = format!("http://{host}:{to}{path}").parse().ok()?;
        Some(Self::Http(moved))
    }
}

impl FromStr for Payload {
    type Err = Invalid;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "task" => Ok(Self::Task),
            "input" => Ok(Self::Input),
            _ => Err(Invalid(format!("{s:?} is no payload"))),
        }
    }
}

/// Every 4xx but 408 and 425 (worth another try), 429 (busy).
pub const DEFAULT_TERMINAL: &str = "400-407,409-424,426-428,430-499";

impl StatusSet {
    /// Whether the status is in it.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl Default for StatusSet {
    fn default() -> Self {
        // The text above, spelt out: a default cannot fail to parse.
        Self(vec![400..=407, 409..=424, 426..=428, 430..=499])
    }
}

impl FromStr for StatusSet {
    type Err = Invalid;

    /// Reads `400-407,422`; nothing is the empty set.
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let refuse =
            |part: &str| Invalid(format!("{part:?} is not a status or range from 400 to 599"));
        let mut ranges = Vec::new();
        for part in s.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            let low: u16 = low.trim().parse().map_err(|_| refuse(part))?;
            let high: u16 = high.trim().parse().map_err(|_| refuse(part))?;
            if low > high || low < 400 || high > 599 {
                return Err(refuse(part));
            }
            ranges.push(low..=high);
        }
        Ok(Self(ranges))
    }
}

impl fmt::Display for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            if range.start() == range.end() {
                write!(f, "{comma}{}", range.start())?;
            } else {
                write!(f, "{comma}{}-{}", range.start(), range.end())?;
            }
        }
        Ok(())
    }
}

fn root() -> String {
    "/".to_owned()
}

fn poll_interval() -> Duration {
    Duration::from_millis(100)
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let given = String::deserialize(deserializer)?;
    parse_duration(&given).map_err(serde::de::Error::custom)
}

fn some_duration<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    match Option::<String>::deserialize(deserializer)? {
        Some(given) => parse_duration(&given)
            .map(Some)
            .map_err(serde::de::Error::custom),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let rows = [
            ("250ms", Some(250)),
            ("30s", Some(30_000)),
            ("10m", Some(600_000)),
            ("2h", Some(7_200_000)),
            ("1m30s", Some(90_000)),
            ("0s", Some(0)),
            ("", None),
            ("30", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("30 s", None),
            ("1d", None),
            ("99999999999999999999h", None),
        ];
        for (given, millis) in rows {
            assert_eq!(
                parse_duration(given).ok(),
                millis.map(Duration::from_millis),
                "{given}"
            );
        }
    }

    #[test]
    fn sizes() {
        let rows = [
            ("1", Some(1)),
            ("512Ki", Some(512 << 10)),
            ("10Mi", Some(10 << 20)),
            ("0", None),
            ("10MB", None),
            ("Mi", None),
            ("-1", None),
        ];
        for (given, bytes) in rows {
            assert_eq!(parse_bytes(given).ok(), bytes, "{given}");
        }
    }

    #[test]
    fn breakers() {
        let default = Some(breaker::Settings::default());
        assert_eq!(parse_breaker("90%/20"), Ok(default));
        assert_eq!(parse_breaker("off"), Ok(None));
        let strict = parse_breaker("100%/1").unwrap().unwrap();
        assert_eq!((strict.ratio, strict.window), (1.0, 1));
        for bad in [
            "", "90", "90/20", "0%/20", "101%/20", "90%/0", "90%/1001", "-1%/5",
        ] {
            assert!(parse_breaker(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tasks_have_defaults() {
        let tasks = parse_tasks(r#"[{"name":"greet"}]"#).unwrap();
        assert_eq!(tasks, [TaskConfig::new("greet")]);
        let tasks = parse_tasks(
            r#"[{"name":"a","domain":"gpu","path":"/a","concurrency":4,"pollInterval":"1s","timeout":"10m"},{"name":"a"}]"#,
        )
        .unwrap();
        assert_eq!(tasks[0].timeout, Some(Duration::from_secs(600)));
        assert_eq!(tasks[0].poll_interval, Duration::from_secs(1));
        assert_eq!(tasks[0].concurrency, Some(4));
    }

    #[test]
    fn bad_tasks_are_refused() {
        for (given, says) in [
            ("", "EOF"),
            ("[]", "no task type"),
            (r#"[{"path":"/"}]"#, "name"),
            (r#"[{"name":""}]"#, "empty"),
            (r#"[{"name":"a","domain":""}]"#, "domain"),
            (r#"[{"name":"a","path":"x"}]"#, "start with /"),
            (r#"[{"name":"a","concurrency":0}]"#, "1 or more"),
            (r#"[{"name":"a","pollInterval":"0s"}]"#, "pollInterval"),
            (r#"[{"name":"a","timeout":"fast"}]"#, "duration"),
            (r#"[{"name":"a","colour":"red"}]"#, "colour"),
            (r#"[{"name":"a"},{"name":"a"}]"#, "twice"),
        ] {
            let message = parse_tasks(given).unwrap_err().to_string();
            assert!(message.contains(says), "{given}: {message}");
        }
    }

    #[test]
    fn probes() {
        assert_eq!(Probe::parse("tcp", 8080), Ok(Probe::Tcp(8080)));
        assert_eq!(Probe::parse("tcp:9", 8080), Ok(Probe::Tcp(9)));
        let url = "http://127.0.0.1:9/ready";
        assert_eq!(
            Probe::parse(url, 8080),
            Ok(Probe::Http(url.parse().unwrap()))
        );
        let probe = Probe::Http(url.parse().unwrap());
        let moved = "http://127.0.0.1:10/ready".parse().unwrap();
        assert_eq!(probe.moved(9, 10), Some(Probe::Http(moved)));
        assert_eq!(
            (probe.moved(8, 10), Probe::Tcp(9).moved(9, 10)),
            (None, None)
        );
        for bad in [
            "",
            "udp",
            "tcp:",
            "tcp:0",
            "tcp:x",
            "https://127.0.0.1/",
            "/ready",
        ] {
            assert!(Probe::parse(bad, 8080).is_err(), "{bad}");
        }
    }

    #[test]
    fn statuses() {
        let default: StatusSet = DEFAULT_TERMINAL.parse().unwrap();
        assert_eq!(default, StatusSet::default());
        assert_eq!(default.to_string(), DEFAULT_TERMINAL);
        for (status, within) in [
            (400, true),
            (404, true),
            (408, false),
            (425, false),
            (429, false),
            (499, true),
            (500, false),
        ] {
            assert_eq!(default.contains(status), within, "{status}");
        }
        assert_eq!("422".parse::<StatusSet>().unwrap().to_string(), "422");
        assert!(!"".parse::<StatusSet>().unwrap().contains(400));
        for bad in ["x", "399", "600", "410-400", "400-"] {
            assert!(bad.parse::<StatusSet>().is_err(), "{bad}");
        }
    }
}
