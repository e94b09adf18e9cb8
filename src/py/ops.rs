//! The awaitables: recv, send, accept, connect, sleep, ... One hand-built heap type, since nothing that `PyO3` makes can
//! fill the `am_send` slot, which lets an `await` that completes at once return its value with no `StopIteration`.
//!
//! Every operation goes the same way, in [`Op::run`]: try the system call; where it would block, park the thread in
//! the socket's direction with its deadline and yield; repeat the call when resumed. An operation that is dropped half
//! way (its coroutine was closed) takes itself out of the direction.
//!
//! An operation belongs to the coroutine that awaits it. `stage` is taken for the length of each step, so that a
//! second await, even from another OS thread, finds it busy and touches nothing.

pub mod datagrams;

use std::cell::UnsafeCell;
use std::ffi::{CStr, c_char, c_int, c_ulong, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::exceptions::{PyBufferError, PyRuntimeError, PyStopIteration, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use self::datagrams::{Outgoing, Receive, Rooms};
use super::address::SockAddr;
use super::attached::Attached;
use super::calls::bug;
use super::error::{self, Moved};
use super::number::{self, NoInt, number};
use super::poller::{deadline, time};
use super::socket::{EXPIRED, NewSocket, Socket};
use super::thread::{Task, listed, running};
use super::{Handle, Hub, Source};
use crate::address::{Address, Family};
use crate::chaos;
use crate::clock;
use crate::readiness::{Readiness, Snapshot};
use crate::socket::{Direction, Waiter};
use crate::sync::Exclusive;
use crate::sys;
use crate::wait::{NEVER, Reason};

/// Bytes that `recv(n)` reads at once without allocating first.
const SCRATCH: usize = 1 << 16;

/// Up to so many bytes, of an object made for many more, are copied to one of their own.
const FEW: usize = SCRATCH / 4;

/// The most that one `recv(n)` allocates.
const LARGEST: usize = 1 << 20;

/// The most of a file that one system call sends: reading it may take the disk's time.
const LARGEST_FILE_PART: usize = 1 << 22;

thread_local! {
    static SCRATCH_BUFFER: UnsafeCell<Box<[u8]>> = UnsafeCell::new(vec![0; SCRATCH].into());
}

type Lease<'a> = crate::socket::Lease<'a, Handle>;

/// Nanoseconds until a call is tried again of which no event tells that it would not block.
const TRY_AGAIN: u64 = 10_000_000;

/// What is being done.
enum What {
    /// Into the buffer, what there is.
    Recv,
    /// Into the buffer, exactly `want` bytes.
    RecvExactly,
    /// As new bytes, what there is, at most `want`.
    RecvBytes,
    /// As new bytes, until the end of the stream.
    #[expect(clippy::box_collection, reason = "a rare case must not make every operation larger")]
    RecvAll(Box<Vec<u8>>),
    Send,
    /// The next datagram.
    Datagram(Receive),
    /// A datagram to an address, or to the connected one.
    SendTo(Option<Attached<SockAddr>>),
    /// The datagrams that are there.
    RecvMany(Box<Rooms>),
    /// Several datagrams, each to its address. `want` and `moved` count datagrams.
    SendMany(Box<Outgoing>),
    SendFile(Box<FilePart>),
    Accept,
    Connect(Box<Connect>),
    Readable,
    Writable,
    /// In the place of a writer, until somebody says that it is over: for `sendfile`, or else for `connect`.
    Hold {
        sends: bool,
    },
    Sleep,
    /// Until `Wait.wake`.
    Wait,
    /// Until a thread has ended.
    Join,
    /// Until `Thread.resume`.
    Suspend,
}

/// A part of a file: `want` bytes from `offset`.
struct FilePart {
    /// Open until the operation is over.
    file: i64,
    offset: u64,
}

struct Connect {
    address: Address,
    begun: bool,
}

impl What {
    fn name(&self) -> &'static str {
        match self {
            What::Recv | What::RecvBytes => "recv",
            What::RecvExactly => "recvn",
            What::RecvAll(_) => "recvall",
            What::Send | What::SendTo(_) => "send",
            What::Datagram(receive) => receive.name(),
            What::RecvMany(_) => "recvmany",
            What::SendMany(_) => "sendmany",
            What::SendFile(_) | What::Hold { sends: true } => "sendfile",
            What::Accept => "accept",
            What::Connect(_) | What::Hold { sends: false } => "connect",
            What::Readable => "readable",
            What::Writable => "writable",
            What::Sleep => "sleep",
            What::Wait => "wait",
            What::Join => "await",
            What::Suspend => "suspend",
        }
    }

    /// Where on a socket it waits.
    fn direction(&self) -> Option<Direction> {
        match self {
            What::Recv
            | What::RecvBytes
            | What::RecvExactly
            | What::RecvAll(_)
            | What::Datagram(_)
            | What::RecvMany(_)
            | What::Accept
            | What::Readable => Some(Direction::Read),
            What::Send
            | What::SendTo(_)
            | What::SendMany(_)
            | What::SendFile(_)
            | What::Connect(_)
            | What::Writable
            | What::Hold { .. } => Some(Direction::Write),
            What::Sleep | What::Wait | What::Join | What::Suspend => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    New,
    /// Let others run before the first try; the direction is not claimed.
    Yielded,
    /// In a direction, among the timers, or about to be woken.
    Parked,
    /// Let others run half-way; the direction stays claimed.
    Paused,
    /// A step runs.
    Busy,
    Done,
}

struct Op {
    what: What,
    stage: Exclusive,
    /// The thread that waits, to be compared with the one that runs. No reference: who wakes the thread keeps it, and
    /// nothing else does, so that a thread that nobody can wake any more goes.
    task: *const Task,
    /// The Socket, Wait or Thread, an owned reference; null for a sleep.
    object: *mut ffi::PyObject,
    /// The pinned buffer; only `obj` is set while there is none, to null.
    buffer: MaybeUninit<ffi::Py_buffer>,
    want: usize,
    moved: usize,
    expires: u64,
    since: u64,
}

#[repr(C)]
struct OpObject {
    base: ffi::PyObject,
    op: MaybeUninit<Op>,
}

/// A boxed error makes the usual result small enough for registers.
type Outcome<T> = Result<T, Box<PyErr>>;

#[cold]
fn outside(what: &str) -> PyErr {
    PyRuntimeError::new_err(format!(
        "{what} waits, so it works only inside a sock thread: start one with sock.newthread() or sock.run()"
    ))
}

#[cold]
fn of_itself(py: Python<'_>, thread: &Task) -> PyErr {
    PyRuntimeError::new_err(format!("thread '{}' awaits itself: that would never end", thread.full_name(py)))
}

#[cold]
fn elsewhere() -> PyErr {
    PyRuntimeError::new_err("this operation waits in another thread: await it in one")
}

#[cold]
fn fail<T>(error: PyErr) -> Outcome<T> {
    Err(Box::new(error))
}

/// The result of one step.
enum Step {
    Done(Py<PyAny>),
    Pending,
}

static OP_TYPE: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(ptr::null_mut());
/// Operations that wait for what other threads do. Threads that wait for each other are garbage once nobody else can
/// wake them, and the collector must find the way from one to the next.
static TRACKED_TYPE: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(ptr::null_mut());

/// How one attempt of a system call ended.
enum Attempt {
    Done(Py<PyAny>),
    /// Something moved and more is wanted: try again at once.
    Again,
    WouldBlock,
}

impl Op {
    /// Not to be awaited yet, nor missed when it goes.
    fn new(what: What) -> Self {
        let mut buffer = MaybeUninit::<ffi::Py_buffer>::uninit();
        // SAFETY: a field of a place that is ours.
        unsafe { (&raw mut (*buffer.as_mut_ptr()).obj).write(ptr::null_mut()) };
        Op {
            what,
            stage: Exclusive::new(Stage::Done as usize),
            task: ptr::null(),
            object: ptr::null_mut(),
            buffer,
            want: 0,
            moved: 0,
            expires: NEVER,
            since: 0,
        }
    }

    /// The result is a number and an address, or a few bytes: nothing that matters if it lives on for a while.
    #[cfg_attr(Py_3_14, allow(dead_code))]
    fn gives_plain_data(&self) -> bool {
        match &self.what {
            What::Datagram(receive) => !receive.gives_bytes() || self.want <= SCRATCH,
            What::RecvBytes => self.want <= SCRATCH,
            _ => false,
        }
    }

    /// The operation's object, if it is a `T`.
    ///
    /// # Safety
    /// It is one, or there is none, and the result is not used when the operation is gone.
    unsafe fn object<'a, T: pyo3::PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync>(
        &self,
    ) -> Option<&'a T> {
        // SAFETY: a Py is a pointer to an object, borrowed here; its class is as the caller says.
        (!self.object.is_null()).then(|| unsafe { &*ptr::from_ref((*(&raw const self.object).cast::<Py<T>>()).get()) })
    }

    /// The socket of an operation that has a direction.
    fn socket<'a>(&self) -> &'a Socket {
        // SAFETY: operations with a direction are made by `Making::on_socket` alone, whose object is a Socket. What is borrowed
        // here is used within one step, or one drop, of this operation.
        unsafe { self.object().unwrap_unchecked() }
    }

    fn source<'a>(&self) -> &'a Arc<Source> {
        self.socket().source()
    }

    fn waited_for<'a>(&self) -> Option<&'a Wait> {
        // SAFETY: a What::Wait is made by `Wait.__await__` alone, with the Wait as its object; as `socket`.
        if matches!(self.what, What::Wait) { unsafe { self.object() } } else { None }
    }

    fn joined<'a>(&self) -> Option<&'a Task> {
        // SAFETY: a What::Join is made by `join` alone, with the thread as its object; as `socket`.
        if matches!(self.what, What::Join) { unsafe { self.object() } } else { None }
    }

    /// Where the pinned buffer begins.
    fn data(&self) -> *mut u8 {
        // SAFETY: called with a pinned buffer alone.
        unsafe { (*self.buffer.as_ptr()).buf.cast() }
    }

    /// How long the pinned buffer is.
    fn room(&self) -> usize {
        // SAFETY: as `data`.
        unsafe { (*self.buffer.as_ptr()).len as usize }
    }

    #[inline(always)]
    fn pin(&mut self, py: Python<'_>, object: &Bound<'_, PyAny>, writable: bool) -> PyResult<()> {
        if self.pin_plain(object, writable) {
            return Ok(());
        }
        let flags = if writable { ffi::PyBUF_WRITABLE } else { ffi::PyBUF_SIMPLE };
        // SAFETY: both pointers are valid; the view is released by `unpin`.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), self.buffer.as_mut_ptr(), flags) } == 0 {
            return Ok(());
        }
        Err(self.refuse(py, object, writable))
    }

    /// What bytes, or a bytearray, would do, without asking them: they are most buffers. `false`: it is another one.
    #[inline(always)]
    fn pin_plain(&mut self, object: &Bound<'_, PyAny>, writable: bool) -> bool {
        let object = object.as_ptr();
        let view = self.buffer.as_mut_ptr();
        // SAFETY: `object` is alive and what its type says, and `view` is ours. It has a reference of its own, as any.
        unsafe {
            let data = if !writable && ffi::PyBytes_CheckExact(object) != 0 {
                ffi::PyBytes_AS_STRING(object).cast_mut()
            } else if let Some(data) = export(object) {
                data
            } else {
                return false;
            };
            ffi::Py_INCREF(object);
            (&raw mut (*view).obj).write(object);
            (&raw mut (*view).buf).write(data.cast());
            (&raw mut (*view).len).write(ffi::Py_SIZE(object));
        }
        true
    }

    /// Why an object cannot be the buffer, from what its exporter said.
    #[cold]
    fn refuse(&self, py: Python<'_>, object: &Bound<'_, PyAny>, writable: bool) -> PyErr {
        let error = PyErr::fetch(py);
        let kind = object.get_type().name().map(|name| name.to_string()).unwrap_or_default();
        if object.is_instance_of::<PyString>() && !writable {
            return PyTypeError::new_err("send takes bytes, not str: encode it first, e.g. text.encode()");
        }
        // SAFETY: the object is alive.
        if unsafe { ffi::PyObject_CheckBuffer(object.as_ptr()) } == 0 {
            let wanted = match self.what {
                What::RecvExactly => "a writable buffer such as a bytearray",
                _ if writable => "a writable buffer such as a bytearray, or a number of bytes",
                _ => "bytes or another buffer",
            };
            return PyTypeError::new_err(format!("{} takes {wanted}, not {kind}", self.what.name()));
        }
        if writable && error.is_instance_of::<PyBufferError>(py) {
            return PyTypeError::new_err(format!(
                "{} needs a writable, contiguous buffer such as a bytearray; this {kind} is not: {error}",
                self.what.name()
            ));
        }
        error
    }

    /// The buffer is no longer needed. Runs Python: an exporter may do anything then.
    fn unpin(&mut self) {
        // SAFETY: `obj` is always set; released once: PyBuffer_Release sets it to null.
        unsafe {
            let view = self.buffer.as_mut_ptr();
            let object = (*view).obj;
            if !object.is_null() {
                if ffi::PyBytes_CheckExact(object) == 0 && !take_back(object) {
                    return ffi::PyBuffer_Release(view);
                }
                (*view).obj = ptr::null_mut();
                return ffi::Py_DECREF(object);
            }
        }
        match &mut self.what {
            What::RecvMany(rooms) => rooms.clear(),
            What::SendMany(outgoing) => outgoing.clear(),
            _ => {}
        }
    }

    fn moved(&self) -> Moved<'_> {
        match &self.what {
            What::Send | What::SendTo(_) | What::SendMany(_) | What::SendFile(_) => {
                Moved { sent: self.moved, ..Moved::default() }
            }
            What::RecvAll(data) => Moved { received: data.len(), data, ..Moved::default() },
            _ => Moved { received: self.moved, ..Moved::default() },
        }
    }

    /// What is tried and on which address: 'recv tcp 127.0.0.1:7000'.
    fn describe(&self, py: Python<'_>) -> String {
        if let Some(thread) = self.joined() {
            return format!("await thread {}", thread.full_name(py));
        }
        match (&self.what, self.waited_for()) {
            (What::Sleep | What::Suspend, _) => self.what.name().to_owned(),
            (_, Some(wait)) => wait.what.bind(py).to_string_lossy().into_owned(),
            (What::Connect(connect), _) => {
                format!("connect {} {}", self.socket().kind_name(), connect.address)
            }
            (What::SendTo(Some(to)), _) => format!("send {} {}", self.socket().kind_name(), to.get().0),
            _ => self.socket().describe(self.what.name()),
        }
    }

    /// One step: what `send` of the awaitable does. The stage is `Busy` meanwhile.
    fn run(&mut self, py: Python<'_>, stage: Stage) -> Outcome<Step> {
        match stage {
            Stage::New | Stage::Yielded => {
                let Some(task) = running(py) else { return self.run_outside(py) };
                let wait = task.get().wait();
                if wait.take_cancelled() {
                    return fail(error::cancelled(py, &self.describe(py), self.moved()));
                }
                // A sleep into the past only lets others run; of 0 s it is that without a look at the clock.
                let past = matches!(self.what, What::Sleep) && (self.expires == 0 || self.expires <= clock::now());
                let yields = match stage {
                    Stage::New => past || !wait.spend() && self.lets_others_run(task.get()),
                    _ => chaos::is_on() && self.lets_others_run(task.get()),
                };
                if yields {
                    if chaos::is_on()
                        && let Some(until) = self.held_up_until(task.get())
                        && let Some(direction) = self.what.direction()
                    {
                        if !self.source().direction(direction).claim(task.get().id() as usize) {
                            return fail(self.busy(py, direction));
                        }
                        self.hold_up(&task, until);
                    } else {
                        self.next(Stage::Yielded);
                    }
                    return Ok(Step::Pending);
                }
                if past {
                    let limit = task.get().limit();
                    if limit != NEVER && limit <= clock::now() {
                        self.begin_wait(task.get());
                        return fail(self.nothing_came(py));
                    }
                    return Ok(Step::Done(py.None()));
                }
                if let Some(direction) = self.what.direction() {
                    if !self.source().direction(direction).claim(task.get().id() as usize) {
                        return fail(self.busy(py, direction));
                    }
                    let result = self.attempts(py, &task, direction, false);
                    if !matches!(result, Ok(Step::Pending)) {
                        self.source().direction(direction).release();
                    }
                    return result;
                }
                self.run_waiting(py, &task)
            }
            Stage::Parked => {
                let Some(task) = running(py) else { return fail(outside(self.what.name())) };
                let reason = task.get().wait().reason();
                if let Some(direction) = self.what.direction() {
                    if reason != Reason::Event {
                        // An event has taken it out.
                        drop(self.source().direction(direction).unpark());
                    }
                    let result = match reason {
                        Reason::Cancelled => fail(error::cancelled(py, &self.describe(py), self.moved())),
                        reason => self.attempts(py, &task, direction, reason == Reason::Expired),
                    };
                    if !matches!(result, Ok(Step::Pending)) {
                        self.source().direction(direction).release();
                    }
                    return result;
                }
                self.finish_waiting(py, &task, reason)
            }
            Stage::Paused => {
                let Some(task) = running(py) else { return fail(outside(self.what.name())) };
                // Only operations that have a direction pause.
                let direction = self.what.direction().unwrap_or(Direction::Read);
                let result = if task.get().wait().take_cancelled() {
                    fail(error::cancelled(py, &self.describe(py), self.moved()))
                } else if self.is_late_now(task.get()) {
                    fail(self.timeout(py))
                } else {
                    self.attempts(py, &task, direction, false)
                };
                if !matches!(result, Ok(Step::Pending)) {
                    self.source().direction(direction).release();
                }
                result
            }
            // `step` has refused both.
            Stage::Busy | Stage::Done => fail(elsewhere()),
        }
    }

    /// A step in no thread: only what need not wait can be had there.
    #[cold]
    fn run_outside(&self, py: Python<'_>) -> Outcome<Step> {
        match self.joined().and_then(|thread| thread.outcome(py)) {
            Some(outcome) => Ok(Step::Done(outcome?)),
            None => fail(match self.waited_for() {
                Some(wait) => outside(wait.what.bind(py).to_str()?),
                None => outside(self.what.name()),
            }),
        }
    }

    /// The budget is used up. In chaos it always is, and others run now and then, once or several times; not before
    /// a `suspend()`, as resumes are counted by it.
    #[cold]
    #[inline(never)]
    fn lets_others_run(&self, task: &Task) -> bool {
        if chaos::is_on() {
            task.wait().exhaust();
            return !matches!(self.what, What::Suspend) && chaos::strikes(task.id(), 3);
        }
        true
    }

    /// In chaos: sometimes what would only let others run begins, or goes on, some milliseconds later, by its own
    /// deadline at the latest.
    #[cold]
    #[inline(never)]
    fn held_up_until(&self, task: &Task) -> Option<u64> {
        self.what.direction()?;
        let now = clock::now();
        let until = now.saturating_add(chaos::delay(task.id())?).min(self.until(task));
        (until > now).then_some(until)
    }

    /// Waits for a time alone: no event ends that. The direction is claimed.
    #[cold]
    #[inline(never)]
    fn hold_up(&mut self, task: &Bound<'_, Task>, until: u64) {
        let this = task.get();
        self.begin_wait(this);
        let (_, earliest) = this.wait().park(until, &this.hub().timers, || task.clone().unbind());
        if earliest {
            this.hub().rearm();
        }
        self.next(Stage::Parked);
    }

    /// As if an event had come; others run before it is looked at.
    #[cold]
    #[inline(never)]
    fn is_woken_for_nothing(&mut self, task: &Task, ready: &Readiness<Waiter<Handle>>) -> bool {
        let struck = chaos::strikes(task.id(), 8);
        if struck {
            drop(ready.event(false));
            self.begin_wait(task);
            self.next(Stage::Paused);
        }
        struck
    }

    /// When it is too late: its own deadline, or the nearer one of the thread.
    fn until(&self, task: &Task) -> u64 {
        self.expires.min(task.limit())
    }

    /// An operation that has not waited yet has no entry among the timers, by which the loop would know the time.
    fn is_late_now(&self, task: &Task) -> bool {
        let until = self.until(task);
        until != NEVER && until <= clock::now()
    }

    fn is_late(&self, task: &Task) -> bool {
        self.until(task) <= task.hub().now()
    }

    /// Whether no event tells that the call would not block any more, so that only time ends the wait for it: room in
    /// the backlog, or in the queue, of another unix socket is announced to nobody else.
    fn is_unannounced(&self) -> bool {
        matches!(self.what, What::Connect(_) | What::SendTo(Some(_)) | What::SendMany(_))
            && self.source().family() == Family::Unix
    }

    /// Tries the system call until it is done or would block, then parks.
    fn attempts(
        &mut self,
        py: Python<'_>,
        task: &Bound<'_, Task>,
        direction: Direction,
        expired: bool,
    ) -> Outcome<Step> {
        let source = self.source();
        let ready = source.direction(direction);
        let mut must_try = expired;
        // Some waits end before the deadline, by a time of their own: what is unannounced, and what chaos has held up.
        let expired = expired && self.is_late(task.get());
        loop {
            let seen = ready.snapshot();
            if seen.is_closed() {
                return fail(self.socket().closed_error(py, &self.describe(py), self.moved()));
            }
            if self.want == 0 && matches!(self.what, What::Send | What::RecvExactly) {
                return Ok(Step::Done(number(py, 0)));
            }
            if seen.is_ready() || must_try || self.is_unannounced() {
                must_try = false;
                let Some(lease) = source.lease_unless_failed() else {
                    if let Some(done) = self.kept_failure(py, source)? {
                        return Ok(done);
                    }
                    continue;
                };
                let attempt = self.attempt(py, source, &lease, seen, direction)?;
                if !seen.is_ready() && self.is_unannounced() && !matches!(attempt, Attempt::WouldBlock) {
                    tell_the_next(ready);
                }
                match attempt {
                    Attempt::Done(value) => return Ok(Step::Done(value)),
                    Attempt::Again => {
                        if !task.get().wait().spend() && self.lets_others_run(task.get()) {
                            // What is always ready must not starve others.
                            if chaos::is_on()
                                && let Some(until) = self.held_up_until(task.get())
                            {
                                self.hold_up(task, until);
                            } else {
                                self.begin_wait(task.get());
                                self.next(Stage::Paused);
                            }
                            return Ok(Step::Pending);
                        }
                        must_try = expired;
                        continue;
                    }
                    Attempt::WouldBlock => ready.would_block(seen),
                }
            }
            // Also where an event came first: those of a busy socket may come with each poll.
            if expired || self.is_late(task.get()) {
                return fail(self.timeout(py));
            }
            if chaos::is_on() && self.is_woken_for_nothing(task.get(), ready) {
                return Ok(Step::Pending);
            }
            match source.register(task.get().hub()) {
                Ok(true) => {}
                Ok(false) => {
                    return fail(PyRuntimeError::new_err(format!(
                        "{}: a thread of another Poller waits on this socket: let one Poller have both directions",
                        self.describe(py)
                    )));
                }
                Err(failed) => {
                    return fail(error::os(py, &failed, &self.describe(py), self.moved()));
                }
            }
            if self.park(task, Some(source)) {
                return Ok(Step::Pending);
            }
        }
    }

    /// There was no lease: the socket is closed, which the caller finds, or an earlier operation has left an error.
    #[cold]
    #[inline(never)]
    fn kept_failure(&self, py: Python<'_>, source: &Source) -> Outcome<Option<Step>> {
        match self.what {
            // The next one tells it.
            What::Readable | What::Writable => Ok(source.has_failure().then(|| Step::Done(py.None()))),
            // It was of the peer before.
            What::Connect(_) => {
                drop(source.take_failure());
                Ok(None)
            }
            _ => match source.take_failure() {
                Some(failed) => fail(error::os(py, &failed, &self.describe(py), self.moved())),
                None => Ok(None),
            },
        }
    }

    /// Announces the wait. `false`: there is something to look at already.
    fn park(&mut self, task: &Bound<'_, Task>, source: Option<&Source>) -> bool {
        let this = task.get();
        self.begin_wait(this);
        let mut until = self.until(this);
        if self.is_unannounced() {
            until = until.min(clock::now().saturating_add(TRY_AGAIN));
        }
        let (epoch, earliest) = this.wait().park(until, &this.hub().timers, || task.clone().unbind());
        if let (Some(source), Some(direction)) = (source, self.what.direction()) {
            let waiter = Waiter { thread: task.clone().unbind(), epoch, since: self.since };
            if source.direction(direction).park(waiter).is_err() {
                this.wait().unpark();
                return false;
            }
        } else if self.waited_for().is_some_and(|wait| !wait.park(task, epoch))
            || self.joined().is_some_and(|thread| !thread.join(task, epoch))
            || matches!(self.what, What::Suspend) && !this.suspend(epoch)
        {
            this.wait().unpark();
            return false;
        }
        if earliest {
            this.hub().rearm();
        }
        self.next(Stage::Parked);
        true
    }

    fn begin_wait(&mut self, task: &Task) {
        self.task = task;
        if self.since == 0 {
            // A sleep tells its length by it; elsewhere it is for messages alone.
            self.since = if matches!(self.what, What::Sleep) { clock::now() } else { clock::about_now() };
        }
    }

    /// Leaves a wait half-way: the coroutine was closed.
    fn withdraw(&self, py: Python<'_>) {
        if let Some(direction) = self.what.direction() {
            drop(self.source().direction(direction).unpark());
            self.source().direction(direction).release();
        } else if let Some(wait) = self.waited_for() {
            drop(wait.finish(true));
        } else if let Some(thread) = self.joined() {
            thread.unjoin(self.task);
        }
        if let Some(task) = running(py).filter(|task| ptr::eq(self.task, task.get())) {
            task.get().wait().unpark();
        }
    }

    /// A sleep, or a wait for another thread.
    fn run_waiting(&mut self, py: Python<'_>, task: &Bound<'_, Task>) -> Outcome<Step> {
        if self.joined().is_some_and(Task::is_done) {
            return self.finish_waiting(py, task, Reason::Event);
        }
        if self.park(task, None) {
            return Ok(Step::Pending);
        }
        self.finish_waiting(py, task, Reason::Event)
    }

    fn finish_waiting(&mut self, py: Python<'_>, task: &Bound<'_, Task>, reason: Reason) -> Outcome<Step> {
        if matches!(self.what, What::Suspend) {
            return match task.get().resumed(reason == Reason::Cancelled) {
                Some(value) => Ok(Step::Done(value)),
                None if reason == Reason::Expired => fail(self.nothing_came(py)),
                None => fail(error::cancelled(py, &self.describe(py), self.moved())),
            };
        }
        if let Some(thread) = self.joined() {
            if reason != Reason::Event {
                thread.unjoin(self.task);
            }
            return match (reason, thread.outcome(py)) {
                (Reason::Event, Some(outcome)) => Ok(Step::Done(outcome?)),
                (Reason::Event, None) if thread.is_done() => Ok(Step::Done(py.None())),
                (Reason::Event, None) => self.run_waiting(py, task),
                (Reason::Expired, _) => fail(self.nothing_came(py)),
                (Reason::Cancelled, _) => fail(error::cancelled(py, &self.describe(py), self.moved())),
            };
        }
        let Some(wait) = self.waited_for() else {
            return match reason {
                Reason::Cancelled => fail(error::cancelled(py, &self.describe(py), self.moved())),
                // Not the sleep's own time, but the thread's.
                Reason::Expired if task.get().limit() < self.expires => fail(self.nothing_came(py)),
                _ => Ok(Step::Done(py.None())),
            };
        };
        // A value that came in time is never thrown away; a cancel that came first keeps it out.
        match wait.finish(reason == Reason::Cancelled) {
            Some(value) => Ok(Step::Done(value)),
            None if reason == Reason::Cancelled => fail(error::cancelled(py, &self.describe(py), self.moved())),
            None if reason == Reason::Expired => fail(self.nothing_came(py)),
            None => self.run_waiting(py, task),
        }
    }

    /// The deadline of a wait that is no socket's passed.
    fn nothing_came(&self, py: Python<'_>) -> PyErr {
        let passed = clock::now().saturating_sub(self.since) as f64 / 1e9;
        // What is waited for by a Wait is known to who made it, who adds what there is to say.
        let advice = match &self.what {
            What::Sleep => "; a deadline of the thread came first",
            What::Join => "; that thread goes on: cancel() ends it, sock.dump() shows what it waits for",
            What::Suspend => "; nobody has called the thread's resume()",
            _ => "",
        };
        let what = format!("{}: not done after {passed:.3} s{advice}", self.describe(py));
        error::named(py, "timeout", &what, Moved::default())
    }

    fn timeout(&self, py: Python<'_>) -> PyErr {
        let moved = self.moved();
        let bytes = match &self.what {
            What::Send => format!(", {} of {} bytes sent", moved.sent, self.want),
            What::SendMany(_) => format!(", {} of {} datagrams sent", moved.sent, self.want),
            What::SendFile(_) => format!(", {} bytes sent", moved.sent),
            What::RecvExactly => format!(", {} of {} bytes received", moved.received, self.want),
            What::Recv | What::RecvBytes | What::RecvAll(_) | What::Datagram(_) => {
                format!(", {} bytes received", moved.received)
            }
            What::SendTo(_) => ", nothing sent".to_owned(),
            What::RecvMany(_) => ", no datagram received".to_owned(),
            _ => String::new(),
        };
        let now = clock::now();
        let since = if self.since == 0 { now } else { self.since };
        let waited = if self.expires < since {
            let early = (since - self.expires) as f64 / 1e9;
            format!("expires was {early:.3} s before (it is a time of sock.clock(), as sock.clock() + 5)")
        } else {
            format!("not done after {:.3} s", now.saturating_sub(since) as f64 / 1e9)
        };
        let advice = match &self.what {
            What::Connect(_) | What::Hold { sends: false } => "is the peer up, and does no firewall drop the packets?",
            What::Accept => "listen with another one, or allow more time",
            _ if self.socket().kind_name() == "tcp" => "connect another one, or allow more time",
            _ => "make another one, or allow more time",
        };
        let what = format!("{}: {waited}{bytes}; the socket is closed: {advice}", self.describe(py));
        let error = error::named(py, "timeout", &what, moved);
        self.socket().close_because(py, EXPIRED);
        error
    }

    fn busy(&self, py: Python<'_>, direction: Direction) -> PyErr {
        let doing = if direction == Direction::Read { "reads" } else { "writes" };
        let holder = self.source().direction(direction).with_waiter(|waiter| {
            (waiter.thread.get().id(), waiter.thread.get().label(py), waiter.thread.get().is_named(), waiter.since)
        });
        let who = holder.map_or_else(
            // It lets others run, half-way or between two tries.
            || self.claimant(py, direction).map_or("another thread".to_owned(), |name| format!("thread '{name}'")),
            |(id, label, named, since)| {
                let label = label.bind(py).to_string_lossy();
                let name = if named { label.into_owned() } else { format!("{label}-{id}") };
                let passed = clock::now().saturating_sub(since) as f64 / 1e9;
                format!("thread '{name}' has waited there for {passed:.3} s and")
            },
        );
        let what = format!(
            "{}: {who} {doing} this socket; one thread may read while another writes: let one thread do it, or hold a \
             sock.Lock meanwhile",
            self.describe(py)
        );
        error::named(py, "busy", &what, Moved::default())
    }

    /// The name of the thread that uses a direction, if it is one of the poller's that runs here.
    fn claimant(&self, py: Python<'_>, direction: Direction) -> Option<String> {
        let id = self.source().direction(direction).claimant() as u64;
        let hub = running(py)?.get().hub().clone();
        listed(py, &hub).iter().find(|task| task.get().id() == id).map(|task| task.get().full_name(py))
    }

    /// One system call, and what it means.
    fn attempt(
        &mut self,
        py: Python<'_>,
        source: &Source,
        lease: &Lease<'_>,
        seen: Snapshot,
        direction: Direction,
    ) -> Outcome<Attempt> {
        if chaos::is_on()
            && let Some(result) = self.attempt_part(py, source, lease, seen)
        {
            return result;
        }
        let result = match &mut self.what {
            What::Recv | What::RecvExactly => {
                let room = self.want - self.moved;
                // SAFETY: the buffer is pinned and `want`, checked against its length, bounds the write.
                let got = unsafe { lease.recv(self.data().add(self.moved), room, seen) };
                match got {
                    Ok(n) => return self.received(py, source, n, room),
                    Err(failed) => Err(failed),
                }
            }
            What::RecvBytes => return self.recv_bytes(py, source, lease, seen),
            What::RecvAll(_) => return self.recv_all(py, source, lease, seen),
            What::Send => {
                let left = self.want - self.moved;
                // SAFETY: the buffer is pinned and `want` is not beyond its end.
                let sent = unsafe { lease.send(self.data().add(self.moved), left) };
                match sent {
                    Ok(n) => return Ok(self.sent(py, source, seen, n, left)),
                    Err(failed) => Err(failed),
                }
            }
            What::Datagram(_) => return self.recv_datagram(py, source, lease),
            What::SendTo(_) => return self.send_datagram(py, source, lease),
            What::RecvMany(_) => return self.recv_many(py, source, lease),
            What::SendMany(_) => return self.send_many(py, source, lease),
            What::SendFile(_) => return self.send_file(py, source, lease),
            What::Accept => return self.accept(py, lease),
            What::Connect(connect) => match connect_step(connect, lease, source) {
                Ok(true) => Ok(Attempt::Done(py.None())),
                Ok(false) => Ok(Attempt::WouldBlock),
                Err(error) => Err(error),
            },
            What::Readable | What::Writable => lease
                .is_ready(direction == Direction::Write)
                .map(|ready| if ready { Attempt::Done(py.None()) } else { Attempt::WouldBlock }),
            What::Hold { .. } => {
                source.write.would_block(seen);
                Ok(if seen.is_ready() { Attempt::Done(py.None()) } else { Attempt::WouldBlock })
            }
            What::Sleep | What::Wait | What::Join | What::Suspend => Ok(Attempt::WouldBlock),
        };
        result.or_else(|failed| self.failed(py, &failed))
    }

    /// In chaos: the call moves a part of what it might. `None`: it goes on as always.
    #[cold]
    #[inline(never)]
    fn attempt_part(
        &mut self,
        py: Python<'_>,
        source: &Source,
        lease: &Lease<'_>,
        seen: Snapshot,
    ) -> Option<Outcome<Attempt>> {
        if !matches!(self.what, What::Recv | What::RecvExactly | What::Send) {
            return None;
        }
        let sends = matches!(self.what, What::Send);
        let all = self.want - self.moved;
        let part = part(py, all);
        // SAFETY: the buffer is pinned and `want`, checked against its length, bounds the read or the write.
        let moved = unsafe {
            let data = self.data().add(self.moved);
            if sends { lease.send(data, part) } else { lease.recv(data, part, seen) }
        };
        Some(match moved {
            // The OS may take, or have, more.
            Ok(n) if n == part && n < all && !matches!(self.what, What::Recv) => {
                (if sends { &source.sent } else { &source.received }).add(n);
                self.moved += n;
                Ok(Attempt::Again)
            }
            Ok(n) if sends => Ok(self.sent(py, source, seen, n, all)),
            Ok(n) => self.received(py, source, n, all),
            Err(failed) => self.failed(py, &failed),
        })
    }

    /// `n` bytes of the `left` ones went.
    fn sent(&mut self, py: Python<'_>, source: &Source, seen: Snapshot, n: usize, left: usize) -> Attempt {
        source.sent.add(n);
        self.moved += n;
        if n == left {
            return Attempt::Done(number(py, self.moved));
        }
        if sys::SHORT_MEANS_DRAINED {
            source.write.drained(seen);
        }
        Attempt::Again
    }

    fn failed(&self, py: Python<'_>, failed: &io::Error) -> Outcome<Attempt> {
        match failed.kind() {
            io::ErrorKind::WouldBlock => Ok(Attempt::WouldBlock),
            io::ErrorKind::Interrupted => Ok(Attempt::Again),
            // Linux's word also for a socket that never was connected.
            io::ErrorKind::BrokenPipe
                if self.source().peer.get().is_none() && self.source().family() != Family::Unix =>
            {
                let what = format!("{}: it was never connected: connect() comes first", self.describe(py));
                fail(error::named(py, "not_connected", &what, self.moved()))
            }
            _ => fail(error::os(py, failed, &self.describe(py), self.moved())),
        }
    }

    /// `n` bytes came into the buffer, which had `room`.
    #[inline(always)]
    fn received(&mut self, py: Python<'_>, source: &Source, n: usize, room: usize) -> Outcome<Attempt> {
        source.received.add(n);
        self.moved += n;
        if matches!(self.what, What::Recv) {
            return Ok(Attempt::Done(number(py, self.moved)));
        }
        if n == room {
            return Ok(Attempt::Done(number(py, self.moved)));
        }
        if n == 0 {
            let what = format!(
                "{}: the peer ended the stream after {} of {} bytes; recv() takes what there is",
                self.describe(py),
                self.moved,
                self.want
            );
            return fail(error::named(py, "closed", &what, self.moved()));
        }
        Ok(Attempt::Again)
    }

    #[inline(never)] // out of the way of the shorter operations
    fn recv_bytes(&mut self, py: Python<'_>, source: &Source, lease: &Lease<'_>, seen: Snapshot) -> Outcome<Attempt> {
        let room = part(py, self.want.min(LARGEST));
        let got = if room > SCRATCH {
            recv_large(py, lease, room, seen)
        } else {
            with_scratch(room, |data| {
                // SAFETY: the scratch has `room` bytes, which are read only as far as they were written.
                unsafe {
                    let n = lease.recv(data, room, seen)?;
                    Ok((n, PyBytes::new(py, std::slice::from_raw_parts(data, n))))
                }
            })
        };
        match got {
            Ok((n, bytes)) => {
                source.received.add(n);
                Ok(Attempt::Done(bytes.into_any().unbind()))
            }
            Err(failed) => self.failed(py, &failed),
        }
    }

    #[inline(never)] // out of the way of the shorter operations
    fn recv_all(&mut self, py: Python<'_>, source: &Source, lease: &Lease<'_>, seen: Snapshot) -> Outcome<Attempt> {
        let most = self.want;
        let What::RecvAll(data) = &mut self.what else {
            return Ok(Attempt::WouldBlock);
        };
        // One byte beyond the limit tells "exactly the limit, then the end" from "more than the limit".
        let room = part(py, (most - data.len()).saturating_add(1).min(data.len().clamp(SCRATCH, LARGEST)));
        // However much a peer sends, it ends no process.
        if data.try_reserve(room).is_err() && data.try_reserve_exact(room).is_err() {
            let received = data.len();
            **data = Vec::new();
            let what = format!(
                "{}: no memory for more than the {received} bytes that came, which are lost; give it a maxlen",
                self.describe(py)
            );
            return fail(error::named(py, "no_buffer_space", &what, Moved { received, ..Moved::default() }));
        }
        let begin = data.len();
        // SAFETY: `reserve` made room for `room` bytes beyond the length, and as many as were written count.
        let got = unsafe { lease.recv(data.as_mut_ptr().add(begin), room, seen).inspect(|&n| data.set_len(begin + n)) };
        if let Ok(n @ 1..) = got {
            source.received.add(n);
        }
        match got {
            Ok(0) => Ok(Attempt::Done(error::bytes(py, data)?.into_any().unbind())),
            Ok(_) if data.len() > most => {
                let what = format!(
                    "{}: more than {most} bytes, its maxlen, came before the end; they are in the error's data",
                    self.describe(py)
                );
                fail(error::named(py, "message_too_long", &what, self.moved()))
            }
            Ok(_) => Ok(Attempt::Again),
            Err(failed) => self.failed(py, &failed),
        }
    }

    #[inline(never)] // out of the way of the shorter operations
    fn send_file(&mut self, py: Python<'_>, source: &Source, lease: &Lease<'_>) -> Outcome<Attempt> {
        let What::SendFile(file) = &self.what else {
            return Ok(Attempt::WouldBlock);
        };
        let left = self.want - self.moved;
        if left == 0 {
            return Ok(Attempt::Done(number(py, self.moved)));
        }
        let (moved, left) = (self.moved, part(py, left));
        // Not under the interpreter: it may wait for the disk.
        match py.detach(|| file_part(lease, file, moved, left)) {
            Ok(0) => Ok(Attempt::Done(number(py, self.moved))),
            Ok(n) => {
                source.sent.add(n);
                self.moved += n;
                Ok(Attempt::Again)
            }
            Err(failed) => self.failed(py, &failed),
        }
    }

    #[inline(never)] // out of the way of the shorter operations
    fn accept(&mut self, py: Python<'_>, lease: &Lease<'_>) -> Outcome<Attempt> {
        match lease.accept() {
            Ok((socket, peer)) => {
                let listener = self.source();
                let new = NewSocket::accepted(listener, socket, &peer, lease);
                let remote = new.peer();
                let local = new.local();
                // SAFETY: an accept has a Socket as its object.
                let object = unsafe { Bound::from_borrowed_ptr(py, self.object) };
                let connection = object.get_type().call1((new,))?;
                let result = (connection, remote.map(SockAddr), local.map(SockAddr)).into_pyobject(py)?;
                Ok(Attempt::Done(result.into_any().unbind()))
            }
            Err(failed) if sys::is_transient_accept(&failed) => Ok(Attempt::Again),
            Err(failed) => self.failed(py, &failed),
        }
    }

    fn next(&self, stage: Stage) {
        self.stage.set(stage as usize);
    }
}

