//! The run as a table in Markdown.

use std::fmt::Write as _;

use crate::judge::Figures;

/// A fault's line.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// `double::latency`.
    pub(crate) name: String,
    /// How long the fault lasted.
    pub(crate) fault_ms: u64,
    pub(crate) slots: usize,
    pub(crate) figures: Figures,
    /// Promises that were broken.
    pub(crate) broken: Vec<String>,
}

/// All lines, in the order of their names.
pub(crate) fn markdown(mut rows: Vec<Row>, seed: u64, lease_seconds: u64) -> String {
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let mut text = format!(
        "# Faults and what became of the tasks\n\n\
         Seed {seed}; leases of {lease_seconds} s unless a fault lasts longer. `lost`: workflows that did not \
         complete. `again`: executions beyond the first of a workflow, and how many of these came \
         after it had been answered. `stranded`: attempts whose lease ran out, and the longest until the \
         next one. `back`: from the fault's end to the first second with 90 % of the throughput before. \
         `requests`: the most in a second before and during the fault, and the bound.\n\n\
         | fault | s | tasks | lost | again | stranded, s | before, /s | back, s | requests, /s | |\n\
         | --- | --: | --: | --: | --: | --: | --: | --: | --: | --- |\n"
    );
    for row in rows {
        let Figures {
            tasks,
            lost,
            repeated,
            after_end,
            stranded,
            longest_back_ms,
            before,
            recovered_ms,
            requests: (calm, stormy),
            ..
        } = row.figures;
        let verdict = if row.broken.is_empty() {
            "ok".to_owned()
        } else {
            row.broken.join("; ")
        };
        let _ = writeln!(
            text,
            "| {} | {} | {tasks} | {lost} | {repeated} ({after_end}) | {stranded} ({}) | {before:.0} | {} | \
             {calm} → {stormy} (≤ {}) | {verdict} |",
            row.name,
            seconds(row.fault_ms),
            seconds(longest_back_ms),
            seconds(recovered_ms),
            row.figures.storm_bound(row.slots),
        );
    }
    text
}

fn seconds(millis: u64) -> String {
    format!("{}.{}", millis / 1000, millis % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_every_figure() {
        let row = |name: &str, broken: &[&str]| Row {
            name: name.to_owned(),
            fault_ms: 2000,
            slots: 2,
            figures: Figures {
                tasks: 300,
                lost: 1,
                repeated: 2,
                after_end: 1,
                stranded: 3,
                longest_back_ms: 12_345,
                before: 60.0,
                recovered_ms: 1250,
                requests: (100, 120),
                during: (50, 0),
            },
            broken: broken.iter().map(|s| (*s).to_owned()).collect(),
        };
        let text = markdown(vec![row("b", &[]), row("a", &["1 tasks lost"])], 7, 12);
        let rows: Vec<_> = text.lines().filter(|l| l.contains("300")).collect();
        assert_eq!(
            rows,
            [
                "| a | 2.0 | 300 | 1 | 2 (1) | 3 (12.3) | 60 | 1.2 | 100 → 120 (≤ 208) | 1 tasks lost |",
                "| b | 2.0 | 300 | 1 | 2 (1) | 3 (12.3) | 60 | 1.2 | 100 → 120 (≤ 208) | ok |",
            ]
        );
        assert!(text.contains("Seed 7"));
    }
}
