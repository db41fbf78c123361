//! Runs over time: queue, wait and running tasks of all policies, then the pods of each.

use std::path::Path;

use anyhow::{Result, bail};
use plotters::{coord::Shift, prelude::*};
use simulator::{Moment, Ran};

use super::Done;

const WIDTH: u32 = 1100;
const TITLE: u32 = 64;
const PANEL: u32 = 200;
const PODS: u32 = 150;
const FONT: &str = "sans-serif";

/// Okabe and Ito's colours, which colour-blind people can tell apart.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(150, 150, 150),
];
const GOAL: RGBColor = RGBColor(90, 90, 90);

/// Writes the plot of one file's runs as SVG.
pub(super) fn draw(done: &Done, file: &Path) -> Result<()> {
    let runs: Vec<Run> = done
        .ran
        .iter()
        .zip(COLOURS.iter().cycle())
        .filter_map(Run::new)
        .collect();
    if runs.is_empty() {
        bail!("no run was followed");
    }
    let count = u32::try_from(runs.len())?;
    let size = (WIDTH, TITLE + 3 * PANEL + count * PODS);
    let root = SVGBackend::new(file, size).into_drawing_area();
    root.fill(&WHITE)?;
    let (title, rest) = root.split_vertically(TITLE);
    draw_title(&title, done, &runs)?;

    let goal = done.scenario.target.max_wait;
    let lines = [
        Lines {
            title: "tasks that wait",
            of: |m| from_u64(m.queue),
            most: None,
            goal: None,
        },
        Lines {
            title: "longest wait of those, s (dashed: maxWait; cut off at four times that)",
            of: |m| m.wait,
            most: Some(4.0 * goal),
            goal: Some(goal),
        },
        Lines {
            title: "tasks that run",
            of: |m| f64::from(m.running),
            most: None,
            goal: None,
        },
    ];
    let mut rest = rest;
    for lines in lines {
        let (area, below) = rest.split_vertically(PANEL);
        lines.draw(&area, &runs, done.scenario.duration)?;
        rest = below;
    }
    let most = runs.iter().flat_map(|r| r.moments).map(most_pods).max();
    let most = most.unwrap_or(0).max(1);
    for run in &runs {
        let (area, below) = rest.split_vertically(PODS);
        run.draw_pods(&area, done.scenario.duration, most)?;
        rest = below;
    }
    root.present()?;
    Ok(())
}

/// What is simulated, and the colour of each policy.
fn draw_title<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    done: &Done,
    runs: &[Run<'_>],
) -> Result<()>
where
    B::ErrorType: 'static,
{
    let about = done.scenario.about.trim().trim_end_matches('.');
    let what = format!("{}: {about}", done.scenario.name);
    area.draw(&Text::new(what, (12, 10), (FONT, 17).into_font()))?;
    let mut x = 12;
    for run in runs {
        area.draw(&Rectangle::new(
            [(x, 41), (x + 18, 51)],
            run.colour.filled(),
        ))?;
        area.draw(&Text::new(run.name, (x + 24, 39), (FONT, 14).into_font()))?;
        x += 60 + 8 * i32::try_from(run.name.len())?;
    }
    Ok(())
}

fn most_pods(m: &Moment) -> u32 {
    m.desired.max(m.ready + m.leaving)
}

/// One policy's run and its colour.
struct Run<'a> {
    name: &'static str,
    colour: RGBColor,
    moments: &'a [Moment],
}

impl<'a> Run<'a> {
    fn new((ran, colour): (&'a Ran, &RGBColor)) -> Option<Self> {
        Some(Self {
            name: ran.policy.as_str(),
            colour: *colour,
            moments: ran.trace.as_ref()?.moments(),
        })
    }

    /// Pods that are ready as an area, leaving ones on top of them in a lighter tone, and the
    /// number asked for as a line.
    fn draw_pods<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        duration: f64,
        most: u32,
    ) -> Result<()>
    where
        B::ErrorType: 'static,
    {
        let title = format!(
            "{}: pods ready, leaving (light) and asked for (line)",
            self.name
        );
        let mut chart = ChartBuilder::on(area)
            .caption(title, (FONT, 14))
            .margin_right(40)
            .x_label_area_size(22)
            .y_label_area_size(52)
            .build_cartesian_2d(0.0..duration / 60.0, 0.0..f64::from(most) * 1.08)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .y_labels(4)
            .x_label_formatter(&minutes)
            .y_label_formatter(&count)
            .label_style((FONT, 12))
            .draw()?;
        let areas = [
            (0.3, self.steps(|m| f64::from(m.ready + m.leaving))),
            (0.75, self.steps(|m| f64::from(m.ready))),
        ];
        for (strength, points) in areas {
            chart.draw_series(AreaSeries::new(points, 0.0, self.colour.mix(strength)))?;
        }
        let desired = self.steps(|m| f64::from(m.desired));
        chart.draw_series(LineSeries::new(desired, BLACK.stroke_width(1)))?;
        Ok(())
    }

