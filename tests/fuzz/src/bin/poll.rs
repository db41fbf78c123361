//! A poll's answer: whatever it is, tasks are read or it is refused.
#![no_main]

use conductor_client::Task;
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

fuzz_target!(|answer: &str| {
    let parts = serde_json::from_str::<Vec<&RawValue>>(answer);
    let tasks = match (Task::batch_from_json(answer), &parts) {
        (Ok(tasks), _) => tasks,
        (Err(_), Err(_)) => return,
        (Err(error), Ok(_)) => panic!("a parser takes it for an array: {error}"),
    };
    // Where the parser reads it too, both see the same elements.
    if let Ok(parts) = &parts {
        assert_eq!(tasks.len(), parts.len());
        for (task, part) in tasks.iter().zip(parts) {
            assert!(task.as_ref().map_or(true, |task| task.json() == part.get()));
        }
    }
    for task in tasks.into_iter().flatten() {
        assert!(
            answer.contains(task.json()),
            "a task is a part of its answer"
        );
        assert!(task.input_data() == "{}" || task.json().contains(task.input_data()));
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
});
