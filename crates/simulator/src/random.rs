//! Separate random streams, so that the same tasks arrive whatever a policy does.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

/// One stream of random numbers. The same on every machine.
pub(crate) type Stream = Pcg64;

/// What a stream is drawn for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    Arrivals = 1,
    Service = 2,
    StartUp = 3,
    Polling = 4,
    /// Quantiles of a distribution, no part of a run.
    Quantiles = 5,
    /// Which samples a fault hits.
    Faults = 6,
}

/// The stream of this purpose; `index` tells apart several of one purpose.
pub(crate) fn stream(seed: u64, purpose: Purpose, index: u64) -> Stream {
    Stream::seed_from_u64(mix(mix(mix(seed) ^ purpose as u64) ^ index))
}

/// Steele's `SplitMix64`: near seeds give unrelated streams.
fn mix(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Uniform in [0, 1).
pub(crate) fn unit(stream: &mut Stream) -> f64 {
    stream.random()
}

/// Uniform among 0..n; n is at least 1.
pub(crate) fn below(stream: &mut Stream, n: usize) -> usize {
    stream.random_range(0..n)
}
