//! Values that a scenario cannot have, and what to write instead.

mod arrivals;

use super::{Distribution, Scenario, TaskType};

/// A scenario file that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unusable {
    /// No YAML, an unknown key or a value of a wrong kind; with its place in the file.
    #[error("{0}")]
    Unreadable(String),
    /// A value that makes no sense.
    #[error("{key} is {value}; write {instead}")]
    BadValue {
        /// Where in the file.
        key: String,
        /// What is there.
        value: String,
        /// What may be there.
        instead: &'static str,
    },
}

type Checked = Result<(), Unusable>;

impl Scenario {
    pub(super) fn check(&self) -> Checked {
        text("name", &self.name)?;
        above_zero("duration", self.duration)?;
        above_zero("target.maxWait", self.target.max_wait)?;
        let pods = &self.pods;
        require(
            "pods.max",
            pods.max,
            pods.max >= 1 && pods.max <= 100_000,
            "1 to 100000",
        )?;
        require(
            "pods.min",
            pods.min,
            pods.min <= pods.max,
            "at most pods.max",
        )?;
        require(
            "pods.initial",
            pods.initial,
            pods.initial <= pods.max,
            "at most pods.max",
        )?;
        require(
            "pods.slots",
            pods.slots,
            (1..=100_000).contains(&pods.slots),
            "1 to 100000",
        )?;
        distribution("pods.start", &pods.start)?;
        points("pods.startScale", &pods.start_scale)?;
        not_negative("pods.grace", pods.grace)?;
        not_negative("poll.min", self.poll.min)?;
        require(
            "poll.max",
            self.poll.max,
            self.poll.max.is_finite() && self.poll.max >= self.poll.min,
            "seconds that are not below poll.min",
        )?;
        not_negative("server.responseTimeout", self.server.response_timeout)?;
        not_negative("server.retryDelay", self.server.retry_delay)?;
        if let Some(downstream) = self.downstream {
            above_zero("downstream.capacity", downstream.capacity)?;
        }
        not_negative("metricLag", self.metric_lag)?;
        for (i, o) in self.outages.iter().enumerate() {
            span(&format!("outages[{i}]"), o.from, o.to)?;
        }
        for (i, r) in self.restarts.iter().enumerate() {
            not_negative(&format!("restarts[{i}].at"), r.at)?;
            not_negative(&format!("restarts[{i}].down"), r.down)?;
        }
        require(
            "types",
            "empty",
            !self.types.is_empty(),
            "at least one task type",
        )?;
        for (i, t) in self.types.iter().enumerate() {
            t.check(&format!("types[{i}]"))?;
        }
        Ok(())
    }
}

impl TaskType {
    fn check(&self, at: &str) -> Checked {
        text(&format!("{at}.name"), &self.name)?;
        distribution(&format!("{at}.service"), &self.service)?;
        points(&format!("{at}.serviceScale"), &self.service_scale)?;
        if let Some(s) = self.slowdown {
            not_negative(&format!("{at}.slowdown.alpha"), s.alpha)?;
            not_negative(&format!("{at}.slowdown.beta"), s.beta)?;
        }
        for (key, value) in [
            ("slotCap", self.slot_cap),
            ("concurrentExecLimit", self.concurrent_exec_limit),
            ("rateLimit.count", self.rate_limit.map(|r| r.count)),
        ] {
            if let Some(value) = value {
                require(
                    &format!("{at}.{key}"),
                    value,
                    value >= 1,
                    "1 or more, or leave it out",
                )?;
            }
        }
        if let Some(r) = self.rate_limit {
            above_zero(&format!("{at}.rateLimit.window"), r.window)?;
        }
        if let Some(f) = &self.fail {
            share(&format!("{at}.fail.share"), f.share)?;
            distribution(&format!("{at}.fail.service"), &f.service)?;
            not_negative(&format!("{at}.fail.retryDelay"), f.retry_delay)?;
        }
        for (i, a) in self.arrivals.iter().enumerate() {
            a.check(&format!("{at}.arrivals[{i}]"))?;
        }
        Ok(())
    }
}

