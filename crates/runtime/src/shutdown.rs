//! The signals that end a program.

use std::future::pending;

use tokio::signal::unix::{SignalKind, signal};

/// Ends with the first TERM or INT. Call it once: signals before the call are not seen.
pub async fn shutdown_signal() {
    tokio::select! {
        () = one(SignalKind::terminate()) => tracing::info!(signal = "TERM", "shutting down"),
        () = one(SignalKind::interrupt()) => tracing::info!(signal = "INT", "shutting down"),
    }
}

async fn one(kind: SignalKind) {
    match signal(kind) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(error) => {
            tracing::error!(%error, "a signal cannot be listened to; the default action stays");
            pending::<()>().await;
        }
    }
}
