//! What is said about a worker. Pure: a resource and the time in, text out.

use std::fmt::Write as _;

use api::{
    Condition, ConductorWorker, ConductorWorkerStatus, Mode, ScalingChange, ScalingStatus,
    ScalingTerms, TaskStatus,
};
use jiff::Timestamp;
use scaling::words::{seconds, thousands};

use super::table::table;

/// What is measured is older than this, in seconds, only where nothing is to be done, or where
/// the operator does not run.
const OLD: f64 = 120.0;

/// The whole page.
pub(super) fn text(worker: &ConductorWorker, now: Timestamp) -> String {
    let name = worker.metadata.name.as_deref().unwrap_or("?");
    let namespace = worker.metadata.namespace.as_deref().unwrap_or("?");
    let status = worker.status.clone().unwrap_or_default();
    let Some(scaling) = &status.scaling else {
        return not_seen(name, namespace, &status);
    };
    let mut text = format!("{name} in {namespace}: {}\n", scaling.message);
    text.push_str(&standing(worker, &status, scaling, now));
    if let Some(advice) = advice(&scaling.reason) {
        let _ = writeln!(text, "What can be done: {advice}.");
    }
    if status.observed_generation != worker.metadata.generation {
        text.push_str("The operator has not looked at the last change of the spec yet.\n");
    }
    section(
        &mut text,
        &numbers_title(&status, scaling, now),
        &numbers(worker, scaling),
    );
    section(&mut text, "Task types", &task_types(&status.tasks));
    section(&mut text, "Limits in force", &limits(worker, scaling));
    section(&mut text, "Last decisions", &history(&scaling.history, now));
    section(
        &mut text,
        "Conditions",
        &conditions(&status.conditions, now),
    );
    text
}

fn section(text: &mut String, title: &str, rows: &[Vec<String>]) {
    if !rows.is_empty() {
        let _ = write!(text, "\n{title}\n{}", table(rows));
    }
}

fn not_seen(name: &str, namespace: &str, status: &ConductorWorkerStatus) -> String {
    let refused = status.conditions.iter().find(|c| c.type_ == "Ready");
    match refused {
        Some(condition) => format!(
            "{name} in {namespace}: nothing has been decided yet ({}: {})\n",
            condition.reason, condition.message
        ),
        None => format!(
            "{name} in {namespace}: no operator has looked at it yet. Does one run, and does it watch this namespace?\n"
        ),
    }
}

/// The word for it, since when, and how far the pods are.
fn standing(
    worker: &ConductorWorker,
    status: &ConductorWorkerStatus,
    scaling: &ScalingStatus,
    now: Timestamp,
) -> String {
    let mode = match worker.spec.scaling.mode {
        _ if worker.spec.suspend => "suspended".to_owned(),
        Mode::Auto => "mode Auto".to_owned(),
        Mode::Recommend => format!(
            "mode Recommend: it would run {}, and spec.replicas says {}",
            thousands(scaling.desired.into()),
            thousands(worker.spec.replicas.unwrap_or_default().into())
        ),
        Mode::External => "mode External".to_owned(),
    };
    format!(
        "{} since {}; {mode}; {} of {} pods take work\n",
        scaling.reason,
        moment(&scaling.decided_at, now),
        thousands(status.ready_replicas.into()),
        thousands(status.replicas.into()),
    )
}

/// What a person can do about it.
fn advice(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "CappedByMaxReplicas" => "raise scaling.maxReplicas, or allow a longer maxWait",
        "CappedByTaskLimit" => {
            "raise concurrentExecLimit in the task definition; more pods would not help"
        }
        "CappedByRateLimit" => {
            "raise rateLimitPerFrequency in the task definition; more pods would not help"
        }
        "DownstreamSaturated" => {
            "look at what the tasks wait for (a database, another service); more pods would not help"
        }
        "StaleMetrics" | "RaisedBlind" => {
            "see the conditions below for what cannot be read; the number is not lowered until it can"
        }
        "ServerAway" => "see whether Conductor runs and can be reached from the pods",
        "HeldByRollout" => {
            "wait until the rollout is complete; where it is stopped, see the conditions below"
        }
        "Suspended" => "set suspend to false to run it again",
        "External" => "set spec.replicas (kubectl scale), or scaling.mode to Auto",
        _ => return None,
    })
}

