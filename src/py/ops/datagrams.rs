//! Datagrams, one or several for each system call. Each comes whole, or it is an error that says what of it fitted.

use pyo3::types::{PyList, PyTuple};
use socket2::SockAddr as OsAddress;

use super::{
    Address, Arg, Attempt, Bound, Lease, Making, Moved, Op, Outcome, Py, PyAny, PyAnyMethods, PyBufferError, PyBytes,
    PyErr, PyResult, PyTypeError, PyValueError, Python, SockAddr, Socket, Source, What, count, error, fail, ffi, io,
    limit, number, sys, with_scratch,
};
use pyo3::prelude::*;

/// No datagram is longer; those of unix sockets may be, as far as the OS's buffers go.
const LONGEST: usize = 1 << 18;

/// How a datagram is received.
pub(super) struct Receive {
    /// As new bytes; else into the buffer.
    bytes: bool,
    /// Its sender is part of the result.
    sender: bool,
    /// The address that it must come from.
    only: Option<Box<Address>>,
}

impl Receive {
    pub(super) fn name(&self) -> &'static str {
        if self.sender { "recvfrom" } else { "recv" }
    }
}

/// The addresses are one, as far as `wanted` says: its port 0 is any port.
fn is_from(wanted: &Address, from: &Address) -> bool {
    match (wanted, from) {
        (Address::V4(wanted), Address::V4(from)) => {
            wanted.ip() == from.ip() && (wanted.port() == 0 || wanted.port() == from.port())
        }
        (Address::V6(wanted), Address::V6(from)) => {
            wanted.ip() == from.ip() && (wanted.port() == 0 || wanted.port() == from.port())
        }
        (wanted, from) => wanted == from,
    }
}

/// A buffer, pinned. In a box, since exporters may point into the view.
pub(super) struct View(Box<ffi::Py_buffer>);

impl View {
    fn new(object: &Bound<'_, PyAny>, writable: bool) -> PyResult<Self> {
        let flags = if writable { ffi::PyBUF_WRITABLE } else { ffi::PyBUF_SIMPLE };
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: both pointers are valid; the view is released by its drop, and only if this succeeds.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, flags) } == 0 {
            return Ok(View(view));
        }
        let failed = PyErr::fetch(object.py());
        let kind = object.get_type().name()?;
        // SAFETY: the object is alive.
        let has_buffer = unsafe { ffi::PyObject_CheckBuffer(object.as_ptr()) } != 0;
        if has_buffer && !(writable && failed.is_instance_of::<PyBufferError>(object.py())) {
            return Err(failed);
        }
        let wanted = if writable {
            "recvmany takes writable, contiguous buffers"
        } else {
            "sendmany takes (data, address) pairs"
        };
        Err(PyTypeError::new_err(format!("{wanted}: this {kind} is no such buffer")))
    }

    fn len(&self) -> usize {
        self.0.len as usize
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: a view that PyObject_GetBuffer filled, released once, by an OS thread that is attached: operations
        // are stepped and dropped by calls from Python.
        unsafe { ffi::PyBuffer_Release(&raw mut *self.0) };
    }
}

/// Several datagrams on their way out. The pointers are the views'.
pub(super) struct Outgoing {
    all: Vec<(*const u8, usize, Option<OsAddress>)>,
    views: Vec<View>,
}

impl Outgoing {
    pub(super) fn clear(&mut self) {
        self.all.clear();
        self.views.clear();
    }
}

