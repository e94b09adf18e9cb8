//! The Rust halves of `sock`'s sockets.

use std::ffi::CString;
use std::io;
use std::sync::Arc;

use pyo3::exceptions::{PyResourceWarning, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;
use socket2::{Protocol, Type};

use super::address::SockAddr;
use super::error::{self, Moved};
use super::ops::datagrams::{self, Peer, Senders};
use super::thread::running;
use super::{Handle, Source, ops, options};
use crate::address::{Address, Family};
use crate::socket::{Direction, Lease};
use crate::sys::{self, Descriptor};

/// Who closed a socket, and where.
enum Closer {
    Reason(&'static str),
    Place { thread: Option<(Py<PyString>, bool, u64)>, code: Option<Py<PyAny>>, line: i32 },
}

/// A fresh OS socket on its way into an object of Python's.
#[pyclass(frozen, module = "sock._sock")]
pub struct NewSocket(parking_lot::Mutex<Option<Source>>, Option<Address>, Option<Address>);

impl NewSocket {
    fn new(socket: socket2::Socket, kind: Type, family: Family, protocol: Option<Protocol>) -> Self {
        NewSocket(parking_lot::Mutex::new(Some(Source::new(socket, kind, family, protocol))), None, None)
    }

    pub fn accepted(listener: &Source, socket: socket2::Socket, peer: &socket2::SockAddr, lease: &Descriptor) -> Self {
        // Both may fail only on a connection that is gone already: the first recv says so.
        if listener.family() != Family::Unix {
            let _ = socket.set_tcp_nodelay(true);
        }
        let bound = listener.local.get().cloned().or_else(|| {
            let address = Address::from_os(&lease.with(socket2::Socket::local_addr).ok()?)?;
            Some(listener.local.get_or_init(|| address).clone())
        });
        // A connection to a listener of one address has that address: no need to ask.
        let local = bound
            .filter(|address| !address.is_wildcard())
            .or_else(|| socket.local_addr().ok().as_ref().and_then(Address::from_os));
        let peer = Address::from_os(peer);
        let source = Source::new(socket, listener.kind, listener.family(), listener.protocol);
        if let (Some(local), Some(peer)) = (&local, &peer) {
            let _ = source.local.set(local.clone());
            let _ = source.peer.set(peer.clone());
        }
        NewSocket(parking_lot::Mutex::new(Some(source)), peer, local)
    }

    pub fn peer(&self) -> Option<Address> {
        self.1.clone()
    }

    pub fn local(&self) -> Option<Address> {
        self.2.clone()
    }
}

#[pymethods]
impl NewSocket {
    /// 'tcp', 'udp' or 'raw': which class it becomes.
    #[getter]
    fn kind(&self) -> Option<&'static str> {
        self.0.lock().as_ref().map(|source| kind_name(source.kind))
    }

    /// Leaves the OS socket, open, to whoever it was taken from.
    fn forget(&self) {
        if let Some(source) = self.0.lock().take() {
            source.detach(&mut Vec::new());
        }
    }
}

fn kind_name(kind: Type) -> &'static str {
    match kind {
        Type::STREAM => "tcp",
        Type::DGRAM => "udp",
        sys::RAW => "raw",
        _ => "other",
    }
}

/// Makes a non-blocking OS socket.
#[pyfunction]
#[pyo3(signature = (kind, family, protocol=None))]
pub fn open(py: Python<'_>, kind: &str, family: &str, protocol: Option<i32>) -> PyResult<NewSocket> {
    let family = Family::from_name(family)
        .ok_or_else(|| PyValueError::new_err(format!("family must be 'inet', 'inet6' or 'unix', not '{family}'")))?;
    let socket_type = match kind {
        "tcp" => Type::STREAM,
        "udp" => Type::DGRAM,
        _ => sys::RAW,
    };
    let protocol = protocol.map(Protocol::from);
    let made = Descriptor::make(family.domain(), socket_type, protocol).and_then(|socket| {
        if socket_type == Type::STREAM && family != Family::Unix {
            socket.set_tcp_nodelay(true)?;
        }
        if family == Family::Inet6 && socket_type != sys::RAW {
            // The same on every OS and setting; `setopt('ipv6_v6only', False)` before bind makes it dual-stack.
            socket.set_only_v6(true)?;
        }
        Ok(socket)
    });
    match made {
        Ok(socket) => Ok(NewSocket::new(socket, socket_type, family, protocol)),
        Err(failed) => {
            Err(error::os(py, &failed, &format!("make a socket: {kind}, {}", family.name()), Moved::default()))
        }
    }
}

