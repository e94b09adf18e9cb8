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

/// What the system's headers say.
#[cfg(test)]
#[rustfmt::skip]
pub const HEADERS: &[(&str, i32)] = &[
    ("ip_add_membership", ws::IP_ADD_MEMBERSHIP as i32),
    ("ip_add_source_membership", ws::IP_ADD_SOURCE_MEMBERSHIP as i32),
    ("ip_block_source", ws::IP_BLOCK_SOURCE as i32),
    ("ip_dontfragment", ws::IP_DONTFRAGMENT as i32),
    ("ip_drop_membership", ws::IP_DROP_MEMBERSHIP as i32),
    ("ip_drop_source_membership", ws::IP_DROP_SOURCE_MEMBERSHIP as i32),
    ("ip_hdrincl", ws::IP_HDRINCL as i32),
    ("ip_mtu", ws::IP_MTU as i32),
    ("ip_mtu_discover", ws::IP_MTU_DISCOVER as i32),
    ("ip_multicast_if", ws::IP_MULTICAST_IF as i32),
    ("ip_multicast_loop", ws::IP_MULTICAST_LOOP as i32),
    ("ip_multicast_ttl", ws::IP_MULTICAST_TTL as i32),
    ("ip_options", ws::IP_OPTIONS as i32),
    ("ip_original_arrival_if", ws::IP_ORIGINAL_ARRIVAL_IF as i32),
    ("ip_pktinfo", ws::IP_PKTINFO as i32),
    ("ip_receive_broadcast", ws::IP_RECEIVE_BROADCAST as i32),
    ("ip_recvdstaddr", ws::IP_RECVDSTADDR as i32),
    ("ip_recvecn", ws::IP_RECVECN as i32),
    ("ip_recverr", ws::IP_RECVERR as i32),
    ("ip_recvif", ws::IP_RECVIF as i32),
    ("ip_recvtos", ws::IP_RECVTOS as i32),
    ("ip_recvttl", ws::IP_RECVTTL as i32),
    ("ip_tos", ws::IP_TOS as i32),
    ("ip_ttl", ws::IP_TTL as i32),
    ("ip_unblock_source", ws::IP_UNBLOCK_SOURCE as i32),
    ("ip_unicast_if", ws::IP_UNICAST_IF as i32),
    ("ip_user_mtu", ws::IP_USER_MTU as i32),
    ("ipv6_add_membership", ws::IPV6_ADD_MEMBERSHIP as i32),
    ("ipv6_checksum", ws::IPV6_CHECKSUM as i32),
    ("ipv6_dontfrag", ws::IPV6_DONTFRAG as i32),
    ("ipv6_drop_membership", ws::IPV6_DROP_MEMBERSHIP as i32),
    ("ipv6_hdrincl", ws::IPV6_HDRINCL as i32),
    ("ipv6_join_group", ws::IPV6_JOIN_GROUP as i32),
    ("ipv6_leave_group", ws::IPV6_LEAVE_GROUP as i32),
    ("ipv6_mtu", ws::IPV6_MTU as i32),
    ("ipv6_mtu_discover", ws::IPV6_MTU_DISCOVER as i32),
    ("ipv6_multicast_hops", ws::IPV6_MULTICAST_HOPS as i32),
    ("ipv6_multicast_if", ws::IPV6_MULTICAST_IF as i32),
    ("ipv6_multicast_loop", ws::IPV6_MULTICAST_LOOP as i32),
    ("ipv6_protection_level", ws::IPV6_PROTECTION_LEVEL as i32),
    ("ipv6_recvdstaddr", ws::IPV6_RECVDSTADDR as i32),
    ("ipv6_recvecn", ws::IPV6_RECVECN as i32),
    ("ipv6_recverr", ws::IPV6_RECVERR as i32),
    ("ipv6_recvif", ws::IPV6_RECVIF as i32),
    ("ipv6_recvrthdr", ws::IPV6_RECVRTHDR as i32),
    ("ipv6_recvtclass", ws::IPV6_RECVTCLASS as i32),
    ("ipv6_tclass", ws::IPV6_TCLASS as i32),
    ("ipv6_unicast_hops", ws::IPV6_UNICAST_HOPS as i32),
    ("ipv6_unicast_if", ws::IPV6_UNICAST_IF as i32),
    ("ipv6_user_mtu", ws::IPV6_USER_MTU as i32),
    ("ipv6_v6only", ws::IPV6_V6ONLY as i32),
    ("so_acceptconn", ws::SO_ACCEPTCONN as i32),
    ("so_broadcast", ws::SO_BROADCAST as i32),
    ("so_bsp_state", ws::SO_BSP_STATE as i32),
    ("so_compartment_id", ws::SO_COMPARTMENT_ID as i32),
    ("so_conditional_accept", ws::SO_CONDITIONAL_ACCEPT as i32),
    ("so_connect_time", ws::SO_CONNECT_TIME as i32),
    ("so_debug", ws::SO_DEBUG as i32),
    ("so_dontlinger", ws::SO_DONTLINGER as i32),
    ("so_dontroute", ws::SO_DONTROUTE as i32),
    ("so_error", ws::SO_ERROR as i32),
    ("so_exclusiveaddruse", ws::SO_EXCLUSIVEADDRUSE as i32),
    ("so_keepalive", ws::SO_KEEPALIVE as i32),
    ("so_linger", ws::SO_LINGER as i32),
    ("so_max_msg_size", ws::SO_MAX_MSG_SIZE as i32),
    ("so_maxdg", ws::SO_MAXDG as i32),
    ("so_maxpathdg", ws::SO_MAXPATHDG as i32),
    ("so_oobinline", ws::SO_OOBINLINE as i32),
    ("so_pause_accept", ws::SO_PAUSE_ACCEPT as i32),
    ("so_port_scalability", ws::SO_PORT_SCALABILITY as i32),
    ("so_randomize_port", ws::SO_RANDOMIZE_PORT as i32),
    ("so_rcvbuf", ws::SO_RCVBUF as i32),
    ("so_rcvlowat", ws::SO_RCVLOWAT as i32),
    ("so_rcvtimeo", ws::SO_RCVTIMEO as i32),
    ("so_reuse_multicastport", ws::SO_REUSE_MULTICASTPORT as i32),
    ("so_reuse_unicastport", ws::SO_REUSE_UNICASTPORT as i32),
    ("so_reuseaddr", ws::SO_REUSEADDR as i32),
    ("so_sndbuf", ws::SO_SNDBUF as i32),
    ("so_sndlowat", ws::SO_SNDLOWAT as i32),
    ("so_sndtimeo", ws::SO_SNDTIMEO as i32),
    ("so_type", ws::SO_TYPE as i32),
    ("so_update_accept_context", ws::SO_UPDATE_ACCEPT_CONTEXT as i32),
    ("so_update_connect_context", ws::SO_UPDATE_CONNECT_CONTEXT as i32),
    ("so_useloopback", ws::SO_USELOOPBACK as i32),
    ("tcp_atmark", ws::TCP_ATMARK as i32),
    ("tcp_bsdurgent", ws::TCP_BSDURGENT as i32),
    ("tcp_congestion_algorithm", ws::TCP_CONGESTION_ALGORITHM as i32),
    ("tcp_delay_fin_ack", ws::TCP_DELAY_FIN_ACK as i32),
    ("tcp_expedited_1122", ws::TCP_EXPEDITED_1122 as i32),
    ("tcp_fail_connect_on_icmp_error", ws::TCP_FAIL_CONNECT_ON_ICMP_ERROR as i32),
    ("tcp_fastopen", ws::TCP_FASTOPEN as i32),
    ("tcp_icmp_error_info", ws::TCP_ICMP_ERROR_INFO as i32),
    ("tcp_keepcnt", ws::TCP_KEEPCNT as i32),
    ("tcp_keepidle", ws::TCP_KEEPIDLE as i32),
    ("tcp_keepintvl", ws::TCP_KEEPINTVL as i32),
    ("tcp_maxrt", ws::TCP_MAXRT as i32),
    ("tcp_maxrtms", ws::TCP_MAXRTMS as i32),
    ("tcp_maxseg", ws::TCP_MAXSEG as i32),
    ("tcp_nodelay", ws::TCP_NODELAY as i32),
    ("tcp_nosynretries", ws::TCP_NOSYNRETRIES as i32),
    ("tcp_stdurg", ws::TCP_STDURG as i32),
    ("tcp_timestamps", ws::TCP_TIMESTAMPS as i32),
    ("udp_checksum_coverage", ws::UDP_CHECKSUM_COVERAGE as i32),
    ("udp_nochecksum", ws::UDP_NOCHECKSUM as i32),
    ("udp_recv_max_coalesced_size", ws::UDP_RECV_MAX_COALESCED_SIZE as i32),
    ("udp_send_msg_size", ws::UDP_SEND_MSG_SIZE as i32),
];

pub fn level(level: Level) -> i32 {
    match level {
        Level::Socket => ws::SOL_SOCKET,
        Level::Tcp => ws::IPPROTO_TCP,
        Level::Ip => ws::IPPROTO_IP,
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

/// An `ip_mreq`: an address 0.x.x.x stands for the interface of that index.
pub fn group(group: Ipv4Addr, (address, index): (Ipv4Addr, u32)) -> Vec<u8> {
    [group.octets(), if index == 0 { address.octets() } else { index.to_be_bytes() }].concat()
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
