//! The hub of a poller: who polls next, who is ready to run, waking.
//!
//! Any number of OS threads may share a hub. One of them at a time is the leader and waits in the OS's poll; the
//! others run ready threads or wait on a condition variable. Who takes a ready thread while more are left, or while
//! nobody leads, calls one idle OS thread, which does the same in turn: work spreads as fast as it is found, and
//! nobody runs a coroutine while somebody idles and nobody polls.
//!
//! Locks, in the order in which they may nest: a source's registration or `lead` > `sources` > a direction's waiter >
//! a thread's wait state > `timers`. `turn` nests in none. Under none of them does Python run or an object go: handles that are no
//! longer needed are collected in `Turn::stale` and dropped by the next OS thread that takes a thread.

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Registry, Token};
use slab::Slab;

use crate::chaos;
use crate::clock;
use crate::poll::{Poll, WAKER, Waker};
use crate::readiness::Readiness;
use crate::socket::{Source, Waiter};
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, BriefMutex, Condvar, Mutex, MutexGuard, Ordering, seize};
use crate::sys::{self, Descriptor, SignalPipe};
use crate::timers::SharedTimers;
use crate::wait::{NEVER, Reason, Wait};

/// An owned reference to a thread.
pub trait Thread: Sized {
    /// What the roster has of a thread, which keeps nothing alive.
    type Weak: std::fmt::Debug + Send;

    fn wait(&self) -> &Wait;
    fn hub(&self) -> &Arc<Hub<Self>>;
}

/// For how many threads there is room at least where woken ones are put: what the OS tells of in one go.
const ROOM: usize = 1024;

const SIGNAL: Token = Token(usize::MAX - 1);

/// A token is the index of a source with the generation of its slot above it, so that an event of a past source never
/// reaches the next one in its slot.
const INDEX_BITS: u32 = usize::BITS / 2;
const INDEX: usize = (1 << INDEX_BITS) - 1;

#[derive(Debug)]
struct Turn<T> {
    ready: VecDeque<T>,
    /// Threads to take before the OS is asked again, so that steady work starves neither sockets nor timers.
    round: usize,
    /// Somebody polls.
    led: bool,
    /// The leader may be waiting in the OS and has not been told to come back.
    blocked: bool,
    /// OS threads that wait for work or for the lead.
    idle: usize,
    /// How many of those were called, and have not come yet; never more than are awake or about to be.
    called: usize,
    stale: Vec<T>,
    /// Room for the threads that the next leader wakes.
    woken: Vec<T>,
}

impl<T> Turn<T> {
    /// Whether an idle OS thread is to be called: one that was called already is no help. It is best called without the
    /// lock, which is what it takes first.
    fn call(&mut self) -> bool {
        let calls = self.idle > self.called;
        self.called += usize::from(calls);
        calls
    }
}

#[derive(Debug)]
struct Sources<T: Thread> {
    slab: Slab<(usize, Arc<Source<T>>)>,
    generation: usize,
}

/// The hub's threads. Each enters and leaves by itself.
pub type Roster<T> = Slab<<T as Thread>::Weak>;

#[derive(Debug)]
pub struct Hub<T: Thread> {
    /// These two and the poll are of the OS's poll, and go with it.
    registry: ManuallyDrop<Registry>,
    waker: ManuallyDrop<Waker>,
    signals: SignalPipe,
    /// Held by the leader while it polls. Nobody waits for it, as `Turn::led` says who may take it.
    lead: BriefMutex<ManuallyDrop<Poll>>,
    sources: Mutex<Sources<T>>,
    pub timers: SharedTimers<T>,
    turn: Mutex<Turn<T>>,
    work: Condvar,
    /// How many threads are ready, or to be dropped. Changed under `turn` alone; who takes it for 0 too early looks again
    /// under the lock before it waits.
    queued: AtomicUsize,
    /// When the OS was last asked: the time of the events being handled, read without asking for it. It stays behind while
    /// nothing is among the timers and no loop stops at a time, and so tells only what is late for certain.
    now: AtomicU64,
    pub roster: Mutex<Roster<T>>,
    /// How many threads of the roster have not ended. Changed under `roster` alone.
    live: AtomicUsize,
    /// Calls of `stop` so far.
    stops: AtomicU64,
    /// Reasons so far for all OS threads to look whether they go on. Changed under `turn` alone.
    interrupts: AtomicU64,
    /// OS threads that poll it.
    pub loops: AtomicUsize,
    /// Those of them that stop at a time.
    pub timed_loops: AtomicUsize,
    /// The process has forked: the OS's poll belongs to the parent.
    forked: AtomicBool,
}