impl Drop for Op {
    fn drop(&mut self) {
        self.unpin();
        // SAFETY: the operation's own reference, or null. Operations are made and dropped by calls from Python.
        unsafe { ffi::Py_XDECREF(self.object) };
    }
}

/// Whoever comes next tries too, though no event tells.
#[cold]
#[inline(never)] // what drops a thread is kept out of the path of each message
fn tell_the_next(ready: &Readiness<Waiter<Handle>>) {
    drop(ready.event(false));
}

/// How many of so many bytes a system call is to move: all, unless in chaos.
fn part(py: Python<'_>, len: usize) -> usize {
    if chaos::is_on() { chaos::part(running(py).map_or(chaos::NOBODY, |task| task.get().id()), len) } else { len }
}

/// Lends memory for one system call, whose result is copied at once: the call runs no Python code.
fn with_scratch<R>(room: usize, call: impl FnOnce(*mut u8) -> R) -> R {
    // An OS thread that ends may run threads when its buffer has gone.
    if room <= SCRATCH
        && let Ok(scratch) = SCRATCH_BUFFER.try_with(UnsafeCell::get)
    {
        // SAFETY: this OS thread's own buffer, used by nobody else meanwhile, and there until then, as no code of others
        // runs.
        return call(unsafe { (*scratch).as_mut_ptr() });
    }
    call(Vec::<u8>::with_capacity(room).as_mut_ptr())
}

