//! What all suites share: our program, huge pages, a folder, and how rounds are run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use wireonce_qemu_tests::hugepages::HugePages;
use wireonce_qemu_tests::process::run;
use wireonce_qemu_tests::watchdog::TempDir;
use wireonce_qemu_tests::{Error, Result, hugepages};

use crate::case::Times;
use crate::machine::Cores;
use crate::only_one::OnlyOne;
use crate::result::Build;
use crate::round::Rules;

/// Two switches with DPDK want 1.3 GB each and make do with less; testpmds want 128 MB each.
const HUGE_PAGES_MB: [u32; 3] = [4096, 3072, 2048];
const LIMIT: Duration = Duration::from_secs(10);

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// What stands in results: so many rounds.
    Full {
        /// Rounds of each case that count.
        rounds: usize,
    },
    /// One short round: shows that it works, says nothing about speed.
    Quick,
}

/// The VMs of the suite `guest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestPlan {
    /// How many, side by side.
    pub vms: u8,
    /// Queue pairs, processors and TCP connections of each.
    pub pairs: u16,
    /// How long each load takes; `None`: as long as a round's window.
    pub seconds: Option<u32>,
}

/// A run of the bench.
#[derive(Debug)]
pub struct Bench {
    /// Our program.
    pub binary: PathBuf,
    /// How rounds are run.
    pub rules: Rules,
    /// How much is measured.
    pub extent: Extent,
    /// Measure ours only: for profiles.
    pub alone: bool,
    /// The VMs of the suite `guest`.
    pub guests: GuestPlan,
    /// What our program is, for the results.
    pub build: Build,
    dir: TempDir,
    huge_pages: Option<HugePages>,
    only_one: Option<OnlyOne>,
}

impl Bench {
    /// A bench with a folder, and without [huge pages](Self::reserve_pages) yet.
    ///
    /// # Errors
    /// There is one processor only, or the folder cannot be made.
    pub fn new(binary: PathBuf, extent: Extent) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if cores < 2 {
            return Err(Error::Unexpected(
                "one processor only: at least two are needed, one for the device and one for \
                 the load"
                    .to_owned(),
            ));
        }
        Ok(Self {
            binary,
            rules: rules(extent),
            extent,
            alone: false,
            guests: GuestPlan { vms: 1, pairs: 1, seconds: None },
            build: Build::default(),
            dir: TempDir::new("bench")?,
            huge_pages: None,
            only_one: None,
        })
    }

    /// Asks our program what it is; `profile` is how it was built.
    ///
    /// # Errors
    /// It does not run here, or does not know `--version`.
    pub fn identify(&mut self, profile: &str) -> Result<()> {
        let said = run(Command::new(&self.binary).arg("--version"), LIMIT)?;
        self.build = Build { version: said.trim().to_owned(), profile: profile.to_owned() };
        Ok(())
    }

    /// Reserves the huge pages of testpmds and switches; they go with this value.
    ///
    /// # Errors
    /// The kernel has no 2 MB pages to give, or we are not root.
    pub fn reserve_pages(&mut self) -> Result<()> {
        let _none_before = self.huge_pages.replace(huge_pages()?);
        Ok(())
    }

    /// Keeps others from measuring on this machine until this value is gone, pages first.
    ///
    /// # Errors
    /// Another process measures, or we are not root.
    pub fn take_the_machine(&mut self) -> Result<()> {
        let _none_before = self.only_one.replace(OnlyOne::on_this_machine()?);
        Ok(())
    }

    /// Where logs and sockets may be.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Is this a smoke test only?
    #[must_use]
    pub fn is_quick(&self) -> bool {
        self.extent == Extent::Quick
    }

    /// Which processor does what.
    #[must_use]
    pub fn cores(&self) -> Cores {
        self.rules.cores
    }
}

/// As many as the kernel gives, of what is of use.
fn huge_pages() -> Result<HugePages> {
    let [most, some, least] = HUGE_PAGES_MB;
    hugepages::reserve(most)
        .or_else(|_| hugepages::reserve(some))
        .or_else(|_| hugepages::reserve(least))
}

fn rules(extent: Extent) -> Rules {
    let ms = Duration::from_millis;
    match extent {
        Extent::Full { rounds } => Rules {
            rounds,
            times: Times { warm_up: ms(300), window: ms(1000) },
            repeats: 2,
            repeat_until: None,
            patience: ms(3000),
            cores: Cores::default(),
        },
        Extent::Quick => Rules {
            rounds: 1,
            times: Times { warm_up: ms(100), window: ms(200) },
            repeats: 0,
            repeat_until: None,
            patience: Duration::ZERO,
            cores: Cores::default(),
        },
    }
}

/// Keeps all threads of a process on processor `cpu`, and those that it will start.
///
/// # Errors
/// The process is gone, or there is no such processor.
pub fn pin_process(pid: u32, cpu: u32) -> Result<()> {
    taskset(&["-a"], pid, cpu)
}

/// Keeps one thread on processor `cpu`.
///
/// # Errors
/// The thread is gone, or there is no such processor.
pub fn pin_thread(tid: u32, cpu: u32) -> Result<()> {
    taskset(&[], tid, cpu)
}

fn taskset(args: &[&str], id: u32, cpu: u32) -> Result<()> {
    let mut command = Command::new("taskset");
    command.args(args).args(["-p", "-c"]).arg(cpu.to_string()).arg(id.to_string());
    run(&mut command, LIMIT).map(drop)
}

/// Stops a process that polls without end, so that it takes no processor time from others.
///
/// # Errors
/// It is gone.
pub fn pause_process(pid: u32) -> Result<()> {
    signal(pid, "-STOP")
}

/// Lets a stopped process go on.
///
/// # Errors
/// It is gone.
pub fn resume_process(pid: u32) -> Result<()> {
    signal(pid, "-CONT")
}

fn signal(pid: u32, signal: &str) -> Result<()> {
    run(Command::new("kill").args([signal, &pid.to_string()]), LIMIT).map(drop)
}
