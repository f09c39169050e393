//! The ratios as a bar chart (SVG): one bar for each case and peer, on a logarithmic scale, with
//! a line at 1 x. Green meets its goal, red misses it, grey has none.

use std::fs;
use std::path::Path;

use wireonce_qemu_tests::{Error, Result};

use crate::result::{CaseResult, Results};

const ROW: f64 = 22.0;
const LABELS: f64 = 430.0;
const BARS: f64 = 420.0;
const TOP: f64 = 60.0;
/// The scale covers this many powers of ten on each side of 1 x.
const DECADES: f64 = 2.0;

/// Writes the chart.
///
/// # Errors
/// The file cannot be written.
pub fn write(results: &Results, path: &Path) -> Result<()> {
    fs::write(path, render(results))
        .map_err(|source| Error::Io { what: format!("cannot write {}", path.display()), source })
}

/// The chart as text.
#[must_use]
pub fn render(results: &Results) -> String {
    let rows: Vec<&CaseResult> = results.cases.iter().filter(|c| c.ratio.is_some()).collect();
    let height = TOP + ROW * rows.len() as f64 + 30.0;
    let width = LABELS + BARS + 170.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    svg += &text(10.0, 20.0, &format!("wireonce, suite {}: ours by the peer's", results.suite));
    svg += &text(10.0, 38.0, &results.machine.in_words());
    for power in [-2, -1, 0, 1, 2] {
        svg += &grid(10f64.powi(power), height);
    }
    for (index, case) in rows.into_iter().enumerate() {
        svg += &bar(case, TOP + ROW * index as f64);
    }
    svg + "</svg>\n"
}

fn bar(case: &CaseResult, y: f64) -> String {
    let ratio = case.ratio.unwrap_or(1.0);
    let (one, end) = (x(1.0), x(ratio));
    let colour = match case.met {
        Some(true) => "#2e8b57",
        Some(false) => "#c0392b",
        None => "#888888",
    };
    let mut svg = text(10.0, y + 15.0, &format!("{} / {}", case.name, case.peer_name));
    svg += &format!(
        "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\n",
        one.min(end),
        y + 4.0,
        (end - one).abs().max(1.0),
        ROW - 8.0
    );
    let goal = case.goal.as_ref().map_or(String::new(), |goal| format!(" (goal {goal})"));
    svg + &text(LABELS + BARS + 8.0, y + 15.0, &format!("{ratio:.2} x{goal}"))
}

fn grid(ratio: f64, height: f64) -> String {
    let x = x(ratio);
    let colour = if (ratio - 1.0).abs() < 1e-9 { "#000000" } else { "#cccccc" };
    let line = format!(
        "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"/>\n",
        height - 25.0
    );
    line + &text(x - 8.0, height - 10.0, &format!("{ratio} x"))
}

/// Where a ratio is, from left to right.
fn x(ratio: f64) -> f64 {
    let decades = ratio.max(1e-9).log10().clamp(-DECADES, DECADES);
    LABELS + BARS * (decades + DECADES) / (2.0 * DECADES)
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
        assert!(svg.contains("#c0392b") && svg.contains("DPDK &lt;vhost&gt;"), "{svg}");
        assert!(!svg.contains("<vhost>"));
    }

    #[test]
    fn bars_begin_at_one_and_stay_inside() {
        assert!(x(0.5) < x(1.0) && x(1.0) < x(40.0));
        assert!(x(1e6) <= LABELS + BARS && x(0.0) >= LABELS);
    }
}
