//! The faults of the matrix, by name.

use std::time::Duration;

use crate::{
    fault::{Fault, On},
    judge::May,
};

/// How often a program is killed in a fault.
pub(crate) const KILLS: u32 = 4;

/// What is done to the parts.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    /// Requests meet a fault at the proxy; the last is the part of them that does.
    Wire(Fault, On, f64),
    /// The proxy refuses connections, having ended those it had.
    Refused,
    /// The server goes as one that is killed, and comes back with what it knew.
    ServerKilled,
    /// The server is asked to end, and started again. Only a real one can be.
    ServerRestarted,
    /// The sidecar is killed and started again, several times.
    SidecarKilled,
    /// The sidecar is frozen, and goes on.
    SidecarFrozen,
    /// The handler is killed and started again, several times.
    HandlerKilled,
    /// The handler is frozen: it accepts calls and answers none, and goes on.
    HandlerHangs,
}

/// What cannot be helped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Nothing,
    /// It loses answers that carry tasks: those of polls, and those of reports that asked for
    /// the next one.
    Strands,
    /// It kills what holds tasks.
    Kills,
}

/// A fault of the matrix.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) trouble: Trouble,
    harm: Harm,
    /// More tasks than the sidecar can take, on few slots: reports ask for the next task.
    pub(crate) saturated: bool,
    /// Part of the short form on the real server.
    pub(crate) short_on_real: bool,
}

const JSON: (&str, &str) = ("content-type", "application/json");
const HTML: (&str, &str) = ("content-type", "text/html");

const SIGN_IN: &str = "<html>Sign in</html>";
const OTHER: &str = r#"{"ok":true}"#;
const GARBAGE: &str = "\u{1}\u{2}[[[";

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Scenario {
    fn new(name: &'static str, trouble: Trouble) -> Self {
        Self {
            name,
            trouble,
            harm: Harm::Nothing,
            saturated: false,
            short_on_real: false,
        }
    }

    fn wire(name: &'static str, fault: Fault, on: On, share: f64) -> Self {
        Self::new(name, Trouble::Wire(fault, on, share))
    }

    fn answered(
        name: &'static str,
        status: u16,
        headers: &'static [(&'static str, &'static str)],
        body: &'static str,
        (on, share): (On, f64),
    ) -> Self {
        let fault = Fault::Answer {
            status,
            headers,
            body,
        };
        Self::wire(name, fault, on, share)
    }

    fn strands(mut self) -> Self {
        self.harm = Harm::Strands;
        self
    }

    fn kills(mut self) -> Self {
        self.harm = Harm::Kills;
        self
    }

    fn saturated(mut self) -> Self {
        self.saturated = true;
        self
    }

    fn short_on_real(mut self) -> Self {
        self.short_on_real = true;
        self
    }

    /// What it may do with so many slots.
    pub(crate) fn may(&self, slots: usize) -> May {
        May {
            strand: self.harm == Harm::Strands,
            repeat: match self.harm {
                Harm::Kills => slots * KILLS as usize,
                Harm::Nothing | Harm::Strands => 0,
            },
        }
    }

    /// Only a real server can be restarted; what the double does instead is `ServerKilled`.
    pub(crate) fn needs_real(&self) -> bool {
        matches!(self.trouble, Trouble::ServerRestarted)
    }

    /// It takes the server from everybody else too.
    pub(crate) fn takes_the_server(&self) -> bool {
        matches!(
            self.trouble,
            Trouble::ServerRestarted | Trouble::ServerKilled
        )
    }
}

/// All of them, the longest first.
pub(crate) fn all() -> Vec<Scenario> {
    let mut all = connections();
    all.extend(programs());
    all.extend(answers());
    all.extend(next_tasks());
    all
}

/// What becomes of reports that ask for the next task.
fn next_tasks() -> Vec<Scenario> {
    use On::Updates;
    const LATE: Fault = Fault::LateAnswer {
        least: ms(3000),
        most: ms(4000),
    };
    vec![
        Scenario::wire("late_next_tasks", LATE, Updates, 0.5).saturated(),
        Scenario::wire("lost_next_tasks", Fault::ResetAfter, Updates, 0.3)
            .saturated()
            .strands()
            .short_on_real(),
        Scenario::wire("truncated_next_tasks", Fault::Truncate, Updates, 0.3)
            .saturated()
            .strands(),
        Scenario::wire("half_open_next_tasks", Fault::HalfOpen, Updates, 0.3).saturated(),
        Scenario::answered("html_for_next_tasks", 200, &[HTML], SIGN_IN, (Updates, 0.3))
            .saturated(),
        Scenario::answered(
            "other_json_for_next_tasks",
            200,
            &[JSON],
            OTHER,
            (Updates, 0.3),
        )
        .saturated(),
        Scenario::answered(
            "status_502_for_next_tasks",
            502,
            &[HTML],
            "",
            (Updates, 0.3),
        )
        .saturated(),
    ]
}

