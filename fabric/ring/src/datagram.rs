//! What multishot recvmsg puts into a buffer: a result header, room for the
//! sender's address, room for control messages, then the payload.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Length of the kernel's `struct io_uring_recvmsg_out`.
const RESULT_LEN: usize = 16;

/// How much room a receive operation leaves for address and control messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MsgLayout {
    /// Bytes for the sender's address; a multiple of 8.
    pub name_len: u32,
    /// Bytes for control messages; a multiple of 8.
    pub control_len: u32,
}

impl MsgLayout {
    /// Bytes before the payload.
    #[must_use]
    pub fn payload_offset(self) -> usize {
        RESULT_LEN + self.name_len as usize + self.control_len as usize
    }
}

/// One received message, inside its buffer.
#[derive(Debug)]
pub struct ReceivedMsg<'b> {
    /// The sender's address as the kernel wrote it (`struct sockaddr_*`).
    pub name: &'b [u8],
    /// Control messages (`struct cmsghdr` and data, aligned as the kernel does).
    pub control: &'b [u8],
    /// The message.
    pub payload: &'b mut [u8],
    /// `MSG_TRUNC`: the payload did not fit in the buffer.
    pub truncated: bool,
}

impl<'b> ReceivedMsg<'b> {
    /// Takes apart what multishot recvmsg with `layout` wrote to `buffer`, which ends
    /// where the completion said. `None` where the lengths contradict each other.
    pub fn parse(buffer: &'b mut [u8], layout: MsgLayout) -> Option<Self> {
        let (result, rest) = buffer.split_first_chunk_mut::<RESULT_LEN>()?;
        let field = |at: usize| {
            let bytes = [result[at], result[at + 1], result[at + 2], result[at + 3]];
            u32::from_ne_bytes(bytes)
        };
        let (name_len, control_len, payload_len) = (field(0), field(4), field(8));
        let flags = field(12);
        let (name, rest) = rest.split_at_mut_checked(layout.name_len as usize)?;
        let (control, payload) = rest.split_at_mut_checked(layout.control_len as usize)?;
        let payload_len = (payload_len as usize).min(payload.len());
        Some(Self {
            name: name.get(..name_len.min(layout.name_len) as usize)?,
            control: control.get(..control_len.min(layout.control_len) as usize)?,
            payload: payload.get_mut(..payload_len)?,
            truncated: flags & libc::MSG_TRUNC.unsigned_abs() != 0,
        })
    }

    /// The sender's address, if it is an IP address.
    #[must_use]
    pub fn source(&self) -> Option<SocketAddr> {
        let family = i32::from(u16::from_ne_bytes(*self.name.first_chunk::<2>()?));
        let port = u16::from_be_bytes(*self.name.get(2..)?.first_chunk::<2>()?);
        let ip = match family {
            libc::AF_INET => IpAddr::V4(Ipv4Addr::from(*self.name.get(4..)?.first_chunk::<4>()?)),
            libc::AF_INET6 => IpAddr::V6(Ipv6Addr::from(*self.name.get(8..)?.first_chunk::<16>()?)),
            _ => return None,
        };
        Some(SocketAddr::new(ip, port))
    }

    /// The data of the first control message of `level` and `kind`.
    #[must_use]
    pub fn control_data(&self, level: i32, kind: i32) -> Option<&'b [u8]> {
        const HEADER_LEN: usize = size_of::<libc::cmsghdr>();
        let mut rest = self.control;
        loop {
            let len = usize::from_ne_bytes(*rest.first_chunk::<8>()?);
            let this_level = i32::from_ne_bytes(*rest.get(8..)?.first_chunk::<4>()?);
            let this_kind = i32::from_ne_bytes(*rest.get(12..)?.first_chunk::<4>()?);
            let data = rest.get(HEADER_LEN..len)?;
            if this_level == level && this_kind == kind {
                return Some(data);
            }
            rest = rest.get(len.checked_next_multiple_of(8)?..)?;
        }
    }
}
