//! The worker's loop against guests, good and bad.

mod change;
mod fairness;
mod hostile_guest;
mod hostile_peer;
mod house;
mod local;
