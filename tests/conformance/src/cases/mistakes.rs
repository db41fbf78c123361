//! Paths and methods that are not there, and what is.

use reqwest::Method;
use serde_json::json;

use crate::{
    Ctx,
    suite::{EVERYWHERE, cases_on},
};

cases_on! { EVERYWHERE; health, unknown_paths, wrong_methods }

async fn health(ctx: Ctx) -> anyhow::Result<()> {
    let health = ctx.get("/health").await?.ok()?.json();
    same!("healthy", health["healthy"], json!(true));
    Ok(())
}

async fn unknown_paths(ctx: Ctx) -> anyhow::Result<()> {
    ctx.get("/nope")
        .await?
        .is_error(404, "No static resource api/nope.")?;
    // No tokens here: clients that ask for one must go on without.
    ctx.post("/token", &json!({}))
        .await?
        .is_error(404, "No static resource api/token.")?;
    let ack = ctx.post("/tasks/some/ack", &json!({})).await?;
    ack.is_error(404, "No static resource api/tasks/some/ack.")
}

async fn wrong_methods(ctx: Ctx) -> anyhow::Result<()> {
    let answer = ctx.call(Method::DELETE, "/tasks").await?;
    answer.is_error(405, "Request method 'DELETE' is not supported")
}
