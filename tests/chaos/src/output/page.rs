//! The page: a table over all runs, and of each what went wrong and what became of it.

use std::fmt::Write as _;

use anyhow::Result;

use crate::run::Run;

/// How many sentences of what may not be are shown of a run.
const SHOWN: usize = 20;

/// Markdown.
pub fn page(runs: &[Run]) -> Result<String> {
    let mut page = "# Workers under load while everything breaks\n\n\
        Once: executed once, by the first attempt. Again: tried or executed again, each for a reason that is named below. \
        Cut off: executions that began and were not done. Beyond: from a workflow's start to its end beyond its task's own \
        time, in seconds (median, 99th percentile, most); p99: the whole.\n\n\
        | run | who | tasks | once | again | lost | cut off | retries | timed out | beyond | p99 |\n\
        | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        .to_owned();
    for Run {
        name,
        subject,
        figures: f,
        ..
    } in runs
    {
        let again: usize = f.again.values().sum();
        let [median, p99, most] = f.beyond;
        writeln!(
            page,
            "| {name} | {subject} | {} | {} | {again} | {} | {} | {} | {} | {median:.2}, {p99:.2}, {most:.2} | {:.1} |",
            f.tasks, f.once, f.lost, f.cut_off, f.retries, f.timed_out, f.p99
        )?;
    }
    for run in runs {
        one(&mut page, run)?;
    }
    Ok(page)
}

fn one(page: &mut String, run: &Run) -> Result<()> {
    writeln!(
        page,
        "\n## {}\n\n{}, {:.0} s, CHAOS_SEED={}\n\n![what happened when]({}.svg)",
        run.name, run.subject, run.seconds, run.seed, run.name
    )?;
    if !run.account.events.is_empty() {
        writeln!(
            page,
            "\n| from | to | what | where |\n| ---: | ---: | --- | --- |"
        )?;
    }
    let mut events: Vec<_> = run.account.events.iter().collect();
    events.sort_by(|a, b| a.from.total_cmp(&b.from));
    for event in events {
        writeln!(
            page,
            "| {:.1} | {:.1} | {} | {} |",
            event.from,
            event.to,
            event.kind.name(),
            event.pods.join(", ")
        )?;
    }
    if !run.figures.again.is_empty() {
        writeln!(
            page,
            "\n| tried or executed again because of | times |\n| --- | ---: |"
        )?;
    }
    for (reason, times) in &run.figures.again {
        writeln!(page, "| {reason} | {times} |")?;
    }
    if !run.wrong.is_empty() {
        writeln!(page, "\n{} that may not be:\n", run.wrong.len())?;
    }
    for wrong in run.wrong.iter().take(SHOWN) {
        writeln!(page, "- {wrong}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::{Account, Figures},
        kind::{Event, Kind},
    };

    #[test]
    fn a_page_says_what_went_wrong_and_what_became_of_it() {
        let run = Run {
            name: "storm".to_owned(),
            subject: "ConductorWorker".to_owned(),
            seed: 7,
            seconds: 100.0,
            account: Account {
                events: vec![Event {
                    kind: Kind::SidecarKill,
                    pods: vec!["a".to_owned()],
                    from: 5.0,
                    to: 5.1,
                }],
                ..Account::default()
            },
            figures: Figures {
                tasks: 10,
                once: 9,
                again: [("sidecar killed".to_owned(), 1)].into(),
                ..Figures::default()
            },
            wrong: vec!["lost: w".to_owned()],
        };
        let page = page(&[run]).unwrap();
        for part in [
            "| storm | ConductorWorker | 10 | 9 | 1 | 0 |",
            "CHAOS_SEED=7",
            "| 5.0 | 5.1 | sidecar killed | a |",
            "| sidecar killed | 1 |",
            "- lost: w",
        ] {
            assert!(page.contains(part), "no {part:?} in:\n{page}");
        }
    }
}
