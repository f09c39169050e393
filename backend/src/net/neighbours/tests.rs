use super::*;
use crate::net::AddressSet;
use proptest::prelude::*;
use wireonce_frame::checksum::verify;
use wireonce_frame::sample::Sample;

const ASKER: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const OWNER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

fn vni(number: u32) -> Vni {
    Vni::new(number).unwrap()
}

fn four(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn six(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)
}

/// Network 7: the asker has address 1, the owner (a router) address 2.
fn table() -> Neighbours {
    let mut table = Neighbours::default();
    for (last, mac, router) in [(1, ASKER, false), (2, OWNER, true)] {
        let neighbour = Neighbour { mac, router };
        table.insert(vni(7), four(last).into(), neighbour);
        table.insert(vni(7), six(last.into()).into(), neighbour);
    }
    table
}

fn answer_in(network: u32, frame: &[u8]) -> Option<Vec<u8>> {
    let asker = PortPolicy::strict(ASKER, AddressSet::any(), 1500);
    let headers = Headers::parse(frame, frame.len()).unwrap();
    let mut out = vec![0xee; 3];
    let answered = table().answer(vni(network), &asker, frame, &headers, &mut out);
    assert!(answered || out == [0xee; 3], "out is untouched where there is no answer");
    answered.then_some(out)
}

fn answer(frame: &[u8]) -> Option<Vec<u8>> {
    answer_in(7, frame)
}

/// A broadcast ARP request of the asker.
fn arp_request(sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = build::gratuitous_arp(Binding { ip: sender, mac: ASKER }).to_vec();
    frame[38..42].copy_from_slice(&target.octets());
    frame
}

/// A neighbour solicitation of the asker to the target's solicited-node group.
fn solicitation(sender: Ipv6Addr, target: Ipv6Addr) -> Sample {
    let [.., a, b, c] = target.octets();
    let group = u128::from_be_bytes([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    let message = [[135, 0, 0, 0, 0, 0, 0, 0].as_slice(), &target.octets()].concat();
    Sample::icmp6(message)
        .macs(ASKER, MacAddr([0x33, 0x33, 0xff, a, b, c]))
        .ips(sender.into(), Ipv6Addr::from(group).into())
}

#[test]
fn a_question_for_a_known_address_is_answered_as_its_owner_would() {
    let owner = Binding { ip: four(2), mac: OWNER };
    let asker = Binding { ip: four(1), mac: ASKER };
    let expected = build::arp_reply(owner, asker).to_vec();
    assert_eq!(answer(&arp_request(four(1), four(2))), Some(expected));

    let owner = Binding { ip: six(2), mac: OWNER };
    let asker = Binding { ip: six(1), mac: ASKER };
    let expected = build::advertisement_reply(owner, asker, true).to_vec();
    let answered = answer(&solicitation(six(1), six(2)).build()).unwrap();
    assert_eq!(answered, expected);
    assert_eq!(verify(&answered), Some(true));
}

#[test]
fn an_unknown_address_or_another_network_is_not_answered() {
    assert_eq!(answer(&arp_request(four(1), four(3))), None);
    assert_eq!(answer(&solicitation(six(1), six(3)).build()), None);
    assert_eq!(answer_in(8, &arp_request(four(1), four(2))), None);
    assert_eq!(answer_in(8, &solicitation(six(1), six(2)).build()), None);
}

#[test]
fn nobody_objects_to_ones_own_address() {
    assert_eq!(answer(&arp_request(Ipv4Addr::UNSPECIFIED, four(1))), None, "probe");
    assert_eq!(answer(&arp_request(four(1), four(1))), None, "announcement");
    assert_eq!(answer(&arp_request(four(2), four(2))), None, "announcement");
    assert_eq!(answer(&solicitation(Ipv6Addr::UNSPECIFIED, six(1)).build()), None, "DAD");
}

#[test]
fn a_probe_for_the_address_of_another_learns_that_it_is_taken() {
    let probe = answer(&arp_request(Ipv4Addr::UNSPECIFIED, four(2))).unwrap();
    assert_eq!(probe[..6], ASKER.0);
    assert_eq!(probe[22..32], [&OWNER.0[..], &four(2).octets()].concat());

    let owner = Binding { ip: six(2), mac: OWNER };
    let expected = build::advertisement_of_duplicate(owner, ASKER, true).to_vec();
    let dad = solicitation(Ipv6Addr::UNSPECIFIED, six(2)).build();
    assert_eq!(answer(&dad), Some(expected));
}

#[test]
fn a_unicast_question_goes_on_to_the_owner() {
    let mut request = arp_request(four(1), four(2));
    request[..6].copy_from_slice(&OWNER.0);
    assert_eq!(answer(&request), None);
    let unicast = solicitation(six(1), six(2)).macs(ASKER, OWNER).build();
    assert_eq!(answer(&unicast), None);
}

#[test]
fn what_is_no_question_is_not_answered() {
    let mut reply = arp_request(four(1), four(2));
    reply[21] = 2;
    assert_eq!(answer(&reply), None);
    let mut advertisement = solicitation(six(1), six(2)).build();
    advertisement[54] = 136;
    assert_eq!(answer(&advertisement), None);
    let far = solicitation(six(1), six(2)).hop_limit(254).build();
    assert_eq!(answer(&far), None, "from beyond a router");
    let tagged = solicitation(six(1), six(2)).tag(0x8100, 5).build();
    assert_eq!(answer(&tagged), None, "inside a trunk");
    let udp = Sample::udp4().macs(ASKER, MacAddr::BROADCAST).build();
    assert_eq!(answer(&udp), None);
}

#[test]
fn what_is_removed_is_no_longer_answered() {
    let mut table = table();
    assert_eq!(table.len(), 4);
    let owner = Neighbour { mac: OWNER, router: true };
    assert_eq!(table.get(vni(7), four(2).into()), Some(owner));
    assert_eq!(table.remove(vni(7), four(2).into()), Some(owner));
    assert_eq!(table.get(vni(7), four(2).into()), None);
    assert!(!table.is_empty());
}

proptest! {
    #[test]
    fn a_question_changed_or_cut_anywhere_never_panics(
        arp in any::<bool>(),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
        len in any::<prop::sample::Index>(),
    ) {
        let mut frame = if arp {
            arp_request(four(1), four(2))
        } else {
            solicitation(six(1), six(2)).build()
        };
        let at = at.index(frame.len());
        frame[at] = value;
        frame.truncate(len.index(frame.len() + 1));
        if Headers::parse(&frame, frame.len()).is_ok()
            && let Some(answer) = answer(&frame)
        {
            // Whatever was asked, the answer goes to the asker alone.
            prop_assert_eq!(&answer[..6], &ASKER.0);
        }
    }
}
