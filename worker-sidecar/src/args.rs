//! How the sidecar is called. What the settings mean is in [`crate::config`].

mod connection;
mod setting;

use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, ToSocketAddrs as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use conductor_client::ApiBase;
use futures::FutureExt as _;
use prometheus::Registry;
use runtime::telemetry::{self, LogFormat};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{
        self, Config, DEFAULT_TERMINAL, HandlerConfig, Payload, Probe, SpoolConfig, StatusSet,
    },
    control,
    cordon::{self, Access, Keys},
    local_api,
    pipeline::Sidecar,
};

pub use connection::TypedConnection;
pub use setting::BadValue;
use setting::{
    BREAKER, CONCURRENCY, CONDUCTOR_URL, GRACE, HANDLER_PORT, KEY, KEY_FILE, LIMIT, LISTEN,
    LOCAL_API_PORT, LOG_FORMAT, LOG_LEVEL, PAYLOAD, PROBE, SPOOL_SIZE, TASKS, TERMINAL, WORKER_ID,
    number,
};

/// `EX_USAGE`: a restart does not help.
const USAGE: u8 = 64;

/// Polls Conductor, forwards tasks to the handler beside it, reports the results.
#[derive(Debug, Parser)]
#[command(name = "worker-sidecar", version, about, long_about = None)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    typed: Typed,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Command {
    /// Work (the default).
    Run,
    /// Tell the sidecar of this pod that the pod is terminating: it stops polling. For its
    /// preStop hook; takes the port from LISTEN.
    Terminating,
}

/// What was typed, all of it text: what it means is found out in one place, with one kind
/// of message.
#[derive(Debug, Clone, clap::Args)]
pub struct Typed {
    /// Conductor's address, with or without /api.
    #[arg(long, env = "CONDUCTOR_SERVER_URL", value_name = "URL", global = true)]
    conductor_url: Option<String>,
    #[command(flatten)]
    connection: TypedConnection,
    /// The task types, a JSON array: [{"name":"greet","domain":"gpu","path":"/",
    /// "concurrency":4,"pollInterval":"100ms","timeout":"10m"}]; all but name optional.
    #[arg(long, env = "CONDUCTOR_TASKS", value_name = "JSON", global = true)]
    tasks: Option<String>,
    /// How many tasks may be in work at once.
    #[arg(
        long,
        env = "CONDUCTOR_CONCURRENCY",
        value_name = "N",
        default_value = "1",
        global = true
    )]
    concurrency: String,
    /// How the sidecar calls itself towards Conductor [default: the host's name].
    #[arg(long, env = "CONDUCTOR_WORKER_ID", value_name = "NAME", global = true)]
    worker_id: Option<String>,
    /// The handler's port on 127.0.0.1.
    #[arg(
        long,
        env = "HANDLER_PORT",
        value_name = "PORT",
        default_value = "8080",
        global = true
    )]
    handler_port: String,
    /// How the handler's readiness is found out: tcp, tcp:PORT or <http://127.0.0.1:PORT/PATH>.
    #[arg(
        long,
        env = "HANDLER_PROBE",
        value_name = "PROBE",
        default_value = "tcp",
        global = true
    )]
    handler_probe: String,
    /// What the handler is sent: task (all of it) or input (its inputData).
    #[arg(
        long,
        env = "HANDLER_PAYLOAD",
        value_name = "WHAT",
        default_value = "task",
        global = true
    )]
    payload: String,
    /// The HTTP statuses that fail a task for good.
    #[arg(long, env = "HANDLER_TERMINAL_STATUS_CODES", value_name = "RANGES", default_value = DEFAULT_TERMINAL, global = true)]
    terminal_status_codes: String,
    /// The largest answer that is taken from the handler; Conductor's own limit is 10Mi.
    #[arg(
        long,
        env = "PAYLOAD_LIMIT",
        value_name = "SIZE",
        default_value = "10Mi",
        global = true
    )]
    payload_limit: String,
    /// The pod's terminationGracePeriodSeconds.
    #[arg(
        long,
        env = "GRACE_PERIOD",
        value_name = "DURATION",
        default_value = "30s",
        global = true
    )]
    grace_period: String,
    /// A folder for results that Conductor does not take for now; they outlive a restart of
    /// the sidecar there [default: none, they are kept in memory].
    #[arg(long, env = "SPOOL_DIR", value_name = "FOLDER", global = true)]
    spool_dir: Option<String>,
    /// The most that may lie there; no more tasks are taken while it is full.
    #[arg(
        long,
        env = "SPOOL_SIZE",
        value_name = "SIZE",
        default_value = "64Mi",
        global = true
    )]
    spool_size: String,
    /// No more tasks of a type are taken, but single ones as a test, while the handler failed
    /// so many of its last ones: 90%/20 is 18 of 20. off: always taken.
    #[arg(
        long,
        env = "FAILURE_BREAKER",
        value_name = "SHARE/N",
        default_value = "90%/20",
        global = true
    )]
    failure_breaker: String,
    /// Where metrics, health, stats and drain are served.
    #[arg(
        long,
        env = "LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:2112",
        global = true
    )]
    listen: String,
    /// The port on 127.0.0.1 of the local task API, which the handler may call as it would
    /// Conductor; 0 for none.
    #[arg(
        long,
        env = "LOCAL_API_PORT",
        value_name = "PORT",
        default_value = "2113",
        global = true
    )]
    local_api_port: String,
    /// The operator's public key (Ed25519, PEM or base64), with which the tokens of /cordon are
    /// checked. Without a key nobody may cordon this pod.
    #[arg(long, env = "CORDON_PUBLIC_KEY", value_name = "KEY", global = true)]
    cordon_public_key: Option<String>,
    /// A file with that key, which may change while the sidecar runs. While it is empty nobody
    /// may cordon this pod.
    #[arg(
        long,
        env = "CORDON_PUBLIC_KEY_FILE",
        value_name = "FILE",
        global = true
    )]
    cordon_public_key_file: Option<PathBuf>,
    /// The pod's uid, to which the tokens of /cordon are bound besides the worker id.
    #[arg(long, env = "POD_UID", value_name = "UID", global = true)]
    pod_uid: Option<String>,
    /// error, warn, info, debug or trace; also per target, as in info,hyper=warn.
    #[arg(
        long,
        env = "LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info",
        global = true
    )]
    log_level: String,
    /// text or json.
    #[arg(
        long,
        env = "LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text",
        global = true
    )]
    log_format: String,
}

