//! Rates over time, drawn: in block characters for a terminal, and as SVG.
//!
//! ```text
//!  vm-a ▂▂▂▂▂▂▂▂▂▂▂▂▂▂▇▇███████████
//!  vm-b ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁
//!                     ^ grant move
//! ```

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::error::{Context, Result};
use crate::rates::Bins;

/// Lowest first; what is there is never drawn as nothing.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Colours that are told apart in black and white, too.
const COLOURS: [&str; 4] = ["#1f4e9c", "#d9822b", "#2e8b57", "#888888"];

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 50.0;

/// Several rates over the same time.
#[derive(Debug, Clone)]
pub struct Chart {
    title: String,
    /// Microseconds that one value stands for.
    step_us: u64,
    from_us: u64,
    steps: u64,
    lines: Vec<Line>,
    marks: Vec<Mark>,
}

/// One rate: megabits (10^6) a second, one value for each step.
#[derive(Debug, Clone)]
struct Line {
    name: String,
    mbps: Vec<f64>,
}

/// Something that happened.
#[derive(Debug, Clone)]
struct Mark {
    at_us: u64,
    name: String,
}

impl Chart {
    /// An empty chart of the time between two moments, one value each `step_us`.
    #[must_use]
    pub fn new(title: &str, from_us: u64, until_us: u64, step_us: u64) -> Self {
        let step_us = step_us.max(1);
        let steps = until_us.saturating_sub(from_us) / step_us;
        let title = title.to_owned();
        Self { title, step_us, from_us, steps, lines: Vec::new(), marks: Vec::new() }
    }

    /// Adds the rate of some frames.
    #[must_use]
    pub fn line(mut self, name: &str, bins: &Bins) -> Self {
        let mbps = |step: u64| {
            let begin = self.from_us + step * self.step_us;
            bins.bps(begin, begin + self.step_us) / 1e6
        };
        let mbps = (0..self.steps).map(mbps).collect();
        self.lines.push(Line { name: name.to_owned(), mbps });
        self
    }

    /// Marks a moment.
    #[must_use]
    pub fn mark(mut self, at_us: u64, name: &str) -> Self {
        self.marks.push(Mark { at_us, name: name.to_owned() });
        self
    }

    /// For a terminal: one line a rate, all on one scale, and one for each mark.
    #[must_use]
    pub fn blocks(&self) -> String {
        let most = self.most_mbps();
        let margin = self.lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for Line { name, mbps } in &self.lines {
            let bars: String = mbps.iter().map(|value| block(*value, most)).collect();
            let now = mbps.last().copied().unwrap_or(0.0);
            let _infallible = writeln!(text, "{name:<margin$} {bars} {now:.0} Mb/s");
        }
        for Mark { at_us, name } in &self.marks {
            let column = at_us.saturating_sub(self.from_us) / self.step_us;
            let indent = margin + 1 + usize::try_from(column).unwrap_or(0);
            let _infallible = writeln!(text, "{:indent$}^ {name}", "");
        }
        let step_ms = self.step_us / 1_000;
        let _infallible = writeln!(text, "(a column is {step_ms} ms, █ is {most:.0} Mb/s)");
        text
    }

