//! The Rust halves of `sock`'s sockets.

use std::ffi::CString;
use std::io;
use std::ptr;
use std::sync::Arc;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyType};
use socket2::{Protocol, Type};

use super::address::SockAddr;
use super::error::{self, Moved};
use super::number::{self, NoInt};
use super::ops::datagrams::{self, Peer, Senders};
use super::thread::running;
use super::{Handle, Source, ops, options};
use crate::address::{Address, Family};
use crate::socket::{Direction, Lease};
use crate::sys::{self, Descriptor};

/// Who closed a socket, and where. Before that: nobody, and where it was made, if that is kept.
enum Closer {
    Nobody(Py<PyString>),
    Reason(&'static str),
    /// `at`: the instruction. Which line that is takes longer to find than all the rest, and few ask.
    Place {
        who: Who,
        code: Option<Py<PyAny>>,
        at: i32,
    },
}

/// A thread by its label, which is the whole name or is followed by its number; outside of any, the OS thread's name.
enum Who {
    Thread(Py<PyString>, bool, u64),
    OsThread(Option<Py<PyString>>),
}

impl Who {
    fn here(py: Python<'_>) -> Self {
        running(py).map_or_else(
            || Who::OsThread(os_thread(py).ok()),
            |task| Who::Thread(task.get().label(py), task.get().is_named(), task.get().id()),
        )
    }

    fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Who::Thread(label, named, id) => Who::Thread(label.clone_ref(py), *named, *id),
            Who::OsThread(name) => Who::OsThread(name.as_ref().map(|name| name.clone_ref(py))),
        }
    }

    fn name(&self, py: Python<'_>) -> String {
        match self {
            Who::Thread(label, true, _) => format!("thread '{}'", label.bind(py).to_string_lossy()),
            Who::Thread(label, false, id) => format!("thread '{}-{id}'", label.bind(py).to_string_lossy()),
            Who::OsThread(Some(name)) => format!("OS thread '{}'", name.bind(py).to_string_lossy()),
            Who::OsThread(None) => "an OS thread".to_owned(),
        }
    }
}

/// The name of the OS thread that runs.
fn os_thread(py: Python<'_>) -> PyResult<Py<PyString>> {
    let current = py.import("threading")?.call_method0("current_thread")?;
    Ok(current.getattr("name")?.cast_into::<PyString>()?.unbind())
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
    match Source::make(socket_type, family, protocol) {
        Ok(socket) => Ok(NewSocket::new(socket, socket_type, family, protocol)),
        Err(failed) => {
            Err(error::os(py, &failed, &format!("make a socket: {kind}, {}", family.name()), Moved::default()))
        }
    }
}

