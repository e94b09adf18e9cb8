//! Linux, macOS, FreeBSD.

use std::ffi::{CString, OsStr};
use std::io::{self, Read};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use super::Datagram;
use crate::address::Address;

pub type RawDescriptor = RawFd;

/// On epoll what comes after a short read makes a new event, and urgent data, where a read stops half-way, is told of.
/// kqueue makes new events too, but a read stops there as well and nothing tells.
pub const SHORT_MEANS_DRAINED: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// The BSDs leave a socket unusable after a failed connect.
pub const RECONNECTS: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Whoever has a peer's address is connected to it.
pub const PEER_MEANS_CONNECTED: bool = true;

/// The child of a fork has the OS's poll as well, and closes its own number of it. A kqueue is not inherited: there the
/// number is free, or somebody else's by then.
pub const POLL_IS_INHERITED: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Writes to a reset connection give EPIPE and no signal. macOS has an option on the socket instead, which socket2
/// sets on the sockets it makes, and `adopt` on those that others made; accepted ones have their listener's.
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

/// The same to within some milliseconds, cheaper where the OS has such a clock.
pub fn about_now() -> u64 {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: as `now`.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) };
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    now()
}

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

/// What the OS's poll is called.
pub const POLL: &str = if cfg!(any(target_os = "linux", target_os = "android")) { "epoll" } else { "kqueue" };

/// The number of the OS's poll, which no other poller of this process has.
pub fn poll_handle(registry: &Registry) -> i64 {
    i64::from(registry.as_raw_fd())
}

/// Whether that is one, as the OS sees it.
#[cfg(test)]
pub fn is_poll(handle: i64) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let (other, _end) = std::os::unix::net::UnixStream::pair().unwrap();
        // SAFETY: any numbers will do, and no event is needed to take a descriptor out.
        let failed = unsafe { libc::epoll_ctl(handle as _, libc::EPOLL_CTL_DEL, other.as_raw_fd(), ptr::null_mut()) };
        // It is one, and never had that descriptor.
        failed < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOENT)
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: no changes, no room for events, a time that outlives the call.
        unsafe { libc::kevent(handle as _, ptr::null(), 0, ptr::null_mut(), 0, &raw const at_once) == 0 }
    }
}

/// The calls of each message. As functions of libc they are points at which `pthread_cancel` may end an OS thread, which
/// costs each some atomic writes once there are several of these. Nothing here is ended so, and Linux' calls are the same
/// on all systems of 64 bits.
#[cfg(all(any(target_os = "linux", target_os = "android"), target_pointer_width = "64"))]
mod direct {
    use std::ffi::{c_int, c_void};

    /// # Safety
    /// As recvfrom(2).
    pub unsafe fn recvfrom(
        fd: c_int,
        data: *mut c_void,
        len: usize,
        flags: c_int,
        name: *mut libc::sockaddr,
        size: *mut libc::socklen_t,
    ) -> isize {
        // SAFETY: as the caller promises.
        unsafe { libc::syscall(libc::SYS_recvfrom, fd, data, len, flags, name, size) as isize }
    }

    /// # Safety
    /// As recvmsg(2).
    pub unsafe fn recvmsg(fd: c_int, header: *mut libc::msghdr, flags: c_int) -> isize {
        // SAFETY: as the caller promises.
        unsafe { libc::syscall(libc::SYS_recvmsg, fd, header, flags) as isize }
    }

    /// # Safety
    /// As sendto(2).
    pub unsafe fn sendto(
        fd: c_int,
        data: *const c_void,
        len: usize,
        flags: c_int,
        name: *const libc::sockaddr,
        size: libc::socklen_t,
    ) -> isize {
        // SAFETY: as the caller promises.
        unsafe { libc::syscall(libc::SYS_sendto, fd, data, len, flags, name, size) as isize }
    }
}
#[cfg(not(all(any(target_os = "linux", target_os = "android"), target_pointer_width = "64")))]
use libc as direct;

/// Datagrams for one system call, at most.
#[cfg(any(target_os = "linux", target_os = "android"))]
const BATCH: usize = 1024;

/// The kernel does not have the call, or what stands for one (a sandbox, an emulator) does not.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_no_call(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOSYS)
}

/// A message of one part, with room for an address at `name`, or none.
fn message(part: *mut libc::iovec, name: *mut SockAddrStorage) -> libc::msghdr {
    // SAFETY: all zeroes is a value of this plain structure: nothing in it.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = name.cast();
    header.msg_namelen = if name.is_null() { 0 } else { size_of::<SockAddrStorage>() as libc::socklen_t };
    header.msg_iov = part;
    header.msg_iovlen = 1;
    header
}

