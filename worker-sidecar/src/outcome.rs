//! What becomes of a task: the status table of the worker contract. Pure.

use std::{fmt::Write as _, time::Duration};

use bytes::Bytes;
use conductor_client::TaskLog;
use jiff::Timestamp;
use serde_json::value::RawValue;

use crate::{
    config::StatusSet,
    reason::{self, Reason},
    task_result::{is_task_result, task_result},
};

/// A task that is handed back again and again is failed after so long, so that nothing
/// circles for ever.
const CIRCLING_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Just before that, it may still be put off for so long.
const LEAST_LEFT: u64 = 5;

/// `callbackAfterSeconds` of a 202 that names no time.
pub(crate) const DEFAULT_DEFERRAL: u64 = 60;

/// How a task's stay at the handler ended.
#[derive(Debug)]
pub enum Ended {
    /// The handler answered.
    Answered(Answer),
    /// Its answer is larger than the limit.
    TooLarge {
        /// The answer's size, where the handler declared it.
        size: Option<u64>,
        /// The limit in bytes.
        limit: usize,
    },
    /// It refused the connection: not a byte was sent.
    Refused,
    /// The connection broke before the answer was complete.
    CutOff(String),
    /// The deadline passed; the call was closed.
    Deadline,
    /// Conductor has given the task up, and nothing else would end the call.
    LeaseLost,
    /// The sidecar is shutting down: not begun, or closed, or not done because of the handler's
    /// end.
    ShutDown,
    /// The server sent more tasks than were asked for.
    Surplus,
    /// The input is in Conductor's external storage.
    ExternalInput(String),
}

/// An HTTP answer.
#[derive(Debug, Default)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `Content-Type`, or "".
    pub content_type: String,
    /// `Retry-After`.
    pub retry_after: Option<String>,
    /// The whole body.
    pub body: Bytes,
}

/// What is reported to Conductor.
#[derive(Debug)]
pub struct Outcome {
    /// How it ends.
    pub end: End,
    /// The output, a JSON object.
    pub output: Option<Box<RawValue>>,
    /// Why.
    pub reason: Option<String>,
    /// Lines for the task's log.
    pub logs: Vec<TaskLog>,
}

/// How a task ends here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Done.
    Completed,
    /// Failed; Conductor retries by the task's definition.
    Failed(Fault),
    /// Failed, not to be retried.
    Terminal(Fault),
    /// Ends the workflow, by the handler's own word.
    Canceled,
    /// Not finished, by the handler's own word: to be delivered again later.
    Deferred {
        /// In so many seconds.
        after: u64,
    },
    /// Given back without an end, not the task's fault.
    HandedBack {
        /// Why.
        cause: Cause,
        /// To be delivered again in so many seconds.
        after: u64,
    },
}

/// Why a task failed: a bounded word for logs and metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The handler answered with a 4xx.
    ClientError,
    /// The handler answered with a 5xx.
    ServerError,
    /// The handler answered with a redirect or an upgrade.
    NoAnswer,
    /// A body that should be JSON is not.
    NotJson,
    /// A task result that cannot be read.
    BadResult,
    /// The handler's task result says so.
    Handler,
    /// The answer is larger than the limit.
    TooLarge,
    /// The answer was cut off.
    CutOff,
    /// The deadline passed.
    Deadline,
    /// Busy or unreachable for 15 minutes.
    Circling,
    /// Conductor gave the task up: cancelled, timed out, or unknown. Not reported.
    LeaseLost,
    /// The input is in external storage.
    ExternalInput,
    /// It could not be handed back because of `pollTimeoutSeconds`.
    PollTimeout,
}

/// Why a task is handed back: a bounded word for logs and metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The handler is busy (429, 503).
    Busy,
    /// The handler refused the connection.
    Refused,
    /// The sidecar is shutting down.
    Shutdown,
    /// The server sent more than was asked for.
    Surplus,
}

/// What the table depends on besides the answer.
#[derive(Debug)]
pub struct Circumstances<'a> {
    /// Which statuses fail a task for good.
    pub terminal: &'a StatusSet,
    /// The time, for a `Retry-After` that is a date.
    pub now: Timestamp,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 13] = [
        Self::ClientError,
        Self::ServerError,
        Self::NoAnswer,
        Self::NotJson,
        Self::BadResult,
        Self::Handler,
        Self::TooLarge,
        Self::CutOff,
        Self::Deadline,
        Self::Circling,
        Self::LeaseLost,
        Self::ExternalInput,
        Self::PollTimeout,
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientError => "client_error",
            Self::ServerError => "server_error",
            Self::NoAnswer => "no_answer",
            Self::NotJson => "not_json",
            Self::BadResult => "bad_result",
            Self::Handler => "handler",
            Self::TooLarge => "too_large",
            Self::CutOff => "cut_off",
            Self::Deadline => "deadline",
            Self::Circling => "circling",
            Self::LeaseLost => "lease_lost",
            Self::ExternalInput => "external_input",
            Self::PollTimeout => "poll_timeout",
        }
    }
}

