//! One table of socket options: name -> type, how it is read, how it is set. What only some systems have: `sys::OPTIONS`.
//!
//! A name that is in [`NAMES`] and not in [`table`] belongs to another OS: `not_supported` here.

use std::io;
use std::time::Duration;

use socket2::Socket;

use crate::sys;

/// How an option's value looks in Python, with the two calls that read and write it.
pub enum Access {
    Bool(Get<bool>, Option<Set<bool>>),
    Int(Get<u32>, Option<Set<u32>>),
    /// Seconds, or none.
    Linger(Get<Option<Duration>>, Option<Set<Option<Duration>>>),
    Time(Get<Duration>, Option<Set<Duration>>),
}

pub type Get<T> = fn(&Socket) -> io::Result<T>;
pub type Set<T> = fn(&Socket, T) -> io::Result<()>;

impl Access {
    /// (Python's type, writable)
    pub fn describe(&self) -> (&'static str, bool) {
        match self {
            Access::Bool(_, set) => ("bool", set.is_some()),
            Access::Int(_, set) => ("int", set.is_some()),
            Access::Linger(_, set) => ("linger", set.is_some()),
            Access::Time(_, set) => ("float", set.is_some()),
        }
    }
}

use Access::{Bool, Int, Linger};

fn so_error(socket: &Socket) -> io::Result<u32> {
    Ok(socket.take_error()?.and_then(|error| error.raw_os_error()).unwrap_or(0) as u32)
}

fn size(value: io::Result<usize>) -> io::Result<u32> {
    value.map(|n| n as u32)
}

/// What every supported OS has.
const COMMON: &[(&str, Access)] = &[
    ("ip_ttl", Int(Socket::ttl_v4, Some(Socket::set_ttl_v4))),
    ("ipv6_unicast_hops", Int(Socket::unicast_hops_v6, Some(Socket::set_unicast_hops_v6))),
    ("ipv6_v6only", Bool(Socket::only_v6, Some(Socket::set_only_v6))),
    ("so_broadcast", Bool(Socket::broadcast, Some(Socket::set_broadcast))),
    ("so_error", Int(so_error, None)),
    ("so_keepalive", Bool(Socket::keepalive, Some(Socket::set_keepalive))),
    ("so_linger", Linger(Socket::linger, Some(Socket::set_linger))),
    ("so_oobinline", Bool(Socket::out_of_band_inline, Some(Socket::set_out_of_band_inline))),
    ("so_rcvbuf", Int(|s| size(s.recv_buffer_size()), Some(|s, v| s.set_recv_buffer_size(v as usize)))),
    ("so_reuseaddr", Bool(Socket::reuse_address, Some(Socket::set_reuse_address))),
    ("so_sndbuf", Int(|s| size(s.send_buffer_size()), Some(|s, v| s.set_send_buffer_size(v as usize)))),
    ("so_type", Int(|s| s.r#type().map(|t| i32::from(t) as u32), None)),
    ("tcp_nodelay", Bool(Socket::tcp_nodelay, Some(Socket::set_tcp_nodelay))),
];

/// Every name that some supported OS has.
pub const NAMES: &[&str] = &[
    "ip_ttl",
    "ipv6_unicast_hops",
    "ipv6_v6only",
    "so_acceptconn",
    "so_broadcast",
    "so_error",
    "so_exclusiveaddruse",
    "so_keepalive",
    "so_linger",
    "so_oobinline",
    "so_rcvbuf",
    "so_reuseaddr",
    "so_reuseport",
    "so_sndbuf",
    "so_type",
    "tcp_cork",
    "tcp_keepidle",
    "tcp_maxseg",
    "tcp_nodelay",
    "tcp_quickack",
    "tcp_user_timeout",
];

/// What this OS has.
pub fn table() -> impl Iterator<Item = &'static (&'static str, Access)> {
    COMMON.iter().chain(sys::OPTIONS)
}

pub fn find(name: &str) -> Option<&'static Access> {
    table().find(|option| option.0 == name).map(|option| &option.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_of_this_os_is_a_known_name_once() {
        let mut names: Vec<_> = table().map(|option| option.0).collect();
        assert!(names.iter().all(|name| NAMES.contains(name)));
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before);
        assert!(NAMES.is_sorted());
    }
}
