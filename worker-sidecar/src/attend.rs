//! One task from the poll that brought it to its accepted report.

use std::{convert::Infallible, future::pending, sync::Arc, time::Duration};

use conductor_client::Task;
use jiff::Timestamp;
use tokio::{sync::watch, time::Instant};

use crate::{
    execute::{self, Offer},
    held::{self, Held},
    lane::{Lane, Trial},
    lease::{Keeper, Lease},
    outcome::{Circumstances, End, Ended, Fault, Outcome, judge, unless_circling},
    payload::readable_by_the_server,
    pipeline::Sidecar,
    poll::{Delivery, readable_task},
    report::Sent,
    result::{around_poll_timeout, report},
    slots::Slot,
    stats::{self, Stay},
};

/// From this attempt on a task that fails again is reported as poison.
const POISON_ATTEMPT: u32 = 3;

/// What a task occupies until its result is safe.
#[derive(Debug)]
struct Hold {
    slot: Option<Slot>,
    _stay: Stay,
}

/// A task and what it is told by.
#[derive(Debug, Clone, Copy)]
struct Course<'a> {
    number: usize,
    lane: &'a Lane,
    task: &'a Task,
    at: Instant,
    gone: &'a watch::Sender<bool>,
    held: &'a Held,
}

impl Sidecar {
    /// Attends to a task, and to those that the reports of its slot bring.
    pub(crate) async fn attend(self: Arc<Self>, number: usize, delivery: Delivery) {
        let lane = self.lanes[number].clone();
        let mut next = Some(delivery);
        while let Some(delivery) = next {
            next = self.attend_one(number, &lane, delivery).await;
        }
    }

    async fn attend_one(&self, number: usize, lane: &Lane, delivery: Delivery) -> Option<Delivery> {
        let Delivery {
            mut task,
            slot,
            trial,
            at,
            held,
        } = delivery;
        let wait = first_wait(&task);
        if let Some(wait) = wait {
            lane.metrics.waited(wait);
        }
        let offer = slot.is_some().then(|| self.executor.offer(&mut task));
        let mut hold = Some(Hold {
            slot,
            _stay: lane.tally.arrive(at, wait),
        });
        let gone = watch::Sender::new(false);
        let course = Course {
            number,
            lane,
            task: &task,
            at,
            gone: &gone,
            held: &held,
        };
        let work = async {
            let outcome = self.execute(course, offer, trial).await;
            self.report(course, outcome, &mut hold).await
        };
        let lease = Lease::of(&task);
        let keep = self.keep_until_settled(course, &lease);
        let sent = tokio::select! {
            sent = work => sent,
            never = keep => match never {},
            () = self.shutdown.end() => {
                self.out_of_time(lane, &lease);
                Sent::GivenUp
            }
        };
        let Sent::Accepted(Some(next)) = sent else {
            return None;
        };
        let task = readable_task(lane, *next)?;
        let at = Instant::now();
        // Given back when the answer was late.
        let slot = match hold {
            Some(hold) => hold.slot,
            None => self.slots.one_now(number),
        };
        Some(Delivery {
            held: self.held().hold(&task),
            task,
            trial: slot.as_ref().and_then(|_| self.lanes[number].trial(at)),
            slot,
            at,
        })
    }

    pub(crate) fn keeper<'a>(&'a self, lane: &'a Lane) -> Keeper<'a> {
        Keeper {
            client: &self.client,
            worker_id: &self.config.worker_id,
            metrics: &lane.metrics,
        }
    }

    /// Keeps the lease, unless the task is ended by another's update: then there is none, and
    /// the call goes on. An update that is in the air may be why the server seems to have given
    /// the task up.
    async fn keep_until_settled(&self, course: Course<'_>, lease: &Lease) -> Infallible {
        let Course {
            lane, gone, held, ..
        } = course;
        let (keeper, lost) = (self.keeper(lane), watch::Sender::new(false));
        let given_up = Box::pin(async {
            let mut lost = lost.subscribe();
            let _ = lost.wait_for(|lost| *lost).await;
            if held.settled().await.is_none() {
                gone.send_replace(true);
            }
            pending().await
        });
        tokio::select! {
            biased;
            () = held.settling() => pending().await,
            never = keeper.keep(lease, &lost, &held.air) => never,
            never = given_up => never,
        }
    }

