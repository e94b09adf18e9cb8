//! A closed-loop load generator: each connection has one message outstanding, and every byte that comes back is
//! compared with what was sent. One thread; prints one line of JSON.

mod accept;
mod echo;
mod report;
mod syscall;
mod udp;

use std::env;
use std::error::Error;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "\
usage: load echo HOST PORT CONNECTIONS SIZE SECONDS [--messages N] [--warmup SECONDS] [--gate]
       load accept HOST PORT PARALLEL SECONDS [--messages N] [--warmup SECONDS] [--gate]
       load udp HOST PORT SOCKETS SIZE SECONDS [--messages N] [--warmup SECONDS] [--gate]
       load syscall-cost CALLS

echo          messages of SIZE bytes, one outstanding on each connection
accept        connect, one byte each way, close; PARALLEL at a time; a message is one such connection
udp           datagrams of SIZE bytes, one outstanding on each socket; one that is lost is sent again after 200 ms
syscall-cost  for each line on stdin: the mean time, in ns, of CALLS calls of recv for one byte that is there

--messages    end after N messages, if that is sooner
--warmup      the same load for so long before, not counted; half of it on connections that are closed again
--gate        after the warm-up print 'ready', and begin when a line comes on stdin";

/// A silent server is an error, not a wait without end.
const STALLED: Duration = Duration::from_secs(10);

/// How long to go on.
#[derive(Clone, Copy)]
struct Limit {
    time: Duration,
    messages: u64,
}

struct Options {
    limit: Limit,
    warmup: Duration,
    gate: bool,
}

impl Options {
    /// Takes the options out of the arguments; SECONDS comes with the positional ones, later.
    fn take(arguments: &mut Vec<String>) -> Result<Self> {
        let mut options =
            Options { limit: Limit { time: Duration::ZERO, messages: u64::MAX }, warmup: Duration::ZERO, gate: false };
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
                _ => return Err(format!("unknown option {name}\n{USAGE}").into()),
            }
        }
        Ok(options)
    }

    /// Runs the warm-up and the measurement, with the gate between.
    fn measure(&self, mut run: impl FnMut(Limit) -> Result<report::Report>) -> Result<()> {
        if !self.warmup.is_zero() {
            run(Limit { time: self.warmup, messages: u64::MAX })?;
        }
        if self.gate {
            println!("ready");
            io::stdin().read_line(&mut String::new())?;
        }
        println!("{}", run(self.limit)?);
        Ok(())
    }
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

fn resolve(host: &str, port: &str) -> Result<SocketAddr> {
    (host, parse::<u16>("PORT", port)?).to_socket_addrs()?.next().ok_or_else(|| format!("{host}: no address").into())
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
        ["echo", host, port, connections, size, time] => {
            options.limit.time = seconds("SECONDS", time)?;
            let (connections, size) = (count("CONNECTIONS", connections)?, count("SIZE", size)?);
            let connect = || echo::Echo::connect(resolve(host, port)?, connections, size);
            // A server may be faster once it has seen a connection end, as a server that has run for a while has:
            // asyncio's first receive buffer that is freed whole teaches glibc's malloc not to map each one anew.
            options.warmup /= 2;
            if !options.warmup.is_zero() {
                connect()?.run(Limit { time: options.warmup, messages: u64::MAX })?;
            }
            let mut load = connect()?;
            options.measure(|limit| load.run(limit))
        }
        ["accept", host, port, parallel, time] => {
            options.limit.time = seconds("SECONDS", time)?;
            let mut load = accept::Accept::new(resolve(host, port)?, count("PARALLEL", parallel)?)?;
            options.measure(|limit| load.run(limit))
        }
        ["udp", host, port, sockets, size, time] => {
            options.limit.time = seconds("SECONDS", time)?;
            let (sockets, size) = (count("SOCKETS", sockets)?, count("SIZE", size)?);
            let mut load = udp::Udp::connect(resolve(host, port)?, sockets, size)?;
            options.measure(|limit| load.run(limit))
        }
        ["syscall-cost", calls] => syscall::answer(count("CALLS", calls)?),
        _ => Err(USAGE.into()),
    }
}
