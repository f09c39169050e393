use proptest::prelude::*;

use super::super::config::SocketMode;
use super::super::features::VERSION_1_BIT;
use super::*;

const R_ADDR: FrontendReq = FrontendReq::SET_VRING_ADDR;
const R_ENABLE: FrontendReq = FrontendReq::SET_VRING_ENABLE;

fn judge_of(pairs: u8) -> Judge {
    let mut config = DeviceConfig::new("v", "/v", SocketMode::Listen, [2, 0, 0, 0, 0, 1]);
    config.queue_pairs = pairs;
    config.mtu = 1500;
    Judge::new(config)
}

fn state(request: FrontendReq, index: u32, value: u32) -> Message {
    Message::new(request, [index.to_ne_bytes(), value.to_ne_bytes()].concat())
}

fn number(request: FrontendReq, value: u64) -> Message {
    Message::new(request, value.to_ne_bytes().to_vec())
}

fn addresses(index: u32, flags: u32, base: u64) -> Message {
    let mut payload = [index.to_ne_bytes(), flags.to_ne_bytes()].concat();
    for address in [base, base + 0x2000, base + 0x1000, 0] {
        payload.extend_from_slice(&address.to_ne_bytes());
    }
    Message::new(R_ADDR, payload)
}

/// A judge of one queue pair whose VMM has shared its first MiB.
fn judge_with_memory() -> Judge {
    let mut judge = judge_of(1);
    let payload = [0u64, 0, 0x10_0000, 0, 0].map(u64::to_ne_bytes).concat();
    let shared = ask(&mut judge, Message::new(FrontendReq::ADD_MEM_REG, payload));
    assert_eq!(shared, Ok(Verdict::Forward));
    judge
}

/// Judges with no ring running.
fn ask(judge: &mut Judge, mut message: Message) -> Result<Verdict, &'static str> {
    judge.judge(&mut message, 0).map_err(Refusal::name)
}

fn good_features() -> u64 {
    VERSION_1_BIT | PROTOCOL_FEATURES_BIT
}

#[test]
fn enables_before_the_first_set_features_are_held_and_replayed_once() {
    let mut judge = judge_of(2);
    for (index, enable) in [(0, 1), (1, 1), (3, 1), (3, 0)] {
        assert_eq!(ask(&mut judge, state(R_ENABLE, index, enable)), Ok(Verdict::Done(true)));
    }
    assert!(judge.take_held().is_empty());
    assert_eq!(
        ask(&mut judge, number(FrontendReq::SET_FEATURES, good_features())),
        Ok(Verdict::Forward)
    );
    let replayed: Vec<_> =
        judge.take_held().iter().map(|held| (held.u32_at(0), held.u32_at(4))).collect();
    assert_eq!(replayed, [(0, 1), (1, 1), (3, 0)]);
    assert!(judge.take_held().is_empty());
    assert_eq!(ask(&mut judge, state(R_ENABLE, 0, 0)), Ok(Verdict::Forward));
}

#[test]
fn set_features_of_older_qemu_gets_the_protocol_bit() {
    let mut judge = judge_of(1);
    ask(&mut judge, number(FrontendReq::SET_PROTOCOL_FEATURES, 0)).unwrap();
    let mut message = number(FrontendReq::SET_FEATURES, VERSION_1_BIT);
    judge.judge(&mut message, 0).unwrap();
    assert_eq!(message.u64_at(0), good_features());
}

#[test]
fn without_protocol_features_rings_cannot_be_enabled_one_by_one() {
    let mut judge = judge_of(1);
    let mut message = number(FrontendReq::SET_FEATURES, VERSION_1_BIT);
    judge.judge(&mut message, 0).unwrap();
    assert_eq!(message.u64_at(0), VERSION_1_BIT);
    assert_eq!(ask(&mut judge, state(R_ENABLE, 0, 1)), Err("not-negotiated"));
}

