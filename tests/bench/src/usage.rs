//! What a running program has used, with all the programs it has started. From /proc.

use std::{collections::BTreeSet, fs, time::Duration};

use anyhow::{Context as _, Result};

/// The kernel's tick in `/proc/PID/stat`, whatever the machine's own is.
const TICK: Duration = Duration::from_millis(10);

/// What a program and its descendants have used until now.
#[derive(Debug, Clone, Copy, Default)]
pub struct Used {
    /// Processor time.
    pub cpu: Duration,
    /// Resident memory in KiB; what programs share is counted once.
    pub resident: u64,
}

/// Looks at a program by its id, and at all it has started.
pub fn used(root: u32) -> Result<Used> {
    let all = tree(root)?;
    let shared = all.len() > 1;
    let mut sum = Used::default();
    for pid in all {
        // One that has ended meanwhile is not the root, whose absence is an error.
        let (Ok(cpu), Ok(resident)) = (cpu(pid), resident(pid, shared)) else {
            anyhow::ensure!(pid != root, "the program {root} has ended");
            continue;
        };
        sum.cpu += cpu;
        sum.resident += resident;
    }
    Ok(sum)
}

/// Processor time of one program. The scheduler's count per thread is exact but forgets
/// threads that have ended; the one in ticks forgets none: the larger is the nearer.
pub fn cpu(pid: u32) -> Result<Duration> {
    let mut exact = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        if let Ok(line) = fs::read_to_string(thread?.path().join("schedstat")) {
            exact += on_processor(&line)?;
        }
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    Ok(exact.max(ticks(&stat)? * TICK))
}

/// Of a line of `schedstat`: nanoseconds on a processor, waiting for one, and how often.
fn on_processor(line: &str) -> Result<Duration> {
    let first = line.split(' ').next().unwrap_or_default();
    Ok(Duration::from_nanos(first.trim().parse()?))
}

/// User and system time, fields 14 and 15; the name in field 2 may hold anything.
fn ticks(stat: &str) -> Result<u32> {
    let fields: Vec<&str> = after_name(stat)?.collect();
    Ok(fields[11].parse::<u32>()? + fields[12].parse::<u32>()?)
}

fn parent(stat: &str) -> Result<u32> {
    let parent = after_name(stat)?.nth(1).context("no parent")?;
    Ok(parent.parse()?)
}

fn after_name(stat: &str) -> Result<std::str::SplitWhitespace<'_>> {
    let (_, rest) = stat.rsplit_once(')').context("not a line of stat")?;
    Ok(rest.split_whitespace())
}

fn resident(pid: u32, shared: bool) -> Result<u64> {
    let (file, field) = if shared {
        ("smaps_rollup", "Pss:")
    } else {
        ("status", "VmRSS:")
    };
    let text = fs::read_to_string(format!("/proc/{pid}/{file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("no resident memory")?.parse()?)
}

/// A program and its descendants.
pub fn tree(root: u32) -> Result<BTreeSet<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) {
            parents.push((pid, parent(&stat)?));
        }
    }
    Ok(descendants(root, &parents))
}

/// `parents`: pairs of a program and its parent.
fn descendants(root: u32, parents: &[(u32, u32)]) -> BTreeSet<u32> {
    let mut found = BTreeSet::from([root]);
    loop {
        let before = found.len();
        let children = parents
            .iter()
            .filter(|(_, parent)| found.contains(parent))
            .map(|(child, _)| *child)
            .collect::<Vec<_>>();
        found.extend(children);
        if found.len() == before {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc() {
        let stat = "7 (a) b) S 3 7 7 0 -1 4194560 1 0 0 0 120 34 0 0 20 0 1 0 99 1 1";
        assert_eq!((ticks(stat).unwrap(), parent(stat).unwrap()), (154, 3));
        let on = on_processor("1500 20 3\n").unwrap();
        assert_eq!(on, Duration::from_nanos(1500));
    }

    #[test]
    fn a_tree_is_whole_in_whatever_order_it_is_listed() {
        let parents = [(4, 3), (3, 2), (2, 1), (9, 8)];
        assert_eq!(descendants(2, &parents), BTreeSet::from([2, 3, 4]));
    }

    #[test]
    fn this_program_has_used_something() {
        let used = used(std::process::id()).unwrap();
        assert!(used.resident > 0 && used.cpu > Duration::ZERO);
    }
}
