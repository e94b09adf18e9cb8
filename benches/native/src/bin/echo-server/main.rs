//! The bar: an echo server with nothing between it and the OS but mio. One thread, edge-triggered readiness.
//!
//! `echo-server` serves TCP, `echo-server udp` UDP. Prints `port N` and serves until its stdin ends.

mod tcp;
mod udp;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::{env, io};

fn main() -> ExitCode {
    let served = match env::args().nth(1).as_deref() {
        None => tcp::serve(),
        Some("udp") => udp::serve(),
        Some(_) => Err(io::Error::other("usage: echo-server [udp]")),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the port, and ends the process when stdin ends.
fn announce(address: SocketAddr) {
    println!("port {}", address.port());
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
}
