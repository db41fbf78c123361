//! What is true whatever happens.

use proptest::{collection::vec, prelude::*};

use super::cluster::{Cluster, Event, Real};

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (1..20u8).prop_map(Event::Pass),
        4 => (0..7u8).prop_map(Event::Want),
        2 => any::<bool>().prop_map(Event::Work),
        1 => Just(Event::Restart),
        1 => (0..7u8).prop_map(Event::Delete),
        1 => (0..9u8, 1..90u8).prop_map(|(i, seconds)| Event::Unreachable(i, seconds)),
        1 => Just(Event::Roll),
        1 => Just(Event::RollBad),
        1 => Just(Event::RollBack),
        1 => (1..40u8).prop_map(Event::Refuse),
        1 => (0..3u8).prop_map(Event::Lag),
    ]
}

/// Nobody interferes, and everything works.
fn quiet_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (1..40u8).prop_map(Event::Pass),
        2 => (0..7u8).prop_map(Event::Want),
        1 => any::<bool>().prop_map(Event::Work),
    ]
}

/// A version that does not work is rolled out, and much else happens. What is written arrives, and
/// there is work: else nobody could tell.
fn bad_rollout_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (1..40u8).prop_map(Event::Pass),
        3 => Just(Event::RollBad),
        2 => Just(Event::RollBack),
        1 => Just(Event::Roll),
        2 => (0..7u8).prop_map(Event::Want),
        1 => Just(Event::Restart),
        1 => (0..7u8).prop_map(Event::Delete),
        1 => (0..3u8).prop_map(Event::Lag),
    ]
}

/// Each case is minutes of a cluster's life; `PROPTEST_CASES` sets another number of them.
fn config() -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 20;
    }
    config
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_pod_is_removed_while_it_works(seed: u64, events in vec(any_event(), 1..60)) {
        let mut cluster = Cluster::new(seed, 3, None);
        cluster.pass(30);
        for event in events {
            cluster.happen(event);
            cluster.pass(1);
        }
        prop_assert_eq!(&cluster.harmed, &Vec::<String>::new());
        prop_assert_eq!(&cluster.wrong, &Vec::<String>::new());

        // In the end, of a version that works, there are as many as are wanted, and nobody is to go or cordoned.
        cluster.happen(Event::RollBack);
        cluster.settle();
        prop_assert_eq!(&cluster.harmed, &Vec::<String>::new());
        let there = cluster.names(|pod| !pod.is_leaving());
        prop_assert_eq!(there.len(), usize::try_from(cluster.want).unwrap(), "{:?}", cluster.pods);
        let at = cluster.at;
        let away = cluster.names(|pod| pod.is_marked() || pod.is_cordoned(at));
        prop_assert!(away.is_empty(), "{:?}", away);
    }

    #[test]
    fn only_those_are_removed_at_work_that_were_waited_for_long_enough(
        seed: u64,
        max_drain in 5..20u64,
        events in vec(any_event(), 1..40),
    ) {
        let mut cluster = Cluster::new(seed, 3, Some(max_drain));
        cluster.pass(30);
        for event in events {
            cluster.happen(event);
            cluster.pass(1);
        }
        cluster.happen(Event::RollBack);
        cluster.settle();
        prop_assert_eq!(&cluster.harmed, &Vec::<String>::new());
        let there = cluster.names(|pod| !pod.is_leaving());
        prop_assert_eq!(there.len(), usize::try_from(cluster.want).unwrap());
    }

    #[test]
    fn no_pod_that_works_is_replaced_by_one_that_does_not(
        seed: u64,
        want in 1..6u32,
        events in vec(bad_rollout_event(), 1..40),
    ) {
        let mut cluster = Cluster::new(seed, want, None);
        cluster.pass(60);
        for event in events {
            cluster.happen(event);
            cluster.pass(1);
        }
        prop_assert_eq!(&cluster.replaced, &Vec::<String>::new());
        prop_assert_eq!(&cluster.harmed, &Vec::<String>::new());
        prop_assert_eq!(&cluster.wrong, &Vec::<String>::new());

        // The old spec is always a way out.
        cluster.happen(Event::RollBack);
        cluster.settle();
        prop_assert_eq!(&cluster.replaced, &Vec::<String>::new());
        let there = cluster.names(|pod| !pod.is_leaving() && !pod.is_bad());
        prop_assert_eq!(there.len(), usize::try_from(cluster.want).unwrap(), "{:?}", cluster.pods);
        prop_assert!(cluster.names(Real::is_bad).is_empty());
        let live = cluster.observed.deployment.as_ref().unwrap();
        prop_assert_eq!((live.paused, &live.stalled_for), (false, &None));
    }

    #[test]
    fn who_is_to_go_changes_only_with_the_number(seed: u64, events in vec(quiet_event(), 1..30)) {
        let mut cluster = Cluster::new(seed, 5, None);
        cluster.pass(30);
        let mut last = (cluster.want, cluster.names(Real::is_marked));
        // Kubernetes may not have taken up the last change when the next comes.
        let (mut raised, mut lowered) = (0, 0);
        for event in events {
            let seconds = if let Event::Pass(seconds) = event { seconds } else { 1 };
            if !matches!(event, Event::Pass(_)) {
                cluster.happen(event);
            }
            for _ in 0..seconds {
                cluster.pass(1);
                let marked = cluster.names(|pod| pod.is_marked() && !pod.is_leaving());
                let there = cluster.names(|pod| !pod.is_leaving());
                if cluster.want > last.0 {
                    raised = cluster.at;
                }
                if cluster.want < last.0 {
                    lowered = cluster.at;
                }
                let back = last.1.difference(&marked).filter(|pod| there.contains(*pod)).count();
                prop_assert!(back == 0 || cluster.at - raised < 15, "{back} came back at {}", cluster.at);
                let new = marked.difference(&last.1).count();
                prop_assert!(new == 0 || cluster.at - lowered < 15, "{new} are to go at {}", cluster.at);
                last = (cluster.want, marked);
            }
        }
        prop_assert_eq!(&cluster.harmed, &Vec::<String>::new());
    }
}
