//! One socket for all: `recv_from` and `send_to` for each datagram.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Registry, Token};

const SOCKET: Token = Token(0);

struct Server {
    socket: UdpSocket,
    /// Holds what was received last.
    buffer: Vec<u8>,
    /// How much of the buffer goes back to whom, once the socket is writable; nothing is received meanwhile.
    pending: Option<(usize, SocketAddr)>,
}

pub fn serve() -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut socket = UdpSocket::bind(([127, 0, 0, 1], 0).into())?;
    poll.registry().register(&mut socket, SOCKET, Interest::READABLE)?;
    crate::announce(socket.local_addr()?.port());

    let mut events = Events::with_capacity(16);
    let mut server = Server { socket, buffer: vec![0; 1 << 16], pending: None };
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        if !events.is_empty() {
            server.echo(poll.registry())?;
        }
    }
}

impl Server {
    /// Echoes what has come, until there is nothing more or no room for an answer.
    fn echo(&mut self, registry: &Registry) -> io::Result<()> {
        if let Some((length, client)) = self.pending {
            if !self.send(length, client)? {
                return Ok(());
            }
            self.pending = None;
            registry.reregister(&mut self.socket, SOCKET, Interest::READABLE)?;
        }
        loop {
            match self.socket.recv_from(&mut self.buffer) {
                Ok((length, client)) => {
                    if !self.send(length, client)? {
                        self.pending = Some((length, client));
                        return registry.reregister(&mut self.socket, SOCKET, Interest::WRITABLE);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // Windows tells here that an earlier answer reached nobody.
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionReset) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether there was room.
    fn send(&self, length: usize, client: SocketAddr) -> io::Result<bool> {
        loop {
            match self.socket.send_to(&self.buffer[..length], client) {
                Ok(_) => return Ok(true),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
