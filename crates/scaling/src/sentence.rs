//! A decision in one sentence.

use crate::{
    Decision, Reason, Terms,
    words::{seconds, thousands},
};

impl Decision {
    /// The decision in one sentence, such as `12 → 31 pods: 4,100 tasks wait, each takes 0.8 s,
    /// to be gone in 72 s; new pods need 14 s`.
    pub fn message(&self) -> String {
        self.message_where_kept_by("minReplicas")
    }

    /// The same, where the fewest pods are those that something else than `minReplicas` asks
    /// for.
    pub fn message_where_kept_by(&self, floor: &str) -> String {
        let terms = &self.terms;
        let (from, to) = (terms.current, self.replicas);
        let noun = if to == 1 { "pod" } else { "pods" };
        let step = if from == to {
            format!("{} {noun}", thousands(to.into()))
        } else {
            let (from, to) = (thousands(from.into()), thousands(to.into()));
            format!("{from} → {to} {noun}")
        };
        format!("{step}: {}", why(self.reason, terms, floor))
    }
}

fn why(reason: Reason, terms: &Terms, floor: &str) -> String {
    let seen = seen(terms);
    let each = seconds(terms.execution_seconds());
    let want = pods(terms.want);
    match reason {
        Reason::Steady if terms.queue == 0 && terms.running == 0 => "no work".to_owned(),
        Reason::ScaledUp if terms.drain > terms.load => format!(
            "{}, each takes {each}, to be gone in {}; new pods need {}",
            waiting(terms),
            seconds(terms.drain_seconds),
            seconds(terms.start_up_seconds)
        ),
        Reason::Steady | Reason::ScaledUp => {
            format!(
                "{seen}, each takes {each}, which needs {}",
                slots(terms.need)
            )
        }
        Reason::ScaledDown => format!("{seen}, {want} will do"),
        Reason::HeldByWindow => {
            format!("{seen}, {want} would do now but would not have a moment ago")
        }
        Reason::HeldByBusyPods => format!("{seen}, {want} would do but the others are busy"),
        Reason::StaleMetrics => "not lowered: queue sizes or pod statistics are missing".to_owned(),
        Reason::RaisedBlind => "queue sizes are missing and no slot is free".to_owned(),
        Reason::ServerAway => "held: the pods cannot reach Conductor".to_owned(),
        Reason::CappedByMaxReplicas => {
            format!("{seen}, {want} would be needed but maxReplicas is reached")
        }
        Reason::CappedByTaskLimit => {
            format!(
                "{seen}, but the task definition's concurrentExecLimit lets no more run at once"
            )
        }
        Reason::CappedByRateLimit => {
            format!("{seen}, but the task definition's rate limit lets no more start")
        }
        Reason::DownstreamSaturated => {
            format!("{seen}, but more pods would get no more done: what the tasks wait for is busy")
        }
        Reason::AtMinReplicas => format!("{seen}, {floor} keeps them"),
    }
}

fn waiting(terms: &Terms) -> String {
    let waiting = match terms.queue {
        1 => "1 task waits".to_owned(),
        n => format!("{} tasks wait", thousands(n)),
    };
    // What no free slot could take: delayed, or limited.
    match terms.queue.saturating_sub(whole(terms.backlog)) {
        0 => waiting,
        n if n == terms.queue => format!("{waiting} but cannot be taken yet"),
        n => format!("{waiting} ({} of them cannot be taken yet)", thousands(n)),
    }
}

fn seen(terms: &Terms) -> String {
    let run = if terms.running == 1 { "runs" } else { "run" };
    format!(
        "{}, {} {run}",
        waiting(terms),
        thousands(terms.running.into())
    )
}

/// Pods that are wanted, which need not be a whole number.
fn pods(want: f64) -> String {
    let noun = if (want - 1.0).abs() < 0.05 {
        "pod"
    } else {
        "pods"
    };
    format!("{} {noun}", decimal(want))
}

fn slots(need: f64) -> String {
    let noun = if (need - 1.0).abs() < 0.05 {
        "slot"
    } else {
        "slots"
    };
    format!("{} {noun}", decimal(need))
}

/// One decimal where it matters.
fn decimal(x: f64) -> String {
    let rounded = (x * 10.0).round() / 10.0;
    if rounded < 100.0 && rounded.fract() > 0.0 {
        format!("{rounded:.1}")
    } else {
        thousands(whole(x))
    }
}

