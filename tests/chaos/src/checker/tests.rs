use cluster::repaired;
use live::watch::PodSeen;

use super::*;
use crate::kind::Kind;

mod again;
mod leases;
mod recovered;

fn execution(pod: &str, began: f64, ended: Option<f64>, cut: Option<f64>) -> Execution {
    Execution {
        task: "t".to_owned(),
        pod: pod.to_owned(),
        began,
        ended,
        cut,
    }
}

fn attempt(status: TaskStatus, from: f64, to: f64, executions: Vec<Execution>) -> Attempt {
    Attempt {
        task: "t".to_owned(),
        status,
        started: Some(from),
        ended: Some(to),
        pod: Some("a".to_owned()),
        reason: None,
        executions,
    }
}

fn story(attempts: Vec<Attempt>) -> Story {
    Story {
        workflow: "w".to_owned(),
        status: WorkflowStatus::Completed,
        takes: 2.0,
        created: 10.0,
        ended: Some(13.0),
        attempts,
    }
}

fn account(events: Vec<Event>) -> Account {
    Account {
        lease: 20.0,
        grace: 30.0,
        hand_backs: false,
        repaired: BTreeSet::new(),
        events,
        log: Log::default(),
        stories: vec![],
    }
}

fn event(kind: Kind, pod: Option<&str>, from: f64, to: f64) -> Event {
    Event {
        kind,
        pods: pod.into_iter().map(str::to_owned).collect(),
        from,
        to,
    }
}

fn leaving(pod: &str, at: f64) -> PodSeen {
    PodSeen {
        name: pod.to_owned(),
        created: -1.0,
        ready: Some(0.0),
        leaving: Some(at),
        gone: None,
    }
}

fn done(from: f64, to: f64) -> Attempt {
    let executed = execution("a", from, Some(to), None);
    attempt(TaskStatus::Completed, from, to, vec![executed])
}

fn killed_at(at: f64) -> Attempt {
    let executed = execution("a", at - 1.0, None, None);
    attempt(TaskStatus::TimedOut, at - 1.0, at + 19.0, vec![executed])
}

#[test]
fn a_task_that_was_executed_once_needs_no_reason() {
    assert_eq!(
        account(vec![]).fate(&story(vec![done(11.0, 13.0)])),
        Fate::Once
    );
}

#[test]
fn what_is_not_done_is_lost() {
    let mut running = story(vec![done(11.0, 13.0)]);
    running.status = WorkflowStatus::Running;
    assert_eq!(account(vec![]).fate(&running), Fate::Lost);
    let never = story(vec![attempt(TaskStatus::Completed, 1.0, 2.0, vec![])]);
    assert_eq!(account(vec![]).fate(&never), Fate::Lost);
}

#[test]
fn a_retry_needs_something_that_hit_its_pod_meanwhile() {
    let told = story(vec![killed_at(20.0), done(40.0, 42.0)]);
    let fate = |events| account(events).fate(&told);
    let unexplained = Fate::Again(vec![None]);
    assert_eq!(fate(vec![]), unexplained);
    let killed = Fate::Again(vec![Some("sidecar killed".to_owned())]);
    let kill = |pod, at| vec![event(Kind::SidecarKill, Some(pod), at, at)];
    assert_eq!(fate(kill("a", 20.0)), killed);
    assert_eq!(fate(kill("b", 20.0)), unexplained, "another pod");
    assert_eq!(fate(kill("a", 60.0)), unexplained, "later");
    assert_eq!(fate(kill("a", 10.0)), unexplained, "earlier");
    let harmless = vec![event(Kind::Roll, None, 0.0, 100.0)];
    assert_eq!(fate(harmless), unexplained);
}

