//! Two workers on loopback: agents, sockets, rings, trains and evidence for real.

#[cfg(test)]
mod dead_paths;
#[cfg(test)]
mod impaired;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod node;
#[cfg(test)]
mod parting;
#[cfg(test)]
mod plain;
