//! What can go wrong, and what it may do to a task.

use conductor_client::TaskStatus;
use serde::{Deserialize, Serialize};

/// A kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A new version of the template.
    Roll,
    /// A new version that fails every task, and then the old one again.
    BrokenRoll,
    /// A new version that takes long to start.
    SlowStart,
    /// Replicas down and up, several times, quicker than pods drain.
    ScaleStorm,
    /// Replicas down and up once, settling in between.
    ScaleDown,
    /// Replicas down to one and up again, settling in between.
    ScaleToOne,
    /// A pod is deleted.
    DeletePod,
    /// A pod is evicted, as by the drain of a node.
    Evict,
    /// The kubelet is killed and started again.
    KubeletRestart,
    /// A sidecar is killed by -9.
    SidecarKill,
    /// A handler is killed by -9.
    HandlerKill,
    /// A handler takes memory until it is killed for it.
    HandlerOom,
    /// A handler stands still for a while.
    HandlerHang,
    /// Conductor is ended and started again.
    ConductorRestart,
    /// Conductor's gateway answers 500 to everything for a while.
    ConductorErrors,
    /// Nothing is answered for a while.
    ConductorSilent,
    /// The API server is killed and started again.
    ApiServerRestart,
    /// The operator is killed by -9.
    OperatorKill,
    /// The worker's keys are replaced, and the old ones revoked.
    SecretRotation,
    /// The pods reach nothing for a while: neither Conductor nor the API server nor each other.
    NetworkCut,
    /// The operator is away for long, from the middle of a scale-down on.
    OperatorAway,
    /// The API server is away for long, from the middle of a scale-down on.
    ApiServerAway,
    /// Conductor handed out nothing of the queue, by no doing of ours, and was restarted.
    QueueStuck,
}

/// What a kind may do to tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum May {
    /// Nothing at all.
    Nothing,
    /// What runs in the pods it hits is cut off, and executed again.
    CutOff,
    /// Attempts by its pods fail.
    Fail,
    /// Conductor may hear nothing of a task for longer than its lease, and an answer that carries
    /// tasks may be lost: their lease ends, and they are tried again.
    Strand,
}

impl Kind {
    /// All that a storm is made of.
    pub const ALL: [Self; 18] = [
        Self::Roll,
        Self::BrokenRoll,
        Self::SlowStart,
        Self::ScaleStorm,
        Self::DeletePod,
        Self::Evict,
        Self::KubeletRestart,
        Self::SidecarKill,
        Self::HandlerKill,
        Self::HandlerOom,
        Self::HandlerHang,
        Self::ConductorRestart,
        Self::ConductorErrors,
        Self::ConductorSilent,
        Self::ApiServerRestart,
        Self::OperatorKill,
        Self::SecretRotation,
        Self::NetworkCut,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Roll => "rolling update",
            Self::BrokenRoll => "broken rolling update",
            Self::SlowStart => "rolling update, slow to start",
            Self::ScaleStorm => "scale-down storm",
            Self::ScaleDown => "scale-down",
            Self::ScaleToOne => "scale-down to one",
            Self::DeletePod => "pod deleted",
            Self::Evict => "pod evicted",
            Self::KubeletRestart => "kubelet restarted",
            Self::SidecarKill => "sidecar killed",
            Self::HandlerKill => "handler killed",
            Self::HandlerOom => "handler out of memory",
            Self::HandlerHang => "handler hangs",
            Self::ConductorRestart => "Conductor restarted",
            Self::ConductorErrors => "Conductor answers 500",
            Self::ConductorSilent => "Conductor answers nothing",
            Self::ApiServerRestart => "API server restarted",
            Self::OperatorKill => "operator killed",
            Self::SecretRotation => "keys replaced",
            Self::NetworkCut => "network cut",
            Self::OperatorAway => "operator away",
            Self::ApiServerAway => "API server away",
            Self::QueueStuck => "Conductor stuck, and restarted",
        }
    }

    /// What it may do to tasks that can finish within the grace period.
    pub fn may(self) -> May {
        match self {
            Self::Roll
            | Self::SlowStart
            | Self::ScaleStorm
            | Self::ScaleDown
            | Self::ScaleToOne
            | Self::DeletePod
            | Self::Evict
            | Self::KubeletRestart
            | Self::HandlerHang
            | Self::ApiServerRestart
            | Self::OperatorKill
            | Self::OperatorAway
            | Self::ApiServerAway
            | Self::SecretRotation => May::Nothing,
            Self::SidecarKill | Self::HandlerKill | Self::HandlerOom => May::CutOff,
            Self::BrokenRoll => May::Fail,
            Self::ConductorRestart
            | Self::ConductorErrors
            | Self::ConductorSilent
            | Self::NetworkCut
            | Self::QueueStuck => May::Strand,
        }
    }
}

impl Kind {
    /// Whether Conductor itself does nothing meanwhile.
    pub fn stops_conductor(self) -> bool {
        matches!(self, Self::ConductorRestart | Self::QueueStuck)
    }

    /// Whether an answer of Conductor may be lost on its way. What meets requests before Conductor
    /// does loses none: the answers to those that are with it pass.
    pub fn loses_answers(self) -> bool {
        self.stops_conductor() || self == Self::NetworkCut
    }

    /// How the attempts end that are in flight in what it kills; none: it kills nothing that has
    /// any.
    pub fn ends_attempts(self) -> Option<TaskStatus> {
        match self {
            // Nobody keeps their leases any more.
            Self::SidecarKill => Some(TaskStatus::TimedOut),
            // Their sidecar says so.
            Self::HandlerKill | Self::HandlerOom => Some(TaskStatus::Failed),
            _ => None,
        }
    }
}

/// Something that went wrong: what, where and when. Times are seconds since 1970 as they are
/// taken, and since the beginning in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What.
    pub kind: Kind,
    /// The pods it hit; none: all of them.
    pub pods: Vec<String>,
    /// When it began.
    pub from: f64,
    /// When it was over.
    pub to: f64,
}

impl Event {
    /// Whether it went wrong because it was to.
    pub fn is_planned(&self) -> bool {
        self.kind != Kind::QueueStuck
    }

    /// Whether it hit a pod, or could have.
    pub fn hits(&self, pod: Option<&str>) -> bool {
        self.pods.is_empty() || pod.is_none_or(|pod| self.pods.iter().any(|p| p == pod))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_conductor_gets_stuck_is_not_planned() {
        let event = |kind| Event {
            kind,
            pods: vec![],
            from: 0.0,
            to: 1.0,
        };
        assert!(Kind::ALL.map(event).iter().all(Event::is_planned));
        assert!(!event(Kind::QueueStuck).is_planned());
    }
}
