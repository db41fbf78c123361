//! Whether pods get the sidecar as this operator adds it, or keep what another operator gave them.
//!
//! ```text
//! what the user decided has changed ────────────────> rendered anew
//! only what the operator adds has ─┬─ no pods, or none that could be harmed ─> rendered anew
//!                                  ├─ policy Staged, and its turn ──> rendered anew, marked
//!                                  └─ else ──> the template stays as it is
//! ```
//!
//! All of it is in the Deployment's annotations, written together with its template: an operator
//! that is killed at any point has a successor that goes on.

mod turn;
mod words;

use api::SIDECAR_CONTAINER;
use serde_json::{Map, Value, json};

pub use self::turn::{Standing, Turn, turn};
pub(super) use self::words::{FAILED, while_invalid};
use super::{conditions::written, scale::current, stall, status};
use crate::{
    SIDECAR_UPGRADE, SPEC_HASH, TEMPLATE_HASH,
    controller::observed::{
        Applied, Key, LiveDeployment, LivePod, Memory, Now, Observed, Origin, TroubleKind,
    },
    worker::{Worker, fingerprint},
};

/// What it says where a Deployment was not made from the spec: that was refused, or not looked at.
const NOT_MADE: [&str; 3] = ["InvalidSpec", "DeploymentRefused", "DeploymentExists"];

/// What was found.
#[derive(Debug)]
pub(super) struct Upgrade {
    state: State,
    /// The sidecar's image in the template that was there.
    before: Option<String>,
    /// The one that this operator adds.
    own: String,
}

#[derive(Debug)]
enum State {
    /// The pods have, or get, what this operator adds.
    Current,
    /// They keep what they have.
    Kept(Waits),
    /// They get it for no change of the user's.
    Begins,
    /// They are getting it.
    GoesOn,
    /// They have got it.
    Ended,
}

/// What it waits for.
#[derive(Debug)]
enum Waits {
    Rollout,
    Turn,
    Ready,
    Halt { by: Key, why: String },
}

/// The template that is there, as it was sent last or as it is read.
struct There<'a> {
    origin: Origin,
    template: &'a Value,
}

/// The Deployment to have, but for its replicas; `rendered` is it as this operator makes it.
pub(super) fn choose(
    observed: &Observed,
    worker: &Worker,
    memory: &Memory,
    mut rendered: Value,
    now: Now,
) -> (Value, Upgrade) {
    let hash = fingerprint(&rendered["spec"]["template"]);
    let there = There::of(observed, memory, &rendered["spec"]["template"]);
    let there = there.map(|there| there.adopted(observed, worker, &rendered, &hash));
    let image_there = there.as_ref().and_then(|there| image(there.template));
    let upgrade = |state| Upgrade {
        state,
        before: image_there.map(str::to_owned),
        own: image(&rendered["spec"]["template"])
            .unwrap_or_default()
            .to_owned(),
    };
    let made_from_this = there.filter(|t| t.origin.spec.as_ref() == Some(&worker.fingerprint));
    let (upgrade, since) = match &made_from_this {
        None => (upgrade(State::Current), None),
        Some(there) if there.origin.template.as_ref() == Some(&hash) => {
            match &there.origin.upgrade_since {
                None => (upgrade(State::Current), None),
                Some(_) if is_over(observed, memory) => (upgrade(State::Ended), None),
                Some(since) => (upgrade(State::GoesOn), Some(since.clone())),
            }
        }
        Some(there) => match begins(observed, memory, there, &hash, now) {
            Ok(None) => (upgrade(State::Current), None),
            Ok(Some(since)) => {
                let is_new = there.origin.upgrade_since.is_none();
                let state = if is_new { State::Begins } else { State::GoesOn };
                (upgrade(state), Some(since))
            }
            Err(waits) => {
                let kept = upgrade(State::Kept(waits));
                rendered["spec"]["template"] = kept_template(there.template);
                let origin = &there.origin;
                return (annotated(rendered, origin), kept);
            }
        },
    };
    let origin = Origin {
        spec: Some(worker.fingerprint.clone()),
        template: Some(hash),
        upgrade_since: since,
    };
    (annotated(rendered, &origin), upgrade)
}

