//! How connections behave under the requests.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    Ctx,
    suite::{EVERYWHERE, TIMED, cases_on},
};

cases_on! { EVERYWHERE; every_hundredth_answer_closes, only_the_first_version; TIMED; idle_ones_are_closed }

const PATH: &str = "/tasks/queue/size?taskType=nobody";

/// And a client must not mind.
async fn every_hundredth_answer_closes(ctx: Ctx) -> anyhow::Result<()> {
    let mut socket = ctx.open_get(PATH).await?;
    for _ in 1..100 {
        socket.write_all(ctx.head(PATH).as_bytes()).await?;
    }
    let mut answers = String::new();
    socket.read_to_string(&mut answers).await?;
    let answers: Vec<_> = answers.split("HTTP/1.1 200").skip(1).collect();
    same!("answers", answers.len(), 100);
    for (number, answer) in answers.iter().enumerate() {
        let closes = answer.to_lowercase().contains("connection: close");
        same!(format!("answer {}", number + 1), closes, number == 99);
    }
    Ok(())
}

/// A client that opens with HTTP/2 is not understood.
async fn only_the_first_version(ctx: Ctx) -> anyhow::Result<()> {
    let mut socket = ctx.connect().await?;
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    socket
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await?;
    socket.write_all(&settings).await?;
    let mut answer = Vec::new();
    // It may break the connection for what it did not read.
    let _ = socket.read_to_end(&mut answer).await;
    anyhow::ensure!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"),
        "{:?}",
        String::from_utf8_lossy(&answer)
    );
    Ok(())
}

async fn idle_ones_are_closed(ctx: Ctx) -> anyhow::Result<()> {
    let mut socket = ctx.open_get(PATH).await?;
    let began = Instant::now();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await?;
    let open = began.elapsed();
    anyhow::ensure!(
        answer.starts_with(b"HTTP/1.1 200"),
        "{:?}",
        String::from_utf8_lossy(&answer)
    );
    anyhow::ensure!(open >= Duration::from_secs(55), "closed after {open:?}");
    Ok(())
}
