//! Messages of one size over connections that stay.
//!
//! Closed loop: each active connection has so many messages outstanding, and the next one follows an answer. Open loop:
//! messages are due at fixed times, whatever the answers do, and a latency counts from the time a message was due. So a
//! server that stalls cannot hide what it makes wait ("coordinated omission").

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::report::Report;
use crate::{Address, Limit, Result, STALLED};

/// A read that fills less than the buffer has emptied the socket; where mio emulates edges, `WouldBlock` alone arms the
/// next one.
const SHORT_READ_DRAINS: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Messages that an open loop sends on one connection before the first is answered; more wait here. Their time runs.
const MOST_OUTSTANDING: usize = 64;

trait Stream: Read + Write + Source {}
impl<S: Read + Write + Source> Stream for S {}

/// What the load is like.
#[derive(Clone, Copy)]
pub struct Shape {
    pub connections: usize,
    /// Those that have messages, spread evenly; the others are idle.
    pub active: usize,
    /// Bytes of a message.
    pub size: usize,
    /// Messages that each active connection has under way in a closed loop.
    pub outstanding: usize,
    /// Messages per second of all connections in an open loop.
    pub rate: Option<f64>,
}

impl Shape {
    /// The load alone, without those that are idle.
    pub fn without_idle(self) -> Self {
        Shape { connections: self.active, ..self }
    }
}

struct Connection {
    stream: Box<dyn Stream>,
    /// Outstanding messages, behind one another. No two in a row are alike.
    ring: Vec<u8>,
    /// When each of them began, or was due.
    begun: VecDeque<Instant>,
    /// When those were due that find no place in the ring yet.
    waiting: VecDeque<Instant>,
    /// Bytes of all messages begun, of those sent and of those that came back.
    written: usize,
    sent: usize,
    received: usize,
}

pub struct Echo {
    poll: Poll,
    active: Vec<Connection>,
    idle: Vec<Box<dyn Stream>>,
    shape: Shape,
    buffer: Vec<u8>,
    /// Messages begun, of all runs: what makes them differ.
    serial: u64,
}

