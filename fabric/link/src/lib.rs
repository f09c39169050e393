//! Authenticated links between workers: handshake, keys, trains, replay window, loss evidence.
