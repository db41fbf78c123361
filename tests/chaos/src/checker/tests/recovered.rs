//! How soon it goes on.

use super::*;

/// It ran when its pod's sidecar was killed, until `to`, and again from `next` on.
fn timed_out(from: f64, to: f64, next: f64) -> Story {
    let executed = execution("a", from, None, None);
    let killed = attempt(TaskStatus::TimedOut, from, to, vec![executed]);
    story(vec![killed, done(next, next + 2.0)])
}

fn failed(from: f64, to: f64, next: f64) -> Story {
    let executed = execution("a", from, None, None);
    let killed = attempt(TaskStatus::Failed, from, to, vec![executed]);
    story(vec![killed, done(next, next + 2.0)])
}

#[test]
fn tasks_in_flight_in_what_is_killed_go_on_within_their_lease_or_at_once() {
    let mut account = account(vec![
        event(Kind::SidecarKill, Some("a"), 20.0, 20.0),
        event(Kind::HandlerKill, Some("a"), 120.0, 120.0),
    ]);
    account.stories = vec![
        timed_out(15.0, 35.5, 36.5),
        timed_out(16.0, 40.0, 44.0),
        failed(110.0, 120.5, 122.0),
        story(vec![done(17.0, 19.0)]),
    ];
    let (figures, wrong) = check(&account);
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(figures.recovery.len(), 2, "{:?}", figures.recovery);
    let recovery = |tasks, ended, next| Recovery {
        tasks,
        ended,
        next: Some(next),
    };
    let sidecar = recovery(2, [15.5, 20.0], [1.0, 4.0]);
    assert_eq!(figures.recovery["sidecar killed"], sidecar);
    let handler = recovery(1, [0.5, 0.5], [1.5, 1.5]);
    assert_eq!(figures.recovery["handler killed"], handler);
}

#[test]
fn who_goes_on_late_is_told() {
    let late = |kind, of: Story, outage: Option<Event>| {
        let mut account = account(vec![event(kind, Some("a"), 20.0, 20.0)]);
        account.events.extend(outage);
        account.stories = vec![of];
        let (figures, wrong) = check(&account);
        let is_told = |w: &&String| w.contains("and its attempt ended");
        let told = wrong.iter().filter(is_told).count();
        (told, figures.recovery.into_keys().collect::<Vec<_>>())
    };
    let sidecar = |to| late(Kind::SidecarKill, timed_out(15.0, to, to + 1.0), None);
    let killed = vec!["sidecar killed".to_owned()];
    assert_eq!(sidecar(54.0), (0, killed.clone()));
    assert_eq!(sidecar(56.0), (1, killed));
    let handler = |to, outage| late(Kind::HandlerKill, failed(15.0, to, to + 1.0), outage);
    let killed = vec!["handler killed".to_owned()];
    assert_eq!(handler(24.0, None), (0, killed.clone()));
    assert_eq!(handler(26.0, None), (1, killed));
    let outage = || Some(event(Kind::ConductorSilent, None, 18.0, 30.0));
    let meanwhile = vec!["handler killed, Conductor away meanwhile".to_owned()];
    assert_eq!(handler(34.0, outage()), (0, meanwhile.clone()));
    assert_eq!(handler(36.0, outage()), (1, meanwhile));
}

#[test]
fn what_meets_the_next_outage_says_nothing_of_the_return() {
    let mut account = account(vec![
        event(Kind::ConductorRestart, None, 10.0, 20.0),
        event(Kind::ConductorErrors, None, 22.0, 34.0),
    ]);
    let late = |taken| {
        let executed = execution("a", 9.0, Some(15.0), None);
        let attempt = attempt(TaskStatus::Completed, 9.0, taken, vec![executed]);
        story(vec![attempt])
    };
    account.stories = vec![late(20.5), late(35.0)];
    assert_eq!(check(&account).0.after_return, Some(0.5));
}
