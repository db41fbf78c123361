//! An answer in which the handler says all of the result itself. Pure.

use conductor_client::TaskLog;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    outcome::{Answer, DEFAULT_DEFERRAL, End, Fault, Outcome, empty, line, retry_after},
    reason::{self, Reason},
};

/// A handler that answers with this type says all of the result itself.
pub const TASK_RESULT: &str = "application/vnd.conductor.task-result+json";

/// Whether an answer is one.
pub(crate) fn is_task_result(answer: &Answer) -> bool {
    reason::media_type(&answer.content_type) == TASK_RESULT
}

/// The statuses a handler may give.
#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Said {
    Completed,
    InProgress,
    Failed,
    FailedWithTerminalError,
    Canceled,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Given {
    status: Said,
    #[serde(default)]
    output_data: Option<Box<RawValue>>,
    #[serde(default)]
    reason_for_incompletion: Option<String>,
    #[serde(default)]
    callback_after_seconds: Option<u64>,
    #[serde(default)]
    logs: Option<Vec<Line>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Text(String),
    Full(TaskLog),
}

/// The outcome that such an answer says.
pub(crate) fn task_result(answer: &Answer, now: Timestamp) -> Outcome {
    let bad = |why: &dyn std::fmt::Display| {
        Outcome::failed(
            End::Terminal(Fault::BadResult),
            Reason::new(&format!("the handler's task result cannot be read: {why}")),
        )
    };
    let given: Given = match serde_json::from_slice(&answer.body) {
        Ok(given) => given,
        Err(why) => return bad(&why),
    };
    let output = given.output_data.filter(|json| json.get() != "null");
    if output
        .as_ref()
        .is_some_and(|json| !json.get().starts_with('{'))
    {
        return bad(&"outputData is not a JSON object");
    }
    let end = match given.status {
        Said::Completed => End::Completed,
        Said::Failed => End::Failed(Fault::Handler),
        Said::FailedWithTerminalError => End::Terminal(Fault::Handler),
        Said::Canceled => End::Canceled,
        Said::InProgress => {
            let header = answer
                .retry_after
                .as_deref()
                .and_then(|h| retry_after(h, now));
            let after = given.callback_after_seconds.or(header);
            End::Deferred {
                after: after.unwrap_or(DEFAULT_DEFERRAL),
            }
        }
    };
    let mut logs: Vec<TaskLog> = given
        .logs
        .unwrap_or_default()
        .into_iter()
        .map(TaskLog::from)
        .collect();
    let reason = given.reason_for_incompletion.map(|text| {
        let reason = Reason::new(&text);
        logs.extend(reason.rest.map(line));
        reason.text
    });
    let output = match end {
        End::Completed => Some(output.unwrap_or_else(empty)),
        _ => output,
    };
    Outcome {
        end,
        output,
        reason,
        logs,
    }
}

impl From<Line> for TaskLog {
    fn from(given: Line) -> Self {
        match given {
            Line::Text(log) => line(log),
            Line::Full(log) => log,
        }
    }
}
