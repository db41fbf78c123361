//! The status table, row by row.

use super::*;
use crate::task_result::TASK_RESULT;

const NOW: &str = "2026-11-24T12:00:00Z";
const JSON: &str = "application/json";

struct Row {
    status: u16,
    content_type: &'static str,
    retry_after: Option<&'static str>,
    body: &'static str,
    end: End,
    output: Option<&'static str>,
    reason: Option<&'static str>,
}

fn row(status: u16, body: &'static str, end: End) -> Row {
    Row {
        status,
        content_type: JSON,
        retry_after: None,
        body,
        end,
        output: None,
        reason: None,
    }
}

impl Row {
    fn kind(self, content_type: &'static str) -> Self {
        Self {
            content_type,
            ..self
        }
    }
    fn after(self, retry_after: &'static str) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..self
        }
    }
    fn out(self, output: &'static str) -> Self {
        Self {
            output: Some(output),
            ..self
        }
    }
    fn why(self, reason: &'static str) -> Self {
        Self {
            reason: Some(reason),
            ..self
        }
    }
}

fn judged(ended: Ended, minutes: u64) -> Outcome {
    let given = Circumstances {
        terminal: &StatusSet::default(),
        now: NOW.parse().unwrap(),
    };
    unless_circling(judge(ended, &given), Duration::from_secs(60 * minutes))
}

const fn back(after: u64) -> End {
    End::HandedBack {
        cause: Cause::Busy,
        after,
    }
}

