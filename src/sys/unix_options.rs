//! What the table of socket options needs of Unix: which column it is, and how values lie in memory.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::Socket;

use crate::options::Level;

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple", target_os = "freebsd")))]
compile_error!("this system has no column in the table of src/options.rs, and its numbers are not FreeBSD's");

/// This system's column of the table.
pub const SYSTEM: usize = if cfg!(any(target_os = "linux", target_os = "android")) {
    0
} else if cfg!(target_vendor = "apple") {
    1
} else {
    2
};

/// Bools that other systems do not have.
#[cfg(test)]
pub const SWITCHES: &[&str] = if cfg!(any(target_os = "linux", target_os = "android")) {
    &["ip_freebind", "so_timestampns", "tcp_cork"]
} else {
    &["so_nosigpipe", "tcp_nopush"]
};

/// The loopback interface, in each way that it can be named: by its address, by its index.
#[cfg(test)]
pub fn loopback() -> [(Ipv4Addr, u32); 2] {
    let index = super::interface_index(if SYSTEM == 0 { "lo" } else { "lo0" }).unwrap();
    [(Ipv4Addr::LOCALHOST, 0), (Ipv4Addr::UNSPECIFIED, index)]
}

/// What the system's headers say, as far as libc has it: the headers say that some names are the same as others.
#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
#[rustfmt::skip]
pub const HEADERS: &[(&str, i32)] = &[
    ("ip6t_so_original_dst", libc::IP6T_SO_ORIGINAL_DST),
    ("ip_add_membership", libc::IP_ADD_MEMBERSHIP),
    ("ip_add_source_membership", libc::IP_ADD_SOURCE_MEMBERSHIP),
    ("ip_bind_address_no_port", libc::IP_BIND_ADDRESS_NO_PORT),
    ("ip_block_source", libc::IP_BLOCK_SOURCE),
    ("ip_checksum", libc::IP_CHECKSUM),
    ("ip_drop_membership", libc::IP_DROP_MEMBERSHIP),
    ("ip_drop_source_membership", libc::IP_DROP_SOURCE_MEMBERSHIP),
    ("ip_freebind", libc::IP_FREEBIND),
    ("ip_hdrincl", libc::IP_HDRINCL),
    ("ip_minttl", libc::IP_MINTTL),
    ("ip_mtu", libc::IP_MTU),
    ("ip_mtu_discover", libc::IP_MTU_DISCOVER),
    ("ip_multicast_all", libc::IP_MULTICAST_ALL),
    ("ip_multicast_if", libc::IP_MULTICAST_IF),
    ("ip_multicast_loop", libc::IP_MULTICAST_LOOP),
    ("ip_multicast_ttl", libc::IP_MULTICAST_TTL),
    ("ip_nodefrag", libc::IP_NODEFRAG),
    ("ip_options", libc::IP_OPTIONS),
    ("ip_passsec", libc::IP_PASSSEC),
    ("ip_pktinfo", libc::IP_PKTINFO),
    ("ip_recverr", libc::IP_RECVERR),
    ("ip_recvfragsize", libc::IP_RECVFRAGSIZE),
    ("ip_recvopts", libc::IP_RECVOPTS),
    ("ip_recvorigdstaddr", libc::IP_RECVORIGDSTADDR),
    ("ip_recvtos", libc::IP_RECVTOS),
    ("ip_recvttl", libc::IP_RECVTTL),
    ("ip_retopts", libc::IP_RETOPTS),
    ("ip_router_alert", libc::IP_ROUTER_ALERT),
    ("ip_tos", libc::IP_TOS),
    ("ip_transparent", libc::IP_TRANSPARENT),
    ("ip_ttl", libc::IP_TTL),
    ("ip_unblock_source", libc::IP_UNBLOCK_SOURCE),
    ("ip_unicast_if", libc::IP_UNICAST_IF),
    ("ipv6_add_membership", libc::IPV6_ADD_MEMBERSHIP),
    ("ipv6_addr_preferences", libc::IPV6_ADDR_PREFERENCES),
    ("ipv6_autoflowlabel", libc::IPV6_AUTOFLOWLABEL),
    ("ipv6_checksum", libc::IPV6_CHECKSUM),
    ("ipv6_dontfrag", libc::IPV6_DONTFRAG),
    ("ipv6_drop_membership", libc::IPV6_DROP_MEMBERSHIP),
    ("ipv6_flowinfo_send", libc::IPV6_FLOWINFO_SEND),
    ("ipv6_freebind", libc::IPV6_FREEBIND),
    ("ipv6_hdrincl", libc::IPV6_HDRINCL),
    ("ipv6_join_anycast", libc::IPV6_JOIN_ANYCAST),
    ("ipv6_join_group", libc::IPV6_ADD_MEMBERSHIP),
    ("ipv6_leave_anycast", libc::IPV6_LEAVE_ANYCAST),
    ("ipv6_leave_group", libc::IPV6_DROP_MEMBERSHIP),
    ("ipv6_minhopcount", libc::IPV6_MINHOPCOUNT),
    ("ipv6_mtu", libc::IPV6_MTU),
    ("ipv6_mtu_discover", libc::IPV6_MTU_DISCOVER),
    ("ipv6_multicast_hops", libc::IPV6_MULTICAST_HOPS),
    ("ipv6_multicast_if", libc::IPV6_MULTICAST_IF),
    ("ipv6_multicast_loop", libc::IPV6_MULTICAST_LOOP),
    ("ipv6_recvdstopts", libc::IPV6_RECVDSTOPTS),
    ("ipv6_recverr", libc::IPV6_RECVERR),
    ("ipv6_recvfragsize", libc::IPV6_RECVFRAGSIZE),
    ("ipv6_recvhoplimit", libc::IPV6_RECVHOPLIMIT),
    ("ipv6_recvhopopts", libc::IPV6_RECVHOPOPTS),
    ("ipv6_recvorigdstaddr", libc::IPV6_RECVORIGDSTADDR),
    ("ipv6_recvpathmtu", libc::IPV6_RECVPATHMTU),
    ("ipv6_recvpktinfo", libc::IPV6_RECVPKTINFO),
    ("ipv6_recvrthdr", libc::IPV6_RECVRTHDR),
    ("ipv6_recvtclass", libc::IPV6_RECVTCLASS),
    ("ipv6_router_alert", libc::IPV6_ROUTER_ALERT),
    ("ipv6_tclass", libc::IPV6_TCLASS),
    ("ipv6_transparent", libc::IPV6_TRANSPARENT),
    ("ipv6_unicast_hops", libc::IPV6_UNICAST_HOPS),
    ("ipv6_unicast_if", libc::IPV6_UNICAST_IF),
    ("ipv6_v6only", libc::IPV6_V6ONLY),
    ("so_acceptconn", libc::SO_ACCEPTCONN),
    ("so_attach_bpf", libc::SO_ATTACH_BPF),
    ("so_attach_filter", libc::SO_ATTACH_FILTER),
    ("so_attach_reuseport_cbpf", libc::SO_ATTACH_REUSEPORT_CBPF),
    ("so_attach_reuseport_ebpf", libc::SO_ATTACH_REUSEPORT_EBPF),
    ("so_bindtodevice", libc::SO_BINDTODEVICE),
    ("so_bindtoifindex", libc::SO_BINDTOIFINDEX),
    ("so_bpf_extensions", libc::SO_BPF_EXTENSIONS),
    ("so_broadcast", libc::SO_BROADCAST),
    ("so_buf_lock", libc::SO_BUF_LOCK),
    ("so_busy_poll", libc::SO_BUSY_POLL),
    ("so_busy_poll_budget", libc::SO_BUSY_POLL_BUDGET),
    ("so_cnx_advice", libc::SO_CNX_ADVICE),
    ("so_cookie", libc::SO_COOKIE),
    ("so_debug", libc::SO_DEBUG),
    ("so_detach_bpf", libc::SO_DETACH_BPF),
    ("so_detach_filter", libc::SO_DETACH_FILTER),
    ("so_detach_reuseport_bpf", libc::SO_DETACH_REUSEPORT_BPF),
    ("so_domain", libc::SO_DOMAIN),
    ("so_dontroute", libc::SO_DONTROUTE),
    ("so_error", libc::SO_ERROR),
    ("so_get_filter", libc::SO_GET_FILTER),
    ("so_incoming_cpu", libc::SO_INCOMING_CPU),
    ("so_incoming_napi_id", libc::SO_INCOMING_NAPI_ID),
    ("so_keepalive", libc::SO_KEEPALIVE),
    ("so_linger", libc::SO_LINGER),
    ("so_lock_filter", libc::SO_LOCK_FILTER),
    ("so_mark", libc::SO_MARK),
    ("so_max_pacing_rate", libc::SO_MAX_PACING_RATE),
    ("so_meminfo", libc::SO_MEMINFO),
    ("so_netns_cookie", libc::SO_NETNS_COOKIE),
    ("so_no_check", libc::SO_NO_CHECK),
    ("so_nofcs", libc::SO_NOFCS),
    ("so_oobinline", libc::SO_OOBINLINE),
    ("so_original_dst", libc::SO_ORIGINAL_DST),
    ("so_passcred", libc::SO_PASSCRED),
    ("so_passpidfd", libc::SO_PASSPIDFD),
    ("so_passsec", libc::SO_PASSSEC),
    ("so_peek_off", libc::SO_PEEK_OFF),
    ("so_peercred", libc::SO_PEERCRED),
    ("so_peergroups", libc::SO_PEERGROUPS),
    ("so_peername", libc::SO_PEERNAME),
    ("so_peerpidfd", libc::SO_PEERPIDFD),
    ("so_peersec", libc::SO_PEERSEC),
    ("so_prefer_busy_poll", libc::SO_PREFER_BUSY_POLL),
    ("so_priority", libc::SO_PRIORITY),
    ("so_protocol", libc::SO_PROTOCOL),
    ("so_rcvbuf", libc::SO_RCVBUF),
    ("so_rcvbufforce", libc::SO_RCVBUFFORCE),
    ("so_rcvlowat", libc::SO_RCVLOWAT),
    ("so_rcvmark", libc::SO_RCVMARK),
    ("so_rcvtimeo", libc::SO_RCVTIMEO),
    ("so_reserve_mem", libc::SO_RESERVE_MEM),
    ("so_reuseaddr", libc::SO_REUSEADDR),
    ("so_reuseport", libc::SO_REUSEPORT),
    ("so_rxq_ovfl", libc::SO_RXQ_OVFL),
    ("so_select_err_queue", libc::SO_SELECT_ERR_QUEUE),
    ("so_sndbuf", libc::SO_SNDBUF),
    ("so_sndbufforce", libc::SO_SNDBUFFORCE),
    ("so_sndlowat", libc::SO_SNDLOWAT),
    ("so_sndtimeo", libc::SO_SNDTIMEO),
    ("so_timestamp", libc::SO_TIMESTAMP),
    ("so_timestamping", libc::SO_TIMESTAMPING),
    ("so_timestampns", libc::SO_TIMESTAMPNS),
    ("so_txtime", libc::SO_TXTIME),
    ("so_type", libc::SO_TYPE),
    ("so_wifi_status", libc::SO_WIFI_STATUS),
    ("so_zerocopy", libc::SO_ZEROCOPY),
    ("tcp_cc_info", libc::TCP_CC_INFO),
    ("tcp_congestion", libc::TCP_CONGESTION),
    ("tcp_cork", libc::TCP_CORK),
    ("tcp_defer_accept", libc::TCP_DEFER_ACCEPT),
    ("tcp_fastopen", libc::TCP_FASTOPEN),
    ("tcp_fastopen_connect", libc::TCP_FASTOPEN_CONNECT),
    ("tcp_fastopen_key", libc::TCP_FASTOPEN_KEY),
    ("tcp_fastopen_no_cookie", libc::TCP_FASTOPEN_NO_COOKIE),
    ("tcp_info", libc::TCP_INFO),
    ("tcp_inq", libc::TCP_INQ),
    ("tcp_keepcnt", libc::TCP_KEEPCNT),
    ("tcp_keepidle", libc::TCP_KEEPIDLE),
    ("tcp_keepintvl", libc::TCP_KEEPINTVL),
    ("tcp_linger2", libc::TCP_LINGER2),
    ("tcp_maxseg", libc::TCP_MAXSEG),
    ("tcp_md5sig", libc::TCP_MD5SIG),
    ("tcp_md5sig_ext", libc::TCP_MD5SIG_EXT),
    ("tcp_nodelay", libc::TCP_NODELAY),
    ("tcp_notsent_lowat", libc::TCP_NOTSENT_LOWAT),
    ("tcp_queue_seq", libc::TCP_QUEUE_SEQ),
    ("tcp_quickack", libc::TCP_QUICKACK),
    ("tcp_repair", libc::TCP_REPAIR),
    ("tcp_repair_options", libc::TCP_REPAIR_OPTIONS),
    ("tcp_repair_queue", libc::TCP_REPAIR_QUEUE),
    ("tcp_repair_window", libc::TCP_REPAIR_WINDOW),
    ("tcp_save_syn", libc::TCP_SAVE_SYN),
    ("tcp_saved_syn", libc::TCP_SAVED_SYN),
    ("tcp_syncnt", libc::TCP_SYNCNT),
    ("tcp_thin_dupack", libc::TCP_THIN_DUPACK),
    ("tcp_thin_linear_timeouts", libc::TCP_THIN_LINEAR_TIMEOUTS),
    ("tcp_timestamp", libc::TCP_TIMESTAMP),
    ("tcp_ulp", libc::TCP_ULP),
    ("tcp_user_timeout", libc::TCP_USER_TIMEOUT),
    ("tcp_window_clamp", libc::TCP_WINDOW_CLAMP),
];

