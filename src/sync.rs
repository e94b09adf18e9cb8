//! The locks and atomics of the model-checked rooms, named in one place so that a model checker can replace them.

pub use parking_lot::{Condvar, Mutex, MutexGuard};
pub use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// A number that is only changed by OS threads attached to the interpreter. Where the interpreter's lock lets one of
/// them run at a time, plain loads and stores do; elsewhere it is changed atomically. The poll, which runs without the
/// interpreter, may only look at it.
#[derive(Debug)]
pub struct Exclusive(AtomicUsize);

impl Exclusive {
    pub const fn new(value: usize) -> Self {
        Exclusive(AtomicUsize::new(value))
    }

    pub fn get(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    pub fn set(&self, value: usize) {
        self.0.store(value, Ordering::Release);
    }

    /// Changes the number and returns the one before.
    #[cfg(any(Py_GIL_DISABLED, not(feature = "python")))]
    pub fn update(&self, change: impl Fn(usize) -> usize) -> usize {
        let mut now = self.0.load(Ordering::Relaxed);
        loop {
            match self.0.compare_exchange_weak(now, change(now), Ordering::AcqRel, Ordering::Relaxed) {
                Ok(before) => return before,
                Err(other) => now = other,
            }
        }
    }

    #[cfg(not(any(Py_GIL_DISABLED, not(feature = "python"))))]
    pub fn update(&self, change: impl Fn(usize) -> usize) -> usize {
        let before = self.get();
        self.set(change(before));
        before
    }
}
