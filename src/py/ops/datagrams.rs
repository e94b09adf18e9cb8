//! Datagrams, one or several for each system call. Each comes whole, or it is an error that says what of it fitted.

use std::cell::UnsafeCell;

use pyo3::types::{PyList, PyTuple};

use crate::address::Family;

use crate::sys::OsAddress;

use super::super::socket::Datagram;
use super::{
    Address, Arg, Attached, Attempt, Bound, Lease, Making, Moved, Op, Outcome, Py, PyAny, PyAnyMethods, PyBufferError,
    PyBytes, PyErr, PyResult, PyTypeError, PyValueError, Python, SockAddr, Socket, Source, What, count, counted, error,
    fail, ffi, io, limit, number, with_scratch,
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
    pub(super) fn gives_bytes(&self) -> bool {
        self.bytes
    }

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

/// Pinned buffers. They never move, since exporters may point into their views: there is room for all from the start.
pub(super) struct Views(Vec<ffi::Py_buffer>);

impl Views {
    fn with_capacity(count: usize) -> Self {
        Views(Vec::with_capacity(count))
    }

    /// Pins one more: where it is, and how long.
    fn pin(&mut self, object: &Bound<'_, PyAny>, writable: bool) -> PyResult<(*mut u8, usize)> {
        if self.0.len() == self.0.capacity() {
            return Err(PyValueError::new_err("the buffers changed while they were looked at"));
        }
        let flags = if writable { ffi::PyBUF_WRITABLE } else { ffi::PyBUF_SIMPLE };
        let place = self.0.spare_capacity_mut()[0].as_mut_ptr();
        // SAFETY: both pointers are valid; the view is released by `clear`, and only if this succeeds.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), place, flags) } == 0 {
            // SAFETY: PyObject_GetBuffer filled it.
            return Ok(unsafe {
                self.0.set_len(self.0.len() + 1);
                ((*place).buf.cast(), (*place).len as usize)
            });
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

    pub(super) fn clear(&mut self) {
        for view in &mut self.0 {
            // SAFETY: a view that PyObject_GetBuffer filled, released once, by an OS thread that is attached: operations
            // are stepped and dropped by calls from Python.
            unsafe { ffi::PyBuffer_Release(view) };
        }
        self.0.clear();
    }
}

impl Drop for Views {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Where datagrams that are received together go.
pub(super) enum Rooms {
    /// One into each buffer.
    Buffers(Views),
    /// As new bytes, so many at most.
    Bytes(usize),
}

impl Rooms {
    pub(super) fn clear(&mut self) {
        if let Rooms::Buffers(views) = self {
            views.clear();
        }
    }
}

/// Datagrams taken at once as new bytes.
const BATCH: usize = 64;

/// From one to the next in the scratch: room for the longest of IP, and not a multiple of a page, or all their first
/// bytes would share one set of the processor's cache.
const STRIDE: usize = (1 << 16) + 1088;

thread_local! {
    /// Made when first used; the system gives memory only where datagrams are written.
    static SCRATCH: UnsafeCell<Vec<u8>> = const { UnsafeCell::new(Vec::new()) };
}

/// Lends room for `count` datagrams until it returns; `call` runs no code of others.
fn with_rooms<R>(count: usize, longest: usize, call: impl FnOnce(&[(*mut u8, usize)]) -> R) -> R {
    let lend = |data: *mut u8, stride: usize| {
        let rooms: Vec<_> = (0..count).map(|i| (data.wrapping_add(i * stride), longest)).collect();
        call(&rooms)
    };
    // An OS thread that ends may run threads when its room has gone.
    if longest <= STRIDE
        && let Ok(scratch) = SCRATCH.try_with(UnsafeCell::get)
    {
        // SAFETY: this OS thread's own, used by nobody else meanwhile, and there until then, as no code of others runs.
        let scratch = unsafe { &mut *scratch };
        if scratch.is_empty() {
            *scratch = vec![0; BATCH * STRIDE];
        }
        return lend(scratch.as_mut_ptr(), STRIDE);
    }
    lend(Vec::<u8>::with_capacity(count * longest).as_mut_ptr(), longest)
}

/// Several datagrams on their way out. The pointers are the views'.
pub(super) struct Outgoing {
    all: Vec<(*const u8, usize, Option<OsAddress>)>,
    views: Views,
}

impl Outgoing {
    pub(super) fn clear(&mut self) {
        self.all.clear();
        self.views.clear();
    }
}

/// The addresses of the last senders, as objects: who sends often costs no new one each time. A slot for each of so
/// many hashes of an address.
#[derive(Default)]
pub struct Senders(parking_lot::Mutex<Vec<Option<Py<SockAddr>>>>);

impl Senders {
    /// A table grows where two senders want the same place.
    const FEWEST: usize = 16;
    const MOST: usize = 1024;

    fn object<'py>(&self, py: Python<'py>, from: Option<Address>) -> PyResult<Bound<'py, PyAny>> {
        let Some(from) = from else {
            return Ok(py.None().into_bound(py));
        };
        let Address::V4(inet) = &from else {
            return Ok(SockAddr(from).into_pyobject(py)?.into_any());
        };
        let hash = u32::from(*inet.ip()) ^ u32::from(inet.port()).wrapping_mul(0x9E37_79B1) >> 16;
        // A length is 0 or a power of two.
        let place = |length: usize| hash as usize & length.wrapping_sub(1);
        {
            let slots = self.0.lock();
            if let Some(Some(known)) = slots.get(place(slots.len()))
                && known.get().0 == from
            {
                return Ok(known.bind(py).clone().into_any());
            }
        }
        let new = Bound::new(py, SockAddr(from))?;
        let old = {
            let mut slots = self.0.lock();
            let length = slots.len();
            let grows = length == 0 || length < Self::MOST && slots[place(length)].is_some();
            let before = if grows {
                let longer = std::iter::repeat_with(|| None).take((2 * length).max(Self::FEWEST)).collect();
                std::mem::replace(&mut *slots, longer)
            } else {
                Vec::new()
            };
            let length = slots.len();
            (before, slots[place(length)].replace(new.clone().unbind()))
        };
        drop(old); // under no lock
        Ok(new.into_any())
    }
}

/// What came, and from whom.
fn pair<'py>(py: Python<'py>, what: Py<PyAny>, from: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: a new tuple of two, or null with an exception set; it takes over both references.
    unsafe {
        let pair = Bound::from_owned_ptr_or_err(py, ffi::PyTuple_New(2))?;
        ffi::PyTuple_SET_ITEM(pair.as_ptr(), 0, what.into_ptr());
        ffi::PyTuple_SET_ITEM(pair.as_ptr(), 1, from.into_ptr());
        Ok(pair)
    }
}

