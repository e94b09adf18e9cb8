//! What several OS threads do to the core at once, in every order that the model checker finds: `make model`.
//!
//! A wake-up that is lost leaves a model waiting for ever, which the checker reports as a deadlock. The checker bounds how
//! often an OS thread is interrupted in the middle (`LOOM_MAX_PREEMPTIONS`), not where.

use std::sync::Arc;

use loom::thread;

use crate::poller::tests::{Coroutine, coroutine, hub, waiting};
use crate::poller::{Hub, Thread};
use crate::readiness::Readiness;
use crate::sync::{AtomicUsize, Condvar, Exclusive, Mutex, Ordering};
use crate::timers::SharedTimers;
use crate::wait::{NEVER, Reason, Wait};

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(2);
    builder.check(model);
}

/// One end of a wait: what the scheduler does for a thread that is to run again.
#[derive(Default)]
struct Bell(Mutex<usize>, Condvar);

impl Bell {
    fn ring(&self) {
        *self.0.lock() += 1;
        self.1.notify_one();
    }

    /// Waits for one ring, and takes it.
    fn take(&self) {
        let mut rings = self.0.lock();
        while *rings == 0 {
            self.1.wait(&mut rings);
        }
        *rings -= 1;
    }

    fn rings(&self) -> usize {
        *self.0.lock()
    }
}

// One direction of a socket

/// The OS has data before it tells of it; a reader that finds none waits for the next event.
#[test]
fn no_event_is_lost_between_a_call_and_the_wait() {
    check(|| {
        let (direction, data, bell) =
            (Arc::new(Readiness::new()), Arc::new(AtomicUsize::new(0)), Arc::new(Bell::default()));
        let poll = {
            let (direction, data, bell) = (direction.clone(), data.clone(), bell.clone());
            thread::spawn(move || {
                for _ in 0..2 {
                    data.fetch_add(1, Ordering::AcqRel);
                    // As the hub does.
                    if !direction.knows(false) && direction.event(false).is_some() {
                        bell.ring();
                    }
                }
            })
        };
        let mut got = 0;
        while got < 2 {
            assert!(direction.claim(1));
            let seen = direction.snapshot();
            if seen.is_ready() {
                match data.swap(0, Ordering::AcqRel) {
                    0 => direction.would_block(seen),
                    n => {
                        got += n;
                        // A short read.
                        direction.drained(seen);
                        direction.release();
                        continue;
                    }
                }
            }
            if direction.park(()).is_ok() {
                bell.take();
            }
            direction.release();
        }
        poll.join().unwrap();
        assert_eq!(bell.rings(), 0, "woken once for each wait");
    });
}

/// The peer's end, say, comes amid a call that drains the socket: no further event need come.
#[test]
fn an_end_that_is_told_amid_a_call_is_not_used_up_by_a_short_read() {
    check(|| {
        let (direction, bell) = (Arc::new(Readiness::new()), Arc::new(Bell::default()));
        let poll = {
            let (direction, bell) = (direction.clone(), bell.clone());
            thread::spawn(move || {
                if direction.event(true).is_some() {
                    bell.ring();
                }
            })
        };
        assert!(direction.claim(1));
        direction.drained(direction.snapshot());
        if direction.park(()).is_ok() {
            bell.take();
        }
        poll.join().unwrap();
        direction.drained(direction.snapshot());
        let seen = direction.snapshot();
        assert!(seen.is_ready());
        direction.would_block(seen);
        assert!(!direction.snapshot().is_ready());
    });
}

#[test]
fn whoever_waits_is_taken_out_once_by_an_event_a_close_or_itself() {
    check(|| {
        let direction = Arc::new(Readiness::new());
        direction.begin_to_wait();
        let takers: Vec<_> = [Readiness::close as fn(&Readiness<()>) -> Option<()>, |direction| direction.event(false)]
            .into_iter()
            .map(|take| {
                let direction = direction.clone();
                thread::spawn(move || usize::from(take(&direction).is_some()))
            })
            .collect();
        let parked = direction.park(()).is_ok();
        let own = usize::from(direction.unpark().is_some());
        let others: usize = takers.into_iter().map(|taker| taker.join().unwrap()).sum();
        assert_eq!(own + others, usize::from(parked));
        assert!(direction.park(()).is_err(), "closed for good");
    });
}

