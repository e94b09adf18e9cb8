//! What the table of socket options needs of Windows: how values lie in memory.

use std::io;
use std::net::Ipv4Addr;
use std::os::windows::io::AsRawSocket;
use std::time::Duration;

use socket2::Socket;
use windows_sys::Win32::Networking::WinSock as ws;

use crate::options::Level;

/// This system's column of the table.
pub const SYSTEM: usize = 3;

/// Bools that other systems do not have.
#[cfg(test)]
pub const SWITCHES: &[&str] = &["ip_dontfragment", "so_exclusiveaddruse"];

/// The loopback interface, in each way that it can be named: by its address, by its index, which is always the first.
#[cfg(test)]
pub fn loopback() -> [(Ipv4Addr, u32); 2] {
    [(Ipv4Addr::LOCALHOST, 0), (Ipv4Addr::UNSPECIFIED, 1)]
}

/// What the system's headers say, as far as windows-sys has it.
#[cfg(test)]
#[rustfmt::skip]
pub const HEADERS: &[(&str, i32)] = &[
    ("ip6t_so_original_dst", ws::IP6T_SO_ORIGINAL_DST as i32),
    ("ip_add_membership", ws::IP_ADD_MEMBERSHIP),
    ("ip_add_source_membership", ws::IP_ADD_SOURCE_MEMBERSHIP),
    ("ip_block_source", ws::IP_BLOCK_SOURCE),
    ("ip_dontfragment", ws::IP_DONTFRAGMENT),
    ("ip_drop_membership", ws::IP_DROP_MEMBERSHIP),
    ("ip_drop_source_membership", ws::IP_DROP_SOURCE_MEMBERSHIP),
    ("ip_hdrincl", ws::IP_HDRINCL),
    ("ip_mtu", ws::IP_MTU),
    ("ip_mtu_discover", ws::IP_MTU_DISCOVER),
    ("ip_multicast_if", ws::IP_MULTICAST_IF),
    ("ip_multicast_loop", ws::IP_MULTICAST_LOOP),
    ("ip_multicast_ttl", ws::IP_MULTICAST_TTL),
    ("ip_options", ws::IP_OPTIONS),
    ("ip_original_arrival_if", ws::IP_ORIGINAL_ARRIVAL_IF),
    ("ip_pktinfo", ws::IP_PKTINFO),
    ("ip_receive_broadcast", ws::IP_RECEIVE_BROADCAST),
    ("ip_recvdstaddr", ws::IP_RECVDSTADDR),
    ("ip_recvecn", ws::IP_RECVECN),
    ("ip_recverr", ws::IP_RECVERR),
    ("ip_recvif", ws::IP_RECVIF),
    ("ip_recvtos", ws::IP_RECVTOS),
    ("ip_recvttl", ws::IP_RECVTTL),
    ("ip_tos", ws::IP_TOS),
    ("ip_ttl", ws::IP_TTL),
    ("ip_unblock_source", ws::IP_UNBLOCK_SOURCE),
    ("ip_unicast_if", ws::IP_UNICAST_IF),
    ("ip_user_mtu", ws::IP_USER_MTU),
    ("ipv6_add_membership", ws::IPV6_ADD_MEMBERSHIP),
    ("ipv6_checksum", ws::IPV6_CHECKSUM),
    ("ipv6_dontfrag", ws::IPV6_DONTFRAG),
    ("ipv6_drop_membership", ws::IPV6_DROP_MEMBERSHIP),
    ("ipv6_hdrincl", ws::IPV6_HDRINCL),
    ("ipv6_join_group", ws::IPV6_JOIN_GROUP),
    ("ipv6_leave_group", ws::IPV6_LEAVE_GROUP),
    ("ipv6_mtu", ws::IPV6_MTU),
    ("ipv6_mtu_discover", ws::IPV6_MTU_DISCOVER),
    ("ipv6_multicast_hops", ws::IPV6_MULTICAST_HOPS),
    ("ipv6_multicast_if", ws::IPV6_MULTICAST_IF),
    ("ipv6_multicast_loop", ws::IPV6_MULTICAST_LOOP),
    ("ipv6_protection_level", ws::IPV6_PROTECTION_LEVEL),
    ("ipv6_recvdstaddr", ws::IPV6_RECVDSTADDR),
    ("ipv6_recvecn", ws::IPV6_RECVECN),
    ("ipv6_recverr", ws::IPV6_RECVERR),
    ("ipv6_recvif", ws::IPV6_RECVIF),
    ("ipv6_recvrthdr", ws::IPV6_RECVRTHDR),
    ("ipv6_recvtclass", ws::IPV6_RECVTCLASS),
    ("ipv6_tclass", ws::IPV6_TCLASS),
    ("ipv6_unicast_hops", ws::IPV6_UNICAST_HOPS),
    ("ipv6_unicast_if", ws::IPV6_UNICAST_IF),
    ("ipv6_user_mtu", ws::IPV6_USER_MTU),
    ("ipv6_v6only", ws::IPV6_V6ONLY),
    ("so_acceptconn", ws::SO_ACCEPTCONN),
    ("so_broadcast", ws::SO_BROADCAST),
    ("so_bsp_state", ws::SO_BSP_STATE),
    ("so_compartment_id", ws::SO_COMPARTMENT_ID as i32),
    ("so_conditional_accept", ws::SO_CONDITIONAL_ACCEPT),
    ("so_connect_time", ws::SO_CONNECT_TIME),
    ("so_debug", ws::SO_DEBUG),
    ("so_dontlinger", ws::SO_DONTLINGER),
    ("so_dontroute", ws::SO_DONTROUTE),
    ("so_error", ws::SO_ERROR),
    ("so_exclusiveaddruse", ws::SO_EXCLUSIVEADDRUSE),
    ("so_keepalive", ws::SO_KEEPALIVE),
    ("so_linger", ws::SO_LINGER),
    ("so_max_msg_size", ws::SO_MAX_MSG_SIZE),
    ("so_maxdg", ws::SO_MAXDG),
    ("so_maxpathdg", ws::SO_MAXPATHDG),
    ("so_oobinline", ws::SO_OOBINLINE),
    ("so_original_dst", ws::SO_ORIGINAL_DST as i32),
    ("so_pause_accept", ws::SO_PAUSE_ACCEPT as i32),
    ("so_port_scalability", ws::SO_PORT_SCALABILITY),
    ("so_protocol_info", ws::SO_PROTOCOL_INFO),
    ("so_randomize_port", ws::SO_RANDOMIZE_PORT),
    ("so_rcvbuf", ws::SO_RCVBUF),
    ("so_rcvlowat", ws::SO_RCVLOWAT),
    ("so_rcvtimeo", ws::SO_RCVTIMEO),
    ("so_reuse_multicastport", ws::SO_REUSE_MULTICASTPORT),
    ("so_reuse_unicastport", ws::SO_REUSE_UNICASTPORT),
    ("so_reuseaddr", ws::SO_REUSEADDR),
    ("so_sndbuf", ws::SO_SNDBUF),
    ("so_sndlowat", ws::SO_SNDLOWAT),
    ("so_sndtimeo", ws::SO_SNDTIMEO),
    ("so_type", ws::SO_TYPE),
    ("so_update_accept_context", ws::SO_UPDATE_ACCEPT_CONTEXT),
    ("so_update_connect_context", ws::SO_UPDATE_CONNECT_CONTEXT),
    ("so_useloopback", ws::SO_USELOOPBACK),
    ("tcp_atmark", ws::TCP_ATMARK),
    ("tcp_bsdurgent", ws::TCP_BSDURGENT),
    ("tcp_congestion_algorithm", ws::TCP_CONGESTION_ALGORITHM),
    ("tcp_delay_fin_ack", ws::TCP_DELAY_FIN_ACK),
    ("tcp_expedited_1122", ws::TCP_EXPEDITED_1122),
    ("tcp_fail_connect_on_icmp_error", ws::TCP_FAIL_CONNECT_ON_ICMP_ERROR),
    ("tcp_fastopen", ws::TCP_FASTOPEN),
    ("tcp_icmp_error_info", ws::TCP_ICMP_ERROR_INFO),
    ("tcp_keepalive", ws::TCP_KEEPALIVE),
    ("tcp_keepcnt", ws::TCP_KEEPCNT),
    ("tcp_keepidle", ws::TCP_KEEPIDLE),
    ("tcp_keepintvl", ws::TCP_KEEPINTVL),
    ("tcp_maxrt", ws::TCP_MAXRT),
    ("tcp_maxrtms", ws::TCP_MAXRTMS),
    ("tcp_maxseg", ws::TCP_MAXSEG),
    ("tcp_nodelay", ws::TCP_NODELAY),
    ("tcp_nosynretries", ws::TCP_NOSYNRETRIES),
    ("tcp_stdurg", ws::TCP_STDURG),
    ("tcp_timestamps", ws::TCP_TIMESTAMPS),
    ("udp_checksum_coverage", ws::UDP_CHECKSUM_COVERAGE),
    ("udp_nochecksum", ws::UDP_NOCHECKSUM),
    ("udp_recv_max_coalesced_size", ws::UDP_RECV_MAX_COALESCED_SIZE),
    ("udp_send_msg_size", ws::UDP_SEND_MSG_SIZE),
];