/// What becomes of bytes.
fn connections() -> Vec<Scenario> {
    use On::{Everything, Polls, Updates};
    const LATE: Fault = Fault::Latency {
        least: ms(100),
        most: ms(400),
    };
    const DRIP: Fault = Fault::Drip { pause: ms(2) };
    vec![
        Scenario::wire(
            "python_sdk_pr_411_half_open_polls",
            Fault::HalfOpen,
            Polls,
            1.0,
        ),
        Scenario::wire("half_open_updates", Fault::HalfOpen, Updates, 0.3),
        Scenario::wire("lost_poll_answers", Fault::ResetAfter, Polls, 0.3)
            .strands()
            .short_on_real(),
        Scenario::wire("truncated_poll_answers", Fault::Truncate, Polls, 0.3).strands(),
        Scenario::wire("latency", LATE, Everything, 1.0),
        Scenario::wire("slow_drip", DRIP, Everything, 1.0),
        Scenario::wire("reset_before_requests", Fault::ResetBefore, Everything, 0.5),
        Scenario::wire(
            "reset_within_requests",
            Fault::ResetMidRequest,
            Everything,
            0.5,
        ),
        Scenario::wire(
            "reset_after_updates_arrived",
            Fault::ResetAfter,
            Updates,
            0.5,
        )
        .strands()
        .short_on_real(),
        Scenario::wire("truncated_update_answers", Fault::Truncate, Updates, 0.5).strands(),
    ]
}

/// What becomes of the parts.
fn programs() -> Vec<Scenario> {
    vec![
        Scenario::new("connections_refused", Trouble::Refused).strands(),
        Scenario::new("server_killed", Trouble::ServerKilled).strands(),
        Scenario::new("server_restarted", Trouble::ServerRestarted),
        Scenario::new("sidecar_killed", Trouble::SidecarKilled).kills(),
        Scenario::new("sidecar_frozen", Trouble::SidecarFrozen),
        Scenario::new("handler_killed", Trouble::HandlerKilled).kills(),
        Scenario::new("handler_hangs", Trouble::HandlerHangs),
    ]
}

/// What somebody else answers in Conductor's place.
fn answers() -> Vec<Scenario> {
    use On::{Everything, Polls, Updates};
    vec![
        Scenario::answered(
            "status_500_retryable",
            500,
            &[JSON],
            r#"{"status":500,"message":"Unable to reach the queue","retryable":true}"#,
            (Everything, 0.7),
        ),
        Scenario::answered(
            "status_500_not_retryable",
            500,
            &[JSON],
            r#"{"status":500,"message":"[SQLITE_BUSY] The database file is locked","retryable":false}"#,
            (Everything, 0.7),
        ),
        Scenario::answered(
            "status_502",
            502,
            &[HTML],
            "<h1>Bad Gateway</h1>",
            (Everything, 1.0),
        ),
        Scenario::answered(
            "status_503_with_retry_after",
            503,
            &[HTML, ("retry-after", "1")],
            "<h1>Service Unavailable</h1>",
            (Everything, 1.0),
        )
        .short_on_real(),
        Scenario::answered(
            "status_429",
            429,
            &[("retry-after", "1")],
            "",
            (Everything, 0.7),
        ),
        Scenario::answered(
            "python_sdk_299_pr_342_expired_token",
            401,
            &[JSON],
            r#"{"error":"EXPIRED_TOKEN","message":"Token has expired"}"#,
            (Everything, 1.0),
        ),
        Scenario::answered(
            "gateway_404",
            404,
            &[],
            "default backend - 404",
            (Updates, 0.5),
        ),
        Scenario::answered(
            "gateway_400",
            400,
            &[HTML],
            "<h1>Bad Request</h1>",
            (Updates, 0.5),
        ),
        Scenario::answered(
            "redirect",
            302,
            &[("location", "/login")],
            "",
            (Updates, 0.5),
        ),
        Scenario::answered("html_to_updates", 200, &[HTML], SIGN_IN, (Updates, 0.5)),
        Scenario::answered("html_to_polls", 200, &[HTML], SIGN_IN, (Polls, 1.0)),
        Scenario::answered("other_json_to_updates", 200, &[JSON], OTHER, (Updates, 0.5)),
        Scenario::answered("other_json_to_polls", 200, &[JSON], OTHER, (Polls, 1.0)),
        Scenario::answered("garbage_to_updates", 200, &[JSON], GARBAGE, (Updates, 0.5)),
        Scenario::answered("garbage_to_polls", 200, &[JSON], GARBAGE, (Polls, 1.0)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ() {
        let mut names: Vec<_> = all().iter().map(|s| s.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(count >= 12);
    }
}