#[test]
fn a_handler_that_stood_still_begins_after_the_kill_what_it_was_given_before() {
    let events = |kind, pod: Option<&str>| {
        let hang = event(Kind::HandlerHang, Some("a"), 14.0, 26.5);
        vec![hang, event(kind, pod, 20.0, 20.0)]
    };
    let kill = |pod: &str| events(Kind::SidecarKill, Some(pod));
    let fate = |events, from, began, ended| {
        let executed = execution("a", began, ended, None);
        let given = attempt(TaskStatus::TimedOut, from, from + 20.0, vec![executed]);
        account(events).fate(&story(vec![given, done(60.0, 62.0)]))
    };
    let killed = Fate::Again(vec![Some("sidecar killed".to_owned())]);
    assert_eq!(fate(kill("a"), 15.0, 27.0, None), killed);
    assert_eq!(fate(kill("a"), 15.0, 27.0, Some(29.0)), killed);
    let unexplained = Fate::Again(vec![None]);
    assert_eq!(fate(kill("b"), 15.0, 27.0, None), unexplained, "another's");
    assert_eq!(
        fate(kill("a"), 26.0, 27.0, None),
        unexplained,
        "given later"
    );
    assert_eq!(
        fate(kill("a"), 15.0, 30.0, None),
        unexplained,
        "begun later"
    );
    let moved = vec![event(Kind::SidecarKill, Some("a"), 20.0, 20.0)];
    assert_eq!(
        fate(moved, 15.0, 27.0, None),
        unexplained,
        "it did not stand"
    );
    let handler = events(Kind::HandlerKill, Some("a"));
    assert_eq!(
        fate(handler, 15.0, 27.0, None),
        unexplained,
        "it began after"
    );
}

#[test]
fn a_poll_whose_answer_is_lost_strands_what_nobody_executed() {
    let away = || vec![event(Kind::NetworkCut, None, 18.0, 20.0)];
    let polled = |at, executions| {
        let stranded = attempt(TaskStatus::TimedOut, at, at + 20.0, executions);
        account(away()).fate(&story(vec![stranded, done(60.0, 62.0)]))
    };
    let lost = "network cut, a poll's answer lost".to_owned();
    assert_eq!(polled(19.0, vec![]), Fate::Again(vec![Some(lost)]));
    assert_eq!(polled(30.0, vec![]), Fate::Again(vec![None]), "later");
    let executed = vec![execution("a", 19.0, None, None)];
    assert_eq!(polled(19.0, executed), Fate::Again(vec![None]));
}

#[test]
fn a_result_that_crosses_the_end_of_its_lease_is_executed_again() {
    let executed = || execution("a", 12.0, Some(14.0), None);
    let crossed = |to| attempt(TaskStatus::Completed, 11.0, to, vec![executed()]);
    let away = || vec![event(Kind::ConductorRestart, None, 13.0, 40.0)];
    let fate = |to| account(away()).fate(&story(vec![crossed(to), done(50.0, 52.0)]));
    let why = "Conductor restarted, the end of the lease crossed the result".to_owned();
    assert_eq!(fate(41.0), Fate::Again(vec![Some(why)]));
    let in_time = Fate::Again(vec![None]);
    assert_eq!(fate(20.0), in_time, "its lease of 20 s had not ended");
}

#[test]
fn a_task_that_comes_back_too_late_has_no_reason() {
    let executed = execution("a", 19.0, None, None);
    let late = attempt(TaskStatus::TimedOut, 19.0, 20.0 + 81.0, vec![executed]);
    let told = story(vec![late, done(102.0, 104.0)]);
    let kill = vec![event(Kind::SidecarKill, Some("a"), 20.0, 20.0)];
    assert_eq!(account(kill).fate(&told), Fate::Again(vec![None]));
}

#[test]
fn a_broken_version_fails_what_it_does_not_execute() {
    let failed = attempt(TaskStatus::Failed, 11.0, 11.1, vec![]);
    let told = story(vec![failed, done(12.0, 14.0)]);
    let broken = || vec![event(Kind::BrokenRoll, Some("a"), 5.0, 30.0)];
    let why = Fate::Again(vec![Some("broken rolling update".to_owned())]);
    assert_eq!(account(broken()).fate(&told), why);
    let elsewhere = vec![event(Kind::BrokenRoll, Some("b"), 5.0, 30.0)];
    assert_eq!(account(elsewhere).fate(&told), Fate::Again(vec![None]));
    let executed = execution("a", 11.0, None, Some(11.1));
    let failed = attempt(TaskStatus::Failed, 11.0, 11.1, vec![executed]);
    let told = story(vec![failed, done(12.0, 14.0)]);
    assert_eq!(account(broken()).fate(&told), Fate::Again(vec![None]));
}

