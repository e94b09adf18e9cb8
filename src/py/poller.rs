//! `sock.Poller`'s Rust half and the iterator that drives its threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use super::error::{self, Moved};
use super::thread::{Task, end_turn, ended, set_running};
use super::{Handle, Hub};
use crate::sys;
use crate::wait::NEVER;

/// Monotonic seconds, the clock of every deadline. Not affected by changes of the wall clock.
#[pyfunction]
pub fn clock() -> f64 {
    sys::now() as f64 / 1e9
}

/// An absolute time of `clock()` as the hub counts it: nanoseconds, rounded up so that nothing is early. None and
/// infinity: never. The past: as soon as possible.
pub fn deadline(expires: Option<&Bound<'_, PyAny>>) -> PyResult<u64> {
    let Some(expires) = expires else {
        return Ok(NEVER);
    };
    let Ok(seconds) = expires.extract::<f64>() else {
        return Err(PyTypeError::new_err(format!(
            "expires must be a sock.clock() value in seconds or None, not {}",
            expires.get_type().name()?
        )));
    };
    if seconds.is_nan() {
        return Err(PyValueError::new_err("expires is not a number: give a sock.clock() value, e.g. sock.clock() + 5"));
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

    /// Lets whoever waits look at its reasons to stop.
    fn _interrupt(&self) {
        self.hub.interrupt();
    }

    /// The number of the OS's poll, or -1 where it has none.
    #[getter]
    fn _fd(&self) -> i64 {
        sys::poller_fd(self.hub.registry())
    }

    /// What goes to `signal.set_wakeup_fd`.
    #[getter]
    fn _signal_fd(&self) -> i64 {
        sys::number(self.hub.signal_fd())
    }

    /// How many threads have not ended.
    #[getter]
    fn _live(&self) -> usize {
        self.hub.live.load(Ordering::Acquire)
    }

    fn _set_forked(&self) {
        self.hub.set_forked();
    }
}

/// Gives each thread that is ready its turn and waits for events in between. Iterates over those that have ended, as
/// (thread, result, exception), each still in its turn until the next one is asked for. Ends when the deadline passes,
/// `stop` is called or no thread is left.
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
    /// Whose turn it is.
    current: Mutex<Option<Handle>>,
}

impl Turns {
    /// No more turns.
    fn end<T>(&self) -> Option<T> {
        if !self.hub.is_forked() {
            self.hub.quit();
        }
        None
    }

    fn end_current(&self, py: Python<'_>) {
        let current = self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(current) = current {
            set_running(None);
            end_turn(current.bind(py));
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
            current: Mutex::new(None),
            hub,
        })
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[allow(clippy::type_complexity, reason = "a Python tuple: thread, result, exception")]
    fn __next__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<Option<(Bound<'py, Task>, Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
        self.end_current(py);
        loop {
            let interrupts = self.hub.interrupts();
            if self.once && self.handed.load(Ordering::Relaxed) {
                return Ok(self.end());
            }
            if self.stopped.load(Ordering::Acquire) || self.hub.stops() != self.stops || self.hub.is_forked() {
                self.stopped.store(true, Ordering::Release);
                return Ok(self.end());
            }
            // Also where there is always something to do; but never before what is ready has had its chance.
            if self.until != NEVER && self.handed.load(Ordering::Relaxed) && self.hub.now() >= self.until {
                self.timed_out.store(true, Ordering::Release);
                return Ok(self.end());
            }
            if let Some(task) = self.hub.take() {
                let task = task.into_bound(py);
                task.get().wait().enter();
                set_running(Some(&task));
                self.handed.store(true, Ordering::Relaxed);
                if let Some(result) = task.get().step(py) {
                    let (result, exception) = ended(py, result);
                    *self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                        Some(task.clone().unbind());
                    return Ok(Some((task, result, exception)));
                }
                set_running(None);
                end_turn(&task);
                continue;
            }
            if self.hub.live.load(Ordering::Acquire) == 0 {
                return Ok(self.end());
            }
            if self.until != NEVER && sys::now() >= self.until {
                self.timed_out.store(true, Ordering::Release);
                return Ok(self.end());
            }
            py.detach(|| self.hub.wait(self.until, interrupts))
                .map_err(|error| error::os(py, &error, "poll", Moved::default()))?;
            py.check_signals()?;
        }
    }

    /// Ends this iteration after the turn that runs, from any OS thread.
    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.hub.interrupt();
    }

    /// Ends the turn of the thread that ended last: after the loop was left early.
    fn close(&self, py: Python<'_>) {
        self.end_current(py);
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