/// Up to `room` bytes as the object that they are received into. A large one that is let go of serves the next one, and
/// is in the cache still; a buffer of each connection's own is not. Few bytes are copied to an object of their size: one
/// that was made for many keeps a page, and often a mapping of its own, however short it is cut.
fn recv_large<'py>(
    py: Python<'py>,
    lease: &Lease<'_>,
    room: usize,
    seen: Snapshot,
) -> io::Result<(usize, Bound<'py, PyBytes>)> {
    // SAFETY: a writer of `room` bytes, or null with an exception that is of no memory. It is finished or discarded once,
    // and bytes that were never written are not in what it gives.
    unsafe {
        let writer = ffi::compat::PyBytesWriter_Create(room as ffi::Py_ssize_t);
        if !writer.is_null() {
            let data = ffi::compat::PyBytesWriter_GetData(writer);
            let n = match lease.recv(data.cast(), room, seen) {
                Ok(n) => n,
                Err(failed) => {
                    ffi::compat::PyBytesWriter_Discard(writer);
                    return Err(failed);
                }
            };
            let bytes = if n > FEW {
                ffi::compat::PyBytesWriter_FinishWithSize(writer, n as ffi::Py_ssize_t)
            } else {
                let copy = ffi::PyBytes_FromStringAndSize(data.cast(), n as ffi::Py_ssize_t);
                ffi::compat::PyBytesWriter_Discard(writer);
                copy
            };
            if let Some(bytes) = Bound::from_owned_ptr_or_opt(py, bytes) {
                return Ok((n, bytes.cast_into_unchecked()));
            }
        }
        drop(PyErr::fetch(py));
        Err(io::ErrorKind::OutOfMemory.into())
    }
}

