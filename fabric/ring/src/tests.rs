//! The ring against the real kernel.

use crate::{Completion, MsgLayout, ReceivedMsg, Ring, Token, Wait};
use std::{
    io::Read,
    net::UdpSocket,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::net::UnixDatagram,
    },
};

const LAYOUT: MsgLayout = MsgLayout { name_len: 32, control_len: 64 };

fn eventfd() -> OwnedFd {
    // SAFETY: a plain system call.
    let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK) };
    assert!(fd >= 0);
    // SAFETY: the descriptor is new and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn kick(fd: &OwnedFd) {
    let one = 1_u64.to_ne_bytes();
    // SAFETY: eight readable bytes.
    let n = unsafe { libc::write(fd.as_raw_fd(), one.as_ptr().cast(), 8) };
    assert_eq!(n, 8);
}

fn wait_for(ring: &mut Ring, n: usize) -> Vec<Completion> {
    let mut completions = Vec::new();
    for _ in 0..100 {
        if completions.len() >= n {
            break;
        }
        ring.enter(Wait::AtMostUs(100_000), &mut completions).unwrap();
    }
    completions
}

#[test]
fn every_kick_is_an_event_though_nobody_reads_the_eventfd() {
    let mut ring = Ring::new().unwrap();
    let fd = eventfd();
    kick(&fd); // before it is armed: must not be lost
    ring.poll_multi(fd.as_raw_fd(), Token::new(3, 7)).unwrap();
    for _ in 0..3 {
        let events = wait_for(&mut ring, 1);
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].token, Token::new(3, 7));
        assert!(events[0].more);
        kick(&fd);
    }
}

#[test]
fn cancelled_polls_end_with_ecanceled() {
    let mut ring = Ring::new().unwrap();
    let fd = eventfd();
    let token = Token { kind: 1, generation: 9, index: 2 };
    ring.poll_multi(fd.as_raw_fd(), token).unwrap();
    ring.cancel(token).unwrap();
    let events = wait_for(&mut ring, 1);
    assert_eq!(events[0].token, token);
    assert_eq!(events[0].result, -libc::ECANCELED);
    assert!(!events[0].more);
}

#[test]
fn datagrams_arrive_with_their_sender() {
    let mut ring = Ring::new().unwrap();
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut group = ring.add_buffer_group(2, 2048).unwrap();
    ring.recv_msg_multi(receiver.as_raw_fd(), &group, LAYOUT, Token::new(1, 0)).unwrap();
    for round in 0_u8..10 {
        sender.send_to(&[round; 100], receiver.local_addr().unwrap()).unwrap();
        let events = wait_for(&mut ring, 1);
        let buffer = events[0].buffer.unwrap();
        group.take(buffer);
        let len = usize::try_from(events[0].result).unwrap();
        let msg = ReceivedMsg::parse(group.received(buffer, len).unwrap(), LAYOUT).unwrap();
        assert_eq!(msg.payload, &[round; 100]);
        assert_eq!(msg.source(), Some(sender.local_addr().unwrap()));
        assert!(!msg.truncated);
        group.recycle(buffer);
        assert!(group.received(buffer, len).is_none(), "a recycled buffer is the kernel's");
    }
    assert_eq!(group.taken(), 0);
}

#[test]
fn receiving_stops_without_buffers_and_goes_on_when_armed_again() {
    let mut ring = Ring::new().unwrap();
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut group = ring.add_buffer_group(1, 2048).unwrap();
    let token = Token::new(1, 0);
    ring.recv_msg_multi(receiver.as_raw_fd(), &group, LAYOUT, token).unwrap();
    for _ in 0..2 {
        sender.send_to(b"x", receiver.local_addr().unwrap()).unwrap();
    }
    let events = wait_for(&mut ring, 2);
    assert_eq!(events[1].result, -libc::ENOBUFS);
    assert!(!events[1].more);
    group.take(events[0].buffer.unwrap());
    group.recycle(events[0].buffer.unwrap());
    ring.recv_msg_multi(receiver.as_raw_fd(), &group, LAYOUT, token).unwrap();
    assert_eq!(wait_for(&mut ring, 1)[0].result, 16 + 32 + 64 + 1);
}

