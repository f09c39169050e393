//! The system calls that the standard library has no safe form of. The only
//! `unsafe` of this module tree is here.

#[cfg(test)]
use std::ffi::CStr;
use std::fs::{File, Permissions};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::message::DESCRIPTORS_MAX;

/// What one read brought.
#[derive(Debug)]
pub(super) struct Received {
    /// Bytes read; 0 at the end of the connection.
    pub len: usize,
    pub files: Vec<File>,
}

/// Reads what is there, with the descriptors that came along. More than
/// [`DESCRIPTORS_MAX`] of them are an error, and all are closed. They are not
/// marked close-on-exec, like those of the stock crates: this process starts
/// no other.
pub(super) fn receive(stream: &UnixStream, buffer: &mut [u8]) -> io::Result<Received> {
    let mut vector = [libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() }];
    let mut descriptors = [-1; DESCRIPTORS_MAX];
    // SAFETY: the vector covers exactly `buffer`, which is ours for this call
    // and may hold any bytes.
    let received = unsafe { stream.recv_with_fds(&mut vector, &mut descriptors) };
    let (len, count) = received.map_err(io::Error::from)?;
    let files = descriptors.iter().take(count).map(|&descriptor| {
        // SAFETY: the kernel made this descriptor for us just now; nothing else owns it.
        unsafe { File::from_raw_fd(descriptor) }
    });
    Ok(Received { len, files: files.collect() })
}

