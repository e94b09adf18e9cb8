//! Messages of one size over connections that stay.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::report::Report;
use crate::{Limit, Result, STALLED};

struct Connection {
    stream: TcpStream,
    /// The outstanding message: no two in a row are alike.
    message: Vec<u8>,
    sent: usize,
    received: usize,
    begun: Instant,
}

pub struct Echo {
    poll: Poll,
    connections: Vec<Connection>,
    size: usize,
    buffer: Vec<u8>,
    /// Messages begun, of all runs: what makes them differ.
    serial: u64,
}

impl Echo {
    pub fn connect(server: SocketAddr, connections: usize, size: usize) -> Result<Self> {
        let poll = Poll::new()?;
        let connections = (0..connections)
            .map(|i| {
                let stream = std::net::TcpStream::connect_timeout(&server, STALLED)?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                let mut stream = TcpStream::from_std(stream);
                poll.registry().register(&mut stream, Token(i), Interest::READABLE | Interest::WRITABLE)?;
                let message = (0..size).map(|at| (at * 7 + at / 256 + i) as u8).collect();
                Ok(Connection { stream, message, sent: 0, received: 0, begun: Instant::now() })
            })
            .collect::<Result<_>>()?;
        Ok(Echo { poll, connections, size, buffer: vec![0; 1 << 16], serial: 0 })
    }

    /// One run, which ends with nothing outstanding.
    pub fn run(&mut self, limit: Limit) -> Result<Report> {
        let mut report = Report::new(2 * self.size as u64);
        let start = Instant::now();
        let mut begun = 0;
        let mut outstanding = 0;
        for connection in self.connections.iter_mut().take(limit.messages.min(usize::MAX as u64) as usize) {
            begun += 1;
            self.serial += 1;
            connection.begin(self.serial, Instant::now())?;
            outstanding += 1;
        }
        let mut events = Events::with_capacity(1024);
        while outstanding > 0 {
            match self.poll.poll(&mut events, Some(STALLED)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            if events.is_empty() {
                return Err(format!("nothing came for {STALLED:?}; {outstanding} messages are outstanding").into());
            }
            for event in &events {
                let connection = &mut self.connections[event.token().0];
                connection.send()?;
                while connection.receive(&mut self.buffer)? {
                    let now = Instant::now();
                    report.add(now - connection.begun);
                    if begun < limit.messages && now - start < limit.time {
                        begun += 1;
                        self.serial += 1;
                        connection.begin(self.serial, now)?;
                    } else {
                        outstanding -= 1;
                    }
                    // Nothing can have come yet; but where mio emulates edges, only `WouldBlock` arms the next one.
                    if !cfg!(windows) {
                        break;
                    }
                }
            }
        }
        report.elapsed = start.elapsed().max(Duration::from_nanos(1));
        Ok(report)
    }
}

impl Connection {
    fn begin(&mut self, serial: u64, now: Instant) -> Result<()> {
        for (to, from) in self.message.iter_mut().zip(serial.to_le_bytes()) {
            *to = from;
        }
        self.sent = 0;
        self.received = 0;
        self.begun = now;
        self.send()
    }

    fn send(&mut self) -> Result<()> {
        while self.sent < self.message.len() {
            match self.stream.write(&self.message[self.sent..]) {
                Ok(0) => return Err("the server took no bytes".into()),
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Whether the message has come back, whole.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<bool> {
        loop {
            let received = match self.stream.read(buffer) {
                Ok(0) => return Err("the server closed a connection".into()),
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let end = self.received + received;
            if self.message[..self.sent].get(self.received..end) != Some(&buffer[..received]) {
                return Err(format!("bytes {} to {end} that came back are not what was sent", self.received).into());
            }
            self.received = end;
            if end == self.message.len() {
                return Ok(true);
            }
            // More can be sent now that some has come back.
            self.send()?;
        }
    }
}
