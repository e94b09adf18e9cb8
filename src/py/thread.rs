//! The Rust half of `sock.Thread`: its wake state, its hub, its name; and which thread runs on this OS thread.

use std::cell::Cell;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::poller::Poller;
use super::{Handle, Hub};
use crate::poller::Thread;
use crate::wait::{Reason, Wait};

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

    pub fn label(&self, py: Python<'_>) -> Py<PyString> {
        self.label.clone_ref(py)
    }

    pub fn is_named(&self) -> bool {
        self.named
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
        if self.named {
            label.into_owned()
        } else {
            format!("{label}-{}", self.id)
        }
    }
}

/// The thread that runs on this OS thread, if one does.
pub fn running<'py>(py: Python<'py>) -> Option<Bound<'py, Task>> {
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
    fn new(poller: &Bound<'_, Poller>, label: Py<PyString>, named: bool) -> PyResult<Self> {
        let hub = poller.get().hub().clone();
        if hub.is_forked() {
            return Err(PyRuntimeError::new_err(
                "this Poller belongs to the parent process: make a new one",
            ));
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
            resume: parking_lot::Mutex::default(),
        })
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

    /// Ends the current wait, or the next one, with `Cancelled`.
    fn _cancel(slf: &Bound<'_, Self>) {
        let this = slf.get();
        if this.wait.cancel() {
            this.hub.push(slf.clone().unbind());
        }
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

/// What `context.run(coro.send, None)` does, with neither a bound method nor a tuple of arguments: runs a coroutine up
/// to its next wait. Returns what it yields; raises what ends it, a StopIteration with its result or its exception.
#[pyfunction]
#[pyo3(signature = (coro, context, /))]
pub fn send<'py>(
    coro: &Bound<'py, PyAny>,
    context: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = coro.py();
    let none = py.None();
    let mut result = ptr::null_mut();
    // SAFETY: both are live objects of the caller's; each call sets an exception where it fails, and the context is
    // left again in every case. `result` is a new reference, or null.
    unsafe {
        if ffi::PyContext_Enter(context.as_ptr()) < 0 {
            return Err(PyErr::fetch(py));
        }
        let status = ffi::PyIter_Send(coro.as_ptr(), none.as_ptr(), &raw mut result);
        if ffi::PyContext_Exit(context.as_ptr()) < 0 {
            ffi::Py_XDECREF(result);
            return Err(PyErr::fetch(py));
        }
        match status {
            ffi::PySendResult::PYGEN_NEXT => Ok(Bound::from_owned_ptr(py, result)),
            ffi::PySendResult::PYGEN_RETURN => Err(PyErr::new::<PyStopIteration, _>((
                Bound::from_owned_ptr(py, result).unbind(),
            ))),
            ffi::PySendResult::PYGEN_ERROR => Err(PyErr::fetch(py)),
        }
    }
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