/// Takes over an OS socket that something else made.
#[pyfunction]
pub fn adopt(py: Python<'_>, fd: i64) -> PyResult<NewSocket> {
    let Ok(raw) = sys::RawDescriptor::try_from(fd) else {
        return Err(PyValueError::new_err(format!("{fd} is no descriptor")));
    };
    if fd < 0 {
        return Err(PyValueError::new_err(format!("{fd} is no descriptor")));
    }
    let failure = |failed: &io::Error| error::os(py, failed, &format!("take over descriptor {fd}"), Moved::default());
    // SAFETY: the caller gives the descriptor away, as the function says.
    let socket = unsafe { Descriptor::adopt(raw) }.map_err(|failed| failure(&failed))?;
    let found = sys::identify(&socket).and_then(|(kind, domain, protocol)| {
        let family = Family::from_domain(domain).ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
        Ok((kind, family, protocol))
    });
    match found {
        Ok((kind, family, protocol)) => {
            let peer = socket.peer_addr().ok().as_ref().and_then(Address::from_os);
            let source = Source::new(socket, kind, family, protocol);
            if let Some(peer) = &peer {
                source.set_peer(peer);
            }
            Ok(NewSocket(parking_lot::Mutex::new(Some(source)), peer, None))
        }
        Err(failed) => {
            let _still_the_callers = Descriptor::into_raw(socket);
            Err(failure(&failed))
        }
    }
}

/// The base of all sockets.
#[pyclass(frozen, subclass, weakref, module = "sock._sock")]
pub struct Socket {
    source: Arc<Source>,
    closer: parking_lot::Mutex<Option<Box<Closer>>>,
}

impl Socket {
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    pub fn kind_name(&self) -> &'static str {
        kind_name(self.source.kind)
    }

    fn peer(&self) -> Option<Address> {
        self.source.peer.get().cloned().or_else(|| {
            let address = self.source.lease()?.with(socket2::Socket::peer_addr).ok()?;
            let address = Address::from_os(&address).unwrap_or_else(|| Address::any(self.source.family()));
            self.source.set_peer(&address);
            Some(address)
        })
    }

    fn local(&self) -> Option<Address> {
        self.source.local.get().cloned().or_else(|| {
            let address = self.source.lease()?.with(socket2::Socket::local_addr).ok()?;
            let address = Address::from_os(&address)?;
            let unbound = match &address {
                Address::Unix(name) => name.is_empty(),
                other => other.port() == 0 && self.source.kind != sys::RAW,
            };
            (!unbound).then_some(address)
        })
    }

    /// 'recv tcp 127.0.0.1:7000': the peer's address, else the socket's own.
    pub fn describe(&self, verb: &str) -> String {
        let kind = self.kind_name();
        match self.peer().or_else(|| self.local()) {
            Some(address) => format!("{verb} {kind} {address}"),
            None => format!("{verb} {kind}"),
        }
    }

    pub fn closed_error(&self, py: Python<'_>, what: &str, moved: Moved<'_>) -> PyErr {
        let (name, place, line) = {
            let closer = self.closer.lock();
            match closer.as_deref() {
                None => (None, None, 0),
                Some(Closer::Reason(reason)) => {
                    let what = format!("{what}: the socket was closed here: {reason}");
                    drop(closer);
                    return error::named(py, "closed", &what, moved);
                }
                Some(Closer::Place { thread, code, line }) => (
                    thread.as_ref().map(|(label, named, id)| (label.clone_ref(py), *named, *id)),
                    code.as_ref().map(|code| code.clone_ref(py)),
                    *line,
                ),
            }
        };
        let who = name.map(|(label, named, id)| {
            let label = label.bind(py).to_string_lossy();
            if named { format!(" by thread '{label}'") } else { format!(" by thread '{label}-{id}'") }
        });
        let place = place.and_then(|code| {
            let code = code.bind(py);
            let file: String = code.getattr("co_filename").ok()?.extract().ok()?;
            let function: String = code.getattr("co_name").ok()?.extract().ok()?;
            Some(format!(" in {function}, {file}:{line}"))
        });
        let what =
            format!("{what}: the socket was closed here{}{}", who.unwrap_or_default(), place.unwrap_or_default());
        error::named(py, "closed", &what, moved)
    }

    fn note_closer(&self, closer: Closer) {
        let mut slot = self.closer.lock();
        if slot.is_none() {
            *slot = Some(Box::new(closer));
        }
    }

    pub fn close_because(&self, _py: Python<'_>, reason: &'static str) {
        if !self.source.is_closed() {
            self.note_closer(Closer::Reason(reason));
            let mut stale = Vec::new();
            self.source.close(&mut stale);
        }
    }

    fn lease(&self, py: Python<'_>, verb: &str) -> PyResult<Lease<'_, Handle>> {
        self.source.lease().ok_or_else(|| self.closed_error(py, &self.describe(verb), Moved::default()))
    }

    pub fn call<R>(
        &self,
        py: Python<'_>,
        verb: &str,
        call: impl FnOnce(&socket2::Socket) -> io::Result<R>,
    ) -> PyResult<R> {
        let lease = self.lease(py, verb)?;
        lease.with(call).map_err(|failed| error::os(py, &failed, &self.describe(verb), Moved::default()))
    }
}

