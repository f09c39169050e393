//! The manager's behaviour, on a simulated network with a simulated clock.

mod handshake;
mod rekey;
mod sim;
mod trouble;
