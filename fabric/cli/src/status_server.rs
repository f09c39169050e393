//! The control socket: one JSON line in, one JSON line out.
//!
//! ```text
//! {"get":"status"}\n  ──>
//!                     <──  {"role":"backend",..}\n   or   {"error":".."}\n
//! ```
//! The socket has mode 0660 from the moment that it has its name: it is made under
//! another name and renamed, which also replaces the socket of a dead process.
//! Clients are few, and each has little time and little room, so that one that is
//! stuck costs a thread for seconds and nothing else.

use crate::{daemon::Role, reload::shown};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, Permissions},
    io::{self, ErrorKind, Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tracing::warn;
use wireonce_config::{Config, Encryption};
use wireonce_host::{Applied, ApplyError, Daemon};
use wireonce_ledger::{
    Status,
    status::{ConfigurationStatus, ControllerStatus},
};
use wireonce_member::Member;

/// Clients that are served at a time; one more is told so and let go.
const CLIENTS_MAX: usize = 16;
/// Longest request line, in bytes.
const REQUEST_LEN_MAX: usize = 256;
/// How long a client may take for one request, and for taking the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Read and write at the socket's owner and group.
const MODE: u32 = 0o660;

/// What a client asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "get", rename_all = "kebab-case")]
pub(crate) enum Request {
    /// The daemon's [`Status`].
    Status,
}

/// Why a client gets no status.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// One sentence.
    pub(crate) error: String,
}

/// The server; its socket goes when it is dropped.
#[derive(Debug)]
pub(crate) struct StatusServer<D: Daemon + 'static> {
    shared: Arc<Shared<D>>,
    listener: Arc<UnixListener>,
    path: PathBuf,
}

#[derive(Debug)]
struct Shared<D> {
    /// `None` before it has started and after it was asked to stop.
    daemon: Mutex<Option<D>>,
    about: About,
    configuration: Mutex<ConfigurationStatus>,
    /// The membership in a controller, once there is one.
    member: Mutex<Option<Arc<Member>>>,
    clients: AtomicUsize,
    stopping: AtomicBool,
}

/// What the shell knows about the daemon.
#[derive(Debug)]
struct About {
    role: Role,
    host: String,
    encryption: &'static str,
    started: Instant,
    /// Tells this life from others: the wall clock in microseconds, as no two start in one.
    life: u64,
}

impl<D: Daemon + 'static> StatusServer<D> {
    /// Makes the control socket. Clients are told to wait until there is a daemon.
    pub(crate) fn start(role: Role, config: &Config) -> io::Result<Self> {
        let about = About {
            role,
            host: config.host.name.clone(),
            encryption: match config.fabric.encryption {
                Encryption::Aes256Gcm => "aes-256-gcm",
                Encryption::Off => "off",
            },
            started: Instant::now(),
            life: wall_clock_us(),
        };
        let shared = Arc::new(Shared {
            daemon: Mutex::new(None),
            about,
            configuration: Mutex::new(ConfigurationStatus {
                origin: config.origin.clone(),
                number: 1,
                taken_at_s: wall_clock_s(),
                ..ConfigurationStatus::default()
            }),
            member: Mutex::new(None),
            clients: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
        });
        let path = config.host.control_socket.clone();
        let listener = Arc::new(listen(&path)?);
        let server = Self { shared, listener, path };
        let (shared, listener) = (Arc::clone(&server.shared), Arc::clone(&server.listener));
        thread::Builder::new()
            .name("status".to_owned())
            .spawn(move || accept(&listener, &shared))?;
        Ok(server)
    }

    /// From now on clients hear from `daemon`.
    pub(crate) fn serve(&self, daemon: D) {
        *self.shared.daemon() = Some(daemon);
    }

    /// Whoever asks it gets the status, while there is a daemon.
    pub(crate) fn source(&self) -> impl Fn() -> Option<Status> + Send + Sync + use<D> {
        let shared = Arc::clone(&self.shared);
        move || look(&shared)
    }

    /// Has the daemon serve `config`. Clients wait meanwhile.
    ///
    /// # Errors
    /// What the daemon says against it.
    pub(crate) fn apply(&self, config: &Arc<Config>) -> Result<Applied, ApplyError> {
        let mut daemon = self.shared.daemon();
        let Some(daemon) = daemon.as_mut() else {
            return Err(ApplyError::Refused("the daemon is not running".to_owned()));
        };
        let applied = daemon.apply(config)?;
        let mut configuration = self.shared.configuration();
        configuration.refused = None;
        configuration.refused_at_s = None;
        configuration.troubles = shown(&applied.troubles);
        if !applied.changes.is_empty() {
            *configuration = ConfigurationStatus {
                origin: config.origin.clone(),
                number: configuration.number + 1,
                taken_at_s: wall_clock_s(),
                changed: shown(&applied.changes),
                troubles: shown(&applied.troubles),
                ..ConfigurationStatus::default()
            };
        }
        Ok(applied)
    }

    /// From now on clients hear how the daemon stands with its controller.
    pub(crate) fn note_member(&self, member: Arc<Member>) {
        *self.shared.member.lock().unwrap_or_else(PoisonError::into_inner) = Some(member);
    }

    /// Clients hear why the newest configuration is not served.
    pub(crate) fn note_refusal(&self, reason: &str) {
        let mut configuration = self.shared.configuration();
        configuration.refused = Some(reason.to_owned());
        configuration.refused_at_s = Some(wall_clock_s());
    }

    /// Takes the socket away and gives the daemon back.
    pub(crate) fn stop(self) -> Option<D> {
        self.shared.daemon().take()
    }
}

