//! Connections that last for one byte each way.
//!
//! Each ends as most do: FIN from here, FIN from the server. The side that closes first keeps the port for a minute
//! (`TIME_WAIT`), so on Linux, where all of 127/8 is this host, the connections come from many addresses. Elsewhere
//! ports would run out in seconds; there they end with RST, by `SO_LINGER` 0, which leaves nothing behind.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};
use socket2::{Domain, SockRef, Socket, Type};

use crate::report::Report;
use crate::{Limit, Result, STALLED};

const MANY_ADDRESSES: bool = cfg!(target_os = "linux");

/// Source addresses 127.0.0.1 and on.
const ADDRESSES: u64 = 200;

enum State {
    Connecting,
    Receiving,
    /// Our FIN is out.
    Finishing,
}

struct Connection {
    stream: TcpStream,
    state: State,
    byte: u8,
    begun: Instant,
}

pub struct Accept {
    poll: Poll,
    server: SocketAddr,
    parallel: usize,
    /// Connections begun, of all runs.
    serial: u64,
}

impl Accept {
    pub fn new(server: SocketAddr, parallel: usize) -> Result<Self> {
        Ok(Accept { poll: Poll::new()?, server, parallel, serial: 0 })
    }

    /// One run, which ends with no connection open.
    pub fn run(&mut self, limit: Limit) -> Result<Report> {
        let mut report = Report::new(2);
        let start = Instant::now();
        let mut begun = 0;
        let mut open = 0;
        let mut slots: Vec<Option<Connection>> = Vec::with_capacity(self.parallel);
        while slots.len() < self.parallel && begun < limit.messages {
            slots.push(Some(self.connect(Token(slots.len()))?));
            begun += 1;
            open += 1;
        }
        let mut events = Events::with_capacity(1024);
        while open > 0 {
            match self.poll.poll(&mut events, Some(STALLED)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            if events.is_empty() {
                return Err(format!("nothing came for {STALLED:?}; {open} connections are open").into());
            }
            for event in &events {
                let slot = &mut slots[event.token().0];
                let Some(connection) = slot else { continue };
                if !connection.step()? {
                    continue;
                }
                let now = Instant::now();
                report.add(now - connection.begun);
                *slot = None;
                if begun < limit.messages && now - start < limit.time {
                    begun += 1;
                    *slot = Some(self.connect(event.token())?);
                } else {
                    open -= 1;
                }
            }
        }
        report.elapsed = start.elapsed().max(Duration::from_nanos(1));
        Ok(report)
    }

    fn connect(&mut self, token: Token) -> Result<Connection> {
        self.serial += 1;
        let begun = Instant::now();
        let mut stream = connect_from(self.server, self.serial)?;
        register(self.poll.registry(), &mut stream, token)?;
        Ok(Connection { stream, state: State::Connecting, byte: self.serial as u8, begun })
    }
}

fn connect_from(server: SocketAddr, serial: u64) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if MANY_ADDRESSES && server.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
        let source = Ipv4Addr::new(127, 0, 0, 1 + (serial % ADDRESSES) as u8);
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    match socket.connect(&server.into()) {
        Err(error) if !is_in_progress(&error) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// The OS goes on connecting.
fn is_in_progress(error: &io::Error) -> bool {
    #[cfg(unix)]
    let in_progress = error.raw_os_error() == Some(libc::EINPROGRESS);
    #[cfg(not(unix))]
    let in_progress = error.kind() == ErrorKind::WouldBlock;
    in_progress
}

fn register(registry: &Registry, stream: &mut TcpStream, token: Token) -> io::Result<()> {
    registry.register(stream, token, Interest::READABLE | Interest::WRITABLE)
}

impl Connection {
    /// As far as it goes now. `true`: the connection is over.
    fn step(&mut self) -> Result<bool> {
        loop {
            match self.advance() {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return Ok(false);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// One step. `true`: it was the last one.
    fn advance(&mut self) -> io::Result<bool> {
        match self.state {
            State::Connecting => {
                if let Some(error) = self.stream.take_error()? {
                    return Err(error);
                }
                self.stream.peer_addr()?;
                if self.stream.write(&[self.byte])? != 1 {
                    return Err(ErrorKind::WriteZero.into());
                }
                self.state = State::Receiving;
                Ok(false)
            }
            State::Receiving => {
                let mut byte = [0];
                if self.stream.read(&mut byte)? == 0 {
                    return Err(io::Error::other("the server closed before it answered"));
                }
                if byte[0] != self.byte {
                    return Err(io::Error::other("the byte that came back is not what was sent"));
                }
                if !MANY_ADDRESSES {
                    SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
                    return Ok(true);
                }
                self.stream.shutdown(Shutdown::Write)?;
                self.state = State::Finishing;
                Ok(false)
            }
            State::Finishing => match self.stream.read(&mut [0])? {
                0 => Ok(true),
                _ => Err(io::Error::other("the server sent more than it got")),
            },
        }
    }
}
