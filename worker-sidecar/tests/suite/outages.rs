//! What waits while Conductor is away goes on when it is back.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use conductor_client::Connection;
use embedded_conductor::Move;
use harness::{Gateway, Handler, Reply, eventually};
use serde_json::json;
use worker_sidecar::config::Config;

use crate::{
    results::{spooled, spools},
    scripted::{Says, Scripted, task},
    setup::{Running, SOON, Setup},
};

/// A sidecar's settings that reach Conductor through a gateway.
async fn through_a_gateway(setup: &Setup) -> Result<(Gateway, Config)> {
    let base = setup.server.base();
    let to = base
        .strip_prefix("http://")
        .and_then(|b| b.split('/').next());
    let gateway = Gateway::start(to.context("an address")?.parse()?).await?;
    let mut config = setup.config()?;
    config.conductor = Connection::new(format!("http://{}/api", gateway.addr()).parse()?);
    Ok((gateway, config))
}

/// Waits until so many looks at the server were not answered.
async fn looked_in_vain(running: &Running, looks: u64) -> Result<()> {
    let labels = ["/tasks/queue/size", "0"];
    eventually("looks in vain", SOON, async || {
        match running.observed("http_api_client_request_seconds", &labels) {
            n if n >= looks => Ok(()),
            n => Err(n),
        }
    })
    .await
}

/// Refused for so long that the pauses between attempts do not get longer any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_of_an_outage_is_sent_when_conductor_is_back() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut setup = Setup::new(|_| Reply::hang()).await?;
    let running = Running::start(spooled(setup.config()?, &dir))?;
    let id = setup.start(1).await?;
    setup.at_work(1).await?;
    let embedded = setup.server.as_embedded_mut().context("embedded")?;
    embedded.go_away().await;
    setup.handler.release();
    eventually(
        "attempts at the longest distance",
        SOON,
        async || match running.counted("task_update_error") {
            n if n >= 8.0 => Ok(()),
            n => Err(n),
        },
    )
    .await?;
    ensure!(running.sidecar.stats().spooled == 1);
    let embedded = setup.server.as_embedded_mut().context("embedded")?;
    embedded.come_back().await?;
    let workflow = setup.server.completed(&id, SOON).await?;
    ensure!(workflow.tasks.len() == 1 && setup.handler.ledger().len() == 1);
    spools(&running, 0).await?;
    running.end().await
}

/// What a machine with two busy cores may take beyond what the sidecar waits for.
const MACHINE: Duration = Duration::from_secs(1);

/// By the clock that the server's journal goes by, in microseconds.
fn now() -> Result<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(i64::try_from(since.as_micros())?)
}

/// How long after that the server has written that a task ended.
async fn ended_after(setup: &Setup, back: i64) -> Result<Duration> {
    let embedded = setup.server.as_embedded().context("embedded")?;
    let mut journal = Vec::new();
    let end = eventually("a task has ended", SOON, async || {
        journal.extend(embedded.take_journal());
        let ended = journal.iter().filter(|moved| moved.what == Move::Ended);
        ended.map(|moved| moved.at).max().ok_or("none")
    })
    .await?;
    let after = u64::try_from(end - back).context("it ended before that")?;
    Ok(Duration::from_micros(after))
}

/// Waits until so many requests to a path have vanished.
async fn lost(gateway: &Gateway, path: &str, requests: usize) -> Result<()> {
    eventually("requests vanish", SOON, async || match gateway.lost(path) {
        n if n >= requests => Ok(()),
        n => Err(n),
    })
    .await
}

/// Packets vanish: an attempt that was in the air then would have ten seconds, and twice as many
/// the next time.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_hangs_is_sent_again_when_conductor_answers() -> Result<()> {
    let setup = Setup::with_journal(|_| Reply::hang()).await?;
    let (gateway, config) = through_a_gateway(&setup).await?;
    let running = Running::start(config)?;
    let id = setup.start(1).await?;
    setup.at_work(1).await?;
    gateway.go_dark();
    setup.handler.release();
    looked_in_vain(&running, 2).await?;
    let attempts = running.counted("task_update_error");
    ensure!(attempts.abs() < f64::EPSILON, "{attempts} have ended");
    gateway.come_back();
    let took = ended_after(&setup, now()?).await?;
    // A look that is lost, and the pause after it: see presence.rs.
    let noticed = Duration::from_millis(850);
    ensure!(took < noticed + MACHINE, "taken {took:?} later");
    let attempts = running.counted("task_update_error");
    ensure!(attempts < 1.5, "{attempts} were sent, and not one");
    let workflow = setup.server.completed(&id, SOON).await?;
    ensure!(workflow.tasks.len() == 1 && setup.handler.ledger().len() == 1);
    running.end().await
}

