//! `sock.Poller`'s Rust half and the iterator that drives its threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use super::Hub;
use super::error::{self, Moved};
use super::thread::{Looping, Task, end_turn, listed, orphan_all, set_hub, set_running, step, unset_hub};
use crate::sys;
use crate::wait::NEVER;

/// Monotonic seconds, the clock of every deadline. Not affected by changes of the wall clock.
#[pyfunction]
pub fn clock() -> f64 {
    sys::now() as f64 / 1e9
}

/// `expires` of a wait, as the hub counts time. None and infinity: never. The past: as soon as possible.
pub fn deadline(expires: Option<&Bound<'_, PyAny>>) -> PyResult<u64> {
    expires.map_or(Ok(NEVER), |expires| time(expires, "expires must be"))
}

/// An absolute time of `clock()` as the hub counts it: nanoseconds, rounded up so that nothing is early. `what` begins
/// the message about anything else.
pub fn time(t: &Bound<'_, PyAny>, what: &str) -> PyResult<u64> {
    let Ok(seconds) = t.extract::<f64>() else {
        let kind = t.get_type();
        return Err(PyTypeError::new_err(format!(
            "{what} a sock.clock() value in seconds or None, not {}",
            kind.name()?
        )));
    };
    if seconds.is_nan() {
        let message = format!("{what} a sock.clock() value, e.g. sock.clock() + 5, and this is not a number");
        return Err(PyValueError::new_err(message));
    }
    // `as` saturates: the past becomes 0, whatever is too far away never.
    Ok((seconds * 1e9).ceil() as u64)
}

#[pyclass(frozen, subclass, weakref, module = "sock._sock")]
pub struct Poller {
    hub: Arc<Hub>,
}

impl Poller {
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }
}

impl Drop for Poller {
    /// What waits here can never go on, since nobody polls: those threads are lost, and told of as such. At the
    /// interpreter's end they just stay.
    fn drop(&mut self) {
        if self.hub.is_forked() {
            // The threads are the parent's, and OS threads that are gone may hold the locks.
            return;
        }
        // SAFETY: an object of Python goes while the OS thread is attached.
        let py = unsafe { Python::assume_attached() };
        let outer = PyErr::take(py);
        let finalizing = py.import("sys").and_then(|sys| sys.call_method0("is_finalizing"));
        if finalizing.is_ok_and(|finalizing| !finalizing.is_truthy().unwrap_or(true)) {
            unset_hub(&self.hub);
            let left = self.hub.abandon();
            orphan_all(py, &self.hub);
            drop(left);
        }
        if let Some(outer) = outer {
            outer.restore(py);
        }
    }
}

#[pymethods]
impl Poller {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        let hub = Hub::new().map_err(|error| error::os(py, &error, "make a poller", Moved::default()))?;
        Ok(Poller { hub: Arc::new(hub) })
    }

    /// Ends every `start()` and `run()` on this poller. From any OS thread or signal handler.
    fn stop(&self) {
        self.hub.stop();
    }

    /// The number of the OS's poll.
    #[getter]
    fn _handle(&self) -> i64 {
        sys::poll_handle(self.hub.registry())
    }

    /// What goes to `signal.set_wakeup_fd`.
    #[getter]
    fn _signal_fd(&self) -> i64 {
        sys::number(self.hub.signal_fd())
    }

    /// `poller()` of this OS thread from now on.
    fn _set_here(&self) {
        set_hub(&self.hub);
    }

    /// The threads that have not ended, and those that failed unseen.
    fn _threads<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, Task>> {
        listed(py, &self.hub)
    }

    fn _set_forked(&self) {
        self.hub.set_forked();
    }
}

/// Gives each thread that is ready its turn and waits for events in between, until the deadline passes, `stop` is called
/// or no thread is left.
#[pyclass(frozen, module = "sock._sock")]
pub struct Turns {
    hub: Arc<Hub>,
    until: u64,
    /// One turn, of one thread.
    once: bool,
    stops: u64,
    stopped: AtomicBool,
    handed: AtomicBool,
    timed_out: AtomicBool,
}

impl Turns {
    /// Whether it is over, before the next turn.
    fn is_over(&self) -> bool {
        if self.once && self.handed.load(Ordering::Relaxed) {
            return true;
        }
        if self.stopped.load(Ordering::Acquire) || self.hub.stops() != self.stops || self.hub.is_forked() {
            self.stopped.store(true, Ordering::Release);
            return true;
        }
        // Also where there is always something to do; but never before what is ready has had its chance.
        self.until != NEVER && self.handed.load(Ordering::Relaxed) && self.is_late(self.hub.now())
    }

    fn is_late(&self, now: u64) -> bool {
        let late = now >= self.until;
        if late {
            self.timed_out.store(true, Ordering::Release);
        }
        late
    }

    fn turns(&self, py: Python<'_>) -> PyResult<()> {
        loop {
            let interrupts = self.hub.interrupts();
            if self.is_over() {
                return Ok(());
            }
            if let Some(task) = self.hub.take() {
                let task = task.into_bound(py);
                task.get().wait().enter();
                set_running(Some(&task));
                self.handed.store(true, Ordering::Relaxed);
                let ended = step(&task);
                set_running(None);
                if !ended? {
                    end_turn(&task);
                }
                continue;
            }
            if self.hub.live() == 0 || self.until != NEVER && self.is_late(sys::now()) {
                return Ok(());
            }
            py.detach(|| self.hub.wait(self.until, interrupts))
                .map_err(|error| error::os(py, &error, "poll", Moved::default()))?;
            py.check_signals()?;
        }
    }
}

#[pymethods]
impl Turns {
    #[new]
    #[pyo3(signature = (poller, until=None, once=false))]
    fn new(poller: &Bound<'_, Poller>, until: Option<&Bound<'_, PyAny>>, once: bool) -> PyResult<Self> {
        let hub = poller.get().hub.clone();
        Ok(Turns {
            until: deadline(until)?,
            once,
            stops: hub.stops(),
            stopped: AtomicBool::new(false),
            handed: AtomicBool::new(false),
            timed_out: AtomicBool::new(false),
            hub,
        })
    }

    /// An error is what ends the program, or the poll's own.
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        let looping = Looping::new(py);
        let result = self.turns(py);
        drop(looping);
        if !self.hub.is_forked() {
            self.hub.quit();
        }
        result
    }

    /// Ends `run` after the turn that runs, from any OS thread.
    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.hub.interrupt();
    }

    /// Whether a thread had its turn.
    #[getter]
    fn handed(&self) -> bool {
        self.handed.load(Ordering::Acquire)
    }

    #[getter]
    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    #[getter]
    fn timed_out(&self) -> bool {
        self.timed_out.load(Ordering::Acquire)
    }
}
