//! Deadlines: add, move, remove, next due. A binary heap whose entries know their place, so that removing one costs
//! O(log n) and leaves nothing behind: 100,000 deadlines set and cancelled leave an empty heap.
//!
//! Times are nanoseconds of [`crate::clock::now`]. A [`Key`] of an entry that has fired or was removed is stale and
//! does nothing: slots carry a generation.

use std::ops::{Deref, DerefMut};

use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering};

/// No deadline.
pub const NEVER: u64 = u64::MAX;

/// Names an entry until it fires or is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    slot: u32,
    generation: u32,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    /// Place in the heap; meaningless while `value` is `None`.
    place: u32,
    value: Option<T>,
}

#[derive(Debug)]
pub struct Timers<T> {
    /// (due, slot), a binary heap with the earliest first; equal times fire in the order they were added.
    heap: Vec<(u64, u64, u32)>,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    added: u64,
    /// What a new slot's generation begins with: above that of every slot whose memory was given back.
    first_generation: u32,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Timers { heap: Vec::new(), slots: Vec::new(), free: Vec::new(), added: 0, first_generation: 0 }
    }
}

impl<T> Timers<T> {
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// When the earliest entry is due.
    pub fn next_due(&self) -> Option<u64> {
        self.heap.first().map(|entry| entry.0)
    }

    pub fn add(&mut self, due: u64, value: T) -> Key {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: self.first_generation, place: 0, value: None });
            (self.slots.len() - 1) as u32
        });
        let entry = &mut self.slots[slot as usize];
        entry.value = Some(value);
        let key = Key { slot, generation: entry.generation };
        self.added += 1;
        self.heap.push((due, self.added, slot));
        self.rise(self.heap.len() - 1);
        key
    }

    /// Gives the entry another time; `false` if the key is stale.
    pub fn reset(&mut self, key: Key, due: u64) -> bool {
        let Some(place) = self.place(key) else {
            return false;
        };
        self.added += 1;
        self.heap[place] = (due, self.added, key.slot);
        self.settle(place);
        true
    }

    pub fn remove(&mut self, key: Key) -> Option<T> {
        let place = self.place(key)?;
        Some(self.take(place))
    }

    /// Takes out the earliest entry if it is due by `now`.
    pub fn pop_due(&mut self, now: u64) -> Option<(Key, T)> {
        let &(due, _, slot) = self.heap.first()?;
        if due > now {
            return None;
        }
        let key = Key { slot, generation: self.slots[slot as usize].generation };
        Some((key, self.take(0)))
    }

    /// Takes everything out, in no order.
    pub fn drain(&mut self) -> Vec<T> {
        let mut all = Vec::with_capacity(self.heap.len());
        while !self.heap.is_empty() {
            all.push(self.take(self.heap.len() - 1));
        }
        all
    }

    fn place(&self, key: Key) -> Option<usize> {
        let slot = self.slots.get(key.slot as usize)?;
        (slot.generation == key.generation && slot.value.is_some()).then_some(slot.place as usize)
    }

    fn take(&mut self, place: usize) -> T {
        let (_, _, slot) = self.heap.swap_remove(place);
        if place < self.heap.len() {
            self.settle(place);
        }
        let entry = &mut self.slots[slot as usize];
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(slot);
        let value = entry.value.take();
        if self.heap.is_empty() && self.slots.len() > 1024 {
            // A burst is over: give its memory back.
            let newest = self.slots.iter().map(|slot| slot.generation).max().unwrap_or(0);
            self.first_generation = newest.wrapping_add(1);
            self.slots = Vec::new();
            self.free = Vec::new();
            self.heap = Vec::new();
        }
        value.expect("an entry in the heap has its value")
    }

    fn settle(&mut self, place: usize) {
        let place = self.rise(place);
        self.sink(place);
    }

    fn rise(&mut self, mut place: usize) -> usize {
        let entry = self.heap[place];
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.heap[parent] <= entry {
                break;
            }
            self.put(place, self.heap[parent]);
            place = parent;
        }
        self.put(place, entry);
        place
    }

    fn sink(&mut self, mut place: usize) {
        let entry = self.heap[place];
        loop {
            let mut child = 2 * place + 1;
            if child >= self.heap.len() {
                break;
            }
            if child + 1 < self.heap.len() && self.heap[child + 1] < self.heap[child] {
                child += 1;
            }
            if entry <= self.heap[child] {
                break;
            }
            self.put(place, self.heap[child]);
            place = child;
        }
        self.put(place, entry);
    }

    fn put(&mut self, place: usize, entry: (u64, u64, u32)) {
        self.heap[place] = entry;
        self.slots[entry.2 as usize].place = place as u32;
    }
}

/// The timers that OS threads share. When the next entry is due is known without the lock.
#[derive(Debug)]
pub struct SharedTimers<T> {
    timers: Mutex<Timers<T>>,
    next_due: AtomicU64,
}

