//! What the simulator says of the same tasks, and what it finds to be best for those that have
//! something to tune.

use std::collections::VecDeque;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use simulator::{
    Figures, Name, Observation, Options, Policy, ScaleDown, Scenario, Study, Workload,
    policies::{Hpa, Keda, Metric, Ours},
    run,
};

use crate::{
    contender::{Contender, Setting},
    load::{Job, Load},
};

/// Queue entries for each pod that KEDA is tried with.
const TARGETS: [f64; 12] = [
    0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 3000.0,
];
/// The share of late tasks that a fixed Deployment may have.
const LATE: f64 = 0.01;

/// A simulated run. Times are in seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Waits: the median.
    pub p50: f64,
    /// Of 95 in a hundred at most.
    pub p95: f64,
    /// Of 99 in a hundred at most.
    pub p99: f64,
    /// The share of waits that were longer than they should be.
    pub miss: f64,
    /// From creation to removal, over all pods.
    pub pod_seconds: f64,
    /// Executions that were cut off.
    pub killed: u64,
    /// Pods over time, leaving ones included: when, and from then on how many.
    pub pods: Vec<(f64, u32)>,
}

impl Load {
    /// Reads a scenario's text, and draws the very tasks that a simulation of it has. What a
    /// replay cannot do is refused.
    pub fn read(text: &str) -> Result<Self> {
        let scenario = Scenario::read(text)?;
        let Scenario {
            pods,
            server,
            types,
            ..
        } = &scenario;
        ensure!(
            scenario.downstream.is_none()
                && scenario.outages.is_empty()
                && scenario.restarts.is_empty()
                && scenario.metric_lag <= 0.0,
            "{}: a replay has no downstream, outages, restarts or metricLag; leave them out",
            scenario.name
        );
        let [of] = &types[..] else {
            anyhow::bail!(
                "{}: a replay has one task type; the file has {}",
                scenario.name,
                types.len()
            );
        };
        ensure!(
            of.service_scale.is_empty()
                && of.slowdown.is_none()
                && of.slot_cap.is_none()
                && of.concurrent_exec_limit.is_none()
                && of.rate_limit.is_none()
                && of.fail.is_none()
                && of.arrivals.iter().all(|a| a.delay().is_none()),
            "{}: a replay's tasks have a service time and arrivals alone",
            scenario.name
        );
        ensure!(
            pods.initial == pods.min,
            "{}: autoscalers begin with pods.min pods while there is nothing to do; write initial: {}",
            scenario.name,
            pods.min
        );
        let drawn = Workload::draw(&scenario, scenario.seed);
        let jobs = drawn.tasks().map(|(at, seconds)| Job { at, seconds });
        Ok(Self {
            name: scenario.name.clone(),
            about: scenario.about.clone(),
            max_wait: scenario.target.max_wait,
            duration: scenario.duration,
            slots: pods.slots,
            min: pods.min,
            max: pods.max,
            response_timeout: whole(server.response_timeout)?.into(),
            retry_delay: whole(server.retry_delay)?.into(),
            jobs: jobs.collect(),
        })
    }
}

/// Conductor's definitions have whole seconds, and a plot has a moment for each second.
fn whole(seconds: f64) -> Result<u32> {
    ensure!(
        seconds >= 1.0 && seconds.fract() == 0.0 && seconds <= 1e6,
        "{seconds} s; write whole seconds, at least 1"
    );
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked above"
    )]
    Ok(seconds as u32)
}

/// The best setting of a contender, and what it comes to.
pub fn tuned(text: &str, contender: Contender) -> Result<(Setting, Prediction)> {
    let scenario = Scenario::read(text)?;
    let settings: Vec<Setting> = match contender {
        Contender::Operator => vec![Setting::Nothing],
        Contender::Keda | Contender::KedaFast => TARGETS.map(Setting::Target).to_vec(),
        Contender::Fixed => (1..=scenario.pods.max).map(Setting::Replicas).collect(),
    };
    let oracle = Study::new(scenario.clone(), Options::default()).run(&[Name::Oracle], None);
    let oracle = oracle.first().map_or(0.0, |ran| ran.figures.pod_seconds);
    let mut best: Option<(f64, Setting, Prediction)> = None;
    for setting in settings {
        let (figures, prediction) = simulated(&scenario, contender, setting)?;
        if contender == Contender::Fixed && figures.miss <= LATE {
            return Ok((setting, prediction));
        }
        let j = figures.j(oracle);
        if best.as_ref().is_none_or(|(least, ..)| j < *least) {
            best = Some((j, setting, prediction));
        }
    }
    let (_, setting, prediction) = best.context("there is nothing to choose from")?;
    Ok((setting, prediction))
}

fn simulated(
    scenario: &Scenario,
    contender: Contender,
    setting: Setting,
) -> Result<(Figures, Prediction)> {
    let mut scenario = scenario.clone();
    scenario.pods.initial = setting.idle_pods(scenario.pods.min);
    let mut policy: Box<dyn Policy> = match (contender, setting) {
        (Contender::Keda, Setting::Target(target)) => {
            let metric = Metric::Queues(vec![target]);
            Box::new(Keda::new(&scenario, metric, ScaleDown::Blind))
        }
        (_, Setting::Target(target)) => Box::new(Fast::new(&scenario, target)),
        (_, Setting::Replicas(n)) => Box::new(Fixed(n)),
        (_, Setting::Nothing) => Box::new(Ours::new(&scenario)),
    };
    let drawn = Workload::draw(&scenario, scenario.seed);
    let moments = whole(scenario.duration)?;
    let mut outcome = run(
        &scenario,
        &drawn,
        scenario.seed,
        policy.as_mut(),
        Some(moments),
    );
    let trace = outcome.trace.take();
    let moments = trace.iter().flat_map(simulator::Trace::moments);
    // Active pods are as many as are desired.
    let pods = moments.map(|m| (m.at, m.desired + m.leaving));
    let mut steps: Vec<(f64, u32)> = Vec::new();
    for (at, n) in pods {
        if steps.last().is_none_or(|(_, before)| *before != n) {
            steps.push((at, n));
        }
    }
    let figures = Figures::of(&scenario, &mut outcome);
    let prediction = Prediction {
        p50: figures.p50,
        p95: figures.p95,
        p99: figures.p99,
        miss: figures.miss,
        pod_seconds: figures.pod_seconds,
        killed: figures.killed,
        pods: steps,
    };
    Ok((figures, prediction))
}

