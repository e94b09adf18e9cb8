//! The address of a socket: IPv4, IPv6 or unix, without the 128 bytes that the OS's form of it takes.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::path::Path;

use socket2::{Domain, SockAddr};

/// The address family, by the manual's names. `ALL` has them in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Inet,
    Inet6,
    Unix,
}

impl Family {
    pub const ALL: [Family; 3] = [Family::Inet, Family::Inet6, Family::Unix];

    pub fn name(self) -> &'static str {
        match self {
            Family::Inet => "inet",
            Family::Inet6 => "inet6",
            Family::Unix => "unix",
        }
    }

    pub fn from_name(name: &str) -> Option<Family> {
        Family::ALL.into_iter().find(|family| family.name() == name)
    }

    pub fn domain(self) -> Domain {
        match self {
            Family::Inet => Domain::IPV4,
            Family::Inet6 => Domain::IPV6,
            Family::Unix => Domain::UNIX,
        }
    }

    pub fn from_domain(domain: Domain) -> Option<Family> {
        Family::ALL.into_iter().find(|family| family.domain() == domain)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    V4(SocketAddrV4),
    V6(SocketAddrV6),
    /// The path's bytes; an abstract name begins with a zero byte; empty for an unnamed socket.
    Unix(Box<[u8]>),
}

impl Address {
    pub fn family(&self) -> Family {
        match self {
            Address::V4(_) => Family::Inet,
            Address::V6(_) => Family::Inet6,
            Address::Unix(_) => Family::Unix,
        }
    }

    pub fn port(&self) -> u16 {
        match self {
            Address::V4(addr) => addr.port(),
            Address::V6(addr) => addr.port(),
            Address::Unix(_) => 0,
        }
    }

    /// Reads a numeric host; `None` if it is a name. A scope (`fe80::1%eth0`, `%2`) is IPv6's.
    pub fn parse(host: &str, port: u16) -> Option<Address> {
        let (ip, scope) = match host.split_once('%') {
            Some((ip, scope)) => (ip, Some(scope)),
            None => (host, None),
        };
        match (ip.parse().ok()?, scope) {
            (IpAddr::V4(ip), None) => Some(Address::V4(SocketAddrV4::new(ip, port))),
            (IpAddr::V4(_), Some(_)) => None,
            (IpAddr::V6(ip), scope) => {
                let scope = match scope {
                    None => 0,
                    Some(scope) => scope.parse().ok().or_else(|| crate::sys::interface_index(scope))?,
                };
                Some(Address::V6(SocketAddrV6::new(ip, port, 0, scope)))
            }
        }
    }

    /// All interfaces, any port: what a socket is bound to when it must be bound to something.
    pub fn any(family: Family) -> Address {
        match family {
            Family::Inet => Address::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)),
            Family::Inet6 => Address::V6(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0)),
            Family::Unix => Address::Unix(Box::default()),
        }
    }

    /// Whether a socket bound to this address receives for several addresses of the host.
    pub fn is_wildcard(&self) -> bool {
        match self {
            Address::V4(addr) => addr.ip().is_unspecified(),
            Address::V6(addr) => addr.ip().is_unspecified(),
            Address::Unix(_) => false,
        }
    }

    /// `None`: a family that this library does not name.
    pub fn from_os(addr: &SockAddr) -> Option<Address> {
        if let Some(addr) = addr.as_socket_ipv4() {
            return Some(Address::V4(addr));
        }
        if let Some(addr) = addr.as_socket_ipv6() {
            return Some(Address::V6(addr));
        }
        // An unnamed unix socket's address may be as short as the kernel likes, even empty (macOS).
        (addr.domain() == Domain::UNIX || addr.len() == 0).then(|| Address::Unix(crate::sys::unix_name(addr)))
    }

    pub fn to_os(&self) -> io::Result<SockAddr> {
        match self {
            Address::V4(addr) => Ok(SockAddr::from(*addr)),
            Address::V6(addr) => Ok(SockAddr::from(*addr)),
            // The OS would take the part before the zero byte for all of it.
            Address::Unix(name) if name.first().is_some_and(|&first| first != 0) && name.contains(&0) => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "a path has no zero byte in it"))
            }
            Address::Unix(name) => SockAddr::unix(Path::new(crate::sys::os_str(name)?)),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::V4(addr) => addr.fmt(f),
            Address::V6(addr) => addr.fmt(f),
            Address::Unix(name) => match name.split_first() {
                None => f.write_str("(unnamed)"),
                Some((0, name)) => write!(f, "\\0{}", String::from_utf8_lossy(name)),
                Some(_) => f.write_str(&String::from_utf8_lossy(name)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_as_they_are_written() {
        for (host, port, text) in
            [("1.2.3.4", 80, "1.2.3.4:80"), ("::1", 80, "[::1]:80"), ("fe80::1%3", 5, "[fe80::1%3]:5")]
        {
            assert_eq!(Address::parse(host, port).unwrap().to_string(), text);
        }
    }

    #[test]
    fn names_are_not_numeric() {
        for host in ["localhost", "", "1.2.3", "1.2.3.4%1", "::1%no-such-interface", "0x7f.1"] {
            assert_eq!(Address::parse(host, 1), None, "{host}");
        }
    }

    #[test]
    fn addresses_survive_the_operating_systems_form() {
        let mut all = vec![Address::parse("127.0.0.1", 1).unwrap(), Address::parse("fe80::2%7", 65535).unwrap()];
        if cfg!(unix) {
            all.push(Address::Unix(b"/tmp/x".as_slice().into()));
            all.push(Address::Unix(Box::default()));
        }
        if cfg!(any(target_os = "linux", target_os = "android")) {
            all.push(Address::Unix(b"\0abstract\0name".as_slice().into()));
        }
        for address in all {
            let os = address.to_os().unwrap();
            // SAFETY: as many bytes as it says, all of them set.
            let bytes = unsafe { std::slice::from_raw_parts(os.as_ptr().cast(), os.len() as usize) };
            assert_eq!(crate::sys::read_address(bytes).as_ref(), Some(&address));
            assert_eq!(Address::from_os(&os), Some(address));
        }
    }
}
