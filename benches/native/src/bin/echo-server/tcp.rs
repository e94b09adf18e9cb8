//! One buffer for all connections; what a peer does not take at once is kept for it alone.

use std::io::{self, ErrorKind, Read, Write};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX);

/// A read that fills less than the buffer has emptied the socket, and new bytes raise a new edge (epoll(7), questions
/// and answers, 9). Where mio emulates edges they are armed by `WouldBlock` alone.
const SHORT_READ_DRAINS: bool = cfg!(any(target_os = "linux", target_os = "android"));

struct Connection {
    stream: TcpStream,
    /// Received and not yet taken by the peer; nothing more is read meanwhile.
    pending: Vec<u8>,
}

pub fn serve() -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    crate::announce(listener.local_addr()?);

    let mut events = Events::with_capacity(1024);
    let mut connections = Slab::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, poll.registry(), &mut connections);
                continue;
            }
            let Some(connection) = connections.get_mut(event.token().0) else { continue };
            if !matches!(echo(connection, event, poll.registry(), &mut buffer), Ok(true)) {
                connections.remove(event.token().0);
            }
        }
    }
}

fn accept(listener: &TcpListener, registry: &Registry, connections: &mut Slab<Connection>) {
    loop {
        match listener.accept() {
            Ok((mut stream, _)) => {
                let entry = connections.vacant_entry();
                let token = Token(entry.key());
                if stream.set_nodelay(true).is_ok() && registry.register(&mut stream, token, Interest::READABLE).is_ok()
                {
                    entry.insert(Connection { stream, pending: Vec::new() });
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => {
                eprintln!("accept: {error}");
                return;
            }
        }
    }
}

/// Echoes what has come. `false`: the peer has finished.
fn echo(connection: &mut Connection, event: &Event, registry: &Registry, buffer: &mut [u8]) -> io::Result<bool> {
    if !connection.pending.is_empty() {
        let sent = send(&mut connection.stream, &connection.pending)?;
        connection.pending.drain(..sent);
        if !connection.pending.is_empty() {
            return Ok(true);
        }
        registry.reregister(&mut connection.stream, event.token(), Interest::READABLE)?;
    }
    loop {
        let received = match connection.stream.read(buffer) {
            Ok(0) => return Ok(false),
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let sent = send(&mut connection.stream, &buffer[..received])?;
        if sent < received {
            connection.pending.extend_from_slice(&buffer[sent..received]);
            registry.reregister(&mut connection.stream, event.token(), Interest::WRITABLE)?;
            return Ok(true);
        }
        if SHORT_READ_DRAINS && received < buffer.len() {
            return Ok(true);
        }
    }
}

/// Sends what the peer takes now.
fn send(stream: &mut TcpStream, data: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < data.len() {
        match stream.write(&data[sent..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => sent += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}
