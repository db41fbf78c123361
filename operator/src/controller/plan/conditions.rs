//! Conditions, and since when they are as they are.

use api::Condition;
use jiff::Timestamp;

/// A condition's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tri {
    True,
    False,
    Unknown,
}

impl Tri {
    fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Tri {
    fn from(on: bool) -> Self {
        if on { Self::True } else { Self::False }
    }
}

/// The conditions that come after others.
pub(super) struct Conditions<'a> {
    last: &'a [Condition],
    generation: i64,
    now: Timestamp,
    new: Vec<Condition>,
}

impl<'a> Conditions<'a> {
    pub(super) fn after(last: &'a [Condition], generation: i64, now: Timestamp) -> Self {
        Self {
            last,
            generation,
            now,
            new: Vec::new(),
        }
    }

    /// Adds one. Its time is kept while its status stays.
    pub(super) fn set(&mut self, kind: &str, status: Tri, reason: &str, message: String) {
        let since = self
            .find(kind)
            .filter(|last| last.status == status.as_str())
            .map_or_else(|| written(self.now), |c| c.last_transition_time.clone());
        self.new.push(Condition {
            type_: kind.to_owned(),
            status: status.as_str().to_owned(),
            reason: reason.to_owned(),
            message,
            last_transition_time: since,
            observed_generation: Some(self.generation),
        });
    }

    /// Keeps one that is there, of which nothing new is known.
    pub(super) fn keep(&mut self, kind: &str) {
        self.new.extend(self.find(kind).cloned());
    }

    /// Keeps one that was said of the spec as it still is.
    pub(super) fn keep_of_this_spec(&mut self, kind: &str) {
        let last = self.find(kind);
        let last = last.filter(|last| last.observed_generation == Some(self.generation));
        self.new.extend(last.cloned());
    }

    /// Keeps one of which nothing new is known.
    pub(super) fn keep_or(&mut self, kind: &str, reason: &str) {
        match self.find(kind) {
            Some(last) => self.new.push(last.clone()),
            None => self.set(kind, Tri::Unknown, reason, String::new()),
        }
    }

    /// Keeps all that were not set.
    pub(super) fn keep_others(&mut self) {
        let set: Vec<String> = self.new.iter().map(|c| c.type_.clone()).collect();
        let kept = self.last.iter().filter(|last| !set.contains(&last.type_));
        self.new.extend(kept.cloned());
    }

    pub(super) fn done(self) -> Vec<Condition> {
        self.new
    }

    fn find(&self, kind: &str) -> Option<&'a Condition> {
        self.last.iter().find(|last| last.type_ == kind)
    }
}

/// A time as Kubernetes writes it: whole seconds.
pub(super) fn written(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
