//! `simulate`: scenario files under the autoscaler that ships and others.
//!
//! ```text
//! files ─> Scenarios ─> Study (rayon: files × policies) ─> Ran ─┬─> table, or JSON
//!                                                               └─> plot
//! ```

mod plot;
mod table;

use std::{
    collections::HashMap,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use rayon::prelude::*;
use simulator::{Faults, Name, Options, Ran, Row, Scenario, Study};

use crate::args::{fail, usage};

/// Moments at which a plotted run is looked at: more than a plot is wide would not be seen.
const MOMENTS: u32 = 720;

/// What is typed after `simulate`.
#[derive(Debug, clap::Args)]
pub(crate) struct SimulateArgs {
    /// Scenario files (crates/simulator/scenarios/FORMAT.md says what they hold)
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Policies to compare, or `all`
    #[arg(
        long,
        value_name = "POLICY,…",
        value_delimiter = ',',
        value_parser = which,
        default_value = "ours,oracle,keda-hpa-tuned,keda-hpa-tuned+drain"
    )]
    policies: Vec<Which>,

    /// Added to the seed of each file: other tasks of the same kind
    #[arg(long, value_name = "N", default_value = "0")]
    seed_add: u64,

    /// Print a JSON array of results in place of the table
    #[arg(long)]
    json: bool,

    /// Draw queue, wait, running tasks and pods over time; with several files one plot each
    #[arg(long, value_name = "OUT.svg")]
    plot: Option<PathBuf>,

    /// Take the oracle's pod-seconds from an earlier --json of the same files and seed: quicker
    #[arg(long, value_name = "EARLIER.json")]
    oracle_from: Option<PathBuf>,

    /// Queue sizes are seen this much late (seconds)
    #[arg(long, value_name = "SECONDS", default_value = "0", help_heading = FAULTS)]
    late: f64,

    /// Share of the looks at which no queue size can be read
    #[arg(long, value_name = "SHARE", default_value = "0", help_heading = FAULTS)]
    missing: f64,

    /// Share of the looks at which queue sizes are those of the look before
    #[arg(long, value_name = "SHARE", default_value = "0", help_heading = FAULTS)]
    stale: f64,

    /// Share of the looks at which pods do not answer
    #[arg(long, value_name = "SHARE", default_value = "0", help_heading = FAULTS)]
    silent: f64,
}

const FAULTS: &str = "Faults of the samples, beside the scenario's";

#[derive(Debug, Clone, Copy)]
enum Which {
    All,
    One(Name),
}

fn which(word: &str) -> Result<Which, simulator::Unknown> {
    match word {
        "all" => Ok(Which::All),
        name => name.parse().map(Which::One),
    }
}

/// One file's results.
struct Done {
    scenario: Scenario,
    seed: u64,
    ran: Vec<Ran>,
}

