//! How an uplink is: one word with its causes, for whoever carries frames, whoever tells the
//! servers, and whoever finds out.
//!
//! ```text
//!   carrier (rtnetlink) ──┐ set / clear                       ┌─▶ workers, status: state(), causes()
//!   next hop, loop probe ─┼────────────▶ one word of bits ────┤   one load, no lock
//!   operator, SIGTERM ────┘  per uplink                       └─▶ listeners: told of each change
//! ```
//!
//! Causes are independent of each other: whoever finds one sets it, and takes away only its own. The
//! worst one counts. Servers hear of each change at once and of the state again each second
//! (decision 16), so nothing here is repeated or timed.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU32, Ordering},
    },
};
use wireonce_wire::UplinkId;

/// The one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HealthState {
    /// Nothing is known against it.
    Alive,
    /// It carries what is there, and what is there should leave in order.
    Draining,
    /// It may carry frames and is not to be trusted with them.
    Sick,
    /// It carries nothing.
    Gone,
}

impl HealthState {
    /// As it stands in the status and in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Draining => "draining",
            Self::Sick => "sick",
            Self::Gone => "gone",
        }
    }
}

/// Why an uplink is not [`HealthState::Alive`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The operator wants it empty (`draining = true`): draining.
    Draining,
    /// Its gateway is about to end: draining.
    GoneSoon,
    /// The next hop outside does not answer: sick.
    NextHopSilent,
    /// It hears its own probes: sick.
    Loop,
    /// The port has no carrier: gone.
    NoCarrier,
    /// Its gateway ends, or the configuration has no such uplink any more: gone.
    Stopping,
}

impl Cause {
    /// All of them, the least bad first.
    pub const ALL: [Self; 6] = [
        Self::Draining,
        Self::GoneSoon,
        Self::NextHopSilent,
        Self::Loop,
        Self::NoCarrier,
        Self::Stopping,
    ];

    /// What it makes of an uplink.
    #[must_use]
    pub fn state(self) -> HealthState {
        match self {
            Self::Draining | Self::GoneSoon => HealthState::Draining,
            Self::NextHopSilent | Self::Loop => HealthState::Sick,
            Self::NoCarrier | Self::Stopping => HealthState::Gone,
        }
    }

    /// As it stands in the status and in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::GoneSoon => "gone-soon",
            Self::NextHopSilent => "next-hop-silent",
            Self::Loop => "loop",
            Self::NoCarrier => "no-carrier",
            Self::Stopping => "stopping",
        }
    }

    fn bit(self) -> u32 {
        match self {
            Self::Draining => 1,
            Self::GoneSoon => 1 << 1,
            Self::NextHopSilent => 1 << 2,
            Self::Loop => 1 << 3,
            Self::NoCarrier => 1 << 4,
            Self::Stopping => 1 << 5,
        }
    }
}

/// Several causes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Causes(u32);

impl Causes {
    /// Whether `cause` is among them.
    #[must_use]
    pub fn has(self, cause: Cause) -> bool {
        self.0 & cause.bit() != 0
    }

    /// One after the other, the least bad first.
    pub fn iter(self) -> impl Iterator<Item = Cause> {
        Cause::ALL.into_iter().filter(move |cause| self.has(*cause))
    }

    /// What they make of an uplink together: the worst counts.
    #[must_use]
    pub fn state(self) -> HealthState {
        self.iter().map(Cause::state).max().unwrap_or(HealthState::Alive)
    }
}

/// One uplink's word. Whoever needs it often keeps it: reading is one load.
#[derive(Debug, Default)]
pub struct UplinkHealth(AtomicU32);

impl UplinkHealth {
    /// Why it is as it is.
    #[must_use]
    pub fn causes(&self) -> Causes {
        Causes(self.0.load(Ordering::Acquire))
    }

    /// How it is.
    #[must_use]
    pub fn state(&self) -> HealthState {
        self.causes().state()
    }
}

/// What is called after each change, on the thread that made it: hand on and return.
type Listener = Box<dyn Fn(UplinkId) + Send + Sync>;

#[derive(Default)]
struct Shared {
    uplinks: RwLock<BTreeMap<UplinkId, Arc<UplinkHealth>>>,
    listeners: RwLock<Vec<Listener>>,
}

/// The health of all uplinks of a gateway. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Health(Arc<Shared>);