    fn out_of_time(&self, lane: &Lane, lease: &Lease) {
        lane.metrics.lost();
        let (task, workflow) = (&lease.task_id, &lease.workflow_id);
        let spooled = self.config.spool.is_some();
        tracing::error!(
            task,
            workflow,
            spooled,
            "the grace period is over; the task's result was not delivered"
        );
    }

    /// `offer`: none for a task without a slot. A trial ends here: without a call, it says
    /// nothing.
    async fn execute(
        &self,
        course: Course<'_>,
        offer: Option<Offer>,
        trial: Option<Trial>,
    ) -> Outcome {
        let Some(offer) = offer else {
            return within_limits(course, self.judge(Ended::Surplus));
        };
        let ended = if let Some(path) = course.task.external_input_path() {
            Ended::ExternalInput(path.to_owned())
        } else if !self.shutdown.may_begin() {
            Ended::ShutDown
        } else if !self.intake.handler.is_ready() {
            // It went down after the poll was sent.
            self.unless_shutting_down(Ended::Refused)
        } else {
            return self.call(course, offer, trial).await;
        };
        within_limits(course, self.judge(ended))
    }

    async fn call(&self, course: Course<'_>, offer: Offer, trial: Option<Trial>) -> Outcome {
        let Course {
            lane,
            task,
            at,
            gone,
            ..
        } = course;
        let left = execute::time_left(
            lane.task.timeout,
            task.timeout_seconds(),
            elapsed(task, task.start_time()),
        )
        .map(|left| left.saturating_sub(at.elapsed()));
        let stop = async {
            let mut gone = gone.subscribe();
            tokio::select! {
                _ = gone.wait_for(|gone| *gone) => Ended::LeaseLost,
                () = self.shutdown.cut() => Ended::ShutDown,
            }
        };
        let begun = Instant::now();
        let counted = lane.tally.call();
        lane.metrics.call_begins();
        let ended = self
            .executor
            .call(
                &lane.uri,
                task,
                offer,
                lane.task.domain.as_deref(),
                left,
                stop,
            )
            .await;
        drop(counted);
        let ended = self.unless_shutting_down(ended);
        self.mind_the_handler(&ended);
        let outcome = self.judge(ended);
        let said = outcome.end;
        let outcome = within_limits(course, outcome);
        lane.metrics.call_ended(begun.elapsed(), &outcome);
        lane.call_ended(said, outcome.end, trial);
        report_poison(lane, task, &outcome);
        outcome
    }

    fn unless_shutting_down(&self, ended: Ended) -> Ended {
        if self.shutdown.has_begun() {
            ended.in_a_shutdown(&self.config.handler.terminal)
        } else {
            ended
        }
    }

    fn mind_the_handler(&self, ended: &Ended) {
        match ended {
            Ended::Refused => self.intake.handler.refused(),
            Ended::CutOff(_) => self.intake.handler.suspect(),
            _ => {}
        }
    }

    fn judge(&self, ended: Ended) -> Outcome {
        let given = Circumstances {
            terminal: &self.config.handler.terminal,
            now: Timestamp::now(),
        };
        judge(ended, &given)
    }