impl End {
    /// A bounded word for logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed(_) => "failed",
            Self::Terminal(_) => "terminal",
            Self::Canceled => "canceled",
            Self::Deferred { .. } => "deferred",
            Self::HandedBack { .. } => "handed_back",
        }
    }

    /// Whether the task is over.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Deferred { .. } | Self::HandedBack { .. })
    }
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 4] = [Self::Busy, Self::Refused, Self::Shutdown, Self::Surplus];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Refused => "refused",
            Self::Shutdown => "shutdown",
            Self::Surplus => "surplus",
        }
    }
}

impl Ended {
    /// What it means once the pod's shutdown has begun. The handler is stopped too, maybe in the
    /// middle of a call: that it breaks its calls, refuses them or says that it is busy is not the
    /// task's fault, and no reason to keep the task from other pods. Nor is it where the handler
    /// is really busy, since this pod will not ask it again.
    #[must_use]
    pub fn in_a_shutdown(self, terminal: &StatusSet) -> Self {
        match self {
            Self::Answered(Answer { status, .. }) if is_busy(status, terminal) => Self::ShutDown,
            Self::CutOff(_) | Self::Refused => Self::ShutDown,
            other => other,
        }
    }
}

/// Whether the status says that the handler does not take the task now.
fn is_busy(status: u16, terminal: &StatusSet) -> bool {
    matches!(status, 429 | 503) && !terminal.contains(status)
}

/// The status table, but for its 15 minutes: [`unless_circling`].
pub fn judge(ended: Ended, given: &Circumstances<'_>) -> Outcome {
    match ended {
        Ended::Answered(answer) => judge_answer(&answer, given),
        Ended::TooLarge { size, limit } => {
            let mut text = String::from("the handler's answer is ");
            let _ = match size {
                Some(size) => write!(text, "{size} bytes long, "),
                None => write!(text, "too large, "),
            };
            let _ = write!(text, "more than the limit of {limit} bytes");
            Outcome::failed(End::Terminal(Fault::TooLarge), Reason::new(&text))
        }
        Ended::Refused => Outcome {
            reason: Some("the handler was not ready".to_owned()),
            ..Outcome::handed_back(Cause::Refused, 0)
        },
        Ended::CutOff(why) => Outcome::failed(
            End::Failed(Fault::CutOff),
            Reason::new(&format!("the handler's answer was cut off: {why}")),
        ),
        Ended::Deadline => Outcome::failed(
            End::Failed(Fault::Deadline),
            Reason::new("the handler did not answer before the deadline"),
        ),
        Ended::LeaseLost => Outcome::failed(
            End::Failed(Fault::LeaseLost),
            Reason::new("Conductor has given the task up"),
        ),
        Ended::ShutDown => Outcome::handed_back(Cause::Shutdown, 0),
        Ended::Surplus => Outcome::handed_back(Cause::Surplus, 0),
        Ended::ExternalInput(path) => Outcome::failed(
            End::Terminal(Fault::ExternalInput),
            Reason::new(&format!(
                "the input is in external payload storage ({path}), which this worker cannot read"
            )),
        ),
    }
}

fn judge_answer(answer: &Answer, given: &Circumstances<'_>) -> Outcome {
    let status = answer.status;
    let seconds = |default| {
        let header = answer.retry_after.as_deref();
        header
            .and_then(|h| retry_after(h, given.now))
            .unwrap_or(default)
    };
    match status {
        // A success, whatever its number: 200 and 201 are meant, 204 has no body by itself.
        200..=299 if is_task_result(answer) => task_result(answer, given.now),
        202 => deferred(&answer.body, seconds(DEFAULT_DEFERRAL)),
        200..=299 => completed(&answer.body),
        400.. if given.terminal.contains(status) => {
            let fault = if status < 500 {
                Fault::ClientError
            } else {
                Fault::ServerError
            };
            Outcome::failed(End::Terminal(fault), reason_of(answer))
        }
        _ if is_busy(status, given.terminal) => Outcome {
            reason: Some(format!("the handler was busy (its last answer: {status})")),
            ..Outcome::handed_back(Cause::Busy, seconds(0))
        },
        400..=499 => Outcome::failed(End::Failed(Fault::ClientError), reason_of(answer)),
        500.. => Outcome::failed(End::Failed(Fault::ServerError), reason_of(answer)),
        _ => Outcome::failed(
            End::Terminal(Fault::NoAnswer),
            Reason::new(&format!(
                "the handler answered {status}: it must answer itself, without a redirect or an upgrade"
            )),
        ),
    }
}

