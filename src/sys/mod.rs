//! The operating systems. Every `cfg(target_os)` and every unsafe call of an OS lives in this folder; each side
//! supplies the same names:
//!
//! | name | what it is |
//! |---|---|
//! | `Descriptor` | a non-blocking socket: system calls, registering with mio, closing |
//! | `RawDescriptor` | the OS's own handle: `c_int` or `SOCKET` |
//! | `SHORT_MEANS_DRAINED` | a short read or write says that the next one would block |
//! | `RECONNECTS` | a TCP socket whose connect failed may connect again |
//! | `PEER_MEANS_CONNECTED` | a peer's address is told of a TCP socket that is connected alone |
//! | `POLL_IS_INHERITED` | the child of a fork has the OS's poll as well |
//! | `now`, `about_now` | monotonic nanoseconds |
//! | `number` | a descriptor as Python's number |
//! | `SYSTEM`, `HEADERS`, `level` | its column of the options' table, what its headers say of that, levels |
//! | `getsockopt`, `setsockopt`, `attach_filter`, `filter`, `is_too_short` | the calls |
//! | `time`, `linger`, `group`, `source`, `interface`, `read_*` | how the values of options lie in memory |
//! | `interface_index`, `os_str`, `unix_name` | names of interfaces and of unix sockets |
//! | `listen_options`, `bind_options` | what is set before bind so that every OS behaves alike |
//! | `SignalPipe` | bytes that a signal handler writes wake the poller |
//! | `ALREADY_CONNECTED` | what connecting a connected socket gives |
//! | `OsAddress` | an address as the system takes it |
//! | `UNDELIVERED`, `undelivered` | an ICMP error of an earlier datagram |
//! | `POLL`, `poll_handle` | what the OS's poll is called; the number of a poller's |
//!
//! What other error numbers mean is in `meaning.rs`, for all systems on each.

use std::io;

mod meaning;
#[cfg(unix)]
mod unix;
#[cfg(unix)]
mod unix_options;
#[cfg(windows)]
mod windows;
#[cfg(windows)]
mod windows_options;

#[cfg(unix)]
pub use meaning::is_not_connected;
pub use meaning::{failed_send, is_transient_accept};
#[cfg(unix)]
pub use {unix::*, unix_options::*};
#[cfg(windows)]
pub use {windows::*, windows_options::*};

/// A datagram that came.
#[derive(Debug)]
pub struct Datagram {
    /// What there is of it.
    pub len: usize,
    /// It was longer than the room for it.
    pub truncated: bool,
    /// Its sender: `None` if that was not asked for, or is of a family that this library does not name.
    pub from: Option<crate::address::Address>,
}

/// An address that the system wrote.
pub fn read_address(bytes: &[u8]) -> Option<crate::address::Address> {
    let mut storage = socket2::SockAddrStorage::zeroed();
    let size = bytes.len().min(size_of_val(&storage));
    // SAFETY: both have room for as many bytes, and any bytes are a value of the storage; the length is within it.
    let address = unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), (&raw mut storage).cast::<u8>(), size);
        socket2::SockAddr::new(storage, size as _)
    };
    crate::address::Address::from_os(&address)
}

/// Several datagrams by a system call for each, where the system has none for all of them.
impl Descriptor {
    /// # Safety
    /// As of `recv_many`.
    pub unsafe fn recv_each(&self, rooms: &[(*mut u8, usize)]) -> io::Result<(Vec<Datagram>, Option<io::Error>)> {
        // SAFETY: as the caller promises.
        one_by_one(rooms, |&(data, len)| unsafe { self.recv_from(data, len, true) })
    }

    /// # Safety
    /// As of `send_many`.
    pub unsafe fn send_each(
        &self,
        all: &[(*const u8, usize, Option<OsAddress>)],
    ) -> io::Result<(usize, Option<io::Error>)> {
        // SAFETY: as the caller promises.
        let sent = one_by_one(all, |(data, len, to)| unsafe { self.send_to(*data, *len, to.as_ref()) });
        sent.map(|(sent, failed)| (sent.len(), failed))
    }
}

/// Makes a call for each item, until one fails: what came of them, and what the last one failed with. That may have been
/// of an earlier datagram, and then the system does not tell it again. Where the first call fails, there is nothing else.
fn one_by_one<I, R>(items: &[I], call: impl Fn(&I) -> io::Result<R>) -> io::Result<(Vec<R>, Option<io::Error>)> {
    let mut results = Vec::new();
    for item in items {
        match call(item) {
            Ok(result) => results.push(result),
            Err(error) if results.is_empty() => return Err(error),
            Err(error) => {
                let over = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
                return Ok((results, (!over).then_some(error)));
            }
        }
    }
    Ok((results, None))
}