/// What was typed, understood.
#[derive(Debug, Clone)]
pub struct Meant {
    /// For the pipeline.
    pub config: Config,
    /// Where to serve.
    pub listen: SocketAddr,
    /// The local task API's port on loopback; 0 for none.
    pub local_api_port: u16,
    /// Who may cordon it.
    pub access: Access,
    /// What to log.
    pub log_level: String,
    /// How to log.
    pub log_format: LogFormat,
}

/// Reads the arguments and does what they say.
pub fn main() -> ExitCode {
    // Certificates are looked at with it.
    runtime::install_tls_provider();
    let args = match Args::try_parse() {
        Ok(args) => args,
        // --help and --version
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) => return complain(&one_line(&error.to_string()), USAGE),
    };
    let Args { command, typed } = args;
    let result = match command.unwrap_or(Command::Run) {
        Command::Run => match typed.mean() {
            Ok(meant) => run(meant),
            Err(bad) => return complain(&bad.to_string(), USAGE),
        },
        Command::Terminating => match typed.listen() {
            Ok(listen) => terminating(listen),
            Err(bad) => return complain(&bad.to_string(), USAGE),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("{error:#}"), 1),
    }
}

fn complain(message: &str, code: u8) -> ExitCode {
    // Nobody is left to tell that standard error is closed.
    let _ = writeln!(std::io::stderr(), "worker-sidecar: {message}");
    ExitCode::from(code)
}

/// Clap's messages have a usage and a hint below the first paragraph.
fn one_line(message: &str) -> String {
    let first = message.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = first.split_whitespace().collect();
    words.join(" ").trim_start_matches("error: ").to_owned()
}

fn terminating(listen: SocketAddr) -> anyhow::Result<()> {
    control::tell_terminating(listen.port()).with_context(|| {
        format!(
            "no sidecar that serves on port {} could be told",
            listen.port()
        )
    })
}

fn run(meant: Meant) -> anyhow::Result<()> {
    let Meant {
        config,
        listen,
        local_api_port,
        access,
        log_level,
        log_format,
    } = meant;
    telemetry::init(&log_level, log_format)?;
    // The work is waiting for others: one thread does more of it than any Conductor hands out,
    // and two would spend a quarter of their time waking each other.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(config, listen, local_api_port, access))
}

