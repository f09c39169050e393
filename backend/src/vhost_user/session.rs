//! One VMM's session: the pump between its socket and the stock daemon.
//!
//! ```text
//!    VMM  <--- vhost-user --->  shim thread  <--- private socket --->  daemon thread
//!                               header, size,                          maps memory,
//!                               descriptors,                           translates addresses,
//!                               judge                                  BookedVring -> PortEvents
//! ```
//! The pump handles one message at a time and waits for the daemon after each,
//! with need_reply set on every message that has no answer of its own. So the
//! two threads never work at the same time, the judge sees the state that the
//! last message left, and the calls of [`PortEvents`] are serial.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vhost::vhost_user::Listener;
use vhost::vhost_user::message::FrontendReq;
use vhost_user_backend::VhostUserDaemon;
use vm_memory::GuestMemoryAtomic;

use super::backend::NetBackend;
use super::book::Book;
use super::config::{DeviceConfig, SocketMode};
use super::events::PortEvents;
use super::features;
use super::judge::{Judge, Verdict};
use super::memory;
use super::message::{self, Answer, HEADER_LEN, Message};
use super::refusal::Refusal;
use super::socket;
use super::status::Board;
use super::vring::{lock, with_book};
use crate::virtqueue::GuestMemory;

/// How long the daemon may take for one message. The worker promises to stop a
/// ring in about one second.
const DAEMON_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client of a socket where we listen may be silent before its first message
/// is complete. QEMU takes 20 ms. Meant against mistakes (a forgotten `socat`, a health
/// check): they would hold the socket, and the VM that comes next would hang before its
/// boot. So each read may take as long, and whoever has spoken once may be silent for ever.
/// Where we connect, nobody else waits, and a QEMU with `server=on,wait=off` may accept late.
pub(super) const FIRST_MESSAGE: Duration = Duration::from_secs(1);

/// Serves one VMM until it goes, misbehaves, or its socket is shut down.
pub(super) fn serve(
    vmm: &UnixStream,
    config: &DeviceConfig,
    events: &Arc<dyn PortEvents>,
    board: &Arc<Board>,
) {
    let book = Book::new(Arc::clone(events), Arc::clone(board), config.rings());
    let book = Arc::new(Mutex::new(book));
    let (mut daemon, link) = match start_daemon(config, &book) {
        Ok(started) => started,
        Err(error) => {
            board.attach(false);
            return board.trouble(&format!("no session could be started: {error}"));
        }
    };
    board.connected(socket::peer_pid(vmm).unwrap_or(0));
    events.connected();
    let judge = Judge::new(config.clone());
    let mut pump = Pump { vmm, link: &link, config, board, book: &book, events: &**events, judge };
    let refusal = pump.run().err();
    board.attach(false);
    // The VMM must see the end even if somebody holds another descriptor of it.
    let _ = vmm.shutdown(std::net::Shutdown::Both);
    drop(link);
    let daemon_refused = matches!(refusal, Some(Refusal::Daemon(_)));
    if !daemon_refused {
        daemon.request_shutdown();
    }
    let end = daemon.wait();
    if let Some(refusal) = refusal {
        // Only the daemon knows why it refused; how it ended says nothing otherwise.
        let why = end.err().filter(|_| daemon_refused).map(|why| format!(": {why}"));
        board.refused(refusal, &why.unwrap_or_default());
    }
    events.disconnected();
    board.disconnected();
}

type Daemon = VhostUserDaemon<Arc<NetBackend>>;

fn start_daemon(
    config: &DeviceConfig,
    book: &Arc<Mutex<Book>>,
) -> io::Result<(Daemon, UnixStream)> {
    let (listener, link) = socket::private_pair()?;
    link.set_read_timeout(Some(DAEMON_TIMEOUT))?;
    link.set_write_timeout(Some(DAEMON_TIMEOUT))?;
    let backend = Arc::new(NetBackend::new(config.clone(), Arc::clone(book)));
    let memory = GuestMemoryAtomic::new(GuestMemory::default());
    let made = with_book(book, || VhostUserDaemon::new(config.name.clone(), backend, memory));
    let mut daemon = made.map_err(|error| io::Error::other(error.to_string()))?;
    let started = daemon.start(&mut Listener::from(listener));
    started.map_err(|error| io::Error::other(error.to_string()))?;
    Ok((daemon, link))
}

struct Pump<'a> {
    vmm: &'a UnixStream,
    link: &'a UnixStream,
    config: &'a DeviceConfig,
    board: &'a Board,
    book: &'a Mutex<Book>,
    events: &'a dyn PortEvents,
    judge: Judge,
}

