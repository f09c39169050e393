//! The threads: started one after the other, ended together.

use super::{
    Inbox, Mail, Mailbox, Postman, Reply, Work,
    mailbox::{REPLY_TIMEOUT, mailbox},
};
use crate::HostError;
use std::{
    fmt, io,
    sync::mpsc::{self, Sender},
    thread::{self, JoinHandle},
};
use wireonce_ring::RingError;

/// What a worker gets when it is made.
pub struct Seat<W: Work> {
    /// Its number, counted from 0.
    pub number: u8,
    /// Its mail.
    pub inbox: Inbox<W>,
    /// The mailboxes of all workers, its own included, by number.
    pub colleagues: Vec<Mailbox<W>>,
}

/// The workers of a process. They end when this is dropped.
pub struct Workers<W: Work> {
    mailboxes: Vec<Mailbox<W>>,
    threads: Vec<JoinHandle<()>>,
}

impl<W: Work + 'static> Workers<W> {
    /// Starts `count` threads, named `name` and their number. `plan` says for each how it
    /// makes its worker; what it returns runs in the new thread. This returns when all
    /// workers are ready. Should one fail later, it says so on `failed`: end the process
    /// then (the module's documentation says why).
    ///
    /// # Errors
    /// No thread, no descriptor, or what a worker says why it cannot be made. No thread
    /// is left then.
    pub fn start<E, M>(
        name: &str,
        count: u16,
        failed: &Sender<String>,
        mut plan: impl FnMut(Seat<W>) -> M,
    ) -> Result<Self, E>
    where
        E: From<HostError> + Send + 'static,
        M: FnOnce() -> Result<W, E> + Send + 'static,
    {
        let count = u8::try_from(count).map_err(|_| HostError::Workers(count))?;
        let mut mailboxes = Vec::new();
        let mut inboxes = Vec::new();
        for _ in 0..count {
            let (mailbox, inbox) = mailbox().map_err(system("make a worker's mailbox"))?;
            mailboxes.push(mailbox);
            inboxes.push(inbox);
        }
        let mut workers = Self { mailboxes, threads: Vec::new() };
        for (number, inbox) in (0..count).zip(inboxes) {
            let make = plan(Seat { number, inbox, colleagues: workers.mailboxes.clone() });
            let failed = failed.clone();
            let failed = move |error: RingError| {
                // If nobody listens any more, we are being stopped.
                let _ = failed.send(format!("worker {number} failed: {error}"));
            };
            workers.threads.push(start_thread(format!("{name}-{number}"), make, failed)?);
        }
        Ok(workers)
    }

    /// Where commands for worker `number` go.
    #[must_use]
    pub fn mailbox(&self, number: usize) -> Option<&Mailbox<W>> {
        self.mailboxes.get(number)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.mailboxes.len()
    }

    /// Leaves each worker its `command`, by number, and waits until all have answered. An
    /// answer is `None` if the worker is gone or stuck. A worker for which there is no
    /// command is not asked.
    pub fn ask_all<T>(
        &self,
        mut command: impl FnMut(usize, Reply<T>) -> Option<W::Command>,
    ) -> Vec<(usize, Option<T>)> {
        let mut answers = Vec::new();
        for (number, mailbox) in self.mailboxes.iter().enumerate() {
            let (reply, answer) = mpsc::sync_channel(1);
            if let Some(command) = command(number, reply) {
                mailbox.post(command);
                answers.push((number, answer));
            }
        }
        let wait = |answer: mpsc::Receiver<T>| answer.recv_timeout(REPLY_TIMEOUT).ok();
        answers.into_iter().map(|(number, answer)| (number, wait(answer))).collect()
    }

    /// Who tells them of sessions.
    #[must_use]
    pub fn postman(&self) -> Postman<W> {
        Postman(self.mailboxes.clone())
    }

    /// What each tells about itself, but for those that do not answer.
    #[must_use]
    pub fn snapshots(&self) -> Vec<W::Snapshot> {
        self.mailboxes.iter().filter_map(Mailbox::snapshot).collect()
    }
}

impl<W: Work> Drop for Workers<W> {
    fn drop(&mut self) {
        for mailbox in &self.mailboxes {
            mailbox.leave(Mail::Stop);
        }
        for thread in self.threads.drain(..) {
            // A panic in a worker has ended the process already.
            let _ = thread.join();
        }
    }
}

