//! `/cordon`: no more work for a while, by the operator's word alone.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use conductor_client::TaskStatus;
use harness::{Reply, eventually, skew};
use prometheus::Registry;
use reqwest::{Method, RequestBuilder};
use runtime::cordon::{Action, SigningKey};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use worker_sidecar::{
    control,
    cordon::{self, Access, Keys},
    pipeline::Sidecar,
};

use crate::setup::{Running, SOON, Setup};

/// `openssl genpkey -algorithm ed25519`, for these tests.
pub(crate) const OPERATOR: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIG7ny9CrAZrgdFximGpkXIVliRIwUT55wHM9+p0/ZkCI\n-----END PRIVATE KEY-----\n";
const ANOTHER: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIDEWDwX7sTUwYk7LPjVLK8YFmLnQStpYTmX6XU1MMX3W\n-----END PRIVATE KEY-----\n";
const POD: &str = "greet-1/uid";

struct Pod {
    setup: Setup,
    running: Running,
    base: String,
    serving: JoinHandle<std::io::Result<()>>,
}

fn now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

fn token(action: Action) -> Result<String> {
    Ok(SigningKey::from_pem(OPERATOR)?.sign(POD, action, now()?))
}

fn given() -> Result<Keys> {
    let public = SigningKey::from_pem(OPERATOR)?.public();
    Ok(Keys::Given(public.parse()?))
}

impl Pod {
    async fn new(setup: Setup, keys: Keys) -> Result<Self> {
        let registry = Registry::new();
        let sidecar = Sidecar::new(setup.config()?, &registry)?;
        let running = Running::of(sidecar.clone(), registry.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let base = format!("http://{}", listener.local_addr()?);
        let access = Access {
            keys,
            audience: POD.to_owned(),
        };
        let router =
            control::router(sidecar.clone(), registry).merge(cordon::router(sidecar, access));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self {
            setup,
            running,
            base,
            serving,
        })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        reqwest::Client::new().request(method, format!("{}{path}", self.base))
    }

