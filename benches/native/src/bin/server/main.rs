//! The bar: a server with nothing between it and the OS but mio. One thread, edge-triggered readiness.
//!
//! `server MODE [PATH]`: MODE is `echo` (or `bytes`, which is the same here), `source` (sends without end), `sink` (receives, and answers FIN with how many
//! bytes there were) or `udp`. With a PATH it listens on a unix socket there. Prints its port or path and serves until
//! its stdin ends.

mod stream;
mod udp;

use std::fmt::Display;
use std::process::ExitCode;
use std::{env, io};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let served = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["udp"] => udp::serve(),
        [mode] => stream::serve_tcp(mode),
        #[cfg(unix)]
        [mode, path] => stream::serve_unix(mode, path),
        _ => Err(usage()),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> io::Error {
    io::Error::other("usage: server echo|bytes|source|sink|udp [PATH]")
}

/// Prints where it listens, and ends the process when stdin ends.
fn announce(place: impl Display) {
    println!("{place}");
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
}
