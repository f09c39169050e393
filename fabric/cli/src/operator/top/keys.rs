//! Single keys of a terminal.

use super::Shown;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::read,
    stdio::{stdin, stdout},
    termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr},
};
use std::{thread, time::Duration};

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

    /// Waits for a key, at most so long.
    pub(super) fn wait(&mut self, patience: Duration) -> Key {
        if self.before.is_none() {
            thread::sleep(patience);
            return Key::None;
        }
        let standard_input = stdin();
        let mut fds = [PollFd::new(&standard_input, PollFlags::IN)];
        let patience = Timespec::try_from(patience).ok();
        if !matches!(poll(&mut fds, patience.as_ref()), Ok(1..)) {
            return Key::None;
        }
        let mut byte = [0];
        match read(stdin(), &mut byte) {
            Ok(1..) => key(byte[0]),
            // The terminal has gone.
            _ => Key::Quit,
        }
    }

    /// As many lines as there is room for.
    pub(super) fn fit(&self, page: &str) -> String {
        let size = self.before.as_ref().and_then(|_| tcgetwinsize(stdout()).ok());
        match size.map(|size| usize::from(size.ws_row)).filter(|rows| *rows > 1) {
            Some(rows) => page.lines().take(rows - 1).map(|line| format!("{line}\n")).collect(),
            None => page.to_owned(),
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
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
    fn keys_switch_tables_and_do_nothing_else() {
        assert_eq!(key(b'v'), Key::Show(Shown::Vnics));
        assert_eq!([key(b'q'), key(3)], [Key::Quit, Key::Quit]);
        assert_eq!([key(b'x'), key(b'\n'), key(0xff)], [Key::None; 3]);
    }
}
