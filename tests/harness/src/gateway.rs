//! A gateway that forgets its connections.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// Passes connections on, on 127.0.0.1. While it is dark, whatever is sent vanishes, and the
/// connections of that time and of the time before never say anything again, as where packets
/// are lost: nobody is told that they lead nowhere.
#[derive(Debug)]
pub struct Gateway {
    addr: SocketAddr,
    /// Dark where it is odd.
    turns: watch::Sender<u64>,
    lost: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
}

impl Gateway {
    /// Starts one before this address.
    pub async fn start(to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let turns = watch::Sender::new(0);
        let told = turns.clone();
        let lost = Arc::new(Mutex::new(Vec::new()));
        let noted = lost.clone();
        let serving = tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(pass_on(stream, to, told.subscribe(), noted.clone()));
            }
        });
        Ok(Self {
            addr,
            turns,
            lost,
            serving,
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many requests have vanished whose first line holds this. Not among them is what had
    /// been passed on, and whose answer is lost.
    pub fn lost(&self, what: &str) -> usize {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.iter().filter(|line| line.contains(what)).count()
    }

    /// Forgets all connections, and takes new ones without a word.
    pub fn go_dark(&self) {
        self.turns.send_modify(|turn| *turn |= 1);
    }

    /// Passes connections on that are made from now on.
    pub fn come_back(&self) {
        self.turns.send_modify(|turn| *turn += *turn % 2);
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass_on(
    mut client: TcpStream,
    to: SocketAddr,
    mut turns: watch::Receiver<u64>,
    lost: Arc<Mutex<Vec<String>>>,
) {
    let is_light = turns.borrow_and_update().is_multiple_of(2);
    // Kept open, as by a server that does not know either.
    let mut server = None;
    if is_light && let Ok(connected) = TcpStream::connect(to).await {
        let server = server.insert(connected);
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, server) => return,
            _ = turns.changed() => {}
        }
    }
    let mut sent = [0; 4096];
    while let Ok(n) = client.read(&mut sent).await {
        if n == 0 {
            return;
        }
        // A body's rest is a line of its own here, and no request's.
        let text = String::from_utf8_lossy(&sent[..n]);
        let line = text.lines().next().unwrap_or_default().to_owned();
        let mut lost = lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.push(line);
    }
}
