//! Where Ctrl-C may end what runs: never in the middle of our own code. How it comes there: `sock._interrupts`.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

/// `CO_COROUTINE` and `CO_ASYNC_GENERATOR`.
const ASYNC_CODE: u32 = 0x80 | 0x200;

fn is_ours(package: &Bound<'_, PyString>) -> bool {
    package.to_str().is_ok_and(|name| name == "sock")
}

/// What an exception does not come out of: the interpreter reports it and goes on. A `__del__`, and the callbacks of weak
/// references that the standard library has, of the sets that `threading` keeps, say.
fn swallows(code: &Bound<'_, PyAny>, globals: &Bound<'_, PyDict>) -> PyResult<bool> {
    let is = |what: Option<Bound<'_, PyAny>>, names: &[&str]| {
        what.is_some_and(|what| {
            what.cast::<PyString>().is_ok_and(|what| what.to_str().is_ok_and(|it| names.contains(&it)))
        })
    };
    Ok(is(Some(code.getattr("co_name")?), &["__del__"])
        || is(globals.get_item("__name__")?, &["weakref", "_weakrefset"]))
}

/// Whether an exception may be raised in a frame: in the user's code inside a thread's turn, unless it was called by a plain
/// function of ours, which has to be whole, or by what would swallow it. A coroutine of ours is whole where it calls the
/// user's code.
#[pyfunction]
pub fn is_interruptible(frame: &Bound<'_, PyAny>) -> PyResult<bool> {
    let mut at = frame.clone();
    while !at.is_none() {
        let (code, globals) = (at.getattr("f_code")?, at.getattr("f_globals")?.cast_into::<PyDict>()?);
        let package = globals.get_item("__package__")?;
        // Whatever else a module has in its place is not asked: that would run its code.
        let ours = package.is_some_and(|package| package.cast::<PyString>().is_ok_and(|name| is_ours(name)));
        let flags: u32 = code.getattr("co_flags")?.extract()?;
        let asynchronous = flags & ASYNC_CODE != 0;
        if ours && (at.is(frame) || !asynchronous) || swallows(&code, &globals)? {
            return Ok(false);
        }
        if asynchronous {
            return Ok(true);
        }
        at = at.getattr("f_back")?;
    }
    Ok(false)
}

/// Python 3.11, where no OS thread can be made to look at itself. All others stand still while one looks at them under the
/// interpreter's lock.
#[cfg(not(Py_3_12))]
pub mod from_outside {
    use std::ffi::c_long;
    use std::ptr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use pyo3::exceptions::PyKeyboardInterrupt;
    use pyo3::ffi;
    use pyo3::prelude::*;

    /// The OS thread in which Ctrl-C's exception may still have to come out.
    static BROKEN: AtomicUsize = AtomicUsize::new(0);

    /// Raises Ctrl-C's exception in what another OS thread runs. False: not now, when that is code of ours.
    #[pyfunction]
    pub fn break_off(py: Python<'_>, ident: usize) -> PyResult<bool> {
        // No Python code runs in here, so that no other OS thread gets on.
        let frames = py.import("sys")?.call_method0("_current_frames")?;
        let Ok(frame) = frames.get_item(ident) else { return Ok(false) };
        let interruptible = super::is_interruptible(&frame)?;
        if interruptible {
            BROKEN.store(ident, Ordering::Relaxed);
            let exception = py.get_type::<PyKeyboardInterrupt>();
            // SAFETY: attached, with a live class; an OS thread that has ended is none that it finds.
            unsafe { ffi::PyThreadState_SetAsyncExc(ident as c_long, exception.as_ptr()) };
        }
        Ok(interruptible)
    }

    /// The user's code has ended before it came out, and ours follows.
    pub fn forget(_attached: Python<'_>) {
        let broken = BROKEN.load(Ordering::Relaxed);
        // SAFETY: attached.
        unsafe {
            if broken != 0 && broken == ffi::PyThread_get_thread_ident() as usize {
                BROKEN.store(0, Ordering::Relaxed);
                ffi::PyThreadState_SetAsyncExc(broken as c_long, ptr::null_mut());
            }
        }
    }
}
