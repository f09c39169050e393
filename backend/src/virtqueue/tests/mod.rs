//! Tests of the rings against a driver that does as it is told, good or bad.

mod differential;
pub(crate) mod driver;
mod frames;
mod hostile;
mod lost_memory;
mod racing;
