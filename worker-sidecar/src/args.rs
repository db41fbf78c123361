//! What is typed, and what it means.

use std::{net::SocketAddr, process::ExitCode, sync::Arc};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use conductor_client::ApiBase;
use prometheus::Registry;
use runtime::telemetry::{self, LogFormat};
use tokio::net::TcpListener;

use crate::{
    config::{self, Config, HandlerConfig, Probe},
    control,
    pipeline::Sidecar,
};

/// The exit status for a value that cannot be used: sysexits' `EX_USAGE`.
const USAGE: u8 = 64;

/// Polls Conductor, forwards tasks to the HTTP handler beside it, reports the results.
#[derive(Debug, Parser)]
#[command(
    name = "worker-sidecar",
    version,
    args_conflicts_with_subcommands = true
)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tells the sidecar of this pod that the pod ends: for its own preStop hook
    Terminating {
        /// Where that sidecar listens
        #[arg(long, env = "LISTEN", default_value = LISTEN)]
        listen: String,
    },
}

const LISTEN: &str = "0.0.0.0:2112";

/// As typed: everything is text, so that what is wrong with it is said in our words.
#[derive(Debug, Default, clap::Args)]
struct RunArgs {
    /// Conductor's address, with or without the final /api
    #[arg(long, env = "CONDUCTOR_SERVER_URL", value_name = "URL")]
    conductor_url: Option<String>,
    /// The task types to poll: a JSON array of objects with name and, if needed, domain, path,
    /// concurrency, pollInterval, timeout
    #[arg(long, env = "CONDUCTOR_TASKS", value_name = "JSON")]
    tasks: Option<String>,
    /// How many tasks may be in work at once
    #[arg(
        long,
        env = "CONDUCTOR_CONCURRENCY",
        default_value = "1",
        value_name = "N"
    )]
    concurrency: String,
    /// How Conductor knows this worker; absent: the host's name
    #[arg(long, env = "CONDUCTOR_WORKER_ID", value_name = "NAME")]
    worker_id: Option<String>,
    /// The handler's port on 127.0.0.1
    #[arg(
        long,
        env = "HANDLER_PORT",
        default_value = "8080",
        value_name = "PORT"
    )]
    handler_port: String,
    /// How the handler's readiness is found out: tcp, tcp:PORT or http://127.0.0.1:PORT/PATH
    #[arg(
        long,
        env = "HANDLER_PROBE",
        default_value = "tcp",
        value_name = "PROBE"
    )]
    handler_probe: String,
    /// What the handler gets: task (all of it) or input (its inputData)
    #[arg(
        long,
        env = "HANDLER_PAYLOAD",
        default_value = "task",
        value_name = "PAYLOAD"
    )]
    payload: String,
    /// The HTTP statuses that fail a task for good
    #[arg(long, env = "HANDLER_TERMINAL_STATUS_CODES", default_value = config::DEFAULT_TERMINAL, value_name = "RANGES")]
    terminal_status_codes: String,
    /// The largest answer of the handler, in bytes or with Ki or Mi
    #[arg(
        long,
        env = "PAYLOAD_LIMIT",
        default_value = "10Mi",
        value_name = "SIZE"
    )]
    payload_limit: String,
    /// The pod's terminationGracePeriodSeconds
    #[arg(
        long,
        env = "GRACE_PERIOD",
        default_value = "30s",
        value_name = "DURATION"
    )]
    grace_period: String,
    /// Where /metrics, /healthz, /readyz, /stats and /drain are served
    #[arg(long, env = "LISTEN", default_value = LISTEN, value_name = "ADDRESS")]
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
struct Settings {
    config: Config,
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
        Some(Command::Terminating { listen }) => match address(&listen) {
            Ok(listen) => {
                ended(control::announce(listen.port()).context("the sidecar cannot be told"))
            }
            Err(bad) => refuse(&bad),
        },
    }
}

fn start(args: RunArgs) -> ExitCode {
    match Settings::read(args) {
        Ok(settings) => ended(run(settings)),
        Err(bad) => refuse(&bad),
    }
}

