//! The directory that is all of a membership.
//!
//! | file | what |
//! |---|---|
//! | `controller` | addresses of the controller, one a line, tried in turn |
//! | `ca.pem` | whom the host takes for the controller |
//! | `certificate.pem`, `key.pem` | who the host is |
//! | `state.toml` | the last text that the daemon took, with its tag |
//!
//! Every file is written beside, synced and renamed: whoever reads it finds the old one or the
//! new one, whole.

use crate::{
    certificate::{Facts, TlsKey, pem},
    text::Text,
    token::ADDRESSES_MAX,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown},
    path::{Path, PathBuf},
};

/// Largest file of the directory but the text, bytes.
const FILE_LEN_MAX: u64 = 64 << 10;
/// Largest text that is read, bytes: what a host's file may have.
const TEXT_LEN_MAX: u64 = 65 << 20;

/// What is wrong with the directory, on one line.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}; {remedy}", path.display())]
pub struct DirectoryError {
    path: PathBuf,
    problem: String,
    remedy: &'static str,
    /// There is no membership at all, rather than a broken one.
    is_absent: bool,
}

impl DirectoryError {
    /// Whether nobody ever joined with this directory.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.is_absent
    }
}

/// Where a membership is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    path: PathBuf,
}

/// Who a host is, and whom it believes.
#[derive(Debug, Clone)]
pub struct Membership {
    /// Where the controller is: `HOST:PORT`, tried in turn.
    pub addresses: Vec<String>,
    /// The controller's authority.
    pub ca: CertificateDer<'static>,
    /// The host's certificate.
    pub certificate: CertificateDer<'static>,
    /// Number and time of it.
    pub facts: Facts,
    /// The key that belongs to it.
    pub key: TlsKey,
}

const JOIN: &str = "join again: `wireonce token make` at the controller, then `wireonce join \
                    --config FILE TOKEN` here";