#[test]
fn one_of_two_operations_has_a_direction() {
    check(|| {
        let (direction, inside) = (Arc::new(Readiness::<()>::new()), Arc::new(AtomicUsize::new(0)));
        let uses = move |direction: &Readiness<()>, inside: &AtomicUsize| {
            if direction.claim(1) {
                assert_eq!(inside.fetch_add(1, Ordering::AcqRel), 0);
                inside.fetch_sub(1, Ordering::AcqRel);
                direction.release();
            }
        };
        let other = {
            let (direction, inside) = (direction.clone(), inside.clone());
            thread::spawn(move || uses(&direction, &inside))
        };
        uses(&direction, &inside);
        other.join().unwrap();
        assert!(direction.claim(1));
    });
}

/// Leases of a descriptor, as `Source` counts them: the last one out closes, and none begins after that.
#[test]
fn exclusive_counts_lose_no_change() {
    check(|| {
        let count = Arc::new(Exclusive::new(0));
        let other = {
            let count = count.clone();
            thread::spawn(move || count.update(|n| n + 1))
        };
        let (mine, theirs) = (count.update(|n| n + 1), other.join().unwrap());
        assert_eq!((mine.min(theirs), mine.max(theirs), count.get()), (0, 1, 2));
    });
}

// The wait of one thread

/// An event, the deadline and a cancel all want to end it, while the thread is still on its way out of its coroutine.
#[test]
fn a_wait_ends_once_and_no_cancel_is_lost() {
    check(|| {
        let (wait, timers) = (Arc::new(Wait::new()), Arc::new(SharedTimers::default()));
        let (epoch, _) = wait.park(10, &timers, || ());
        let event = {
            let wait = wait.clone();
            thread::spawn(move || wait.wake(epoch, Reason::Event))
        };
        let cancel = {
            let wait = wait.clone();
            thread::spawn(move || wait.cancel())
        };
        let deadline = {
            let (wait, timers) = (wait.clone(), timers.clone());
            thread::spawn(move || {
                let fired = timers.lock().pop_due(10);
                fired.is_some_and(|(key, ())| matches!(wait.expire(key, 10, (), &timers), Some(((), true))))
            })
        };
        let itself = wait.leave();
        let ends = [itself, event.join().unwrap(), cancel.join().unwrap(), deadline.join().unwrap()];
        assert_eq!(ends.iter().filter(|&&queued| queued).count(), 1, "{ends:?}");
        wait.enter();
        assert!((wait.reason() == Reason::Cancelled) ^ wait.take_cancelled());
    });
}

#[test]
fn a_late_waker_does_not_end_the_next_wait() {
    check(|| {
        let (wait, timers) = (Arc::new(Wait::new()), SharedTimers::default());
        let ready = Arc::new(Bell::default());
        let (epoch, _) = wait.park(NEVER, &timers, || ());
        let wakers: Vec<_> = (0..2)
            .map(|_| {
                let (wait, ready) = (wait.clone(), ready.clone());
                thread::spawn(move || {
                    if wait.wake(epoch, Reason::Event) {
                        ready.ring();
                    }
                })
            })
            .collect();
        if wait.leave() {
            ready.ring();
        }
        ready.take();
        wait.enter();
        wait.park(NEVER, &timers, || ());
        assert!(!wait.leave());
        for waker in wakers {
            waker.join().unwrap();
        }
        assert!(wait.is_waiting());
        assert_eq!(ready.rings(), 0);
    });
}

