//! Whether pods of one version are being replaced by pods of another.

use serde_json::Value;

use super::stall::Course;
use crate::controller::observed::{Memory, Observed};

/// How far the Deployment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Rollout {
    /// A change of the Deployment has not been taken up by its controller, or not been seen here.
    pub(super) is_behind: bool,
    template: Template,
    /// Pods of another template are there.
    has_old: bool,
    /// It is stopped.
    is_held: bool,
    /// Pods of the versions before, where one that was stopped gives way to another template.
    kept: u32,
}

/// The template that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Template {
    /// It is the one that is wanted.
    #[default]
    Same,
    /// It is another.
    Another,
    /// After a restart nothing is known to have been sent, nor where something else is read.
    Unknown,
}

impl Rollout {
    /// By the Deployment as it is to be.
    pub(super) fn of(observed: &Observed, memory: &Memory, object: &Value) -> Self {
        let Some(live) = &observed.deployment else {
            return Self::default();
        };
        let sent = memory.deployment.last(live);
        let unread = memory.deployment.unread(live);
        Self {
            is_behind: live.observed_generation < live.generation || unread.is_some(),
            template: match sent.map(|applied| &applied.object["spec"]["template"]) {
                Some(sent) if *sent == object["spec"]["template"] => Template::Same,
                Some(_) => Template::Another,
                None => Template::Unknown,
            },
            has_old: live.updated < live.replicas,
            is_held: false,
            kept: 0,
        }
    }

    /// The same, stopped or not, and with what its end would leave too few places for.
    pub(super) fn on(self, course: &Course) -> Self {
        Self {
            is_held: course.is_held(),
            kept: course.kept,
            ..self
        }
    }

    /// The fewest replicas that end no pod at work. While a Deployment is paused Kubernetes fills it
    /// up to `maxSurge` with pods of the old version too (`scale` in its `sync.go`); gone back to
    /// that version, it would remove at once what is more than replicas.
    pub(super) fn kept(self) -> u32 {
        self.kept
    }

    /// What is read of the Deployment is about the template that is wanted.
    pub(super) fn is_of_what_is_wanted(self) -> bool {
        !self.is_behind && self.template == Template::Same
    }

    /// Another template is to be sent.
    pub(super) fn changes(self) -> bool {
        self.template == Template::Another
    }

    /// Pods of more than one template exist, or may soon: there may be more than are asked for.
    pub(super) fn is_replacing(self) -> bool {
        // Of one that is stopped the old pods may all have been deleted, and are made again.
        self.changes() || self.has_old || self.is_held
    }

    /// The number of pods cannot be lowered by those that are meant, or it is not known.
    pub(super) fn is_incomplete(self) -> bool {
        self.is_behind || self.is_replacing() || self.template == Template::Unknown
    }
}