// === the numbers ===

fn numbers_title(
    status: &ConductorWorkerStatus,
    scaling: &ScalingStatus,
    now: Timestamp,
) -> String {
    let title = "What it was decided from";
    let Some(age) = scaling.measured_at.as_deref().and_then(|at| age(at, now)) else {
        return title.to_owned();
    };
    let is_idle = status.queue == Some(0) && status.in_flight == 0;
    let why = match (age > OLD, is_idle) {
        (true, true) => "; nothing is written while no task waits or runs",
        (true, false) => "; is the operator running?",
        (false, _) => "",
    };
    format!("{title}, {} ago{why}", seconds(age))
}

fn numbers(worker: &ConductorWorker, scaling: &ScalingStatus) -> Vec<Vec<String>> {
    let Some(terms) = &scaling.terms else {
        return Vec::new();
    };
    let ScalingTerms {
        current,
        queue,
        backlog,
        running,
        load,
        drain,
        need,
        want,
        drain_seconds,
        execution_seconds,
        start_up_seconds,
        queue_age_seconds,
        pods_age_seconds,
    } = *terms;
    let counted = match queue_age_seconds {
        Some(age) => format!("as Conductor counts them, read {} before", seconds(age)),
        None => "no queue could be read".to_owned(),
    };
    let said = match pods_age_seconds {
        Some(age) => format!("as the pods say, read {} before", seconds(age)),
        None if current == 0 => "there was no pod".to_owned(),
        None => "no pod has said".to_owned(),
    };
    let slots = worker.spec.concurrency;
    let rows = [
        ("waiting tasks", thousands(queue), counted),
        (
            "of these, workable",
            amount(backlog),
            "a free slot could take them; others are delayed or limited".to_owned(),
        ),
        ("running tasks", thousands(running.into()), said),
        (
            "time of a task",
            seconds(execution_seconds),
            "that it holds the handler, on average".to_owned(),
        ),
        (
            "slots for the load",
            amount(load),
            "keep the backlog from growing".to_owned(),
        ),
        (
            "slots for the backlog",
            amount(drain),
            format!("empty it within {}", seconds(drain_seconds)),
        ),
        (
            "slots needed",
            amount(need),
            format!(
                "the larger of the two, no more than can be used; a new pod helps after {}",
                seconds(start_up_seconds)
            ),
        ),
        (
            "pods needed",
            amount(want),
            format!(
                "at {} a pod, before windows and bounds",
                counted_slots(slots)
            ),
        ),
        (
            "pods there were",
            thousands(current.into()),
            "started or starting, not about to go".to_owned(),
        ),
    ];
    rows.into_iter()
        .map(|(what, number, meaning)| vec![what.to_owned(), number, meaning])
        .collect()
}

fn counted_slots(n: u32) -> String {
    match n {
        1 => "1 slot".to_owned(),
        n => format!("{} slots", thousands(n.into())),
    }
}

