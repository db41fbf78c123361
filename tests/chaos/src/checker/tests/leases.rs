//! Leases that ended, and attempts that failed.

use super::*;

fn again(reason: &str) -> Fate {
    Fate::Again(vec![Some(reason.to_owned())])
}

fn unexplained() -> Fate {
    Fate::Again(vec![None])
}

/// Of an attempt that was not the last.
fn fate(events: Vec<Event>, attempt: Attempt) -> Fate {
    account(events).fate(&story(vec![attempt, done(200.0, 202.0)]))
}

/// Its execution went on from `from` to `end`, and its lease was found to be over at `to`.
fn timed_out(from: f64, end: Option<f64>, to: f64) -> Attempt {
    let executed = execution("a", from, end, None);
    attempt(TaskStatus::TimedOut, from, to, vec![executed])
}

/// It ran in pod a when that was killed.
fn failed(from: f64, to: f64) -> Attempt {
    let executed = execution("a", from, None, None);
    attempt(TaskStatus::Failed, from, to, vec![executed])
}

fn kill(kind: Kind, at: f64) -> Event {
    event(kind, Some("a"), at, at)
}

fn away(from: f64, to: f64) -> Event {
    event(Kind::ConductorRestart, None, from, to)
}

#[test]
fn what_was_done_before_a_sidecar_is_killed_is_not_executed_again_for_that() {
    let killed = || vec![kill(Kind::SidecarKill, 25.0)];
    let ended = |at| timed_out(11.0, Some(at), 41.0);
    assert_eq!(fate(killed(), ended(14.0)), unexplained());
    assert_eq!(fate(killed(), ended(24.0)), again("sidecar killed"));
    // It waited for somebody to hit before.
    let waited = vec![event(Kind::SidecarKill, Some("a"), 12.0, 25.0)];
    assert_eq!(fate(waited, ended(14.0)), unexplained());
    let cut = execution("a", 11.0, None, Some(14.0));
    let cut = attempt(TaskStatus::TimedOut, 11.0, 41.0, vec![cut]);
    assert_eq!(fate(killed(), cut), unexplained(), "it was cut off before");
}

#[test]
fn a_result_on_disk_may_come_after_the_end_of_its_lease() {
    // The outage alone is too short, and so is the time in which the sidecar is started again.
    let (outage, killed) = (away(14.0, 22.0), kill(Kind::SidecarKill, 24.0));
    let done = || timed_out(11.0, Some(15.0), 31.5);
    assert_eq!(fate(vec![outage.clone()], done()), unexplained());
    assert_eq!(fate(vec![killed.clone()], done()), unexplained());
    let both = vec![outage.clone(), killed];
    assert_eq!(fate(both, done()), again("Conductor restarted"));
    let elsewhere = event(Kind::SidecarKill, Some("b"), 24.0, 24.0);
    let fate_of = |kill| fate(vec![outage.clone(), kill], done());
    assert_eq!(fate_of(elsewhere), unexplained());
    let later = kill(Kind::SidecarKill, 28.0);
    assert_eq!(fate_of(later), unexplained(), "it was sent by then");
}

#[test]
fn a_kill_says_nothing_of_what_its_successor_has() {
    let killed = || vec![kill(Kind::SidecarKill, 20.0)];
    let next = timed_out(21.5, Some(30.0), 42.0);
    assert_eq!(fate(killed(), next), unexplained());
    let polled = |at| attempt(TaskStatus::TimedOut, at, at + 20.0, vec![]);
    assert_eq!(fate(killed(), polled(24.0)), again("sidecar killed"));
    assert_eq!(
        fate(killed(), polled(29.0)),
        unexplained(),
        "no poll waits for so long"
    );
}

#[test]
fn a_lease_does_not_end_at_once_when_its_sidecar_is_killed() {
    let killed = || vec![kill(Kind::SidecarKill, 50.0)];
    assert_eq!(fate(killed(), timed_out(11.0, None, 52.0)), unexplained());
    // It was extended a third of it before at the earliest.
    let ended = timed_out(11.0, None, 64.0);
    assert_eq!(fate(killed(), ended), again("sidecar killed"));
}

#[test]
fn a_silence_counts_from_an_attempts_begin() {
    let outage = |to| vec![away(18.0, to)];
    let old = |to| timed_out(10.0, None, to);
    assert_eq!(fate(outage(30.0), old(32.0)), again("Conductor restarted"));
    assert_eq!(
        fate(outage(24.0), old(32.0)),
        unexplained(),
        "its lease outlasts that"
    );
    let young = timed_out(19.0, None, 39.0);
    assert_eq!(fate(outage(30.0), young), unexplained(), "and this one's");
    assert_eq!(
        fate(outage(30.0), old(25.0)),
        unexplained(),
        "it cannot have ended yet"
    );
    let twice = vec![
        event(Kind::ConductorErrors, None, 18.0, 24.0),
        event(Kind::NetworkCut, None, 26.0, 30.0),
    ];
    let why = again("Conductor answers 500");
    assert_eq!(fate(twice, old(32.0)), why, "twice, with little in between");
}