#[cfg(all(test, target_vendor = "apple"))]
#[rustfmt::skip]
pub const HEADERS: &[(&str, i32)] = &[
    ("ip_add_membership", libc::IP_ADD_MEMBERSHIP),
    ("ip_add_source_membership", libc::IP_ADD_SOURCE_MEMBERSHIP),
    ("ip_block_source", libc::IP_BLOCK_SOURCE),
    ("ip_bound_if", libc::IP_BOUND_IF),
    ("ip_dontfrag", libc::IP_DONTFRAG),
    ("ip_drop_membership", libc::IP_DROP_MEMBERSHIP),
    ("ip_drop_source_membership", libc::IP_DROP_SOURCE_MEMBERSHIP),
    ("ip_hdrincl", libc::IP_HDRINCL),
    ("ip_multicast_if", libc::IP_MULTICAST_IF),
    ("ip_multicast_loop", libc::IP_MULTICAST_LOOP),
    ("ip_multicast_ttl", libc::IP_MULTICAST_TTL),
    ("ip_pktinfo", libc::IP_PKTINFO),
    ("ip_recvdstaddr", libc::IP_RECVDSTADDR),
    ("ip_recvif", libc::IP_RECVIF),
    ("ip_recvtos", libc::IP_RECVTOS),
    ("ip_recvttl", libc::IP_RECVTTL),
    ("ip_tos", libc::IP_TOS),
    ("ip_ttl", libc::IP_TTL),
    ("ip_unblock_source", libc::IP_UNBLOCK_SOURCE),
    ("ipv6_add_membership", libc::IPV6_JOIN_GROUP),
    ("ipv6_bound_if", libc::IPV6_BOUND_IF),
    ("ipv6_checksum", libc::IPV6_CHECKSUM),
    ("ipv6_dontfrag", libc::IPV6_DONTFRAG),
    ("ipv6_drop_membership", libc::IPV6_LEAVE_GROUP),
    ("ipv6_join_group", libc::IPV6_JOIN_GROUP),
    ("ipv6_leave_group", libc::IPV6_LEAVE_GROUP),
    ("ipv6_multicast_hops", libc::IPV6_MULTICAST_HOPS),
    ("ipv6_multicast_if", libc::IPV6_MULTICAST_IF),
    ("ipv6_multicast_loop", libc::IPV6_MULTICAST_LOOP),
    ("ipv6_recvhoplimit", libc::IPV6_RECVHOPLIMIT),
    ("ipv6_recvpktinfo", libc::IPV6_RECVPKTINFO),
    ("ipv6_recvtclass", libc::IPV6_RECVTCLASS),
    ("ipv6_tclass", libc::IPV6_TCLASS),
    ("ipv6_unicast_hops", libc::IPV6_UNICAST_HOPS),
    ("ipv6_v6only", libc::IPV6_V6ONLY),
    ("so_acceptconn", libc::SO_ACCEPTCONN),
    ("so_broadcast", libc::SO_BROADCAST),
    ("so_debug", libc::SO_DEBUG),
    ("so_dontroute", libc::SO_DONTROUTE),
    ("so_donttrunc", libc::SO_DONTTRUNC),
    ("so_error", libc::SO_ERROR),
    ("so_keepalive", libc::SO_KEEPALIVE),
    ("so_linger", libc::SO_LINGER_SEC),
    ("so_linger_sec", libc::SO_LINGER_SEC),
    ("so_noaddrerr", libc::SO_NOADDRERR),
    ("so_nosigpipe", libc::SO_NOSIGPIPE),
    ("so_notifyconflict", libc::SO_NOTIFYCONFLICT),
    ("so_nread", libc::SO_NREAD),
    ("so_nwrite", libc::SO_NWRITE),
    ("so_oobinline", libc::SO_OOBINLINE),
    ("so_randomport", libc::SO_RANDOMPORT),
    ("so_rcvbuf", libc::SO_RCVBUF),
    ("so_rcvlowat", libc::SO_RCVLOWAT),
    ("so_rcvtimeo", libc::SO_RCVTIMEO),
    ("so_reuseaddr", libc::SO_REUSEADDR),
    ("so_reuseport", libc::SO_REUSEPORT),
    ("so_reuseshareuid", libc::SO_REUSESHAREUID),
    ("so_sndbuf", libc::SO_SNDBUF),
    ("so_sndlowat", libc::SO_SNDLOWAT),
    ("so_sndtimeo", libc::SO_SNDTIMEO),
    ("so_timestamp", libc::SO_TIMESTAMP),
    ("so_timestamp_monotonic", libc::SO_TIMESTAMP_MONOTONIC),
    ("so_type", libc::SO_TYPE),
    ("so_useloopback", libc::SO_USELOOPBACK),
    ("so_wantmore", libc::SO_WANTMORE),
    ("so_wantoobflag", libc::SO_WANTOOBFLAG),
    ("tcp_connection_info", libc::TCP_CONNECTION_INFO),
    ("tcp_fastopen", libc::TCP_FASTOPEN),
    ("tcp_keepalive", libc::TCP_KEEPALIVE),
    ("tcp_keepcnt", libc::TCP_KEEPCNT),
    ("tcp_keepidle", libc::TCP_KEEPALIVE),
    ("tcp_keepintvl", libc::TCP_KEEPINTVL),
    ("tcp_maxseg", libc::TCP_MAXSEG),
    ("tcp_nodelay", libc::TCP_NODELAY),
    ("tcp_noopt", libc::TCP_NOOPT),
    ("tcp_nopush", libc::TCP_NOPUSH),
];

