//! Asking a controller over its Unix socket. Blocking; no runtime.

use crate::{
    api::{ACTING_AS, ErrorBody},
    refusal::Refusal,
};
use serde::de::DeserializeOwned;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};
use ureq::{
    Agent, Error,
    config::Config,
    http::{Method, Request, Response, Uri},
    unversioned::{
        resolver::{ResolvedSocketAddrs, Resolver},
        transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport},
    },
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest answer that is read, bytes.
const ANSWER_LEN_MAX: u64 = 256 << 20;

/// Why there is no answer that helps.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The controller refused, and says why.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// There is no controller, or it does not answer as one.
    #[error("{0}")]
    Unreachable(String),
}

/// A way to ask a controller.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    place: PathBuf,
    acting_as: Option<String>,
}

impl Client {
    /// Asks the controller behind the socket at `path`, perhaps in another role.
    #[must_use]
    pub fn unix(path: &Path, acting_as: Option<String>) -> Self {
        let config = Config::builder().http_status_as_error(false).build();
        let connector = UnixConnector { path: path.to_owned() };
        let agent = Agent::with_parts(config, connector, Nowhere);
        Self { agent, place: path.to_owned(), acting_as }
    }

    /// Reads what is at a path, such as `/v1/vnics`.
    ///
    /// # Errors
    /// The controller refuses or cannot be reached.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.parsed(&self.text(path)?)
    }

    /// The same as text.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn text(&self, path: &str) -> Result<String, ClientError> {
        self.send(Method::GET, path, &[], String::new()).map(|(_, text)| text)
    }

    /// Sends a body with headers, and returns the answer.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<T, ClientError> {
        self.parsed(&self.send(method, path, headers, body)?.1)
    }

    /// Reads server-sent events, line by line, until `each` says that it is enough.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn watch(
        &self,
        path: &str,
        mut each: impl FnMut(&str, &str) -> bool,
    ) -> Result<(), ClientError> {
        let request = self.request(Method::GET, path, &[], ())?;
        let mut response = self.agent.run(request).map_err(|error| self.unreachable(&error))?;
        if !response.status().is_success() {
            self.read(&mut response)?;
            return Ok(());
        }
        let mut event = String::new();
        for line in BufReader::new(response.into_body().into_reader()).lines() {
            let line = line.map_err(|error| {
                ClientError::Unreachable(format!("the watch has ended: {error}; start it again"))
            })?;
            if let Some(name) = line.strip_prefix("event:") {
                event = name.trim().to_owned();
            } else if let Some(data) = line.strip_prefix("data:")
                && !each(&event, data.trim())
            {
                return Ok(());
            }
        }
        Ok(())
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<(u16, String), ClientError> {
        let done = if body.is_empty() {
            self.agent.run(self.timed(self.request(method, path, headers, ())?))
        } else {
            self.agent.run(self.timed(self.request(method, path, headers, body)?))
        };
        self.read(&mut done.map_err(|error| self.unreachable(&error))?)
    }

    fn timed<B: ureq::AsSendBody>(&self, request: Request<B>) -> Request<B> {
        self.agent.configure_request(request).timeout_global(Some(PATIENCE)).build()
    }

    fn request<B>(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: B,
    ) -> Result<Request<B>, ClientError> {
        let mut request = Request::builder().method(method).uri(format!("http://wireonce{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(role) = &self.acting_as {
            request = request.header(ACTING_AS, role);
        }
        request.body(body).map_err(|error| {
            ClientError::Unreachable(format!("{path:?} cannot be asked for: {error}"))
        })
    }

    /// The answer, or the refusal that it is.
    fn read(&self, response: &mut Response<ureq::Body>) -> Result<(u16, String), ClientError> {
        let status = response.status();
        let body = response.body_mut().with_config().limit(ANSWER_LEN_MAX).read_to_string();
        let text = body.map_err(|error| self.unreachable(&error))?;
        if status.is_success() {
            return Ok((status.as_u16(), text));
        }
        match serde_json::from_str::<ErrorBody>(&text) {
            Ok(body) => Err(ClientError::Refused(Box::new(body.error))),
            Err(_) => {
                let shown: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
                Err(ClientError::Unreachable(format!(
                    "{}: answered {status}: {shown}",
                    self.place.display()
                )))
            }
        }
    }

    fn parsed<T: DeserializeOwned>(&self, text: &str) -> Result<T, ClientError> {
        serde_json::from_str(text).map_err(|error| {
            let place = self.place.display();
            let problem = format!("answered what this version does not understand: {error}");
            ClientError::Unreachable(format!("{place}: {problem}"))
        })
    }

    fn unreachable(&self, error: &Error) -> ClientError {
        let place = self.place.display();
        let problem = match error {
            Error::Io(error) => format!("the controller cannot be reached: {error}"),
            other => format!("the controller does not answer: {other}"),
        };
        ClientError::Unreachable(format!(
            "{place}: {problem}; start `wireonce control`, or give its socket with `--socket`"
        ))
    }
}

/// Names lead nowhere: there is one socket.
#[derive(Debug)]
struct Nowhere;

impl Resolver for Nowhere {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let mut addresses = self.empty();
        addresses.push(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        Ok(addresses)
    }
}

#[derive(Debug)]
struct UnixConnector {
    path: PathBuf,
}

impl Connector for UnixConnector {
    type Out = UnixTransport;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<UnixTransport>, Error> {
        let stream = UnixStream::connect(&self.path)?;
        let config = &details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(UnixTransport { stream, buffers }))
    }
}

struct UnixTransport {
    stream: UnixStream,
    buffers: LazyBuffers,
}

impl std::fmt::Debug for UnixTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnixTransport").finish_non_exhaustive()
    }
}

impl Transport for UnixTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.set_write_timeout(timeout.not_zero().map(|left| *left))?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        match self.stream.write_all(output) {
            // Strangers are answered before they ask: the answer is there to be read.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            done => done.map_err(|error| late(error, &timeout)),
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.set_read_timeout(timeout.not_zero().map(|left| *left))?;
        let input = self.buffers.input_append_buf();
        let amount = self.stream.read(input).map_err(|error| late(error, &timeout))?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // Each question has its own connection: nothing is kept that could be stale.
        false
    }
}

fn late(error: std::io::Error, timeout: &NextTimeout) -> Error {
    match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
            Error::Timeout(timeout.reason)
        }
        _ => Error::Io(error),
    }
}