/// CVE-2020-10723: an index must be compared before it is cut down.
#[test]
fn vring_index_0x10000_is_refused() {
    for index in [2, 3, 0x100, 0x1_0000, 0x1_0001, u32::MAX] {
        for request in [
            FrontendReq::SET_VRING_NUM,
            FrontendReq::SET_VRING_BASE,
            FrontendReq::GET_VRING_BASE,
            R_ENABLE,
        ] {
            let verdict = ask(&mut judge_of(1), state(request, index, 1));
            assert_eq!(verdict, Err("ring-index"), "{request:?} {index:#x}");
        }
        let verdict = ask(&mut judge_of(1), addresses(index, 0, 0));
        assert_eq!(verdict, Err("ring-index"), "{index:#x}");
    }
    for value in [2, 0xff, 0x1_0000, 0x200, 0x1_0000_0000, 1 << 63] {
        for request in
            [FrontendReq::SET_VRING_KICK, FrontendReq::SET_VRING_CALL, FrontendReq::SET_VRING_ERR]
        {
            let verdict = ask(&mut judge_of(1), number(request, value));
            assert_eq!(verdict, Err("ring-index"), "{request:?} {value:#x}");
        }
    }
}

/// The control queue is never shown to the back-end, so the index after the
/// last pair does not exist (DPDK once sized an array without it).
#[test]
fn max_queue_pairs_plus_ctrl() {
    let mut judge = judge_of(8);
    ask(&mut judge, state(FrontendReq::SET_VRING_NUM, 15, 256)).unwrap();
    let verdict = ask(&mut judge, state(FrontendReq::SET_VRING_NUM, 16, 256));
    assert_eq!(verdict, Err("ring-index"));
}

#[test]
fn ring_sizes_are_powers_of_two_within_the_limit() {
    let size = |size| ask(&mut judge_of(1), state(FrontendReq::SET_VRING_NUM, 0, size));
    for wrong in [0, 3, 1000, 1025, 2048, 0x1_0000, 0x1_0100, u32::MAX] {
        assert_eq!(size(wrong), Err("ring-size"), "{wrong}");
    }
    for right in [1, 2, 256, 1024] {
        assert_eq!(size(right), Ok(Verdict::Forward), "{right}");
    }
}

#[test]
fn ring_bases_fit_16_bits() {
    let base = |base| ask(&mut judge_of(1), state(FrontendReq::SET_VRING_BASE, 0, base));
    assert_eq!(base(0xffff), Ok(Verdict::Forward));
    assert_eq!(base(0x1_0000), Err("ring-base"));
}

#[test]
fn ring_addresses_are_aligned_and_have_no_unknown_flags() {
    let mut judge = judge_with_memory();
    assert_eq!(ask(&mut judge, addresses(0, 0, 0x4000)), Ok(Verdict::Forward));
    assert_eq!(ask(&mut judge, addresses(0, 1, 0x4000)), Ok(Verdict::Forward));
    assert_eq!(ask(&mut judge, addresses(0, 2, 0x4000)), Err("ring-addresses"));
    for base in [0x4001, 0x4002, 0x4008] {
        assert_eq!(ask(&mut judge, addresses(0, 0, base)), Err("ring-addresses"));
    }
}

#[test]
fn each_part_of_a_ring_lies_in_shared_memory() {
    assert_eq!(ask(&mut judge_of(1), addresses(0, 0, 0x4000)), Err("no-shared-memory"));
    // Descriptors, available ring at 0x1000 after them, used ring at 0x2000.
    let mut judge = judge_with_memory();
    for base in [0, 0x10_0000 - 0x2010] {
        assert_eq!(ask(&mut judge, addresses(0, 0, base)), Ok(Verdict::Forward), "{base:#x}");
    }
    for base in [0x10_0000 - 0x2000, 0x10_0000 - 0x1000, 0x10_0000, !0xffff] {
        let refused = ask(&mut judge, addresses(0, 0, base));
        assert_eq!(refused, Err("ring-outside-memory"), "{base:#x}");
    }
}

/// CVE-2026-5747: a change after activation.
#[test]
fn set_vring_num_addr_base_while_running_is_refused() {
    let mut judge = judge_with_memory();
    ask(&mut judge, addresses(0, 0, 0x4000)).unwrap();
    let running = 0b01;
    let mut while_running = |mut message| judge.judge(&mut message, running).map_err(Refusal::name);
    assert_eq!(while_running(state(FrontendReq::SET_VRING_NUM, 0, 256)), Err("ring-runs"));
    assert_eq!(while_running(state(FrontendReq::SET_VRING_BASE, 0, 0)), Err("ring-runs"));
    assert_eq!(while_running(addresses(0, 0, 0x8000)), Err("ring-runs"));
    // The other ring is stopped.
    assert_eq!(while_running(state(FrontendReq::SET_VRING_NUM, 1, 256)), Ok(Verdict::Forward));
}

