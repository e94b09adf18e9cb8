//! `sock.Poller`'s Rust half and the iterator that drives its threads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::Hub;
use super::error::{self, Moved};
use super::number;
use super::thread::{
    Aside, Looping, Task, end_turn, first_id, listed, orphan_all, set_hub, set_running, step, unset_hub,
};
use crate::chaos;
use crate::sys;
use crate::wait::NEVER;

/// Monotonic seconds, the clock of every deadline. Not affected by changes of the wall clock.
#[pyfunction]
pub fn clock() -> f64 {
    crate::clock::now() as f64 / 1e9
}

/// What `clock()` says from now on, in nanoseconds; None: the OS's.
#[pyfunction]
pub fn set_clock(time: Option<u64>) {
    crate::clock::set(time);
}

/// Makes trouble from now on, by a seed. False: it does already.
#[pyfunction]
pub fn begin_chaos(seed: u64) -> bool {
    chaos::begin(seed, first_id())
}

#[pyfunction]
pub fn end_chaos() {
    chaos::end();
}

/// `expires` of a wait, as the hub counts time. None and infinity: never. The past: as soon as possible.
pub fn deadline(expires: Option<&Bound<'_, PyAny>>) -> PyResult<u64> {
    expires.map_or(Ok(NEVER), |expires| time(expires, "expires must be"))
}