    async fn report(&self, course: Course<'_>, outcome: Outcome, hold: &mut Option<Hold>) -> Sent {
        let Course {
            lane,
            task,
            at,
            held,
            ..
        } = course;
        if let Some(status) = held.settled().await {
            let (task, workflow) = (task.task_id(), task.workflow_id());
            let answer = outcome.end.as_str();
            tracing::debug!(
                task,
                workflow,
                ?status,
                answer,
                "ended by an update; the answer is ignored"
            );
            let outcome = held::outcome(status);
            lane.tally.ended(&outcome);
            lane.metrics.ended(&outcome);
            lane.metrics.answer_ignored();
            return Sent::Accepted(None);
        }
        tracing::debug!(
            task = task.task_id(),
            workflow = task.workflow_id(),
            task_type = lane.task.name,
            end = outcome.end.as_str(),
            ms = at.elapsed().as_millis(),
            "ended"
        );
        lane.tally.ended(&outcome);
        lane.metrics.ended(&outcome);
        if outcome.end == End::Failed(Fault::LeaseLost) {
            // The server would throw it away.
            let (task, workflow) = (task.task_id(), task.workflow_id());
            tracing::info!(
                task,
                workflow,
                "Conductor has given the task up; its call was closed"
            );
            return Sent::GivenUp;
        }
        let ask = outcome.end.is_final() && self.wants_next(course.number, lane);
        let name = &lane.task.name;
        let now = stats::now_ms();
        let mut report = report(task, name, &self.config.worker_id, outcome, now);
        if report.goes_back() {
            report = report.queued(task.poll_timeout_seconds(), waited(task, at), now);
        }
        let metrics = &lane.metrics;
        if !ask {
            return self.reporter.send(report, &held.air, metrics, hold).await;
        }
        let began = Instant::now();
        let sent = self
            .reporter
            .send_and_ask(report, &held.air, metrics, hold)
            .await;
        let got = usize::from(matches!(sent, Sent::Accepted(Some(_))));
        if got == 0 {
            lane.set_flows(false);
        }
        let idle = match sent {
            Sent::Accepted(None) => began.elapsed(),
            _ => Duration::ZERO,
        };
        lane.tally.polled(got, idle);
        sent
    }

    /// Whether a report may ask for its slot's next task: only while the queue is known to
    /// hold more, for the server lets an empty-handed one wait; and only if nobody else wants
    /// the slot.
    fn wants_next(&self, number: usize, lane: &Lane) -> bool {
        lane.flows()
            && self.reporter.may_ask()
            && !self.is_draining()
            && self.slots.may_keep(number)
            && self.intake.is_wide_open(lane, Instant::now())
    }
}

/// What becomes of an outcome that Conductor cannot read, or of a task that has been handed
/// back for too long.
fn within_limits(course: Course<'_>, outcome: Outcome) -> Outcome {
    let Course { task, at, .. } = course;
    let first = match task.first_start_time() {
        0 => task.start_time(),
        first => first,
    };
    let age = elapsed(task, first) + at.elapsed();
    let outcome = readable_by_the_server(unless_circling(outcome, age));
    around_poll_timeout(outcome, task.poll_timeout_seconds(), waited(task, at))
}

/// A task that fails the handler's way, attempt after attempt, and not once because it happened
/// to be there when something else broke.
fn report_poison(lane: &Lane, task: &Task, outcome: &Outcome) {
    let attempt = task.retry_count() + 1;
    let (End::Failed(fault) | End::Terminal(fault)) = outcome.end else {
        return;
    };
    let breaks_handlers = matches!(fault, Fault::CutOff | Fault::Deadline);
    let circles = fault == Fault::Circling;
    if circles || (breaks_handlers && attempt >= POISON_ATTEMPT) {
        lane.metrics.poison(fault);
        tracing::error!(
            task = task.task_id(),
            workflow = task.workflow_id(),
            task_type = lane.task.name,
            attempt,
            fault = fault.as_str(),
            "a poison task: it ends the handler's calls time and again"
        );
    }
}

/// From scheduled to started, on the first delivery.
fn first_wait(task: &Task) -> Option<Duration> {
    let millis = task.start_time().saturating_sub(task.scheduled_time());
    (task.poll_count() <= 1 && task.scheduled_time() > 0 && task.start_time() > 0)
        .then(|| Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
}

/// From scheduled to now. `at`: when it was polled.
fn waited(task: &Task, at: Instant) -> Duration {
    elapsed(task, task.scheduled_time()) + at.elapsed()
}

/// The time from `since` to the poll that brought the task, both by the server's clock, which
/// may differ from ours: a poll sets `updateTime`, the first one `startTime` too. By our own
/// clock where the server says neither.
fn elapsed(task: &Task, since: i64) -> Duration {
    if since <= 0 {
        return Duration::ZERO;
    }
    let polled = match task.update_time().max(task.start_time()) {
        0 => stats::now_ms(),
        at => at,
    };
    Duration::from_millis(u64::try_from(polled.saturating_sub(since)).unwrap_or(0))
}

#[cfg(test)]
#[path = "attend_tests.rs"]
mod tests;