fn task_types(tasks: &[TaskStatus]) -> Vec<Vec<String>> {
    if tasks.is_empty() {
        return Vec::new();
    }
    let head = [
        "TYPE",
        "DOMAIN",
        "WAIT",
        "WORKABLE",
        "RUN",
        "EACH TAKES",
        "SLOTS",
        "LIMITS OF ITS DEFINITION",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for task in tasks {
        let TaskStatus {
            name,
            domain,
            queue,
            in_flight,
            backlog,
            execution_seconds,
            need,
            concurrent_exec_limit,
            rate_limit,
        } = task;
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let mut limits = Vec::new();
        if let Some(limit) = concurrent_exec_limit {
            limits.push(format!("{} at once", thousands((*limit).into())));
        }
        if let Some(rate) = rate_limit {
            let ignored = if rate.ignored {
                " (which the server ignores)"
            } else {
                ""
            };
            limits.push(format!(
                "{} in {} s{ignored}",
                thousands(rate.count.into()),
                thousands(rate.seconds)
            ));
        }
        rows.push(vec![
            name.clone(),
            or_none(Some(domain.clone()).filter(|d| !d.is_empty())),
            queue.map_or_else(|| "?".to_owned(), thousands),
            or_none(backlog.map(amount)),
            thousands((*in_flight).into()),
            or_none(execution_seconds.map(seconds)),
            or_none(need.map(amount)),
            or_none(Some(limits.join(", ")).filter(|l| !l.is_empty())),
        ]);
    }
    rows
}

fn limits(worker: &ConductorWorker, scaling: &ScalingStatus) -> Vec<Vec<String>> {
    let Some(limits) = &scaling.limits else {
        return Vec::new();
    };
    let spec = &worker.spec.scaling;
    let schedule = limits.schedule.clone();
    let fewest = schedule.unwrap_or_else(|| match (spec.min_replicas, limits.min) {
        (Some(_), _) => "scaling.minReplicas".to_owned(),
        (None, 0) => "scaling.minReplicas is not written".to_owned(),
        (None, _) => {
            "scaling.minReplicas is not written, and a task has a domain, which must be polled"
                .to_owned()
        }
    });
    let mut rows = vec![
        vec![
            "fewest pods".to_owned(),
            thousands(limits.min.into()),
            fewest,
        ],
        vec![
            "most pods".to_owned(),
            thousands(limits.max.into()),
            "scaling.maxReplicas".to_owned(),
        ],
    ];
    let times = [
        ("start a task within", &spec.max_wait, "scaling.maxWait"),
        (
            "empty a backlog within",
            &spec.drain_within,
            "scaling.drainWithin",
        ),
    ];
    for (what, time, field) in times {
        if let Some(time) = time {
            rows.push(vec![what.to_owned(), time.clone(), field.to_owned()]);
        }
    }
    rows
}

// === what came before, and what is wrong ===

fn history(changes: &[ScalingChange], now: Timestamp) -> Vec<Vec<String>> {
    let newest_first = changes.iter().rev();
    newest_first
        .map(|change| {
            let ScalingChange {
                at,
                from,
                to,
                reason,
                message,
            } = change;
            let step = if from == to {
                thousands((*to).into())
            } else {
                let (from, to) = (thousands((*from).into()), thousands((*to).into()));
                format!("{from} → {to}")
            };
            // The sentence begins with the numbers, which stand here already.
            let why = message
                .split_once(": ")
                .map_or(message.as_str(), |(_, why)| why);
            vec![moment(at, now), step, reason.clone(), why.to_owned()]
        })
        .collect()
}

/// Those that are not as they should be.
fn conditions(conditions: &[Condition], now: Timestamp) -> Vec<Vec<String>> {
    let as_it_should_be = |kind: &str| match kind {
        "Ready" | "MetricsAvailable" | "ConnectionHealthy" => "True",
        _ => "False",
    };
    conditions
        .iter()
        .filter(|c| c.status != as_it_should_be(&c.type_))
        .map(|c| {
            let Condition {
                type_,
                status,
                reason,
                message,
                last_transition_time,
                observed_generation: _,
            } = c;
            let since = moment(last_transition_time, now);
            let mut what = format!("{type_} is {status}");
            if reason != type_ {
                what = format!("{what} ({reason})");
            }
            vec![what, format!("since {since}"), message.clone()]
        })
        .collect()
}

// === words ===

/// One decimal, as far as that says something.
fn amount(x: f64) -> String {
    let rounded = (x * 10.0).round() / 10.0;
    if rounded.abs() < 100.0 {
        return rounded.to_string();
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped; not a number becomes 0"
    )]
    let whole = x.round().clamp(0.0, 1e18) as u64;
    thousands(whole)
}

/// `2026-11-26 13:05:10Z (40 s ago)`; what is no time is said as it is.
fn moment(at: &str, now: Timestamp) -> String {
    match age(at, now) {
        Some(age) => {
            let at = at.replace('T', " ");
            format!("{at} ({} ago)", seconds(age))
        }
        None => at.to_owned(),
    }
}

