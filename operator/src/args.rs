//! What is typed, and what it means.

use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use axum::{Router, http::StatusCode, routing::get};
use clap::{Parser, Subcommand};
use conductor_client::ApiBase;
use prometheus::Registry;
use runtime::{
    admin,
    telemetry::{self, LogFormat},
};
use tokio::net::TcpListener;

use crate::{
    controller::{self, Settings, SidecarUpgrades},
    metrics::Metrics,
    sampling::Pace,
    worker::{Defaults, parse_duration},
};

/// The exit status for a value that cannot be used: sysexits' `EX_USAGE`.
const USAGE: u8 = 64;

/// Turns `ConductorWorker` resources into pods, as many as the work needs
#[derive(Debug, Parser)]
#[command(name = "operator", version, args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the controller; the same as no command
    Run(Box<RunArgs>),
    /// Prints the resource definition as YAML
    Crd,
}

/// As typed: everything is text, so that what is wrong with it is said in our words.
#[derive(Debug, Default, clap::Args)]
struct RunArgs {
    /// Conductor's address for workers that name none, with or without the final /api
    #[arg(long, env = "DEFAULT_CONDUCTOR_URL", value_name = "URL")]
    default_conductor_url: Option<String>,
    /// The sidecar's image
    #[arg(long, env = "SIDECAR_IMAGE", value_name = "IMAGE")]
    sidecar_image: Option<String>,
    /// When the sidecar's image is pulled
    #[arg(
        long,
        help = "When the sidecar's image is pulled: Always, IfNotPresent or Never",
        env = "SIDECAR_IMAGE_PULL_POLICY",
        default_value = "IfNotPresent",
        value_name = "POLICY"
    )]
    sidecar_image_pull_policy: String,
    /// When running pods get the sidecar of a new operator
    #[arg(
        long,
        help = "When running pods get the sidecar of a new operator: OnNextRollout (when a change replaces them anyway) or Staged (some workers after others)",
        env = "SIDECAR_UPGRADES",
        default_value = "OnNextRollout",
        value_name = "POLICY"
    )]
    sidecar_upgrades: String,
    /// With Staged: how many workers' pods are replaced at a time
    #[arg(
        long,
        env = "SIDECAR_UPGRADES_AT_ONCE",
        default_value = "1",
        value_name = "WORKERS"
    )]
    sidecar_upgrades_at_once: String,
    /// The only namespace to look at; empty for all
    #[arg(
        long,
        env = "WATCH_NAMESPACE",
        default_value = "",
        value_name = "NAMESPACE"
    )]
    watch_namespace: String,
    /// How often queues and pods are looked at
    #[arg(long, env = "TICK", default_value = "5s", value_name = "DURATION")]
    tick: String,
    /// Requests to each Conductor server in a second; queues that do not fit are read in turns
    #[arg(
        long,
        env = "CONDUCTOR_REQUESTS_PER_SECOND",
        default_value = "20",
        value_name = "NUMBER"
    )]
    conductor_requests_per_second: String,
    /// Sidecars asked for their statistics in a second, for each Conductor server and key; larger pools'
    /// pods are asked in turns
    #[arg(
        long,
        env = "SCRAPES_PER_SECOND",
        default_value = "100",
        value_name = "NUMBER"
    )]
    scrapes_per_second: String,
    /// Pools of at most so many pods are asked whole at each look, whatever it comes to
    #[arg(
        long,
        env = "SCRAPE_WHOLE_POOLS",
        default_value = "50",
        value_name = "PODS"
    )]
    scrape_whole_pools: String,
    /// Where /metrics, /healthz and /readyz are served
    #[arg(
        long,
        env = "LISTEN",
        default_value = "0.0.0.0:8080",
        value_name = "ADDRESS"
    )]
    listen: String,
    /// error, warn, info, debug or trace
    #[arg(long, env = "LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    log_level: String,
    /// text or json
    #[arg(
        long,
        env = "LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    log_format: String,
}

/// As meant.
#[derive(Debug)]
struct Meant {
    namespace: Option<String>,
    defaults: Defaults,
    pace: Pace,
    sidecar_upgrades: SidecarUpgrades,
    listen: SocketAddr,
    log_level: String,
    log_format: LogFormat,
}

/// A value that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{flag} ({env}) {what}; write {instead}")]
struct BadValue {
    flag: &'static str,
    env: &'static str,
    what: String,
    instead: &'static str,
}

/// Reads the arguments and does what they say.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    let Args { command, run } = args;
    match command {
        None => start(run),
        Some(Command::Run(run)) => start(*run),
        Some(Command::Crd) => {
            use std::io::Write as _;
            let made = api::crd_yaml().context("making the definition");
            ended(made.and_then(|yaml| {
                std::io::stdout()
                    .write_all(yaml.as_bytes())
                    .context("writing")
            }))
        }
    }
}

fn start(args: RunArgs) -> ExitCode {
    match Meant::read(args) {
        Ok(meant) => ended(run(meant)),
        Err(bad) => {
            eprintln!("error: {bad}");
            ExitCode::from(USAGE)
        }
    }
}

