//! Guests that send to the outside at a pace that can be changed while they run, and number what
//! they send. One thread drives them all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use wireonce_qemu_tests::capture::NUMBER_AT;
use wireonce_qemu_tests::cluster::{Cluster, VmPlan};
use wireonce_qemu_tests::{Error, Result};

use crate::driver::Port;
use crate::frames::{Flow, Mix, build};
use crate::machine::pin_this_thread;
use crate::suite::vm_vm::ipv4;

/// Nobody's: the outside drops what comes at once.
const OUTSIDE_MAC: [u8; 6] = [0x52, 0x54, 0, 0x99, 0, 1];
/// Bytes of each frame.
pub const FRAME_LEN: u16 = 1450;
/// Frames of one port in one turn of the thread.
const BATCH: u16 = 64;
/// How long the thread rests when nobody could send.
const REST: Duration = Duration::from_micros(100);

/// How fast a guest sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Not at all.
    Silent,
    /// As fast as its ring takes it.
    Full,
    /// One frame each so many microseconds; what was late is made up for.
    EveryUs(u32),
}

/// What the thread reads, and what it tells.
#[derive(Debug, Default)]
struct Shared {
    /// 0: silent; [`u64::MAX`]: full; else microseconds a frame.
    paces: Vec<AtomicU64>,
    /// Frames that the backend took out of each ring.
    sent: Vec<AtomicU64>,
    stop: AtomicBool,
}

/// The guests; they fall silent with this value.
#[derive(Debug)]
pub struct Senders {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Senders {
    /// Connects one guest for each VM of the cluster's plan; all are silent.
    ///
    /// # Errors
    /// A backend refuses.
    pub fn start(cluster: &Cluster, cpu: u32) -> Result<Self> {
        let vms = &cluster.plan().vms;
        let to = cluster.outside_address();
        let guests: Result<Vec<Guest>> = vms
            .iter()
            .map(|vm| Guest::new(vm, to, Port::connect(&cluster.vnic_socket(&vm.name))?))
            .collect();
        let mut guests = guests?;
        let count = |_: &VmPlan| AtomicU64::new(0);
        let shared = Arc::new(Shared {
            paces: vms.iter().map(count).collect(),
            sent: vms.iter().map(count).collect(),
            stop: AtomicBool::new(false),
        });
        let seen = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            let _where_it_may_run = pin_this_thread(cpu);
            while !seen.stop.load(Ordering::Relaxed) {
                turn(&mut guests, &seen)?;
            }
            Ok(())
        });
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Guest `index` sends at this pace from now on.
    pub fn set(&self, index: usize, pace: Pace) {
        let word = match pace {
            Pace::Silent => 0,
            Pace::Full => u64::MAX,
            Pace::EveryUs(us) => u64::from(us).max(1),
        };
        if let Some(order) = self.shared.paces.get(index) {
            order.store(word, Ordering::Relaxed);
        }
    }

    /// All of them.
    pub fn set_all(&self, pace: Pace) {
        (0..self.shared.paces.len()).for_each(|index| self.set(index, pace));
    }

    /// How many frames guest `index` has put into its ring.
    #[must_use]
    pub fn sent(&self, index: usize) -> u64 {
        self.shared.sent.get(index).map_or(0, |sent| sent.load(Ordering::Relaxed))
    }

    /// An error if the thread has ended.
    ///
    /// # Errors
    /// What ended it.
    pub fn must_run(&mut self) -> Result<()> {
        match self.thread.take_if(|thread| thread.is_finished()) {
            None => Ok(()),
            Some(thread) => match thread.join() {
                Ok(Err(error)) => Err(error),
                _ => Err(Error::Unexpected("the senders ended".to_owned())),
            },
        }
    }
}

impl Drop for Senders {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

struct Guest {
    port: Port,
    frame: Vec<u8>,
    number: u64,
    /// Since when it keeps its pace, which one, and how many it sent in it.
    kept: (Instant, u64, u64),
}

impl Guest {
    fn new(vm: &VmPlan, to: std::net::IpAddr, port: Port) -> Result<Self> {
        let std::net::IpAddr::V4(destination) = to else {
            return Err(Error::Unexpected("the outside has no IPv4 address".to_owned()));
        };
        let flow = Flow {
            source_mac: vm.mac_bytes(),
            destination_mac: OUTSIDE_MAC,
            source: ipv4(vm),
            destination,
        };
        let frame = build(&flow, Mix::Fixed(FRAME_LEN));
        Ok(Self { port, frame, number: 0, kept: (Instant::now(), 0, 0) })
    }

    /// Sends what its pace allows now; returns how many frames.
    fn send(&mut self, pace: u64) -> Result<u16> {
        self.port.receive(|_, _| {})?;
        let count = self.port.room()?.min(BATCH).min(self.due(pace));
        for _ in 0..count {
            self.number += 1;
            if let Some(field) = self.frame.get_mut(NUMBER_AT..NUMBER_AT + 8) {
                field.copy_from_slice(&self.number.to_le_bytes());
            }
            self.port.send(&self.frame, self.frame.len())?;
        }
        self.kept.2 += u64::from(count);
        Ok(count)
    }

    fn due(&mut self, pace: u64) -> u16 {
        if self.kept.1 != pace {
            self.kept = (Instant::now(), pace, 0);
        }
        let (since, _, sent) = self.kept;
        let allowed = match pace {
            0 => 0,
            u64::MAX => return u16::MAX,
            gap_us => u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX) / gap_us,
        };
        u16::try_from(allowed.saturating_sub(sent)).unwrap_or(u16::MAX)
    }
}

fn turn(guests: &mut [Guest], shared: &Shared) -> Result<()> {
    let mut idle = true;
    for ((guest, pace), sent) in guests.iter_mut().zip(&shared.paces).zip(&shared.sent) {
        idle &= guest.send(pace.load(Ordering::Relaxed))? == 0;
        sent.store(guest.number, Ordering::Relaxed);
    }
    if idle {
        thread::sleep(REST);
    }
    Ok(())
}
