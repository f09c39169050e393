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
    let Results { limits, machine, build, .. } = results;
    let mut text = format!(
        "{limits}\nMeasured: {} ({}), on {}.\n",
        build.version,
        build.profile,
        machine.in_words()
    );
    for remark in results.remarks() {
        text += &format!("{remark}\n");
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
    [
        case.name.clone(),
        with_spread(*ours, spread.ours),
        with_spread(*peer, spread.peer),
        case.unit.clone(),
        ratio.map_or("-".to_owned(), |ratio| format!("{} x", number(ratio))),
        case.goal.clone().unwrap_or_else(|| "-".to_owned()),
        case.verdict(),
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
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Figures of one case share their notes: these stand there once.
fn notes(results: &Results) -> String {
    let noted = results.cases.iter().map(|case| (case, remarks(case)));
    let noted: Vec<_> = noted.filter(|(_, remarks)| !remarks.is_empty()).collect();
    let same = |(a, about_a): &(&CaseResult, String), (b, about_b): &(&CaseResult, String)| {
        about_a == about_b && a.peer_name == b.peer_name
    };
    let lines = noted.chunk_by(same).filter_map(|group| {
        let (case, remarks) = group.first()?;
        let names: Vec<&str> = group.iter().map(|(case, _)| case.name.as_str()).collect();
        Some(format!("\n- {}, {}: {remarks}", common(&names), case.peer_name))
    });
    let text = lines.collect::<String>();
    if text.is_empty() { text } else { text + "\n" }
}

fn remarks(case: &CaseResult) -> String {
    let mut parts: Vec<String> = case.note.iter().cloned().collect();
    if case.repeated > 0 {
        parts.push(format!("{} repeated for noise", rounds(case.repeated)));
    }
    if case.noisy > 0 {
        parts.push(format!("{} of {} noisy all the same", case.noisy, case.rounds));
    }
    if let Some([min, max]) = case.distance_ns {
        parts.push(format!("cache line {min:.0}-{max:.0} ns"));
    }
    parts.join("; ")
}

fn rounds(count: u32) -> String {
    if count == 1 { "1 round".to_owned() } else { format!("{count} rounds") }
}

/// The words that all of `names` begin with.
fn common(names: &[&str]) -> String {
    let Some((first, others)) = names.split_first() else { return String::new() };
    let mut words: Vec<&str> = first.split(' ').collect();
    for other in others {
        let same = words.iter().zip(other.split(' ')).take_while(|(a, b)| *a == b).count();
        words.truncate(same);
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Build;
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
        assert!(text.contains("a note; 1 round repeated for noise; cache line 70-75 ns"), "{text}");
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{text}");
    }

    #[test]
    fn figures_of_one_case_share_their_note() {
        let mut results = example();
        let mut second = results.cases[0].clone();
        (results.cases[0].name, second.name) = ("c 64 B p50".to_owned(), "c 64 B p99".to_owned());
        results.cases.push(second.clone());
        second.peer_name = "another".to_owned();
        results.cases.push(second);
        let text = render(&results);
        let notes: Vec<&str> = text.lines().filter(|line| line.starts_with("- ")).collect();
        assert_eq!(notes.len(), 2, "{text}");
        assert!(notes[0].starts_with("- c 64 B, DPDK <vhost>: 1 round"), "{text}");
    }

    #[test]
    fn a_quick_run_says_so_before_its_table_and_what_was_measured() {
        let mut results = example();
        assert!(!render(&results).contains("quick"));
        results.quick = true;
        results.build = Build { version: "wireonce 9".to_owned(), profile: "given".to_owned() };
        let text = render(&results);
        let (head, _) = text.split_once("| case").unwrap();
        assert!(head.contains("A quick run") && head.contains("wireonce 9 (given)"), "{text}");
    }
}
