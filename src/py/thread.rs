//! The Rust half of `sock.Thread`: its wake state, its hub, its name; and which thread runs on this OS thread.

use std::cell::Cell;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::poller::{Poller, deadline};
use super::{Handle, Hub};
use crate::poller::Thread;
use crate::wait::{NEVER, Reason, Wait};

thread_local! {
    /// The thread that runs on this OS thread. Whoever set it holds a reference until it is set back.
    static CURRENT: Cell<*mut pyo3::ffi::PyObject> = const { Cell::new(std::ptr::null_mut()) };
}

static IDS: AtomicU64 = AtomicU64::new(1);

/// The base of `sock.Thread`.
#[pyclass(frozen, subclass, weakref, module = "sock._sock")]
pub struct Task {
    wait: Wait,
    hub: Arc<Hub>,
    id: u64,
    label: Py<PyString>,
    /// The label is the whole name; else the id follows.
    named: bool,
    done: AtomicBool,
    context: Py<PyAny>,
    /// An owned reference, or null once it has ended. Only the thread's own turn changes it, and its end.
    coro: AtomicPtr<ffi::PyObject>,
    /// No wait goes beyond this time: what `sock.deadline()` has set.
    limit: AtomicU64,
    /// Nothing is dropped under this lock.
    resume: parking_lot::Mutex<Resume>,
}

/// `suspend()` and `resume()`.
#[derive(Default)]
struct Resume {
    /// What `resume` brought, until `suspend` takes it.
    value: Option<Py<PyAny>>,
    /// The wait of the `suspend()` that has not been resumed.
    suspended: Option<u32>,
}

impl Thread for Handle {
    fn wait(&self) -> &Wait {
        &self.get().wait
    }
    fn hub(&self) -> &Arc<Hub> {
        &self.get().hub
    }
}

impl Task {
    pub fn wait(&self) -> &Wait {
        &self.wait
    }

    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    pub fn label(&self, py: Python<'_>) -> Py<PyString> {
        self.label.clone_ref(py)
    }

    pub fn is_named(&self) -> bool {
        self.named
    }

    /// Runs the coroutine up to its next wait, in the thread's own context. `Some`: it has ended.
    pub fn step<'py>(&self, py: Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        // SAFETY: the thread's own reference, or null. Only its own turn gives that back, and this is its turn.
        let coro = unsafe { Bound::from_borrowed_ptr_or_opt(py, self.coro.load(Ordering::Acquire)) }?;
        // SAFETY: a live context; an error is fetched at once.
        if unsafe { ffi::PyContext_Enter(self.context.as_ptr()) } < 0 {
            return Some(Err(PyErr::fetch(py)));
        }
        let mut sent = send(&coro);
        while let Sent::Foreign(what) = sent {
            sent = throw(&coro, self.refusal(&what));
        }
        // SAFETY: entered above.
        if unsafe { ffi::PyContext_Exit(self.context.as_ptr()) } < 0 {
            return Some(Err(PyErr::fetch(py)));
        }
        match sent {
            Sent::Ended(result) => Some(result),
            _ => None,
        }
    }

    /// Why something of another event loop cannot be awaited.
    fn refusal(&self, what: &Bound<'_, PyAny>) -> PyErr {
        let kind = what.get_type().name().map(|name| name.to_string()).unwrap_or_default();
        PyRuntimeError::new_err(format!(
            "thread '{}' awaited '{kind}', which belongs to another event loop: await sock operations, threads and sleeps",
            self.full_name(what.py())
        ))
    }

    /// The wait `epoch` is a `suspend()`. `false`: it has been resumed already.
    pub fn suspend(&self, epoch: u32) -> bool {
        let mut resume = self.resume.lock();
        let waits = resume.value.is_none();
        resume.suspended = waits.then_some(epoch);
        waits
    }

    /// The end of a `suspend()`: what it was resumed with. A cancelled one leaves that for the next.
    pub fn resumed(&self, cancelled: bool) -> Option<Py<PyAny>> {
        let mut resume = self.resume.lock();
        resume.suspended = None;
        if cancelled { None } else { resume.value.take() }
    }

    pub fn full_name(&self, py: Python<'_>) -> String {
        let label = self.label.bind(py).to_string_lossy();
        if self.named { label.into_owned() } else { format!("{label}-{}", self.id) }
    }
}