/// Where the Python code is that called us.
fn place(py: Python<'_>) -> Closer {
    let thread = running(py).map(|task| (task.get().label(py), task.get().is_named(), task.get().id()));
    // SAFETY: a borrowed reference to the current frame, or null; its code is a new reference.
    let (code, line) = unsafe {
        let frame = ffi::PyEval_GetFrame();
        if frame.is_null() {
            (None, 0)
        } else {
            let code = Bound::from_owned_ptr_or_opt(py, ffi::PyFrame_GetCode(frame).cast());
            (code.map(Bound::unbind), ffi::PyFrame_GetLineNumber(frame))
        }
    };
    Closer::Place { thread, code, line }
}

#[pymethods]
impl Socket {
    #[new]
    fn new(new: &NewSocket) -> PyResult<Self> {
        let source = new.0.lock().take();
        match source {
            Some(source) => Ok(Socket { source: Arc::new(source), closer: parking_lot::Mutex::new(None) }),
            None => Err(PyTypeError::new_err("this OS socket has its object already")),
        }
    }

    /// 'tcp', 'udp' or 'raw'.
    #[getter]
    fn r#type(&self) -> &'static str {
        self.kind_name()
    }

    /// 'inet', 'inet6' or 'unix'; None while it may still become one of the first two.
    #[getter]
    fn family(&self) -> Option<&'static str> {
        (!self.source.is_any_family()).then(|| self.source.family().name())
    }

    /// Leaves it to the first connection whether it is 'inet' or 'inet6'.
    fn _set_any_family(&self) {
        self.source.set_any_family(true);
    }

    /// Takes the OS socket of another one, which ends closed. False: this one was closed meanwhile.
    fn _become(&self, py: Python<'_>, other: &Bound<'_, Socket>) -> PyResult<bool> {
        let other = other.get();
        other.note_closer(Closer::Reason("another socket has taken its place"));
        let mut stale = Vec::new();
        let became = self.source.become_other(&other.source, &mut stale);
        became.map_err(|failed| error::os(py, &failed, &other.describe("connect"), Moved::default()))
    }

    /// Waits in the place of a writer until `_nudge`, or an event, and no longer than the socket is open.
    #[pyo3(signature = (expires=None))]
    fn _hold<'py>(slf: &Bound<'py, Self>, expires: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        ops::hold(slf, expires)
    }

    fn _nudge(&self) {
        if let Some(waiter) = self.source.write.event(false) {
            let mut stale = Vec::new();
            super::Hub::wake(waiter.thread, waiter.epoch, &mut stale);
        }
    }

    #[getter]
    fn _protocol(&self) -> i32 {
        self.source.protocol.map_or(0, i32::from)
    }

    /// Whether the socket was closed here.
    #[getter]
    fn closed(&self) -> bool {
        self.source.is_closed()
    }

    /// The address the socket is bound to, or None.
    #[getter]
    fn local_addr(&self) -> Option<SockAddr> {
        self.local().map(SockAddr)
    }

    /// The address the socket is connected to, or None.
    #[getter]
    fn remote_addr(&self) -> Option<SockAddr> {
        self.peer().map(SockAddr)
    }

    /// The OS's number of the socket; -1 when it is closed.
    fn fileno(&self) -> i64 {
        self.source.lease().map_or(-1, |lease| sys::number(lease.raw()))
    }

    /// Closes the socket. A TCP connection with unread data, or with `so_linger` 0, is reset; any other ends with a FIN
    /// after the data that was sent. Threads that wait on it get `Closed`. Closing twice is fine.
    fn close(&self, py: Python<'_>) {
        if !self.source.is_closed() {
            self.note_closer(place(py));
            let mut stale = Vec::new();
            self.source.close(&mut stale);
        }
    }

    /// Gives the OS's descriptor away, open, and leaves this socket closed. Threads that wait on it get `Closed`.
    fn detach(&self, py: Python<'_>) -> PyResult<i64> {
        let gone = || self.closed_error(py, &self.describe("detach"), Moved::default());
        if self.source.is_closed() {
            return Err(gone());
        }
        self.note_closer(Closer::Reason("detach() gave its descriptor away"));
        let mut stale = Vec::new();
        self.source.detach(&mut stale).map(sys::number).ok_or_else(gone)
    }

    fn _bind(&self, py: Python<'_>, address: &SockAddr, listens: bool) -> PyResult<()> {
        let what = format!("bind {} {}", self.kind_name(), address.0);
        let lease = self.lease(py, "bind")?;
        let bound = address.0.to_os().and_then(|os| {
            lease.with(|socket| {
                if self.source.family() != Family::Unix {
                    if listens { sys::listen_options(socket)? } else { sys::bind_options(socket)? }
                }
                socket.bind(&os)
            })
        });
        self.source.set_any_family(self.source.is_any_family() && bound.is_err());
        bound.map_err(|failed| error::os(py, &failed, &what, Moved::default()))
    }

    /// Whether it waits for connections.
    #[getter]
    fn _listens(&self) -> bool {
        self.source.local.get().is_some() && self.source.peer.get().is_none()
    }

    #[getter]
    fn _is_bound(&self) -> bool {
        self.local().is_some()
    }

    /// Waits until a read would find something: data, the end of the stream, an error or a connection to accept.
    /// Holds no buffer meanwhile. `expires` as everywhere.
    #[pyo3(signature = (expires=None))]
    fn readable<'py>(slf: &Bound<'py, Self>, expires: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        ops::ready(slf, Direction::Read, expires)
    }

    /// Waits until a write would find room, or an error. `expires` as everywhere.
    #[pyo3(signature = (expires=None))]
    fn writable<'py>(slf: &Bound<'py, Self>, expires: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        ops::ready(slf, Direction::Write, expires)
    }

    #[pyo3(signature = (address, expires=None))]
    fn _connect<'py>(
        slf: &Bound<'py, Self>,
        address: &SockAddr,
        expires: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        ops::connect(slf, address, expires)
    }

    /// Between two addresses of a name.
    fn _reconnect(&self, py: Python<'_>) -> PyResult<()> {
        if sys::RECONNECTS || self.source.kind != Type::STREAM {
            return Ok(());
        }
        self.source.renew().map_err(|failed| error::os(py, &failed, &self.describe("connect"), Moved::default()))
    }

    /// Forgets the address that a datagram socket is connected to, and an error that its datagrams met.
    fn _disconnect(&self, py: Python<'_>) -> PyResult<()> {
        let lease = self.lease(py, "disconnect")?;
        let done = lease.disconnect().and_then(|()| lease.with(socket2::Socket::take_error));
        done.map(|_| ()).map_err(|failed| error::os(py, &failed, &self.describe("disconnect"), Moved::default()))
    }

    /// Bytes received and the system calls that did it, bytes sent and their calls.
    #[getter]
    fn _stats(&self) -> (u64, u64, u64, u64) {
        let ((received, recv_calls), (sent, send_calls)) = (self.source.received.get(), self.source.sent.get());
        (received, recv_calls, sent, send_calls)
    }

    fn _getopt<'py>(&self, py: Python<'py>, name: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        options::get(py, self, option_name(name)?)
    }

    /// False: this OS has no such option.
    fn _setopt(&self, py: Python<'_>, name: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        options::set(py, self, option_name(name)?, value)
    }
}

