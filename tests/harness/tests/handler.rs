//! The handler does as it is told and writes it down.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests may fail as tests do"
)]

use std::time::Duration;

use harness::{Handler, Reply, Server, eventually, unique};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const SOON: Duration = Duration::from_secs(5);

/// A call as a sidecar makes it; the whole answer, as far as it came.
async fn call(port: u16, id: &str) -> String {
    let mut socket = ask(port, id).await;
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

async fn ask(port: u16, id: &str) -> TcpStream {
    let body = json!({ "taskId": id, "inputData": { "n": 1 } }).to_string();
    let head = format!(
        "POST /greet HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    socket.write_all(head.as_bytes()).await.unwrap();
    socket
}

#[tokio::test]
async fn it_answers_as_told() {
    let handler = Handler::start(|call| match call.before {
        0 => Reply::output(json!({ "got": call.input["n"], "at": call.path })),
        1 => Reply::answer(503, "busy").header("retry-after", "7"),
        _ => Reply::broken(),
    })
    .await
    .unwrap();
    let first = call(handler.port(), "a").await;
    assert!(first.starts_with("HTTP/1.1 200") && first.ends_with(r#"{"at":"/greet","got":1}"#));
    let second = call(handler.port(), "a").await;
    assert!(second.starts_with("HTTP/1.1 503") && second.contains("retry-after: 7"));
    let third = call(handler.port(), "a").await;
    assert!(!third.contains("\r\n\r\n{"), "{third}");
    assert_eq!(handler.executions()["a"], 3);
    assert_eq!(handler.ledger()[0].path, "/greet");
}

#[tokio::test]
async fn what_hangs_runs_until_it_is_released_or_given_up() {
    let handler = Handler::start(|_| Reply::hang()).await.unwrap();
    let released = ask(handler.port(), "a").await;
    let given_up = ask(handler.port(), "b").await;
    let running = async |expected: usize| {
        eventually("calls run", SOON, async || match handler.running() {
            n if n == expected => Ok(()),
            n => Err(format!("{n} run")),
        })
        .await
        .unwrap();
    };
    running(2).await;
    drop(given_up);
    running(1).await;
    handler.release();
    running(0).await;
    drop(released);
    let ended: Vec<_> = handler
        .ledger()
        .iter()
        .map(|e| (e.task_id.clone(), e.ended.is_some(), e.abandoned))
        .collect();
    assert!(ended.contains(&("a".to_owned(), true, false)), "{ended:?}");
    assert!(ended.contains(&("b".to_owned(), false, true)), "{ended:?}");
    assert_eq!(handler.most_running(), 2);
}

#[tokio::test]
async fn a_server_takes_work_and_says_when_it_is_done() {
    let server = Server::embedded().await.unwrap();
    let workflow = server.register(&unique("t")).await.unwrap();
    let id = server.start(&workflow, json!(5)).await.unwrap();
    let task = server.client().poll(&workflow, "me", None).await.unwrap();
    assert_eq!(task.unwrap().input_data(), r#"{"value":5}"#);
    server
        .client()
        .terminate_workflow(&id, "enough")
        .await
        .unwrap();
    let error = server.completed(&id, SOON).await.unwrap_err().to_string();
    assert!(error.contains("Terminated: enough"), "{error}");
    assert_eq!(server.as_embedded().unwrap().counts().failed, 1);
}
