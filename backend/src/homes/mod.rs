//! Which uplink each vNIC of this server is attached to.
//!
//! ```text
//!   agent thread ── hellos, answers, states, its clock ──▶ wireonce_home::Server ── claims ──▶ agent
//!                                                              │ use
//!                                       HomeCell (one word) ◀──┴──▶ shares: lease at the new home
//!                                           ▲
//!   worker ── each frame for the outside ───┘
//! ```
//! The machine runs on the agent's thread, after the socket was read, so that a stall of the process is
//! never taken for a silence of its peers. Others only look at it, and tell it of other tables.

mod cell;
mod state;

pub(crate) use cell::HomeCell;
use state::EpochFile;

use crate::shares::Shares;
use rustc_hash::FxHashMap;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Instant, SystemTime, UNIX_EPOCH},
};
use tracing::{error, info, warn};
use wireonce_config::{Config, Failover, Uplink, UplinkPlace, Vnic};
use wireonce_directory::PeerNumbers;
use wireonce_home::{
    ATTACHMENT_CHANNEL, Answers, Epochs, Server, ServerOutput, Standing, States, Timing,
    UPLINK_STATE_CHANNEL, Way, Wish,
};
use wireonce_host::SessionListener;
use wireonce_link::{AgentHandle, PeerId, SessionEvent};
use wireonce_wire::{UplinkId, VnicId};

/// The attachments of this server's vNICs. All clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Homes {
    shared: Arc<Shared>,
    /// For the workers' next tables.
    pub(crate) cells: Arc<FxHashMap<VnicId, Arc<HomeCell>>>,
    /// Why the epochs could not be persisted.
    trouble: Option<String>,
}

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    agent: OnceLock<AgentHandle>,
    clock: Instant,
    timing: Timing,
    file: EpochFile,
}

/// What is changed together.
#[derive(Debug)]
struct Book {
    server: Server,
    cells: Arc<FxHashMap<VnicId, Arc<HomeCell>>>,
    /// Bandwidth follows the home.
    shares: Shares,
    /// Names for the log.
    names: FxHashMap<VnicId, String>,
    uplinks: FxHashMap<UplinkId, String>,
    /// Gateways that the tables name.
    wanted: BTreeSet<usize>,
    /// Gateways with which hellos are frequent: those, and others until nobody is there any more.
    urged: BTreeSet<usize>,
    /// The disk did not take the epochs when it was asked last.
    disk_fails: bool,
}

/// Hears of sessions on the agent's thread, and hands on what is not for homes.
#[derive(Debug)]
pub(crate) struct Ears<L> {
    homes: Homes,
    others: L,
}

impl Homes {
    /// The homes that the tables of `config` want. Nothing is attached yet.
    pub(crate) fn new(config: &Config, clock: Instant) -> Self {
        let timing = match config.fabric.failover {
            Failover::Fast => Timing::FAST,
            Failover::Default => Timing::DEFAULT,
        };
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_us = u64::try_from(wall.as_micros()).unwrap_or(u64::MAX);
        let file = EpochFile::new(&config.host.state_directory, &config.host.name);
        let (epochs, trouble) = match file.take(wall_us) {
            Ok(epochs) => (epochs, None),
            Err(trouble) => (Epochs::after(0, wall_us), Some(trouble)),
        };
        let book = Book {
            server: Server::new(timing, wall_us, epochs, micros(clock)),
            cells: Arc::default(),
            shares: Shares::default(),
            names: FxHashMap::default(),
            uplinks: FxHashMap::default(),
            wanted: BTreeSet::new(),
            urged: BTreeSet::new(),
            disk_fails: false,
        };
        let shared = Shared { book: Mutex::new(book), agent: OnceLock::new(), clock, timing, file };
        Self { shared: Arc::new(shared), cells: Arc::default(), trouble }
    }

    /// Why a vNIC with standbys cannot be served, if `config` has one.
    pub(crate) fn refusal(&self, config: &Config) -> Option<String> {
        let any = config.local_vnics().any(|(vnic, _)| !vnic.standbys.is_empty());
        self.trouble.clone().filter(|_| any)
    }