    async fn send(&self, request: RequestBuilder) -> Result<(u16, String)> {
        let answer = tokio::time::timeout(SOON, request.send()).await??;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    async fn cordon(&self, ttl: &str) -> Result<Value> {
        let put = self.request(Method::PUT, &format!("/cordon?ttl={ttl}"));
        let (status, body) = self.send(put.bearer_auth(token(Action::Cordon)?)).await?;
        ensure!(status == 200, "{status} {body}");
        Ok(serde_json::from_str(&body)?)
    }

    async fn ready(&self) -> Result<(u16, String)> {
        self.send(self.request(Method::GET, "/readyz")).await
    }

    async fn metrics_say(&self, line: &str) -> Result<()> {
        let (_, metrics) = self.send(self.request(Method::GET, "/metrics")).await?;
        ensure!(metrics.contains(line), "no {line} in {metrics}");
        Ok(())
    }

    async fn end(self) -> Result<()> {
        self.running.end().await?;
        self.serving.abort();
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cordoned_worker_ends_what_it_has_and_takes_no_more() -> Result<()> {
    let pod = Pod::new(Setup::new(|_| Reply::hang()).await?, given()?).await?;
    let first = pod.setup.start(1).await?;
    pod.setup.at_work(1).await?;
    let told = pod.cordon("2m").await?;
    ensure!(told["cordoned"] == true && told["inFlight"] == 1, "{told}");
    ensure!(
        pod.ready().await? == (200, "ok\n".to_owned()),
        "its work goes on"
    );
    pod.metrics_say("worker_cordoned 1").await?;
    // A poll that was in the air may still bring one: it is over when the next is not begun.
    eventually("no poll is in the air", SOON, async || {
        match pod.running.sidecar.stats().polls_in_flight {
            0 => Ok(()),
            n => Err(n),
        }
    })
    .await?;
    let second = pod.setup.start(2).await?;
    pod.setup.handler.release();
    pod.setup.server.completed(&first, SOON).await?;
    eventually("cordoned and idle", SOON, async || {
        match pod.ready().await {
            Ok((503, says)) if says == "cordoned and idle\n" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    ensure!(pod.cordon("30s").await?["inFlight"] == 0, "renewed");
    let client = pod.setup.server.client();
    let waiting = client
        .get_workflow(&second, true)
        .await?
        .tasks
        .swap_remove(0);
    ensure!(waiting.status() == TaskStatus::Scheduled && waiting.poll_count() == 0);

    pod.setup.handler.set(|_| Reply::output(json!({})));
    let delete = pod.request(Method::DELETE, "/cordon");
    let (status, body) = pod
        .send(delete.bearer_auth(token(Action::Uncordon)?))
        .await?;
    ensure!(
        status == 200 && body.contains(r#""cordoned":false"#),
        "{status} {body}"
    );
    pod.setup.server.completed(&second, SOON).await?;
    ensure!(pod.ready().await?.0 == 200);
    pod.metrics_say("worker_cordoned 0").await?;
    pod.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cordon_that_nobody_renews_ends_by_itself() -> Result<()> {
    let pod = Pod::new(Setup::new(|_| Reply::output(json!({}))).await?, given()?).await?;
    ensure!(pod.cordon("1s").await?["cordoned"] == true);
    let workflow = pod.setup.start(1).await?;
    pod.setup.server.completed(&workflow, SOON).await?;
    eventually("ready again", SOON, async || match pod.ready().await {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    ensure!(!pod.running.sidecar.stats().cordoned);
    pod.end().await
}

/// Their tokens are looked at where tokens are: here, that the requests are understood.
#[tokio::test(flavor = "multi_thread")]
async fn requests_of_operators_of_earlier_versions_are_understood() -> Result<()> {
    let requests = skew("cordon")?;
    ensure!(requests.len() >= 2, "{requests:?}");
    let pod = Pod::new(Setup::new(|_| Reply::output(json!({}))).await?, given()?).await?;
    for (name, sent) in requests {
        let text = |field: &str| sent[field].as_str().unwrap_or_default().to_owned();
        let action: Action = serde_json::from_value(sent["action"].clone())?;
        let method = Method::from_bytes(text("method").as_bytes())?;
        let request = pod.request(method, &text("path"));
        let (status, body) = pod.send(request.bearer_auth(token(action)?)).await?;
        ensure!(status == 200, "{name}: {status} {body}");
        let says: Value = serde_json::from_str(&body)?;
        let is_cordoned = action == Action::Cordon;
        ensure!(says["cordoned"] == is_cordoned, "{name}: {says}");
    }
    pod.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_cordons_and_every_refusal_says_why() -> Result<()> {
    let pod = Pod::new(Setup::new(|_| Reply::output(json!({}))).await?, given()?).await?;
    let key = SigningKey::from_pem(OPERATOR)?;
    let now = now()?;
    let sign = |pod: &str, action, at| Some(key.sign(pod, action, at));
    let foreign = SigningKey::from_pem(ANOTHER)?.sign(POD, Action::Cordon, now);
    for (token, ttl, status, says) in [
        (None, "?ttl=30s", 401, "Authorization: Bearer"),
        (Some("x".to_owned()), "?ttl=30s", 401, "no JSON Web Token"),
        (Some(foreign), "?ttl=30s", 401, "signature"),
        (
            sign("greet-2/uid", Action::Cordon, now),
            "?ttl=30s",
            401,
            "greet-2/uid",
        ),
        (
            sign(POD, Action::Uncordon, now),
            "?ttl=30s",
            401,
            "uncordon",
        ),
        (
            sign(POD, Action::Cordon, now - 90),
            "?ttl=30s",
            401,
            "expired",
        ),
        (
            sign(POD, Action::Cordon, now + 90),
            "?ttl=30s",
            401,
            "clocks",
        ),
        (None, "", 401, "Authorization: Bearer"),
        (sign(POD, Action::Cordon, now), "", 400, "ttl=30s"),
        (sign(POD, Action::Cordon, now), "?ttl=30", 400, "ttl=30s"),
        (sign(POD, Action::Cordon, now), "?ttl=1h", 400, "1s to 2m"),
        (
            sign(POD, Action::Cordon, now),
            "?ttl=1s&ttl=2s",
            400,
            "ttl=30s",
        ),
    ] {
        let put = pod.request(Method::PUT, &format!("/cordon{ttl}"));
        let put = match token {
            Some(token) => put.bearer_auth(token),
            None => put,
        };
        let (got, body) = pod.send(put).await?;
        ensure!(got == status && body.contains(says), "{says}: {got} {body}");
    }
    let delete = pod.request(Method::DELETE, "/cordon");
    let (status, _) = pod.send(delete.bearer_auth(token(Action::Cordon)?)).await?;
    ensure!(status == 401, "a token to cordon does not undo it");
    ensure!(!pod.running.sidecar.stats().cordoned);
    pod.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_a_file_may_change_and_without_a_key_it_says_what_to_set() -> Result<()> {
    let setup = Setup::new(|_| Reply::output(json!({}))).await?;
    let file = tempfile::NamedTempFile::new()?;
    let pod = Pod::new(setup, Keys::File(file.path().to_owned())).await?;
    let put = async || {
        let put = pod.request(Method::PUT, "/cordon?ttl=30s");
        pod.send(put.bearer_auth(token(Action::Cordon)?)).await
    };
    for (given, expected, says) in [("", 503, "no key yet"), ("key", 500, "not a public key")] {
        std::fs::write(file.path(), given)?;
        let (status, body) = put().await?;
        ensure!(status == expected && body.contains(says), "{status} {body}");
    }
    for (key, expected) in [(ANOTHER, 401), (OPERATOR, 200)] {
        std::fs::write(file.path(), SigningKey::from_pem(key)?.public())?;
        let (status, body) = put().await?;
        ensure!(status == expected, "{status} {body}");
    }
    pod.end().await?;

    let setup = Setup::new(|_| Reply::output(json!({}))).await?;
    let pod = Pod::new(setup, Keys::None).await?;
    for method in [Method::PUT, Method::DELETE] {
        let request = pod.request(method, "/cordon?ttl=30s");
        let (status, body) = pod
            .send(request.bearer_auth(token(Action::Cordon)?))
            .await?;
        ensure!(
            status == 501 && body.contains("CORDON_PUBLIC_KEY"),
            "{status} {body}"
        );
    }
    pod.end().await
}
