//! `recv` and `send` once more, as the interpreter calls methods cheapest: with plain C arguments, and owned by the very
//! class of the object, which is what its specialized calls ask for (3.13: 60 ns less for each call). Anything but one
//! or two positional arguments goes to the method of the base class.

use std::ffi::{CString, c_char, c_int};
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::ops;
use super::socket::Socket;

/// The base class's methods, references that are never given back.
static RECV: AtomicPtr<ffi::PyObject> = AtomicPtr::new(ptr::null_mut());
static SEND: AtomicPtr<ffi::PyObject> = AtomicPtr::new(ptr::null_mut());

/// A reference that somebody else holds for as long as it is used.
///
/// # Safety
/// `object` is a live object while the result is used.
unsafe fn borrowed(py: Python<'_>, object: *mut ffi::PyObject) -> ManuallyDrop<Bound<'_, PyAny>> {
    // SAFETY: as the caller promises; never dropped, so that no reference is given back.
    ManuallyDrop::new(unsafe { Bound::from_owned_ptr(py, object) })
}

/// # Safety
/// As the interpreter calls a `METH_FASTCALL` | `METH_KEYWORDS` method of a stream socket.
#[inline(always)] // once for each method
unsafe fn call(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargs: ffi::Py_ssize_t,
    kwnames: *mut ffi::PyObject,
    base: &AtomicPtr<ffi::PyObject>,
    operation: impl for<'py> Fn(
        &Bound<'py, Socket>,
        &Bound<'py, PyAny>,
        Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>>,
) -> *mut ffi::PyObject {
    // SAFETY: methods are called by attached OS threads, with live arguments.
    unsafe {
        let py = Python::assume_attached();
        if !kwnames.is_null() || !(1..=2).contains(&nargs) {
            let named = if kwnames.is_null() { 0 } else { ffi::PyTuple_Size(kwnames) };
            let mut all = vec![slf];
            all.extend((0..nargs + named).map(|i| *args.offset(i)));
            return ffi::PyObject_Vectorcall(
                base.load(Ordering::Acquire),
                all.as_ptr(),
                all.len() - named as usize,
                kwnames,
            );
        }
        let socket = borrowed(py, slf);
        let first = borrowed(py, *args);
        let second = (nargs == 2).then(|| borrowed(py, *args.add(1)));
        let maxlen = second.as_deref().filter(|maxlen| !maxlen.is_none());
        let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            operation(socket.cast_unchecked(), &first, maxlen)
        }));
        match made.unwrap_or_else(|_| Err(PyRuntimeError::new_err("a bug in sock: the panic's message is on stderr"))) {
            Ok(made) => made.into_ptr(),
            Err(error) => {
                error.restore(py);
                ptr::null_mut()
            }
        }
    }
}

unsafe extern "C" fn recv(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargs: ffi::Py_ssize_t,
    kwnames: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as the interpreter calls us.
    unsafe { call(slf, args, nargs, kwnames, &RECV, |socket, into, maxlen| ops::recv(socket, into, maxlen, None)) }
}

unsafe extern "C" fn send(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargs: ffi::Py_ssize_t,
    kwnames: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as the interpreter calls us.
    unsafe { call(slf, args, nargs, kwnames, &SEND, |socket, data, maxlen| ops::send(socket, data, maxlen, None)) }
}

/// Gives a class derived from `Stream` its own `recv` and `send`. Once for each class: what is made here stays.
#[pyfunction]
pub fn own_methods(class_: &Bound<'_, PyType>) -> PyResult<()> {
    let class = class_;
    let py = class.py();
    let methods = [(c"recv", recv as ffi::PyCFunctionFastWithKeywords, &RECV), (c"send", send, &SEND)];
    for (name, function, base) in methods {
        let name_of = name.to_string_lossy();
        let method = class.getattr(&*name_of)?;
        let signature: String = method.getattr("__text_signature__")?.extract()?;
        let doc: String = method.getattr("__doc__")?.extract()?;
        let doc = CString::new(format!("{name_of}{signature}\n--\n\n{doc}"))?;
        let definition = Box::leak(Box::new(ffi::PyMethodDef {
            ml_name: name.as_ptr().cast::<c_char>(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: function },
            ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS as c_int,
            ml_doc: doc.into_raw(),
        }));
        base.store(method.into_ptr(), Ordering::Release);
        // SAFETY: a live class, of stream sockets as the caller promises, and a definition that lives for ever.
        let own =
            unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyDescr_NewMethod(class.as_ptr().cast(), definition)) }?;
        class.setattr(&*name_of, own)?;
    }
    Ok(())
}
