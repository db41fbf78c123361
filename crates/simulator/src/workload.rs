//! The tasks of a run, drawn once and the same for every policy.

use crate::{
    arrivals,
    distribution::Sampler,
    random::{Purpose, stream, unit},
    scenario::{Arrivals, Scenario, TaskType},
};

/// No burst, no failure.
pub(crate) const NONE: u32 = u32::MAX;

/// A task as it arrives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Task {
    /// From here on it is counted in the queue size.
    pub(crate) appears: f64,
    /// From here on it can be taken.
    pub(crate) visible: f64,
    /// Execution time before all factors.
    pub(crate) service: f64,
    /// Its type's number.
    pub(crate) kind: u32,
    /// Where the lengths of its attempts begin in [`Workload::attempts`] if it fails, or NONE.
    pub(crate) fails: u32,
    /// The burst it came with, or NONE.
    pub(crate) burst: u32,
}

/// All that arrives, drawn ahead.
#[derive(Debug, Clone)]
pub struct Workload {
    /// In the order in which they become visible.
    pub(crate) tasks: Vec<Task>,
    /// Those that are visible later than they appear, in the order in which they appear.
    pub(crate) delayed: Vec<u32>,
    /// Lengths of the attempts of tasks that fail, one after the other.
    pub(crate) attempts: Vec<f64>,
    /// When each burst begins.
    pub(crate) bursts: Vec<f64>,
    /// Retries of a task that fails, by type.
    pub(crate) retries: Vec<u32>,
}

impl Workload {
    /// Draws what arrives in `scenario` with this seed.
    pub fn draw(scenario: &Scenario, seed: u64) -> Self {
        let mut drawn = Self {
            tasks: Vec::new(),
            delayed: Vec::new(),
            attempts: Vec::new(),
            bursts: Vec::new(),
            retries: scenario
                .types
                .iter()
                .map(|t| t.fail.as_ref().map_or(0, |f| f.retries))
                .collect(),
        };
        for (kind, of) in scenario.types.iter().enumerate() {
            drawn.add(of, kind, scenario.duration, seed);
        }
        drawn.tasks.sort_by(|a, b| a.visible.total_cmp(&b.visible));
        let mut delayed: Vec<u32> = (0..)
            .zip(&drawn.tasks)
            .filter(|(_, task)| task.visible > task.appears)
            .map(|(number, _)| number)
            .collect();
        delayed.sort_by(|a, b| {
            let appears = |n: &u32| drawn.tasks[*n as usize].appears;
            appears(a).total_cmp(&appears(b))
        });
        drawn.delayed = delayed;
        drawn
    }

    /// When each task becomes visible and how long it takes, in seconds, in the order in which
    /// they become visible.
    pub fn tasks(&self) -> impl Iterator<Item = (f64, f64)> {
        self.tasks.iter().map(|task| (task.visible, task.service))
    }

    fn add(&mut self, of: &TaskType, kind: usize, duration: f64, seed: u64) {
        let mut tasks: Vec<Task> = Vec::new();
        for (process, arrivals) in of.arrivals.iter().enumerate() {
            let index = (kind * 1000 + process) as u64;
            let mut random = stream(seed, Purpose::Arrivals, index);
            let burst = match arrivals {
                Arrivals::Burst { at, count, .. } if *at < duration && *count > 0 => {
                    self.bursts.push(*at);
                    self.bursts.len() as u32 - 1
                }
                _ => NONE,
            };
            let mut delay = arrivals.delay().map(Sampler::new);
            for appears in arrivals::times(arrivals, duration, &mut random) {
                let delay = delay.as_mut().map_or(0.0, |d| d.draw(&mut random));
                tasks.push(Task {
                    appears,
                    visible: appears + delay,
                    service: 0.0,
                    kind: kind as u32,
                    fails: NONE,
                    burst,
                });
            }
        }
        // Execution times are drawn in the order of arrival, whatever process a task is of.
        tasks.sort_by(|a, b| a.appears.total_cmp(&b.appears));
        let mut random = stream(seed, Purpose::Service, kind as u64);
        let mut service = Sampler::new(&of.service);
        let mut fail = of.fail.as_ref().map(|f| (f, Sampler::new(&f.service)));
        for task in &mut tasks {
            task.service = service.draw(&mut random);
            if let Some((fail, length)) = &mut fail
                && unit(&mut random) < fail.share
            {
                task.fails = self.attempts.len() as u32;
                for _ in 0..=fail.retries {
                    self.attempts.push(length.draw(&mut random));
                }
            }
        }
        self.tasks.append(&mut tasks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "
name: two
duration: 1000
target: {maxWait: 10}
pods: {max: 5, slots: 2, start: {dist: const, value: 5}}
types:
  - name: a
    service: {dist: exp, mean: 2}
    fail: {share: 0.3, service: {dist: const, value: 0.5}, retries: 2, retryDelay: 60}
    arrivals:
      - {kind: poisson, from: 0, to: 900, rate: 10}
      - {kind: burst, at: 100, count: 50, delay: {dist: const, value: 30}}
  - name: b
    service: {dist: const, value: 1}
    arrivals: [{kind: regular, from: 0, to: 2000, interval: 10}]
";

    #[test]
    fn one_seed_gives_one_workload() {
        let scenario = Scenario::read(TWO).unwrap();
        let (a, b) = (Workload::draw(&scenario, 1), Workload::draw(&scenario, 1));
        assert_eq!(format!("{a:?}"), format!("{b:?}"));
        let c = Workload::draw(&scenario, 2);
        assert_ne!(format!("{a:?}"), format!("{c:?}"));
    }

    #[test]
    fn tasks_come_in_the_order_in_which_they_are_visible() {
        let scenario = Scenario::read(TWO).unwrap();
        let w = Workload::draw(&scenario, 1);
        assert!(w.tasks.windows(2).all(|p| p[0].visible <= p[1].visible));
        assert_eq!(w.delayed.len(), 50);
        let burst: Vec<&Task> = w.tasks.iter().filter(|t| t.burst == 0).collect();
        assert_eq!((burst.len(), w.bursts.as_slice()), (50, &[100.0][..]));
        assert!(
            burst
                .iter()
                .all(|t| (t.visible - t.appears - 30.0).abs() < 1e-9)
        );
        assert_eq!(
            w.tasks.iter().filter(|t| t.kind == 1).count(),
            100,
            "what would arrive after the end is dropped"
        );
        let failing = w.tasks.iter().filter(|t| t.fails != NONE).count();
        assert_eq!(w.attempts.len(), 3 * failing);
        assert!((failing as f64 / 9050.0 - 0.3).abs() < 0.02, "{failing}");
    }

    #[test]
    fn another_process_leaves_the_others_as_they_are() {
        let scenario = Scenario::read(TWO).unwrap();
        let without: Vec<f64> = Workload::draw(&scenario, 1)
            .tasks
            .iter()
            .filter(|t| t.kind == 0 && t.burst == NONE)
            .map(|t| t.appears)
            .collect();
        let more = TWO.replace("count: 50", "count: 7");
        let with: Vec<f64> = Workload::draw(&Scenario::read(&more).unwrap(), 1)
            .tasks
            .iter()
            .filter(|t| t.kind == 0 && t.burst == NONE)
            .map(|t| t.appears)
            .collect();
        assert_eq!(without, with);
    }
}