    /// The homes and their bandwidth by the tables that the process starts with.
    pub(crate) fn start(&mut self, config: &Config, numbers: &PeerNumbers, shares: &Shares) {
        let mut book = self.lock();
        let cells = self.take_tables(&mut book, config, numbers, shares);
        drop(book);
        self.cells = cells;
        self.look();
    }

    /// Another configuration. A vNIC whose home is another than before goes there, make before break; until
    /// it has, `shares` keeps what holds it back where it is. Nobody moves meanwhile.
    /// Workers are to use [`Self::cells`] from now on.
    pub(crate) fn change(&mut self, config: &Config, numbers: &PeerNumbers, shares: &mut Shares) {
        let mut book = self.lock();
        let at = |id: &VnicId| Some((*id, book.server.standing(*id)?.at?.uplink));
        let in_use: FxHashMap<VnicId, UplinkId> = book.cells.keys().filter_map(at).collect();
        shares.change(config, numbers, &in_use, micros(self.shared.clock));
        let cells = self.take_tables(&mut book, config, numbers, shares);
        drop(book);
        self.cells = cells;
        self.look();
    }

    fn take_tables(
        &self,
        book: &mut Book,
        config: &Config,
        numbers: &PeerNumbers,
        shares: &Shares,
    ) -> Arc<FxHashMap<VnicId, Arc<HomeCell>>> {
        let before = Arc::clone(&book.cells);
        let mut cells = FxHashMap::default();
        book.wanted.clear();
        for (vnic, _) in config.local_vnics() {
            let Some(wish) = wish_of(vnic, numbers) else { continue };
            book.wanted.extend(wish.standbys.iter().chain([&wish.home]).map(|way| way.peer));
            let cell = before.get(&vnic.id).map(Arc::clone).unwrap_or_default();
            let at = book.server.standing(vnic.id).and_then(|standing| standing.at);
            // Who goes nowhere by itself is where the tables say, as long as no gateway has answered.
            if wish.standbys.is_empty() && at.is_none() {
                cell.set(PeerId(wish.home.peer), wish.home.uplink);
            }
            let uplink = at.map_or(wish.home.uplink, |way| way.uplink);
            shares.rehome(vnic.id, uplink, micros(self.shared.clock));
            cells.insert(vnic.id, cell);
            book.server.wish(vnic.id, wish);
        }
        book.server.keep(|id| cells.contains_key(&id));
        book.names = config.local_vnics().map(|(vnic, _)| (vnic.id, vnic.name.clone())).collect();
        book.uplinks = config.uplinks.iter().map(|it| (it.id, it.name.clone())).collect();
        book.cells = Arc::new(cells);
        book.shares = shares.clone();
        let needed = book.server.needed();
        self.urge(book, needed);
        Arc::clone(&book.cells)
    }

    /// The operator wants all vNICs at their homes.
    pub(crate) fn go_home(&self) {
        self.lock().server.go_home();
        self.look();
    }

    /// There is something to do, perhaps long before the machine wants to look at its clock.
    fn look(&self) {
        if let Some(agent) = self.shared.agent.get() {
            agent.look();
        }
    }

    /// Claims are sent by `agent` from now on.
    pub(crate) fn set_agent(&self, agent: AgentHandle) {
        // Set once: there is one agent.
        let _ = self.shared.agent.set(agent);
        let mut book = self.lock();
        let gateways = std::mem::take(&mut book.urged);
        self.urge(&mut book, gateways);
    }

    /// For whoever hears of sessions; `others` hears the rest.
    pub(crate) fn ears<L>(&self, others: L) -> Ears<L> {
        Ears { homes: self.clone(), others }
    }

    /// Where a vNIC is.
    pub(crate) fn standing(&self, id: VnicId) -> Option<Standing> {
        self.lock().server.standing(id)
    }

    /// How often a look at the clock came so late that all waiting began anew.
    pub(crate) fn stalls(&self) -> u64 {
        self.lock().server.stalls()
    }

    /// Hellos are frequent with those gateways that vNICs may be attached to.
    fn urge(&self, book: &mut Book, gateways: BTreeSet<usize>) {
        if let Some(agent) = self.shared.agent.get() {
            let hello_us = Some(self.shared.timing.hello_us);
            gateways.difference(&book.urged).for_each(|it| agent.urge(PeerId(*it), hello_us));
            book.urged.difference(&gateways).for_each(|it| agent.urge(PeerId(*it), None));
        }
        let gone: Vec<usize> =
            book.server.gateways().filter(|peer| !gateways.contains(peer)).collect();
        gone.into_iter().for_each(|peer| book.server.forget_gateway(peer));
        book.urged = gateways;
    }

