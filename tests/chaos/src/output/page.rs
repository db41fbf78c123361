//! The page: a table over all runs, and of each what went wrong and what became of it.

use std::fmt::Write as _;

use anyhow::Result;

use crate::{checker::Figures, run::Run};

/// How many sentences of what may not be are shown of a run.
const SHOWN: usize = 20;

/// Markdown.
pub fn page(runs: &[Run]) -> Result<String> {
    let mut page = "# Workers under load while everything breaks\n\n\
        Once: executed once, by the first attempt. Again: tried or executed again, for reasons that are named below. \
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
        let [median, p99, most] = f.beyond;
        writeln!(
            page,
            "| {name} | {subject} | {} | {} | {} | {} | {} | {} | {} | {median:.2}, {p99:.2}, {most:.2} | {:.1} |",
            f.tasks, f.once, f.repeated, f.lost, f.cut_off, f.retries, f.timed_out, f.p99
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
    for sentence in sentences(&run.figures) {
        writeln!(page, "\n{sentence}")?;
    }
    if !run.figures.recovery.is_empty() {
        writeln!(
            page,
            "\n| in flight in what was killed | tasks | attempt ended after | next execution after that |\n\
            | --- | ---: | ---: | ---: |"
        )?;
    }
    for (what, recovery) in &run.figures.recovery {
        let next = recovery.next.map_or("–".to_owned(), between);
        let (tasks, ended) = (recovery.tasks, between(recovery.ended));
        writeln!(page, "| {what} | {tasks} | {ended} | {next} |")?;
    }
    if !run.wrong.is_empty() {
        writeln!(page, "\n{} that may not be:\n", run.wrong.len())?;
    }
    for wrong in run.wrong.iter().take(SHOWN) {
        writeln!(page, "- {wrong}")?;
    }
    Ok(())
}

/// The least and the most, in seconds.
fn between([least, most]: [f64; 2]) -> String {
    format!("{least:.1} to {most:.1} s")
}

/// What not every run has.
fn sentences(figures: &Figures) -> Vec<String> {
    let mut sentences = Vec::new();
    let (times, [median, most]) = figures.handed_back;
    if times > 0 {
        sentences.push(format!(
            "Handed back: {times}, executed again after {median:.2} s (median), {most:.2} s (most)."
        ));
    }
    if figures.after_done > 0 {
        sentences.push(format!(
            "Executions that began when another of the same task was done: {}.",
            figures.after_done
        ));
    }
    if let Some(late) = figures.after_return {
        sentences.push(format!(
            "Of the results that were there while Conductor restarted it had the last one {late:.2} s after its return."
        ));
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::{Account, Recovery},
        kind::{Event, Kind},
    };

    fn recovery(next: Option<[f64; 2]>) -> Recovery {
        Recovery {
            tasks: 15,
            ended: [20.0, 31.0],
            next,
        }
    }

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
                repeated: 1,
                again: [("sidecar killed".to_owned(), 2)].into(),
                after_done: 3,
                handed_back: (4, [0.1, 1.25]),
                after_return: Some(0.5),
                recovery: [
                    ("sidecar killed".to_owned(), recovery(Some([1.0, 2.5]))),
                    ("handler killed".to_owned(), recovery(None)),
                ]
                .into(),
                ..Figures::default()
            },
            wrong: vec!["lost: w".to_owned()],
        };
        let quiet = Run {
            figures: Figures::default(),
            ..run.clone()
        };
        let page_of_quiet = page(&[quiet]).unwrap();
        for part in ["Handed back", "was done", "return", "in flight"] {
            assert!(
                !page_of_quiet.contains(part),
                "{part:?} in:\n{page_of_quiet}"
            );
        }
        let page = page(&[run]).unwrap();
        for part in [
            "| storm | ConductorWorker | 10 | 9 | 1 | 0 |",
            "CHAOS_SEED=7",
            "| 5.0 | 5.1 | sidecar killed | a |",
            "| sidecar killed | 2 |",
            "Handed back: 4, executed again after 0.10 s (median), 1.25 s (most).",
            "when another of the same task was done: 3.",
            "the last one 0.50 s after its return.",
            "| sidecar killed | 15 | 20.0 to 31.0 s | 1.0 to 2.5 s |",
            "| handler killed | 15 | 20.0 to 31.0 s | – |",
            "- lost: w",
        ] {
            assert!(page.contains(part), "no {part:?} in:\n{page}");
        }
    }
}
