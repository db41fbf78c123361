//! A result as the spool's files hold it. Pure.
//!
//! ```text
//! conductor-worker-result 1 <CRC-32 of the rest, 8 hex digits> <its length>\n
//! <the report as JSON>
//! ```
//! The sum and the length tell a file that was cut off from a whole one.

use crate::result::Report;

const NAME: &str = "conductor-worker-result";
const VERSION: &str = "1";

/// Longer first lines are not ours.
const LONGEST_HEAD: usize = 80;

/// What is wrong with a record.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Its first line is not a record's.
    #[error("not a result: its first line is not `{NAME} {VERSION} …`")]
    Foreign,
    /// It is shorter or longer than it says.
    #[error("{is} bytes follow the first line, which promises {should}")]
    Length {
        /// How long it is.
        is: usize,
        /// What it says.
        should: usize,
    },
    /// Its content was changed.
    #[error("its checksum is wrong")]
    Checksum,
    /// Its content is not a report: written by another version.
    #[error("not a report: {0}")]
    Content(#[from] serde_json::Error),
}

/// The bytes of a report.
pub fn write(report: &Report) -> Vec<u8> {
    // Its fields are texts, numbers and JSON that was read as such: none can fail to be written.
    let content = serde_json::to_vec(report).unwrap_or_default();
    let sum = crc32fast::hash(&content);
    let mut record = format!("{NAME} {VERSION} {sum:08x} {}\n", content.len()).into_bytes();
    record.extend_from_slice(&content);
    record
}

/// The report of these bytes.
pub fn read(record: &[u8]) -> Result<Report, Unreadable> {
    let (sum, length, content) = split(record).ok_or(Unreadable::Foreign)?;
    if content.len() != length {
        return Err(Unreadable::Length {
            is: content.len(),
            should: length,
        });
    }
    if crc32fast::hash(content) != sum {
        return Err(Unreadable::Checksum);
    }
    Ok(serde_json::from_slice(content)?)
}

fn split(record: &[u8]) -> Option<(u32, usize, &[u8])> {
    let end = record.iter().take(LONGEST_HEAD).position(|b| *b == b'\n')?;
    let head = std::str::from_utf8(&record[..end]).ok()?;
    let mut words = head.split(' ');
    if (words.next()?, words.next()?) != (NAME, VERSION) {
        return None;
    }
    let sum = u32::from_str_radix(words.next()?, 16).ok()?;
    let length = words.next()?.parse().ok()?;
    words
        .next()
        .is_none()
        .then_some((sum, length, &record[end + 1..]))
}

#[cfg(test)]
pub(crate) mod tests {
    use conductor_client::{TaskLog, TaskResult, UpdateStatus};
    use serde_json::value::RawValue;

    use super::*;
    use crate::result::Queued;

    pub(crate) fn report(task_id: &str) -> Report {
        Report {
            task_type: "t".to_owned(),
            lease_seconds: 60,
            poll_count: 3,
            queued: Some(Queued {
                since: 5,
                at_most: 60,
            }),
            update: TaskResult {
                workflow_instance_id: "w".to_owned(),
                task_id: task_id.to_owned(),
                status: UpdateStatus::Completed,
                worker_id: "me".to_owned(),
                output_data: Some(RawValue::from_string(r#"{"n": 1.50}"#.to_owned()).unwrap()),
                reason_for_incompletion: None,
                callback_after_seconds: 0,
                logs: vec![TaskLog {
                    log: "line\n".to_owned(),
                    created_time: 7,
                }],
            },
            more_logs: vec!["eleventh".to_owned()],
        }
    }

    #[test]
    fn what_was_written_is_read_as_it_was() {
        let read = read(&write(&report("a"))).unwrap();
        assert_eq!(
            serde_json::to_string(&read).unwrap(),
            serde_json::to_string(&report("a")).unwrap()
        );
        assert_eq!(read.update.output_data.unwrap().get(), r#"{"n": 1.50}"#);
    }

    /// As versions before this one wrote them.
    #[test]
    fn a_record_without_what_was_added_later_is_read() {
        let old = br#"conductor-worker-result 1 SUM LENGTH
{"taskType":"t","leaseSeconds":60,"update":{"workflowInstanceId":"w","taskId":"a","status":"IN_PROGRESS","workerId":"me"}}"#;
        let content = &old[old.iter().position(|b| *b == b'\n').unwrap() + 1..];
        let sum = crc32fast::hash(content);
        let mut record = format!("{NAME} {VERSION} {sum:08x} {}\n", content.len()).into_bytes();
        record.extend_from_slice(content);
        let report = read(&record).unwrap();
        assert!(report.goes_back());
        assert_eq!((report.poll_count, report.queued), (0, None));
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_noticed() {
        let whole = write(&report("a"));
        for end in 0..whole.len() {
            assert!(read(&whole[..end]).is_err(), "cut at {end}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x10;
            assert!(read(&changed).is_err(), "changed at {at}");
        }
    }

    #[test]
    fn another_version_says_so() {
        for (bytes, says) in [
            ("", "not a result"),
            ("conductor-worker-result 2 00000000 0\n", "not a result"),
            ("conductor-worker-result 1 00000000 2\n{}", "checksum"),
            ("conductor-worker-result 1 a3a6bf43 2\n{}", "not a report"),
            ("conductor-worker-result 1 00000000 9\n{}", "promises 9"),
        ] {
            let error = read(bytes.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(says), "{bytes:?}: {error}");
        }
    }
}