impl<D: Daemon + 'static> Drop for StatusServer<D> {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // Wakes `accept`.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        let _ = fs::remove_file(&self.path);
    }
}

impl<D> Shared<D> {
    /// The daemon, to look at or to take. A panic aborts the process, so a poisoned
    /// lock cannot be met.
    fn daemon(&self) -> std::sync::MutexGuard<'_, Option<D>> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it stands with the controller.
    fn controller(&self) -> Option<ControllerStatus> {
        let member = self.member.lock().unwrap_or_else(PoisonError::into_inner);
        let news = member.as_ref()?.news();
        Some(ControllerStatus {
            address: news.controller,
            tag: news.tag,
            silent_since_s: news.silent_since_s,
            error: news.error,
            certificate_until_s: news.certificate_until_s,
        })
    }

    /// Taken for a moment, after [`Self::daemon`] if both are needed.
    fn configuration(&self) -> std::sync::MutexGuard<'_, ConfigurationStatus> {
        self.configuration.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listener at `path` that only its owner and group reach.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let mut unnamed = path.to_owned().into_os_string();
    unnamed.push(".new");
    match fs::remove_file(&unnamed) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&unnamed)?;
    fs::set_permissions(&unnamed, Permissions::from_mode(MODE))?;
    fs::rename(&unnamed, path)?;
    Ok(listener)
}

fn accept<D: Daemon + 'static>(listener: &UnixListener, shared: &Arc<Shared<D>>) {
    while !shared.stopping.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => admit(stream, shared),
            Err(error) => {
                if !shared.stopping.load(Ordering::Relaxed) {
                    warn!(%error, "control socket: a client is lost");
                    // Out of descriptors, most likely: no hurry to fail again.
                    thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }
}

/// Gives the client a thread, if there are not too many.
fn admit<D: Daemon + 'static>(mut stream: UnixStream, shared: &Arc<Shared<D>>) {
    if shared.clients.fetch_add(1, Ordering::Relaxed) >= CLIENTS_MAX {
        shared.clients.fetch_sub(1, Ordering::Relaxed);
        let _ = stream.set_nonblocking(true);
        let _ = stream.write(&refusal(&too_many()));
        return;
    }
    let served = Arc::clone(shared);
    let thread = thread::Builder::new().name("status-client".to_owned()).spawn(move || {
        // A client that breaks off, or is too slow, is its own affair.
        let _ = converse(&mut stream, &served);
        served.clients.fetch_sub(1, Ordering::Relaxed);
    });
    if let Err(error) = thread {
        shared.clients.fetch_sub(1, Ordering::Relaxed);
        warn!(%error, "control socket: no thread for a client");
    }
}

/// Answers line by line until the client has none left.
fn converse<D: Daemon>(stream: &mut UnixStream, shared: &Shared<D>) -> io::Result<()> {
    while let Some(line) = read_line(stream, Instant::now() + PATIENCE)? {
        let reply = match serde_json::from_slice::<Request>(&line) {
            Ok(Request::Status) => status(shared),
            Err(_) => refusal("not a request; ask {\"get\":\"status\"}"),
        };
        write_all(stream, &reply, Instant::now() + PATIENCE)?;
    }
    Ok(())
}

