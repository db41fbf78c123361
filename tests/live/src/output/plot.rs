//! The plot: a column for each scenario; in it pods and queue over time, and waits by rank.

use std::path::Path;

use anyhow::Result;
use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{
    contender::Contender,
    figures::{pods, waits},
    results::Entry,
};

const SIZE: (u32, u32) = (1500, 980);
const HEAD: u32 = 50;
const FONT: &str = "sans-serif";

fn colour(contender: &str) -> RGBColor {
    match contender {
        "operator" => RGBColor(0, 114, 178),
        "keda" => RGBColor(213, 94, 0),
        "keda-fast" => RGBColor(230, 159, 0),
        _ => RGBColor(120, 120, 120),
    }
}

/// A line: its colour, whether it is measured or only predicted, and its points.
struct Line {
    colour: RGBColor,
    measured: bool,
    points: Vec<(f64, f64)>,
}

/// Lines over one pair of axes.
struct Panel {
    title: String,
    across: &'static str,
    /// A level to compare with.
    level: Option<f64>,
    lines: Vec<Line>,
}

/// Writes the plot as SVG. Scenarios are (name, about).
pub fn draw(scenarios: &[(String, String)], entries: &[Entry], file: &Path) -> Result<()> {
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (head, body) = root.split_vertically(HEAD);
    legend(&head)?;
    let shown: Vec<&(String, String)> = scenarios
        .iter()
        .filter(|(name, _)| entries.iter().any(|e| &e.run.scenario == name))
        .collect();
    let columns = body.split_evenly((1, shown.len().max(1)));
    for (column, (name, _)) in columns.iter().zip(shown) {
        let of: Vec<&Entry> = entries.iter().filter(|e| &e.run.scenario == name).collect();
        for (area, panel) in column.split_evenly((3, 1)).iter().zip(panels(name, &of)) {
            panel.draw(area)?;
        }
    }
    root.present()?;
    Ok(())
}

fn panels(name: &str, entries: &[&Entry]) -> [Panel; 3] {
    let lines = |points: fn(&Entry) -> Vec<(f64, f64)>| {
        let measured = entries.iter().map(|entry| Line {
            colour: colour(&entry.run.contender),
            measured: true,
            points: points(entry),
        });
        measured.collect::<Vec<_>>()
    };
    let predicted = entries.iter().map(|entry| Line {
        colour: colour(&entry.run.contender),
        measured: false,
        points: stairs(&entry.prediction.pods, entry.run.duration),
    });
    let mut over_time = lines(|e| stairs(&pods(&e.run), e.run.duration));
    over_time.extend(predicted);
    [
        Panel {
            title: format!("{name}: pods"),
            across: "s",
            level: None,
            lines: over_time,
        },
        Panel {
            title: format!("{name}: tasks in the queue"),
            across: "s",
            level: None,
            lines: lines(|e| {
                e.run
                    .queue
                    .iter()
                    .map(|(at, n)| (*at, number(*n)))
                    .collect()
            }),
        },
        Panel {
            title: format!("{name}: waits in s, by rank (dotted: what was asked for)"),
            across: "% of the tasks",
            level: entries.first().map(|e| e.run.max_wait),
            lines: lines(|e| ranked(waits(&e.run))),
        },
    ]
}

/// A line that stays level between its steps, from 0 to the end.
fn stairs(steps: &[(f64, u32)], end: f64) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = vec![(0.0, 0.0)];
    for (at, n) in steps {
        let (at, n) = (at.clamp(0.0, end), f64::from(*n));
        let before = points.last().map_or(0.0, |p| p.1);
        points.push((at, before));
        points.push((at, n));
    }
    let last = points.last().map_or(0.0, |p| p.1);
    points.push((end, last));
    points
}

/// At most so many points make a line: more cannot be told apart.
const POINTS: usize = 400;

fn ranked(mut waits: Vec<f64>) -> Vec<(f64, f64)> {
    waits.sort_by(f64::total_cmp);
    let last = waits.len().saturating_sub(1);
    let step = waits.len().div_ceil(POINTS).max(1);
    let shown = |n: &usize| n.is_multiple_of(step) || *n == last;
    let rank = |n: usize| 100.0 * number(n as u64) / number(last.max(1) as u64);
    let ranks = (0..waits.len()).filter(shown);
    ranks.map(|n| (rank(n), waits[n])).collect()
}

fn number(n: u64) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}

fn legend<B: DrawingBackend>(area: &DrawingArea<B, Shift>) -> Result<()>
where
    B::ErrorType: 'static,
{
    let text = (FONT, 15)
        .into_font()
        .color(&BLACK)
        .pos(Pos::new(HPos::Left, VPos::Center));
    let mut x = 40;
    for contender in Contender::ALL {
        let style = colour(contender.name()).stroke_width(3);
        area.draw(&PathElement::new([(x, 25), (x + 30, 25)], style))?;
        area.draw(&Text::new(contender.name(), (x + 38, 25), text.clone()))?;
        x += 150;
    }
    area.draw(&Text::new(
        "thick: measured, thin: simulated",
        (x, 25),
        text,
    ))?;
    Ok(())
}

impl Panel {
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<()>
    where
        B::ErrorType: 'static,
    {
        let points = || self.lines.iter().flat_map(|l| &l.points);
        let right = points().map(|p| p.0).fold(1.0, f64::max);
        let top = points().map(|p| p.1).chain(self.level).fold(1.0, f64::max) * 1.05;
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, (FONT, 15))
            .margin(8)
            .x_label_area_size(36)
            .y_label_area_size(46)
            .build_cartesian_2d(0.0..right, 0.0..top)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_desc(self.across)
            .label_style((FONT, 12))
            .draw()?;
        if let Some(level) = self.level {
            let line = [(0.0, level), (right, level)];
            let dots = DashedLineSeries::new(line, 3, 4, BLACK.stroke_width(1));
            chart.draw_series(dots)?;
        }
        for line in &self.lines {
            let width = if line.measured { 3 } else { 1 };
            let style = line.colour.stroke_width(width);
            chart.draw_series(LineSeries::new(line.points.iter().copied(), style))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_stay_until_the_next_change() {
        let line = stairs(&[(-3.0, 1), (10.0, 4)], 20.0);
        let expected = [
            (0.0, 0.0),
            (0.0, 0.0),
            (0.0, 1.0),
            (10.0, 1.0),
            (10.0, 4.0),
            (20.0, 4.0),
        ];
        assert_eq!(line, expected);
    }

    #[test]
    fn ranks_are_percent() {
        assert_eq!(
            ranked(vec![3.0, 1.0, 2.0]),
            [(0.0, 1.0), (50.0, 2.0), (100.0, 3.0)]
        );
        assert_eq!(ranked(vec![]), []);
        let many = ranked((0..4422_u32).map(f64::from).collect());
        assert!(many.len() <= POINTS, "{}", many.len());
        assert_eq!(many.last(), Some(&(100.0, 4421.0)));
    }

    #[test]
    fn a_plot_of_nothing_is_a_picture_all_the_same() {
        let folder = std::env::temp_dir().join(format!("live-plot-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("plot.svg");
        draw(&[], &[], &file).unwrap();
        let svg = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("keda-fast"));
    }
}
