//! References that cost less to give back than `PyO3`'s.

use std::mem::ManuallyDrop;
use std::ops::Deref;

use pyo3::ffi;
use pyo3::prelude::*;

/// A reference that goes only where the OS thread is attached, as those of an object do, and so without asking.
pub struct Attached<T>(ManuallyDrop<Py<T>>);

impl<T> Attached<T> {
    pub fn new(object: Py<T>) -> Self {
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
        // SAFETY: the reference is ours, and the OS thread is attached.
        unsafe { ffi::Py_DECREF(self.0.as_ptr()) };
    }
}
