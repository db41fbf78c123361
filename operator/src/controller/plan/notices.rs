//! Conditions about a worker's queues that are there only while they are true.

use jiff::Timestamp;

use super::conditions::{Conditions, Tri, written};
use crate::{
    controller::observed::Observed,
    sampling::{Pollers, Round},
    worker::Worker,
};

/// More names than this say nothing more.
const NAMES: usize = 3;

/// Sets those that are true. `replicas` are the pods that are asked for.
pub(super) fn set(
    conditions: &mut Conditions,
    observed: &Observed,
    worker: &Worker,
    round: Option<&Round>,
    replicas: u32,
) {
    if let Some((queue, share)) = observed.shared.first_key_value() {
        let others: Vec<String> = share.with.iter().map(ToString::to_string).collect();
        let message = format!(
            "{queue} is also served by {}: its backlog is split by slots",
            others.join(", ")
        );
        conditions.set("QueueShared", Tri::True, "QueueShared", message);
    }
    let pollers = round.and_then(|round| round.pollers.first_key_value());
    match (pollers, round) {
        (Some((queue, pollers)), _) => {
            let message = foreign(&queue.to_string(), pollers);
            conditions.set("ForeignPollers", Tri::True, "ForeignPollers", message);
        }
        // Before the first round nothing is known anew.
        (None, None) => conditions.keep("ForeignPollers"),
        (None, Some(_)) => {}
    }
    let domain = worker.tasks.iter().find_map(|task| task.queue.domain());
    if let Some(domain) = domain
        && replicas == 0
    {
        let instead = if worker.suspend {
            "set suspend to false"
        } else if worker.bounds().is_some() {
            "set scaling.minReplicas to 1"
        } else {
            "set replicas to 1"
        };
        let message = format!(
            "no pod polls the domain {domain}: 10 s after the last poll Conductor routes its tasks to what else their workflows name, and leaves them here only where that is nothing; {instead} to keep the domain"
        );
        conditions.set(
            "DomainIdleFallsBack",
            Tri::True,
            "DomainIdleFallsBack",
            message,
        );
    }
}

fn foreign(queue: &str, pollers: &Pollers) -> String {
    let names: Vec<String> = pollers
        .names
        .iter()
        .take(NAMES)
        .map(|name| match name.as_str() {
            "" => "somebody without a worker id".to_owned(),
            name => name.chars().take(64).collect(),
        })
        .collect();
    let others = match pollers.names.len().saturating_sub(NAMES) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let last = Timestamp::from_millisecond(pollers.last_poll).unwrap_or_default();
    format!(
        "{queue} is also polled by {}{others}, none of this operator's pods (last at {}): they take a part of its tasks, which no decision knows",
        names.join(", "),
        written(last)
    )
}