async fn serve(
    config: Config,
    listen: SocketAddr,
    local_api_port: u16,
    access: Access,
) -> anyhow::Result<()> {
    let term = runtime::shutdown_signal().shared();
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot serve on {listen}"))?;
    let port = listener.local_addr()?.port();
    tracing::info!(
        conductor = %config.conductor.base(), worker_id = config.worker_id, slots = config.slots, port,
        tasks = ?config.tasks.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), "starting"
    );
    let registry = Registry::new();
    let sidecar = Sidecar::new(config, &registry)?;
    let socket = control::Socket::bind(port).context("no socket for `terminating`")?;
    let router =
        control::router(sidecar.clone(), registry).merge(cordon::router(sidecar.clone(), access));
    let local_api = local_api(local_api_port).await?;
    let over = CancellationToken::new();
    let work = async {
        let run = async {
            sidecar.clone().run(term.clone()).await;
            // kubelet stops this container last. Until then it is asked: `/drain` by hooks that
            // come later than `terminating`, the local task API by a handler that ends.
            if socket.was_told() {
                tokio::select! {
                    () = term => {}
                    () = sidecar.shutdown.end() => {}
                }
            }
        };
        tokio::select! {
            () = run => {}
            never = socket.listen(&sidecar) => match never {},
        }
        over.cancel();
    };
    let admin = runtime::admin::serve(listener, router, over.clone().cancelled_owned());
    let local = async {
        match local_api {
            Some(listener) => {
                let router = local_api::router(sidecar.clone());
                let stop = over.clone().cancelled_owned();
                runtime::admin::serve(listener, router, stop).await
            }
            None => Ok(()),
        }
    };
    let ((), served, local) = tokio::join!(work, admin, local);
    served.context("the admin server")?;
    local.context("the local task API")
}

