//! Free slots become tasks.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use conductor_client::{BatchPoll, Client, Kind, Malformed, Task};
use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::Instant;

use crate::{
    breaker::Admits,
    cordon::{Cordon, InTheAir},
    gate::Gate,
    handler::Handler,
    held::{Held, HeldTasks},
    lane::{Lane, Trial},
    presence,
    rule::{self, Appetite, Ask, Pace, Polled},
    shutdown::Shutdown,
    slots::{Slot, Slots},
    spool::Spool,
};

/// A task that a poll brought.
#[derive(Debug)]
pub struct Delivery {
    /// The task.
    pub task: Task,
    /// Its slot; none if the server sent more than was asked for.
    pub slot: Option<Slot>,
    /// It shows whether the handler works again.
    pub trial: Option<Trial>,
    /// When the poll was answered.
    pub at: Instant,
    /// It is in work from here on.
    pub held: Held,
}

/// Whether work may be taken in now, apart from free slots.
#[derive(Debug)]
pub struct Intake {
    /// The handler.
    pub handler: Arc<Handler>,
    /// Where results go that Conductor does not take.
    pub spool: Option<Arc<Spool>>,
    /// Stops the polls for a while.
    pub cordon: Cordon,
    /// What was taken in.
    pub held: HeldTasks,
}

/// What keeps a type from being polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    Cordoned,
    HandlerNotReady,
    Braked(Instant),
    Broken(Instant),
    Verdict,
    SpoolInTrouble,
}

impl Intake {
    fn obstacle(&self, lane: &Lane, now: Instant) -> Option<Obstacle> {
        if self.cordon.is_on(now) {
            return Some(Obstacle::Cordoned);
        }
        if !self.handler.is_ready() {
            return Some(Obstacle::HandlerNotReady);
        }
        let braked = lane.brake.until();
        if braked > now {
            return Some(Obstacle::Braked(braked));
        }
        match lane.admits(now) {
            Admits::After(until) => return Some(Obstacle::Broken(until)),
            Admits::Verdict => return Some(Obstacle::Verdict),
            Admits::One | Admits::All => {}
        }
        let trouble = self.spool.as_ref().and_then(|spool| spool.trouble());
        trouble.map(|_| Obstacle::SpoolInTrouble)
    }

    /// Whether nothing keeps the type from taking as many tasks as there are.
    pub fn is_wide_open(&self, lane: &Lane, now: Instant) -> bool {
        self.obstacle(lane, now).is_none() && lane.admits(now) == Admits::All
    }

    async fn wait(&self, lane: &Lane, obstacle: Obstacle) {
        match obstacle {
            Obstacle::Cordoned => self.cordon.lifted().await,
            Obstacle::HandlerNotReady => self.handler.ready().await,
            Obstacle::Braked(until) | Obstacle::Broken(until) => {
                tokio::time::sleep_until(until).await;
            }
            Obstacle::Verdict => lane.verdict().await,
            Obstacle::SpoolInTrouble => {
                if let Some(spool) = &self.spool {
                    spool.takes_results().await;
                }
            }
        }
    }
}

/// Polls one task type. At most one of its polls is in the air, and those that are overdue: a
/// poll that is not answered may be on a connection that leads nowhere, and the next one goes
/// out on another.
#[derive(Debug)]
pub struct Poller {
    line: Line,
    current: Option<(Flight, Vec<Slot>)>,
    late: FuturesUnordered<Flight>,
    /// The overdue ones that began before wait for nothing: the server has answered what began
    /// then.
    back: Option<Instant>,
    /// The server answers, so one more may show whether the overdue ones are lost.
    probes: bool,
}