/// The outage is over before the attempt is thought to hang: nobody has looked meanwhile, and
/// every look is answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_lost_just_before_conductor_answers_is_sent_again_soon() -> Result<()> {
    let setup = Setup::with_journal(|_| Reply::hang()).await?;
    let (gateway, config) = through_a_gateway(&setup).await?;
    let running = Running::start(config)?;
    let id = setup.start(1).await?;
    setup.at_work(1).await?;
    gateway.go_dark();
    setup.handler.release();
    lost(&gateway, "POST /api/tasks ", 1).await?;
    gateway.come_back();
    let took = ended_after(&setup, now()?).await?;
    // It is thought to hang after a second.
    let noticed = Duration::from_secs(1);
    ensure!(took < noticed + MACHINE, "taken {took:?} later");
    let workflow = setup.server.completed(&id, SOON).await?;
    ensure!(workflow.tasks.len() == 1 && setup.handler.ledger().len() == 1);
    running.end().await
}

/// All at once: one probes, and the others follow.
#[tokio::test(flavor = "multi_thread")]
async fn all_results_that_are_lost_just_before_conductor_answers_are_sent_again_soon() -> Result<()>
{
    let setup = Setup::with_journal(|_| Reply::hang()).await?;
    let (gateway, mut config) = through_a_gateway(&setup).await?;
    config.slots = 16;
    let running = Running::start(config)?;
    for n in 0..16 {
        setup.start(n).await?;
    }
    setup.at_work(16).await?;
    gateway.go_dark();
    setup.handler.release();
    lost(&gateway, "POST /api/tasks ", 16).await?;
    gateway.come_back();
    let back = now()?;
    eventually("all are taken", SOON, async || {
        match running.sidecar.in_flight() {
            0 => Ok(()),
            n => Err(n),
        }
    })
    .await?;
    let took = ended_after(&setup, back).await?;
    // The probe's turn comes after a second, theirs after it.
    let noticed = Duration::from_secs(1);
    ensure!(took < noticed + 2 * MACHINE, "taken {took:?} later");
    ensure!(setup.handler.ledger().len() == 16);
    running.end().await
}

/// What a repetition goes out on may lead nowhere as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_repetition_that_hangs_too_is_sent_again() -> Result<()> {
    let handler = Handler::start(|_| Reply::output(json!({}))).await?;
    let updates = AtomicUsize::new(0);
    let server = Scripted::start(vec![task("i", 3600)], move |sent| match &*sent.path {
        "tasks" if updates.fetch_add(1, Ordering::SeqCst) < 2 => {
            Says::Late(10 * SOON, Box::new(Says::Taken))
        }
        "tasks" => Says::Taken,
        _ => Says::Json(json!(0)),
    })
    .await?;
    let running = Running::start(server.config(handler.port())?)?;
    eventually("taken", SOON, async || {
        match (server.sent("tasks").len(), running.sidecar.in_flight()) {
            (3, 0) => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    })
    .await?;
    let at: Vec<_> = server.sent("tasks").iter().map(|sent| sent.at).collect();
    let (first, second) = (at[1] - at[0], at[2] - at[1]);
    // Twice as long: a server that is slow gets all the time that it needs in the end. Without
    // that an attempt has ten seconds.
    ensure!(
        first >= Duration::from_secs(1) && second >= Duration::from_secs(2),
        "after {first:?} and {second:?}"
    );
    ensure!(first + second < Duration::from_secs(3) + 2 * MACHINE);
    running.end().await
}

