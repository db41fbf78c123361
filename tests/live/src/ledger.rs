//! What the handlers say of themselves: which task ran in which pod, from when until when. A
//! task that a pod took with it has a beginning and no end; where the call was ended from outside
//! while the handler lived on, it is cut off at a time.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result};
use axum::{Json, Router, routing::post};
use live_handler::{Line, Moment};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::clock::now;

/// A task in a pod. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Execution {
    /// The task's id.
    pub task: String,
    /// The pod.
    pub pod: String,
    /// When it began.
    pub began: f64,
    /// When it was done; absent when it was cut off.
    pub ended: Option<f64>,
    /// When its call was ended before it was done, where the handler could tell.
    pub cut: Option<f64>,
}

/// The executions, from lines in the order in which they came.
#[derive(Debug, Default)]
pub struct Book {
    executions: Vec<Execution>,
    open: BTreeMap<(String, String), usize>,
}

impl Book {
    /// Adds a line that came at a time.
    pub fn add(&mut self, line: Line, at: f64) {
        let key = (line.task, line.pod);
        match line.moment {
            Moment::Began => {
                self.open.insert(key.clone(), self.executions.len());
                self.executions.push(Execution {
                    task: key.0,
                    pod: key.1,
                    began: at,
                    ended: None,
                    cut: None,
                });
            }
            Moment::Ended => {
                if let Some(execution) = self.open.remove(&key) {
                    self.executions[execution].ended = Some(at);
                }
            }
            Moment::Cut => {
                if let Some(execution) = self.open.remove(&key) {
                    self.executions[execution].cut = Some(at);
                }
            }
        }
    }

    /// All so far.
    pub fn executions(&self) -> &[Execution] {
        &self.executions
    }

    /// Those that have not ended, as far as is known: what a pod took with it is among them.
    pub fn under_way(&self) -> impl Iterator<Item = &Execution> {
        self.open.values().map(|index| &self.executions[*index])
    }
}

/// A server that keeps a book, for as long as this lives.
#[derive(Debug)]
pub struct Ledger {
    book: Arc<Mutex<Book>>,
    addr: SocketAddr,
    serving: JoinHandle<()>,
}

impl Ledger {
    /// Starts one on an address of this machine that pods reach.
    pub async fn start(address: IpAddr) -> Result<Self> {
        let listener = TcpListener::bind((address, 0))
            .await
            .with_context(|| format!("the ledger cannot listen on {address}"))?;
        let addr = listener.local_addr()?;
        let book = Arc::<Mutex<Book>>::default();
        let add = {
            let book = book.clone();
            move |Json(line): Json<Line>| {
                lock(&book).add(line, now());
                std::future::ready(())
            }
        };
        let router = Router::new().route("/", post(add));
        let serving = tokio::spawn(async move {
            // It ends by being aborted alone.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            book,
            addr,
            serving,
        })
    }

    /// Where handlers tell.
    pub fn url(&self) -> String {
        format!("http://{}/", self.addr)
    }

    /// How many executions have begun so far.
    pub fn begun(&self) -> usize {
        lock(&self.book).executions().len()
    }

    /// The executions that have not ended, as far as is known: what a pod took with it is among them.
    pub fn under_way(&self) -> Vec<Execution> {
        lock(&self.book).under_way().cloned().collect()
    }

    /// All executions so far.
    pub fn executions(&self) -> Vec<Execution> {
        lock(&self.book).executions().to_vec()
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(task: &str, pod: &str, moment: Moment) -> Line {
        Line {
            task: task.to_owned(),
            pod: pod.to_owned(),
            moment,
        }
    }

    #[test]
    fn an_execution_that_was_cut_off_has_no_end() {
        let mut book = Book::default();
        book.add(line("a", "one", Moment::Began), 1.0);
        book.add(line("b", "one", Moment::Began), 2.0);
        book.add(line("a", "one", Moment::Ended), 3.0);
        // The pod is killed, and another has the task from its beginning.
        book.add(line("b", "two", Moment::Began), 9.0);
        book.add(line("b", "two", Moment::Ended), 10.0);
        let ends: Vec<_> = book.executions().iter().map(|e| e.ended).collect();
        assert_eq!(ends, [Some(3.0), None, Some(10.0)]);
        let open: Vec<_> = book.under_way().map(|e| e.began).collect();
        assert_eq!(open, [2.0]);
    }

    #[test]
    fn a_call_that_was_ended_from_outside_is_cut() {
        let mut book = Book::default();
        book.add(line("a", "one", Moment::Began), 1.0);
        book.add(line("a", "one", Moment::Cut), 2.0);
        book.add(line("a", "one", Moment::Ended), 3.0);
        assert_eq!(
            (book.executions()[0].ended, book.executions()[0].cut),
            (None, Some(2.0))
        );
    }

    #[test]
    fn an_end_without_a_beginning_is_nothing() {
        let mut book = Book::default();
        book.add(line("a", "one", Moment::Ended), 1.0);
        assert!(book.executions().is_empty());
    }
}