#[test]
fn the_status_table() {
    use End::{Canceled, Completed, Deferred, Failed, Terminal};
    use Fault::{BadResult, ClientError, Handler, NoAnswer, NotJson, ServerError};
    let rows = [
        // 200/201
        row(200, r#"{"a": 1.50}"#, Completed).out(r#"{"a": 1.50}"#),
        row(201, r#" {"a":1} "#, Completed).out(r#"{"a":1}"#),
        row(200, r#"{"a":1}"#, Completed).kind("text/plain").out(r#"{"a":1}"#),
        row(200, "[1,2]", Completed).out(r#"{"result":[1,2]}"#),
        row(200, "\"x\"", Completed).out(r#"{"result":"x"}"#),
        row(200, "null", Completed).out(r#"{"result":null}"#),
        row(200, "done", Terminal(NotJson)).why("the handler's answer is not JSON: expected value at line 1 column 1"),
        row(200, r#"{"a":"#, Terminal(NotJson)).why("the handler's answer is not JSON: EOF while parsing a value at line 1 column 5"),
        row(200, "", Completed).out("{}"),
        row(200, " \n", Completed).out("{}"),
        row(204, "", Completed).out("{}"),
        // 202
        row(202, "", Deferred { after: 60 }),
        row(202, r#"{"p":1}"#, Deferred { after: 60 }).out(r#"{"p":1}"#),
        row(202, "5", Deferred { after: 7 }).after("7").out(r#"{"result":5}"#),
        row(202, "", Deferred { after: 90 }).after("Tue, 24 Nov 2026 12:01:30 GMT"),
        row(202, "", Deferred { after: 0 }).after("Tue, 24 Nov 2026 11:00:00 GMT"),
        row(202, "", Deferred { after: 60 }).after("soon"),
        row(202, "soon", Terminal(NotJson)).why("the handler's answer is not JSON: expected value at line 1 column 1"),
        // 429/503
        row(429, "", back(0)),
        row(429, "slow down", back(12)).after("12"),
        row(503, "", back(30)).after("Tue, 24 Nov 2026 12:00:30 GMT"),
        // to be retried
        row(408, "", Failed(ClientError)).why("the handler answered 408"),
        row(425, "early", Failed(ClientError)).why("early"),
        row(500, r#"{"error":"E"}"#, Failed(ServerError)).why("E"),
        row(502, "bad gateway", Failed(ServerError)).kind("text/html").why("bad gateway"),
        row(599, "", Failed(ServerError)).why("the handler answered 599"),
        // for good
        row(400, r#"{"title":"T","detail":"D"}"#, Terminal(ClientError)).kind("application/problem+json").why("D"),
        row(404, "", Terminal(ClientError)).why("the handler answered 404"),
        row(422, r#"{"message":"M"}"#, Terminal(ClientError)).why("M"),
        row(302, "", Terminal(NoAnswer)).why("the handler answered 302: it must answer itself, without a redirect or an upgrade"),
        row(101, "", Terminal(NoAnswer)).why("the handler answered 101: it must answer itself, without a redirect or an upgrade"),
        // a task result
        row(200, r#"{"status":"COMPLETED","outputData":{"a":1}}"#, Completed).kind(TASK_RESULT).out(r#"{"a":1}"#),
        row(200, r#"{"status":"COMPLETED","outputData":null,"taskId":"not mine"}"#, Completed).kind(TASK_RESULT).out("{}"),
        row(200, r#"{"status":"FAILED","reasonForIncompletion":"R","outputData":{}}"#, Failed(Handler))
            .kind(TASK_RESULT)
            .out("{}")
            .why("R"),
        row(201, r#"{"status":"FAILED_WITH_TERMINAL_ERROR"}"#, Terminal(Handler)).kind(TASK_RESULT),
        row(200, r#"{"status":"CANCELED"}"#, Canceled).kind(TASK_RESULT),
        row(202, r#"{"status":"IN_PROGRESS","callbackAfterSeconds":5}"#, Deferred { after: 5 }).kind(TASK_RESULT).after("9"),
        row(202, r#"{"status":"IN_PROGRESS"}"#, Deferred { after: 9 }).kind(TASK_RESULT).after("9"),
        row(200, r#"{"status":"IN_PROGRESS"}"#, Deferred { after: 60 }).kind(TASK_RESULT),
        row(200, r#"{"outputData":{}}"#, Terminal(BadResult))
            .kind(TASK_RESULT)
            .why("the handler's task result cannot be read: missing field `status` at line 1 column 17"),
        row(200, r#"{"status":"COMPLETED","outputData":[]}"#, Terminal(BadResult))
            .kind(TASK_RESULT)
            .why("the handler's task result cannot be read: outputData is not a JSON object"),
        row(200, "", Terminal(BadResult))
            .kind(TASK_RESULT)
            .why("the handler's task result cannot be read: EOF while parsing a value at line 1 column 0"),
        // A failing status is not a result, whatever its type.
        row(500, r#"{"status":"COMPLETED","message":"M"}"#, Failed(ServerError)).kind(TASK_RESULT).why("M"),
    ];
    for row in rows {
        let context = format!("{} {:?} {}", row.status, row.retry_after, row.body);
        let outcome = judged(
            Ended::Answered(Answer {
                status: row.status,
                content_type: row.content_type.to_owned(),
                retry_after: row.retry_after.map(str::to_owned),
                body: Bytes::from_static(row.body.as_bytes()),
            }),
            1,
        );
        assert_eq!(outcome.end, row.end, "{context}");
        assert_eq!(
            outcome.output.as_deref().map(RawValue::get),
            row.output,
            "{context}"
        );
        assert_eq!(outcome.reason.as_deref(), row.reason, "{context}");
        assert!(outcome.logs.is_empty(), "{context}");
    }
}

#[test]
fn without_an_answer() {
    use Fault::{CutOff, Deadline, ExternalInput, LeaseLost, TooLarge};
    let handed = |cause| End::HandedBack { cause, after: 0 };
    let rows = [
        (Ended::Refused, handed(Cause::Refused), ""),
        (Ended::ShutDown, handed(Cause::Shutdown), ""),
        (Ended::Surplus, handed(Cause::Surplus), ""),
        (Ended::CutOff("reset".into()), End::Failed(CutOff), "reset"),
        (Ended::Deadline, End::Failed(Deadline), "deadline"),
        (
            Ended::LeaseLost,
            End::Failed(LeaseLost),
            "given the task up",
        ),
        (
            Ended::TooLarge {
                size: Some(11),
                limit: 10,
            },
            End::Terminal(TooLarge),
            "11 bytes long, more than the limit of 10 bytes",
        ),
        (
            Ended::TooLarge {
                size: None,
                limit: 10,
            },
            End::Terminal(TooLarge),
            "more than the limit of 10 bytes",
        ),
        (
            Ended::ExternalInput("x/y.json".into()),
            End::Terminal(ExternalInput),
            "(x/y.json)",
        ),
    ];
    for (ended, end, says) in rows {
        let context = format!("{ended:?}");
        let outcome = judged(ended, 1);
        assert_eq!(outcome.end, end, "{context}");
        let reason = outcome.reason.unwrap_or_default();
        assert!(reason.contains(says), "{context}: {reason}");
    }
}

#[test]
fn nothing_circles_for_ever() {
    let busy = || {
        Ended::Answered(Answer {
            status: 503,
            ..Answer::default()
        })
    };
    assert_eq!(judged(busy(), 14).end, back(0));
    let failed = judged(busy(), 15);
    assert_eq!(failed.end, End::Failed(Fault::Circling));
    assert_eq!(
        failed.reason.unwrap(),
        "the handler was busy (its last answer: 503), 15 minutes after the task first started"
    );
    let refused = judged(Ended::Refused, 16);
    assert_eq!(refused.end, End::Failed(Fault::Circling));
    assert_eq!(
        refused.reason.unwrap(),
        "the handler was not ready, 16 minutes after the task first started"
    );
    // A shutdown is not the task's doing.
    assert!(matches!(
        judged(Ended::ShutDown, 60).end,
        End::HandedBack { .. }
    ));
}

#[test]
fn no_wish_of_a_busy_handler_reaches_past_the_fifteen_minutes() {
    for (age, wish, after) in [
        (0, "0", 0),
        (0, "30", 30),
        (0, "900", 900),
        (0, "901", 900),
        (60, "2147483647", 840),
        (60, "18446744073709551615", 840),
        (60, "Tue, 24 Nov 2026 12:01:00 GMT", 60),
        (60, "Wed, 24 Nov 2027 12:00:00 GMT", 840),
        (840, "30", 30),
        (840, "3600", 60),
        (893, "3600", 7),
        (899, "3600", 5),
        (899, "2", 2),
    ] {
        let busy = Outcome::handed_back(
            Cause::Busy,
            retry_after(wish, NOW.parse().unwrap()).unwrap(),
        );
        let bounded = unless_circling(busy, Duration::from_secs(age));
        assert_eq!(bounded.end, back(after), "{wish:?} after {age} s");
    }
    // Its own word that it has begun, and to come again later, is heeded.
    let later = Ended::Answered(Answer {
        status: 202,
        retry_after: Some("86400".to_owned()),
        ..Answer::default()
    });
    assert_eq!(judged(later, 14).end, End::Deferred { after: 86_400 });
}

#[test]
fn which_statuses_are_terminal_can_be_set() {
    let terminal: StatusSet = "429,503,500".parse().unwrap();
    for (status, end) in [
        (429, End::Terminal(Fault::ClientError)),
        (503, End::Terminal(Fault::ServerError)),
        (500, End::Terminal(Fault::ServerError)),
        (404, End::Failed(Fault::ClientError)),
        (502, End::Failed(Fault::ServerError)),
    ] {
        let answer = Ended::Answered(Answer {
            status,
            ..Answer::default()
        });
        let given = Circumstances {
            terminal: &terminal,
            now: NOW.parse().unwrap(),
        };
        assert_eq!(judge(answer, &given).end, end, "{status}");
    }
}

#[test]
fn what_is_cut_goes_to_the_log() {
    let text = "x".repeat(600);
    let outcome = judged(
        Ended::Answered(Answer {
            status: 500,
            body: Bytes::from(text),
            ..Answer::default()
        }),
        0,
    );
    assert_eq!(outcome.reason.unwrap().len(), 500);
    assert_eq!(outcome.logs[0].log, format!("…{}", "x".repeat(100)));
}

#[test]
fn logs_of_a_task_result_are_taken() {
    let outcome = judged(
        Ended::Answered(Answer {
            status: 200,
            content_type: TASK_RESULT.to_owned(),
            body: Bytes::from_static(br#"{"status":"COMPLETED","logs":["one",{"log":"two","createdTime":5,"taskId":"x"}]}"#),
            ..Answer::default()
        }),
        0,
    );
    let logs: Vec<_> = outcome
        .logs
        .iter()
        .map(|l| (l.log.as_str(), l.created_time))
        .collect();
    assert_eq!(logs, [("one", 0), ("two", 5)]);
}

#[test]
fn words_are_distinct() {
    let mut words: Vec<_> = Fault::ALL.map(Fault::as_str).to_vec();
    words.extend(Cause::ALL.map(Cause::as_str));
    let count = words.len();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), count);
}

/// A handler that is told to stop says that it is busy, breaks its calls or refuses them: which of
/// these depends on its server.
#[test]
fn what_a_shutdown_explains_is_not_the_tasks_fault() {
    let answer = |status| {
        Ended::Answered(Answer {
            status,
            content_type: JSON.to_owned(),
            retry_after: Some("30".to_owned()),
            body: Bytes::new(),
        })
    };
    let end = |ended: Ended, terminal: &str| {
        let terminal = terminal.parse().unwrap();
        let given = Circumstances {
            terminal: &terminal,
            now: NOW.parse().unwrap(),
        };
        let ended = ended.in_a_shutdown(&terminal);
        unless_circling(judge(ended, &given), Duration::from_secs(20 * 60)).end
    };
    let back = End::HandedBack {
        cause: Cause::Shutdown,
        after: 0,
    };
    for ended in [answer(503), answer(429), Ended::Refused] {
        assert_eq!(end(ended, "400"), back);
    }
    assert_eq!(end(Ended::CutOff("reset".to_owned()), "400"), back);
    for (ended, terminal, expected) in [
        (answer(503), "503", End::Terminal(Fault::ServerError)),
        (answer(429), "429", End::Terminal(Fault::ClientError)),
        (answer(500), "400", End::Failed(Fault::ServerError)),
        (answer(200), "400", End::Completed),
        (answer(202), "400", End::Deferred { after: 30 }),
        (Ended::Deadline, "400", End::Failed(Fault::Deadline)),
        (Ended::LeaseLost, "400", End::Failed(Fault::LeaseLost)),
    ] {
        assert_eq!(end(ended, terminal), expected);
    }
}