/// Whether pods are given this operator's sidecar now though the user has changed nothing, and
/// since when that is under way where it counts.
fn begins(
    observed: &Observed,
    memory: &Memory,
    there: &There<'_>,
    hash: &str,
    now: Now,
) -> Result<Option<String>, Waits> {
    if let Some(since) = &there.origin.upgrade_since
        && !is_over(observed, memory)
    {
        // Pods are being replaced anyway, and what they are replaced by may be what was wrong.
        return Ok(Some(since.clone()));
    }
    let knows_of_no_halt = !matches!(observed.turn, Turn::Unknown | Turn::Halted { .. });
    let is_stuck = is_stuck(observed) && !is_stopped(observed, memory, there);
    if is_without_pods(observed, memory) && knows_of_no_halt || is_stuck {
        return Ok(None);
    }
    match &observed.turn {
        Turn::Never => Err(Waits::Rollout),
        Turn::Unknown | Turn::Later => Err(Waits::Turn),
        Turn::Halted { by, why } => Err(Waits::Halt {
            by: by.clone(),
            why: why.clone(),
        }),
        Turn::Now => match refused(memory, hash) {
            // The same again: when it is sent again is decided elsewhere.
            Some(since) => Ok(Some(since)),
            None if is_well(observed, memory, now) => Ok(Some(written(now.wall))),
            None => Err(Waits::Ready),
        },
    }
}

impl<'a> There<'a> {
    /// `rendered` is the template as this operator makes it.
    fn of(observed: &'a Observed, memory: &'a Memory, rendered: &Value) -> Option<Self> {
        let live = observed.deployment.as_ref()?;
        // What is read may be older than what was sent, and may be someone else's change.
        let sent = memory.deployment.applied.as_ref();
        // Nobody but an operator writes where it comes from: this one, where the answer to what it
        // sent was lost, or one before it.
        let is_operators = |sent: &Applied| {
            live.generation > sent.generation && live.origin != origin(&sent.object)
        };
        let mine = |sent: &&Applied| sent.uid == live.uid && !is_operators(sent);
        Some(match sent.filter(mine) {
            Some(sent) => {
                let template = &sent.object["spec"]["template"];
                // What the operator does not render is others' to change, by `kubectl rollout
                // restart` for example: pods are being replaced for it already.
                let is_others = live.generation > sent.generation
                    && is_same_where_rendered(rendered, template, &live.template);
                Self {
                    origin: origin(&sent.object),
                    template: if is_others { &live.template } else { template },
                }
            }
            None => Self {
                origin: live.origin.clone(),
                template: &live.template,
            },
        })
    }

    /// An operator that wrote no fingerprints made it of the same spec, if its status says so. That
    /// of the template is known only where the same is made of it now.
    fn adopted(
        mut self,
        observed: &Observed,
        worker: &Worker,
        rendered: &Value,
        hash: &str,
    ) -> Self {
        let status = &observed.status;
        let ready = status.conditions.iter().find(|c| c.type_ == "Ready");
        let is_made = ready.is_some_and(|ready| !NOT_MADE.contains(&&*ready.reason))
            && status.observed_generation == Some(observed.generation)
            && status.connection == Some(worker.connection.to_string());
        if self.origin == Origin::default() && is_made {
            self.origin.spec = Some(worker.fingerprint.clone());
            let is_same = holds(self.template, &rendered["spec"]["template"]);
            self.origin.template = is_same.then(|| hash.to_owned());
        }
        self
    }
}

/// Whether what is there has all that is wanted; what it has besides are the API server's defaults.
fn holds(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => wanted
            .iter()
            .all(|(name, wanted)| holds(there.get(name).unwrap_or(&Value::Null), wanted)),
        (Value::Array(there), Value::Array(wanted)) => {
            let mut pairs = there.iter().zip(wanted);
            there.len() == wanted.len() && pairs.all(|(there, wanted)| holds(there, wanted))
        }
        // Empty ones are not kept by the API server.
        (Value::Null, Value::Object(wanted)) => wanted.is_empty(),
        (Value::Null, Value::Array(wanted)) => wanted.is_empty(),
        (there, wanted) => there == wanted,
    }
}

/// Whether two templates differ in nothing that is rendered. Where the same containers, for example,
/// are not in both, they differ in that.
fn is_same_where_rendered(rendered: &Value, one: &Value, other: &Value) -> bool {
    match (rendered, one, other) {
        (Value::Object(rendered), Value::Object(one), Value::Object(other)) => {
            rendered.iter().all(|(name, rendered)| {
                let one = one.get(name).unwrap_or(&Value::Null);
                let other = other.get(name).unwrap_or(&Value::Null);
                is_same_where_rendered(rendered, one, other)
            })
        }
        (Value::Array(rendered), Value::Array(one), Value::Array(other))
            if rendered.len() == one.len() && one.len() == other.len() =>
        {
            let mut all = rendered.iter().zip(one).zip(other);
            all.all(|((rendered, one), other)| is_same_where_rendered(rendered, one, other))
        }
        (_, one, other) => one == other,
    }
}

