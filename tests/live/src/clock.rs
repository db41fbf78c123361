//! The one clock of everything that is measured: Conductor's records, the pods and the handlers
//! are on one machine.

use std::time::{Duration, SystemTime};

/// Seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs_f64()
}

/// What Conductor writes, in milliseconds since 1970, as seconds; `None` for its 0, not yet.
pub fn seconds(millis: i64) -> Option<f64> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds since 1970 have 41 bits"
    )]
    let seconds = millis as f64 / 1000.0;
    (millis > 0).then_some(seconds)
}
