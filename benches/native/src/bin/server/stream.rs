//! One buffer for all connections; what a peer does not take at once is kept for it alone.

use std::io::{self, ErrorKind, Read, Write};

use mio::event::{Event, Source};
use mio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use mio::net::{UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Registry, Token};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX);

/// A read that fills less than the buffer has emptied the socket, and new bytes raise a new edge (epoll(7), questions
/// and answers, 9). Where mio emulates edges they are armed by `WouldBlock` alone.
const SHORT_READ_DRAINS: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Of a stream in one direction: what is sent or received at a time.
const BLOCK: usize = 1 << 18;

struct Connection<S> {
    stream: S,
    /// Received and not yet taken by the peer; nothing more is read meanwhile.
    pending: Vec<u8>,
    /// Bytes sent by a source, received by a sink.
    moved: usize,
}

/// What there is to do for a connection that an event is about. `false`: it is over.
type Serve<S> = fn(&mut Connection<S>, &Event, &Registry, &mut [u8]) -> io::Result<bool>;

trait Listener: Source {
    type Stream: Read + Write + Source;

    fn next(&self) -> io::Result<Self::Stream>;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    fn next(&self) -> io::Result<TcpStream> {
        let (stream, _) = self.accept()?;
        // It fails where the peer has gone meanwhile, as the next read will say.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

#[cfg(unix)]
impl Listener for UnixListener {
    type Stream = UnixStream;

    fn next(&self) -> io::Result<UnixStream> {
        Ok(self.accept()?.0)
    }
}

pub fn serve_tcp(mode: &str) -> io::Result<()> {
    let listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
    let port = listener.local_addr()?.port();
    serve(listener, mode, || crate::announce(port))
}

#[cfg(unix)]
pub fn serve_unix(mode: &str, path: &str) -> io::Result<()> {
    serve(UnixListener::bind(path)?, mode, || crate::announce(path))
}

fn serve<L: Listener>(mut listener: L, mode: &str, announce: impl FnOnce()) -> io::Result<()> {
    let (serve, interest, mut buffer): (Serve<L::Stream>, _, _) = match mode {
        // One buffer serves all: it never holds one while it waits.
        "echo" | "bytes" => (echo, Interest::READABLE, vec![0; 1 << 16]),
        "source" => (source, Interest::WRITABLE, block()),
        "sink" => (sink, Interest::READABLE, vec![0; BLOCK]),
        _ => return Err(crate::usage()),
    };
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    announce();

    let mut events = Events::with_capacity(1024);
    let mut connections = Slab::new();
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, poll.registry(), interest, &mut connections);
                continue;
            }
            let Some(connection) = connections.get_mut(event.token().0) else { continue };
            if !matches!(serve(connection, event, poll.registry(), &mut buffer), Ok(true)) {
                connections.remove(event.token().0);
            }
        }
    }
}

fn accept<L: Listener>(
    listener: &L,
    registry: &Registry,
    interest: Interest,
    connections: &mut Slab<Connection<L::Stream>>,
) {
    loop {
        match listener.next() {
            Ok(mut stream) => {
                let entry = connections.vacant_entry();
                if registry.register(&mut stream, Token(entry.key()), interest).is_ok() {
                    entry.insert(Connection { stream, pending: Vec::new(), moved: 0 });
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

/// Echoes what has come.
fn echo<S: Read + Write + Source>(
    connection: &mut Connection<S>,
    event: &Event,
    registry: &Registry,
    buffer: &mut [u8],
) -> io::Result<bool> {
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

/// What a source sends, again and again.
fn block() -> Vec<u8> {
    (0..BLOCK).map(|at| (at * 7 + at / 256 + at / 65536) as u8).collect()
}

/// Sends all that the peer takes.
fn source<S: Write>(connection: &mut Connection<S>, _: &Event, _: &Registry, block: &mut [u8]) -> io::Result<bool> {
    loop {
        let at = connection.moved % block.len();
        match send(&mut connection.stream, &block[at..])? {
            sent if at + sent < block.len() => {
                connection.moved += sent;
                return Ok(true);
            }
            sent => connection.moved += sent,
        }
    }
}

/// Receives what has come; after FIN tells how many bytes there were.
fn sink<S: Read + Write>(
    connection: &mut Connection<S>,
    _: &Event,
    _: &Registry,
    buffer: &mut [u8],
) -> io::Result<bool> {
    loop {
        match connection.stream.read(buffer) {
            Ok(0) => {
                connection.stream.write_all(&(connection.moved as u64).to_le_bytes())?;
                return Ok(false);
            }
            Ok(received) => connection.moved += received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sends what the peer takes now.
fn send(stream: &mut impl Write, data: &[u8]) -> io::Result<usize> {
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