/// Loopback alone: it is for the containers of this pod.
async fn local_api(port: u16) -> anyhow::Result<Option<TcpListener>> {
    if port == 0 {
        return Ok(None);
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    let listener = listener.with_context(|| {
        format!(
            "cannot serve the local task API on 127.0.0.1:{port}; set LOCAL_API_PORT to a free port, or to 0 for none"
        )
    })?;
    Ok(Some(listener))
}

impl Typed {
    /// Finds out what was meant.
    pub fn mean(self) -> Result<Meant, BadValue> {
        let listen = self.listen()?;
        let Self {
            conductor_url,
            connection,
            tasks,
            concurrency,
            worker_id,
            handler_port,
            handler_probe,
            payload,
            terminal_status_codes,
            payload_limit,
            grace_period,
            spool_dir,
            spool_size,
            failure_breaker,
            listen: _,
            local_api_port,
            cordon_public_key,
            cordon_public_key_file,
            pod_uid,
            log_level,
            log_format,
        } = self;
        let conductor = CONDUCTOR_URL.required(conductor_url)?;
        let conductor = CONDUCTOR_URL.read(&conductor, ApiBase::parse)?;
        let tasks = TASKS.required(tasks)?;
        let port = HANDLER_PORT.read(&handler_port, |s| number(s, 1, u16::MAX))?;
        let worker_id = match worker_id.filter(|id| !id.is_empty()) {
            Some(id) => id,
            None => WORKER_ID.required(host_name())?,
        };
        let pod_uid = pod_uid.filter(|uid| !uid.is_empty());
        let access = Access {
            keys: keys(cordon_public_key, cordon_public_key_file)?,
            audience: runtime::cordon::audience(&worker_id, pod_uid.as_deref()),
        };
        Ok(Meant {
            config: Config {
                conductor: connection.mean(conductor)?,
                tasks: TASKS.read(&tasks, config::parse_tasks)?,
                slots: CONCURRENCY.read(&concurrency, |s| number(s, 1, 1000))?,
                worker_id,
                handler: HandlerConfig {
                    port,
                    probe: PROBE.read(&handler_probe, |s| Probe::parse(s, port))?,
                    payload: PAYLOAD.read(&payload, str::parse::<Payload>)?,
                    terminal: TERMINAL.read(&terminal_status_codes, str::parse::<StatusSet>)?,
                    payload_limit: LIMIT.read(&payload_limit, config::parse_bytes)?,
                },
                grace: GRACE.read(&grace_period, config::parse_duration)?,
                spool: {
                    let limit = SPOOL_SIZE.read(&spool_size, config::parse_bytes)? as u64;
                    let dir = spool_dir.filter(|dir| !dir.is_empty());
                    dir.map(|dir| SpoolConfig {
                        dir: dir.into(),
                        limit,
                    })
                },
                breaker: BREAKER.read(&failure_breaker, config::parse_breaker)?,
            },
            listen,
            local_api_port: LOCAL_API_PORT.read(&local_api_port, |s| number(s, 0, u16::MAX))?,
            access,
            log_format: LOG_FORMAT.read(&log_format, str::parse)?,
            log_level: {
                LOG_LEVEL.read(&log_level, telemetry::check_level)?;
                log_level
            },
        })
    }

    fn listen(&self) -> Result<SocketAddr, BadValue> {
        LISTEN.read(&self.listen, |given| {
            let mut addresses = given
                .to_socket_addrs()
                .map_err(|e| format!("{given:?}: {e}"))?;
            addresses
                .next()
                .ok_or_else(|| format!("{given:?} is no address"))
        })
    }
}

/// The key as it is typed, or the file that holds it.
fn keys(given: Option<String>, file: Option<PathBuf>) -> Result<Keys, BadValue> {
    let file = file.filter(|path| !path.as_os_str().is_empty());
    match (given.filter(|key| !key.is_empty()), file) {
        (Some(_), Some(_)) => Err(KEY_FILE.bad("given besides CORDON_PUBLIC_KEY".to_owned())),
        (Some(key), None) => KEY.read(&key, str::parse).map(Keys::Given),
        (None, Some(path)) => {
            let read = |name: &str| {
                let text = std::fs::read_to_string(name).map_err(|e| e.to_string())?;
                cordon::parse(&text).map_err(|e| e.to_string())
            };
            // It is read again for each request; this tells at once that it cannot be.
            KEY_FILE.read(&path.to_string_lossy(), read)?;
            Ok(Keys::File(path))
        }
        (None, None) => Ok(Keys::None),
    }
}

/// Kubernetes sets HOSTNAME to the pod's name.
fn host_name() -> Option<String> {
    let from_env = std::env::var("HOSTNAME").ok();
    from_env
        .map(|name| name.trim().to_owned())
        .or_else(runtime::host_name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const REQUIRED: [&str; 4] = [
        "--conductor-url",
        "http://c:8080",
        "--tasks",
        r#"[{"name":"greet"}]"#,
    ];

    fn mean(more: &[&str]) -> Result<Meant, BadValue> {
        let arguments = ["worker-sidecar"].iter().chain(&REQUIRED).chain(more);
        Args::try_parse_from(arguments).unwrap().typed.mean()
    }

    #[test]
    fn defaults() {
        let meant = mean(&["--worker-id", "me"]).unwrap();
        let config = meant.config;
        assert_eq!(config.conductor.base().as_str(), "http://c:8080/api");
        assert_eq!((config.slots, config.worker_id.as_str()), (1, "me"));
        assert_eq!(
            (config.handler.port, config.handler.probe),
            (8080, Probe::Tcp(8080))
        );
        assert_eq!(
            (config.handler.payload, config.handler.payload_limit),
            (Payload::Task, 10 << 20)
        );
        assert_eq!(config.handler.terminal, StatusSet::default());
        assert_eq!(config.grace, Duration::from_secs(30));
        assert_eq!(meant.listen.to_string(), "0.0.0.0:2112");
        assert_eq!(meant.local_api_port, 2113);
        assert_eq!(
            (meant.log_level.as_str(), meant.log_format),
            ("info", LogFormat::Text)
        );
    }

    #[test]
    fn a_file_of_keys_may_be_empty_at_first() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let given = || mean(&["--cordon-public-key-file", path]).map(|m| m.access.keys);
        assert!(matches!(given(), Ok(Keys::File(_))));
        std::fs::write(file.path(), "key").unwrap();
        let says = given().unwrap_err().to_string();
        assert!(says.contains("CORDON_PUBLIC_KEY_FILE"), "{says}");
    }

    #[test]
    fn every_flag_is_taken() {
        let meant = mean(&[
            "--concurrency",
            "8",
            "--worker-id",
            "pod-1",
            "--handler-port",
            "9000",
            "--handler-probe",
            "tcp",
            "--payload",
            "input",
            "--terminal-status-codes",
            "422",
            "--payload-limit",
            "1Mi",
            "--grace-period",
            "10m",
            "--listen",
            "127.0.0.1:0",
            "--local-api-port",
            "0",
            "--log-level",
            "debug",
            "--log-format",
            "json",
        ])
        .unwrap();
        let config = meant.config;
        assert_eq!((config.slots, config.handler.port), (8, 9000));
        assert_eq!(
            config.handler.probe,
            Probe::Tcp(9000),
            "the handler's own port"
        );
        assert_eq!(
            (config.handler.payload, config.handler.payload_limit),
            (Payload::Input, 1 << 20)
        );
        assert_eq!(config.grace, Duration::from_secs(600));
        assert_eq!(
            (meant.local_api_port, meant.log_format),
            (0, LogFormat::Json)
        );
    }

    #[test]
    fn a_bad_value_names_flag_variable_and_remedy() {
        for (flag, given, env, write) in [
            (
                "--conductor-url",
                "conductor",
                "CONDUCTOR_SERVER_URL",
                "http://conductor:8080/api",
            ),
            (
                "--tasks",
                "greet",
                "CONDUCTOR_TASKS",
                r#"[{"name":"greet"}]"#,
            ),
            (
                "--concurrency",
                "many",
                "CONDUCTOR_CONCURRENCY",
                "1 to 1000",
            ),
            ("--concurrency", "0", "CONDUCTOR_CONCURRENCY", "1 to 1000"),
            ("--handler-port", "0", "HANDLER_PORT", "1 to 65535"),
            ("--handler-probe", "exec", "HANDLER_PROBE", "tcp:PORT"),
            ("--payload", "all", "HANDLER_PAYLOAD", "task or input"),
            (
                "--terminal-status-codes",
                "200",
                "HANDLER_TERMINAL_STATUS_CODES",
                "400-407,422",
            ),
            ("--payload-limit", "10MB", "PAYLOAD_LIMIT", "10Mi"),
            ("--grace-period", "30", "GRACE_PERIOD", "30s"),
            ("--listen", "2112", "LISTEN", "0.0.0.0:2112"),
            ("--local-api-port", "api", "LOCAL_API_PORT", "0 for none"),
            (
                "--cordon-public-key",
                "key",
                "CORDON_PUBLIC_KEY",
                "PEM or base64",
            ),
            (
                "--cordon-public-key-file",
                "/no/such/file",
                "CORDON_PUBLIC_KEY_FILE",
                "the path of a file",
            ),
            ("--log-level", "loud", "LOG_LEVEL", "debug"),
            ("--log-format", "xml", "LOG_FORMAT", "json"),
        ] {
            let message = match Args::try_parse_from(["worker-sidecar", flag, given]) {
                Ok(args) => {
                    let mut typed = args.typed;
                    typed
                        .conductor_url
                        .get_or_insert_with(|| REQUIRED[1].to_owned());
                    typed.tasks.get_or_insert_with(|| REQUIRED[3].to_owned());
                    typed.mean().unwrap_err().to_string()
                }
                Err(error) => panic!("{error}"),
            };
            assert!(
                message.starts_with(&format!("{flag} ({env}): ")),
                "{message}"
            );
            assert!(message.contains(&format!("{given:?}")), "{message}");
            assert!(
                message.contains("; write ") && message.contains(write),
                "{message}"
            );
            assert!(!message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let typed = Args::try_parse_from(["worker-sidecar"]).unwrap().typed;
        let message = typed.mean().unwrap_err().to_string();
        assert_eq!(
            message,
            "--conductor-url (CONDUCTOR_SERVER_URL): not given; write an address such as http://conductor:8080/api"
        );
    }

    #[test]
    fn run_is_the_default_and_takes_the_same_flags() {
        let args = Args::try_parse_from(["worker-sidecar", "run", "--concurrency", "3"]).unwrap();
        assert!(matches!(args.command, Some(Command::Run)));
        assert_eq!(args.typed.concurrency, "3");
        let args = Args::try_parse_from(["worker-sidecar", "terminating"]).unwrap();
        assert!(matches!(args.command, Some(Command::Terminating)));
    }
}