impl<T: Thread> Hub<T> {
    pub fn new() -> io::Result<Self> {
        let (poll, registry, waker) = Poll::new()?;
        // What fails comes first: nothing would drop what is in a ManuallyDrop already.
        let signals = SignalPipe::new(&registry, SIGNAL)?;
        Ok(Hub {
            waker: ManuallyDrop::new(waker),
            signals,
            registry: ManuallyDrop::new(registry),
            lead: BriefMutex::new(ManuallyDrop::new(poll)),
            sources: Mutex::new(Sources { slab: Slab::new(), generation: 0 }),
            timers: SharedTimers::default(),
            turn: Mutex::new(Turn {
                ready: VecDeque::new(),
                round: 0,
                led: false,
                blocked: false,
                idle: 0,
                called: 0,
                stale: Vec::new(),
                woken: Vec::new(),
            }),
            work: Condvar::new(),
            queued: AtomicUsize::new(0),
            now: AtomicU64::new(clock::now()),
            roster: Mutex::new(Slab::new()),
            live: AtomicUsize::new(0),
            stops: AtomicU64::new(0),
            interrupts: AtomicU64::new(0),
            loops: AtomicUsize::new(0),
            timed_loops: AtomicUsize::new(0),
            forked: AtomicBool::new(false),
        })
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    pub fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    pub fn stops(&self) -> u64 {
        self.stops.load(Ordering::Acquire)
    }

    /// What goes to `signal.set_wakeup_fd`.
    pub fn signal_fd(&self) -> sys::RawDescriptor {
        self.signals.write_end()
    }

    /// How many threads are ready.
    pub fn ready(&self) -> usize {
        self.turn.lock().ready.len()
    }

    /// How many threads have not ended.
    pub fn live(&self) -> usize {
        self.live.load(Ordering::Acquire)
    }

    /// One more that has not ended, or one less. No other OS thread counts meanwhile, as the roster is locked.
    pub fn count_live(&self, _locked: &mut Roster<T>, change: isize) {
        self.live.store(self.live.load(Ordering::Relaxed).saturating_add_signed(change), Ordering::Release);
    }

    pub fn is_forked(&self) -> bool {
        self.forked.load(Ordering::Acquire)
    }

    /// In a child process: the OS's poll is the parent's and is left alone; the sockets are free for another hub.
    pub fn set_forked(&self) {
        self.forked.store(true, Ordering::Release);
        seize(&self.roster).clear();
        let sources = std::mem::take(&mut seize(&self.sources).slab);
        for (_, (_, source)) in &sources {
            source.set_forked();
        }
    }

    /// Nobody polls, nor ever will again: whatever waits here for its turn, an event or a deadline. For the caller to
    /// drop.
    pub fn abandon(&self) -> Vec<T> {
        let mut left: Vec<T> = self.turn.lock().ready.drain(..).collect();
        left.extend(self.timers.lock().drain());
        let sources: Vec<_> = self.sources.lock().slab.iter().map(|(_, (_, source))| source.clone()).collect();
        for source in sources {
            let waiters = [&source.read, &source.write].into_iter().filter_map(Readiness::unpark);
            left.extend(waiters.map(|waiter| waiter.thread));
        }
        left
    }

    pub(crate) fn add(&self, source: Arc<Source<T>>) -> Token {
        let mut sources = self.sources.lock();
        sources.generation = sources.generation.wrapping_add(1) & INDEX;
        // All ones is the waker's and the signals'.
        if sources.generation == INDEX {
            sources.generation = 0;
        }
        let generation = sources.generation;
        Token(generation << INDEX_BITS | sources.slab.insert((generation, source)))
    }

    /// Takes a source out; it is dropped by the caller's frame, under no lock.
    pub(crate) fn forget(&self, token: Token) {
        let removed = {
            let mut sources = self.sources.lock();
            let found = sources.slab.get(token.0 & INDEX).is_some_and(|slot| slot.0 == token.0 >> INDEX_BITS);
            found.then(|| sources.slab.remove(token.0 & INDEX))
        };
        drop(removed);
    }

    pub(crate) fn remove(&self, token: Token, descriptor: &Descriptor) {
        // In a child the OS's poll is the parent's, and its OS threads, which are gone, may have held the locks.
        if !self.is_forked() {
            // Fails when the descriptor was closed behind our back: then the OS has dropped the registration itself.
            let _gone_already = descriptor.deregister(&self.registry);
            self.forget(token);
        }
    }

    /// Ends a wait because something happened to its socket. A handle that is no longer needed goes to `stale`.
    pub fn wake(thread: T, epoch: u32, stale: &mut Vec<T>) {
        if thread.wait().wake(epoch, Reason::Event) {
            let hub = thread.hub().clone();
            hub.push(thread);
        } else {
            stale.push(thread);
        }
    }

    /// Puts a thread at the end of the ready queue and sees to it that somebody takes it.
    pub fn push(&self, thread: T) {
        let mut turn = self.turn.lock();
        turn.ready.push_back(thread);
        self.count(&turn);
        if turn.call() {
            drop(turn);
            self.work.notify_one();
        } else {
            self.call_back(turn);
        }
    }

    fn count(&self, turn: &Turn<T>) {
        self.queued.store(turn.ready.len() + turn.stale.len(), Ordering::Relaxed);
    }

    /// Lets the leader return from the OS's poll.
    fn call_back(&self, mut turn: MutexGuard<'_, Turn<T>>) {
        if std::mem::take(&mut turn.blocked) {
            drop(turn);
            // Fails only without memory for one byte's event; the leader then comes back at its next event.
            let _ = self.waker.wake();
        }
    }

    /// An earlier deadline than any before was set.
    pub fn rearm(&self) {
        self.call_back(self.turn.lock());
    }

    /// Every OS thread that polls looks at its reasons to stop.
    pub fn interrupt(&self) {
        if self.is_forked() {
            return;
        }
        let turn = self.turn.lock();
        self.interrupts.fetch_add(1, Ordering::AcqRel);
        self.work.notify_all();
        self.call_back(turn);
    }

    /// The clock was set, perhaps back.
    pub fn clock_was_set(&self) {
        self.now.store(clock::now(), Ordering::Relaxed);
        self.interrupt();
    }

    /// To be read before the reasons to stop are looked at, and given to `wait`.
    pub fn interrupts(&self) -> u64 {
        self.interrupts.load(Ordering::Acquire)
    }

    /// An OS thread stops polling. What it was called for, if it was, is for another one, the leader too.
    pub fn quit(&self) {
        let mut turn = self.turn.lock();
        if turn.call() {
            drop(turn);
            self.work.notify_one();
        } else if !turn.ready.is_empty() {
            self.call_back(turn);
        }
    }

    pub fn stop(&self) {
        self.stops.fetch_add(1, Ordering::AcqRel);
        self.interrupt();
    }

    /// The next thread to run, without waiting. The caller enters it.
    pub fn take(&self) -> Option<T> {
        if self.queued.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut turn = self.turn.lock();
        if turn.round == 0 && !turn.led && !turn.ready.is_empty() {
            turn.led = true;
            let woken = std::mem::take(&mut turn.woken);
            drop(turn);
            let _found = self.lead(Some(Duration::ZERO), woken);
            turn = self.turn.lock();
        }
        let thread = turn.ready.pop_front();
        turn.round = turn.round.saturating_sub(1);
        let calls = turn.idle > 0 && thread.is_some() && !(turn.led && turn.ready.is_empty()) && turn.call();
        let stale = std::mem::take(&mut turn.stale);
        self.count(&turn);
        drop(turn);
        drop(stale);
        if calls {
            self.work.notify_one();
        }
        thread
    }

    /// Waits until there may be something to take, or until `until`. Runs without Python.
    ///
    /// Not at all if there was an interrupt since `seen` was read: it concerned reasons to stop that the caller had
    /// looked at already.
    pub fn wait(&self, until: u64, seen: u64) -> io::Result<()> {
        self.wait_with(seen, |leads| {
            // By the leader read after `blocked` was set: who sets an earlier one from now on calls it back.
            let due = if leads { self.timers.next_due().min(until) } else { until };
            (due != NEVER).then(|| Duration::from_nanos(due.saturating_sub(clock::now())))
        })
    }

    /// As `wait`, but so long at most on the OS's clock, whatever is due meanwhile.
    pub fn pause(&self, most: Duration, seen: u64) -> io::Result<()> {
        let begun = Instant::now();
        self.wait_with(seen, |_| Some(most.saturating_sub(begun.elapsed())))
    }

    /// Whoever is called and finds nothing but the lead takes that: for it needs no Python.
    fn wait_with(&self, seen: u64, timeout: impl Fn(bool) -> Option<Duration>) -> io::Result<()> {
        let mut turn = self.turn.lock();
        loop {
            if !turn.ready.is_empty() || self.interrupts() != seen {
                return Ok(());
            }
            if !turn.led {
                break;
            }
            let timeout = timeout(false);
            turn.idle += 1;
            let late = match timeout {
                None => {
                    self.work.wait(&mut turn);
                    false
                }
                Some(timeout) => self.work.wait_for(&mut turn, timeout).timed_out(),
            };
            turn.idle -= 1;
            turn.called = turn.called.saturating_sub(1);
            if late {
                return Ok(());
            }
        }
        turn.led = true;
        turn.blocked = true;
        let woken = std::mem::take(&mut turn.woken);
        drop(turn);
        self.lead(timeout(true), woken)
    }

    /// Whether threads are ready, or there was an interrupt since `seen` was read.
    pub fn has_work(&self, seen: u64) -> bool {
        !self.turn.lock().ready.is_empty() || self.interrupts() != seen
    }

    /// Whether a thread waits for a socket.
    pub fn waits_for_sockets(&self) -> bool {
        let waits = |direction: &Readiness<Waiter<T>>| direction.with_waiter(|_| ()).is_some();
        self.sources.lock().slab.iter().any(|(_, (_, source))| waits(&source.read) || waits(&source.write))
    }

    /// Asks the OS, as the leader: `turn.led` is already set. `woken` is room, and empty. Whoever led takes or quits next,
    /// and calls the one who leads then.
    fn lead(&self, timeout: Option<Duration>, mut woken: Vec<T>) -> io::Result<()> {
        let mut stale = Vec::new();
        let mut signalled = false;
        let result = {
            let mut lead = self.lead.lock();
            let result = lead.wait(timeout);
            if let Ok(events) = &result {
                let sources = self.sources.lock();
                for event in *events {
                    match event.token() {
                        WAKER => {}
                        SIGNAL => signalled = true,
                        Token(token) => {
                            let Some((generation, source)) = sources.slab.get(token & INDEX) else {
                                continue;
                            };
                            if *generation != token >> INDEX_BITS {
                                continue;
                            }
                            let failed = event.is_error();
                            if event.is_readable() || event.is_read_closed() || failed {
                                // A read stops at urgent data, with more behind it that no event will tell of.
                                let ended = event.is_read_closed() || event.is_priority() || failed;
                                Self::mark(&source.read, ended, &mut woken, &mut stale);
                            }
                            if event.is_writable() || event.is_write_closed() || failed {
                                let ended = event.is_write_closed() || failed;
                                Self::mark(&source.write, ended, &mut woken, &mut stale);
                            }
                        }
                    }
                }
            }
            result.map(drop)
        };
        if chaos::is_on() {
            chaos::shuffle(&mut woken);
        }
        if signalled {
            self.signals.drain();
        }
        if self.timers.next_due() != NEVER || self.timed_loops.load(Ordering::Relaxed) > 0 {
            let now = clock::now();
            self.now.store(now, Ordering::Relaxed);
            self.fire(now, &mut woken, &mut stale);
        }
        // A burst of deadlines does not keep its room for ever. Those few that are there are moved, so that bursts which
        // come again and again cost little more than without this.
        if woken.capacity() > ROOM && woken.capacity() / 8 > woken.len() {
            woken.shrink_to(ROOM);
        }

        let mut turn = self.turn.lock();
        turn.led = false;
        turn.blocked = false;
        turn.stale.append(&mut stale);
        turn.ready.extend(woken.drain(..));
        turn.woken = woken;
        turn.round = turn.ready.len();
        self.count(&turn);
        let interrupted = result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted);
        if signalled || interrupted {
            // Python's handlers run in the main thread alone: let it look, whoever it is among us.
            self.interrupts.fetch_add(1, Ordering::AcqRel);
            self.work.notify_all();
        }
        if interrupted { Ok(()) } else { result }
    }

