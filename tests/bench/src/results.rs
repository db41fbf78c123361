//! Everything that one run has found, to be kept and told.

use std::{collections::BTreeMap, fs};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::{
    measure::{idle::Idle, light::Light, memory::Memory, shutdown::Lost, throughput::Throughput},
    summary::{Spread, spread},
};

/// A worker's figures by its name.
pub type By<T> = BTreeMap<String, T>;

/// One run. What was not measured is empty.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// On what it ran.
    pub machine: Machine,
    /// Tasks of 0 ms with 1 KB of input, round by round.
    pub throughput: Vec<By<Throughput>>,
    /// The same with 10 KB.
    pub throughput_10_kb: Vec<By<Throughput>>,
    /// Light load.
    pub light: By<Light>,
    /// The sidecar's with a server that waits until a batch is full, as those on SQL do.
    pub light_sql: Option<Light>,
    /// Nothing to do, one task type.
    pub idle: By<Idle>,
    /// Nothing to do, the sidecar with three task types.
    pub idle_three: Option<Idle>,
    /// Resident memory.
    pub memory: By<Memory>,
    /// The sidecar's with 1,000 slots busy and 4 KiB of input, in MiB.
    pub memory_many: Option<f64>,
    /// The end of a pod.
    pub shutdown: By<Lost>,
}

/// On what a run took place.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// How many of them.
    pub processors: usize,
    /// Programs that wanted a processor in the minute before: more than some tenths means
    /// that the machine was busy with something else.
    pub load: f64,
}

impl Machine {
    /// This one, now.
    pub fn here() -> Result<Self> {
        let text = fs::read_to_string("/proc/cpuinfo")?;
        let name = text
            .lines()
            .find_map(|line| line.strip_prefix("model name"));
        let name = name
            .and_then(|line| line.split_once(':'))
            .map(|(_, name)| name.trim());
        let load = fs::read_to_string("/proc/loadavg")?;
        Ok(Self {
            processor: name.unwrap_or("unknown").to_owned(),
            processors: text
                .lines()
                .filter(|line| line.starts_with("processor"))
                .count(),
            load: load.split(' ').next().unwrap_or_default().parse()?,
        })
    }
}

/// A figure of one worker over the rounds.
pub fn over_rounds(
    rounds: &[By<Throughput>],
    who: &str,
    figure: impl Fn(&Throughput) -> f64,
) -> Option<Spread> {
    let figures: Vec<f64> = rounds
        .iter()
        .filter_map(|round| Some(figure(round.get(who)?)))
        .collect();
    spread(&figures)
}

/// The ratio of two workers' figures, round by round.
pub fn ratio(
    rounds: &[By<Throughput>],
    who: &str,
    to: &str,
    figure: impl Fn(&Throughput) -> f64,
) -> Option<Spread> {
    let ratios: Vec<f64> = rounds
        .iter()
        .filter_map(|round| Some(figure(round.get(who)?) / figure(round.get(to)?)))
        .collect();
    spread(&ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(cpu: f64) -> Throughput {
        Throughput {
            cpu,
            cpu_with_handler: cpu,
            tasks_a_second: 1e6 / cpu,
            core: 1.0,
            server_core: 0.1,
            polls: 0.1,
        }
    }

    #[test]
    fn ratios_are_of_one_round() {
        let round = |a, b| By::from([("a".to_owned(), cpu(a)), ("b".to_owned(), cpu(b))]);
        // The second round was on a slower machine.
        let rounds = [round(10.0, 20.0), round(100.0, 200.0)];
        let found = ratio(&rounds, "a", "b", |t| t.cpu).map(|s| (s.least, s.median, s.most));
        assert_eq!(found, Some((0.5, 0.5, 0.5)));
        assert_eq!(ratio(&rounds, "a", "c", |t| t.cpu), None);
    }
}
