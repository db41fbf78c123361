//! A file of the spool: what is not a whole result is refused, what is comes back as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use worker_sidecar::record::{read, write};

fuzz_target!(|file: &[u8]| {
    check(file);
    // The checksum keeps what is made up out; behind it the content is read.
    let sum = checksum(file);
    let mut whole = format!("conductor-worker-result 1 {sum:08x} {}\n", file.len()).into_bytes();
    whole.extend_from_slice(file);
    check(&whole);
});

fn check(file: &[u8]) {
    if let Ok(report) = read(file) {
        let again = write(&report);
        let report = read(&again).expect("what was written can be read");
        assert_eq!(write(&report), again);
    }
}

/// CRC-32 of IEEE 802.3, bit by bit: short, and not the code under test.
fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}
