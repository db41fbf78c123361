//! Results as text. Pure.

use std::fmt::Write as _;

use simulator::{Name, Ran};

use super::Done;

/// Heading and right-aligned cell of each column after the policy's name.
type Column = (&'static str, fn(&Ran) -> String);

const COLUMNS: [Column; 16] = [
    ("J", |r| format!("{:.2}", r.j)),
    ("cost", |r| format!("{:.2}", r.cost_ratio)),
    ("pod-s", |r| format!("{:.0}", r.figures.pod_seconds)),
    ("late %", |r| format!("{:.1}", 100.0 * r.figures.miss)),
    ("excess", |r| format!("{:.2}", r.figures.excess)),
    ("p50 s", |r| seconds(r.figures.p50)),
    ("p95 s", |r| seconds(r.figures.p95)),
    ("p99 s", |r| seconds(r.figures.p99)),
    ("max s", |r| seconds(r.figures.longest)),
    ("drain s", |r| {
        r.figures.burst_drain.map_or_else(none, seconds)
    }),
    ("killed", |r| r.figures.killed.to_string()),
    ("wasted s", |r| format!("{:.0}", r.figures.wasted_seconds)),
    ("unstarted", |r| r.figures.unstarted.to_string()),
    ("pods", |r| match r.overshoot {
        Some(over) => format!("{} ({over:.1}×)", r.figures.max_pods),
        None => r.figures.max_pods.to_string(),
    }),
    ("changes/h", |r| format!("{:.0}", r.figures.changes_h)),
    ("reversals/h", |r| format!("{:.0}", r.figures.reversals_h)),
];

fn seconds(x: f64) -> String {
    if x < 10.0 {
        format!("{x:.2}")
    } else {
        format!("{x:.0}")
    }
}

fn none() -> String {
    "–".to_owned()
}

/// A block of lines for each file, and one over all where there are several.
pub(super) fn text(done: &[Done]) -> String {
    let mut blocks: Vec<String> = done.iter().map(block).collect();
    if done.len() > 1 {
        blocks.push(summary(done));
    }
    blocks.join("\n")
}

fn block(done: &Done) -> String {
    let scenario = &done.scenario;
    let tasks = done.ran.first().map_or(0, |r| r.figures.tasks);
    let mut text = format!(
        "{}: {}\n{tasks} tasks, maxWait {} s, seed {}\n",
        scenario.name,
        scenario.about.trim(),
        scenario.target.max_wait,
        done.seed
    );
    let mut lines = vec![heading("policy")];
    lines.extend(done.ran.iter().map(|ran| {
        let name = match ran.chosen.as_str() {
            "" => ran.policy.to_string(),
            chosen => format!("{} ({chosen})", ran.policy),
        };
        let cells = COLUMNS.iter().map(|(_, cell)| cell(ran));
        std::iter::once(name).chain(cells).collect()
    }));
    text.push_str(&aligned(&lines));
    text
}

fn heading(first: &str) -> Vec<String> {
    let words = COLUMNS.iter().map(|(word, _)| (*word).to_owned());
    std::iter::once(first.to_owned()).chain(words).collect()
}

/// Means over the files: arithmetic of J, geometric of the cost.
fn summary(done: &[Done]) -> String {
    let policies: Vec<Name> = done
        .first()
        .map(|one| one.ran.iter().map(|r| r.policy).collect())
        .unwrap_or_default();
    let words = [
        "over all files",
        "mean J",
        "cost",
        "late %",
        "killed",
        "reversals/h",
    ];
    let mut lines = vec![words.map(str::to_owned).to_vec()];
    for policy in policies {
        let ran: Vec<&Ran> = done
            .iter()
            .filter_map(|one| one.ran.iter().find(|r| r.policy == policy))
            .collect();
        let mean = |of: fn(&Ran) -> f64| {
            let sum: f64 = ran.iter().map(|r| of(r)).sum();
            sum / f64::from(u32::try_from(ran.len()).unwrap_or(1).max(1))
        };
        let killed: u64 = ran.iter().map(|r| r.figures.killed).sum();
        lines.push(vec![
            policy.to_string(),
            format!("{:.2}", mean(|r| r.j)),
            format!("{:.2}", mean(|r| r.cost_ratio.ln()).exp()),
            format!("{:.1}", 100.0 * mean(|r| r.figures.miss)),
            killed.to_string(),
            format!("{:.0}", mean(|r| r.figures.reversals_h)),
        ]);
    }
    aligned(&lines)
}

/// The first column to the left, the others to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = if column == 0 {
                write!(text, "{cell:<width$}")
            } else {
                write!(text, "  {cell:>width$}")
            };
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use simulator::{Options, Scenario, Study};

    use super::*;

    fn done(name: &str) -> Done {
        let scenario = Scenario::read(&format!(
            "
name: {name}
about: Two tasks.
duration: 100
target: {{maxWait: 10}}
pods: {{max: 2, slots: 1, initial: 1, start: {{dist: const, value: 1}}}}
types:
  - name: t
    service: {{dist: const, value: 1}}
    arrivals: [{{kind: burst, at: 20, count: 2}}]
"
        ))
        .unwrap();
        let study = Study::new(scenario.clone(), Options::default());
        Done {
            ran: study.run(&[Name::Oracle, Name::KedaTuned], None),
            scenario,
            seed: 1,
        }
    }

    #[test]
    fn a_block_has_a_line_for_each_policy() {
        let text = text(&[done("two")]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "two: Two tasks.");
        assert_eq!(lines[1], "2 tasks, maxWait 10 s, seed 1");
        assert!(lines[2].starts_with("policy") && lines[2].ends_with("reversals/h"));
        assert!(lines[3].starts_with("oracle ") && lines[4].starts_with("keda-hpa-tuned ("));
        assert_eq!(lines.len(), 5);
        let widths: Vec<usize> = lines[2..].iter().map(|l| l.chars().count()).collect();
        assert!(widths.iter().all(|w| *w == widths[0]), "{text}");
    }

    #[test]
    fn several_files_are_summed_up() {
        let text = text(&[done("one"), done("two")]);
        assert!(text.contains("\none") || text.starts_with("one: "));
        assert!(text.contains("\ntwo: Two tasks.") && text.contains("\nover all files"));
    }
}
