//! What a real Conductor was seen to do, row by row, and that each row has its cases.

use libtest_mimic::{Failed, Trial};

use crate::cases;

const ROWS: &str = include_str!("../rows.md");

/// Checks that need no server.
pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("rows::name_cases_that_exist", || {
            check(ROWS).map_err(Failed::from)
        }),
        Trial::test("rows::are_complete", || {
            complete(ROWS).map_err(Failed::from)
        }),
    ]
}

/// The second column of the tables' rows, with their lines' numbers.
fn rows(text: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    text.lines().enumerate().filter_map(|(number, line)| {
        let cells = line.strip_prefix("| ")?.strip_suffix(" |")?;
        let (row, cases) = cells.rsplit_once(" | ")?;
        (row != "row" && !row.starts_with("---")).then_some((number + 1, row, cases))
    })
}

/// The names of cases in a cell.
fn named(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Every row names a case, or says why there is none; every case named exists.
fn check(text: &str) -> Result<(), String> {
    let known: Vec<&str> = cases::all().map(|case| case.short()).collect();
    let mut wrong = Vec::new();
    for (line, row, cases) in rows(text) {
        if named(cases).next().is_none() && !cases.starts_with("none: ") {
            wrong.push(format!(
                "rows.md:{line}: {row:?} names no case; name one, or write \"none: \" and why"
            ));
        }
        for name in named(cases).filter(|name| !known.contains(name)) {
            wrong.push(format!("rows.md:{line}: there is no case {name}"));
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n"))
    }
}

/// Every case is there for a row.
fn complete(text: &str) -> Result<(), String> {
    let covered: Vec<&str> = rows(text).flat_map(|(_, _, cases)| named(cases)).collect();
    if covered.is_empty() {
        return Err("rows.md has no rows that can be read".to_owned());
    }
    let missing: Vec<&str> = cases::all()
        .map(|case| case.short())
        .filter(|name| !covered.contains(name))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "cases that no row of rows.md names: {}",
            missing.join(", ")
        ))
    }
}
