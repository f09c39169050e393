//! The last view, and how old it is.

use super::{Shown, text};
use crate::output::{duration, one_line};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use wireonce_control::client::ClientError;
use wireonce_desired::Moment;
use wireonce_sight::Now;

/// Without an answer for so long, a picture is not of now.
const OLD: Duration = Duration::from_secs(3);

/// A view of the controller, and when it was.
#[derive(Debug)]
pub(super) struct Picture {
    now: Now,
    at: Moment,
    seen: Instant,
    /// Why there is no newer one.
    trouble: Option<String>,
}

impl Picture {
    /// One of now.
    pub(super) fn new(now: Now) -> Self {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { now, at: Moment(at), seen: Instant::now(), trouble: None }
    }

    /// There was to be a newer one, and there is none.
    pub(super) fn is_not_answered(&mut self, error: &ClientError) {
        self.trouble = Some(error.to_string());
    }

    /// The tables that are to be shown, and above them since when they are not of now.
    pub(super) fn page(&self, shown: Shown, now: Instant) -> String {
        let age = now.saturating_duration_since(self.seen);
        silence(self.at, age, self.trouble.as_deref()) + &text::page(&self.now, shown)
    }
}

/// Since when there is no answer, if that is so.
fn silence(at: Moment, age: Duration, trouble: Option<&str>) -> String {
    let why = match trouble {
        None if age < OLD => return String::new(),
        None => "the controller takes long".to_owned(),
        Some(trouble) => one_line(trouble),
    };
    let age = duration(age.as_secs());
    format!("NO ANSWER SINCE {at}, for {age}: what is below is of then\n  {why}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_without_an_answer_says_since_when_and_why() {
        let at = Moment(1_772_388_000);
        assert_eq!(silence(at, Duration::from_secs(2), None), "");
        assert_eq!(
            silence(at, Duration::from_secs(75), Some("c.sock: refused\x1b[2J")),
            "NO ANSWER SINCE 2026-03-01T18:00:00Z, for 1 min 15 s: what is below is of then\n  \
             c.sock: refused [2J\n\n"
        );
        let hangs = silence(at, Duration::from_secs(4), None);
        assert!(hangs.contains("the controller takes long"), "{hangs}");
    }

    #[test]
    fn the_last_tables_stay_below_that_line() {
        let mut picture = Picture::new(Now::default());
        let fresh = picture.page(Shown::All, picture.seen);
        assert!(fresh.starts_with("nothing there"), "{fresh}");
        picture.is_not_answered(&ClientError::Unreachable("gone".to_owned()));
        let page = picture.page(Shown::All, picture.seen);
        assert!(page.starts_with("NO ANSWER SINCE ") && page.ends_with(&fresh), "{page}");
    }
}
