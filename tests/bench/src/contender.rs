//! Who takes part, and at which settings.

use anyhow::Result;

use crate::prepare;

/// A worker that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contender {
    /// As on the command line and in tables.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The settings that are not the same for all.
    pub settings: &'static str,
    /// Tasks before the measured ones, for caches and compilers.
    pub warm_up: usize,
    /// Measured tasks in a round.
    pub measured: usize,
}

/// What a contender is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The sidecar and a handler.
    Sidecar(HandlerKind),
    /// The least loop and the same handler.
    Floor,
    /// A worker on an SDK, one program.
    Sdk,
    /// The same program with the SDK's own times of polling, which only light load and
    /// idleness depend on.
    Defaults {
        /// Whose program.
        of: &'static str,
    },
}

/// A handler's language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandlerKind {
    /// `bench-handler`: hyper.
    Rust,
    /// `workers/python-handler`: an ASGI function on uvicorn.
    Python,
}

/// The sidecar that the bars are about.
pub const OURS: &str = "sidecar";
/// The floor.
pub const FLOOR: &str = "floor";

/// Everybody. Ours and the floor come first, side by side.
pub const ALL: &[Contender] = &[
    Contender {
        name: OURS,
        kind: Kind::Sidecar(HandlerKind::Rust),
        settings: "release build, as in its image; handler: hyper on one thread",
        warm_up: 3_000,
        measured: 20_000,
    },
    Contender {
        name: FLOOR,
        kind: Kind::Floor,
        settings: "reqwest on one thread, a poll when half of the slots are free; the same handler",
        warm_up: 3_000,
        measured: 20_000,
    },
    Contender {
        name: "go",
        kind: Kind::Sdk,
        settings: "conductor-go 1.5.4; batch size 64, poll interval 1 ms, poll time-out 5 s where the SDK sends one",
        warm_up: 3_000,
        measured: 12_000,
    },
    Contender {
        name: "java",
        kind: Kind::Sdk,
        settings: "conductor-client 6.0.0; 64 threads, poll interval 1 ms, poll time-out 5 s, 64 pooled connections",
        warm_up: 30_000,
        measured: 20_000,
    },
    Contender {
        name: "rust",
        kind: Kind::Sdk,
        settings: "conductor-sdk 0.2.0; 64 at once, current-thread runtime, poll interval 1 ms, poll time-out 5 s",
        warm_up: 3_000,
        measured: 15_000,
    },
    Contender {
        name: "javascript",
        kind: Kind::Sdk,
        settings: "@io-orkes/conductor-javascript 4.0.0; concurrency 64, poll interval 1 ms, batch poll time-out 5 s",
        warm_up: 2_000,
        measured: 5_000,
    },
    Contender {
        name: "python",
        kind: Kind::Sdk,
        settings: "conductor-python 2.0.0; a plain function in 64 threads (half the cost of an async one), poll interval 1 ms (its poll time-out is fixed at 100 ms)",
        warm_up: 500,
        measured: 2_500,
    },
    Contender {
        name: "sidecar+python",
        kind: Kind::Sidecar(HandlerKind::Python),
        settings: "handler: an ASGI function on uvicorn with httptools and uvloop, one process",
        warm_up: 1_000,
        measured: 6_000,
    },
    Contender {
        name: "go-defaults",
        kind: Kind::Defaults { of: "go" },
        settings: "poll interval 100 ms (required; its examples' number), no poll time-out sent: the server's 100 ms",
        warm_up: 0,
        measured: 0,
    },
    Contender {
        name: "java-defaults",
        kind: Kind::Defaults { of: "java" },
        settings: "poll interval 1 s, poll time-out 100 ms",
        warm_up: 0,
        measured: 0,
    },
    Contender {
        name: "rust-defaults",
        kind: Kind::Defaults { of: "rust" },
        settings: "poll interval and time-out 100 ms",
        warm_up: 0,
        measured: 0,
    },
    Contender {
        name: "javascript-defaults",
        kind: Kind::Defaults { of: "javascript" },
        settings: "poll interval and time-out 100 ms",
        warm_up: 0,
        measured: 0,
    },
    Contender {
        name: "python-defaults",
        kind: Kind::Defaults { of: "python" },
        settings: "poll interval and time-out 100 ms",
        warm_up: 0,
        measured: 0,
    },
];

impl Contender {
    /// By its name.
    pub fn named(name: &str) -> Result<&'static Self> {
        ALL.iter().find(|one| one.name == name).ok_or_else(|| {
            let names: Vec<_> = ALL.iter().map(|one| one.name).collect();
            anyhow::anyhow!("{name:?} is no worker; there are {}", names.join(", "))
        })
    }

    /// Whether a handler's process belongs to it.
    pub fn handler(&self) -> Option<HandlerKind> {
        match self.kind {
            Kind::Sidecar(handler) => Some(handler),
            Kind::Floor => Some(HandlerKind::Rust),
            Kind::Sdk | Kind::Defaults { .. } => None,
        }
    }

    /// The program that polls.
    pub fn program(&self) -> Result<std::path::PathBuf> {
        match self.kind {
            Kind::Sidecar(_) => prepare::beside("worker-sidecar"),
            Kind::Floor => prepare::beside("bench-floor"),
            Kind::Sdk => prepare::sdk(self.name),
            Kind::Defaults { of } => prepare::sdk(of),
        }
    }

    /// What `workers/get` must have installed.
    pub fn needs(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Sidecar(HandlerKind::Rust) | Kind::Floor => None,
            Kind::Sidecar(HandlerKind::Python) => Some("python-handler"),
            Kind::Sdk => Some(self.name),
            Kind::Defaults { of } => Some(of),
        }
    }
}

impl HandlerKind {
    /// Its program.
    pub fn program(self) -> Result<std::path::PathBuf> {
        match self {
            Self::Rust => prepare::beside("bench-handler"),
            Self::Python => prepare::sdk("python-handler"),
        }
    }
}
