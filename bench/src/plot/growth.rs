//! Costs against size: figures of one name over cases of several sizes, as lines; both scales are
//! logarithmic, so that a cost that grows as its size does rises by 45 degrees.

use std::collections::BTreeMap;

use super::{LINE, MARGIN, text};
use crate::result::CaseResult;

/// One power of ten, on both scales.
const DECADE: f64 = 90.0;
/// For the figures beside the left scale.
const LEFT: f64 = 60.0;
/// For the names beside the lines' ends.
const RIGHT: f64 = 260.0;
const COLOURS: [&str; 6] = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf"];

/// What belongs together: its name and unit, and its points by size.
type Line = (String, Vec<(f64, f64)>);

/// The chart; nothing, if no case says how large it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Growth {
    lines: Vec<Line>,
    /// Powers of ten at the ends of the scales.
    sizes: [f64; 2],
    values: [f64; 2],
}

impl Growth {
    /// Of the cases that say how large they are.
    pub(super) fn of(cases: &[CaseResult]) -> Option<Self> {
        let mut lines: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for case in cases {
            let Some((of_size, value)) = case.of_size.as_ref().zip(case.ours) else { continue };
            // Neither has a logarithm else.
            if of_size.size > 0 && value > 0.0 {
                let name = format!("{} ({})", of_size.figure, case.unit);
                lines
                    .entry(name.trim_start().to_owned())
                    .or_default()
                    .push((of_size.size as f64, value));
            }
        }
        let points = || lines.values().flatten();
        let sizes = decades(points().map(|point| point.0))?;
        let values = decades(points().map(|point| point.1))?;
        let mut lines: Vec<Line> = lines.into_iter().collect();
        lines.iter_mut().for_each(|(_, points)| points.sort_by(|a, b| a.0.total_cmp(&b.0)));
        Some(Self { lines, sizes, values })
    }

    pub(super) fn width(&self) -> f64 {
        LEFT + (self.sizes[1] - self.sizes[0]) * DECADE + RIGHT
    }

    pub(super) fn height(&self) -> f64 {
        (self.values[1] - self.values[0]) * DECADE + 4.0 * LINE
    }

    /// As text, from `top` on.
    pub(super) fn render(&self, top: f64) -> String {
        let title = "Cost against size (vNICs or workers); both scales are logarithmic.";
        let mut svg = text(MARGIN, top + LINE, title);
        let top = top + 2.0 * LINE;
        for power in powers(self.sizes) {
            let x = self.x(10f64.powf(power));
            let bottom = top + (self.values[1] - self.values[0]) * DECADE;
            svg += &grid([x, top], [x, bottom]);
            svg += &text(x - 12.0, bottom + LINE, &scale(power));
        }
        for power in powers(self.values) {
            let y = top + self.y(10f64.powf(power));
            svg += &grid([LEFT, y], [self.width() - RIGHT, y]);
            svg += &text(MARGIN, y + 4.0, &scale(power));
        }
        for ((name, points), colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            svg += &self.line(name, points, colour, top);
        }
        svg
    }

    fn line(&self, name: &str, points: &[(f64, f64)], colour: &str, top: f64) -> String {
        let at = |&(size, value): &(f64, f64)| (self.x(size), top + self.y(value));
        let places: Vec<(f64, f64)> = points.iter().map(at).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let mut svg = format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n",
            path.join(" ")
        );
        for (x, y) in &places {
            svg += &format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>\n");
        }
        if let Some((x, y)) = places.last() {
            svg += &text(x + MARGIN, y + 4.0, name);
        }
        svg
    }

    fn x(&self, size: f64) -> f64 {
        LEFT + (size.log10() - self.sizes[0]) * DECADE
    }

    fn y(&self, value: f64) -> f64 {
        (self.values[1] - value.log10()) * DECADE
    }
}

/// The powers of ten around them, one apart at least; `None` without any.
fn decades(values: impl Iterator<Item = f64> + Clone) -> Option<[f64; 2]> {
    let least = values.clone().reduce(f64::min)?.log10().floor();
    let greatest = values.reduce(f64::max)?.log10().ceil();
    Some([least, greatest.max(least + 1.0)])
}

fn powers([from, until]: [f64; 2]) -> impl Iterator<Item = f64> {
    std::iter::successors(Some(from), |power| Some(power + 1.0))
        .take_while(move |power| *power <= until + 0.5)
}

fn scale(power: f64) -> String {
    format!("{}", 10f64.powf(power))
}

fn grid([x1, y1]: [f64; 2], [x2, y2]: [f64; 2]) -> String {
    format!(
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#cccccc\"/>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{OfSize, tests::example};

    fn case(size: u64, ours: Option<f64>) -> CaseResult {
        let of_size = Some(OfSize { figure: "allocate".to_owned(), size });
        CaseResult { ours, of_size, ..example().cases.remove(0) }
    }

    #[test]
    fn a_cost_that_grows_as_its_size_rises_by_45_degrees() {
        let growth =
            Growth::of(&[case(10_000, Some(2.0)), case(1_000, Some(0.2)), case(5, None)]).unwrap();
        let [(name, points)] = &growth.lines[..] else { panic!("{growth:?}") };
        assert_eq!((name.as_str(), points.len()), ("allocate (Mpps)", 2));
        let right = growth.x(10_000.0) - growth.x(1_000.0);
        let up = growth.y(0.2) - growth.y(2.0);
        assert!((right - DECADE).abs() < 0.1 && (up - DECADE).abs() < 0.1, "{right} {up}");
        let svg = growth.render(0.0);
        assert!(svg.contains("<polyline") && svg.contains(">allocate (Mpps)<"), "{svg}");
        assert!(growth.x(10_000.0) < growth.width() && growth.y(0.2) < growth.height());
    }

    #[test]
    fn without_sizes_there_is_no_chart() {
        assert_eq!(Growth::of(&example().cases), None);
        assert_eq!(Growth::of(&[case(0, Some(1.0)), case(10, Some(0.0))]), None);
    }
}