/// A Deployment that nobody scales.
struct Fixed(u32);

impl Policy for Fixed {
    fn scale_down(&self) -> ScaleDown {
        ScaleDown::Blind
    }

    fn tick(&self) -> f64 {
        60.0
    }

    fn desired(&mut self, _: &Observation) -> u32 {
        self.0
    }

    fn restart(&mut self, _: &Observation) {}
}

/// KEDA and the HPA with the settings of [`Contender::KedaFast`]: both look every second, at
/// once up, down after 30 s.
struct Fast {
    target: f64,
    least: u32,
    most: u32,
    last_active: f64,
    recommended: VecDeque<(f64, u32)>,
}

impl Fast {
    const WINDOW: f64 = 30.0;
    const COOLDOWN: f64 = 30.0;

    fn new(scenario: &Scenario, target: f64) -> Self {
        Self {
            target,
            least: scenario.pods.min,
            most: scenario.pods.max,
            last_active: f64::NEG_INFINITY,
            recommended: VecDeque::new(),
        }
    }
}

impl Policy for Fast {
    fn scale_down(&self) -> ScaleDown {
        ScaleDown::Blind
    }

    fn tick(&self) -> f64 {
        1.0
    }

    fn desired(&mut self, seen: &Observation) -> u32 {
        let current = seen.active();
        let Some(queue) = seen.queue() else {
            return current;
        };
        let queue = f64::from(u32::try_from(queue).unwrap_or(u32::MAX));
        if queue > 0.0 {
            self.last_active = seen.now;
        } else if self.least == 0 && seen.now - self.last_active > Self::COOLDOWN {
            return 0;
        }
        if current == 0 {
            return u32::from(queue > 0.0);
        }
        let proposed = Hpa::proposal(queue, self.target, current);
        self.recommended.push_back((seen.now, proposed));
        self.recommended
            .retain(|(at, _)| seen.now - at <= Self::WINDOW);
        let highest = self.recommended.iter().map(|(_, n)| *n).max();
        let next = if proposed < current {
            highest.unwrap_or(proposed).min(current)
        } else {
            proposed
        };
        next.clamp(self.least.max(1), self.most)
    }

    fn restart(&mut self, _: &Observation) {
        self.recommended.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "
name: small
duration: 300
target: {maxWait: 20}
pods: {min: 0, max: 10, slots: 5, start: {dist: const, value: 3}, grace: 0}
server: {responseTimeout: 30, retryDelay: 1}
types:
  - name: t
    service: {dist: const, value: 1}
    arrivals: [{kind: burst, at: 20, count: 180}]
";

    #[test]
    fn the_tasks_are_those_of_the_simulation() {
        let load = Load::read(SMALL).unwrap();
        assert_eq!(load.jobs.len(), 180);
        let expected = Job {
            at: 20.0,
            seconds: 1.0,
        };
        assert_eq!(load.jobs[0], expected);
        assert_eq!((load.response_timeout, load.retry_delay), (30, 1));
    }

    #[test]
    fn what_a_replay_cannot_do_is_refused() {
        let more = SMALL.replace(
            "target:",
            "outages: [{from: 1, to: 2, kind: queue}]\ntarget:",
        );
        let error = Load::read(&more).unwrap_err().to_string();
        assert!(error.contains("no downstream, outages"), "{error}");
        let more = SMALL.replace("min: 0,", "min: 0, initial: 2,");
        let error = Load::read(&more).unwrap_err().to_string();
        assert!(error.contains("write initial: 0"), "{error}");
        let more = SMALL.replace("    service:", "    slotCap: 2\n    service:");
        let error = Load::read(&more).unwrap_err().to_string();
        assert!(error.contains("arrivals alone"), "{error}");
    }

    #[test]
    fn a_fixed_deployment_is_as_small_as_it_may_be() {
        let (setting, prediction) = tuned(SMALL, Contender::Fixed).unwrap();
        // Ten at a time, and the last of 18 rounds is in time; five at a time would not be.
        assert_eq!(setting, Setting::Replicas(2));
        assert!((prediction.pod_seconds - 600.0).abs() < 1e-6);
        assert!(prediction.miss <= LATE);
    }

    #[test]
    fn keda_is_tuned_and_the_fast_one_goes_to_zero() {
        let (target, usual) = tuned(SMALL, Contender::Keda).unwrap();
        let (fast_target, fast) = tuned(SMALL, Contender::KedaFast).unwrap();
        for target in [target, fast_target] {
            assert!(matches!(target, Setting::Target(_)), "{target}");
        }
        assert!(fast.pod_seconds < usual.pod_seconds);
        assert_eq!(fast.pods.last().map(|(_, n)| *n), Some(0));
    }

    #[test]
    fn the_scenarios_can_be_replayed() {
        for file in ["burst", "long", "mixed"] {
            let path = format!("{}/scenarios/{file}.yaml", env!("CARGO_MANIFEST_DIR"));
            let load = Load::read(&std::fs::read_to_string(path).unwrap()).unwrap();
            assert_eq!(load.name, file);
        }
    }
}