    /// Gateways that the tables do not name any more, and that the last vNIC has left.
    fn let_go(&self, book: &mut Book) {
        if book.urged != book.wanted {
            let needed = book.server.needed();
            if needed != book.urged {
                self.urge(book, needed);
            }
        }
    }

    /// Does what the machine says.
    fn drain(&self, book: &mut Book) {
        let mut moved = Moved::new();
        while let Some(output) = book.server.poll_output() {
            match output {
                ServerOutput::Send(peer, claims) => {
                    if let Some(agent) = self.shared.agent.get() {
                        agent.send(PeerId(peer), ATTACHMENT_CHANNEL, claims.emit());
                    }
                }
                ServerOutput::Use(id, way, why) => {
                    if let Some(cell) = book.cells.get(&id) {
                        cell.set(PeerId(way.peer), way.uplink);
                    }
                    book.shares.rehome(id, way.uplink, micros(self.shared.clock));
                    moved.entry((way.uplink, why.name())).or_insert((id, 0)).1 += 1;
                }
                ServerOutput::Persist(end) => self.persist(book, end),
                ServerOutput::OutOfEpochs(id) => {
                    let vnic = book.names.get(&id).map_or("", String::as_str);
                    error!(vnic, "no epoch is left, so no vNIC can go to another uplink");
                }
            }
        }
        book.log(&moved);
    }

