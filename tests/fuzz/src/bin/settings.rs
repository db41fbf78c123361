//! Settings: what is typed is understood or refused with a message.
#![no_main]

use conductor_client::ApiBase;
use libfuzzer_sys::fuzz_target;
use worker_sidecar::config::{
    Payload, Probe, StatusSet, parse_breaker, parse_bytes, parse_duration, parse_tasks,
};

fuzz_target!(|typed: &str| {
    match parse_tasks(typed) {
        Ok(tasks) => {
            assert!(!tasks.is_empty());
            for task in tasks {
                assert!(!task.name.is_empty() && task.path.starts_with('/'));
                assert!(task.concurrency != Some(0) && !task.poll_interval.is_zero());
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(statuses) = typed.parse::<StatusSet>() {
        let again: StatusSet = statuses.to_string().parse().expect("its own text");
        assert_eq!(again, statuses);
    }
    if let Ok(base) = ApiBase::parse(typed) {
        assert!(base.as_str().ends_with("/api"));
        assert_eq!(ApiBase::parse(base.as_str()).as_ref(), Ok(&base));
    }
    if let Ok(Some(breaker)) = parse_breaker(typed) {
        assert!(breaker.ratio > 0.0 && breaker.ratio <= 1.0 && breaker.window > 0);
    }
    if let Ok(bytes) = parse_bytes(typed) {
        assert!(bytes > 0);
    }
    if let Ok(probe) = Probe::parse(typed, 8080) {
        let _ = probe.moved(8080, 9090);
    }
    let _ = (parse_duration(typed), typed.parse::<Payload>());
});
