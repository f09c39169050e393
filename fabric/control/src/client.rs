//! Asking a controller, over its Unix socket or over TLS. Blocking; no runtime.

use crate::{
    api::{ACTING_AS, EXPLAIN_S_MAX, ErrorBody},
    refusal::Refusal,
};
use serde::de::DeserializeOwned;
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};
use ureq::{
    Agent, Error,
    http::{Method, Request, Response},
    unversioned::transport::{ConnectionDetails, Connector},
};
use wireonce_member::{
    AskError, Https, Membership,
    ask::{agent_config, explain},
    tls::Clock,
    transport::{Nowhere, Stream, Through},
};

/// How long an answer may take: as long as the longest explanation looks, and some time to work it
/// out on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(EXPLAIN_S_MAX + 30);
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
    /// Or why nobody can be asked.
    agent: Result<Agent, String>,
    place: String,
    /// Whether it is the socket of this machine.
    is_local: bool,
    acting_as: Option<String>,
}

impl Client {
    /// Asks the controller behind the socket at `path`, perhaps in another role.
    #[must_use]
    pub fn unix(path: &Path, acting_as: Option<String>) -> Self {
        let connector = UnixConnector { path: path.to_owned() };
        let agent = Agent::with_parts(agent_config(), connector, Nowhere);
        Self { agent: Ok(agent), place: path.display().to_string(), is_local: true, acting_as }
    }

    /// Asks the controller of a membership, over TLS.
    ///
    /// # Errors
    /// Certificate and key do not belong together.
    pub fn https(membership: &Membership, acting_as: Option<String>) -> Result<Self, ClientError> {
        let https = Https::member(membership, Clock::of_the_machine())
            .map_err(|error: AskError| ClientError::Unreachable(error.to_string()))?;
        let (agent, place) = (Ok(https.agent().clone()), https.place());
        Ok(Self { agent, place, is_local: false, acting_as })
    }

    /// Cannot ask anybody, and answers everything with why.
    #[must_use]
    pub fn none(reason: String) -> Self {
        Self { agent: Err(reason), place: String::new(), is_local: false, acting_as: None }
    }

    fn agent(&self) -> Result<&Agent, ClientError> {
        self.agent.as_ref().map_err(|reason| ClientError::Unreachable(reason.clone()))
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

    /// Writes what is at a path to `out`, however long it is.
    ///
    /// # Errors
    /// As [`Self::get`], or it cannot be written.
    pub fn copy(&self, path: &str, out: &mut impl Write) -> Result<(), ClientError> {
        let agent = self.agent()?;
        let request = self.request(Method::GET, path, &[], ())?;
        let request =
            agent.configure_request(request).timeout_recv_response(Some(PATIENCE)).build();
        let mut response = agent.run(request).map_err(|error| self.unreachable(&error))?;
        if !response.status().is_success() {
            return self.read(&mut response).map(drop);
        }
        match io::copy(&mut response.into_body().into_reader(), out) {
            // Who reads it has enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(ClientError::Unreachable(format!(
                "{}: the copy was cut short: {error}; try again",
                self.place
            ))),
            Ok(_) => Ok(()),
        }
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
    /// As [`Self::get`]; and the controller ended the watch, which it does when it stops.
    pub fn watch(
        &self,
        path: &str,
        mut each: impl FnMut(&str, &str) -> bool,
    ) -> Result<(), ClientError> {
        let request = self.request(Method::GET, path, &[], ())?;
        let mut response = self.agent()?.run(request).map_err(|error| self.unreachable(&error))?;
        if !response.status().is_success() {
            self.read(&mut response)?;
            return Ok(());
        }
        let mut event = String::new();
        for line in BufReader::new(response.into_body().into_reader()).lines() {
            let line = line.map_err(|error| {
                let place = &self.place;
                ClientError::Unreachable(format!("{place}: the watch was cut off: {error}"))
            })?;
            if let Some(name) = line.strip_prefix("event:") {
                event = name.trim().to_owned();
            } else if let Some(data) = line.strip_prefix("data:")
                && !each(&event, data.trim())
            {
                return Ok(());
            }
        }
        let problem = "the watch has ended: the controller stopped; start it again";
        Err(ClientError::Unreachable(format!("{}: {problem}", self.place)))
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<(u16, String), ClientError> {
        let agent = self.agent()?;
        let done = if body.is_empty() {
            agent.run(timed(agent, self.request(method, path, headers, ())?))
        } else {
            agent.run(timed(agent, self.request(method, path, headers, body)?))
        };
        self.read(&mut done.map_err(|error| self.unreachable(&error))?)
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
                Err(ClientError::Unreachable(format!("{}: answered {status}: {shown}", self.place)))
            }
        }
    }

    fn parsed<T: DeserializeOwned>(&self, text: &str) -> Result<T, ClientError> {
        serde_json::from_str(text).map_err(|error| {
            let place = &self.place;
            let problem = format!("answered what this version does not understand: {error}");
            ClientError::Unreachable(format!("{place}: {problem}"))
        })
    }

    fn unreachable(&self, error: &Error) -> ClientError {
        let sentence = explain(&self.place, error);
        ClientError::Unreachable(match self.is_local {
            true => {
                format!("{sentence}; start `wireonce control`, or give its socket with `--socket`")
            }
            false => sentence,
        })
    }
}

fn timed<B: ureq::AsSendBody>(agent: &Agent, request: Request<B>) -> Request<B> {
    agent.configure_request(request).timeout_global(Some(PATIENCE)).build()
}

#[derive(Debug)]
struct UnixConnector {
    path: PathBuf,
}

impl Connector for UnixConnector {
    type Out = Through<Local>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Self::Out>, Error> {
        let stream = UnixStream::connect(&self.path)?;
        Ok(Some(Through::new(Local(stream), details.config)))
    }
}

/// A connection on this machine.
struct Local(UnixStream);

impl Read for Local {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Local {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Stream for Local {
    fn limit_reads(&self, limit: Option<Duration>) -> io::Result<()> {
        self.0.set_read_timeout(limit)
    }

    fn limit_writes(&self, limit: Option<Duration>) -> io::Result<()> {
        self.0.set_write_timeout(limit)
    }

    fn is_open(&self) -> bool {
        // Each question has its own connection: nothing is kept that could be stale.
        false
    }
}