    /// Has another block of epochs written, by a thread of its own: a disk may take any time, and hellos
    /// do not wait for it.
    fn persist(&self, book: &mut Book, end: u64) {
        let homes = self.clone();
        let write = move || {
            // What the file was refused for at the start is for the operator to mend.
            let written = homes.trouble.clone().map_or_else(|| homes.shared.file.write(end), Err);
            homes.lock().persisted(micros(homes.shared.clock), written);
        };
        if let Err(error) = thread::Builder::new().name("epochs".to_owned()).spawn(write) {
            book.persisted(
                micros(self.shared.clock),
                Err(format!("cannot start a thread: {error}")),
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.shared.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// By uplink and reason: the first vNIC, and how many they are.
type Moved = BTreeMap<(UplinkId, &'static str), (VnicId, u64)>;

impl Book {
    /// Another block of epochs is on the disk, or is not. Only what is news is said.
    fn persisted(&mut self, now_us: u64, written: Result<(), String>) {
        self.server.persisted(now_us, written.is_ok());
        let failed = std::mem::replace(&mut self.disk_fails, written.is_err());
        match written {
            Err(error) if !failed => {
                warn!(error, "cannot take more epochs; vNICs go on with what is left of them");
            }
            Ok(()) if failed => info!("epochs can be written again"),
            _ => {}
        }
    }

    /// One line for all that go the same way at the same time: a line for each would cost more than the
    /// swap, and who comes last would wait for it.
    fn log(&self, moved: &Moved) {
        for ((uplink, why), (first, vnics)) in moved {
            let uplink = self.uplinks.get(uplink).map_or("", String::as_str);
            let vnic = self.names.get(first).map_or("", String::as_str);
            match vnics {
                1 => info!(vnic, uplink, why, "vNIC uses another uplink"),
                _ => info!(vnics, first = vnic, uplink, why, "vNICs use another uplink"),
            }
        }
    }
}

impl<L: SessionListener> SessionListener for Ears<L> {
    fn session(&self, event: SessionEvent) {
        match &event {
            SessionEvent::Up(session) => self.homes.lock().server.session(session.peer.0),
            SessionEvent::Trouble(peer, trouble) => {
                let now_us = micros(self.homes.shared.clock);
                let mut book = self.homes.lock();
                book.server.gray(now_us, peer.0, trouble.is_gray());
                self.homes.drain(&mut book);
            }
            _ => {}
        }
        self.others.session(event);
    }

    fn message(&self, peer: PeerId, channel: u8, payload: &[u8]) {
        let now_us = micros(self.homes.shared.clock);
        match channel {
            ATTACHMENT_CHANNEL => {
                let Some(answers) = Answers::parse(payload) else { return };
                let mut book = self.homes.lock();
                book.server.answers(now_us, peer.0, &answers);
                self.homes.drain(&mut book);
            }
            UPLINK_STATE_CHANNEL => {
                let Some(states) = States::parse(payload) else { return };
                let mut book = self.homes.lock();
                book.server.states(now_us, peer.0, &states);
                self.homes.drain(&mut book);
            }
            _ => self.others.message(peer, channel, payload),
        }
    }

    fn hello(&self, peer: PeerId, now_us: u64, echoed_us: Option<u64>) {
        self.homes.lock().server.hello(now_us, peer.0, echoed_us);
        self.others.hello(peer, now_us, echoed_us);
    }

    fn tick(&self, now_us: u64) -> Option<u64> {
        let mut book = self.homes.lock();
        let next_us = book.server.tick(now_us);
        self.homes.drain(&mut book);
        self.homes.let_go(&mut book);
        drop(book);
        self.others.tick(now_us).into_iter().chain([next_us]).min()
    }
}

/// What the tables want for a vNIC; `None` if it has no home on another host.
fn wish_of(vnic: &Vnic, numbers: &PeerNumbers) -> Option<Wish> {
    let way = |uplink: &Arc<Uplink>| {
        let UplinkPlace::Peer(gateway) = &uplink.place else { return None };
        let Some(peer) = numbers.get(gateway) else {
            warn!(vnic = vnic.name, uplink = uplink.name, "its gateway is not known yet");
            return None;
        };
        Some(Way { peer: peer.0, uplink: uplink.id })
    };
    let home = vnic.home.as_ref()?;
    Some(Wish {
        home: way(home)?,
        standbys: vnic.standbys.iter().filter_map(way).collect(),
        fail_back_us: home.fail_back_s.map(|s| u64::from(s) * 1_000_000),
    })
}

fn micros(clock: Instant) -> u64 {
    u64::try_from(clock.elapsed().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path, time::Duration};
    use tempfile::TempDir;

    fn homes(directory: &Path) -> Homes {
        let file = format!(
            "host = {{ name = 'a', private_key_file = '/k', state_directory = '{}' }}
            fabric = {{ address = '127.0.0.1' }}",
            directory.display()
        );
        Homes::new(&Config::parse(&file, "a.toml").unwrap(), Instant::now())
    }

    /// Has a block written that ends there, as the machine may ask for it at any time.
    fn persist(homes: &Homes, end: u64) {
        homes.persist(&mut homes.lock(), end);
    }

    /// Waits for another thread, a minute at most.
    fn comes(what: impl Fn() -> bool) -> bool {
        let looks = |_| {
            thread::sleep(Duration::from_millis(1));
            what()
        };
        (0..60_000).any(looks)
    }

    #[test]
    fn a_block_of_epochs_is_written_by_a_thread_and_a_disk_that_fails_stops_nothing() {
        let directory = TempDir::new().unwrap();
        let state = directory.path().join("state");
        fs::create_dir(&state).unwrap();
        let homes = homes(&state);
        let written = || fs::read_to_string(state.join("a.epochs")).unwrap_or_default();
        assert!(!written().is_empty());
        persist(&homes, 17_000);
        assert!(comes(|| written().starts_with("17000 ")));
        fs::rename(&state, directory.path().join("away")).unwrap();
        persist(&homes, 18_000);
        assert!(comes(|| homes.lock().disk_fails), "that is noticed, and said once");
        fs::rename(directory.path().join("away"), &state).unwrap();
        persist(&homes, 19_000);
        assert!(comes(|| written().starts_with("19000 ") && !homes.lock().disk_fails));
    }

    #[test]
    fn a_file_that_was_refused_at_the_start_is_not_written_over() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("a.epochs");
        fs::write(&path, "170").unwrap();
        let homes = homes(directory.path());
        assert!(homes.trouble.as_ref().is_some_and(|it| it.contains("not whole")));
        persist(&homes, 17_000);
        assert!(comes(|| homes.lock().disk_fails));
        assert_eq!(fs::read_to_string(&path).unwrap(), "170");
    }
}
