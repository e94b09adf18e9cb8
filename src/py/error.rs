//! From Rust's errors to Python's: the table of names and classes is Python's, in `sock._errors`.

use std::io;

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

fn attribute<'py>(py: Python<'py>, cell: &PyOnceLock<Py<PyAny>>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let value = cell.get_or_try_init(py, || Ok::<_, PyErr>(py.import("sock._errors")?.getattr(name)?.unbind()))?;
    Ok(value.bind(py).clone())
}

fn build(made: PyResult<Bound<'_, PyAny>>) -> PyErr {
    match made {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
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
        attribute(py, &FROM_OS, "from_os")
            .and_then(|make| make.call1((number, what, moved.sent, moved.received, PyBytes::new(py, moved.data)))),
    )
}

/// An error of ours, by its name in the table.
pub fn named(py: Python<'_>, err: &str, what: &str, moved: Moved<'_>) -> PyErr {
    static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    build(
        attribute(py, &MAKE, "make")
            .and_then(|make| make.call1((err, what, moved.sent, moved.received, PyBytes::new(py, moved.data)))),
    )
}

/// `sock.Cancelled`, raised where a thread waits.
pub fn cancelled(py: Python<'_>) -> PyErr {
    static CANCELLED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    build(attribute(py, &CANCELLED, "Cancelled").and_then(|class| class.call0()))
}
