//! What kubelet's preStop hooks meet when a pod ends: the program itself.

use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use harness::{Reply, eventually};
use serde_json::json;
use tokio::process::{Child, Command};

use crate::{
    program::{free_port, sidecar},
    setup::{SOON, Setup},
};

/// A sidecar of a pod, and where its hooks are answered.
struct Pod {
    child: Child,
    port: u16,
    local: u16,
}

impl Pod {
    /// One with these seconds to end in.
    fn start(setup: &Setup, handler: u16, grace: &str) -> Result<Self> {
        let (port, local) = (free_port()?, free_port()?);
        let child = sidecar()
            .env("CONDUCTOR_SERVER_URL", setup.server.base())
            .env("CONDUCTOR_TASKS", json!([{"name": setup.task}]).to_string())
            .env("HANDLER_PORT", handler.to_string())
            .env("LISTEN", format!("127.0.0.1:{port}"))
            .env("LOCAL_API_PORT", local.to_string())
            .env("CONDUCTOR_WORKER_ID", "greet-1")
            .env("GRACE_PERIOD", grace)
            .stderr(Stdio::inherit())
            .spawn()?;
        Ok(Self { child, port, local })
    }

    async fn get(&self, path: &str) -> Result<(u16, String)> {
        let answer = reqwest::get(format!("http://127.0.0.1:{}{path}", self.port)).await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    async fn serves(&self) -> Result<()> {
        eventually("it serves", SOON, async || self.get("/healthz").await).await?;
        Ok(())
    }

    /// The sidecar's own hook.
    async fn terminating(&self) -> Result<()> {
        let told = sidecar()
            .arg("terminating")
            .env("LISTEN", format!("127.0.0.1:{}", self.port))
            .status()
            .await?;
        ensure!(told.success(), "`terminating` ended: {told}");
        Ok(())
    }

    /// The hook of every other container.
    async fn drain(&self) -> Result<()> {
        let answer = self.get("/drain").await?;
        ensure!(answer == (200, "drained\n".to_owned()), "{answer:?}");
        Ok(())
    }

    async fn term(&self) -> Result<()> {
        let id = self.child.id().context("it has ended")?.to_string();
        let killed = Command::new("kill").arg(id).status().await?;
        ensure!(killed.success());
        Ok(())
    }

    async fn ended(mut self) -> Result<()> {
        let status = tokio::time::timeout(SOON, self.child.wait()).await??;
        ensure!(status.success(), "the sidecar ended: {status}");
        Ok(())
    }
}

/// A pod that is idle, or whose handler never got ready, is drained the moment that it is told. The
/// other containers' hooks and a handler's last requests come after that.
#[tokio::test(flavor = "multi_thread")]
async fn hooks_are_answered_until_kubelet_ends_the_sidecar() -> Result<()> {
    let setup = Setup::new(|_| Reply::output(json!({}))).await?;
    let mut pod = Pod::start(&setup, free_port()?, "60s")?;
    pod.serves().await?;
    pod.terminating().await?;
    // One after the other: each finds what the one before left.
    for _ in 0..3 {
        pod.drain().await?;
    }
    pod.terminating().await?;
    let local = format!("http://127.0.0.1:{}/api/tasks/nobody", pod.local);
    let answer = reqwest::get(local).await?;
    ensure!(answer.status().as_u16() == 404, "{answer:?}");
    ensure!(pod.get("/readyz").await? == (503, "draining\n".to_owned()));
    ensure!(pod.child.try_wait()?.is_none(), "it has ended by itself");
    pod.term().await?;
    pod.ended().await
}

/// `terminating` by hand, in a pod that stays: the sidecar is started again.
#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_nobody_ends_ends_with_its_grace_period() -> Result<()> {
    let setup = Setup::new(|_| Reply::output(json!({}))).await?;
    let pod = Pod::start(&setup, setup.handler.port(), "2s")?;
    pod.serves().await?;
    pod.terminating().await?;
    pod.ended().await
}

/// The hook of a container that is asked first waits for the work of all.
#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_comes_before_terminating_waits_for_the_work() -> Result<()> {
    let setup = Setup::new(|_| Reply::hang()).await?;
    let pod = Pod::start(&setup, setup.handler.port(), "60s")?;
    let id = setup.start(1).await?;
    setup.at_work(1).await?;
    let mut drained = Box::pin(pod.drain());
    let told = async {
        pod.terminating().await?;
        eventually("it drains", SOON, async || match pod.get("/readyz").await {
            Ok((503, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await
    };
    tokio::select! {
        biased;
        answer = &mut drained => bail!("the hook was answered beside a call: {answer:?}"),
        told = told => told?,
    }
    ensure!(setup.handler.running() == 1);
    setup.handler.release();
    tokio::time::timeout(SOON, drained).await??;
    // What was in work when the hooks came is reported when they are answered.
    let workflow = setup.server.client().get_workflow(&id, true).await?;
    ensure!(workflow.status.is_terminal(), "{workflow:?}");
    pod.term().await?;
    pod.ended().await
}
