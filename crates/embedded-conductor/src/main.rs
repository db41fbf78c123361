//! `embedded-conductor`: a Conductor in memory, for trying things out.

use std::{io::Write as _, net::SocketAddr, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use embedded_conductor::{Auth, BatchFill, Embedded, Options};

/// A Conductor in memory: workflows of SIMPLE tasks, and the API that workers need.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where to listen.
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// When a batch poll that found fewer tasks than it asked for is answered: at once
    /// (redis), or at its time-out (sql). Priorities, rate limits and some mistakes are those
    /// of such a server too.
    #[arg(long, env = "BATCH_FILL", default_value = "redis")]
    batch_fill: BatchFill,
    /// How many workflows that have ended are kept.
    #[arg(long, env = "KEEP_ENDED", default_value_t = Options::default().keep_ended)]
    keep_ended: usize,
    /// Let in only who has this key, and its secret. Everybody, if it is not given.
    #[arg(long, env = "AUTH_KEY", requires = "auth_secret")]
    auth_key: Option<String>,
    /// That key's secret.
    #[arg(
        long,
        env = "AUTH_SECRET",
        hide_env_values = true,
        requires = "auth_key"
    )]
    auth_secret: Option<String>,
    /// How long a token is good for, in seconds.
    #[arg(long, env = "TOKEN_SECONDS", default_value_t = 3600)]
    token_seconds: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Args {
        listen,
        batch_fill,
        keep_ended,
        auth_key,
        auth_secret,
        token_seconds,
    } = Args::parse();
    let auth = auth_key.zip(auth_secret).map(|(key, secret)| Auth {
        lifetime: Duration::from_secs(token_seconds),
        ..Auth::new(key, secret)
    });
    let options = Options {
        listen,
        batch_fill,
        keep_ended,
        auth,
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