/// An absolute time of `clock()` as the hub counts it: nanoseconds, rounded up so that nothing is early. None is never.
/// `what` begins the message about anything else.
pub fn time(t: &Bound<'_, PyAny>, what: &str) -> PyResult<u64> {
    if t.is_none() {
        return Ok(NEVER);
    }
    let Some(seconds) = number::float(t)? else {
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
    let nanoseconds = (seconds * 1e9) as u64;
    let told = nanoseconds as f64;
    if told / 1e9 >= seconds {
        return Ok(nanoseconds);
    }
    // By `clock()`, a moment whose last digits were cut off would be too early. Beyond 2^53 ns, a hundred days, the next one
    // that `clock()` can tell from it is further than a nanosecond, and no further, so that times keep their order.
    let next = f64::from_bits(told.to_bits() + 1) as u64;
    Ok(next.max(nanoseconds.saturating_add(1)))
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
        let outer = Aside::new(py);
        let finalizing = py.import("sys").and_then(|sys| sys.call_method0("is_finalizing"));
        if finalizing.is_ok_and(|finalizing| !finalizing.is_truthy().unwrap_or(true)) {
            unset_hub(&self.hub);
            let left = self.hub.abandon();
            orphan_all(py, &self.hub);
            drop(left);
        }
        drop(outer);
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

    /// On its clock, when the next deadline may pass.
    fn _next_due(&self) -> u64 {
        self.hub.timers.next_due()
    }

    /// Whether a thread waits for a socket.
    fn _waits_for_sockets(&self) -> bool {
        self.hub.waits_for_sockets()
    }

    /// The clock was set: every OS thread that polls looks around.
    fn _clock_was_set(&self) {
        self.hub.clock_was_set();
    }

    fn _set_forked(&self) {
        self.hub.set_forked();
    }
}

/// The OS thread in which the interpreter comes to its end; 0: nothing ends yet.
static ENDS_IN: AtomicUsize = AtomicUsize::new(0);

/// The interpreter comes to its end in this OS thread: no other one polls from now on.
#[pyfunction]
pub fn begin_end(_attached: Python<'_>) {
    ENDS_IN.store(os_thread(), Ordering::SeqCst);
}

fn os_thread() -> usize {
    // SAFETY: no more than a number of this OS thread.
    unsafe { ffi::PyThread_get_thread_ident() as usize }
}

/// Gives each thread that is ready its turn and waits for events in between, until the deadline passes, `stop` is called
/// or no thread is left.
#[pyclass(frozen, module = "sock._sock")]
pub struct Turns {
    hub: Arc<Hub>,
    /// The end of a Poller takes the threads from the timers, so it must not come while somebody polls: see `Hub::fire`.
    _polled: Py<Poller>,
    until: u64,
    /// One turn, of one thread.
    once: bool,
    stops: u64,
    stopped: AtomicBool,
    /// Turns given so far. Others only look at it.
    given: AtomicU64,
    /// It gives one now.
    turning: AtomicBool,
    timed_out: AtomicBool,
    runs: AtomicBool,
}

impl Turns {
    /// Where the interpreter comes to its end elsewhere, this OS thread stays here, and holds nothing of the interpreter's.
    fn stay_if_all_ends(&self, py: Python<'_>) {
        let ends_in = ENDS_IN.load(Ordering::SeqCst);
        if ends_in != 0 && ends_in != os_thread() {
            py.detach(|| {
                self.runs.store(false, Ordering::SeqCst);
                loop {
                    std::thread::park();
                }
            });
        }
    }

    /// Whether it is over, before the next turn.
    fn is_over(&self) -> bool {
        if self.once && self.given() > 0 {
            return true;
        }
        if self.stopped.load(Ordering::Acquire) || self.hub.stops() != self.stops || self.hub.is_forked() {
            self.stopped.store(true, Ordering::Release);
            return true;
        }
        // Also where there is always something to do; but never before what is ready has had its chance.
        let over = self.given() > 0 && self.is_late(|| self.hub.now());
        if over && self.hub.live() > 0 {
            self.timed_out.store(true, Ordering::Release);
        }
        over
    }

    fn is_late(&self, now: impl FnOnce() -> u64) -> bool {
        self.until != NEVER && now() >= self.until
    }

    fn turns(&self, py: Python<'_>) -> PyResult<()> {
        // However short the time is, the OS is asked once: who polls now and then, from another loop, gets all events.
        let mut asked = false;
        // A turn looks at the signals by itself. `looked`: at those before so many interrupts, and nobody waited since.
        let mut looked = None;
        loop {
            let interrupts = self.hub.interrupts();
            if self.is_over() {
                return Ok(());
            }
            if let Some(task) = self.hub.take() {
                let task = task.into_bound(py);
                task.get().wait().enter();
                self.given.store(self.given.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                let turn = Turn::begin(self, &task);
                let ended = step(&task);
                drop(turn);
                if !ended? {
                    end_turn(&task);
                }
                looked = Some(interrupts);
                if chaos::is_on() {
                    self.stand_back(py);
                }
                continue;
            }
            if self.hub.live() == 0 {
                return Ok(());
            }
            // Of a signal that comes from now on the poll tells, or that it was interrupted.
            if looked != Some(interrupts) {
                py.check_signals()?;
            }
            looked = None;
            if self.is_late(crate::clock::now) {
                if asked {
                    self.timed_out.store(true, Ordering::Release);
                    return Ok(());
                }
                self.wait(py, |hub| hub.pause(Duration::ZERO, interrupts))?;
            } else if crate::clock::is_set() {
                self.wait_by_set_clock(py, interrupts)?;
            } else {
                self.wait(py, |hub| hub.wait(self.until, interrupts))?;
            }
            asked = true;
            if self.hub.interrupts() != interrupts {
                py.check_signals()?; // its handler runs in the loop then, not amid somebody's turn
            }
        }
    }

    #[inline]
    fn wait(&self, py: Python<'_>, wait: impl FnOnce(&Hub) -> io::Result<()> + Send) -> PyResult<()> {
        py.detach(|| wait(&self.hub)).map_err(|error| error::os(py, &error, "poll", Moved::default()))
    }

    /// What is there already comes first. Then `sock.testing` moves the clock, or says how long it leaves it to the
    /// world to do something.
    #[cold]
    #[inline(never)]
    fn wait_by_set_clock(&self, py: Python<'_>, interrupts: u64) -> PyResult<()> {
        static IDLE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        self.wait(py, |hub| hub.pause(Duration::ZERO, interrupts))?;
        if self.hub.has_work(interrupts) {
            return Ok(());
        }
        let seconds: f64 = error::attribute(py, &IDLE, "sock.testing", "_idle")?.call0()?.extract()?;
        self.wait(py, |hub| hub.pause(Duration::from_secs_f64(seconds), interrupts))
    }

    /// In chaos: sometimes another OS thread takes the next one, if it does so soon.
    #[cold]
    #[inline(never)]
    fn stand_back(&self, py: Python<'_>) {
        let ready = self.hub.ready();
        if ready > 0 && self.hub.loops.load(Ordering::Relaxed) > 1 && chaos::strikes(chaos::NOBODY, 4) {
            py.detach(|| {
                for _ in 0..20 {
                    std::thread::sleep(Duration::from_micros(50));
                    if self.hub.ready() < ready {
                        return;
                    }
                }
            });
        }
    }
}

/// A thread has its turn, until this is dropped, also by a panic.
struct Turn<'a>(&'a Turns);

impl<'a> Turn<'a> {
    fn begin(turns: &'a Turns, task: &Bound<'_, Task>) -> Self {
        set_running(Some(task));
        turns.turning.store(true, Ordering::Relaxed);
        Turn(turns)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.turning.store(false, Ordering::Relaxed);
        set_running(None);
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
            given: AtomicU64::new(0),
            turning: AtomicBool::new(false),
            timed_out: AtomicBool::new(false),
            runs: AtomicBool::new(false),
            _polled: poller.clone().unbind(),
            hub,
        })
    }

    /// An error is what ends the program, or the poll's own.
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        let looping = Looping::new(py);
        let timed = usize::from(self.until != NEVER);
        self.hub.loops.fetch_add(1, Ordering::Relaxed);
        self.hub.timed_loops.fetch_add(timed, Ordering::Relaxed);
        self.runs.store(true, Ordering::SeqCst);
        self.stay_if_all_ends(py);
        let result = self.turns(py);
        self.stay_if_all_ends(py);
        self.runs.store(false, Ordering::SeqCst);
        self.hub.loops.fetch_sub(1, Ordering::Relaxed);
        self.hub.timed_loops.fetch_sub(timed, Ordering::Relaxed);
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

    /// Whether it gives turns now, or waits for a thread to give one to.
    #[getter]
    fn runs(&self) -> bool {
        self.runs.load(Ordering::SeqCst)
    }

    /// Whether a thread had its turn.
    #[getter]
    fn handed(&self) -> bool {
        self.given() > 0
    }

    /// How many turns it has given to threads.
    #[getter]
    fn given(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }

    /// Whether a thread has its turn now, which may be its first, before `run`.
    #[getter]
    fn turning(&self) -> bool {
        self.turning.load(Ordering::Relaxed) || !self.runs()
    }

    /// On the poller's clock: when it ends.
    #[getter]
    fn until(&self) -> u64 {
        self.until
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
