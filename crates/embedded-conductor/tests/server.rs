//! What tests of others ask of the server: faults, going away and coming back, counts.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests may fail as tests do"
)]

use std::time::Duration;

use conductor_client::{
    ApiBase, BatchPoll, Client, Kind, StartWorkflow, TaskDef, TaskResult, TaskStatus, UpdateStatus,
    WorkflowDef,
};
use embedded_conductor::{Embedded, Fault, Move, On, Options};

async fn server() -> (Embedded, Client) {
    runtime::install_tls_provider();
    let embedded = Embedded::start(Options::default()).await.unwrap();
    let client = Client::new(ApiBase::parse(&embedded.base()).unwrap()).unwrap();
    client
        .register_task_defs(&[TaskDef::named("t")])
        .await
        .unwrap();
    let workflow = WorkflowDef::sequence("w", [("t", "ref")]);
    client.register_workflow_defs(&[workflow]).await.unwrap();
    (embedded, client)
}

async fn polled(client: &Client) -> conductor_client::Task {
    let start = StartWorkflow {
        name: "w".to_owned(),
        ..StartWorkflow::default()
    };
    client.start_workflow(&start).await.unwrap();
    client.poll("t", "me", None).await.unwrap().unwrap()
}

fn completed(task: &conductor_client::Task) -> TaskResult {
    TaskResult {
        workflow_instance_id: task.workflow_id().to_owned(),
        task_id: task.task_id().to_owned(),
        status: UpdateStatus::Completed,
        worker_id: "me".to_owned(),
        output_data: None,
        reason_for_incompletion: None,
        callback_after_seconds: 0,
        logs: Vec::new(),
    }
}

#[tokio::test]
async fn a_status_is_answered_and_nothing_done() {
    let (embedded, client) = server().await;
    let task = polled(&client).await;
    embedded
        .faults()
        .set_times(Fault::Status(503), On::Updates, 2);
    for _ in 0..2 {
        let error = client.update_task(&completed(&task)).await.unwrap_err();
        assert_eq!(error.status(), Some(503));
    }
    let status = client.get_task(task.task_id()).await.unwrap().status();
    assert_eq!(status, TaskStatus::InProgress);
    client.update_task(&completed(&task)).await.unwrap();
    assert_eq!(embedded.counts().completed, 1);
}

#[tokio::test]
async fn an_answer_is_lost_and_all_is_done() {
    let (embedded, client) = server().await;
    let task = polled(&client).await;
    embedded.faults().set(Fault::LoseAnswer, On::Updates);
    let error = client.update_task(&completed(&task)).await.unwrap_err();
    assert_eq!(
        (error.status(), error.kind()),
        (None, Kind::Retryable { after: None })
    );
    assert_eq!(embedded.counts().completed, 1);
    embedded.faults().clear();
    client.update_task(&completed(&task)).await.unwrap();
    assert_eq!(
        (embedded.counts().updates, embedded.counts().discarded),
        (1, 1)
    );
}

#[tokio::test]
async fn what_hangs_is_let_go_when_the_fault_is_cleared() {
    let (embedded, client) = server().await;
    embedded.faults().set(Fault::Hang, On::Polls);
    let poll = tokio::spawn(async move { client.poll("t", "me", None).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!poll.is_finished());
    embedded.faults().clear();
    assert_eq!(poll.await.unwrap().unwrap_err().status(), None);
    assert_eq!(embedded.counts().polls, 0);
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_at_work_is_not() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let options = Options {
        idle_close: Some(Duration::from_millis(300)),
        ..Options::default()
    };
    let embedded = Embedded::start(options).await.unwrap();
    let mut socket = tokio::net::TcpStream::connect(embedded.addr())
        .await
        .unwrap();
    let poll = "GET /api/tasks/poll/batch/t?timeout=1000 HTTP/1.1\r\nHost: x\r\n\r\n";
    socket.write_all(poll.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let all = socket.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(30), all)
        .await
        .expect("it is closed")
        .unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("[]"),
        "{answer}"
    );
}

#[tokio::test]
async fn it_goes_away_and_comes_back_with_what_it_knew() {
    let (mut embedded, client) = server().await;
    let task = polled(&client).await;
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move {
            let poll = BatchPoll {
                task_type: "t",
                worker_id: "me",
                domain: None,
                count: 1,
                wait: Duration::from_secs(5),
            };
            client.batch_poll(poll).await
        })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    embedded.go_away().await;
    assert_eq!(waiting.await.unwrap().unwrap_err().status(), None);
    assert_eq!(
        client
            .update_task(&completed(&task))
            .await
            .unwrap_err()
            .status(),
        None
    );
    embedded.come_back().await.unwrap();
    client.update_task(&completed(&task)).await.unwrap();
    assert_eq!(embedded.counts().completed, 1);
    embedded.stop().await;
    assert!(client.get_task(task.task_id()).await.is_err());
}

#[tokio::test]
async fn the_journal_has_each_step_of_a_task_once_and_in_order() {
    runtime::install_tls_provider();
    let options = Options {
        journal: true,
        ..Options::default()
    };
    let embedded = Embedded::start(options).await.unwrap();
    let client = Client::new(ApiBase::parse(&embedded.base()).unwrap()).unwrap();
    let workflow = WorkflowDef::sequence("w", [("t", "ref")]);
    client.register_workflow_defs(&[workflow]).await.unwrap();
    let task = polled(&client).await;
    client.update_task(&completed(&task)).await.unwrap();
    let journal = embedded.take_journal();
    let moves: Vec<_> = journal.iter().map(|m| (&*m.task, m.what)).collect();
    let id = task.task_id();
    assert_eq!(
        moves,
        [(id, Move::Queued), (id, Move::Given), (id, Move::Ended)]
    );
    assert!(journal.is_sorted_by_key(|m| m.at));
    // The API's times are whole milliseconds of the same clock, read a moment earlier.
    let late = journal[0].at - task.scheduled_time() * 1000;
    assert!((-1_000_000..60_000_000).contains(&late), "{late} µs");
    assert_eq!(embedded.take_journal(), []);
}
