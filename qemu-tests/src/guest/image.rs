//! A guest without installing one: Debian's cloud kernel and an initramfs made from host tools.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::cpio::Archive;
use crate::error::{Context, Error, Result};
use crate::process::run;

/// Depends on the newest cloud kernel of the distribution.
const KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";
/// Host programs that go into the guest, with the libraries that they need.
const PROGRAMS: &[&str] = &["/usr/bin/iperf3", "/usr/sbin/ethtool", "/sbin/tc"];
/// Drivers that the guest loads; what they need is loaded before them.
const MODULES: &[&str] = &["virtio_pci", "virtio_console", "virtio_net"];
/// A download of 30 MB over a slow line.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(300);
const LIMIT: Duration = Duration::from_secs(60);

/// A bootable guest: two files.
#[derive(Debug, Clone)]
pub struct Image {
    /// The kernel, for QEMU's `-kernel`.
    pub kernel: PathBuf,
    /// The initramfs, for QEMU's `-initrd`.
    pub initramfs: PathBuf,
}

impl Image {
    /// The image from the cache, made first if need be. Safe to call from several processes.
    ///
    /// # Errors
    /// The kernel package cannot be downloaded, or a host program is missing.
    pub fn ensure() -> Result<Self> {
        let cache = cache_dir();
        fs::create_dir_all(&cache).context(|| format!("cannot make {}", cache.display()))?;
        let _lock = lock(&cache.join("image.lock"))?;
        let package = kernel_package()?;
        let root = cache.join(&package);
        let kernel_dir = root.join("unpacked");
        if !root.join("complete").exists() {
            download(&package, &root, &kernel_dir)?;
        }
        let image = Self {
            kernel: find(&kernel_dir.join("boot"), "vmlinuz-")?,
            initramfs: root.join("initramfs.cpio"),
        };
        // Making it takes milliseconds, so it is made anew: host programs may have changed.
        let bytes = initramfs(&find(&kernel_dir.join("lib/modules"), "")?)?;
        if fs::read(&image.initramfs).ok().as_deref() != Some(bytes.as_slice()) {
            let fresh = root.join("initramfs.new");
            fs::write(&fresh, bytes).context(|| format!("cannot write {}", fresh.display()))?;
            fs::rename(&fresh, &image.initramfs)
                .context(|| format!("cannot rename {}", fresh.display()))?;
        }
        Ok(image)
    }
}

/// Cargo's target folder.
#[must_use]
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target"),
        PathBuf::from,
    )
}

/// Where downloads and verdicts are kept: in cargo's target folder.
#[must_use]
pub fn cache_dir() -> PathBuf {
    target_dir().join("guest")
}

/// Holds a lock between processes until it is dropped.
pub(super) fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).context(|| format!("cannot write {}", path.display()))?;
    file.lock().context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// The versioned package behind [`KERNEL_PACKAGE`], by the package index.
fn kernel_package() -> Result<String> {
    let depends = || {
        let mut command = Command::new("apt-cache");
        run(command.args(["depends", KERNEL_PACKAGE]), LIMIT).ok()
    };
    let text = match depends() {
        Some(text) => text,
        // A fresh container has no index yet.
        None => {
            run(Command::new("apt-get").args(["update", "-q"]), DOWNLOAD_LIMIT)?;
            depends().unwrap_or_default()
        }
    };
    parse_depends(&text).ok_or_else(|| {
        Error::Unexpected(format!("apt-cache knows no kernel behind {KERNEL_PACKAGE}: {text}"))
    })
}

fn parse_depends(text: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
        .map(str::to_owned)
}

fn download(package: &str, root: &Path, kernel_dir: &Path) -> Result<()> {
    fs::create_dir_all(root).context(|| format!("cannot make {}", root.display()))?;
    run(Command::new("apt-get").args(["download", package]).current_dir(root), DOWNLOAD_LIMIT)?;
    let deb = find(root, package)?;
    run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(kernel_dir), LIMIT)?;
    fs::remove_file(&deb).context(|| format!("cannot remove {}", deb.display()))?;
    let complete = root.join("complete");
    fs::write(&complete, package).context(|| format!("cannot write {}", complete.display()))
}