#[test]
fn a_wait_that_is_taken_back_is_not_ended_and_keeps_a_cancel() {
    check(|| {
        let (wait, timers) = (Arc::new(Wait::new()), SharedTimers::default());
        let (epoch, _) = wait.park(NEVER, &timers, || ());
        let cancel = {
            let wait = wait.clone();
            thread::spawn(move || wait.cancel())
        };
        let event = {
            let wait = wait.clone();
            thread::spawn(move || wait.wake(epoch, Reason::Event))
        };
        wait.unpark();
        assert!(!cancel.join().unwrap() & !event.join().unwrap(), "nobody queues a thread that runs");
        assert!(wait.take_cancelled());
    });
}

#[test]
fn a_thread_that_ends_leaves_no_deadline_behind() {
    check(|| {
        let (wait, timers) = (Arc::new(Wait::new()), Arc::new(SharedTimers::default()));
        let (epoch, _) = wait.park(10, &timers, || ());
        let fires = {
            let (wait, timers) = (wait.clone(), timers.clone());
            thread::spawn(move || {
                let fired = timers.lock().pop_due(5);
                assert!(fired.is_none());
                let fired = timers.lock().pop_due(10);
                fired.is_some_and(|(key, ())| matches!(wait.expire(key, 10, (), &timers), Some(((), true))))
            })
        };
        let woken = wait.wake(epoch, Reason::Event);
        assert!(!woken, "it has not left yet");
        let queued = wait.leave();
        wait.enter();
        wait.finish(&timers);
        assert!(!fires.join().unwrap());
        assert!(queued);
        assert!(timers.lock().is_empty());
    });
}

// The hub

/// Takes what is ready until `all` have been taken by whoever polls; how many it took itself.
fn polls(hub: &Hub<Coroutine>, taken: &AtomicUsize, all: usize, most: usize) -> usize {
    let mut mine = 0;
    loop {
        let seen = hub.interrupts();
        if mine == most || taken.load(Ordering::Acquire) == all {
            hub.quit();
            return mine;
        }
        if let Some(coroutine) = hub.take() {
            coroutine.wait().enter();
            mine += 1;
            if taken.fetch_add(1, Ordering::AcqRel) + 1 == all {
                hub.interrupt();
            }
        } else {
            hub.wait(NEVER, seen).unwrap();
        }
    }
}

#[test]
fn a_push_brings_back_whoever_polls() {
    check(|| {
        let hub = hub();
        let pushes = {
            let hub = hub.clone();
            thread::spawn(move || hub.push(coroutine(&hub, 0)))
        };
        assert_eq!(polls(&hub, &AtomicUsize::new(0), 1, NEVER as usize), 1);
        pushes.join().unwrap();
    });
}

#[test]
fn a_stop_on_the_way_into_the_wait_is_not_lost() {
    check(|| {
        let hub = hub();
        let stops = {
            let hub = hub.clone();
            thread::spawn(move || hub.stop())
        };
        loop {
            let seen = hub.interrupts();
            if hub.stops() > 0 {
                break;
            }
            hub.wait(NEVER, seen).unwrap();
        }
        stops.join().unwrap();
    });
}

#[test]
fn an_event_a_close_and_a_cancel_queue_a_thread_once() {
    check(|| {
        let hub = hub();
        let (waits, epoch) = waiting(&hub, 0, NEVER);
        let direction = Arc::new(Readiness::new());
        direction.begin_to_wait();
        direction.park((waits.clone(), epoch)).unwrap();
        let mut wakers: Vec<_> =
            [Readiness::close as fn(&Readiness<_>) -> Option<_>, |direction| direction.event(false)]
                .into_iter()
                .map(|take| {
                    let direction = direction.clone();
                    thread::spawn(move || {
                        if let Some((waits, epoch)) = take(&direction) {
                            Hub::wake(waits, epoch, &mut Vec::new());
                        }
                    })
                })
                .collect();
        wakers.push(thread::spawn(move || {
            if waits.wait().cancel() {
                waits.hub().clone().push(waits);
            }
        }));
        assert_eq!(polls(&hub, &AtomicUsize::new(0), 1, NEVER as usize), 1);
        for waker in wakers {
            waker.join().unwrap();
        }
        assert!(hub.take().is_none(), "queued twice");
    });
}

