//! Writes what the plan says. It decides nothing.

use std::{collections::BTreeSet, fmt::Debug, time::Duration};

use api::{ConductorWorker, ConductorWorkerStatus};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::Deployment,
        core::v1::{ObjectReference, Pod},
        events::v1::Event as KubeEvent,
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Resource,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions},
    runtime::controller::Action,
};
use runtime::cordon;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    Context,
    observed::{Applied, Key, Marked, Memory, Refused, Sent, Written},
    plan::{BudgetStep, Event, Hint, Mark, Plan, SentHint},
};
use crate::{
    CORDON_KEY, DRAINING_LABEL, DRAINING_SINCE, FIELD_MANAGER,
    cordons::{Order, WRITE},
    error::Error,
    stores::{DELETION_COST, Guarded},
};

/// How many pods are marked at once.
const AT_ONCE: usize = 16;

/// More events than this are not kept for a later try.
const UNTOLD: usize = 20;

/// How soon the status says that something was refused.
const SOON: Duration = Duration::from_millis(200);

/// Writes a plan. What it leads to is remembered also where it fails half-way.
pub(super) async fn apply(
    context: &Context,
    key: &Key,
    uid: &str,
    plan: Plan,
) -> Result<Action, Error> {
    let Plan {
        marks,
        orders,
        hints,
        deployment,
        budget,
        status,
        write_status,
        mut events,
        counts,
        upgrade: _,
        mut memory,
        requeue,
    } = plan;
    let written = async {
        let (back, away) = orders
            .into_iter()
            .partition(|order| order.action == cordon::Action::Uncordon);
        // At once, also while the API server is away; but nobody is told to take no more tasks
        // who is not marked: another operator process could not tell them.
        context.cordons.send(key, back);
        let refused = in_time("writing what was decided", async {
            let unmarked = patch_marks(context, key, marks, &mut memory).await?;
            let is_marked = |order: &Order| !unmarked.contains(&order.uid);
            context
                .cordons
                .send(key, away.into_iter().filter(is_marked).collect());
            let Some(object) = deployment else {
                return Ok(false);
            };
            let what = "applying the Deployment";
            let sent = &mut memory.deployment;
            let refused = apply_object::<Deployment>(context, key, what, object, sent).await?;
            if !refused {
                context.metrics.applied(&counts);
            }
            Ok(refused)
        })
        .await?;
        if write_status {
            let written = patch_status(context, key, uid, status, &mut memory);
            in_time("writing the status", written).await?;
        }
        Ok(refused)
    }
    .await;
    // Last, and each by itself: nothing else waits for them.
    let budgeted = match budget {
        Some(step) => {
            let changed = change_budget(context, key, step, &mut memory.budget);
            in_time("changing the PodDisruptionBudget", changed).await
        }
        None => Ok(false),
    };
    let hinted = patch_hints(context, key, hints, &mut memory);
    let hinted = in_time("writing hints for node autoscalers", hinted).await;
    let is_written = matches!(written, Ok(false));
    if !is_written {
        // What they tell has not happened yet.
        events.truncate(UNTOLD);
        memory.untold = std::mem::take(&mut events);
    }
    context.remember(key, memory);
    let refused = written?;
    if is_written {
        context.metrics.written(&counts);
    }
    for event in events {
        tell(context, key, uid, event).await;
    }
    let refused = refused || budgeted?;
    hinted?;
    Ok(match requeue {
        _ if refused => Action::requeue(SOON),
        Some(after) => Action::requeue(after),
        None => Action::await_change(),
    })
}

/// A client that sends nothing again by itself: it would send what was decided minutes ago.
///
/// # Errors
/// Where the configuration does not do.
pub fn connect(mut config: kube::Config) -> kube::Result<kube::Client> {
    config.default_retry = false;
    kube::Client::try_from(config)
}

/// What is decided on what was seen before is not written for ever: meanwhile nobody looks, and it
/// may have become wrong.
async fn in_time<T>(
    what: &'static str,
    write: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let unanswered = |_| Error::Unanswered {
        what,
        within: WRITE,
    };
    tokio::time::timeout(WRITE, write)
        .await
        .map_err(unanswered)?
}

/// The API server's answer to what cannot get better by itself soon.
fn refusal(error: &kube::Error) -> Option<String> {
    match error {
        kube::Error::Api(status) if matches!(status.code, 400 | 403 | 422) => {
            Some(status.message.clone())
        }
        _ => None,
    }
}

fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

fn params() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

fn api_of<K>(context: &Context, key: &Key) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    Api::namespaced(context.client.clone(), &key.namespace)
}

