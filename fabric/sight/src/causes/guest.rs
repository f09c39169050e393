//! What the guest, its VMM or what it sends is the cause of.

use super::{
    Found, Who,
    reasons::{Family, frames, grown, list},
};
use crate::explain::Case;
use wireonce_ledger::{Stage, status::VnicState};
use wireonce_placement::Command;

/// No VMM is connected, or the guest's driver does not run.
pub(super) fn no_vmm(case: &Case<'_>) -> Option<Found> {
    let (now, _) = case.server.as_ref()?.vnic(&case.vnic.name)?;
    let place = format!("{} on {}", case.vnic.name, case.vnic.host);
    match now.state {
        VnicState::Running => None,
        VnicState::Down => {
            let what = format!("no VMM is connected to {}", case.vnic.socket);
            Some(Found::proved(place, what, Who::Virtualisation))
        }
        VnicState::Connected => {
            let what = "a VMM is connected, and the guest's driver does not run";
            Some(Found::proved(place, what, Who::GuestOwner))
        }
    }
}

/// The port guard turned frames of the guest away.
pub(super) fn guard(case: &Case<'_>) -> Option<Found> {
    let drops = case.dropped(Stage::GuestTx, &[Family::Rule]);
    if drops.is_empty() {
        return None;
    }
    let what = format!(
        "the port guard dropped {} frames that this vNIC may not send: {}",
        frames(&drops),
        list(&drops)
    );
    Some(Found::proved(format!("guard on {}", case.vnic.host), what, Who::GuestOwner))
}

/// The guest sends more broadcast or multicast than it may.
pub(super) fn storm(case: &Case<'_>) -> Option<Found> {
    let drops = case.dropped(Stage::GuestTx, &[Family::Storm]);
    if drops.is_empty() {
        return None;
    }
    let what = format!("{} frames of broadcast or multicast were over its limit", frames(&drops));
    Some(Found::proved(format!("guard on {}", case.vnic.host), what, Who::GuestOwner))
}

/// The guest sends frames that are longer than its network takes.
pub(super) fn mtu(case: &Case<'_>) -> Option<Found> {
    let drops = case.dropped(Stage::GuestTx, &[Family::Mtu]);
    if drops.is_empty() {
        return None;
    }
    let network = case.view.house.network(&case.vnic.network);
    let mtu = network.and_then(|network| network.mtu).unwrap_or(1500);
    let frames = frames(&drops);
    let what = format!(
        "{frames} frames were longer than the MTU of network {:?}, {mtu}: set that in the guest",
        case.vnic.network
    );
    Some(Found::proved(format!("guard on {}", case.vnic.host), what, Who::GuestOwner))
}

/// The guest does not take what comes for it.
pub(super) fn takes_nothing(case: &Case<'_>) -> Option<Found> {
    let drops = case.dropped(Stage::GuestRx, &[Family::RxRing]);
    if drops.is_empty() {
        return None;
    }
    let what = format!(
        "{} frames for the guest found no buffer in its receive ring: {}; it is too slow, or stands still",
        frames(&drops),
        list(&drops)
    );
    Some(Found::proved(format!("{} on {}", case.vnic.name, case.vnic.host), what, Who::GuestOwner))
}

/// A guest that it sends to does not take what comes for it. Books say of whom a server got frames, and
/// which guest lost some, and not of whom those were.
pub(super) fn neighbour_takes_nothing(case: &Case<'_>) -> Option<Found> {
    let others = case.at_others().filter(|(_, flow)| flow.output.frames > 0);
    let others = others
        .filter_map(|(server, flow)| Some((server, case.others.get(server)?, flow.output.frames)));
    let here = case.server.as_ref().map(|look| (case.vnic.host.as_str(), look, case.passed_here()));
    let places = here.into_iter().filter(|(.., frames)| *frames > 0).chain(others);
    let worst = places.flat_map(|(server, look, sent)| {
        let lossy = neighbours(case, server).filter_map(move |name| {
            let drops = grown(look.flow(name, Stage::GuestRx)?, &[Family::RxRing, Family::Stopped]);
            (!drops.is_empty()).then_some((name, drops))
        });
        lossy.map(move |(name, drops)| (frames(&drops), name, server, drops, sent))
    });
    let (_, name, server, drops, sent) = worst.max_by_key(|(count, ..)| *count)?;
    let what = format!(
        "{} sent {sent} frames to vNICs on {server}, and there the guest of {name} did not take what \
         came for it: {}",
        case.vnic.name,
        list(&drops)
    );
    let test = format!("`{}`", Command::Explain { vnic: name.to_owned() });
    Some(Found::likely(format!("{name} on {server}"), what, Who::GuestOwner, &test))
}

