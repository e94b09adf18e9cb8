//! What a thread (a coroutine) is doing, as far as waking it goes: running, waiting, ready to run again.
//!
//! A thread waits for one thing at a time, and each wait has a number (epoch). An event, a deadline, a cancel and a
//! close may all want to end the same wait, from different OS threads: whoever finds the thread waiting under that
//! epoch wins and puts it on the ready queue; all others find another phase or epoch and do nothing. So a thread is
//! resumed once for each wait and never runs on two OS threads at once.
//!
//! A thread announces its wait while its coroutine still runs ([`Wait::park`]), since only the operation knows what it
//! waits for, and leaves the coroutine after that. A waker in between only leaves a note; [`Wait::leave`] finds it.

use crate::sync::{AtomicBool, AtomicU8, AtomicU32, BriefMutex, Ordering};
pub use crate::timers::NEVER;
use crate::timers::{Key, SharedTimers};

/// Successes without a wait that one turn of a thread may have before it lets others run.
pub const BUDGET: u32 = 128;

/// What a turn begins with: as long as trouble is made on purpose nothing, so that each operation asks.
static FIRST_BUDGET: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(BUDGET);

pub fn set_first_budget(budget: u32) {
    FIRST_BUDGET.store(budget, Ordering::Relaxed);
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// What was waited for happened, or may have: look again.
    Event,
    Expired,
    Cancelled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It has its turn, or will have it: it is on the ready queue, or being put there.
    Running,
    /// Announced its wait, still on its way out of the coroutine.
    Parking,
    /// As `Parking`, and woken already.
    Notified,
    Waiting,
    /// Woken, and held: who lets go of it last puts it on the ready queue.
    Owed,
    Done,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    epoch: u32,
    /// How many look at the thread while it waits, and so keep it from running.
    held: u32,
    deadline: u64,
    /// The thread's one entry among the timers and when it is due. It may be earlier than `deadline`, left by an
    /// earlier wait: firing, it is moved on. That makes the deadline of a wait that ends soon nearly free.
    armed: Option<(u64, Key)>,
}

/// The wake state of one thread.
#[derive(Debug)]
pub struct Wait {
    /// Held for a few instructions, or for as long as an entry among the timers takes, whose lock may be taken under it, no
    /// other. Nothing is dropped and no Python runs under it.
    state: BriefMutex<State>,
    reason: AtomicU8,
    /// A cancel that came while the thread did not wait.
    cancelled: AtomicBool,
    /// The thread has announced a wait before. Its own turn alone says and asks that.
    parked: AtomicBool,
    budget: AtomicU32,
}

impl Default for Wait {
    fn default() -> Self {
        Self::new()
    }
}

impl Wait {
    /// A thread that runs: its first step follows.
    pub fn new() -> Self {
        Wait {
            state: BriefMutex::new(State { phase: Phase::Running, epoch: 0, held: 0, deadline: NEVER, armed: None }),
            reason: AtomicU8::new(Reason::Event as u8),
            cancelled: AtomicBool::new(false),
            parked: AtomicBool::new(false),
            budget: AtomicU32::new(FIRST_BUDGET.load(Ordering::Relaxed)),
        }
    }

    /// Why the last wait ended.
    pub fn reason(&self) -> Reason {
        match self.reason.load(Ordering::Acquire) {
            0 => Reason::Event,
            1 => Reason::Expired,
            _ => Reason::Cancelled,
        }
    }