/// What a poller works with.
#[derive(Debug)]
pub struct Line {
    /// Conductor.
    pub client: Client,
    /// Who polls.
    pub worker_id: String,
    /// The task type.
    pub lane: Arc<Lane>,
    /// Its number among those that share the slots.
    pub number: usize,
    /// The slots.
    pub slots: Arc<Slots>,
    /// What else it takes.
    pub intake: Arc<Intake>,
    /// Ends the polls.
    pub shutdown: Shutdown,
    /// Hears that the server is there.
    pub gate: Arc<Gate>,
    /// How the polls have gone.
    pub pace: Pace,
    /// No poll before.
    pub not_before: Instant,
}

/// A poll in the air.
struct Flight {
    answer: Pin<Box<dyn Future<Output = Answer> + Send>>,
    ask: Ask,
    began: Instant,
    in_the_air: Option<InTheAir>,
}

type Answer = Result<Vec<Result<Task, Malformed>>, conductor_client::Error>;

/// A poll that was answered, or failed.
struct Landed {
    answer: Answer,
    ask: Ask,
    began: Instant,
    at: Instant,
    /// It is until what it brought is held.
    in_the_air: Option<InTheAir>,
}

/// An answer that takes no longer found its tasks waiting.
const AT_ONCE: Duration = Duration::from_millis(50);

impl Landed {
    /// How long there was nothing to be had. Some servers hold a batch until it is full, so
    /// what came late tells nothing but of a poll for one task.
    fn idle(&self) -> Duration {
        let took = self.at - self.began;
        match &self.answer {
            Ok(tasks) if tasks.is_empty() => took,
            Ok(_) if self.ask.count == 1 => took.saturating_sub(AT_ONCE),
            _ => Duration::ZERO,
        }
    }
}

/// An answer that is later than its wait by this much is overdue.
const OVERDUE: Duration = Duration::from_secs(2);

/// So many overdue polls are awaited before another is sent, unless the server answers what began
/// after them: then they wait for nothing.
const MOST_LATE: usize = 4;

/// Since when there have been as many overdue polls as may be; none while there are fewer. `began`:
/// when each of them was sent. `back`: the server has answered what was sent then, so that what is
/// older is not awaited any more.
fn awaited_since(began: impl Iterator<Item = Instant>, back: Option<Instant>) -> Option<Instant> {
    let mut awaited: Vec<_> = began.filter(|began| Some(*began) > back).collect();
    awaited.sort_unstable();
    (awaited.len() >= MOST_LATE).then(|| awaited[0])
}

impl Future for Flight {
    type Output = Landed;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Landed> {
        let answer = std::task::ready!(self.answer.as_mut().poll(cx));
        Poll::Ready(Landed {
            answer,
            ask: self.ask,
            began: self.began,
            at: Instant::now(),
            in_the_air: self.in_the_air.take(),
        })
    }
}

impl std::fmt::Debug for Flight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flight")
            .field("ask", &self.ask)
            .finish_non_exhaustive()
    }
}

impl Poller {
    /// Nothing is in the air yet.
    pub fn new(line: Line) -> Self {
        Self {
            line,
            current: None,
            late: FuturesUnordered::new(),
            back: None,
            probes: false,
        }
    }

