//! Tokens: bought once, ahead of their end, replaced when refused.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use conductor_client::{Client, Credentials, Kind, StartWorkflow, TaskDef, WorkflowDef};
use embedded_conductor::{Auth, Embedded, Fault, On, TokenCounts, Tokens};
use futures::future::join_all;
use harness::{Handler, Mount, Reply, eventually};
use serde_json::json;

use crate::{SECRET, SOON, auth, call, client, connection, credentials, result, server};

fn tokens(server: &Embedded) -> &Tokens {
    server.tokens().unwrap()
}

/// So many calls at once; the kinds of those that failed.
async fn at_once(client: &Client, calls: usize) -> Vec<Kind> {
    let calls = join_all((0..calls).map(|_| call(client))).await;
    let failed = calls.into_iter().filter_map(Result::err);
    failed.map(|error| error.kind()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_hundred_callers_buy_one_token() -> Result<()> {
    let server = server(Some(auth())).await?;
    let client = client(&server.base())?;
    ensure!(at_once(&client, 100).await.is_empty());
    let first = TokenCounts {
        given: 1,
        wrong_keys: 0,
        refused: 0,
    };
    ensure!(tokens(&server).counts() == first, "{:?}", tokens(&server));

    tokens(&server).expire();
    ensure!(at_once(&client, 100).await.is_empty());
    ensure!(tokens(&server).counts().given == 2, "{:?}", tokens(&server));
    Ok(())
}

#[tokio::test]
async fn the_next_token_is_bought_ahead_of_the_end_and_no_call_is_refused() -> Result<()> {
    let short = Auth {
        lifetime: Duration::from_secs(2),
        ..auth()
    };
    let server = server(Some(short)).await?;
    let _client = client(&server.base())?;
    // Nobody calls, so nobody but the client itself can have asked for another.
    eventually("a third token", SOON, async || {
        match tokens(&server).counts() {
            counts if counts.given >= 3 => Ok(()),
            counts => Err(format!("{counts:?}")),
        }
    })
    .await?;
    ensure!(tokens(&server).counts().refused == 0);
    Ok(())
}

#[tokio::test]
async fn a_refused_call_is_sent_again_exactly_once() -> Result<()> {
    for refusal in [401, 403] {
        let server = server(Some(Auth { refusal, ..auth() })).await?;
        let client = client(&server.base())?;
        client.register_task_defs(&[TaskDef::named("t")]).await?;
        let workflow = WorkflowDef::sequence("w", [("t", "ref")]);
        client.register_workflow_defs(&[workflow]).await?;
        let start = StartWorkflow {
            name: "w".to_owned(),
            ..StartWorkflow::default()
        };
        client.start_workflow(&start).await?;

        tokens(&server).expire();
        let task = client.poll("t", "me", None).await?.context("a task")?;
        ensure!(tokens(&server).counts().refused == 1);
        tokens(&server).revoke();
        let mut done = result();
        done.task_id = task.task_id().to_owned();
        done.workflow_instance_id = task.workflow_id().to_owned();
        client.update_task(&done).await?;
        let counts = tokens(&server).counts();
        ensure!((counts.refused, counts.given) == (2, 3), "{counts:?}");
        ensure!(server.counts().updates == 1);
    }
    Ok(())
}

#[tokio::test]
async fn tokens_that_are_never_good_end_in_unauthorized_without_a_storm() -> Result<()> {
    let useless = Auth {
        lifetime: Duration::ZERO,
        ..auth()
    };
    let server = server(Some(useless)).await?;
    let client = client(&server.base())?;
    let error = call(&client).await.unwrap_err();
    ensure!(
        (error.kind(), error.status()) == (Kind::Unauthorized, Some(401)),
        "{error}"
    );
    let counts = tokens(&server).counts();
    ensure!((counts.refused, counts.given) == (2, 2), "{counts:?}");
    for _ in 0..10 {
        let kinds = at_once(&client, 10).await;
        ensure!(kinds == [Kind::Unauthorized; 10], "{kinds:?}");
    }
    // Each costs a doubled pause more than the one before.
    ensure!(tokens(&server).counts().given < 10, "{:?}", tokens(&server));
    Ok(())
}

#[tokio::test]
async fn wrong_keys_are_tried_with_pauses_and_all_callers_share_the_failure() -> Result<()> {
    let server = server(Some(auth())).await?;
    let wrong = connection(&server.base())?.with_credentials(credentials("key-1", "no-such"))?;
    let client = Client::with_connection(wrong)?;
    for _ in 0..10 {
        let kinds = at_once(&client, 10).await;
        ensure!(kinds == [Kind::Unauthorized; 10], "{kinds:?}");
    }
    let counts = tokens(&server).counts();
    ensure!(counts.wrong_keys < 10, "{counts:?}");
    ensure!(counts.refused == 0, "nothing is sent without a token");
    let error = call(&client).await.unwrap_err().to_string();
    ensure!(error.starts_with("poll_data: no token: 401"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_token_endpoint_that_is_away_is_a_failure_that_passes() -> Result<()> {
    let server = server(Some(auth())).await?;
    server.faults().set(Fault::Status(503), On::Tokens);
    let client = client(&server.base())?;
    let error = call(&client).await.unwrap_err();
    ensure!(error.kind() == Kind::Retryable { after: None }, "{error}");
    server.faults().clear();
    eventually("a call", SOON, async || call(&client).await).await?;
    Ok(())
}

#[tokio::test]
async fn a_token_in_use_outlives_failures_to_buy_the_next() -> Result<()> {
    let short = Auth {
        lifetime: Duration::from_secs(2),
        ..auth()
    };
    let server = server(Some(short)).await?;
    let client = client(&server.base())?;
    call(&client).await?;
    tokens(&server).set(Auth::new("key-1", "another"));
    eventually("a failed purchase", SOON, async || {
        match tokens(&server).counts() {
            counts if counts.wrong_keys > 0 => Ok(()),
            counts => Err(format!("{counts:?}")),
        }
    })
    .await?;
    tokens(&server).set(auth());
    eventually("a call", SOON, async || call(&client).await).await?;
    Ok(())
}

#[tokio::test]
async fn a_server_without_tokens_is_used_without_and_not_asked_each_time() -> Result<()> {
    let open = server(None).await?;
    let client = client(&open.base())?;
    ensure!(at_once(&client, 10).await.is_empty());

    let asked = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = asked.clone();
    let open = Handler::start(move |call| match call.path.as_str() {
        "/api/token" => {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Reply::answer(
                404,
                r#"{"status":404,"message":"No static resource token."}"#,
            )
        }
        _ if call.headers.contains_key("x-authorization") => Reply::answer(400, "a token?"),
        _ => Reply::answer(200, "t"),
    })
    .await?;
    let client = crate::client(&format!("http://127.0.0.1:{}", open.port()))?;
    for _ in 0..10 {
        client.update_task(&result()).await?;
    }
    ensure!(asked.load(std::sync::atomic::Ordering::Relaxed) == 1);
    Ok(())
}

#[tokio::test]
async fn a_404_of_a_gateway_is_not_believed_once_a_token_is_asked_for() -> Result<()> {
    let server = server(Some(auth())).await?;
    server.faults().set_times(Fault::Status(404), On::Tokens, 1);
    let client = client(&server.base())?;
    call(&client).await?;
    let counts = tokens(&server).counts();
    ensure!((counts.refused, counts.given) == (1, 1), "{counts:?}");
    Ok(())
}

#[tokio::test]
async fn rotated_keys_are_used_without_a_restart_and_without_a_failed_call() -> Result<()> {
    let server = server(Some(auth())).await?;
    let mount = Mount::new(&[("key", "key-1\n"), ("secret", SECRET)])?;
    let from_files = Credentials::Dir(mount.path().to_owned());
    let client =
        Client::with_connection(connection(&server.base())?.with_credentials(from_files)?)?;
    call(&client).await?;

    // As a careful person does it: both are good until the new ones are everywhere.
    tokens(&server).set(Auth::new("key-2", "another"));
    mount.replace(&[("key", "key-2\n"), ("secret", "another")])?;
    eventually("a token for the new keys", SOON, async || {
        call(&client).await.unwrap();
        match tokens(&server).counts().given {
            2 => Ok(()),
            n => Err(n),
        }
    })
    .await?;
    ensure!(tokens(&server).counts().refused == 0);

    // As one does after a leak: the old are gone at once; the refusal makes the client look.
    tokens(&server).set(Auth::new("key-3", "a third"));
    mount.replace(&[("key", "key-3"), ("secret", "a third")])?;
    tokens(&server).revoke();
    call(&client).await?;
    ensure!(tokens(&server).counts().wrong_keys == 0);
    Ok(())
}

#[tokio::test]
async fn files_that_break_are_not_used() -> Result<()> {
    let server = server(Some(auth())).await?;
    let mount = Mount::new(&[("key", "key-1"), ("secret", SECRET)])?;
    let from_files = Credentials::Dir(mount.path().to_owned());
    let client =
        Client::with_connection(connection(&server.base())?.with_credentials(from_files)?)?;
    call(&client).await?;
    mount.replace(&[("key", ""), ("secret", "")])?;
    // The refusal makes it look: what it held before still does.
    tokens(&server).expire();
    call(&client).await?;
    ensure!(tokens(&server).counts().given == 2);
    Ok(())
}

#[tokio::test]
async fn headers_and_token_are_sent() -> Result<()> {
    let server = Handler::start(|call| {
        let header = |name| call.headers.get(name).and_then(|value| value.to_str().ok());
        match call.path.as_str() {
            "/api/token" => Reply::output(json!({ "token": "t0k3n" })),
            _ if (header("x-tenant"), header("x-authorization"))
                == (Some("shop"), Some("t0k3n")) =>
            {
                Reply::answer(200, "t")
            }
            _ => Reply::answer(400, format!("{:?}", call.headers)),
        }
    })
    .await?;
    let connection = connection(&format!("http://127.0.0.1:{}", server.port()))?
        .with_credentials(credentials("key-1", SECRET))?
        .with_headers([("X-Tenant", "shop")])?;
    Client::with_connection(connection)?
        .update_task(&result())
        .await?;
    Ok(())
}
