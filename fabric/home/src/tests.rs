//! A house of servers and gateways on a bad network, from a seed; and single steps.
//!
//! A process has two threads here as in life: the agent, which runs the machines, and a worker, which
//! sees words and fences only. Each stalls by itself. Frames are numbered by how often their vNIC has
//! swapped when they were sent.

mod many;
mod sim;
mod steps;

use sim::House;

/// Names the seed of a run that panics, whatever it panics of.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("this was seed {}", self.0);
        }
    }
}

/// Seeds of a usual run; `WIREONCE_HOME_SEEDS=10000` asks for more.
const SEEDS: u64 = 200;

#[test]
fn no_vnic_leaves_through_two_homes_and_each_is_attached_again_after_the_last_fault() {
    let seeds = std::env::var("WIREONCE_HOME_SEEDS").ok().and_then(|text| text.parse().ok());
    for seed in 0..seeds.unwrap_or(SEEDS) {
        let _named = Seed(seed);
        House::new(seed).run();
    }
}
