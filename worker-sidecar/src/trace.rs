//! The `traceparent` that a call carries (W3C Trace Context, level 1). Pure.
//!
//! Conductor hands on no headers; a workflow that is part of a trace carries it in the task's
//! input, under the header's own name. Without one, all tasks of a workflow share a trace made
//! of its id, so that one can be found by the other.

use std::{
    borrow::Cow,
    fmt::Write as _,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use conductor_client::Task;
use serde::Deserialize;

/// What a call says of its trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// `traceparent`.
    pub parent: String,
    /// `tracestate`, where the input has one beside its `traceparent`.
    pub state: Option<String>,
}

/// The trace of a task. `span`: a random number, for one that is made here.
pub fn of(task: &Task, span: u64) -> Trace {
    given(task).unwrap_or_else(|| Trace {
        parent: made(task.workflow_id(), span),
        state: None,
    })
}

fn given(task: &Task) -> Option<Trace> {
    #[derive(Deserialize)]
    struct Input<'a> {
        #[serde(borrow)]
        traceparent: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        tracestate: Option<Cow<'a, str>>,
    }
    // Most inputs have none; reading them all would cost more than looking.
    memchr::memmem::find(task.input_data().as_bytes(), br#""traceparent""#)?;
    let input: Input<'_> = serde_json::from_str(task.input_data()).ok()?;
    let parent = input.traceparent?;
    is_valid(&parent).then(|| Trace {
        parent: parent.into_owned(),
        state: input.tracestate.map(Cow::into_owned),
    })
}

/// `version-traceid-parentid-flags`: lower-case hex of 2, 32, 16 and 2 digits, ids not all
/// zeros; versions above 00 may say more after that.
fn is_valid(parent: &str) -> bool {
    let mut parts = parent.split('-');
    let mut next = |digits: usize| {
        let part = parts.next().filter(|part| part.len() == digits)?;
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        part.bytes().all(hex).then_some(part)
    };
    let (Some(version), Some(trace), Some(span), Some(_flags)) =
        (next(2), next(32), next(16), next(2))
    else {
        return false;
    };
    let zero = |id: &str| id.bytes().all(|b| b == b'0');
    version != "ff" && !zero(trace) && !zero(span) && (version != "00" || parts.next().is_none())
}

/// A workflow's id is a UUID, which is as long as a trace's id. Flagged as sampled: tracers
/// that follow their parent record it then, and their own sampling may still drop it.
fn made(workflow_id: &str, span: u64) -> String {
    let mut parent = String::with_capacity("00-".len() + 32 + "-".len() + 16 + "-01".len());
    parent.push_str("00-");
    let digits = workflow_id.chars().filter(|c| *c != '-');
    parent.extend(digits.map(|c| c.to_ascii_lowercase()));
    let id = &parent[3..];
    let is_uuid = id.len() == 32
        && id.bytes().all(|b| b.is_ascii_hexdigit())
        && id.bytes().any(|b| b != b'0');
    if !is_uuid {
        let half = |part: u8| {
            let mut hasher = DefaultHasher::new();
            (part, workflow_id).hash(&mut hasher);
            hasher.finish() | 1
        };
        parent = format!("00-{:016x}{:016x}", half(0), half(1));
    }
    // Writing to a text cannot fail.
    let _ = write!(parent, "-{:016x}-01", span.max(1));
    parent
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn task(workflow: &str, input: &str) -> Task {
        let json = format!(
            r#"{{"taskId":"t","workflowInstanceId":"{workflow}","status":"IN_PROGRESS","inputData":{input}}}"#
        );
        Task::from_json(&json).unwrap()
    }

    #[test]
    fn the_inputs_trace_is_passed_on() {
        let plain = task("w", &format!(r#"{{"traceparent":"{GIVEN}"}}"#));
        assert_eq!(of(&plain, 7).parent, GIVEN);
        let both = task(
            "w",
            &format!(r#"{{"tracestate":"a=1","x":[1],"traceparent":"{GIVEN}"}}"#),
        );
        assert_eq!(of(&both, 7).state.as_deref(), Some("a=1"));
    }

    #[test]
    fn a_workflows_tasks_share_a_trace_made_of_its_id() {
        let id = "3F2504E0-4f89-11d3-9a0c-0305e82c3301";
        let expected = "00-3f2504e04f8911d39a0c0305e82c3301-00000000000000ff-01";
        for input in [
            "{}",
            r#"{"traceparent":"nonsense"}"#,
            r#"{"traceparent":7}"#,
            r#"{"deeper":{"traceparent":"x"}}"#,
        ] {
            assert_eq!(of(&task(id, input), 255).parent, expected, "{input}");
        }
        let odd = of(&task("not-a-uuid", "{}"), 0).parent;
        assert!(is_valid(&odd), "{odd}");
        assert_eq!(odd, of(&task("not-a-uuid", "{}"), 0).parent);
    }

    #[test]
    fn what_is_valid() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        for (parent, valid) in [
            (GIVEN.to_owned(), true),
            (format!("01-{trace}-b7ad6b7169203331-00-more"), true),
            (format!("00-{trace}-b7ad6b7169203331-00-more"), false),
            (format!("ff-{trace}-b7ad6b7169203331-00"), false),
            (format!("00-{}-b7ad6b7169203331-00", "0".repeat(32)), false),
            (format!("00-{trace}-0000000000000000-00"), false),
            (GIVEN.to_uppercase(), false),
            (format!("00-{trace}-b7ad6b7169203331"), false),
            (String::new(), false),
        ] {
            assert_eq!(is_valid(&parent), valid, "{parent}");
        }
    }
}