    /// The next poll's tasks, maybe none; `None` once there will be no more.
    ///
    /// A shutdown ends what comes before a poll, but not the poll: a future that is dropped
    /// would strand the task it was about to bring. For the same reason, do not drop the poller
    /// before its end. A dropped future of this method loses nothing.
    pub async fn next(&mut self) -> Option<Vec<Delivery>> {
        loop {
            let Some((flight, _)) = &mut self.current else {
                let back = self.back.max(self.line.gate.presence().back());
                let awaited = self.late.iter().map(|flight| flight.began);
                let awaited = awaited_since(awaited, back);
                let may_launch = awaited.is_none() || self.probes;
                let shutdown = self.line.shutdown.clone();
                tokio::select! {
                    biased;
                    Some(landed) = self.late.next(), if !self.late.is_empty() => {
                        return Some(self.line.late(landed));
                    }
                    _ = shutdown.begun(), if self.late.is_empty() => return None,
                    (slots, in_the_air) = self.line.slots_to_poll_for(), if may_launch && !self.line.shutdown.has_begun() => {
                        if !self.line.shutdown.has_begun() {
                            self.probes = false;
                            self.current = Some((self.line.launch(slots.len(), in_the_air), slots));
                        }
                    }
                    () = self.line.server_is_there(awaited), if !may_launch && !self.line.shutdown.has_begun() => {
                        self.probes = true;
                    }
                    _ = shutdown.begun(), if !self.line.shutdown.has_begun() => {}
                }
                continue;
            };
            let overdue = flight.began + flight.ask.wait + OVERDUE;
            tokio::select! {
                biased;
                landed = flight => {
                    let slots = self.current.take().map_or_else(Vec::new, |(_, slots)| slots);
                    if landed.answer.is_ok() {
                        self.back = Some(landed.began);
                    }
                    return Some(self.line.landed(landed, slots));
                }
                Some(landed) = self.late.next(), if !self.late.is_empty() => {
                    return Some(self.line.late(landed));
                }
                () = tokio::time::sleep_until(overdue) => {
                    if let Some((flight, _slots)) = self.current.take() {
                        self.line.overdue();
                        self.late.push(flight);
                    }
                }
            }
        }
    }
}

impl Line {
    /// Waits until it may poll, and takes the slots.
    async fn slots_to_poll_for(&self) -> (Vec<Slot>, InTheAir) {
        loop {
            until(self.not_before).await;
            self.nothing_in_the_way().await;
            if !self.slots.is_free(self.number) {
                self.lane.metrics.queue_full();
            }
            let Some(first) = self.slots.first(self.number, self.pace.appetite()).await else {
                return std::future::pending().await; // the semaphores are never closed
            };
            // Waiting for a slot may have taken long.
            let now = Instant::now();
            if self.intake.obstacle(&self.lane, now).is_some() {
                continue;
            }
            let Some(in_the_air) = self.intake.cordon.poll(now) else {
                continue;
            };
            let mut slots = vec![first];
            if self.pace.appetite() == Appetite::Hungry && self.lane.admits(now) == Admits::All {
                slots.extend(self.slots.more(self.number));
            }
            self.slots.wants(self.number, Appetite::InTheAir);
            return (slots, in_the_air);
        }
    }

    async fn nothing_in_the_way(&self) {
        let mut first = true;
        while let Some(obstacle) = self.intake.obstacle(&self.lane, Instant::now()) {
            if std::mem::take(&mut first) {
                self.lane.metrics.paused();
                self.slots.wants(self.number, Appetite::Off);
            }
            self.intake.wait(&self.lane, obstacle).await;
        }
    }

    fn launch(&self, slots: usize, in_the_air: InTheAir) -> Flight {
        let (sharers, grace) = (self.slots.sharers(), self.shutdown.grace());
        let ask = rule::ask(self.pace, slots, sharers, grace);
        let (client, worker_id) = (self.client.clone(), self.worker_id.clone());
        let lane = self.lane.clone();
        let answer = Box::pin(async move {
            let poll = BatchPoll {
                task_type: &lane.task.name,
                worker_id: &worker_id,
                domain: lane.task.domain.as_deref(),
                count: ask.count,
                wait: ask.wait,
            };
            client.batch_poll_each(poll).await
        });
        Flight {
            answer,
            ask,
            began: Instant::now(),
            in_the_air: Some(in_the_air),
        }
    }

    fn landed(&mut self, landed: Landed, slots: Vec<Slot>) -> Vec<Delivery> {
        let took = landed.at - landed.began;
        let polled = self.count(&landed);
        self.lane.set_flows(matches!(
            polled,
            Polled::Tasks { got, asked } if landed.ask.wait.is_zero() && got >= asked
        ));
        self.pace = self.pace.after(polled);
        let interval = self.lane.task.poll_interval;
        self.not_before = landed.at + self.pace.pause(polled, interval, took, fastrand::f64());
        self.slots.wants(self.number, self.pace.appetite());
        let mut slots = slots.into_iter();
        self.deliver(landed, || slots.next())
    }