impl Echo {
    pub fn connect(server: &Address, shape: Shape) -> Result<Self> {
        if shape.active > shape.connections {
            return Err("there cannot be more active connections than connections".into());
        }
        let poll = Poll::new()?;
        let (mut active, mut idle) = (Vec::new(), Vec::new());
        for i in 0..shape.connections {
            let mut stream = connect(server)?;
            if (active.len() * shape.connections).div_ceil(shape.active) > i {
                idle.push(stream);
                continue;
            }
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, Token(active.len()), interest)?;
            let slots = if shape.rate.is_some() { MOST_OUTSTANDING } else { shape.outstanding };
            let ring = (0..slots * shape.size).map(|at| (at % shape.size * 7 + at / 256 + i) as u8).collect();
            let (begun, waiting) = (VecDeque::new(), VecDeque::new());
            active.push(Connection { stream, ring, begun, waiting, written: 0, sent: 0, received: 0 });
        }
        Ok(Echo { poll, active, idle, shape, buffer: vec![0; 1 << 16], serial: 0 })
    }

    /// One run, which ends with nothing outstanding.
    pub fn run(&mut self, limit: Limit) -> Result<Report> {
        let mut report = Report::new(2 * self.shape.size as u64);
        let start = Instant::now();
        let mut begun = 0;
        let mut outstanding = 0;
        if self.shape.rate.is_none() {
            for _ in 0..self.shape.outstanding {
                for connection in &mut self.active {
                    if begun < limit.messages {
                        begun += 1;
                        outstanding += 1;
                        self.serial += 1;
                        connection.begin(self.serial, self.shape.size, Instant::now());
                    }
                }
            }
            for connection in &mut self.active {
                connection.send()?;
            }
        }
        let mut last_answer = start;
        let mut events = Events::with_capacity(1024);
        loop {
            let mut next_due = None;
            if let Some(rate) = self.shape.rate {
                let now = Instant::now();
                loop {
                    let due = start + Duration::from_secs_f64(begun as f64 / rate);
                    if begun >= limit.messages || due - start >= limit.time {
                        break;
                    }
                    if due > now {
                        next_due = Some(due);
                        break;
                    }
                    let turn = begun as usize % self.active.len();
                    begun += 1;
                    outstanding += 1;
                    self.active[turn].waiting.push_back(due);
                    self.active[turn].begin_waiting(&mut self.serial, self.shape.size);
                    self.active[turn].send()?;
                }
            }
            if outstanding == 0 && next_due.is_none() {
                break;
            }
            // epoll's clock is too coarse to wait for a time that is due: so this looks all the time.
            let timeout = if next_due.is_some() { Duration::ZERO } else { STALLED };
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            if events.is_empty() {
                if outstanding > 0 && last_answer.elapsed() >= STALLED {
                    return Err(format!("nothing came for {STALLED:?}; {outstanding} messages are outstanding").into());
                }
                continue;
            }
            for event in &events {
                let connection = &mut self.active[event.token().0];
                connection.send()?;
                let came = connection.receive(&mut self.buffer, self.shape.size)?;
                if came == 0 {
                    continue;
                }
                let now = Instant::now();
                last_answer = now;
                outstanding -= came as u64;
                for since in connection.begun.drain(..came) {
                    report.add(now.saturating_duration_since(since));
                }
                if self.shape.rate.is_some() {
                    connection.begin_waiting(&mut self.serial, self.shape.size);
                } else {
                    for _ in 0..came {
                        if begun < limit.messages && now - start < limit.time {
                            begun += 1;
                            outstanding += 1;
                            self.serial += 1;
                            connection.begin(self.serial, self.shape.size, now);
                        }
                    }
                }
                connection.send()?;
            }
        }
        report.elapsed = start.elapsed().max(Duration::from_nanos(1));
        for stream in &mut self.idle {
            match stream.read(&mut self.buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(_) => return Err("the server sent something on an idle connection, or closed it".into()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(report)
    }
}

impl Connection {
    /// Writes a message; there must be a place for it.
    fn begin(&mut self, serial: u64, size: usize, when: Instant) {
        let at = self.written % self.ring.len();
        for (to, from) in self.ring[at..at + size].iter_mut().zip(serial.to_le_bytes()) {
            *to = from;
        }
        self.written += size;
        self.begun.push_back(when);
    }

    /// Begins those that were due, as far as there is a place for them.
    fn begin_waiting(&mut self, serial: &mut u64, size: usize) {
        while self.written - self.received / size * size < self.ring.len() {
            let Some(due) = self.waiting.pop_front() else { return };
            *serial += 1;
            self.begin(*serial, size, due);
        }
    }

    fn send(&mut self) -> Result<()> {
        while self.sent < self.written {
            let at = self.sent % self.ring.len();
            let end = self.ring.len().min(at + self.written - self.sent);
            match self.stream.write(&self.ring[at..end]) {
                Ok(0) => return Err("the server took no bytes".into()),
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// How many messages have come back, whole.
    fn receive(&mut self, buffer: &mut [u8], size: usize) -> Result<usize> {
        let before = self.received / size;
        loop {
            let received = match self.stream.read(buffer) {
                Ok(0) => return Err("the server closed a connection".into()),
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            self.compare(&buffer[..received])?;
            if SHORT_READ_DRAINS && received < buffer.len() {
                break;
            }
            // More can be sent now that some has come back.
            self.send()?;
        }
        Ok(self.received / size - before)
    }

    /// With what was sent.
    fn compare(&mut self, mut came: &[u8]) -> Result<()> {
        if self.received + came.len() > self.sent {
            return Err("more came back than was sent".into());
        }
        while !came.is_empty() {
            let at = self.received % self.ring.len();
            let part = came.len().min(self.ring.len() - at);
            if came[..part] != self.ring[at..at + part] {
                return Err(
                    format!("a byte from the {}th on that came back is not what was sent", self.received).into()
                );
            }
            self.received += part;
            came = &came[part..];
        }
        Ok(())
    }
}

fn connect(server: &Address) -> Result<Box<dyn Stream>> {
    Ok(match server {
        Address::Ip(address) => {
            let stream = std::net::TcpStream::connect_timeout(address, STALLED)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Box::new(TcpStream::from_std(stream))
        }
        #[cfg(unix)]
        Address::Path(path) => {
            let stream = std::os::unix::net::UnixStream::connect(path)?;
            stream.set_nonblocking(true)?;
            Box::new(mio::net::UnixStream::from_std(stream))
        }
    })
}
