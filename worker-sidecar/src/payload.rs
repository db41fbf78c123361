//! What Conductor can take, known before it is sent. Pure.

use crate::{
    outcome::{End, Fault, Outcome},
    reason::Reason,
};

/// Conductor's JSON parser refuses longer strings: it answers 500, or closes the connection
/// in the middle of the request, which looks like a network's fault and must not be repeated.
const LONGEST_STRING: usize = 20_000_000;

/// Nobody reads longer log lines; their ends are cut.
const LONGEST_LOG: usize = 1_000_000;

/// An outcome that the server can read: one with a string that it cannot is a failure that
/// says so.
#[must_use]
pub fn readable_by_the_server(mut outcome: Outcome) -> Outcome {
    for line in &mut outcome.logs {
        if line.log.len() > LONGEST_LOG {
            let end = line.log.floor_char_boundary(LONGEST_LOG);
            line.log.truncate(end);
            line.log.push_str(" … (cut)");
        }
    }
    let Some(output) = &outcome.output else {
        return outcome;
    };
    let longest = longest_string(output.get());
    if longest <= LONGEST_STRING {
        return outcome;
    }
    Outcome::failed(
        End::Terminal(Fault::TooLarge),
        Reason::new(&format!(
            "the handler's answer has a string of {longest} bytes, and Conductor reads none above {LONGEST_STRING}; \
             split it, or store it elsewhere and answer with its address"
        )),
    )
}

/// The longest string of a JSON text, in bytes as written; 0 where there cannot be one above
/// the limit.
fn longest_string(json: &str) -> usize {
    if json.len() <= LONGEST_STRING {
        return 0;
    }
    let (mut longest, mut begun, mut escaped) = (0, None, false);
    for (i, byte) in json.bytes().enumerate() {
        match (byte, begun) {
            _ if escaped => escaped = false,
            (b'\\', Some(_)) => escaped = true,
            (b'"', None) => begun = Some(i + 1),
            (b'"', Some(start)) => {
                longest = longest.max(i - start);
                begun = None;
            }
            _ => {}
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use conductor_client::TaskLog;
    use serde_json::value::RawValue;

    use super::*;

    fn done(output: String) -> Outcome {
        Outcome {
            end: End::Completed,
            output: Some(RawValue::from_string(output).unwrap()),
            reason: None,
            logs: Vec::new(),
        }
    }

    #[test]
    fn a_string_that_conductor_cannot_read_is_a_failure_that_says_so() {
        let at =
            readable_by_the_server(done(format!(r#"{{"x":"{}"}}"#, "y".repeat(LONGEST_STRING))));
        assert_eq!(at.end, End::Completed);
        let over = format!(r#"{{"a":1,"x":"\"{}"}}"#, "y".repeat(LONGEST_STRING - 1));
        let over = readable_by_the_server(done(over));
        assert_eq!(over.end, End::Terminal(Fault::TooLarge));
        let reason = over.reason.unwrap();
        assert!(reason.contains("20000001 bytes"), "{reason}");
        assert!(over.output.is_none());
    }

    #[test]
    fn many_short_strings_are_no_long_one() {
        let many = format!("[{}\"\"]", r#""\\\"0123456789","#.repeat(2_000_000));
        assert!(many.len() > LONGEST_STRING);
        assert_eq!(longest_string(&many), 14);
    }

    #[test]
    fn log_lines_are_cut_between_characters() {
        let mut outcome = done("{}".to_owned());
        outcome.logs = vec![TaskLog {
            log: "ü".repeat(LONGEST_LOG),
            created_time: 0,
        }];
        let log = &readable_by_the_server(outcome).logs[0].log;
        assert!(log.len() < LONGEST_LOG + 20 && log.ends_with("ü … (cut)"));
    }
}
