//! Payloads that are too large to be kept with their task or workflow. A real server moves
//! them to its storage and says where; here they stay, and are only not shown.

use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value};

/// Input and output of tasks from this many bytes of JSON on are stored outside.
pub(crate) const TASK_THRESHOLD: usize = 3072 * 1024;
/// The same for workflows.
pub(crate) const WORKFLOW_THRESHOLD: usize = 5120 * 1024;
/// Payloads above this many bytes of JSON are refused.
pub(crate) const LIMIT: usize = 10_240 * 1024;

/// A JSON object, and where it is said to be stored if it is not shown.
#[derive(Debug, Clone)]
pub(crate) struct Payload {
    value: Arc<Value>,
    path: Option<Arc<str>>,
}

impl Payload {
    /// One that is shown.
    pub(crate) fn inline(object: Map<String, Value>) -> Self {
        Self {
            value: Arc::new(Value::Object(object)),
            path: None,
        }
    }

    pub(crate) fn empty() -> Self {
        Self::inline(Map::new())
    }

    /// One that is stored outside from `threshold` bytes on, under the name that `id` gives;
    /// its size if it is above the limit.
    pub(crate) fn new(
        value: Arc<Value>,
        threshold: usize,
        id: impl FnOnce() -> Arc<str>,
    ) -> Result<Self, usize> {
        let size = if bound(&value) <= threshold {
            0
        } else {
            size(&value)
        };
        if size > LIMIT {
            return Err(size);
        }
        let path = (size > threshold).then(|| format!("{}.json", id()).into());
        Ok(Self { value, path })
    }

    /// All of it, for what goes on within the server.
    pub(crate) fn value(&self) -> &Arc<Value> {
        &self.value
    }

    /// What clients see of it.
    pub(crate) fn shown(&self) -> &Value {
        static NOTHING: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));
        match self.path {
            None => &self.value,
            Some(_) => &NOTHING,
        }
    }

    /// Where it is stored, if that is outside.
    pub(crate) fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }
}

/// No fewer than the bytes of its JSON, without writing it: every character may need six.
fn bound(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 32,
        Value::String(text) => 6 * text.len() + 2,
        Value::Array(items) => items.iter().map(|item| bound(item) + 1).sum::<usize>() + 2,
        Value::Object(fields) => {
            let fields = fields.iter().map(|(k, v)| 6 * k.len() + bound(v) + 4);
            fields.sum::<usize>() + 2
        }
    }
}

/// The bytes of its JSON.
fn size(value: &Value) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    match serde_json::to_writer(&mut count, value) {
        Ok(()) => count.0,
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_bound_is_one() {
        for value in [
            json!(null),
            json!(false),
            json!(-1.797_693_134_862_315_7e308),
            json!(u64::MAX),
            json!("\u{1}\u{1}\"\\ü"),
            json!([[], {}, [1, "x"]]),
            json!({ "\u{2}": { "": [] }, "b": null }),
        ] {
            assert!(bound(&value) >= size(&value), "{value}");
        }
    }

    #[test]
    fn large_ones_are_not_shown_and_too_large_ones_refused() {
        let of = |length: usize| {
            let value = Arc::new(json!({ "x": "y".repeat(length) }));
            Payload::new(value, TASK_THRESHOLD, || "id".into())
        };
        let small = of(TASK_THRESHOLD - 8).unwrap();
        assert_eq!((small.shown(), small.path()), (&**small.value(), None));
        let large = of(TASK_THRESHOLD).unwrap();
        assert_eq!((large.shown(), large.path()), (&json!({}), Some("id.json")));
        assert_eq!(large.value()["x"].as_str().unwrap().len(), TASK_THRESHOLD);
        assert_eq!(of(LIMIT).unwrap_err(), LIMIT + 8);
    }
}
