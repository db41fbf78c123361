//! A proxy that passes requests on until it is told not to.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep},
};

use crate::{
    fault::{Class, Fault, On, Setting},
    wire::{Message, Side, Wire},
};

/// A proxy in front of one server. It ends when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    addr: SocketAddr,
    serving: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    setting: Mutex<Option<Setting>>,
    /// Counts changes of the setting, so that what waits for one goes on.
    changes: watch::Sender<u64>,
    dice: Mutex<fastrand::Rng>,
    traffic: Mutex<Vec<(Instant, Class)>>,
}

impl Proxy {
    /// Starts one on 127.0.0.1 in front of the server with this API address. The same seed
    /// makes the same choices.
    pub async fn start(base: &str, seed: u64) -> anyhow::Result<Self> {
        Self::start_on(Ipv4Addr::LOCALHOST.into(), base, seed).await
    }

    /// Starts one on another address of this machine, such as one that pods reach.
    pub async fn start_on(address: IpAddr, base: &str, seed: u64) -> anyhow::Result<Self> {
        let authority = base
            .strip_prefix("http://")
            .and_then(|rest| rest.split('/').next())
            .with_context(|| format!("{base:?} is no http:// address"))?;
        let upstream = tokio::net::lookup_host(authority).await?.next();
        let shared = Arc::new(Shared {
            upstream: upstream.with_context(|| format!("{authority} has no address"))?,
            setting: Mutex::default(),
            changes: watch::Sender::new(0),
            dice: Mutex::new(fastrand::Rng::with_seed(seed)),
            traffic: Mutex::default(),
        });
        let listener = TcpListener::bind((address, 0)).await?;
        let addr = listener.local_addr()?;
        let serving = Some(tokio::spawn(accept(shared.clone(), listener)));
        Ok(Self {
            shared,
            addr,
            serving,
        })
    }

    /// The API's address through it.
    pub fn base(&self) -> String {
        format!("http://{}/api", self.addr)
    }

    /// From now on a `share` of these requests, 0 to 1, meets the fault. It replaces the one
    /// before.
    pub fn set(&self, fault: Fault, on: On, share: f64) {
        self.put(Some(Setting { fault, on, share }));
    }

    /// Requests are passed on again; what was kept is let go. Connections that a half-open
    /// fault met stay silent.
    pub fn clear(&self) {
        self.put(None);
    }

    /// Refuses connections and ends those that are open.
    pub async fn close(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }

    /// Takes connections again after [`Proxy::close`].
    pub async fn open(&mut self) -> std::io::Result<()> {
        if self.serving.is_none() {
            let listener = TcpListener::bind(self.addr).await?;
            self.serving = Some(tokio::spawn(accept(self.shared.clone(), listener)));
        }
        Ok(())
    }

    /// The most requests that came within one second, of those between two moments.
    pub fn most_in_a_second(&self, from: Instant, to: Instant) -> usize {
        let traffic = lock(&self.shared.traffic);
        let times = traffic.iter().map(|(at, _)| *at);
        most_in_a_second(
            &times
                .filter(|at| (from..to).contains(at))
                .collect::<Vec<_>>(),
        )
    }

    /// How many requests of a class came so far.
    pub fn requests(&self, class: Class) -> usize {
        let traffic = lock(&self.shared.traffic);
        traffic.iter().filter(|(_, c)| *c == class).count()
    }