pub fn level(level: Level) -> i32 {
    match level {
        Level::Socket => ws::SOL_SOCKET,
        Level::Tcp => ws::IPPROTO_TCP,
        Level::Ip => ws::IPPROTO_IP,
        Level::SolIp => ws::SOL_IP as i32,
        Level::Ipv6 => ws::IPPROTO_IPV6,
        Level::Udp => ws::IPPROTO_UDP,
    }
}

fn handle(socket: &Socket) -> ws::SOCKET {
    socket.as_raw_socket() as ws::SOCKET
}

/// A longer value would hold what the option is. Winsock says the same of values that are too short and too long, so
/// each is asked for with the room that it has at most.
pub fn is_too_short(_error: &io::Error) -> bool {
    false
}

/// Fills `value`; how much of it.
pub fn getsockopt(socket: &Socket, level: i32, number: i32, value: &mut [u8]) -> io::Result<usize> {
    let mut length = value.len() as i32;
    // SAFETY: room for `length` bytes, of which Winsock says how many it wrote.
    let failed = unsafe { ws::getsockopt(handle(socket), level, number, value.as_mut_ptr(), &raw mut length) };
    if failed == 0 { Ok(length as usize) } else { Err(super::windows::last_error()) }
}

pub fn setsockopt(socket: &Socket, level: i32, number: i32, value: &[u8]) -> io::Result<()> {
    // SAFETY: Winsock reads as many bytes as there are.
    let failed = unsafe { ws::setsockopt(handle(socket), level, number, value.as_ptr(), value.len() as i32) };
    if failed == 0 { Ok(()) } else { Err(super::windows::last_error()) }
}