/// What came of running a coroutine up to its next wait.
enum Sent<'py> {
    Waits,
    /// It yielded something that is not ours.
    Foreign(Bound<'py, PyAny>),
    Ended(PyResult<Bound<'py, PyAny>>),
}

fn yielded(value: Bound<'_, PyAny>) -> Sent<'_> {
    if value.is_none() { Sent::Waits } else { Sent::Foreign(value) }
}

fn send<'py>(coro: &Bound<'py, PyAny>) -> Sent<'py> {
    let py = coro.py();
    let mut result = ptr::null_mut();
    // SAFETY: a live coroutine is sent None; the result is a new reference, or null with an exception set.
    unsafe {
        match ffi::PyIter_Send(coro.as_ptr(), ffi::Py_None(), &raw mut result) {
            ffi::PySendResult::PYGEN_NEXT => yielded(Bound::from_owned_ptr(py, result)),
            ffi::PySendResult::PYGEN_RETURN => Sent::Ended(Ok(Bound::from_owned_ptr(py, result))),
            ffi::PySendResult::PYGEN_ERROR => Sent::Ended(Err(PyErr::fetch(py))),
        }
    }
}

fn throw<'py>(coro: &Bound<'py, PyAny>, error: PyErr) -> Sent<'py> {
    let py = coro.py();
    match coro.call_method1("throw", (error,)) {
        Ok(value) => yielded(value),
        Err(error) if error.is_instance_of::<PyStopIteration>(py) => Sent::Ended(error.value(py).getattr("value")),
        Err(error) => Sent::Ended(Err(error)),
    }
}

/// A thread's end as Python gets it: its result and its exception, of which one is None.
pub type Ended<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);

pub fn ended<'py>(py: Python<'py>, result: PyResult<Bound<'py, PyAny>>) -> Ended<'py> {
    let none = || py.None().into_bound(py);
    match result {
        Ok(result) => (result, none()),
        Err(error) => (none(), error.into_value(py).into_bound(py).into_any()),
    }
}