/// To the nearest whole number; what makes no sense is 0.
fn whole(x: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped; not a number becomes 0"
    )]
    let n = x.round().clamp(0.0, 1e18) as u64;
    n
}

impl Terms {
    /// Mean seconds that a task holds the handler, over the task types by their backlog; by
    /// their running tasks where none waits.
    pub fn execution_seconds(&self) -> f64 {
        let backlog: f64 = self.tasks.iter().map(|t| t.backlog).sum();
        let weight = |t: &crate::TaskTerms| if backlog > 0.0 { t.backlog } else { t.load };
        let all: f64 = self.tasks.iter().map(weight).sum();
        let sum = |by: &dyn Fn(&crate::TaskTerms) -> f64| -> f64 {
            self.tasks.iter().map(|t| by(t) * t.execution_seconds).sum()
        };
        if all > 0.0 {
            sum(&weight) / all
        } else if self.tasks.is_empty() {
            0.0
        } else {
            #[expect(clippy::cast_precision_loss, reason = "task types are few")]
            let count = self.tasks.len() as f64;
            sum(&|_| 1.0) / count
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TaskTerms;

    fn decision(reason: Reason, replicas: u32) -> Decision {
        Decision {
            replicas,
            reason,
            terms: Terms {
                current: 12,
                queue: 4_100,
                backlog: 4_100.0,
                running: 24,
                load: 20.0,
                drain: 45.6,
                need: 45.6,
                want: 22.8,
                drain_seconds: 72.0,
                start_up_seconds: 14.2,
                tasks: vec![TaskTerms {
                    execution_seconds: 0.8,
                    backlog: 4_100.0,
                    ..TaskTerms::default()
                }],
            },
        }
    }

    #[test]
    fn a_person_understands_it() {
        let said = decision(Reason::ScaledUp, 31).message();
        assert_eq!(
            said,
            "12 → 31 pods: 4,100 tasks wait, each takes 0.8 s, to be gone in 72 s; new pods need 14 s"
        );
        let mut calm = decision(Reason::ScaledUp, 13);
        calm.terms.load = 50.0;
        assert_eq!(
            calm.message(),
            "12 → 13 pods: 4,100 tasks wait, 24 run, each takes 0.8 s, which needs 45.6 slots"
        );
        let mut idle = decision(Reason::Steady, 12);
        (idle.terms.queue, idle.terms.running) = (0, 0);
        assert_eq!(idle.message(), "12 pods: no work");
    }

    #[test]
    fn what_cannot_be_taken_is_told_from_what_waits() {
        let mut delayed = decision(Reason::HeldByWindow, 12);
        (delayed.terms.backlog, delayed.terms.want) = (100.0, 1.0);
        assert_eq!(
            delayed.message(),
            "12 pods: 4,100 tasks wait (4,000 of them cannot be taken yet), 24 run, 1 pod would do now but would not have a moment ago"
        );
        delayed.terms.backlog = 0.0;
        delayed.reason = Reason::ScaledDown;
        delayed.replicas = 1;
        assert_eq!(
            delayed.message(),
            "12 → 1 pod: 4,100 tasks wait but cannot be taken yet, 24 run, 1 pod will do"
        );
    }

    #[test]
    fn who_keeps_the_fewest_pods_is_named() {
        let mut few = decision(Reason::AtMinReplicas, 12);
        (few.terms.queue, few.terms.backlog, few.terms.running) = (1, 1.0, 1);
        assert_eq!(
            few.message(),
            "12 pods: 1 task waits, 1 runs, minReplicas keeps them"
        );
        let said = few.message_where_kept_by("the schedule 0 8 * * *");
        assert!(said.ends_with("1 runs, the schedule 0 8 * * * keeps them"));
    }

    #[test]
    fn nonsense_is_said_without_a_panic() {
        for reason in Reason::ALL {
            let mut absurd = decision(reason, u32::MAX);
            absurd.terms.want = f64::NAN;
            absurd.terms.need = f64::INFINITY;
            absurd.terms.backlog = -1.0;
            absurd.terms.tasks[0].execution_seconds = f64::NAN;
            assert!(absurd.message().starts_with("12 → 4,294,967,295 pods: "));
        }
    }
}
