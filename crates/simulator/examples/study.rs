//! Runs scenario files: `study [--seed-add N] [--policies a,b] [--oracle EARLIER.json] FILE…`
//! prints a line for each result, in JSON.
use std::{collections::HashMap, process::ExitCode};

use rayon::prelude::*;
use simulator::{Name, Options, Row, Scenario, Study};

fn main() -> ExitCode {
    match run() {
        Ok(json) => {
            #[expect(clippy::print_stdout, reason = "its output")]
            {
                println!("{json}");
            }
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<String, String> {
    let mut files = Vec::new();
    let mut policies: Vec<Name> = Name::ALL.to_vec();
    let mut options = Options::default();
    let mut oracle: HashMap<String, f64> = HashMap::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} wants a value"));
        match arg.as_str() {
            "--seed-add" => options.seed_add = value()?.parse().map_err(|e| format!("{e}"))?,
            "--policies" => {
                policies = value()?
                    .split(',')
                    .map(|p| p.parse().map_err(|e| format!("{e}")))
                    .collect::<Result<_, _>>()?;
            }
            "--oracle" => {
                let text = std::fs::read_to_string(value()?).map_err(|e| e.to_string())?;
                let rows: Vec<Row> = serde_json::from_str(&text).map_err(|e| e.to_string())?;
                oracle = rows
                    .into_iter()
                    .filter(|r| r.policy == "oracle")
                    .map(|r| (r.scenario, r.pod_seconds))
                    .collect();
            }
            _ => files.push(arg),
        }
    }
    let rows: Result<Vec<Vec<Row>>, String> = files
        .par_iter()
        .map(|file| {
            let text = std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
            let scenario = Scenario::read(&text).map_err(|e| format!("{file}: {e}"))?;
            let study = Study::new(scenario, options);
            let name = study.scenario().name.clone();
            let results = study.run(&policies, oracle.get(&name).copied());
            Ok(results.iter().map(|r| r.row(&name)).collect())
        })
        .collect();
    serde_json::to_string_pretty(&rows?.concat()).map_err(|e| e.to_string())
}