/// As much of the file as the socket takes.
fn file_part(lease: &Lease<'_>, part: &FilePart, moved: usize, left: usize) -> io::Result<usize> {
    lease.send_file(part.file, part.offset + moved as u64, left.min(LARGEST_FILE_PART))
}

/// Lends a bytearray's memory, which stays where it is meanwhile. `None`: it is none, or has perhaps no memory.
///
/// # Safety
/// `object` is alive.
#[cfg(not(Py_GIL_DISABLED))]
#[inline(always)]
unsafe fn export(object: *mut ffi::PyObject) -> Option<*mut c_char> {
    // SAFETY: its type says what it is, and while we are attached nobody else changes it.
    unsafe {
        if ffi::PyByteArray_CheckExact(object) == 0 || ffi::Py_SIZE(object) == 0 {
            return None;
        }
        (*object.cast::<ffi::PyByteArrayObject>()).ob_exports += 1;
        Some(ffi::PyByteArray_AS_STRING(object))
    }
}

/// The end of that. `false`: it is no bytearray.
///
/// # Safety
/// `object` is alive, and if it is a bytearray it was lent.
#[cfg(not(Py_GIL_DISABLED))]
#[inline(always)]
unsafe fn take_back(object: *mut ffi::PyObject) -> bool {
    // SAFETY: as above.
    unsafe {
        let lent = ffi::PyByteArray_CheckExact(object) != 0;
        if lent {
            (*object.cast::<ffi::PyByteArrayObject>()).ob_exports -= 1;
        }
        lent
    }
}

