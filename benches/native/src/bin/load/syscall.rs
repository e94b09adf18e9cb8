//! What one system call costs: recv(2) of one byte that is there.

use std::io::{self, BufRead, Read, Write};
use std::time::Instant;

use crate::Result;

/// For each line on stdin, the mean of `calls` calls in ns on a line of stdout: so that whoever asks can measure
/// something else in between, under the same weather.
pub fn answer(calls: usize) -> Result<()> {
    let (mut receiver, mut sender) = pair()?;
    receiver.set_nonblocking(true)?;
    let data = vec![0; calls];
    let mut byte = [0];
    for line in io::stdin().lock().lines() {
        line?;
        sender.write_all(&data)?;
        let start = Instant::now();
        for _ in 0..calls {
            receiver.read_exact(&mut byte)?;
        }
        println!("{:.2}", start.elapsed().as_nanos() as f64 / calls as f64);
    }
    Ok(())
}

#[cfg(unix)]
fn pair() -> io::Result<(std::os::unix::net::UnixStream, std::os::unix::net::UnixStream)> {
    std::os::unix::net::UnixStream::pair()
}

#[cfg(not(unix))]
fn pair() -> io::Result<(std::net::TcpStream, std::net::TcpStream)> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let sender = std::net::TcpStream::connect(listener.local_addr()?)?;
    Ok((listener.accept()?.0, sender))
}
