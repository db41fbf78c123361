//! Running the cases: every server is started once, if any of its cases is to run.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use harness::Server;
use libtest_mimic::{Arguments, Conclusion, Failed, Trial};
use tokio::{runtime::Handle, sync::OnceCell};

use crate::{Ctx, Kind, cases};

/// No case takes longer.
const PATIENCE: Duration = Duration::from_secs(90);

/// Cases mostly wait: more run at once than there are processors.
const AT_ONCE: usize = 24;

/// A case that runs.
type Running = Pin<Box<dyn Future<Output = anyhow::Result<()>>>>;

/// A named case.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Where it runs.
    pub(crate) on: &'static [Kind],
    pub(crate) run: fn(Ctx) -> Running,
}

/// Cases of a module, by their functions' names, after what they run on.
macro_rules! cases_on {
    ($($on:expr; $($name:ident),+ $(,)?);+ $(;)?) => {
        pub(crate) const CASES: &[$crate::suite::Case] = &[$($(
            $crate::suite::Case {
                name: concat!(module_path!(), "::", stringify!($name)),
                on: $on,
                run: |ctx| Box::pin($name(ctx)),
            },
        )+)+];
    };
}
pub(crate) use cases_on;

/// Everywhere, with batches as on Redis in the embedded one.
pub(crate) const EVERYWHERE: &[Kind] = &[Kind::Embedded, Kind::Redis, Kind::Sqlite];

/// Where time is what matters. Cases run one at a time on `SQLite`, where it adds up.
pub(crate) const TIMED: &[Kind] = &[Kind::Embedded, Kind::Redis];

/// A server, once it is needed.
struct Slot {
    kind: Kind,
    started: OnceCell<Result<Arc<Server>, String>>,
    /// Held by a case that must be alone.
    alone: Mutex<()>,
}

impl Slot {
    async fn server(&self) -> Result<Arc<Server>, Failed> {
        let started = self
            .started
            .get_or_init(async || match self.kind.start().await {
                Ok(server) => Ok(Arc::new(server)),
                Err(error) => Err(format!("{} did not start: {error:#}", self.kind.as_str())),
            });
        Ok(started.await.clone()?)
    }
}

/// Runs the cases that the arguments choose, and stops what it started.
pub fn run() -> Conclusion {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("conformance: no runtime: {error}");
            std::process::exit(101);
        }
    };
    runtime::install_tls_provider();
    let slots: Vec<Arc<Slot>> = Kind::ALL
        .into_iter()
        .map(|kind| {
            Arc::new(Slot {
                kind,
                started: OnceCell::new(),
                alone: Mutex::new(()),
            })
        })
        .collect();
    let mut trials = Vec::new();
    for slot in &slots {
        let cases = cases::all().filter(|case| case.on.contains(&slot.kind));
        let of_kind: Vec<Trial> = cases
            .map(|case| trial(case, slot, runtime.handle()))
            .collect();
        // Real servers take their time: both start now, the rest goes on meanwhile.
        if !arguments.list
            && of_kind
                .iter()
                .any(|t| !is_filtered_out(&arguments, t.name()))
        {
            let slot = slot.clone();
            runtime.spawn(async move { slot.server().await.map(drop) });
        }
        trials.extend(of_kind);
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Servers end when they are dropped; within the runtime, that they were started in.
    drop(slots);
    drop(runtime);
    conclusion
}

fn trial(case: Case, slot: &Arc<Slot>, runtime: &Handle) -> Trial {
    let (slot, runtime) = (slot.clone(), runtime.clone());
    let name = case.name.trim_start_matches("conformance::cases::");
    Trial::test(format!("{}::{name}", slot.kind.as_str()), move || {
        let alone = slot
            .kind
            .is_delicate()
            .then(|| slot.alone.lock().unwrap_or_else(PoisonError::into_inner));
        let result = runtime.block_on(async {
            let ctx = Ctx::new(slot.kind, slot.server().await?)?;
            tokio::time::timeout(PATIENCE, (case.run)(ctx))
                .await
                .map_err(|_| anyhow::anyhow!("not done within {PATIENCE:?}"))?
                .map_err(|error| Failed::from(format!("{error:#}")))
        });
        drop(alone);
        result
    })
}

/// As libtest-mimic chooses.
fn is_filtered_out(arguments: &Arguments, name: &str) -> bool {
    let matches = |filter: &String| {
        if arguments.exact {
            name == filter
        } else {
            name.contains(filter.as_str())
        }
    };
    arguments.filter.as_ref().is_some_and(|f| !matches(f)) || arguments.skip.iter().any(matches)
}
