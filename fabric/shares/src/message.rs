//! Reports and leases as messages between hosts.
//!
//! Little endian. Each says the whole state of one server on one uplink, the first two upwards, the
//! third downwards; the newest replaces all older ones. A kind that is not known is not for us: hosts of a
//! version that has none of the third take no notice of it.
//!
//! ```text
//!           report                               lease                       receive
//!  0  1     version       1                      version       1             version   1
//!  1  1     kind          1                      kind          2             kind      3
//!  2  2     zero                                 zero                        zero
//!  4  4     uplink        its id                 uplink                      uplink
//!  8  8     life          random, of the process life          of the server life      of the process
//! 16  8     sent_us       server's clock         epoch                       sent_us   server's clock
//! 24  8     obeyed        newest epoch           rate_bps                    max_bps   of all its vNICs
//! 32  8     served        wire bits, in life     answers_us    `sent_us`     zero
//! 40  8     demand_bps    all ones: unbounded    starter_bps   with no lease zero
//! 48  8     packets       wire frames, in life   zero                        zero
//! ```

use crate::{Demand, Lease, Report};

/// Bytes of a message of any kind.
pub const MESSAGE_LEN: usize = 56;

const VERSION: u8 = 1;
const KIND_REPORT: u8 = 1;
const KIND_LEASE: u8 = 2;
const KIND_RECEIVE: u8 = 3;
const UNBOUNDED: u64 = u64::MAX;

/// What a server tells a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportMessage {
    /// Number of the uplink.
    pub uplink: u32,
    /// The server's process: another number each time it starts.
    pub life: u64,
    /// When it was sent, and what is obeyed.
    pub report: Report,
    /// Wire bits sent through the uplink since the life began.
    pub served_bits: u64,
    /// What the server's vNICs would send.
    pub demand: Demand,
    /// Wire frames sent since the life began.
    pub packets: u64,
}

/// What the gateway answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseMessage {
    /// Number of the uplink.
    pub uplink: u32,
    /// Of the report that it answers.
    pub life: u64,
    /// The lease.
    pub lease: Lease,
    /// What the server may send without a lease.
    pub starter_bps: u64,
}

/// What a server can receive through its fabric port from one uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveMessage {
    /// Number of the uplink.
    pub uplink: u32,
    /// The server's process.
    pub life: u64,
    /// When it was sent, by the server's clock: older ones do not count.
    pub sent_us: u64,
    /// The most that the uplink is to send to all of the server's vNICs together, in bits a second on
    /// the uplink's wire.
    pub max_bps: u64,
}

/// A message of any kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// From a server.
    Report(ReportMessage),
    /// From a gateway.
    Lease(LeaseMessage),
    /// From a server.
    Receive(ReceiveMessage),
}

impl Message {
    /// The bytes to send.
    #[must_use]
    pub fn emit(&self) -> [u8; MESSAGE_LEN] {
        let (kind, uplink, words) = match self {
            Self::Report(message) => {
                let ReportMessage { uplink, life, report, served_bits, demand, packets } = *message;
                let demand_bps = match demand {
                    Demand::Bps(bps) => bps.min(UNBOUNDED - 1),
                    Demand::Unbounded => UNBOUNDED,
                };
                let Report { sent_us, obeyed } = report;
                (KIND_REPORT, uplink, [life, sent_us, obeyed, served_bits, demand_bps, packets])
            }
            Self::Lease(LeaseMessage { uplink, life, lease, starter_bps }) => {
                let Lease { epoch, rate_bps, answers_us } = *lease;
                (KIND_LEASE, *uplink, [*life, epoch, rate_bps, answers_us, *starter_bps, 0])
            }
            Self::Receive(ReceiveMessage { uplink, life, sent_us, max_bps }) => {
                (KIND_RECEIVE, *uplink, [*life, *sent_us, *max_bps, 0, 0, 0])
            }
        };
        let mut bytes = [0; MESSAGE_LEN];
        bytes[..2].copy_from_slice(&[VERSION, kind]);
        bytes[4..8].copy_from_slice(&uplink.to_le_bytes());
        for (place, word) in bytes[8..].as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        bytes
    }

    /// The message in `bytes`; `None` for anything that [`Self::emit`] would not write.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (head, words) = bytes.split_first_chunk::<8>()?;
        let [version, kind, zero, zeros, uplink @ ..] = *head;
        let (words, rest) = words.as_chunks::<8>();
        let words: &[[u8; 8]; 6] = words.try_into().ok()?;
        if version != VERSION || zero != 0 || zeros != 0 || !rest.is_empty() {
            return None;
        }
        let uplink = u32::from_le_bytes(uplink);
        let [life, a, b, c, d, e] = words.map(u64::from_le_bytes);
        match kind {
            KIND_REPORT => Some(Self::Report(ReportMessage {
                uplink,
                life,
                report: Report { sent_us: a, obeyed: b },
                served_bits: c,
                demand: if d == UNBOUNDED { Demand::Unbounded } else { Demand::Bps(d) },
                packets: e,
            })),
            KIND_LEASE if e == 0 => Some(Self::Lease(LeaseMessage {
                uplink,
                life,
                lease: Lease { epoch: a, rate_bps: b, answers_us: c },
                starter_bps: d,
            })),
            KIND_RECEIVE if [c, d, e] == [0; 3] => {
                Some(Self::Receive(ReceiveMessage { uplink, life, sent_us: a, max_bps: b }))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_emitted_parses(uplink: u32, words: [u64; 6], kind in 1_u8..4) {
            let [life, a, b, c, d, e] = words;
            let message = if kind == KIND_RECEIVE {
                Message::Receive(ReceiveMessage { uplink, life, sent_us: a, max_bps: b })
            } else if kind == KIND_LEASE {
                let lease = Lease { epoch: a, rate_bps: b, answers_us: c };
                Message::Lease(LeaseMessage { uplink, life, lease, starter_bps: d })
            } else {
                let demand = if d % 3 == 0 { Demand::Unbounded } else { Demand::Bps(d) };
                let report = Report { sent_us: a, obeyed: b };
                let served_bits = c;
                Message::Report(ReportMessage { uplink, life, report, served_bits, demand, packets: e })
            };
            prop_assert_eq!(Message::parse(&message.emit()), Some(message));
            prop_assert_eq!(Message::parse(&message.emit()[..MESSAGE_LEN - 1]), None);
        }

        #[test]
        fn what_parses_emits_the_same_bytes(
            mut bytes in prop::collection::vec(any::<u8>(), 50..60),
            kind in 0_u8..5,
            zeros in prop::option::of(prop_oneof![Just(32_usize), Just(48)]),
        ) {
            bytes[..4].copy_from_slice(&[VERSION, kind, 0, 0]);
            if let Some(zeros) = zeros {
                bytes[zeros..].fill(0);
            }
            if let Some(message) = Message::parse(&bytes) {
                prop_assert_eq!(&message.emit()[..], &bytes[..]);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Message::parse(&bytes);
        }
    }
}