#[test]
fn sent_bytes_come_back() {
    let mut ring = Ring::new().unwrap();
    let (a, b) = UnixDatagram::pair().unwrap();
    for n in 0_u8..5 {
        ring.send(a.as_raw_fd(), vec![n; 50], Token::new(2, n.into())).unwrap();
    }
    assert_eq!(ring.sends_in_flight(), 5);
    let events = wait_for(&mut ring, 5);
    for (n, event) in (0_u8..5).zip(&events) {
        assert_eq!(event.token.index, u32::from(n));
        assert_eq!(event.result, 50);
        assert_eq!(event.sent.as_deref(), Some(&[n; 50][..]));
        let mut got = [0; 64];
        assert_eq!(b.recv(&mut got).unwrap(), 50);
        assert_eq!(got[0], n, "in the order in which they were queued");
    }
    assert_eq!(ring.sends_in_flight(), 0);
}

#[test]
fn a_full_eventfd_that_blocks_does_not_block_us() {
    let mut ring = Ring::new().unwrap();
    let fd = eventfd();
    let full = (u64::MAX - 1).to_ne_bytes();
    // SAFETY: eight readable bytes.
    assert_eq!(unsafe { libc::write(fd.as_raw_fd(), full.as_ptr().cast(), 8) }, 8);
    // SAFETY: a plain system call; it clears O_NONBLOCK as a hostile VMM may.
    assert_eq!(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, 0) }, 0);
    ring.signal(fd.as_raw_fd(), Token::new(5, 1)).unwrap();
    let mut completions = Vec::new();
    ring.enter(Wait::AtMostUs(20_000), &mut completions).unwrap();
    assert!(completions.is_empty(), "it waits in the kernel: {completions:?}");
    let mut count = [0; 8];
    // SAFETY: eight writable bytes.
    assert_eq!(unsafe { libc::read(fd.as_raw_fd(), count.as_mut_ptr().cast(), 8) }, 8);
    assert_eq!(wait_for(&mut ring, 1)[0].result, 8, "and goes on when there is room");
}

#[test]
fn buffer_counts_that_no_ring_takes_are_refused() {
    let mut ring = Ring::new().unwrap();
    let error = ring.add_buffer_group(3, 64).unwrap_err();
    assert!(error.to_string().contains("power of two"), "{error}");
}

#[test]
fn operations_that_find_the_queue_full_wait_their_turn_in_order() {
    for errno in [libc::EAGAIN, libc::EBUSY] {
        let mut ring = Ring::new().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        ring.refusal = Some(errno);
        // The submission queue takes 512.
        for n in 0_u16..1_200 {
            let bytes = n.to_le_bytes().to_vec();
            ring.write(writer.as_raw_fd(), bytes, Token::new(2, n.into())).unwrap();
        }
        let mut completions = Vec::new();
        // Does not sleep for good though it is told to: nothing would end that.
        ring.enter(Wait::Forever, &mut completions).unwrap();
        assert_eq!((completions.len(), ring.not_submitted()), (0, 1_200));
        ring.refusal = None;
        for _ in 0..1_000 {
            if completions.len() == 1_200 {
                break;
            }
            ring.enter(Wait::AtMostUs(10_000), &mut completions).unwrap();
        }
        assert!(completions.len() == 1_200 && completions.iter().all(|event| event.result == 2));
        for n in 0_u16..1_200 {
            let mut got = [0; 2];
            reader.read_exact(&mut got).unwrap();
            assert_eq!(u16::from_le_bytes(got), n);
        }
        assert_eq!((ring.sends_in_flight(), ring.not_submitted()), (0, 0));
    }
}

#[test]
fn a_broken_ring_says_so() {
    let mut ring = Ring::new().unwrap();
    ring.refusal = Some(libc::EBADF);
    let error = ring.enter(Wait::Forever, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("io_uring_enter"), "{error}");
}

#[test]
fn a_group_that_was_given_back_serves_the_next_who_asks_for_its_like() {
    let mut ring = Ring::new().unwrap();
    let first = ring.add_buffer_group(4, 4096).unwrap();
    let id = first.id();
    ring.give_back(first);
    assert_ne!(ring.add_buffer_group(8, 4096).unwrap().id(), id, "more buffers");
    assert_eq!(ring.add_buffer_group(4, 4096).unwrap().id(), id);
    assert_ne!(ring.add_buffer_group(4, 4096).unwrap().id(), id, "it is in use");
}
