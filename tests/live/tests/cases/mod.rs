//! The cases, in their order.

use cluster::Case;
use live::{contender::Contender, stage::Stage};

mod compare;
mod outage;

pub(crate) fn all() -> Vec<Case<Stage>> {
    let mut cases: Vec<Case<Stage>> = vec![
        (
            "queue_sizes_away_at_load".to_owned(),
            Box::new(outage::at_load),
        ),
        (
            "queue_sizes_away_at_zero".to_owned(),
            Box::new(outage::at_zero),
        ),
    ];
    for (name, text) in compare::SCENARIOS {
        for contender in Contender::ALL {
            cases.push((
                format!("{name}::{}", contender.name()),
                Box::new(move |stage: &Stage| compare::run(stage, text, contender)),
            ));
        }
    }
    cases
}