#[test]
fn a_lease_that_ends_long_after_an_outage_did_not_end_for_it() {
    let outage = || vec![event(Kind::NetworkCut, None, 30.0, 60.0)];
    let ended = |to| timed_out(10.0, None, to);
    assert_eq!(fate(outage(), ended(74.0)), again("network cut"));
    assert_eq!(fate(outage(), ended(76.0)), unexplained());
    let short = || vec![event(Kind::NetworkCut, None, 30.0, 42.0)];
    assert_eq!(fate(short(), ended(64.0)), again("network cut"));
    assert_eq!(fate(short(), ended(66.0)), unexplained());
}

#[test]
fn the_end_of_a_lease_is_found_when_conductor_is_back() {
    let killed = || kill(Kind::SidecarKill, 50.0);
    let ended = |to| timed_out(45.0, None, to);
    let why = || again("sidecar killed");
    assert_eq!(fate(vec![killed()], ended(84.0)), why());
    assert_eq!(fate(vec![killed()], ended(86.0)), unexplained());
    // What it had just taken from its own queue comes again after half a minute.
    let restarted = |to| fate(vec![killed(), away(69.0, 75.0)], ended(to));
    assert_eq!(restarted(113.0), why());
    assert_eq!(restarted(115.0), unexplained());
    let unreachable = event(Kind::NetworkCut, None, 69.0, 99.0);
    let fate = fate(vec![killed(), unreachable], ended(113.0));
    assert_eq!(fate, unexplained(), "it looks all the same");
}

#[test]
fn how_an_attempt_ends_tells_what_was_killed() {
    let of = |kind, attempt| fate(vec![kill(kind, 20.0)], attempt);
    let silent = || timed_out(19.0, None, 40.0);
    assert_eq!(of(Kind::SidecarKill, failed(19.0, 20.5)), unexplained());
    for (kind, why) in [
        (Kind::HandlerKill, "handler killed"),
        (Kind::HandlerOom, "handler out of memory"),
    ] {
        assert_eq!(of(kind, silent()), unexplained());
        assert_eq!(of(kind, failed(19.0, 20.5)), again(why));
        assert_eq!(of(kind, failed(19.0, 26.0)), unexplained(), "not at once");
        let done = execution("a", 12.0, Some(14.0), None);
        let done = attempt(TaskStatus::Failed, 12.0, 20.5, vec![done]);
        assert_eq!(of(kind, done), unexplained(), "it was done before");
    }
}

#[test]
fn a_failure_waits_for_conductor_and_its_lease_may_end_meanwhile() {
    let outage = || event(Kind::ConductorErrors, None, 15.0, 40.0);
    let killed = || vec![outage(), kill(Kind::HandlerKill, 20.0)];
    assert_eq!(fate(killed(), failed(12.0, 44.0)), again("handler killed"));
    assert_eq!(fate(killed(), failed(12.0, 46.0)), unexplained());
    let ended = timed_out(12.0, None, 33.0);
    assert_eq!(fate(killed(), ended), again("Conductor answers 500"));
    let broken = || vec![event(Kind::BrokenRoll, Some("a"), 5.0, 20.0), outage()];
    let unexecuted = |to| attempt(TaskStatus::Failed, 19.0, to, vec![]);
    let why = || again("broken rolling update");
    assert_eq!(fate(broken(), unexecuted(44.0)), why());
    assert_eq!(fate(broken(), unexecuted(46.0)), unexplained());
}

#[test]
fn what_meets_requests_before_conductor_does_loses_no_answers() {
    let polled = |kind, from| {
        let stranded = attempt(TaskStatus::TimedOut, from, from + 20.0, vec![]);
        fate(vec![event(kind, None, 18.0, 22.0)], stranded)
    };
    for kind in [Kind::ConductorErrors, Kind::ConductorSilent] {
        assert_eq!(polled(kind, 19.0), unexplained(), "{kind:?}");
    }
    let lost = again("Conductor restarted, a poll's answer lost");
    assert_eq!(polled(Kind::ConductorRestart, 19.0), lost);
}

#[test]
fn an_attempt_that_times_out_twice_has_ended_before_the_next_one_began() {
    let away = event(Kind::ConductorRestart, None, 20.0, 60.0);
    let twice = |ended, next| {
        let executed = execution("a", 12.0, None, Some(60.0));
        let first = attempt(TaskStatus::TimedOut, 12.0, ended, vec![executed]);
        account(vec![away.clone()]).fate(&story(vec![first, done(next, next + 2.0)]))
    };
    assert_eq!(twice(60.2, 60.4), again("Conductor restarted"));
    assert_eq!(twice(90.0, 60.4), again("Conductor restarted"));
    assert_eq!(twice(90.0, 90.4), unexplained());
}