    /// Writes the chart as SVG.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_svg(&self, path: &Path) -> Result<()> {
        fs::write(path, self.svg()).context(|| format!("cannot write {}", path.display()))
    }

    /// The chart as SVG.
    #[must_use]
    pub fn svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        svg += &words(LEFT, 22.0, "#000000", &self.title);
        svg += &self.axes();
        for mark in &self.marks {
            svg += &self.marked(mark);
        }
        for (at, line) in self.lines.iter().enumerate() {
            let colour = COLOURS.get(at % COLOURS.len()).copied().unwrap_or("#000000");
            svg += &self.drawn(line, colour);
            svg += &words(LEFT + 120.0 * at as f64, 44.0, colour, &line.name);
        }
        svg + "</svg>\n"
    }

    /// A grid of quarters with rates on the left, and seconds below.
    fn axes(&self) -> String {
        let mut svg = String::new();
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for quarter in 0..=4 {
            let mbps = self.most_mbps() * f64::from(quarter) / 4.0;
            let y = self.y(mbps);
            svg += &stroke(LEFT, y, right, y, "#dddddd");
            svg += &words(8.0, y + 4.0, "#444444", &format!("{mbps:.0}"));
        }
        svg += &words(8.0, TOP - 12.0, "#444444", "Mb/s");
        let seconds = self.steps * self.step_us / 1_000_000;
        for second in 0..=seconds {
            let x = self.x(self.from_us + second * 1_000_000);
            svg += &stroke(x, bottom, x, bottom + 5.0, "#444444");
            svg += &words(x - 3.0, bottom + 20.0, "#444444", &second.to_string());
        }
        svg + &words(right - 10.0, bottom + 38.0, "#444444", "s")
    }

    fn drawn(&self, line: &Line, colour: &str) -> String {
        let point = |(step, mbps): (u64, &f64)| {
            let x = self.x(self.from_us + step * self.step_us + self.step_us / 2);
            format!("{x:.1},{:.1}", self.y(*mbps))
        };
        let points: Vec<String> = (0..).zip(&line.mbps).map(point).collect();
        let points = points.join(" ");
        format!(
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n"
        )
    }

    fn marked(&self, mark: &Mark) -> String {
        let x = self.x(mark.at_us);
        let line = stroke(x, TOP, x, HEIGHT - BOTTOM, "#c0392b");
        line + &words(x + 4.0, TOP + 12.0, "#c0392b", &mark.name)
    }

    fn most_mbps(&self) -> f64 {
        let all = self.lines.iter().flat_map(|line| &line.mbps);
        all.copied().fold(1.0, f64::max)
    }

    fn x(&self, at_us: u64) -> f64 {
        let whole = (self.steps * self.step_us).max(1) as f64;
        let part = at_us.saturating_sub(self.from_us) as f64 / whole;
        LEFT + (WIDTH - LEFT - RIGHT) * part.min(1.0)
    }

    fn y(&self, mbps: f64) -> f64 {
        HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * mbps / self.most_mbps()
    }
}

fn block(mbps: f64, most_mbps: f64) -> char {
    if mbps <= 0.0 {
        return ' ';
    }
    let part = mbps / most_mbps;
    let level = (1..).zip(BLOCKS).find(|(level, _)| part <= f64::from(*level) / 8.0);
    level.map_or('█', |(_, block)| block)
}

fn stroke(x1: f64, y1: f64, x2: f64, y2: f64, colour: &str) -> String {
    format!(
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>\n"
    )
}

fn words(x: f64, y: f64, colour: &str, words: &str) -> String {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{colour}\">{words}</text>\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Seen;

    /// 100 Mbit/s for 400 ms, then 800 Mbit/s for 400 ms: frames of 10,000 wire bits.
    fn bins() -> Bins {
        let seen =
            |at_us| Seen { at_us, source_mac: [0; 6], len: 1226, number: 0, iperf_number: 0 };
        let slow = (0..4_000).map(|number| seen(number * 100));
        let fast = (0..32_000).map(|number| seen(400_000 + number * 25 / 2));
        let all: Vec<Seen> = slow.chain(fast).collect();
        Bins::of(all.iter())
    }

    fn chart() -> Chart {
        let quiet = Bins::of([].iter());
        let chart = Chart::new("rates & <all>", 0, 800_000, 100_000);
        chart.line("vm-a", &bins()).line("b", &quiet).mark(400_000, "move")
    }

    #[test]
    fn a_rise_is_seen_at_its_place_and_nothing_is_blank() {
        let text = chart().blocks();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "vm-a ▁▁▁▁████ 800 Mb/s");
        assert_eq!(lines[1], "b             0 Mb/s");
        assert_eq!(lines[2], "         ^ move");
        assert_eq!(lines[3], "(a column is 100 ms, █ is 800 Mb/s)");
    }

    #[test]
    fn a_chart_has_a_line_for_each_rate_and_escapes_what_it_is_told() {
        let svg = chart().svg();
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains("rates &amp; &lt;all&gt;") && svg.contains(">move<"), "{svg}");
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn nothing_at_all_is_drawn_without_a_fault() {
        let chart = Chart::new("none", 5, 5, 0).line("a", &Bins::default());
        assert!(chart.svg().contains("<polyline") && chart.blocks().starts_with("a"));
    }
}
