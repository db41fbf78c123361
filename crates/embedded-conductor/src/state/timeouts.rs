//! When tasks and workflows time out: ahead as a deadline, and afterwards as a reason. The two
//! must agree, or a timer would go off for ever.

use super::{Task, Workflow, task::TaskStatus, task_def::TimeoutPolicy};

impl Task {
    /// When it times out next, if nothing happens before. Policies that change nothing are
    /// left out.
    pub(crate) fn deadline(&self) -> Option<i64> {
        if self.status.is_terminal() {
            return None;
        }
        let def = &self.step.def;
        let mut deadline: Option<i64> = None;
        let mut at = |time: i64| deadline = Some(deadline.map_or(time, |d| d.min(time)));
        if self.status == TaskStatus::InProgress {
            at(self.updated + (def.response_timeout_seconds + self.callback_after) * 1000);
        }
        if def.timeout_policy != TimeoutPolicy::AlertOnly {
            if self.status == TaskStatus::Scheduled
                && let Some(seconds) = def.poll_timeout_seconds.filter(|&s| s > 0)
            {
                at(self.scheduled + (self.start_delay + seconds + self.callback_after) * 1000);
            }
            if self.started > 0 && def.timeout_seconds > 0 {
                at(self.started + (self.start_delay + def.timeout_seconds) * 1000);
            }
            if def.total_timeout_seconds > 0 {
                at(self.first_scheduled + def.total_timeout_seconds * 1000);
            }
        }
        deadline
    }
}

/// The reason when a workflow has timed out.
pub(super) fn workflow_timeout(workflow: &Workflow, now: i64) -> Option<String> {
    let def = &workflow.plan.def;
    let since = match workflow.last_retried {
        0 => workflow.created,
        retried => retried,
    };
    let late = def.timeout_seconds > 0 && now - since >= def.timeout_seconds * 1000;
    (late && def.timeout_policy == TimeoutPolicy::TimeOutWf).then(|| {
        format!(
            "Workflow timed out after {} seconds. Timeout configured as {} seconds. Timeout \
             policy configured to TIME_OUT_WF",
            (now - since) / 1000,
            def.timeout_seconds
        )
    })
}

/// The reason when a live task has timed out, and whether that ends the workflow.
pub(super) fn timeout(task: &Task, now: i64) -> Option<(String, bool)> {
    let def = &task.step.def;
    let policy = def.timeout_policy;
    if policy != TimeoutPolicy::AlertOnly {
        let ends = policy == TimeoutPolicy::TimeOutWf;
        let total = def.total_timeout_seconds;
        let elapsed = now - task.first_scheduled;
        if total > 0 && elapsed >= total * 1000 {
            let reason = format!(
                "Task {}/{} exceeded total timeout of {total} seconds (elapsed {} seconds across \
                 all attempts including retry delays). Timeout policy: {}",
                task.step.task_type,
                task.id,
                elapsed / 1000,
                policy.as_str()
            );
            return Some((reason, ends));
        }
        let elapsed = now - (task.started + task.start_delay * 1000);
        if def.timeout_seconds > 0 && task.started > 0 && elapsed >= def.timeout_seconds * 1000 {
            let reason = format!(
                "Task timed out after {} seconds. Timeout configured as {} seconds. Timeout \
                 policy configured to {}",
                elapsed / 1000,
                def.timeout_seconds,
                policy.as_str()
            );
            return Some((reason, ends));
        }
        let elapsed = now - (task.scheduled + task.start_delay * 1000);
        if let Some(seconds) = def.poll_timeout_seconds.filter(|&s| s > 0)
            && task.status == TaskStatus::Scheduled
            && elapsed >= (seconds + task.callback_after) * 1000
        {
            let reason = format!(
                "Task poll timed out after {} seconds. Poll timeout configured as {seconds} \
                 seconds. Timeout policy configured to {}",
                elapsed / 1000,
                policy.as_str()
            );
            return Some((reason, ends));
        }
    }
    let lease = (def.response_timeout_seconds + task.callback_after) * 1000;
    let silent = task.status == TaskStatus::InProgress && now - task.updated >= lease;
    silent.then(|| {
        // Whatever the policy says, this is retried.
        let reason = format!(
            "responseTimeout: {} exceeded for the taskId: {} with Task Definition: {}",
            def.response_timeout_seconds, task.id, task.step.task_type
        );
        (reason, false)
    })
}