fn origin(object: &Value) -> Origin {
    let annotations = &object["metadata"]["annotations"];
    let text = |name| annotations[name].as_str().map(str::to_owned);
    Origin {
        spec: text(SPEC_HASH),
        template: text(TEMPLATE_HASH),
        upgrade_since: text(SIDECAR_UPGRADE),
    }
}

fn annotated(mut object: Value, origin: &Origin) -> Value {
    let annotations = [
        (SPEC_HASH, &origin.spec),
        (TEMPLATE_HASH, &origin.template),
        (SIDECAR_UPGRADE, &origin.upgrade_since),
    ];
    let annotations = annotations.into_iter();
    let known = annotations.filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let known: Map<String, Value> = known
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
    object["metadata"]["annotations"] = Value::Object(known);
    object
}

/// The template as it is there. That it was made at no time is what Kubernetes before 1.34 writes
/// where nothing is meant; nobody is to own that.
fn kept_template(there: &Value) -> Value {
    let mut template = there.clone();
    if let Some(metadata) = template["metadata"].as_object_mut() {
        let made = metadata.get("creationTimestamp");
        if made.is_some_and(Value::is_null) {
            metadata.remove("creationTimestamp");
        }
    }
    template
}

/// The sidecar's image in a template.
fn image(template: &Value) -> Option<&str> {
    let containers = template["spec"]["initContainers"].as_array()?;
    let sidecar = containers.iter().find(|c| c["name"] == SIDECAR_CONTAINER)?;
    sidecar["image"].as_str()
}

/// Since when an upgrade to this template is to be under way that the API server refused.
fn refused(memory: &Memory, hash: &str) -> Option<String> {
    let refused = memory.deployment.refused.as_ref()?;
    let Origin {
        template,
        upgrade_since,
        ..
    } = origin(&refused.object);
    upgrade_since.filter(|_| template.as_deref() == Some(hash))
}

// === how the worker is ===

fn is_without_pods(observed: &Observed, memory: &Memory) -> bool {
    current(observed, memory) == Some(0) && observed.staying().next().is_none()
}

/// Its controller has taken up what was sent last, and pods of one template are there alone.
fn is_settled(live: &LiveDeployment, memory: &Memory) -> bool {
    live.observed_generation >= live.generation
        && memory.deployment.unread(live).is_none()
        && live.updated >= live.replicas
}

/// New pods have replaced the old ones, and take work.
fn is_over(observed: &Observed, memory: &Memory) -> bool {
    let is_settled = observed
        .deployment
        .as_ref()
        .is_some_and(|live| is_settled(live, memory));
    let works = observed.staying().any(|pod| pod.ready_since.is_some());
    is_settled && (works || is_without_pods(observed, memory))
}

/// Pods do not get ready that would get the sidecar of another operator, and there is nothing that
/// works to be kept: neither by a rollout, which goes on with what this operator adds, nor by pods.
fn is_stuck(observed: &Observed) -> bool {
    let Some(live) = &observed.deployment else {
        return false;
    };
    // A node may come.
    let fails = |pod: &LivePod| {
        let trouble = pod.trouble.as_ref();
        trouble.is_some_and(|trouble| trouble.kind != TroubleKind::Unschedulable)
    };
    let fails = live.stalled.is_some() || observed.staying().any(fails);
    let none_works = observed.staying().all(|pod| pod.ready_since.is_none());
    fails && (live.updated < live.replicas || none_works)
}

/// The rollout of the template that is there was stopped, for the sake of old pods that are there:
/// another template would be rolled out in their place.
fn is_stopped(observed: &Observed, memory: &Memory, there: &There<'_>) -> bool {
    let live = observed.deployment.as_ref();
    let template = there.origin.template.as_deref();
    live.zip(template).is_some_and(|(live, template)| {
        live.updated < live.replicas && stall::is_stopped(live, &memory.deployment, template)
    })
}

/// Nothing else is under way, and pods get ready: what fails then is most likely the upgrade.
fn is_well(observed: &Observed, memory: &Memory, now: Now) -> bool {
    let last = status::last(observed, memory, now);
    let is = |kind: &str, status: &str| {
        let mut conditions = last.conditions.iter();
        conditions.any(|c| c.type_ == kind && c.status == status)
    };
    let is_settled = observed
        .deployment
        .as_ref()
        .is_some_and(|live| is_settled(live, memory));
    is_settled && is("Ready", "True") && !is("Reconciling", "True") && !is("Stalled", "True")
}
