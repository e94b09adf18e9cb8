//! Datagrams of one size, one outstanding on each socket. One that is lost is sent again, and counted.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};

use crate::report::Report;
use crate::{Limit, Result, STALLED};

/// After so long a datagram counts as lost.
const LOST: Duration = Duration::from_millis(200);

struct Client {
    socket: UdpSocket,
    message: Vec<u8>,
    begun: Instant,
    sent: Instant,
    outstanding: bool,
}

pub struct Udp {
    poll: Poll,
    clients: Vec<Client>,
    size: usize,
    buffer: Vec<u8>,
    /// Messages begun, of all runs: what makes them differ.
    serial: u64,
}

impl Udp {
    pub fn new(server: SocketAddr, sockets: usize, size: usize) -> Result<Self> {
        if size < 8 {
            return Err("SIZE must be at least 8: each datagram has its number".into());
        }
        let poll = Poll::new()?;
        let now = Instant::now();
        let clients = (0..sockets)
            .map(|i| {
                let mut socket = UdpSocket::bind(([127, 0, 0, 1], 0).into())?;
                socket.connect(server)?;
                poll.registry().register(&mut socket, Token(i), Interest::READABLE)?;
                let message = (0..size).map(|at| (at * 7 + at / 256 + i) as u8).collect();
                Ok(Client { socket, message, begun: now, sent: now, outstanding: false })
            })
            .collect::<Result<_>>()?;
        Ok(Udp { poll, clients, size, buffer: vec![0; 1 << 16], serial: 0 })
    }

    /// One run, which ends with nothing outstanding.
    pub fn run(&mut self, limit: Limit) -> Result<Report> {
        let mut report = Report::new(2 * self.size as u64);
        let start = Instant::now();
        let mut begun = 0;
        let mut outstanding = 0;
        let mut lost = 0;
        for client in self.clients.iter_mut().take(limit.messages.min(usize::MAX as u64) as usize) {
            begun += 1;
            self.serial += 1;
            client.begin(self.serial, Instant::now())?;
            outstanding += 1;
        }
        let mut events = Events::with_capacity(1024);
        let mut heard = Instant::now();
        while outstanding > 0 {
            match self.poll.poll(&mut events, Some(LOST)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            if events.is_empty() {
                if heard.elapsed() > STALLED {
                    return Err(format!("nothing came for {STALLED:?}; {outstanding} datagrams are outstanding").into());
                }
                let now = Instant::now();
                for client in self.clients.iter_mut().filter(|each| each.outstanding && now - each.sent >= LOST) {
                    lost += 1;
                    client.send(now)?;
                }
                continue;
            }
            heard = Instant::now();
            for event in &events {
                let client = &mut self.clients[event.token().0];
                while client.receive(&mut self.buffer)? {
                    let now = Instant::now();
                    report.add(now - client.begun);
                    if begun < limit.messages && now - start < limit.time {
                        begun += 1;
                        self.serial += 1;
                        client.begin(self.serial, now)?;
                    } else {
                        client.outstanding = false;
                        outstanding -= 1;
                    }
                }
            }
        }
        report.elapsed = start.elapsed().max(Duration::from_nanos(1));
        if lost > 0 {
            eprintln!("{lost} datagrams were lost and sent again");
        }
        Ok(report)
    }
}

impl Client {
    fn begin(&mut self, serial: u64, now: Instant) -> Result<()> {
        for (to, from) in self.message.iter_mut().zip(serial.to_le_bytes()) {
            *to = from;
        }
        self.begun = now;
        self.outstanding = true;
        self.send(now)
    }

    fn send(&mut self, now: Instant) -> Result<()> {
        self.sent = now;
        match self.socket.send(&self.message) {
            Ok(_) => Ok(()),
            // As good as lost.
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the datagram has come back. An older one, that was sent twice, is none.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<bool> {
        loop {
            let received = match self.socket.recv(buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            if self.outstanding && buffer[..received] == self.message {
                return Ok(true);
            }
            if received != self.message.len() || buffer[8..received] != self.message[8..] {
                return Err("what came back is not what was sent".into());
            }
        }
    }
}
