//! A poll's answer: whatever it is, tasks are read or it is refused.
#![no_main]

use conductor_client::Task;
use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

fuzz_target!(|answer: &str| {
    let Ok(tasks) = Task::batch_from_json(answer) else {
        return;
    };
    for task in tasks.into_iter().flatten() {
        assert!(
            answer.contains(task.json()),
            "a task is a part of its answer"
        );
        assert!(serde_json::from_str::<&RawValue>(task.json()).is_ok());
        assert!(serde_json::from_str::<&RawValue>(task.input_data()).is_ok());
        let read = Task::from_json(task.json()).expect("it was read before");
        assert_eq!(read.task_id(), task.task_id());
        if let Some(output) = task.output_data() {
            assert!(serde_json::from_str::<&RawValue>(output.get()).is_ok());
        }
        let trace = worker_sidecar::trace::of(&task, 7);
        assert!(trace.parent.len() >= 55, "{}", trace.parent);
        let _ = (
            task.domain(),
            task.timeout_seconds(),
            task.poll_timeout_seconds(),
            task.response_timeout_seconds(),
        );
    }
    // What is no array is refused.
    assert!(serde_json::from_str::<Vec<IgnoredAny>>(answer).is_ok());
});
