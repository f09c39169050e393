//! Attaches a terminal to a VM's console socket. Ctrl-] leaves.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use wireonce_qemu_tests::{Error, Result};

/// Ctrl-].
const LEAVE: u8 = 0x1d;

/// Copies between the terminal and the socket until Ctrl-] or either end.
pub(crate) fn attach(socket: &Path) -> Result<()> {
    let io = |source| Error::Io { what: format!("console {}", socket.display()), source };
    let stream = UnixStream::connect(socket).map_err(io)?;
    let mut from_vm = stream.try_clone().map_err(io)?;
    println!("attached; Enter for a prompt, Ctrl-] leaves");
    let saved = stty(&["-g"]).unwrap_or_default();
    let _no_terminal = stty(&["raw", "-echo"]);
    // It ends with the process: nothing waits for it.
    thread::spawn(move || copy_until_end(&mut from_vm));
    let result = copy_keys(stream);
    let _no_terminal = stty(&[saved.trim()]);
    println!();
    result.map_err(io)
}

fn copy_until_end(from_vm: &mut UnixStream) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from_vm.read(&mut buffer) {
        let mut out = std::io::stdout();
        let seen = buffer.get(..count).unwrap_or_default();
        if out.write_all(seen).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

fn copy_keys(mut to_vm: UnixStream) -> std::io::Result<()> {
    let mut key = [0; 1];
    while std::io::stdin().read(&mut key)? == 1 && key != [LEAVE] {
        to_vm.write_all(&key)?;
    }
    Ok(())
}

fn stty(args: &[&str]) -> Option<String> {
    let output = Command::new("stty").args(args).stdin(Stdio::inherit()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
