//! Credentials and proxies: what they mean for tasks, and that they show nowhere.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use conductor_client::{ApiBase, Connection, Credentials};
use embedded_conductor::{Auth, Options, Tokens};
use futures::future::try_join_all;
use harness::{Handler, Mount, Proxy, Reply, Server, eventually, unique};
use serde_json::json;
use tokio::process::Command;
use worker_sidecar::config::{Config, HandlerConfig, TaskConfig};

use crate::{
    program::{free_port, sidecar},
    setup::{Running, SOON},
};

const SECRET: &str = "s3cr3t-of-the-key";

async fn server(lifetime: Duration) -> Result<Server> {
    let auth = Auth {
        lifetime,
        ..Auth::new("key-1", SECRET)
    };
    let options = Options {
        auth: Some(auth),
        ..Options::default()
    };
    Server::embedded_with(options).await
}

fn tokens(server: &Server) -> Result<&Tokens> {
    let embedded = server.as_embedded().context("not the in-memory one")?;
    embedded.tokens().context("it has no tokens")
}

fn config(server: &Server, handler: &Handler, task: &str, mount: &Mount) -> Result<Config> {
    let base: ApiBase = server.base().parse()?;
    let mut config = Config::new(base.clone(), vec![TaskConfig::new(task)], "w".to_owned());
    let keys = Credentials::Dir(mount.path().to_owned());
    config.conductor = Connection::new(base).with_credentials(keys)?;
    config.slots = 4;
    config.grace = Duration::from_secs(9);
    config.handler = HandlerConfig::new(handler.port());
    Ok(config)
}

/// All of them are done, each by one call.
async fn all_done(server: &Server, handler: &Handler, workflows: Vec<String>) -> Result<()> {
    try_join_all(workflows.iter().map(|id| server.completed(id, SOON * 2))).await?;
    let executions = handler.executions();
    ensure!(executions.len() == workflows.len(), "{}", executions.len());
    ensure!(executions.values().all(|&n| n == 1), "{executions:?}");
    Ok(())
}

