//! `GET /metrics`, and nothing else.
//!
//! One request for each connection, one connection at a time: a scraper comes every few seconds. Who is
//! slow is cut off, so that one who is stuck holds up the next for two seconds and nobody else.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tracing::warn;

/// The media type of OpenMetrics text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Longest request, in bytes.
const REQUEST_LEN_MAX: usize = 8 * 1024;
/// Most header lines of a request.
const HEADERS_MAX: usize = 64;
/// For a whole request, and for the whole answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whoever makes the page; `None` while there is no daemon.
type Source = dyn Fn() -> Option<String> + Send + Sync;

/// The listener; it goes when this is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens at `address` and answers from `source`.
    ///
    /// # Errors
    /// The address is not ours or taken, or no thread can be started.
    pub fn start(
        address: SocketAddr,
        source: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stopping);
        let thread = thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(move || accept(&listener, &seen, &source))?;
        Ok(Self { address, stopping, thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        // Wakes `accept`.
        let woken = TcpStream::connect_timeout(&self.address, PATIENCE).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            // A panic in the thread has ended the process already.
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, stopping: &AtomicBool, source: &Source) {
    while !stopping.load(Ordering::Relaxed) {
        match listener.accept() {
            // A scraper that breaks off is its own affair.
            Ok((stream, _)) => drop(serve(stream, source)),
            Err(error) => {
                warn!(%error, "metrics: a client is lost");
                // Out of descriptors, most likely: no hurry to fail again.
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

fn serve(mut stream: TcpStream, source: &Source) -> io::Result<()> {
    let answer = match read_request(&mut stream)? {
        Ask::Metrics => match source() {
            Some(page) => answer("200 OK", CONTENT_TYPE, &page),
            None => plain("503 Service Unavailable", "the daemon is starting or stopping\n"),
        },
        Ask::OtherPath => plain("404 Not Found", "there is /metrics only\n"),
        Ask::OtherMethod => plain("405 Method Not Allowed", "GET is the only method\n"),
        Ask::Nonsense => plain("400 Bad Request", "not an HTTP/1 request\n"),
    };
    write(&mut stream, answer.as_bytes())
}

/// One deadline for the whole answer: a reader who takes a byte now and then is cut off, too.
fn write(stream: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(until)?))?;
        let length = stream.write(bytes)?;
        if length == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(length..).unwrap_or_default();
    }
    Ok(())
}

/// The time until `until`, which is not zero.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// What a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Metrics,
    OtherPath,
    OtherMethod,
    Nonsense,
}

fn read_request(stream: &mut TcpStream) -> io::Result<Ask> {
    let until = Instant::now() + PATIENCE;
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        stream.set_read_timeout(Some(left(until)?))?;
        let length = stream.read(&mut chunk)?;
        request.extend_from_slice(chunk.get(..length).unwrap_or_default());
        if let Some(ask) = parse(&request, length == 0) {
            return Ok(ask);
        }
    }
}

/// What the request asks; `None` if there may be more of it.
fn parse(request: &[u8], ended: bool) -> Option<Ask> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(request) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) if !ended && request.len() < REQUEST_LEN_MAX => return None,
        _ => return Some(Ask::Nonsense),
    }
    let path = parsed.path.map(|path| path.split('?').next().unwrap_or(path));
    Some(match (parsed.method, path) {
        (Some("GET"), Some("/metrics")) => Ask::Metrics,
        (Some("GET"), _) => Ask::OtherPath,
        _ => Ask::OtherMethod,
    })
}

fn plain(status: &str, text: &str) -> String {
    answer(status, "text/plain; charset=utf-8", text)
}

fn answer(status: &str, content_type: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render;
    use std::net::Ipv4Addr;
    use wireonce_ledger::Status;

    fn server(source: impl Fn() -> Option<String> + Send + Sync + 'static) -> Server {
        Server::start((Ipv4Addr::LOCALHOST, 0).into(), source).unwrap()
    }

    fn ask(server: &Server, request: &str) -> String {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn a_scraper_gets_the_metrics_and_their_type() {
        let status = Status { uptime_s: 5, ..Status::default() };
        let server = server(move || Some(render(&status)));
        let answer = ask(&server, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains(CONTENT_TYPE), "{head}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        assert!(body.contains("wireonce_uptime_seconds 5"), "{body}");
    }

    #[test]
    fn who_asks_for_anything_else_is_told() {
        let server = server(|| None);
        for (request, status) in [
            ("GET /metrics?x=1 HTTP/1.0\r\n\r\n", "503"),
            ("GET / HTTP/1.1\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
            ("\0\0\0\0\r\n\r\n", "400"),
            ("GET /metr", "400"),
            ("", "400"),
        ] {
            let answer = ask(&server, request);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer}");
        }
    }

    #[test]
    fn an_endless_request_is_cut_off() {
        assert_eq!(parse(&[b'a'; REQUEST_LEN_MAX], false), Some(Ask::Nonsense));
        assert_eq!(parse(b"GET /metrics HTTP/1.1\r\n", false), None);
    }

    #[test]
    fn the_address_is_free_again_when_the_server_is_gone() {
        let first = server(|| None);
        let address = first.address();
        drop(first);
        assert!(TcpStream::connect(address).is_err());
    }
}
