//! Connections to servers: tokens, files that change, TLS, headers.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests may fail as tests do"
)]

mod tls;
mod tokens;

use std::time::Duration;

use anyhow::Result;
use conductor_client::{ApiBase, Client, Connection, Credentials, Error, TaskResult, UpdateStatus};
use embedded_conductor::{Auth, Embedded, Options};

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(30);

const SECRET: &str = "s3cr3t-of-the-key";

fn auth() -> Auth {
    Auth::new("key-1", SECRET)
}

async fn server(auth: Option<Auth>) -> Result<Embedded> {
    runtime::install_tls_provider();
    let options = Options {
        auth,
        ..Options::default()
    };
    Ok(Embedded::start(options).await?)
}

fn connection(base: &str) -> Result<Connection> {
    runtime::install_tls_provider();
    Ok(Connection::new(ApiBase::parse(base)?))
}

fn credentials(key: &str, secret: &str) -> Credentials {
    Credentials::Given {
        key: key.to_owned(),
        secret: secret.into(),
    }
}

fn client(base: &str) -> Result<Client> {
    let connection = connection(base)?.with_credentials(credentials("key-1", SECRET))?;
    Ok(Client::with_connection(connection)?)
}

/// A call that any server answers.
async fn call(client: &Client) -> Result<(), Error> {
    client.poll_data("t").await.map(drop)
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