/// Starts a thread that makes a worker with `make` and runs it. Returns when the worker
/// is ready, or with why it is not.
fn start_thread<W: Work, E: From<HostError> + Send + 'static>(
    name: String,
    make: impl FnOnce() -> Result<W, E> + Send + 'static,
    failed: impl FnOnce(RingError) + Send + 'static,
) -> Result<JoinHandle<()>, E> {
    let (ready, result) = mpsc::sync_channel(1);
    let run = move || {
        let mut worker = match make() {
            Ok(worker) => worker,
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
        };
        let _ = ready.send(Ok(()));
        if let Err(error) = worker.run() {
            failed(error);
        }
    };
    let refused = system("start a worker's thread");
    let thread = thread::Builder::new().name(name).spawn(run).map_err(&refused)?;
    result.recv().map_err(|_| refused(io::Error::other("it ended at once")))??;
    Ok(thread)
}

impl<W: Work> fmt::Debug for Seat<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("number", &self.number).finish_non_exhaustive()
    }
}

impl<W: Work> fmt::Debug for Workers<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("threads", &self.threads).finish_non_exhaustive()
    }
}

fn system(action: &'static str) -> impl Fn(io::Error) -> HostError {
    move |source| HostError::System { action, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SessionListener;
    use wireonce_link::{PeerId, SessionEvent};

    /// A worker with nothing to do but its mail. It tells on `ended` that it ended.
    struct Idler {
        seat: Seat<Self>,
        ended: Sender<u8>,
        news: usize,
    }

    /// The ring fails.
    struct Break;

    impl Work for Idler {
        type Command = Break;
        /// The worker's number and how much news it has had.
        type Snapshot = (u8, usize);

        fn run(&mut self) -> Result<(), RingError> {
            loop {
                match self.seat.inbox.next() {
                    None => thread::yield_now(),
                    Some(Mail::Session(_)) => self.news += 1,
                    Some(Mail::Snapshot(reply)) => {
                        reply.send((self.seat.number, self.news)).unwrap();
                    }
                    Some(Mail::Own(Break)) => {
                        return Err(RingError::Create(io::ErrorKind::OutOfMemory.into()));
                    }
                    Some(Mail::Stop) => return Ok(()),
                }
            }
        }
    }

    impl Drop for Idler {
        fn drop(&mut self) {
            let _ = self.ended.send(self.seat.number);
        }
    }

    fn start(
        count: u16,
        failed: &Sender<String>,
        ended: &Sender<u8>,
        refuses: Option<u8>,
    ) -> Result<Workers<Idler>, HostError> {
        Workers::start("idler", count, failed, |seat| {
            let ended = ended.clone();
            move || match refuses {
                Some(number) if number == seat.number => Err(HostError::Clock),
                _ => Ok(Idler { seat, ended, news: 0 }),
            }
        })
    }

    #[test]
    fn all_workers_hear_the_news_answer_and_end_together() {
        let (failed, failures) = mpsc::channel();
        let (ended, ends) = mpsc::channel();
        let workers = start(3, &failed, &ended, None).unwrap();
        assert_eq!(workers.count(), 3);
        workers.postman().session(SessionEvent::Down(PeerId(0)));
        assert_eq!(workers.snapshots(), [(0, 1), (1, 1), (2, 1)]);
        drop(workers);
        let mut ended: Vec<u8> = ends.try_iter().collect();
        ended.sort_unstable();
        assert_eq!(ended, [0, 1, 2], "they ended before the drop did");
        assert!(failures.try_recv().is_err(), "a stop is no failure");
    }

    #[test]
    fn a_worker_that_fails_says_so_and_the_others_answer() {
        let (failed, failures) = mpsc::channel();
        let (ended, _ends) = mpsc::channel();
        let workers = start(2, &failed, &ended, None).unwrap();
        workers.mailbox(0).unwrap().post(Break);
        let reason = failures.recv().unwrap();
        assert!(reason.starts_with("worker 0 failed: "), "{reason}");
        assert_eq!(workers.snapshots(), [(1, 0)]);
    }

    #[test]
    fn a_worker_that_cannot_be_made_takes_the_others_with_it() {
        let (failed, failures) = mpsc::channel();
        let (ended, ends) = mpsc::channel();
        let refused = start(3, &failed, &ended, Some(2));
        assert!(matches!(refused, Err(HostError::Clock)));
        assert_eq!(ends.try_iter().count(), 2);
        assert!(failures.try_recv().is_err());
    }

    #[test]
    fn more_workers_than_can_be_named_are_refused() {
        let (failed, _failures) = mpsc::channel();
        let refused = start(300, &failed, &mpsc::channel().0, None);
        assert!(matches!(refused, Err(HostError::Workers(300))));
    }
}
