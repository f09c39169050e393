//! Where each vNIC's frames leave the fabric: homes, standbys, moves and their price.
//!
//! Pure: no I/O and no clock. A [`House`] goes in, by number, so that a hundred thousand vNICs
//! are a few arrays; names are kept for what is said to people.
//!
//! ```text
//!   House ──▶ place ─────▶ Placement: a home and standbys for each, or what is missing
//!         ──▶ rebalance ─▶ Plan: moves that satisfy more demand, each with its price
//!         ──▶ advise ────▶ what is out of balance, and the command that cures it
//! ```
//!
//! | module | idea |
//! |---|---|
//! | [`house`] | what there is, what was promised, what is wanted |
//! | [`loads`] | what placements use of each resource, and what any one loss would add |
//! | [`place`](mod@place) | homes and standbys such that promises survive one loss |
//! | [`survive`] | which promises a house as it is would not keep, alone or after one loss |
//! | [`rebalance`](mod@rebalance) | moves for demand |
//! | [`pace`] | how often one MAC address may move |
//! | [`advise`](mod@advise) | evidence and a command for each imbalance |
//! | [`command`] | the commands that evidence prints |
//!
//! Why it is done this way: `docs/decisions/0015-placement.md`.
#![forbid(unsafe_code)]

pub mod advise;
pub mod command;
pub mod house;
pub mod loads;
pub mod pace;
pub mod place;
pub mod rebalance;
#[cfg(test)]
mod sample;
pub mod survive;

pub use advise::{Advice, GrantUse, advise};
pub use command::{Command, Way};
pub use house::{
    Gateway, GatewayIndex, House, MachineId, PoolId, Rates, Server, ServerIndex, SwitchId, Uplink,
    UplinkIndex, Vnic, VnicIndex,
};
pub use loads::{Loads, Loss, Resource};
pub use pace::Pace;
pub use place::{Homes, Placement, Shortage, Task, place, place_these};
pub use rebalance::{Held, Limits, Move, Plan, pays, rebalance};
pub use survive::{Breach, breaches};