#[cfg(all(test, target_os = "freebsd"))]
#[rustfmt::skip]
pub const HEADERS: &[(&str, i32)] = &[
    ("ip_add_membership", libc::IP_ADD_MEMBERSHIP),
    ("ip_add_source_membership", libc::IP_ADD_SOURCE_MEMBERSHIP),
    ("ip_bindany", libc::IP_BINDANY),
    ("ip_bindmulti", libc::IP_BINDMULTI),
    ("ip_block_source", libc::IP_BLOCK_SOURCE),
    ("ip_dontfrag", libc::IP_DONTFRAG),
    ("ip_drop_membership", libc::IP_DROP_MEMBERSHIP),
    ("ip_drop_source_membership", libc::IP_DROP_SOURCE_MEMBERSHIP),
    ("ip_hdrincl", libc::IP_HDRINCL),
    ("ip_minttl", libc::IP_MINTTL),
    ("ip_multicast_if", libc::IP_MULTICAST_IF),
    ("ip_multicast_loop", libc::IP_MULTICAST_LOOP),
    ("ip_multicast_ttl", libc::IP_MULTICAST_TTL),
    ("ip_recvdstaddr", libc::IP_RECVDSTADDR),
    ("ip_recvif", libc::IP_RECVIF),
    ("ip_recvorigdstaddr", libc::IP_RECVORIGDSTADDR),
    ("ip_recvtos", libc::IP_RECVTOS),
    ("ip_recvttl", libc::IP_RECVTTL),
    ("ip_rss_listen_bucket", libc::IP_RSS_LISTEN_BUCKET),
    ("ip_tos", libc::IP_TOS),
    ("ip_ttl", libc::IP_TTL),
    ("ip_unblock_source", libc::IP_UNBLOCK_SOURCE),
    ("ipv6_add_membership", libc::IPV6_JOIN_GROUP),
    ("ipv6_bindany", libc::IPV6_BINDANY),
    ("ipv6_checksum", libc::IPV6_CHECKSUM),
    ("ipv6_dontfrag", libc::IPV6_DONTFRAG),
    ("ipv6_drop_membership", libc::IPV6_LEAVE_GROUP),
    ("ipv6_join_group", libc::IPV6_JOIN_GROUP),
    ("ipv6_leave_group", libc::IPV6_LEAVE_GROUP),
    ("ipv6_multicast_hops", libc::IPV6_MULTICAST_HOPS),
    ("ipv6_multicast_if", libc::IPV6_MULTICAST_IF),
    ("ipv6_multicast_loop", libc::IPV6_MULTICAST_LOOP),
    ("ipv6_recvhoplimit", libc::IPV6_RECVHOPLIMIT),
    ("ipv6_recvorigdstaddr", libc::IPV6_RECVORIGDSTADDR),
    ("ipv6_recvpktinfo", libc::IPV6_RECVPKTINFO),
    ("ipv6_recvtclass", libc::IPV6_RECVTCLASS),
    ("ipv6_tclass", libc::IPV6_TCLASS),
    ("ipv6_unicast_hops", libc::IPV6_UNICAST_HOPS),
    ("ipv6_v6only", libc::IPV6_V6ONLY),
    ("so_acceptconn", libc::SO_ACCEPTCONN),
    ("so_bintime", libc::SO_BINTIME),
    ("so_broadcast", libc::SO_BROADCAST),
    ("so_debug", libc::SO_DEBUG),
    ("so_domain", libc::SO_DOMAIN),
    ("so_dontroute", libc::SO_DONTROUTE),
    ("so_error", libc::SO_ERROR),
    ("so_keepalive", libc::SO_KEEPALIVE),
    ("so_linger", libc::SO_LINGER),
    ("so_listenincqlen", libc::SO_LISTENINCQLEN),
    ("so_listenqlen", libc::SO_LISTENQLEN),
    ("so_listenqlimit", libc::SO_LISTENQLIMIT),
    ("so_no_ddp", libc::SO_NO_DDP),
    ("so_no_offload", libc::SO_NO_OFFLOAD),
    ("so_nosigpipe", libc::SO_NOSIGPIPE),
    ("so_oobinline", libc::SO_OOBINLINE),
    ("so_protocol", libc::SO_PROTOCOL),
    ("so_rcvbuf", libc::SO_RCVBUF),
    ("so_rcvlowat", libc::SO_RCVLOWAT),
    ("so_rcvtimeo", libc::SO_RCVTIMEO),
    ("so_reuseaddr", libc::SO_REUSEADDR),
    ("so_reuseport", libc::SO_REUSEPORT),
    ("so_reuseport_lb", libc::SO_REUSEPORT_LB),
    ("so_setfib", libc::SO_SETFIB),
    ("so_sndbuf", libc::SO_SNDBUF),
    ("so_sndlowat", libc::SO_SNDLOWAT),
    ("so_sndtimeo", libc::SO_SNDTIMEO),
    ("so_timestamp", libc::SO_TIMESTAMP),
    ("so_ts_clock", libc::SO_TS_CLOCK),
    ("so_type", libc::SO_TYPE),
    ("so_useloopback", libc::SO_USELOOPBACK),
    ("so_user_cookie", libc::SO_USER_COOKIE),
    ("tcp_congestion", libc::TCP_CONGESTION),
    ("tcp_delack", libc::TCP_DELACK),
    ("tcp_fastopen", libc::TCP_FASTOPEN),
    ("tcp_info", libc::TCP_INFO),
    ("tcp_keepcnt", libc::TCP_KEEPCNT),
    ("tcp_keepidle", libc::TCP_KEEPIDLE),
    ("tcp_keepinit", libc::TCP_KEEPINIT),
    ("tcp_keepintvl", libc::TCP_KEEPINTVL),
    ("tcp_maxseg", libc::TCP_MAXSEG),
    ("tcp_maxunacktime", libc::TCP_MAXUNACKTIME),
    ("tcp_md5sig", libc::TCP_MD5SIG),
    ("tcp_nodelay", libc::TCP_NODELAY),
    ("tcp_noopt", libc::TCP_NOOPT),
    ("tcp_nopush", libc::TCP_NOPUSH),
    ("tcp_remote_udp_encaps_port", libc::TCP_REMOTE_UDP_ENCAPS_PORT),
    ("tcp_reusport_lb_numa", libc::TCP_REUSPORT_LB_NUMA),
];

