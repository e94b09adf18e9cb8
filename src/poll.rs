//! The OS's poll, and what brings back whoever waits in it. In a model there is no OS: the waker alone ends a wait.

#[cfg(feature = "model")]
pub use self::model::{Poll, Waker};
#[cfg(not(feature = "model"))]
pub use self::os::{Poll, Waker};

/// What no source has: the waker's events.
pub const WAKER: mio::Token = mio::Token(usize::MAX);

#[cfg(not(feature = "model"))]
mod os {
    pub use mio::Waker;
    use mio::{Events, Registry};
    use std::io;
    use std::time::Duration;

    /// Events taken from the OS at once.
    const EVENTS: usize = 1024;

    #[derive(Debug)]
    pub struct Poll {
        poll: mio::Poll,
        events: Events,
    }

    impl Poll {
        pub fn new() -> io::Result<(Self, Registry, Waker)> {
            let poll = mio::Poll::new()?;
            let registry = poll.registry().try_clone()?;
            let waker = Waker::new(&registry, super::WAKER)?;
            Ok((Poll { poll, events: Events::with_capacity(EVENTS) }, registry, waker))
        }

        /// Waits for events; they are gone at the next call.
        pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<&Events> {
            self.poll.poll(&mut self.events, timeout)?;
            Ok(&self.events)
        }
    }
}

#[cfg(feature = "model")]
#[allow(clippy::unnecessary_wraps)] // called as the other one
mod model {
    use std::io;
    use std::sync::Arc;
    use std::time::Duration;

    use mio::{Events, Registry};

    use crate::sync::{Condvar, Mutex};

    type Bell = Arc<(Mutex<bool>, Condvar)>;

    #[derive(Debug)]
    pub struct Waker(Bell);

    #[derive(Debug)]
    pub struct Poll {
        bell: Bell,
        nothing: Events,
        _keeps_registry: mio::Poll,
    }

    impl Waker {
        pub fn wake(&self) -> io::Result<()> {
            *self.0.0.lock() = true;
            self.0.1.notify_one();
            Ok(())
        }
    }

    impl Poll {
        pub fn new() -> io::Result<(Self, Registry, Waker)> {
            let poll = mio::Poll::new()?;
            let registry = poll.registry().try_clone()?;
            let bell = Bell::default();
            let waker = Waker(bell.clone());
            Ok((Poll { bell, nothing: Events::with_capacity(1), _keeps_registry: poll }, registry, waker))
        }

        /// With no timeout, until the waker was used; else not at all: in a model each time has come.
        pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<&Events> {
            let mut rung = self.bell.0.lock();
            while timeout.is_none() && !*rung {
                self.bell.1.wait(&mut rung);
            }
            *rung = false;
            drop(rung);
            Ok(&self.nothing)
        }
    }
}
