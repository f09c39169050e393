//! Nothing is wrong that we can see.

use super::{Found, Who, bandwidth, downwards, dropped};
use crate::{explain::Case, look::Look, text};
use wireonce_ledger::Stage;

/// Hosts report at different moments: so many percent are no difference.
const SAME_PERCENT: u64 = 5;

/// Nothing of what the guest offered was held back or dropped. Said only if no cause was found, and only
/// if both ends of the way are heard. It is proved if all that the guest offered left at uplinks: then
/// it is to be looked for outside. What went to other vNICs is known to have come to their hosts, and not
/// to which guest; and what is missing at both is said to be.
pub(super) fn nothing(case: &Case<'_>) -> Option<Found> {
    let server = case.server.as_ref().filter(|look| look.elapsed_us() > 0)?;
    if case.home.is_some() {
        case.gateway().filter(|look| look.elapsed_us() > 0)?;
    }
    server.vnic(&case.vnic.name)?;
    if dropped::is_any(case) || bandwidth::is_held(case) || downwards::is_held(case) {
        return None;
    }
    let went = Went::of(case, server);
    let taken = case.at_server(Stage::GuestRx).map(|flow| flow.output).unwrap_or_default();
    if went.offered == 0 && taken.frames == 0 {
        let what = "the guest offered no frame, and none came for it";
        return Some(Found::proved(&case.vnic.name, what, Who::GuestOwner));
    }
    let offered = case.at_server(Stage::GuestTx).map(|flow| flow.input).unwrap_or_default();
    let mut what = format!(
        "of what the guest offered ({}) nothing was held back or dropped",
        text::frames(offered)
    );
    if let Some(home) = case.home {
        what += &format!(", {} left at {}", frames(went.left), home.name);
    }
    if went.neighbours() > 0 {
        what += &format!(", {} went to other vNICs", frames(went.neighbours()));
    }
    what += &format!("; {} were delivered to it", text::frames(taken));
    let place = match case.home {
        Some(home) => format!("{} at {}", home.name, home.host),
        None => format!("{} on {}", case.vnic.name, case.vnic.host),
    };
    Some(if case.home.is_some() && went.is_same(went.left) {
        what += ": look outside";
        Found::proved(place, what, Who::Network)
    } else if went.is_same(went.left.saturating_add(went.neighbours())) {
        let test = "explain the vNIC that it talks to: which guest got what is known there";
        Found::likely(place, what, Who::GuestOwner, test)
    } else {
        what += "; what became of the rest is not known";
        if !case.unheard.is_empty() {
            let names: Vec<&str> = case.unheard.iter().copied().collect();
            what += &format!(": {} is not heard, with vNICs of its network", names.join(", "));
        }
        let test = "ask again with a longer `--for`: hosts report at different moments";
        Found::unknown(place, what, Who::Virtualisation, test)
    })
}

/// Where frames of the vNIC went, in frames of its server's interval: other hosts have others.
struct Went {
    offered: u64,
    /// Through uplinks.
    left: u64,
    /// To vNICs on its own server.
    here: u64,
    /// To other servers.
    there: u64,
}

impl Went {
    fn of(case: &Case<'_>, server: &Look<'_>) -> Self {
        let scaled = |look: Option<&Look<'_>>, frames: u64| {
            let elapsed_us = look.map_or(0, Look::elapsed_us);
            let scaled = u128::from(frames) * u128::from(server.elapsed_us());
            let scaled = scaled.checked_div(u128::from(elapsed_us)).unwrap_or(0);
            u64::try_from(scaled).unwrap_or(u64::MAX)
        };
        let left = case.at_gateways(Stage::UplinkTx);
        let left = left.map(|(name, flow)| scaled(case.gateways.get(name), flow.output.frames));
        let there = case.at_others();
        let there = there.map(|(name, flow)| scaled(case.others.get(name), flow.output.frames));
        let answered = |flow: &crate::look::Flow<'_>| flow.dropped().frames;
        let sent = case.at_server(Stage::GuestTx);
        Self {
            // All drops that there are now were answers.
            offered: sent.map_or(0, |flow| flow.input.frames.saturating_sub(answered(flow))),
            left: left.fold(0, u64::saturating_add),
            here: case.passed_here(),
            there: there.fold(0, u64::saturating_add),
        }
    }

    fn neighbours(&self) -> u64 {
        self.here.saturating_add(self.there)
    }

    /// Whether so many are all that were offered.
    fn is_same(&self, frames: u64) -> bool {
        let missing = self.offered.saturating_sub(frames);
        u128::from(missing) * 100 <= u128::from(self.offered) * u128::from(SAME_PERCENT)
    }
}

