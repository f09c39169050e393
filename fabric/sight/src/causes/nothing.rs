//! Nothing is wrong that we can see.

use super::{Found, Who, bandwidth};
use crate::{explain::Case, text};
use wireonce_ledger::{Amount, Stage};

/// What the guest offered all left, and what came for it was all delivered: look outside. Said only
/// if no cause was found, and only if both ends of the way are heard.
pub(super) fn nothing(case: &Case<'_>) -> Option<Found> {
    let server = case.server.as_ref().filter(|look| look.elapsed_us() > 0)?;
    let home = case.home?;
    case.gateway().filter(|look| look.elapsed_us() > 0)?;
    let of = |stage| case.at_server(stage);
    let dropped = [Stage::GuestTx, Stage::FabricTx, Stage::GuestRx]
        .into_iter()
        .filter_map(of)
        .any(|flow| flow.dropped().frames > 0);
    server.vnic(&case.vnic.name)?;
    if dropped || bandwidth::is_held(case) {
        return None;
    }
    let offered = of(Stage::GuestTx).map(|flow| flow.input).unwrap_or_default();
    let taken = of(Stage::GuestRx).map(|flow| flow.output).unwrap_or_default();
    let mut left = Amount::ZERO;
    let mut lost = 0;
    for (_, flow) in case.at_gateways(Stage::UplinkTx) {
        left += flow.output;
        lost += flow.dropped().frames;
    }
    if lost > 0 {
        return None;
    }
    if offered.frames == 0 && taken.frames == 0 {
        let what = "the guest offered no frame, and none came for it";
        return Some(Found::proved(&case.vnic.name, what, Who::GuestOwner));
    }
    let what = format!(
        "of what the guest offered ({}) nothing was held back or dropped, {} left at {}; {} were delivered to it: look outside",
        text::frames(offered),
        text::frames(left),
        home.name,
        text::frames(taken)
    );
    Some(Found::proved(format!("{} at {}", home.name, home.host), what, Who::Network))
}

#[cfg(test)]
mod tests {
    use super::{super::found, *};
    use crate::sample::{Bed, MBIT};
    use wireonce_ledger::DropReason;

    #[test]
    fn what_all_left_is_said_with_where() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(12 * MBIT));
        bed.gateway_a(|it| it.carries("vm-a", 12 * MBIT));
        let it = found(&bed, "vm-a", nothing).unwrap();
        assert!(it.what.contains("(1000 frames) nothing was held back or dropped"), "{}", it.what);
        assert!(it.what.contains("1000 frames left at east-1"), "{}", it.what);
        bed.server_a(|it| it);
        bed.gateway_a(|it| it);
        assert_eq!(found(&bed, "vm-a", nothing).unwrap().who, Who::GuestOwner, "it is idle");
    }

    #[test]
    fn it_is_not_said_when_something_was_dropped_or_somebody_is_not_heard() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(12 * MBIT));
        assert_eq!(found(&bed, "vm-a", nothing), None, "the gateway is not heard");
        bed.gateway_a(|it| it.flow("vm-a", Stage::UplinkTx, 5, &[(DropReason::UplinkBusy, 5)]));
        assert_eq!(found(&bed, "vm-a", nothing), None, "dropped at the gateway");
        bed.gateway_a(|it| it.carries("vm-a", 12 * MBIT));
        bed.server_a(|it| it.sends(12 * MBIT).held(MBIT, 1));
        assert_eq!(found(&bed, "vm-a", nothing), None, "held back");
    }
}