    /// For overdue polls, the oldest of which began then.
    async fn server_is_there(&self, since: Option<Instant>) {
        let look = || presence::answers(&self.client, &self.lane.task.name, &self.lane.metrics);
        let since = since.unwrap_or_else(Instant::now);
        self.gate.presence().is_there(since, look).await;
    }

    /// An overdue poll's: its slots were given to others meanwhile.
    fn late(&self, landed: Landed) -> Vec<Delivery> {
        self.count(&landed);
        self.deliver(landed, || self.slots.one_now(self.number))
    }

    fn overdue(&self) {
        tracing::warn!(
            task_type = self.lane.task.name,
            "a poll is overdue; another one is sent beside it"
        );
        self.lane.set_flows(false);
        self.slots.wants(self.number, self.pace.appetite());
    }

    fn count(&self, landed: &Landed) -> Polled {
        let took = landed.at - landed.began;
        match &landed.answer {
            Ok(tasks) => {
                let got = tasks.len();
                self.lane.metrics.polled(took, None);
                self.lane.tally.polled(got, landed.idle());
                self.gate.polled(got);
                Polled::Tasks {
                    got,
                    asked: landed.ask.count,
                }
            }
            Err(error) => {
                tracing::warn!(task_type = self.lane.task.name, %error, "a poll failed");
                let failure = Some((error.kind(), error.status()));
                self.lane.metrics.polled(took, failure);
                self.lane.tally.poll_failed();
                failed(error)
            }
        }
    }

    fn deliver(&self, landed: Landed, mut slots: impl FnMut() -> Option<Slot>) -> Vec<Delivery> {
        let _in_the_air = landed.in_the_air;
        let tasks = landed.answer.unwrap_or_default();
        // If nobody takes it, it ends here.
        let mut trial = if tasks.is_empty() {
            None
        } else {
            self.lane.trial(landed.at)
        };
        let readable = tasks
            .into_iter()
            .filter_map(|task| readable_task(&self.lane, task));
        readable
            .map(|task| {
                let slot = slots();
                Delivery {
                    held: self.intake.held.hold(&task),
                    task,
                    trial: slot.as_ref().and_then(|_| trial.take()),
                    slot,
                    at: landed.at,
                }
            })
            .collect()
    }
}

/// At once for a moment that has come: a timer would take until the next whole millisecond, and
/// between two polls a task may wait.
async fn until(moment: Instant) {
    if moment > Instant::now() {
        tokio::time::sleep_until(moment).await;
    }
}

fn failed(error: &conductor_client::Error) -> Polled {
    Polled::Failed {
        unauthorized: error.kind() == Kind::Unauthorized,
        after: match error.kind() {
            Kind::Retryable { after } => after,
            _ => None,
        },
    }
}

