//! Windows. Only mio's own socket types register with its poll (AFD behind an IOCP), and a socket's events are armed
//! anew only after a call that would block went through `try_io`. So each socket is a `mio::net::UdpSocket`, which
//! serves any kind of socket here: mio looks at nothing but the handle.

use std::ffi::OsStr;
use std::io;
use std::mem::ManuallyDrop;
use std::os::windows::io::{AsRawSocket, FromRawSocket, IntoRawSocket, RawSocket};
use std::sync::OnceLock;
use std::time::Instant;

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use parking_lot::RwLock;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use windows_sys::Win32::Networking::WinSock as ws;

use super::Datagram;
use crate::address::{Address, Family};

pub type RawDescriptor = RawSocket;

/// Events are armed by "would block" alone: every readiness is used up to that point.
pub const SHORT_MEANS_DRAINED: bool = false;

/// Winsock lets a socket whose connect failed connect again.
pub const RECONNECTS: bool = true;

/// Winsock tells the address of a peer that has not answered yet.
pub const PEER_MEANS_CONNECTED: bool = false;

/// Nothing forks here.
pub const POLL_IS_INHERITED: bool = true;

/// Winsock takes all of a stream's data at once if it has room for any, and copies it: without a limit there would be no
/// back pressure.
const MOST_AT_ONCE: usize = 1 << 16;

/// What connecting a connected socket gives.
pub const ALREADY_CONNECTED: i32 = ws::WSAEISCONN;

pub const RAW: Type = Type::RAW;

/// What a socket that something else made is. Winsock does not tell the address of an unbound socket, but its protocol.
pub fn identify(socket: &Socket) -> io::Result<(Type, Domain, Option<Protocol>)> {
    let mut info = std::mem::MaybeUninit::<ws::WSAPROTOCOL_INFOW>::zeroed();
    let mut size = size_of::<ws::WSAPROTOCOL_INFOW>() as i32;
    // SAFETY: the option's value is a WSAPROTOCOL_INFOW of that size, for which all zeroes is a value.
    let info = unsafe {
        let handle = socket.as_raw_socket() as ws::SOCKET;
        let place = info.as_mut_ptr().cast();
        if ws::getsockopt(handle, ws::SOL_SOCKET, ws::SO_PROTOCOL_INFOW, place, &raw mut size) != 0 {
            return Err(last_error());
        }
        info.assume_init()
    };
    Ok((Type::from(info.iSocketType), Domain::from(info.iAddressFamily), Some(Protocol::from(info.iProtocol))))
}

pub fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

pub fn about_now() -> u64 {
    now()
}

/// A descriptor as Python's number.
pub fn number(raw: RawDescriptor) -> i64 {
    raw as i64
}

pub fn interface_index(_name: &str) -> Option<u32> {
    // Windows writes scopes as numbers.
    None
}

/// A path as the OS takes it: UTF-8 for unix sockets.
pub fn os_str(name: &[u8]) -> io::Result<&OsStr> {
    std::str::from_utf8(name).map(OsStr::new).map_err(|_| io::Error::from_raw_os_error(ws::WSAEINVAL))
}

pub fn unix_name(addr: &SockAddr) -> Box<[u8]> {
    // SAFETY: the address is `len` bytes long; a sockaddr_un is its family, two bytes, and the path.
    let bytes = unsafe { std::slice::from_raw_parts(addr.as_ptr().cast::<u8>(), addr.len() as usize) };
    let path = bytes.get(2..).unwrap_or_default();
    path.split(|&byte| byte == 0).next().unwrap_or_default().into()
}

/// `SO_REUSEADDR` would let any program take the port: the opposite of what Unix means by it.
pub fn listen_options(socket: &Socket) -> io::Result<()> {
    exclusive(socket)
}

pub fn bind_options(socket: &Socket) -> io::Result<()> {
    exclusive(socket)
}

fn exclusive(socket: &Socket) -> io::Result<()> {
    if socket.reuse_address()? {
        return Ok(()); // asked for by the user; the two exclude each other
    }
    let on: i32 = 1;
    // SAFETY: the option's value is an int that outlives the call.
    let failed = unsafe {
        ws::setsockopt(
            socket.as_raw_socket() as ws::SOCKET,
            ws::SOL_SOCKET,
            ws::SO_EXCLUSIVEADDRUSE,
            (&raw const on).cast(),
            size_of::<i32>() as i32,
        )
    };
    if failed == 0 { Ok(()) } else { Err(last_error()) }
}

