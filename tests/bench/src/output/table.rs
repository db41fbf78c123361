//! The tables, in Markdown. Pure.

use std::fmt::{Error, Write as _};

use crate::{
    bars::bars,
    contender::{ALL, Contender, OURS},
    measure::throughput::Throughput,
    results::{By, Results, over_rounds, ratio},
    summary::Spread,
};

/// The whole page.
pub fn page(results: &Results) -> Result<String, Error> {
    let mut page = String::new();
    let machine = &results.machine;
    writeln!(page, "# Benchmark\n")?;
    writeln!(
        page,
        "{} × {}, load {:.1} before it began. 64 slots, batches of 64, server and driver on one core, \
         the worker with its handler on another. Medians of {} rounds, and the least and the most.\n",
        machine.processors,
        machine.processor,
        machine.load,
        results.throughput.len(),
    )?;
    write_bars(&mut page, results)?;
    rounds(
        &mut page,
        "Tasks of 0 ms, 1 KB of input",
        &results.throughput,
    )?;
    rounds(
        &mut page,
        "Tasks of 0 ms, 10 KB of input",
        &results.throughput_10_kb,
    )?;
    light(&mut page, results)?;
    idle(&mut page, results)?;
    memory(&mut page, results)?;
    shutdown(&mut page, results)?;
    writeln!(page, "## Settings\n")?;
    table(&mut page, &["worker", "settings"])?;
    for one in ALL {
        row(&mut page, &[one.name, one.settings])?;
    }
    Ok(page)
}

fn table(page: &mut String, head: &[&str]) -> Result<(), Error> {
    row(page, head)?;
    row(page, &vec!["---"; head.len()])
}

fn row<T: AsRef<str>>(page: &mut String, cells: &[T]) -> Result<(), Error> {
    for cell in cells {
        write!(page, "| {} ", cell.as_ref())?;
    }
    writeln!(page, "|")
}

fn spread(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or_else(
        || "–".to_owned(),
        |s| {
            format!(
                "{:.digits$} ({:.digits$}–{:.digits$})",
                s.median, s.least, s.most
            )
        },
    )
}

fn write_bars(page: &mut String, results: &Results) -> Result<(), Error> {
    writeln!(page, "## Bars\n")?;
    table(page, &["the sidecar's", "should be", "is", ""])?;
    for bar in bars(results) {
        let found = bar
            .found
            .map_or_else(|| "–".to_owned(), |f| format!("{f:.3}"));
        let verdict = match bar.holds() {
            None => "not measured",
            Some(true) => "met",
            Some(false) => "missed",
        };
        row(
            page,
            &[bar.what.as_str(), &bar.bound.to_string(), &found, verdict],
        )?;
    }
    writeln!(page)
}

fn rounds(page: &mut String, title: &str, rounds: &[By<Throughput>]) -> Result<(), Error> {
    if rounds.is_empty() {
        return Ok(());
    }
    writeln!(page, "## {title}\n")?;
    table(
        page,
        &[
            "worker",
            "CPU µs a task",
            "with its handler",
            "tasks a second",
            "share of its core",
            "polls a task",
            "sidecar's CPU to it",
            "sidecar's throughput to it",
        ],
    )?;
    for Contender { name, .. } in ALL {
        let Some(cpu) = over_rounds(rounds, name, |t| t.cpu) else {
            continue;
        };
        let of = |figure: fn(&Throughput) -> f64| over_rounds(rounds, name, figure);
        let to = |figure: fn(&Throughput) -> f64| ratio(rounds, OURS, name, figure);
        row(
            page,
            &[
                (*name).to_owned(),
                spread(Some(cpu), 1),
                spread(of(|t| t.cpu_with_handler), 1),
                spread(of(|t| t.tasks_a_second), 0),
                spread(of(|t| t.core), 2),
                of(|t| t.polls).map_or_else(String::new, |s| format!("{:.2}", s.median)),
                spread(to(|t| t.cpu), 2),
                spread(to(|t| t.tasks_a_second), 2),
            ],
        )?;
    }
    writeln!(page)
}