fn option_name<'a>(name: &'a Bound<'_, PyAny>) -> PyResult<&'a str> {
    if let Ok(name) = name.cast::<PyString>() {
        return name.to_str();
    }
    let kind = name.get_type();
    let message = format!("the name of an option is a str such as 'tcp_nodelay', not {}", kind.name()?);
    Err(PyTypeError::new_err(message))
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.source.is_closed() {
            return;
        }
        Python::attach(|py| {
            let message = self.describe("unclosed");
            let pending = PyErr::take(py);
            if let Ok(message) = CString::new(message) {
                let category = py.get_type::<PyResourceWarning>();
                if let Err(error) = PyErr::warn(py, &category, &message, 1) {
                    error.write_unraisable(py, None);
                }
            }
            if let Some(error) = pending {
                error.restore(py);
            }
            let mut stale = Vec::new();
            self.source.close(&mut stale);
        });
    }
}

/// The Rust half of stream sockets.
#[pyclass(frozen, subclass, extends = Socket, module = "sock._sock")]
pub struct Stream;

#[pymethods]
impl Stream {
    #[new]
    fn new(new: &NewSocket) -> PyResult<PyClassInitializer<Self>> {
        Ok(PyClassInitializer::from(Socket::new(new)?).add_subclass(Stream))
    }

