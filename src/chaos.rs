//! Trouble made on purpose, in tests: what the OS and the scheduler may always do, more often, and by a seed.
//!
//! Each thread has a sequence of its own, so that what happens to it depends as little as can be on what the others do.
//! Off, it is one load and a branch for each question.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::wait::{BUDGET, set_first_budget};

static ON: AtomicBool = AtomicBool::new(false);

/// Nothing is dropped under it that runs Python.
static STATE: Mutex<Option<State>> = Mutex::new(None);

/// Whose sequence it is that belongs to no thread.
pub const NOBODY: u64 = u64::MAX;

struct State {
    seed: u64,
    /// The number of the next thread when it began: threads are known by how many were made before them since.
    first: u64,
    drawn: HashMap<u64, u64>,
}

impl State {
    /// The next number of a sequence (splitmix64).
    fn draw(&mut self, whose: u64) -> u64 {
        let whose = whose.wrapping_sub(self.first);
        let drawn = self.drawn.entry(whose).or_default();
        *drawn += 1;
        mix(mix(self.seed ^ mix(whose)).wrapping_add(*drawn))
    }

    /// All of `len`, one, or any number. At least one, unless there are none.
    fn part(&mut self, whose: u64, len: usize) -> usize {
        let n = self.draw(whose);
        match n % 4 {
            _ if len <= 1 => len,
            0 => len,
            1 => 1,
            _ => 1 + (n >> 2) as usize % len,
        }
    }

    fn delay(&mut self, whose: u64) -> Option<u64> {
        let n = self.draw(whose);
        n.is_multiple_of(32).then(|| 1_000_000 + (n >> 5) % 3_000_000)
    }

    fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            all.swap(last, self.draw(NOBODY) as usize % (last + 1));
        }
    }
}

fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// `false`: it has begun already.
pub fn begin(seed: u64, first: u64) -> bool {
    let mut state = STATE.lock();
    if state.is_some() {
        return false;
    }
    *state = Some(State { seed, first, drawn: HashMap::new() });
    ON.store(true, Ordering::Relaxed);
    set_first_budget(0);
    true
}

pub fn end() {
    ON.store(false, Ordering::Relaxed);
    set_first_budget(BUDGET);
    *STATE.lock() = None;
}

#[inline]
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Whether it happens this time, as it does once in `one_in` times.
#[cold]
#[inline(never)]
pub fn strikes(whose: u64, one_in: u64) -> bool {
    STATE.lock().as_mut().is_some_and(|state| state.draw(whose) % one_in == 0)
}

/// For how many nanoseconds something is held up this time: mostly not at all, now and then for 1 to 4 ms.
#[cold]
#[inline(never)]
pub fn delay(whose: u64) -> Option<u64> {
    STATE.lock().as_mut().and_then(|state| state.delay(whose))
}

/// How many bytes of `len` a call is to move.
#[cold]
#[inline(never)]
pub fn part(whose: u64, len: usize) -> usize {
    STATE.lock().as_mut().map_or(len, |state| state.part(whose, len))
}

/// Another order: the OS reports its events in any.
#[cold]
#[inline(never)]
pub fn shuffle<T>(all: &mut [T]) {
    if let Some(state) = STATE.lock().as_mut() {
        state.shuffle(all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(seed: u64, first: u64) -> State {
        State { seed, first, drawn: HashMap::new() }
    }

    #[test]
    fn a_sequence_depends_on_the_seed_and_on_who_asks_alone() {
        let (mut one, mut other) = (state(7, 10), state(7, 30));
        let first: Vec<_> = (0..20).map(|_| one.draw(12)).collect();
        // As the third thread again, with others in between.
        let second: Vec<_> = (0..20)
            .map(|i| {
                other.draw(31 + i % 3 * 10);
                other.draw(32)
            })
            .collect();
        assert_eq!(first, second);
        assert_ne!(first, (0..20).map(|_| one.draw(13)).collect::<Vec<_>>());
        let mut another = state(8, 10);
        assert_ne!(first, (0..20).map(|_| another.draw(12)).collect::<Vec<_>>());
    }

    #[test]
    fn parts_are_of_all_sizes_and_in_bounds() {
        let mut state = state(1, 0);
        let parts: Vec<_> = (0..1000).map(|_| state.part(1, 100)).collect();
        assert!(parts.iter().all(|part| (1..=100).contains(part)));
        assert!([1, 50, 100].iter().all(|size| parts.contains(size)));
        assert_eq!((state.part(1, 0), state.part(1, 1)), (0, 1));
    }

    #[test]
    fn delays_are_seldom_short_and_the_same_for_a_seed() {
        let delays = |seed| {
            let mut state = state(seed, 0);
            (0..3200).map(|_| state.delay(1)).collect::<Vec<_>>()
        };
        let some: Vec<_> = delays(1).into_iter().flatten().collect();
        assert!((50..200).contains(&some.len()), "once in 32 times");
        assert!(some.iter().all(|delay| (1_000_000..4_000_000).contains(delay)));
        assert_eq!(delays(1), delays(1));
        assert_ne!(delays(1), delays(2));
    }

    #[test]
    fn another_order_has_the_same_things() {
        let mut all: Vec<_> = (0..100).collect();
        state(1, 0).shuffle(&mut all);
        assert!(!all.is_sorted());
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
    }
}
