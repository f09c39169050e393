//! A child process that cleans up when this one is gone.
//!
//! Signal handlers and `Drop` cannot help against SIGKILL or an abort. A pipe can: the kernel
//! closes it whatever happens. So a small shell (`watchdog.sh`) reads what exists from a pipe
//! whose only writer is this process, and undoes it when the pipe ends.
//!
//! ```text
//!   this process --"+ netns wo-demo-7-gateway"--> watchdog
//!        |  (dies)                                   |  end of file
//!        x                                           +--> ip netns del wo-demo-7-gateway
//! ```
//!
//! It runs in its own process group, so Ctrl-C at a terminal and a test runner's kill reach it not.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Context, Error, Result};

const SCRIPT: &str = include_str!("watchdog.sh");

/// The watchdog, with the writing end of the pipe. Rust opens pipes close-on-exec: no child can
/// hold it open.
static WATCHDOG: Mutex<Option<Child>> = Mutex::new(None);

/// From now on process `pid`, and its group if it leads one, is killed when this process ends.
///
/// # Errors
/// The watchdog cannot start.
pub fn watch_process(pid: u32) -> Result<()> {
    // A process that is gone already needs no watching.
    match start_time(pid) {
        Some(start) => tell(&format!("+ pid {pid} {start}")),
        None => Ok(()),
    }
}

/// Process `pid` has ended.
pub fn forget_process(pid: u32) {
    forget("pid", &pid.to_string());
}

/// From now on namespace `name` is deleted, with the processes in it, when this process ends.
///
/// # Errors
/// The watchdog cannot start, or the name is not one that it would delete (`wo-` and no blank).
pub fn watch_netns(name: &str) -> Result<()> {
    if !name.starts_with("wo-") || name.contains(char::is_whitespace) {
        return Err(Error::Unexpected(format!("namespace `{name}` must be called wo-...")));
    }
    tell(&format!("+ netns {name}"))
}

/// Namespace `name` is deleted.
pub fn forget_netns(name: &str) {
    forget("netns", name);
}

/// From now on `added` huge pages are taken out of the pool in folder `pool` when this process ends.
///
/// # Errors
/// The watchdog cannot start.
pub(crate) fn watch_pages(id: &str, added: u64, pool: &Path) -> Result<()> {
    tell(&format!("+ pages {id} {added} {}", pool.display()))
}

/// The pages called `id` are given back.
pub(crate) fn forget_pages(id: &str) {
    forget("pages", id);
}

/// A temporary folder that goes with this value or this process.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    /// Makes a folder `wo-TAG-...` under the system's folder for temporary files.
    ///
    /// # Errors
    /// It cannot be made, or the watchdog cannot start.
    pub fn new(tag: &str) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix(&format!("wo-{tag}-"))
            .tempdir()
            .context(|| "cannot make a temporary folder".to_owned())?;
        tell(&format!("+ dir {}", dir.path().display()))?;
        Ok(Self { path: dir.keep() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if fs::remove_dir_all(&self.path).is_ok() {
            forget("dir", &self.path.to_string_lossy());
        }
    }
}

/// Undoes now what is still written down, for a process that is about to end: returns when all of
/// it is gone. Nothing can be written down any more; who tries waits for ever.
pub(crate) fn undo_all() -> MutexGuard<'static, impl Sized> {
    let mut watchdog = lock();
    if let Some(child) = watchdog.as_mut() {
        drop(child.stdin.take());
        // If it cannot be waited for, there is nothing more to do.
        let _gone = child.wait();
    }
    watchdog
}

/// The start time of process `pid` in clock ticks since boot: with the id it names one process.
#[must_use]
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything: fields are counted from its end (proc(5)).
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(19)?.parse().ok()
}

/// Sends one line to the watchdog, starting it if need be.
fn tell(line: &str) -> Result<()> {
    let mut watchdog = lock();
    if watchdog.is_none() {
        *watchdog = Some(start()?);
    }
    match watchdog.as_mut().and_then(|child| child.stdin.as_mut()) {
        Some(pipe) => writeln!(pipe, "{line}").context(|| "cannot tell the watchdog".to_owned()),
        None => Ok(()),
    }
}

/// Tells the watchdog, if there is one, that something is undone. Undoing twice does no harm, so a
/// failure is of no consequence.
fn forget(kind: &str, name: &str) {
    if let Some(pipe) = lock().as_mut().and_then(|child| child.stdin.as_mut()) {
        let _harmless = writeln!(pipe, "- {kind} {name}");
    }
}

fn lock() -> MutexGuard<'static, Option<Child>> {
    WATCHDOG.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start() -> Result<Child> {
    // Mostly nobody waits for it: it outlives this process by a moment on purpose.
    Command::new("/bin/sh")
        .args(["-c", SCRIPT, "wireonce-watchdog"])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context(|| "cannot start the watchdog".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};

    #[test]
    fn start_time_tells_processes_apart() {
        let own = start_time(std::process::id());
        assert!(own.is_some());
        assert_ne!(own, start_time(1));
        assert_eq!(start_time(u32::MAX), None);
    }

    /// What the watchdog does when `lines` were all that it was told.
    fn undo(lines: &str) {
        let mut watchdog = start().unwrap();
        watchdog.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        // Its exit status is of no meaning.
        let _status = watchdog.wait().unwrap();
    }

    #[test]
    fn pages_that_were_added_go_and_others_stay() {
        let pool = TempDir::new("pool").unwrap();
        let (path, size) = (pool.path().display(), pool.path().join("nr_hugepages"));
        fs::write(&size, "5000").unwrap();
        undo(&format!("+ pages 7 400 {path}\n+ pages 8 20 {path}\n- pages 8\n"));
        assert_eq!(fs::read_to_string(&size).unwrap().trim(), "4600");
        undo(&format!("+ pages 7 9000 {path}\n"));
        assert_eq!(fs::read_to_string(&size).unwrap().trim(), "0");
    }

    #[test]
    fn a_group_goes_with_its_leader() {
        let mut leader = Command::new("/bin/sh")
            .args(["-c", "sleep 300 & echo $!; wait"])
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(leader.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (child, pid) = (line.trim().parse().unwrap(), leader.id());
        let born = start_time(child).unwrap();
        undo(&format!("+ pid {pid} {}\n", start_time(pid).unwrap()));
        assert!(!leader.wait().unwrap().success());
        let gone = |pid| start_time(pid) != Some(born) || is_zombie(pid);
        let mut looks = 0;
        while !gone(child) {
            looks += 1;
            assert!(looks < 5_000, "the leader's child lives on");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    fn is_zombie(pid: u32) -> bool {
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
    }

    #[test]
    fn only_namespaces_of_ours_are_watched() {
        assert!(watch_netns("default").is_err());
        assert!(watch_netns("wo-a b").is_err());
    }
}