pub fn attach_filter(_socket: &Socket, _number: i32, _program: &[u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub fn filter(_socket: &Socket, _number: i32) -> io::Result<Vec<u8>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Milliseconds.
pub fn time(time: Duration) -> Vec<u8> {
    (time.as_micros().div_ceil(1000).min(u128::from(u32::MAX)) as u32).to_ne_bytes().to_vec()
}

pub fn read_time(bytes: &[u8]) -> Duration {
    bytes.first_chunk().map_or(Duration::ZERO, |&bytes| Duration::from_millis(u64::from(u32::from_ne_bytes(bytes))))
}

/// Two 16-bit numbers.
pub fn linger(time: Option<Duration>) -> Vec<u8> {
    let seconds = time.map_or(0, |time| time.as_secs().min(u64::from(u16::MAX)) as u16);
    [u16::from(time.is_some()).to_ne_bytes(), seconds.to_ne_bytes()].concat()
}

pub fn read_linger(bytes: &[u8]) -> Option<Duration> {
    let &[on, more, low, high] = bytes.first_chunk()?;
    let seconds = u16::from_ne_bytes([low, high]);
    ([on, more] != [0, 0]).then(|| Duration::from_secs(u64::from(seconds)))
}

/// An option of a group, by its number, and its value: an `ip_mreq`, where an address 0.x.x.x stands for the interface of
/// that index.
pub fn group(number: i32, group: Ipv4Addr, (address, index): (Ipv4Addr, u32)) -> (i32, Vec<u8>) {
    (number, [group.octets(), if index == 0 { address.octets() } else { index.to_be_bytes() }].concat())
}

/// An option of a source, by its number, and its value: an `ip_mreq_source`, with the interface as in `group`.
pub fn source(number: i32, of: Ipv4Addr, (address, index): (Ipv4Addr, u32), source: Ipv4Addr) -> (i32, Vec<u8>) {
    let interface = if index == 0 { address.octets() } else { index.to_be_bytes() };
    (number, [of.octets(), source.octets(), interface].concat())
}

/// The interface of outgoing multicasts.
pub fn interface(address: Ipv4Addr, index: u32) -> Vec<u8> {
    if index == 0 { address.octets().to_vec() } else { index.to_be_bytes().to_vec() }
}
