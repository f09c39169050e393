//! The gateway: uplink drivers, reflection filter, announcements, and its worker loop.

pub mod driver;
mod sys;
