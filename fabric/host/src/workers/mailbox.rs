//! What others want of a worker, which reads it between two batches, woken through its ring.

use super::Work;
use rustix::event::{EventfdFlags, eventfd};
use std::{
    fmt, io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};
use wireonce_link::SessionEvent;

/// Longest that a caller waits for a worker. A worker answers within a batch; this only
/// bounds the wait for one that is stuck.
pub(super) const REPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the answer to a command goes.
pub type Reply<T> = mpsc::SyncSender<T>;

/// What a worker of kind `W` can be asked.
pub enum Mail<W: Work> {
    /// News of a fabric session.
    Session(SessionEvent),
    /// Copy the counters.
    Snapshot(Reply<W::Snapshot>),
    /// What only this kind can be asked.
    Own(W::Command),
    /// End.
    Stop,
}

/// The sending end of a worker's mailbox.
pub struct Mailbox<W: Work> {
    letters: mpsc::Sender<Letter<W>>,
    bell: Arc<OwnedFd>,
    counted: Arc<AtomicUsize>,
}

/// The worker's end.
pub struct Inbox<W: Work> {
    letters: mpsc::Receiver<Letter<W>>,
    bell: Arc<OwnedFd>,
    counted: Arc<AtomicUsize>,
}

struct Letter<W: Work> {
    mail: Mail<W>,
    /// It takes one of the places of [`Mailbox::try_post`].
    counted: bool,
}

/// A new mailbox.
///
/// # Errors
/// The process has too many descriptors.
pub fn mailbox<W: Work>() -> io::Result<(Mailbox<W>, Inbox<W>)> {
    let (sender, receiver) = mpsc::channel();
    let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let counted = Arc::new(AtomicUsize::new(0));
    let mailbox =
        Mailbox { letters: sender, bell: Arc::clone(&bell), counted: Arc::clone(&counted) };
    Ok((mailbox, Inbox { letters: receiver, bell, counted }))
}

impl<W: Work> Mailbox<W> {
    /// Leaves a command. One for a worker that has ended is lost.
    pub fn post(&self, command: W::Command) {
        self.leave(Mail::Own(command));
    }

    /// Leaves a command and waits for its answer; `None` if the worker is gone, which
    /// shows at once, or stuck, which takes 2 s.
    pub fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> W::Command) -> Option<T> {
        self.leave_and_wait(|reply| Mail::Own(command(reply)))
    }

    /// Leaves a command of a kind that may come without end, if fewer than `places` of
    /// them are unread. False if not.
    #[must_use]
    pub fn try_post(&self, command: W::Command, places: usize) -> bool {
        if self.counted.fetch_add(1, Ordering::Relaxed) >= places {
            self.counted.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.send(Letter { mail: Mail::Own(command), counted: true });
        true
    }

    /// A copy of the counters; `None` if the worker is gone or stuck.
    pub(super) fn snapshot(&self) -> Option<W::Snapshot> {
        self.leave_and_wait(Mail::Snapshot)
    }

    pub(super) fn leave(&self, mail: Mail<W>) {
        self.send(Letter { mail, counted: false });
    }

    fn leave_and_wait<T>(&self, mail: impl FnOnce(Reply<T>) -> Mail<W>) -> Option<T> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.leave(mail(reply));
        answer.recv_timeout(REPLY_TIMEOUT).ok()
    }

    fn send(&self, letter: Letter<W>) {
        if self.letters.send(letter).is_ok() {
            // Fails only when the counter is full, and then the worker is awake.
            let _ = rustix::io::write(&*self.bell, &1_u64.to_ne_bytes());
        }
    }
}

impl<W: Work> Inbox<W> {
    /// The descriptor that signals whenever something comes. It need not be read.
    #[must_use]
    pub fn bell_fd(&self) -> RawFd {
        self.bell.as_raw_fd()
    }

    /// The next thing to do.
    pub fn next(&self) -> Option<Mail<W>> {
        let Letter { mail, counted } = self.letters.try_recv().ok()?;
        if counted {
            self.counted.fetch_sub(1, Ordering::Relaxed);
        }
        Some(mail)
    }
}

impl<W: Work> Clone for Mailbox<W> {
    fn clone(&self) -> Self {
        Self {
            letters: self.letters.clone(),
            bell: Arc::clone(&self.bell),
            counted: Arc::clone(&self.counted),
        }
    }
}

impl<W: Work> fmt::Debug for Mail<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Session(_) => "Session",
            Self::Snapshot(_) => "Snapshot",
            Self::Own(_) => "Own",
            Self::Stop => "Stop",
        })
    }
}

impl<W: Work> fmt::Debug for Mailbox<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("counted", &self.counted).finish_non_exhaustive()
    }
}

impl<W: Work> fmt::Debug for Inbox<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("counted", &self.counted).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use wireonce_ring::RingError;

    struct Fake;

    impl Work for Fake {
        type Command = u32;
        type Snapshot = u64;

        fn run(&mut self) -> Result<(), RingError> {
            Ok(())
        }
    }

    fn next(inbox: &Inbox<Fake>) -> Option<u32> {
        inbox.next().map(|mail| match mail {
            Mail::Own(command) => command,
            _ => panic!("not a command"),
        })
    }

    fn rings(inbox: &Inbox<Fake>) -> bool {
        let mut polled = [PollFd::new(&*inbox.bell, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec::default())).unwrap() > 0
    }

    #[test]
    fn commands_come_in_order_and_ring_the_bell() {
        let (mailbox, inbox) = mailbox().unwrap();
        assert!(!rings(&inbox));
        mailbox.post(1);
        mailbox.clone().post(2);
        assert!(rings(&inbox));
        assert_eq!([next(&inbox), next(&inbox), next(&inbox)], [Some(1), Some(2), None]);
    }

    #[test]
    fn who_asks_gets_the_answer() {
        let (mailbox, inbox) = mailbox::<Fake>().unwrap();
        let asking = std::thread::spawn(move || mailbox.snapshot());
        while !asking.is_finished() {
            match inbox.next() {
                Some(Mail::Snapshot(reply)) => reply.send(7).unwrap(),
                _ => std::thread::yield_now(),
            }
        }
        assert_eq!(asking.join().unwrap(), Some(7));
    }

    #[test]
    fn who_asks_a_worker_that_ends_hears_so() {
        let (mailbox, inbox) = mailbox::<Fake>().unwrap();
        let unread = mailbox.clone();
        let asking = std::thread::spawn(move || unread.snapshot());
        drop(inbox);
        assert_eq!(asking.join().unwrap(), None);
        assert_eq!(mailbox.snapshot(), None);
    }

    #[test]
    fn what_comes_without_end_has_so_many_places() {
        let (mailbox, inbox) = mailbox().unwrap();
        assert!(mailbox.try_post(1, 2));
        assert!(mailbox.try_post(2, 2));
        assert!(!mailbox.try_post(3, 2));
        mailbox.post(4);
        assert_eq!(next(&inbox), Some(1));
        assert!(mailbox.try_post(5, 2), "a command that was read frees its place");
        assert!(!mailbox.try_post(6, 2));
        assert_eq!([next(&inbox), next(&inbox), next(&inbox)], [Some(2), Some(4), Some(5)]);
        assert_eq!(next(&inbox), None);
    }
}