/// Takes over an OS socket that something else made.
#[pyfunction]
pub fn adopt(py: Python<'_>, fd: &Bound<'_, PyAny>) -> PyResult<NewSocket> {
    let raw = match number::int(fd) {
        Ok(number) if number >= 0 => sys::RawDescriptor::try_from(number).ok(),
        Ok(_) | Err(NoInt::OutOfRange) => None,
        Err(NoInt::Raised(error)) => return Err(error),
        Err(NoInt::WrongType) => {
            let kind = fd.get_type();
            return Err(PyTypeError::new_err(format!("fromfd takes a descriptor, an int, not {}", kind.name()?)));
        }
    };
    let raw = raw.ok_or_else(|| PyValueError::new_err(format!("{fd} is no descriptor")))?;
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

/// Why most sockets are closed that nobody closes.
pub const EXPIRED: &str = "its deadline passed";

/// Why the others are.
const LEFT: &str = "nobody referred to it any more";

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
            if self.source.kind == Type::STREAM && !sys::PEER_MEANS_CONNECTED {
                return None;
            }
            let address = self.source.lease()?.with(socket2::Socket::peer_addr).ok()?;
            let address = Address::from_os(&address).unwrap_or_else(|| Address::any(self.source.family()));
            if address.is_wildcard() && address.port() == 0 {
                return None; // the address that undid the connection
            }
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

    fn of_connect<R>(&self, py: Python<'_>, result: io::Result<R>) -> PyResult<R> {
        result.map_err(|failed| error::os(py, &failed, &self.describe("connect"), Moved::default()))
    }

    pub fn closed_error(&self, py: Python<'_>, what: &str, moved: Moved<'_>) -> PyErr {
        let (who, place, at) = {
            let closer = self.closer.lock();
            match closer.as_deref() {
                None | Some(Closer::Nobody(_)) => (None, None, 0),
                Some(Closer::Reason(reason)) => {
                    let what = format!("{what}: the socket was closed here: {reason}");
                    drop(closer);
                    return error::named(py, "closed", &what, moved);
                }
                Some(Closer::Place { who, code, at }) => {
                    (Some(who.clone_ref(py)), code.as_ref().map(|code| code.clone_ref(py)), *at)
                }
            }
        };
        let who = who.map(|who| format!(" by {}", who.name(py)));
        let place = place.and_then(|code| {
            let code = code.bind(py);
            let file: String = code.getattr(pyo3::intern!(py, "co_filename")).ok()?.extract().ok()?;
            let function: String = code.getattr(pyo3::intern!(py, "co_name")).ok()?.extract().ok()?;
            // SAFETY: the code of the frame that was there.
            let line = unsafe { ffi::PyCode_Addr2Line(code.as_ptr().cast(), at) };
            Some(format!(" in {function}, {file}:{line}"))
        });
        let what =
            format!("{what}: the socket was closed here{}{}", who.unwrap_or_default(), place.unwrap_or_default());
        error::named(py, "closed", &what, moved)
    }

    fn note_closer(&self, closer: Closer) {
        let mut slot = self.closer.lock();
        if matches!(slot.as_deref(), None | Some(Closer::Nobody(_))) {
            let before = slot.replace(Box::new(closer));
            drop(slot);
            drop(before);
        }
    }

    fn made(&self, py: Python<'_>) -> Option<Py<PyString>> {
        match self.closer.lock().as_deref() {
            Some(Closer::Nobody(made)) => Some(made.clone_ref(py)),
            _ => None,
        }
    }

    pub fn close_because(&self, _py: Python<'_>, reason: &'static str) {
        self.close_noting(|| Closer::Reason(reason));
    }

    fn close_noting(&self, closer: impl FnOnce() -> Closer) {
        if !self.source.is_closed() {
            self.note_closer(closer());
            self.note_address();
            let mut stale = Vec::new();
            self.source.close(&mut stale);
        }
    }

    /// For the messages of whoever uses it when it is closed.
    fn note_address(&self) {
        if self.source.peer.get().is_none()
            && self.source.local.get().is_none()
            && let Some(address) = self.local()
        {
            let _ = self.source.local.set(address);
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

/// Where the Python code is that called us, or its caller.
fn place(py: Python<'_>, of_caller: bool) -> Closer {
    // SAFETY: a borrowed reference to the current frame, or null; what comes of it are new ones.
    let (code, at) = unsafe {
        let frame = ffi::PyEval_GetFrame();
        let caller = if of_caller && !frame.is_null() { ffi::PyFrame_GetBack(frame) } else { ptr::null_mut() };
        let _kept = Bound::from_owned_ptr_or_opt(py, caller.cast());
        let frame = if caller.is_null() { frame } else { caller };
        if frame.is_null() {
            (None, 0)
        } else {
            let code = Bound::from_owned_ptr_or_opt(py, ffi::PyFrame_GetCode(frame).cast());
            (code.map(Bound::unbind), ffi::PyFrame_GetLasti(frame))
        }
    };
    Closer::Place { who: Who::here(py), code, at }
}

#[pymethods]
impl Socket {
    #[new]
    fn new(new: &Bound<'_, PyAny>) -> PyResult<Self> {
        let Ok(new) = new.cast::<NewSocket>() else {
            return Err(PyTypeError::new_err(
                "sockets are made by sock.tcp(), udp(), raw(), fromfd() and fromsocket()",
            ));
        };
        let source = new.get().0.lock().take();
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
    /// What is waited for is a part of `sendfile`, or else of `connect`.
    #[pyo3(signature = (sends, expires=None))]
    fn _hold<'py>(
        slf: &Bound<'py, Self>,
        sends: bool,
        expires: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        ops::hold(slf, sends, expires)
    }

    /// Who waits there tries again.
    fn _nudge(&self) {
        if let Some(waiter) = self.source.write.event(false) {
            super::Hub::wake(waiter.thread, waiter.epoch, &mut Vec::new());
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
        self.close_noting(|| place(py, false));
    }

    /// Where it was made, for the warning about one that nobody closes.
    #[getter]
    fn _made(&self, py: Python<'_>) -> Option<Py<PyString>> {
        self.made(py)
    }

    fn _note_made(&self, place: Py<PyString>) {
        self.note_closer(Closer::Nobody(place));
    }

    /// Nobody is to be warned about it any more.
    fn _note_told(&self) {
        self.note_closer(Closer::Reason(LEFT));
    }

    /// The same for `__exit__`, whose caller closes it.
    fn _leave(&self, py: Python<'_>) {
        self.close_noting(|| place(py, true));
    }

    /// The same where a deadline of it has passed.
    fn _expire(&self, py: Python<'_>) {
        self.close_because(py, EXPIRED);
    }

    /// Gives the OS's descriptor away, open, and leaves this socket closed. Threads that wait on it get `Closed`.
    fn detach(&self, py: Python<'_>) -> PyResult<i64> {
        let gone = || self.closed_error(py, &self.describe("detach"), Moved::default());
        if self.source.is_closed() {
            return Err(gone());
        }
        self.note_closer(Closer::Reason("detach() gave its descriptor away"));
        self.note_address();
        let mut stale = Vec::new();
        self.source.detach(&mut stale).map(sys::number).ok_or_else(gone)
    }

    fn _bind(&self, py: Python<'_>, address: &SockAddr, listens: bool) -> PyResult<()> {
        let what = format!("bind {} {}", self.kind_name(), address.0);
        let _lease = self.lease(py, if listens { "listen" } else { "bind" })?;
        let bound = address.0.to_os().and_then(|os| self.source.bind(&os, listens));
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

    /// Between two addresses of a name. `options`: what the program has set, for a fresh OS socket.
    fn _reconnect(&self, py: Python<'_>, options: &Bound<'_, PyDict>) -> PyResult<()> {
        if sys::RECONNECTS || self.source.kind != Type::STREAM {
            return Ok(());
        }
        self.renew(py, options)
    }

    /// After a connect that was cancelled. `options` as in `_reconnect`.
    fn _give_up_connect(&self, py: Python<'_>, options: &Bound<'_, PyDict>) -> PyResult<()> {
        if self.source.kind != Type::STREAM || self.of_connect(py, self.source.give_up_connect())? {
            return Ok(());
        }
        self.renew(py, options)
    }

    /// A fresh OS socket in place of this one's, with the same options and bound to the same address.
    #[pyo3(name = "_renew")]
    fn renew(&self, py: Python<'_>, set: &Bound<'_, PyDict>) -> PyResult<()> {
        let bound = self.of_connect(py, self.source.renew())?;
        for (name, value) in set {
            options::set(py, self, option_name(&name)?, &value)?;
        }
        bound.map_or(Ok(()), |address| self.of_connect(py, self.source.bind(&address, false)))
    }

    /// Forgets the address that a datagram socket is connected to, and an error that its datagrams met.
    fn _disconnect(&self, py: Python<'_>) -> PyResult<()> {
        let lease = self.lease(py, "disconnect")?;
        let done = lease.disconnect().and_then(|()| lease.with(socket2::Socket::take_error));
        drop(self.source.take_failure());
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

/// Nobody refers to the socket any more: an open one is closed, with a warning.
unsafe extern "C" fn finalize(object: *mut ffi::PyObject) {
    // SAFETY: the interpreter finalizes a live Socket, attached.
    let (py, socket) = unsafe {
        let py = Python::assume_attached();
        (py, Bound::from_borrowed_ptr(py, object).cast_into_unchecked::<Socket>())
    };
    let this = socket.get();
    if this.source.is_closed() {
        return;
    }
    let outer = PyErr::take(py);
    if let Err(error) = unclosed(&socket) {
        error.write_unraisable(py, Some(&socket));
    }
    this.close_because(py, LEFT);
    if let Some(outer) = outer {
        outer.restore(py);
    }
}

fn unclosed(socket: &Bound<'_, Socket>) -> PyResult<()> {
    let py = socket.py();
    if matches!(socket.get().closer.lock().as_deref(), Some(Closer::Reason(_))) {
        return Ok(());
    }
    let made = socket.get().made(py).map_or_else(
        || "; python -X dev says where it was made".to_owned(),
        |made| format!(", made in {}", made.bind(py)),
    );
    let message = CString::new(format!("{}{made}", socket.get().describe("unclosed")))?;
    // SAFETY: a live object, whose allocation `tracemalloc` may know, and strings that end with NUL.
    if unsafe { ffi::PyErr_ResourceWarning(socket.as_ptr(), 1, c"%s".as_ptr(), message.as_ptr()) } < 0 {
        return Err(PyErr::fetch(py));
    }
    Ok(())
}

/// Gives a class derived from `Socket` an end that comes while the object is still whole. It is not inherited.
#[pyfunction]
pub fn finalizes(class_: &Bound<'_, PyType>) -> PyResult<()> {
    let class = class_;
    if !class.is_subclass_of::<Socket>()? {
        return Err(PyTypeError::new_err("not a class of sockets"));
    }
    // SAFETY: a live class of sockets, of which there is no object yet, since it is just being made.
    unsafe { (*class.as_type_ptr()).tp_finalize = Some(finalize) };
    Ok(())
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut stale = Vec::new();
        self.source.close(&mut stale);
    }
}

/// Which directions `shutdown` ends.
#[derive(Clone, Copy)]
struct How(std::net::Shutdown);

impl<'py> FromPyObject<'_, 'py> for How {
    type Error = PyErr;

    fn extract(how: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let Ok(name) = how.cast::<PyString>() else {
            let kind = how.get_type();
            return Err(PyTypeError::new_err(format!("shutdown takes a str, 'r', 'w' or 'rw', not {}", kind.name()?)));
        };
        match &*name.to_string_lossy() {
            "r" => Ok(How(std::net::Shutdown::Read)),
            "w" => Ok(How(std::net::Shutdown::Write)),
            "rw" => Ok(How(std::net::Shutdown::Both)),
            other => Err(PyValueError::new_err(format!("shutdown takes 'r', 'w' or 'rw', not '{other}'"))),
        }
    }
}

/// The Rust half of stream sockets.
#[pyclass(frozen, subclass, extends = Socket, module = "sock._sock")]
pub struct Stream;

#[pymethods]
impl Stream {
    #[new]
    fn new(new: &Bound<'_, PyAny>) -> PyResult<PyClassInitializer<Self>> {
        Ok(PyClassInitializer::from(Socket::new(new)?).add_subclass(Stream))
    }

    /// Receives what there is into a writable buffer, at most `maxlen` bytes: how many came, 0 at the end of the stream.
    ///
    /// `recv(n)` with a number returns up to `n` bytes as `bytes`, for which no memory is held while it waits.
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

    /// Ends one direction, 'r' or 'w', or both, 'rw', without waiting. 'w' sends a FIN after the data that was sent, and
    /// who still sends gets `BrokenPipe`. shutdown(2).
    #[pyo3(signature = (how=How(std::net::Shutdown::Both)), text_signature = "($self, how='rw')")]
    fn shutdown(slf: &Bound<'_, Self>, how: How) -> PyResult<()> {
        let How(how) = how;
        let socket = slf.as_super().get();
        let mut stale = Vec::new();
        socket.call(slf.py(), "shutdown", |_| socket.source.shutdown(how, &mut stale))
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
    fn new(new: &Bound<'_, PyAny>) -> PyResult<PyClassInitializer<Self>> {
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