impl SimulateArgs {
    /// Does what was asked: 0 if all went well, 1 if not, 64 for a bad value.
    pub(crate) fn run(self) -> ExitCode {
        if let Err(why) = self.check() {
            return usage(&why);
        }
        match self.study() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        }
    }

    fn check(&self) -> Result<(), String> {
        let shares = [
            ("--missing", self.missing),
            ("--stale", self.stale),
            ("--silent", self.silent),
        ];
        for (flag, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                return Err(format!("{flag} is {share}; write a share from 0 to 1"));
            }
        }
        if !self.late.is_finite() || self.late < 0.0 {
            return Err(format!(
                "--late is {}; write seconds, such as 30",
                self.late
            ));
        }
        match &self.plot {
            Some(out) if out.extension().is_none_or(|e| e != "svg") => Err(format!(
                "--plot is {}; write a file that ends with .svg",
                out.display()
            )),
            _ => Ok(()),
        }
    }

    fn study(&self) -> Result<()> {
        let policies = self.policies();
        let oracle = match &self.oracle_from {
            Some(file) => earlier(file).with_context(|| file.display().to_string())?,
            None => HashMap::new(),
        };
        let options = Options {
            seed_add: self.seed_add,
            faults: Faults {
                late: self.late,
                missing: self.missing,
                stale: self.stale,
                silent: self.silent,
            },
            moments: self.plot.as_ref().map(|_| MOMENTS),
        };
        let scenarios: Vec<Scenario> = self.files.iter().map(|f| read(f)).collect::<Result<_>>()?;
        let done: Vec<Done> = scenarios
            .into_par_iter()
            .map(|scenario| {
                let known = oracle.get(&scenario.name).copied();
                let seed = scenario.seed.wrapping_add(self.seed_add);
                let study = Study::new(scenario, options);
                Done {
                    ran: study.run(&policies, known),
                    scenario: study.scenario().clone(),
                    seed,
                }
            })
            .collect();
        let text = if self.json {
            let rows: Vec<Row> = done.iter().flat_map(Done::rows).collect();
            serde_json::to_string_pretty(&rows)?
        } else {
            table::text(&done)
        };
        writeln!(std::io::stdout().lock(), "{text}")?;
        if let Some(out) = &self.plot {
            for one in &done {
                let file = if done.len() == 1 {
                    out.clone()
                } else {
                    out.with_extension(format!("{}.svg", one.scenario.name))
                };
                plot::draw(one, &file).with_context(|| file.display().to_string())?;
            }
        }
        Ok(())
    }

    /// Each policy once, in the order asked for.
    fn policies(&self) -> Vec<Name> {
        let mut policies = Vec::new();
        for which in &self.policies {
            let named = match which {
                Which::All => Name::ALL.to_vec(),
                Which::One(name) => vec![*name],
            };
            for name in named {
                if !policies.contains(&name) {
                    policies.push(name);
                }
            }
        }
        policies
    }
}

impl Done {
    fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        self.ran.iter().map(|ran| ran.row(&self.scenario.name))
    }
}

fn read(file: &Path) -> Result<Scenario> {
    let name = || file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(name)?;
    Scenario::read(&text).with_context(name)
}

/// The oracle's pod-seconds by scenario, from an earlier run's JSON.
fn earlier(file: &Path) -> Result<HashMap<String, f64>> {
    let rows: Vec<Row> = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    let of_oracle = rows
        .into_iter()
        .filter(|row| row.policy == Name::Oracle.as_str());
    let found: HashMap<String, f64> = of_oracle.map(|r| (r.scenario, r.pod_seconds)).collect();
    if found.is_empty() {
        bail!(
            "holds no result of the oracle; write what `simulate --policies oracle --json` printed"
        );
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        args: SimulateArgs,
    }

    fn typed(words: &str) -> SimulateArgs {
        Typed::try_parse_from(["simulate"].into_iter().chain(words.split(' ')))
            .unwrap()
            .args
    }

    #[test]
    fn policies_are_named_once_each() {
        assert_eq!(
            typed("a.yaml --policies ours,airflow,ours").policies(),
            [Name::Ours, Name::Airflow]
        );
        assert_eq!(typed("a.yaml --policies all").policies(), Name::ALL);
        let said = Typed::try_parse_from(["simulate", "a.yaml", "--policies", "kda"])
            .unwrap_err()
            .to_string();
        assert!(said.contains("no policy is called \"kda\""), "{said}");
    }

    #[test]
    fn bad_values_are_told_what_to_write() {
        for (words, told) in [
            ("a.yaml --plot out.png", "ends with .svg"),
            ("a.yaml --missing 2", "a share from 0 to 1"),
            ("a.yaml --late -3", "write seconds"),
        ] {
            let words = words.replace("--late -3", "--late=-3");
            let said = typed(&words).check().unwrap_err();
            assert!(said.contains(told), "{said}");
        }
        assert_eq!(typed("a.yaml --plot out.svg").check(), Ok(()));
    }

    #[test]
    fn an_earlier_result_must_hold_the_oracle() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("earlier.json");
        std::fs::write(&file, "[]").unwrap();
        let said = earlier(&file).unwrap_err().to_string();
        assert!(said.contains("--policies oracle --json"), "{said}");
    }
}