/// One that is slow with updates, and with nothing else, is not made slower.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_slow_with_results_gets_them_once_but_for_a_probe() -> Result<()> {
    const TASKS: usize = 8;
    let handler = Handler::start(|_| Reply::hang()).await?;
    let tasks = (0..TASKS).map(|n| task(&format!("i{n}"), 3600)).collect();
    let slow = Duration::from_millis(2500);
    let server = Scripted::start(tasks, move |sent| match &*sent.path {
        "tasks" => Says::Late(slow, Box::new(Says::Taken)),
        _ => Says::Json(json!(0)),
    })
    .await?;
    let mut config = server.config(handler.port())?;
    config.slots = TASKS;
    let running = Running::start(config)?;
    eventually("all are at work", SOON, async || match handler.running() {
        TASKS => Ok(()),
        n => Err(n),
    })
    .await?;
    handler.release();
    eventually("taken", SOON, async || {
        match (server.sent("tasks").len(), running.sidecar.in_flight()) {
            (TASKS.., 0) => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    })
    .await?;
    // The probe is itself cut once more: see letter.rs. There may be another on a busy machine.
    let sent = server.sent("tasks").len();
    ensure!(sent <= TASKS + 4, "{sent} for {TASKS} tasks");
    running.end().await
}

/// How long after it was queued a poll has brought the last task.
fn waited(setup: &Setup) -> Result<Duration> {
    let embedded = setup.server.as_embedded().context("embedded")?;
    let journal = embedded.take_journal();
    let last = |what| {
        let moves = journal.iter().rev().find(|moved| moved.what == what);
        moves.map(|moved| moved.at).context("in the journal")
    };
    let waited = last(Move::Given)? - last(Move::Queued)?;
    Ok(Duration::from_micros(u64::try_from(waited)?))
}

/// A sidecar behind a gateway whose polls are overdue 2.3 s after they were sent: it has done a
/// task, and then it got dark.
async fn polling_in_the_dark() -> Result<(Setup, Gateway, Running)> {
    let setup = Setup::with_journal(|_| Reply::output(json!({}))).await?;
    let (gateway, mut config) = through_a_gateway(&setup).await?;
    // Long polls take a third of it, and those that are lost do not end before it does.
    config.grace = Duration::from_secs(1);
    let running = Running::start(config)?;
    let id = setup.start(1).await?;
    setup.server.completed(&id, SOON).await?;
    gateway.go_dark();
    Ok((setup, gateway, running))
}

/// Overdue polls are awaited, a few of them; those that lead nowhere do not count for ever.
#[tokio::test(flavor = "multi_thread")]
async fn polls_that_lead_nowhere_do_not_keep_others_back_when_conductor_answers() -> Result<()> {
    let (setup, gateway, running) = polling_in_the_dark().await?;
    // Only when no more polls are sent is the server looked for.
    looked_in_vain(&running, 1).await?;
    gateway.come_back();
    let id = setup.start(2).await?;
    setup.server.completed(&id, SOON).await?;
    let waited = waited(&setup)?;
    let noticed = Duration::from_millis(850);
    ensure!(waited < noticed + MACHINE, "polled after {waited:?}");
    running.end().await
}

/// The outage is over before the last of them is overdue: every look is answered.
#[tokio::test(flavor = "multi_thread")]
async fn polls_that_are_lost_just_before_conductor_answers_do_not_keep_others_back() -> Result<()> {
    let (setup, gateway, running) = polling_in_the_dark().await?;
    // The first was in the air before.
    lost(&gateway, "/tasks/poll/", 3).await?;
    eventually("four are in the air", SOON, async || {
        match running.sidecar.stats().polls_in_flight {
            4 => Ok(()),
            n => Err(n),
        }
    })
    .await?;
    gateway.come_back();
    let id = setup.start(2).await?;
    setup.server.completed(&id, SOON).await?;
    let waited = waited(&setup)?;
    // The last one is overdue before the server is looked for.
    let overdue = Duration::from_millis(2400);
    ensure!(waited < overdue + MACHINE, "polled after {waited:?}");
    // None of the lost ones has to end for that.
    ensure!(running.sidecar.stats().polls_in_flight >= 4);
    running.end().await
}