    /// Receives what there is into a writable buffer, at most `maxlen` bytes: how many came, 0 at the end of the stream.
    ///
    /// `recv(n)` with a number returns up to `n` bytes as `bytes`, allocated only once there is something to read.
    /// When the `clock()` value `expires` passes, the socket is closed and `Timeout` is raised. recv(2).
    #[pyo3(signature = (buf, maxlen=None, *, expires=None))]
    fn recv<'py>(
        slf: &Bound<'py, Self>,
        buf: &Bound<'py, PyAny>,
        maxlen: Option<&Bound<'py, PyAny>>,
        expires: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        ops::recv(slf.as_super(), buf, maxlen, expires)
    }

    /// Receives exactly `n` bytes (default: the buffer's length) into a writable buffer and returns how many. If the
    /// stream ends before, raises `Closed`, with what came in `received`.
    #[pyo3(signature = (buf, n=None, *, expires=None))]
    fn recvn<'py>(
        slf: &Bound<'py, Self>,
        buf: &Bound<'py, PyAny>,
        n: Option<&Bound<'py, PyAny>>,
        expires: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        ops::recvn(slf.as_super(), buf, n, expires)
    }

    /// Receives until the end of the stream and returns it all. More than `maxlen` bytes: `message_too_long`. What came
    /// before an error is in its `data`.
    #[pyo3(signature = (maxlen=None, *, expires=None))]
    fn recvall<'py>(
        slf: &Bound<'py, Self>,
        maxlen: Option<&Bound<'py, PyAny>>,
        expires: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        ops::recvall(slf.as_super(), maxlen, expires)
    }

    /// Sends all of a buffer, or its first `maxlen` bytes, and returns how many. Do not change the buffer meanwhile: what
    /// is sent is what it holds at that moment. What was sent before an error is in its `sent`. send(2).
    #[pyo3(signature = (data, maxlen=None, *, expires=None))]
    fn send<'py>(
        slf: &Bound<'py, Self>,
        data: &Bound<'py, PyAny>,
        maxlen: Option<&Bound<'py, PyAny>>,
        expires: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        ops::send(slf.as_super(), data, maxlen, expires)
    }

    /// Waits for a connection: (TCP, remote address, local address). Connections that were aborted before they were
    /// accepted are skipped. Without descriptors: `too_many_open_files`, and the connection waits on. accept(2).
    #[pyo3(signature = (expires=None))]
    fn accept<'py>(slf: &Bound<'py, Self>, expires: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        ops::accept(slf.as_super(), expires)
    }

    #[pyo3(signature = (file, offset, count=None, expires=None))]
    fn _sendfile<'py>(
        slf: &Bound<'py, Self>,
        file: i64,
        offset: u64,
        count: Option<usize>,
        expires: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        ops::send_file(slf.as_super(), file, offset, count, expires)
    }

    fn _listen(slf: &Bound<'_, Self>, backlog: i32) -> PyResult<()> {
        let this = slf.as_super().get();
        this.call(slf.py(), "listen", |socket| socket.listen(backlog))?;
        if let Some(address) = this.local() {
            let _ = this.source.local.set(address);
        }
        Ok(())
    }

    /// Ends one direction, 'r' or 'w', or both, 'rw', without waiting. 'w' sends a FIN after the data that was sent.
    /// shutdown(2).
    #[pyo3(signature = (how="rw"))]
    fn shutdown(slf: &Bound<'_, Self>, how: &str) -> PyResult<()> {
        let how = match how {
            "r" => std::net::Shutdown::Read,
            "w" => std::net::Shutdown::Write,
            "rw" => std::net::Shutdown::Both,
            other => {
                return Err(PyValueError::new_err(format!("shutdown takes 'r', 'w' or 'rw', not '{other}'")));
            }
        };
        slf.as_super().get().call(slf.py(), "shutdown", |socket| socket.shutdown(how))
    }
}

/// The Rust half of datagram and raw sockets.
#[pyclass(frozen, subclass, extends = Socket, module = "sock._sock")]
pub struct Datagram(Senders);

