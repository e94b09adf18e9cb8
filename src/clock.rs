//! The time of all deadlines: the OS's, or, in tests, one that stands still until it is set.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys;

/// The time that was set; 0: none.
static SET: AtomicU64 = AtomicU64::new(0);

/// Monotonic nanoseconds.
#[inline]
pub fn now() -> u64 {
    match SET.load(Ordering::Relaxed) {
        0 => sys::now(),
        set => set,
    }
}

/// The same to within some milliseconds, cheaper where the OS has such a clock.
#[inline]
pub fn about_now() -> u64 {
    match SET.load(Ordering::Relaxed) {
        0 => sys::about_now(),
        set => set,
    }
}

/// Stands still at that time from now on; `None`: goes on as the OS's.
pub fn set(time: Option<u64>) {
    SET.store(time.map_or(0, |time| time.max(1)), Ordering::Relaxed);
}

#[inline]
pub fn is_set() -> bool {
    SET.load(Ordering::Relaxed) != 0
}
