//! When a report is sent again, and when it is given up.

use super::*;

const RETRYABLE: Kind = Kind::Retryable { after: None };

fn failure(kind: Kind, status: Option<u16>, doubtful: bool) -> Failure {
    Failure {
        kind,
        status,
        doubtful,
        token: status == Some(401),
    }
}

fn letter() -> Letter {
    Letter::new(crate::record::tests::report("a"), None)
}

fn seen(answered: u64, worked: u64) -> Seen {
    Seen {
        answered,
        worked,
        taken: 0,
    }
}

#[test]
fn what_follows_a_failure() {
    let again = |millis| Next::Again(Duration::from_millis(millis));
    let retryable = RETRYABLE;
    let asked = Kind::Retryable {
        after: Some(Duration::from_secs(7)),
    };
    let away = Next::Away(None);
    let rows = [
        (retryable, None, false, 1, away),
        (retryable, Some(500), false, 99, away),
        (retryable, Some(404), true, 99, away),
        (retryable, Some(200), true, 99, away),
        (
            asked,
            Some(503),
            false,
            1,
            Next::Away(Some(Duration::from_secs(7))),
        ),
        (
            Kind::Unauthorized,
            Some(401),
            false,
            99,
            Next::Away(Some(UNAUTHORIZED)),
        ),
        (retryable, Some(500), true, 1, again(200)),
        (retryable, Some(500), true, 2, again(400)),
        (retryable, Some(500), true, 19, again(30_000)),
        (retryable, Some(500), true, 20, Next::Instead),
        (retryable, Some(400), true, 19, again(30_000)),
        (retryable, Some(302), true, 20, Next::Instead),
        (Kind::Rejected, Some(400), false, 1, again(200)),
        (Kind::Rejected, Some(400), false, 3, Next::Instead),
        (Kind::Gone, Some(404), false, 1, Next::GiveUp),
    ];
    for (kind, status, doubtful, refusals, expected) in rows {
        assert_eq!(
            next(
                failure(kind, status, doubtful),
                false,
                refusals,
                refusals,
                1.0
            ),
            expected,
            "{kind:?} {status:?} {doubtful} {refusals}"
        );
    }
}

/// With its store away Conductor answers polls, with nothing, and refuses updates.
#[test]
fn empty_polls_do_not_prove_that_a_500_is_the_results_own() {
    let refused = failure(RETRYABLE, Some(500), true);
    let mut letter = letter();
    for polls in 0..1000 {
        let next = letter.next(refused, false, seen(polls, 7), 1.0);
        assert!(matches!(next, Next::Again(_)), "{next:?} after {polls}");
    }
    for work in 8..26 {
        let next = letter.next(refused, false, seen(2000, work), 1.0);
        assert!(matches!(next, Next::Again(_)), "{next:?} after {work}");
    }
    assert_eq!(
        letter.next(refused, false, seen(2000, 26), 1.0),
        Next::Instead
    );
}

/// Conductor's own 4xx is none of an outage: without work for others too it comes to an end.
#[test]
fn empty_polls_prove_that_a_400_is_the_results_own() {
    let refused = failure(Kind::Rejected, Some(400), false);
    let mut letter = letter();
    for polls in 0..2 {
        let next = letter.next(refused, false, seen(polls, 0), 1.0);
        assert!(matches!(next, Next::Again(_)), "{next:?}");
    }
    assert!(matches!(
        letter.next(refused, false, seen(1, 0), 1.0),
        Next::Again(_)
    ));
    assert_eq!(letter.next(refused, false, seen(2, 0), 1.0), Next::Instead);
}

#[test]
fn pauses_grow_while_the_server_does_nothing_else() {
    let mut letter = letter();
    let mut pauses = Vec::new();
    for _ in 0..9 {
        if let Next::Again(pause) =
            letter.next(failure(RETRYABLE, Some(500), true), false, seen(0, 0), 1.0)
        {
            pauses.push(pause.as_millis());
        }
        let away = letter.next(failure(RETRYABLE, None, false), false, seen(0, 0), 1.0);
        assert_eq!(away, Next::Away(None), "and does not make them longer");
    }
    let doubled = [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000];
    assert_eq!(pauses, doubled);
}

#[test]
fn patience_is_a_part_of_the_lease_and_grows_where_it_is_not_enough() {
    // (lease in s, bytes, what the attempts may take in s)
    let rows = [
        (0, 0, [2.0, 4.0, 8.0, 16.0, 30.0, 30.0]),
        (60, 0, [7.5, 15.0, 30.0, 30.0, 30.0, 30.0]),
        (3600, 1000, [10.001, 20.002, 30.0, 30.0, 30.0, 30.0]),
        (16, 10_000_000, [12.0, 24.0, 48.0, 80.0, 80.0, 80.0]),
    ];
    for (lease, bytes, attempts) in rows {
        for (timeouts, seconds) in (0..).zip(attempts) {
            assert_eq!(
                patience(Duration::from_secs(lease), bytes, timeouts),
                Duration::from_secs_f64(seconds),
                "{lease} {bytes} {timeouts}"
            );
        }
    }
    let report = crate::record::tests::report("a");
    assert_eq!(report.bytes(), r#"{"n": 1.50}"#.len() + "line\n".len());
}

/// A 403 of all reports waits for better credentials; that of one keeps no other waiting.
#[test]
fn a_403_of_one_report_does_not_shut_the_gate() {
    let forbidden = failure(Kind::Unauthorized, Some(403), false);
    let token = failure(Kind::Unauthorized, Some(401), false);
    let away = Next::Away(Some(UNAUTHORIZED));
    let before = seen(0, 0);
    let after = Seen { taken: 1, ..before };
    let mut known = letter();
    assert!(!known.is_forbidden_alone(before, || false));
    assert!(known.is_forbidden_alone(after, || false), "by another");
    assert!(known.is_forbidden_alone(before, || false), "from now on");
    let mut known = letter();
    assert!(known.is_forbidden_alone(before, || true), "by the gate");
    assert!(known.is_forbidden_alone(before, || false), "from now on");

    let mut letter = letter();
    assert_eq!(letter.next(forbidden, false, before, 1.0), away);
    for millis in [200, 400, 800] {
        let again = Next::Again(Duration::from_millis(millis));
        assert_eq!(letter.next(forbidden, true, after, 1.0), again);
    }
    assert_eq!(letter.next(token, true, after, 1.0), away);
    for _ in 0..99 {
        let next = letter.next(forbidden, true, after, 1.0);
        assert!(matches!(next, Next::Again(_)), "it is never given up");
    }
}

#[tokio::test]
async fn a_letter_knows_its_ids_when_its_file_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = crate::spool::Spool::open(dir.path(), 1 << 20).unwrap();
    let kept = spool
        .keep(&crate::record::tests::report("a"))
        .await
        .unwrap();
    let left = Letter::left(kept);
    left.report().await.unwrap();
    std::fs::remove_dir_all(dir.path()).unwrap();
    assert!(left.report().await.is_err());
    assert_eq!(left.kept.as_ref().map(Kept::ids), Some(("a", "w")));
}