    /// A value holds until the next moment.
    fn steps(&self, of: impl Fn(&Moment) -> f64) -> Vec<(f64, f64)> {
        let mut points: Vec<(f64, f64)> = Vec::with_capacity(2 * self.moments.len());
        for moment in self.moments {
            let at = moment.at / 60.0;
            if let Some((_, before)) = points.last().copied() {
                points.push((at, before));
            }
            points.push((at, of(moment)));
        }
        corners(&points)
    }
}

/// Leaves out what lies between two equal values: the line is the same, the file smaller.
fn corners(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let value = |i: usize| points.get(i).map(|(_, y)| *y);
    let is_between = |i: usize| i > 0 && value(i - 1) == value(i) && value(i) == value(i + 1);
    let kept = (0..points.len()).filter(|i| !is_between(*i));
    kept.map(|i| points[i]).collect()
}

/// A panel with a line for each policy.
struct Lines {
    title: &'static str,
    of: fn(&Moment) -> f64,
    /// Where the panel ends, whatever comes above.
    most: Option<f64>,
    /// A line to compare with.
    goal: Option<f64>,
}

impl Lines {
    fn draw<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        runs: &[Run<'_>],
        duration: f64,
    ) -> Result<()>
    where
        B::ErrorType: 'static,
    {
        let values = runs.iter().flat_map(|r| r.moments).map(self.of);
        let most = values.fold(self.goal.unwrap_or(1.0) * 1.2, f64::max);
        let most = most.min(self.most.unwrap_or(f64::INFINITY));
        let minutes_in_all = duration / 60.0;
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, (FONT, 14))
            .margin_right(40)
            .x_label_area_size(22)
            .y_label_area_size(52)
            .build_cartesian_2d(0.0..minutes_in_all, 0.0..most * 1.05)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .y_labels(5)
            .x_label_formatter(&minutes)
            .y_label_formatter(&count)
            .label_style((FONT, 12))
            .draw()?;
        if let Some(goal) = self.goal {
            let ends = [(0.0, goal), (minutes_in_all, goal)];
            chart.draw_series(DashedLineSeries::new(ends, 6, 4, GOAL.stroke_width(1)))?;
        }
        for run in runs {
            let points = run.moments.iter();
            let points = points.map(|m| (m.at / 60.0, (self.of)(m).min(most)));
            let points = corners(&points.collect::<Vec<_>>());
            chart.draw_series(LineSeries::new(points, run.colour.stroke_width(2)))?;
        }
        Ok(())
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as plotters calls it")]
fn minutes(x: &f64) -> String {
    format!("{x:.0} min")
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as plotters calls it")]
fn count(y: &f64) -> String {
    if *y < 10.0 && y.fract() != 0.0 {
        format!("{y:.1}")
    } else {
        format!("{y:.0}")
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a queue beyond 2^53 is only huge"
)]
fn from_u64(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use simulator::{Name, Options, Scenario, Study};

    use super::*;

    #[test]
    fn a_plot_names_each_policy_and_the_goal() {
        let scenario = Scenario::read(
            "
name: two
about: Tasks.
duration: 600
target: {maxWait: 30}
pods: {max: 9, slots: 1, start: {dist: const, value: 10}}
types:
  - name: t
    service: {dist: const, value: 10}
    arrivals: [{kind: burst, at: 60, count: 40}]
",
        )
        .unwrap();
        let options = Options {
            moments: Some(100),
            ..Options::default()
        };
        let study = Study::new(scenario.clone(), options);
        let done = Done {
            ran: study.run(&[Name::Ours, Name::Keda], None),
            scenario,
            seed: 1,
        };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("out.svg");
        draw(&done, &file).unwrap();
        let svg = std::fs::read_to_string(&file).unwrap();
        for words in [
            "two: Tasks",
            "ours",
            "keda-hpa",
            "maxWait",
            "tasks that run",
        ] {
            assert!(svg.contains(words), "{words}");
        }
        assert!(svg.matches("<polyline").count() > 6);
    }

    #[test]
    fn a_line_is_drawn_by_its_corners() {
        let points = [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (3.0, 5.0), (4.0, 1.0)];
        let kept: Vec<f64> = corners(&points).iter().map(|(x, _)| *x).collect();
        assert_eq!(kept, [0.0, 2.0, 3.0, 4.0]);
        assert!(corners(&[]).is_empty());
    }

    #[test]
    fn a_run_that_was_not_followed_is_an_error() {
        let done = Done {
            ran: Vec::new(),
            scenario: Scenario::read(
                "{name: a, duration: 1, target: {maxWait: 1}, pods: {max: 1, slots: 1, start: {dist: const, value: 1}}, types: [{name: t, service: {dist: const, value: 1}, arrivals: []}]}",
            )
            .unwrap(),
            seed: 1,
        };
        assert!(draw(&done, Path::new("/nowhere/out.svg")).is_err());
    }
}
