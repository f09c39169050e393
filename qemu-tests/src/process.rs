//! Child processes: short ones with a time limit, long ones with a log and a sure end.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Context, Error, Result};
use crate::watchdog;

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);

/// What a finished command left.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote to its standard output, made valid UTF-8.
    pub stdout: String,
    /// What it wrote to its standard error, made valid UTF-8.
    pub stderr: String,
}

/// The command line as a person would type it (without quoting).
#[must_use]
pub fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy()));
    words.join(" ")
}

/// Runs `command` to its end and returns its standard output.
///
/// # Errors
/// It cannot start, ends with an error, or takes longer than `limit` (then it is killed).
pub fn run(command: &mut Command, limit: Duration) -> Result<String> {
    let output = output(command, limit)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = if output.stderr.trim().is_empty() { &output.stdout } else { &output.stderr };
    Err(Error::Command {
        command: describe(command),
        status: output.status.to_string(),
        stderr: tail(said, 20),
    })
}

/// Runs `command` to its end, whatever its exit status.
///
/// # Errors
/// It cannot start, or takes longer than `limit` (then it is killed).
pub fn output(command: &mut Command, limit: Duration) -> Result<Output> {
    finish(spawn(command)?, &describe(command), limit)
}

/// The same for a command that takes long and has children of its own, such as a build: all of
/// them end with this process, however it ends.
///
/// # Errors
/// As [`output`]; or it cannot be watched.
pub fn output_of_many(command: &mut Command, limit: Duration) -> Result<Output> {
    let child = spawn(command.process_group(0))?;
    let pid = child.id();
    watchdog::watch_process(pid)?;
    let output = finish(child, &describe(command), limit);
    watchdog::forget_process(pid);
    output
}

fn spawn(command: &mut Command) -> Result<Child> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context(|| format!("cannot start `{}`", describe(command)))
}

fn finish(mut child: Child, what: &str, limit: Duration) -> Result<Output> {
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let status = match wait_child(&mut child, limit).context(|| format!("`{what}`"))? {
        Some(status) => status,
        None => {
            kill_child(&mut child);
            let detail = format!("; it said: {}", tail(&join(stderr), 20));
            return Err(Error::TimedOut {
                what: format!("the end of `{what}`"),
                limit_ms: limit.as_millis(),
                detail,
            });
        }
    };
    Ok(Output { status, stdout: join(stdout), stderr: join(stderr) })
}

/// The last `lines` lines of `text`.
#[must_use]
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    let skip = all.len().saturating_sub(lines);
    all.into_iter().skip(skip).collect::<Vec<_>>().join("\n")
}

/// Asks `probe` until it has an answer.
///
/// # Errors
/// The probe's own error, or [`Error::TimedOut`] after `limit`.
pub fn wait_until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = probe()? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            return Err(Error::TimedOut {
                what: what.to_owned(),
                limit_ms: limit.as_millis(),
                detail: String::new(),
            });
        }
        thread::sleep(POLL);
    }
}

/// A child that runs beside us: its output goes to a log file, and it ends with this value, or
/// with this process by the [`watchdog`].
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; both its outputs go to `DIR/NAME.log`, appended.
    ///
    /// # Errors
    /// The log cannot be made or the command cannot start.
    pub fn start(name: &str, dir: &Path, command: &mut Command) -> Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let open = || File::options().create(true).append(true).open(&log);
        let stdout = open().context(|| format!("cannot write {}", log.display()))?;
        let stderr = open().context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .context(|| format!("cannot start `{}`", describe(command)))?;
        watchdog::watch_process(child.id())?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The name that it was started under.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its output goes.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// What it wrote so far, made valid UTF-8; empty if the log cannot be read.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// The operating system does not answer.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context(|| format!("wait for {}", self.name))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It is still running after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        wait_until(&what, limit, || self.ended())
    }

    /// An error with the end of the log if it has ended already.
    ///
    /// # Errors
    /// It has ended.
    pub fn must_be_alive(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => Err(Error::Unexpected(format!(
                "{} ended too early ({status}): {}",
                self.name,
                tail(&self.log(), 20)
            ))),
        }
    }

    /// Asks it to end (SIGTERM) and waits for it; kills it after `limit`.
    ///
    /// # Errors
    /// It did not end by itself, or the signal could not be sent.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        let pid = self.pid().to_string();
        run(Command::new("kill").args(["-TERM", &pid]), Duration::from_secs(5))?;
        let ended = self.wait(limit);
        if ended.is_err() {
            self.kill();
        }
        ended
    }

    /// Kills it (SIGKILL) and waits for it.
    pub fn kill(&mut self) {
        kill_child(&mut self.child);
        watchdog::forget_process(self.child.id());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Kills the child and reaps it. One that ended already is only reaped.
fn kill_child(child: &mut Child) {
    // Both fail only for a child that is gone: that is what is wanted.
    let _gone = child.kill();
    let _reaped = child.wait();
}

fn wait_child(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    // Most commands take 1-5 ms: look often at first, then rarely.
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(POLL);
    }
}

/// Reads a pipe to its end on a thread, so that the child never blocks on a full one.
fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            loop {
                match pipe.read_to_end(&mut bytes) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    _ => break,
                }
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn join(thread: thread::JoinHandle<String>) -> String {
    thread.join().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_an_error_that_tells_what_it_said() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such thing >&2; exit 3"]);
        let error = run(&mut command, Duration::from_secs(10)).unwrap_err().to_string();
        assert!(error.contains("no such thing"), "{error}");
        assert!(error.contains('3'), "{error}");
    }

    #[test]
    fn a_command_over_its_limit_is_killed() {
        let mut command = Command::new("sleep");
        command.arg("30");
        let error = run(&mut command, Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    }

    #[test]
    fn tail_keeps_the_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("", 2), "");
    }
}
