//! A member at work: one thread asks for texts and renews the certificate, one reports.
//!
//! ```text
//! text thread    renew if it is time ─> ask, wait up to 25 s ─> take ─> keep ─┐
//!                   └── error: 0.5 s, 1 s, .. 30 s <─────────────────────────┘
//! report thread  report() ─> the answer says when the next is due
//! ```

use crate::{
    ask::{AskError, Https},
    backoff::{Backoff, chance},
    certificate::Facts,
    directory::{Directory, Membership},
    join::admitted,
    messages::Renew,
    text::Text,
    texts::{Asked, Heard, Texts},
    tls::Clock,
};
use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};
use tracing::{error, info, warn};
use ureq::http::Method;
use wireonce_ledger::report::{HostReport, ReportAnswer};

/// How long the controller holds a request for a text back that is the same.
const WAIT_S: u64 = 25;
/// How long an answer may take beyond that.
const PATIENCE: Duration = Duration::from_secs(15);
/// A renewal that failed is tried again after this many seconds.
const RENEW_AGAIN_S: u64 = 600;
/// Seconds until the next report, if the controller does not say.
const REPORT_S: u64 = 10;
/// Longest time between reports, seconds, whatever the controller says.
const REPORT_S_MAX: u64 = 300;

/// What a member begins with.
#[derive(Debug)]
pub struct Start<T, R> {
    /// Where the membership is kept.
    pub directory: Directory,
    /// The host's name.
    pub name: String,
    /// The tag of the text that the daemon serves, if it has one.
    pub served: Option<String>,
    /// The last text that was kept, if the daemon could not serve it.
    pub refused: Option<Text>,
    /// The wall clock.
    pub clock: Clock,
    /// Has the daemon serve a text, or says why it does not.
    pub take: T,
    /// What the daemon says of itself; `None`: nothing now.
    pub report: R,
}

/// How a member stands with its controller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct News {
    /// Where the controller is.
    pub controller: String,
    /// Since when it does not answer, or refuses: seconds since 1970. `None`: it answers.
    pub silent_since_s: Option<u64>,
    /// What is wrong then.
    pub error: Option<String>,
    /// The tag of the text that is served.
    pub tag: Option<String>,
    /// Why the newest text is not served, if it is not.
    pub refused: Option<String>,
    /// Until when the certificate is valid: seconds since 1970.
    pub certificate_until_s: u64,
}

/// A member that asks and reports until it is dropped.
#[derive(Debug)]
pub struct Member {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    directory: Directory,
    name: String,
    clock: Clock,
    now: Mutex<Now>,
    ended: Condvar,
}

#[derive(Debug)]
struct Now {
    membership: Membership,
    https: Https,
    news: News,
    renew_after_s: u64,
    is_over: bool,
}

impl Member {
    /// Starts asking and reporting.
    ///
    /// # Errors
    /// The membership cannot be used, or no thread can be started.
    pub fn start<T, R>(start: Start<T, R>) -> io::Result<Self>
    where
        T: FnMut(&Text) -> Result<(), String> + Send + 'static,
        R: FnMut(&News) -> Option<HostReport> + Send + 'static,
    {
        let Start { directory, name, served, refused, clock, take, mut report } = start;
        let membership = directory.membership().map_err(io::Error::other)?;
        let https = Https::member(&membership, clock).map_err(io::Error::other)?;
        let news = News {
            controller: https.place(),
            silent_since_s: Some(clock.now_s()),
            error: Some("it was not asked yet".to_owned()),
            tag: served.clone(),
            certificate_until_s: membership.facts.until_s,
            ..News::default()
        };
        let now = Now { membership, https, news, renew_after_s: 0, is_over: false };
        let texts = Texts::new(directory.clone(), served, refused, take);
        let now = Mutex::new(now);
        let shared = Arc::new(Shared { directory, name, clock, now, ended: Condvar::new() });
        let (asking, reporting) = (Arc::clone(&shared), Arc::clone(&shared));
        let member = Self { shared };
        thread::Builder::new().name("texts".to_owned()).spawn(move || asking.ask(texts))?;
        thread::Builder::new()
            .name("reports".to_owned())
            .spawn(move || reporting.report(&mut report))?;
        Ok(member)
    }

