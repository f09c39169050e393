//! Whether the router behind an uplink answers. Pure; the clock is an argument.
//!
//! ```text
//!   ask ──▶ ARP probe or neighbour solicitation ──▶ next hop
//!    ▲ once a second                                   │
//!    └── three silences: sick ◀── nothing              ▼
//!        well 3 s after the first answer ◀──────── an answer
//! ```
//! We have no address out there, so we ask as a station does that has none yet: by an ARP probe with
//! the sender 0.0.0.0 (RFC 5227), which leaves no trace in the next hop's tables; in IPv6 from the
//! link-local address that follows from our MAC (RFC 4861). Who has answered is asked directly from then
//! on, so that its neighbours hear nothing of it; after a silence, everybody again.

use std::net::IpAddr;
use wireonce_frame::{
    MacAddr,
    build::{arp_probe, link_local, neighbour_solicitation},
    headers::{ethertype, protocol},
};

/// Between two questions.
const EVERY_US: u64 = 1_000_000;
/// So many silences make an uplink sick.
const SILENCES_MAX: u32 = 3;
/// So long answers have to come before it is well again.
const WELL_US: u64 = 3_000_000;

/// How the next hop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextHopState {
    /// Nobody has answered yet, and it is too early to call that a silence.
    Unknown,
    /// It answers.
    Answers,
    /// It does not, or not for long enough again.
    Silent,
}

impl NextHopState {
    /// As it stands in the status.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Answers => "answers",
            Self::Silent => "silent",
        }
    }
}

/// What is known of one uplink's next hop.
#[derive(Debug, Clone)]
pub struct NextHop {
    address: IpAddr,
    own: MacAddr,
    state: NextHopState,
    /// Who answered last; asked directly while it answers.
    mac: Option<MacAddr>,
    next_us: u64,
    /// The last question has no answer yet.
    open: bool,
    silences: u32,
    /// Since when every question was answered.
    answering_since_us: Option<u64>,
}

impl NextHop {
    /// `address` is to be asked from `own`, from now on.
    #[must_use]
    pub fn new(address: IpAddr, own: MacAddr, now_us: u64) -> Self {
        Self {
            address,
            own,
            state: NextHopState::Unknown,
            mac: None,
            next_us: now_us,
            open: false,
            silences: 0,
            answering_since_us: None,
        }
    }

    /// Whom we ask.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How it is.
    #[must_use]
    pub fn state(&self) -> NextHopState {
        self.state
    }

    /// When [`Self::ask`] has something to say.
    #[must_use]
    pub fn next_due_us(&self) -> u64 {
        self.next_us
    }

    /// There is no link: nothing is asked, and a silence would say nothing.
    pub fn unplugged(&mut self, now_us: u64) {
        *self = Self { state: self.state, ..Self::new(self.address, self.own, now_us + EVERY_US) };
    }

    /// The question, if it is time for one.
    pub fn ask(&mut self, now_us: u64) -> Option<Vec<u8>> {
        if now_us < self.next_us {
            return None;
        }
        if std::mem::replace(&mut self.open, true) {
            self.silence();
        }
        // A thread that was late does not ask faster afterwards.
        self.next_us = now_us + EVERY_US;
        Some(self.question())
    }

    /// A frame to our own MAC address came: true if it was an answer.
    pub fn hear(&mut self, frame: &[u8], now_us: u64) -> bool {
        let Some(mac) = answer(frame, self.own, self.address) else { return false };
        self.open = false;
        self.silences = 0;
        self.mac = Some(mac);
        let since_us = *self.answering_since_us.get_or_insert(now_us);
        let long_enough = now_us.saturating_sub(since_us) >= WELL_US;
        if self.state != NextHopState::Silent || long_enough {
            self.state = NextHopState::Answers;
        }
        true
    }

    fn silence(&mut self) {
        self.mac = None;
        self.answering_since_us = None;
        self.silences = self.silences.saturating_add(1);
        if self.silences >= SILENCES_MAX {
            self.state = NextHopState::Silent;
        }
    }

    fn question(&self) -> Vec<u8> {
        match self.address {
            IpAddr::V4(target) => arp_probe(self.own, target, self.mac).to_vec(),
            IpAddr::V6(target) => neighbour_solicitation(self.own, target, self.mac).to_vec(),
        }
    }
}

