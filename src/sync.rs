//! The locks and atomics of the model-checked rooms, named in one place so that a model checker can replace them.

#[cfg(feature = "model")]
pub use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
#[cfg(not(feature = "model"))]
pub use parking_lot::{Condvar, Mutex, MutexGuard};
#[cfg(not(feature = "model"))]
pub use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

#[cfg(feature = "model")]
pub use self::model::{Condvar, Mutex, MutexGuard};

/// The model checker's locks, called as the others are.
#[cfg(feature = "model")]
#[allow(clippy::unused_self)] // called as the others
mod model {
    use std::ops::{Deref, DerefMut};
    use std::time::Duration;

    use loom::sync;

    #[derive(Debug, Default)]
    pub struct Mutex<V>(sync::Mutex<V>);

    /// Empty only while a condition is waited for.
    #[derive(Debug)]
    pub struct MutexGuard<'a, V>(Option<sync::MutexGuard<'a, V>>);

    #[derive(Debug, Default)]
    pub struct Condvar(sync::Condvar);

    /// How a wait with a timeout ended.
    #[derive(Debug)]
    pub struct InTime;

    impl InTime {
        pub fn timed_out(&self) -> bool {
            false
        }
    }

    impl<V> Mutex<V> {
        pub fn new(value: V) -> Self {
            Mutex(sync::Mutex::new(value))
        }

        pub fn lock(&self) -> MutexGuard<'_, V> {
            MutexGuard(Some(self.0.lock().unwrap()))
        }

        pub fn try_lock(&self) -> Option<MutexGuard<'_, V>> {
            self.0.try_lock().ok().map(|guard| MutexGuard(Some(guard)))
        }

        /// What only the child of a fork does.
        pub unsafe fn force_unlock(&self) {
            unreachable!("nothing forks in a model");
        }
    }

    impl<V> Deref for MutexGuard<'_, V> {
        type Target = V;
        fn deref(&self) -> &V {
            self.0.as_ref().unwrap()
        }
    }

    impl<V> DerefMut for MutexGuard<'_, V> {
        fn deref_mut(&mut self) -> &mut V {
            self.0.as_mut().unwrap()
        }
    }

    impl Condvar {
        pub fn new() -> Self {
            Condvar(sync::Condvar::new())
        }

        pub fn wait<V>(&self, guard: &mut MutexGuard<'_, V>) {
            guard.0 = guard.0.take().map(|held| self.0.wait(held).unwrap());
        }

        /// No time passes in a model.
        pub fn wait_for<V>(&self, guard: &mut MutexGuard<'_, V>, _timeout: Duration) -> InTime {
            self.wait(guard);
            InTime
        }

        pub fn notify_one(&self) {
            self.0.notify_one();
        }

        pub fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}

/// A number that is only changed by OS threads attached to the interpreter. Where the interpreter's lock lets one of
/// them run at a time, plain loads and stores do; elsewhere it is changed atomically. The poll, which runs without the
/// interpreter, may only look at it.
#[derive(Debug)]
pub struct Exclusive(AtomicUsize);

impl Exclusive {
    pub fn new(value: usize) -> Self {
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
            let next = change(now);
            if next == now {
                return now;
            }
            match self.0.compare_exchange_weak(now, next, Ordering::AcqRel, Ordering::Relaxed) {
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
