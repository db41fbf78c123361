//! The same trouble for workers on the Go SDK, as its examples write them and written with care,
//! and for ours.

use anyhow::Result;
use chaos::{
    bars,
    kind::Kind,
    run::Script,
    schedule::{Lengths, arrivals, schedule},
    setting::{Setting, Subject},
};
use live::{load::Job, stage::Stage};

use super::{Form, nobody_noticed, nothing_wrong, whole, worker};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trial {
    /// Nothing goes wrong.
    Undisturbed,
    /// Rolling updates, blind scale-downs and evictions, and all tasks fit the grace period.
    Disturbed,
    /// The same, and of twenty tasks one does not fit.
    SomeLonger,
    /// Nothing goes wrong, and tasks are longer than their lease.
    LongerThanLease,
    /// Conductor is restarted.
    Restart,
}

/// By their names.
pub(crate) const TRIALS: &[(&str, Trial)] = &[
    ("undisturbed", Trial::Undisturbed),
    ("disturbed", Trial::Disturbed),
    ("some_longer", Trial::SomeLonger),
    ("longer_than_lease", Trial::LongerThanLease),
    ("restart", Trial::Restart),
];

const RATE: f64 = 15.0;

/// Longer than all that goes wrong takes.
const LONGEST: f64 = 3600.0;

const FIT: Lengths = Lengths {
    least: 0.05,
    most: 15.0,
};

/// Of the grace period of 30 s.
const DO_NOT_FIT: Lengths = Lengths {
    least: 35.0,
    most: 60.0,
};

/// Measures one subject, and holds ours to what it promises and to its bars.
pub(crate) fn measure(stage: &Stage, form: Form, subject: Subject, trial: Trial) -> Result<()> {
    let setting = Setting {
        subject,
        replicas: 3,
        slots: 60,
        grace: 30,
        lease: if trial == Trial::LongerThanLease {
            10
        } else {
            60
        },
        retries: 3,
        guarded: false,
        ..worker("yardstick")
    };
    let run = whole(stage, setting, script(form.seed, subject, trial))?;
    match trial {
        _ if subject != Subject::Worker => Ok(()),
        Trial::Undisturbed | Trial::LongerThanLease => nobody_noticed(&run),
        // Times are what is measured here, so they decide.
        Trial::Disturbed => {
            nobody_noticed(&run)?;
            bars::beyond(&run.figures)
        }
        Trial::SomeLonger => {
            nothing_wrong(&run)?;
            bars::picked_up(&run.figures)
        }
        Trial::Restart => {
            nothing_wrong(&run)?;
            bars::after_return(&run.figures)
        }
    }
}

fn script(seed: u64, subject: Subject, trial: Trial) -> Script {
    let some = |kind, times, until| schedule(seed, &[kind], times, 5.0, until);
    let everything = [
        some(Kind::Roll, 5, 180.0),
        some(Kind::ScaleToOne, 10, 180.0),
        some(Kind::Evict, 5, 180.0),
    ];
    let few = [
        some(Kind::Roll, 2, 60.0),
        some(Kind::ScaleToOne, 3, 60.0),
        some(Kind::Evict, 3, 60.0),
    ];
    let many = |seconds| arrivals(seed, RATE, seconds, FIT);
    let (jobs, enough, planned) = match trial {
        Trial::Undisturbed => (many(60.0), usize::MAX, vec![]),
        Trial::Disturbed => (many(LONGEST), 3000, everything.concat()),
        Trial::SomeLonger => (some_longer(seed), 480, few.concat()),
        Trial::LongerThanLease => {
            let lengths = Lengths {
                least: 15.0,
                most: 30.0,
            };
            (arrivals(seed, 1.0, 18.0, lengths), usize::MAX, vec![])
        }
        Trial::Restart => (
            many(60.0),
            usize::MAX,
            some(Kind::ConductorRestart, 1, 10.0),
        ),
    };
    let (name, _) = TRIALS[trial as usize];
    Script {
        name: format!("yardstick-{name}-{}", subject.short()),
        seed,
        jobs,
        enough,
        planned,
        hand_backs: trial == Trial::SomeLonger,
    }
}

/// At 4 a second, of twenty tasks one that does not fit.
fn some_longer(seed: u64) -> Vec<Job> {
    let mut jobs = arrivals(seed, 3.8, LONGEST, FIT);
    jobs.extend(arrivals(seed + 1, 0.2, LONGEST, DO_NOT_FIT));
    jobs.sort_by(|a, b| a.at.total_cmp(&b.at));
    jobs
}