/// What came with a message.
///
/// # Safety
/// The kernel has filled the header and what it points to.
unsafe fn datagram(len: usize, header: &libc::msghdr) -> Datagram {
    let name = header.msg_name.cast::<SockAddrStorage>();
    // SAFETY: as the caller promises.
    let from = if name.is_null() { None } else { unsafe { address(name, header.msg_namelen) } };
    Datagram { len, truncated: header.msg_flags & libc::MSG_TRUNC != 0, from }
}

/// # Safety
/// The kernel wrote an address to `name`, `size` bytes of it, and there is room for the largest.
unsafe fn address(name: *mut SockAddrStorage, size: libc::socklen_t) -> Option<Address> {
    let size = (size as usize).min(size_of::<SockAddrStorage>());
    // SAFETY: the kernel wrote a whole IPv4 address, the most frequent kind, which needs none of what follows.
    unsafe {
        let inet = name.cast::<libc::sockaddr_in>();
        if size == size_of::<libc::sockaddr_in>() && i32::from((*inet).sin_family) == libc::AF_INET {
            let ip = Ipv4Addr::from((*inet).sin_addr.s_addr.to_ne_bytes());
            return Some(Address::V4(SocketAddrV4::new(ip, u16::from_be((*inet).sin_port))));
        }
    }
    // SAFETY: what the kernel did not write is zeroed before it is read.
    unsafe {
        ptr::write_bytes(name.cast::<u8>().add(size), 0, size_of::<SockAddrStorage>() - size);
        Address::from_os(&SockAddr::new(name.read(), size as libc::socklen_t))
    }
}

/// An address as the kernel takes it; that of IPv4 is a fraction of the others' size.
#[derive(Debug)]
pub enum OsAddress {
    V4(libc::sockaddr_in),
    Other(Box<SockAddr>),
}

impl OsAddress {
    pub fn new(address: &Address) -> io::Result<Self> {
        let Address::V4(address) = address else {
            return Ok(OsAddress::Other(Box::new(address.to_os()?)));
        };
        // SAFETY: all zeroes is a value of this plain structure.
        let mut inet: libc::sockaddr_in = unsafe { std::mem::zeroed() };
        inet.sin_family = libc::AF_INET as libc::sa_family_t;
        inet.sin_port = address.port().to_be();
        inet.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
        Ok(OsAddress::V4(inet))
    }

    fn parts(&self) -> (*const libc::sockaddr, libc::socklen_t) {
        match self {
            OsAddress::V4(inet) => (ptr::from_ref(inet).cast(), size_of::<libc::sockaddr_in>() as libc::socklen_t),
            OsAddress::Other(address) => (address.as_ptr().cast(), address.len()),
        }
    }
}

/// An ICMP message says that an earlier datagram did not arrive.
pub const UNDELIVERED: &[i32] = &[libc::ECONNREFUSED];

/// What a connected socket makes of that.
pub fn undelivered(error: io::Error) -> io::Error {
    error
}

/// A non-blocking, close-on-exec socket. Its number is -1 once it is closed or taken away; that nobody uses the number
/// meanwhile is the business of the lease in `socket.rs`.
#[derive(Debug)]
pub struct Descriptor(AtomicI32);

