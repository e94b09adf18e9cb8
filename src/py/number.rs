//! Numbers as arguments. Wrong types are told from numbers that are out of range, however large those are.

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBool;

/// Why an argument is no int that we can use.
pub enum NoInt {
    /// A bool, or anything else.
    WrongType,
    OutOfRange,
    /// Its own `__index__` raised something, such as Ctrl-C's exception: nothing that is ours to judge.
    Raised(PyErr),
}

/// An argument that has to be an int.
#[inline(always)] // part of each call with a `maxlen`
pub fn int(value: &Bound<'_, PyAny>) -> Result<i64, NoInt> {
    if value.is_instance_of::<PyBool>() {
        return Err(NoInt::WrongType);
    }
    value.extract::<i64>().map_err(|error| no_int(value.py(), error))
}

#[cold]
fn no_int(py: Python<'_>, error: PyErr) -> NoInt {
    if error.is_instance_of::<PyOverflowError>(py) {
        NoInt::OutOfRange
    } else if error.is_instance_of::<PyTypeError>(py) {
        NoInt::WrongType
    } else {
        NoInt::Raised(error)
    }
}

/// An argument that has to be a number of seconds; what is too large for a float is as good as infinite. None: no number.
/// What the argument's own methods raise comes out.
pub fn float(value: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
    match value.extract::<f64>() {
        Ok(seconds) => Ok(Some(seconds)),
        Err(error) if error.is_instance_of::<PyOverflowError>(value.py()) => {
            Ok(Some(if value.lt(0)? { f64::NEG_INFINITY } else { f64::INFINITY }))
        }
        Err(error) if error.is_instance_of::<PyTypeError>(value.py()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// An argument that has to be seconds; `wanted` begins the message about anything else.
#[pyfunction]
pub fn seconds(value: &Bound<'_, PyAny>, wanted: &str) -> PyResult<f64> {
    match float(value)? {
        Some(seconds) if seconds.is_nan() => Err(PyValueError::new_err(format!("{wanted}, not nan"))),
        Some(seconds) => Ok(seconds),
        None => Err(PyTypeError::new_err(format!("{wanted}, not {}", value.get_type().name()?))),
    }
}
