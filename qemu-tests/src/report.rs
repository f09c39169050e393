//! Progress for people: one line a step, with its time; colours and a running clock on a terminal.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often the running clock moves.
const TICK: Duration = Duration::from_millis(200);

/// Where progress goes: standard output.
#[derive(Debug)]
pub struct Report {
    live: bool,
    colour: bool,
    started: Instant,
}

impl Default for Report {
    fn default() -> Self {
        Self::new()
    }
}

impl Report {
    /// A report that starts its clock now. Colours and the clock need a terminal; `NO_COLOR`
    /// (no-color.org) turns colours off.
    #[must_use]
    pub fn new() -> Self {
        let live = std::io::stdout().is_terminal();
        let colour = live && std::env::var_os("NO_COLOR").is_none();
        Self { live, colour, started: Instant::now() }
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// A headline.
    pub fn title(&self, text: &str) {
        say(&format!("\n{}", self.paint(BOLD, text)));
    }

    /// A line beside the steps.
    pub fn note(&self, text: &str) {
        // A running clock stands in the line: the note takes its place.
        let clear = if self.live { CLEAR } else { "" };
        for line in text.lines() {
            say(&format!("{clear}           {line}"));
        }
    }

    /// Text as it is, for those who read standard output.
    pub fn text(&self, text: &str) {
        say(text);
    }

    /// Runs one step. What it returns beside its value is shown behind its name.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn step<T, E: Display>(
        &self,
        name: &str,
        work: impl FnOnce() -> Result<(T, String), E>,
    ) -> Result<T, E> {
        let clock = self.live.then(|| Clock::start(name, self.started, self.colour));
        let result = work();
        drop(clock);
        let time = self.stamp();
        match &result {
            Ok((_, detail)) => {
                say(&format!("{time} {}  {name:<34} {detail}", self.paint(GREEN, "ok  ")));
            }
            Err(error) => {
                say(&format!("{time} {}  {name}: {error}", self.paint(RED, "FAIL")));
            }
        }
        result.map(|(value, _)| value)
    }

    /// The time since the start as the steps show it.
    #[must_use]
    pub fn stamp(&self) -> String {
        stamp(self.started)
    }

    /// `text` in green or red.
    #[must_use]
    pub fn verdict(&self, good: bool, text: &str) -> String {
        self.paint(if good { GREEN } else { RED }, text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        paint(self.colour, code, text)
    }
}

/// To the line's beginning, and empty it.
const CLEAR: &str = "\r\x1b[K";
const BOLD: &str = "1";
const GREEN: &str = "32";
const RED: &str = "31";
const DIM: &str = "2";

fn paint(colour: bool, code: &str, text: &str) -> String {
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

fn stamp(started: Instant) -> String {
    format!("[{:>6.1} s]", started.elapsed().as_secs_f64())
}

/// Prints a line. Nobody reading (a closed pipe) is no reason to stop.
fn say(line: &str) {
    let _nobody_reads = writeln!(std::io::stdout(), "{line}");
}

/// A thread that rewrites the current line until it is dropped.
#[derive(Debug)]
struct Clock {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Clock {
    fn start(name: &str, started: Instant, colour: bool) -> Self {
        let (stop, stopped) = mpsc::channel();
        let name = name.to_owned();
        let thread = thread::spawn(move || {
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                let line = format!("{} ....  {name}", stamp(started));
                let mut out = std::io::stdout();
                let _nobody_reads = write!(out, "\r{}\x1b[K", paint(colour, DIM, &line));
                let _nobody_reads = out.flush();
            }
            let _nobody_reads = write!(std::io::stdout(), "{CLEAR}");
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}
