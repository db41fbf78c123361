//! What a run is about: who does the work, with how much, and in which version.

use std::time::Duration;

/// Who does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A `ConductorWorker`.
    Worker,
    /// A Deployment of a worker on the Go SDK, as its examples write it.
    Sdk,
    /// The same, ending as well as the SDK lets it.
    SdkCareful,
}

impl Subject {
    /// All, in the order of tables.
    pub const ALL: [Self; 3] = [Self::Sdk, Self::SdkCareful, Self::Worker];

    /// In files.
    pub fn short(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Sdk => "sdk",
            Self::SdkCareful => "sdk-careful",
        }
    }

    /// In reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Worker => "ConductorWorker",
            Self::Sdk => "Go SDK, as its examples are",
            Self::SdkCareful => "Go SDK, written with care",
        }
    }
}

/// What a run is about.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Of the namespace, the worker and the task type.
    pub name: String,
    /// Who does the work.
    pub subject: Subject,
    /// Pods.
    pub replicas: u32,
    /// Tasks that a pod runs at once.
    pub slots: u32,
    /// The pods' grace period, in seconds.
    pub grace: u32,
    /// The task's `responseTimeoutSeconds`.
    pub lease: u32,
    /// The task's `retryCount`.
    pub retries: u32,
    /// Between the pods and Conductor stand a gateway that asks for keys and a proxy that breaks.
    pub guarded: bool,
    /// How long what is away for long is away.
    pub away: Duration,
}

/// What a version of the template is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Version {
    /// Its number.
    pub number: u32,
    /// It fails every task.
    pub fails: bool,
    /// How long it takes to start, in seconds.
    pub starts_in: u32,
}
