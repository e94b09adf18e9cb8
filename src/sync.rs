//! The locks and atomics of the model-checked rooms, named in one place so that a model checker can replace them.

#[cfg(feature = "model")]
pub use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
#[cfg(not(feature = "model"))]
pub use parking_lot::{Condvar, Mutex, MutexGuard};
#[cfg(not(feature = "model"))]
pub use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

#[cfg(feature = "model")]
pub use self::model::{Condvar, Mutex, Mutex as BriefMutex, MutexGuard};

/// A lock for what takes a few instructions. It costs one atomic write, where one in which the OS lets an OS thread sleep
/// costs two; whoever finds it held lets others run until it is not.
#[cfg(not(feature = "model"))]
pub type BriefMutex<V> = lock_api::Mutex<Brief, V>;

#[cfg(not(feature = "model"))]
#[derive(Debug)]
pub struct Brief(AtomicBool);

#[cfg(not(feature = "model"))]
impl Brief {
    #[cold]
    #[inline(never)]
    fn wait(&self) {
        // Its holder needs some nanoseconds; unless it has lost its processor, perhaps to an OS thread that waits here and
        // has more of a right to run, which has to sleep then.
        for turn in 0_u32.. {
            match turn {
                0..64 => std::hint::spin_loop(),
                64..256 => std::thread::yield_now(),
                256.. => std::thread::sleep(std::time::Duration::from_micros(50)),
            }
            if !self.0.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

// SAFETY: who has changed it from false to true has it, until it is changed back.
#[cfg(not(feature = "model"))]
unsafe impl lock_api::RawMutex for Brief {
    const INIT: Self = Brief(AtomicBool::new(false));
    type GuardMarker = lock_api::GuardNoSend;

    #[inline]
    fn lock(&self) {
        while !self.try_lock() {
            self.wait();
        }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        self.0.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline]
    unsafe fn unlock(&self) {
        self.0.store(false, Ordering::Release);
    }
}

/// In the child of a fork: a lock that is held is held by an OS thread that exists in the parent alone.
#[cfg(not(feature = "model"))]
pub fn seize<R: lock_api::RawMutex, V>(mutex: &lock_api::Mutex<R, V>) -> lock_api::MutexGuard<'_, R, V> {
    mutex.try_lock().unwrap_or_else(|| {
        // SAFETY: the only OS thread of this process is here, and does not hold it, since nothing forks under a lock.
        unsafe { mutex.force_unlock() };
        mutex.lock()
    })
}

/// Nothing forks in a model.
#[cfg(feature = "model")]
pub fn seize<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock()
}

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

#[cfg(all(test, not(feature = "model")))]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn brief_lock_lets_one_in_at_a_time() {
        let count = BriefMutex::new(0_u32);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50_000 {
                        let mut held = count.lock();
                        let before = *held;
                        *held = std::hint::black_box(before) + 1;
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 200_000);
    }

    #[test]
    fn brief_lock_that_is_held_for_long_is_had_in_the_end() {
        let turns = BriefMutex::new(Vec::new());
        let held = turns.lock();
        thread::scope(|scope| {
            let other = scope.spawn(|| turns.lock().push("the other"));
            thread::sleep(Duration::from_millis(20));
            assert!(!other.is_finished() && turns.try_lock().is_none());
            let mut held = held;
            held.push("the first");
        });
        assert_eq!(turns.into_inner(), ["the first", "the other"]);
    }

    #[test]
    fn lock_that_nobody_will_give_back_is_seized() {
        let (brief, other) = (BriefMutex::new(1), Mutex::new(2));
        std::mem::forget((brief.lock(), other.lock()));
        assert_eq!((*seize(&brief), *seize(&other)), (1, 2));
        assert!(brief.try_lock().is_some() && other.try_lock().is_some());
    }
}