/// Writes everything; the descriptors go with the first byte.
pub(super) fn send(stream: &UnixStream, bytes: &[u8], files: &[File]) -> io::Result<()> {
    let descriptors: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
    let mut attached = descriptors.as_slice();
    let mut rest = bytes;
    while !rest.is_empty() {
        match stream.send_with_fds(&[rest], attached) {
            Ok(sent) => {
                rest = rest.get(sent..).unwrap_or_default();
                attached = &[];
            }
            Err(error) if error.errno() == libc::EINTR => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Listens at `path`. The file's permissions are `permissions` from the first
/// moment on, or fewer if the process's umask says so, and exactly those after.
pub(super) fn listen_at(path: &Path, permissions: u32) -> io::Result<UnixListener> {
    let address = path_address(path)?;
    let socket = File::from(unix_socket(0)?);
    // The mode of the socket itself becomes the mode of the file made by bind.
    socket.set_permissions(Permissions::from_mode(permissions))?;
    let socket = OwnedFd::from(socket);
    bind(&socket, &address, size_of::<libc::sockaddr_un>())?;
    std::fs::set_permissions(path, Permissions::from_mode(permissions))?;
    listen(&socket, 16)?;
    Ok(socket.into())
}

/// Connects without waiting: a listener whose queue is full is an error
/// (`WouldBlock`) to try again later.
pub(super) fn connect_to(path: &Path) -> io::Result<UnixStream> {
    let address = path_address(path)?;
    let socket = unix_socket(libc::SOCK_NONBLOCK)?;
    connect(&socket, &address, size_of::<libc::sockaddr_un>())?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// A listener with exactly one connection waiting on it, and the other end of
/// that connection.
///
/// The stock daemon insists on accepting a connection itself. The listener has
/// a name in the abstract namespace, where anybody may connect; but its queue
/// holds one, so if our connect succeeds then ours is the one, and if a
/// stranger was faster it fails and the session is not started.
pub(super) fn private_pair() -> io::Result<(UnixListener, UnixStream)> {
    let listener = unix_socket(0)?;
    let (mut address, family_only) = (empty_address(), size_of::<libc::sa_family_t>());
    // An address of nothing but the family asks for a free abstract name.
    bind(&listener, &address, family_only)?;
    let length = own_address(&listener, &mut address)?;
    listen(&listener, 0)?;
    let client = unix_socket(libc::SOCK_NONBLOCK)?;
    connect(&client, &address, length)?;
    let client = UnixStream::from(client);
    client.set_nonblocking(false)?;
    Ok((listener.into(), client))
}

/// Process id of the other end; 0 if it is in another pid namespace.
pub(super) fn peer_pid(stream: &UnixStream) -> io::Result<i32> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = socket_length(size_of::<libc::ucred>())?;
    // SAFETY: the kernel writes at most `length` bytes, the size of `peer`.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    succeeded(result)?;
    Ok(peer.pid)
}

/// Whether `file` is an eventfd. Anything else could make the worker's write
/// or read block, or do something unforeseen.
pub(super) fn is_eventfd(file: &File) -> io::Result<bool> {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    Ok(link.as_os_str().as_bytes() == b"anon_inode:[eventfd]")
}

/// Makes reads and writes of `file` return instead of waiting. The flag is
/// shared with the VMM, which could take it back; it is a safety net.
pub(super) fn set_nonblocking(file: &File) -> io::Result<()> {
    // SAFETY: F_GETFL takes no argument and touches no memory.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    succeeded(flags)?;
    // SAFETY: F_SETFL takes an int and touches no memory.
    succeeded(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })
}

/// Whether the kernel refuses to make `file` shorter (memfd seals).
pub(super) fn is_sealed_against_shrinking(file: &File) -> bool {
    // SAFETY: F_GET_SEALS takes no argument and touches no memory.
    let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
    seals >= 0 && seals & libc::F_SEAL_SHRINK != 0
}

fn unix_socket(flags: libc::c_int) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | flags;
    // SAFETY: no pointers.
    let descriptor = unsafe { libc::socket(libc::AF_UNIX, kind, 0) };
    succeeded(descriptor)?;
    // SAFETY: made just now, nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn bind(socket: &OwnedFd, address: &libc::sockaddr_un, length: usize) -> io::Result<()> {
    let length = socket_length(length)?;
    let pointer: *const libc::sockaddr = (&raw const *address).cast();
    // SAFETY: `length` bytes at `pointer` lie in `address`.
    succeeded(unsafe { libc::bind(socket.as_raw_fd(), pointer, length) })
}

fn connect(socket: &OwnedFd, address: &libc::sockaddr_un, length: usize) -> io::Result<()> {
    let length = socket_length(length)?;
    let pointer: *const libc::sockaddr = (&raw const *address).cast();
    // SAFETY: `length` bytes at `pointer` lie in `address`.
    succeeded(unsafe { libc::connect(socket.as_raw_fd(), pointer, length) })
}

fn listen(socket: &OwnedFd, backlog: libc::c_int) -> io::Result<()> {
    // SAFETY: no pointers.
    succeeded(unsafe { libc::listen(socket.as_raw_fd(), backlog) })
}

/// Fills in the address that the kernel chose; returns its length.
fn own_address(socket: &OwnedFd, address: &mut libc::sockaddr_un) -> io::Result<usize> {
    let mut length = socket_length(size_of::<libc::sockaddr_un>())?;
    let pointer: *mut libc::sockaddr = (&raw mut *address).cast();
    // SAFETY: the kernel writes at most `length` bytes, the size of `address`.
    succeeded(unsafe { libc::getsockname(socket.as_raw_fd(), pointer, &raw mut length) })?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    Ok(length.min(size_of::<libc::sockaddr_un>()))
}

fn empty_address() -> libc::sockaddr_un {
    let family = libc::sa_family_t::try_from(libc::AF_UNIX).unwrap_or_default();
    libc::sockaddr_un { sun_family: family, sun_path: [0; 108] }
}

fn path_address(path: &Path) -> io::Result<libc::sockaddr_un> {
    let mut address = empty_address();
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() || bytes.contains(&0) || bytes.len() >= address.sun_path.len() {
        let limit = "a socket path has 1 to 107 bytes";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, limit));
    }
    for (slot, byte) in address.sun_path.iter_mut().zip(bytes) {
        *slot = libc::c_char::from_ne_bytes([*byte]);
    }
    Ok(address)
}

