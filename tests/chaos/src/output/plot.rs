//! The timeline of a run: what went wrong, the pods, the work, and what was repeated.

use std::path::Path;

use anyhow::Result;
use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{
    checker::Fate,
    kind::{Event, May},
    run::Run,
};

const FONT: &str = "sans-serif";
const WIDTH: u32 = 1500;
/// Of a line of the upper two panels.
const ROW: u32 = 16;
const LEFT: u32 = 230;
const WORK: u32 = 260;

const HARMLESS: RGBColor = RGBColor(0, 158, 115);
const HARMFUL: RGBColor = RGBColor(213, 94, 0);
const STARTING: RGBColor = RGBColor(200, 200, 200);
const WORKING: RGBColor = RGBColor(0, 114, 178);
const LEAVING: RGBColor = RGBColor(230, 159, 0);

/// Writes it as SVG.
pub fn draw(run: &Run, file: &Path) -> Result<()> {
    let mut events: Vec<&Event> = run.account.events.iter().collect();
    events.sort_by(|a, b| a.from.total_cmp(&b.from));
    // Those of an earlier run may have been there before this one began.
    let pods = run.account.log.pods.iter();
    let pods = pods.filter(|pod| pod.gone.is_none_or(|gone| gone > 0.0));
    let pods: Vec<Row> = pods.map(|pod| life(pod, run.seconds)).collect();
    let heights = [height(events.len()), height(pods.len())];
    let size = (WIDTH, heights[0] + heights[1] + WORK);
    let root = SVGBackend::new(file, size).into_drawing_area();
    root.fill(&WHITE)?;
    let (above, rest) = root.split_vertically(heights[0]);
    let (middle, below) = rest.split_vertically(heights[1]);
    let title = format!(
        "{}, {}: what went wrong (orange: may cost a task a retry)",
        run.name, run.subject
    );
    let bars = events.iter().map(|event| Row {
        name: event.kind.name().to_owned(),
        bars: vec![(event.from, event.to, colour(event))],
    });
    rows(&above, &title, run.seconds, &bars.collect::<Vec<_>>())?;
    rows(
        &middle,
        "pods (grey: starting, blue: ready, yellow: told to end)",
        run.seconds,
        &pods,
    )?;
    work(&below, run)?;
    root.present()?;
    Ok(())
}

fn height(rows: usize) -> u32 {
    50 + ROW * u32::try_from(rows.max(1)).unwrap_or(u32::MAX / ROW - 50)
}

fn colour(event: &Event) -> RGBColor {
    if event.kind.may() == May::Nothing {
        HARMLESS
    } else {
        HARMFUL
    }
}

/// A line with bars, each from when to when.
struct Row {
    name: String,
    bars: Vec<(f64, f64, RGBColor)>,
}

fn life(pod: &live::watch::PodSeen, end: f64) -> Row {
    let gone = pod.gone.unwrap_or(end);
    let leaving = pod.leaving.unwrap_or(gone);
    let ready = pod.ready.unwrap_or(leaving).min(leaving);
    Row {
        name: pod.name.clone(),
        bars: vec![
            (pod.created, ready, STARTING),
            (ready, leaving, WORKING),
            (leaving, gone, LEAVING),
        ],
    }
}

fn rows<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    title: &str,
    end: f64,
    rows: &[Row],
) -> Result<()>
where
    B::ErrorType: 'static,
{
    let below = f64::from(u32::try_from(rows.len().max(1))?);
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 15))
        .margin_right(10)
        .x_label_area_size(0)
        .y_label_area_size(LEFT)
        // The first on top.
        .build_cartesian_2d(0.0..end, below..0.0)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .light_line_style(WHITE)
        .draw()?;
    let right = Pos::new(HPos::Right, VPos::Center);
    let words = (FONT, 11).into_font().color(&BLACK).pos(right);
    for (n, row) in (0_u32..).zip(rows) {
        let top = f64::from(n);
        let bars = row.bars.iter().filter(|(from, to, _)| to >= from);
        chart.draw_series(bars.map(|(from, to, colour)| {
            // What is over at once is to be seen all the same.
            let to = to.max(from + end / 1000.0).min(end);
            Rectangle::new(
                [(from.max(0.0), top + 0.15), (to, top + 0.85)],
                colour.filled(),
            )
        }))?;
        let at = chart.backend_coord(&(0.0, top + 0.5));
        let (x, y) = area.get_base_pixel();
        area.draw(&Text::new(
            row.name.clone(),
            (at.0 - x - 6, at.1 - y),
            words.clone(),
        ))?;
    }
    Ok(())
}