fn distribution(at: &str, d: &Distribution) -> Checked {
    let key = |name: &str| format!("{at}.{name}");
    match d {
        Distribution::Const { value } => not_negative(&key("value"), *value),
        Distribution::Uniform { min, max } => {
            not_negative(&key("min"), *min)?;
            require(
                &key("max"),
                max,
                max.is_finite() && max >= min,
                "seconds that are not below min",
            )
        }
        Distribution::Exp { mean } => above_zero(&key("mean"), *mean),
        Distribution::LogNormal { mean, cv } => {
            above_zero(&key("mean"), *mean)?;
            not_negative(&key("cv"), *cv)
        }
        Distribution::Pareto { min, alpha, cap } => {
            above_zero(&key("min"), *min)?;
            above_zero(&key("alpha"), *alpha)?;
            require(
                &key("cap"),
                cap,
                cap.is_finite() && cap >= min,
                "seconds that are not below min",
            )
        }
        Distribution::Mix { parts } => {
            for (i, part) in parts.iter().enumerate() {
                not_negative(&key(&format!("parts[{i}].weight")), part.weight)?;
                distribution(&key(&format!("parts[{i}].of")), &part.of)?;
            }
            let sum: f64 = parts.iter().map(|p| p.weight).sum();
            require(
                &key("parts"),
                format!("of weight {sum} in all"),
                sum > 0.0,
                "at least one part with a weight above zero",
            )
        }
        Distribution::List { values } => {
            for (i, v) in values.iter().enumerate() {
                not_negative(&key(&format!("values[{i}]")), *v)?;
            }
            require(
                &key("values"),
                "empty",
                !values.is_empty(),
                "at least one number of seconds",
            )
        }
    }
}

fn points(at: &str, points: &[(f64, f64)]) -> Checked {
    for (i, (t, value)) in points.iter().enumerate() {
        finite(&format!("{at}[{i}][0]"), *t)?;
        not_negative(&format!("{at}[{i}][1]"), *value)?;
        require(
            &format!("{at}[{i}][0]"),
            t,
            i == 0 || points[i - 1].0 <= *t,
            "times in ascending order",
        )?;
    }
    Ok(())
}

fn span(at: &str, from: f64, to: f64) -> Checked {
    not_negative(&format!("{at}.from"), from)?;
    require(
        &format!("{at}.to"),
        to,
        to.is_finite() && to >= from,
        "a time that is not before from",
    )
}

fn share(key: &str, value: f64) -> Checked {
    require(
        key,
        value,
        (0.0..=1.0).contains(&value),
        "a share from 0 to 1",
    )
}

fn above_zero(key: &str, value: f64) -> Checked {
    require(
        key,
        value,
        value.is_finite() && value > 0.0,
        "a number above zero",
    )
}

fn not_negative(key: &str, value: f64) -> Checked {
    require(
        key,
        value,
        value.is_finite() && value >= 0.0,
        "a number that is not negative",
    )
}

fn finite(key: &str, value: f64) -> Checked {
    require(key, value, value.is_finite(), "a number")
}

fn text(key: &str, value: &str) -> Checked {
    require(key, "empty", !value.is_empty(), "a name")
}

