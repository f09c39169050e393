//! Why frames do not get through: one function for each cause.
//!
//! A cause looks at a [`Case`] and says what it found, or nothing. It says `proved` only if the
//! counters alone show it; `likely` names the test that would settle it; `unknown` says what is
//! missing. The table is `ALL`; `docs/evidence.md` has the same for people. Drops that none of them
//! tells of are told by reason (`dropped`), so that nothing is lost without a word.

mod bandwidth;
mod downwards;
mod dropped;
mod fabric;
mod guest;
mod hosts;
mod nothing;
pub(crate) mod reasons;

use crate::explain::Case;
use serde::{Deserialize, Serialize};
use wireonce_placement::Command;

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

impl Who {
    /// In a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Virtualisation => "virtualisation",
            Self::GuestOwner => "the guest's owner",
        }
    }
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
    ("down-limit", downwards::own_limit),
    ("down-packet-limit", downwards::packet_limit),
    ("down-grant-limit", downwards::grant_limit),
    ("down-port", downwards::port),
    ("down-share", downwards::share),
    ("over-lease", bandwidth::over_lease),
    ("over-packet-limit", bandwidth::over_packet_limit),
    ("gateway-queue", bandwidth::gateway_queue),
    ("gray-link", fabric::gray_link),
    ("link-loss", fabric::link_loss),
    ("guard", guest::guard),
    ("storm-limit", guest::storm),
    ("mtu", guest::mtu),
    ("guest-takes-nothing", guest::takes_nothing),
    ("neighbour-takes-nothing", guest::neighbour_takes_nothing),
    ("uplink-drops", dropped::at_uplink),
    ("outside", fabric::outside),
    ("home-moved", fabric::moved),
    ("host-behind", hosts::behind),
    ("not-heard", hosts::not_heard),
];

/// What is said when no cause found anything that is proved or likely.
const NOTHING: (&str, Cause) = ("nothing-wrong-here", nothing::nothing);

/// Drops that no cause tells of.
const DROPPED: &str = "dropped";

/// The names of all causes.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().chain([&NOTHING]).map(|(name, _)| *name).chain([DROPPED])
}

/// All that can be said, the surest first.
#[must_use]
pub fn verdicts(case: &Case<'_>) -> Vec<Verdict> {
    let named = |(name, cause): &(&str, Cause)| Some(cause(case)?.named(name));
    let mut verdicts: Vec<Verdict> = ALL.iter().filter_map(named).collect();
    verdicts.extend(dropped::untold(case).into_iter().map(|found| found.named(DROPPED)));
    // A home elsewhere, a host that is behind or a network that is apart explains no frame, and a host
    // that is silent even less.
    let is_news = |cause: &str| matches!(cause, "host-behind" | "home-moved" | "outside");
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

    fn unknown(place: impl Into<String>, what: impl Into<String>, who: Who, test: &str) -> Self {
        Self { test: Some(test.to_owned()), ..Self::new(Sure::Unknown, place, what, who) }
    }

    fn command(self, command: &Command) -> Self {
        Self { command: Some(command.to_string()), ..self }
    }

    /// With something more to say.
    fn and(self, more: &str) -> Self {
        Self { what: self.what + more, ..self }
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
    fn names_are_given_once() {
        let mut names: Vec<_> = names().collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn commands_are_made_in_one_place() {
        for (file, text) in [
            ("bandwidth.rs", include_str!("bandwidth.rs")),
            ("downwards.rs", include_str!("downwards.rs")),
            ("fabric.rs", include_str!("fabric.rs")),
            ("guest.rs", include_str!("guest.rs")),
            ("hosts.rs", include_str!("hosts.rs")),
            ("nothing.rs", include_str!("nothing.rs")),
            ("dropped.rs", include_str!("dropped.rs")),
            ("reasons.rs", include_str!("reasons.rs")),
            ("notes.rs", include_str!("../notes.rs")),
            ("advice.rs", include_str!("../advice.rs")),
        ] {
            let code = text.split("#[cfg(test)]").next().unwrap();
            assert!(!code.contains("wireonce "), "{file}");
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
