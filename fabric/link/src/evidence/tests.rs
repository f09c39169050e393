//! Reports and fates against models without cleverness.

use super::*;
use crate::replay::ReplayWindow;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use wireonce_ledger::{Account, Amount, DropReason};

/// Missing: first number and how many.
fn report(numbers: Range<u64>, missing: &[(u64, u64)]) -> Evidence {
    let mut evidence = Evidence::new(numbers).unwrap();
    for (start, len) in missing {
        assert!(evidence.push(&(*start..start + len)), "{start}");
    }
    evidence
}

fn encoded(evidence: &Evidence) -> Vec<u8> {
    let mut bytes = Vec::new();
    evidence.encode(&mut bytes);
    bytes
}

/// Rising runs apart from each other, inside the span.
fn evidences() -> impl Strategy<Value = Evidence> {
    let runs = proptest::collection::vec((1u64..40, 1u64..40), 0..2 * LISTED_MAX);
    (0..u64::MAX - WINDOW, 1..=WINDOW, runs).prop_map(|(from, span, runs)| {
        let mut evidence = Evidence::new(from..from + span).unwrap();
        let mut at = from;
        for (skip, len) in runs {
            let run = at + skip..at + skip + len;
            at = run.end;
            let _ = evidence.push(&run);
        }
        evidence
    })
}

#[test]
fn every_fate_closes_the_account_in_its_own_way() {
    let amount = Amount::frame(60, 1);
    for fate in [Fate::Arrived, Fate::Lost, Fate::Unknown] {
        let mut account = Account::default();
        account.input += amount;
        fate.book(&mut account, amount);
        let booked = |of: Fate| if fate == of { amount } else { Amount::ZERO };
        assert_eq!(account.output, booked(Fate::Arrived));
        assert_eq!(account.dropped(DropReason::LostInFabric), booked(Fate::Lost));
        assert_eq!(account.dropped(DropReason::FateUnknown), booked(Fate::Unknown));
        assert_eq!(account.open_frames(), 0);
    }
}