impl Datagram {
    pub fn senders(&self) -> &Senders {
        &self.0
    }
}

#[pymethods]
impl Datagram {
    #[new]
    fn new(new: &NewSocket) -> PyResult<PyClassInitializer<Self>> {
        Ok(PyClassInitializer::from(Socket::new(new)?).add_subclass(Datagram(Senders::default())))
    }

    /// Receives the next datagram into a writable buffer, at most `maxlen` bytes, and returns how many came. With a
    /// `host`, and a `port` unless any will do, the next one from that address; others are dropped meanwhile.
    ///
    /// `recv(n)` with a number returns up to `n` bytes as `bytes`. One that does not fit is a `message_too_long` on
    /// every OS: what did fit is in the buffer, or in the error's `data`, and counted in its `received`. recvfrom(2).
    #[pyo3(
        signature = (buf, maxlen=None, host=None, port=None, *, expires=None),
        text_signature = "($self, buf, maxlen=None, host=None, port=0, *, expires=None)"
    )]
    fn recv<'py>(
        slf: &Bound<'py, Self>,
        buf: &Bound<'py, PyAny>,
        maxlen: Option<&Bound<'py, PyAny>>,
        host: Option<&Bound<'py, PyAny>>,
        port: Option<&Bound<'py, PyAny>>,
        expires: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let socket = slf.as_super();
        match datagrams::peer(socket.get(), host, port)? {
            Peer::Any => datagrams::recv_from(socket, buf, maxlen, false, None, expires),
            Peer::Address(only) => datagrams::recv_from(socket, buf, maxlen, false, Some(only.get()), expires),
            Peer::Name => slf.call_method1("_recv_by_name", (buf, maxlen, host, port, expires)),
        }
    }

    /// As `recv`, and tells the sender: (how many bytes, or the bytes; its `SockAddr`), which goes back into `send`.
    #[pyo3(signature = (buf, maxlen=None, *, expires=None))]
    fn recvfrom<'py>(
        slf: &Bound<'py, Self>,
        buf: &Bound<'py, PyAny>,
        maxlen: Option<&Bound<'py, PyAny>>,
        expires: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        datagrams::recv_from(slf.as_super(), buf, maxlen, true, None, expires)
    }

    /// Sends a datagram, of a buffer or of its first `maxlen` bytes, to an address, or to the connected one; returns its
    /// length. An empty one is a datagram too. A `SockAddr` is taken as it is, names are looked up. sendto(2).
    #[pyo3(
        signature = (data, maxlen=None, host=None, port=None, *, expires=None),
        text_signature = "($self, data, maxlen=None, host=None, port=0, *, expires=None)"
    )]
    fn send<'py>(
        slf: &Bound<'py, Self>,
        data: &Bound<'py, PyAny>,
        maxlen: Option<&Bound<'py, PyAny>>,
        host: Option<&Bound<'py, PyAny>>,
        port: Option<&Bound<'py, PyAny>>,
        expires: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let socket = slf.as_super();
        match datagrams::peer(socket.get(), host, port)? {
            Peer::Any => datagrams::send_to(socket, data, maxlen, None, expires),
            Peer::Address(to) => datagrams::send_to(socket, data, maxlen, Some(to), expires),
            Peer::Name => slf.call_method1("_send_by_name", (data, maxlen, host, port, expires)),
        }
    }

    /// Receives datagrams, one at least and at most one into each buffer, in as few system calls as the OS allows:
    /// a list of (length, sender's `SockAddr`). If some do not fit, raises `message_too_long`, with the whole list in the
    /// error's `datagrams`. With a number in place of buffers, at most so many, as bytes: a list that `sendmany` takes.
    /// recvmmsg(2).
    #[pyo3(signature = (bufs, *, expires=None))]
    fn recvmany<'py>(
        slf: &Bound<'py, Self>,
        bufs: &Bound<'py, PyAny>,
        expires: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        datagrams::recv_many(slf.as_super(), bufs, expires)
    }

    /// Sends datagrams, given as (data, address) pairs, in as few system calls as the OS allows, and returns how many.
    /// The address is a `SockAddr`, or None for the connected one. How many went before an error is in its `sent`.
    /// sendmmsg(2).
    #[pyo3(signature = (items, *, expires=None))]
    fn sendmany<'py>(
        slf: &Bound<'py, Self>,
        items: &Bound<'py, PyAny>,
        expires: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        datagrams::send_many(slf.as_super(), items, expires)
    }
}
