//! The settings' names, and what is said when one does not make sense.

use std::fmt::Display;

use super::one_line;

/// A setting that does not make sense, and what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{flag} ({env}): {problem}; write {write}")]
pub struct BadValue {
    flag: &'static str,
    env: &'static str,
    problem: String,
    write: String,
}

/// A setting's names, and what to write.
pub(super) struct Setting {
    flag: &'static str,
    env: &'static str,
    write: &'static str,
}

pub(super) const fn setting(flag: &'static str, env: &'static str, write: &'static str) -> Setting {
    Setting { flag, env, write }
}

pub(super) const CONDUCTOR_URL: Setting = setting(
    "--conductor-url",
    "CONDUCTOR_SERVER_URL",
    "an address such as http://conductor:8080/api",
);
pub(super) const TASKS: Setting = setting(
    "--tasks",
    "CONDUCTOR_TASKS",
    r#"a JSON array such as [{"name":"greet"}]"#,
);
pub(super) const CONCURRENCY: Setting = setting(
    "--concurrency",
    "CONDUCTOR_CONCURRENCY",
    "a whole number from 1 to 1000",
);
pub(super) const WORKER_ID: Setting = setting(
    "--worker-id",
    "CONDUCTOR_WORKER_ID",
    "a name such as the pod's",
);
pub(super) const HANDLER_PORT: Setting =
    setting("--handler-port", "HANDLER_PORT", "a port from 1 to 65535");
pub(super) const PROBE: Setting = setting(
    "--handler-probe",
    "HANDLER_PROBE",
    "tcp, tcp:PORT or http://127.0.0.1:PORT/PATH",
);
pub(super) const PAYLOAD: Setting = setting("--payload", "HANDLER_PAYLOAD", "task or input");
pub(super) const TERMINAL: Setting = setting(
    "--terminal-status-codes",
    "HANDLER_TERMINAL_STATUS_CODES",
    "statuses and ranges such as 400-407,422",
);
pub(super) const LIMIT: Setting = setting(
    "--payload-limit",
    "PAYLOAD_LIMIT",
    "a size such as 512Ki or 10Mi",
);
pub(super) const GRACE: Setting = setting(
    "--grace-period",
    "GRACE_PERIOD",
    "a duration such as 30s or 10m",
);
pub(super) const SPOOL_SIZE: Setting = setting("--spool-size", "SPOOL_SIZE", "a size such as 64Mi");
pub(super) const BREAKER: Setting = setting(
    "--failure-breaker",
    "FAILURE_BREAKER",
    "a share of the last tasks such as 90%/20, or off",
);
pub(super) const LISTEN: Setting = setting(
    "--listen",
    "LISTEN",
    "an address and port such as 0.0.0.0:2112",
);
pub(super) const LOCAL_API_PORT: Setting = setting(
    "--local-api-port",
    "LOCAL_API_PORT",
    "a port from 1 to 65535, or 0 for none",
);
pub(super) const KEY: Setting = setting(
    "--cordon-public-key",
    "CORDON_PUBLIC_KEY",
    "the operator's public key in PEM or base64",
);
pub(super) const KEY_FILE: Setting = setting(
    "--cordon-public-key-file",
    "CORDON_PUBLIC_KEY_FILE",
    "the path of a file with the operator's public key in PEM, or the key itself, not both",
);
pub(super) const LOG_LEVEL: Setting = setting(
    "--log-level",
    "LOG_LEVEL",
    "error, warn, info, debug or trace",
);
pub(super) const LOG_FORMAT: Setting = setting("--log-format", "LOG_FORMAT", "text or json");

impl Setting {
    pub(super) fn read<T, E: Display>(
        &self,
        given: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, BadValue> {
        parse(given).map_err(|error| {
            // Some messages name what was given, some do not.
            let (error, quoted) = (one_line(&error.to_string()), format!("{given:?}"));
            let problem = if error.contains(&quoted) {
                error
            } else {
                format!("{quoted}: {error}")
            };
            self.bad(problem)
        })
    }

    pub(super) fn required(&self, given: Option<String>) -> Result<String, BadValue> {
        given
            .filter(|given| !given.is_empty())
            .ok_or_else(|| self.bad("not given".to_owned()))
    }

    pub(super) fn bad(&self, problem: String) -> BadValue {
        BadValue {
            flag: self.flag,
            env: self.env,
            problem,
            write: self.write.to_owned(),
        }
    }
}

pub(super) fn number<T: std::str::FromStr + PartialOrd + Display + Copy>(
    given: &str,
    low: T,
    high: T,
) -> Result<T, String> {
    match given.parse::<T>() {
        Ok(n) if n >= low && n <= high => Ok(n),
        _ => Err(format!(
            "{given:?} is not a whole number from {low} to {high}"
        )),
    }
}
