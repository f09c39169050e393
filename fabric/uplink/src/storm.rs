//! The limit on what the outside may send to everybody.
//!
//! ```text
//!   broadcast ─▶ designated uplink ─▶ meter of (uplink, network) ─┬─▶ server 1
//!                                          │ empty               ├─▶ server 2
//!                                          ▼                     └─▶ ...
//!                                    `outside-storm`
//! ```
//!
//! A frame to a group is sealed and sent once for each server of its network, so a
//! loop in a switch outside would be multiplied into the fabric. Each uplink has a
//! meter for each network of its pool: a storm on one VLAN costs the others nothing.
//!
//! The uplink's workers share the meters, because the kernel may give a network's
//! whole ARP to one of them: a share for each would be too little for that one, and
//! the whole for each too much together. Only what is about to be copied takes the
//! lock, for some nanoseconds. The workers' clocks began at different times; a meter
//! takes no notice of a clock behind one that it has seen, so that time is never
//! counted twice.

use rustc_hash::FxHashMap;
use std::sync::{Mutex, PoisonError};
use wireonce_config::{Config, Uplink};
use wireonce_frame::{MacAddr, StormLimit, StormMeter};
use wireonce_wire::Vni;

/// The storm meters of one uplink, for all its workers.
#[derive(Debug)]
pub struct OutsideStorm {
    frames_per_s: u32,
    meters: FxHashMap<Vni, Mutex<StormMeter>>,
}

impl OutsideStorm {
    /// A full meter for each network that `uplink` may let frames into.
    #[must_use]
    pub fn new(config: &Config, uplink: &Uplink) -> Self {
        let frames_per_s = uplink.storm_frames_per_s;
        let limit = StormLimit::per_second(frames_per_s);
        let meter = |vni| (vni, Mutex::new(StormMeter::new(limit, limit, 0)));
        Self { frames_per_s, meters: networks_of(config, uplink).map(meter).collect() }
    }

    /// Whether [`Self::new`] would make the same meters, full: those that are in use then
    /// stay, so that a limit does not begin anew.
    #[must_use]
    pub fn fits(&self, config: &Config, uplink: &Uplink) -> bool {
        let networks = networks_of(config, uplink);
        self.frames_per_s == uplink.storm_frames_per_s
            && networks.clone().count() == self.meters.len()
            && networks.into_iter().all(|vni| self.meters.contains_key(&vni))
    }

    /// Whether a frame to the group `destination`, which was `frames` frames on the
    /// wire, may go to every server of `network`. Nothing may into other networks.
    #[must_use]
    pub fn admits(&self, network: Vni, destination: MacAddr, frames: u64, now_us: u64) -> bool {
        let Some(meter) = self.meters.get(&network) else { return false };
        // A panic ends the process; a meter is whole at every moment anyway.
        let mut meter = meter.lock().unwrap_or_else(PoisonError::into_inner);
        meter.admits(destination, frames, now_us)
    }
}

/// The networks of an uplink's pool.
fn networks_of<'c>(
    config: &'c Config,
    uplink: &'c Uplink,
) -> impl Iterator<Item = Vni> + Clone + 'c {
    let in_pool = config
        .networks
        .iter()
        .filter(|network| network.outside.as_ref().is_some_and(|o| o.pool == uplink.pool));
    in_pool.map(|network| network.vni)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{FILE, vni};

    const MULTICAST: MacAddr = MacAddr([1, 0, 0x5e, 0, 0, 1]);

    /// The first uplink's meters, with three frames at once.
    fn storm() -> OutsideStorm {
        let file = FILE.replace("designated = true", "storm_frames_per_s = 3");
        let config = Config::parse(&file, "gateway.toml").unwrap();
        OutsideStorm::new(&config, &config.uplinks[0])
    }

    fn admitted(storm: &OutsideStorm, network: u32, to: MacAddr, now_us: u64) -> usize {
        (0..10).filter(|_| storm.admits(vni(network), to, 1, now_us)).count()
    }

    #[test]
    fn each_network_of_an_uplink_has_its_own_limit() {
        let storm = storm();
        assert_eq!(admitted(&storm, 100, MacAddr::BROADCAST, 0), 3);
        assert_eq!(admitted(&storm, 200, MacAddr::BROADCAST, 0), 3);
        assert_eq!(admitted(&storm, 100, MULTICAST, 0), 3, "multicast has its own");
        assert_eq!(admitted(&storm, 100, MacAddr::BROADCAST, 1_000_000), 3);
    }

    #[test]
    fn meters_stay_while_rate_and_networks_do() {
        let storm = storm();
        let fits = |from: &str, to: &str| {
            let file = FILE.replace("designated = true", "storm_frames_per_s = 3");
            let config = Config::parse(&file.replace(from, to), "gateway.toml").unwrap();
            storm.fits(&config, &config.uplinks[0])
        };
        assert!(fits("home = \"up-a\"", "home = \"up-b\""));
        assert!(!fits("storm_frames_per_s = 3", "storm_frames_per_s = 4"));
        assert!(!fits("vni = 200", "vni = 201"));
    }

    #[test]
    fn nothing_comes_into_a_network_that_the_pool_does_not_have() {
        for network in [300, 999] {
            assert_eq!(admitted(&storm(), network, MacAddr::BROADCAST, 0), 0);
        }
    }

    #[test]
    fn workers_whose_clocks_began_at_different_times_get_no_more_together() {
        let storm = storm();
        let mut together = 0;
        // Ten seconds in steps of 0.1 s, one worker's clock half a second behind.
        for tenth in 0..100 {
            let now_us = 500_000 + tenth * 100_000;
            together += admitted(&storm, 100, MacAddr::BROADCAST, now_us);
            together += admitted(&storm, 100, MacAddr::BROADCAST, now_us - 500_000);
        }
        // 3 at once, then 3 a second in the 9.9 s that the clock ahead went on.
        assert_eq!(together, 32);
    }
}
