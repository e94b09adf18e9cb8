//! Numbers as arguments and as results. Wrong types are told from numbers that are out of range, however large those are.

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::ffi;
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
    if let Some(n) = kept::known(value) {
        return Ok(n as i64);
    }
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

/// An int. Those that the interpreter does not keep itself we do, by and by: messages of one length come again and again.
pub fn number(py: Python<'_>, n: usize) -> Py<PyAny> {
    match kept::get(n) {
        // SAFETY: a live object, to which `kept` holds a reference.
        Some(known) => unsafe { Bound::from_borrowed_ptr(py, known).unbind() },
        None => new_number(py, n),
    }
}

#[inline(never)]
fn new_number(py: Python<'_>, n: usize) -> Py<PyAny> {
    // SAFETY: PyLong_FromSize_t returns a new reference, or null without memory, which from_owned_ptr turns into a panic.
    let made = unsafe { Bound::from_owned_ptr(py, ffi::PyLong_FromSize_t(n)) };
    kept::keep(n, &made);
    made.unbind()
}

#[cfg(not(Py_GIL_DISABLED))]
mod kept {
    use std::ptr;
    use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

    use super::{Bound, PyAny, ffi};

    /// The newest of those that share a place.
    struct Place {
        n: AtomicUsize,
        object: AtomicPtr<ffi::PyObject>,
    }

    /// Guarded by the interpreter's lock.
    static PLACES: [Place; 64] =
        [const { Place { n: AtomicUsize::new(0), object: AtomicPtr::new(ptr::null_mut()) } }; 64];

    /// Where the last result is. As an argument it often comes back at once: so many bytes were received, send them.
    static LAST: AtomicUsize = AtomicUsize::new(0);

    fn place(n: usize) -> &'static Place {
        let at = (n ^ n >> 6 ^ n >> 12) % PLACES.len();
        LAST.store(at, Ordering::Relaxed);
        &PLACES[at]
    }

    /// Which number it is, if it was the last result.
    pub fn known(object: &Bound<'_, PyAny>) -> Option<usize> {
        let place = &PLACES[LAST.load(Ordering::Relaxed) % PLACES.len()];
        (place.object.load(Ordering::Relaxed) == object.as_ptr()).then(|| place.n.load(Ordering::Relaxed))
    }

    pub fn get(n: usize) -> Option<*mut ffi::PyObject> {
        let place = place(n);
        let object = place.object.load(Ordering::Relaxed);
        (!object.is_null() && place.n.load(Ordering::Relaxed) == n).then_some(object)
    }

    pub fn keep(n: usize, object: &Bound<'_, PyAny>) {
        let place = place(n);
        place.n.store(n, Ordering::Relaxed);
        let old = place.object.load(Ordering::Relaxed);
        place.object.store(object.clone().into_ptr(), Ordering::Relaxed);
        // SAFETY: our own reference, or null. It is an int, whose end runs no code.
        unsafe { ffi::Py_XDECREF(old) };
    }
}

/// Without the interpreter's lock, to keep them costs more than to make them.
#[cfg(Py_GIL_DISABLED)]
mod kept {
    use super::{Bound, PyAny, ffi};

    pub fn known(_object: &Bound<'_, PyAny>) -> Option<usize> {
        None
    }

    pub fn get(_n: usize) -> Option<*mut ffi::PyObject> {
        None
    }

    pub fn keep(_n: usize, _object: &Bound<'_, PyAny>) {}
}
