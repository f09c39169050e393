//! Receive buffers that paths borrow.

use super::*;

#[test]
fn a_frame_over_two_buffers_borrows_the_first_until_it_is_whole() {
    let [a, b] = sessions();
    let mut sender = Sender::new(&a, 0, 0);
    let (mut receiver, mut memory) = (lender(&b, 64), Memory::default());
    let sent = [vec![1; 5_000], vec![2; 900]];
    let datagrams = sender.datagrams(&sent);
    assert!(memory.receive(&mut receiver, &datagrams[..2]).is_empty());
    assert_eq!(memory.borrowed(), 1);
    assert!(memory.receive(&mut receiver, &datagrams[2..4]).is_empty());
    assert_eq!(memory.borrowed(), 2);
    assert!(memory.receive(&mut receiver, &datagrams[4..]) == sent);
    assert_eq!(memory.borrowed(), 0);
    // Nothing was copied.
    let path = receiver.sessions[&b.local_index].paths[0].as_ref().unwrap();
    assert_eq!(path.buffers_len(), 0);
}

#[test]
fn a_frame_over_more_buffers_than_a_path_may_borrow_is_copied() {
    let [a, b] = sessions();
    let mut sender = Sender::new(&a, 0, 0);
    let (mut receiver, mut memory) = (lender(&b, 64), Memory::default());
    let sent = [vec![1; 20_000], vec![2; 20_000]];
    let mut received = Vec::new();
    for datagram in sender.datagrams(&sent) {
        received.extend(memory.receive(&mut receiver, &[datagram]));
        assert!(memory.borrowed() <= 4);
    }
    assert!(received == sent);
    assert_eq!(memory.borrowed(), 0);
}

#[test]
fn all_paths_together_borrow_a_quarter_of_the_buffers_and_give_them_back_with_the_session() {
    let [a, b] = sessions();
    let (mut receiver, mut memory) = (lender(&b, 8), Memory::default());
    let sent = [vec![1; 2_500]];
    let mut rests = Vec::new();
    for (path, borrowed) in (0..4).zip([1, 2, 2, 2]) {
        let (worker, path) = (path % 2, path / 2 * 8);
        let mut datagrams = Sender::new(&pair_again(&a), worker, path).datagrams(&sent);
        rests.push(datagrams.split_off(1));
        assert!(memory.receive(&mut receiver, &datagrams).is_empty());
        assert_eq!(memory.borrowed(), borrowed);
    }
    // What is beyond was copied.
    for (rest, borrowed) in rests[1..].iter().zip([1, 1, 1]) {
        assert!(memory.receive(&mut receiver, rest) == sent);
        assert_eq!(memory.borrowed(), borrowed);
    }
    receiver.retire(b.peer, b.generation);
    memory.take_back(&mut receiver);
    assert_eq!(memory.borrowed(), 0);
}

#[test]
fn what_is_borrowed_is_copied_when_a_datagram_is_missing() {
    let [a, b] = sessions();
    let mut sender = Sender::new(&a, 0, 0);
    let (mut receiver, mut memory) = (lender(&b, 64), Memory::default());
    let sent = [vec![1; 5_000]];
    let datagrams = sender.datagrams(&sent);
    assert!(memory.receive(&mut receiver, &datagrams[..2]).is_empty());
    assert!(memory.receive(&mut receiver, &datagrams[3..]).is_empty());
    assert_eq!(memory.borrowed(), 0);
    assert!(memory.receive(&mut receiver, &datagrams[2..3]) == sent);
}
