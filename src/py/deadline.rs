//! `sock.deadline`: the limit of a thread's waits, for the length of a block.

use std::mem;

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::Handle;
use super::poller::time;
use super::thread::running;

/// ``with sock.deadline(t):`` gives every wait of this thread inside that ``expires``, where none is nearer.
///
/// ``t`` is a ``clock()`` value; None is none. Waits on sockets end as with their own ``expires``: the socket is closed, and Timeout
/// raised; so do sleeps and waits for other threads, which close nothing. One block at a time is inside.
#[pyclass(frozen, name = "deadline", module = "sock")]
pub struct Deadline {
    t: Py<PyAny>,
    /// The thread that is inside, and its limit before. Nothing is dropped under this lock, and no Python runs.
    inside: parking_lot::Mutex<Option<(Handle, u64)>>,
}

#[pymethods]
impl Deadline {
    #[new]
    fn new(t: Py<PyAny>) -> Self {
        Deadline { t, inside: parking_lot::Mutex::default() }
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<()> {
        let task = running(py).ok_or_else(|| {
            PyRuntimeError::new_err("sock.deadline() is for the waits of a sock thread, and none runs here")
        })?;
        let limit = time(self.t.bind(py), "deadline takes")?;
        let handle = task.to_owned().unbind();
        let mut inside = self.inside.lock();
        if inside.is_some() {
            drop(inside); // before the handle
            return Err(PyRuntimeError::new_err(
                "a block with this sock.deadline() runs already: make one for each block",
            ));
        }
        *inside = Some((handle, task.get().nearer_limit(limit)));
        Ok(())
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, _exc_info: &Bound<'_, PyTuple>) {
        let left = self.inside.lock().take();
        if let Some((task, outer)) = &left {
            task.get().set_limit(*outer);
        }
        drop(left);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.t)?;
        // Held by nobody while the world is stopped, except where it was stopped under it.
        let Some(inside) = self.inside.try_lock() else { return Ok(()) };
        inside.as_ref().map_or(Ok(()), |(task, _)| visit.call(task))
    }

    fn __clear__(&self) {
        let inside = mem::take(&mut *self.inside.lock());
        drop(inside);
    }
}