/// The timers, locked.
pub struct Locked<'a, T> {
    timers: MutexGuard<'a, Timers<T>>,
    next_due: &'a AtomicU64,
}

impl<T> Default for SharedTimers<T> {
    fn default() -> Self {
        SharedTimers { timers: Mutex::new(Timers::default()), next_due: AtomicU64::new(NEVER) }
    }
}

impl<T> SharedTimers<T> {
    pub fn lock(&self) -> Locked<'_, T> {
        Locked { timers: self.timers.lock(), next_due: &self.next_due }
    }

    /// When the earliest entry is due, or `NEVER`.
    pub fn next_due(&self) -> u64 {
        self.next_due.load(Ordering::Acquire)
    }
}

impl<T> Deref for Locked<'_, T> {
    type Target = Timers<T>;
    fn deref(&self) -> &Timers<T> {
        &self.timers
    }
}

impl<T> DerefMut for Locked<'_, T> {
    fn deref_mut(&mut self) -> &mut Timers<T> {
        &mut self.timers
    }
}

impl<T> Drop for Locked<'_, T> {
    fn drop(&mut self) {
        self.next_due.store(self.timers.next_due().unwrap_or(NEVER), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(seed: u64) -> impl FnMut() -> u64 {
        let mut state = seed;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        }
    }

    #[test]
    fn entries_fire_in_order_and_none_early() {
        let mut timers = Timers::default();
        for due in [50, 10, 40, 10, 30] {
            timers.add(due, due);
        }
        assert_eq!(timers.next_due(), Some(10));
        assert!(timers.pop_due(9).is_none());
        let mut fired = Vec::new();
        while let Some((_, due)) = timers.pop_due(40) {
            fired.push(due);
        }
        assert_eq!(fired, [10, 10, 30, 40]);
        assert_eq!(timers.len(), 1);
    }

    #[test]
    fn equal_times_fire_in_the_order_they_were_added() {
        let mut timers = Timers::default();
        for n in 0..100 {
            timers.add(5, n);
        }
        let fired: Vec<i32> = std::iter::from_fn(|| timers.pop_due(5).map(|(_, n)| n)).collect();
        assert_eq!(fired, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn stale_key_does_nothing_even_when_its_slot_is_used_again() {
        let mut timers = Timers::default();
        let old = timers.add(1, 'a');
        assert_eq!(timers.remove(old), Some('a'));
        let new = timers.add(2, 'b');
        assert_eq!(timers.remove(old), None);
        assert!(!timers.reset(old, 9));
        assert!(timers.reset(new, 3));
        assert_eq!(timers.next_due(), Some(3));
    }

    #[test]
    fn set_and_cancelled_deadlines_leave_nothing() {
        let mut timers = Timers::default();
        let mut next = numbers(1);
        let keys: Vec<Key> = (0..100_000).map(|n| timers.add(next() % 1_000_000, n)).collect();
        for &key in &keys {
            assert!(timers.remove(key).is_some());
        }
        assert!(timers.is_empty() && timers.slots.len() <= 1 && timers.heap.capacity() == 0);
        timers.add(1, 0);
        assert!(keys.iter().all(|&key| timers.remove(key).is_none()), "old keys stay stale after the memory went");
    }

    #[test]
    fn next_due_of_shared_timers_is_known_without_the_lock() {
        let timers = SharedTimers::default();
        assert_eq!(timers.next_due(), NEVER);
        let late = timers.lock().add(20, ());
        timers.lock().add(10, ());
        assert_eq!(timers.next_due(), 10);
        assert!(timers.lock().pop_due(10).is_some());
        assert_eq!(timers.next_due(), 20);
        assert!(timers.lock().reset(late, 5));
        assert_eq!(timers.next_due(), 5);
        assert_eq!(timers.lock().drain().len(), 1);
        assert_eq!(timers.next_due(), NEVER);
    }

    #[test]
    fn random_operations_agree_with_a_sorted_list() {
        let mut timers = Timers::default();
        let mut model: Vec<(u64, Key, u64)> = Vec::new();
        let mut next = numbers(42);
        for id in 0..20_000 {
            match next() % 4 {
                0 | 1 => {
                    let due = next() % 1000;
                    model.push((due, timers.add(due, id), id));
                }
                2 if !model.is_empty() => {
                    let (_, key, value) = model.swap_remove(next() as usize % model.len());
                    assert_eq!(timers.remove(key), Some(value));
                }
                _ if !model.is_empty() => {
                    let at = next() as usize % model.len();
                    let due = next() % 1000;
                    model[at].0 = due;
                    assert!(timers.reset(model[at].1, due));
                }
                _ => {}
            }
            assert_eq!(timers.next_due(), model.iter().map(|entry| entry.0).min());
            assert_eq!(timers.len(), model.len());
        }
    }
}
