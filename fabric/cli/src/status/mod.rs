//! `wireonce status`: ask a running daemon, show what it says.

mod outside;
mod shares;
mod text;

use crate::{
    failure::Failure,
    output,
    status_server::{Refusal, Request},
};
use clap::Parser;
use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::{fs::FileTypeExt, net::UnixStream},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};
use wireonce_config::{Config, schema::CONTROL_SOCKET_DIR};
use wireonce_ledger::Status;

/// Longest answer that is read, in bytes: some 100,000 ledger rows.
const ANSWER_LEN_MAX: u64 = 64 << 20;
/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The time between two samples.
const INTERVAL: Duration = Duration::from_secs(1);

/// The command line.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// The daemon's control socket; left out, the only socket in /run/wireonce
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    socket: Option<PathBuf>,
    /// Take the control socket from this configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON, one line a sample
    #[arg(long)]
    json: bool,
    /// Take two samples, a second apart, and show rates
    #[arg(long)]
    rates: bool,
    /// Show rates again every second
    #[arg(long)]
    watch: bool,
}

/// Asks and shows, once or until interrupted.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let socket = socket(args)?;
    let mut before = None;
    if args.rates || args.watch && !args.json {
        before = Some(ask(&socket)?);
        thread::sleep(INTERVAL);
    }
    loop {
        let now = ask(&socket)?;
        if args.json {
            let line = serde_json::to_string(&now)
                .map_err(|error| Failure::Runtime(format!("status as JSON: {error}")))?;
            output::print(&format!("{line}\n"))?;
        } else {
            // Home, and erase what is below: less flicker than erasing first.
            let clear = if args.watch { "\x1b[H\x1b[J" } else { "" };
            output::print(&format!("{clear}{}", text::render(&now, before.as_ref())))?;
        }
        if !args.watch {
            return Ok(());
        }
        before = Some(now);
        thread::sleep(INTERVAL);
    }
}

/// The control socket that the command line means.
fn socket(args: &Args) -> Result<PathBuf, Failure> {
    if let Some(socket) = &args.socket {
        return Ok(socket.clone());
    }
    if let Some(file) = &args.config {
        return Ok(Config::load(file)?.host.control_socket);
    }
    // Nothing is asked to find out what it is: vhost-user sockets may live here too,
    // and a stranger's connection would disturb them.
    let mut found: Vec<PathBuf> = fs::read_dir(CONTROL_SOCKET_DIR)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()))
        .map(|entry| entry.path())
        // The controller's is another kind of socket.
        .filter(|path| path != Path::new(wireonce_control::settings::SOCKET))
        .collect();
    found.sort();
    let remedy = "name the daemon's with --socket PATH or its configuration with --config FILE";
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Failure::Input(format!("no socket is in {CONTROL_SOCKET_DIR}; {remedy}"))),
        several => {
            let shown: Vec<_> = several.iter().map(|path| path.display().to_string()).collect();
            Err(Failure::Input(format!("several sockets exist, {}; {remedy}", shown.join(", "))))
        }
    }
}

/// One sample.
fn ask(socket: &Path) -> Result<Status, Failure> {
    let shown = socket.display();
    let failed = |what: String| Failure::Runtime(format!("{shown}: {what}"));
    if fs::metadata(socket).is_ok_and(|found| !found.file_type().is_socket()) {
        let remedy = "name the daemon's control socket";
        return Err(Failure::Input(format!("{shown}: not a socket; {remedy}")));
    }
    let mut stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => {
            failed(format!("{error}; root, the daemon's user and the group of its socket may ask"))
        }
        _ => failed(format!("{error}; is the daemon running?")),
    })?;
    let unanswered = |error| failed(format!("no answer: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).map_err(unanswered)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(unanswered)?;
    let mut request = serde_json::to_vec(&Request::Status)
        .map_err(|error| failed(format!("no request: {error}")))?;
    request.push(b'\n');
    // A daemon that turns clients away does not wait for their requests, and its
    // reason can be read even so.
    let asked = stream.write_all(&request);
    let mut answer = Vec::new();
    let heard = BufReader::new(stream.take(ANSWER_LEN_MAX)).read_until(b'\n', &mut answer);
    if answer.is_empty() {
        asked.map_err(unanswered)?;
    }
    heard.map_err(unanswered)?;
    if let Ok(refusal) = serde_json::from_slice::<Refusal>(&answer) {
        return Err(failed(refusal.error));
    }
    serde_json::from_slice(&answer).map_err(|error| failed(format!("not a status: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_refusal_is_heard_though_the_request_finds_nobody() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("c");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"{\"error\":\"too many\"}\n").unwrap();
        });
        let refused = ask(&path).unwrap_err();
        server.join().unwrap();
        let Failure::Runtime(said) = refused else { panic!("{refused:?}") };
        assert!(said.ends_with(": too many"), "{said}");
    }
}