impl Pump<'_> {
    fn run(&mut self) -> Result<(), Refusal> {
        self.negotiate_with_daemon()?;
        if self.config.mode == SocketMode::Listen {
            self.vmm.set_read_timeout(Some(FIRST_MESSAGE))?;
        }
        while let Some(mut message) = self.receive()? {
            self.vmm.set_read_timeout(None)?;
            self.check_descriptors(&mut message)?;
            match self.decide(&mut message)? {
                Verdict::Forward => self.forward(&message)?,
                Verdict::Done(done) => self.answer_status(&message, done)?,
                Verdict::Announce => {
                    self.events.announce();
                    self.answer_status(&message, true)?;
                }
                Verdict::Number(number) => {
                    self.reply(message.request, &number.to_ne_bytes())?;
                }
            }
        }
        Ok(())
    }

    /// The judge's verdict. The VMM's own log is better for an answer before the end.
    fn decide(&mut self, message: &mut Message) -> Result<Verdict, Refusal> {
        let running = lock(self.book).running();
        let verdict = self.judge.judge(message, running);
        if verdict.is_err() && message::answer(message.request) == Answer::Status {
            self.answer_status(message, false)?;
        }
        verdict
    }

    /// Switches the daemon to everything it can, above all to answering every message.
    fn negotiate_with_daemon(&self) -> Result<(), Refusal> {
        self.ask_daemon(&Message::new(FrontendReq::GET_FEATURES, Vec::new()))?;
        let protocol = features::daemon_protocol().bits().to_ne_bytes().to_vec();
        self.ask_daemon(&Message::new(FrontendReq::SET_PROTOCOL_FEATURES, protocol))?;
        Ok(())
    }

    /// The VMM's next message, with a sound header; `None` when it has gone.
    fn receive(&self) -> Result<Option<Message>, Refusal> {
        let mut bytes = [0; HEADER_LEN];
        let mut files = Vec::new();
        let mut have = 0;
        while let Some(rest) = bytes.get_mut(have..).filter(|rest| !rest.is_empty()) {
            let mut received = match socket::receive(self.vmm, rest) {
                // The kernel closed what did not fit.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    let (request, count) = (0, message::DESCRIPTORS_MAX + 1);
                    let expected = "far too many";
                    return Err(Refusal::Descriptors { request, count, expected });
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(Refusal::Silent);
                }
                other => other?,
            };
            files.append(&mut received.files);
            match received.len {
                0 if have == 0 && files.is_empty() => return Ok(None),
                0 => return Err(Refusal::Truncated),
                len => have += len,
            }
        }
        let header = message::parse_header(&bytes, self.judge.protocol())?;
        let mut payload = vec![0; header.size];
        // A plain read: descriptors sent with the payload are dropped by the kernel.
        read_exact(self.vmm, &mut payload).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Refusal::Silent,
            _ => Refusal::Truncated,
        })?;
        let (request, need_reply) = (header.request, header.need_reply);
        Ok(Some(Message { need_reply, files, ..Message::new(request, payload) }))
    }

    /// The right number of descriptors, and each of the right kind.
    fn check_descriptors(&self, message: &mut Message) -> Result<(), Refusal> {
        message::check_files(message)?;
        match message.request {
            FrontendReq::SET_MEM_TABLE | FrontendReq::ADD_MEM_REG => {
                let regions = memory::parse_regions(message)?;
                for (region, file) in regions.into_iter().zip(&message.files) {
                    let checked = memory::check_file(region, file)?;
                    if !checked.sealed && self.config.require_sealed_memory {
                        return Err(Refusal::RegionUnsealed(region.guest));
                    }
                    if !checked.sealed {
                        self.board.memory_unsealed();
                    }
                    message.file_ids.push(checked.id);
                }
            }
            FrontendReq::SET_VRING_KICK
            | FrontendReq::SET_VRING_CALL
            | FrontendReq::SET_VRING_ERR => {
                for file in &message.files {
                    if !socket::is_eventfd(file)? {
                        return Err(Refusal::NotAnEventfd(u32::from(message.request)));
                    }
                    socket::set_nonblocking(file)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Gives a message to the daemon and its answer to the VMM.
    fn forward(&mut self, message: &Message) -> Result<(), Refusal> {
        let answer = self.ask_daemon(message)?;
        if message::answer(message.request) == Answer::Always {
            return self.reply(message.request, &answer);
        }
        let done = answer.iter().all(|byte| *byte == 0);
        if done && message.request == FrontendReq::SET_FEATURES {
            for held in self.judge.take_held() {
                self.ask_daemon(&held)?;
            }
        }
        self.answer_status(message, done)?;
        // The daemon ends its session after a refusal, so this one ends too.
        if done { Ok(()) } else { Err(Refusal::Daemon(u32::from(message.request))) }
    }

    /// Sends a request to the daemon and waits for the answer.
    fn ask_daemon(&self, request: &Message) -> Result<Vec<u8>, Refusal> {
        let id = u32::from(request.request);
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Refusal::Timeout(id),
            _ => Refusal::Daemon(id),
        };
        let need_reply = message::answer(request.request) == Answer::Status;
        let length = request.payload.len();
        let header = message::header_bytes(request.request, false, need_reply, length);
        let bytes = [&header, request.payload.as_slice()].concat();
        socket::send(self.link, &bytes, &request.files).map_err(failed)?;
        let mut header = [0; HEADER_LEN];
        read_exact(self.link, &mut header).map_err(failed)?;
        let size = message::reply_size(&header, request.request).ok_or(Refusal::Daemon(id))?;
        let mut payload = vec![0; size];
        read_exact(self.link, &mut payload).map_err(failed)?;
        Ok(payload)
    }

    fn answer_status(&self, message: &Message, done: bool) -> Result<(), Refusal> {
        if !message.need_reply || !self.judge.answers_status() {
            return Ok(());
        }
        self.reply(message.request, &u64::from(!done).to_ne_bytes())
    }

    fn reply(&self, request: FrontendReq, payload: &[u8]) -> Result<(), Refusal> {
        let header = message::header_bytes(request, true, false, payload.len());
        let bytes = [&header, payload].concat();
        // A VMM that went away is noticed at the next read.
        match socket::send(self.vmm, &bytes, &[]) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other?),
        }
    }
}

fn read_exact(mut stream: &UnixStream, buffer: &mut [u8]) -> io::Result<()> {
    io::Read::read_exact(&mut stream, buffer)
}
