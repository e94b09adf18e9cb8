//! A load generator that compares every byte that comes back with what was sent. One thread; prints one line of JSON.

mod accept;
mod echo;
mod report;
mod stream;
mod syscall;
mod udp;

use std::env;
use std::error::Error;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
#[cfg(unix)]
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use echo::{Echo, Shape};
use report::Summary;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "\
usage: load echo ADDRESS CONNECTIONS SIZE SECONDS [--active N] [--outstanding N | --rate N] [OPTIONS]
       load accept ADDRESS PARALLEL SECONDS [OPTIONS]
       load udp ADDRESS SOCKETS SIZE SECONDS [OPTIONS]
       load source|sink ADDRESS MEGABYTES [OPTIONS]
       load syscall-cost CALLS

ADDRESS is HOST:PORT, or of echo, source and sink the path of a unix socket.

echo           messages of SIZE bytes, one outstanding on each connection
accept         connect, one byte each way, close; PARALLEL at a time; a message is one such connection
udp            datagrams of SIZE bytes, one outstanding on each socket; one that is lost is sent again after 200 ms
source, sink   bytes from the server, or to it, on one connection; a message is a megabyte
syscall-cost   for each line on stdin: the mean time, in ns, of CALLS calls of recv for one byte that is there

--active N       N of the connections have messages, the others are idle
--outstanding N  messages that each of them has under way
--rate N         N messages a second in all, at fixed times whatever the answers do; a latency counts from that time
--messages N     end after N messages, if that is sooner
--warmup SECONDS the same load for so long before, not counted; half of it on connections that are closed again
--gate           print 'warm' between the two halves, and go on at a line on stdin; print 'ready' after them: then each
                 line on stdin is a run that counts, with a report of its own";

/// A silent server is an error, not a wait without end.
const STALLED: Duration = Duration::from_secs(10);

/// How long to go on.
#[derive(Clone, Copy)]
struct Limit {
    time: Duration,
    messages: u64,
}

enum Address {
    Ip(SocketAddr),
    #[cfg(unix)]
    Path(PathBuf),
}

impl Address {
    fn parse(value: &str) -> Result<Self> {
        #[cfg(unix)]
        if value.contains('/') {
            return Ok(Address::Path(value.into()));
        }
        let found = value.to_socket_addrs().map_err(|error| format!("{value}: {error}"))?.next();
        Ok(Address::Ip(found.ok_or_else(|| format!("{value}: no address"))?))
    }

    fn ip(value: &str) -> Result<SocketAddr> {
        match Address::parse(value)? {
            Address::Ip(address) => Ok(address),
            #[cfg(unix)]
            Address::Path(_) => Err(format!("{value}: this load takes HOST:PORT").into()),
        }
    }
}

struct Options {
    limit: Limit,
    warmup: Duration,
    gate: bool,
    active: Option<usize>,
    outstanding: usize,
    rate: Option<f64>,
}

impl Options {
    /// Takes the options out of the arguments; SECONDS comes with the positional ones, later.
    fn take(arguments: &mut Vec<String>) -> Result<Self> {
        let mut options = Options {
            limit: Limit { time: Duration::MAX, messages: u64::MAX },
            warmup: Duration::ZERO,
            gate: false,
            active: None,
            outstanding: 1,
            rate: None,
        };
        while let Some(at) = arguments.iter().position(|argument| argument.starts_with("--")) {
            let name = arguments.remove(at);
            if name == "--gate" {
                options.gate = true;
                continue;
            }
            if at >= arguments.len() {
                return Err(format!("{name} takes a value\n{USAGE}").into());
            }
            let value = arguments.remove(at);
            match name.as_str() {
                "--messages" => options.limit.messages = parse("--messages", &value)?,
                "--warmup" => options.warmup = seconds("--warmup", &value)?,
                "--active" => options.active = Some(count("--active", &value)?),
                "--outstanding" => options.outstanding = count("--outstanding", &value)?,
                "--rate" => options.rate = Some(count("--rate", &value)? as f64),
                _ => return Err(format!("unknown option {name}\n{USAGE}").into()),
            }
        }
        Ok(options)
    }

