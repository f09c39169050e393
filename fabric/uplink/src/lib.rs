//! The gateway: uplink drivers, reflection filter, announcements, and its worker loop.

pub mod announce;
pub mod books;
pub mod designated;
pub mod driver;
pub mod forward;
pub mod link_control;
pub mod reflection;
#[cfg(test)]
pub(crate) mod sample;
#[expect(dead_code, reason = "the worker loop that uses the rest comes next")]
mod sys;
