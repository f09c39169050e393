//! Claims, answers and uplink states as messages between hosts.
//!
//! Little endian; the first two ride on channel 2, states on channel 3. What is zero has to be zero.
//!
//! ```text
//!        claims (server)          answers (gateway)           states (gateway)
//!  0  1  kind 1                   kind 2                      kind 3
//!  1  1  version 1                version 1                   version 1
//!  2  2  records                  records                     records
//!  4  4  lease_us                 zero                        zero
//!  8  8  life of the server       newest life known           term
//! 16  8  term that they are for   term that holds              (records, 8 bytes each:)
//! 24     records, 24 bytes each:                               uplink 4, state 1, zero 3
//!        vNIC 8, epoch 8, uplink 4, phase 1, leased 1 | verdict 1, zero 2
//! ```
//! Nothing is kept for later: claims are sent again until they are answered, and answering one twice
//! changes nothing.

use wireonce_wire::{UplinkId, VnicId};

const VERSION: u8 = 1;
const KIND_CLAIMS: u8 = 1;
const KIND_ANSWERS: u8 = 2;
const KIND_STATES: u8 = 3;
const HEAD_LEN: usize = 24;
const RECORD_LEN: usize = 24;
const STATES_HEAD_LEN: usize = 16;
const STATE_LEN: usize = 8;
/// A message on a control channel has at most 1,024 bytes.
const MESSAGE_MAX: usize = 1_024;

/// Claims, or answers, in one message.
pub const CLAIMS_MAX: usize = (MESSAGE_MAX - HEAD_LEN) / RECORD_LEN;
/// Uplinks in one message.
pub const STATES_MAX: usize = (MESSAGE_MAX - STATES_HEAD_LEN) / STATE_LEN;

/// How far an attachment is. It only goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Take the vNIC's frames, and wait with everything else: a planned move.
    Prepare,
    /// The vNIC is here: announce it, let frames for it in.
    Attach,
    /// It is elsewhere: let frames in until that is announced, take what is under way.
    Leave,
    /// Take no frame of it any more.
    Detach,
}

impl Phase {
    fn code(self) -> u8 {
        match self {
            Self::Prepare => 1,
            Self::Attach => 2,
            Self::Leave => 3,
            Self::Detach => 4,
        }
    }

    fn of(code: u8) -> Option<Self> {
        [Self::Prepare, Self::Attach, Self::Leave, Self::Detach]
            .into_iter()
            .find(|phase| phase.code() == code)
    }
}

/// What a server says of one vNIC at one uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The vNIC.
    pub vnic: VnicId,
    /// The uplink.
    pub uplink: UplinkId,
    /// Orders the claims of the vNIC.
    pub epoch: u64,
    /// How far it is.
    pub phase: Phase,
    /// It may go elsewhere by itself, so the gateway has to fence itself.
    pub leased: bool,
}

/// From a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The server's process; later ones have larger numbers.
    pub life: u64,
    /// The gateway's term that they are for; 0 asks for it.
    pub term: u64,
    /// How long after a hello that was echoed frames may pass, in microseconds.
    pub lease_us: u32,
    /// At most [`CLAIMS_MAX`].
    pub records: Vec<Claim>,
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is so.
    Taken,
    /// A newer epoch is known, which the answer has.
    Stale,
    /// No such vNIC of that server, or no such uplink for it.
    Unknown,
    /// Nothing was echoed in time; say it again.
    Later,
}

impl Verdict {
    fn code(self) -> u8 {
        match self {
            Self::Taken => 0,
            Self::Stale => 1,
            Self::Unknown => 2,
            Self::Later => 3,
        }
    }

    fn of(code: u8) -> Option<Self> {
        [Self::Taken, Self::Stale, Self::Unknown, Self::Later]
            .into_iter()
            .find(|verdict| verdict.code() == code)
    }
}

/// The answer to one claim: the claim again, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// With the newest epoch instead of its own, if it is [`Verdict::Stale`].
    pub claim: Claim,
    /// What became of it.
    pub verdict: Verdict,
}

/// From a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// The newest life of the server that is known.
    pub life: u64,
    /// The term that holds. If it is another one than the claims', there are no records.
    pub term: u64,
    /// At most [`CLAIMS_MAX`].
    pub records: Vec<Answer>,
}

/// How an uplink is, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Nothing is known against it.
    Alive,
    /// What is there should leave in order.
    Draining,
    /// Not to be trusted with frames.
    Sick,
    /// It carries nothing.
    Gone,
}

impl State {
    fn code(self) -> u8 {
        match self {
            Self::Alive => 0,
            Self::Draining => 1,
            Self::Sick => 2,
            Self::Gone => 3,
        }
    }

