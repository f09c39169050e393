//! The ratios as a bar chart (SVG): one bar for each case and peer, on a logarithmic scale, with
//! a line at 1 x. Green meets its goal, red misses it, grey has none; pale was noisy. Below it, costs
//! against size, of those cases that say how large they are.

mod growth;

use std::fs;
use std::path::Path;

use wireonce_qemu_tests::Result;

use growth::Growth;

use crate::io_error;
use crate::result::{CaseResult, Results};
use crate::table::number;

const ROW: f64 = 22.0;
const BARS: f64 = 420.0;
/// The widest that a character of the font is on average.
const CHARACTER: f64 = 6.6;
const MARGIN: f64 = 10.0;
const LINE: f64 = 18.0;
/// The scale covers this many powers of ten on each side of 1 x.
const DECADES: f64 = 2.0;
const GREEN: &str = "#2e8b57";
const RED: &str = "#c0392b";
const GREY: &str = "#888888";

const LEGEND: [&str; 2] = [
    "Right of 1 x ours is greater: better for rates (pps, b/s), worse for times, CPU and memory.",
    "Green: goal met; red: missed; grey: none, or not judged; pale: some rounds were noisy.",
];

/// Writes the chart.
///
/// # Errors
/// The file cannot be written.
pub fn write(results: &Results, path: &Path) -> Result<()> {
    fs::write(path, render(results)).map_err(io_error(&format!("cannot write {}", path.display())))
}

/// The chart as text.
#[must_use]
pub fn render(results: &Results) -> String {
    let (rows, others): (Vec<&CaseResult>, Vec<_>) =
        results.cases.iter().partition(|case| case.ratio.is_some());
    let growth = Growth::of(&results.cases);
    let shown = |case: &&&CaseResult| growth.is_none() || case.of_size.is_none();
    let others = others.iter().filter(shown).count();
    let chart = Chart::new(&rows, &head(results, others));
    let (width, height) = match &growth {
        Some(growth) => (chart.width.max(growth.width()), chart.height + growth.height()),
        None => (chart.width, chart.height),
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{:.0}\" height=\"{:.0}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        width, height
    );
    for (index, line) in head(results, others).iter().enumerate() {
        svg += &text(MARGIN, LINE * (index as f64 + 1.0), line);
    }
    for power in [-2, -1, 0, 1, 2] {
        svg += &chart.grid(10f64.powi(power));
    }
    for (index, case) in rows.into_iter().enumerate() {
        svg += &chart.bar(case, chart.top + ROW * index as f64);
    }
    if let Some(growth) = growth {
        svg += &growth.render(chart.height);
    }
    svg + "</svg>\n"
}

/// The lines above the bars.
fn head(results: &Results, without_ratio: usize) -> Vec<String> {
    let Results { suite, machine, build, .. } = results;
    let mut lines = vec![
        format!("wireonce, suite {suite}: ours by the peer's"),
        format!("{} ({}), on {}", build.version, build.profile, machine.in_words()),
    ];
    lines.extend(LEGEND.map(str::to_owned));
    lines.extend(results.remarks().into_iter().map(str::to_owned));
    if without_ratio > 0 {
        lines.push(format!(
            "{without_ratio} figures have no peer's beside them, so no bar: the table has them."
        ));
    }
    lines
}

/// Where things are; as wide as its longest texts.
#[derive(Debug, Clone, Copy)]
struct Chart {
    labels: f64,
    top: f64,
    width: f64,
    height: f64,
}

impl Chart {
    fn new(rows: &[&CaseResult], head: &[String]) -> Self {
        let widest = |texts: &mut dyn Iterator<Item = String>| {
            let chars = texts.map(|text| text.chars().count()).max().unwrap_or(0);
            chars as f64 * CHARACTER + 2.0 * MARGIN
        };
        let labels = widest(&mut rows.iter().map(|case| label(case)));
        let values = widest(&mut rows.iter().map(|case| value(case)));
        let top = LINE * (head.len() as f64 + 1.0);
        let width = (labels + BARS + values).max(widest(&mut head.iter().cloned()));
        Self { labels, top, width, height: top + ROW * rows.len() as f64 + 30.0 }
    }

