//! The results as a table for people; the same text is valid Markdown.

use std::fs;
use std::path::Path;

use wireonce_qemu_tests::Result;

use crate::io_error;
use crate::result::{CaseResult, Results};

const HEAD: [&str; 9] =
    ["case", "ours", "peer", "unit", "ratio", "goal", "met", "CPU us/frame", "against"];

/// Writes the table.
///
/// # Errors
/// The file cannot be written.
pub fn write(results: &Results, path: &Path) -> Result<()> {
    fs::write(path, render(results)).map_err(io_error(&format!("cannot write {}", path.display())))
}

/// The whole table, with what it is not before it and the notes behind it.
#[must_use]
pub fn render(results: &Results) -> String {
    let rows: Vec<[String; 9]> = results.cases.iter().map(row).collect();
    let widths: Vec<usize> = (0..HEAD.len()).map(|column| width(column, &rows)).collect();
    let head = HEAD.map(str::to_owned);
    let rule = std::array::from_fn(|column| "-".repeat(widths.get(column).copied().unwrap_or(1)));
    let mut text = format!("{}\nMeasured on {}.\n", results.limits, results.machine.in_words());
    if !results.whole {
        text += "Not all cases have run: it was broken off.\n";
    }
    text.push('\n');
    for row in [&head, &rule].into_iter().chain(&rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!(" {cell:<width$} "));
        text += &format!("|{}|\n", cells.collect::<Vec<_>>().join("|"));
    }
    text + &notes(results)
}

fn width(column: usize, rows: &[[String; 9]]) -> usize {
    let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
    let head = HEAD.get(column).map_or(1, |name| name.len());
    cells.max().unwrap_or(0).max(head)
}

fn row(case: &CaseResult) -> [String; 9] {
    let CaseResult { ours, peer, ratio, cpu_us_per_frame: cpu, spread, .. } = case;
    let met = match case.met {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "-",
    };
    [
        case.name.clone(),
        with_spread(*ours, spread.ours),
        with_spread(*peer, spread.peer),
        case.unit.clone(),
        ratio.map_or("-".to_owned(), |ratio| format!("{} x", number(ratio))),
        case.goal.clone().unwrap_or_else(|| "-".to_owned()),
        met.to_owned(),
        format!("{} / {}", or_dash(cpu.ours), or_dash(cpu.peer)),
        case.peer_name.clone(),
    ]
}

fn with_spread(value: Option<f64>, spread: Option<[f64; 2]>) -> String {
    match (value, spread) {
        (Some(value), Some([min, max])) => {
            format!("{} ({}-{})", number(value), number(min), number(max))
        }
        (value, _) => or_dash(value),
    }
}

fn or_dash(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), number)
}

/// Three digits that count.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn notes(results: &Results) -> String {
    let mut text = String::new();
    for case in &results.cases {
        let mut parts: Vec<String> = case.note.iter().cloned().collect();
        if case.repeated > 0 {
            parts.push(format!("{} noisy rounds repeated", case.repeated));
        }
        if case.noisy > 0 {
            parts.push(format!("{} of {} rounds noisy all the same", case.noisy, case.rounds));
        }
        if let Some([min, max]) = case.distance_ns {
            parts.push(format!("cache line {min:.0}-{max:.0} ns"));
        }
        if !parts.is_empty() {
            text += &format!("\n- {}, {}: {}", case.name, case.peer_name, parts.join("; "));
        }
    }
    if text.is_empty() { text } else { text + "\n" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::example;

    #[test]
    fn a_table_opens_with_its_limits_and_shows_what_is_missed() {
        let mut results = example();
        results.cases[0].note = Some("a note".to_owned());
        let text = render(&results);
        assert!(text.starts_with("No physical NIC"), "{text}");
        assert!(
            text.contains("| 20.0 (19.0-21.0) | 25.0 | Mpps | 0.800 x | >= 1 x | NO"),
            "{text}"
        );
        assert!(text.contains("a note; 1 noisy rounds repeated; cache line 70-75 ns"), "{text}");
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{text}");
    }
}