fn refuse(bad: &BadValue) -> ExitCode {
    eprintln!("error: {bad}");
    ExitCode::from(USAGE)
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

impl Settings {
    fn read(args: RunArgs) -> Result<Self, BadValue> {
        let RunArgs {
            conductor_url,
            tasks,
            concurrency,
            worker_id,
            handler_port,
            handler_probe,
            payload,
            terminal_status_codes,
            payload_limit,
            grace_period,
            listen,
            log_level,
            log_format,
        } = args;
        let conductor = Field(
            "--conductor-url",
            "CONDUCTOR_SERVER_URL",
            "for example http://conductor:8080/api",
        );
        let conductor = conductor.read(&conductor.given(conductor_url)?, ApiBase::parse)?;
        let field = Field(
            "--tasks",
            "CONDUCTOR_TASKS",
            r#"for example [{"name":"greet"}]"#,
        );
        let tasks = field.read(&field.given(tasks)?, config::parse_tasks)?;
        let field = Field("--worker-id", "CONDUCTOR_WORKER_ID", "the pod's name");
        let worker_id = field.given(worker_id.or_else(host_name))?;
        let mut config = Config::new(conductor, tasks, worker_id);

        let field = Field(
            "--concurrency",
            "CONDUCTOR_CONCURRENCY",
            "a number of tasks from 1 to 1000",
        );
        config.slots = field.number(&concurrency, 1..=1000)?;
        let field = Field("--handler-port", "HANDLER_PORT", "a port from 1 to 65535");
        let port = field.number(&handler_port, 1..=65535)?;
        config.handler = HandlerConfig::new(u16::try_from(port).unwrap_or(u16::MAX));
        config.handler.probe = Field(
            "--handler-probe",
            "HANDLER_PROBE",
            "tcp, tcp:PORT or http://127.0.0.1:PORT/PATH",
        )
        .read(&handler_probe, |given| {
            Probe::parse(given, config.handler.port)
        })?;
        config.handler.payload =
            Field("--payload", "HANDLER_PAYLOAD", "task or input").read(&payload, str::parse)?;
        config.handler.terminal = Field(
            "--terminal-status-codes",
            "HANDLER_TERMINAL_STATUS_CODES",
            "for example 400-407,422",
        )
        .read(&terminal_status_codes, str::parse)?;
        config.handler.payload_limit = Field(
            "--payload-limit",
            "PAYLOAD_LIMIT",
            "a size such as 512Ki or 10Mi",
        )
        .read(&payload_limit, config::parse_bytes)?;
        config.grace = Field(
            "--grace-period",
            "GRACE_PERIOD",
            "a duration such as 30s or 10m",
        )
        .read(&grace_period, config::parse_duration)?;
        Field(
            "--log-level",
            "LOG_LEVEL",
            "error, warn, info, debug or trace",
        )
        .read(&log_level, telemetry::check_level)?;
        let log_format =
            Field("--log-format", "LOG_FORMAT", "text or json").read(&log_format, str::parse)?;
        Ok(Self {
            config,
            listen: address(&listen)?,
            log_level,
            log_format,
        })
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

    fn given(&self, value: Option<String>) -> Result<String, BadValue> {
        value.ok_or_else(|| self.bad("is missing".to_owned()))
    }

    fn read<T, E: std::fmt::Display>(
        &self,
        given: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, BadValue> {
        parse(given).map_err(|why| self.bad(format!("is {given:?}: {why}")))
    }

    fn number(
        &self,
        given: &str,
        range: std::ops::RangeInclusive<usize>,
    ) -> Result<usize, BadValue> {
        match given.parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(self.bad(format!("is {given:?}"))),
        }
    }
}

fn address(given: &str) -> Result<SocketAddr, BadValue> {
    Field("--listen", "LISTEN", "an address such as 0.0.0.0:2112").read(given, str::parse)
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

fn run(settings: Settings) -> anyhow::Result<()> {
    let Settings {
        config,
        listen,
        log_level,
        log_format,
    } = settings;
    telemetry::init(&log_level, log_format)?;
    // Two threads are enough to saturate a Conductor; each costs memory.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(serve(config, listen))
}

/// Works until TERM or INT has come and nothing is left to do.
async fn serve(config: Config, listen: SocketAddr) -> anyhow::Result<()> {
    let registry = Registry::new();
    let sidecar = Arc::new(Sidecar::new(config, &registry)?);
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("listening on {listen}"))?;
    let socket =
        control::listen(listener.local_addr()?.port()).context("listening for the pod's end")?;
    tracing::info!(address = %listener.local_addr()?, version = env!("CARGO_PKG_VERSION"), "started");

    let told = async {
        runtime::shutdown_signal().await;
        tracing::info!("told to end: no more polls");
        sidecar.shutdown().begin();
    };
    let work = async {
        tokio::join!(sidecar.clone().run(), told);
    };
    let (over, is_over) = tokio::sync::oneshot::channel::<()>();
    let server = runtime::admin::serve(
        listener,
        control::router(sidecar.clone(), registry),
        async {
            let _ = is_over.await;
        },
    );
    let all = async {
        let work = async {
            work.await;
            drop(over);
        };
        tokio::join!(server, work).0
    };
    tokio::select! {
        result = all => result.context("serving"),
        result = control::announcements(socket, sidecar.shutdown().clone()) => result.context("hearing of the pod's end"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(changes: &[&str]) -> Result<Settings, String> {
        let all = [
            "worker-sidecar",
            "--conductor-url=http://c",
            r#"--tasks=[{"name":"t"}]"#,
            "--worker-id=w",
        ];
        let kept = all.iter().filter(|a| {
            let flag = a.split('=').next().unwrap_or_default();
            !changes.iter().any(|c| c.split('=').next() == Some(flag))
        });
        let args = Args::try_parse_from(kept.chain(changes.iter().filter(|c| !c.ends_with("=-"))))
            .map_err(|e| e.to_string())?;
        Settings::read(args.run).map_err(|e| e.to_string())
    }

    #[test]
    fn defaults() {
        let s = given(&[]).unwrap();
        assert_eq!(s.config.conductor.as_str(), "http://c/api");
        assert_eq!((s.config.slots, s.config.handler.port), (1, 8080));
        assert_eq!(s.config.handler.payload_limit, 10 << 20);
        assert_eq!(s.listen.port(), 2112);
    }

    #[test]
    fn a_bad_value_is_told_by_flag_variable_and_cure() {
        for (bad, says) in [
            (
                "--conductor-url=-",
                "--conductor-url (CONDUCTOR_SERVER_URL) is missing; write for example http",
            ),
            (
                "--conductor-url=c:8080",
                "--conductor-url (CONDUCTOR_SERVER_URL) is \"c:8080\"",
            ),
            ("--tasks=-", "--tasks (CONDUCTOR_TASKS) is missing"),
            (
                "--tasks=[]",
                "--tasks (CONDUCTOR_TASKS) is \"[]\": there is no task type in it; write for example [{",
            ),
            (
                "--concurrency=0",
                "--concurrency (CONDUCTOR_CONCURRENCY) is \"0\"; write a number of tasks from 1 to 1000",
            ),
            (
                "--handler-port=x",
                "--handler-port (HANDLER_PORT) is \"x\"; write a port",
            ),
            (
                "--handler-probe=udp",
                "--handler-probe (HANDLER_PROBE) is \"udp\"",
            ),
            ("--payload=all", "--payload (HANDLER_PAYLOAD) is \"all\""),
            (
                "--terminal-status-codes=200",
                "--terminal-status-codes (HANDLER_TERMINAL_STATUS_CODES)",
            ),
            ("--payload-limit=10MB", "--payload-limit (PAYLOAD_LIMIT)"),
            ("--grace-period=1d", "--grace-period (GRACE_PERIOD)"),
            ("--listen=2112", "--listen (LISTEN) is \"2112\""),
            ("--log-level=loud", "--log-level (LOG_LEVEL)"),
            ("--log-format=xml", "--log-format (LOG_FORMAT)"),
        ] {
            let said = given(&[bad]).unwrap_err();
            assert!(
                said.starts_with(says) && said.contains("; write "),
                "{bad}: {said}"
            );
        }
    }
}
