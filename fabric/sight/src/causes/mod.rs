//! Why frames do not get through: one function for each cause.
//!
//! A cause looks at a [`Case`] and says what it found, or nothing. It says `proved` only if the
//! counters alone show it; `likely` names the test that would settle it; `unknown` says what is
//! missing. The table is `ALL`; `docs/evidence.md` has the same for people.

mod bandwidth;
mod fabric;
mod guest;
mod hosts;
mod nothing;
pub(crate) mod reasons;

use crate::explain::Case;
use serde::{Deserialize, Serialize};

/// How sure a verdict is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sure {
    /// The counters alone show it.
    Proved,
    /// The counters fit; a test would settle it.
    Likely,
    /// Something is missing to say more.
    Unknown,
}

/// Who can do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// The network team.
    Network,
    /// The virtualisation team.
    Virtualisation,
    /// Whoever has the virtual machine.
    GuestOwner,
}

/// What there is to say about one cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// How sure.
    pub sure: Sure,
    /// The cause, by its name, one of [`names`].
    pub cause: String,
    /// Where.
    pub place: String,
    /// What, and how much.
    pub what: String,
    /// Who acts next.
    pub who: Who,
    /// The command, as it can be typed, if there is one.
    #[serde(default)]
    pub command: Option<String>,
    /// What would settle it, if it is not proved.
    #[serde(default)]
    pub test: Option<String>,
}

/// What a cause finds.
type Cause = fn(&Case<'_>) -> Option<Found>;

/// A verdict without its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    sure: Sure,
    place: String,
    what: String,
    who: Who,
    command: Option<String>,
    test: Option<String>,
}

/// Every cause with its name. Those at the top come first among equals.
const ALL: &[(&str, Cause)] = &[
    ("no-vmm", guest::no_vmm),
    ("uplink-down", fabric::uplink_down),
    ("gateway-down", fabric::gateway_down),
    ("not-at-home", fabric::not_at_home),
    ("own-limit", bandwidth::own_limit),
    ("packet-limit", bandwidth::packet_limit),
    ("grant-limit", bandwidth::grant_limit),
    ("uplink-full", bandwidth::uplink_full),
    ("server-lease", bandwidth::server_lease),
    ("port-full", bandwidth::port_full),
    ("shaper-drops", bandwidth::shaper_drops),
    ("down-share", bandwidth::down_share),
    ("over-lease", bandwidth::over_lease),
    ("over-packet-limit", bandwidth::over_packet_limit),
    ("gateway-queue", bandwidth::gateway_queue),
    ("gray-link", fabric::gray_link),
    ("link-loss", fabric::link_loss),
    ("guard", guest::guard),
    ("storm-limit", guest::storm),
    ("mtu", guest::mtu),
    ("guest-takes-nothing", guest::takes_nothing),
    ("home-moved", fabric::moved),
    ("host-behind", hosts::behind),
    ("not-heard", hosts::not_heard),
];

/// What is said when no cause found anything that is proved or likely.
const NOTHING: (&str, Cause) = ("nothing-wrong-here", nothing::nothing);

/// The names of all causes.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().chain([&NOTHING]).map(|(name, _)| *name)
}

/// All that can be said, the surest first.
#[must_use]
pub fn verdicts(case: &Case<'_>) -> Vec<Verdict> {
    let named = |(name, cause): &(&str, Cause)| Some(cause(case)?.named(name));
    let mut verdicts: Vec<Verdict> = ALL.iter().filter_map(named).collect();
    // A home elsewhere or a host that is behind explains no frame, and one that is silent even less.
    let is_news = |cause: &str| matches!(cause, "host-behind" | "home-moved");
    let explains = |it: &Verdict| it.sure != Sure::Unknown && !is_news(&it.cause);
    if !verdicts.iter().any(explains) {
        verdicts.extend(named(&NOTHING));
    }
    verdicts.sort_by_key(|it| it.sure);
    verdicts
}

impl Found {
    fn new(sure: Sure, place: impl Into<String>, what: impl Into<String>, who: Who) -> Self {
        let (place, what) = (place.into(), what.into());
        Self { sure, place, what, who, command: None, test: None }
    }

    fn proved(place: impl Into<String>, what: impl Into<String>, who: Who) -> Self {
        Self::new(Sure::Proved, place, what, who)
    }

    fn likely(place: impl Into<String>, what: impl Into<String>, who: Who, test: &str) -> Self {
        Self { test: Some(test.to_owned()), ..Self::new(Sure::Likely, place, what, who) }
    }

    fn command(self, command: impl Into<String>) -> Self {
        Self { command: Some(command.into()), ..self }
    }

    fn named(self, cause: &str) -> Verdict {
        let Self { sure, place, what, who, command, test } = self;
        Verdict { sure, cause: cause.to_owned(), place, what, who, command, test }
    }
}

/// What a cause says of vm-a, or of another, in a bed.
#[cfg(test)]
pub(crate) fn found(bed: &crate::sample::Bed, vnic: &str, cause: Cause) -> Option<Found> {
    let view = bed.view();
    cause(&Case::new(&view, None, vnic).unwrap())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        explain,
        sample::{Bed, MBIT},
    };
    use wireonce_ledger::{DropReason, Stage};

    #[test]
    fn the_surest_come_first_and_each_names_who_acts() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(MBIT).drops(Stage::GuestTx, DropReason::SourceIp, 5));
        let verdicts = explain(&bed.view(), None, "vm-a").unwrap().verdicts;
        let shown: Vec<_> = verdicts.iter().map(|it| (it.sure, it.cause.as_str())).collect();
        assert_eq!(shown, [(Sure::Proved, "guard"), (Sure::Unknown, "not-heard")]);
    }

    #[test]
    fn names_are_given_once_and_every_guest_tx_reason_has_a_station() {
        let mut names: Vec<_> = ALL.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        let known = [reasons::RING, reasons::GUARD, reasons::SHAPER, reasons::ROUTE].concat();
        for reason in [DropReason::SourceMac, DropReason::NoSession, DropReason::Shaped] {
            assert!(known.contains(&reason));
        }
    }

    #[test]
    fn the_operators_page_has_every_cause() {
        let page = include_str!("../../../../docs/evidence.md");
        for name in names() {
            assert!(page.contains(&format!("| `{name}` |")), "docs/evidence.md has no row {name}");
        }
    }
}
