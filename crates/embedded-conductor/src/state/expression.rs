//! `${workflow.input.x}` and `${ref.output.a.b[0]}` in parameters.
//!
//! A text that is one expression gives the value itself, with its type; one among other
//! text gives its text, `null` where there is nothing. Conductor reads full `JSONPath`; here
//! are names and indexes, and [`check`] refuses the rest when a definition is registered.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// What expressions speak of: `workflow` and the tasks before, each with its fields.
pub(crate) trait Scope {
    fn field(&self, name: &str, field: &str) -> Option<Cow<'_, Value>>;
}

/// Parameters with their expressions replaced.
pub(crate) fn resolve(parameters: &Map<String, Value>, scope: &impl Scope) -> Map<String, Value> {
    parameters
        .iter()
        .map(|(key, value)| (key.clone(), replace(value, scope)))
        .collect()
}

/// Says which expression cannot be read here.
pub(crate) fn check(parameters: &Map<String, Value>) -> Result<(), String> {
    parameters.values().try_for_each(check_value)
}

fn check_value(value: &Value) -> Result<(), String> {
    match value {
        Value::String(text) => pieces(text).into_iter().try_for_each(|piece| match piece {
            Piece::Path(path) if !path.trim().is_empty() && parse(path).is_none() => {
                Err(format!("the expression ${{{path}}}"))
            }
            _ => Ok(()),
        }),
        Value::Array(items) => items.iter().try_for_each(check_value),
        Value::Object(map) => check(map),
        _ => Ok(()),
    }
}

fn replace(value: &Value, scope: &impl Scope) -> Value {
    match value {
        Value::String(text) => replace_text(text, scope),
        Value::Array(items) => items.iter().map(|v| replace(v, scope)).collect(),
        Value::Object(map) => Value::Object(resolve(map, scope)),
        other => other.clone(),
    }
}

fn replace_text(text: &str, scope: &impl Scope) -> Value {
    let pieces = pieces(text);
    if let [Piece::Path(path)] = pieces.as_slice() {
        return look_up(path, scope);
    }
    let mut out = String::with_capacity(text.len());
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Path(path) => match look_up(path, scope) {
                Value::String(s) => out.push_str(&s),
                other => out.push_str(&other.to_string()),
            },
        }
    }
    Value::String(out)
}

#[derive(Debug, PartialEq)]
enum Piece<'a> {
    Text(&'a str),
    Path(&'a str),
}

/// Splits a text at its expressions. `$${` stands for the text `${`.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let escaped = rest[..at].ends_with('$');
        let Some(end) = rest[at..].find('}').map(|n| at + n) else {
            break;
        };
        if escaped {
            pieces.push(Piece::Text(&rest[..at - 1]));
            pieces.push(Piece::Text(&rest[at..=end]));
        } else {
            if at > 0 {
                pieces.push(Piece::Text(&rest[..at]));
            }
            pieces.push(Piece::Path(&rest[at + 2..end]));
        }
        rest = &rest[end + 1..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    pieces
}

#[derive(Debug, PartialEq)]
enum Segment<'a> {
    Name(&'a str),
    Index(usize),
}

/// `a.b[0]['c d']` as its segments, at least two names; `None` for anything else.
fn parse(path: &str) -> Option<Vec<Segment<'_>>> {
    let mut segments = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let end = inside.find(']')?;
            let (key, after) = (&inside[..end], &inside[end + 1..]);
            let quoted = ['\'', '"']
                .iter()
                .find_map(|&q| key.strip_prefix(q)?.strip_suffix(q));
            segments.push(match quoted {
                Some(name) => Segment::Name(name),
                None => Segment::Index(key.parse().ok()?),
            });
            rest = after;
        } else {
            let name = if segments.is_empty() {
                rest
            } else {
                rest.strip_prefix('.')?
            };
            let end = name.find(['.', '[']).unwrap_or(name.len());
            let plain = |c: char| c.is_alphanumeric() || "_-$:@ ".contains(c);
            if end == 0 || !name[..end].chars().all(plain) {
                return None;
            }
            segments.push(Segment::Name(&name[..end]));
            rest = &name[end..];
        }
    }
    matches!(segments[..], [Segment::Name(_), Segment::Name(_), ..]).then_some(segments)
}

fn look_up(path: &str, scope: &impl Scope) -> Value {
    if path.trim().is_empty() {
        return Value::String(String::new());
    }
    let found = || {
        let segments = parse(path)?;
        let [Segment::Name(name), Segment::Name(field), rest @ ..] = &segments[..] else {
            return None;
        };
        let field = scope.field(name, field)?;
        if rest.is_empty() {
            return Some(field.into_owned());
        }
        rest.iter()
            .try_fold(&*field, |value, segment| match segment {
                Segment::Name(name) => value.as_object()?.get(*name),
                Segment::Index(i) => value.as_array()?.get(*i),
            })
            .cloned()
    };
    found().unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct Fixed(Value);

    impl Scope for Fixed {
        fn field(&self, name: &str, field: &str) -> Option<Cow<'_, Value>> {
            self.0.get(name)?.get(field).map(Cow::Borrowed)
        }
    }

    fn resolved(text: &str) -> Value {
        let scope = Fixed(json!({
            "workflow": {"input": {"n": 7, "s": "x", "list": [{"a b": true}, 2], "none": null}},
            "first": {"output": {"x": {"y": 1.5}}}
        }));
        replace(&json!(text), &scope)
    }

    #[test]
    fn a_lone_expression_keeps_its_type() {
        assert_eq!(resolved("${workflow.input.n}"), json!(7));
        assert_eq!(resolved("${first.output.x}"), json!({"y": 1.5}));
        assert_eq!(resolved("${workflow.input.list[0]['a b']}"), json!(true));
        assert_eq!(resolved("${workflow.input.list[5]}"), Value::Null);
        assert_eq!(resolved("${nobody.output.x}"), Value::Null);
    }

    #[test]
    fn among_text_it_is_text() {
        assert_eq!(resolved("n=${workflow.input.n}!"), json!("n=7!"));
        assert_eq!(
            resolved("${workflow.input.s}${workflow.input.none}"),
            json!("xnull")
        );
        assert_eq!(
            resolved("$${workflow.input.s}"),
            json!("${workflow.input.s}")
        );
        assert_eq!(resolved("${workflow.input.s"), json!("${workflow.input.s"));
        assert_eq!(resolved("a${}b"), json!("ab"));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let check = |text: &str| check(&Map::from_iter([("p".to_owned(), json!([{"q": text}]))]));
        assert!(check("${workflow.input.a.b[1]} and ${x.output}").is_ok());
        assert_eq!(
            check("${x.output.list[?(@.a>1)]}").unwrap_err(),
            "the expression ${x.output.list[?(@.a>1)]}"
        );
        assert!(check("${x..y}").is_err());
        assert!(check("${x}").is_err(), "a whole task or workflow");
    }
}
