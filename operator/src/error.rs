//! What can go wrong in a reconcile. What Conductor or a sidecar does is not among it: that
//! is data.

use std::time::Duration;

/// A reconcile that did not get through; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused a call, or did not answer.
    #[error("{what}: {source}")]
    Kubernetes {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server did not answer a write in time; it may have been done.
    #[error("{what}: no answer from the API server within {} s; is it slow, or is the way to it broken?", within.as_secs())]
    Unanswered {
        /// What was tried.
        what: &'static str,
        /// How long it was waited for.
        within: Duration,
    },
    /// An object without a name or a namespace, which the API server never gives.
    #[error("an object without a name or a namespace")]
    Nameless,
}

impl Error {
    /// For `map_err`.
    pub fn in_(what: &'static str) -> impl Fn(kube::Error) -> Self {
        move |source| Self::Kubernetes {
            what,
            source: Box::new(source),
        }
    }
}