async fn started(server: &Server, task: &str, number: u32) -> Result<Vec<String>> {
    try_join_all((0..number).map(|n| server.start(task, json!(n)))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_keys_and_revoked_tokens_fail_no_task_and_need_no_restart() -> Result<()> {
    let server = server(Duration::from_secs(3600)).await?;
    let task = server.register(&unique("task")).await?;
    let handler =
        Handler::start(|call| Reply::output(call.input.clone()).after(Duration::from_millis(20)))
            .await?;
    let mount = Mount::new(&[("key", "key-1"), ("secret", SECRET)])?;
    let running = Running::start(config(&server, &handler, &task, &mount)?)?;
    let workflows = started(&server, &task, 200).await?;
    handler_has(&handler, 20).await?;

    // The files first, then the server; and in the middle of the work the old tokens are over.
    mount.replace(&[("key", "key-2"), ("secret", "another")])?;
    tokens(&server)?.set(Auth::new("key-2", "another"));
    tokens(&server)?.revoke();
    handler_has(&handler, 100).await?;
    tokens(&server)?.expire();
    handler_has(&handler, 150).await?;
    // The suite's own client has the first key only.
    tokens(&server)?.set(Auth::new("key-1", SECRET));
    all_done(&server, &handler, workflows).await?;
    running.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_changes_keys_first_is_worked_for_again_once_the_files_have() -> Result<()> {
    let server = server(Duration::from_secs(3600)).await?;
    let task = server.register(&unique("task")).await?;
    let handler = Handler::start(|_| Reply::hang()).await?;
    let mount = Mount::new(&[("key", "key-1"), ("secret", SECRET)])?;
    let running = Running::start(config(&server, &handler, &task, &mount)?)?;
    let workflows = started(&server, &task, 8).await?;
    handler_has(&handler, 4).await?;

    tokens(&server)?.set(Auth::new("key-2", "another"));
    tokens(&server)?.revoke();
    handler.set(|call| Reply::output(call.input.clone()));
    handler.release();
    // Its results are refused now, and kept.
    eventually("wrong keys", SOON, async || {
        match tokens(&server).map(|tokens| tokens.counts().wrong_keys) {
            Ok(n) if n > 0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    mount.replace(&[("key", "key-2"), ("secret", "another")])?;
    let given = tokens(&server)?.counts().given;
    eventually("a token for the new keys", SOON, async || {
        match tokens(&server).map(|tokens| tokens.counts().given) {
            Ok(n) if n > given => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    tokens(&server)?.set(Auth::new("key-1", SECRET));
    all_done(&server, &handler, workflows).await?;
    running.end().await
}

async fn handler_has(handler: &Handler, calls: usize) -> Result<()> {
    eventually("calls of the handler", SOON, async || {
        match handler.ledger().len() {
            n if n >= calls => Ok(()),
            n => Err(n),
        }
    })
    .await
}

/// The program, set up for a server with authentication.
fn program(server: &Server, handler: &Handler, task: &str, port: u16) -> Command {
    let mut command = sidecar();
    command
        .env("CONDUCTOR_SERVER_URL", server.base())
        .env("CONDUCTOR_TASKS", json!([{"name": task}]).to_string())
        .env("HANDLER_PORT", handler.port().to_string())
        .env("LISTEN", format!("127.0.0.1:{port}"))
        .env("CONDUCTOR_AUTH_KEY", "key-1")
        .env("CONDUCTOR_AUTH_SECRET", SECRET)
        .env(
            "CONDUCTOR_HEADERS",
            json!({"X-Gateway": HEADER}).to_string(),
        )
        .env("RUST_BACKTRACE", "0");
    command
}

const HEADER: &str = "v4lu3-of-a-header";

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_in_no_log_metric_or_other_page() -> Result<()> {
    // Short-lived, so that tokens are bought, refused and bought again.
    let server = server(Duration::from_secs(1)).await?;
    let task = server.register(&unique("task")).await?;
    let handler = Handler::start(|call| Reply::output(call.input.clone())).await?;
    let port = free_port()?;
    let mut child = program(&server, &handler, &task, port)
        .env("LOG_LEVEL", "trace")
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let id = server.start(&task, json!("x")).await?;
    server.completed(&id, SOON).await?;
    tokens(&server)?.set(Auth::new("key-1", "another"));
    tokens(&server)?.revoke();
    let mut pages = String::new();
    eventually("an error in the metrics", SOON, async || {
        let url = format!("http://127.0.0.1:{port}/metrics");
        let page = reqwest::get(url).await.map_err(|e| e.to_string())?;
        pages = page.text().await.map_err(|e| e.to_string())?;
        let counted = |line: &str| line.starts_with("task_poll_error{") && line.contains("401");
        if pages.lines().any(counted) {
            Ok(())
        } else {
            Err(pages.clone())
        }
    })
    .await?;
    let stats = reqwest::get(format!("http://127.0.0.1:{port}/stats")).await?;
    pages += &stats.text().await?;
    child.start_kill()?;
    let out = child.wait_with_output().await?;
    let mut logs = String::from_utf8(out.stderr)?;
    logs += &String::from_utf8(out.stdout)?;
    ensure!(logs.contains("no token; tried again"), "{logs}");
    for text in [&logs, &pages] {
        // Every token begins with the same header.
        for secret in [SECRET, HEADER, "eyJ"] {
            let line = text.lines().find(|line| line.contains(secret));
            ensure!(line.is_none(), "{secret}: {line:?}");
        }
    }
    let help = program(&server, &handler, &task, port)
        .arg("--help")
        .output()
        .await?;
    let help = String::from_utf8(help.stdout)?;
    ensure!(help.contains("CONDUCTOR_AUTH_SECRET"), "{help}");
    for secret in [SECRET, HEADER, "key-1"] {
        ensure!(!help.contains(secret), "{secret}: {help}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_of_the_environment_is_used_for_conductor_alone() -> Result<()> {
    let server = server(Duration::from_secs(3600)).await?;
    let task = server.register(&unique("task")).await?;
    let handler = Handler::start(|call| Reply::output(call.input.clone())).await?;
    let proxy = Proxy::start().await?;
    let _child = program(&server, &handler, &task, free_port()?)
        .env("HTTP_PROXY", proxy.url())
        .stderr(Stdio::inherit())
        .spawn()?;
    let id = server.start(&task, json!("x")).await?;
    server.completed(&id, SOON).await?;
    let seen = proxy.seen();
    let to_server = |line: &String| line.contains(server.base());
    ensure!(!seen.is_empty() && seen.iter().all(to_server), "{seen:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_passes_tls_through() -> Result<()> {
    let server = server(Duration::from_secs(3600)).await?;
    let task = server.register(&unique("task")).await?;
    let handler = Handler::start(|call| Reply::output(call.input.clone())).await?;
    let authority = harness::Authority::new("ours")?;
    let clients = harness::Authority::new("clients")?;
    let own = clients.certify("worker")?;
    let mount = Mount::new(&[
        ("ca.crt", &authority.pem()),
        ("tls.crt", &own.certificate),
        ("tls.key", &own.key),
    ])?;
    let embedded = server.as_embedded().context("not the in-memory one")?;
    let front = harness::TlsFront::start(embedded.addr(), &authority, Some(&clients)).await?;
    let proxy = Proxy::start().await?;
    let _child = program(&server, &handler, &task, free_port()?)
        .env("CONDUCTOR_SERVER_URL", front.base())
        .env("CONDUCTOR_CA_FILE", mount.file("ca.crt"))
        .env("CONDUCTOR_CLIENT_CERT_FILE", mount.file("tls.crt"))
        .env("CONDUCTOR_CLIENT_KEY_FILE", mount.file("tls.key"))
        .env("HTTPS_PROXY", proxy.url())
        .stderr(Stdio::inherit())
        .spawn()?;
    let id = server.start(&task, json!("x")).await?;
    server.completed(&id, SOON).await?;
    let seen = proxy.seen();
    let tunnels = |line: &String| line.starts_with("CONNECT localhost:");
    ensure!(!seen.is_empty() && seen.iter().all(tunnels), "{seen:?}");
    Ok(())
}
