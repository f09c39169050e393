//! Requests to a controller over HTTPS. Blocking; no runtime.

use crate::{
    directory::Membership,
    messages::{ETAG, ErrorText},
    tls::{Clock, joining_config, member_config},
    token::Token,
    transport::{Nowhere, TlsConnector, Tried},
};
use rustls::{AlertDescription, CertificateError};
use std::{io, time::Duration};
use ureq::{
    Agent, AsSendBody, Error,
    config::Config,
    http::{Method, Request},
};

/// Longest answer that is read, bytes: a host's text.
const ANSWER_LEN_MAX: u64 = 65 << 20;

/// Why there is no answer that helps, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The controller says no, and why.
    #[error("{text}")]
    Refused {
        /// The status of HTTP.
        status: u16,
        /// What it says.
        text: String,
    },
    /// It cannot be reached, or one of the two does not believe the other.
    #[error("{0}")]
    Unreachable(String),
}

/// What a controller answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status of HTTP: 2xx, or 304.
    pub status: u16,
    /// The tag of what it gave.
    pub tag: Option<String>,
    /// The body.
    pub body: String,
}

/// A way to a controller.
#[derive(Debug, Clone)]
pub struct Https {
    agent: Agent,
    addresses: Vec<String>,
}

impl Https {
    /// Asks as a member.
    ///
    /// # Errors
    /// Certificate and key do not belong together.
    pub fn member(membership: &Membership, clock: Clock) -> Result<Self, AskError> {
        let config = member_config(membership, clock).map_err(|error| unusable(&error))?;
        Ok(Self::with(membership.addresses.clone(), config))
    }

    /// Asks as somebody who has nothing but a token.
    ///
    /// # Errors
    /// Never with this provider.
    pub fn joining(token: &Token, clock: Clock) -> Result<Self, AskError> {
        let config = joining_config(token.ca, clock).map_err(|error| unusable(&error))?;
        Ok(Self::with(token.addresses.clone(), config))
    }

    fn with(addresses: Vec<String>, config: rustls::ClientConfig) -> Self {
        let connector = TlsConnector::new(addresses.clone(), config);
        Self { agent: Agent::with_parts(agent_config(), connector, Nowhere), addresses }
    }

    /// Where it asks, for people.
    #[must_use]
    pub fn place(&self) -> String {
        self.addresses.join(", ")
    }

    /// The agent, for requests of another form.
    #[must_use]
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Sends a request without a body.
    ///
    /// # Errors
    /// The controller refuses or cannot be reached.
    pub fn get(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        patience: Duration,
    ) -> Result<Answer, AskError> {
        self.send(Method::GET, path, headers, (), patience)
    }

    /// Sends JSON.
    ///
    /// # Errors
    /// The controller refuses or cannot be reached.
    pub fn json(
        &self,
        method: Method,
        path: &str,
        body: &impl serde::Serialize,
        patience: Duration,
    ) -> Result<Answer, AskError> {
        let body = serde_json::to_string(body)
            .map_err(|error| AskError::Unreachable(format!("the request: {error}")))?;
        self.send(method, path, &[("content-type", "application/json")], body, patience)
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsSendBody,
        patience: Duration,
    ) -> Result<Answer, AskError> {
        let mut request = Request::builder().method(method).uri(format!("http://wireonce{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).map_err(|error| {
            AskError::Unreachable(format!("{path:?} cannot be asked for: {error}"))
        })?;
        let timed = self.agent.configure_request(request).timeout_global(Some(patience)).build();
        let mut response = self.agent.run(timed).map_err(|error| self.unreachable(&error))?;
        let status = response.status().as_u16();
        let tag = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok());
        let tag = tag.map(|tag| tag.trim_matches('"').to_owned());
        let read = response.body_mut().with_config().limit(ANSWER_LEN_MAX).read_to_string();
        let body = read.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() || status == 304 {
            return Ok(Answer { status, tag, body });
        }
        let text = match serde_json::from_str::<ErrorText>(&body) {
            Ok(error) => error.text,
            Err(_) => format!("{}: answered {status}, which is no wireonce", self.place()),
        };
        Err(AskError::Refused { status, text })
    }

    fn unreachable(&self, error: &Error) -> AskError {
        AskError::Unreachable(explain(&self.place(), error))
    }
}

/// No proxies, no redirects, statuses are answers.
#[must_use]
pub fn agent_config() -> Config {
    Config::builder().http_status_as_error(false).max_redirects(0).proxy(None).build()
}

/// Why a controller could not be asked, in a sentence with what to do.
#[must_use]
pub fn explain(place: &str, error: &Error) -> String {
    let Error::Io(error) = error else {
        return format!("{place}: the controller does not answer: {error}");
    };
    let (place, error) = match inner::<Tried>(error) {
        Some(tried) => (tried.address.as_str(), &tried.error),
        None => (place, error),
    };
    let Some(tls) = inner::<rustls::Error>(error) else {
        return format!("{place}: the controller cannot be reached: {error}");
    };
    let sentence = match tls {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "somebody else than our controller answers there: its certificate is of another \
             authority; see that the address is right, or join again"
        }
        rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => "the controller's certificate is not for this time; set the clocks of both hosts",
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "our certificate has expired, since it was not used for too long; join again with `wireonce \
             join` and a token of `wireonce token make`, or as a person with a certificate of \
             `wireonce user make` (the role `admin` can)"
        }
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::DecryptError
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown,
        ) => {
            "the controller does not know our certificate, which is of another authority; see that the \
             address is right, or join again with `wireonce join` and a token of `wireonce token make`, \
             or as a person with a certificate of `wireonce user make` (the role `admin` can)"
        }
        other => return format!("{place}: TLS with the controller fails: {other}"),
    };
    format!("{place}: {sentence}")
}

/// The error that an error of the system was made from.
fn inner<E: std::error::Error + 'static>(error: &io::Error) -> Option<&E> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

fn unusable(error: &rustls::Error) -> AskError {
    AskError::Unreachable(format!("our certificate cannot be used: {error}; join again"))
}