pub fn level(level: Level) -> i32 {
    match level {
        Level::Socket => libc::SOL_SOCKET,
        Level::Tcp => libc::IPPROTO_TCP,
        Level::Ip | Level::SolIp => libc::IPPROTO_IP,
        Level::Ipv6 => libc::IPPROTO_IPV6,
        Level::Udp => libc::IPPROTO_UDP,
    }
}

/// A longer value would hold what the option is.
pub fn is_too_short(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ERANGE)
}

/// Fills `value`; how much of it.
pub fn getsockopt(socket: &Socket, level: i32, number: i32, value: &mut [u8]) -> io::Result<usize> {
    let mut length = value.len() as libc::socklen_t;
    // SAFETY: room for `length` bytes, of which the kernel says how many it wrote.
    let failed =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, number, value.as_mut_ptr().cast(), &raw mut length) };
    if failed == 0 { Ok(length as usize) } else { Err(io::Error::last_os_error()) }
}

pub fn setsockopt(socket: &Socket, level: i32, number: i32, value: &[u8]) -> io::Result<()> {
    let length = value.len() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes.
    let failed = unsafe { libc::setsockopt(socket.as_raw_fd(), level, number, value.as_ptr().cast(), length) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A program of the socket filter: how many instructions, and where.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn attach_filter(socket: &Socket, number: i32, program: &[u8]) -> io::Result<()> {
    const INSTRUCTION: usize = size_of::<libc::sock_filter>();
    let count = program.len() / INSTRUCTION;
    if count == 0 || !program.len().is_multiple_of(INSTRUCTION) || count > usize::from(u16::MAX) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: plain structures of integers; as many as there are bytes for, copied to where they are aligned.
    let mut instructions: Vec<libc::sock_filter> = vec![unsafe { std::mem::zeroed() }; count];
    // SAFETY: both have room for as many bytes.
    unsafe {
        std::ptr::copy_nonoverlapping(program.as_ptr(), instructions.as_mut_ptr().cast::<u8>(), program.len());
    }
    let whole = libc::sock_fprog { len: count as u16, filter: instructions.as_mut_ptr() };
    let length = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: the kernel reads the structure, and the instructions that it points to.
    let failed =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, number, (&raw const whole).cast(), length) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The program that is attached. The kernel counts in instructions, not bytes.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn filter(socket: &Socket, number: i32) -> io::Result<Vec<u8>> {
    let mut program = vec![0; size_of::<libc::sock_filter>() * usize::from(u16::MAX >> 3)];
    let mut count: libc::socklen_t = 0;
    for _ in 0..2 {
        // SAFETY: there is room for as many instructions as `count` says: none at first, then those there are, of which
        // there are fewer (BPF_MAXINSNS).
        let failed = unsafe {
            let place = program.as_mut_ptr().cast();
            libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, number, place, &raw mut count)
        };
        if failed != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    program.truncate(count as usize * size_of::<libc::sock_filter>());
    Ok(program)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn attach_filter(_socket: &Socket, _number: i32, _program: &[u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn filter(_socket: &Socket, _number: i32) -> io::Result<Vec<u8>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A structure as its bytes.
///
/// # Safety
/// It was zeroed before it was filled: there is nothing unset between its fields.
unsafe fn bytes_of<T>(value: &T) -> Vec<u8> {
    // SAFETY: as many bytes as the value has, all of them set.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }.to_vec()
}

/// `None` where there are too few bytes.
///
/// # Safety
/// Any bytes are a value of the type.
unsafe fn read<T>(bytes: &[u8]) -> Option<T> {
    // SAFETY: there are enough bytes, and any will do.
    (bytes.len() >= size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

pub fn time(time: Duration) -> Vec<u8> {
    // SAFETY: plain integers.
    let mut value: libc::timeval = unsafe { std::mem::zeroed() };
    value.tv_sec = time.as_secs() as _;
    #[allow(clippy::useless_conversion)] // macOS has an i32 here, others a longer one
    let microseconds = (time.subsec_micros() as i32).into();
    value.tv_usec = microseconds;
    // SAFETY: zeroed above.
    unsafe { bytes_of(&value) }
}

pub fn read_time(bytes: &[u8]) -> Duration {
    // SAFETY: plain integers.
    unsafe { read::<libc::timeval>(bytes) }
        .map_or(Duration::ZERO, |time| Duration::new(time.tv_sec as u64, time.tv_usec.clamp(0, 999_999) as u32 * 1000))
}

pub fn linger(time: Option<Duration>) -> Vec<u8> {
    let value = libc::linger {
        l_onoff: i32::from(time.is_some()),
        l_linger: time.map_or(0, |time| time.as_secs().min(i32::MAX as u64) as i32),
    };
    // SAFETY: two ints, with nothing between them.
    unsafe { bytes_of(&value) }
}

pub fn read_linger(bytes: &[u8]) -> Option<Duration> {
    // SAFETY: plain integers.
    let value = unsafe { read::<libc::linger>(bytes) }?;
    (value.l_onoff != 0).then(|| Duration::from_secs(value.l_linger.max(0) as u64))
}

fn in_addr(address: Ipv4Addr) -> libc::in_addr {
    libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) }
}

/// A `sockaddr_in` in a `sockaddr_storage`. On macOS and FreeBSD its first byte is its length, and looked at.
fn storage(address: Ipv4Addr) -> libc::sockaddr_storage {
    // SAFETY: all zeroes are values of these plain structures.
    let (mut inet, mut whole): (libc::sockaddr_in, libc::sockaddr_storage) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        inet.sin_len = size_of::<libc::sockaddr_in>() as u8;
    }
    inet.sin_family = libc::AF_INET as libc::sa_family_t;
    inet.sin_addr = in_addr(address);
    // SAFETY: the storage has room for any address, and is aligned for it.
    unsafe { (&raw mut whole).cast::<libc::sockaddr_in>().write(inet) };
    whole
}

/// An option of a group, by its number, and its value: an `ip_mreq`, which knows an interface by its address alone; by
/// its index another option does, whose value is a `group_req`. In an `ip_mreqn` macOS overlooks the index, and FreeBSD
/// does where a group is left.
pub fn group(number: i32, group: Ipv4Addr, (address, index): (Ipv4Addr, u32)) -> (i32, Vec<u8>) {
    if index == 0 {
        let value = libc::ip_mreq { imr_multiaddr: in_addr(group), imr_interface: in_addr(address) };
        // SAFETY: two addresses, with nothing between them.
        return (number, unsafe { bytes_of(&value) });
    }
    let by_index = if number == libc::IP_ADD_MEMBERSHIP { libc::MCAST_JOIN_GROUP } else { libc::MCAST_LEAVE_GROUP };
    // SAFETY: all zeroes is a value of this plain structure.
    let mut value: libc::group_req = unsafe { std::mem::zeroed() };
    value.gr_interface = index;
    value.gr_group = storage(group);
    // SAFETY: zeroed above.
    (by_index, unsafe { bytes_of(&value) })
}

/// As `group`, of a source: an `ip_mreq_source`, or another option's `group_source_req`.
pub fn source(number: i32, group: Ipv4Addr, (address, index): (Ipv4Addr, u32), source: Ipv4Addr) -> (i32, Vec<u8>) {
    if index == 0 {
        let value = libc::ip_mreq_source {
            imr_multiaddr: in_addr(group),
            imr_interface: in_addr(address),
            imr_sourceaddr: in_addr(source),
        };
        // SAFETY: three addresses, with nothing between them.
        return (number, unsafe { bytes_of(&value) });
    }
    let by_index = match number {
        libc::IP_ADD_SOURCE_MEMBERSHIP => libc::MCAST_JOIN_SOURCE_GROUP,
        libc::IP_DROP_SOURCE_MEMBERSHIP => libc::MCAST_LEAVE_SOURCE_GROUP,
        libc::IP_BLOCK_SOURCE => libc::MCAST_BLOCK_SOURCE,
        _ => libc::MCAST_UNBLOCK_SOURCE,
    };
    // SAFETY: all zeroes is a value of this plain structure.
    let mut value: libc::group_source_req = unsafe { std::mem::zeroed() };
    value.gsr_interface = index;
    value.gsr_group = storage(group);
    value.gsr_source = storage(source);
    // SAFETY: zeroed above.
    (by_index, unsafe { bytes_of(&value) })
}

/// The interface of outgoing multicasts: its address, or an `ip_mreqn` without one, of which macOS and FreeBSD look at the
/// index alone, and take 0 for no interface at all.
pub fn interface(address: Ipv4Addr, index: u32) -> Vec<u8> {
    if index == 0 {
        return address.octets().to_vec();
    }
    let nothing = in_addr(Ipv4Addr::UNSPECIFIED);
    let value = libc::ip_mreqn { imr_multiaddr: nothing, imr_address: nothing, imr_ifindex: index as i32 };
    // SAFETY: two addresses and an int, with nothing between them.
    unsafe { bytes_of(&value) }
}

// These structures as the systems' headers have them, where their kernels look at each length.
const _: () = {
    use std::mem::offset_of;

    use libc::{group_req, group_source_req, ip_mreq, ip_mreq_source, ip_mreqn, sockaddr_in, sockaddr_storage};

    assert!(size_of::<ip_mreq>() == 8 && offset_of!(ip_mreq, imr_interface) == 4);
    assert!(size_of::<ip_mreqn>() == 12 && offset_of!(ip_mreqn, imr_ifindex) == 8);
    // Linux has the interface before the source, the others after it.
    let (interface, source) = if SYSTEM == 0 { (4, 8) } else { (8, 4) };
    assert!(size_of::<ip_mreq_source>() == 12);
    assert!(offset_of!(ip_mreq_source, imr_interface) == interface);
    assert!(offset_of!(ip_mreq_source, imr_sourceaddr) == source);
    assert!(size_of::<sockaddr_in>() == 16 && offset_of!(sockaddr_in, sin_addr) == 4);
    assert!(size_of::<sockaddr_storage>() == 128);
    // Apple's structures are packed; on the others an address is aligned as a word is.
    let start = if cfg!(target_vendor = "apple") { size_of::<u32>() } else { size_of::<usize>() };
    assert!(offset_of!(group_req, gr_group) == start && size_of::<group_req>() == start + 128);
    assert!(offset_of!(group_source_req, gsr_group) == start);
    assert!(offset_of!(group_source_req, gsr_source) == start + 128);
    assert!(size_of::<group_source_req>() == start + 256);
    let numbers = [
        libc::MCAST_JOIN_GROUP,
        libc::MCAST_LEAVE_GROUP,
        libc::MCAST_JOIN_SOURCE_GROUP,
        libc::MCAST_LEAVE_SOURCE_GROUP,
        libc::MCAST_BLOCK_SOURCE,
        libc::MCAST_UNBLOCK_SOURCE,
    ];
    let headers = if SYSTEM == 0 { [42, 45, 46, 47, 43, 44] } else { [80, 81, 82, 83, 84, 85] };
    let mut i = 0;
    while i < numbers.len() {
        assert!(numbers[i] == headers[i]);
        i += 1;
    }
};
