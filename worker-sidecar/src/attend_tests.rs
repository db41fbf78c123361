//! What the server's times say.

use super::*;

fn task(times: &str) -> Task {
    let json =
        format!(r#"{{"taskId":"t","workflowInstanceId":"w","status":"IN_PROGRESS",{times}}}"#);
    Task::from_json(&json).unwrap()
}

#[test]
fn times_are_the_servers() {
    for (times, since, millis) in [
        (
            r#""scheduledTime":1000,"startTime":3000,"updateTime":3000"#,
            1000,
            2000,
        ),
        (
            r#""scheduledTime":1000,"startTime":3000,"updateTime":9000"#,
            3000,
            6000,
        ),
        (
            r#""scheduledTime":1000,"startTime":3000,"updateTime":1000"#,
            1000,
            2000,
        ),
        (
            r#""scheduledTime":5000,"startTime":3000,"updateTime":3000"#,
            5000,
            0,
        ),
        (r#""startTime":3000"#, 0, 0),
    ] {
        let elapsed = elapsed(&task(times), since);
        assert_eq!(elapsed, Duration::from_millis(millis), "{times}");
    }
    assert!(elapsed(&task(r#""pollCount":1"#), 1000) > Duration::from_secs(1_000_000_000));
}

#[test]
fn only_the_first_delivery_waited() {
    let first = task(r#""scheduledTime":1000,"startTime":3500,"pollCount":1"#);
    assert_eq!(first_wait(&first), Some(Duration::from_millis(2500)));
    let second = task(r#""scheduledTime":1000,"startTime":3500,"pollCount":2"#);
    assert_eq!(first_wait(&second), None);
}