fn sender(py: Python<'_>, from: Option<Address>) -> PyResult<Bound<'_, PyAny>> {
    Ok(from.map(SockAddr).into_pyobject(py)?.into_any())
}

impl Op {
    /// A failed call: an ICMP error of an earlier datagram concerns a connected socket alone, and it goes on.
    fn datagram_failed(&self, py: Python<'_>, lease: &Lease<'_>, failed: io::Error) -> Outcome<Attempt> {
        if !sys::is_undelivered(&failed) {
            return self.failed(py, &failed);
        }
        if lease.with(socket2::Socket::peer_addr).is_err() {
            return Ok(Attempt::Again);
        }
        self.failed(py, &sys::undelivered(failed))
    }

    #[inline(never)] // out of the way of the shorter operations
    pub(super) fn recv_datagram(&mut self, py: Python<'_>, source: &Source, lease: &Lease<'_>) -> Outcome<Attempt> {
        let What::Datagram(how) = &self.what else {
            return Ok(Attempt::WouldBlock);
        };
        let room = self.want;
        let with_sender = how.sender || how.only.is_some();
        let (got, bytes) = if how.bytes {
            with_scratch(room, |data| {
                // SAFETY: the scratch has `room` bytes, which are read only as far as they were written.
                unsafe {
                    match lease.recv_from(data, room, with_sender) {
                        Ok(got) => {
                            let bytes = PyBytes::new(py, std::slice::from_raw_parts(data, got.len));
                            (Ok(got), Some(bytes))
                        }
                        failed => (failed, None),
                    }
                }
            })
        } else {
            // SAFETY: the buffer is pinned, and `want` is not beyond its end.
            (unsafe { lease.recv_from(self.data(), room, with_sender) }, None)
        };
        let got = match got {
            Ok(got) => got,
            Err(failed) => return self.datagram_failed(py, lease, failed),
        };
        source.received.add(got.len);
        if let Some(only) = &how.only
            && !got.from.as_ref().is_some_and(|from| is_from(only, from))
        {
            return Ok(Attempt::Again);
        }
        if got.truncated {
            let data = bytes.as_ref().map_or(&[][..], |bytes| bytes.as_bytes());
            let what = format!("{}: the datagram is longer than the {room} bytes for it", self.describe(py));
            let moved = Moved { received: got.len, data, ..Moved::default() };
            return fail(error::named(py, "message_too_long", &what, moved));
        }
        let data = match bytes {
            Some(bytes) => bytes.into_any().unbind(),
            None => number(py, got.len),
        };
        if !how.sender {
            return Ok(Attempt::Done(data));
        }
        let result = PyTuple::new(py, [data.into_bound(py), sender(py, got.from)?])?;
        Ok(Attempt::Done(result.into_any().unbind()))
    }

    #[inline(never)]
    pub(super) fn send_datagram(&mut self, py: Python<'_>, source: &Source, lease: &Lease<'_>) -> Outcome<Attempt> {
        let What::SendTo(to) = &self.what else {
            return Ok(Attempt::WouldBlock);
        };
        let address = to.as_ref().map(|to| to.get().0.to_os()).transpose();
        // SAFETY: the buffer is pinned, and `want` is not beyond its end.
        let sent = address.and_then(|to| unsafe { lease.send_to(self.data(), self.want, to.as_ref()) });
        match sent {
            Ok(n) => {
                source.sent.add(n);
                Ok(Attempt::Done(number(py, n)))
            }
            Err(failed) => self.datagram_failed(py, lease, failed),
        }
    }

    #[inline(never)]
    pub(super) fn recv_many(&mut self, py: Python<'_>, source: &Source, lease: &Lease<'_>) -> Outcome<Attempt> {
        let What::RecvMany(views) = &self.what else {
            return Ok(Attempt::WouldBlock);
        };
        let rooms: Vec<_> = views.iter().map(|view| (view.0.buf.cast::<u8>(), view.len())).collect();
        // SAFETY: the rooms are the pinned buffers.
        let got = match unsafe { lease.recv_many(&rooms) } {
            Ok(got) => got,
            Err(failed) => return self.datagram_failed(py, lease, failed),
        };
        let truncated = got.iter().filter(|each| each.truncated).count();
        let mut received = 0;
        let all = PyList::empty(py);
        for each in got {
            received += each.len;
            all.append((each.len, sender(py, each.from)?))?;
        }
        source.received.add(received);
        if truncated > 0 {
            let what = format!("{}: {truncated} datagrams are longer than the buffers for them", self.describe(py));
            let error = error::named(py, "message_too_long", &what, Moved { received, ..Moved::default() });
            error.value(py).setattr("datagrams", all)?;
            return fail(error);
        }
        Ok(Attempt::Done(all.into_any().unbind()))
    }

    #[inline(never)]
    pub(super) fn send_many(&mut self, py: Python<'_>, source: &Source, lease: &Lease<'_>) -> Outcome<Attempt> {
        let What::SendMany(outgoing) = &self.what else {
            return Ok(Attempt::WouldBlock);
        };
        let left = &outgoing.all[self.moved..];
        if left.is_empty() {
            return Ok(Attempt::Done(number(py, self.moved)));
        }
        // SAFETY: the data is that of the pinned buffers.
        match unsafe { lease.send_many(left) } {
            Ok(n) => {
                source.sent.add(left[..n].iter().map(|each| each.1).sum());
                self.moved += n;
                Ok(if self.moved == self.want { Attempt::Done(number(py, self.moved)) } else { Attempt::Again })
            }
            Err(failed) => self.datagram_failed(py, lease, failed),
        }
    }
}

fn check_family(socket: &Socket, address: &Address) -> PyResult<()> {
    let family = socket.source().family();
    if address.family() == family {
        return Ok(());
    }
    let (theirs, ours) = (address.family().name(), family.name());
    Err(PyValueError::new_err(format!("{address} is an {theirs} address, and the socket is of family {ours}")))
}

/// Whom a datagram goes to, or comes from.
pub enum Peer<'py> {
    /// The connected one, or anybody.
    Any,
    Address(Bound<'py, SockAddr>),
    /// A name or the like: Python looks it up, and comes back with a `SockAddr`.
    Name,
}

#[inline(always)]
pub fn peer<'py>(socket: &Socket, host: Arg<'_, 'py>, port: Arg<'_, 'py>) -> PyResult<Peer<'py>> {
    let Some(host) = host else {
        if port.is_some_and(|port| !port.eq(0).unwrap_or(false)) {
            return Err(PyValueError::new_err("a port is of no use without a host"));
        }
        return Ok(Peer::Any);
    };
    let Ok(address) = host.cast::<SockAddr>() else {
        return Ok(Peer::Name);
    };
    check_family(socket, &address.get().0)?;
    Ok(Peer::Address(address.clone()))
}

/// `recv` and, with the sender in its result, `recvfrom`; `only` from one address, if one is given.
#[inline(always)]
pub fn recv_from<'py>(
    socket: &Bound<'py, Socket>,
    into: &Bound<'py, PyAny>,
    maxlen: Arg<'_, 'py>,
    sender: bool,
    only: Option<&SockAddr>,
    expires: Arg<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = socket.py();
    // SAFETY: the object is alive.
    let bytes = unsafe { ffi::PyLong_Check(into.as_ptr()) } != 0;
    let receive = Receive { bytes, sender, only: only.map(|only| Box::new(only.0.clone())) };
    let name = receive.name();
    let mut op = Making::on_socket(socket, What::Datagram(receive), expires)?;
    if bytes {
        if maxlen.is_some() {
            return Err(PyTypeError::new_err(format!("{name}(n) takes no maxlen: n is the most it returns")));
        }
        op.want = count(into, &format!("{name}(n)"), 1)?.min(LONGEST);
    } else {
        op.pin(py, into, true)?;
        op.want = limit(maxlen, op.room(), "maxlen")?;
        if op.want == 0 {
            return Err(PyValueError::new_err(format!("{name} needs room for one byte at least")));
        }
    }
    Ok(op.made())
}