    fn mark(direction: &Readiness<Waiter<T>>, ended: bool, woken: &mut Vec<T>, stale: &mut Vec<T>) {
        if direction.knows(ended) {
            return;
        }
        if let Some(waiter) = direction.event(ended) {
            let wins = waiter.thread.wait().wake(waiter.epoch, Reason::Event);
            if wins { woken.push(waiter.thread) } else { stale.push(waiter.thread) }
        }
    }

    fn fire(&self, now: u64, woken: &mut Vec<T>, stale: &mut Vec<T>) {
        while self.timers.next_due() <= now {
            let Some((key, thread)) = self.timers.lock().pop_due(now) else {
                return;
            };
            // The handle moves into `expire` and may go back among the timers, so its wait state is borrowed apart.
            let wait: *const Wait = thread.wait();
            // SAFETY: whoever holds the handle keeps the thread: we, or the timers once `expire` has put it back. From
            // there `finish` takes it, which waits for the lock that `expire` holds to its end, and `abandon`, which is
            // not called before nobody polls any more.
            match unsafe { &*wait }.expire(key, now, thread, &self.timers) {
                None => {}
                Some((thread, true)) => woken.push(thread),
                Some((thread, false)) => stale.push(thread),
            }
        }
    }
}

impl<T: Thread> Drop for Hub<T> {
    fn drop(&mut self) {
        if sys::POLL_IS_INHERITED || !self.is_forked() {
            // SAFETY: they are dropped here alone, and nobody has the hub any more.
            unsafe {
                ManuallyDrop::drop(&mut self.waker);
                ManuallyDrop::drop(&mut self.registry);
                ManuallyDrop::drop(&mut seize(&self.lead));
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use socket2::{Socket, Type};

    use super::*;
    use crate::address::Family;

    /// What a coroutine is to the hub.
    #[derive(Clone, Debug)]
    pub(crate) struct Coroutine(Arc<(Wait, Arc<Hub<Coroutine>>, usize)>);

    impl Coroutine {
        pub(crate) fn id(&self) -> usize {
            self.0.2
        }
    }

    impl Thread for Coroutine {
        type Weak = ();

        fn wait(&self) -> &Wait {
            &self.0.0
        }
        fn hub(&self) -> &Arc<Hub<Self>> {
            &self.0.1
        }
    }

    pub(crate) fn hub() -> Arc<Hub<Coroutine>> {
        Arc::new(Hub::new().unwrap())
    }

    pub(crate) fn coroutine(hub: &Arc<Hub<Coroutine>>, id: usize) -> Coroutine {
        Coroutine(Arc::new((Wait::new(), hub.clone(), id)))
    }

    /// One that waits, until `deadline` if nothing else.
    pub(crate) fn waiting(hub: &Arc<Hub<Coroutine>>, id: usize, deadline: u64) -> (Coroutine, u32) {
        let coroutine = coroutine(hub, id);
        let (epoch, earliest) = coroutine.wait().park(deadline, &hub.timers, || coroutine.clone());
        assert!(!coroutine.wait().leave());
        if earliest {
            hub.rearm();
        }
        (coroutine, epoch)
    }

    /// Polls until somebody is ready; who it was.
    pub(crate) fn next(hub: &Hub<Coroutine>) -> usize {
        let begin = Instant::now();
        loop {
            if let Some(coroutine) = hub.take() {
                coroutine.wait().enter();
                return coroutine.0.2;
            }
            assert!(begin.elapsed() < Duration::from_secs(10), "a wake-up was lost");
            hub.wait(sys::now() + 1_000_000_000, hub.interrupts()).unwrap();
        }
    }

    fn milliseconds(n: u64) -> u64 {
        n * 1_000_000
    }

    fn connection(hub: &Arc<Hub<Coroutine>>) -> (Arc<Source<Coroutine>>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = Socket::from(listener.accept().unwrap().0);
        socket.set_nonblocking(true).unwrap();
        let source = Arc::new(Source::new(socket, Type::STREAM, Family::Inet, None));
        assert!(source.register(hub).unwrap());
        (source, peer)
    }

    /// Parks a coroutine in the reading direction, which has nothing to read.
    fn reading(hub: &Arc<Hub<Coroutine>>, source: &Source<Coroutine>, id: usize) {
        let coroutine = coroutine(hub, id);
        source.read.begin_to_wait();
        let (epoch, _) = coroutine.wait().park(NEVER, &hub.timers, || unreachable!());
        source.read.park(Waiter { thread: coroutine.clone(), epoch, since: 0 }).unwrap();
        assert!(!coroutine.wait().leave());
    }

    /// What is to be dropped counts as work, so that nothing is kept while there is none.
    #[test]
    fn handle_that_is_no_longer_needed_goes_before_the_next_wait() {
        let hub = hub();
        let (coroutine, epoch) = waiting(&hub, 1, sys::now());
        assert!(coroutine.wait().wake(epoch, Reason::Event), "its entry among the timers is for nothing now");
        assert_eq!(Arc::strong_count(&coroutine.0), 2);
        hub.wait(sys::now() + 1_000_000_000, hub.interrupts()).unwrap();
        assert!(hub.take().is_none());
        assert_eq!(Arc::strong_count(&coroutine.0), 1);
    }

    #[test]
    fn handle_is_that_of_the_systems_poll_and_of_one_hub() {
        let handles = [hub(), hub()].map(|hub| {
            let handle = sys::poll_handle(hub.registry());
            assert!(sys::is_poll(handle), "{} {handle}", sys::POLL);
            (handle, hub)
        });
        assert_ne!(handles[0].0, handles[1].0);
        assert!(!sys::is_poll(-1));
    }

    #[test]
    fn ready_threads_are_taken_first_come_first_served() {
        let hub = hub();
        assert!(hub.take().is_none());
        for id in 0..5 {
            hub.push(coroutine(&hub, id));
        }
        assert_eq!((0..5).map(|_| next(&hub)).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert!(hub.take().is_none());
    }

    #[test]
    fn room_for_a_burst_of_deadlines_is_kept_for_the_next_one_and_no_longer() {
        let hub = hub();
        let burst = |count: usize| {
            let now = sys::now();
            for id in 0..count {
                waiting(&hub, id, now);
            }
            for id in 0..count {
                assert_eq!(next(&hub), id);
            }
            let mut turn = hub.turn.lock();
            assert!(turn.woken.is_empty());
            turn.woken.spare_capacity_mut().len()
        };
        let most = 20 * ROOM;
        let room = burst(most);
        assert!(room >= most);
        assert_eq!(burst(most / 2), room, "no other memory for each burst");
        let left = burst(1);
        assert!((1..=ROOM).contains(&left), "{left}");
        assert!(burst(most) >= most);
    }

    #[test]
    fn deadlines_fire_in_order_and_never_early() {
        let hub = hub();
        let now = sys::now();
        for (id, ms) in [(0, 30), (1, 10), (2, 20)] {
            waiting(&hub, id, now + milliseconds(ms));
        }
        for (id, ms) in [(1, 10), (2, 20), (0, 30)] {
            assert_eq!(next(&hub), id);
            assert!(sys::now() >= now + milliseconds(ms));
        }
    }

    #[test]
    fn interrupt_before_the_wait_is_not_lost() {
        let hub = hub();
        let seen = hub.interrupts();
        // Here the caller looks whether it was stopped, and is not yet.
        hub.interrupt();
        let begin = Instant::now();
        hub.wait(sys::now() + milliseconds(5000), seen).unwrap();
        assert!(begin.elapsed() < Duration::from_secs(4));
    }

    /// Two OS threads that idle while somebody else has the lead. Each waits once, and says what it does then.
    fn idling<R: Send + 'static>(
        hub: &Arc<Hub<Coroutine>>,
        then: impl Fn(&Hub<Coroutine>) -> R + Clone + Send + 'static,
    ) -> Vec<thread::JoinHandle<R>> {
        hub.turn.lock().led = true;
        let idling = (0..2)
            .map(|_| {
                let (hub, then) = (hub.clone(), then.clone());
                thread::spawn(move || {
                    hub.wait(sys::now() + milliseconds(5000), hub.interrupts()).unwrap();
                    then(&hub)
                })
            })
            .collect();
        while hub.turn.lock().idle < 2 {
            thread::yield_now();
        }
        idling
    }

    #[test]
    fn what_woke_an_os_thread_that_quits_is_for_another() {
        let hub = hub();
        let begin = Instant::now();
        let quits = Arc::new(AtomicU64::new(1));
        let idling = idling(&hub, move |hub| {
            if quits.swap(0, Ordering::AcqRel) > 0 {
                hub.quit();
                return None;
            }
            hub.take().map(|coroutine| coroutine.id())
        });
        hub.push(coroutine(&hub, 7));
        let mut taken: Vec<_> = idling.into_iter().map(|each| each.join().unwrap()).collect();
        taken.sort();
        assert_eq!(taken, [None, Some(7)]);
        assert!(begin.elapsed() < Duration::from_secs(4), "nobody was called, one came by its own time");
    }

    #[test]
    fn what_the_only_idle_os_thread_was_called_for_and_leaves_is_for_the_leader() {
        let hub = hub();
        let leads = {
            let hub = hub.clone();
            thread::spawn(move || {
                hub.wait(sys::now() + milliseconds(5000), hub.interrupts()).unwrap();
                hub.take().map(|coroutine| coroutine.id())
            })
        };
        while !hub.turn.lock().blocked {
            thread::yield_now();
        }
        let quits = {
            let hub = hub.clone();
            thread::spawn(move || {
                hub.wait(NEVER, hub.interrupts()).unwrap();
                hub.quit();
            })
        };
        while hub.turn.lock().idle < 1 {
            thread::yield_now();
        }
        let begin = Instant::now();
        hub.push(coroutine(&hub, 7));
        quits.join().unwrap();
        assert_eq!(leads.join().unwrap(), Some(7));
        assert!(begin.elapsed() < Duration::from_secs(4), "it came by its own time");
    }

    #[test]
    fn two_that_are_made_ready_call_two_os_threads() {
        let hub = hub();
        let begin = Instant::now();
        let idling = idling(&hub, |hub| hub.take().map(|coroutine| coroutine.id()));
        hub.push(coroutine(&hub, 0));
        hub.push(coroutine(&hub, 1));
        let mut taken: Vec<_> = idling.into_iter().map(|each| each.join().unwrap()).collect();
        taken.sort();
        assert_eq!(taken, [Some(0), Some(1)]);
        assert!(begin.elapsed() < Duration::from_secs(4), "only one was called");
    }

    #[test]
    fn whoever_is_called_for_the_lead_takes_it_without_coming_back() {
        let hub = hub();
        let idling = idling(&hub, |_| ());
        hub.turn.lock().led = false;
        hub.quit();
        let begin = Instant::now();
        while !hub.turn.lock().blocked {
            assert!(begin.elapsed() < Duration::from_secs(4));
            thread::yield_now();
        }
        assert!(!idling.iter().any(thread::JoinHandle::is_finished));
        hub.interrupt();
        for each in idling {
            each.join().unwrap();
        }
    }

    #[test]
    fn wait_ends_at_its_own_time() {
        let hub = hub();
        let until = sys::now() + milliseconds(5);
        while sys::now() < until {
            hub.wait(until, hub.interrupts()).unwrap();
        }
        assert!(hub.take().is_none());
    }

    #[test]
    fn push_brings_an_os_thread_back_that_waits() {
        let hub = hub();
        let waits = {
            let hub = hub.clone();
            thread::spawn(move || next(&hub))
        };
        thread::sleep(Duration::from_millis(5));
        hub.push(coroutine(&hub, 7));
        assert_eq!(waits.join().unwrap(), 7);
    }

    #[test]
    fn earlier_deadline_brings_an_os_thread_back_that_waits_for_a_later_one() {
        let hub = hub();
        let (_late, _) = waiting(&hub, 0, sys::now() + milliseconds(60_000));
        let waits = {
            let hub = hub.clone();
            thread::spawn(move || next(&hub))
        };
        thread::sleep(Duration::from_millis(5));
        waiting(&hub, 1, sys::now() + milliseconds(1));
        assert_eq!(waits.join().unwrap(), 1);
    }

    #[test]
    fn interrupt_brings_every_os_thread_back() {
        let hub = hub();
        let waits: Vec<_> = (0..3)
            .map(|_| {
                let hub = hub.clone();
                thread::spawn(move || hub.wait(NEVER, hub.interrupts()).unwrap())
            })
            .collect();
        while !waits.iter().all(thread::JoinHandle::is_finished) {
            hub.interrupt();
            thread::yield_now();
        }
    }

    #[test]
    fn data_wakes_who_reads() {
        let hub = hub();
        let (source, mut peer) = connection(&hub);
        // The first event of a new registration says that it is writable.
        hub.wait(sys::now() + milliseconds(1000), hub.interrupts()).unwrap();
        reading(&hub, &source, 3);
        peer.write_all(b"x").unwrap();
        assert_eq!(next(&hub), 3);
        assert!(source.read.snapshot().is_ready());
    }

    #[test]
    fn close_wakes_who_reads_and_no_later_event_arrives() {
        let hub = hub();
        let (source, mut peer) = connection(&hub);
        hub.wait(sys::now() + milliseconds(1000), hub.interrupts()).unwrap();
        reading(&hub, &source, 4);
        let mut stale = Vec::new();
        assert!(source.close(&mut stale));
        assert!(!source.close(&mut stale), "a second close finds it closed");
        assert_eq!(next(&hub), 4);
        let _reset = peer.write_all(b"x");
        hub.wait(sys::now() + milliseconds(5), hub.interrupts()).unwrap();
        assert!(hub.take().is_none());
        assert!(source.lease().is_none());
    }

    #[test]
    fn event_of_a_past_source_does_not_reach_the_next_in_its_slot() {
        let hub = hub();
        let (source, mut peer) = connection(&hub);
        hub.wait(sys::now() + milliseconds(1000), hub.interrupts()).unwrap();
        let old = hub.add(source.clone());
        hub.forget(old);
        let (next_source, _next_peer) = connection(&hub);
        hub.wait(sys::now() + milliseconds(1000), hub.interrupts()).unwrap();
        reading(&hub, &next_source, 5);
        assert_ne!(hub.add(source.clone()), old, "the same slot has another generation");
        peer.write_all(b"x").unwrap();
        hub.wait(sys::now() + milliseconds(5), hub.interrupts()).unwrap();
        assert!(hub.take().is_none());
    }

    #[test]
    fn each_of_many_is_taken_once_by_several_os_threads() {
        const EACH: usize = 2_000;
        let hub = hub();
        let taken = Arc::new((0..EACH).map(|_| AtomicUsize::new(0)).collect::<Vec<_>>());
        let total = Arc::new(AtomicUsize::new(0));
        let os_threads: Vec<_> = (0..4)
            .map(|_| {
                let (hub, taken, total) = (hub.clone(), taken.clone(), total.clone());
                thread::spawn(move || {
                    while total.load(Ordering::SeqCst) < EACH {
                        if let Some(coroutine) = hub.take() {
                            coroutine.wait().enter();
                            taken[coroutine.0.2].fetch_add(1, Ordering::SeqCst);
                            if total.fetch_add(1, Ordering::SeqCst) + 1 == EACH {
                                hub.interrupt();
                            }
                        } else {
                            hub.wait(sys::now() + milliseconds(50), hub.interrupts()).unwrap();
                        }
                    }
                })
            })
            .collect();
        for id in 0..EACH {
            if id % 2 == 0 {
                hub.push(coroutine(&hub, id));
            } else {
                // Woken by several: an explicit wake and its deadline.
                let coroutine = coroutine(&hub, id);
                let deadline = sys::now() + milliseconds(1);
                let (epoch, earliest) = coroutine.wait().park(deadline, &hub.timers, || coroutine.clone());
                // On a machine that is busy enough the deadline comes before the turn has ended.
                if coroutine.wait().leave() {
                    hub.push(coroutine.clone());
                }
                if earliest {
                    hub.rearm();
                }
                Hub::wake(coroutine, epoch, &mut Vec::new());
            }
        }
        for os_thread in os_threads {
            os_thread.join().unwrap();
        }
        assert!(taken.iter().all(|times| times.load(Ordering::SeqCst) == 1));
    }
}