/// The next line without its end; `None` when there is none. Requests do not overlap:
/// a client waits for its answer, so what follows the line's end can be dropped.
fn read_line(stream: &mut UnixStream, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut buffer = [0; REQUEST_LEN_MAX];
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        let len = stream.read(&mut buffer)?;
        let Some(new) = buffer.get(..len).filter(|new| !new.is_empty()) else { return Ok(None) };
        line.extend_from_slice(new);
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            line.truncate(end);
            return Ok(Some(line));
        }
        if line.len() > REQUEST_LEN_MAX {
            return Err(ErrorKind::InvalidData.into());
        }
    }
}

fn write_all(stream: &mut UnixStream, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(deadline)?))?;
        let len = stream.write(bytes)?;
        bytes = bytes.get(len..).unwrap_or_default();
        if len == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

/// The time until `deadline`, which must not be zero for a socket's timeout.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn status<D: Daemon>(shared: &Shared<D>) -> Vec<u8> {
    match look(shared) {
        Some(status) => line(&status),
        None => refusal("the daemon is not running yet"),
    }
}

fn look<D: Daemon>(shared: &Shared<D>) -> Option<Status> {
    let About { role, host, encryption, started, life } = &shared.about;
    let daemon = shared.daemon();
    let daemon = daemon.as_ref()?;
    let sampled = started.elapsed();
    Some(Status {
        role: role.name().to_owned(),
        host: host.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        life: *life,
        uptime_s: sampled.as_secs(),
        sampled_at_us: u64::try_from(sampled.as_micros()).unwrap_or(u64::MAX),
        encryption: (*encryption).to_owned(),
        configuration: ConfigurationStatus {
            controller: shared.controller(),
            ..shared.configuration().clone()
        },
        ..daemon.status()
    })
}

/// Seconds since 1970, for people.
fn wall_clock_s() -> u64 {
    wall_clock_us() / 1_000_000
}

fn wall_clock_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

fn too_many() -> String {
    format!("{CLIENTS_MAX} clients are served at a time, and as many are; ask again later")
}

fn refusal(error: &str) -> Vec<u8> {
    line(&Refusal { error: error.to_owned() })
}

