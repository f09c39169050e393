//! What came over an interface, and when, by the kernel's own clock: `tcpdump` into a file.
//!
//! A thread of ours that wakes late would see frames late; the kernel stamps them as they come.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Context, Error, Result};
use crate::netns::Netns;
use crate::process::{Process, wait_until};

const LIMIT: Duration = Duration::from_secs(20);
/// A file that has not grown for so long has everything: tcpdump looks at least each second.
const QUIET: Duration = Duration::from_millis(1_100);
/// The same for one that writes each frame as it comes.
const PROMPT_QUIET: Duration = Duration::from_millis(100);
/// Bytes of each frame that are kept: all headers, and a number behind them.
const SNAP_LEN: usize = 64;
/// Kernel memory for frames that tcpdump has not read yet, in KiB.
const BUFFER_KIB: u32 = 65_536;
/// Where senders write a frame's number: behind its UDP header.
pub const NUMBER_AT: usize = 42;
/// Where `iperf3 -u` writes it, in network order: behind the time.
const IPERF_NUMBER_AT: usize = NUMBER_AT + 8;
/// Of a capture file and of each of its records, in bytes.
const FILE_HEADER_LEN: usize = 24;
const RECORD_HEADER_LEN: usize = 16;
/// pcap(5), microseconds, written on a little-endian machine.
const MAGIC: u32 = 0xa1b2_c3d4;

/// One frame that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// When: microseconds since 1970, as [`now_us`].
    pub at_us: u64,
    /// From whom.
    pub source_mac: [u8; 6],
    /// The whole frame, in bytes, without FCS.
    pub len: u32,
    /// What stands at [`NUMBER_AT`].
    pub number: u64,
    /// The number of a datagram of `iperf3 -u`, from 1.
    pub iperf_number: u32,
}

/// The time by the clock that stamps frames: microseconds since 1970.
#[must_use]
pub fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// A capture under way; it ends with this value.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Process,
    path: PathBuf,
    quiet: Duration,
}

impl Capture {
    /// Sees every frame that comes in by `interface` of `netns` and passes `filter`, such as `udp`
    /// (pcap-filter(7)), from now on; the file is in `dir`.
    ///
    /// # Errors
    /// tcpdump is missing, or does not listen in time.
    pub fn start(dir: &Path, netns: &Netns, interface: &str, filter: &str) -> Result<Self> {
        Self::begin(dir, netns, interface, filter, false)
    }

    /// As [`Self::start`], but each frame is written as it comes: dearer, and sooner over. For some
    /// thousand frames a second.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn prompt(dir: &Path, netns: &Netns, interface: &str, filter: &str) -> Result<Self> {
        Self::begin(dir, netns, interface, filter, true)
    }

    fn begin(
        dir: &Path,
        netns: &Netns,
        interface: &str,
        filter: &str,
        prompt: bool,
    ) -> Result<Self> {
        // Logs are appended to, and what an earlier one says is of no use here.
        let name = format!("capture-{}", now_us());
        let path = dir.join(format!("{name}.pcap"));
        let mut command = netns.command("tcpdump");
        // It would give up the right to write there.
        command.args(["-i", interface, "-Z", "root", "-Q", "in", "-s", &SNAP_LEN.to_string()]);
        if prompt {
            command.args(["--immediate-mode", "-U"]);
        }
        command.args(["-B", &BUFFER_KIB.to_string(), "-w"]).arg(&path).arg(filter);
        let mut tcpdump = Process::start(&name, dir, &mut command)?;
        wait_until("tcpdump to listen", LIMIT, || {
            tcpdump.must_be_alive()?;
            Ok(tcpdump.log().contains("listening on").then_some(()))
        })?;
        Ok(Self { tcpdump, path, quiet: if prompt { PROMPT_QUIET } else { QUIET } })
    }

    /// Ends it, and says what came, in order. Nothing must come any more: tcpdump leaves behind
    /// what it has not read when it ends.
    ///
    /// # Errors
    /// Frames go on coming, the kernel had to leave some out, or the file is cut short.
    pub fn stop(mut self) -> Result<Vec<Seen>> {
        self.drain()?;
        self.tcpdump.terminate(LIMIT)?;
        let log = self.tcpdump.log();
        if !log.contains("\n0 packets dropped by kernel") {
            return Err(Error::Unexpected(format!("the capture has holes: {log}")));
        }
        let bytes = fs::read(&self.path).context(|| "cannot read the capture".to_owned())?;
        fs::remove_file(&self.path).context(|| "cannot remove the capture".to_owned())?;
        parse(&bytes).ok_or_else(|| Error::Unexpected("the capture is cut short".to_owned()))
    }

    /// Waits until the file has not grown for a while.
    fn drain(&self) -> Result<()> {
        let mut len = None;
        wait_until("the capture to end", LIMIT, || {
            sleep(self.quiet);
            let now = fs::metadata(&self.path).map(|file| file.len()).ok();
            Ok((now.is_some() && std::mem::replace(&mut len, now) == now).then_some(()))
        })
    }
}

/// The frames of a capture file.
fn parse(bytes: &[u8]) -> Option<Vec<Seen>> {
    let word = |at: usize| -> Option<u32> {
        bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    };
    if bytes.len() < FILE_HEADER_LEN || word(0)? != MAGIC {
        return None;
    }
    let mut frames = Vec::new();
    let mut at = FILE_HEADER_LEN;
    while at < bytes.len() {
        let [seconds, us, kept, len] = [word(at)?, word(at + 4)?, word(at + 8)?, word(at + 12)?];
        let begin = at + RECORD_HEADER_LEN;
        at = begin + usize::try_from(kept).ok()?;
        let frame = bytes.get(begin..at)?;
        let source_mac = frame.get(6..)?.first_chunk().copied()?;
        let number = frame.get(NUMBER_AT..).and_then(|rest| rest.first_chunk().copied());
        let iperf = frame.get(IPERF_NUMBER_AT..).and_then(|rest| rest.first_chunk().copied());
        frames.push(Seen {
            at_us: u64::from(seconds) * 1_000_000 + u64::from(us),
            source_mac,
            len,
            number: number.map_or(0, u64::from_le_bytes),
            iperf_number: iperf.map_or(0, u32::from_be_bytes),
        });
    }
    Some(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        let mut bytes = MAGIC.to_le_bytes().to_vec();
        bytes.resize(FILE_HEADER_LEN, 0);
        for (us, number) in [(7u32, 1u64), (9, 2)] {
            for word in [3, us, 64, 1450] {
                bytes.extend(word.to_le_bytes());
            }
            let mut frame = [0; 64];
            frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
            frame[NUMBER_AT..NUMBER_AT + 8].copy_from_slice(&number.to_le_bytes());
            frame[IPERF_NUMBER_AT..IPERF_NUMBER_AT + 4].copy_from_slice(&us.to_be_bytes());
            bytes.extend(frame);
        }
        bytes
    }

    #[test]
    fn frames_have_their_time_their_source_and_their_number() {
        let frames = parse(&file()).unwrap();
        let source_mac = [2, 0, 0, 0, 0, 1];
        let first = Seen { at_us: 3_000_007, source_mac, len: 1450, number: 1, iperf_number: 7 };
        assert_eq!(frames, [first, Seen { at_us: 3_000_009, number: 2, iperf_number: 9, ..first }]);
    }

    #[test]
    fn a_file_that_is_cut_short_is_no_capture() {
        let bytes = file();
        assert_eq!(parse(&bytes[..bytes.len() - 1]), None);
        assert_eq!(parse(&bytes[..10]), None);
        assert_eq!(parse(b"something else, and longer than a header"), None);
    }
}