pub(super) fn last_error() -> io::Error {
    // SAFETY: has no preconditions.
    io::Error::from_raw_os_error(unsafe { ws::WSAGetLastError() })
}

/// What the OS's poll is called.
pub const POLL: &str = "iocp";

/// mio keeps the port's handle to itself: where it is kept tells pollers of this process apart as well.
pub fn poll_handle(registry: &Registry) -> i64 {
    std::ptr::from_ref(registry) as i64
}

#[cfg(test)]
pub fn is_poll(handle: i64) -> bool {
    handle > 0
}

/// An address as Winsock takes it.
#[derive(Debug)]
pub struct OsAddress(SockAddr);

impl OsAddress {
    pub fn new(address: &Address) -> io::Result<Self> {
        address.to_os().map(OsAddress)
    }
}

/// An ICMP message says that an earlier datagram did not arrive: Winsock tells even a socket that is not connected.
pub const UNDELIVERED: &[i32] = &[ws::WSAECONNRESET, ws::WSAENETRESET];

/// What a connected socket makes of that: what other systems call it.
#[allow(clippy::needless_pass_by_value)] // called as the other one
pub fn undelivered(error: io::Error) -> io::Error {
    let too_far = error.raw_os_error() == Some(ws::WSAENETRESET);
    io::Error::from_raw_os_error(if too_far { ws::WSAEHOSTUNREACH } else { ws::WSAECONNREFUSED })
}

/// A non-blocking, not inherited socket.
#[derive(Debug)]
pub struct Descriptor {
    /// Written only to register, replace or close. Held shared across each call, which never blocks.
    socket: RwLock<Option<UdpSocket>>,
}

fn wrap(socket: Socket) -> UdpSocket {
    // SAFETY: the handle is an open socket that is ours; mio uses nothing of it that is peculiar to UDP.
    UdpSocket::from_std(unsafe { std::net::UdpSocket::from_raw_socket(socket.into_raw_socket()) })
}

fn unwrap(socket: UdpSocket) -> Socket {
    // SAFETY: the handle comes out of its owner and into the next.
    unsafe { Socket::from_raw_socket(socket.into_raw_socket()) }
}

fn gone() -> io::Error {
    io::Error::from_raw_os_error(ws::WSAENOTSOCK)
}

impl Descriptor {
    pub fn new(socket: Socket) -> Descriptor {
        Descriptor { socket: RwLock::new(Some(wrap(socket))) }
    }

