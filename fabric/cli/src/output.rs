//! Text for people: standard output, aligned columns, and units.

use crate::failure::Failure;
use std::{
    fmt::Write as _,
    io::{self, ErrorKind, Write as _},
};

/// Writes to standard output. A reader that has gone away, as in `| head`, is fine.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::Runtime(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes to standard error, where it is in nobody's way; if that is closed, nowhere.
pub(crate) fn complain(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Text of somebody, as a part of one line: what could end the line, or steer a terminal, is a space.
pub(crate) fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// Rows under a header, in columns two spaces apart. Numbers stand to the right, and no cell is more
/// than a part of its line.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column headers.
    pub(crate) fn new<const N: usize>(header: [&str; N]) -> Self {
        Self::with_columns(header.map(str::to_owned))
    }

    /// The same, when how many columns there are is known only later.
    pub(crate) fn with_columns(header: impl IntoIterator<Item = String>) -> Self {
        Self { rows: vec![header.into_iter().collect()] }
    }

    /// Adds a row of as many cells as there are.
    pub(crate) fn cells(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| one_line(&cell)).collect());
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.cells(cells);
    }

    /// The lines, or nothing if there are only headers.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        if self.rows.len() < 2 {
            return text;
        }
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &Vec<String>, column| row.get(column).cloned().unwrap_or_default();
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                self.rows.iter().map(|row| cell(row, column).chars().count()).max().unwrap_or(0)
            })
            .collect();
        let numeric: Vec<bool> = (0..columns)
            .map(|column| self.rows.iter().skip(1).all(|row| is_numeric(&cell(row, column))))
            .collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (width, numeric)) in widths.iter().zip(&numeric).enumerate() {
                let cell = cell(row, column);
                // Writing to a string cannot fail.
                let _ = if *numeric {
                    write!(line, "{cell:>width$}  ")
                } else {
                    write!(line, "{cell:<width$}  ")
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A count or a quantity; an address has a colon and stands to the left.
fn is_numeric(cell: &str) -> bool {
    cell == "-" || cell.starts_with(|c: char| c.is_ascii_digit()) && !cell.contains(':')
}

/// `number` with a prefix to its unit: `1.23 G`, `45.6 k`, `789`.
pub(crate) fn scaled(number: u64, unit: &str) -> String {
    const PREFIXES: [(u64, &str); 5] = [
        (1_000_000_000_000_000, "P"),
        (1_000_000_000_000, "T"),
        (1_000_000_000, "G"),
        (1_000_000, "M"),
        (1_000, "k"),
    ];
    let Some((scale, prefix)) = PREFIXES.iter().find(|(scale, _)| number >= *scale) else {
        return format!("{number} {unit}").trim_end().to_owned();
    };
    // Three digits, cut rather than rounded, in whole numbers.
    let whole = number / scale;
    let thousandths = (number % scale) / (scale / 1000);
    match whole {
        0..10 => format!("{whole}.{:02} {prefix}{unit}", thousandths / 10),
        10..100 => format!("{whole}.{:01} {prefix}{unit}", thousandths / 100),
        _ => format!("{whole} {prefix}{unit}"),
    }
}

/// A duration as people say it: the two largest units.
pub(crate) fn duration(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {seconds} s"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        assert_eq!(scaled(0, "b/s"), "0 b/s");
        assert_eq!(scaled(999, "b/s"), "999 b/s");
        assert_eq!(scaled(1_000, "b/s"), "1.00 kb/s");
        assert_eq!(scaled(12_345, "pps"), "12.3 kpps");
        assert_eq!(scaled(9_999_999_999, "b/s"), "9.99 Gb/s");
        assert_eq!(scaled(123_456_789, ""), "123 M");
        assert_eq!(scaled(u64::MAX, "B"), "18446 PB");
    }

    #[test]
    fn durations_have_two_units() {
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(61), "1 min 1 s");
        assert_eq!(duration(3_660), "1 h 1 min");
        assert_eq!(duration(90_000), "1 d 1 h");
    }

    #[test]
    fn columns_are_aligned_and_numbers_stand_right() {
        let mut table = Table::new(["NAME", "FRAMES"]);
        assert_eq!(table.render(), "");
        table.row(["vm-a".to_owned(), "7".to_owned()]);
        table.row(["vm-long".to_owned(), "12345678".to_owned()]);
        assert_eq!(table.render(), "NAME       FRAMES\nvm-a            7\nvm-long  12345678\n");
    }
}