/// There it takes a lock, which is the bytearray's own matter.
#[cfg(Py_GIL_DISABLED)]
unsafe fn export(_object: *mut ffi::PyObject) -> Option<*mut c_char> {
    None
}

#[cfg(Py_GIL_DISABLED)]
unsafe fn take_back(_object: *mut ffi::PyObject) -> bool {
    false
}

/// Begins to connect, or looks how far it is: writable is not yet connected.
fn connect_step(connect: &mut Connect, lease: &Lease<'_>, source: &Source) -> io::Result<bool> {
    if !connect.begun {
        if source.peer.get().is_some() {
            return Err(io::Error::from_raw_os_error(sys::ALREADY_CONNECTED));
        }
        let connected = lease.connect(&connect.address.to_os()?);
        // A unix socket begins anew: the backlog is full.
        connect.begun = !matches!(&connected, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        let connected = connected?;
        if connected {
            source.set_peer(&connect.address);
        }
        return Ok(connected);
    }
    let connected = lease.is_connected()?;
    if connected {
        source.set_peer(&connect.address);
    }
    Ok(connected)
}

/// The memory of the last operation that went, for the next one: most live shortly, one after the other.
#[cfg(not(Py_GIL_DISABLED))]
mod spare {
    use super::{AtomicPtr, OpObject, Ordering, ptr};

    /// Guarded by the interpreter's lock.
    static BLOCK: AtomicPtr<OpObject> = AtomicPtr::new(ptr::null_mut());

    pub fn take() -> Option<*mut OpObject> {
        let block = BLOCK.load(Ordering::Relaxed);
        BLOCK.store(ptr::null_mut(), Ordering::Relaxed);
        (!block.is_null()).then_some(block)
    }

    pub fn keep(block: *mut OpObject) -> bool {
        let free = BLOCK.load(Ordering::Relaxed).is_null();
        if free {
            BLOCK.store(block, Ordering::Relaxed);
        }
        free
    }
}

#[cfg(Py_GIL_DISABLED)]
mod spare {
    use super::{OpObject, per_loop, ptr};

    pub fn take() -> Option<*mut OpObject> {
        per_loop::BLOCK.with(|place| {
            let block = place.get().filter(|block| !block.is_null());
            if block.is_some() {
                place.set(ptr::null_mut());
            }
            block
        })
    }

    pub fn keep(block: *mut OpObject) -> bool {
        per_loop::BLOCK.with(|place| {
            let free = place.get().is_some_and(<*mut _>::is_null);
            if free {
                place.set(block);
            }
            free
        })
    }
}

/// What an OS thread keeps from one operation to the next while it has a loop, where OS threads run in parallel.
#[cfg(Py_GIL_DISABLED)]
pub mod per_loop {
    use std::cell::Cell;

    use super::{OpObject, ffi, ptr};

    /// Whether there is a loop, and what is kept: null, or ours.
    pub(super) struct Place<T>(Cell<(bool, *mut T)>);

    impl<T> Place<T> {
        const fn new() -> Self {
            Place(Cell::new((false, ptr::null_mut())))
        }

        /// `None`: there is no loop.
        pub fn get(&self) -> Option<*mut T> {
            let (loops, kept) = self.0.get();
            loops.then_some(kept)
        }

        /// Only while there is a loop.
        pub fn set(&self, kept: *mut T) {
            self.0.set((true, kept));
        }
    }

    thread_local! {
        pub(super) static EXCEPTION: Place<ffi::PyStopIterationObject> = const { Place::new() };
        pub(super) static BLOCK: Place<OpObject> = const { Place::new() };
    }

    pub fn begin() {
        EXCEPTION.with(|place| place.set(place.0.get().1));
        BLOCK.with(|place| place.set(place.0.get().1));
    }

    /// # Safety
    /// The OS thread is attached.
    pub unsafe fn end() {
        let exception = EXCEPTION.with(|place| place.0.replace((false, ptr::null_mut())).1);
        let block = BLOCK.with(|place| place.0.replace((false, ptr::null_mut())).1);
        // SAFETY: our own reference, or null; memory of an operation that has gone, or null, which is nothing to free.
        unsafe {
            ffi::Py_XDECREF(exception.cast());
            ffi::PyObject_Free(block.cast());
        }
    }
}

/// An operation whose arguments are still being read. Dropped before `made`, it leaves without a word.
struct Making<'py>(Bound<'py, PyAny>);

