//! What only a state with time in hand can show; the rest is in tests/conformance.

use serde_json::{Value, json};

use super::{BatchFill, Poll, Start, State, Task, TaskResult, UpdateOf, workflow::WorkflowStatus};

const T0: i64 = 1_000_000_000_000;

/// A state with a task type `t` and a workflow of one such task.
fn state(def: &Value) -> State {
    state_of(def, &json!([{ "name": "t", "taskReferenceName": "ref" }]))
}

fn state_of(def: &Value, tasks: &Value) -> State {
    let mut state = State::new(1, 3, BatchFill::Redis);
    let mut task = json!({ "name": "t", "retryDelaySeconds": 0 });
    task.as_object_mut()
        .unwrap()
        .extend(def.as_object().unwrap().clone());
    let defs = vec![serde_json::from_value(task).unwrap()];
    state.register_task_defs(defs, T0).unwrap();
    let workflow = json!({ "name": "w", "tasks": tasks });
    let workflow = serde_json::from_value(workflow).unwrap();
    state
        .register_workflow_def(workflow, UpdateOf::Nothing, T0)
        .unwrap();
    state
}

fn start(state: &mut State, now: i64) -> String {
    let start = Start {
        name: Some("w".to_owned()),
        ..Start::default()
    };
    state.start(start, now).unwrap().to_string()
}

fn poll(state: &mut State, count: usize, now: i64) -> Vec<Task> {
    state.tick(now);
    let poll = Poll {
        task_type: "t".to_owned(),
        domain: None,
        worker_id: None,
    };
    let held = state.pop("t", count);
    state.hand_out(&poll, &held, now)
}

fn update(state: &mut State, task: &Task, fields: Value, now: i64) {
    let mut result = json!({ "taskId": &*task.id, "workflowInstanceId": &*task.workflow_id });
    let Value::Object(fields) = fields else {
        return;
    };
    result.as_object_mut().unwrap().extend(fields);
    let result: TaskResult = serde_json::from_value(result).unwrap();
    state.tick(now);
    state.update(result, now).unwrap();
}

fn status(state: &State, workflow: &str) -> WorkflowStatus {
    state.workflow(workflow).unwrap().status
}

#[test]
fn nothing_is_due_when_nothing_runs() {
    let mut state = state(&json!({ "responseTimeoutSeconds": 5 }));
    assert_eq!(state.next_due(), None);
    let id = start(&mut state, T0);
    assert_eq!(state.next_due(), None, "a queue has no time-out of its own");
    let task = poll(&mut state, 1, T0).remove(0);
    assert_eq!(state.next_due(), Some(T0 + 5000));
    update(&mut state, &task, json!({ "extendLease": true }), T0 + 3000);
    assert_eq!(state.next_due(), Some(T0 + 8000));
    update(
        &mut state,
        &task,
        json!({ "status": "COMPLETED" }),
        T0 + 4000,
    );
    assert_eq!(state.next_due(), None);
    assert_eq!(status(&state, &id), WorkflowStatus::Completed);
}

#[test]
fn a_lease_ends_to_the_millisecond() {
    let mut state = state(&json!({ "responseTimeoutSeconds": 5 }));
    start(&mut state, T0);
    let first = poll(&mut state, 1, T0).remove(0);
    assert!(poll(&mut state, 1, T0 + 4999).is_empty());
    let second = poll(&mut state, 1, T0 + 5000).remove(0);
    assert_eq!(second.retried_task_id, Some(first.id.clone()));
    assert_eq!(state.counts().retries, 1);
}

#[test]
fn delayed_tasks_are_delivered_when_due_and_wake_their_queue() {
    let mut state = state(&json!({}));
    start(&mut state, T0);
    let task = poll(&mut state, 1, T0).remove(0);
    state.take_woken();
    let fields = json!({ "status": "IN_PROGRESS", "callbackAfterSeconds": 20 });
    update(&mut state, &task, fields, T0);
    assert!(state.take_woken().is_empty());
    assert_eq!(state.size_of("t", None), 1);
    state.tick(T0 + 19_999);
    assert!(state.take_woken().is_empty());
    state.tick(T0 + 20_000);
    assert_eq!(state.take_woken(), ["t".into()]);
    assert_eq!(poll(&mut state, 1, T0 + 20_000)[0].id, task.id);
}

