//! The manager's behaviour, on a simulated network with a simulated clock.

mod change;
mod gray;
mod handshake;
mod messages;
mod pace;
mod parting;
mod rekey;
mod sim;
mod trouble;
