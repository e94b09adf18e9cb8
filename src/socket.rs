//! An OS socket that may belong to a poller: its system calls, its two directions, its registration.
//!
//! The descriptor is leased: each system call holds a lease for its length, closing forbids new ones, and the last
//! lease closes the descriptor. So no call ever reaches a number that the OS has given to somebody else.
//!
//! A socket is registered at the first wait, not before: one that never has to wait costs no registration.

use std::io;
use std::net::Shutdown;
use std::sync::{Arc, OnceLock};

use mio::Token;
use socket2::{Protocol, SockAddr, Socket, Type};

use crate::address::{Address, Family};
use crate::poller::{Hub, Thread};
use crate::readiness::{Readiness, Snapshot};
use crate::sync::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Exclusive, Mutex, Ordering, seize};
use crate::sys::{self, Descriptor};

// Of the lower half, beyond any count, so that instructions have them as they are.
const CLOSED: usize = 1 << 30;
/// An error is kept for the next operation. Not with `CLOSED`.
const FAILED: usize = CLOSED >> 1;

/// Who waits in a direction: the thread, its wait, and since when.
#[derive(Debug)]
pub struct Waiter<T> {
    pub thread: T,
    pub epoch: u32,
    pub since: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Read,
    Write,
}

#[derive(Debug)]
struct Registration<T: Thread> {
    hub: Arc<Hub<T>>,
    token: Token,
}

/// What has moved one way. Changed only by the operation that has claimed the direction.
#[derive(Debug, Default)]
pub struct Counter {
    bytes: AtomicU64,
    calls: AtomicU64,
}

impl Counter {
    /// One more system call that moved bytes.
    pub fn add(&self, bytes: usize) {
        self.bytes.store(self.bytes.load(Ordering::Relaxed) + bytes as u64, Ordering::Relaxed);
        self.calls.store(self.calls.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Bytes, calls.
    pub fn get(&self) -> (u64, u64) {
        (self.bytes.load(Ordering::Relaxed), self.calls.load(Ordering::Relaxed))
    }
}

// In this order: what each message touches comes first, in as few cache lines as can be.
#[derive(Debug)]
#[repr(C)]
pub struct Source<T: Thread> {
    leases: Exclusive,
    descriptor: Descriptor,
    pub kind: Type,
    /// What a short read means: a `Short`.
    short: AtomicU8,
    family: AtomicU8,
    /// The family is not settled: the first connection, or the first bind, does that.
    any_family: AtomicBool,
    /// The program has bound it; else the OS chooses its address when it connects.
    bound: AtomicBool,
    pub read: Readiness<Waiter<T>>,
    pub write: Readiness<Waiter<T>>,
    /// The hub's address while registered, to look at without the lock.
    registered_with: AtomicUsize,
    pub received: Counter,
    pub sent: Counter,
    /// Guards registering, moving and deregistering; the hub's list of sources may be locked under it.
    registration: Mutex<Option<Registration<T>>>,
    pub protocol: Option<Protocol>,
    /// Of a stream, once it is connected; a datagram socket may connect anew.
    pub peer: OnceLock<Address>,
    /// The local address, once it can't change any more.
    pub local: OnceLock<Address>,
    /// What `FAILED` is about. Guards that bit too.
    failure: Mutex<Option<io::Error>>,
}

/// What it means that a stream gave less than there was room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Short {
    /// There was no more, so the next read would block.
    Drained,
    /// The same, unless descriptors or credentials came along, at which a read of a unix socket stops.
    DrainedUnlessMarked,
    /// There may be more.
    Nothing,
}

impl Short {
    fn of(family: Family) -> Self {
        match family {
            _ if !sys::SHORT_MEANS_DRAINED => Short::Nothing,
            Family::Unix => Short::DrainedUnlessMarked,
            Family::Inet | Family::Inet6 => Short::Drained,
        }
    }
}

/// The right to make system calls on an open descriptor.
#[derive(Debug)]
pub struct Lease<'a, T: Thread>(&'a Source<T>);

impl<T: Thread> std::ops::Deref for Lease<'_, T> {
    type Target = Descriptor;
    fn deref(&self) -> &Descriptor {
        &self.0.descriptor
    }
}

