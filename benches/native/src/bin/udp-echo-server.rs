//! The bar for datagrams: a UDP echo server with nothing between it and the OS but mio. One thread, edge-triggered
//! readiness, one datagram for each system call.
//!
//! Prints `port N` and serves until its stdin ends.

use std::io::{self, ErrorKind};

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};

fn main() -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut socket = UdpSocket::bind(([127, 0, 0, 1], 0).into())?;
    poll.registry().register(&mut socket, Token(0), Interest::READABLE)?;
    println!("port {}", socket.local_addr()?.port());
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
    let mut events = Events::with_capacity(16);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        loop {
            match socket.recv_from(&mut buffer) {
                // What the kernel has no room for is lost, as datagrams may be.
                Ok((received, from)) => drop(socket.send_to(&buffer[..received], from)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
