//! The proxy does to requests what it is told, and nothing else.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests may fail as tests do"
)]

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use faults::{
    fault::{Class, Fault, On},
    proxy::Proxy,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

const POLL: &str = "GET /api/tasks/poll/batch/t HTTP/1.1\r\nhost: x\r\n\r\n";
const UPDATE: &str = "POST /api/tasks HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody";
const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789";

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(10);

/// A server that answers every request alike, and counts them.
async fn server() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/api", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counted = counted.clone();
            tokio::spawn(async move {
                let mut read = Vec::new();
                let mut part = [0; 1024];
                while let Ok(n @ 1..) = stream.read(&mut part).await {
                    read.extend_from_slice(&part[..n]);
                    if [POLL, UPDATE].iter().any(|r| r.as_bytes() == read) {
                        read.clear();
                        counted.fetch_add(1, Ordering::SeqCst);
                        stream.write_all(ANSWER.as_bytes()).await?;
                    }
                }
                io::Result::Ok(())
            });
        }
    });
    (base, requests)
}

async fn connect(proxy: &Proxy) -> io::Result<TcpStream> {
    let base = proxy.base();
    let address = base.trim_start_matches("http://").trim_end_matches("/api");
    TcpStream::connect(address).await
}

/// Sends a request and reads until the answer is complete or the connection ends.
async fn exchange(stream: &mut TcpStream, request: &str) -> io::Result<String> {
    stream.write_all(request.as_bytes()).await?;
    let mut read = Vec::new();
    let mut part = [0; 1024];
    while !read.ends_with(b"9") {
        match timeout(SOON, stream.read(&mut part)).await?? {
            0 => break,
            n => read.extend_from_slice(&part[..n]),
        }
    }
    String::from_utf8(read).map_err(io::Error::other)
}

/// Whether an exchange ends with a reset.
async fn is_reset(proxy: &Proxy, request: &str) -> bool {
    let mut stream = connect(proxy).await.unwrap();
    let error = exchange(&mut stream, request).await.unwrap_err();
    error.kind() == io::ErrorKind::ConnectionReset
}

#[tokio::test]
async fn without_a_fault_requests_pass_on_one_connection() {
    let (base, requests) = server().await;
    let proxy = Proxy::start(&base, 1).await.unwrap();
    let began = Instant::now();
    let mut stream = connect(&proxy).await.unwrap();
    for request in [POLL, UPDATE, UPDATE] {
        assert_eq!(exchange(&mut stream, request).await.unwrap(), ANSWER);
    }
    assert_eq!(requests.load(Ordering::SeqCst), 3);
    assert_eq!(proxy.requests(Class::Update), 2);
    assert!((1..=3).contains(&proxy.most_in_a_second(began, Instant::now())));
}

#[tokio::test]
async fn resets_come_before_within_and_after_a_request() {
    let (base, requests) = server().await;
    let proxy = Proxy::start(&base, 1).await.unwrap();
    for (fault, arrived) in [
        (Fault::ResetBefore, 0),
        (Fault::ResetMidRequest, 0),
        (Fault::ResetAfter, 1),
    ] {
        proxy.set(fault.clone(), On::Updates, 1.0);
        assert!(is_reset(&proxy, UPDATE).await, "{fault:?}");
        assert_eq!(requests.swap(0, Ordering::SeqCst), arrived, "{fault:?}");
        let mut other = connect(&proxy).await.unwrap();
        assert_eq!(exchange(&mut other, POLL).await.unwrap(), ANSWER);
        requests.store(0, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn answers_are_cut_kept_and_dripped() {
    let (base, _) = server().await;
    let proxy = Proxy::start(&base, 1).await.unwrap();
    proxy.set(Fault::Truncate, On::Everything, 1.0);
    let mut stream = connect(&proxy).await.unwrap();
    let cut = exchange(&mut stream, POLL).await.unwrap();
    assert!(cut.ends_with("\r\n\r\n01234"), "{cut}");

    for fault in [
        Fault::Hold,
        Fault::Drip {
            pause: Duration::from_secs(60),
        },
    ] {
        proxy.set(fault, On::Everything, 1.0);
        let mut stream = connect(&proxy).await.unwrap();
        let kept = exchange(&mut stream, POLL);
        tokio::pin!(kept);
        // Its end is what lets the answer go: it cannot be complete before.
        assert!(
            timeout(Duration::from_millis(200), &mut kept)
                .await
                .is_err()
        );
        proxy.clear();
        assert_eq!(kept.await.unwrap(), ANSWER);
    }
}

#[tokio::test]
async fn somebody_else_answers_and_the_server_does_not_know() {
    let (base, requests) = server().await;
    let proxy = Proxy::start(&base, 1).await.unwrap();
    let fault = Fault::Answer {
        status: 503,
        headers: &[("retry-after", "7")],
        body: "9",
    };
    proxy.set(fault, On::Polls, 1.0);
    let mut stream = connect(&proxy).await.unwrap();
    let answer = exchange(&mut stream, POLL).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 7"));
    assert_eq!(requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_half_open_connection_stays_silent_after_the_fault() {
    let (base, requests) = server().await;
    let proxy = Proxy::start(&base, 1).await.unwrap();
    proxy.set(Fault::HalfOpen, On::Everything, 1.0);
    let mut stream = connect(&proxy).await.unwrap();
    stream.write_all(POLL.as_bytes()).await.unwrap();
    // The proxy has met it before the fault ends.
    while proxy.requests(Class::Poll) == 0 {
        tokio::task::yield_now().await;
    }
    proxy.clear();
    let mut part = [0; 8];
    let silence = timeout(Duration::from_millis(200), stream.read(&mut part)).await;
    assert!(silence.is_err(), "{silence:?}");
    let mut other = connect(&proxy).await.unwrap();
    assert_eq!(exchange(&mut other, POLL).await.unwrap(), ANSWER);
    assert_eq!(requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_closed_proxy_refuses_and_opens_at_the_same_place() {
    let (base, _) = server().await;
    let mut proxy = Proxy::start(&base, 1).await.unwrap();
    let mut open = connect(&proxy).await.unwrap();
    assert_eq!(exchange(&mut open, POLL).await.unwrap(), ANSWER);
    proxy.close().await;
    let refused = connect(&proxy).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    assert_ne!(exchange(&mut open, POLL).await.unwrap_or_default(), ANSWER);
    proxy.open().await.unwrap();
    let mut again = connect(&proxy).await.unwrap();
    assert_eq!(exchange(&mut again, POLL).await.unwrap(), ANSWER);
}

#[tokio::test]
async fn the_same_seed_makes_the_same_choices() {
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        let (base, _) = server().await;
        let proxy = Proxy::start(&base, seed).await.unwrap();
        let fault = Fault::Answer {
            status: 500,
            headers: &[],
            body: "9",
        };
        proxy.set(fault, On::Everything, 0.5);
        let mut stream = connect(&proxy).await.unwrap();
        let mut met = Vec::new();
        for _ in 0..32 {
            met.push(exchange(&mut stream, POLL).await.unwrap() != ANSWER);
        }
        runs.push(met);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}
