//! What silence and echoes mean: one word for two uplinks on one VLAN. Pure.
//!
//! ```text
//!                     is heard by the other   is not
//!   hears the other   joined                  one-way
//!   does not          one-way                 heard on another VLAN?  yes: vlan-missing
//!                                                                     no, and both have a link: apart
//! ```
//! A probe that comes back to its sender, or comes twice, is a loop.

/// How two uplinks are joined outside, on one VLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// Too early to say: one of them has just come.
    Waiting,
    /// Both hear each other.
    Joined,
    /// One hears the other, and is not heard.
    OneWay,
    /// Neither hears the other on this VLAN, and on another one they do.
    VlanMissing,
    /// Neither hears the other at all, though both have a link.
    Apart,
    /// An uplink hears itself, or hears everything twice.
    Loop,
    /// One of them has no link, so there is nothing to say.
    Down,
    /// The other's gateway is not heard over the fabric either.
    Unknown,
}

impl Verdict {
    /// As it stands in the status and in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Joined => "joined",
            Self::OneWay => "one-way",
            Self::VlanMissing => "vlan-missing",
            Self::Apart => "apart",
            Self::Loop => "loop",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }

    /// What to look at; `None` if nothing is wrong with the network outside.
    #[must_use]
    pub fn advice(self) -> Option<&'static str> {
        match self {
            Self::Waiting | Self::Joined | Self::Down | Self::Unknown => None,
            Self::OneWay => Some(
                "frames pass one way only: look for a broken fibre, a port that filters, or port \
                 security that refuses the gateway's own MAC",
            ),
            Self::VlanMissing => {
                Some("look whether both switch ports, and all trunks between them, carry this VLAN")
            }
            Self::Apart => Some(
                "the pool is not one layer 2, or a port is blocked: look at the cabling, at \
                 spanning tree, and at what each port's switch says of it",
            ),
            Self::Loop => Some(
                "frames come back: look for two switch ports joined, a bundle that is not one, or \
                 a port that reflects",
            ),
        }
    }
}

/// What is known of two uplinks on one VLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Evidence {
    /// Ours hears the other.
    pub hears: bool,
    /// The other hears ours, as it says.
    pub is_heard: bool,
    /// Either hears the other on another VLAN.
    pub elsewhere: bool,
    /// What ours hears of the other comes twice.
    pub twice: bool,
    /// Long enough has passed since one of them came, or was first heard, to judge by a silence.
    pub settled: bool,
    /// Ours has a link, and is not silent because of a loop.
    pub own_up: bool,
    /// The same of the other; `None` if nobody can say.
    pub other_up: Option<bool>,
}

/// The word for it.
#[must_use]
pub fn judge(evidence: Evidence) -> Verdict {
    let Evidence { hears, is_heard, elsewhere, twice, settled, own_up, other_up } = evidence;
    if !own_up || other_up == Some(false) {
        return Verdict::Down;
    }
    if twice && hears {
        return Verdict::Loop;
    }
    if hears && is_heard {
        return Verdict::Joined;
    }
    if !settled {
        return Verdict::Waiting;
    }
    match other_up {
        _ if hears || is_heard => Verdict::OneWay,
        _ if elsewhere => Verdict::VlanMissing,
        Some(_) => Verdict::Apart,
        None => Verdict::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing is heard between two that are up.
    const SILENCE: Evidence = Evidence {
        hears: false,
        is_heard: false,
        elsewhere: false,
        twice: false,
        settled: true,
        own_up: true,
        other_up: Some(true),
    };

    #[test]
    fn each_thing_seen_has_its_name() {
        let both = Evidence { hears: true, is_heard: true, ..SILENCE };
        for (evidence, verdict) in [
            (both, Verdict::Joined),
            (Evidence { settled: false, ..both }, Verdict::Joined),
            (Evidence { hears: true, ..SILENCE }, Verdict::OneWay),
            (Evidence { is_heard: true, ..SILENCE }, Verdict::OneWay),
            (Evidence { hears: true, elsewhere: true, ..SILENCE }, Verdict::OneWay),
            (Evidence { elsewhere: true, ..SILENCE }, Verdict::VlanMissing),
            (SILENCE, Verdict::Apart),
            (Evidence { twice: true, ..both }, Verdict::Loop),
            (Evidence { settled: false, ..SILENCE }, Verdict::Waiting),
            (Evidence { hears: true, settled: false, ..SILENCE }, Verdict::Waiting),
            (Evidence { own_up: false, ..both }, Verdict::Down),
            (Evidence { other_up: Some(false), ..SILENCE }, Verdict::Down),
            (Evidence { other_up: Some(false), ..both }, Verdict::Down),
            (Evidence { other_up: None, ..SILENCE }, Verdict::Unknown),
            (Evidence { other_up: None, ..both }, Verdict::Joined),
        ] {
            assert_eq!(judge(evidence), verdict, "{evidence:?}");
        }
    }

    #[test]
    fn what_is_wrong_outside_says_what_to_look_at() {
        for verdict in [Verdict::OneWay, Verdict::VlanMissing, Verdict::Apart, Verdict::Loop] {
            assert!(verdict.advice().is_some_and(|advice| advice.contains("look")), "{verdict:?}");
        }
        for verdict in [Verdict::Joined, Verdict::Waiting, Verdict::Down, Verdict::Unknown] {
            assert_eq!(verdict.advice(), None);
        }
    }
}