#[test]
fn a_limit_postpones_and_frees_one_at_a_time() {
    let mut state = state(&json!({ "concurrentExecLimit": 2 }));
    for _ in 0..6 {
        start(&mut state, T0);
    }
    let running = poll(&mut state, 10, T0);
    assert_eq!(running.len(), 2);
    assert_eq!(state.size_of("t", None), 4);
    assert!(poll(&mut state, 10, T0 + 1).is_empty());
    update(
        &mut state,
        &running[0],
        json!({ "status": "COMPLETED" }),
        T0 + 2,
    );
    assert_eq!(poll(&mut state, 10, T0 + 3).len(), 1);
    assert!(poll(&mut state, 10, T0 + 4).is_empty());
    // What was postponed comes back by itself, and is postponed again.
    assert!(poll(&mut state, 10, T0 + 60_002).is_empty());
    assert_eq!(state.size_of("t", None), 3);
}

#[test]
fn a_held_task_that_ends_meanwhile_is_not_given_out() {
    let mut state = state(&json!({}));
    let id = start(&mut state, T0);
    let held = state.pop("t", 5);
    assert_eq!((held.len(), state.size_of("t", None)), (1, 1));
    state.terminate(&id, None, T0).unwrap();
    let poll = Poll {
        task_type: "t".to_owned(),
        domain: None,
        worker_id: None,
    };
    assert!(state.hand_out(&poll, &held, T0).is_empty());
    assert_eq!(state.size_of("t", None), 0);
    assert_eq!(state.counts().empty_polls, 1);
}

#[test]
fn ids_that_do_not_belong_together_are_sorted_out_by_the_sweeper() {
    let mut state = state(&json!({}));
    let mine = start(&mut state, T0);
    let task = poll(&mut state, 1, T0).remove(0);
    let other = start(&mut state, T0);
    let fields = json!({ "status": "COMPLETED", "workflowInstanceId": other });
    update(&mut state, &task, fields, T0);
    state.tick(T0 + 29_999);
    assert_eq!(status(&state, &mine), WorkflowStatus::Running);
    state.tick(T0 + 30_000);
    assert_eq!(status(&state, &mine), WorkflowStatus::Completed);
    assert_eq!(status(&state, &other), WorkflowStatus::Running);
}

#[test]
fn a_paused_workflow_times_out_when_it_goes_on() {
    let mut state = state(&json!({ "responseTimeoutSeconds": 5 }));
    let id = start(&mut state, T0);
    poll(&mut state, 1, T0);
    state.pause(&id, T0).unwrap();
    state.tick(T0 + 100_000);
    assert_eq!(state.size_of("t", None), 0);
    assert_eq!(state.next_due(), None, "no time-out of a paused workflow");
    state.resume(&id, T0 + 100_000).unwrap();
    assert_eq!(state.size_of("t", None), 1);
}

#[test]
fn a_budget_over_all_attempts_ends_the_retries() {
    let def = json!({ "totalTimeoutSeconds": 10, "responseTimeoutSeconds": 4, "retryCount": 9, "timeoutPolicy": "RETRY" });
    let mut state = state(&def);
    let id = start(&mut state, T0);
    for now in [T0, T0 + 4000, T0 + 8000] {
        assert_eq!(poll(&mut state, 1, now).len(), 1, "{}", now - T0);
    }
    state.tick(T0 + 9999);
    assert_eq!(status(&state, &id), WorkflowStatus::Running);
    state.tick(T0 + 10_000);
    assert_eq!(status(&state, &id), WorkflowStatus::TimedOut);
}

#[test]
fn only_the_last_workflows_that_ended_are_kept() {
    let mut state = state(&json!({}));
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(start(&mut state, T0 + n));
        let task = poll(&mut state, 1, T0 + n).remove(0);
        state.log(&task.id, "line".to_owned(), T0);
        update(&mut state, &task, json!({ "status": "COMPLETED" }), T0 + n);
    }
    let kept: Vec<bool> = ids.iter().map(|id| state.workflow(id).is_ok()).collect();
    assert_eq!(kept, [false, false, true, true, true]);
    assert_eq!((state.tasks.len(), state.logs.len()), (3, 3));
    assert_eq!(state.counts().completed, 5);
}

#[test]
fn a_sequence_passes_output_on() {
    let tasks = json!([
        { "name": "t", "taskReferenceName": "one" },
        { "name": "t", "taskReferenceName": "two", "inputParameters": { "x": "${one.output.x}" } },
    ]);
    let mut state = state_of(&json!({}), &tasks);
    let id = start(&mut state, T0);
    let one = poll(&mut state, 9, T0).remove(0);
    let fields = json!({ "status": "COMPLETED", "outputData": { "x": { "deep": 1 } } });
    update(&mut state, &one, fields, T0);
    let two = poll(&mut state, 9, T0).remove(0);
    assert_eq!(*two.input.shown(), json!({ "x": { "deep": 1 } }));
    update(&mut state, &two, json!({ "status": "COMPLETED" }), T0);
    assert_eq!(status(&state, &id), WorkflowStatus::Completed);
}
