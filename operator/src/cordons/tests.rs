//! Real sidecars are told, over real HTTP.

use std::{future::Future, net::IpAddr, path::Path};

use axum::Router;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher;
use serde_json::json;
use tokio::{
    net::TcpListener,
    sync::mpsc::unbounded_channel,
    time::{Instant as Clocked, timeout},
};
use worker_sidecar::{
    config::{Config, TaskConfig},
    control,
    cordon::{self, Access, Keys},
    pipeline::Sidecar,
};

use super::*;
use crate::worker::Defaults;

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(20);

fn sidecar() -> Arc<Sidecar> {
    let conductor = "http://127.0.0.1:9/api".parse().unwrap();
    let config = Config::new(
        conductor,
        vec![TaskConfig::new("greet")],
        "greet-1".to_owned(),
    );
    Sidecar::new(config, &prometheus::Registry::new()).unwrap()
}

/// What a pod serves, with its key in this file.
fn served(sidecar: &Arc<Sidecar>, key: &Path) -> Router {
    let access = Access {
        keys: Keys::File(key.to_owned()),
        audience: audience("greet-1", Some("uid")),
    };
    control::router(sidecar.clone(), prometheus::Registry::new())
        .merge(cordon::router(sidecar.clone(), access))
}

/// The same, and the methods of the requests that came.
fn noted(router: Router) -> (Arc<Mutex<Vec<Method>>>, Router) {
    let asked: Arc<Mutex<Vec<Method>>> = Arc::default();
    let noted = asked.clone();
    let layer = axum::middleware::map_request(move |request: axum::extract::Request| {
        noted.lock().unwrap().push(request.method().clone());
        std::future::ready(request)
    });
    (asked, router.layer(layer))
}

fn order(action: Action) -> Order {
    Order {
        pod: "greet-1".to_owned(),
        uid: "uid".to_owned(),
        action,
    }
}

fn worker() -> Key {
    Key {
        namespace: "shop".to_owned(),
        name: "greet".to_owned(),
    }
}

/// One pod whose sidecar is served by `router`.
struct World {
    cordons: Arc<Cordons>,
    woken: UnboundedReceiver<Key>,
    tasks: tokio::task::JoinSet<()>,
}

impl World {
    async fn new(router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });

        let defaults = Defaults {
            conductor_url: None,
            sidecar_image: String::new(),
            sidecar_image_pull_policy: String::new(),
        };
        let (stores, mut writers) = Stores::new(defaults);
        let here = watcher::Event::Apply(pod(at.ip()));
        writers.pods.apply_watcher_event(&here);
        let stores = Arc::new(stores);
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let (wake, woken) = unbounded_channel();
        let (mut cordons, orders) = Cordons::new(stores, metrics, Clock::start(), wake).unwrap();
        cordons.port = at.port();
        let cordons = Arc::new(cordons);
        let running = cordons.clone();
        tasks.spawn(async move { running.run(orders).await });
        Self {
            cordons,
            woken,
            tasks,
        }
    }

    /// What came of an order.
    async fn told(&mut self, action: Action) -> Told {
        self.cordons.send(&worker(), vec![order(action)]);
        let woken = timeout(SOON, self.woken.recv()).await.unwrap();
        assert_eq!(woken, Some(worker()));
        self.cordons
            .told(["uid"].into_iter())
            .remove("uid")
            .unwrap()
    }

    async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

fn pod(ip: IpAddr) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "greet-1", "namespace": "shop", "uid": "uid"},
        "status": {"podIP": ip.to_string()},
    }))
    .unwrap()
}

