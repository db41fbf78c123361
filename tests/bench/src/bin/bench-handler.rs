//! The handler of the benchmark: an HTTP server that answers each task with when it began.
//!
//! `PORT` is where it listens, `BENCH_MS` how long a task takes. Hyper itself on one thread,
//! so that what is measured beside it is the sidecar.

use std::{convert::Infallible, time::Duration};

use bench::worker;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, header, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

const LONG: Duration = Duration::from_secs(1);

async fn work(request: Request<Incoming>, takes: Duration) -> Response<Full<Bytes>> {
    // All of the task is read, as a handler would.
    if request.into_body().collect().await.is_err() {
        let mut cut_off = Response::new(Full::default());
        *cut_off.status_mut() = hyper::StatusCode::BAD_REQUEST;
        return cut_off;
    }
    let output = worker::output(worker::micros());
    if takes >= LONG {
        tokio::time::sleep(takes).await;
    } else if !takes.is_zero() {
        // Tokio's timer rounds up to whole milliseconds, which 5 ms would show.
        let _ = tokio::task::spawn_blocking(move || std::thread::sleep(takes)).await;
    }
    let mut answer = Response::new(Full::from(output));
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    answer
}

/// As a pod's containers: the process ends when it is told to, after what is under way.
async fn told_to_end() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    signal(SignalKind::terminate())?.recv().await;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let settings = worker::Settings::from_env()?;
    let port: u16 = worker::number("PORT")?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let takes = settings.takes;
    let accept = async {
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                let service = service_fn(move |request| async move {
                    Ok::<_, Infallible>(work(request, takes).await)
                });
                // A connection that breaks is the caller's matter.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    };
    tokio::select! {
        ended = accept => ended,
        told = told_to_end() => Ok(told?),
    }
}
