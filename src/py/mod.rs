//! What Python sees; no logic.

mod address;
mod attached;
mod calls;
mod deadline;
mod error;
mod interrupt;
mod number;
mod ops;
mod options;
mod poller;
mod socket;
mod thread;

use pyo3::prelude::*;

type Handle = Py<thread::Task>;
type Hub = crate::poller::Hub<Handle>;
type Source = crate::socket::Source<Handle>;

/// The poll/register core of `sock`. Private: use the names of the package `sock`.
#[pymodule(gil_used = false)]
mod _sock {
    use pyo3::exceptions::PyImportError;
    use pyo3::ffi;

    use super::{Bound, PyModule, PyModuleMethods, PyResult, calls, ops, thread};

    #[pymodule_export]
    use super::address::SockAddr;
    #[pymodule_export]
    use super::calls::own_methods;
    #[pymodule_export]
    use super::deadline::Deadline;
    #[cfg(not(Py_3_12))]
    #[pymodule_export]
    use super::interrupt::from_outside::break_off;
    #[pymodule_export]
    use super::interrupt::is_interruptible;
    #[pymodule_export]
    use super::number::seconds;
    #[pymodule_export]
    use super::ops::{Wait, check_wait, sleep, sleep_until, suspend, waits_for};
    #[pymodule_export]
    use super::options::{option_names, option_rows, option_table};
    #[pymodule_export]
    use super::poller::{Poller, Turns, begin_chaos, begin_end, clock, end_chaos, set_clock};
    #[pymodule_export]
    use super::socket::{Datagram, NewSocket, Socket, Stream, adopt, finalizes, open};
    #[pymodule_export]
    use super::thread::{Task, after_fork, current, enter_run, is_polling};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // SAFETY: the OS thread is attached to an interpreter, which has a number; the main one's is 0.
        if unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) } != 0 {
            return Err(PyImportError::new_err("sock works in the main interpreter alone: import it there"));
        }
        module.add("POLL", crate::sys::POLL)?;
        ops::make_types(module)?;
        thread::make_type(module.py())?;
        calls::add_functions(module)
    }
}