#[inline(always)]
pub fn send_to<'py>(
    socket: &Bound<'py, Socket>,
    data: &Bound<'py, PyAny>,
    maxlen: Arg<'_, 'py>,
    to: Option<Bound<'py, SockAddr>>,
    expires: Arg<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut op = Making::on_socket(socket, What::SendTo(to.map(Bound::unbind)), expires)?;
    op.pin(socket.py(), data, false)?;
    op.want = limit(maxlen, op.room(), "maxlen")?;
    Ok(op.made())
}

pub fn recv_many<'py>(
    socket: &Bound<'py, Socket>,
    bufs: &Bound<'py, PyAny>,
    expires: Arg<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut views = Vec::new();
    for buf in bufs.try_iter()? {
        let view = View::new(&buf?, true)?;
        if view.len() == 0 {
            return Err(PyValueError::new_err("recvmany needs room for one byte at least in each buffer"));
        }
        views.push(view);
    }
    if views.is_empty() {
        return Err(PyValueError::new_err("recvmany takes one buffer at least"));
    }
    Ok(Making::on_socket(socket, What::RecvMany(Box::new(views)), expires)?.made())
}

pub fn send_many<'py>(
    socket: &Bound<'py, Socket>,
    items: &Bound<'py, PyAny>,
    expires: Arg<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut outgoing = Outgoing { all: Vec::new(), views: Vec::new() };
    for item in items.try_iter()? {
        let item = item?;
        let wrong = || PyTypeError::new_err("sendmany takes (data, address) pairs; the address is a SockAddr or None");
        let pair = item.cast::<PyTuple>().ok().filter(|pair| pair.len() == 2).ok_or_else(wrong)?;
        let to = pair.get_item(1)?;
        let address: Option<Py<SockAddr>> = to.extract().map_err(|_| wrong())?;
        let address = match address {
            None => None,
            Some(address) => {
                check_family(socket.get(), &address.get().0)?;
                Some(address.get().0.to_os().map_err(|failed| {
                    error::os(item.py(), &failed, &format!("send to {}", address.get().0), Moved::default())
                })?)
            }
        };
        let view = View::new(&pair.get_item(0)?, false)?;
        outgoing.all.push((view.0.buf.cast::<u8>().cast_const(), view.len(), address));
        outgoing.views.push(view);
    }
    let want = outgoing.all.len();
    let mut op = Making::on_socket(socket, What::SendMany(Box::new(outgoing)), expires)?;
    op.want = want;
    Ok(op.made())
}
