//! What happens next in a workflow: Conductor's decider for a sequence.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{
    Move, State, expression,
    payload::{self, Payload},
    places::queue_name,
    queue::{Place, Queue},
    task::{Task, TaskStatus},
    timeouts::{timeout, workflow_timeout},
    timers::Event,
    update::{SWEEP, too_large},
    workflow::{Seen, WorkflowStatus},
    workflow_def::Step,
};

/// A domain counts as active for this long after the last poll in it.
const DOMAIN_ACTIVE: i64 = 10_000;

/// What a look at the last task of a workflow leads to.
enum Next {
    /// It is alive: wait.
    Wait,
    /// The step of this index comes next.
    Step(usize),
    /// The same step again, after the attempt with this id.
    Retry(Arc<str>),
    /// The workflow ends like this.
    End(WorkflowStatus, Option<String>),
}

impl State {
    /// Evaluates a workflow: time-outs, retries, the next task, the end.
    pub(super) fn decide(&mut self, id: &str, now: i64) {
        let Some(workflow) = self.workflows.get(id) else {
            return;
        };
        if workflow.status.is_terminal() {
            return;
        }
        if let Some(reason) = workflow_timeout(workflow, now) {
            self.end_workflow(id, WorkflowStatus::TimedOut, Some(reason), now);
            return;
        }
        if workflow.status == WorkflowStatus::Paused {
            return;
        }
        match self.next(id, now) {
            Next::Wait => {}
            Next::Retry(failed) => self.retry(&failed, now),
            Next::Step(index) => match self.workflows[id].plan.steps.get(index).cloned() {
                Some(step) => self.schedule_step(id, step, now),
                None => self.end_workflow(id, WorkflowStatus::Completed, None, now),
            },
            Next::End(status, reason) => self.end_workflow(id, status, reason, now),
        }
        // What waits on has its time-out ahead.
        if let Some(task) = self.last_task(id) {
            let task = task.id.clone();
            self.set_alarm(&task);
        }
    }

    fn next(&mut self, id: &str, now: i64) -> Next {
        let steps = self.workflows[id].plan.steps.len();
        let Some(task) = self.last_task(id) else {
            return Next::Step(0);
        };
        let task_id = task.id.clone();
        if !task.status.is_terminal() {
            let Some((reason, ends_workflow)) = timeout(task, now) else {
                return Next::Wait;
            };
            self.end_task(&task_id, TaskStatus::TimedOut, Some(reason.clone()), now);
            if ends_workflow {
                return Next::End(WorkflowStatus::TimedOut, Some(reason));
            }
        }
        let Some(task) = self.tasks.get_mut(&task_id) else {
            return Next::Wait;
        };
        // Conductor does not write down what it makes of the last task.
        let is_last = task.step.index + 1 == steps;
        if task.status.is_successful() {
            task.executed = !is_last;
            return Next::Step(task.step.index + 1);
        }
        if task.status.is_retriable() && task.retry_count < task.step.retries() {
            let total = task.step.def.total_timeout_seconds;
            let elapsed = (now - task.first_scheduled) / 1000;
            if total > 0 && elapsed >= total {
                let reason = format!(
                    "Task {task_id}/{} exceeded total timeout of {total} seconds (elapsed {elapsed} \
                     seconds across all attempts). No further retries will be attempted.",
                    task.step.task_type
                );
                return Next::End(failure(task.status), Some(reason));
            }
            return Next::Retry(task_id);
        }
        if task.step.task.optional {
            if !is_last {
                task.status = TaskStatus::CompletedWithErrors;
                task.executed = true;
            }
            return Next::Step(task.step.index + 1);
        }
        let status = failure(task.status);
        let reason = format!(
            "Task {task_id} failed with status: {} and reason: '{}'",
            status.as_str(),
            task.reason.as_deref().unwrap_or("null")
        );
        Next::End(status, Some(reason))
    }