impl<'py> Making<'py> {
    #[inline(always)] // as all of what follows: the path of each message
    fn new(py: Python<'py>, what: What) -> PyResult<Self> {
        let kind = OP_TYPE.load(Ordering::Relaxed);
        // SAFETY: the type was made by `make_type` with OpObject's size; PyObject_Init makes the block an object with
        // one reference, and the operation is written before anything else sees it.
        unsafe {
            let block = spare::take().unwrap_or_else(|| ffi::PyObject_Malloc(size_of::<OpObject>()).cast());
            if block.is_null() {
                return Err(PyErr::new::<pyo3::exceptions::PyMemoryError, _>(()));
            }
            ffi::PyObject_Init(block.cast(), kind);
            (*block).op.write(Op::new(what));
            Ok(Making(Bound::from_owned_ptr(py, block.cast())))
        }
    }

    /// What waits for an object that threads may hold, and that may hold threads.
    fn tracked(what: What, object: Bound<'py, PyAny>) -> PyResult<Self> {
        let py = object.py();
        // SAFETY: as `new`, with the collector's own memory; it sees the operation once that is whole.
        unsafe {
            let block: *mut OpObject = ffi::PyObject_GC_New(TRACKED_TYPE.load(Ordering::Relaxed));
            if block.is_null() {
                return Err(PyErr::fetch(py));
            }
            (*block).op.write(Op::new(what)).object = object.into_ptr();
            ffi::PyObject_GC_Track(block.cast());
            Ok(Making(Bound::from_owned_ptr(py, block.cast())))
        }
    }

    #[inline(always)]
    fn on_socket(socket: &Bound<'py, Socket>, what: What, expires: Arg<'_, 'py>) -> PyResult<Self> {
        let mut op = Making::new(socket.py(), what)?;
        if expires.is_some() {
            op.expires = deadline(expires)?;
        }
        op.object = socket.clone().into_ptr();
        Ok(op)
    }

    /// It has all it needs.
    fn made(self) -> Bound<'py, PyAny> {
        self.next(Stage::New);
        self.0
    }
}

impl std::ops::Deref for Making<'_> {
    type Target = Op;
    fn deref(&self) -> &Op {
        // SAFETY: an operation that nobody else has yet.
        unsafe { &*op_of(self.0.as_ptr()) }
    }
}

impl std::ops::DerefMut for Making<'_> {
    fn deref_mut(&mut self) -> &mut Op {
        // SAFETY: as `deref`.
        unsafe { &mut *op_of(self.0.as_ptr()) }
    }
}

/// `maxlen` of a call, checked against the buffer's length.
#[inline(always)]
fn limit(maxlen: Option<&Bound<'_, PyAny>>, length: usize, what: &str) -> PyResult<usize> {
    let Some(maxlen) = maxlen else {
        return Ok(length);
    };
    match number::int(maxlen) {
        Ok(n) if n >= 0 => Ok(length.min(n as usize)),
        Ok(n) => Err(PyValueError::new_err(format!("{what} must not be negative, and is {n}"))),
        Err(NoInt::OutOfRange) => Err(PyValueError::new_err(format!("{what} is out of range"))),
        Err(NoInt::Raised(error)) => Err(error),
        Err(NoInt::WrongType) => {
            Err(PyTypeError::new_err(format!("{what} must be an int or None, not {}", maxlen.get_type().name()?)))
        }
    }
}

type Arg<'a, 'py> = Option<&'a Bound<'py, PyAny>>;

#[inline(always)]
pub fn recv<'py>(
    socket: &Bound<'py, Socket>,
    into: &Bound<'py, PyAny>,
    maxlen: Arg<'_, 'py>,
    expires: Arg<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = socket.py();
    // SAFETY: the object is alive.
    let is_number = unsafe { ffi::PyLong_Check(into.as_ptr()) } != 0;
    if is_number {
        let mut op = Making::on_socket(socket, What::RecvBytes, expires)?;
        if maxlen.is_some() {
            return Err(PyTypeError::new_err("recv(n) takes no maxlen: n is the most it returns"));
        }
        op.want = count(into, "recv(n)", 1)?;
        return Ok(op.made());
    }
    let mut op = Making::on_socket(socket, What::Recv, expires)?;
    op.pin(py, into, true)?;
    op.want = limit(maxlen, op.room(), "maxlen")?;
    if op.want == 0 {
        let why = "recv needs room for one byte at least: 0 would look like the end of the stream";
        return Err(PyValueError::new_err(why));
    }
    Ok(op.made())
}

/// A number of bytes.
fn count(n: &Bound<'_, PyAny>, what: &str, least: i64) -> PyResult<usize> {
    counted(n, what, "byte", least)
}

/// A number of `unit`s, `least` or more.
fn counted(n: &Bound<'_, PyAny>, what: &str, unit: &str, least: i64) -> PyResult<usize> {
    match number::int(n) {
        Ok(n) if n >= least => Ok(n as usize),
        Ok(n) => Err(PyValueError::new_err(format!("{what} takes {least} {unit} or more, not {n}"))),
        Err(NoInt::OutOfRange) => Err(PyValueError::new_err(format!("{what}: the number of {unit}s is out of range"))),
        Err(NoInt::Raised(error)) => Err(error),
        Err(NoInt::WrongType) => {
            Err(PyTypeError::new_err(format!("{what} takes a number of {unit}s, not {}", n.get_type().name()?)))
        }
    }
}

pub fn recvn<'py>(
    socket: &Bound<'py, Socket>,
    into: &Bound<'py, PyAny>,
    n: Arg<'_, 'py>,
    expires: Arg<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = socket.py();
    let mut op = Making::on_socket(socket, What::RecvExactly, expires)?;
    let wanted = n.map(|n| count(n, "recvn", 0)).transpose()?;
    op.pin(py, into, true)?;
    let length = op.room();
    op.want = wanted.unwrap_or(length);
    if op.want > length {
        return Err(PyValueError::new_err(format!("recvn of {} bytes into a buffer of {length}", wanted.unwrap_or(0))));
    }
    Ok(op.made())
}

pub fn recvall<'py>(
    socket: &Bound<'py, Socket>,
    maxlen: Arg<'_, 'py>,
    expires: Arg<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut op = Making::on_socket(socket, What::RecvAll(Box::default()), expires)?;
    op.want = limit(maxlen, usize::MAX >> 1, "maxlen")?;
    Ok(op.made())
}

#[inline(always)]
pub fn send<'py>(
    socket: &Bound<'py, Socket>,
    data: &Bound<'py, PyAny>,
    maxlen: Arg<'_, 'py>,
    expires: Arg<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = socket.py();
    let mut op = Making::on_socket(socket, What::Send, expires)?;
    op.pin(py, data, false)?;
    op.want = limit(maxlen, op.room(), "maxlen")?;
    Ok(op.made())
}

/// `file` is an OS descriptor that stays open until the operation is over.
pub fn send_file<'py>(
    socket: &Bound<'py, Socket>,
    file: i64,
    offset: u64,
    count: Option<usize>,
    expires: Arg<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let mut op = Making::on_socket(socket, What::SendFile(Box::new(FilePart { file, offset })), expires)?;
    op.want = count.unwrap_or(usize::MAX);
    Ok(op.made())
}

pub fn accept<'py>(socket: &Bound<'py, Socket>, expires: Arg<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(Making::on_socket(socket, What::Accept, expires)?.made())
}

pub fn connect<'py>(
    socket: &Bound<'py, Socket>,
    address: &SockAddr,
    expires: Arg<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let connect = Connect { address: address.0.clone(), begun: false };
    Ok(Making::on_socket(socket, What::Connect(Box::new(connect)), expires)?.made())
}

pub fn ready<'py>(
    socket: &Bound<'py, Socket>,
    direction: Direction,
    expires: Arg<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let what = if direction == Direction::Read { What::Readable } else { What::Writable };
    Ok(Making::on_socket(socket, what, expires)?.made())
}

pub fn hold<'py>(socket: &Bound<'py, Socket>, sends: bool, expires: Arg<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    Ok(Making::on_socket(socket, What::Hold { sends }, expires)?.made())
}

