//! The page, in Markdown. Pure.

use std::fmt::{Error, Write as _};

use crate::{contender::Contender, figures::Figures, predict::Prediction, results::Entry};

/// The whole page of what was run, scenario by scenario.
pub fn page(scenarios: &[(String, String)], entries: &[Entry]) -> Result<String, Error> {
    let mut page = String::new();
    writeln!(page, "# The autoscaler on a real cluster\n")?;
    writeln!(
        page,
        "Kubernetes and Conductor on Redis on one machine; every pod, queue and task is real. Beside what was \
         measured stands what the simulator had said of the same tasks. Waits are from a task's first moment in \
         the queue to the start of its last attempt, pod-seconds from each pod's creation to its removal.\n"
    )?;
    for (name, about) in scenarios {
        let of: Vec<&Entry> = entries.iter().filter(|e| &e.run.scenario == name).collect();
        if !of.is_empty() {
            section(&mut page, name, about, &of)?;
        }
    }
    writeln!(page, "## Settings\n")?;
    row(&mut page, &["", "what it is"])?;
    row(&mut page, &["---"; 2])?;
    for contender in Contender::ALL {
        row(&mut page, &[contender.name(), contender.settings()])?;
    }
    Ok(page)
}

fn section(page: &mut String, name: &str, about: &str, entries: &[&Entry]) -> Result<(), Error> {
    let (Some(first), about) = (entries.first(), about.trim()) else {
        return Ok(());
    };
    let (w, tasks) = (first.run.max_wait, first.figures.tasks);
    writeln!(page, "## {name}\n")?;
    writeln!(
        page,
        "{about} {tasks} tasks; each should start within {w} s.\n"
    )?;
    let head = [
        "",
        "setting",
        "wait p50, s",
        "p95",
        "p99",
        "longest",
        "late",
        "pod-seconds",
        "simulated",
        "p95 simulated",
        "late simulated",
        "killed",
        "retries",
        "most pods",
        "first raise after, s",
    ];
    row(page, &head)?;
    row(page, &["---"; 15])?;
    for entry in entries {
        row(page, &cells(entry))?;
    }
    writeln!(page)
}

fn cells(entry: &Entry) -> [String; 15] {
    let f: &Figures = &entry.figures;
    let p: &Prediction = &entry.prediction;
    let off = 100.0 * (f.pod_seconds / p.pod_seconds - 1.0);
    [
        entry.run.contender.clone(),
        entry.run.setting.to_string(),
        format!("{:.1}", f.p50),
        format!("{:.1}", f.p95),
        format!("{:.1}", f.p99),
        format!("{:.1}", f.longest),
        percent(f.miss),
        format!("{:.0}", f.pod_seconds),
        format!("{:.0} ({off:+.0} %)", p.pod_seconds),
        format!("{:.1}", p.p95),
        percent(p.miss),
        f.killed.to_string(),
        f.retries.to_string(),
        f.most_pods.to_string(),
        f.reaction
            .map_or_else(|| "–".to_owned(), |r| format!("{r:.1}")),
    ]
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn row<T: AsRef<str>>(page: &mut String, cells: &[T]) -> Result<(), Error> {
    for cell in cells {
        write!(page, "| {} ", cell.as_ref())?;
    }
    writeln!(page, "|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{contender::Setting, run::Run};

    #[test]
    fn a_page_has_what_was_run() {
        let entry = Entry {
            run: Run {
                scenario: "burst".to_owned(),
                contender: "keda".to_owned(),
                setting: Setting::Target(50.0),
                max_wait: 60.0,
                ..Run::default()
            },
            figures: Figures {
                tasks: 2000,
                pod_seconds: 110.0,
                miss: 0.125,
                ..Figures::default()
            },
            prediction: Prediction {
                pod_seconds: 100.0,
                ..Prediction::default()
            },
        };
        let scenarios = [
            ("burst".to_owned(), "A burst.\n".to_owned()),
            ("long".to_owned(), "Not run.".to_owned()),
        ];
        let page = page(&scenarios, &[entry]).unwrap();
        assert!(page.contains("A burst. 2000 tasks; each should start within 60 s."));
        assert!(page.contains("| keda | target 50 | 0.0 |"));
        assert!(page.contains("| 12.5 % | 110 | 100 (+10 %) |"));
        assert!(!page.contains("Not run."));
        let columns: Vec<usize> = page
            .lines()
            .filter(|l| l.starts_with("| keda | target") || l.starts_with("|  | setting"))
            .map(|l| l.matches('|').count())
            .collect();
        assert_eq!(columns, [16, 16]);
    }
}
