//! Drawing times.

use rand::distr::Distribution as _;
use rand_distr::{Exp1, StandardNormal};

use crate::{
    random::{Purpose, Stream, stream, unit},
    scenario::Distribution,
};

/// A distribution ready to be drawn from. A list goes on from draw to draw.
#[derive(Debug, Clone)]
pub(crate) enum Sampler {
    Const(f64),
    Uniform {
        min: f64,
        span: f64,
    },
    Exp {
        mean: f64,
    },
    LogNormal {
        mu: f64,
        sigma: f64,
    },
    Pareto {
        min: f64,
        alpha: f64,
        /// 1 − (min/cap)^alpha: the mass that the bound leaves.
        mass: f64,
    },
    Mix {
        /// Cumulative weights.
        upto: Vec<f64>,
        of: Vec<Sampler>,
    },
    List {
        values: Vec<f64>,
        next: usize,
    },
}

impl Sampler {
    pub(crate) fn new(of: &Distribution) -> Self {
        match of {
            Distribution::Const { value } => Self::Const(*value),
            Distribution::Uniform { min, max } => Self::Uniform {
                min: *min,
                span: max - min,
            },
            Distribution::Exp { mean } => Self::Exp { mean: *mean },
            Distribution::LogNormal { mean, cv } => {
                let variance = (cv * cv).ln_1p();
                Self::LogNormal {
                    mu: mean.ln() - variance / 2.0,
                    sigma: variance.sqrt(),
                }
            }
            Distribution::Pareto { min, alpha, cap } => Self::Pareto {
                min: *min,
                alpha: *alpha,
                mass: 1.0 - (min / cap).powf(*alpha),
            },
            Distribution::Mix { parts } => {
                let mut sum = 0.0;
                let upto = parts.iter().map(|p| {
                    sum += p.weight;
                    sum
                });
                Self::Mix {
                    upto: upto.collect(),
                    of: parts.iter().map(|p| Self::new(&p.of)).collect(),
                }
            }
            Distribution::List { values } => Self::List {
                values: values.clone(),
                next: 0,
            },
        }
    }

    pub(crate) fn draw(&mut self, random: &mut Stream) -> f64 {
        match self {
            Self::Const(value) => *value,
            Self::Uniform { min, span } => *min + *span * unit(random),
            Self::Exp { mean } => {
                let x: f64 = Exp1.sample(random);
                *mean * x
            }
            Self::LogNormal { mu, sigma } => {
                let x: f64 = StandardNormal.sample(random);
                (*mu + *sigma * x).exp()
            }
            Self::Pareto { min, alpha, mass } => {
                *min * (1.0 - *mass * unit(random)).powf(-1.0 / *alpha)
            }
            Self::Mix { upto, of } => {
                let at = unit(random) * upto.last().copied().unwrap_or(0.0);
                let part = upto.partition_point(|x| *x <= at).min(of.len() - 1);
                of[part].draw(random)
            }
            Self::List { values, next } => {
                let value = values[*next];
                *next = (*next + 1) % values.len();
                value
            }
        }
    }
}

/// Draws from which [`Figures`] are taken.
const DRAWS: usize = 20_000;

/// What a clairvoyant knows of a distribution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) mean: f64,
    /// The 90th percentile.
    pub(crate) p90: f64,
}

impl Figures {
    /// By drawing, so that it holds for every mix; the same for every seed.
    pub(crate) fn of(distribution: &Distribution) -> Self {
        let mut random = stream(0, Purpose::Quantiles, 0);
        let mut sampler = Sampler::new(distribution);
        let mut drawn: Vec<f64> = (0..DRAWS).map(|_| sampler.draw(&mut random)).collect();
        drawn.sort_by(f64::total_cmp);
        Self {
            mean: drawn.iter().sum::<f64>() / DRAWS as f64,
            p90: drawn[DRAWS * 9 / 10 - 1],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(yaml: &str) -> Figures {
        Figures::of(&serde_saphyr::from_str(yaml).unwrap())
    }

    #[test]
    fn draws_have_the_mean_and_the_percentile_asked_for() {
        for (yaml, mean, p90) in [
            ("{dist: const, value: 3}", 3.0, 3.0),
            ("{dist: uniform, min: 60, max: 120}", 90.0, 114.0),
            ("{dist: exp, mean: 2}", 2.0, 2.0 * 10_f64.ln()),
            // exp(mu + 1.2816 sigma)
            ("{dist: lognormal, mean: 20, cv: 0.3}", 20.0, 27.9),
            // alpha·min/(alpha − 1)·(1 − (min/cap)^(alpha−1))/(1 − (min/cap)^alpha)
            ("{dist: pareto, min: 1, alpha: 2, cap: 100}", 1.9802, 3.16),
            ("{dist: list, values: [1, 2, 3]}", 2.0, 3.0),
            (
                "{dist: mix, parts: [{weight: 3, of: {dist: const, value: 1}}, {weight: 1, of: {dist: const, value: 5}}]}",
                2.0,
                5.0,
            ),
        ] {
            let f = figures(yaml);
            assert!((f.mean / mean - 1.0).abs() < 0.02, "{yaml}: {f:?}");
            assert!((f.p90 / p90 - 1.0).abs() < 0.02, "{yaml}: {f:?}");
        }
    }
}