/// The other vNICs of its network on a server.
fn neighbours<'c>(case: &Case<'c>, server: &'c str) -> impl Iterator<Item = &'c str> {
    let vnic = case.vnic;
    let on_network = case.view.house.vnics().filter(move |it| it.network == vnic.network);
    let there = on_network.filter(move |it| it.host == server && it.name != vnic.name);
    there.map(|it| it.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::{super::found, *};
    use crate::sample::{Bed, MBIT};
    use wireonce_ledger::DropReason;

    fn well() -> Bed {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(MBIT));
        bed
    }

    fn with(stage: Stage, reason: DropReason) -> Bed {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(MBIT).drops(stage, reason, 7));
        bed
    }

    #[test]
    fn a_vnic_without_a_vmm_or_driver_is_found() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.state(VnicState::Down));
        let it = found(&bed, "vm-a", no_vmm).unwrap();
        assert_eq!(it.what, "no VMM is connected to /run/wireonce/vm-a.sock");
        bed.server_a(|it| it.state(VnicState::Connected));
        assert_eq!(found(&bed, "vm-a", no_vmm).unwrap().who, Who::GuestOwner);
    }

    #[test]
    fn a_running_guest_is_not_without_a_vmm() {
        assert_eq!(found(&well(), "vm-a", no_vmm), None);
        assert_eq!(found(&Bed::new(), "vm-a", no_vmm), None, "nobody says so");
    }

    #[test]
    fn rejections_of_the_guard_are_found_by_name() {
        let it = found(&with(Stage::GuestTx, DropReason::ArpSpoof), "vm-a", guard).unwrap();
        assert!(it.what.contains("dropped 7 frames") && it.what.ends_with("7 arp-spoof"));
        assert_eq!(it.who, Who::GuestOwner);
    }

    #[test]
    fn what_others_dropped_is_not_the_guards() {
        assert_eq!(found(&with(Stage::GuestTx, DropReason::Shaped), "vm-a", guard), None);
        assert_eq!(found(&well(), "vm-a", guard), None);
    }

    #[test]
    fn a_storm_over_the_limit_is_found() {
        let it = found(&with(Stage::GuestTx, DropReason::Storm), "vm-a", storm).unwrap();
        assert!(it.what.starts_with("7 frames of broadcast"), "{}", it.what);
    }

    #[test]
    fn a_storm_that_was_cut_elsewhere_is_not_the_guests() {
        assert_eq!(found(&with(Stage::GuestTx, DropReason::OutsideStorm), "vm-a", storm), None);
    }

    #[test]
    fn frames_over_the_mtu_are_found() {
        let it = found(&with(Stage::GuestTx, DropReason::FrameLong), "vm-a", mtu).unwrap();
        assert!(it.what.contains("network \"blue\", 1500"), "{}", it.what);
    }

    #[test]
    fn without_long_frames_there_is_nothing_about_the_mtu() {
        assert_eq!(found(&with(Stage::GuestTx, DropReason::FrameShort), "vm-a", mtu), None);
    }

    #[test]
    fn a_guest_that_takes_nothing_is_found() {
        let it = found(&with(Stage::GuestRx, DropReason::NoRxBuffers), "vm-a", takes_nothing);
        assert!(it.unwrap().what.starts_with("7 frames for the guest found no buffer"));
    }

    #[test]
    fn a_guest_that_takes_everything_is_not() {
        assert_eq!(found(&with(Stage::GuestRx, DropReason::PortDown), "vm-a", takes_nothing), None);
        assert_eq!(found(&well(), "vm-a", takes_nothing), None);
    }

    /// vm-a sends a hundred frames to server-b, where vm-b's guest loses some.
    fn to_neighbour(came: u64, lost: u64) -> Bed {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(MBIT));
        bed.server_b(|it| {
            let drops = [(DropReason::NoRxBuffers, lost)];
            it.flow("vm-a", Stage::FabricRx, came, &[]).flow("vm-b", Stage::GuestRx, 100, &drops)
        });
        bed
    }

    #[test]
    fn a_neighbour_that_takes_nothing_is_likely() {
        let it = found(&to_neighbour(100, 40), "vm-a", neighbour_takes_nothing).unwrap();
        assert_eq!((it.place.as_str(), it.sure), ("vm-b on server-b", super::super::Sure::Likely));
        assert_eq!(
            it.what,
            "vm-a sent 100 frames to vNICs on server-b, and there the guest of vm-b did not take what \
             came for it: 40 no-rx-buffers"
        );
        assert_eq!(it.test.as_deref(), Some("`wireonce explain vm-b`"));
    }

    #[test]
    fn a_neighbour_that_it_does_not_send_to_or_that_takes_everything_is_none() {
        assert_eq!(found(&to_neighbour(0, 40), "vm-a", neighbour_takes_nothing), None);
        assert_eq!(found(&to_neighbour(100, 0), "vm-a", neighbour_takes_nothing), None);
    }
}