/// What QEMU does at the start and end of a migration.
#[test]
fn the_same_addresses_again_on_a_running_ring_change_nothing() {
    let mut judge = judge_with_memory();
    ask(&mut judge, addresses(0, 0, 0x4000)).unwrap();
    for flags in [1, 0] {
        let verdict = judge.judge(&mut addresses(0, flags, 0x4000), 1).unwrap();
        assert_eq!(verdict, Verdict::Done(true));
    }
    // Once the ring was stopped the old ones count for nothing.
    ask(&mut judge, state(FrontendReq::GET_VRING_BASE, 0, 0)).unwrap();
    let refused = judge.judge(&mut addresses(0, 0, 0x4000), 1).unwrap_err();
    assert_eq!(refused.name(), "ring-runs");
}

#[test]
fn features_are_frozen_while_a_ring_runs() {
    let mut judge = judge_of(1);
    let features = |bits| number(FrontendReq::SET_FEATURES, bits);
    judge.judge(&mut features(good_features()), 0).unwrap();
    judge.judge(&mut features(good_features()), 1).unwrap();
    let refused = judge.judge(&mut features(good_features() | 1), 1).unwrap_err();
    assert_eq!(refused.name(), "features-while-running");
    judge.judge(&mut features(good_features() | 1), 0).unwrap();
}

#[test]
fn features_that_were_never_offered_are_refused() {
    // LOG_ALL, RING_PACKED, ACCESS_PLATFORM, STATUS, RSS.
    for bit in [26, 34, 33, 16, 60] {
        let bits = good_features() | 1 << bit;
        assert_eq!(ask(&mut judge_of(1), number(FrontendReq::SET_FEATURES, bits)), Err("features"));
    }
    for bit in [1, 5, 8, 12, 13, 14, 16, 19, 40] {
        let verdict = ask(&mut judge_of(1), number(FrontendReq::SET_PROTOCOL_FEATURES, 1 << bit));
        assert_eq!(verdict, Err("protocol-features"), "{bit}");
    }
}

#[test]
fn queue_number_is_pairs_for_qemu_and_rings_for_the_others() {
    let mut qemu = judge_of(4);
    assert_eq!(
        ask(&mut qemu, Message::new(FrontendReq::GET_QUEUE_NUM, vec![])),
        Ok(Verdict::Number(4))
    );
    let mut others = judge_of(4);
    ask(&mut others, Message::new(FrontendReq::SET_OWNER, vec![])).unwrap();
    assert_eq!(
        ask(&mut others, Message::new(FrontendReq::GET_QUEUE_NUM, vec![])),
        Ok(Verdict::Number(8))
    );
    assert_eq!(ask(&mut others, Message::new(FrontendReq::SET_OWNER, vec![])), Err("owned-twice"));
}

#[test]
fn config_space_is_hidden_from_qemu() {
    let config = VhostUserProtocolFeatures::CONFIG.bits();
    let question = || Message::new(FrontendReq::GET_PROTOCOL_FEATURES, vec![]);
    let (mut qemu, mut other) = (judge_of(2), judge_of(2));
    let Ok(Verdict::Number(to_qemu)) = ask(&mut qemu, question()) else { panic!() };
    ask(&mut other, Message::new(FrontendReq::SET_OWNER, vec![])).unwrap();
    let Ok(Verdict::Number(to_others)) = ask(&mut other, question()) else { panic!() };
    // QEMU asks again for its second queue pair.
    ask(&mut qemu, Message::new(FrontendReq::SET_OWNER, vec![])).unwrap();
    assert_eq!(ask(&mut qemu, question()), Ok(Verdict::Number(to_qemu)));
    assert_eq!(to_qemu ^ to_others, config);
    assert_eq!(to_others & config, config);
}

#[test]
fn mtu_is_checked() {
    for (mtu, accepted) in [(68, true), (1500, true), (1501, false), (67, false), (u64::MAX, false)]
    {
        assert_eq!(
            ask(&mut judge_of(1), number(FrontendReq::NET_SET_MTU, mtu)),
            Ok(Verdict::Done(accepted))
        );
    }
}

#[test]
fn the_vnics_own_mac_and_no_other_is_announced() {
    let rarp = |mac: [u8; 8]| {
        ask(&mut judge_of(1), Message::new(FrontendReq::SEND_RARP, mac.to_vec())).unwrap()
    };
    assert_eq!(rarp([2, 0, 0, 0, 0, 1, 0, 0]), Verdict::Announce);
    assert_eq!(rarp([2, 0, 0, 0, 0, 2, 0, 0]), Verdict::Done(false));
    assert_eq!(rarp([0; 8]), Verdict::Done(false));
}

