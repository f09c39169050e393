//! The ring itself.

use crate::{
    buffers::{BufferGroup, BufferId, Mapping},
    datagram::MsgLayout,
    token::{IGNORED, SLOT_BIT, Token},
};
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use std::{
    collections::{HashMap, VecDeque},
    io,
    marker::PhantomData,
    os::fd::RawFd,
    sync::Arc,
    time::Duration,
};

/// Entries of the submission queue: one worker pass queues at most this many
/// operations before it must enter the kernel.
const SQ_ENTRIES: u32 = 512;
/// Entries of the completion queue: kicks, receive buffers and sends in flight.
const CQ_ENTRIES: u32 = 4096;

/// While the kernel takes no operations, for want of memory, a caller that would sleep
/// in [`Ring::enter`] sleeps this long instead.
const REFUSED_PAUSE: Duration = Duration::from_micros(500);

/// What can go wrong with a ring.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The kernel refused the ring.
    #[error(
        "cannot create an io_uring: {0}; Linux 6.1 or newer is needed, with sysctl \
         kernel.io_uring_disabled = 0 (`wireonce doctor` says more)"
    )]
    Create(#[source] io::Error),
    /// The kernel refused to register something.
    #[error("cannot register {what} with the io_uring: {source}")]
    Register {
        /// What was to be registered.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Buffers in a number or of a length that no ring takes.
    #[error(
        "{count} buffers of {buffer_len} bytes: the number must be a power of two up to 32768, \
         the length below 4 GiB"
    )]
    BufferGroup {
        /// Number of buffers.
        count: u16,
        /// Length of each.
        buffer_len: usize,
    },
    /// No memory for receive buffers.
    #[error("cannot map {len} bytes for receive buffers: {source}")]
    Memory {
        /// Bytes asked for.
        len: usize,
        /// Why not.
        source: io::Error,
    },
    /// Waiting failed.
    #[error("io_uring_enter failed: {0}")]
    Enter(#[source] io::Error),
}

/// How long [`Ring::enter`] may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Look and come back.
    Poll,
    /// Until something completes.
    Forever,
    /// Until something completes, but no longer than this many microseconds.
    AtMostUs(u64),
}

/// Something that the kernel finished or, for a multishot operation, a part of it.
#[derive(Debug)]
pub struct Completion {
    /// What it is for.
    pub token: Token,
    /// The operation's result: bytes or poll events, or a negated errno.
    pub result: i32,
    /// The multishot operation goes on; if false it must be armed again.
    pub more: bool,
    /// The receive buffer that was filled; it is ours until recycled.
    pub buffer: Option<BufferId>,
    /// The bytes of a finished [`Ring::send`], for use in the next one.
    pub sent: Option<Vec<u8>>,
}

/// One io_uring, for the thread that made it.
pub struct Ring {
    uring: IoUring,
    /// Operations that found the submission queue full, in order. Each is one that the
    /// caller has under way, so the caller's own limits bound it.
    waiting: VecDeque<squeue::Entry>,
    sends: Vec<Option<SendSlot>>,
    free_sends: Vec<u32>,
    headers: HashMap<MsgLayout, Box<MsgHeader>>,
    // The kernel may write there as long as the ring lives; see `Drop`.
    buffer_memory: Vec<Arc<Mapping>>,
    /// Groups that nobody receives into now.
    spare_groups: Vec<BufferGroup>,
    not_send: PhantomData<*mut ()>,
    /// The kernel refuses every submission with this error.
    #[cfg(test)]
    pub(crate) refusal: Option<i32>,
}

#[derive(Debug)]
struct SendSlot {
    token: Token,
    bytes: Vec<u8>,
}

/// A `msghdr` of which the kernel reads only the two lengths, each time it receives.
struct MsgHeader(libc::msghdr);

impl std::fmt::Debug for MsgHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MsgHeader").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut ring = f.debug_struct("Ring");
        ring.field("sends_in_flight", &self.sends_in_flight()).finish_non_exhaustive()
    }
}