    /// Whether the thread was cancelled while it did not wait.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// The same, once.
    pub fn take_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed) && self.cancelled.swap(false, Ordering::AcqRel)
    }

    /// Whether it waits, and nothing has ended that yet.
    pub fn is_waiting(&self) -> bool {
        self.state.lock().phase == Phase::Waiting
    }

    /// Counts one more operation of this turn; `false` once the budget is used up.
    pub fn spend(&self) -> bool {
        let left = self.budget.load(Ordering::Relaxed);
        self.budget.store(left.wrapping_sub(1), Ordering::Relaxed);
        left != 0
    }

    /// The next operation of this turn finds the budget used up.
    pub fn exhaust(&self) {
        self.budget.store(0, Ordering::Relaxed);
    }

    /// Announces a wait and returns its epoch. `arm` makes the thread's handle for the timers, if an entry is needed;
    /// the second result is `true` when that entry may be the earliest.
    pub fn park<T>(&self, deadline: u64, timers: &SharedTimers<T>, arm: impl FnOnce() -> T) -> (u32, bool) {
        self.parked.store(true, Ordering::Relaxed);
        let mut state = self.state.lock();
        state.phase = Phase::Parking;
        if self.take_cancelled() {
            // From another OS thread, since the operation has looked.
            self.reason.store(Reason::Cancelled as u8, Ordering::Release);
            state.phase = Phase::Notified;
        }
        state.epoch = state.epoch.wrapping_add(1);
        state.deadline = deadline;
        let mut earlier = false;
        if deadline != NEVER && state.armed.is_none_or(|(due, _)| deadline < due) {
            let mut timers = timers.lock();
            let moved = state.armed.filter(|&(_, key)| timers.reset(key, deadline));
            let key = moved.map_or_else(|| timers.add(deadline, arm()), |(_, key)| key);
            state.armed = Some((deadline, key));
            earlier = timers.next_due() == Some(deadline);
        }
        (state.epoch, earlier)
    }

    /// Takes the announcement back: there was nothing to wait for.
    pub fn unpark(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Notified && self.reason() == Reason::Cancelled {
            self.cancelled.store(true, Ordering::Release);
        }
        state.phase = Phase::Running;
        state.epoch = state.epoch.wrapping_add(1);
        state.deadline = NEVER;
    }

    /// Ends the wait `epoch`. `true`: the caller puts the thread on the ready queue.
    #[must_use]
    pub fn wake(&self, epoch: u32, reason: Reason) -> bool {
        let mut state = self.state.lock();
        if state.epoch != epoch {
            return false;
        }
        self.end(&mut state, reason)
    }

    /// Ends whatever the thread waits for, or its next wait. `true`: the caller puts it on the ready queue.
    #[must_use]
    pub fn cancel(&self) -> bool {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Running | Phase::Notified | Phase::Owed) {
            self.cancelled.store(true, Ordering::Release);
        }
        self.end(&mut state, Reason::Cancelled)
    }

    fn end(&self, state: &mut State, reason: Reason) -> bool {
        let (phase, enqueue) = match state.phase {
            Phase::Parking => (Phase::Notified, false),
            Phase::Waiting if state.held > 0 => (Phase::Owed, false),
            Phase::Waiting => (Phase::Running, true),
            _ => return false,
        };
        self.reason.store(reason as u8, Ordering::Release);
        state.phase = phase;
        state.deadline = NEVER;
        enqueue
    }

    /// Keeps a thread that waits from running, until `let_go`. `false`: it runs, or is about to.
    #[must_use]
    pub fn hold(&self) -> bool {
        let mut state = self.state.lock();
        let waits = matches!(state.phase, Phase::Waiting | Phase::Owed);
        state.held += u32::from(waits);
        waits
    }

    /// The end of `hold`. `true`: the caller puts the thread on the ready queue, as it was woken meanwhile.
    #[must_use]
    pub fn let_go(&self) -> bool {
        let mut state = self.state.lock();
        state.held -= 1;
        let woken = state.held == 0 && state.phase == Phase::Owed;
        if woken {
            state.phase = Phase::Running;
        }
        woken
    }

    /// The entry `key` fired at `now` and is gone from the timers. Gives the handle back, with `true` if it goes on the
    /// ready queue; keeps it when the wait's own deadline is still to come.
    pub fn expire<T>(&self, key: Key, now: u64, handle: T, timers: &SharedTimers<T>) -> Option<(T, bool)> {
        let mut state = self.state.lock();
        if state.armed.is_none_or(|(_, armed)| armed != key) {
            return Some((handle, false));
        }
        if state.deadline != NEVER && state.deadline > now {
            let due = state.deadline;
            state.armed = Some((due, timers.lock().add(due, handle)));
            return None;
        }
        state.armed = None;
        let due = state.deadline != NEVER;
        let enqueue = due && self.end(&mut state, Reason::Expired);
        Some((handle, enqueue))
    }

    /// A turn begins: the thread was taken from the ready queue, or is resumed directly. What was done in its last turn is
    /// seen without a lock here: `leave`, its waker and the queue have each locked after the other.
    pub fn enter(&self) {
        self.budget.store(FIRST_BUDGET.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// A turn ended. `true`: the thread goes on the ready queue, as it was woken meanwhile or just let others run.
    #[must_use]
    pub fn leave(&self) -> bool {
        let mut state = self.state.lock();
        let (phase, enqueue) = match state.phase {
            Phase::Parking => (Phase::Waiting, false),
            Phase::Notified | Phase::Running => (Phase::Running, true),
            other => (other, false),
        };
        state.phase = phase;
        enqueue
    }

    /// The thread has ended; gives back its handle among the timers, to be dropped.
    pub fn finish<T>(&self, timers: &SharedTimers<T>) -> Option<T> {
        if !self.parked.load(Ordering::Relaxed) {
            return None; // there is no deadline, and nothing that could wake it
        }
        let mut state = self.state.lock();
        state.phase = Phase::Done;
        state.deadline = NEVER;
        let (_, key) = state.armed.take()?;
        timers.lock().remove(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parked(wait: &Wait, timers: &SharedTimers<()>, deadline: u64) -> u32 {
        wait.park(deadline, timers, || ()).0
    }

    #[test]
    fn one_of_several_wakers_wins() {
        let (wait, timers) = (Wait::new(), SharedTimers::default());
        let epoch = parked(&wait, &timers, 10);
        assert!(!wait.leave());
        let (key, ()) = timers.lock().pop_due(10).unwrap();
        assert!(wait.wake(epoch, Reason::Event));
        assert!(!wait.wake(epoch, Reason::Event));
        assert_eq!(wait.expire(key, 10, (), &timers), Some(((), false)));
        assert!(!wait.cancel(), "a cancel of a ready thread is kept for its next wait");
        assert_eq!(wait.reason(), Reason::Event);
        wait.enter();
        assert!(wait.take_cancelled() && !wait.take_cancelled());
    }

    #[test]
    fn woken_while_leaving_goes_straight_to_the_ready_queue() {
        let (wait, timers) = (Wait::new(), SharedTimers::default());
        let epoch = parked(&wait, &timers, NEVER);
        assert!(!wait.wake(epoch, Reason::Event), "still in the coroutine");
        assert!(wait.leave());
        wait.enter();
        assert!(wait.leave(), "a turn that ends without a wait only lets others run");
    }

    #[test]
    fn woken_while_held_runs_when_the_last_lets_go() {
        let (wait, timers) = (Wait::new(), SharedTimers::default());
        assert!(!wait.hold(), "it runs");
        let epoch = parked(&wait, &timers, NEVER);
        assert!(!wait.leave());
        assert!(wait.hold() && wait.hold());
        assert!(!wait.wake(epoch, Reason::Event) && !wait.wake(epoch, Reason::Event));
        assert!(!wait.cancel(), "kept for the next wait");
        assert!(!wait.let_go());
        assert!(wait.let_go());
        assert!(!wait.hold(), "it is ready");
        wait.enter();
        assert_eq!(wait.reason(), Reason::Event);
        assert!(wait.take_cancelled());
        parked(&wait, &timers, NEVER);
        assert!(!wait.leave());
        assert!(wait.hold() && !wait.let_go(), "nothing woke it");
        assert!(wait.is_waiting());
    }

    #[test]
    fn stale_epoch_wakes_nobody() {
        let (wait, timers) = (Wait::new(), SharedTimers::default());
        let old = parked(&wait, &timers, NEVER);
        wait.unpark();
        let new = parked(&wait, &timers, NEVER);
        assert!(!wait.leave());
        assert!(!wait.wake(old, Reason::Event));
        assert!(wait.wake(new, Reason::Event));
    }

    #[test]
    fn cancel_that_comes_just_before_a_wait_ends_it() {
        let (wait, timers) = (Wait::new(), SharedTimers::default());
        assert!(!wait.take_cancelled());
        assert!(!wait.cancel(), "it runs");
        parked(&wait, &timers, NEVER);
        assert!(wait.leave(), "straight to the ready queue");
        assert_eq!(wait.reason(), Reason::Cancelled);
        wait.enter();
        assert!(!wait.take_cancelled(), "it comes out once");
    }

    #[test]
    fn cancel_that_meets_a_wait_taken_back_is_kept() {
        let (wait, timers) = (Wait::new(), SharedTimers::default());
        parked(&wait, &timers, NEVER);
        assert!(!wait.cancel());
        wait.unpark();
        assert!(wait.take_cancelled());
    }

    #[test]
    fn later_deadline_keeps_the_entry_and_moves_it_when_it_fires() {
        let (wait, timers) = (Wait::new(), SharedTimers::default());
        let epoch = parked(&wait, &timers, 10);
        assert!(!wait.leave());
        assert!(wait.wake(epoch, Reason::Event));
        wait.enter();
        parked(&wait, &timers, 20);
        assert!(!wait.leave());
        assert_eq!(timers.lock().len(), 1);
        let (key, ()) = timers.lock().pop_due(10).unwrap();
        assert_eq!(wait.expire(key, 10, (), &timers), None, "moved to 20");
        let (key, ()) = timers.lock().pop_due(20).unwrap();
        assert_eq!(wait.expire(key, 20, (), &timers), Some(((), true)));
        assert_eq!(wait.reason(), Reason::Expired);
    }

    #[test]
    fn earlier_deadline_moves_the_entry_at_once() {
        let (wait, timers) = (Wait::new(), SharedTimers::default());
        parked(&wait, &timers, 20);
        wait.unpark();
        assert!(wait.park(10, &timers, || ()).1, "now the earliest");
        assert_eq!(timers.lock().len(), 1);
        assert_eq!(timers.lock().next_due(), Some(10));
        assert!(wait.finish(&timers).is_some());
        assert!(timers.lock().is_empty());
    }

    #[test]
    fn each_wait_is_resumed_once_whoever_wakes_it() {
        let wait = std::sync::Arc::new(Wait::new());
        let timers = SharedTimers::<()>::default();
        let wins = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        for _ in 0..2_000 {
            let epoch = parked(&wait, &timers, NEVER);
            let wakers: Vec<_> = (0..2)
                .map(|_| {
                    let (wait, wins) = (wait.clone(), wins.clone());
                    std::thread::spawn(move || {
                        wins.fetch_add(u32::from(wait.wake(epoch, Reason::Event)), Ordering::SeqCst);
                    })
                })
                .collect();
            let left = u32::from(wait.leave());
            for waker in wakers {
                waker.join().unwrap();
            }
            assert_eq!(wins.swap(0, Ordering::SeqCst) + left, 1);
            wait.enter();
        }
    }
}
