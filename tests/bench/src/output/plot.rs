//! The plot: a panel of horizontal bars for each of the main figures.

use std::path::Path;

use anyhow::Result;
use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{
    contender::{ALL, FLOOR, Kind, OURS},
    results::{By, Results, over_rounds},
    summary::count,
};

const SIZE: (u32, u32) = (1000, 640);
const FONT: &str = "sans-serif";
const OURS_COLOUR: RGBColor = RGBColor(0, 114, 178);
const FLOOR_COLOUR: RGBColor = RGBColor(150, 150, 150);
const OTHERS_COLOUR: RGBColor = RGBColor(230, 159, 0);

/// One panel: a figure of each worker.
struct Panel {
    title: &'static str,
    figures: Vec<(&'static str, f64)>,
}

/// Writes the plot of a run as SVG.
pub fn draw(results: &Results, file: &Path) -> Result<()> {
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let areas = root.split_evenly((2, 2));
    for (area, panel) in areas.iter().zip(panels(results)) {
        panel.draw(area)?;
    }
    root.present()?;
    Ok(())
}

fn panels(results: &Results) -> [Panel; 4] {
    let rounds = |figure: fn(&_) -> f64| {
        named(|name| Some(over_rounds(&results.throughput, name, figure)?.median))
    };
    [
        Panel {
            title: "CPU a task without its handler, µs (log)",
            figures: rounds(|t| t.cpu),
        },
        Panel {
            title: "tasks a second on one core (log)",
            figures: rounds(|t| t.tasks_a_second),
        },
        Panel {
            title: "pick-up under light load, p50, ms (log)",
            figures: by(&results.light, |l| l.pick_up),
        },
        Panel {
            title: "resident memory, 64 slots busy, MiB (log)",
            figures: by(&results.memory, |m| m.busy),
        },
    ]
}

fn named(figure: impl Fn(&str) -> Option<f64>) -> Vec<(&'static str, f64)> {
    ALL.iter()
        .filter(|one| !matches!(one.kind, Kind::Defaults { .. }))
        .filter_map(|one| Some((one.name, figure(one.name)?)))
        .collect()
}

fn by<T>(by: &By<T>, figure: impl Fn(&T) -> f64) -> Vec<(&'static str, f64)> {
    named(|name| by.get(name).map(&figure))
}

fn colour(name: &str) -> RGBColor {
    let ours = ALL
        .iter()
        .any(|one| one.name == name && matches!(one.kind, Kind::Sidecar(_)));
    match name {
        OURS => OURS_COLOUR,
        FLOOR => FLOOR_COLOUR,
        _ if ours => OURS_COLOUR,
        _ => OTHERS_COLOUR,
    }
}

/// How long a bar is, 0 to 1: workers differ by powers of ten, so the scale is logarithmic,
/// from a tenth of the least to the most.
fn length(figure: f64, least: f64, most: f64) -> f64 {
    let from = (least / 10.0).ln();
    let to = most.ln();
    ((figure.ln() - from) / (to - from)).clamp(0.0, 1.0)
}

impl Panel {
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<()>
    where
        B::ErrorType: 'static,
    {
        const LABELS: i32 = 120;
        const FIGURES: i32 = 70;
        let (width, _) = area.dim_in_pixel();
        let width = i32::try_from(width)?;
        let text = |size: i32, at: HPos| {
            (FONT, size)
                .into_font()
                .color(&BLACK)
                .pos(Pos::new(at, VPos::Center))
        };
        area.draw(&Text::new(self.title, (10, 20), text(16, HPos::Left)))?;
        let positive = self.figures.iter().map(|(_, figure)| figure.max(1e-3));
        let least = positive.clone().fold(f64::INFINITY, f64::min);
        let most = positive.fold(1e-3, f64::max);
        for (number, (name, figure)) in self.figures.iter().enumerate() {
            let y = 52 + 30 * i32::try_from(number)?;
            area.draw(&Text::new(*name, (LABELS - 8, y), text(13, HPos::Right)))?;
            let room = width - LABELS - FIGURES;
            let share = length(figure.max(1e-3), least, most);
            let end = LABELS + pixels(share, room);
            let bar = [(LABELS, y - 9), (end, y + 9)];
            area.draw(&Rectangle::new(bar, colour(name).filled()))?;
            let digits = if *figure < 10.0 { 2 } else { 0 };
            let figure = format!("{figure:.digits$}");
            area.draw(&Text::new(figure, (end + 6, y), text(13, HPos::Left)))?;
        }
        Ok(())
    }
}

/// A share of so many pixels.
fn pixels(share: f64, of: i32) -> i32 {
    (0..=of)
        .rev()
        .find(|&n| count(usize::try_from(n).unwrap_or(0)) <= share * f64::from(of))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_logarithmic() {
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(close(length(1000.0, 10.0, 1000.0), 1.0));
        assert!(close(length(10.0, 10.0, 1000.0), 1.0 / 3.0));
        assert_eq!(pixels(0.5, 101), 50);
    }

    #[test]
    fn a_plot_of_nothing_is_a_picture_all_the_same() {
        let folder = std::env::temp_dir().join(format!("bench-plot-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("plot.svg");
        draw(&Results::default(), &file).unwrap();
        let svg = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("CPU a task"));
    }
}
