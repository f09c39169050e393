//! Tests of the built program.

#[cfg(test)]
mod agents;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod control;
#[cfg(test)]
mod evidence;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod live;
#[cfg(test)]
mod logging;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod objects;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod scripts;
