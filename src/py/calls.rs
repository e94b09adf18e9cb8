//! `newthread`, `clock`, `recv` and `send` once more, as the interpreter calls them cheapest: with plain C arguments; methods owned
//! by the very class of the object, which is what its specialized calls ask for (3.13: 60 ns less for each call). Keyword
//! arguments but `expires`, and whatever else is rare, go to the complete function, or the method of the base class.

use std::ffi::{CStr, CString, c_char, c_int};
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};

use super::ops;
use super::ops::datagrams::{self, Peer};
use super::poller;
use super::socket::{Socket, Stream};
use super::thread;

/// A method, and the base class's one, a reference that is never given back.
struct Own {
    name: &'static CStr,
    function: ffi::PyCFunctionFastWithKeywords,
    base: AtomicPtr<ffi::PyObject>,
}

impl Own {
    const fn new(name: &'static CStr, function: ffi::PyCFunctionFastWithKeywords) -> Self {
        Own { name, function, base: AtomicPtr::new(ptr::null_mut()) }
    }
}

static STREAM: [Own; 2] = [Own::new(c"recv", recv), Own::new(c"send", send)];
static DATAGRAM: [Own; 2] = [Own::new(c"recvfrom", recv_from), Own::new(c"send", send_to)];

/// The most positional arguments of a quick call.
const MOST: usize = 3;

pub fn bug() -> PyErr {
    PyRuntimeError::new_err("a bug in sock: the panic's message is on stderr")
}

/// A result as C functions return it.
fn returned<T>(py: Python<'_>, result: PyResult<Bound<'_, T>>) -> *mut ffi::PyObject {
    match result {
        Ok(made) => made.into_ptr(),
        Err(error) => {
            error.restore(py);
            ptr::null_mut()
        }
    }
}

type Arg<'a, 'py> = Option<&'a Bound<'py, PyAny>>;
type Args<'a, 'py> = &'a [ManuallyDrop<Bound<'py, PyAny>>];

/// The name of the keyword argument that many calls have, as the interpreter keeps it. Never given back.
static EXPIRES: AtomicPtr<ffi::PyObject> = AtomicPtr::new(ptr::null_mut());

/// Whether `expires` is the one keyword. `false` also where the name is another object, which is rare.
///
/// # Safety
/// `names` is a tuple.
unsafe fn is_expires(names: *mut ffi::PyObject) -> bool {
    // SAFETY: as the caller promises; the first of its items is there.
    unsafe { ffi::PyTuple_GET_SIZE(names) == 1 && ffi::PyTuple_GET_ITEM(names, 0) == EXPIRES.load(Ordering::Acquire) }
}

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
    quick: impl for<'py> Fn(&Bound<'py, Socket>, Args<'_, 'py>, Arg<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>>,
) -> *mut ffi::PyObject {
    // SAFETY: methods are called by attached OS threads, with live arguments.
    unsafe {
        let py = Python::assume_attached();
        let count = nargs as usize;
        if (kwnames.is_null() || is_expires(kwnames)) && (1..=MOST).contains(&count) {
            let socket = borrowed(py, slf);
            let all: [_; MOST] = std::array::from_fn(|i| borrowed(py, if i < count { *args.add(i) } else { slf }));
            let expires = borrowed(py, if kwnames.is_null() { ffi::Py_None() } else { *args.add(count) });
            let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                quick(socket.cast_unchecked(), &all[..count], Some(&*expires).filter(|expires| !expires.is_none()))
            }));
            if let Some(made) = made.unwrap_or_else(|_| Some(Err(bug()))) {
                return returned(py, made);
            }
        }
        let named = if kwnames.is_null() { 0 } else { ffi::PyTuple_Size(kwnames) };
        let mut all = vec![slf];
        all.extend((0..nargs + named).map(|i| *args.offset(i)));
        ffi::PyObject_Vectorcall(base.load(Ordering::Acquire), all.as_ptr(), all.len() - named as usize, kwnames)
    }
}

/// The optional second argument of a quick call.
fn maxlen<'a, 'py>(args: Args<'a, 'py>) -> Arg<'a, 'py> {
    args.get(1).map(|maxlen| &**maxlen).filter(|maxlen| !maxlen.is_none())
}

unsafe extern "C" fn recv(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargs: ffi::Py_ssize_t,
    kwnames: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as the interpreter calls us.
    unsafe {
        call(slf, args, nargs, kwnames, &STREAM[0].base, |socket, args, expires| {
            (args.len() <= 2).then(|| ops::recv(socket, &args[0], maxlen(args), expires))
        })
    }
}

unsafe extern "C" fn send(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargs: ffi::Py_ssize_t,
    kwnames: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as the interpreter calls us.
    unsafe {
        call(slf, args, nargs, kwnames, &STREAM[1].base, |socket, args, expires| {
            (args.len() <= 2).then(|| ops::send(socket, &args[0], maxlen(args), expires))
        })
    }
}

unsafe extern "C" fn recv_from(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargs: ffi::Py_ssize_t,
    kwnames: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as the interpreter calls us.
    unsafe {
        call(slf, args, nargs, kwnames, &DATAGRAM[0].base, |socket, args, expires| {
            (args.len() <= 2).then(|| datagrams::recv_from(socket, &args[0], maxlen(args), true, None, expires))
        })
    }
}