impl Ring {
    /// A new ring. Call it on the thread that will use it.
    ///
    /// # Errors
    /// [`RingError::Create`] if the kernel is too old or forbids io_uring.
    pub fn new() -> Result<Self, RingError> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(CQ_ENTRIES)
            .dontfork()
            .build(SQ_ENTRIES)
            .map_err(RingError::Create)?;
        Ok(Self {
            uring,
            waiting: VecDeque::new(),
            sends: Vec::new(),
            free_sends: Vec::new(),
            headers: HashMap::new(),
            buffer_memory: Vec::new(),
            spare_groups: Vec::new(),
            not_send: PhantomData,
            #[cfg(test)]
            refusal: None,
        })
    }

    /// Adds `count` receive buffers of `buffer_len` bytes each.
    ///
    /// # Errors
    /// [`RingError::BufferGroup`], [`RingError::Memory`] or [`RingError::Register`].
    pub fn add_buffer_group(
        &mut self,
        count: u16,
        buffer_len: usize,
    ) -> Result<BufferGroup, RingError> {
        let fits = |group: &BufferGroup| group.count() == count && group.buffer_len() == buffer_len;
        if let Some(at) = self.spare_groups.iter().position(fits) {
            return Ok(self.spare_groups.swap_remove(at));
        }
        let id = u16::try_from(self.buffer_memory.len())
            .map_err(|_| RingError::BufferGroup { count, buffer_len })?;
        let group = BufferGroup::register(&self.uring, id, count, buffer_len)?;
        self.buffer_memory.push(group.memory());
        Ok(group)
    }

    /// Keeps a group for the next one who asks for such buffers. The operations that
    /// received into it must have had their last completions.
    pub fn give_back(&mut self, group: BufferGroup) {
        self.spare_groups.push(group);
    }

    /// Reports each time that `fd` becomes readable, from now on and until
    /// cancelled. An eventfd need not be read: every write to it is an event.
    ///
    /// If the submission queue is full, the operation waits its turn: none is lost, and
    /// their order is kept.
    ///
    /// # Errors
    /// [`RingError::Enter`] if the ring is broken.
    pub fn poll_multi(&mut self, fd: RawFd, token: Token) -> Result<(), RingError> {
        let entry = opcode::PollAdd::new(types::Fd(fd), libc::POLLIN.unsigned_abs().into())
            .multi(true)
            .build();
        self.push(&entry.user_data(token.to_user_data()))
    }

    /// Reports once that `fd` can be written to.
    ///
    /// # Errors
    /// As for [`Self::poll_multi`].
    pub fn poll_writable(&mut self, fd: RawFd, token: Token) -> Result<(), RingError> {
        let events = libc::POLLOUT.unsigned_abs().into();
        let entry = opcode::PollAdd::new(types::Fd(fd), events).build();
        self.push(&entry.user_data(token.to_user_data()))
    }

    /// Receives messages from `fd` into the buffers of `group`, one buffer each,
    /// until it runs out of buffers ([`Completion::more`] is then false).
    ///
    /// # Errors
    /// As for [`Self::poll_multi`].
    pub fn recv_msg_multi(
        &mut self,
        fd: RawFd,
        group: &BufferGroup,
        layout: MsgLayout,
        token: Token,
    ) -> Result<(), RingError> {
        let header = self.headers.entry(layout).or_insert_with(|| {
            // SAFETY: all zeroes is a valid msghdr: null pointers and zero lengths.
            let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
            header.msg_namelen = layout.name_len;
            header.msg_controllen = layout.control_len as usize;
            Box::new(MsgHeader(header))
        });
        let entry = opcode::RecvMsgMulti::new(types::Fd(fd), &raw const header.0, group.id())
            .build()
            .user_data(token.to_user_data());
        self.push(&entry)
    }

    /// Queues `bytes` to be sent on the socket `fd`, as one message. They come back
    /// in [`Completion::sent`]. Queued sends on one socket go out in order as long
    /// as it has room; one that finds no room waits in the kernel.
    ///
    /// # Errors
    /// As for [`Self::poll_multi`].
    pub fn send(&mut self, fd: RawFd, bytes: Vec<u8>, token: Token) -> Result<(), RingError> {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(types::Fd(fd), bytes.as_ptr(), len).build();
        self.push_owned(entry, bytes, token)
    }

    /// Queues `bytes` to be written to `fd`, in one write.
    ///
    /// # Errors
    /// As for [`Self::poll_multi`].
    pub fn write(&mut self, fd: RawFd, bytes: Vec<u8>, token: Token) -> Result<(), RingError> {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let entry = opcode::Write::new(types::Fd(fd), bytes.as_ptr(), len).build();
        self.push_owned(entry, bytes, token)
    }

    /// Adds one to an eventfd. If the other side made it block and filled it, a thread
    /// of the kernel waits, not this one: keep one signal in flight for each eventfd.
    ///
    /// # Errors
    /// As for [`Self::poll_multi`].
    pub fn signal(&mut self, fd: RawFd, token: Token) -> Result<(), RingError> {
        static ONE: u64 = 1;
        let len = u32::try_from(size_of_val(&ONE)).unwrap_or(8);
        let entry = opcode::Write::new(types::Fd(fd), (&raw const ONE).cast(), len).build();
        self.push(&entry.user_data(token.to_user_data()))
    }

    /// Sends and writes that the kernel has not finished.
    #[must_use]
    pub fn sends_in_flight(&self) -> usize {
        self.sends.len() - self.free_sends.len()
    }

    /// Cancels the operation of `token`; its last completion still comes, with
    /// `-ECANCELED` or its result.
    ///
    /// # Errors
    /// As for [`Self::poll_multi`].
    pub fn cancel(&mut self, token: Token) -> Result<(), RingError> {
        let entry = opcode::AsyncCancel::new(token.to_user_data()).build();
        self.push(&entry.user_data(IGNORED))
    }

    /// Submits what is queued, waits as told, and moves what has completed to
    /// `completions`, which it does not clear. Does not wait for completions while the
    /// kernel takes no operations: then it pauses for some hundred microseconds at most.
    ///
    /// # Errors
    /// [`RingError::Enter`]; a signal or a time-out is not an error.
    pub fn enter(
        &mut self,
        wait: Wait,
        completions: &mut Vec<Completion>,
    ) -> Result<(), RingError> {
        self.refill();
        let ready = !self.uring.completion().is_empty();
        let now = if ready || !self.waiting.is_empty() { Wait::Poll } else { wait };
        let taken = self.submit(now)?;
        let before = completions.len();
        self.drain(completions);
        self.refill();
        let stuck = !taken && wait != Wait::Poll && completions.len() == before;
        if stuck {
            std::thread::sleep(REFUSED_PAUSE);
        }
        Ok(())
    }

    /// Operations that the kernel has not been given yet.
    #[cfg(test)]
    pub(crate) fn not_submitted(&mut self) -> usize {
        self.waiting.len() + self.uring.submission().len()
    }

    /// Moves operations that wait to the submission queue, as far as it has room.
    fn refill(&mut self) {
        while let Some(entry) = self.waiting.pop_front() {
            if !self.offer(&entry) {
                self.waiting.push_front(entry);
                return;
            }
        }
    }

    /// Puts an operation into the submission queue. False if that is full.
    fn offer(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: every operation built in this module points only to memory that this
        // ring owns until the operation's last completion (send slots, message headers),
        // to a static, or to buffers that the kernel was given (`BufferGroup`).
        unsafe { self.uring.submission().push(entry) }.is_ok()
    }

    /// Gives the kernel what is in the submission queue. False if it refused for now:
    /// no memory for requests (`EAGAIN`), or too many completions not taken (`EBUSY`).
    fn submit(&mut self, wait: Wait) -> Result<bool, RingError> {
        let queue = self.uring.submission();
        let nothing_to_do = queue.is_empty() && !queue.taskrun() && !queue.cq_overflow();
        drop(queue);
        #[cfg(test)]
        if let Some(errno) = self.refusal {
            return refused(&io::Error::from_raw_os_error(errno))
                .ok_or(RingError::Enter(io::Error::from_raw_os_error(errno)));
        }
        let result = match wait {
            Wait::Poll if nothing_to_do => return Ok(true),
            Wait::Poll => self.uring.submit(),
            Wait::Forever => self.uring.submit_and_wait(1),
            Wait::AtMostUs(us) => {
                let nanoseconds = u32::try_from(us % 1_000_000 * 1_000).unwrap_or(0);
                let time = types::Timespec::new().sec(us / 1_000_000).nsec(nanoseconds);
                let args = types::SubmitArgs::new().timespec(&time);
                self.uring.submitter().submit_with_args(1, &args)
            }
        };
        match result {
            Ok(_) => Ok(true),
            Err(error) => refused(&error).ok_or(RingError::Enter(error)),
        }
    }

    fn drain(&mut self, completions: &mut Vec<Completion>) {
        for entry in self.uring.completion() {
            let user_data = entry.user_data();
            if user_data == IGNORED {
                continue;
            }
            let flags = entry.flags();
            let (token, sent) = if user_data & SLOT_BIT == 0 {
                (Token::from_user_data(user_data), None)
            } else {
                let Ok(slot) = u32::try_from(user_data & !SLOT_BIT) else { continue };
                let Some(send) = self.sends.get_mut(slot as usize).and_then(Option::take) else {
                    continue;
                };
                self.free_sends.push(slot);
                (send.token, Some(send.bytes))
            };
            completions.push(Completion {
                token,
                result: entry.result(),
                more: cqueue::more(flags),
                buffer: cqueue::buffer_select(flags),
                sent,
            });
        }
    }

    fn push_owned(
        &mut self,
        entry: squeue::Entry,
        bytes: Vec<u8>,
        token: Token,
    ) -> Result<(), RingError> {
        let slot = self.free_sends.pop().unwrap_or_else(|| {
            self.sends.push(None);
            u32::try_from(self.sends.len() - 1).unwrap_or(u32::MAX)
        });
        // The heap block of `bytes` does not move when the vector itself does.
        self.sends[slot as usize] = Some(SendSlot { token, bytes });
        self.push(&entry.user_data(SLOT_BIT | u64::from(slot)))
    }

    fn push(&mut self, entry: &squeue::Entry) -> Result<(), RingError> {
        self.refill();
        if self.waiting.is_empty() && self.offer(entry) {
            return Ok(());
        }
        self.submit(Wait::Poll)?;
        self.refill();
        // Behind those that came before it.
        if !self.waiting.is_empty() || !self.offer(entry) {
            self.waiting.push_back(entry.clone());
        }
        Ok(())
    }
}

/// Whether the kernel did what it was entered for; `None` if the ring is broken.
fn refused(error: &io::Error) -> Option<bool> {
    match error.raw_os_error() {
        Some(libc::ETIME | libc::EINTR) => Some(true),
        Some(libc::EBUSY | libc::EAGAIN) => Some(false),
        _ => None,
    }
}

impl Drop for Ring {
    /// Waits, within bounds, for sends that the kernel still reads from. What is not
    /// finished by then is leaked rather than freed under the kernel's hands, and so
    /// is all that armed operations may still touch: closing a ring does not wait.
    fn drop(&mut self) {
        let mut completions = Vec::new();
        let mut rounds = 0;
        while self.sends_in_flight() > 0 && rounds < 100 {
            if self.enter(Wait::AtMostUs(1_000), &mut completions).is_err() {
                break;
            }
            completions.clear();
            rounds += 1;
        }
        for send in self.sends.drain(..).flatten() {
            std::mem::forget(send.bytes);
        }
        for (_, header) in self.headers.drain() {
            std::mem::forget(header);
        }
        for memory in self.buffer_memory.drain(..) {
            std::mem::forget(memory);
        }
    }
}