/// The first entry of `dir` (by name) that starts with `prefix`.
fn find(dir: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).context(|| format!("cannot read {}", dir.display()))?;
    let starts = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
    };
    let mut found: Vec<_> = entries.flatten().map(|e| e.path()).filter(starts).collect();
    found.sort();
    found
        .into_iter()
        .next()
        .ok_or_else(|| Error::Unexpected(format!("no `{prefix}...` in {}", dir.display())))
}

fn initramfs(modules: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for dir in ["dev", "proc", "sys", "tmp", "etc"] {
        archive.directory(dir);
    }
    archive.character_device("dev/console", 5, 1);
    archive.file("init", 0o755, include_bytes!("init.sh"));
    archive.file("bin/busybox", 0o755, &read("/bin/busybox")?);
    archive.symlink("bin/sh", "busybox");
    let mut libraries = BTreeSet::new();
    for program in PROGRAMS {
        let name = program.rsplit('/').next().unwrap_or(program);
        archive.file(&format!("bin/{name}"), 0o755, &read(program)?);
        libraries.extend(libraries_of(program)?);
    }
    for library in libraries {
        archive.file(library.trim_start_matches('/'), 0o755, &read(&library)?);
    }
    let mut order = String::new();
    for module in modules_in_order(modules)? {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        archive.file(&format!("modules/{name}"), 0o644, &read(&module)?);
        order += &format!("{name}\n");
    }
    archive.file("modules/order", 0o644, order.as_bytes());
    Ok(archive.finish())
}

fn read(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    let path = path.as_ref();
    fs::read(path).context(|| format!("cannot read {}", path.display()))
}

/// The shared libraries and the loader of a program, as the loader sees them.
fn libraries_of(program: &str) -> Result<Vec<String>> {
    let text = run(Command::new("ldd").arg(program), LIMIT)?;
    Ok(text.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect())
}

/// Files of [`MODULES`] and all that they depend on, dependencies first.
fn modules_in_order(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    collect_modules(&dir.join("kernel"), &mut files)?;
    let mut order = Vec::new();
    for module in MODULES {
        add_module(module, &files, &mut order)?;
    }
    Ok(order)
}

fn collect_modules(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).context(|| format!("cannot read {}", dir.display()))?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect_modules(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "ko") {
            files.push(path);
        }
    }
    Ok(())
}

fn add_module(name: &str, files: &[PathBuf], order: &mut Vec<PathBuf>) -> Result<()> {
    let is_it = |path: &&PathBuf| {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        stem.replace('-', "_") == name.replace('-', "_")
    };
    // One that is no file is part of the kernel itself.
    let Some(path) = files.iter().find(is_it) else { return Ok(()) };
    if order.contains(path) {
        return Ok(());
    }
    for dependency in module_dependencies(&read(path)?) {
        add_module(&dependency, files, order)?;
    }
    order.push(path.clone());
    Ok(())
}

/// What a module names in its `depends=` field (section `.modinfo`, NUL-terminated strings).
fn module_dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = module.iter().skip(at + KEY.len()).take_while(|byte| **byte != 0);
    let value: Vec<u8> = value.copied().collect();
    let text = String::from_utf8_lossy(&value);
    text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_package_is_the_versioned_one() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(parse_depends(text).as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(parse_depends("linux-image-cloud-amd64\n"), None);
    }

    #[test]
    fn module_dependencies_are_read_from_modinfo() {
        let module = b"\x7fELF..\0license=GPL\0depends=net_failover,virtio\0retpoline=Y\0";
        assert_eq!(module_dependencies(module), ["net_failover", "virtio"]);
        assert!(module_dependencies(b"\0depends=\0").is_empty());
        assert!(module_dependencies(b"nothing").is_empty());
    }
}