fn require(
    key: &str,
    value: impl std::fmt::Display,
    holds: bool,
    instead: &'static str,
) -> Checked {
    if holds {
        return Ok(());
    }
    Err(Unusable::BadValue {
        key: key.to_owned(),
        value: value.to_string(),
        instead,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
name: good
duration: 100
target: {maxWait: 10}
pods: {min: 1, max: 5, slots: 2, start: {dist: lognormal, mean: 20, cv: 0.3}}
outages: [{from: 10, to: 20, kind: queue}]
types:
  - name: a
    service: {dist: exp, mean: 2}
    slotCap: 1
    rateLimit: {count: 3, window: 60}
    fail: {share: 0.3, service: {dist: const, value: 0.1}, retries: 2, retryDelay: 60}
    arrivals:
      - {kind: mmpp, from: 0, to: 90, rates: [1, 5], holds: [10, 20]}
      - {kind: piecewise, points: [[0, 1], [50, 2]], delay: {dist: uniform, min: 1, max: 3}}
";

    /// What is said of the good file with one thing changed.
    fn said(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "{from}");
        Scenario::read(&GOOD.replacen(from, to, 1))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_good_file_is_read_with_its_defaults() {
        let s = Scenario::read(GOOD).unwrap();
        assert_eq!((s.seed, s.pods.initial, s.metric_lag), (1, 0, 0.0));
        assert_eq!((s.poll.min, s.poll.max, s.pods.grace), (0.0, 0.1, 30.0));
        assert_eq!(
            (s.server.response_timeout, s.server.retry_delay),
            (600.0, 60.0)
        );
    }

    #[test]
    fn a_trace_may_be_long() {
        let times: Vec<String> = (0..300_000)
            .map(|n| format!("{}", f64::from(n) / 1e4))
            .collect();
        let trace = format!(
            "arrivals:\n      - {{kind: trace, times: [{}]}}",
            times.join(", ")
        );
        let s = Scenario::read(&GOOD.replacen("arrivals:", &trace, 1)).unwrap();
        assert_eq!(s.types[0].arrivals.len(), 3);
    }

    #[test]
    fn unknown_keys_are_named_with_what_is_allowed() {
        for (from, to, key, allowed) in [
            ("duration:", "lenght: 3\nduration:", "lenght", "duration"),
            ("{maxWait: 10}", "{maxWait: 10, p99: 3}", "p99", "maxWait"),
            ("slots: 2", "slots: 2, slot: 2", "slot", "startScale"),
            ("cv: 0.3", "cv: 0.3, sd: 1", "sd", "cv"),
            ("holds: [10", "hold: 1, holds: [10", "hold", "rates"),
            ("kind: mmpp", "kind: mmmpp", "mmmpp", "sawtooth"),
            ("dist: exp", "dist: expo", "expo", "lognormal"),
            ("kind: queue", "kind: que", "que", "server"),
            ("slotCap", "slotcap", "slotcap", "slotCap"),
        ] {
            let said = said(from, to);
            assert!(said.contains(key) && said.contains(allowed), "{to}: {said}");
        }
    }

    #[test]
    fn bad_values_are_told_what_to_write() {
        for (from, to, told) in [
            (
                "duration: 100",
                "duration: 0",
                "duration is 0; write a number above zero",
            ),
            ("min: 1", "min: 6", "pods.min is 6; write at most pods.max"),
            ("slots: 2", "slots: 0", "pods.slots is 0; write 1 to 100000"),
            ("mean: 20", "mean: -1", "pods.start.mean is -1"),
            (
                "to: 20",
                "to: 5",
                "outages[0].to is 5; write a time that is not before from",
            ),
            (
                "share: 0.3",
                "share: 3",
                "types[0].fail.share is 3; write a share",
            ),
            (
                "slotCap: 1",
                "slotCap: 0",
                "types[0].slotCap is 0; write 1 or more",
            ),
            (
                "holds: [10, 20]",
                "holds: [10]",
                "types[0].arrivals[0].holds is 1 numbers",
            ),
            (
                "[50, 2]",
                "[-1, 2]",
                "arrivals[1].points[1][0] is -1; write times in ascending",
            ),
            (
                "rates: [1, 5]",
                "rates: [1, 5.0e+9]",
                "at most 100 million tasks",
            ),
            (
                "min: 1, max: 3",
                "min: 4, max: 3",
                "arrivals[1].delay.max is 3",
            ),
        ] {
            let said = said(from, to);
            assert!(said.contains(told), "{to}: {said}");
        }
    }
}