impl<T: Thread> Lease<'_, T> {
    /// Receives from a stream, whose reading direction was so before. It is not ready any more if all came that was there.
    ///
    /// # Safety
    /// `data` is valid for writing `len` bytes.
    #[inline(always)] // the path of each message
    pub unsafe fn recv(&self, data: *mut u8, len: usize, seen: Snapshot) -> io::Result<usize> {
        let short = self.0.short.load(Ordering::Relaxed);
        // SAFETY: as the caller promises.
        let (n, drains) = unsafe {
            if short == Short::DrainedUnlessMarked as u8 {
                let (n, marked) = self.recv_marked(data, len)?;
                (n, !marked)
            } else {
                (self.0.descriptor.recv(data, len)?, short == Short::Drained as u8)
            }
        };
        if drains && 0 < n && n < len {
            self.0.read.drained(seen);
        }
        Ok(n)
    }

    /// What a failed call on datagrams comes to. An ICMP error of an earlier one concerns a connected socket alone, which
    /// goes on; on any other it is nothing, `None`, and the call is to be made again.
    pub fn datagram_failure(&self, failed: io::Error) -> Option<io::Error> {
        if !failed.raw_os_error().is_some_and(|number| sys::UNDELIVERED.contains(&number)) {
            return Some(failed);
        }
        self.with(Socket::peer_addr).ok().map(|_| sys::undelivered(failed))
    }
}

impl<T: Thread> Drop for Lease<'_, T> {
    fn drop(&mut self) {
        if self.0.leases.update(|leases| leases - 1) == CLOSED | 1 {
            self.0.descriptor.close();
        }
    }
}

impl<T: Thread> Source<T> {
    pub fn new(socket: Socket, kind: Type, family: Family, protocol: Option<Protocol>) -> Self {
        Source {
            descriptor: Descriptor::new(socket),
            leases: Exclusive::new(0),
            read: Readiness::new(),
            write: Readiness::new(),
            registered_with: AtomicUsize::new(0),
            registration: Mutex::new(None),
            short: AtomicU8::new(Short::of(family) as u8),
            kind,
            family: AtomicU8::new(family as u8),
            any_family: AtomicBool::new(false),
            bound: AtomicBool::new(false),
            protocol,
            peer: OnceLock::new(),
            local: OnceLock::new(),
            failure: Mutex::new(None),
            received: Counter::default(),
            sent: Counter::default(),
        }
    }

    pub fn family(&self) -> Family {
        Family::ALL[usize::from(self.family.load(Ordering::Relaxed))]
    }

    pub fn is_any_family(&self) -> bool {
        self.any_family.load(Ordering::Relaxed)
    }

    /// Binds the OS's socket; `listens`: connections are to come there.
    pub fn bind(&self, address: &SockAddr, listens: bool) -> io::Result<()> {
        let lease = self.lease().ok_or(io::ErrorKind::NotConnected)?;
        let bound = lease.with(|socket| {
            if self.family() != Family::Unix {
                if listens { sys::listen_options(socket)? } else { sys::bind_options(socket)? }
            }
            socket.bind(address)
        });
        self.bound.fetch_or(bound.is_ok(), Ordering::Relaxed);
        bound
    }

    /// A fresh OS socket of a kind, as all begin: without delay, and IPv6 alone where it is of that.
    pub fn make(kind: Type, family: Family, protocol: Option<Protocol>) -> io::Result<Socket> {
        let socket = Descriptor::make(family.domain(), kind, protocol)?;
        if kind == Type::STREAM && family != Family::Unix {
            socket.set_tcp_nodelay(true)?;
        }
        if family == Family::Inet6 && kind != sys::RAW {
            // The same on every OS and setting; `setopt('ipv6_v6only', False)` before bind makes it dual-stack.
            socket.set_only_v6(true)?;
        }
        Ok(socket)
    }

    pub fn set_any_family(&self, any: bool) {
        self.any_family.store(any, Ordering::Relaxed);
    }