    fn bar(&self, case: &CaseResult, y: f64) -> String {
        let (one, end) = (self.x(1.0), self.x(case.ratio.unwrap_or(1.0)));
        let colour = match case.met {
            Some(true) => GREEN,
            Some(false) => RED,
            None => GREY,
        };
        let opacity = if case.noisy > 0 { 0.45 } else { 1.0 };
        let bar = format!(
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\" \
             opacity=\"{opacity}\"/>\n",
            one.min(end),
            y + 4.0,
            (end - one).abs().max(1.0),
            ROW - 8.0
        );
        let beside = text(self.labels + BARS + MARGIN, y + 15.0, &value(case));
        text(MARGIN, y + 15.0, &label(case)) + &bar + &beside
    }

    fn grid(&self, ratio: f64) -> String {
        let x = self.x(ratio);
        let colour = if (ratio - 1.0).abs() < 1e-9 { "#000000" } else { "#cccccc" };
        let (top, bottom) = (self.top, self.height - 25.0);
        let line = format!(
            "<line x1=\"{x:.1}\" y1=\"{top:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\" \
             stroke=\"{colour}\"/>\n"
        );
        line + &text(x - 8.0, self.height - 10.0, &format!("{ratio} x"))
    }

    /// Where a ratio is, from left to right.
    fn x(&self, ratio: f64) -> f64 {
        let decades = ratio.max(1e-9).log10().clamp(-DECADES, DECADES);
        self.labels + BARS * (decades + DECADES) / (2.0 * DECADES)
    }
}

fn label(case: &CaseResult) -> String {
    format!("{} / {}", case.name, case.peer_name)
}

/// The ratio and its goal. A goal that is not about the ratio stands beside what it is about.
fn value(case: &CaseResult) -> String {
    let CaseResult { ratio, goal, ours, unit, noisy, rounds, .. } = case;
    let mut words = format!("{} x", number(ratio.unwrap_or(1.0)));
    match (goal, ours) {
        (Some(goal), _) if goal.ends_with(" x") => words += &format!(" (goal {goal})"),
        (Some(goal), Some(ours)) => {
            words += &format!(" (ours {} {unit}, goal {goal})", number(*ours));
        }
        _ => {}
    }
    if *noisy > 0 {
        words += &format!(", noisy {noisy}/{rounds}");
    }
    words
}

fn text(x: f64, y: f64, words: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\">{}</text>\n", escaped(words))
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::example;

    #[test]
    fn a_missed_goal_is_red_and_names_are_escaped() {
        let svg = render(&example());
        assert!(svg.contains(RED) && svg.contains("DPDK &lt;vhost&gt;"), "{svg}");
        assert!(!svg.contains("<vhost>") && !svg.contains("no bar"), "{svg}");
    }

    #[test]
    fn bars_begin_at_one_and_stay_inside_between_the_texts() {
        let mut case = example().cases.remove(0);
        case.name = "a long name ".repeat(20);
        case.goal = Some("<= 5000 us".to_owned());
        let chart = Chart::new(&[&case], &[]);
        assert!(chart.x(0.5) < chart.x(1.0) && chart.x(1.0) < chart.x(40.0));
        let (left, right) = (chart.x(0.0), chart.x(1e6));
        assert!(left > label(&case).chars().count() as f64 * 6.0, "{chart:?}");
        assert!(chart.width - right > value(&case).chars().count() as f64 * 6.0, "{chart:?}");
    }

    #[test]
    fn a_goal_stands_beside_what_it_is_about() {
        let mut case = example().cases.remove(0);
        assert_eq!(value(&case), "0.800 x (goal >= 1 x)");
        case.goal = Some("<= 5000 Mpps".to_owned());
        case.noisy = 1;
        assert_eq!(value(&case), "0.800 x (ours 20.0 Mpps, goal <= 5000 Mpps), noisy 1/5");
    }

    #[test]
    fn figures_without_a_ratio_are_told_and_so_is_a_quick_run() {
        let mut results = example();
        (results.cases[0].ratio, results.quick) = (None, true);
        let svg = render(&results);
        assert!(svg.contains("1 figures have no peer's") && svg.contains("A quick run"), "{svg}");
    }
}
