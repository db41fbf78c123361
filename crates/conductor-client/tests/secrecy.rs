//! Nothing that can be read shows a secret. A program of its own, since it catches all that is
//! logged.

use std::{
    fmt::Write as _,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Result, ensure};
use conductor_client::{ApiBase, Client, Connection, Credentials, TaskResult, UpdateStatus};
use harness::{Handler, Reply};
use serde_json::json;
use tracing_subscriber::{fmt::MakeWriter, util::SubscriberInitExt as _};

const SECRET: &str = "s3cr3t-of-the-key";
const TOKEN: &str = "t0k3n-of-the-server";
const HEADER: &str = "v4lu3-of-a-header";

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// A server that quotes whatever it gets.
async fn quoting(token_answer: fn() -> Reply) -> Result<Handler> {
    let server = Handler::start(move |call| match call.path.as_str() {
        "/api/token" => token_answer(),
        "/api/tasks" | "/api/tasks/update-v2" => Reply::answer(200, format!("<html>{TOKEN}")),
        "/api/metadata/workflow" => Reply::answer(200, json!(TOKEN).to_string()),
        _ => Reply::answer(
            401,
            json!({ "message": format!("bad token {TOKEN}") }).to_string(),
        ),
    });
    server.await
}

fn result() -> TaskResult {
    TaskResult {
        workflow_instance_id: "w".to_owned(),
        task_id: "t".to_owned(),
        status: UpdateStatus::Completed,
        worker_id: "me".to_owned(),
        output_data: None,
        reason_for_incompletion: None,
        callback_after_seconds: 0,
        logs: Vec::new(),
    }
}

#[tokio::test]
async fn no_secret_in_debug_errors_or_logs() -> Result<()> {
    let lines = Lines::default();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(lines.clone())
        .finish()
        .init();
    runtime::install_tls_provider();
    let mut shown = String::new();
    let answers: [fn() -> Reply; 5] = [
        || Reply::output(json!({ "token": TOKEN })),
        || {
            Reply::answer(
                403,
                json!({ "message": format!("no {SECRET}") }).to_string(),
            )
        },
        || Reply::answer(500, format!("<html>{SECRET}")),
        || Reply::answer(200, json!(TOKEN).to_string()),
        || Reply::output(json!({ "token": format!("{TOKEN}\n") })),
    ];
    for answer in answers {
        let server = quoting(answer).await?;
        let base = ApiBase::parse(&format!("http://127.0.0.1:{}", server.port()))?;
        let credentials = Credentials::Given {
            key: "key-1".to_owned(),
            secret: SECRET.into(),
        };
        let connection = Connection::new(base)
            .with_credentials(credentials)?
            .with_headers([("X-Gateway", HEADER)])?;
        write!(shown, "{connection:?} {connection:#?}")?;
        let client = Client::with_connection(connection)?;
        write!(shown, "{client:?} {client:#?}")?;
        let failed = [
            client.update_task(&result()).await.unwrap_err(),
            client.update_task_v2(&result()).await.unwrap_err(),
            client.register_workflow_defs(&[]).await.unwrap_err(),
            client.poll_data("t").await.unwrap_err(),
            client.log_task("t", "line").await.unwrap_err(),
        ];
        for error in failed {
            writeln!(shown, "{error} {error:?} {error:#?}")?;
        }
    }
    let logs = String::from_utf8(lines.0.lock().unwrap().clone())?;
    ensure!(logs.contains("no token; tried again"), "{logs}");
    ensure!(shown.contains("[hidden]"), "{shown}");
    for text in [&logs, &shown] {
        for secret in [SECRET, TOKEN, HEADER] {
            ensure!(!text.contains(secret), "{secret} in {text}");
        }
    }
    Ok(())
}
