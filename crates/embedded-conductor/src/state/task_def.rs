//! Task definitions: their shape, defaults and rules.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    error::Violation,
    lenient::{int, optional_int},
};

/// A task definition with Conductor's defaults. Unknown fields are dropped, as there.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct TaskDef {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(deserialize_with = "int")]
    pub(crate) retry_count: i64,
    #[serde(deserialize_with = "int")]
    pub(crate) timeout_seconds: i64,
    input_keys: Vec<String>,
    output_keys: Vec<String>,
    pub(crate) timeout_policy: TimeoutPolicy,
    pub(crate) retry_logic: RetryLogic,
    #[serde(deserialize_with = "int")]
    pub(crate) retry_delay_seconds: i64,
    #[serde(deserialize_with = "int")]
    pub(crate) response_timeout_seconds: i64,
    #[serde(
        deserialize_with = "optional_int",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) concurrent_exec_limit: Option<i64>,
    pub(crate) input_template: Map<String, Value>,
    #[serde(deserialize_with = "int")]
    pub(crate) rate_limit_per_frequency: i64,
    #[serde(deserialize_with = "int")]
    pub(crate) rate_limit_frequency_in_seconds: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    isolation_group_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    execution_name_space: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_app: Option<String>,
    #[serde(
        deserialize_with = "optional_int",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) poll_timeout_seconds: Option<i64>,
    #[serde(deserialize_with = "int")]
    pub(crate) backoff_scale_factor: i64,
    #[serde(deserialize_with = "int")]
    pub(crate) max_retry_delay_seconds: i64,
    #[serde(deserialize_with = "int")]
    backoff_jitter_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    base_type: Option<String>,
    #[serde(deserialize_with = "int")]
    pub(crate) total_timeout_seconds: i64,
    task_status_listener_enabled: bool,
    runtime_metadata: Vec<String>,
    enforce_schema: bool,
    #[serde(deserialize_with = "int")]
    pub(crate) create_time: i64,
    #[serde(deserialize_with = "int")]
    pub(crate) update_time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) updated_by: Option<String>,
}

/// What a time-out other than the response's does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum TimeoutPolicy {
    Retry,
    TimeOutWf,
    AlertOnly,
}

impl TimeoutPolicy {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "RETRY",
            Self::TimeOutWf => "TIME_OUT_WF",
            Self::AlertOnly => "ALERT_ONLY",
        }
    }
}

/// How the delay between attempts grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum RetryLogic {
    Fixed,
    ExponentialBackoff,
    LinearBackoff,
}

impl Default for TaskDef {
    fn default() -> Self {
        Self {
            name: None,
            description: None,
            retry_count: 3,
            timeout_seconds: 0,
            input_keys: Vec::new(),
            output_keys: Vec::new(),
            timeout_policy: TimeoutPolicy::TimeOutWf,
            retry_logic: RetryLogic::Fixed,
            retry_delay_seconds: 60,
            response_timeout_seconds: 3600,
            concurrent_exec_limit: None,
            input_template: Map::new(),
            rate_limit_per_frequency: 0,
            rate_limit_frequency_in_seconds: 1,
            isolation_group_id: None,
            execution_name_space: None,
            owner_email: None,
            owner_app: None,
            poll_timeout_seconds: None,
            backoff_scale_factor: 1,
            max_retry_delay_seconds: 0,
            backoff_jitter_ms: 0,
            base_type: None,
            total_timeout_seconds: 0,
            task_status_listener_enabled: true,
            runtime_metadata: Vec::new(),
            enforce_schema: false,
            create_time: 0,
            update_time: 0,
            created_by: None,
            updated_by: None,
        }
    }
}