#[test]
fn a_kick_without_a_descriptor_is_refused_and_a_call_is_not() {
    let with_flag = |request| ask(&mut judge_of(1), number(request, NO_DESCRIPTOR_FLAG | 1));
    assert_eq!(with_flag(FrontendReq::SET_VRING_KICK), Err("kick-without-fd"));
    assert_eq!(with_flag(FrontendReq::SET_VRING_CALL), Ok(Verdict::Forward));
    assert_eq!(with_flag(FrontendReq::SET_VRING_ERR), Ok(Verdict::Forward));
}

#[test]
fn memory_slots_are_bounded() {
    let mut judge = judge_of(1);
    let region = |request, guest: u64| {
        let fields = [0, guest, 0x1000, guest, 0];
        Message::new(request, fields.iter().flat_map(|f: &u64| f.to_ne_bytes()).collect())
    };
    for slot in 0..128 {
        ask(&mut judge, region(FrontendReq::ADD_MEM_REG, slot << 12)).unwrap();
    }
    let verdict = ask(&mut judge, region(FrontendReq::ADD_MEM_REG, 1 << 40));
    assert_eq!(verdict, Err("region-count"));
    let mut judge = judge_of(1);
    for slot in 0..1000 {
        ask(&mut judge, region(FrontendReq::ADD_MEM_REG, slot << 12)).unwrap();
        ask(&mut judge, region(FrontendReq::REM_MEM_REG, slot << 12)).unwrap();
    }
}

/// QEMU 7.2 with `queues=2` says each of them twice.
#[test]
fn memory_slots_added_and_removed_twice_are_mapped_once() {
    let mut judge = judge_of(2);
    let region = |request, offset: u64, file| {
        let payload = [0, 0x1000, 0x1000, 0x7000, offset].map(u64::to_ne_bytes).concat();
        let mut message = Message::new(request, payload);
        message.file_ids = vec![(1, file)];
        message
    };
    let add = FrontendReq::ADD_MEM_REG;
    assert_eq!(ask(&mut judge, region(add, 0, 5)), Ok(Verdict::Forward));
    assert_eq!(ask(&mut judge, region(add, 0, 5)), Ok(Verdict::Done(true)));
    // Another file or another place in it is not the same: the daemon decides.
    assert_eq!(ask(&mut judge, region(add, 0, 6)), Ok(Verdict::Forward));
    assert_eq!(ask(&mut judge, region(add, 0x1000, 5)), Ok(Verdict::Forward));
    let remove = FrontendReq::REM_MEM_REG;
    assert_eq!(ask(&mut judge, region(remove, 0, 0)), Ok(Verdict::Forward));
    assert_eq!(ask(&mut judge, region(remove, 0, 0)), Ok(Verdict::Done(true)));
    assert_eq!(ask(&mut judge, region(add, 0, 5)), Ok(Verdict::Forward));
}

#[test]
fn enable_is_0_or_1() {
    assert_eq!(ask(&mut judge_of(1), state(R_ENABLE, 0, 2)), Err("enable-value"));
}

proptest! {
    /// Whatever comes, in whatever order, nothing panics, and no more than one
    /// enable for each ring is ever kept.
    #[test]
    fn any_sequence_of_messages_is_judged(
        steps in prop::collection::vec((1u32..45, any::<[u8; 40]>(), any::<u16>()), 0..60),
        pairs in 1u8..9,
    ) {
        let mut judge = judge_of(pairs);
        for (request, payload, running) in steps {
            let Ok(request) = FrontendReq::try_from(request) else { continue };
            let mut payload = payload.to_vec();
            // Small indices in half of the cases.
            if running & 1 == 1 {
                payload[1..4].fill(0);
            }
            let mut message = Message::new(request, payload);
            let verdict = judge.judge(&mut message, running);
            if let (Ok(Verdict::Forward), R_ENABLE | FrontendReq::SET_VRING_NUM) =
                (&verdict, request)
            {
                prop_assert!(message.u32_at(0) < u32::from(pairs) * 2);
            }
            prop_assert!(judge.take_held().len() <= usize::from(pairs) * 2);
        }
    }
}
