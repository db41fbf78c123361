//! A handler's answer: whatever it is, it becomes a report that Conductor can read.
#![no_main]

use std::time::Duration;

use conductor_client::{Task, UpdateStatus};
use libfuzzer_sys::{arbitrary, arbitrary::Arbitrary, fuzz_target};
use serde_json::value::RawValue;
use worker_sidecar::{
    config::StatusSet,
    outcome::{Answer, Circumstances, Ended, judge, unless_circling},
    payload::readable_by_the_server,
    result::{around_poll_timeout, report},
};

#[derive(Debug, Arbitrary)]
struct Given {
    status: u16,
    content_type: Option<String>,
    kind: u8,
    retry_after: Option<String>,
    minutes: u16,
    poll_timeout: Option<u64>,
    body: Vec<u8>,
}

const TASK: &str =
    r#"{"taskId":"t","workflowInstanceId":"w","status":"IN_PROGRESS","outputData":{"ckpt":1}}"#;

fuzz_target!(|given: Given| {
    let content_type = match given.kind % 4 {
        0 => "application/json".to_owned(),
        1 => "application/vnd.conductor.task-result+json".to_owned(),
        2 => "application/problem+json".to_owned(),
        _ => given.content_type.unwrap_or_default(),
    };
    let answer = Answer {
        status: 100 + given.status % 500,
        content_type,
        retry_after: given.retry_after,
        body: given.body.into(),
    };
    let waited = Duration::from_secs(60 * u64::from(given.minutes));
    let circumstances = Circumstances {
        terminal: &StatusSet::default(),
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    let outcome = unless_circling(judge(Ended::Answered(answer), &circumstances), waited);
    let outcome = readable_by_the_server(outcome);
    let outcome = around_poll_timeout(outcome, given.poll_timeout, waited);
    let task = Task::from_json(TASK).expect("a task");
    let report = report(&task, "type", "me", outcome, 7);
    let update = &report.update;
    if let Some(output) = &update.output_data {
        assert!(
            output.get().trim_start().starts_with('{'),
            "an output is an object: {output}"
        );
        assert!(serde_json::from_str::<&RawValue>(output.get()).is_ok());
    }
    if update.status == UpdateStatus::InProgress {
        assert!(
            update.output_data.is_some(),
            "a hand-back would wipe the stored output"
        );
    }
    assert!(update.logs.len() <= 10);
    let reason = update
        .reason_for_incompletion
        .as_deref()
        .unwrap_or_default();
    assert!(reason.chars().count() <= 500, "{reason}");
    let json = serde_json::to_vec(update).expect("it can be sent");
    assert!(serde_json::from_slice::<&RawValue>(&json).is_ok());
});
