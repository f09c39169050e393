//! Single keys of a terminal.

use super::{Shown, text};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::read,
    stdio::{stdin, stdout},
    termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr},
};
use std::{
    io::Read,
    os::{fd::AsFd, unix::net::UnixStream},
    time::Duration,
};

/// What was pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// Nothing in time, or nothing that means something.
    None,
    /// Another table.
    Show(Shown),
    /// Enough.
    Quit,
}

/// A terminal that tells each key at once; as it was before when this is dropped.
#[derive(Debug)]
pub(super) struct Keys {
    before: Option<Termios>,
}

impl Keys {
    /// Without a terminal there are no keys.
    pub(super) fn begin() -> Self {
        let is_terminal = isatty(stdin()) && isatty(stdout());
        let before = is_terminal.then(|| tcgetattr(stdin()).ok()).flatten();
        if let Some(before) = &before {
            let mut modes = before.clone();
            // Control-C comes as a key, too, so that the terminal is given back.
            modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
            let _ = tcsetattr(stdin(), OptionalActions::Now, &modes);
        }
        Self { before }
    }

    /// Waits for a key or for the bell, at most so long.
    pub(super) fn wait(&mut self, mut bell: &UnixStream, patience: Duration) -> Key {
        let standard_input = stdin();
        let bell_fd = bell.as_fd();
        let mut fds = vec![PollFd::new(&bell_fd, PollFlags::IN)];
        if self.before.is_some() {
            fds.push(PollFd::new(&standard_input, PollFlags::IN));
        }
        let patience = Timespec::try_from(patience).ok();
        if !matches!(poll(&mut fds, patience.as_ref()), Ok(1..)) {
            return Key::None;
        }
        let is_pressed = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        // However often it was rung, it is heard once.
        let _ = bell.read(&mut [0; 64]);
        if !is_pressed {
            return Key::None;
        }
        let mut byte = [0];
        match read(stdin(), &mut byte) {
            Ok(1..) => key(byte[0]),
            // The terminal has gone.
            _ => Key::Quit,
        }
    }

    /// As many lines and columns as there is room for, and below them what keys do. Without a terminal
    /// there is room for all, and there are no keys.
    pub(super) fn fit(&self, page: &str) -> String {
        if self.before.is_none() {
            return page.to_owned();
        }
        let size = tcgetwinsize(stdout()).map(|size| (size.ws_row.into(), size.ws_col.into()));
        let (rows, columns) = size.unwrap_or_default();
        fit(page, text::KEYS, rows, columns)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}

/// A page of at most `columns` and, with `below` at its end, fewer lines than `rows`: the last is left
/// for the cursor. 0 is a terminal that does not say.
fn fit(page: &str, below: &str, rows: usize, columns: usize) -> String {
    let rows = if rows == 0 { usize::MAX } else { rows };
    let columns = if columns == 0 { usize::MAX } else { columns };
    let room = rows.saturating_sub(1 + below.lines().count());
    let lines = page.lines().take(room).chain(below.lines().take(rows.saturating_sub(1)));
    lines.map(|line| line.chars().take(columns).chain(['\n']).collect::<String>()).collect()
}

fn key(byte: u8) -> Key {
    const CONTROL_C: u8 = 3;
    match byte {
        b'a' => Key::Show(Shown::All),
        b's' => Key::Show(Shown::Servers),
        b'u' => Key::Show(Shown::Uplinks),
        b'v' => Key::Show(Shown::Vnics),
        b'p' => Key::Show(Shown::Pools),
        b'q' | CONTROL_C => Key::Quit,
        _ => Key::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_cut_to_the_terminal_and_keys_stay_below_it() {
        let page = "VNIC  SERVER\nvm-a  s\u{e9}rver-a\nvm-b  server-b\n";
        assert_eq!(fit(page, "\n[q] quit\n", 5, 8), "VNIC  SE\nvm-a  s\u{e9}\n\n[q] quit\n");
        assert_eq!(fit(page, "[q]\n", 0, 0), format!("{page}[q]\n"));
        assert_eq!(fit(page, "[q]\n", 1, 80), "", "one line is the cursor's");
        assert_eq!(fit(page, "[q]\n", 2, 80), "[q]\n");
    }

    #[test]
    fn keys_switch_tables_and_do_nothing_else() {
        assert_eq!(key(b'v'), Key::Show(Shown::Vnics));
        assert_eq!([key(b'q'), key(3)], [Key::Quit, Key::Quit]);
        assert_eq!([key(b'x'), key(b'\n'), key(0xff)], [Key::None; 3]);
    }
}
