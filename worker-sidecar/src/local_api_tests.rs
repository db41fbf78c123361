use conductor_client::Task;
use serde_json::json;

use super::{update::RESERVED, *};
use crate::held::{Held, HeldTasks};

#[test]
fn only_loopback_is_served_and_no_browser() {
    let headers = |host: Option<&str>, origin: Option<&str>| {
        let mut headers = HeaderMap::new();
        for (name, value) in [(HOST, host), (ORIGIN, origin)] {
            if let Some(value) = value {
                headers.insert(name, value.parse().unwrap());
            }
        }
        headers
    };
    for (host, origin, uri, taken) in [
        (Some("127.0.0.1:2113"), None, "/", true),
        (Some("localhost:2113"), None, "/", true),
        (Some("LOCALHOST"), None, "/", true),
        (Some("[::1]:2113"), None, "/", true),
        (Some("127.8.9.1"), None, "/", true),
        (None, None, "/", false),
        (Some(""), None, "/", false),
        (Some("evil.example:2113"), None, "/", false),
        (Some("127.0.0.1.evil.example"), None, "/", false),
        (Some("localhost.evil.example"), None, "/", false),
        (Some("10.1.2.3:2113"), None, "/", false),
        (Some("0.0.0.0:2113"), None, "/", false),
        (Some("127.0.0.1"), None, "http://evil.example/", false),
        (Some("127.0.0.1"), None, "http://127.0.0.1/", true),
        (Some("127.0.0.1"), Some("http://127.0.0.1"), "/", false),
        (Some("127.0.0.1"), Some("null"), "/", false),
    ] {
        let checked = from_this_pod(&uri.parse().unwrap(), &headers(host, origin));
        assert_eq!(checked.is_ok(), taken, "{host:?} {origin:?} {uri}");
        if let Err(refusal) = checked {
            assert_eq!(refusal.status, StatusCode::FORBIDDEN);
        }
    }
    let mut twice = headers(Some("127.0.0.1"), None);
    twice.append(HOST, "evil.example".parse().unwrap());
    assert!(from_this_pod(&"/".parse().unwrap(), &twice).is_err());
}

#[test]
fn ids_and_names_cannot_become_another_call() {
    for id in ["0a1b-2c", "a.b:c_d", "queues"] {
        assert_eq!(id_of(id), Ok(id));
    }
    for id in RESERVED {
        assert_eq!(id_of(id), Err(Refusal::not_allowed()), "{id}");
    }
    for id in ["", ".", "..", "a/b", "search;x", "a b", "a%2fb", "größe"] {
        assert_eq!(
            id_of(id).unwrap_err().status,
            StatusCode::BAD_REQUEST,
            "{id}"
        );
    }
    for name in ["greet", "two words", "größe", "a?b"] {
        assert_eq!(name_of(name), Ok(name));
    }
    for name in ["", ".", "..", "a/b", "a\\b", "a;b", "a%2fb", "a\nb"] {
        assert_eq!(
            name_of(name).unwrap_err().status,
            StatusCode::BAD_REQUEST,
            "{name}"
        );
    }
}

fn held() -> Held {
    let json = json!({"taskId": "t", "workflowInstanceId": "w", "referenceTaskName": "r",
        "status": "IN_PROGRESS"});
    let task = Task::from_json(&json.to_string()).unwrap();
    HeldTasks::default().hold(&task)
}

#[test]
fn what_an_update_does_to_a_held_task() {
    use UpdateStatus::{Canceled, Completed, Failed, FailedWithTerminalError};
    let held = held();
    for (update, expected) in [
        (json!({"status": "COMPLETED"}), Ok(Some(Completed))),
        (json!({"status": "FAILED"}), Ok(Some(Failed))),
        (
            json!({"status": "FAILED_WITH_TERMINAL_ERROR"}),
            Ok(Some(FailedWithTerminalError)),
        ),
        (
            json!({"status": "CANCELED", "extendLease": false}),
            Ok(Some(Canceled)),
        ),
        (json!({"status": "IN_PROGRESS"}), Err(409)),
        (
            json!({"status": "IN_PROGRESS", "extendLease": null}),
            Err(409),
        ),
        (
            json!({"status": "IN_PROGRESS", "extendLease": true}),
            Ok(None),
        ),
        (
            json!({"status": "COMPLETED", "extendLease": true}),
            Ok(None),
        ),
        (json!({"status": "completed"}), Err(400)),
        (json!({"status": "TIMED_OUT"}), Err(400)),
        (json!({}), Err(400)),
        (
            json!({"status": "COMPLETED", "workflowInstanceId": "other"}),
            Err(400),
        ),
    ] {
        let mut whole = json!({"taskId": "t", "workflowInstanceId": "w", "outputData": {"a": [1]}});
        whole
            .as_object_mut()
            .unwrap()
            .extend(update.as_object().unwrap().clone());
        let text = whole.to_string();
        let done = Update::read(text.as_bytes()).unwrap().of_held(&held);
        assert_eq!(done.map_err(|r| r.status.as_u16()), expected, "{update}");
    }
    let conflict = ends(UpdateStatus::InProgress).unwrap_err().message;
    assert!(
        conflict.contains("202") && conflict.contains("log"),
        "{conflict}"
    );
}

#[test]
fn a_body_that_could_be_read_in_two_ways_is_refused() {
    for body in [
        "",
        "[]",
        "COMPLETED",
        r#"{"taskId":"t","taskId":"u"}"#,
        r#"{"taskId":7}"#,
        r#"{"taskId":"t","status":1}"#,
        r#"{"taskId":"t","extendLease":"true"}"#,
        r#"{"taskId":"t"} {}"#,
    ] {
        let refusal = Update::read(body.as_bytes()).unwrap_err();
        assert_eq!(refusal.status, StatusCode::BAD_REQUEST, "{body}");
        assert!(
            refusal.message.contains("no TaskResult"),
            "{}",
            refusal.message
        );
    }
    let escaped = Update::read(br#"{"taskId":"\u0074","logs":null}"#).unwrap();
    assert_eq!(escaped.task_id, "t");
}

#[test]
fn only_conductors_own_word_ends_a_task() {
    let held = held();
    for (body, confirmed) in [
        ("t", true),
        ("\"t\"\n", true),
        (r#"{"workflowId":"w","tasks":[{}]}"#, true),
        (r#"{"workflowId":"other"}"#, false),
        ("", false),
        ("u", false),
        ("<html>200 OK</html>", false),
    ] {
        assert_eq!(confirms(body.as_bytes(), &held), confirmed, "{body}");
    }
}
