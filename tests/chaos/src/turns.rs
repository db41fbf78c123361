//! What can be broken by one thing at a time.

use tokio::sync::{Mutex, MutexGuard};

use crate::kind::Kind;

/// What one thing that goes wrong breaks at a time.
#[derive(Debug, Default)]
pub struct Turns {
    /// The way to Conductor.
    pub road: Mutex<()>,
    /// The pods' template and their number: that is not lowered while they are replaced.
    pub pods: Mutex<()>,
    /// The cluster's own parts.
    pub parts: Mutex<()>,
}

impl Turns {
    /// Waits until nothing else breaks the same.
    pub async fn take(&self, kind: Kind) -> Vec<MutexGuard<'_, ()>> {
        let Self { road, pods, parts } = self;
        // Always in this order.
        let wanted = match kind {
            // Who can do no task fails none, and is not found out.
            Kind::BrokenRoll => vec![road, pods],
            Kind::Roll
            | Kind::SlowStart
            | Kind::ScaleStorm
            | Kind::ScaleDown
            | Kind::ScaleToOne => vec![pods],
            Kind::OperatorAway | Kind::ApiServerAway => vec![pods, parts],
            Kind::ConductorRestart
            | Kind::ConductorErrors
            | Kind::ConductorSilent
            | Kind::NetworkCut => vec![road],
            // The kubelet brings new keys to the pods.
            Kind::KubeletRestart | Kind::ApiServerRestart | Kind::SecretRotation => vec![parts],
            Kind::DeletePod
            | Kind::Evict
            | Kind::SidecarKill
            | Kind::HandlerKill
            | Kind::HandlerOom
            | Kind::HandlerHang
            | Kind::OperatorKill
            | Kind::QueueStuck => vec![],
        };
        let mut taken = Vec::new();
        for turn in wanted {
            taken.push(turn.lock().await);
        }
        taken
    }
}