/// Awaits ``s`` seconds; 0 lets the others run.
#[pyfunction]
pub fn sleep<'py>(py: Python<'py>, s: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let seconds = number::seconds(s, "sleep takes seconds")?;
    let mut op = Making::new(py, What::Sleep)?;
    // `as` saturates: whatever is too long is for ever.
    op.expires = if seconds > 0.0 { clock::now().saturating_add((seconds * 1e9).ceil() as u64) } else { 0 };
    Ok(op.made())
}

/// Awaits a time of `clock()`; infinity and None: until it is cancelled.
#[pyfunction]
pub fn sleep_until<'py>(py: Python<'py>, t: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let mut op = Making::new(py, What::Sleep)?;
    op.expires = time(t, "sleep_until takes")?;
    Ok(op.made())
}

/// Refuses what would be refused if it came to a wait.
#[pyfunction]
#[pyo3(signature = (what, expires=None))]
pub fn check_wait(py: Python<'_>, what: &str, expires: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    if running(py).is_none() {
        return Err(outside(what));
    }
    deadline(expires).map(|_| ())
}

/// Waits until somebody calls `thread.resume(value)`, and returns the value.
#[pyfunction]
pub fn suspend(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    Ok(Making::new(py, What::Suspend)?.made())
}

/// Awaits the end of a thread: its result, or what ended it.
pub fn join<'py>(thread: &Bound<'py, Task>) -> PyResult<Bound<'py, PyAny>> {
    let py = thread.py();
    if !thread.get().is_done() {
        match running(py) {
            Some(task) if task.is(thread) => return Err(of_itself(py, task.get())),
            Some(_) => {}
            None => {
                return Err(PyRuntimeError::new_err(
                    "await a thread inside a sock thread; elsewhere use sock.run(), or result() once it ended",
                ));
            }
        }
    }
    Ok(Making::tracked(What::Join, thread.clone().into_any())?.made())
}

/// What stands for the await of a thread that has returned None; None where the one that runs has to look closer.
pub fn over(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    let task = running(py)?;
    let wait = task.get().wait();
    // SAFETY: it was made an object with the types.
    (!wait.is_cancelled() && wait.spend()).then(|| unsafe { Bound::from_borrowed_ptr(py, OVER.0.get()) })
}

/// What stands for operations that are over before they begin, and return None: most threads that are awaited have ended
/// by then. Never counted down to nothing, since nobody gives back more than was taken.
struct Over(UnsafeCell<ffi::PyObject>);

// SAFETY: only the interpreter changes the object once it is made, as it does with objects that OS threads share.
unsafe impl Sync for Over {}

static OVER: Over = Over(UnsafeCell::new(ffi::PyObject_HEAD_INIT));

unsafe extern "C" fn over_send(
    _over: *mut ffi::PyObject,
    _value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    // SAFETY: the interpreter calls the slot with a place for the result.
    unsafe {
        ffi::Py_INCREF(ffi::Py_None());
        *result = ffi::Py_None();
    }
    ffi::PySendResult::PYGEN_RETURN
}

/// No result and no exception: the end of an iterator, with None.
unsafe extern "C" fn over_next(_over: *mut ffi::PyObject) -> *mut ffi::PyObject {
    ptr::null_mut()
}

/// What a thread waits for that is no socket: awaited once, woken once, from any OS thread, in any order.
#[pyclass(frozen, module = "sock._sock")]
pub struct Wait {
    what: Py<PyString>,
    expires: u64,
    /// Nothing is dropped under this lock.
    slot: parking_lot::Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    value: Option<Py<PyAny>>,
    /// Woken, expired or cancelled: a later value is dropped.
    over: bool,
    waiter: Option<(Handle, u32)>,
}

impl Wait {
    fn park(&self, task: &Bound<'_, Task>, epoch: u32) -> bool {
        let waiter = (task.clone().unbind(), epoch);
        let mut slot = self.slot.lock();
        if slot.value.is_some() {
            drop(slot);
            drop(waiter);
            return false;
        }
        slot.waiter = Some(waiter);
        true
    }

    /// The value, if it has come. Otherwise none will any more.
    fn finish(&self, cancelled: bool) -> Option<Py<PyAny>> {
        let (waiter, value) = {
            let mut slot = self.slot.lock();
            slot.over = true;
            (slot.waiter.take(), slot.value.take())
        };
        drop(waiter);
        value.filter(|_| !cancelled)
    }
}

#[pymethods]
impl Wait {
    #[new]
    #[pyo3(signature = (what, expires=None))]
    fn new(what: Py<PyString>, expires: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        Ok(Wait { what, expires: deadline(expires)?, slot: parking_lot::Mutex::default() })
    }

    /// Ends the wait with a value. False: it is over already, and the value is dropped.
    #[pyo3(signature = (value=None))]
    fn wake(&self, py: Python<'_>, value: Option<Py<PyAny>>) -> bool {
        let value = value.unwrap_or_else(|| py.None());
        let waiter = {
            let mut slot = self.slot.lock();
            if slot.over {
                drop(slot); // before the value
                return false;
            }
            slot.over = true;
            slot.value = Some(value);
            slot.waiter.take()
        };
        if let Some((task, epoch)) = waiter {
            let mut stale = Vec::new();
            Hub::wake(task, epoch, &mut stale);
        }
        true
    }

    /// What is waited for.
    #[getter]
    fn what(&self, py: Python<'_>) -> Py<PyString> {
        self.what.clone_ref(py)
    }

    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let mut op = Making::tracked(What::Wait, slf.clone().into_any())?;
        op.expires = slf.get().expires;
        Ok(op.made())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.what)?;
        // Held by nobody while the world is stopped, except where it was stopped under it.
        let Some(slot) = self.slot.try_lock() else { return Ok(()) };
        visit.call(&slot.value)?;
        slot.waiter.as_ref().map_or(Ok(()), |(waiter, _)| visit.call(waiter))
    }
}

/// # Safety
/// `object` is an operation.
unsafe fn op_of(object: *mut ffi::PyObject) -> *mut Op {
    // SAFETY: as the caller promises; it was written when the object was made.
    unsafe { (*object.cast::<OpObject>()).op.as_mut_ptr() }
}

/// # Safety
/// `object` is an operation, and the OS thread is attached to the interpreter.
#[inline(always)]
unsafe fn step(object: *mut ffi::PyObject) -> Outcome<Step> {
    // SAFETY: the caller is attached.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: as the caller promises. Only the stage is looked at before it is ours.
    let op = unsafe { op_of(object) };
    // SAFETY: an atomic field of a live object.
    let stage = unsafe { &(*op).stage };
    let now = stage.get();
    if now == Stage::Parked as usize || now == Stage::Paused as usize {
        // SAFETY: a field that stays what it is from the first wait to the end.
        let waits = unsafe { (*op).task };
        // Whoever else awaits it gets an error, and the thread that waits hears nothing of that.
        if !running(py).is_some_and(|task| ptr::eq(waits, task.get())) {
            return fail(elsewhere());
        }
    }
    let before = stage.update(|_| Stage::Busy as usize);
    let before = match before {
        0 => Stage::New,
        1 => Stage::Yielded,
        2 => Stage::Parked,
        3 => Stage::Paused,
        4 => {
            return fail(PyRuntimeError::new_err("this operation runs already: await it once, in one thread"));
        }
        _ => {
            // Whoever brought it there lets go of the buffer, and its exporter may call us from in there.
            stage.set(Stage::Done as usize);
            return fail(PyRuntimeError::new_err("this operation was awaited already: call the method again"));
        }
    };
    // SAFETY: whoever swapped `Busy` in from another stage has the operation alone until it stores another.
    let op = unsafe { &mut *op };
    let result =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| op.run(py, before))).unwrap_or_else(|_| fail(bug()));
    if !matches!(result, Ok(Step::Pending)) {
        op.next(Stage::Done);
        op.unpin();
    }
    result
}

unsafe extern "C" fn am_send(
    object: *mut ffi::PyObject,
    _value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    // SAFETY: the interpreter calls the slot of an operation, attached, with a place for the result.
    unsafe {
        match step(object) {
            Ok(Step::Done(value)) => {
                *result = value.into_ptr();
                ffi::PySendResult::PYGEN_RETURN
            }
            Ok(Step::Pending) => {
                ffi::Py_INCREF(ffi::Py_None());
                *result = ffi::Py_None();
                ffi::PySendResult::PYGEN_NEXT
            }
            Err(error) => {
                error.restore(Python::assume_attached());
                *result = ptr::null_mut();
                ffi::PySendResult::PYGEN_ERROR
            }
        }
    }
}

unsafe extern "C" fn iternext(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: as `am_send`.
    unsafe {
        let py = Python::assume_attached();
        match step(object) {
            Ok(Step::Pending) => {
                ffi::Py_INCREF(ffi::Py_None());
                ffi::Py_None()
            }
            Ok(Step::Done(value)) => {
                stop_iteration(py, value, || (*op_of(object)).gives_plain_data());
                ptr::null_mut()
            }
            Err(error) => {
                error.restore(py);
                ptr::null_mut()
            }
        }
    }
}

/// Since 3.12, an `await` looks at `tp_iternext` and not at `am_send`: there each result costs a `StopIteration`. The
/// most frequent ones, None and plain data, do without a new one: no exception at all stands for None, and plain data
/// goes into the same exception again and again, unless somebody has kept it.
#[cfg(all(Py_3_12, not(Py_LIMITED_API)))]
fn stop_iteration(py: Python<'_>, value: Py<PyAny>, plain: impl FnOnce() -> bool) {
    if value.is_none(py) {
        return value.drop_ref(py);
    }
    // SAFETY: what `reused` gives is a StopIteration that we alone refer to, and as we are attached, nobody else sees
    // its fields. The old value is plain data, whose end runs no code.
    unsafe {
        if (ffi::PyLong_CheckExact(value.as_ptr()) != 0 || plain())
            && let Some(reused) = reused::get()
        {
            let old = std::mem::replace(&mut (*reused).value, value.into_ptr());
            ffi::Py_XDECREF(old);
            ffi::Py_INCREF(reused.cast());
            return ffi::PyErr_SetRaisedException(reused.cast());
        }
    }
    PyErr::new::<PyStopIteration, _>((value,)).restore(py);
}