fn frames(count: u64) -> String {
    if count == 1 { "1 frame".to_owned() } else { format!("{count} frames") }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Sure, found},
        *,
    };
    use crate::{
        explain,
        sample::{Bed, MBIT},
    };
    use wireonce_ledger::DropReason;

    #[test]
    fn what_all_left_is_said_with_where() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(12 * MBIT));
        bed.gateway_a(|it| it.carries("vm-a", 12 * MBIT));
        let it = found(&bed, "vm-a", nothing).unwrap();
        assert!(it.what.contains("(1000 frames) nothing was held back or dropped"), "{}", it.what);
        assert!(it.what.contains("1000 frames left at east-1"), "{}", it.what);
        assert_eq!(it.sure, Sure::Proved);
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
        bed.server_a(|it| it.sends(12 * MBIT));
        bed.gateway_a(|it| it.carries("vm-a", 12 * MBIT).comes("vm-a", 300 * MBIT, 900));
        assert_eq!(found(&bed, "vm-a", nothing), None, "held back on the way in");
    }

    #[test]
    fn frames_that_did_not_leave_prove_nothing_about_the_outside() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(12 * MBIT));
        bed.gateway_a(|it| it);
        let it = found(&bed, "vm-a", nothing).unwrap();
        assert_eq!(it.sure, Sure::Unknown);
        assert!(!it.what.contains("outside"), "{}", it.what);
        let said = "what became of the rest is not known: server-b is not heard";
        assert!(it.what.contains(said), "{}", it.what);
    }

    #[test]
    fn frames_that_came_to_another_server_are_likely_the_neighbours() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(12 * MBIT));
        bed.gateway_a(|it| it.carries("vm-a", MBIT));
        bed.server_b(|it| it.flow("vm-a", Stage::FabricRx, 920, &[]));
        let it = found(&bed, "vm-a", nothing).unwrap();
        assert_eq!((it.sure, it.who), (Sure::Likely, Who::GuestOwner));
        let said = "83 frames left at east-1, 920 frames went to other vNICs";
        assert!(it.what.contains(said), "{}", it.what);
        bed.server_b(|it| it.flow("vm-a", Stage::FabricRx, 920, &[(DropReason::BadBlock, 9)]));
        assert_eq!(found(&bed, "vm-a", nothing), None, "dropped at the other server");
    }

    #[test]
    fn a_network_without_a_pool_is_explained_all_the_same() {
        let mut bed = Bed::new();
        let frames = |it: crate::sample::Daemon| it.flow("vm-c", Stage::GuestTx, 50, &[]);
        bed.server_b(frames);
        let verdicts = explain(&bed.view(), None, "vm-c").unwrap().verdicts;
        assert_eq!(verdicts.len(), 1, "{verdicts:?}");
        assert_eq!(verdicts[0].cause, "nothing-wrong-here");
        assert!(verdicts[0].what.contains("50 frames went to other vNICs"), "{verdicts:?}");
    }

    #[test]
    fn a_question_that_was_answered_at_the_port_is_nothing_wrong() {
        let mut bed = Bed::new();
        let answered = [(DropReason::AnsweredHere, 1)];
        bed.server_a(|it| it.sends(12 * MBIT).flow("vm-a", Stage::GuestTx, 1, &answered));
        bed.gateway_a(|it| it.carries("vm-a", 12 * MBIT));
        assert_eq!(found(&bed, "vm-a", nothing).unwrap().sure, Sure::Proved);
    }
}