unsafe extern "C" fn send_to(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargs: ffi::Py_ssize_t,
    kwnames: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as the interpreter calls us.
    unsafe {
        call(slf, args, nargs, kwnames, &DATAGRAM[1].base, |socket, args, expires| {
            let host = args.get(2).map(|host| &**host).filter(|host| !host.is_none());
            match datagrams::peer(socket.get(), host, None) {
                Ok(Peer::Any) => Some(datagrams::send_to(socket, &args[0], maxlen(args), None, expires)),
                Ok(Peer::Address(to)) => Some(datagrams::send_to(socket, &args[0], maxlen(args), Some(to), expires)),
                Ok(Peer::Name) => None,
                Err(error) => Some(Err(error)),
            }
        })
    }
}

fn with_keywords(function: ffi::PyCFunctionFastWithKeywords) -> (ffi::PyMethodDefPointer, c_int) {
    let function = ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: function };
    (function, ffi::METH_FASTCALL | ffi::METH_KEYWORDS as c_int)
}

/// What the interpreter is told of a function that stands for `complete`. It stays for ever.
fn definition(
    name: &'static CStr,
    (function, flags): (ffi::PyMethodDefPointer, c_int),
    complete: &Bound<'_, PyAny>,
) -> PyResult<&'static mut ffi::PyMethodDef> {
    let signature: String = complete.getattr("__text_signature__")?.extract()?;
    let doc: String = complete.getattr("__doc__")?.extract()?;
    let doc = CString::new(format!("{}{signature}\n--\n\n{doc}", name.to_string_lossy()))?;
    Ok(Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: name.as_ptr().cast::<c_char>(),
        ml_meth: function,
        ml_flags: flags,
        ml_doc: doc.into_raw(),
    })))
}

/// Gives a class derived from `Stream` or `Datagram` its own methods. Once for each class: what is made here stays.
#[pyfunction]
pub fn own_methods(class_: &Bound<'_, PyType>) -> PyResult<()> {
    let class = class_;
    let py = class.py();
    EXPIRES.store(PyString::intern(py, "expires").into_ptr(), Ordering::Release);
    let methods = if class.is_subclass_of::<Stream>()? { &STREAM } else { &DATAGRAM };
    for own in methods {
        let name = own.name.to_string_lossy();
        let method = class.getattr(&*name)?;
        let definition = definition(own.name, with_keywords(own.function), &method)?;
        own.base.store(method.into_ptr(), Ordering::Release);
        // SAFETY: a live class, of the sockets that its base says, and a definition that lives for ever.
        let descriptor =
            unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyDescr_NewMethod(class.as_ptr().cast(), definition)) }?;
        class.setattr(&*name, descriptor)?;
    }
    Ok(())
}

/// The function with all its arguments.
static NEWTHREAD: AtomicPtr<ffi::PyObject> = AtomicPtr::new(ptr::null_mut());

unsafe extern "C" fn newthread(
    _module: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargs: ffi::Py_ssize_t,
    kwnames: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as the interpreter calls a function, attached, with live arguments.
    unsafe {
        let py = Python::assume_attached();
        if nargs < 1 || !kwnames.is_null() {
            return ffi::PyObject_Vectorcall(NEWTHREAD.load(Ordering::Acquire), args, nargs as usize, kwnames);
        }
        let made = std::panic::catch_unwind(|| {
            let func = borrowed(py, *args);
            thread::start(thread::coroutine(&func, args.add(1), nargs as usize - 1)?, None)
        });
        returned(py, made.unwrap_or_else(|_| Err(bug())))
    }
}

unsafe extern "C" fn clock(_module: *mut ffi::PyObject, _none: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // Where nothing can panic, as on Unix, the compiler leaves no trace of this.
    let now = std::panic::catch_unwind(poller::clock);
    // SAFETY: as the interpreter calls a function, attached.
    unsafe {
        if let Ok(now) = now {
            return ffi::PyFloat_FromDouble(now);
        }
        bug().restore(Python::assume_attached());
    }
    ptr::null_mut()
}

/// Puts the quick functions before the complete ones.
pub fn add_functions(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let newthread_ = pyo3::wrap_pyfunction!(thread::newthread, module)?;
    add(module, definition(c"newthread", with_keywords(newthread), newthread_.as_any())?)?;
    NEWTHREAD.store(newthread_.into_ptr(), Ordering::Release);
    let complete = pyo3::wrap_pyfunction!(poller::clock, module)?;
    let function = (ffi::PyMethodDefPointer { PyCFunction: clock }, ffi::METH_NOARGS);
    add(module, definition(c"clock", function, complete.as_any())?)
}

fn add(module: &Bound<'_, PyModule>, definition: &'static mut ffi::PyMethodDef) -> PyResult<()> {
    let (py, name) = (module.py(), module.name()?);
    // SAFETY: a definition that lives for ever, with its name.
    unsafe {
        let called = CStr::from_ptr(definition.ml_name).to_string_lossy();
        let quick = ffi::PyCFunction_NewEx(definition, ptr::null_mut(), name.as_ptr());
        module.add(&*called, Bound::from_owned_ptr_or_err(py, quick)?)
    }
}