impl Directory {
    /// The directory at `path`, which need not exist.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory if it is not there; nobody but its owner gets in.
    ///
    /// # Errors
    /// It cannot be made, or others get in.
    pub fn make(&self) -> Result<(), DirectoryError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.path);
        made.map_err(|error| {
            self.wrong("", error.to_string(), "give a path where a directory can be made")
        })?;
        self.check()
    }

    /// Whether the directory is there for its owner alone.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), DirectoryError> {
        let found = fs::metadata(&self.path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => self.absent("", "does not exist: this host has not joined yet"),
            _ => self.wrong("", error.to_string(), "let the daemon's user in"),
        })?;
        if !found.is_dir() {
            return Err(self.wrong("", "is no directory".to_owned(), "give a directory"));
        }
        let mode = found.mode() & 0o7777;
        if mode & 0o077 != 0 {
            let problem = format!("mode {mode:04o} lets group or others in, and it has a key");
            return Err(self.wrong("", problem, "run `chmod 700` on it"));
        }
        Ok(())
    }

    /// The membership.
    ///
    /// # Errors
    /// There is none, or a file of it cannot be used.
    pub fn membership(&self) -> Result<Membership, DirectoryError> {
        self.check()?;
        let certificate = self.certificate("certificate.pem")?;
        let facts = Facts::of(&certificate);
        let facts = facts.ok_or_else(|| self.broken("certificate.pem", "holds no certificate"))?;
        let key = self.read("key.pem", FILE_LEN_MAX)?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).ok();
        let key = key.and_then(|key| TlsKey::from_pkcs8(key.secret_pkcs8_der()));
        let key = key.ok_or_else(|| self.broken("key.pem", "holds no key of ours"))?;
        let ca = self.certificate("ca.pem")?;
        let addresses = self.addresses()?;
        Ok(Membership { addresses, ca, certificate, facts, key })
    }

    /// Keeps a membership. The certificate comes last: without it there is none.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn keep(&self, membership: &Membership) -> Result<(), DirectoryError> {
        let Membership { addresses, ca, certificate, facts: _, key } = membership;
        self.keep_addresses(addresses)?;
        self.write("ca.pem", pem("CERTIFICATE", ca).as_bytes())?;
        self.write("key.pem", key.to_pem().as_bytes())?;
        self.write("certificate.pem", pem("CERTIFICATE", certificate).as_bytes())
    }

    /// Keeps where the controller is.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep_addresses(&self, addresses: &[String]) -> Result<(), DirectoryError> {
        self.write("controller", (addresses.join("\n") + "\n").as_bytes())
    }

    /// The last text that the daemon took; `None` if there is none yet.
    ///
    /// # Errors
    /// The file cannot be read, or is not whole.
    pub fn text(&self) -> Result<Option<Text>, DirectoryError> {
        let file = match self.read("state.toml", TEXT_LEN_MAX) {
            Err(error) if error.is_absent => return Ok(None),
            other => other?,
        };
        Text::from_file(&file).map(Some).ok_or_else(|| {
            let problem = "was cut short or changed, and is not used".to_owned();
            self.wrong("state.toml", problem, "the controller is asked for it anew")
        })
    }

    /// Keeps the text that the daemon took.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep_text(&self, text: &Text) -> Result<(), DirectoryError> {
        self.write("state.toml", text.to_file().as_bytes())
    }

    fn certificate(&self, name: &str) -> Result<CertificateDer<'static>, DirectoryError> {
        let text = self.read(name, FILE_LEN_MAX)?;
        CertificateDer::from_pem_slice(text.as_bytes())
            .map_err(|_| self.broken(name, "holds no certificate"))
    }

    fn addresses(&self) -> Result<Vec<String>, DirectoryError> {
        let text = self.read("controller", FILE_LEN_MAX)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let addresses: Vec<String> =
            lines.filter(|l| !l.starts_with('#')).map(str::to_owned).take(ADDRESSES_MAX).collect();
        if addresses.is_empty() {
            let problem = "names no controller".to_owned();
            return Err(self.wrong("controller", problem, "write one `HOST:PORT` a line"));
        }
        Ok(addresses)
    }

    fn read(&self, name: &str, len_max: u64) -> Result<String, DirectoryError> {
        let failed = |error: io::Error| match error.kind() {
            ErrorKind::NotFound => self.absent(name, "does not exist"),
            ErrorKind::InvalidData => self.broken(name, "is no text"),
            _ => self.wrong(name, error.to_string(), "let the daemon's user read and write it"),
        };
        let file = File::open(self.path.join(name)).map_err(failed)?;
        let mut text = String::new();
        file.take(len_max + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > len_max {
            return Err(self.broken(name, "is too long"));
        }
        Ok(text)
    }

    fn write(&self, name: &str, contents: &[u8]) -> Result<(), DirectoryError> {
        self.replace(name, contents).map_err(|error| {
            let problem = format!("cannot be written: {error}");
            self.wrong(name, problem, "make room, and let the daemon's user write there")
        })
    }

    /// Beside, synced, renamed. What root writes belongs to who owns the directory.
    fn replace(&self, name: &str, contents: &[u8]) -> io::Result<()> {
        let beside = self.path.join(format!(".{name}.new"));
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(contents)?;
        let (directory, made) = (fs::metadata(&self.path)?, file.metadata()?);
        if directory.uid() != made.uid() {
            fchown(&file, Some(directory.uid()), Some(directory.gid()))?;
        }
        file.sync_all()?;
        fs::rename(&beside, self.path.join(name))?;
        File::open(&self.path)?.sync_all()
    }

    fn absent(&self, name: &str, problem: &str) -> DirectoryError {
        DirectoryError { is_absent: true, ..self.broken(name, problem) }
    }

    fn broken(&self, name: &str, problem: &str) -> DirectoryError {
        self.wrong(name, problem.to_owned(), JOIN)
    }

    fn wrong(&self, name: &str, problem: String, remedy: &'static str) -> DirectoryError {
        let path = if name.is_empty() { self.path.clone() } else { self.path.join(name) };
        DirectoryError { path, problem, remedy, is_absent: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};
    use tempfile::TempDir;

    fn made() -> (TempDir, Directory) {
        let outer = tempfile::tempdir().unwrap();
        let directory = Directory::new(outer.path().join("a/b"));
        directory.make().unwrap();
        (outer, directory)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn nobody_but_the_owner_gets_in() {
        let (_outer, directory) = made();
        assert_eq!(mode(directory.path()), 0o700);
        directory.keep_text(&Text::new("x = 1\n")).unwrap();
        assert_eq!(mode(&directory.path().join("state.toml")), 0o600);
        fs::set_permissions(directory.path(), Permissions::from_mode(0o750)).unwrap();
        let said = directory.check().unwrap_err().to_string();
        assert!(said.contains("mode 0750 lets group or others in"), "{said}");
        assert!(said.contains("chmod 700"), "{said}");
        assert!(directory.make().is_err(), "it is not mended behind its owner's back");
    }

    #[test]
    fn a_text_that_was_cut_short_is_said_and_not_used() {
        let (_outer, directory) = made();
        assert_eq!(directory.text().unwrap(), None);
        let text = Text::new("[[peer]]\nname = \"b\"\n");
        directory.keep_text(&text).unwrap();
        assert_eq!(directory.text().unwrap(), Some(text.clone()));
        let path = directory.path().join("state.toml");
        let whole = fs::read(&path).unwrap();
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            let error = directory.text().unwrap_err();
            assert!(!error.is_absent());
            assert!(error.to_string().contains("cut short"), "{error}");
        }
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(directory.text().unwrap_err().to_string().contains("is no text"));
        directory.keep_text(&text).unwrap();
        assert_eq!(directory.text().unwrap(), Some(text));
    }

    #[test]
    fn what_a_crash_left_beside_is_in_nobodys_way() {
        let (_outer, directory) = made();
        fs::write(directory.path().join(".state.toml.new"), "half").unwrap();
        directory.keep_text(&Text::new("")).unwrap();
        assert_eq!(directory.text().unwrap(), Some(Text::new("")));
        assert!(!directory.path().join(".state.toml.new").exists());
    }

    #[test]
    fn a_host_that_has_not_joined_is_told_how() {
        let outer = tempfile::tempdir().unwrap();
        let directory = Directory::new(outer.path().join("x"));
        let error = directory.membership().unwrap_err();
        assert!(error.is_absent());
        assert!(error.to_string().contains("wireonce join"), "{error}");
        directory.make().unwrap();
        let error = directory.membership().unwrap_err();
        assert!(error.is_absent() && error.to_string().contains("certificate.pem"), "{error}");
        fs::write(directory.path().join("certificate.pem"), "nonsense").unwrap();
        let error = directory.membership().unwrap_err();
        assert!(!error.is_absent() && error.to_string().contains("holds no certificate"));
    }

    #[test]
    fn addresses_are_lines_and_there_is_at_least_one() {
        let (_outer, directory) = made();
        let addresses = vec!["10.0.0.5:7443".to_owned(), "[fd00::5]:7443".to_owned()];
        directory.keep_addresses(&addresses).unwrap();
        assert_eq!(directory.addresses().unwrap(), addresses);
        fs::write(directory.path().join("controller"), "# none\n\n").unwrap();
        assert!(directory.addresses().unwrap_err().to_string().contains("names no controller"));
    }
}