/// The thread that runs on this OS thread, if one does.
pub fn running(py: Python<'_>) -> Option<Bound<'_, Task>> {
    let current = CURRENT.get();
    // SAFETY: the pointer is null or a Task that whoever set it keeps alive until it is set back.
    let any = unsafe { Bound::from_borrowed_ptr_or_opt(py, current) }?;
    // SAFETY: only Tasks are ever put there.
    Some(unsafe { any.cast_into_unchecked() })
}

pub fn set_running(task: Option<&Bound<'_, Task>>) {
    CURRENT.set(task.map_or(std::ptr::null_mut(), Bound::as_ptr));
}

/// Ends a thread's turn: it waits now, or goes on the ready queue.
pub fn end_turn(task: &Bound<'_, Task>) {
    let this = task.get();
    if this.wait.leave() {
        this.hub.push(task.clone().unbind());
    }
}

#[pymethods]
impl Task {
    #[new]
    fn new(poller: &Bound<'_, Poller>, coro: Py<PyAny>, label: Py<PyString>, named: bool) -> PyResult<Self> {
        let py = poller.py();
        // SAFETY: a new reference, or null with an exception set.
        let context = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()) }?.unbind();
        let hub = poller.get().hub().clone();
        if hub.is_forked() {
            return Err(PyRuntimeError::new_err("this Poller belongs to the parent process: make a new one"));
        }
        hub.live.fetch_add(1, Ordering::AcqRel);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        Ok(Task {
            wait: Wait::new(),
            hub,
            id,
            label,
            named,
            done: AtomicBool::new(false),
            context,
            coro: AtomicPtr::new(coro.into_ptr()),
            limit: AtomicU64::new(NEVER),
            resume: parking_lot::Mutex::default(),
        })
    }

    /// One turn: runs the coroutine up to its next wait. None, or how the thread ended: (result, exception).
    fn _step<'py>(&self, py: Python<'py>) -> Option<Ended<'py>> {
        self.step(py).map(|result| ended(py, result))
    }

    /// What the thread runs; None once it has ended.
    #[getter]
    fn _coro<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        // SAFETY: the thread's own reference, or null. It is given back in the thread's own turn and at its end alone.
        unsafe { Bound::from_borrowed_ptr_or_opt(py, self.coro.load(Ordering::Acquire)) }
    }

    #[setter(_coro)]
    fn set_coro(&self, py: Python<'_>, coro: Option<Py<PyAny>>) {
        let new = coro.map_or(ptr::null_mut(), Py::into_ptr);
        let old = self.coro.swap(new, Ordering::AcqRel);
        // SAFETY: the reference that the thread owned, or null.
        drop(unsafe { Bound::from_owned_ptr_or_opt(py, old) });
    }

    #[getter]
    fn _context<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.context.bind(py).clone()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.context)?;
        let coro = self.coro.load(Ordering::Acquire);
        // SAFETY: a Py is a pointer to an object, which the thread owns, or none, and is borrowed here.
        let coro: Option<&Py<PyAny>> = unsafe { (*(&raw const coro).cast::<Option<Py<PyAny>>>()).as_ref() };
        // What `resume` left is looked at by nobody while the world is stopped, except where it was stopped under it.
        if let Some(resume) = self.resume.try_lock() {
            visit.call(&resume.value)?;
        }
        visit.call(coro)
    }

    fn __clear__(&self) {
        // SAFETY: the collector clears only what nobody can reach any more, attached to the interpreter.
        self.set_coro(unsafe { Python::assume_attached() }, None);
    }

    #[getter]
    fn name(&self, py: Python<'_>) -> String {
        self.full_name(py)
    }

    /// Whether the thread has ended.
    #[getter]
    fn done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Whether it waits, and nothing has ended that yet.
    #[getter]
    fn _waits(&self) -> bool {
        self.wait.is_waiting()
    }

    /// Ends the current wait, or the next one, with `Cancelled`.
    fn _cancel(slf: &Bound<'_, Self>) {
        let this = slf.get();
        if this.wait.cancel() {
            this.hub.push(slf.clone().unbind());
        }
    }

    /// Takes back a cancel that has not come out yet.
    fn _take_cancelled(&self) -> bool {
        self.wait.take_cancelled()
    }

    /// Ends the `suspend()`, or the next one, with a value. True: the caller runs the thread, now, as `here` promised;
    /// otherwise it is queued.
    fn _resume(slf: &Bound<'_, Self>, value: Py<PyAny>, here: bool) -> PyResult<bool> {
        let this = slf.get();
        let epoch = {
            let mut resume = this.resume.lock();
            if resume.value.is_some() {
                drop(resume);
                return Err(PyRuntimeError::new_err(format!(
                    "thread '{}' was resumed already, and has not suspended itself since",
                    this.full_name(slf.py())
                )));
            }
            resume.value = Some(value);
            resume.suspended.take()
        };
        let runs = epoch.is_some_and(|epoch| this.wait.wake(epoch, Reason::Event));
        if runs && !here {
            this.hub.push(slf.clone().unbind());
        }
        Ok(runs && here)
    }

    /// The time, on the poller's clock, that no wait goes beyond.
    #[getter]
    fn _limit(&self) -> u64 {
        self.limit()
    }

    /// Sets the time, on the poller's clock, that no wait goes beyond; the one before.
    fn _set_limit(&self, limit: u64) -> u64 {
        self.limit.swap(limit, Ordering::Relaxed)
    }

    /// The same with a time of `clock()`, unless there is a nearer one already.
    fn _nearer_limit(&self, expires: &Bound<'_, PyAny>) -> PyResult<u64> {
        Ok(self.limit.fetch_min(deadline(Some(expires))?, Ordering::Relaxed))
    }

    /// The thread has ended.
    fn _finish(slf: &Bound<'_, Self>) {
        let this = slf.get();
        if this.done.swap(true, Ordering::AcqRel) {
            return;
        }
        drop(this.wait.finish(&this.hub.timers));
        if this.hub.live.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Whoever polls for it in another OS thread has nothing left to wait for.
            this.hub.interrupt();
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // SAFETY: objects of Python go while the OS thread is attached; the reference is the thread's own, or null.
        unsafe { ffi::Py_XDECREF(*self.coro.get_mut()) };
        if !*self.done.get_mut() && self.hub.live.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.hub.interrupt();
        }
    }
}

/// The thread that runs on this OS thread, or None.
#[pyfunction]
pub fn current(py: Python<'_>) -> Option<Bound<'_, Task>> {
    running(py)
}

/// Begins a turn of `task` inside whatever runs now, which comes back from it: give it to `leave`. None: what follows
/// belongs to no thread.
#[pyfunction]
#[pyo3(signature = (task))]
pub fn enter<'py>(py: Python<'py>, task: Option<&Bound<'py, Task>>) -> Option<Bound<'py, Task>> {
    let outer = running(py);
    if let Some(task) = task {
        task.get().wait.enter();
    }
    set_running(task);
    outer
}

/// Ends a turn that `enter` began.
#[pyfunction]
#[pyo3(signature = (task, outer))]
pub fn leave(task: Option<&Bound<'_, Task>>, outer: Option<&Bound<'_, Task>>) {
    if let Some(task) = task {
        end_turn(task);
    }
    set_running(outer);
}