/// `message` as one line of JSON.
fn line(message: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{BufRead, BufReader},
        sync::mpsc,
    };
    use tempfile::TempDir;
    use wireonce_ledger::status::VnicStatus;

    /// A daemon with one vNIC that says when it is stopped.
    struct Fake(mpsc::Sender<()>);

    impl Daemon for Fake {
        fn status(&self) -> Status {
            let vnics = vec![VnicStatus { name: "vm-a".to_owned(), ..VnicStatus::default() }];
            Status { role: "overwritten".to_owned(), vnics, ..Status::default() }
        }

        fn apply(&mut self, config: &Arc<Config>) -> Result<Applied, ApplyError> {
            match config.peers.len() {
                0 => Ok(Applied::default()),
                1 => Ok(Applied { changes: vec!["+ peer \"b\"".to_owned()], troubles: Vec::new() }),
                _ => Err(ApplyError::Refused("too many".to_owned())),
            }
        }

        fn stop(self) {
            self.0.send(()).unwrap();
        }
    }

    fn config(directory: &TempDir) -> Config {
        let text = format!(
            "[host]\nname = \"server-a\"\nprivate_key_file = \"/k\"\ncontrol_socket = \"{}/c\"\n\
             [fabric]\naddress = \"127.0.0.1\"\n",
            directory.path().display()
        );
        Config::parse(&text, "test.toml").unwrap()
    }

    fn ask(path: &Path, request: &str) -> String {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = String::new();
        BufReader::new(stream).read_line(&mut reply).unwrap();
        reply
    }

    #[test]
    fn a_running_daemon_answers_and_the_shell_adds_what_it_knows() {
        let directory = TempDir::new().unwrap();
        let config = config(&directory);
        let server = StatusServer::start(Role::Gateway, &config).unwrap();
        let path = &config.host.control_socket;
        assert_eq!(
            ask(path, "{\"get\":\"status\"}\n"),
            "{\"error\":\"the daemon is not running yet\"}\n"
        );
        let (stopped, stops) = mpsc::channel();
        server.serve(Fake(stopped));
        let status: Status = serde_json::from_str(&ask(path, "{\"get\":\"status\"}\n")).unwrap();
        assert_eq!((status.role.as_str(), status.host.as_str()), ("gateway", "server-a"));
        assert_eq!(status.encryption, "aes-256-gcm");
        assert_eq!(status.vnics[0].name, "vm-a");
        server.stop().expect("the daemon").stop();
        assert!(stops.try_recv().is_ok());
        assert!(!path.exists());
    }

    #[test]
    fn clients_hear_which_configuration_is_served_and_what_became_of_the_newest() {
        let directory = TempDir::new().unwrap();
        let mut config = config(&directory);
        let server = StatusServer::start(Role::Gateway, &config).unwrap();
        let path = config.host.control_socket.clone();
        server.serve(Fake(mpsc::channel().0));
        let now = || {
            let line = ask(&path, "{\"get\":\"status\"}\n");
            serde_json::from_str::<Status>(&line).unwrap().configuration
        };
        let first = now();
        assert_eq!((first.origin.as_str(), first.number), ("test.toml", 1));
        assert!(first.taken_at_s > 1_600_000_000);
        server.note_refusal("no such file");
        assert_eq!(now().refused.as_deref(), Some("no such file"));
        server.apply(&Arc::new(config.clone())).unwrap();
        assert_eq!(now(), first, "the same again is no new one");
        let peer = wireonce_config::Peer {
            index: 0,
            name: "b".to_owned(),
            address: [127, 0, 0, 2].into(),
            port: 1,
            public_key: [1; 32],
        };
        config.peers.push(Arc::new(peer));
        server.apply(&Arc::new(config.clone())).unwrap();
        let second = now();
        assert_eq!((second.number, second.changed), (2, vec!["+ peer \"b\"".to_owned()]));
        config.peers.push(Arc::clone(&config.peers[0]));
        let refused = server.apply(&Arc::new(config)).unwrap_err();
        assert_eq!(refused.to_string(), "too many");
        assert_eq!(now().number, 2);
    }

    #[test]
    fn the_socket_keeps_strangers_out_and_replaces_a_dead_one() {
        let directory = TempDir::new().unwrap();
        let config = config(&directory);
        let path = &config.host.control_socket;
        drop(UnixListener::bind(path).unwrap());
        let _server = StatusServer::<Fake>::start(Role::Backend, &config).unwrap();
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, MODE);
        assert!(UnixStream::connect(path).is_ok());
    }

    #[test]
    fn nonsense_is_answered_and_endless_lines_are_not_kept() {
        let directory = TempDir::new().unwrap();
        let config = config(&directory);
        let _server = StatusServer::<Fake>::start(Role::Backend, &config).unwrap();
        let path = &config.host.control_socket;
        for nonsense in ["hello\n", "{\"get\":\"keys\"}\n", "\n"] {
            assert!(ask(path, nonsense).starts_with("{\"error\":\"not a request"), "{nonsense}");
        }
        let mut stream = UnixStream::connect(path).unwrap();
        // The server hangs up before it has read all of this.
        let _ = stream.write_all(&[b'x'; 4 * REQUEST_LEN_MAX]);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty());
    }

    #[test]
    fn clients_beyond_the_limit_are_turned_away() {
        let directory = TempDir::new().unwrap();
        let config = config(&directory);
        let _server = StatusServer::<Fake>::start(Role::Backend, &config).unwrap();
        let path = &config.host.control_socket;
        let mut held: Vec<_> =
            (0..CLIENTS_MAX).map(|_| BufReader::new(UnixStream::connect(path).unwrap())).collect();
        // Each has an answer, so each has its thread.
        for client in &mut held {
            client.get_mut().write_all(b"{\"get\":\"status\"}\n").unwrap();
            let mut reply = String::new();
            client.read_line(&mut reply).unwrap();
            assert!(reply.contains("not running yet"), "{reply}");
        }
        let mut reply = String::new();
        BufReader::new(UnixStream::connect(path).unwrap()).read_line(&mut reply).unwrap();
        assert_eq!(
            reply,
            "{\"error\":\"16 clients are served at a time, and as many are; ask again later\"}\n"
        );
    }
}