/// A task that cannot be read cannot be answered either: its lease will end. Said, and
/// counted, so that somebody looks.
pub(crate) fn readable_task(lane: &Lane, task: Result<Task, Malformed>) -> Option<Task> {
    match task {
        Ok(task) => Some(task),
        Err(error) => {
            lane.metrics.unreadable();
            tracing::error!(task_type = lane.task.name, %error, "a poll brought what cannot be read as a task");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use prometheus::Registry;

    use crate::{
        config::{Config, TaskConfig},
        pipeline::Sidecar,
    };

    /// Whoever reads that nothing is in work after a cordon takes it for a proof.
    #[tokio::test]
    async fn what_a_poll_brings_is_in_work_from_the_end_of_the_poll_on() {
        let conductor = "http://127.0.0.1:9/api".parse().unwrap();
        let config = Config::new(conductor, vec![TaskConfig::new("t")], "w".to_owned());
        let sidecar = Sidecar::new(config, &Registry::new()).unwrap();
        let poller = sidecar.poller(0);
        let work = || {
            let stats = sidecar.stats();
            (stats.polls_in_flight, stats.in_flight, sidecar.is_idle())
        };
        let now = Instant::now();
        let in_the_air = sidecar.cordon().poll(now);
        sidecar.cordon().put(now, Duration::from_secs(30));
        assert_eq!(work(), (1, 0, false));
        let task = Task::from_json(r#"{"taskId":"i","workflowInstanceId":"w"}"#).unwrap();
        let landed = Landed {
            answer: Ok(vec![Ok(task)]),
            ask: Ask {
                count: 1,
                wait: Duration::ZERO,
            },
            began: now,
            at: now,
            in_the_air,
        };
        // Nobody has begun to attend to it yet.
        let deliveries = poller.line.deliver(landed, || None);
        assert_eq!((deliveries.len(), work()), (1, (0, 1, false)));
        drop(deliveries);
        assert_eq!(work(), (0, 0, true));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_awaited_for_a_moment_that_has_come() {
        // Within a millisecond, as moments are.
        tokio::time::advance(Duration::from_micros(1500)).await;
        let now = Instant::now();
        assert!(until(now).now_or_never().is_some());
        let later = now + Duration::from_millis(5);
        assert!(until(later).now_or_never().is_none());
        until(later).await;
        assert!(Instant::now() >= later);
    }

    #[test]
    fn polls_lost_in_one_outage_do_not_excuse_those_of_the_next() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let awaited = |began: &[u64], back: Option<u64>| {
            awaited_since(began.iter().map(|n| at(*n)), back.map(at))
        };
        assert_eq!(awaited(&[1, 2, 3], None), None);
        assert_eq!(awaited(&[3, 1, 4, 2], None), Some(at(1)));
        // It has come back: what is older is not awaited, and does not come either.
        assert_eq!(awaited(&[1, 2, 3, 4], Some(4)), None);
        assert_eq!(awaited(&[1, 2, 3, 4, 11, 12, 13], Some(4)), None);
        assert_eq!(
            awaited(&[1, 2, 3, 4, 11, 12, 13, 14], Some(4)),
            Some(at(11))
        );
        // Some of the first have ended by then.
        assert_eq!(awaited(&[4, 11, 12, 13, 14], Some(4)), Some(at(11)));
        assert_eq!(awaited(&[4, 11, 12, 13, 14], Some(11)), None);
    }

    /// What is said of a task that cannot be read goes into the log.
    #[test]
    fn what_is_said_of_an_unreadable_task_tells_nothing_of_its_payload() {
        let answers = [
            r#"["hunter2"]"#,
            r#"[["hunter2"],{"hunter2":1}]"#,
            r#"[{"inputData":{"password":"hunter2"},"outputData":"hunter2"}]"#,
            r#"[{"taskId":"i","workflowInstanceId":7,"inputData":"hunter2"}]"#,
            r#"[{"taskId":"i","inputData":{"a":hunter2},"outputData":[hunter2]}]"#,
            r#"[{"taskId":"i","workflowInstanceId":"w","retryCount":"x","outputData":{"a":"hunter2"}}]"#,
            r#"[{"taskId":"i","workflowTask":{"inputParameters":"hunter2","taskDefinition":"hunter2"}}]"#,
            r#"[{"inputData":{"a":"hunter2"}"#,
            r#"[{"inputData":{"a":"hunter2"}}] "hunter2""#,
            r#""hunter2""#,
        ];
        for answer in answers {
            let said = match Task::batch_from_json(answer) {
                Ok(tasks) => {
                    let errors = tasks
                        .into_iter()
                        .map(|task| task.err().unwrap().to_string());
                    errors.collect::<Vec<_>>().join("; ")
                }
                Err(error) => error.to_string(),
            };
            assert!(
                !said.is_empty() && !said.contains("hunter2"),
                "{answer}: {said}"
            );
        }
    }
}
