//! Why a task failed, read from the handler's answer. Pure.

use serde::Deserialize;

/// What Conductor keeps of a reason, in UTF-16 units.
const REASON_LIMIT: usize = 500;

/// What goes to the task's log of a reason that was cut, in bytes.
const LOG_LIMIT: usize = 64 * 1024;

/// A reason that fits, and the rest of it for the task's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// At most 500 UTF-16 units.
    pub text: String,
    /// What did not fit.
    pub rest: Option<String>,
}

impl Reason {
    /// Cuts a text to what Conductor keeps.
    pub fn new(text: &str) -> Self {
        let mut units = 0;
        let end = text.char_indices().find_map(|(at, c)| {
            units += c.len_utf16();
            (units > REASON_LIMIT).then_some(at)
        });
        let Some(end) = end else {
            return Self {
                text: text.to_owned(),
                rest: None,
            };
        };
        let rest = &text[end..];
        let kept = rest.floor_char_boundary(LOG_LIMIT);
        let mut rest_kept = format!("…{}", &rest[..kept]);
        if kept < rest.len() {
            rest_kept.push('…');
        }
        Self {
            text: text[..end].to_owned(),
            rest: Some(rest_kept),
        }
    }
}

/// The reason in an answer's body: `detail` or `title` of `application/problem+json`, a
/// JSON `error` or `message`, else the text. `None` where there is nothing to read.
pub fn read(content_type: &str, body: &[u8]) -> Option<Reason> {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    let found = said(content_type, body).unwrap_or_else(|| text.to_owned());
    (!found.is_empty()).then(|| Reason::new(&found))
}

fn said(content_type: &str, body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        detail: Said,
        #[serde(default)]
        title: Said,
        #[serde(default)]
        error: Said,
        #[serde(default)]
        message: Said,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    let problem = media_type(content_type) == "application/problem+json";
    let order = if problem {
        [body.detail, body.title, body.error, body.message]
    } else {
        // `{"error": "Bad Request", "message": "name is missing"}` is what several
        // frameworks send, but the contract's order is error first.
        [body.error, body.message, Said::Nothing, Said::Nothing]
    };
    order.into_iter().find_map(Said::text)
}

/// A field that holds a text, or an object with a `message` as in `{"error":{"message":…}}`.
#[derive(Deserialize, Default)]
#[serde(untagged)]
enum Said {
    Text(String),
    Within {
        message: String,
    },
    Other(serde::de::IgnoredAny),
    #[default]
    Nothing,
}

impl Said {
    fn text(self) -> Option<String> {
        let text = match self {
            Self::Text(text) | Self::Within { message: text } => text,
            Self::Other(_) | Self::Nothing => return None,
        };
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }
}

/// A content type without its parameters, in lower case.
pub fn media_type(content_type: &str) -> String {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_reason_is_found() {
        const PROBLEM: &str = "application/problem+json; charset=utf-8";
        const JSON: &str = "application/json";
        let rows = [
            (PROBLEM, r#"{"title":"T","detail":"D"}"#, Some("D")),
            (PROBLEM, r#"{"title":"T","detail":""}"#, Some("T")),
            (PROBLEM, r#"{"title":"T"}"#, Some("T")),
            (PROBLEM, r#"{"message":"M"}"#, Some("M")),
            (
                PROBLEM,
                r#"{"type":"about:blank"}"#,
                Some(r#"{"type":"about:blank"}"#),
            ),
            (JSON, r#"{"error":"E","message":"M"}"#, Some("E")),
            (JSON, r#"{"message":"M","detail":"D"}"#, Some("M")),
            (
                JSON,
                r#"{"error":{"code":1,"message":"deep"}}"#,
                Some("deep"),
            ),
            (JSON, r#"{"error":true,"message":"M"}"#, Some("M")),
            (JSON, r#"{"error":null,"message":"M"}"#, Some("M")),
            (JSON, r#"{"why":"?"}"#, Some(r#"{"why":"?"}"#)),
            (JSON, r#"["a"]"#, Some(r#"["a"]"#)),
            ("text/plain", "  no luck\n", Some("no luck")),
            ("text/plain", r#"{"error":"E"}"#, Some("E")),
            ("", "not { json", Some("not { json")),
            ("", " \n", None),
            ("", "", None),
        ];
        for (kind, body, expected) in rows {
            let reason = read(kind, body.as_bytes());
            assert_eq!(
                reason.as_ref().map(|r| r.text.as_str()),
                expected,
                "{kind} {body}"
            );
        }
        assert_eq!(read("", b"\xff\xfe").unwrap().text, "\u{fffd}\u{fffd}");
    }

    #[test]
    fn what_is_cut_is_kept_for_the_log() {
        let exact = "x".repeat(500);
        assert_eq!(Reason::new(&exact).rest, None);

        let long = format!("{exact}the rest");
        let reason = Reason::new(&long);
        assert_eq!(reason.text, exact);
        assert_eq!(reason.rest.as_deref(), Some("…the rest"));

        // Characters outside the first plane are two units each, and are not split.
        let reason = Reason::new(&"🙂".repeat(251));
        assert_eq!(reason.text.chars().count(), 250);
        assert_eq!(reason.rest.as_deref(), Some("…🙂"));

        let endless = Reason::new(&"ü".repeat(1 << 20));
        assert!(endless.rest.unwrap().len() <= LOG_LIMIT + 2 * '…'.len_utf8());
    }
}
