//! From Rust's errors to Python's: the table of names and classes is Python's, in `sock._errors`.

use std::io;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;

/// What a failed operation had done before.
#[derive(Clone, Copy, Default)]
pub struct Moved<'a> {
    pub sent: usize,
    pub received: usize,
    pub data: &'a [u8],
}

/// A name of one of our modules of Python.
pub fn attribute<'py>(
    py: Python<'py>,
    cell: &PyOnceLock<Py<PyAny>>,
    module: &str,
    name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let value = cell.get_or_try_init(py, || Ok::<_, PyErr>(py.import(module)?.getattr(name)?.unbind()))?;
    Ok(value.bind(py).clone())
}

const ERRORS: &str = "sock._errors";

fn build(made: PyResult<Bound<'_, PyAny>>) -> PyErr {
    match made {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

/// New bytes; an error where there is no memory for them.
pub fn bytes<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    // SAFETY: data of that length; a new object, or null with an exception set.
    unsafe {
        let made = ffi::PyBytes_FromStringAndSize(data.as_ptr().cast(), data.len() as ffi::Py_ssize_t);
        Ok(Bound::from_owned_ptr_or_err(py, made)?.cast_into_unchecked())
    }
}

/// An error of the OS. `what` is what was tried, on which address.
pub fn os(py: Python<'_>, error: &io::Error, what: &str, moved: Moved<'_>) -> PyErr {
    static FROM_OS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let Some(number) = error.raw_os_error() else {
        let err = match error.kind() {
            io::ErrorKind::InvalidInput => "invalid_argument",
            io::ErrorKind::Unsupported => "not_supported",
            _ => "other",
        };
        return named(py, err, &format!("{what}: {error}"), moved);
    };
    build(
        attribute(py, &FROM_OS, ERRORS, "from_os")
            .and_then(|make| make.call1((number, what, moved.sent, moved.received, bytes(py, moved.data)?))),
    )
}

/// An error of ours, by its name in the table.
pub fn named(py: Python<'_>, err: &str, what: &str, moved: Moved<'_>) -> PyErr {
    static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    build(
        attribute(py, &MAKE, ERRORS, "make")
            .and_then(|make| make.call1((err, what, moved.sent, moved.received, bytes(py, moved.data)?))),
    )
}

static CANCELLED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// `sock.Cancelled`, raised where a thread waits. `what` is what was tried, on which address.
pub fn cancelled(py: Python<'_>, what: &str, moved: Moved<'_>) -> PyErr {
    build(attribute(py, &CANCELLED, ERRORS, "Cancelled").and_then(|class| {
        let exc = class.call1((format!("{what}: the thread was cancelled"),))?;
        if moved.sent + moved.received > 0 {
            exc.setattr("sent", moved.sent)?;
            exc.setattr("received", moved.received)?;
            exc.setattr("data", bytes(py, moved.data)?)?;
        }
        Ok(exc)
    }))
}

pub fn is_cancelled(exc: &Bound<'_, PyAny>) -> bool {
    let class = attribute(exc.py(), &CANCELLED, ERRORS, "Cancelled");
    class.is_ok_and(|class| exc.is_instance(&class).unwrap_or(false))
}
