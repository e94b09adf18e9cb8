//! Linux, macOS, the BSDs.

use std::ffi::{CString, OsStr};
use std::io::{self, Read};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, Ordering};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use crate::options::Access;

pub type RawDescriptor = RawFd;

/// On epoll and kqueue what comes after a short read makes a new event.
pub const SHORT_MEANS_DRAINED: bool = true;

/// The BSDs leave a socket unusable after a failed connect.
pub const RECONNECTS: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Writes to a reset connection give EPIPE and no signal. macOS has an option on the socket instead, which socket2
/// sets on the sockets it makes.
#[cfg(not(target_vendor = "apple"))]
const SEND_FLAGS: libc::c_int = libc::MSG_NOSIGNAL;
#[cfg(target_vendor = "apple")]
const SEND_FLAGS: libc::c_int = 0;

/// What connecting a connected socket gives.
pub const ALREADY_CONNECTED: i32 = libc::EISCONN;

pub const RAW: Type = Type::RAW;

/// What a socket that something else made is.
pub fn identify(socket: &Socket) -> io::Result<(Type, Domain, Option<Protocol>)> {
    let domain = socket.local_addr()?.domain();
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    let protocol = socket.protocol()?;
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    let protocol = None;
    Ok((socket.r#type()?, domain, protocol))
}

/// Monotonic nanoseconds, on the clock of Python's `time.monotonic()`.
pub fn now() -> u64 {
    #[cfg(target_vendor = "apple")]
    const CLOCK: libc::clockid_t = libc::CLOCK_UPTIME_RAW;
    #[cfg(not(target_vendor = "apple"))]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writing; the clock exists on every supported system, so the call cannot fail.
    unsafe { libc::clock_gettime(CLOCK, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The options that not every OS has.
pub const OPTIONS: &[(&str, Access)] = &[
    #[cfg(not(target_vendor = "apple"))]
    ("so_acceptconn", Access::Bool(Socket::is_listener, None)),
    ("so_reuseport", Access::Bool(Socket::reuse_port, Some(Socket::set_reuse_port))),
    #[cfg(any(target_os = "linux", target_os = "android"))]
    ("tcp_cork", Access::Bool(Socket::tcp_cork, Some(Socket::set_tcp_cork))),
    (
        "tcp_keepidle",
        Access::Time(Socket::tcp_keepalive_time, Some(|s, v| s.set_tcp_keepalive(&TcpKeepalive::new().with_time(v)))),
    ),
    #[cfg(any(target_os = "linux", target_os = "android"))]
    ("tcp_maxseg", Access::Int(Socket::tcp_mss, Some(Socket::set_tcp_mss))),
    #[cfg(any(target_os = "linux", target_os = "android"))]
    ("tcp_quickack", Access::Bool(Socket::tcp_quickack, Some(Socket::set_tcp_quickack))),
    #[cfg(any(target_os = "linux", target_os = "android"))]
    (
        "tcp_user_timeout",
        Access::Time(
            |s| s.tcp_user_timeout().map(Option::unwrap_or_default),
            Some(|s, v| s.set_tcp_user_timeout(Some(v))),
        ),
    ),
];

/// A descriptor as Python's number.
pub fn number(raw: RawDescriptor) -> i64 {
    i64::from(raw)
}

pub fn interface_index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: a NUL-terminated string that outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// A path as the OS takes it: any bytes.
pub fn os_str(name: &[u8]) -> io::Result<&OsStr> {
    Ok(OsStr::from_bytes(name))
}

pub fn unix_name(addr: &SockAddr) -> Box<[u8]> {
    if let Some(path) = addr.as_pathname() {
        return path.as_os_str().as_bytes().into();
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(name) = addr.as_abstract_namespace() {
        return [b"\0", name].concat().into();
    }
    Box::default()
}

/// Before the bind of a socket that will listen: a port in `TIME_WAIT` is free again, which on Unix is safe.
pub fn listen_options(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_address(true)
}

/// Before the bind of any socket.
pub fn bind_options(_socket: &Socket) -> io::Result<()> {
    Ok(())
}

/// Errors of accept that concern one client, or the network, and not the listener (accept(2)).
pub fn is_transient_accept(error: &io::Error) -> bool {
    let Some(number) = error.raw_os_error() else {
        return false;
    };
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if number == libc::ENONET {
        return true;
    }
    matches!(
        number,
        libc::ECONNABORTED
            | libc::EPROTO
            | libc::EPERM
            | libc::ECONNRESET
            | libc::ENETDOWN
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::EHOSTUNREACH
            | libc::EOPNOTSUPP
            | libc::ENETUNREACH
    )
}

pub fn is_not_connected(error: &io::Error) -> bool {
    // macOS says EINVAL of a socket that is shut down both ways or whose peer has gone.
    matches!(error.raw_os_error(), Some(libc::ENOTCONN | libc::EINVAL))
}

pub fn poller_fd(registry: &Registry) -> i64 {
    i64::from(registry.as_raw_fd())
}

/// A non-blocking, close-on-exec socket. Its number is -1 once it is closed or taken away; that nobody uses the number
/// meanwhile is the business of the lease in `socket.rs`.
#[derive(Debug)]
pub struct Descriptor(AtomicI32);

impl Descriptor {
    pub fn new(socket: Socket) -> Descriptor {
        Descriptor(AtomicI32::new(socket.into_raw_fd()))
    }

    /// Takes over a socket that something else made.
    ///
    /// # Safety
    /// `raw` is an open socket that nobody else closes.
    pub unsafe fn adopt(raw: RawDescriptor) -> io::Result<Socket> {
        // SAFETY: as the caller promises.
        let socket = unsafe { Socket::from_raw_fd(raw) };
        let prepared =
            socket.r#type().and_then(|_| socket.set_nonblocking(true)).and_then(|()| socket.set_cloexec(true));
        match prepared {
            Ok(()) => Ok(socket),
            Err(error) => {
                let _still_the_callers = socket.into_raw_fd();
                Err(error)
            }
        }
    }

    pub fn make(domain: Domain, kind: Type, protocol: Option<Protocol>) -> io::Result<Socket> {
        let socket = Socket::new(domain, kind, protocol)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    pub fn raw(&self) -> RawDescriptor {
        self.0.load(Ordering::Relaxed)
    }

    /// The calls that socket2 has.
    pub fn with<R>(&self, call: impl FnOnce(&Socket) -> R) -> R {
        // SAFETY: the number is an open socket while the caller holds a lease, and ManuallyDrop leaves it open.
        let socket = ManuallyDrop::new(unsafe { Socket::from_raw_fd(self.raw()) });
        call(&socket)
    }

    /// Begins to connect. `false`: it goes on, and the socket becomes writable at its end.
    pub fn connect(&self, address: &SockAddr) -> io::Result<bool> {
        let mut result = self.with(|socket| socket.connect(address));
        // Linux tells of an earlier failure once more, even where SO_ERROR has told of it; then it begins anew.
        if RECONNECTS && matches!(&result, Err(error) if error.raw_os_error() == Some(libc::ECONNABORTED)) {
            result = self.with(|socket| socket.connect(address));
        }
        match result {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a read, or a write, would not block: something can be moved, accepted or reported.
    pub fn is_ready(&self, for_writing: bool) -> io::Result<bool> {
        let events = if for_writing { libc::POLLOUT } else { libc::POLLIN };
        let mut ask = libc::pollfd { fd: self.raw(), events, revents: 0 };
        // SAFETY: one structure, valid for reading and writing; a timeout of 0 waits for nothing.
        match unsafe { libc::poll(&raw mut ask, 1, 0) } {
            -1 => Err(io::Error::last_os_error()),
            ready => Ok(ready > 0),
        }
    }

    /// # Safety
    /// `data` is valid for writing `len` bytes.
    pub unsafe fn recv(&self, data: *mut u8, len: usize) -> io::Result<usize> {
        // SAFETY: as the caller promises.
        let got = unsafe { libc::recv(self.raw(), data.cast(), len, 0) };
        if got < 0 { Err(io::Error::last_os_error()) } else { Ok(got as usize) }
    }

    /// # Safety
    /// `data` is valid for reading `len` bytes.
    pub unsafe fn send(&self, data: *const u8, len: usize) -> io::Result<usize> {
        // SAFETY: as the caller promises.
        let sent = unsafe { libc::send(self.raw(), data.cast(), len, SEND_FLAGS) };
        if sent >= 0 {
            return Ok(sent as usize);
        }
        let error = io::Error::last_os_error();
        // What macOS says while a connection is being torn down.
        #[cfg(target_vendor = "apple")]
        if error.raw_os_error() == Some(libc::EPROTOTYPE) {
            return Err(io::Error::from_raw_os_error(libc::ECONNRESET));
        }
        Err(error)
    }

    /// One connection from the queue, non-blocking and close-on-exec, and its peer.
    pub fn accept(&self) -> io::Result<(Socket, SockAddr)> {
        #[cfg(any(
            target_os = "linux",
            target_os = "android",
            target_os = "freebsd",
            target_os = "netbsd",
            target_os = "openbsd"
        ))]
        {
            let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            // SAFETY: try_init hands out storage and length that accept4 may write; a result below 0 becomes an error,
            // any other is a new socket that is ours.
            unsafe {
                SockAddr::try_init(|storage, len| {
                    let fd = libc::accept4(self.raw(), storage.cast(), len, flags);
                    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(Socket::from_raw_fd(fd)) }
                })
            }
        }
        #[cfg(not(any(
            target_os = "linux",
            target_os = "android",
            target_os = "freebsd",
            target_os = "netbsd",
            target_os = "openbsd"
        )))]
        {
            let (socket, addr) = self.with(Socket::accept)?;
            socket.set_nonblocking(true)?;
            Ok((socket, addr))
        }
    }

    pub fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut SourceFd(&self.raw()), token, Interest::READABLE | Interest::WRITABLE)
    }

    pub fn deregister(&self, registry: &Registry) -> io::Result<()> {
        registry.deregister(&mut SourceFd(&self.raw()))
    }

    /// Puts another socket behind the same number. Registrations of the old one are gone.
    pub fn replace(&self, other: &Socket) -> io::Result<()> {
        // SAFETY: both numbers are open sockets; dup2 swaps atomically.
        if unsafe { libc::dup2(other.as_raw_fd(), self.raw()) } < 0 {
            return Err(io::Error::last_os_error());
        }
        self.with(|socket| socket.set_cloexec(true))
    }

    /// Closes the socket, or leaves it to the caller. Once only.
    pub fn take(&self) -> Option<Socket> {
        let raw = self.0.swap(-1, Ordering::AcqRel);
        // SAFETY: the swap made the number ours alone.
        (raw >= 0).then(|| unsafe { Socket::from_raw_fd(raw) })
    }

    pub fn into_raw(socket: Socket) -> RawDescriptor {
        socket.into_raw_fd()
    }
}

/// The read end belongs to the poller; the number of the write end goes to `signal.set_wakeup_fd`.
#[derive(Debug)]
pub struct SignalPipe {
    read: UnixStream,
    write: UnixStream,
}

impl SignalPipe {
    pub fn new(registry: &Registry, token: Token) -> io::Result<SignalPipe> {
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        registry.register(&mut SourceFd(&read.as_raw_fd()), token, Interest::READABLE)?;
        Ok(SignalPipe { read, write })
    }

    pub fn write_end(&self) -> RawDescriptor {
        self.write.as_raw_fd()
    }

    pub fn drain(&self) {
        let mut bytes = [0; 64];
        while matches!((&self.read).read(&mut bytes), Ok(n) if n > 0) {}
    }
}
