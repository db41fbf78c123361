//! Executions of one attempt.

use super::*;

fn fate(account: &Account, first: Execution, second: Execution) -> Fate {
    let status = TaskStatus::Completed;
    account.fate(&story(vec![attempt(
        status,
        1.0,
        99.0,
        vec![first, second],
    )]))
}

#[test]
fn what_could_have_finished_is_not_handed_back() {
    let mut account = account(vec![]);
    account.hand_backs = true;
    account.log.pods = vec![leaving("a", 20.0)];
    let cut = |pod, at| {
        let second = execution("b", at + 0.1, Some(90.0), None);
        fate(&account, execution(pod, 11.0, None, Some(at)), second)
    };
    let why = "handed back at the end of the grace period".to_owned();
    let handed_back = Fate::Again(vec![Some(why)]);
    let unexplained = Fate::Again(vec![None]);
    // Of 30 s tasks have 20.
    assert_eq!(cut("a", 47.0), handed_back);
    assert_eq!(cut("a", 38.0), handed_back);
    assert_eq!(cut("a", 36.0), unexplained, "too early");
    assert_eq!(cut("a", 60.0), unexplained, "after its end");
    assert_eq!(cut("c", 47.0), unexplained, "another pod");
}

#[test]
fn who_is_written_down_first_decides_nothing() {
    let mut account = account(vec![]);
    account.hand_backs = true;
    account.log.pods = vec![leaving("a", 20.0)];
    let told = |began| {
        let twice = vec![
            execution("a", 11.0, None, Some(47.0)),
            execution("b", began, Some(90.0), None),
        ];
        story(vec![attempt(TaskStatus::Completed, 11.0, 90.0, twice)])
    };
    account.stories = vec![told(46.9), told(47.5)];
    let (figures, wrong) = check(&account);
    assert_eq!(figures.handed_back, (2, [0.0, 0.5]), "{wrong:?}");
    account.stories = vec![told(40.0)];
    assert_eq!(check(&account).0.handed_back.0, 0, "beside the other");
}

#[test]
fn a_kill_gives_an_attempt_to_nobody_else() {
    let mut account = account(vec![event(Kind::SidecarKill, Some("a"), 20.0, 20.0)]);
    let twice = |account: &Account| {
        let second = execution("b", 21.0, Some(23.0), None);
        fate(account, execution("a", 11.0, None, Some(20.0)), second)
    };
    assert_eq!(twice(&account), Fate::Again(vec![None]));
    account.repaired.insert("t".to_owned());
    let why = Fate::Again(vec![Some(REPAIRED.to_owned())]);
    assert_eq!(twice(&account), why);
}

#[test]
fn what_a_server_has_forgotten_comes_again_soon() {
    let account = account(vec![event(Kind::ConductorRestart, None, 15.0, 30.0)]);
    let twice = |began, second| {
        let first = execution("a", began, Some(began + 1.0), None);
        fate(&account, first, execution("b", second, Some(99.0), None))
    };
    let why = || {
        Fate::Again(vec![Some(
            "Conductor restarted, delivered twice".to_owned(),
        )])
    };
    let unexplained = Fate::Again(vec![None]);
    assert_eq!(twice(11.0, 31.0), why());
    // Half a minute after its end what nobody had acknowledged is in its queue again.
    assert_eq!(twice(11.0, 59.0), why());
    assert_eq!(twice(11.0, 61.0), unexplained, "later");
    assert_eq!(twice(11.0, 11.5), unexplained, "before");
    assert_eq!(twice(34.0, 36.0), unexplained, "it was back");
}

#[test]
fn what_a_handler_did_that_is_killed_as_its_pod_ends_is_handed_back() {
    let fate = |kind, left, first: Execution| {
        let mut account = account(vec![event(kind, Some("a"), 19.5, 20.0)]);
        account.log.pods = vec![leaving("a", left)];
        fate(&account, first, execution("b", 20.5, Some(90.0), None))
    };
    let open = |pod| execution(pod, 11.0, None, None);
    let oom = |left, first| fate(Kind::HandlerOom, left, first);
    let why = "handler out of memory as its pod ended".to_owned();
    assert_eq!(oom(19.6, open("a")), Fate::Again(vec![Some(why)]));
    let unexplained = Fate::Again(vec![None]);
    assert_eq!(oom(30.0, open("a")), unexplained, "it stayed");
    assert_eq!(oom(19.6, open("c")), unexplained, "another pod");
    let late = execution("a", 25.0, None, None);
    assert_eq!(oom(19.6, late), unexplained, "begun later");
    let done = execution("a", 11.0, Some(19.0), None);
    assert_eq!(oom(19.6, done), unexplained, "it was done");
    let cut = execution("a", 11.0, None, Some(19.9));
    assert_eq!(oom(19.6, cut), unexplained, "somebody closed the call");
    let hung = fate(Kind::HandlerHang, 19.6, open("a"));
    assert_eq!(hung, unexplained, "nothing was killed");
}