    /// How it stands with the controller.
    #[must_use]
    pub fn news(&self) -> News {
        self.shared.now().news.clone()
    }
}

impl Drop for Member {
    /// Does not wait: a request may be held back for half a minute.
    fn drop(&mut self) {
        self.shared.now().is_over = true;
        self.shared.ended.notify_all();
    }
}

impl Shared {
    /// A panic aborts the process, so a poisoned lock cannot be met.
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits; false if it is over.
    fn pause(&self, time: Duration) -> bool {
        let now = self.now();
        if now.is_over || time.is_zero() {
            return !now.is_over;
        }
        let waited = self.ended.wait_timeout_while(now, time, |now| !now.is_over);
        !waited.unwrap_or_else(PoisonError::into_inner).0.is_over
    }

    fn ask(&self, mut texts: Texts<impl FnMut(&Text) -> Result<(), String>>) {
        let mut backoff = Backoff::default();
        let mut wait = Duration::ZERO;
        while self.pause(wait) {
            self.renew_if_due();
            let asked = Host { shared: self, https: self.now().https.clone() };
            let (heard, answered) = texts.ask(&asked);
            self.heard(heard);
            wait = match answered {
                // The controller waits while nothing is new, so this does not hurry.
                Ok(()) => {
                    backoff.reset();
                    Duration::ZERO
                }
                Err(error) => {
                    self.failed(&error);
                    self.look_for_another_membership();
                    backoff.wait(chance())
                }
            };
        }
    }

    /// Notes what came of asking.
    fn heard(&self, heard: Heard) {
        let mut now = self.now();
        match heard {
            Heard::Same => {}
            Heard::Taken(tag) => {
                now.news.tag = Some(tag);
                now.news.refused = None;
            }
            Heard::Refused(_, reason) => now.news.refused = Some(reason),
        }
    }

    /// The controller answered.
    fn answered(&self) {
        let mut now = self.now();
        now.news.error = None;
        if now.news.silent_since_s.take().is_some() {
            info!(controller = now.news.controller, "the controller answers");
        }
    }

    /// Said once, and again when something else is wrong.
    fn failed(&self, error: &AskError) {
        let mut now = self.now();
        let said = error.to_string();
        if now.news.error.as_ref() != Some(&said) {
            warn!(reason = said, "the controller is of no use now; what is served stays");
        }
        now.news.error = Some(said);
        let since = self.clock.now_s();
        now.news.silent_since_s.get_or_insert(since);
    }

    /// Somebody may have joined anew while the daemon runs.
    fn look_for_another_membership(&self) {
        let Ok(found) = self.directory.membership() else { return };
        let known = self.now().membership.certificate.clone();
        if found.certificate != known {
            self.become_member(found);
        }
    }

    fn become_member(&self, membership: Membership) {
        match Https::member(&membership, self.clock) {
            Ok(https) => {
                let mut now = self.now();
                now.news.controller = https.place();
                now.news.certificate_until_s = membership.facts.until_s;
                now.https = https;
                now.membership = membership;
                now.renew_after_s = 0;
            }
            Err(error) => error!(%error, "the new certificate is not used"),
        }
    }

    fn renew_if_due(&self) {
        let (now_s, https, membership) = {
            let now = self.now();
            let now_s = self.clock.now_s();
            if now_s < now.renew_after_s || !is_renewal_due(&now.membership.facts, now_s) {
                return;
            }
            (now_s, now.https.clone(), now.membership.clone())
        };
        match self.renew(&https, &membership) {
            Ok(renewed) => {
                info!(until_s = renewed.facts.until_s, "the certificate is renewed");
                self.become_member(renewed);
            }
            Err(reason) => {
                warn!(reason, "the certificate cannot be renewed yet");
                self.now().renew_after_s = now_s.saturating_add(RENEW_AGAIN_S);
            }
        }
    }

