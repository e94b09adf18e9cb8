//! References that cost less to give back than `PyO3`'s.

use std::mem::ManuallyDrop;
use std::ops::Deref;

use pyo3::ffi;
use pyo3::prelude::*;

/// A reference that goes only where the OS thread is attached, as those of an object do, and so without asking. Builds
/// with debug assertions ask nevertheless.
pub struct Attached<T>(ManuallyDrop<Py<T>>);

impl<T> Attached<T> {
    /// # Safety
    /// It is dropped by an attached OS thread, or never. So it is part of an object of Python, which goes nowhere else, or
    /// of what lives no longer than a `Python<'_>` or a `Bound` of the caller's. `Send` it is all the same, as its object
    /// is: whoever takes it elsewhere promises the same.
    pub unsafe fn new(object: Py<T>) -> Self {
        Attached(ManuallyDrop::new(object))
    }
}

impl<T> Deref for Attached<T> {
    type Target = Py<T>;
    fn deref(&self) -> &Py<T> {
        &self.0
    }
}

impl<T> Drop for Attached<T> {
    fn drop(&mut self) {
        // SAFETY: the reference is ours, and the OS thread is attached, as who made it has promised.
        unsafe {
            debug_assert!(ffi::PyGILState_Check() != 0, "a reference goes where the OS thread is not attached");
            ffi::Py_DECREF(self.0.as_ptr());
        }
    }
}