/// In seconds; clocks that differ make nothing younger than now.
fn age(at: &str, now: Timestamp) -> Option<f64> {
    let at: Timestamp = at.parse().ok()?;
    Some(now.duration_since(at).as_secs_f64().max(0.0))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-01-05T08:00:40Z";

    #[expect(clippy::needless_pass_by_value, reason = "made where it is passed")]
    fn page(spec: Value, status: Value) -> String {
        let worker = json!({
            "apiVersion": "conductor-oss.org/v1alpha1",
            "kind": "ConductorWorker",
            "metadata": {"name": "greet", "namespace": "shop", "generation": 3},
            "spec": spec,
            "status": status,
        });
        let worker: ConductorWorker = serde_json::from_value(worker).unwrap();
        text(&worker, NOW.parse().unwrap())
    }

    #[expect(clippy::needless_pass_by_value, reason = "made where it is passed")]
    fn spec(scaling: Value) -> Value {
        json!({
            "tasks": [{"name": "greet"}],
            "concurrency": 2,
            "scaling": scaling,
            "template": {"spec": {"containers": [{"name": "app", "image": "greet:dev"}]}},
        })
    }

    fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-05T07:00:40Z",
        })
    }

    #[test]
    fn a_burst() {
        let spec = spec(json!({
            "maxWait": "2m", "minReplicas": 1, "maxReplicas": 50,
            "schedules": [{"cron": "0 8 * * 1-5", "timeZone": "Europe/Berlin", "duration": "10h", "minReplicas": 5}],
        }));
        insta::assert_snapshot!(page(
            spec,
            json!({
                "observedGeneration": 3, "replicas": 12, "readyReplicas": 12, "queue": 5300, "inFlight": 24,
                "tasks": [
                    {
                        "name": "greet", "queue": 4100, "inFlight": 20, "backlog": 4100.0,
                        "executionSeconds": 0.8, "need": 45.6, "concurrentExecLimit": 100,
                        "rateLimit": {"count": 5000, "seconds": 60},
                    },
                    {"name": "resize", "domain": "gpu", "inFlight": 4, "rateLimit": {"count": 2, "seconds": 5, "ignored": true}},
                ],
                "scaling": {
                    "desired": 31, "reason": "ScaledUp", "decidedAt": "2026-01-05T08:00:30Z",
                    "measuredAt": "2026-01-05T08:00:35Z",
                    "message": "12 → 31 pods: 4,100 tasks wait, each takes 0.8 s, to be gone in 72 s; new pods need 14 s",
                    "limits": {
                        "min": 5, "max": 50,
                        "schedule": "the schedule 0 8 * * 1-5 (Europe/Berlin, until Mon 18:00)",
                    },
                    "terms": {
                        "current": 12, "queue": 4100, "backlog": 4100.0, "running": 24, "load": 20.0,
                        "drain": 45.56, "need": 61.2, "want": 30.6, "drainSeconds": 72.0,
                        "executionSeconds": 0.8, "startUpSeconds": 14.2,
                        "queueAgeSeconds": 0.04, "podsAgeSeconds": 4.1,
                    },
                    "history": [
                        {
                            "at": "2026-01-05T06:10:00Z", "from": 1, "to": 1, "reason": "StaleMetrics",
                            "message": "1 pod: not lowered: queue sizes or pod statistics are missing",
                        },
                        {
                            "at": "2026-01-05T07:00:00Z", "from": 1, "to": 5, "reason": "AtMinReplicas",
                            "message": "1 → 5 pods: 0 tasks wait, 0 run, the schedule 0 8 * * 1-5 (Europe/Berlin, until Mon 18:00) keeps them",
                        },
                        {
                            "at": "2026-01-05T08:00:30Z", "from": 12, "to": 31, "reason": "ScaledUp",
                            "message": "12 → 31 pods: 4,100 tasks wait, each takes 0.8 s, to be gone in 72 s; new pods need 14 s",
                        },
                    ],
                },
                "conditions": [
                    condition("Ready", "True", "Running", "12 of 31 pods are ready"),
                    condition("Reconciling", "True", "Running", "12 of 31 pods are ready"),
                    condition("Stalled", "False", "Running", ""),
                    condition("MetricsAvailable", "False", "StaleMetrics",
                        "the size of the queue gpu:resize has not been read yet (403 Forbidden): the number of pods is not lowered"),
                    condition("ConnectionHealthy", "False", "Forbidden", "http://conductor/api: the queue gpu:resize: 403 Forbidden"),
                    condition("ScalingLimited", "False", "WithinLimits", ""),
                    condition("ForeignPollers", "True", "ForeignPollers", "greet is also polled by host-1"),
                ],
            })
        ));
    }

    #[test]
    fn an_idle_worker() {
        insta::assert_snapshot!(page(
            spec(json!({"maxWait": "30s"})),
            json!({
                "observedGeneration": 3, "replicas": 0, "readyReplicas": 0, "queue": 0, "inFlight": 0,
                "tasks": [{"name": "greet", "queue": 0, "inFlight": 0, "backlog": 0.0, "executionSeconds": 0.02, "need": 0.0}],
                "scaling": {
                    "desired": 0, "reason": "Steady", "decidedAt": "2026-01-05T05:00:00Z",
                    "measuredAt": "2026-01-05T05:01:00Z", "message": "0 pods: no work",
                    "limits": {"min": 0, "max": 50},
                    "terms": {
                        "current": 0, "queue": 0, "backlog": 0.0, "running": 0, "load": 0.0, "drain": 0.0,
                        "need": 0.0, "want": 0.0, "drainSeconds": 18.0, "executionSeconds": 0.02,
                        "startUpSeconds": 7.0, "queueAgeSeconds": 0.01,
                    },
                    "history": [{
                        "at": "2026-01-05T05:00:00Z", "from": 1, "to": 0, "reason": "ScaledDown",
                        "message": "1 → 0 pods: 0 tasks wait, 0 run, 0 pods will do",
                    }],
                },
                "conditions": [condition("Ready", "True", "ScaledToZero", "no work, no pods")],
            })
        ));
    }

    #[test]
    fn one_that_others_scale() {
        let mut spec = spec(json!({"mode": "External"}));
        spec["replicas"] = json!(4);
        insta::assert_snapshot!(page(
            spec,
            json!({
                "observedGeneration": 2, "replicas": 4, "readyReplicas": 3,
                "scaling": {
                    "desired": 4, "reason": "External", "decidedAt": "2026-01-05T08:00:00Z",
                    "message": "4 pods: scaling.mode is External: spec.replicas says how many",
                },
            })
        ));
    }

    #[test]
    fn a_rollout_that_is_stopped() {
        let said = "the rollout is stopped, and 4 pods of the version before go on: apply the old spec again or a \
                    mended one, since greet-2 fails nearly every task of greet";
        let page = page(
            spec(json!({"maxWait": "30s"})),
            json!({
                "observedGeneration": 3, "replicas": 5, "readyReplicas": 5,
                "scaling": {
                    "desired": 1, "reason": "HeldByRollout", "decidedAt": "2026-01-05T08:00:00Z",
                    "message": "1 pod: 0 tasks wait, 1 runs",
                },
                "conditions": [
                    condition("Ready", "False", "RolloutStalled", said),
                    condition("Reconciling", "False", "RolloutStalled", ""),
                    condition("Stalled", "True", "RolloutStalled", said),
                ],
            }),
        );
        assert!(
            page.contains("Ready is False (RolloutStalled)") && page.contains(said),
            "{page}"
        );
        assert!(
            page.contains("where it is stopped, see the conditions below"),
            "{page}"
        );
    }

    #[test]
    fn one_that_nobody_has_looked_at() {
        insta::assert_snapshot!(page(spec(json!({"maxWait": "30s"})), Value::Null));
        insta::assert_snapshot!(page(
            spec(json!({"maxWait": "30s"})),
            json!({"conditions": [condition("Ready", "False", "InvalidSpec", "spec.tasks: write at least one task")]})
        ));
    }

    #[test]
    fn what_can_be_done_about_a_cap_is_said() {
        for reason in [
            "CappedByMaxReplicas",
            "CappedByTaskLimit",
            "CappedByRateLimit",
            "ServerAway",
        ] {
            let said = page(
                spec(json!({"maxWait": "30s"})),
                json!({
                    "observedGeneration": 3,
                    "scaling": {"desired": 50, "reason": reason, "decidedAt": "when", "message": "50 pods: all"},
                }),
            );
            assert!(said.contains("What can be done: "), "{said}");
            assert!(
                said.contains("since when"),
                "what is no time is said as it is: {said}"
            );
        }
    }

    #[test]
    fn amounts_are_short() {
        for (x, text) in [
            (0.0, "0"),
            (2.0, "2"),
            (45.56, "45.6"),
            (99.99, "100"),
            (4_100.4, "4,100"),
            (-3.0, "-3"),
            (f64::NAN, "0"),
            (f64::INFINITY, "1,000,000,000,000,000,000"),
        ] {
            assert_eq!(amount(x), text);
        }
    }
}
