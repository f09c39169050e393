//! The command channel into a guest: see `init.sh` for the other end.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::{Context, Error, Result};
use crate::process::{tail, wait_until};

/// The most output that one command may give, in bytes.
const MAX_OUTPUT: usize = 4 << 20;
/// How long the answer may take after the guest's own time limit has passed.
const GRACE: Duration = Duration::from_secs(10);

/// What a command in the guest left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestOutput {
    /// Its exit status; 137 if it was killed by its time limit.
    pub status: i32,
    /// Both its outputs, made valid UTF-8.
    pub output: String,
}

/// A connection to the guest's agent.
#[derive(Debug)]
pub struct Agent {
    stream: UnixStream,
    /// Bytes that came and are not used yet.
    pending: Vec<u8>,
    next_nonce: u32,
}

impl Agent {
    /// Connects to QEMU's end of the channel, which exists soon after QEMU's start.
    ///
    /// # Errors
    /// No socket within `limit`.
    pub fn connect(path: &Path, limit: Duration) -> Result<Self> {
        let what = format!("the guest's command channel {}", path.display());
        let stream = wait_until(&what, limit, || Ok(UnixStream::connect(path).ok()))?;
        Ok(Self { stream, pending: Vec::new(), next_nonce: 0 })
    }

    /// Waits for the agent to say that it runs.
    ///
    /// # Errors
    /// It does not within `limit`.
    pub fn wait_ready(&mut self, limit: Duration) -> Result<()> {
        self.answer("ready", limit).map(drop)
    }

    /// Runs a shell command line in the guest, for at most `limit`.
    ///
    /// # Errors
    /// The guest does not answer.
    pub fn run(&mut self, line: &str, limit: Duration) -> Result<GuestOutput> {
        self.next_nonce += 1;
        let nonce = format!("n{}", self.next_nonce);
        let seconds = limit.as_secs().max(1);
        let request = format!("{nonce} {seconds} {}\n", STANDARD.encode(line));
        self.stream
            .write_all(request.as_bytes())
            .context(|| format!("cannot send `{line}` to the guest"))?;
        self.answer(&nonce, limit + GRACE)
    }

    /// Reads up to the answer marked `nonce` and returns it. Older answers are skipped.
    fn answer(&mut self, nonce: &str, limit: Duration) -> Result<GuestOutput> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(found) = self.take_answer(nonce)? {
                return Ok(found);
            }
            self.read_more(nonce, deadline, limit)?;
        }
    }

    /// Takes one complete answer from the bytes that came, if it is there.
    fn take_answer(&mut self, nonce: &str) -> Result<Option<GuestOutput>> {
        while let Some(answer) = parse_answer(&self.pending)? {
            let is_it = answer.nonce == nonce;
            let output = GuestOutput { status: answer.status, output: answer.output };
            self.pending.drain(..answer.end);
            if is_it {
                return Ok(Some(output));
            }
        }
        Ok(None)
    }

    fn read_more(&mut self, nonce: &str, deadline: Instant, limit: Duration) -> Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        let timed_out = |pending: &[u8]| Error::TimedOut {
            what: format!("the guest's answer {nonce}"),
            limit_ms: limit.as_millis(),
            detail: format!("; it said: {}", tail(&String::from_utf8_lossy(pending), 5)),
        };
        if left.is_zero() {
            return Err(timed_out(&self.pending));
        }
        let what = || "the guest's command channel".to_owned();
        self.stream.set_read_timeout(Some(left)).context(what)?;
        let mut buffer = [0; 16384];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(Error::Unexpected("the guest's command channel was closed".to_owned())),
            Ok(count) => {
                self.pending.extend(buffer.iter().take(count));
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(timed_out(&self.pending))
            }
            Err(error) => Err(error).context(what),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    nonce: String,
    status: i32,
    output: String,
    /// How many bytes it took, with all before it.
    end: usize,
}

/// The first answer `<<<NONCE STATUS BYTES>>>\n...` in `bytes`, if it is complete.
fn parse_answer(bytes: &[u8]) -> Result<Option<Answer>> {
    let Some(start) = bytes.windows(3).position(|w| w == b"<<<") else { return Ok(None) };
    let header: Vec<u8> =
        bytes.iter().skip(start + 3).take_while(|byte| **byte != b'\n').copied().collect();
    let body = start + 3 + header.len() + 1;
    if bytes.len() < body {
        return Ok(None);
    }
    let header = String::from_utf8_lossy(&header).trim_end().to_owned();
    let bad = || Error::Unexpected(format!("the guest's agent wrote `<<<{header}`"));
    let mut fields = header.strip_suffix(">>>").ok_or_else(bad)?.split(' ');
    let (nonce, status, count) = (fields.next(), fields.next(), fields.next());
    let nonce = nonce.ok_or_else(bad)?.to_owned();
    let status = status.and_then(|field| field.parse().ok()).ok_or_else(bad)?;
    let count: usize = count.and_then(|field| field.parse().ok()).ok_or_else(bad)?;
    if count > MAX_OUTPUT {
        return Err(Error::Unexpected(format!(
            "a guest's command wrote {count} bytes; {MAX_OUTPUT} are the most"
        )));
    }
    let Some(output) = bytes.get(body..body + count) else { return Ok(None) };
    let output = String::from_utf8_lossy(output).into_owned();
    Ok(Some(Answer { nonce, status, output, end: body + count }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_when_all_of_it_is_there() {
        let text = b"noise\r\n<<<n1 3 4>>>\nab\nc<<<n2 0 0>>>\n";
        for end in 0..24 {
            assert_eq!(parse_answer(&text[..end]).unwrap(), None, "{end}");
        }
        let first = parse_answer(text).unwrap().unwrap();
        assert_eq!((first.nonce.as_str(), first.status, first.output.as_str()), ("n1", 3, "ab\nc"));
        let second = parse_answer(&text[first.end..]).unwrap().unwrap();
        assert_eq!((second.nonce.as_str(), second.output.as_str()), ("n2", ""));
    }

    #[test]
    fn a_damaged_or_huge_answer_is_refused() {
        assert!(parse_answer(b"<<<n1 x 4>>>\n").is_err());
        assert!(parse_answer(b"<<<n1 0 4\n").is_err());
        assert!(parse_answer(b"<<<n1 0 99999999>>>\n").is_err());
    }
}