#[test]
fn two_os_threads_take_each_thread_once_and_both_come_back() {
    check(|| {
        let (hub, taken) = (hub(), Arc::new(AtomicUsize::new(0)));
        let other = {
            let (hub, taken) = (hub.clone(), taken.clone());
            thread::spawn(move || polls(&hub, &taken, 2, NEVER as usize))
        };
        let pushes = {
            let hub = hub.clone();
            thread::spawn(move || {
                hub.push(coroutine(&hub, 0));
                hub.push(coroutine(&hub, 0));
            })
        };
        let mine = polls(&hub, &taken, 2, NEVER as usize);
        pushes.join().unwrap();
        assert_eq!(mine + other.join().unwrap(), 2);
        assert!(hub.take().is_none());
    });
}

/// One that stops polling must hand on what it was woken for.
#[test]
fn what_an_os_thread_leaves_behind_is_taken_by_another() {
    check(|| {
        let (hub, taken) = (hub(), Arc::new(AtomicUsize::new(0)));
        let other = {
            let (hub, taken) = (hub.clone(), taken.clone());
            thread::spawn(move || polls(&hub, &taken, 2, 1))
        };
        hub.push(coroutine(&hub, 0));
        let pushes = {
            let hub = hub.clone();
            thread::spawn(move || hub.push(coroutine(&hub, 0)))
        };
        let mine = polls(&hub, &taken, 2, NEVER as usize);
        pushes.join().unwrap();
        assert_eq!(mine + other.join().unwrap(), 2);
    });
}

/// Whoever was called and stops before it takes anything hands that on to the one that waits in the OS, too.
#[test]
fn what_an_os_thread_was_called_for_and_leaves_is_taken_by_the_leader() {
    check(|| {
        let (hub, taken) = (hub(), Arc::new(AtomicUsize::new(0)));
        let leaves = {
            let (hub, taken) = (hub.clone(), taken.clone());
            thread::spawn(move || {
                let seen = hub.interrupts();
                if taken.load(Ordering::Acquire) == 0 {
                    hub.wait(NEVER, seen).unwrap();
                }
                hub.quit();
            })
        };
        let pushes = {
            let hub = hub.clone();
            thread::spawn(move || hub.push(coroutine(&hub, 0)))
        };
        assert_eq!(polls(&hub, &taken, 1, NEVER as usize), 1);
        pushes.join().unwrap();
        leaves.join().unwrap();
    });
}

/// Two deadlines pass at once; the first thread keeps its OS thread until the second has run, on the other one.
#[test]
fn what_is_found_in_a_batch_spreads_to_an_idle_os_thread() {
    check(|| {
        let (hub, taken, second) = (hub(), Arc::new(AtomicUsize::new(0)), Arc::new(Bell::default()));
        for id in 0..2 {
            waiting(&hub, id, 1);
        }
        let polls = |hub: &Hub<Coroutine>, taken: &AtomicUsize, second: &Bell| {
            while taken.load(Ordering::Acquire) < 2 {
                let seen = hub.interrupts();
                let Some(coroutine) = hub.take() else {
                    hub.wait(NEVER, seen).unwrap();
                    continue;
                };
                coroutine.wait().enter();
                if taken.fetch_add(1, Ordering::AcqRel) == 0 {
                    second.take();
                    return;
                }
                second.ring();
            }
        };
        let other = {
            let (hub, taken, second) = (hub.clone(), taken.clone(), second.clone());
            thread::spawn(move || polls(&hub, &taken, &second))
        };
        polls(&hub, &taken, &second);
        other.join().unwrap();
    });
}

/// Only the one that polls can take it: the one that pushes does not.
#[test]
fn what_a_thread_makes_ready_is_taken_by_an_idle_os_thread() {
    check(|| {
        let (hub, taken) = (hub(), Arc::new(AtomicUsize::new(0)));
        let other = {
            let (hub, taken) = (hub.clone(), taken.clone());
            thread::spawn(move || polls(&hub, &taken, 1, 1))
        };
        hub.push(coroutine(&hub, 0));
        other.join().unwrap();
        assert_eq!(taken.load(Ordering::Acquire), 1);
    });
}
