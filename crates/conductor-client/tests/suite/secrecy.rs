//! Nothing that can be read shows a secret.

use std::{
    fmt::Write as _,
    io,
    sync::{Arc, Mutex},
};

use anyhow::{Result, ensure};
use conductor_client::Client;
use harness::{Handler, Reply};
use serde_json::json;
use tracing_subscriber::{fmt::MakeWriter, util::SubscriberInitExt as _};

use crate::{SECRET, call, connection, credentials, result};

const TOKEN: &str = "t0k3n-of-the-server";
const HEADER: &str = "v4lu3-of-a-header";

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
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
        _ => Reply::answer(
            401,
            json!({ "message": format!("bad token {TOKEN}") }).to_string(),
        ),
    });
    server.await
}

/// On one thread, so that all it logs is caught.
#[tokio::test]
async fn no_secret_in_debug_errors_or_logs() -> Result<()> {
    let lines = Lines::default();
    let _caught = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(lines.clone())
        .finish()
        .set_default();
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
        let connection = connection(&format!("http://127.0.0.1:{}", server.port()))?
            .with_credentials(credentials("key-1", SECRET))?
            .with_headers([("X-Gateway", HEADER)])?;
        write!(shown, "{connection:?} {connection:#?}")?;
        let client = Client::with_connection(connection)?;
        write!(shown, "{client:?} {client:#?}")?;
        let failed = [
            call(&client).await.unwrap_err(),
            client.update_task(&result()).await.unwrap_err(),
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
