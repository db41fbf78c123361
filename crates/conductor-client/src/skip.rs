//! Where JSON values end, found by quotes and brackets alone: a task's input may be large, and
//! is read by the handler, not here. What stands between the brackets is passed on as it is,
//! sound or not; a value that is cut off has no end.
//!
//! Containers are looked at in blocks of 64 bytes, as "Parsing Gigabytes of JSON per Second"
//! (Langdale and Lemire, 2019) describes in its section 3.1: a bit for each byte that is a
//! quote, a backslash or a bracket, and from the quotes by a prefix XOR those that are inside
//! of texts. Parsing the same bytes takes about six times as long.

use wide::i8x16;

/// JSON's own white space, which is less than ASCII's.
pub(crate) fn past_space(json: &str) -> &str {
    json.trim_start_matches([' ', '\t', '\n', '\r'])
}

/// The value that a text begins with, and what follows; none if it is cut off, or if none is
/// there.
pub(crate) fn value(text: &str) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    let end = match bytes.first()? {
        b'"' => 1 + text_end(&bytes[1..])?,
        b'{' | b'[' => container_end(bytes)?,
        _ => bytes
            .iter()
            .position(|b| matches!(b, b',' | b']' | b'}' | b':' | b' ' | b'\t' | b'\n' | b'\r'))
            .unwrap_or(bytes.len()),
    };
    (end > 0).then(|| text.split_at(end))
}

/// The fields of an object, their values unread.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a str,
    first: bool,
}

/// A field of the object that a text begins with; none where there is no such field.
pub(crate) fn field<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = Fields::of(object)?;
    loop {
        match fields.next() {
            Ok(Some((key, value))) if key == name => return Some(value),
            Ok(Some(_)) => {}
            Ok(None) | Err(Broken) => return None,
        }
    }
}

/// What should be an object's next field, or its end, and is neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken;

impl<'a> Fields<'a> {
    /// Of the object that a text begins with; none if it begins with something else.
    pub(crate) fn of(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix('{')?;
        Some(Self { rest, first: true })
    }

    /// The next key, as it stands between its quotes, and the value; none at the object's end.
    pub(crate) fn next(&mut self) -> Result<Option<(&'a str, &'a str)>, Broken> {
        let mut rest = past_space(self.rest);
        if let Some(after) = rest.strip_prefix('}') {
            self.rest = after;
            return Ok(None);
        }
        if !std::mem::take(&mut self.first) {
            rest = past_space(rest.strip_prefix(',').ok_or(Broken)?);
        }
        let rest = rest.strip_prefix('"').ok_or(Broken)?;
        let end = text_end(rest.as_bytes()).ok_or(Broken)?;
        let (key, rest) = (&rest[..end - 1], past_space(&rest[end..]));
        let rest = past_space(rest.strip_prefix(':').ok_or(Broken)?);
        let (value, rest) = value(rest).ok_or(Broken)?;
        self.rest = rest;
        Ok(Some((key, value)))
    }

    /// What follows the object, once its end was reached.
    pub(crate) fn rest(&self) -> &'a str {
        self.rest
    }
}

/// Behind the quote that ends a text; `bytes` begin behind the one that starts it.
fn text_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// Behind the bracket that ends the container that `bytes` begin with.
fn container_end(bytes: &[u8]) -> Option<usize> {
    let mut depth = 0;
    let mut carried = Carried::default();
    let (blocks, rest) = bytes.as_chunks::<64>();
    for (number, block) in blocks.iter().enumerate() {
        if let Some(end) = Brackets::of(block, &mut carried).end(&mut depth) {
            return Some(64 * number + end);
        }
    }
    let mut last = [0; 64];
    last[..rest.len()].copy_from_slice(rest);
    let end = Brackets::of(&last, &mut carried).end(&mut depth)?;
    Some(64 * blocks.len() + end)
}

/// What a block needs to know of the one before.
#[derive(Debug, Default)]
struct Carried {
    /// All ones if it ended inside of a text.
    inside: u64,
    /// 1 if it ended with a backslash that escapes what comes next.
    escaping: u64,
}

/// The brackets of a block that are outside of texts, a bit each.
#[derive(Debug, Clone, Copy)]
struct Brackets {
    open: u64,
    close: u64,
}