/// Who answers for `target` in `frame`, which is an answer to `own`.
fn answer(frame: &[u8], own: MacAddr, target: IpAddr) -> Option<MacAddr> {
    const ARP_REPLY: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 2];
    const ADVERTISEMENT: u8 = 136;
    let bytes = |at: usize, len: usize| frame.get(at..at + len);
    if MacAddr::from_slice(frame)? != own {
        return None;
    }
    let kind = u16::from_be_bytes(*bytes(12, 2)?.first_chunk()?);
    let sender = MacAddr::from_slice(bytes(6, 6)?).filter(|mac| mac.is_unicast())?;
    match target {
        IpAddr::V4(target) => {
            let fits = kind == ethertype::ARP
                && bytes(14, 8)? == ARP_REPLY
                && bytes(28, 4)? == target.octets();
            fits.then_some(sender)
        }
        IpAddr::V6(target) => {
            // Hop limit 255: it comes from this link (RFC 4861, section 7.1.2).
            let fits = kind == ethertype::IPV6
                && bytes(20, 2)? == [protocol::ICMPV6, 255]
                && bytes(38, 16)? == link_local(own).octets()
                && bytes(54, 1)? == [ADVERTISEMENT]
                && bytes(62, 16)? == target.octets();
            fits.then_some(sender)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wireonce_frame::build::{Binding, advertisement_reply, arp_reply};

    const OWN: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
    const SECOND_US: u64 = 1_000_000;

    fn v4() -> IpAddr {
        "192.0.2.1".parse().unwrap()
    }

    fn v6() -> IpAddr {
        "2001:db8::1".parse().unwrap()
    }

    /// What the next hop would answer.
    fn reply(target: IpAddr) -> Vec<u8> {
        match target {
            IpAddr::V4(ip) => {
                let asker = Binding { ip: "0.0.0.0".parse().unwrap(), mac: OWN };
                arp_reply(Binding { ip, mac: ROUTER }, asker).to_vec()
            }
            IpAddr::V6(ip) => {
                let asker = Binding { ip: link_local(OWN), mac: OWN };
                advertisement_reply(Binding { ip, mac: ROUTER }, asker, true).to_vec()
            }
        }
    }

    #[test]
    fn three_silences_make_it_silent_and_three_seconds_of_answers_well() {
        for target in [v4(), v6()] {
            let mut hop = NextHop::new(target, OWN, 0);
            assert!(hop.ask(0).is_some());
            assert!(hop.ask(SECOND_US - 1).is_none(), "once a second");
            assert!(hop.hear(&reply(target), 5_000));
            assert_eq!(hop.state(), NextHopState::Answers);
            for second in 1..=3 {
                hop.ask(second * SECOND_US);
                assert_eq!(hop.state(), NextHopState::Answers, "{second}");
            }
            hop.ask(4 * SECOND_US);
            assert_eq!(hop.state(), NextHopState::Silent);
            for second in 5..=8 {
                hop.ask(second * SECOND_US);
                assert_eq!(hop.state(), NextHopState::Silent, "{second}");
                hop.hear(&reply(target), second * SECOND_US + 10);
            }
            assert_eq!(hop.state(), NextHopState::Answers, "answered at 5, 6, 7 and 8 s");
        }
    }

    #[test]
    fn who_never_answered_is_silent_after_as_long() {
        let mut hop = NextHop::new(v4(), OWN, 0);
        for second in 0..3 {
            hop.ask(second * SECOND_US);
            assert_eq!(hop.state(), NextHopState::Unknown);
        }
        hop.ask(3 * SECOND_US);
        assert_eq!(hop.state(), NextHopState::Silent);
    }

    #[test]
    fn without_a_link_a_silence_says_nothing() {
        let mut hop = NextHop::new(v4(), OWN, 0);
        hop.ask(0);
        hop.hear(&reply(v4()), 1);
        for second in 1..20 {
            hop.unplugged(second * SECOND_US);
            assert!(hop.ask(second * SECOND_US).is_none());
        }
        assert_eq!(hop.state(), NextHopState::Answers);
    }

    #[test]
    fn everybody_is_asked_until_somebody_answers_and_then_only_who_did() {
        let mut hop = NextHop::new(v4(), OWN, 0);
        assert_eq!(hop.ask(0).unwrap()[..6], MacAddr::BROADCAST.0);
        hop.hear(&reply(v4()), 1);
        assert_eq!(hop.ask(SECOND_US).unwrap()[..6], ROUTER.0);
        assert_eq!(hop.ask(2 * SECOND_US).unwrap()[..6], MacAddr::BROADCAST.0, "it was silent");
    }

    #[test]
    fn what_is_no_answer_to_us_is_none() {
        for target in [v4(), v6()] {
            let good = reply(target);
            assert_eq!(answer(&good, OWN, target), Some(ROUTER));
            assert_eq!(answer(&good, ROUTER, target), None, "to somebody else");
            let other = if target.is_ipv4() { "192.0.2.2" } else { "2001:db8::2" };
            assert_eq!(answer(&good, OWN, other.parse().unwrap()), None, "of somebody else");
            for len in 0..good.len().min(50) {
                // Short enough to lack a field that is looked at, unless padding is all that is cut.
                let cut = answer(&good[..len], OWN, target);
                assert!(cut.is_none() || (target.is_ipv4() && len >= 32), "{len}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_frame_never_panics(
            mut frame in proptest::collection::vec(any::<u8>(), 0..120), known in any::<bool>(),
        ) {
            let head = [OWN.0, ROUTER.0].concat();
            if known && frame.len() >= head.len() {
                frame[..head.len()].copy_from_slice(&head);
            }
            for target in [v4(), v6()] {
                let mut hop = NextHop::new(target, OWN, 0);
                hop.hear(&frame, 1);
            }
        }
    }
}