    fn of(code: u8) -> Option<Self> {
        [Self::Alive, Self::Draining, Self::Sick, Self::Gone]
            .into_iter()
            .find(|state| state.code() == code)
    }
}

/// One uplink of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateReport {
    /// Which one.
    pub uplink: UplinkId,
    /// How it is.
    pub state: State,
}

/// From a gateway, at each change and once a second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct States {
    /// The term that holds for the server that it is sent to.
    pub term: u64,
    /// At most [`STATES_MAX`].
    pub records: Vec<StateReport>,
}

impl Claims {
    /// The bytes to send.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut bytes = head(KIND_CLAIMS, self.records.len(), self.lease_us);
        bytes.extend(self.life.to_le_bytes());
        bytes.extend(self.term.to_le_bytes());
        for claim in self.records.iter().take(CLAIMS_MAX) {
            emit_claim(&mut bytes, claim, 0);
        }
        bytes
    }

    /// The message in `bytes`; `None` for anything that [`Self::emit`] would not write.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (count, lease_us, rest) = parse_head(KIND_CLAIMS, bytes)?;
        let (life, term, records) = parse_words(count, rest)?;
        let claim = |record: &[u8; RECORD_LEN]| {
            let (claim, code) = parse_claim(record)?;
            (code == 0).then_some(claim)
        };
        let records = records.iter().map(claim).collect::<Option<_>>()?;
        Some(Self { life, term, lease_us, records })
    }
}

impl Answers {
    /// The bytes to send.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut bytes = head(KIND_ANSWERS, self.records.len(), 0);
        bytes.extend(self.life.to_le_bytes());
        bytes.extend(self.term.to_le_bytes());
        for answer in self.records.iter().take(CLAIMS_MAX) {
            emit_claim(&mut bytes, &answer.claim, answer.verdict.code());
        }
        bytes
    }

    /// The message in `bytes`; `None` for anything that [`Self::emit`] would not write.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (count, zero, rest) = parse_head(KIND_ANSWERS, bytes)?;
        let (life, term, records) = parse_words(count, rest)?;
        let answer = |record: &[u8; RECORD_LEN]| {
            let (claim, code) = parse_claim(record)?;
            Some(Answer { claim, verdict: Verdict::of(code)? })
        };
        let records = records.iter().map(answer).collect::<Option<_>>()?;
        (zero == 0).then_some(Self { life, term, records })
    }
}

impl States {
    /// The bytes to send.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut bytes = head(KIND_STATES, self.records.len(), 0);
        bytes.extend(self.term.to_le_bytes());
        for report in self.records.iter().take(STATES_MAX) {
            bytes.extend(report.uplink.0.to_le_bytes());
            bytes.extend([report.state.code(), 0, 0, 0]);
        }
        bytes
    }

    /// The message in `bytes`; `None` for anything that [`Self::emit`] would not write.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (count, zero, rest) = parse_head(KIND_STATES, bytes)?;
        let (term, rest) = rest.split_first_chunk()?;
        let (records, over) = rest.as_chunks::<STATE_LEN>();
        if zero != 0 || !over.is_empty() || records.len() != count || count > STATES_MAX {
            return None;
        }
        let report = |record: &[u8; STATE_LEN]| {
            let [u0, u1, u2, u3, state, zeros @ ..] = *record;
            let uplink = UplinkId(u32::from_le_bytes([u0, u1, u2, u3]));
            (zeros == [0; 3]).then_some(StateReport { uplink, state: State::of(state)? })
        };
        let records = records.iter().map(report).collect::<Option<_>>()?;
        Some(Self { term: u64::from_le_bytes(*term), records })
    }
}

fn head(kind: u8, count: usize, word: u32) -> Vec<u8> {
    let most = if kind == KIND_STATES { STATES_MAX } else { CLAIMS_MAX };
    let [c0, c1] = u16::try_from(count.min(most)).unwrap_or(0).to_le_bytes();
    let mut bytes = Vec::with_capacity(HEAD_LEN + count * RECORD_LEN);
    bytes.extend([kind, VERSION, c0, c1]);
    bytes.extend(word.to_le_bytes());
    bytes
}

fn parse_head(kind: u8, bytes: &[u8]) -> Option<(usize, u32, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<8>()?;
    let [is, version, c0, c1, word @ ..] = *head;
    let fits = is == kind && version == VERSION;
    fits.then_some((u16::from_le_bytes([c0, c1]).into(), u32::from_le_bytes(word), rest))
}