    fn schedule_step(&mut self, workflow: &str, step: Arc<Step>, now: i64) {
        let w = &self.workflows[workflow];
        let input = step_input(
            &step,
            &Seen {
                workflow: w,
                state: self,
            },
        );
        let domain = self.domain_of(w.task_to_domain.as_ref(), &step.task_type, now);
        let task = Task {
            id: "".into(),
            workflow_id: w.id.clone(),
            workflow_name: w.plan.name.clone(),
            status: TaskStatus::Scheduled,
            input: Payload::inline(input),
            output: Payload::empty(),
            seq: w.tasks.len() + 1,
            retry_count: 0,
            poll_count: 0,
            scheduled: now,
            first_scheduled: now,
            started: 0,
            updated: 0,
            ended: 0,
            start_delay: step.task.start_delay,
            callback_after: step.task.start_delay,
            retried_task_id: None,
            retried: false,
            executed: false,
            reason: None,
            worker_id: None,
            correlation_id: w.correlation_id.clone(),
            queue: queue_name(&step.task_type, domain.as_deref()),
            domain,
            priority: w.priority,
            place: Place::Out,
            alarm: None,
            step,
        };
        self.schedule(task, now);
    }

    /// A new attempt: a new id, the same input, domain and reason.
    fn retry(&mut self, failed: &str, now: i64) {
        let Some(old) = self.tasks.get_mut(failed) else {
            return;
        };
        old.retried = true;
        let mut task = old.clone();
        let delay = task.step.def.retry_delay(task.retry_count);
        task.status = TaskStatus::Scheduled;
        task.output = Payload::empty();
        task.retry_count += 1;
        task.poll_count = 0;
        (task.scheduled, task.started, task.updated, task.ended) = (now, 0, 0, 0);
        (task.start_delay, task.callback_after) = (delay, delay);
        task.retried_task_id = Some(failed.into());
        (task.retried, task.executed) = (false, false);
        task.worker_id = None;
        (task.place, task.alarm) = (Place::Out, None);
        if let Some(w) = self.workflows.get(&task.workflow_id) {
            task.seq = w.tasks.len() + 1;
        }
        self.counts.retries += 1;
        self.schedule(task, now);
    }

    fn schedule(&mut self, mut task: Task, now: i64) {
        let id = self.ids.next();
        let delay = task.callback_after;
        task.id = id.clone();
        if let Some(w) = self.workflows.get_mut(&task.workflow_id) {
            w.tasks.push(id.clone());
            w.updated = now;
        }
        // A further attempt has what the first one has.
        if task.retry_count == 0 {
            let input = task.input.value().clone();
            match Payload::new(input, payload::TASK_THRESHOLD, || self.ids.next()) {
                Ok(input) => task.input = input,
                Err(size) => task.fail_unscheduled(too_large(size, &id, &task.workflow_id), now),
            }
        }
        let (ended, workflow) = (task.status.is_terminal(), task.workflow_id.clone());
        self.tasks.insert(id.clone(), task);
        if ended {
            self.timers.add(now + SWEEP, Event::Decide(workflow));
        } else {
            self.enqueue(&id, delay * 1000, now);
        }
    }

    /// Where a task goes by `taskToDomain`: the first domain of the list that was polled
    /// lately, else the last.
    fn domain_of(
        &self,
        task_to_domain: &std::collections::BTreeMap<String, String>,
        task_type: &str,
        now: i64,
    ) -> Option<Arc<str>> {
        let list = task_to_domain
            .get(task_type)
            .or_else(|| task_to_domain.get("*"))?;
        let domains: Vec<&str> = list.split(',').map(str::trim).collect();
        let active = |domain: &str| {
            self.polled
                .get(&(task_type.to_owned(), Some(domain.to_owned())))
                .is_some_and(|p| now - p.last_poll_time <= DOMAIN_ACTIVE)
        };
        let default = |domain: &str| domain.eq_ignore_ascii_case("NO_DOMAIN");
        let chosen = domains
            .iter()
            .find(|d| !default(d) && active(d))
            .or(domains.last())?;
        (!chosen.is_empty() && !default(chosen)).then(|| Arc::from(*chosen))
    }