impl Brackets {
    fn of(block: &[u8; 64], carried: &mut Carried) -> Self {
        let (parts, _) = block.as_chunks::<16>();
        let parts = [parts[0], parts[1], parts[2], parts[3]];
        let parts = parts.map(|part| i8x16::new(part.map(u8::cast_signed)));
        let mut escaped = std::mem::take(&mut carried.escaping);
        let mut slashes = equal(parts, b'\\') & !escaped;
        while slashes != 0 {
            // What follows it is escaped, and escapes nothing itself.
            let at = slashes.trailing_zeros();
            escaped |= (1 << at) << 1;
            carried.escaping = u64::from(at == 63);
            slashes &= !(0b11 << at);
        }
        let quotes = equal(parts, b'"') & !escaped;
        let texts = prefix_xor(quotes) ^ carried.inside;
        carried.inside = if texts >> 63 == 1 { u64::MAX } else { 0 };
        // Square and curly brackets differ in this bit alone.
        let curly = parts.map(|part| part | i8x16::splat(0x20));
        Self {
            open: equal(curly, b'{') & !texts,
            close: equal(curly, b'}') & !texts,
        }
    }

    /// Behind the bracket that closes what is open, in this block; else what is open behind it.
    fn end(self, depth: &mut u32) -> Option<usize> {
        let (opened, closed) = (self.open.count_ones(), self.close.count_ones());
        if closed < *depth {
            *depth = *depth + opened - closed;
            return None;
        }
        let mut both = self.open | self.close;
        while both != 0 {
            let at = both.trailing_zeros();
            if (self.open >> at) & 1 == 1 {
                *depth += 1;
            } else {
                *depth -= 1;
                if *depth == 0 {
                    return Some(at as usize + 1);
                }
            }
            both &= both - 1;
        }
        None
    }
}

/// A bit for each byte that is this one.
fn equal(parts: [i8x16; 4], byte: u8) -> u64 {
    let wanted = i8x16::splat(byte.cast_signed());
    let bits = parts.map(|part| u64::from(part.simd_eq(wanted).to_bitmask()));
    bits[0] | bits[1] << 16 | bits[2] << 32 | bits[3] << 48
}

/// Each bit becomes the XOR of itself and all below: from quotes to what they enclose.
fn prefix_xor(mut bits: u64) -> u64 {
    for distance in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << distance;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(|f| json!(f)),
            // Many quotes, backslashes and brackets, and lengths around a block's.
            r#"[\\"{}\[\],: é]{0,9}"#.prop_map(Value::from),
            "[a\\\\\"]{50,80}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 60, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::vec((r#"[\\"}a]{0,9}"#, inner), 0..8)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_ends_where_a_parser_says(json in any_json(), pretty: bool, after in "[,\\]} ]?") {
            let text = if pretty {
                serde_json::to_string_pretty(&json).unwrap()
            } else {
                json.to_string()
            };
            let all = format!("{text}{after}");
            prop_assert_eq!(value(&all), Some((&*text, &*after)));
            if matches!(json, Value::Object(_) | Value::Array(_) | Value::String(_)) {
                for (cut, _) in text.char_indices() {
                    prop_assert_eq!(value(&text[..cut]), None);
                }
            }
        }

        #[test]
        fn an_objects_fields_are_found(fields in prop::collection::vec(("[a-z]{1,5}", any_json()), 0..6)) {
            let inner: Vec<String> = fields.iter().map(|(k, v)| format!("\"{k}\" :\n{v:#}")).collect();
            let text = format!("{{{}\t}} rest", inner.join(" , "));
            let mut found = Fields::of(&text).unwrap();
            for (key, json) in &fields {
                let (k, v) = found.next().unwrap().unwrap();
                prop_assert_eq!(k, key);
                prop_assert_eq!(v, format!("{json:#}"));
            }
            prop_assert_eq!(found.next(), Ok(None));
            prop_assert_eq!(found.rest(), " rest");
        }

        #[test]
        fn nothing_makes_it_panic(text in r#"[\\"{}\[\],:a é\n]{0,200}"#) {
            if let Some((value, rest)) = value(&text) {
                prop_assert_eq!(format!("{value}{rest}"), text.clone());
            }
            if let Some(mut fields) = Fields::of(&text) {
                while let Ok(Some(_)) = fields.next() {}
            }
        }
    }

    #[test]
    fn what_is_no_object_is_told() {
        assert!(Fields::of("[]").is_none() && Fields::of(" {}").is_none());
        for broken in [
            "{",
            "{,",
            "{a",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":}",
            "{\"a\":1",
            "{\"a\":1 2}",
            "{\"a\":1]",
            "{\"a\" 1}",
            "{1:2}",
            "{\"a\":{}",
        ] {
            let mut fields = Fields::of(broken).unwrap();
            let end = loop {
                match fields.next() {
                    Ok(Some(_)) => {}
                    end => break end,
                }
            };
            assert_eq!(end, Err(Broken), "{broken}");
        }
    }
}