impl TaskDef {
    /// The definition that Conductor makes up for a type that nobody registered.
    pub(crate) fn unregistered(name: &str) -> Self {
        Self {
            name: Some(name.to_owned()),
            ..Self::default()
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// How many may run at once; none for any number.
    pub(crate) fn limit(&self) -> Option<usize> {
        let limit = self.concurrent_exec_limit.filter(|&n| n > 0)?;
        usize::try_from(limit).ok()
    }

    /// The rules it breaks; `path` is where Conductor says that it is.
    pub(crate) fn violations(&self, path: &str) -> Vec<Violation> {
        let mut found = Vec::new();
        if self.name().is_empty() {
            found.push(Violation::new(
                format!("{path}.name"),
                "TaskDef name cannot be null or empty",
            ));
        }
        for (field, value) in [
            ("retryCount", self.retry_count),
            (
                "pollTimeoutSeconds",
                self.poll_timeout_seconds.unwrap_or_default(),
            ),
            ("totalTimeoutSeconds", self.total_timeout_seconds),
            ("maxRetryDelaySeconds", self.max_retry_delay_seconds),
            ("backoffJitterMs", self.backoff_jitter_ms),
        ] {
            if value < 0 {
                // Conductor prints the bound where it means the value.
                let message = format!("TaskDef {field}: 0 must be >= 0");
                found.push(Violation::new(format!("{path}.{field}"), message).of(value));
            }
        }
        if self.response_timeout_seconds < 1 {
            let value = self.response_timeout_seconds;
            let message =
                format!("TaskDef responseTimeoutSeconds: {value} should be minimum 1 second");
            found.push(Violation::new(format!("{path}.responseTimeoutSeconds"), message).of(value));
        }
        if self.backoff_scale_factor < 1 {
            let message = "Backoff scale factor. Applicable for LINEAR_BACKOFF";
            found.push(
                Violation::new(format!("{path}.backoffScaleFactor"), message)
                    .of(self.backoff_scale_factor),
            );
        }
        let (name, response) = (self.name(), self.response_timeout_seconds);
        let (timeout, total) = (self.timeout_seconds, self.total_timeout_seconds);
        if timeout > 0 && response > timeout {
            found.push(Violation::new(path, format!(
                "TaskDef: {name} responseTimeoutSeconds: {response} must be less than timeoutSeconds: {timeout}"
            )));
        }
        if timeout > 0 && total > 0 && timeout > total {
            found.push(Violation::new(path, format!(
                "TaskDef: {name} timeoutSeconds: {timeout} must be less than or equal to totalTimeoutSeconds: {total}"
            )));
        }
        found
    }

    /// Seconds before the attempt after one with this `retryCount`.
    pub(crate) fn retry_delay(&self, retry_count: i64) -> i64 {
        let base = self.retry_delay_seconds;
        let delay = match self.retry_logic {
            RetryLogic::Fixed => base,
            RetryLogic::LinearBackoff => base
                .saturating_mul(self.backoff_scale_factor)
                .saturating_mul(retry_count + 1),
            RetryLogic::ExponentialBackoff => base.saturating_mul(1 << retry_count.clamp(0, 30)),
        };
        let delay = delay.clamp(0, i64::from(i32::MAX));
        match self.max_retry_delay_seconds {
            cap if cap > 0 => delay.min(cap),
            _ => delay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn def(json: &str) -> TaskDef {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn delays_grow_by_their_logic() {
        let delays = |json: &str| (0..4).map(|n| def(json).retry_delay(n)).collect::<Vec<_>>();
        assert_eq!(delays(r#"{"retryDelaySeconds":3}"#), [3, 3, 3, 3]);
        assert_eq!(
            delays(
                r#"{"retryDelaySeconds":3,"retryLogic":"LINEAR_BACKOFF","backoffScaleFactor":2}"#
            ),
            [6, 12, 18, 24]
        );
        assert_eq!(
            delays(
                r#"{"retryDelaySeconds":3,"retryLogic":"EXPONENTIAL_BACKOFF","maxRetryDelaySeconds":20}"#
            ),
            [3, 6, 12, 20]
        );
    }

    #[test]
    fn rules_are_conductors() {
        let broken = |json: &str| def(json).violations("a").len();
        assert_eq!(broken(r#"{"name":"min"}"#), 0);
        assert_eq!(broken("{}"), 1);
        assert_eq!(
            broken(r#"{"name":"x","retryCount":-1,"responseTimeoutSeconds":0}"#),
            2
        );
        assert_eq!(
            broken(r#"{"name":"x","timeoutSeconds":100,"responseTimeoutSeconds":500}"#),
            1
        );
        assert_eq!(
            broken(r#"{"name":"x","concurrentExecLimit":-1,"retryCount":"50"}"#),
            0
        );
    }
}