fn socket_length(length: usize) -> io::Result<libc::socklen_t> {
    libc::socklen_t::try_from(length).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn succeeded(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A memfd, for tests.
#[cfg(test)]
pub(super) fn memory_file(name: &CStr, size: u64, flags: libc::c_uint) -> io::Result<File> {
    // SAFETY: `name` ends with a zero byte.
    let descriptor = unsafe { libc::memfd_create(name.as_ptr(), flags) };
    succeeded(descriptor)?;
    // SAFETY: made just now, nothing else owns it.
    let file = unsafe { File::from_raw_fd(descriptor) };
    file.set_len(size)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use vmm_sys_util::eventfd::EventFd;

    use super::*;

    fn file_of(event: &EventFd) -> File {
        let event = event.try_clone().unwrap();
        // SAFETY: the clone's descriptor is given away here, see the next line.
        let file = unsafe { File::from_raw_fd(event.as_raw_fd()) };
        std::mem::forget(event);
        file
    }

    #[test]
    fn private_pair_is_connected_to_itself_and_to_nobody_else() {
        let (listener, mut client) = private_pair().unwrap();
        let name = listener.local_addr().unwrap();
        // The queue is full: a stranger does not get in.
        let stranger = unix_socket(libc::SOCK_NONBLOCK).unwrap();
        let mut address = empty_address();
        let length = own_address(&OwnedFd::from(listener.try_clone().unwrap()), &mut address);
        assert!(name.as_pathname().is_none());
        let refused = connect(&stranger, &address, length.unwrap()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);

        let (mut accepted, _) = listener.accept().unwrap();
        client.write_all(b"hello").unwrap();
        let mut got = [0; 5];
        accepted.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");
    }

    #[test]
    fn descriptors_travel_and_too_many_are_an_error() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        let copies =
            |n: usize| -> Vec<File> { (0..n).map(|_| file.try_clone().unwrap()).collect() };
        send(&theirs, b"x", &copies(DESCRIPTORS_MAX)).unwrap();
        let mut buffer = [0; 4];
        let received = receive(&ours, &mut buffer).unwrap();
        assert_eq!((received.len, received.files.len()), (1, DESCRIPTORS_MAX));
        send(&theirs, b"x", &copies(DESCRIPTORS_MAX + 9)).unwrap();
        receive(&ours, &mut buffer).unwrap_err();
    }

    #[test]
    fn only_eventfds_pass_as_eventfds() {
        let event = EventFd::new(0).unwrap();
        assert!(is_eventfd(&file_of(&event)).unwrap());
        assert!(!is_eventfd(&tempfile::tempfile().unwrap()).unwrap());
        set_nonblocking(&file_of(&event)).unwrap();
        assert_eq!(event.read().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn seals_are_seen() {
        let sealable = memory_file(c"guest", 4096, libc::MFD_ALLOW_SEALING).unwrap();
        assert!(!is_sealed_against_shrinking(&sealable));
        // SAFETY: F_ADD_SEALS takes an int.
        let sealed =
            unsafe { libc::fcntl(sealable.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_SHRINK) };
        assert_eq!(sealed, 0);
        assert!(is_sealed_against_shrinking(&sealable));
        assert!(!is_sealed_against_shrinking(&tempfile::tempfile().unwrap()));
    }

    #[test]
    fn socket_file_has_the_permissions_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _listener = listen_at(&path, 0o660).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o660);
        let stream = connect_to(&path).unwrap();
        assert_eq!(peer_pid(&stream).unwrap(), i32::try_from(std::process::id()).unwrap());
    }

    #[test]
    fn paths_that_do_not_fit_are_refused() {
        let long = "x".repeat(108);
        for path in ["", "a\0b", &long] {
            assert_eq!(
                connect_to(Path::new(path)).unwrap_err().kind(),
                io::ErrorKind::InvalidInput
            );
        }
    }
}
