//! One direction of one socket: ready or not, closed or not, who uses it, who waits for it.
//!
//! Events are counted, in a word with what they said, and a direction is ready while there is one that was not used up.
//! An operation takes a [`Snapshot`] of the word before its system call; when the call would block, or has drained the
//! socket, that uses up the events of the snapshot, and it parks only while there are no others. So:
//! - an event between the failed call and the parking is seen (no lost wake-up);
//! - what is used up late never wipes a newer event;
//! - the waiter is taken out by exactly one side: the event, the closing, or the operation itself.

use crate::sync::{AtomicU64, BriefMutex, Exclusive, Ordering, seize};

/// Of a snapshot alone: there are events that were not used up.
const READY: u64 = 1;
/// The peer's end, an error, or urgent data: no further edge may come, so a short read does not use it up.
const ENDED: u64 = 1 << 1;
const CLOSED: u64 = 1 << 2;
/// One event.
const EVENT: u64 = 1 << 8;
const EVENTS: u64 = !(EVENT - 1);

/// The word as it was before a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot(u64);

impl Snapshot {
    pub fn is_ready(self) -> bool {
        self.0 & READY != 0
    }
    pub fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }
}

/// One direction. `W` is whoever waits: an owned reference to a thread.
#[derive(Debug)]
pub struct Readiness<W> {
    word: AtomicU64,
    /// The number of the last event that was used up, as the word has it. Written by whoever has claimed the direction.
    used_up: AtomicU64,
    /// Which thread's operation uses this direction, 0: none; a second one is `Busy`.
    claimed: Exclusive,
    /// Guards the waiter alone. Nothing is dropped and no Python runs under it.
    waiter: BriefMutex<Option<W>>,
}

impl<W> Default for Readiness<W> {
    fn default() -> Self {
        Self::new()
    }
}

impl<W> Readiness<W> {
    /// A new direction counts as ready: the first operation just tries.
    pub fn new() -> Self {
        Readiness {
            word: AtomicU64::new(EVENT),
            used_up: AtomicU64::new(0),
            claimed: Exclusive::new(0),
            waiter: BriefMutex::new(None),
        }
    }

    pub fn snapshot(&self) -> Snapshot {
        let now = self.word.load(Ordering::Acquire);
        Snapshot(if self.is_used_up(now) { now } else { now | READY })
    }

    fn is_used_up(&self, word: u64) -> bool {
        word & EVENTS == self.used_up.load(Ordering::Acquire)
    }

    /// Takes the direction for one operation; `false` if another one has it.
    #[must_use]
    pub fn claim(&self, whose: usize) -> bool {
        self.claimed.update(|now| if now == 0 { whose } else { now }) == 0
    }

    /// Whose operation uses it; 0: nobody's.
    pub fn claimant(&self) -> usize {
        self.claimed.get()
    }

    pub fn release(&self) {
        self.claimed.set(0);
    }

    /// The call drained the socket (a short read or write): not ready until the next event, unless the peer's end
    /// has been announced, after which no event need come.
    pub fn drained(&self, seen: Snapshot) {
        if seen.0 & ENDED == 0 {
            self.would_block(seen);
        }
    }

    /// The call would have blocked: not ready until the next event, whatever was announced.
    pub fn would_block(&self, seen: Snapshot) {
        debug_assert_ne!(self.claimant(), 0, "an event that came since the call may have been passed over");
        self.used_up.store(seen.0 & EVENTS, Ordering::Release);
    }

    /// Leaves `waiter` here until the next event, unless the direction is ready or closed: then it comes back.
    pub fn park(&self, waiter: W) -> Result<(), W> {
        let mut slot = self.waiter.lock();
        let now = self.word.load(Ordering::Acquire);
        if now & CLOSED != 0 || !self.is_used_up(now) {
            return Err(waiter);
        }
        debug_assert!(slot.is_none(), "only the operation that claimed a direction parks in it");
        *slot = Some(waiter);
        Ok(())
    }

    /// Takes the waiter out again, if nobody has yet.
    pub fn unpark(&self) -> Option<W> {
        self.waiter.lock().take()
    }

    /// Looks at the waiter, if there is one.
    pub fn with_waiter<R>(&self, look: impl FnOnce(&W) -> R) -> Option<R> {
        self.waiter.lock().as_ref().map(look)
    }

    /// Whether an event is no news: it is known, and nobody uses this direction, so that no call that began before it can
    /// use it up. The OS tells of both directions whenever there is something new of one.
    ///
    /// A call that has claimed it before the event is seen to: its claim is a plain write, and what the OS does of the call
    /// on an x86 before it looks at the socket has a locked instruction, which lets no later read come before that. What a
    /// call uses up is written before its claim ends, and an x86 lets writes be seen in their order: who finds no claim finds
    /// that too. An operation that makes no call, as nothing is there, locks the waiter before it looks for the last time.
    /// Nobody promises that of other processors, where each event is seen to.
    pub fn knows(&self, ended: bool) -> bool {
        if cfg!(not(any(target_arch = "x86_64", target_arch = "x86"))) || self.claimant() != 0 {
            return false;
        }
        let now = self.word.load(Ordering::Acquire);
        !self.is_used_up(now) && (!ended || now & ENDED != 0)
    }