fn reason_of(answer: &Answer) -> Reason {
    reason::read(&answer.content_type, &answer.body)
        .unwrap_or_else(|| Reason::new(&format!("the handler answered {}", answer.status)))
}

/// The rule of the 15 minutes: a task that the handler does not take goes back, and no reason is
/// told, until it is that old; then it is failed. Since it is looked at when it comes again, it is not
/// put off past that moment, whatever the handler wishes.
///
/// `age`: how long ago it, or the first of its attempts, started.
#[must_use]
pub fn unless_circling(outcome: Outcome, age: Duration) -> Outcome {
    let End::HandedBack {
        cause: cause @ (Cause::Busy | Cause::Refused),
        after,
    } = outcome.end
    else {
        return outcome;
    };
    let left = CIRCLING_LIMIT.saturating_sub(age);
    if !left.is_zero() {
        let most = left.as_secs().max(LEAST_LEFT);
        return Outcome::handed_back(cause, after.min(most));
    }
    let what = outcome.reason.unwrap_or_default();
    let minutes = age.as_secs() / 60;
    Outcome::failed(
        End::Failed(Fault::Circling),
        Reason::new(&format!(
            "{what}, {minutes} minutes after the task first started"
        )),
    )
}

fn completed(body: &[u8]) -> Outcome {
    match output(body) {
        Ok(output) => Outcome {
            end: End::Completed,
            output: Some(output.unwrap_or_else(empty)),
            reason: None,
            logs: Vec::new(),
        },
        Err(outcome) => outcome,
    }
}

fn deferred(body: &[u8], after: u64) -> Outcome {
    match output(body) {
        Ok(output) => Outcome {
            end: End::Deferred { after },
            output,
            reason: None,
            logs: Vec::new(),
        },
        Err(outcome) => outcome,
    }
}

/// A body as output: an object as it is, other JSON as `{"result": …}`, nothing as none.
fn output(body: &[u8]) -> Result<Option<Box<RawValue>>, Outcome> {
    if body.trim_ascii().is_empty() {
        return Ok(None);
    }
    match serde_json::from_slice::<Box<RawValue>>(body) {
        Ok(json) => Ok(Some(as_object(json))),
        Err(why) => Err(Outcome::failed(
            End::Terminal(Fault::NotJson),
            Reason::new(&format!("the handler's answer is not JSON: {why}")),
        )),
    }
}

fn as_object(json: Box<RawValue>) -> Box<RawValue> {
    if json.get().starts_with('{') {
        return json;
    }
    let wrapped = format!(r#"{{"result":{}}}"#, json.get());
    RawValue::from_string(wrapped).unwrap_or(json)
}

pub(crate) fn empty() -> Box<RawValue> {
    serde_json::value::to_raw_value(&serde_json::Map::new()).unwrap_or_default()
}

/// `Retry-After` in seconds from now: a number or an HTTP date.
pub(crate) fn retry_after(header: &str, now: Timestamp) -> Option<u64> {
    let header = header.trim();
    if let Ok(seconds) = header.parse() {
        return Some(seconds);
    }
    let date = jiff::fmt::rfc2822::parse(header).ok()?.timestamp();
    let millis = date.as_millisecond() - now.as_millisecond();
    Some(u64::try_from(millis).unwrap_or(0).div_ceil(1000))
}

pub(crate) fn line(log: String) -> TaskLog {
    TaskLog {
        log,
        created_time: 0,
    }
}

impl Outcome {
    /// A failure.
    pub fn failed(end: End, reason: Reason) -> Self {
        Self {
            end,
            output: None,
            reason: Some(reason.text),
            logs: reason.rest.map(line).into_iter().collect(),
        }
    }

    fn handed_back(cause: Cause, after: u64) -> Self {
        Self {
            end: End::HandedBack { cause, after },
            output: None,
            reason: None,
            logs: Vec::new(),
        }
    }
}

#[cfg(test)]
#[path = "outcome_tests.rs"]
mod tests;
