//! `embedded-conductor`: a Conductor in memory, for trying things out.

use std::{io::Write as _, net::SocketAddr};

use anyhow::Context as _;
use clap::Parser;
use embedded_conductor::{BatchFill, Embedded, Options};

/// A Conductor in memory: workflows of SIMPLE tasks, and the API that workers need.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Where to listen.
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// When a batch poll that found fewer tasks than it asked for is answered: at once
    /// (redis), or at its time-out (sql).
    #[arg(long, env = "BATCH_FILL", default_value = "redis")]
    batch_fill: BatchFill,
    /// How many workflows that have ended are kept.
    #[arg(long, env = "KEEP_ENDED", default_value_t = Options::default().keep_ended)]
    keep_ended: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Args {
        listen,
        batch_fill,
        keep_ended,
    } = Args::parse();
    let options = Options {
        listen,
        batch_fill,
        keep_ended,
        ..Options::default()
    };
    let embedded = Embedded::start(options)
        .await
        .with_context(|| format!("cannot listen on {listen}"))?;
    writeln!(std::io::stdout(), "{}", embedded.base())?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    embedded.stop().await;
    Ok(())
}