#[test]
fn a_task_is_handed_back_only_where_it_may_be() {
    let twice = vec![
        execution("a", 11.0, None, Some(40.0)),
        execution("b", 41.0, Some(43.0), None),
    ];
    let told = story(vec![attempt(TaskStatus::Completed, 41.0, 43.0, twice)]);
    let mut account = account(vec![]);
    assert_eq!(account.fate(&told), Fate::Again(vec![None]));
    account.hand_backs = true;
    assert_eq!(account.fate(&told), Fate::Again(vec![None]), "it stays");
    account.log.pods = vec![leaving("a", 20.0)];
    let why = "handed back at the end of the grace period".to_owned();
    assert_eq!(account.fate(&told), Fate::Again(vec![Some(why)]));
    account.stories = vec![told];
    assert_eq!(check(&account).0.handed_back, (1, [1.0, 1.0]));
}

#[test]
fn a_task_that_conductor_queued_again_by_itself_is_told_by_its_log() {
    let twice = vec![
        execution("a", 11.0, None, Some(20.0)),
        execution("b", 11.1, Some(43.0), None),
    ];
    let told = story(vec![attempt(TaskStatus::Completed, 11.0, 43.0, twice)]);
    let mut account = account(vec![]);
    assert_eq!(account.fate(&told), Fate::Again(vec![None]));
    account.repaired = repaired(
        "1 [sweeper-thread-3] WARN  x.WorkflowSweeper [] - Going to repair the task t / only, with status SCHEDULED\nother",
    );
    assert_eq!(
        account.fate(&told),
        Fate::Again(vec![Some(REPAIRED.to_owned())])
    );
}

#[test]
fn results_that_waited_for_conductor_are_late_from_its_return() {
    let mut account = account(vec![event(Kind::ConductorRestart, None, 10.0, 20.0)]);
    let late = |done, taken| {
        let executed = execution("a", 9.0, Some(done), None);
        let attempt = attempt(TaskStatus::Completed, 9.0, taken, vec![executed]);
        story(vec![attempt])
    };
    account.stories = vec![late(9.5, 60.0), late(15.0, 20.5), late(16.0, 20.25)];
    assert_eq!(check(&account).0.after_return, Some(0.5));
}

#[test]
fn an_execution_beside_another_is_not_a_hand_back() {
    let twice = vec![
        execution("a", 11.0, Some(40.0), None),
        execution("b", 20.0, Some(43.0), None),
    ];
    let told = story(vec![attempt(TaskStatus::Completed, 11.0, 43.0, twice)]);
    let mut account = account(vec![]);
    account.hand_backs = true;
    assert_eq!(account.fate(&told), Fate::Again(vec![None]));
    account.events = vec![event(Kind::ConductorRestart, None, 15.0, 19.0)];
    let why = "Conductor restarted, delivered twice".to_owned();
    assert_eq!(account.fate(&told), Fate::Again(vec![Some(why)]));
}

#[test]
fn figures_count_everything_once() {
    let mut account = account(vec![event(Kind::SidecarKill, Some("a"), 20.0, 20.0)]);
    let mut lost = story(vec![]);
    lost.status = WorkflowStatus::Failed;
    account.stories = vec![
        story(vec![done(11.0, 13.0)]),
        story(vec![killed_at(20.0), done(40.0, 42.0)]),
        story(vec![killed_at(200.0), done(240.0, 242.0)]),
        lost,
    ];
    let (figures, wrong) = check(&account);
    assert_eq!((figures.tasks, figures.once, figures.lost), (4, 1, 1));
    assert_eq!(figures.repeated, 2, "one of them without a reason");
    assert_eq!((figures.retries, figures.timed_out), (2, 2));
    assert_eq!((figures.cut_off, figures.after_done), (2, 0));
    assert_eq!(figures.again["sidecar killed"], 1);
    assert!(figures.beyond.iter().all(|b| (b - 1.0).abs() < 1e-9));
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert!(wrong[0].starts_with("again without a reason: w of 2.0 s"));
    assert!(wrong[1].starts_with("lost: w"));
}