/// Waits until something is so.
async fn until<F: Future<Output = bool>>(mut is_so: impl FnMut() -> F) {
    let end = Clocked::now() + SOON;
    while !is_so().await {
        assert!(Clocked::now() < end, "not within {SOON:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_pod_is_told_as_soon_as_it_has_the_key() {
    runtime::install_tls_provider();
    let (sidecar, file) = (sidecar(), tempfile::NamedTempFile::new().unwrap());
    let (asked, router) = noted(served(&sidecar, file.path()));
    let mut world = World::new(router).await;
    world.cordons.send(&worker(), vec![order(Action::Cordon)]);
    until(async || !asked.lock().unwrap().is_empty()).await;
    assert!(!sidecar.is_cordoned() && world.woken.is_empty());

    // Another operator's key first, as it is after a restart.
    let another = SigningKey::generate().unwrap().public();
    for key in [another, world.cordons.public_key()] {
        std::fs::write(file.path(), key).unwrap();
    }
    timeout(SOON, world.woken.recv()).await.unwrap();
    let told = world
        .cordons
        .told(["uid"].into_iter())
        .remove("uid")
        .unwrap();
    let reading = told.answer.unwrap();
    assert!(reading.cordoned && reading.in_flight == 0 && sidecar.is_cordoned());
    assert_eq!((told.action, told.failing_since), (Action::Cordon, None));

    let told = world.told(Action::Uncordon).await;
    assert!(!told.answer.unwrap().cordoned && !sidecar.is_cordoned());
    world.end().await;
}

#[test]
fn since_when_a_pod_does_as_it_is_told() {
    let told = |before: Option<&Told>, action, at, answer: Result<(), Untold>| {
        let at = Instant::at(Duration::from_secs(at));
        Told::after(before, action, at, answer.map(|()| PodReading::default()))
    };
    let (cordon, ok, failed) = (Action::Cordon, Ok(()), Err(Untold::Failed));
    let since = |told: &Told| {
        told.done_since
            .map(|at| at.seconds_since(Instant::at(Duration::ZERO)))
    };
    let first = told(None, cordon, 10, ok);
    assert_eq!(since(&first), Some(10.0));
    let second = told(Some(&first), cordon, 39, ok);
    assert_eq!(since(&second), Some(10.0));
    for (action, at, answer, expected) in [
        (cordon, 69, ok, Some(69.0)),
        (Action::Uncordon, 40, ok, Some(40.0)),
        (cordon, 40, failed, None),
    ] {
        assert_eq!(since(&told(Some(&second), action, at, answer)), expected);
    }
    let not = told(Some(&second), cordon, 40, failed);
    assert_eq!(since(&told(Some(&not), cordon, 41, ok)), Some(41.0));
}

#[tokio::test]
async fn a_pod_is_told_one_thing_at_a_time_and_of_the_rest_the_last() {
    runtime::install_tls_provider();
    let (sidecar, file) = (sidecar(), tempfile::NamedTempFile::new().unwrap());
    let (asked, router) = noted(served(&sidecar, file.path()));
    let mut world = World::new(router).await;
    std::fs::write(file.path(), world.cordons.public_key()).unwrap();
    let orders = [Action::Cordon, Action::Uncordon, Action::Cordon].map(order);
    world.cordons.send(&worker(), orders.to_vec());
    for _ in 0..2 {
        timeout(SOON, world.woken.recv()).await.unwrap();
    }
    assert!(sidecar.is_cordoned() && world.woken.is_empty());
    assert_eq!(*asked.lock().unwrap(), [Method::PUT, Method::PUT]);
    world.end().await;
}

#[tokio::test]
async fn what_is_sent_is_what_sidecars_of_earlier_versions_know() {
    runtime::install_tls_provider();
    let asked: Arc<Mutex<Vec<(Method, String, bool)>>> = Arc::default();
    let noted = asked.clone();
    let router = Router::new().fallback(move |request: axum::extract::Request| {
        let token = request.headers().get("authorization");
        let token = token.and_then(|value| value.to_str().ok());
        let has_token = token.is_some_and(|token| token.starts_with("Bearer "));
        let path = request.uri().to_string();
        let line = (request.method().clone(), path, has_token);
        noted.lock().unwrap().push(line);
        std::future::ready("{}")
    });
    let mut world = World::new(router).await;
    for action in [Action::Cordon, Action::Uncordon] {
        assert!(world.told(action).await.answer.is_ok());
        let sent = harness::skew("cordon").unwrap();
        let newest = sent
            .iter()
            .rfind(|(_, sent)| sent["action"] == json!(action));
        let (_, newest) = newest.unwrap();
        let (method, path, has_token) = asked.lock().unwrap().pop().unwrap();
        assert_eq!(
            (json!(method.as_str()), json!(path)),
            (newest["method"].clone(), newest["path"].clone())
        );
        assert!(has_token);
    }
    world.end().await;
}

#[tokio::test]
async fn a_sidecar_that_knows_no_cordon_is_known_by_its_answer() {
    runtime::install_tls_provider();
    for (router, why) in [
        (Router::new(), Untold::Unable),
        (
            Router::new().fallback(async || StatusCode::INTERNAL_SERVER_ERROR),
            Untold::Failed,
        ),
        (
            Router::new().fallback(async || "not statistics"),
            Untold::Failed,
        ),
    ] {
        let mut world = World::new(router).await;
        let first = world.told(Action::Cordon).await;
        assert_eq!(first.answer, Err(why));
        let second = world.told(Action::Cordon).await;
        assert_eq!(second.failing_since, Some(first.at), "since the first");
        world.end().await;
    }
}

#[tokio::test]
async fn a_pod_that_is_gone_is_no_failure_of_the_loop() {
    runtime::install_tls_provider();
    let mut world = World::new(Router::new()).await;
    let mut gone = order(Action::Cordon);
    gone.uid = "gone".to_owned();
    world.cordons.send(&worker(), vec![gone]);
    timeout(SOON, world.woken.recv()).await.unwrap();
    let told = world.cordons.told(["gone", "never"].into_iter());
    assert_eq!(told.len(), 1);
    assert_eq!(told["gone"].answer, Err(Untold::Failed));
    world.cordons.forget_gone();
    assert!(world.cordons.told(["gone"].into_iter()).is_empty());
    assert_eq!(world.told(Action::Cordon).await.answer, Err(Untold::Unable));
    world.end().await;
}
