//! A testpmd that is told what to do while it runs: for tests that count every frame.
//!
//! Left alone, `txonly` sends until its end, and what was in its ring then nobody counts. At the
//! console it sends so many bursts and no more, and tells its counters when all has settled.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Counters, START_LIMIT, TESTPMD, Testpmd, parse};
use crate::error::{Context, Error, Result};
use crate::netns::Netns;
use crate::process::{Process, run, tail, wait_until};

const LIMIT: Duration = Duration::from_secs(20);
/// Frames of one burst: testpmd's default.
const BURST: u64 = 32;

/// A testpmd with its console; dropping it kills it.
#[derive(Debug)]
pub struct Console {
    process: Process,
    commands: File,
    /// Commands so far: each is followed by a mark in the log.
    marks: u32,
}

impl Testpmd {
    /// Starts it at a console, with its port up and not forwarding yet.
    ///
    /// # Errors
    /// It ends or does not get that far; the message has the end of its log.
    pub fn start_console(&self, name: &str, dir: &Path) -> Result<Console> {
        self.start_console_by(Command::new("sh"), name, dir)
    }

    /// As [`Self::start_console`], in a namespace.
    ///
    /// # Errors
    /// As there.
    pub fn start_console_in(&self, netns: &Netns, name: &str, dir: &Path) -> Result<Console> {
        self.start_console_by(netns.command("sh"), name, dir)
    }

    fn start_console_by(&self, mut command: Command, name: &str, dir: &Path) -> Result<Console> {
        let fifo = dir.join(format!("{name}.commands"));
        if !fifo.exists() {
            run(Command::new("mkfifo").arg(&fifo), LIMIT)?;
        }
        // For reading, too: else opening would wait for the other end.
        let commands = File::options().read(true).write(true).open(&fifo);
        let commands = commands.context(|| format!("cannot open {}", fifo.display()))?;
        command.args(["-c", "fifo=$1; shift; exec stdbuf -oL \"$@\" <\"$fifo\"", "sh"]).arg(&fifo);
        command.arg(TESTPMD);
        for word in self.arguments(name) {
            match word.as_str() {
                "--auto-start" => command.arg("--interactive"),
                "--stats-period=1" => &mut command,
                _ => command.arg(word),
            };
        }
        command.env("RUNTIME_DIRECTORY", dir);
        let mut console =
            Console { process: Process::start(name, dir, &mut command)?, commands, marks: 0 };
        console.run("show config fwd", START_LIMIT)?;
        Ok(console)
    }
}

impl Console {
    /// Runs one command and returns what it printed.
    ///
    /// # Errors
    /// testpmd ends or does not finish in time.
    pub fn command(&mut self, line: &str) -> Result<String> {
        self.run(line, LIMIT)
    }

    /// Sends `frames` frames, rounded up to whole bursts, as far as the ring takes them; then it
    /// receives.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub fn transmit(&mut self, frames: u64) -> Result<()> {
        self.command("stop")?;
        self.command(&format!("start tx_first {}", frames.div_ceil(BURST)))?;
        Ok(())
    }

    /// Its port's counters, all of its life.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub fn counters(&mut self) -> Result<Counters> {
        Ok(parse(&self.command("show port stats all")?))
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn run(&mut self, line: &str, limit: Duration) -> Result<String> {
        self.marks += 1;
        let before = self.process.log().len();
        // A command that does not exist is named in the answer: that is the mark of the end.
        let mark = format!("mark{}", self.marks);
        self.commands
            .write_all(format!("{line}\n{mark}\n").as_bytes())
            .context(|| format!("cannot tell {} to `{line}`", self.process.name()))?;
        let answer = wait_until(&format!("testpmd's `{line}`"), limit, || {
            self.process.must_be_alive()?;
            let log = self.process.log();
            let answer = log.get(before..).unwrap_or_default();
            Ok(answer.contains(&format!("{mark}\r\nCommand not found")).then(|| answer.to_owned()))
        });
        answer.map_err(|error| {
            Error::Unexpected(format!("{error}: {}", tail(&self.process.log(), 20)))
        })
    }
}