/// Life, term, and so many records.
fn parse_words(count: usize, rest: &[u8]) -> Option<(u64, u64, &[[u8; RECORD_LEN]])> {
    let (life, rest) = rest.split_first_chunk()?;
    let (term, rest) = rest.split_first_chunk()?;
    let (records, over) = rest.as_chunks::<RECORD_LEN>();
    let sane = over.is_empty() && records.len() == count && count <= CLAIMS_MAX;
    sane.then_some((u64::from_le_bytes(*life), u64::from_le_bytes(*term), records))
}

fn emit_claim(bytes: &mut Vec<u8>, claim: &Claim, verdict: u8) {
    bytes.extend(claim.vnic.get().to_le_bytes());
    bytes.extend(claim.epoch.to_le_bytes());
    bytes.extend(claim.uplink.0.to_le_bytes());
    bytes.extend([claim.phase.code(), claim.leased.into(), verdict, 0]);
}

/// And the code of its verdict.
fn parse_claim(record: &[u8; RECORD_LEN]) -> Option<(Claim, u8)> {
    let (vnic, rest) = record.split_first_chunk()?;
    let (epoch, rest) = rest.split_first_chunk()?;
    let (uplink, rest) = rest.split_first_chunk()?;
    let [phase, leased @ (0 | 1), verdict, 0] = *rest else { return None };
    let claim = Claim {
        vnic: VnicId::new(u64::from_le_bytes(*vnic))?,
        uplink: UplinkId(u32::from_le_bytes(*uplink)),
        epoch: u64::from_le_bytes(*epoch),
        phase: Phase::of(phase)?,
        leased: leased == 1,
    };
    Some((claim, verdict))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claims() -> impl Strategy<Value = Vec<Claim>> {
        let claim = (1..=VnicId::MAX, any::<u64>(), any::<u32>(), 1_u8..5, any::<bool>());
        let claim = claim.prop_map(|(vnic, epoch, uplink, phase, leased)| Claim {
            vnic: VnicId::new(vnic).unwrap(),
            epoch,
            uplink: UplinkId(uplink),
            phase: Phase::of(phase).unwrap(),
            leased,
        });
        prop::collection::vec(claim, 0..CLAIMS_MAX + 1)
    }

    proptest! {
        #[test]
        fn what_is_emitted_parses(life: u64, term: u64, lease_us: u32, records in claims(), v in 0_u8..4) {
            let verdict = Verdict::of(v).unwrap();
            let answers = records.iter().map(|claim| Answer { claim: *claim, verdict }).collect();
            let answers = Answers { life, term, records: answers };
            let claims = Claims { life, term, lease_us, records };
            prop_assert!(claims.emit().len() <= MESSAGE_MAX);
            prop_assert_eq!(Claims::parse(&claims.emit()), Some(claims.clone()));
            prop_assert_eq!(Answers::parse(&answers.emit()), Some(answers.clone()));
            prop_assert_eq!(Answers::parse(&claims.emit()), None);
            prop_assert_eq!(Claims::parse(&claims.emit()[1..]), None);
            prop_assert_eq!(Claims::parse(&[&claims.emit()[..], &[0]].concat()), None);
        }

        #[test]
        fn states_that_are_emitted_parse(
            term: u64, all in prop::collection::vec((any::<u32>(), 0_u8..4), 0..STATES_MAX + 1),
        ) {
            let report = |(uplink, state): &(u32, u8)| StateReport {
                uplink: UplinkId(*uplink),
                state: State::of(*state).unwrap(),
            };
            let states = States { term, records: all.iter().map(report).collect() };
            prop_assert!(states.emit().len() <= MESSAGE_MAX);
            prop_assert_eq!(States::parse(&states.emit()), Some(states));
        }

        #[test]
        fn what_parses_emits_the_same_bytes(
            mut bytes in prop::collection::vec(any::<u8>(), 24..75), kind in 1_u8..4, count in 0_u8..4,
        ) {
            bytes[..8].copy_from_slice(&[kind, VERSION, count, 0, 0, 0, 0, 0]);
            for record in bytes[24..].as_chunks_mut::<24>().0 {
                let [.., phase, leased, verdict, zero] = record;
                (*phase, *leased, *verdict, *zero) = (*phase % 5, *leased % 2, *verdict % 5, 0);
            }
            if let Some(claims) = Claims::parse(&bytes) {
                prop_assert_eq!(claims.emit(), bytes.clone());
            }
            if let Some(answers) = Answers::parse(&bytes) {
                prop_assert_eq!(answers.emit(), bytes.clone());
            }
            if let Some(states) = States::parse(&bytes) {
                prop_assert_eq!(states.emit(), bytes.clone());
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Claims::parse(&bytes), Answers::parse(&bytes), States::parse(&bytes));
        }
    }
}
