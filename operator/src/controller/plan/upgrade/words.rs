//! What is said of the sidecar's upgrade.

use api::ConductorWorkerStatus;

use super::{Standing, State, Upgrade, Waits, is_over};
use crate::controller::{
    observed::{Memory, Now, Observed},
    plan::{
        Event,
        conditions::{Conditions, Tri},
        status,
    },
};

/// There while the pods have another sidecar than this operator adds.
const BEHIND: &str = "SidecarBehind";

/// There while pods with another sidecar do not get ready, or fail their tasks; an event, too.
pub(in crate::controller::plan) const FAILED: &str = "SidecarUpgradeFailed";

/// What follows from that, before the reason.
const NO_OTHER: &str = "so that no other worker gets it: ";

/// How far it has come while the spec cannot be run: what the spec is said to be changes nothing of
/// what the pods are replaced by.
pub(in crate::controller::plan) fn while_invalid(observed: &Observed, memory: &Memory) -> Standing {
    let live = observed.deployment.as_ref();
    let is_under_way = live.is_some_and(|live| live.origin.upgrade_since.is_some());
    match &memory.upgrade {
        // It may come to its end meanwhile.
        Some(Standing::UnderWay | Standing::Failed { .. }) if is_over(observed, memory) => {
            Standing::Current
        }
        Some(standing) => standing.clone(),
        // After a restart the Deployment says so, and the condition that is left says why.
        None if is_under_way && !is_over(observed, memory) => {
            let mut conditions = observed.status.conditions.iter();
            let failed = conditions.find(|c| c.type_ == FAILED && c.status == "True");
            failed.map_or(Standing::UnderWay, |failed| {
                let said = &failed.message;
                let why = said.split_once(NO_OTHER).map_or(&**said, |(_, why)| why);
                Standing::Failed {
                    why: why.to_owned(),
                }
            })
        }
        None => Standing::Current,
    }
}

impl Upgrade {
    /// Says in the status which sidecar runs, and what an upgrade waits for.
    pub(in crate::controller::plan) fn tell(
        &self,
        status: &mut ConductorWorkerStatus,
        observed: &Observed,
        memory: &Memory,
        now: Now,
    ) -> Standing {
        let is_refused = memory.deployment.refused.is_some();
        status.sidecar_image = match self.state {
            State::Kept(_) => self.before.clone(),
            _ if is_refused => self.before.clone(),
            _ => Some(self.own.clone()),
        };
        let last = status::last(observed, memory, now);
        let mut conditions = Conditions::after(&last.conditions, observed.generation, now.wall);
        let standing = match &self.state {
            State::Current | State::Ended => Standing::Current,
            State::Kept(waits) => {
                let message = format!("{}: {}", self.difference(), waits.words());
                conditions.set(BEHIND, Tri::True, waits.reason(), message);
                Standing::Behind
            }
            State::Begins | State::GoesOn => match stalled(status) {
                None => Standing::UnderWay,
                Some(why) => {
                    let message = format!(
                        "the pods do not work with the sidecar {}, {NO_OTHER}{why}",
                        self.own
                    );
                    conditions.set(FAILED, Tri::True, FAILED, message);
                    Standing::Failed {
                        why: why.to_owned(),
                    }
                }
            },
        };
        status.conditions.extend(conditions.done());
        standing
    }

    /// What happens to the pods that nobody has asked for.
    pub(in crate::controller::plan) fn event(&self) -> Option<Event> {
        let own = &self.own;
        let before = self.before.as_ref().filter(|before| *before != own);
        let which = match before {
            Some(before) => format!("the sidecar {before} is replaced by {own}"),
            None => format!("the sidecar {own} is added as this version of the operator does"),
        };
        let (reason, message) = match self.state {
            State::Begins => (
                "SidecarUpgrade",
                format!("{which}: pods are replaced in turn"),
            ),
            State::Ended => (
                "SidecarUpgraded",
                format!("all pods have the sidecar {own}"),
            ),
            State::Current | State::Kept(_) | State::GoesOn => return None,
        };
        Some(Event {
            warning: false,
            reason: reason.to_owned(),
            message,
        })
    }

    fn difference(&self) -> String {
        let own = &self.own;
        match &self.before {
            Some(before) if before != own => {
                format!("the pods have the sidecar {before}, and this operator adds {own}")
            }
            _ => format!(
                "the pods have the sidecar {own} as another version of the operator adds it"
            ),
        }
    }
}

impl Waits {
    fn reason(&self) -> &'static str {
        match self {
            Self::Rollout => "WaitsForRollout",
            Self::Turn => "WaitsForTurn",
            Self::Ready => "WaitsUntilReady",
            Self::Halt { .. } => "UpgradesHalted",
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Rollout => {
                "it comes with the next change of the spec that replaces pods, or when there are none".to_owned()
            }
            Self::Turn => "it comes when it is this worker's turn".to_owned(),
            Self::Ready => "it comes when the worker is ready and nothing is rolled out".to_owned(),
            Self::Halt { by, why } => {
                format!("it comes when {by} works, whose pods do not with it: {why}")
            }
        }
    }
}

/// Why pods do not work, where that will not pass by itself.
fn stalled(status: &ConductorWorkerStatus) -> Option<&str> {
    let mut conditions = status.conditions.iter();
    let stalled = conditions.find(|c| c.type_ == "Stalled" && c.status == "True")?;
    Some(&stalled.message)
}
