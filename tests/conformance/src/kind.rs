//! The servers, and how they differ.

use embedded_conductor::{BatchFill, Options};
use harness::{Backend, Server};

/// A server that the suite runs against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// embedded-conductor, answering as the real one on Redis.
    Embedded,
    /// embedded-conductor, answering as the real one on `SQLite`.
    EmbeddedSql,
    /// The real one on Redis.
    Redis,
    /// The real one on `SQLite`.
    Sqlite,
    /// The real one on Postgres.
    Postgres,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Embedded,
        Self::EmbeddedSql,
        Self::Redis,
        Self::Sqlite,
        Self::Postgres,
    ];

    /// Its name in the names of tests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::EmbeddedSql => "embedded-sql",
            Self::Redis => "redis",
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }

    /// True for the in-memory one.
    pub fn is_embedded(self) -> bool {
        matches!(self, Self::Embedded | Self::EmbeddedSql)
    }

    /// True if it answers as a server on SQL: a batch poll waits until it is full, rate limits
    /// are ignored, higher priorities go first, deleting what is not there is a 500.
    pub fn is_sql(self) -> bool {
        matches!(self, Self::EmbeddedSql | Self::Sqlite | Self::Postgres)
    }

    /// True if time-outs are found when they come. Servers on SQL look at a workflow late once
    /// they have looked at it before.
    pub fn is_prompt(self) -> bool {
        self.is_embedded() || self == Self::Redis
    }

    /// True if task logs are kept: without an index they are lost.
    pub fn keeps_logs(self) -> bool {
        self != Self::Redis
    }

    /// How many cases run at once; they mostly wait. One at a time on `SQLite`: there,
    /// concurrent writes fail workflows.
    pub fn at_once(self) -> usize {
        match self {
            Self::Sqlite => 1,
            _ => 24,
        }
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
            Self::Postgres => Server::real(Backend::Postgres).await,
        }
    }
}
