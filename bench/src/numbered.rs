//! Numbered datagrams one way: when each was sent, when and by which way it came, and what that says of
//! gaps, losses and doubles.

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use wireonce_qemu_tests::capture::{Seen, now_us};
use wireonce_qemu_tests::{Error, Result};

use crate::io_error;

/// A sender that nobody stops ends after so many datagrams.
const SENT_MAX: usize = 2_000_000;

/// What is sent each millisecond.
#[derive(Debug, Clone, Copy)]
pub struct Beat {
    /// Datagrams.
    pub datagrams: u32,
    /// Bytes in each, the number included.
    pub bytes: usize,
}

impl Beat {
    /// One small datagram: gaps are as exact as a millisecond, and nothing waits for the sender.
    pub const SPARSE: Self = Self { datagrams: 1, bytes: 8 };
    /// 32 Mbit/s.
    pub const LOAD: Self = Self { datagrams: 4, bytes: 1_000 };
}

/// A thread that sends; it ends with this value.
#[derive(Debug)]
pub struct Sender {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Vec<u64>>>>,
}

impl Sender {
    /// Sends numbers from 0 on by `socket`. A millisecond that the thread has slept through is made up for.
    #[must_use]
    pub fn start(socket: &Arc<UdpSocket>, to: SocketAddr, beat: Beat) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (socket, stopped) = (Arc::clone(socket), Arc::clone(&stop));
        let thread = thread::spawn(move || send(&socket, to, beat, &stopped));
        Self { stop, thread: Some(thread) }
    }

    /// Stops it. Returns when each datagram was sent, on the clock of [`now_us`].
    ///
    /// # Errors
    /// It could not send.
    pub fn end(mut self) -> Result<Vec<u64>> {
        self.stop.store(true, Ordering::Relaxed);
        let joined = self.thread.take().and_then(|thread| thread.join().ok());
        joined.ok_or_else(|| Error::Unexpected("the sender of numbers ended".to_owned()))?
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

fn send(socket: &UdpSocket, to: SocketAddr, beat: Beat, stop: &AtomicBool) -> Result<Vec<u64>> {
    let started = Instant::now();
    let mut sent_us = Vec::new();
    let mut payload = vec![0; beat.bytes.max(8)];
    let mut due = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) && sent_us.len() < SENT_MAX {
        for _ in 0..beat.datagrams {
            if let Some(number) = payload.first_chunk_mut() {
                *number = u64::try_from(sent_us.len()).unwrap_or(u64::MAX).to_le_bytes();
            }
            sent_us.push(now_us());
            socket.send_to(&payload, to).map_err(io_error("cannot send"))?;
        }
        due += Duration::from_millis(1);
        sleep(due.saturating_sub(started.elapsed()));
    }
    Ok(sent_us)
}

/// A datagram that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Came {
    /// When, by the kernel.
    pub at_us: u64,
    /// Which it is.
    pub number: u64,
    /// By which of the ways that were watched.
    pub way: usize,
}

/// What became of one sender's datagrams.
#[derive(Debug, Clone, Default)]
pub struct Story {
    sent_us: Vec<u64>,
    /// In order of time.
    came: Vec<Came>,
}

impl Story {
    /// Of what was sent, and what was seen on each way.
    #[must_use]
    pub fn new(sent_us: Vec<u64>, ways: &[Vec<Seen>]) -> Self {
        let came = |(way, seen): (usize, &Vec<Seen>)| -> Vec<Came> {
            seen.iter().map(|it| Came { at_us: it.at_us, number: it.number, way }).collect()
        };
        let mut came: Vec<Came> = ways.iter().enumerate().flat_map(came).collect();
        came.sort_by_key(|it| it.at_us);
        Self { sent_us, came }
    }

    /// How many were sent.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.sent_us.len()
    }

    /// The longest time without any that came, of those times that touch this span; in milliseconds.
    #[must_use]
    pub fn gap_ms(&self, from_us: u64, until_us: u64) -> f64 {
        longest_ms(self.came.iter().map(|it| it.at_us), from_us, until_us)
    }

    /// The longest time in which the sender itself sent none: as long as the machine kept it from it.
    #[must_use]
    pub fn pause_ms(&self, from_us: u64, until_us: u64) -> f64 {
        longest_ms(self.sent_us.iter().copied(), from_us, until_us)
    }

    /// How many came again after they had come.
    #[must_use]
    pub fn twice(&self) -> usize {
        self.came.len() - self.numbers().len()
    }

    /// When those were sent that never came.
    #[must_use]
    pub fn lost_us(&self) -> Vec<u64> {
        let came = self.numbers();
        let sent = (0..).zip(&self.sent_us);
        sent.filter(|(number, _)| !came.contains(number)).map(|(_, at_us)| *at_us).collect()
    }

    /// When the first one came by `way` that came after `since_us`.
    #[must_use]
    pub fn first_by(&self, way: usize, since_us: u64) -> Option<u64> {
        let first = self.came.iter().find(|it| it.way == way && it.at_us >= since_us);
        first.map(|it| it.at_us)
    }

    fn numbers(&self) -> HashSet<u64> {
        self.came.iter().map(|it| it.number).collect()
    }
}

/// The longest of the times between two events that touch the span; after the last one, until its end.
fn longest_ms(events_us: impl Iterator<Item = u64>, from_us: u64, until_us: u64) -> f64 {
    let (mut before_us, mut longest_us) = (None, 0);
    for at_us in events_us {
        if let Some(before_us) = before_us
            && at_us >= from_us
            && before_us <= until_us
        {
            longest_us = longest_us.max(at_us - before_us);
        }
        before_us = Some(at_us);
    }
    let after_us = until_us.saturating_sub(before_us.unwrap_or(from_us));
    longest_us.max(after_us) as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(at_us: u64, number: u64) -> Seen {
        Seen { at_us, source_mac: [2; 6], len: 60, number, iperf_number: 0 }
    }

    /// Five are sent, a millisecond apart; 0 and 1 come by the first way, 3 and 4 by the second.
    fn story() -> Story {
        let sent_us = (0..5).map(|n| 1_000 * n).collect();
        Story::new(
            sent_us,
            &[vec![seen(100, 0), seen(1_100, 1)], vec![seen(3_300, 3), seen(4_100, 4)]],
        )
    }

    #[test]
    fn a_gap_is_the_time_between_two_that_came_and_is_not_the_sender_s() {
        let story = story();
        assert!((story.gap_ms(1_000, 4_000) - 2.2).abs() < 1e-9);
        assert!((story.pause_ms(1_000, 4_000) - 1.0).abs() < 1e-9);
        assert!((story.gap_ms(3_500, 4_100) - 0.8).abs() < 1e-9, "what was before is not counted");
        // Nothing came any more: the gap goes on until the end of the span.
        assert!((story.gap_ms(4_000, 34_100) - 30.0).abs() < 1e-9);
    }

    #[test]
    fn what_never_came_is_lost_and_what_came_by_both_ways_came_twice() {
        let mut story = story();
        assert_eq!((story.lost_us(), story.twice()), (vec![2_000], 0));
        assert_eq!(story.first_by(1, 0), Some(3_300));
        assert_eq!(story.first_by(0, 2_000), None);
        story.came.push(Came { at_us: 5_000, number: 1, way: 1 });
        assert_eq!((story.twice(), story.sent()), (1, 5));
    }
}
