//! Numbers as Conductor's JSON reader takes them: `"5"` is 5 and `null` is 0.

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::Value;

fn number(value: &Value) -> Result<i64, String> {
    match value {
        Value::Null => Ok(0),
        Value::Number(n) => n
            .as_i64()
            .ok_or_else(|| format!("{n} is not a whole number")),
        Value::String(s) => s
            .trim()
            .parse()
            .map_err(|_| format!("Cannot deserialize a number from String {s:?}")),
        other => Err(format!("Cannot deserialize a number from {other}")),
    }
}

pub(crate) fn int<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    number(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
}

pub(crate) fn optional_int<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<i64>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        value => number(&value).map(Some).map_err(D::Error::custom),
    }
}
