//! A small client of QEMU's machine protocol (QMP): one JSON object a line.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Context, Error, Result};
use crate::process::wait_until;

/// The longest that QEMU may take for one command.
const LIMIT: Duration = Duration::from_secs(20);

/// A connection to a running QEMU.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects and negotiates.
    ///
    /// # Errors
    /// QEMU does not offer the socket within `limit`, or is not in its main loop yet.
    pub fn connect(path: &Path, limit: Duration) -> Result<Self> {
        let what = format!("QEMU's control socket {}", path.display());
        let stream = wait_until(&what, limit, || Ok(UnixStream::connect(path).ok()))?;
        stream.set_read_timeout(Some(limit.max(LIMIT))).context(|| what.clone())?;
        let mut qmp = Self { reader: BufReader::new(stream) };
        let greeting = qmp.read()?;
        if greeting.get("QMP").is_none() {
            return Err(Error::Unexpected(format!("{what} said {greeting}")));
        }
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Runs one command and returns its `return` value. Events that come before it are skipped.
    ///
    /// # Errors
    /// QEMU refuses it or does not answer.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let mut request = json!({"execute": command, "arguments": arguments}).to_string();
        request.push('\n');
        let what = || format!("QMP {command}");
        self.reader.get_mut().write_all(request.as_bytes()).context(what)?;
        loop {
            let mut answer = self.read()?;
            if let Some(error) = answer.get("error") {
                return Err(Error::Unexpected(format!("QMP {command} {arguments}: {error}")));
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    /// Takes the link of network device `id` (such as `nic0`) down or up.
    ///
    /// # Errors
    /// QEMU refuses it.
    pub fn set_link(&mut self, id: &str, up: bool) -> Result<()> {
        self.execute("set_link", &json!({"name": id, "up": up})).map(drop)
    }

    /// Stops the guest's CPUs; its rings are stopped too.
    ///
    /// # Errors
    /// QEMU refuses it.
    pub fn stop(&mut self) -> Result<()> {
        self.execute("stop", &json!({})).map(drop)
    }

    /// Lets the guest's CPUs run again.
    ///
    /// # Errors
    /// QEMU refuses it.
    pub fn cont(&mut self) -> Result<()> {
        self.execute("cont", &json!({})).map(drop)
    }

    /// Resets the machine, as its reset button does.
    ///
    /// # Errors
    /// QEMU refuses it.
    pub fn reset(&mut self) -> Result<()> {
        self.execute("system_reset", &json!({})).map(drop)
    }

    /// What QEMU says that it does: `running`, `paused`...
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn status(&mut self) -> Result<String> {
        let status = self.execute("query-status", &json!({}))?;
        Ok(status.get("status").and_then(Value::as_str).unwrap_or_default().to_owned())
    }

    /// Plugs more memory in: a `memory-backend-memfd` and a `pc-dimm`. The machine needs a slot
    /// ([`super::Vm::hotplug_mb`]).
    ///
    /// # Errors
    /// QEMU refuses it.
    pub fn plug_memory(&mut self, id: &str, megabytes: u32) -> Result<()> {
        let size = u64::from(megabytes) << 20;
        let backend = json!({
            "qom-type": "memory-backend-memfd", "id": format!("mem-{id}"), "size": size,
            "share": true,
        });
        self.execute("object-add", &backend)?;
        let dimm = json!({"driver": "pc-dimm", "id": id, "memdev": format!("mem-{id}")});
        self.execute("device_add", &dimm).map(drop)
    }

    /// Ends QEMU.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn quit(&mut self) -> Result<()> {
        self.execute("quit", &json!({})).map(drop)
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        let count =
            self.reader.read_line(&mut line).context(|| "QEMU's control socket".to_owned())?;
        if count == 0 {
            return Err(Error::Unexpected("QEMU closed its control socket".to_owned()));
        }
        serde_json::from_str(&line)
            .map_err(|error| Error::Unexpected(format!("QMP said `{}`: {error}", line.trim())))
    }
}
