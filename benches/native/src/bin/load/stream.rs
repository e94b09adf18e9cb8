//! Bytes in one direction, on one connection: from a source, which sends without end, or into a sink, which answers FIN
//! with how many bytes it got.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::time::Instant;

use crate::report::{MEGABYTE, Summary};
use crate::{Address, Limit, Result, STALLED};

/// What is read or written at a time.
const BLOCK: usize = 1 << 18;

trait Stream: Read + Write {
    fn finish(&self) -> std::io::Result<()>;
}

impl Stream for TcpStream {
    fn finish(&self) -> std::io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

#[cfg(unix)]
impl Stream for UnixStream {
    fn finish(&self) -> std::io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// One run, on a connection of its own; a message is a megabyte. `sends`: into a sink.
pub fn run(server: &Address, sends: bool, limit: Limit) -> Result<Summary> {
    let mut stream = connect(server)?;
    let block: Vec<u8> = (0..BLOCK).map(|at| (at * 7 + at / 256 + at / 65536) as u8).collect();
    let mut buffer = vec![0; BLOCK];
    let most = limit.messages.saturating_mul(MEGABYTE) as usize;
    let mut moved = 0;
    let start = Instant::now();
    while moved < most && start.elapsed() < limit.time {
        let at = moved % BLOCK;
        let end = BLOCK.min(at + most - moved);
        if sends {
            moved += stream.write(&block[at..end])?;
            continue;
        }
        let received = stream.read(&mut buffer[at..end])?;
        if received == 0 {
            return Err("the source closed the connection".into());
        }
        if buffer[at..at + received] != block[at..at + received] {
            return Err(format!("a byte from the {moved}th on is not what a source sends").into());
        }
        moved += received;
    }
    if sends {
        stream.finish()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        if answer != (moved as u64).to_le_bytes() {
            return Err(format!("the sink does not say that it got {moved} bytes: {answer:?}").into());
        }
    }
    Ok(Summary::of_stream(moved as u64, start.elapsed()))
}

fn connect(server: &Address) -> Result<Box<dyn Stream>> {
    Ok(match server {
        Address::Ip(address) => {
            let stream = TcpStream::connect_timeout(address, STALLED)?;
            stream.set_read_timeout(Some(STALLED))?;
            stream.set_write_timeout(Some(STALLED))?;
            Box::new(stream)
        }
        #[cfg(unix)]
        Address::Path(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(STALLED))?;
            stream.set_write_timeout(Some(STALLED))?;
            Box::new(stream)
        }
    })
}