impl Health {
    /// The word of `uplink`, to be kept. An uplink that nobody said anything about is alive.
    #[must_use]
    pub fn of(&self, uplink: UplinkId) -> Arc<UplinkHealth> {
        let known = self.0.uplinks.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(health) = known.get(&uplink) {
            return Arc::clone(health);
        }
        drop(known);
        let mut uplinks = self.0.uplinks.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(uplinks.entry(uplink).or_default())
    }

    /// `cause` holds for `uplink`. Returns whether that is news; listeners hear news only.
    pub fn set(&self, uplink: UplinkId, cause: Cause) -> bool {
        let before = self.of(uplink).0.fetch_or(cause.bit(), Ordering::AcqRel);
        self.tell(uplink, before & cause.bit() == 0)
    }

    /// `cause` holds no more. Returns whether that is news.
    pub fn clear(&self, uplink: UplinkId, cause: Cause) -> bool {
        let before = self.of(uplink).0.fetch_and(!cause.bit(), Ordering::AcqRel);
        self.tell(uplink, before & cause.bit() != 0)
    }

    /// How `uplink` is.
    #[must_use]
    pub fn state(&self, uplink: UplinkId) -> HealthState {
        self.of(uplink).state()
    }

    /// Why.
    #[must_use]
    pub fn causes(&self, uplink: UplinkId) -> Causes {
        self.of(uplink).causes()
    }

    /// `listener` is called after each change from now on, on the thread that made it: it hands
    /// on and returns, and changes nothing here.
    pub fn listen(&self, listener: impl Fn(UplinkId) + Send + Sync + 'static) {
        let mut listeners = self.0.listeners.write().unwrap_or_else(PoisonError::into_inner);
        listeners.push(Box::new(listener));
    }

    fn tell(&self, uplink: UplinkId, news: bool) -> bool {
        if news {
            let listeners = self.0.listeners.read().unwrap_or_else(PoisonError::into_inner);
            listeners.iter().for_each(|listener| listener(uplink));
        }
        news
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uplinks = self.0.uplinks.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_map().entries(uplinks.iter().map(|(id, health)| (id, health.state()))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    const UP: UplinkId = UplinkId(1);

    #[test]
    fn the_worst_cause_counts_and_each_is_taken_away_alone() {
        let health = Health::default();
        assert_eq!(health.state(UP), HealthState::Alive);
        health.set(UP, Cause::Draining);
        assert_eq!(health.state(UP), HealthState::Draining);
        health.set(UP, Cause::NoCarrier);
        health.set(UP, Cause::Loop);
        assert_eq!(health.state(UP), HealthState::Gone);
        health.clear(UP, Cause::NoCarrier);
        assert_eq!(health.state(UP), HealthState::Sick);
        let names: Vec<_> = health.causes(UP).iter().map(Cause::name).collect();
        assert_eq!(names, ["draining", "loop"]);
        assert_eq!(health.state(UplinkId(2)), HealthState::Alive, "uplinks are told apart");
    }

    #[test]
    fn listeners_hear_of_changes_and_of_nothing_else() {
        let health = Health::default();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ears = Arc::clone(&heard);
        let mirror = health.clone();
        health.listen(move |uplink| ears.lock().unwrap().push(mirror.state(uplink)));
        assert!(health.set(UP, Cause::NextHopSilent));
        assert!(!health.set(UP, Cause::NextHopSilent));
        assert!(!health.clear(UP, Cause::Loop));
        assert!(health.clear(UP, Cause::NextHopSilent));
        assert_eq!(*heard.lock().unwrap(), [HealthState::Sick, HealthState::Alive]);
    }

    #[test]
    fn a_word_that_is_kept_follows() {
        let health = Health::default();
        let kept = health.of(UP);
        health.set(UP, Cause::Stopping);
        assert_eq!(kept.state(), HealthState::Gone);
    }

    #[test]
    fn bits_and_names_are_each_causes_own() {
        let bits: u32 = Cause::ALL.iter().map(|cause| cause.bit()).sum();
        assert_eq!(bits.count_ones() as usize, Cause::ALL.len());
        let mut names: Vec<_> = Cause::ALL.iter().map(|cause| cause.name()).collect();
        names.dedup();
        assert_eq!(names.len(), Cause::ALL.len());
    }
}
