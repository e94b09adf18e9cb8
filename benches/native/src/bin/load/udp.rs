//! Datagrams of one size from sockets that stay.
//!
//! A datagram for which nothing has come back in time is sent again, and counted. The answer to the first one may then
//! come too, at any later moment: the serial number at the front of each datagram tells such an answer from a wrong one.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};

use crate::report::Report;
use crate::{Limit, Result, STALLED};

/// How long an answer may take until its datagram counts as lost.
const LOST: Duration = Duration::from_millis(200);

/// How often to look for lost ones.
const ROUND: Duration = Duration::from_millis(20);

const SERIAL: usize = size_of::<u64>();

/// What an IPv4 datagram holds at most: 65,535 bytes less 20 of IP and 8 of UDP.
const LARGEST: usize = 65_507;

struct Client {
    socket: UdpSocket,
    /// The outstanding datagram: no two in a row are alike.
    message: Vec<u8>,
    /// Whether there is one.
    waits: bool,
    begun: Instant,
    last_sent: Instant,
    /// Up to which serial number an answer may come twice: that of the last datagram sent again. 0: none was.
    doubtful: u64,
}

pub struct Udp {
    poll: Poll,
    clients: Vec<Client>,
    size: usize,
    buffer: Vec<u8>,
    /// Datagrams begun, of all runs: what makes them differ.
    serial: u64,
}

impl Udp {
    pub fn connect(server: SocketAddr, sockets: usize, size: usize) -> Result<Self> {
        if !(SERIAL..=LARGEST).contains(&size) {
            return Err(format!("SIZE of a datagram is {SERIAL} to {LARGEST}, not {size}").into());
        }
        let any: IpAddr =
            if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { IpAddr::from(Ipv6Addr::UNSPECIFIED) };
        let poll = Poll::new()?;
        let clients = (0..sockets)
            .map(|i| {
                let mut socket = UdpSocket::bind((any, 0).into())?;
                socket.connect(server)?;
                poll.registry().register(&mut socket, Token(i), Interest::READABLE)?;
                let message = (0..size).map(|at| (at * 7 + at / 256 + i) as u8).collect();
                let now = Instant::now();
                Ok(Client { socket, message, waits: false, begun: now, last_sent: now, doubtful: 0 })
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
        for client in self.clients.iter_mut().take(limit.messages.min(usize::MAX as u64) as usize) {
            begun += 1;
            self.serial += 1;
            client.begin(self.serial, Instant::now())?;
            outstanding += 1;
        }
        let mut last_answer = start;
        let mut last_round = start;
        let mut events = Events::with_capacity(1024);
        while outstanding > 0 {
            match self.poll.poll(&mut events, Some(ROUND)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                let client = &mut self.clients[event.token().0];
                while client.receive(&mut self.buffer)? {
                    let now = Instant::now();
                    last_answer = now;
                    report.add(now - client.begun);
                    if begun < limit.messages && now - start < limit.time {
                        begun += 1;
                        self.serial += 1;
                        client.begin(self.serial, now)?;
                    } else {
                        outstanding -= 1;
                    }
                    // The next answer raises an edge of its own; but where mio emulates edges, only `WouldBlock` arms
                    // the next one.
                    if !cfg!(windows) {
                        break;
                    }
                }
            }
            let now = Instant::now();
            let since = now - last_round;
            if since < ROUND {
                continue;
            }
            last_round = now;
            if since >= LOST / 2 {
                // This program itself did not run for a while: what came meanwhile is not lost.
                continue;
            }
            if now - last_answer > STALLED {
                return Err(format!("nothing came for {STALLED:?}; {outstanding} datagrams are outstanding").into());
            }
            for client in &mut self.clients {
                if client.waits && now - client.last_sent >= LOST {
                    report.resent += 1;
                    client.doubtful = client.serial();
                    client.send(now)?;
                }
            }
        }
        report.elapsed = start.elapsed().max(Duration::from_nanos(1));
        Ok(report)
    }
}

impl Client {
    fn begin(&mut self, serial: u64, now: Instant) -> Result<()> {
        self.message[..SERIAL].copy_from_slice(&serial.to_le_bytes());
        self.waits = true;
        self.begun = now;
        self.send(now)
    }

    fn serial(&self) -> u64 {
        serial(&self.message)
    }

    fn send(&mut self, now: Instant) -> Result<()> {
        self.last_sent = now;
        loop {
            match self.socket.send(&self.message) {
                // What finds no room is lost, as it may be anywhere else on its way.
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
                Ok(_) => return Ok(()),
            }
        }
    }

    /// Whether the outstanding datagram has come back.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<bool> {
        loop {
            let received = match self.socket.recv(buffer) {
                Ok(received) => &buffer[..received],
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            if self.waits && received == self.message {
                self.waits = false;
                return Ok(true);
            }
            if received.len() != self.message.len()
                || received[SERIAL..] != self.message[SERIAL..]
                || serial(received) > self.doubtful
            {
                return Err(io::Error::other("a datagram came that is not what was sent, or came twice").into());
            }
        }
    }
}

fn serial(message: &[u8]) -> u64 {
    message[..SERIAL].try_into().map_or(0, u64::from_le_bytes)
}
