//! Faults that tests ask for.

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This status, with an empty body; nothing is done.
    Status(u16),
    /// No answer until the fault is cleared, and then the connection closes; nothing is done.
    Hang,
    /// The connection closes without an answer; nothing is done.
    Close,
    /// It is done, and the connection closes without an answer.
    LoseAnswer,
}

/// Which requests it meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum On {
    /// All below `/api`.
    #[default]
    Everything,
    /// Polls.
    Polls,
    /// Updates of tasks, lease extensions included.
    Updates,
    /// Tasks that are read by their ids.
    Looks,
    /// Queue sizes and poll data.
    Queues,
    /// Requests for a token.
    Tokens,
}

impl On {
    fn meets(self, method: &http::Method, path: &str) -> bool {
        let Some(path) = path.strip_prefix("/api/") else {
            return false;
        };
        match self {
            Self::Everything => true,
            Self::Polls => path.starts_with("tasks/poll/"),
            Self::Updates => {
                let path = path.trim_end_matches('/');
                method == http::Method::POST && matches!(path, "tasks" | "tasks/update-v2")
            }
            Self::Looks => {
                let id = path.strip_prefix("tasks/");
                method == http::Method::GET && id.is_some_and(|id| !id.contains('/'))
            }
            Self::Queues => path.starts_with("tasks/queue/"),
            Self::Tokens => path == "token",
        }
    }
}

/// The fault that is set, if any.
#[derive(Debug)]
pub struct Faults {
    set: Mutex<Option<Set>>,
    /// Counts clears, so that what hangs can go on.
    cleared: watch::Sender<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Set {
    fault: Fault,
    on: On,
    left: Option<u32>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            set: Mutex::new(None),
            cleared: watch::channel(0).0,
        }
    }
}

impl Faults {
    /// Lets requests meet a fault until it is cleared. It replaces the one before.
    pub fn set(&self, fault: Fault, on: On) {
        self.put(Some(Set {
            fault,
            on,
            left: None,
        }));
    }

    /// Lets the next `times` requests of that kind meet a fault.
    pub fn set_times(&self, fault: Fault, on: On, times: u32) {
        self.put((times > 0).then_some(Set {
            fault,
            on,
            left: Some(times),
        }));
    }

    /// Back to normal; what hangs is let go.
    pub fn clear(&self) {
        self.put(None);
    }

    fn put(&self, set: Option<Set>) {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner) = set;
        self.cleared.send_modify(|n| *n += 1);
    }

    /// The fault that a request meets.
    pub(crate) fn meet(&self, method: &http::Method, path: &str) -> Option<Fault> {
        let mut slot = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let set = slot.as_mut().filter(|set| set.on.meets(method, path))?;
        let fault = set.fault;
        if let Some(left) = &mut set.left {
            *left -= 1;
            if *left == 0 {
                *slot = None;
            }
        }
        Some(fault)
    }

    /// Waits until the fault of this moment is replaced or cleared.
    pub(crate) async fn hang(&self) {
        let mut cleared = self.cleared.subscribe();
        cleared.mark_unchanged();
        let _ = cleared.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    #[test]
    fn a_fault_meets_its_requests_as_often_as_said() {
        let faults = Faults::default();
        faults.set_times(Fault::Close, On::Updates, 2);
        assert_eq!(faults.meet(&Method::GET, "/api/tasks/poll/t"), None);
        assert_eq!(faults.meet(&Method::POST, "/api/tasks"), Some(Fault::Close));
        assert_eq!(faults.meet(&Method::POST, "/api/tasks"), Some(Fault::Close));
        assert_eq!(faults.meet(&Method::POST, "/api/tasks"), None);
        faults.set(Fault::Hang, On::Looks);
        assert_eq!(faults.meet(&Method::GET, "/api/tasks/t/log"), None);
        assert_eq!(faults.meet(&Method::GET, "/api/tasks/t"), Some(Fault::Hang));
        faults.set(Fault::Status(503), On::Everything);
        assert_eq!(faults.meet(&Method::GET, "/health"), None);
        assert!(faults.meet(&Method::GET, "/api/tasks/queue/all").is_some());
        faults.clear();
        assert_eq!(faults.meet(&Method::GET, "/api/tasks/queue/all"), None);
    }
}