proptest! {
    #[test]
    fn what_is_encoded_decodes(evidence in evidences()) {
        let bytes = encoded(&evidence);
        prop_assert!(bytes.len() <= EVIDENCE_LEN_MAX);
        prop_assert_eq!(Evidence::decode(&bytes), Ok(evidence));
        prop_assert!(Evidence::decode(&bytes[..bytes.len() - 1]).is_err());
        prop_assert!(Evidence::decode(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn what_decodes_encodes_to_the_same_bytes(
        evidence in evidences(),
        at in any::<prop::sample::Index>(),
        value: u8,
    ) {
        let mut bytes = encoded(&evidence);
        let at = at.index(bytes.len());
        bytes[at] = value;
        if let Ok(decoded) = Evidence::decode(&bytes) {
            prop_assert_eq!(encoded(&decoded), bytes);
        }
    }
}

#[test]
fn reports_that_contradict_themselves_are_refused() {
    let good = encoded(&report(100..200, &[(110, 10), (130, 1)]));
    assert!(Evidence::decode(&good).is_ok());
    // (position, bytes): span 0, span beyond the window, one gap too many, a gap that
    // touches, overlaps, is empty, ends outside.
    let bad: [(usize, &[u8]); 7] = [
        (8, &[0, 0]),
        (8, &[1, 16]),
        (10, &[3, 0]),
        (16, &[20, 0]),
        (16, &[15, 0]),
        (18, &[0, 0]),
        (18, &[71, 0]),
    ];
    for (at, change) in bad {
        let mut bytes = good.clone();
        bytes[at..at + change.len()].copy_from_slice(change);
        assert!(Evidence::decode(&bytes).is_err(), "{at} {change:?}");
    }
    let mut bytes = good;
    bytes[..8].fill(0xff);
    assert!(Evidence::decode(&bytes).is_err(), "the range overflows");
}

const A: u64 = 1;
const B: u64 = 2;

fn resolve(fates: &mut Fates, evidence: &Evidence) -> Vec<(u64, u64, Fate)> {
    let mut booked = Vec::new();
    fates.resolve(evidence, &mut |vnic, amount: Amount, fate| {
        booked.push((vnic, amount.frames, fate));
    });
    booked
}

fn send(fates: &mut Fates, span: RangeInclusive<u64>, vnic: u64) {
    assert_eq!(fates.sent(span, vnic, Amount::frame(100, 1)), None);
}

#[test]
fn a_frame_is_lost_if_any_of_its_datagrams_is() {
    for missing in 10..=14 {
        let mut fates = Fates::new();
        send(&mut fates, 10..=14, A);
        let evidence = report(0..20, &[(missing, 1)]);
        assert_eq!(resolve(&mut fates, &evidence), [(A, 1, Fate::Lost)]);
    }
    let mut fates = Fates::new();
    send(&mut fates, 10..=14, A);
    let evidence = report(0..20, &[(9, 1), (15, 1)]);
    assert_eq!(resolve(&mut fates, &evidence), [(A, 1, Fate::Arrived)]);
}

#[test]
fn a_datagram_shared_by_vnics_is_lost_for_all_of_them() {
    let mut fates = Fates::new();
    for _ in 0..3 {
        send(&mut fates, 5..=5, A);
        send(&mut fates, 5..=5, B);
    }
    send(&mut fates, 6..=6, A);
    let booked = resolve(&mut fates, &report(0..7, &[(5, 1)]));
    assert_eq!(booked, [(A, 3, Fate::Lost), (B, 3, Fate::Lost), (A, 1, Fate::Arrived)]);
    assert!(fates.is_empty());
}

#[test]
fn what_is_not_final_stays_open_and_earlier_news_is_kept() {
    let mut fates = Fates::new();
    send(&mut fates, 5..=9, A);
    send(&mut fates, 9..=12, B);
    assert_eq!(resolve(&mut fates, &report(0..7, &[(6, 1)])), []);
    assert_eq!(fates.oldest(), Some(5));
    // The second report does not reach back to number 6.
    assert_eq!(
        resolve(&mut fates, &report(7..13, &[])),
        [(A, 1, Fate::Lost), (B, 1, Fate::Arrived)]
    );
}

#[test]
fn numbers_that_no_report_covers_make_a_fate_unknown() {
    let mut fates = Fates::new();
    send(&mut fates, 1..=1, A);
    send(&mut fates, 2..=6, A);
    send(&mut fates, 7..=7, B);
    let booked = resolve(&mut fates, &report(4..8, &[]));
    assert_eq!(booked, [(A, 1, Fate::Unknown), (A, 1, Fate::Unknown), (B, 1, Fate::Arrived)]);
}

#[test]
fn an_entry_that_is_overwritten_is_returned_and_the_end_of_a_session_books_the_rest() {
    let mut fates = Fates::with_capacity(2);
    send(&mut fates, 1..=1, A);
    send(&mut fates, 2..=2, B);
    assert_eq!(fates.sent(3..=3, A, Amount::frame(7, 1)), Some((A, Amount::frame(100, 1))));
    let mut booked = Vec::new();
    fates.abandon(&mut |vnic, amount: Amount, fate| booked.push((vnic, amount.bytes, fate)));
    assert_eq!(booked, [(B, 100, Fate::Unknown), (A, 7, Fate::Unknown)]);
    assert!(fates.is_empty());
}

#[test]
fn reports_repeat_what_earlier_ones_said() {
    let mut window = ReplayWindow::new();
    assert_eq!(Evidence::about(&window, 1, 1), None, "nothing was received");
    for number in (1..=1_000).filter(|number| number % 100 != 0) {
        window.mark(number);
    }
    let evidence = Evidence::about(&window, 1, window.edge()).unwrap();
    assert_eq!((evidence.from(), evidence.to()), (1, 1_000));
    assert_eq!(evidence.missing().count(), 9);
    window.mark(5_000);
    let evidence = Evidence::about(&window, 1, 2_000).unwrap();
    assert_eq!((evidence.from(), evidence.to()), (5_001 - WINDOW, 2_000));
}

#[test]
fn a_window_full_of_gaps_fits_in_one_report() {
    let mut window = ReplayWindow::new();
    for number in (1..=2 * WINDOW).step_by(2) {
        window.mark(number);
    }
    let edge = window.edge();
    let evidence = Evidence::about(&window, 1, edge).unwrap();
    assert_eq!((evidence.from(), evidence.to()), (edge - WINDOW, edge));
    assert_eq!(evidence.missing().count() as u64, WINDOW / 2);
    let bytes = encoded(&evidence);
    assert_eq!(bytes.len(), EVIDENCE_LEN_MAX);
    assert_eq!(Evidence::decode(&bytes), Ok(evidence));
}

/// What is booked when these reports about `span`, sent for one vNIC, come in this order.
fn booked(span: RangeInclusive<u64>, reports: &[&Evidence]) -> Vec<Fate> {
    let mut fates = Fates::new();
    assert_eq!(fates.sent(span, 1, Amount::frame(60, 1)), None);
    let mut booked = Vec::new();
    for report in reports {
        fates.resolve(report, &mut |_, _, fate| booked.push(fate));
    }
    booked
}

#[test]
fn a_report_that_was_overtaken_by_a_later_one_changes_nothing() {
    // Each end of the frame 8 to 20 is told by another report; the overtaken one ends
    // between them.
    let (early, late, end) = (report(1..10, &[]), report(1..15, &[]), report(14..25, &[]));
    assert_eq!(booked(8..=20, &[&early, &late, &end]), [Fate::Arrived]);
    assert_eq!(booked(8..=20, &[&late, &early, &end]), [Fate::Arrived]);
    assert_eq!(booked(8..=20, &[&early, &end]), [Fate::Unknown], "14 follows on 10");
    let lossy = report(1..15, &[(12, 1)]);
    assert_eq!(booked(8..=20, &[&lossy, &early, &end]), [Fate::Lost]);
    // All is told already, and what is sent since is not concerned.
    assert_eq!(booked(3..=4, &[&late, &early, &early]), [Fate::Arrived]);
    assert_eq!(booked(20..=21, &[&late, &early]), []);
}

/// One frame of the model.
#[derive(Debug, Clone)]
struct Frame {
    span: RangeInclusive<u64>,
    vnic: u64,
}

#[derive(Debug, Clone)]
struct Round {
    /// Frames: vNIC, how many further datagrams it reaches into, and whether it
    /// begins in the datagram in which the one before ended.
    frames: Vec<(u64, u64, bool)>,
    lost_percent: u64,
    report_lost: bool,
}

fn rounds() -> impl Strategy<Value = Vec<Round>> {
    let frame = (0u64..3, prop_oneof![4 => Just(0u64), 1 => 1u64..50], any::<bool>());
    let round = (
        proptest::collection::vec(frame, 0..60),
        prop_oneof![3 => Just(0u64), 3 => 1u64..30, 1 => Just(100u64)],
        proptest::bool::weighted(0.3),
    );
    let round = round.prop_map(|(frames, lost_percent, report_lost)| Round {
        frames,
        lost_percent,
        report_lost,
    });
    proptest::collection::vec(round, 1..40)
}

type Books = BTreeMap<(u64, Fate), u64>;

proptest! {
    /// Frames over a lossy path, reports over another: every frame is booked once,
    /// as the datagrams that carried it really fared.
    #[test]
    fn fates_agree_with_what_happened(rounds in rounds(), seed: u64, lag in 0u64..80) {
        let mut random = crate::random::Seeded(seed);
        let mut window = ReplayWindow::new();
        let mut fates = Fates::with_capacity(1_000_000);
        let mut booked = Books::new();
        let mut sent: Vec<Frame> = Vec::new();
        let mut arrived = BTreeSet::new();
        let (mut next, mut told) = (0u64, 0u64);
        let count = rounds.len();
        for (at, round) in rounds.into_iter().enumerate() {
            let begun = next;
            for (vnic, reach, shares) in round.frames {
                let first = if shares { next.saturating_sub(1).max(begun) } else { next };
                let frame = Frame { span: first..=first + reach, vnic };
                next = first + reach + 1;
                let surplus = fates.sent(frame.span.clone(), vnic, Amount::frame(60, 1));
                prop_assert_eq!(surplus, None);
                sent.push(frame);
            }
            for number in begun..next {
                if random.next() % 100 >= round.lost_percent {
                    window.mark(number);
                    arrived.insert(number);
                }
            }
            // The unpacker is some numbers behind, but not at the end.
            let last = at + 1 == count;
            let edge = if last { window.edge() } else { window.edge().saturating_sub(lag) };
            if let Some(evidence) = Evidence::about(&window, 0, edge) {
                let evidence = Evidence::decode(&encoded(&evidence)).unwrap();
                if !round.report_lost || last {
                    told = told.max(evidence.to());
                    fates.resolve(&evidence, &mut |vnic, amount: Amount, fate| {
                        *booked.entry((vnic, fate)).or_default() += amount.frames;
                    });
                }
            }
        }
        let mut expected = Books::new();
        let mut open = 0;
        for frame in &sent {
            if *frame.span.end() >= told {
                open += 1;
                continue;
            }
            let lost = frame.span.clone().any(|number| !arrived.contains(&number));
            let fate = if lost { Fate::Lost } else { Fate::Arrived };
            *expected.entry((frame.vnic, fate)).or_default() += 1;
        }
        // Unknown is allowed only for what fell out of the window; it is never a
        // wrong answer.
        let total: u64 = booked.values().sum();
        prop_assert_eq!(total + open, sent.len() as u64);
        for vnic in 0..3 {
            let get = |books: &Books, fate| books.get(&(vnic, fate)).copied().unwrap_or(0);
            let unknown = get(&booked, Fate::Unknown);
            let mut short = 0;
            for fate in [Fate::Arrived, Fate::Lost] {
                prop_assert!(get(&booked, fate) <= get(&expected, fate), "{:?} {:?}", booked, expected);
                short += get(&expected, fate) - get(&booked, fate);
            }
            prop_assert_eq!(unknown, short);
            if next < WINDOW {
                prop_assert_eq!(unknown, 0, "all is within one window");
            }
        }
    }

    /// With every report delivered, nothing is ever unknown.
    #[test]
    fn without_lost_reports_every_fate_is_known(rounds in rounds(), seed: u64) {
        let mut random = crate::random::Seeded(seed);
        let mut window = ReplayWindow::new();
        let mut fates = Fates::with_capacity(1_000_000);
        let mut next = 0u64;
        for round in rounds {
            for (vnic, reach, _) in round.frames {
                let span = next..=next + reach;
                next += reach + 1;
                prop_assert_eq!(fates.sent(span.clone(), vnic, Amount::frame(60, 1)), None);
                for number in span {
                    if random.next() % 100 >= round.lost_percent {
                        window.mark(number);
                    }
                }
                let edge = window.edge();
                if let Some(evidence) = Evidence::about(&window, 0, edge) {
                    let mut fate_known = true;
                    fates.resolve(&evidence, &mut |_, _, fate| {
                        fate_known &= fate != Fate::Unknown;
                    });
                    prop_assert!(fate_known);
                }
            }
        }
    }
}
