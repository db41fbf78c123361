//! Refusals, in Conductor's own words.

use serde::Serialize;

/// Why a request was refused: the status and the JSON body that Conductor answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The HTTP status.
    pub(crate) status: u16,
    /// Conductor's message.
    pub(crate) message: String,
    /// Which fields are wrong, for a 400 by validation.
    pub(crate) violations: Vec<Violation>,
    /// Whether the connection closes before the client can hear this.
    pub(crate) unheard: bool,
}

/// One wrong field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Violation {
    path: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    invalid_value: Option<String>,
}

impl Violation {
    pub(crate) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
            invalid_value: None,
        }
    }

    pub(crate) fn of(mut self, value: i64) -> Self {
        self.invalid_value = Some(value.to_string());
        self
    }
}

impl Refused {
    pub(crate) fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            violations: Vec::new(),
            unheard: false,
        }
    }

    /// 400: understood, and wrong.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    /// 404.
    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self::new(404, message)
    }

    /// 409.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, message)
    }

    /// 500: what Conductor answers to most mistakes of a client.
    pub(crate) fn mistake(message: impl Into<String>) -> Self {
        Self::new(500, message)
    }

    /// 500: a status in the path that is none.
    pub(crate) fn no_status(given: &str) -> Self {
        Self::mistake(format!(
            "Method parameter 'status': Failed to convert value of type 'java.lang.String' to \
             required type 'com.netflix.conductor.common.metadata.tasks.TaskResult$Status'; for \
             value [{given}]"
        ))
    }

    /// 400 with the fields that are wrong.
    pub(crate) fn invalid(violations: Vec<Violation>) -> Self {
        Self {
            status: 400,
            message: "Validation failed, check below errors for detail.".to_owned(),
            violations,
            unheard: false,
        }
    }

    /// The JSON body.
    pub(crate) fn body(&self) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            status: u16,
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            instance: Option<&'static str>,
            retryable: bool,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            validation_errors: &'a [Violation],
        }
        let body = Body {
            status: self.status,
            message: &self.message,
            instance: self.violations.is_empty().then_some("embedded"),
            retryable: false,
            validation_errors: &self.violations,
        };
        serde_json::to_string(&body).unwrap_or_default()
    }
}