/// A call that takes no `MSG_NOSIGNAL`: SIGPIPE is held back in this OS thread meanwhile, and taken away if the call
/// has raised it. One that was there before stays. macOS has an option on the socket instead.
#[cfg(not(target_vendor = "apple"))]
fn without_sigpipe(call: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
    // SAFETY: all zeroes are values of this plain structure, which the calls fill; all outlive the calls.
    let (mut pipe, mut old, mut pending): (libc::sigset_t, libc::sigset_t, libc::sigset_t) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed(), std::mem::zeroed()) };
    // SAFETY: as above.
    let was_pending = unsafe {
        libc::sigemptyset(&raw mut pipe);
        libc::sigaddset(&raw mut pipe, libc::SIGPIPE);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const pipe, &raw mut old);
        libc::sigpending(&raw mut pending);
        libc::sigismember(&raw const pending, libc::SIGPIPE) == 1
    };
    let result = call();
    let broken = matches!(&result, Err(error) if error.raw_os_error() == Some(libc::EPIPE));
    // SAFETY: as above.
    unsafe {
        if broken && !was_pending {
            let at_once: libc::timespec = std::mem::zeroed();
            libc::sigtimedwait(&raw const pipe, ptr::null_mut(), &raw const at_once);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const old, ptr::null_mut());
    }
    result
}

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
        #[cfg(target_vendor = "apple")]
        let _closed_by_its_peer_or_without_the_option = socket.set_nosigpipe(true);
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
        let got = unsafe { direct::recvfrom(self.raw(), data.cast(), len, 0, ptr::null_mut(), ptr::null_mut()) };
        if got < 0 { Err(io::Error::last_os_error()) } else { Ok(got as usize) }
    }

    /// As `recv`, and whether something came along that a read does not go beyond, such as descriptors. They are let go of.
    ///
    /// # Safety
    /// `data` is valid for writing `len` bytes.
    pub unsafe fn recv_marked(&self, data: *mut u8, len: usize) -> io::Result<(usize, bool)> {
        let mut part = libc::iovec { iov_base: data.cast(), iov_len: len };
        let mut header = message(&raw mut part, ptr::null_mut());
        // SAFETY: the header's pointers are valid for the call; `data` is, as the caller promises.
        let got = unsafe { direct::recvmsg(self.raw(), &raw mut header, 0) };
        if got < 0 {
            return Err(io::Error::last_os_error());
        }
        // There was no room for it.
        Ok((got as usize, header.msg_flags & libc::MSG_CTRUNC != 0))
    }

    /// # Safety
    /// `data` is valid for reading `len` bytes.
    pub unsafe fn send(&self, data: *const u8, len: usize) -> io::Result<usize> {
        // SAFETY: as the caller promises.
        let sent = unsafe { direct::sendto(self.raw(), data.cast(), len, SEND_FLAGS, ptr::null(), 0) };
        if sent >= 0 {
            return Ok(sent as usize);
        }
        Err(super::failed_send(io::Error::last_os_error()))
    }

    /// The next datagram; its sender only where it is asked for.
    ///
    /// # Safety
    /// `data` is valid for writing `len` bytes.
    pub unsafe fn recv_from(&self, data: *mut u8, len: usize, sender: bool) -> io::Result<Datagram> {
        let mut space = MaybeUninit::<SockAddrStorage>::uninit();
        let name = if sender { space.as_mut_ptr() } else { ptr::null_mut() };
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            // With MSG_TRUNC Linux tells the length that the datagram had.
            let mut size = size_of::<SockAddrStorage>() as libc::socklen_t;
            // SAFETY: the address has room for `size` bytes, or is null; `data` is valid, as the caller promises.
            let got = unsafe {
                let size = if sender { &raw mut size } else { ptr::null_mut() };
                direct::recvfrom(self.raw(), data.cast(), len, libc::MSG_TRUNC, name.cast(), size)
            };
            if got < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: the kernel wrote the address, `size` bytes of it, where there was room for one.
            let from = if sender { unsafe { address(name, size) } } else { None };
            Ok(Datagram { len: len.min(got as usize), truncated: got as usize > len, from })
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        {
            let mut part = libc::iovec { iov_base: data.cast(), iov_len: len };
            let mut header = message(&raw mut part, name);
            // SAFETY: the header's pointers are valid for the call; `data` is, as the caller promises.
            let got = unsafe { libc::recvmsg(self.raw(), &raw mut header, 0) };
            if got < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: the kernel has filled the header and what it points to.
            Ok(unsafe { datagram(got as usize, &header) })
        }
    }

    /// Sends a datagram, to `to` or to the address that the socket is connected to.
    ///
    /// # Safety
    /// `data` is valid for reading `len` bytes.
    pub unsafe fn send_to(&self, data: *const u8, len: usize, to: Option<&OsAddress>) -> io::Result<usize> {
        let (address, size) = to.map_or((ptr::null(), 0), OsAddress::parts);
        // SAFETY: as the caller promises; the address is valid for the call.
        let sent = unsafe { direct::sendto(self.raw(), data.cast(), len, SEND_FLAGS, address, size) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
    }

    /// The datagrams that are there, at most one for each of `rooms`: one system call (Linux), or one for each. Also the
    /// error that ended it after the first one, where the system does not keep that for the next call by itself.
    ///
    /// # Safety
    /// Each room is valid for writing as many bytes as it says.
    pub unsafe fn recv_many(&self, rooms: &[(*mut u8, usize)]) -> io::Result<(Vec<Datagram>, Option<io::Error>)> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            let count = rooms.len().min(BATCH);
            let mut spaces: Vec<MaybeUninit<SockAddrStorage>> = Vec::with_capacity(count);
            spaces.resize_with(count, MaybeUninit::uninit);
            let mut parts: Vec<_> =
                rooms[..count].iter().map(|&(data, len)| libc::iovec { iov_base: data.cast(), iov_len: len }).collect();
            let mut headers: Vec<_> = parts
                .iter_mut()
                .zip(&mut spaces)
                .map(|(part, space)| libc::mmsghdr { msg_hdr: message(part, space.as_mut_ptr()), msg_len: 0 })
                .collect();
            // SAFETY: as many headers as are said, whose pointers live as long as the vectors; the rooms are valid, as
            // the caller promises.
            let got = unsafe {
                libc::recvmmsg(self.raw(), headers.as_mut_ptr(), count as _, libc::MSG_DONTWAIT as _, ptr::null_mut())
            };
            if got < 0 {
                let error = io::Error::last_os_error();
                if is_no_call(&error) {
                    // SAFETY: as the caller promises.
                    return unsafe { self.recv_each(rooms) };
                }
                return Err(error);
            }
            let came = headers[..got as usize].iter();
            // SAFETY: the kernel wrote an address for each datagram.
            Ok((came.map(|one| unsafe { datagram(one.msg_len as usize, &one.msg_hdr) }).collect(), None))
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        {
            // SAFETY: as the caller promises.
            unsafe { self.recv_each(rooms) }
        }
    }

    /// Sends the first of several datagrams, as many as there is room for: how many went, and the error of the next one
    /// where the system tells it (Linux' sendmmsg forgets it).
    ///
    /// # Safety
    /// Each is valid for reading as many bytes as it says.
    pub unsafe fn send_many(
        &self,
        all: &[(*const u8, usize, Option<OsAddress>)],
    ) -> io::Result<(usize, Option<io::Error>)> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            let all = &all[..all.len().min(BATCH)];
            let mut parts: Vec<_> = all
                .iter()
                .map(|&(data, len, _)| libc::iovec { iov_base: data.cast_mut().cast(), iov_len: len })
                .collect();
            let mut headers: Vec<_> = parts
                .iter_mut()
                .zip(all)
                .map(|(part, (_, _, to))| {
                    let mut header = message(part, ptr::null_mut());
                    if let Some(to) = to {
                        let (address, size) = to.parts();
                        header.msg_name = address.cast_mut().cast();
                        header.msg_namelen = size;
                    }
                    libc::mmsghdr { msg_hdr: header, msg_len: 0 }
                })
                .collect();
            // SAFETY: as many headers as are said; the kernel only reads what they point to, which lives until then.
            let sent = unsafe { libc::sendmmsg(self.raw(), headers.as_mut_ptr(), headers.len() as _, SEND_FLAGS as _) };
            if sent >= 0 {
                return Ok((sent as usize, None));
            }
            let error = io::Error::last_os_error();
            // SAFETY: as the caller promises.
            if is_no_call(&error) { unsafe { self.send_each(all) } } else { Err(error) }
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        {
            // SAFETY: as the caller promises.
            unsafe { self.send_each(all) }
        }
    }

    /// Sends a part of a file, from `offset`, at most `len` bytes; how many went, 0 at the file's end.
    pub fn send_file(&self, file: i64, offset: u64, len: usize) -> io::Result<usize> {
        let file = file as RawFd;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            let mut offset = offset as libc::off_t;
            without_sigpipe(|| {
                // SAFETY: `offset` outlives the call.
                let sent = unsafe { libc::sendfile(self.raw(), file, &raw mut offset, len) };
                if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
            })
        }
        #[cfg(target_vendor = "apple")]
        {
            let mut moved = len as libc::off_t;
            // SAFETY: `moved` outlives the call; there are no headers.
            let failed =
                unsafe { libc::sendfile(file, self.raw(), offset as libc::off_t, &raw mut moved, ptr::null_mut(), 0) };
            if failed == 0 || moved > 0 { Ok(moved as usize) } else { Err(io::Error::last_os_error()) }
        }
        #[cfg(target_os = "freebsd")]
        {
            let mut moved: libc::off_t = 0;
            without_sigpipe(|| {
                // SAFETY: `moved` outlives the call; there are no headers.
                let failed = unsafe {
                    libc::sendfile(file, self.raw(), offset as libc::off_t, len, ptr::null_mut(), &raw mut moved, 0)
                };
                if failed == 0 || moved > 0 { Ok(moved as usize) } else { Err(io::Error::last_os_error()) }
            })
        }
    }

    /// Forgets the address that a datagram socket is connected to.
    pub fn disconnect(&self) -> io::Result<()> {
        let before = self.with(Socket::local_addr)?;
        self.forget_peer()?;
        // Linux gives up a port that it had chosen itself, and the peer of old would find nobody.
        let after = self.with(Socket::local_addr)?;
        match (before.as_socket(), after.as_socket()) {
            (Some(before), Some(mut after)) if after.port() == 0 && before.port() != 0 => {
                after.set_port(before.port());
                self.with(|socket| socket.bind(&after.into()))
            }
            _ => Ok(()),
        }
    }

    /// Ends an attempt to connect. `false`: only another socket can connect then.
    pub fn give_up_connect(&self) -> io::Result<bool> {
        if RECONNECTS {
            self.forget_peer()?;
        }
        Ok(RECONNECTS)
    }

    /// connect(2) with `AF_UNSPEC`.
    fn forget_peer(&self) -> io::Result<()> {
        // SAFETY: all zeroes is a value of this plain structure; AF_UNSPEC says it all.
        let mut nowhere: libc::sockaddr = unsafe { std::mem::zeroed() };
        nowhere.sa_family = libc::AF_UNSPEC as libc::sa_family_t;
        // SAFETY: an address that outlives the call, of the size that is said.
        if unsafe { libc::connect(self.raw(), &raw const nowhere, size_of::<libc::sockaddr>() as libc::socklen_t) } < 0
        {
            let error = io::Error::last_os_error();
            // The BSDs do it, and complain about the family.
            let complains = matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EINVAL));
            if cfg!(any(target_os = "linux", target_os = "android")) || !complains {
                return Err(error);
            }
        }
        Ok(())
    }

    /// How far a connect is that has begun; its error, if it failed.
    pub fn is_connected(&self) -> io::Result<bool> {
        if let Some(error) = self.with(Socket::take_error)? {
            return Err(error);
        }
        match self.with(Socket::peer_addr) {
            Ok(_) => Ok(true),
            Err(error) if super::is_not_connected(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// One connection from the queue, non-blocking and close-on-exec, and its peer.
    pub fn accept(&self) -> io::Result<(Socket, SockAddr)> {
        #[cfg(not(target_vendor = "apple"))]
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
        #[cfg(target_vendor = "apple")]
        {
            let (socket, addr) = self.with(Socket::accept)?;
            // A connection that was reset meanwhile comes without an address, where other systems give no socket.
            if addr.len() == 0 && !socket.local_addr().is_ok_and(|local| local.is_unix()) {
                return Err(io::Error::from_raw_os_error(libc::ECONNABORTED));
            }
            socket.set_nonblocking(true)?;
            Ok((socket, addr))
        }
    }

    pub fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let interest = interest | Interest::PRIORITY;
        registry.register(&mut SourceFd(&self.raw()), token, interest)
    }

    pub fn deregister(&self, registry: &Registry) -> io::Result<()> {
        registry.deregister(&mut SourceFd(&self.raw()))
    }

    /// Puts another socket behind the same number. Registrations of the old one are gone.
    pub fn replace(&self, other: &Socket) -> io::Result<()> {
        #[cfg(not(target_vendor = "apple"))]
        {
            // SAFETY: both numbers are open sockets; dup3 swaps atomically.
            let done = unsafe { libc::dup3(other.as_raw_fd(), self.raw(), libc::O_CLOEXEC) };
            if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        }
        #[cfg(target_vendor = "apple")]
        {
            // SAFETY: as above, of dup2. A program that is started in between gets the socket: macOS has no better call.
            if unsafe { libc::dup2(other.as_raw_fd(), self.raw()) } < 0 {
                return Err(io::Error::last_os_error());
            }
            self.with(|socket| socket.set_cloexec(true))
        }
    }

    /// Closes the socket, once only. If somebody else has closed the number, that is theirs: the standard library's own
    /// close would abort the program for it in a build with debug assertions.
    pub fn close(&self) {
        let raw = self.0.swap(-1, Ordering::AcqRel);
        if raw >= 0 {
            // SAFETY: the swap made the number ours alone.
            unsafe { libc::close(raw) };
        }
    }

    /// Leaves the socket to the caller. Once only.
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
