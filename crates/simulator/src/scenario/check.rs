//! Values that a scenario cannot have, and what to write instead.

use super::{Arrivals, Distribution, Scenario, TaskType};

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

/// More tasks than this from one process would not fit into memory.
const MOST_TASKS: f64 = 1e8;

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

impl Arrivals {
    fn check(&self, at: &str) -> Checked {
        let key = |name: &str| format!("{at}.{name}");
        let (mut seconds, mut rate) = (0.0, 0.0);
        match self {
            Self::Burst { at, spread, .. } => {
                not_negative(&key("at"), *at)?;
                not_negative(&key("spread"), *spread)?;
            }
            Self::Poisson {
                from, to, rate: r, ..
            } => {
                span(at, *from, *to)?;
                not_negative(&key("rate"), *r)?;
                (seconds, rate) = (to - from, *r);
            }
            Self::Regular {
                from, to, interval, ..
            } => {
                span(at, *from, *to)?;
                above_zero(&key("interval"), *interval)?;
                (seconds, rate) = (to - from, 1.0 / interval);
            }
            Self::Sine {
                from,
                to,
                mean,
                amplitude,
                period,
                phase,
                ..
            } => {
                span(at, *from, *to)?;
                finite(&key("mean"), *mean)?;
                finite(&key("amplitude"), *amplitude)?;
                above_zero(&key("period"), *period)?;
                finite(&key("phase"), *phase)?;
                (seconds, rate) = (to - from, mean + amplitude.abs());
            }
            Self::Sawtooth {
                from,
                to,
                low,
                high,
                period,
                ..
            } => {
                span(at, *from, *to)?;
                not_negative(&key("low"), *low)?;
                not_negative(&key("high"), *high)?;
                above_zero(&key("period"), *period)?;
                (seconds, rate) = (to - from, low.max(*high));
            }
            Self::Square {
                from,
                to,
                low,
                high,
                period,
                duty,
                ..
            } => {
                span(at, *from, *to)?;
                not_negative(&key("low"), *low)?;
                not_negative(&key("high"), *high)?;
                above_zero(&key("period"), *period)?;
                share(&key("duty"), *duty)?;
                (seconds, rate) = (to - from, low.max(*high));
            }
            Self::Piecewise { points: list, .. } => {
                points(&key("points"), list)?;
                if let (Some(first), Some(last)) = (list.first(), list.last()) {
                    seconds = last.0 - first.0;
                    rate = list.iter().map(|p| p.1).fold(0.0, f64::max);
                }
            }
            Self::Mmpp {
                from,
                to,
                rates,
                holds,
                ..
            } => {
                span(at, *from, *to)?;
                require(
                    &key("holds"),
                    format!("{} numbers", holds.len()),
                    !rates.is_empty() && holds.len() == rates.len(),
                    "as many holds as rates, at least one",
                )?;
                for (i, r) in rates.iter().enumerate() {
                    not_negative(&key(&format!("rates[{i}]")), *r)?;
                }
                for (i, h) in holds.iter().enumerate() {
                    above_zero(&key(&format!("holds[{i}]")), *h)?;
                }
                (seconds, rate) = (to - from, rates.iter().copied().fold(0.0, f64::max));
            }
            Self::Trace { times, .. } => {
                for (i, t) in times.iter().enumerate() {
                    not_negative(&key(&format!("times[{i}]")), *t)?;
                }
            }
        }
        require(
            at,
            format!("about {:.0} tasks", seconds * rate),
            seconds * rate <= MOST_TASKS,
            "a rate and a span of at most 100 million tasks",
        )?;
        match self.delay() {
            Some(delay) => distribution(&key("delay"), delay),
            None => Ok(()),
        }
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

fn require(key: &str, value: impl ToString, holds: bool, instead: &'static str) -> Checked {
    if holds {
        return Ok(());
    }
    Err(Unusable::BadValue {
        key: key.to_owned(),
        value: value.to_string(),
        instead,
    })
}