    /// As by an operation that has begun and would block: claimed, and not ready.
    #[cfg(test)]
    pub(crate) fn begin_to_wait(&self) {
        assert!(self.claim(1));
        self.would_block(self.snapshot());
    }

    /// An event: ready from now on. Returns who waited.
    pub fn event(&self, ended: bool) -> Option<W> {
        let mut now = self.word.load(Ordering::Relaxed);
        loop {
            // An end that is used up has been seen by a call that would have blocked all the same.
            let before = if self.is_used_up(now) { now & !ENDED } else { now };
            let next = before.wrapping_add(EVENT) | if ended { ENDED } else { 0 };
            match self.word.compare_exchange_weak(now, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return self.unpark(),
                Err(other) => now = other,
            }
        }
    }

    /// In a child process: as new. Returns who waited in the parent.
    pub(crate) fn reset(&self) -> Option<W> {
        self.used_up.store(0, Ordering::Release);
        self.word.store(EVENT, Ordering::Release);
        self.release();
        seize(&self.waiter).take()
    }

    /// The socket is closed. Returns who waited.
    pub fn close(&self) -> Option<W> {
        self.word.fetch_or(CLOSED, Ordering::AcqRel);
        self.unpark()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_direction_is_ready_and_not_claimed() {
        let r = Readiness::<u8>::new();
        assert!(r.snapshot().is_ready());
        assert!(r.claim(5));
        assert!(!r.claim(6), "a second claim is busy");
        assert_eq!(r.claimant(), 5);
        r.release();
        assert!(r.claim(1));
    }

    #[test]
    fn event_between_call_and_parking_is_seen() {
        let r = Readiness::new();
        assert!(r.claim(1));
        let seen = r.snapshot();
        assert_eq!(r.event(false), None);
        r.would_block(seen);
        assert_eq!(r.park(7), Err(7), "the event came after the snapshot");
        let seen = r.snapshot();
        r.would_block(seen);
        assert_eq!(r.park(7), Ok(()));
        assert_eq!(r.event(false), Some(7));
        assert_eq!(r.event(false), None, "a waiter is woken once");
    }

    #[test]
    fn end_of_stream_survives_a_short_read_but_not_a_call_that_would_block() {
        let r = Readiness::<u8>::new();
        assert!(r.claim(1));
        r.event(true);
        r.drained(r.snapshot());
        assert!(r.snapshot().is_ready());
        r.would_block(r.snapshot());
        assert!(!r.snapshot().is_ready());
    }

    #[test]
    fn closing_returns_the_waiter_and_lets_nobody_park() {
        let r = Readiness::new();
        r.begin_to_wait();
        assert_eq!(r.park(1), Ok(()));
        assert_eq!(r.close(), Some(1));
        assert!(r.snapshot().is_closed());
        assert_eq!(r.park(2), Err(2));
    }

    #[test]
    fn event_is_no_news_where_it_is_known_and_nobody_may_clear_it() {
        let r = Readiness::<u8>::new();
        if cfg!(not(any(target_arch = "x86_64", target_arch = "x86"))) {
            assert!(!r.knows(false), "each event is seen to");
            return;
        }
        assert!(r.knows(false));
        assert!(!r.knows(true), "the end is news");
        assert!(r.claim(1));
        assert!(!r.knows(false), "a call that has begun may clear it");
        r.drained(r.snapshot());
        r.release();
        assert!(!r.knows(false), "it was cleared");
        r.event(true);
        assert!(r.knows(false) && r.knows(true));
    }

    #[test]
    fn late_clear_keeps_the_claim_and_the_newer_event() {
        let r = Readiness::<u8>::new();
        assert!(r.claim(1));
        let seen = r.snapshot();
        r.event(false);
        r.drained(seen);
        assert!(r.snapshot().is_ready());
        assert!(!r.claim(1));
    }

    #[test]
    fn parking_and_events_from_two_os_threads_lose_nothing() {
        let r = std::sync::Arc::new(Readiness::new());
        assert!(r.claim(1));
        let rounds = 20_000_u32;
        let waker = {
            let r = r.clone();
            std::thread::spawn(move || {
                let mut woken = 0;
                while woken < rounds {
                    woken += u32::from(r.event(false).is_some());
                    std::thread::yield_now();
                }
            })
        };
        let mut parked = 0;
        while parked < rounds {
            r.would_block(r.snapshot());
            if r.park(()).is_ok() {
                parked += 1;
                while r.with_waiter(|()| ()).is_some() {
                    std::thread::yield_now();
                }
            }
        }
        waker.join().unwrap();
    }
}