/// True: it was refused, which is remembered.
async fn apply_object<K>(
    context: &Context,
    key: &Key,
    what: &'static str,
    object: Value,
    sent: &mut Sent,
) -> Result<bool, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug,
{
    let kind = K::kind(&());
    match api_of::<K>(context, key)
        .patch(&key.name, &params(), &Patch::Apply(&object))
        .await
    {
        Ok(live) => {
            tracing::info!(worker = %key, %kind, replicas = object["spec"]["replicas"].as_u64(), "applied");
            let meta = live.meta();
            sent.applied = Some(Applied {
                object,
                uid: meta.uid.clone().unwrap_or_default(),
                generation: meta.generation.unwrap_or_default(),
            });
            sent.refused = None;
            Ok(false)
        }
        Err(error) => match refusal(&error) {
            Some(message) => {
                note_refused(context, key, &kind, object, message, sent);
                Ok(true)
            }
            None => Err(Error::in_(what)(error)),
        },
    }
}

/// True: it was refused, which is remembered.
async fn change_budget(
    context: &Context,
    key: &Key,
    step: BudgetStep,
    sent: &mut Sent,
) -> Result<bool, Error> {
    type Budget = PodDisruptionBudget;
    let uid = match step {
        BudgetStep::Apply(object) => {
            let what = "applying the PodDisruptionBudget";
            return apply_object::<Budget>(context, key, what, object, sent).await;
        }
        BudgetStep::Delete(uid) => uid,
    };
    // Not one that somebody has put in its place.
    let params = DeleteParams::default().preconditions(Preconditions {
        uid: Some(uid),
        resource_version: None,
    });
    match api_of::<Budget>(context, key)
        .delete(&key.name, &params)
        .await
    {
        Ok(_) => {
            tracing::info!(worker = %key, "PodDisruptionBudget deleted");
            *sent = Sent::default();
            Ok(false)
        }
        Err(error) if is_gone(&error) => {
            *sent = Sent::default();
            Ok(false)
        }
        Err(error) => match refusal(&error) {
            Some(message) => {
                note_refused(context, key, &Budget::kind(&()), Value::Null, message, sent);
                Ok(true)
            }
            None => Err(Error::in_("deleting the PodDisruptionBudget")(error)),
        },
    }
}

fn note_refused(
    context: &Context,
    key: &Key,
    kind: &str,
    object: Value,
    message: String,
    sent: &mut Sent,
) {
    tracing::warn!(worker = %key, kind, message, "refused");
    let before = sent.refused.take().filter(|r| r.object == object);
    sent.refused = Some(Refused {
        object,
        message,
        at: context.clock.now().clock,
        times: before.map_or(1, |refused| refused.times.saturating_add(1)),
    });
}

/// All at once; those that succeed are remembered also where another fails. The UIDs of pods
/// whose marks were refused, which is remembered too: all else goes on.
async fn patch_marks(
    context: &Context,
    key: &Key,
    marks: Vec<Mark>,
    memory: &mut Memory,
) -> Result<BTreeSet<String>, Error> {
    memory.unmarked = None;
    let mut unmarked = BTreeSet::new();
    let pods: Api<Pod> = api_of(context, key);
    let mut patched = stream::iter(marks)
        .map(async |mark| {
            let result = patch_mark(&pods, &mark).await;
            (mark, result)
        })
        .buffer_unordered(AT_ONCE);
    let mut failed = Ok(());
    while let Some((mark, result)) = patched.next().await {
        match result {
            Ok(()) => {
                let marked = Marked {
                    since: mark.since,
                    cost: mark.cost,
                    at: context.clock.now().clock,
                };
                memory.leaving.marked.insert(mark.uid, marked);
            }
            Err(error) => match refusal(&error) {
                Some(message) => {
                    tracing::warn!(worker = %key, pod = mark.pod, message, "a mark was refused");
                    memory.unmarked = Some((mark.pod, message));
                    unmarked.insert(mark.uid);
                }
                None => failed = Err(Error::in_("marking a pod")(error)),
            },
        }
    }
    failed.map(|()| unmarked)
}

async fn patch_mark(pods: &Api<Pod>, mark: &Mark) -> Result<(), kube::Error> {
    let Mark {
        pod,
        uid: _,
        since,
        cost,
        key,
    } = mark;
    let stays = since.is_none();
    let patch = json!({"metadata": {
        "labels": {DRAINING_LABEL: (!stays).then_some("true")},
        "annotations": {
            DRAINING_SINCE: since.map(|since| since.to_string()),
            DELETION_COST: (!stays).then(|| cost.to_string()),
            CORDON_KEY: key,
        },
    }});
    patch_pod(pods, pod, patch).await
}