fn ended(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Meant {
    fn read(args: RunArgs) -> Result<Self, BadValue> {
        let RunArgs {
            default_conductor_url,
            sidecar_image,
            sidecar_image_pull_policy,
            sidecar_upgrades,
            sidecar_upgrades_at_once,
            watch_namespace,
            tick,
            conductor_requests_per_second,
            scrapes_per_second,
            scrape_whole_pools,
            listen,
            log_level,
            log_format,
        } = args;
        let field = Field(
            "--default-conductor-url",
            "DEFAULT_CONDUCTOR_URL",
            "for example http://conductor:8080/api, or leave it out",
        );
        let conductor_url = default_conductor_url
            .filter(|url| !url.is_empty())
            .map(|url| field.read(&url, ApiBase::parse))
            .transpose()?;
        let field = Field("--sidecar-image", "SIDECAR_IMAGE", "the sidecar's image");
        let sidecar_image = sidecar_image
            .filter(|image| !image.is_empty())
            .ok_or_else(|| field.bad("is missing".to_owned()))?;
        let field = Field(
            "--sidecar-image-pull-policy",
            "SIDECAR_IMAGE_PULL_POLICY",
            "Always, IfNotPresent or Never",
        );
        if !["Always", "IfNotPresent", "Never"].contains(&sidecar_image_pull_policy.as_str()) {
            return Err(field.bad(format!("is {sidecar_image_pull_policy:?}")));
        }
        let sidecar_upgrades = read_upgrades(&sidecar_upgrades, &sidecar_upgrades_at_once)?;
        let field = Field("--tick", "TICK", "a duration from 1s to 5m, such as 5s");
        let tick = parse_duration(&tick)
            .filter(|t| (Duration::from_secs(1)..=Duration::from_secs(300)).contains(t))
            .ok_or_else(|| field.bad(format!("is {tick:?}")))?;
        let rate = "a number from 0.1 to 100000, such as 10";
        let pace = Pace {
            tick,
            requests_per_second: Field(
                "--conductor-requests-per-second",
                "CONDUCTOR_REQUESTS_PER_SECOND",
                rate,
            )
            .read_rate(&conductor_requests_per_second)?,
            scrapes_per_second: Field("--scrapes-per-second", "SCRAPES_PER_SECOND", rate)
                .read_rate(&scrapes_per_second)?,
            whole_pools: Field(
                "--scrape-whole-pools",
                "SCRAPE_WHOLE_POOLS",
                "a number of pods, such as 50",
            )
            .read(&scrape_whole_pools, str::parse)?,
        };
        let listen = Field("--listen", "LISTEN", "an address such as 0.0.0.0:8080")
            .read(&listen, str::parse)?;
        Field(
            "--log-level",
            "LOG_LEVEL",
            "error, warn, info, debug or trace",
        )
        .read(&log_level, telemetry::check_level)?;
        let log_format =
            Field("--log-format", "LOG_FORMAT", "text or json").read(&log_format, str::parse)?;
        Ok(Self {
            namespace: Some(watch_namespace).filter(|n| !n.is_empty()),
            defaults: Defaults {
                conductor_url,
                sidecar_image,
                sidecar_image_pull_policy,
            },
            pace,
            sidecar_upgrades,
            listen,
            log_level,
            log_format,
        })
    }
}

fn read_upgrades(policy: &str, at_once: &str) -> Result<SidecarUpgrades, BadValue> {
    let at_once: NonZeroUsize = Field(
        "--sidecar-upgrades-at-once",
        "SIDECAR_UPGRADES_AT_ONCE",
        "a number of workers, at least 1",
    )
    .read(at_once, str::parse)?;
    match policy {
        "OnNextRollout" => Ok(SidecarUpgrades::OnNextRollout),
        "Staged" => Ok(SidecarUpgrades::Staged {
            at_once: at_once.get(),
        }),
        other => {
            let (flag, env) = ("--sidecar-upgrades", "SIDECAR_UPGRADES");
            let field = Field(flag, env, "OnNextRollout or Staged");
            Err(field.bad(format!("is {other:?}")))
        }
    }
}

/// A flag, its variable, and what to write.
struct Field(&'static str, &'static str, &'static str);

impl Field {
    fn bad(&self, what: String) -> BadValue {
        BadValue {
            flag: self.0,
            env: self.1,
            what,
            instead: self.2,
        }
    }

    fn read_rate(&self, given: &str) -> Result<f64, BadValue> {
        let rate: f64 = self.read(given, str::parse)?;
        if (0.1..=100_000.0).contains(&rate) {
            Ok(rate)
        } else {
            Err(self.bad(format!("is {given:?}")))
        }
    }

    fn read<T, E: std::fmt::Display>(
        &self,
        given: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, BadValue> {
        parse(given).map_err(|why| self.bad(format!("is {given:?}: {why}")))
    }
}

fn run(meant: Meant) -> anyhow::Result<()> {
    telemetry::init(&meant.log_level, meant.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(serve(meant))
}

/// Works until TERM or INT has come and what was being reconciled is done.
async fn serve(meant: Meant) -> anyhow::Result<()> {
    let Meant {
        namespace,
        defaults,
        pace,
        sidecar_upgrades,
        listen,
        log_level: _,
        log_format: _,
    } = meant;
    let registry = Registry::new();
    let metrics = Metrics::new(&registry)?;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("listening on {listen}"))?;
    tracing::info!(address = %listener.local_addr()?, version = env!("CARGO_PKG_VERSION"), "started");
    let config = kube::Config::infer().await;
    let client = controller::connect(config.context("finding the API server")?);
    let client = client.context("connecting to the API server")?;
    let ready = Arc::new(AtomicBool::new(false));
    let settings = Settings {
        namespace,
        defaults,
        pace,
        sidecar_upgrades,
        instance: instance(),
    };

    let stop = runtime::shutdown_signal();
    let (over, is_over) = tokio::sync::oneshot::channel::<()>();
    let work = async {
        let ended = controller::run(client, settings, metrics, ready.clone(), stop).await;
        drop(over);
        ended
    };
    let routes = admin::metrics_route(registry).merge(health(ready.clone()));
    let server = admin::serve(listener, routes, async {
        let _ = is_over.await;
    });
    let (server, work) = tokio::join!(server, work);
    work?;
    server.context("serving")
}

/// Alive while it answers; ready once everything that is watched has been read.
fn health(ready: Arc<AtomicBool>) -> Router {
    Router::new().route("/healthz", get(async || "ok")).route(
        "/readyz",
        get(async move || {
            if ready.load(Ordering::Relaxed) {
                (StatusCode::OK, "ok")
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, "not everything is read")
            }
        }),
    )
}

/// The pod's name, where it runs in one.
fn instance() -> String {
    runtime::host_name().unwrap_or_else(|| crate::FIELD_MANAGER.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(args: &[&str]) -> Result<Meant, String> {
        let args = [&["operator"], args].concat();
        let args = Args::try_parse_from(args).map_err(|e| e.to_string())?;
        Meant::read(args.run).map_err(|e| e.to_string())
    }

    #[test]
    fn defaults() {
        let meant = given(&["--sidecar-image=s"]).unwrap();
        let pace = Pace {
            tick: Duration::from_secs(5),
            requests_per_second: 20.0,
            scrapes_per_second: 100.0,
            whole_pools: 50,
        };
        assert_eq!(meant.pace, pace);
        assert_eq!(meant.sidecar_upgrades, SidecarUpgrades::OnNextRollout);
        assert_eq!(meant.namespace, None);
        assert_eq!(meant.defaults.conductor_url, None);
        assert_eq!(meant.listen.port(), 8080);
    }

    #[test]
    fn a_bad_value_is_told_what_to_write() {
        for (bad, words) in [
            (
                "--default-conductor-url=conductor",
                "--default-conductor-url (DEFAULT_CONDUCTOR_URL)",
            ),
            ("--sidecar-image-pull-policy=always", "IfNotPresent"),
            (
                "--tick=0s",
                "--tick (TICK) is \"0s\"; write a duration from 1s to 5m, such as 5s",
            ),
            (
                "--conductor-requests-per-second=0",
                "CONDUCTOR_REQUESTS_PER_SECOND) is \"0\"; write a number from 0.1 to 100000",
            ),
            ("--scrapes-per-second=NaN", "such as 10"),
            (
                "--sidecar-upgrades=staged",
                "--sidecar-upgrades (SIDECAR_UPGRADES) is \"staged\"; write OnNextRollout or Staged",
            ),
            ("--sidecar-upgrades-at-once=0", "at least 1"),
            ("--scrape-whole-pools=-1", "a number of pods, such as 50"),
            ("--listen=8080", "0.0.0.0:8080"),
            ("--log-level=loud", "LOG_LEVEL"),
            ("--log-format=xml", "text or json"),
        ] {
            let said = given(&["--sidecar-image=s", bad]).unwrap_err();
            assert!(said.contains(words), "{bad}: {said}");
            assert!(!said.contains('\n'), "{said}");
        }
        assert!(
            given(&[])
                .unwrap_err()
                .contains("--sidecar-image (SIDECAR_IMAGE) is missing")
        );
    }

    #[test]
    fn upgrades_may_be_staged() {
        let meant = |args: &[&str]| {
            let args = [&["--sidecar-image=s", "--sidecar-upgrades=Staged"], args].concat();
            given(&args).unwrap().sidecar_upgrades
        };
        assert_eq!(meant(&[]), SidecarUpgrades::Staged { at_once: 1 });
        let three = meant(&["--sidecar-upgrades-at-once=3"]);
        assert_eq!(three, SidecarUpgrades::Staged { at_once: 3 });
    }

    #[test]
    fn run_is_a_command_too() {
        let args = Args::try_parse_from(["operator", "run", "--sidecar-image=s"]).unwrap();
        let Some(Command::Run(run)) = args.command else {
            panic!("not run");
        };
        assert_eq!(Meant::read(*run).unwrap().defaults.sidecar_image, "s");
        let args = Args::try_parse_from(["operator", "crd"]).unwrap();
        assert!(matches!(args.command, Some(Command::Crd)));
    }
}
