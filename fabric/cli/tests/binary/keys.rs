//! Key files of the built program.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
};
use tempfile::TempDir;

fn wireonce(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wireonce")).args(arguments).output().unwrap()
}

#[test]
fn a_new_key_is_private_and_its_public_half_is_printed() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("server-a.key");
    let made = wireonce(&["keygen", file.to_str().unwrap()]);
    assert_eq!(made.status.code(), Some(0));
    assert_eq!(made.stdout.len(), 45, "44 characters and the line's end");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let read = wireonce(&["pubkey", file.to_str().unwrap()]);
    assert_eq!(read.stdout, made.stdout);
    let secret = fs::read(&file).unwrap();
    assert_ne!(secret, made.stdout);
}

#[test]
fn a_key_that_exists_is_never_overwritten() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("server-a.key");
    fs::write(&file, "precious").unwrap();
    let made = wireonce(&["keygen", file.to_str().unwrap()]);
    assert_eq!(made.status.code(), Some(2));
    assert!(made.stdout.is_empty());
    let said = String::from_utf8(made.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("existing keys are not overwritten"), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn a_file_without_a_key_is_refused() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("server-a.key");
    fs::write(&file, "not a key\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let read = wireonce(&["pubkey", file.to_str().unwrap()]);
    assert_eq!(read.status.code(), Some(2));
    assert!(read.stdout.is_empty());
}

#[test]
fn what_is_no_regular_file_is_no_key() {
    let directory = TempDir::new().unwrap();
    let fifo = directory.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    // Nobody writes to the FIFO: to open it would be to wait for ever.
    for path in [directory.path(), "/dev/null".as_ref(), &fifo] {
        let read = wireonce(&["pubkey", path.to_str().unwrap()]);
        assert_eq!(read.status.code(), Some(2));
        let said = String::from_utf8(read.stderr).unwrap();
        assert!(said.contains(": not a regular file"), "{said}");
    }
}
