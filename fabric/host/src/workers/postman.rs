//! News of sessions for every worker.

use super::{Mail, Mailbox, Work};
use crate::SessionListener;
use wireonce_link::{PeerId, SessionEvent};

/// Carries news of sessions to every worker.
#[derive(Debug)]
pub struct Postman<W: Work>(pub(super) Vec<Mailbox<W>>);

impl<W: Work> SessionListener for Postman<W> {
    fn session(&self, event: SessionEvent) {
        for mailbox in &self.0 {
            mailbox.leave(Mail::Session(event.clone()));
        }
    }

    // Workers need to know which sessions there are, and nothing else.

    fn message(&self, _: PeerId, _: u8, _: &[u8]) {}

    fn hello(&self, _: PeerId, _: u64, _: Option<u64>) {}

    fn tick(&self, _: u64) -> Option<u64> {
        None
    }
}
