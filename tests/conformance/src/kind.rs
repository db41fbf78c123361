//! The servers, and how they differ.

use embedded_conductor::{BatchFill, Options};
use harness::{Backend, Server};

/// A server that the suite runs against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// embedded-conductor, answering batches as on Redis.
    Embedded,
    /// embedded-conductor, answering batches as on SQL; for the cases where that matters.
    EmbeddedSql,
    /// The real one on Redis.
    Redis,
    /// The real one on `SQLite`.
    Sqlite,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Embedded, Self::EmbeddedSql, Self::Redis, Self::Sqlite];

    /// Its name in the names of tests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::EmbeddedSql => "embedded-sql",
            Self::Redis => "redis",
            Self::Sqlite => "sqlite",
        }
    }

    /// True if a batch poll waits until it is full.
    pub fn fills_batches(self) -> bool {
        matches!(self, Self::EmbeddedSql | Self::Sqlite)
    }

    /// True if task logs are kept: without an index they are lost.
    pub fn keeps_logs(self) -> bool {
        self != Self::Redis
    }

    /// True if cases must run one at a time: on `SQLite`, concurrent writes fail workflows.
    pub fn is_delicate(self) -> bool {
        self == Self::Sqlite
    }

    /// Starts it.
    pub async fn start(self) -> anyhow::Result<Server> {
        match self {
            Self::Embedded => Server::embedded().await,
            Self::EmbeddedSql => {
                Server::embedded_with(Options {
                    batch_fill: BatchFill::Sql,
                    ..Options::default()
                })
                .await
            }
            Self::Redis => Server::real(Backend::Redis).await,
            Self::Sqlite => Server::real(Backend::Sqlite).await,
        }
    }
}