    /// Ends a workflow: its output, the names of what failed, and its live task.
    pub(super) fn end_workflow(
        &mut self,
        id: &str,
        status: WorkflowStatus,
        reason: Option<String>,
        now: i64,
    ) {
        let live = self
            .last_task(id)
            .filter(|t| !t.status.is_terminal())
            .map(|t| t.id.clone());
        let output = self.output_of(id);
        let output = Payload::new(output, payload::WORKFLOW_THRESHOLD, || self.ids.next());
        let (status, reason, output) = match output {
            Ok(output) => (status, reason, output),
            Err(size) => (
                WorkflowStatus::Failed,
                Some(format!(
                    "The output payload size: {size} of workflow: {id} is greater than the \
                     permissible limit: {} bytes",
                    payload::LIMIT
                )),
                Payload::empty(),
            ),
        };
        let Some(workflow) = self.workflows.get_mut(id) else {
            return;
        };
        let failed: Vec<&Task> = workflow
            .tasks
            .iter()
            .filter_map(|t| self.tasks.get(t))
            .filter(|t| {
                matches!(
                    t.status,
                    TaskStatus::Failed | TaskStatus::FailedWithTerminalError
                )
            })
            .collect();
        for task in failed {
            let reference = &task.step.task.task_reference_name;
            if !workflow.failed_references.contains(reference) {
                workflow.failed_references.push(reference.clone());
                workflow.failed_names.push(task.step.task_type.to_string());
            }
        }
        workflow.status = status;
        workflow.output = output;
        workflow.reason = reason;
        (workflow.updated, workflow.ended) = (now, now);
        let key = workflow.id.clone();
        if let Some(task) = live {
            self.end_task(&task, TaskStatus::Canceled, None, now);
        }
        match status {
            WorkflowStatus::Completed => self.counts.completed += 1,
            _ => self.counts.failed += 1,
        }
        self.ended.push_back(key);
        while self.ended.len() > self.keep_ended {
            if let Some(oldest) = self.ended.pop_front() {
                self.forget(&oldest);
            }
        }
    }

    fn output_of(&self, id: &str) -> Arc<Value> {
        let workflow = &self.workflows[id];
        let parameters = &workflow.plan.def.output_parameters;
        if parameters.is_empty() {
            return match workflow.tasks.last().and_then(|t| self.tasks.get(t)) {
                Some(last) => last.output.value().clone(),
                None => workflow.output.value().clone(),
            };
        }
        let seen = Seen {
            workflow,
            state: self,
        };
        Arc::new(Value::Object(expression::resolve(parameters, &seen)))
    }

    /// Ends a task: out of its queue, no time-outs any more, its share of the limit free.
    pub(super) fn end_task(
        &mut self,
        id: &str,
        status: TaskStatus,
        reason: Option<String>,
        now: i64,
    ) {
        self.leave_queue(id);
        let Some(task) = self.tasks.get_mut(id) else {
            return;
        };
        let was_running = task.status == TaskStatus::InProgress;
        task.status = status;
        if reason.is_some() {
            task.reason = reason;
        }
        (task.updated, task.ended) = (now, now);
        if let Some(alarm) = task.alarm.take() {
            self.timers.cancel(alarm);
        }
        let (id, step, queue) = (task.id.clone(), task.step.clone(), task.queue.clone());
        self.note(&id, Move::Ended);
        if was_running {
            self.count_running(&step.task_type, -1);
        }
        if step.def.limit().is_some() {
            self.expedite(&queue);
        }
    }

    pub(super) fn count_running(&mut self, task_type: &Arc<str>, change: isize) {
        let running = self.running.entry(task_type.clone()).or_default();
        *running = running.saturating_add_signed(change);
    }

    /// A slot of a limited definition is free: what waits first need not wait on.
    fn expedite(&mut self, queue: &str) {
        let first = self.queues.get(queue).and_then(Queue::first_if_none_ready);
        if let Some(id) = first {
            self.leave_queue(&id);
            self.make_ready(&id);
        }
    }
}

/// A step's input: its parameters, and the definition's template where they give nothing.
fn step_input(step: &Step, seen: &Seen<'_>) -> Map<String, Value> {
    let template = &step.def.input_template;
    if template.is_empty() {
        return expression::resolve(&step.task.input_parameters, seen);
    }
    let mut parameters = step.task.input_parameters.clone();
    for (key, value) in template {
        parameters.entry(key).or_insert_with(|| value.clone());
    }
    let mut input = expression::resolve(&parameters, seen);
    for (key, value) in &mut input {
        if value.is_null()
            && let Some(fallback) = template.get(key)
        {
            value.clone_from(fallback);
        }
    }
    input
}

/// How a workflow ends by a task that ended like this.
fn failure(status: TaskStatus) -> WorkflowStatus {
    match status {
        TaskStatus::Canceled => WorkflowStatus::Terminated,
        TaskStatus::TimedOut => WorkflowStatus::TimedOut,
        _ => WorkflowStatus::Failed,
    }
}