    fn put(&self, setting: Option<Setting>) {
        *lock(&self.shared.setting) = setting;
        self.shared.changes.send_modify(|n| *n += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of moments in their order.
fn most_in_a_second(times: &[Instant]) -> usize {
    let (mut first, mut most) = (0, 0);
    for (last, at) in times.iter().enumerate() {
        while *at - times[first] >= Duration::from_secs(1) {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

impl Shared {
    fn meet(&self, request: &Message) -> Option<Fault> {
        let (method, path) = &request.target;
        lock(&self.traffic).push((Instant::now(), Class::of(method, path)));
        let random = lock(&self.dice).f64();
        lock(&self.setting).as_ref()?.meet(method, path, random)
    }

    fn between(&self, least: Duration, most: Duration) -> Duration {
        least + most.saturating_sub(least).mul_f64(lock(&self.dice).f64())
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    // Dropped with this future, and the connections with it.
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        if let Ok((stream, _)) = listener.accept().await {
            open.spawn(serve(shared.clone(), stream));
        } else {
            // Most likely too many open files: let some close.
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// One connection of a client, with one to the server.
async fn serve(shared: Arc<Shared>, stream: TcpStream) {
    let mut client = Wire::new(stream);
    let mut upstream: Option<Wire> = None;
    // An error means that a side has gone: dropping both tells the other.
    while let Ok(Some(request)) = next_request(&mut client, upstream.as_mut()).await {
        let mut changes = shared.changes.subscribe();
        let fault = shared.meet(&request);
        match &fault {
            Some(Fault::Latency { least, most }) => sleep(shared.between(*least, *most)).await,
            Some(Fault::ResetBefore) => return client.reset(),
            Some(Fault::ResetMidRequest) => {
                let Ok(server) = connected(&shared, &mut upstream).await else {
                    return client.reset();
                };
                let _ = server.write(&request.raw[..request.raw.len() / 2]).await;
                if let Some(server) = upstream.take() {
                    server.reset();
                }
                return client.reset();
            }
            Some(Fault::HalfOpen) => return client.gone().await,
            Some(Fault::Answer {
                status,
                headers,
                body,
            }) => {
                let answer = answer(*status, headers, body);
                if client.write(answer.as_bytes()).await.is_err() {
                    return;
                }
                continue;
            }
            _ => {}
        }
        let Ok(server) = connected(&shared, &mut upstream).await else {
            return client.reset();
        };
        if server.write(&request.raw).await.is_err() {
            return client.reset();
        }
        let answer = tokio::select! {
            answer = server.message(Side::Answer) => answer,
            () = client.gone() => return,
        };
        let Ok(Some(answer)) = answer else {
            return client.reset();
        };
        let written = match fault {
            Some(Fault::ResetAfter) => return client.reset(),
            Some(Fault::Truncate) => {
                let body = answer.raw.len() - answer.head;
                let _ = client.write(&answer.raw[..answer.head + body / 2]).await;
                return;
            }
            Some(Fault::LateAnswer { least, most }) => {
                tokio::select! {
                    () = sleep(shared.between(least, most)) => {}
                    () = client.gone() => return,
                }
                client.write(&answer.raw).await
            }
            Some(Fault::Drip { pause }) => {
                let ends = changes.changed();
                drip(&mut client, &answer.raw, pause, ends).await
            }
            Some(Fault::Hold) => {
                tokio::select! {
                    _ = changes.changed() => {}
                    () = client.gone() => return,
                }
                client.write(&answer.raw).await
            }
            _ => client.write(&answer.raw).await,
        };
        if written.is_err() || answer.closes {
            return;
        }
    }
}

/// A server that closes an idle connection closes the client's too.
async fn next_request(
    client: &mut Wire,
    upstream: Option<&mut Wire>,
) -> std::io::Result<Option<Message>> {
    let Some(upstream) = upstream else {
        return client.message(Side::Request).await;
    };
    tokio::select! {
        request = client.message(Side::Request) => request,
        () = upstream.gone() => Ok(None),
    }
}

async fn connected<'a>(
    shared: &Shared,
    upstream: &'a mut Option<Wire>,
) -> std::io::Result<&'a mut Wire> {
    match upstream {
        Some(wire) => Ok(wire),
        None => Ok(upstream.insert(Wire::new(TcpStream::connect(shared.upstream).await?))),
    }
}

/// Byte by byte, and the rest at once when `ends` does.
async fn drip(
    client: &mut Wire,
    bytes: &[u8],
    pause: Duration,
    ends: impl Future,
) -> std::io::Result<()> {
    let mut ends = std::pin::pin!(ends);
    for (n, byte) in bytes.iter().enumerate() {
        client.write(&[*byte]).await?;
        tokio::select! {
            () = sleep(pause) => {}
            _ = &mut ends => return client.write(&bytes[n + 1..]).await,
        }
    }
    Ok(())
}

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> String {
    use std::fmt::Write as _;
    let mut answer = format!("HTTP/1.1 {status} \r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        let _ = write!(answer, "{name}: {value}\r\n");
    }
    answer + "\r\n" + body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_counted_wherever_they_begin() {
        let zero = Instant::now();
        let at = |millis| zero + Duration::from_millis(millis);
        assert_eq!(most_in_a_second(&[]), 0);
        assert_eq!(most_in_a_second(&[at(0), at(999), at(1000), at(1998)]), 3);
        assert_eq!(most_in_a_second(&[at(0), at(1000), at(2000)]), 1);
    }
}