/// Workflows under way, and the moments at which something was repeated or lost.
fn work<B: DrawingBackend>(area: &DrawingArea<B, Shift>, run: &Run) -> Result<()>
where
    B::ErrorType: 'static,
{
    let open = under_way(run);
    let top = open.iter().map(|p| p.1).fold(1.0, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .caption(
            "workflows under way; dots: tried or executed again (orange), lost or without a reason (red)",
            (FONT, 15),
        )
        .margin_right(10)
        .x_label_area_size(36)
        .y_label_area_size(LEFT)
        .build_cartesian_2d(0.0..run.seconds, 0.0..top)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("s")
        .label_style((FONT, 12))
        .draw()?;
    chart.draw_series(LineSeries::new(open, WORKING.stroke_width(2)))?;
    let dots = run.account.stories.iter().filter_map(|story| {
        let colour = match run.account.fate(story) {
            Fate::Once => return None,
            Fate::Again(reasons) if reasons.iter().all(Option::is_some) => HARMFUL,
            Fate::Again(_) | Fate::Lost => RED,
        };
        let at = story.attempts.first().and_then(|a| a.ended.or(a.started));
        Some((at.unwrap_or(story.created), colour))
    });
    chart
        .draw_series(dots.map(|(at, colour)| Circle::new((at, top * 0.05), 3, colour.filled())))?;
    Ok(())
}

/// How many are, whenever that changes.
fn under_way(run: &Run) -> Vec<(f64, f64)> {
    let mut changes = Vec::new();
    for story in &run.account.stories {
        changes.push((story.created, 1.0));
        changes.extend(story.ended.map(|ended| (ended, -1.0)));
    }
    changes.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut now = 0.0;
    let count = |(at, change): (f64, f64)| {
        now += change;
        (at, now)
    };
    changes.into_iter().map(count).collect()
}

#[cfg(test)]
mod tests {
    use conductor_client::WorkflowStatus;
    use live::watch::{Log, PodSeen};

    use super::*;
    use crate::{
        checker::{Account, Figures, Story},
        kind::Kind,
    };

    fn run() -> Run {
        let story = |created, ended| Story {
            workflow: "w".to_owned(),
            status: WorkflowStatus::Completed,
            takes: 1.0,
            created,
            ended,
            attempts: vec![],
        };
        Run {
            name: "storm".to_owned(),
            subject: "ConductorWorker".to_owned(),
            seed: 1,
            seconds: 60.0,
            account: Account {
                events: vec![Event {
                    kind: Kind::Evict,
                    pods: vec![],
                    from: 3.0,
                    to: 3.0,
                }],
                stories: vec![story(1.0, Some(4.0)), story(2.0, None)],
                log: Log {
                    pods: vec![PodSeen {
                        name: "pod-a".to_owned(),
                        created: -2.0,
                        ready: Some(1.0),
                        leaving: None,
                        gone: None,
                    }],
                    replicas: vec![],
                },
                ..Account::default()
            },
            figures: Figures::default(),
            wrong: vec![],
        }
    }

    #[test]
    fn workflows_are_under_way_from_their_start_to_their_end() {
        assert_eq!(under_way(&run()), [(1.0, 1.0), (2.0, 2.0), (4.0, 1.0)]);
    }

    #[test]
    fn everything_is_named() {
        let file = std::env::temp_dir().join(format!("chaos-plot-{}.svg", std::process::id()));
        draw(&run(), &file).unwrap();
        let svg = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        for name in ["pod evicted", "pod-a", "workflows under way"] {
            assert!(svg.contains(name), "no {name}");
        }
    }
}
