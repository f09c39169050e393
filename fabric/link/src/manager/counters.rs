//! What was counted: one number per reason, so that silence to the outside is no
//! silence to the operator.

/// Datagrams on the control socket that led to nothing, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Not a datagram of ours: wrong length, header or field.
    pub malformed: u64,
    /// Handshake messages from someone who does not know our public key.
    pub bad_mac: u64,
    /// Initiations beyond what one source, or all strangers, may send.
    pub limited: u64,
    /// Handshake messages that did not decrypt.
    pub unreadable: u64,
    /// Initiations from keys that are not in the configuration.
    pub unknown_key: u64,
    /// Responses to no handshake that is going on: late, repeated or forged.
    pub stale_responses: u64,
    /// Control messages on no session of ours.
    pub unknown_session: u64,
    /// Control messages that did not verify.
    pub forged: u64,
    /// Control messages that came twice or very late.
    pub repeated: u64,
    /// Authentic control messages of a kind or form that this version does not know.
    pub unknown_control: u64,
    /// Handshakes that we could not make because the system gave no random bytes.
    pub no_random: u64,
}

/// What happened with one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PeerCounters {
    /// Initiations that we sent.
    pub initiations_sent: u64,
    /// Initiations that we answered.
    pub initiations_answered: u64,
    /// Initiations not newer than one before: replayed, or the peer's clock went back.
    pub initiations_replayed: u64,
    /// Initiations that crossed ours and lost.
    pub initiations_crossed: u64,
    /// Handshakes refused because we share no wire version.
    pub version_mismatch: u64,
    /// Handshakes refused because one end encrypts data and the other does not.
    pub encryption_mismatch: u64,
    /// Hello datagrams that we sent, probes included.
    pub hellos_sent: u64,
    /// Authentic hello datagrams from the peer.
    pub hellos_heard: u64,
    /// Goodbyes that we sent, each in three copies.
    pub goodbyes_sent: u64,
    /// Authentic goodbyes from the peer that ended a session.
    pub goodbyes_heard: u64,
    /// Messages of those above that we sent.
    pub messages_sent: u64,
    /// Messages from the peer that were handed on.
    pub messages_heard: u64,
    /// Messages from the peer beyond what one may send.
    pub messages_limited: u64,
    /// Sessions that came up.
    pub sessions: u64,
    /// Times that the peer went silent.
    pub downs: u64,
}
