//! Writes an initramfs: the "newc" format of `cpio`
//! (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;

const FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive being written. Parent folders are made as needed.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    inode: u32,
    directories: BTreeSet<String>,
}

impl Archive {
    /// Adds a file; `path` has no leading slash, `mode` is its rights (such as `0o755`).
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.parents(path);
        self.entry(path, FILE | mode, (0, 0), content);
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.entry(path, SYMLINK | 0o777, (0, 0), target.as_bytes());
    }

    /// Adds an empty folder.
    pub fn directory(&mut self, path: &str) {
        self.parents(path);
        if self.directories.insert(path.to_owned()) {
            self.entry(path, DIRECTORY | 0o755, (0, 0), &[]);
        }
    }

    /// Adds a character device by its numbers.
    pub fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        self.parents(path);
        self.entry(path, CHARACTER_DEVICE | 0o600, (major, minor), &[]);
    }

    /// The finished archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn parents(&mut self, path: &str) {
        for (end, _) in path.match_indices('/') {
            let (parent, _) = path.split_at(end);
            if self.directories.insert(parent.to_owned()) {
                self.entry(parent, DIRECTORY | 0o755, (0, 0), &[]);
            }
        }
    }

    /// One entry: a header of 13 fields of 8 hexadecimal digits, the name with its NUL, the
    /// content; name and content each filled up to a multiple of 4 bytes.
    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.inode += 1;
        let mut header = String::from("070701");
        let (links, zero) = (1, 0);
        for field in [self.inode, mode, zero, zero, links, zero] {
            header += &format!("{field:08x}");
        }
        header += &format!("{:08x}", content.len());
        for field in [zero, zero, device.0, device.1] {
            header += &format!("{field:08x}");
        }
        header += &format!("{:08x}{zero:08x}", path.len() + 1);
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn busybox_reads_back_what_was_written() {
        let mut archive = Archive::default();
        archive.file("bin/tool", 0o755, b"odd");
        archive.file("bin/other", 0o644, b"");
        archive.symlink("lib64", "lib");
        archive.directory("proc");
        let mut child = Command::new("busybox")
            .args(["cpio", "-t"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&archive.finish()).unwrap();
        let output = child.wait_with_output().unwrap();
        let names = String::from_utf8(output.stdout).unwrap();
        assert_eq!(names, "bin\nbin/tool\nbin/other\nlib64\nproc\n");
    }
}