    pub fn set_peer(&self, address: &Address) {
        if self.kind == Type::STREAM {
            let _ = self.peer.set(address.clone());
        }
    }

    pub fn direction(&self, direction: Direction) -> &Readiness<Waiter<T>> {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }

    /// From now on a short read does not mean that nothing is left.
    pub fn short_means_nothing(&self) {
        self.short.store(Short::Nothing as u8, Ordering::Relaxed);
    }

    pub fn is_closed(&self) -> bool {
        self.leases.get() & CLOSED != 0
    }

    /// `None` once the socket is closed.
    pub fn lease(&self) -> Option<Lease<'_, T>> {
        let before = self.leases.update(|leases| if leases & CLOSED == 0 { leases + 1 } else { leases });
        (before & CLOSED == 0).then(|| Lease(self))
    }

    /// As `lease`, and `None` also while there is an error that an operation has to tell first.
    #[inline(always)] // the path of each message
    pub fn lease_unless_failed(&self) -> Option<Lease<'_, T>> {
        let before = self.leases.update(|leases| if leases & (CLOSED | FAILED) == 0 { leases + 1 } else { leases });
        (before & (CLOSED | FAILED) == 0).then(|| Lease(self))
    }

    /// An error that came after datagrams, which the OS tells once: it is the next operation's, as Linux' recvmmsg(2) has
    /// it. Who waits has something to look at.
    pub fn keep_failure(&self, failure: io::Error, stale: &mut Vec<T>) {
        {
            let mut kept = self.failure.lock();
            let before = self.leases.update(|leases| if leases & CLOSED == 0 { leases | FAILED } else { leases });
            if before & CLOSED == 0 {
                *kept = Some(failure);
            }
        }
        for direction in [&self.read, &self.write] {
            if let Some(waiter) = direction.event(false) {
                Hub::wake(waiter.thread, waiter.epoch, stale);
            }
        }
    }

    pub fn has_failure(&self) -> bool {
        self.leases.get() & FAILED != 0
    }

    /// The error that is kept, which is told once.
    pub fn take_failure(&self) -> Option<io::Error> {
        let mut kept = self.failure.lock();
        self.leases.update(|leases| leases & !FAILED);
        kept.take()
    }

    /// Events of this socket come to `hub` from now on. `false`: another hub has it and somebody waits there.
    pub fn register(self: &Arc<Self>, hub: &Arc<Hub<T>>) -> io::Result<bool> {
        if self.registered_with.load(Ordering::Acquire) == Arc::as_ptr(hub) as usize {
            return Ok(true);
        }
        let Some(lease) = self.lease() else {
            return Ok(true);
        }; // closed: parking finds out
        let mut registration = self.registration.lock();
        if let Some(old) = registration.as_ref() {
            if Arc::ptr_eq(&old.hub, hub) {
                return Ok(true); // the other direction did it meanwhile, in another OS thread
            }
            let waits = |r: &Readiness<Waiter<T>>| r.with_waiter(|_| ()).is_some();
            if waits(&self.read) || waits(&self.write) {
                return Ok(false);
            }
            self.registered_with.store(0, Ordering::Release);
            old.hub.remove(old.token, &lease);
            *registration = None;
        }
        let token = hub.add(self.clone());
        if let Err(error) = lease.register(hub.registry(), token) {
            hub.forget(token);
            return Err(error);
        }
        self.registered_with.store(Arc::as_ptr(hub) as usize, Ordering::Release);
        *registration = Some(Registration { hub: hub.clone(), token });
        drop(registration);
        if self.is_closed() {
            self.deregister(&lease);
        }
        Ok(true)
    }

    /// In a child process: nobody uses this socket yet, and no hub has it. The threads that did are the parent's, and
    /// are not even dropped: nothing of theirs may run here.
    pub(crate) fn set_forked(&self) {
        for direction in [&self.read, &self.write] {
            std::mem::forget(direction.reset());
        }
        self.registered_with.store(0, Ordering::Release);
        std::mem::forget(seize(&self.registration).take());
    }

    fn deregister(&self, descriptor: &Descriptor) {
        let registration = self.registration.lock().take();
        self.registered_with.store(0, Ordering::Release);
        if let Some(Registration { hub, token }) = registration {
            hub.remove(token, descriptor);
        }
    }

    /// Shuts down: further sends fail after `Write`, and reading has come to its end after `Read`.
    pub fn shutdown(&self, how: Shutdown, stale: &mut Vec<T>) -> io::Result<()> {
        let Some(lease) = self.lease() else {
            return Ok(());
        };
        lease.with(|socket| socket.shutdown(how))?;
        // Windows tells its poll nothing of what we do ourselves, and no poll tells of a unix socket whose buffer is full.
        for (direction, spared, ended) in [(&self.read, Shutdown::Write, true), (&self.write, Shutdown::Read, false)] {
            if how != spared
                && let Some(waiter) = direction.event(ended)
            {
                Hub::wake(waiter.thread, waiter.epoch, stale);
            }
        }
        Ok(())
    }

    /// Closes the socket: no further call, no further event; who waits is woken. The descriptor goes with the last
    /// call that still uses it. `false`: it was closed before.
    pub fn close(&self, stale: &mut Vec<T>) -> bool {
        let Some(lease) = self.end(stale) else {
            return false;
        };
        drop(lease);
        true
    }

    /// As `close`, but the descriptor lives on, as the caller's.
    pub fn detach(&self, stale: &mut Vec<T>) -> Option<sys::RawDescriptor> {
        let lease = self.end(stale)?;
        lease.take().map(Descriptor::into_raw)
    }

    fn end(&self, stale: &mut Vec<T>) -> Option<Lease<'_, T>> {
        let lease = self.lease()?;
        if self.leases.update(|leases| (leases | CLOSED) & !FAILED) & CLOSED != 0 {
            return None;
        }
        self.deregister(&lease);
        for waiter in [self.read.close(), self.write.close()].into_iter().flatten() {
            Hub::wake(waiter.thread, waiter.epoch, stale);
        }
        Some(lease)
    }

    /// Gives up a connect that is under way, so that another one can begin. `false`: only on a fresh socket.
    pub fn give_up_connect(&self) -> io::Result<bool> {
        let Some(lease) = self.lease() else {
            return Ok(true);
        };
        self.deregister(&lease);
        // A unix socket connects at once or not at all: nothing is under way.
        let same = self.family() == Family::Unix || lease.give_up_connect()?;
        // The next one begins by trying: but for Linux', no OS's poll says anything of a socket that does not connect.
        drop(self.write.event(false));
        Ok(same)
    }

    /// A fresh socket of the same kind behind this one, for an OS whose sockets do not survive a failed connect. Gives the
    /// address that the program had bound the one before to: it is free now, and for the caller to bind this one to, after
    /// the options that the program had set.
    pub fn renew(&self) -> io::Result<Option<SockAddr>> {
        let Some(lease) = self.lease() else {
            return Ok(None);
        };
        let fresh = Self::make(self.kind, self.family(), self.protocol)?;
        let bound = self.bound.load(Ordering::Relaxed).then(|| lease.with(Socket::local_addr)).transpose()?;
        self.deregister(&lease);
        lease.replace(&fresh)?;
        Ok(bound)
    }

    /// Takes another one's OS socket in place of this one's, and with it its family. `false`: this one is closed, or has
    /// its family already. The other one is closed in any case.
    pub fn become_other(&self, other: &Self, stale: &mut Vec<T>) -> io::Result<bool> {
        let taken = other.end(stale).and_then(|lease| lease.take());
        let (Some(lease), Some(taken)) = (self.lease(), taken) else {
            return Ok(false);
        };
        if !self.any_family.swap(false, Ordering::AcqRel) {
            return Ok(false);
        }
        self.deregister(&lease);
        lease.replace(&taken)?;
        self.family.store(other.family.load(Ordering::Relaxed), Ordering::Relaxed);
        if let Some(peer) = other.peer.get() {
            self.set_peer(peer);
        }
        Ok(true)
    }
}

impl<T: Thread> Drop for Source<T> {
    fn drop(&mut self) {
        self.descriptor.close();
    }
}

#[cfg(test)]
mod tests;