#[cfg(not(all(Py_3_12, not(Py_LIMITED_API))))]
fn stop_iteration(py: Python<'_>, value: Py<PyAny>, _plain: impl FnOnce() -> bool) {
    PyErr::new::<PyStopIteration, _>((value,)).restore(py);
}

/// The `StopIteration` that brings plain data: one for all, or, where OS threads run in parallel, one for each loop.
#[cfg(all(Py_3_12, not(Py_LIMITED_API)))]
mod reused {
    use super::{ffi, ptr};

    /// One that nobody else refers to.
    ///
    /// # Safety
    /// The OS thread is attached.
    pub unsafe fn get() -> Option<*mut ffi::PyStopIterationObject> {
        let mut ours = place::get()?;
        // SAFETY: `ours` is null or an exception that we hold a reference to.
        unsafe {
            if ours.is_null() || !is_ours_alone(ours.cast()) || !(*ours).traceback.is_null() {
                place::set(ptr::null_mut());
                ffi::Py_XDECREF(ours.cast());
                ours = ffi::PyObject_CallNoArgs(ffi::PyExc_StopIteration).cast();
                if ours.is_null() {
                    ffi::PyErr_Clear();
                }
                place::set(ours);
            }
        }
        (!ours.is_null()).then_some(ours)
    }

    /// # Safety
    /// A live object, to which the caller holds a reference.
    unsafe fn is_ours_alone(object: *mut ffi::PyObject) -> bool {
        // SAFETY: as the caller promises.
        unsafe {
            #[cfg(Py_GIL_DISABLED)]
            return ffi::PyUnstable_Object_IsUniquelyReferenced(object) != 0;
            #[cfg(not(Py_GIL_DISABLED))]
            return ffi::Py_REFCNT(object) == 1;
        }
    }

    /// Guarded by the interpreter's lock.
    #[cfg(not(Py_GIL_DISABLED))]
    mod place {
        use super::{ffi, ptr};
        use std::sync::atomic::{AtomicPtr, Ordering};

        static OURS: AtomicPtr<ffi::PyStopIterationObject> = AtomicPtr::new(ptr::null_mut());

        #[allow(clippy::unnecessary_wraps)] // called as the other one
        pub fn get() -> Option<*mut ffi::PyStopIterationObject> {
            Some(OURS.load(Ordering::Relaxed))
        }

        pub fn set(ours: *mut ffi::PyStopIterationObject) {
            OURS.store(ours, Ordering::Relaxed);
        }
    }

    /// Of the OS thread, while it has a loop.
    #[cfg(Py_GIL_DISABLED)]
    mod place {
        use super::super::per_loop::{EXCEPTION, Place};
        use super::ffi;

        pub fn get() -> Option<*mut ffi::PyStopIterationObject> {
            EXCEPTION.with(Place::get)
        }

        pub fn set(ours: *mut ffi::PyStopIterationObject) {
            EXCEPTION.with(|place| place.set(ours));
        }
    }
}

unsafe extern "C" fn itself(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter hands a live object.
    unsafe { ffi::Py_INCREF(object) };
    object
}

unsafe extern "C" fn dealloc<const TRACKED: bool>(object: *mut ffi::PyObject) {
    // SAFETY: the last reference is gone, so the operation is ours alone; it is dropped once and its memory goes back
    // where it came from. The type is a heap type, of which each object holds a reference.
    unsafe {
        let py = Python::assume_attached();
        if TRACKED {
            ffi::PyObject_GC_UnTrack(object.cast());
        }
        let op = &mut *op_of(object);
        let stage = op.stage.get();
        if stage == Stage::New as usize {
            never_awaited(py, op);
        }
        if stage == Stage::Parked as usize || stage == Stage::Paused as usize {
            op.withdraw(py);
        }
        ptr::drop_in_place(op);
        let kind = ffi::Py_TYPE(object);
        if TRACKED {
            ffi::PyObject_GC_Del(object.cast());
        } else if !spare::keep(object.cast()) {
            ffi::PyObject_Free(object.cast());
        }
        ffi::Py_DECREF(kind.cast());
    }
}

/// What an operation waits for, as `Thread.waiting` says it, and whether a socket or its deadline may end that; None
/// while it does not wait.
///
/// Whoever steps the operation may do so meanwhile, in another OS thread: only what never changes is looked at.
#[pyfunction]
pub fn waits_for(operation: &Bound<'_, PyAny>) -> PyResult<Option<(String, bool)>> {
    let py = operation.py();
    // SAFETY: only the type is compared.
    let kind = unsafe { ffi::Py_TYPE(operation.as_ptr()) };
    if kind != OP_TYPE.load(Ordering::Relaxed) && kind != TRACKED_TYPE.load(Ordering::Relaxed) {
        return Err(PyTypeError::new_err("not an operation of sock"));
    }
    // SAFETY: an operation, alive.
    let op = unsafe { op_of(operation.as_ptr()) };
    // SAFETY: an atomic field of a live object.
    let stage = unsafe { (*op).stage.get() };
    if stage != Stage::Parked as usize && stage != Stage::Paused as usize {
        return Ok(None);
    }
    // SAFETY: the kind of an operation, its object, its address and its times stay what they are from its first wait
    // to its end, and the reference that the caller holds keeps it from going.
    let op = unsafe { &*op };
    let text = match (&op.what, op.expires) {
        (What::Sleep, NEVER) => "sleep".to_owned(),
        (What::Sleep, expires) => {
            let seconds = expires.saturating_sub(op.since) as f64 / 1e9;
            format!("sleep {} s", (seconds * 1e3).round() / 1e3)
        }
        _ => op.describe(py),
    };
    Ok(Some((text, op.what.direction().is_some() || op.expires != NEVER)))
}

/// As Python does for a coroutine: a forgotten `await` does nothing at all, silently.
fn never_awaited(py: Python<'_>, op: &Op) {
    if matches!(op.what, What::Wait | What::Join) {
        return;
    }
    // An exception on its way, such as Ctrl-C's, may have come between the call and its await.
    if PyErr::occurred(py) {
        return;
    }
    let message = format!("'{}' was never awaited", op.describe(py));
    if let Ok(message) = std::ffi::CString::new(message) {
        let category = py.get_type::<pyo3::exceptions::PyRuntimeWarning>();
        if let Err(error) = PyErr::warn(py, &category, &message, 1) {
            error.write_unraisable(py, None);
        }
    }
}

unsafe extern "C" fn traverse(object: *mut ffi::PyObject, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: the collector hands a live, tracked operation, whose object never changes.
    unsafe {
        match visit(ffi::Py_TYPE(object).cast(), arg) {
            0 => visit((*op_of(object)).object, arg),
            stop => stop,
        }
    }
}

/// How operations are stepped: by `am_send`, and by `tp_iternext`.
const STEPS: [ffi::PyType_Slot; 2] =
    [slot(ffi::Py_am_send, am_send as *mut c_void), slot(ffi::Py_tp_iternext, iternext as *mut c_void)];

fn make_type<'py>(
    py: Python<'py>,
    doc: &CStr,
    size: usize,
    flags: c_ulong,
    more: &[&[ffi::PyType_Slot]],
) -> PyResult<Bound<'py, PyAny>> {
    let mut slots = vec![
        slot(ffi::Py_am_await, itself as *mut c_void),
        slot(ffi::Py_tp_iter, itself as *mut c_void),
        slot(ffi::Py_tp_doc, doc.as_ptr().cast_mut().cast()),
    ];
    slots.extend(more.concat());
    slots.push(slot(0, ptr::null_mut()));
    let flags =
        flags | ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION | ffi::Py_TPFLAGS_IMMUTABLETYPE;
    let mut spec = ffi::PyType_Spec {
        name: c"sock._sock.Operation".as_ptr(),
        basicsize: size as c_int,
        itemsize: 0,
        flags: flags as _,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the spec and its slots are valid for the call, and name functions of the slots' types.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&raw mut spec)) }
}

const fn slot(slot: c_int, pfunc: *mut c_void) -> ffi::PyType_Slot {
    ffi::PyType_Slot { slot, pfunc }
}

/// Makes the types, once for the process: subinterpreters are refused.
pub fn make_types(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let size = size_of::<OpObject>();
    let end = [slot(ffi::Py_tp_dealloc, dealloc::<false> as *mut c_void)];
    let plain = make_type(py, c"An operation on a socket, or a sleep: await it, once.", size, 0, &[&STEPS, &end])?;
    let seen_into =
        [slot(ffi::Py_tp_dealloc, dealloc::<true> as *mut c_void), slot(ffi::Py_tp_traverse, traverse as *mut c_void)];
    let doc = c"A wait for what other threads do: await it, once.";
    let tracked = make_type(py, doc, size, ffi::Py_TPFLAGS_HAVE_GC, &[&STEPS, &seen_into])?;
    let steps = [slot(ffi::Py_am_send, over_send as *mut c_void), slot(ffi::Py_tp_iternext, over_next as *mut c_void)];
    let over = make_type(py, c"An operation that is over.", size_of::<ffi::PyObject>(), 0, &[&steps])?;
    // SAFETY: nobody has it yet. It keeps its type.
    unsafe { (*OVER.0.get()).ob_type = over.into_ptr().cast() };
    module.add("Operation", &plain)?;
    module.add("operations", (&plain, &tracked))?;
    OP_TYPE.store(plain.into_ptr().cast(), Ordering::Release);
    TRACKED_TYPE.store(tracked.into_ptr().cast(), Ordering::Release);
    Ok(())
}
