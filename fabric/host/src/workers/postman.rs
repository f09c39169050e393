//! News of sessions for every worker.

use super::{Mail, Mailbox, Work};
use crate::SessionListener;
use wireonce_link::SessionEvent;

/// Carries news of sessions to every worker.
#[derive(Debug)]
pub struct Postman<W: Work>(pub(super) Vec<Mailbox<W>>);

impl<W: Work> SessionListener for Postman<W> {
    fn session(&self, event: SessionEvent) {
        for mailbox in &self.0 {
            mailbox.leave(Mail::Session(event.clone()));
        }
    }
}