    /// Asks with the certificate that ends for one with the same key.
    fn renew(&self, https: &Https, membership: &Membership) -> Result<Membership, String> {
        let ask = Renew { tls_key: membership.key.public_text() };
        let path = format!("/v1/hosts/{}/certificate", self.name);
        let answer = https.json(Method::POST, &path, &ask, PATIENCE);
        let answer = answer.map_err(|error| error.to_string())?;
        let renewed = admitted(&answer.body, membership.key.clone());
        let renewed = renewed.ok_or("the answer cannot be understood")?;
        // The authority is whom the token named; nobody else changes that.
        let renewed = Membership { ca: membership.ca.clone(), ..renewed };
        self.directory.keep(&renewed).map_err(|error| error.to_string())?;
        Ok(renewed)
    }

    fn report(&self, report: &mut impl FnMut(&News) -> Option<HostReport>) {
        let mut backoff = Backoff::default();
        let mut wait = Duration::ZERO;
        while self.pause(wait) {
            let (https, news) = {
                let now = self.now();
                (now.https.clone(), now.news.clone())
            };
            wait = Duration::from_secs(REPORT_S);
            // Who cannot ask for texts has nobody to report to; the other thread says why.
            if news.silent_since_s.is_some() {
                wait = Duration::from_secs(1);
                continue;
            }
            let Some(report) = report(&news) else { continue };
            let path = format!("/v1/hosts/{}/report", self.name);
            match https.json(Method::PUT, &path, &report, PATIENCE) {
                Ok(answer) => {
                    backoff.reset();
                    wait = Duration::from_secs(next_report_s(&answer.body));
                }
                Err(error) => {
                    tracing::debug!(%error, "a report did not arrive");
                    wait = backoff.wait(chance()).max(Duration::from_secs(1));
                }
            }
        }
    }
}

/// When the next report is due, as the controller says.
fn next_report_s(answer: &str) -> u64 {
    let said = serde_json::from_str::<ReportAnswer>(answer);
    let said = said.map_or(REPORT_S, |answer| answer.next_in_s);
    said.clamp(1, REPORT_S_MAX)
}

/// Whether two thirds of a certificate's time are over.
#[must_use]
pub fn is_renewal_due(facts: &Facts, now_s: u64) -> bool {
    let whole = facts.until_s.saturating_sub(facts.from_s);
    now_s >= facts.from_s.saturating_add(whole / 3 * 2)
}

/// The host's own part of the API.
struct Host<'s> {
    shared: &'s Shared,
    https: Https,
}

impl Asked for Host<'_> {
    fn text(&self, tag: Option<&str>) -> Result<Option<Text>, AskError> {
        // Who does not know yet whether anybody answers does not wait to find out.
        let wait_s = match self.shared.now().news.silent_since_s {
            Some(_) => 0,
            None => WAIT_S,
        };
        let path = format!("/v1/hosts/{}/text?wait_s={wait_s}", self.shared.name);
        let quoted = tag.map(|tag| format!("\"{tag}\""));
        let headers: Vec<(&str, &str)> =
            quoted.iter().map(|tag| ("if-none-match", tag.as_str())).collect();
        let patience = Duration::from_secs(WAIT_S) + PATIENCE;
        let answer = self.https.get(&path, &headers, patience)?;
        if answer.status == 304 {
            self.shared.answered();
            return Ok(None);
        }
        let text = Text::new(answer.body);
        if answer.tag.as_deref() != Some(text.tag()) {
            let problem = "the text that came is not the one that was sent; it is asked for anew";
            return Err(AskError::Unreachable(problem.to_owned()));
        }
        self.shared.answered();
        Ok(Some(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_of_thirty_days_is_renewed_after_twenty() {
        let day = 86_400;
        let facts = Facts { serial: "1".to_owned(), from_s: 100 * day, until_s: 130 * day };
        assert!(!is_renewal_due(&facts, 120 * day - 1));
        assert!(is_renewal_due(&facts, 120 * day));
        assert!(is_renewal_due(&facts, 140 * day));
        assert!(!is_renewal_due(&facts, 0));
    }

    #[test]
    fn the_next_report_is_when_the_controller_says_within_reason() {
        assert_eq!(next_report_s("{\"next_in_s\": 7}"), 7);
        assert_eq!(next_report_s("{\"next_in_s\": 0}"), 1);
        assert_eq!(next_report_s("{\"next_in_s\": 100000}"), REPORT_S_MAX);
        assert_eq!(next_report_s(""), REPORT_S);
    }
}