impl Op {
    fn senders<'a>(&self) -> &'a Senders {
        // SAFETY: operations on datagrams are made by methods of `Datagram` alone; as `socket`.
        unsafe { self.object::<Datagram>().unwrap_unchecked() }.senders()
    }

    /// A failed call, which is made again where it was of an earlier datagram, and of no concern here.
    fn datagram_failed(&self, py: Python<'_>, lease: &Lease<'_>, failed: io::Error) -> Outcome<Attempt> {
        match lease.datagram_failure(failed) {
            Some(failed) => self.failed(py, &failed),
            None => Ok(Attempt::Again),
        }
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
            let what = format!(
                "{}: the datagram is longer than the {room} bytes for it: its rest is lost; 65535 bytes hold any",
                self.describe(py)
            );
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
        Ok(Attempt::Done(pair(py, data, self.senders().object(py, got.from)?)?.unbind()))
    }

    #[inline(never)]
    pub(super) fn send_datagram(&mut self, py: Python<'_>, source: &Source, lease: &Lease<'_>) -> Outcome<Attempt> {
        let What::SendTo(to) = &self.what else {
            return Ok(Attempt::WouldBlock);
        };
        let address = to.as_ref().map(|to| OsAddress::new(&to.get().0)).transpose();
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
        let What::RecvMany(rooms) = &self.what else {
            return Ok(Attempt::WouldBlock);
        };
        let got = match &**rooms {
            Rooms::Buffers(views) => {
                let rooms: Vec<_> = views.0.iter().map(|view| (view.buf.cast::<u8>(), view.len as usize)).collect();
                // SAFETY: the rooms are the pinned buffers.
                unsafe { lease.recv_many(&rooms) }.map(|(got, failed)| {
                    // Most are as long as the one before.
                    let mut last = (0, number(py, 0));
                    let datagrams = got.into_iter().map(|each| {
                        if each.len != last.0 {
                            last = (each.len, number(py, each.len));
                        }
                        let length = last.1.clone_ref(py);
                        (length, each)
                    });
                    (datagrams.collect::<Vec<_>>(), failed)
                })
            }
            // All the bytes first: to make a tuple may run the garbage collector, and so code of others.
            Rooms::Bytes(count) => {
                let longest = if source.family() == Family::Unix { LONGEST } else { 1 << 16 };
                with_rooms((*count).min(BATCH), longest, |rooms| {
                    // SAFETY: the rooms are lent, and read only as far as they were written.
                    unsafe { lease.recv_many(rooms) }.map(|(got, failed)| {
                        let datagrams = got.into_iter().zip(rooms).map(|(each, &(data, _))| {
                            // SAFETY: the system wrote so many bytes there.
                            let bytes = PyBytes::new(py, unsafe { std::slice::from_raw_parts(data, each.len) });
                            (bytes.into_any().unbind(), each)
                        });
                        (datagrams.collect::<Vec<_>>(), failed)
                    })
                })
            }
        };
        let got = match got {
            Ok((got, None)) => got,
            Ok((got, Some(failed))) => {
                if let Some(failed) = lease.datagram_failure(failed) {
                    let mut stale = Vec::new();
                    source.keep_failure(failed, &mut stale);
                }
                got
            }
            Err(failed) => return self.datagram_failed(py, lease, failed),
        };
        let truncated = got.iter().filter(|(_, each)| each.truncated).count();
        let mut received = 0;
        let mut pairs = Vec::with_capacity(got.len());
        for (what, each) in got {
            received += each.len;
            pairs.push(pair(py, what, self.senders().object(py, each.from)?)?);
        }
        let all = PyList::new(py, pairs)?;
        source.received.add(received);
        if truncated > 0 {
            let what = format!(
                "{}: {truncated} datagrams are longer than the buffers for them: their rest is lost; what came is in \
                 the error's datagrams",
                self.describe(py)
            );
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
            Ok((n, failed)) => {
                source.sent.add(left[..n].iter().map(|each| each.1).sum());
                self.moved += n;
                match failed {
                    // The next call would not tell it again, where it is of an earlier datagram.
                    Some(failed) => self.datagram_failed(py, lease, failed),
                    None if self.moved == self.want => Ok(Attempt::Done(number(py, self.moved))),
                    None => Ok(Attempt::Again),
                }
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
        if let Some(port) = port
            && !port.eq(0)?
        {
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
    // SAFETY: until the operation is made, a part of what attached callers have; then of its object.
    let to = to.map(|to| unsafe { Attached::new(to.unbind()) });
    let mut op = Making::on_socket(socket, What::SendTo(to), expires)?;
    op.pin(socket.py(), data, false)?;
    op.want = limit(maxlen, op.room(), "maxlen")?;
    Ok(op.made())
}

/// What an iterable has, as a list of our own.
fn listed<'py>(items: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    // SAFETY: a live object; the result is a new list, or null with an exception set.
    unsafe { Ok(Bound::from_owned_ptr_or_err(items.py(), ffi::PySequence_List(items.as_ptr()))?.cast_into_unchecked()) }
}

pub fn recv_many<'py>(
    socket: &Bound<'py, Socket>,
    bufs: &Bound<'py, PyAny>,
    expires: Arg<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the object is alive.
    if unsafe { ffi::PyLong_Check(bufs.as_ptr()) } != 0 {
        let rooms = Rooms::Bytes(counted(bufs, "recvmany(n)", "datagram", 1)?);
        return Ok(Making::on_socket(socket, What::RecvMany(Box::new(rooms)), expires)?.made());
    }
    let bufs = listed(bufs)?;
    if bufs.is_empty() {
        return Err(PyValueError::new_err("recvmany takes one buffer at least"));
    }
    let mut views = Views::with_capacity(bufs.len());
    for buf in &bufs {
        if views.pin(&buf, true)?.1 == 0 {
            return Err(PyValueError::new_err("recvmany needs room for one byte at least in each buffer"));
        }
    }
    Ok(Making::on_socket(socket, What::RecvMany(Box::new(Rooms::Buffers(views))), expires)?.made())
}

pub fn send_many<'py>(
    socket: &Bound<'py, Socket>,
    items: &Bound<'py, PyAny>,
    expires: Arg<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let items = listed(items)?;
    let mut outgoing = Outgoing { all: Vec::with_capacity(items.len()), views: Views::with_capacity(items.len()) };
    for item in &items {
        let wrong = || PyTypeError::new_err("sendmany takes (data, address) pairs; the address is a SockAddr or None");
        let pair = item.cast::<PyTuple>().ok().filter(|pair| pair.len() == 2).ok_or_else(wrong)?;
        let to = pair.get_item(1)?;
        let address = match to.cast::<SockAddr>() {
            Err(_) if to.is_none() => None,
            Err(_) => return Err(wrong()),
            Ok(address) => {
                check_family(socket.get(), &address.get().0)?;
                Some(OsAddress::new(&address.get().0).map_err(|failed| {
                    error::os(item.py(), &failed, &format!("send to {}", address.get().0), Moved::default())
                })?)
            }
        };
        let (data, length) = outgoing.views.pin(&pair.get_item(0)?, false)?;
        outgoing.all.push((data.cast_const(), length, address));
    }
    let want = outgoing.all.len();
    let mut op = Making::on_socket(socket, What::SendMany(Box::new(outgoing)), expires)?;
    op.want = want;
    Ok(op.made())
}
