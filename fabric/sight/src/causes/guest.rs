//! What the guest, its VMM or what it sends is the cause of.

use super::{
    Found, Who,
    reasons::{self, frames, list},
};
use crate::explain::Case;
use wireonce_ledger::{DropReason, Stage, status::VnicState};

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
    let drops = case.dropped(Stage::GuestTx, reasons::RULES);
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
    let drops = case.dropped(Stage::GuestTx, &[DropReason::Storm]);
    if drops.is_empty() {
        return None;
    }
    let what = format!("{} frames of broadcast or multicast were over its limit", frames(&drops));
    Some(Found::proved(format!("guard on {}", case.vnic.host), what, Who::GuestOwner))
}

/// The guest sends frames that are longer than its network takes.
pub(super) fn mtu(case: &Case<'_>) -> Option<Found> {
    let drops = case.dropped(Stage::GuestTx, &[DropReason::FrameLong]);
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
    let drops = case.dropped(Stage::GuestRx, reasons::GUEST_RX);
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

#[cfg(test)]
mod tests {
    use super::{super::found, *};
    use crate::sample::{Bed, MBIT};

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
}
