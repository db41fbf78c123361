//! Running the cases: every server is started once, if any of its cases is to run.

use std::{
    pin::Pin,
    sync::{Arc, LazyLock},
    time::Duration,
};

use harness::Server;
use libtest_mimic::{Arguments, Conclusion, Failed, Trial};
use tokio::{
    runtime::{Handle, Runtime},
    sync::{OnceCell, Semaphore, watch},
};

use crate::{Ctx, Kind, cases, rows};

/// No case takes longer.
const PATIENCE: Duration = Duration::from_secs(90);

/// A thread for each case: most wait for their turn, which is the server's matter.
const THREADS: usize = 1024;

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

impl Case {
    /// Its name without the suite's: `polls::counts`.
    pub(crate) fn short(&self) -> &'static str {
        self.name.trim_start_matches("conformance::cases::")
    }

    /// Whether it has seconds to do something in, as a sidecar at its end has: the real servers'
    /// starts take all of the machine meanwhile.
    fn waits_for_starts(&self) -> bool {
        self.short().starts_with("sidecar::")
    }

    /// Whether it moves megabytes, which keeps everything else from its work.
    fn is_heavy(&self) -> bool {
        self.short().starts_with("payloads::")
    }
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

/// On every server.
pub(crate) const EVERYWHERE: &[Kind] = &Kind::ALL;

/// Where time is what matters, in tens of seconds. Cases run one at a time on `SQLite`, where
/// it adds up.
pub(crate) const TIMED: &[Kind] = &[
    Kind::Embedded,
    Kind::EmbeddedSql,
    Kind::Redis,
    Kind::Postgres,
];

/// How many servers are on their way.
static STARTING: LazyLock<watch::Sender<usize>> = LazyLock::new(|| watch::Sender::new(0));

/// Held by the heavy case that runs, wherever it does.
static HEAVY: Semaphore = Semaphore::const_new(1);

/// A server, once it is needed.
struct Slot {
    kind: Kind,
    /// Where it runs if it is in memory: not where the cases' own tasks do.
    servers: Handle,
    started: OnceCell<Result<Arc<Server>, String>>,
    /// Held by the cases that run.
    turn: Semaphore,
}

impl Slot {
    async fn server(&self) -> Result<Arc<Server>, Failed> {
        let kind = self.kind;
        let started = self.started.get_or_init(async || {
            let started = self.servers.spawn(kind.start()).await;
            match started.map_err(anyhow::Error::from).flatten() {
                Ok(server) => Ok(Arc::new(server)),
                Err(error) => Err(format!("{} did not start: {error:#}", kind.as_str())),
            }
        });
        Ok(started.await.clone()?)
    }
}

/// Runs the cases that the arguments choose, and stops what it started.
pub fn run() -> Conclusion {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let runtimes = Runtime::new().and_then(|one| Ok((one, Runtime::new()?)));
    let (runtime, servers) = match runtimes {
        Ok(runtimes) => runtimes,
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
                servers: servers.handle().clone(),
                started: OnceCell::new(),
                turn: Semaphore::new(kind.at_once()),
            })
        })
        .collect();
    let mut trials = rows::trials();
    for slot in &slots {
        let cases = cases::all().filter(|case| case.on.contains(&slot.kind));
        let of_kind: Vec<Trial> = cases
            .map(|case| trial(case, slot, runtime.handle()))
            .collect();
        // Real servers take their time: all start now, the rest goes on meanwhile.
        if !arguments.list
            && of_kind
                .iter()
                .any(|t| !is_filtered_out(&arguments, t.name()))
        {
            let slot = slot.clone();
            STARTING.send_modify(|n| *n += 1);
            runtime.spawn(async move {
                let started = slot.server().await.map(drop);
                STARTING.send_modify(|n| *n -= 1);
                started
            });
        }
        trials.extend(of_kind);
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Servers end when they are dropped; within the runtime that they were started in.
    drop(slots);
    drop(runtime);
    drop(servers);
    conclusion
}

fn trial(case: Case, slot: &Arc<Slot>, runtime: &Handle) -> Trial {
    let (slot, runtime) = (slot.clone(), runtime.clone());
    let name = format!("{}::{}", slot.kind.as_str(), case.short());
    Trial::test(name, move || {
        runtime.block_on(async {
            if case.waits_for_starts() {
                STARTING.subscribe().wait_for(|n| *n == 0).await?;
            }
            let _turn = slot.turn.acquire().await?;
            let _heavy = if case.is_heavy() {
                Some(HEAVY.acquire().await?)
            } else {
                None
            };
            let ctx = Ctx::new(slot.kind, slot.server().await?)?;
            tokio::time::timeout(PATIENCE, (case.run)(ctx))
                .await
                .map_err(|_| anyhow::anyhow!("not done within {PATIENCE:?}"))?
                .map_err(|error| Failed::from(format!("{error:#}")))
        })
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