    /// Takes over a socket that something else made.
    ///
    /// # Safety
    /// `raw` is an open socket that nobody else closes.
    pub unsafe fn adopt(raw: RawDescriptor) -> io::Result<Socket> {
        // SAFETY: as the caller promises.
        let socket = unsafe { Socket::from_raw_socket(raw) };
        let ours =
            socket.r#type().and_then(|_| socket.set_nonblocking(true)).and_then(|()| socket.set_no_inherit(true));
        match ours {
            Ok(()) => Ok(socket),
            Err(error) => {
                let _still_the_callers = socket.into_raw_socket();
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
        self.socket.read().as_ref().map_or(ws::INVALID_SOCKET as RawSocket, AsRawSocket::as_raw_socket)
    }

    /// The calls that socket2 has.
    pub fn with<R>(&self, call: impl FnOnce(&Socket) -> R) -> R {
        // SAFETY: the handle is open while the caller holds a lease, and ManuallyDrop leaves it open.
        let socket = ManuallyDrop::new(unsafe { Socket::from_raw_socket(self.raw()) });
        call(&socket)
    }

    /// As `with`, for a call that says "would block": mio must see that answer to arm the socket's events again.
    fn attempt<R>(&self, call: impl FnOnce(&Socket) -> io::Result<R>) -> io::Result<R> {
        let guard = self.socket.read();
        let Some(owner) = guard.as_ref() else {
            return Err(gone());
        };
        // SAFETY: the owner is held for the length of the call, and ManuallyDrop leaves it open.
        let socket = ManuallyDrop::new(unsafe { Socket::from_raw_socket(owner.as_raw_socket()) });
        owner.try_io(|| call(&socket))
    }

    /// Begins to connect. `false`: it goes on, and the socket becomes writable at its end.
    pub fn connect(&self, address: &SockAddr) -> io::Result<bool> {
        match self.attempt(|socket| socket.connect(address)) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(ws::WSAEWOULDBLOCK | ws::WSAEINPROGRESS)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How far a connect is that has begun; its error, if it failed. Winsock may tell a peer's address before that has
    /// answered, so that says nothing.
    pub fn is_connected(&self) -> io::Result<bool> {
        let ended = self.is_ready(true)?;
        self.with(Socket::take_error)?.map_or(Ok(ended), Err)
    }

    /// Whether a read, or a write, would not block: something can be moved, accepted or reported.
    pub fn is_ready(&self, for_writing: bool) -> io::Result<bool> {
        let asked = self.attempt(|socket| {
            let events = if for_writing { ws::POLLWRNORM } else { ws::POLLRDNORM };
            let mut ask = ws::WSAPOLLFD { fd: socket.as_raw_socket() as ws::SOCKET, events, revents: 0 };
            // SAFETY: one structure, valid for reading and writing; a timeout of 0 waits for nothing.
            match unsafe { ws::WSAPoll(&raw mut ask, 1, 0) } {
                ws::SOCKET_ERROR => Err(last_error()),
                0 => Err(io::ErrorKind::WouldBlock.into()),
                _ => Ok(()),
            }
        });
        match asked {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// # Safety
    /// `data` is valid for writing `len` bytes.
    pub unsafe fn recv(&self, data: *mut u8, len: usize) -> io::Result<usize> {
        let len = len.min(i32::MAX as usize) as i32;
        self.attempt(|socket| {
            // SAFETY: as the caller promises.
            let got = unsafe { ws::recv(socket.as_raw_socket() as ws::SOCKET, data, len, 0) };
            if got >= 0 {
                return Ok(got as usize);
            }
            match last_error() {
                // Shut down for reading by us: elsewhere that is an end like the peer's.
                error if error.raw_os_error() == Some(ws::WSAESHUTDOWN) => Ok(0),
                error => Err(error),
            }
        })
    }

    /// As `recv`, and whether something may have come along that a read does not go beyond: of that nothing is told.
    ///
    /// # Safety
    /// `data` is valid for writing `len` bytes.
    pub unsafe fn recv_marked(&self, data: *mut u8, len: usize) -> io::Result<(usize, bool)> {
        // SAFETY: as the caller promises.
        unsafe { self.recv(data, len) }.map(|n| (n, true))
    }

    /// # Safety
    /// `data` is valid for reading `len` bytes.
    pub unsafe fn send(&self, data: *const u8, len: usize) -> io::Result<usize> {
        let len = len.min(MOST_AT_ONCE) as i32;
        self.attempt(|socket| {
            // SAFETY: as the caller promises.
            let sent = unsafe { ws::send(socket.as_raw_socket() as ws::SOCKET, data, len, 0) };
            if sent < 0 { Err(last_error()) } else { Ok(sent as usize) }
        })
    }

    /// The next datagram; its sender only where it is asked for.
    ///
    /// # Safety
    /// `data` is valid for writing `len` bytes.
    pub unsafe fn recv_from(&self, data: *mut u8, len: usize, _sender: bool) -> io::Result<Datagram> {
        let room = len.min(i32::MAX as usize) as i32;
        self.attempt(|socket| {
            let mut storage = SockAddrStorage::zeroed();
            let mut size = size_of::<SockAddrStorage>() as i32;
            // SAFETY: as the caller promises; the address has room for `size` bytes.
            let got = unsafe {
                let place = (&raw mut storage).cast();
                ws::recvfrom(socket.as_raw_socket() as ws::SOCKET, data, room, 0, place, &raw mut size)
            };
            let (len, truncated) = match got {
                ws::SOCKET_ERROR => match last_error() {
                    error if error.raw_os_error() == Some(ws::WSAEMSGSIZE) => (len, true),
                    error => return Err(error),
                },
                got => (got as usize, false),
            };
            // SAFETY: Winsock wrote the address, `size` bytes of it.
            let from = Address::from_os(&unsafe { SockAddr::new(storage, size) });
            Ok(Datagram { len, truncated, from })
        })
    }

    /// Sends a datagram, to `to` or to the address that the socket is connected to.
    ///
    /// # Safety
    /// `data` is valid for reading `len` bytes.
    pub unsafe fn send_to(&self, data: *const u8, len: usize, to: Option<&OsAddress>) -> io::Result<usize> {
        let len = i32::try_from(len).map_err(|_| io::Error::from_raw_os_error(ws::WSAEMSGSIZE))?;
        let (address, size) = to.map_or((std::ptr::null(), 0), |to| (to.0.as_ptr().cast(), to.0.len()));
        self.attempt(|socket| {
            // SAFETY: as the caller promises; the address is valid for the call.
            let sent = unsafe { ws::sendto(socket.as_raw_socket() as ws::SOCKET, data, len, 0, address, size) };
            if sent < 0 { Err(last_error()) } else { Ok(sent as usize) }
        })
    }

    /// The datagrams that are there, at most one for each of `rooms`.
    ///
    /// # Safety
    /// Each room is valid for writing as many bytes as it says.
    pub unsafe fn recv_many(&self, rooms: &[(*mut u8, usize)]) -> io::Result<(Vec<Datagram>, Option<io::Error>)> {
        // SAFETY: as the caller promises.
        unsafe { self.recv_each(rooms) }
    }

    /// Sends the first of several datagrams, as many as there is room for: how many went, and the error of the next one.
    ///
    /// # Safety
    /// Each is valid for reading as many bytes as it says.
    pub unsafe fn send_many(
        &self,
        all: &[(*const u8, usize, Option<OsAddress>)],
    ) -> io::Result<(usize, Option<io::Error>)> {
        // SAFETY: as the caller promises.
        unsafe { self.send_each(all) }
    }

    /// Not here: `TransmitFile` waits where the other calls would block. Python reads and sends instead.
    pub fn send_file(&self, _file: i64, _offset: u64, _len: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Ends an attempt to connect. `false`: only another socket can connect then.
    #[allow(clippy::unused_self, clippy::unnecessary_wraps)] // called as the other one
    pub fn give_up_connect(&self) -> io::Result<bool> {
        Ok(false)
    }

    /// Forgets the address that a datagram socket is connected to.
    pub fn disconnect(&self) -> io::Result<()> {
        let domain = self.with(Socket::local_addr)?.domain();
        let nowhere = Family::from_domain(domain).map(Address::any).ok_or(io::ErrorKind::Unsupported)?.to_os()?;
        self.with(|socket| socket.connect(&nowhere))
    }

    /// One connection from the queue, non-blocking and not inherited, and its peer.
    pub fn accept(&self) -> io::Result<(Socket, SockAddr)> {
        let (socket, addr) = self.attempt(Socket::accept)?;
        socket.set_nonblocking(true)?;
        Ok((socket, addr))
    }

    pub fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        match self.socket.write().as_mut() {
            Some(socket) => registry.register(socket, token, Interest::READABLE | Interest::WRITABLE),
            None => Err(gone()),
        }
    }

    pub fn deregister(&self, registry: &Registry) -> io::Result<()> {
        match self.socket.write().as_mut() {
            Some(socket) => registry.deregister(socket),
            None => Err(gone()),
        }
    }

    /// Puts another socket behind this one. Registrations of the old one are gone.
    pub fn replace(&self, other: &Socket) -> io::Result<()> {
        *self.socket.write() = Some(wrap(other.try_clone()?));
        Ok(())
    }

    /// Closes the socket, once only.
    pub fn close(&self) {
        drop(self.take());
    }

    /// Leaves the socket to the caller. Once only.
    pub fn take(&self) -> Option<Socket> {
        self.socket.write().take().map(unwrap)
    }

    pub fn into_raw(socket: Socket) -> RawDescriptor {
        socket.into_raw_socket()
    }
}

/// A UDP socket connected to itself: `signal.set_wakeup_fd` takes sockets on Windows.
#[derive(Debug)]
pub struct SignalPipe {
    socket: UdpSocket,
}

impl SignalPipe {
    pub fn new(registry: &Registry, token: Token) -> io::Result<SignalPipe> {
        let socket = Descriptor::make(Domain::IPV4, Type::DGRAM, None)?;
        exclusive(&socket)?;
        socket.bind(&std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0)).into())?;
        socket.connect(&socket.local_addr()?)?;
        let mut socket = wrap(socket);
        registry.register(&mut socket, token, Interest::READABLE)?;
        Ok(SignalPipe { socket })
    }

    pub fn write_end(&self) -> RawDescriptor {
        self.socket.as_raw_socket()
    }

    /// To the end, as "would block" alone arms its event again: what came before it was connected may be of any length.
    pub fn drain(&self) {
        let mut bytes = [0; 64];
        loop {
            match self.socket.recv(&mut bytes) {
                Ok(_) => {}
                Err(error) if matches!(error.raw_os_error(), Some(ws::WSAEMSGSIZE | ws::WSAECONNRESET)) => {}
                Err(_) => return,
            }
        }
    }
}