fn light(page: &mut String, results: &Results) -> Result<(), Error> {
    if results.light.is_empty() {
        return Ok(());
    }
    writeln!(
        page,
        "## Light load: 50 tasks of 5 ms a second, at random\n"
    )?;
    let head = ["worker", "pick-up p50, ms", "p99", "turnaround p50, ms"];
    table(page, &head)?;
    each(page, &results.light, |l| {
        vec![
            format!("{:.2}", l.pick_up),
            format!("{:.2}", l.pick_up_99),
            format!("{:.2}", l.turnaround),
        ]
    })?;
    if let Some(sql) = results.light_sql {
        let (p50, p99) = (sql.pick_up, sql.pick_up_99);
        writeln!(
            page,
            "The sidecar where batches are held until they are full (SQL): pick-up p50 {p50:.2} ms, p99 {p99:.2} ms.\n"
        )?;
    }
    Ok(())
}

fn idle(page: &mut String, results: &Results) -> Result<(), Error> {
    if results.idle.is_empty() {
        return Ok(());
    }
    writeln!(page, "## Nothing to do, for each task type\n")?;
    table(page, &["worker", "polls a second", "CPU seconds a minute"])?;
    each(page, &results.idle, |i| {
        vec![format!("{:.2}", i.polls), format!("{:.3}", i.cpu)]
    })?;
    if let Some(three) = results.idle_three {
        let (polls, cpu) = (three.polls, three.cpu);
        writeln!(
            page,
            "The sidecar with three task types: {polls:.2} polls a second and {cpu:.3} CPU seconds a minute each.\n"
        )?;
    }
    Ok(())
}

fn memory(page: &mut String, results: &Results) -> Result<(), Error> {
    if results.memory.is_empty() {
        return Ok(());
    }
    writeln!(page, "## Resident memory without the handler, MiB\n")?;
    table(page, &["worker", "idle", "64 slots busy"])?;
    each(page, &results.memory, |m| {
        vec![format!("{:.1}", m.idle), format!("{:.1}", m.busy)]
    })?;
    if let Some(many) = results.memory_many {
        let line =
            format!("The sidecar with 1,000 slots busy and 4 KiB of input each: {many:.1} MiB.\n");
        writeln!(page, "{line}")?;
    }
    Ok(())
}

fn shutdown(page: &mut String, results: &Results) -> Result<(), Error> {
    if results.shutdown.is_empty() {
        return Ok(());
    }
    writeln!(
        page,
        "## The end of a pod with 64 tasks of 2 s in work and 64 that come after the signal\n"
    )?;
    let head = [
        "worker",
        "lost of 64 in work",
        "given after the signal",
        "lost of these",
    ];
    table(page, &head)?;
    each(page, &results.shutdown, |l| {
        vec![
            l.in_work.to_string(),
            l.given.to_string(),
            l.arriving.to_string(),
        ]
    })
}

/// A row for each worker that was measured, in the usual order.
fn each<T>(page: &mut String, by: &By<T>, cells: impl Fn(&T) -> Vec<String>) -> Result<(), Error> {
    for Contender { name, .. } in ALL {
        if let Some(found) = by.get(*name) {
            let mut all = vec![(*name).to_owned()];
            all.extend(cells(found));
            row(page, &all)?;
        }
    }
    writeln!(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{light::Light, shutdown::Lost};

    #[test]
    fn a_page_has_what_was_measured_and_no_table_of_what_was_not() {
        let results = Results {
            light: By::from([(
                OURS.to_owned(),
                Light {
                    pick_up: 0.15,
                    pick_up_99: 9.0,
                    turnaround: 6.0,
                },
            )]),
            shutdown: By::from([("go".to_owned(), Lost::default())]),
            ..Results::default()
        };
        let page = page(&results).unwrap();
        assert!(page.contains("| pick-up p50, ms | ≤ 0.2 | 0.150 | met |"));
        assert!(page.contains("| pick-up p99, ms | ≤ 1.5 | 9.000 | missed |"));
        assert!(page.contains("| sidecar | 0.15 | 9.00 | 6.00 |"));
        assert!(page.contains("| go | 0 | 0 | 0 |"));
        assert!(!page.contains("Resident memory without"));
    }
}