async fn patch_pod(pods: &Api<Pod>, name: &str, patch: Value) -> Result<(), kube::Error> {
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    match pods
        .patch_metadata(name, &params, &Patch::Merge(patch))
        .await
    {
        Ok(_) => Ok(()),
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// All at once; those that succeed are remembered also where another fails, and so are those that
/// are refused: all else goes on.
async fn patch_hints(
    context: &Context,
    key: &Key,
    hints: Vec<Hint>,
    memory: &mut Memory,
) -> Result<(), Error> {
    let pods: Api<Pod> = api_of(context, key);
    let mut patched = stream::iter(hints)
        .map(async |hint| {
            // With its UID, so that nothing is written on another pod that got the name.
            let patch = json!({"metadata": {"uid": hint.uid, "annotations": hint.annotations}});
            let result = patch_pod(&pods, &hint.pod, patch).await;
            (hint, result)
        })
        .buffer_unordered(AT_ONCE);
    let mut failed = Ok(());
    while let Some((hint, result)) = patched.next().await {
        let refused = result.is_err();
        if let Err(error) = result {
            let Some(message) = refusal(&error) else {
                failed = Err(Error::in_("writing hints for node autoscalers")(error));
                continue;
            };
            tracing::warn!(worker = %key, pod = hint.pod, message, "hints for node autoscalers were refused");
        }
        let sent = SentHint {
            on: hint.on != refused,
            refused,
            at: context.clock.now().clock,
        };
        memory.hinting.sent.insert(hint.uid, sent);
    }
    failed
}

async fn patch_status(
    context: &Context,
    key: &Key,
    uid: &str,
    status: ConductorWorkerStatus,
    memory: &mut Memory,
) -> Result<(), Error> {
    // A worker that cannot be read is told so, too.
    let workers: Api<Guarded> = api_of(context, key);
    let patch = json!({
        "apiVersion": ConductorWorker::api_version(&()),
        "kind": ConductorWorker::kind(&()),
        // The status of one that was deleted is not given to its successor.
        "metadata": {"name": key.name, "uid": uid},
        "status": status,
    });
    match workers
        .patch_status(&key.name, &params(), &Patch::Apply(patch))
        .await
    {
        Ok(_) => {
            memory.written = Some(Written {
                status,
                at: context.clock.now().clock,
            });
            Ok(())
        }
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(Error::in_("writing the status")(error)),
    }
}

/// An event that cannot be written is only logged: what it tells is in the status too.
async fn tell(context: &Context, key: &Key, uid: &str, event: Event) {
    let Event {
        warning,
        reason,
        message,
    } = event;
    tracing::info!(worker = %key, reason, message, "event");
    let now = Timestamp::now();
    // The API takes a note of at most 1024 bytes.
    let note: String = message.chars().take(250).collect();
    let event = KubeEvent {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:x}", key.name, now.as_nanosecond())),
            namespace: Some(key.namespace.clone()),
            ..ObjectMeta::default()
        },
        action: Some(reason.clone()),
        reason: Some(reason),
        note: Some(note),
        type_: Some(if warning { "Warning" } else { "Normal" }.to_owned()),
        event_time: Some(MicroTime(now)),
        regarding: Some(ObjectReference {
            api_version: Some(ConductorWorker::api_version(&()).into_owned()),
            kind: Some(ConductorWorker::kind(&()).into_owned()),
            namespace: Some(key.namespace.clone()),
            name: Some(key.name.clone()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(FIELD_MANAGER.to_owned()),
        reporting_instance: Some(context.instance.clone()),
        ..KubeEvent::default()
    };
    let events: Api<KubeEvent> = api_of(context, key);
    let created = async {
        let created = events.create(&PostParams::default(), &event).await;
        created.map_err(Error::in_("writing an event"))
    };
    if let Err(error) = in_time("writing an event", created).await {
        tracing::warn!(worker = %key, %error, "an event was not written");
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
    };

    use axum::{Router, http::StatusCode};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_that_is_not_answered_ends_before_the_proof_it_was_decided_by() {
        let begun = tokio::time::Instant::now();
        let written = in_time("applying the Deployment", pending::<Result<(), Error>>()).await;
        assert_eq!(begun.elapsed(), WRITE);
        assert_eq!(
            written.unwrap_err().to_string(),
            "applying the Deployment: no answer from the API server within 10 s; is it slow, or is the way to it broken?"
        );
    }

    #[tokio::test]
    async fn a_write_that_the_api_server_has_no_time_for_is_decided_anew_and_not_sent_again() {
        let requests = Arc::new(AtomicU32::new(0));
        let counted = requests.clone();
        let busy = Router::new().fallback(move || async move {
            counted.fetch_add(1, Ordering::SeqCst);
            StatusCode::SERVICE_UNAVAILABLE
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async { axum::serve(listener, busy).await });
        let client = connect(kube::Config::new(url.parse().unwrap())).unwrap();
        let pods: Api<Pod> = Api::namespaced(client, "default");
        let written = patch_pod(&pods, "p", json!({})).await;
        assert!(written.is_err());
        assert_eq!(requests.load(Ordering::SeqCst), 1);
        server.abort();
    }
}