    /// Runs the warm-up and what counts: once, or with the gate as often as somebody asks for it.
    fn measure(&self, mut run: impl FnMut(Limit) -> Result<Summary>) -> Result<()> {
        self.warm_up(&mut run)?;
        if !self.gate {
            println!("{}", run(self.limit)?);
            return Ok(());
        }
        println!("ready");
        while go_on()? {
            println!("{}", run(self.limit)?);
        }
        Ok(())
    }

    fn warm_up(&self, mut run: impl FnMut(Limit) -> Result<Summary>) -> Result<()> {
        if !self.warmup.is_zero() {
            run(Limit { time: self.warmup, messages: u64::MAX })?;
        }
        Ok(())
    }

    /// Lets whoever started this look at the server before its connections come.
    fn warm(&self) -> Result<()> {
        if self.gate {
            println!("warm");
            go_on()?;
        }
        Ok(())
    }
}

/// Waits for a line on stdin. `false`: it has ended.
fn go_on() -> Result<bool> {
    Ok(io::stdin().read_line(&mut String::new())? > 0)
}

fn parse<T: FromStr>(name: &str, value: &str) -> Result<T> {
    value.parse().map_err(|_| format!("{name}: {value:?} is no number that fits\n{USAGE}").into())
}

/// A number of at least one.
fn count(name: &str, value: &str) -> Result<usize> {
    match parse(name, value)? {
        0 => Err(format!("{name} must be at least 1").into()),
        count => Ok(count),
    }
}

fn seconds(name: &str, value: &str) -> Result<Duration> {
    Duration::try_from_secs_f64(parse(name, value)?).map_err(|error| format!("{name}: {error}").into())
}

fn main() -> ExitCode {
    match load() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn load() -> Result<()> {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "-h" || argument == "--help") {
        println!("{USAGE}");
        return Ok(());
    }
    let mut options = Options::take(&mut arguments)?;
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["echo", address, connections, size, time] => {
            options.limit.time = seconds("SECONDS", time)?;
            let (server, connections) = (Address::parse(address)?, count("CONNECTIONS", connections)?);
            let shape = Shape {
                connections,
                active: options.active.unwrap_or(connections),
                size: count("SIZE", size)?,
                outstanding: options.outstanding,
                rate: options.rate,
            };
            // A server may be faster once it has seen a connection end, as a server that has run for a while has:
            // asyncio's first receive buffer that is freed whole teaches glibc's malloc not to map each one anew.
            options.warmup /= 2;
            if !options.warmup.is_zero() {
                let mut load = Echo::connect(&server, shape.without_idle())?;
                options.warm_up(|limit| Ok(load.run(limit)?.summary()))?;
            }
            options.warm()?;
            let mut load = Echo::connect(&server, shape)?;
            options.measure(|limit| Ok(load.run(limit)?.summary()))
        }
        ["accept", address, parallel, time] => {
            options.limit.time = seconds("SECONDS", time)?;
            let mut load = accept::Accept::new(Address::ip(address)?, count("PARALLEL", parallel)?)?;
            options.measure(|limit| Ok(load.run(limit)?.summary()))
        }
        ["udp", address, sockets, size, time] => {
            options.limit.time = seconds("SECONDS", time)?;
            let (sockets, size) = (count("SOCKETS", sockets)?, count("SIZE", size)?);
            let mut load = udp::Udp::connect(Address::ip(address)?, sockets, size)?;
            options.measure(|limit| Ok(load.run(limit)?.summary()))
        }
        [direction @ ("source" | "sink"), address, megabytes] => {
            options.limit.messages = count("MEGABYTES", megabytes)? as u64;
            let server = Address::parse(address)?;
            options.measure(|limit| stream::run(&server, direction == "sink", limit))
        }
        ["syscall-cost", calls] => syscall::answer(count("CALLS", calls)?),
        _ => Err(USAGE.into()),
    }
}
