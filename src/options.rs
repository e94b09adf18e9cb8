//! One table of socket options for all supported systems, by the names that they have there, in lower case: what each
//! is, whether it can be read and set, and its number on each system. `sock.options()` and the page in `docs` come
//! from it.
//!
//! Linux' numbers are those of most architectures (asm-generic). `sys` says which column is this system's, and compares
//! it, when its tests are compiled, with what the crates libc and windows-sys have of the system's headers.

/// The protocol layer that an option belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Socket,
    Tcp,
    Ip,
    Ipv6,
    Udp,
    /// Windows' `SOL_IP`, which there is not the level of IP.
    SolIp,
}

/// What an option's value is. Each says how Python sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    /// 32 bits, not negative.
    Int,
    /// 32 bits; -1 often is the system's choice.
    Signed,
    /// 64 bits.
    Long,
    /// Whole seconds there, a float here.
    Seconds,
    Millis,
    Micros,
    /// As `Seconds`, or None for none at all: a negative number there.
    SecondsOrNone,
    /// The system's structure of seconds and microseconds, or its milliseconds.
    Time,
    /// Seconds, or None.
    Linger,
    /// A name.
    Text,
    /// A structure as it is.
    Bytes,
    /// As `Bytes`, of which the system insists on so many.
    Exactly(usize),
    /// A program of the socket filter: its instructions as they are.
    Filter,
    /// As `Filter`, when it is read.
    Program,
    /// (pid, uid, gid)
    Credentials,
    Ints,
    /// A `SockAddr`.
    Address,
    /// As `Address`, that of the peer: another call tells it.
    Peer,
    /// A new descriptor, which is the caller's.
    Descriptor,
    /// There is no value: None.
    Nothing,
    /// (group, interface) of IPv4.
    Group,
    /// (group, interface, source) of IPv4.
    Source,
    /// (group, interface) of IPv6.
    Group6,
    /// An interface by its IPv4 address, its name or its index.
    Interface,
    /// An interface by its name or its index.
    Index,
    /// As `Index`, in network byte order there.
    IndexNet,
    /// As `IndexNet` when it is set, as `Index` when it is read.
    IndexNetSet,
}

impl Kind {
    /// The type as `sock.options()` names it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bool => "bool",
            Kind::Int | Kind::Signed | Kind::Long => "int",
            Kind::Seconds | Kind::Millis | Kind::Micros | Kind::Time => "float",
            Kind::SecondsOrNone => "float or none",
            Kind::Linger => "linger",
            Kind::Text => "str",
            Kind::Bytes | Kind::Exactly(_) | Kind::Filter | Kind::Program => "bytes",
            Kind::Credentials => "credentials",
            Kind::Ints => "ints",
            Kind::Address | Kind::Peer => "address",
            Kind::Descriptor => "descriptor",
            Kind::Nothing => "none",
            Kind::Group | Kind::Group6 => "membership",
            Kind::Source => "source membership",
            Kind::Interface | Kind::Index | Kind::IndexNet | Kind::IndexNetSet => "interface",
        }
    }
}

/// The systems, in the order of the table's columns.
pub const SYSTEMS: [&str; 4] = ["linux", "macos", "freebsd", "windows"];

/// One option.
#[derive(Debug)]
pub struct Row {
    pub name: &'static str,
    pub level: Level,
    pub kind: Kind,
    pub readable: bool,
    pub writable: bool,
    /// Its number on each system; `NO` where there is none.
    pub numbers: [i32; 4],
}

impl Row {
    /// Its number on this system.
    pub fn number(&self) -> Option<i32> {
        Some(self.numbers[crate::sys::SYSTEM]).filter(|&number| number != NO)
    }
}

pub const NO: i32 = i32::MIN;

type Mode = (bool, bool);
const READ: Mode = (true, false);
const WRITE: Mode = (false, true);
const BOTH: Mode = (true, true);

const fn row(name: &'static str, level: Level, kind: Kind, mode: Mode, numbers: [i32; 4]) -> Row {
    Row { name, level, kind, readable: mode.0, writable: mode.1, numbers }
}

/// Sorted by name; a name has several rows where it is not the same on all its systems. The numbers: Linux, macOS,
/// FreeBSD, Windows.
#[rustfmt::skip]
pub static TABLE: &[Row] = &[
    row("ip6t_so_original_dst", Level::Ipv6, Kind::Address, READ, [80, NO, NO, NO]),
    row("ip6t_so_original_dst", Level::SolIp, Kind::Address, READ, [NO, NO, NO, 12303]),
    row("ip_add_membership", Level::Ip, Kind::Group, WRITE, [35, 12, 12, 12]),
    row("ip_add_source_membership", Level::Ip, Kind::Source, WRITE, [39, 70, 70, 15]),
    row("ip_bind_address_no_port", Level::Ip, Kind::Bool, BOTH, [24, NO, NO, NO]),
    row("ip_bindany", Level::Ip, Kind::Bool, BOTH, [NO, NO, 24, NO]),
    row("ip_bindmulti", Level::Ip, Kind::Bool, BOTH, [NO, NO, 25, NO]),
    row("ip_block_source", Level::Ip, Kind::Source, WRITE, [38, 72, 72, 17]),
    row("ip_bound_if", Level::Ip, Kind::Index, BOTH, [NO, 25, NO, NO]),
    row("ip_checksum", Level::Ip, Kind::Bool, BOTH, [23, NO, NO, NO]),
    row("ip_dontfrag", Level::Ip, Kind::Bool, BOTH, [NO, 28, 67, NO]),
    row("ip_dontfragment", Level::Ip, Kind::Bool, BOTH, [NO, NO, NO, 14]),
    row("ip_drop_membership", Level::Ip, Kind::Group, WRITE, [36, 13, 13, 13]),
    row("ip_drop_source_membership", Level::Ip, Kind::Source, WRITE, [40, 71, 71, 16]),
    row("ip_freebind", Level::Ip, Kind::Bool, BOTH, [15, NO, NO, NO]),
    row("ip_hdrincl", Level::Ip, Kind::Bool, BOTH, [3, 2, 2, 2]),
    row("ip_local_port_range", Level::Ip, Kind::Int, BOTH, [51, NO, NO, NO]),
    row("ip_minttl", Level::Ip, Kind::Int, BOTH, [21, NO, 66, NO]),
    row("ip_mtu", Level::Ip, Kind::Signed, READ, [14, NO, NO, 73]),
    row("ip_mtu_discover", Level::Ip, Kind::Int, BOTH, [10, NO, NO, 71]),
    row("ip_multicast_all", Level::Ip, Kind::Bool, BOTH, [49, NO, NO, NO]),
    row("ip_multicast_if", Level::Ip, Kind::Interface, BOTH, [32, 9, 9, 9]),
    row("ip_multicast_loop", Level::Ip, Kind::Bool, BOTH, [34, 11, 11, 11]),
    row("ip_multicast_ttl", Level::Ip, Kind::Signed, BOTH, [33, 10, 10, 10]),
    row("ip_nodefrag", Level::Ip, Kind::Bool, BOTH, [22, NO, NO, NO]),
    row("ip_options", Level::Ip, Kind::Bytes, BOTH, [4, 1, 1, 1]),
    row("ip_original_arrival_if", Level::Ip, Kind::Bool, BOTH, [NO, NO, NO, 47]),
    row("ip_passsec", Level::Ip, Kind::Bool, BOTH, [18, NO, NO, NO]),
    row("ip_pktinfo", Level::Ip, Kind::Bool, BOTH, [8, 26, NO, 19]),
    row("ip_protocol", Level::Ip, Kind::Int, READ, [52, NO, NO, NO]),
    row("ip_receive_broadcast", Level::Ip, Kind::Bool, BOTH, [NO, NO, NO, 22]),
    row("ip_recvdstaddr", Level::Ip, Kind::Bool, BOTH, [NO, 7, 7, 25]),
    row("ip_recvecn", Level::Ip, Kind::Bool, BOTH, [NO, NO, NO, 50]),
    row("ip_recverr", Level::Ip, Kind::Bool, BOTH, [11, NO, NO, 75]),
    row("ip_recverr_rfc4884", Level::Ip, Kind::Bool, BOTH, [26, NO, NO, NO]),
    row("ip_recvfragsize", Level::Ip, Kind::Bool, BOTH, [25, NO, NO, NO]),
    row("ip_recvif", Level::Ip, Kind::Bool, BOTH, [NO, 20, 20, 24]),
    row("ip_recvopts", Level::Ip, Kind::Bool, BOTH, [6, 5, 5, NO]),
    row("ip_recvorigdstaddr", Level::Ip, Kind::Bool, BOTH, [20, NO, 27, NO]),
    row("ip_recvtos", Level::Ip, Kind::Bool, BOTH, [13, 27, 68, 40]),
    row("ip_recvttl", Level::Ip, Kind::Bool, BOTH, [12, 24, 65, 21]),
    row("ip_retopts", Level::Ip, Kind::Bool, BOTH, [7, 8, 8, NO]),
    row("ip_router_alert", Level::Ip, Kind::Bool, WRITE, [5, NO, NO, NO]),
    row("ip_rss_listen_bucket", Level::Ip, Kind::Int, WRITE, [NO, NO, 26, NO]),
    row("ip_tos", Level::Ip, Kind::Int, BOTH, [1, 3, 3, 3]),
    row("ip_transparent", Level::Ip, Kind::Bool, BOTH, [19, NO, NO, NO]),
    row("ip_ttl", Level::Ip, Kind::Signed, BOTH, [2, 4, 4, 4]),
    row("ip_unblock_source", Level::Ip, Kind::Source, WRITE, [37, 73, 73, 18]),
    row("ip_unicast_if", Level::Ip, Kind::IndexNet, BOTH, [50, NO, NO, NO]),
    row("ip_unicast_if", Level::Ip, Kind::IndexNetSet, BOTH, [NO, NO, NO, 31]),
    row("ip_user_mtu", Level::Ip, Kind::Int, BOTH, [NO, NO, NO, 76]),
    row("ipv6_add_membership", Level::Ipv6, Kind::Group6, WRITE, [20, 12, 12, 12]),
    row("ipv6_addr_preferences", Level::Ipv6, Kind::Signed, BOTH, [72, NO, NO, NO]),
    row("ipv6_autoflowlabel", Level::Ipv6, Kind::Bool, BOTH, [70, NO, NO, NO]),
    row("ipv6_bindany", Level::Ipv6, Kind::Bool, BOTH, [NO, NO, 64, NO]),
    row("ipv6_bound_if", Level::Ipv6, Kind::Index, BOTH, [NO, 125, NO, NO]),
    row("ipv6_checksum", Level::Ipv6, Kind::Signed, BOTH, [7, 26, 26, 26]),
    row("ipv6_dontfrag", Level::Ipv6, Kind::Bool, BOTH, [62, 62, 62, 14]),
    row("ipv6_drop_membership", Level::Ipv6, Kind::Group6, WRITE, [21, 13, 13, 13]),
    row("ipv6_flowinfo_send", Level::Ipv6, Kind::Bool, BOTH, [33, NO, NO, NO]),
    row("ipv6_freebind", Level::Ipv6, Kind::Bool, BOTH, [78, NO, NO, NO]),
    row("ipv6_hdrincl", Level::Ipv6, Kind::Bool, BOTH, [36, NO, NO, 2]),
    row("ipv6_join_anycast", Level::Ipv6, Kind::Group6, WRITE, [27, NO, NO, NO]),
    row("ipv6_join_group", Level::Ipv6, Kind::Group6, WRITE, [20, 12, 12, 12]),
    row("ipv6_leave_anycast", Level::Ipv6, Kind::Group6, WRITE, [28, NO, NO, NO]),
    row("ipv6_leave_group", Level::Ipv6, Kind::Group6, WRITE, [21, 13, 13, 13]),
    row("ipv6_minhopcount", Level::Ipv6, Kind::Int, BOTH, [73, NO, NO, NO]),
    row("ipv6_mtu", Level::Ipv6, Kind::Int, BOTH, [24, NO, NO, 72]),
    row("ipv6_mtu_discover", Level::Ipv6, Kind::Int, BOTH, [23, NO, NO, 71]),
    row("ipv6_multicast_all", Level::Ipv6, Kind::Bool, BOTH, [29, NO, NO, NO]),
    row("ipv6_multicast_hops", Level::Ipv6, Kind::Signed, BOTH, [18, 10, 10, 10]),
    row("ipv6_multicast_if", Level::Ipv6, Kind::Index, BOTH, [17, 9, 9, 9]),
    row("ipv6_multicast_loop", Level::Ipv6, Kind::Bool, BOTH, [19, 11, 11, 11]),
    row("ipv6_protection_level", Level::Ipv6, Kind::Int, BOTH, [NO, NO, NO, 23]),
    row("ipv6_recvdstaddr", Level::Ipv6, Kind::Bool, BOTH, [NO, NO, NO, 25]),
    row("ipv6_recvdstopts", Level::Ipv6, Kind::Bool, BOTH, [58, NO, NO, NO]),
    row("ipv6_recvecn", Level::Ipv6, Kind::Bool, BOTH, [NO, NO, NO, 50]),
    row("ipv6_recverr", Level::Ipv6, Kind::Bool, BOTH, [25, NO, NO, 75]),
    row("ipv6_recverr_rfc4884", Level::Ipv6, Kind::Bool, BOTH, [31, NO, NO, NO]),
    row("ipv6_recvfragsize", Level::Ipv6, Kind::Bool, BOTH, [77, NO, NO, NO]),
    row("ipv6_recvhoplimit", Level::Ipv6, Kind::Bool, BOTH, [51, 37, 37, 21]),
    row("ipv6_recvhopopts", Level::Ipv6, Kind::Bool, BOTH, [53, NO, NO, NO]),
    row("ipv6_recvif", Level::Ipv6, Kind::Bool, BOTH, [NO, NO, NO, 24]),
    row("ipv6_recvorigdstaddr", Level::Ipv6, Kind::Bool, BOTH, [74, NO, 72, NO]),
    row("ipv6_recvpathmtu", Level::Ipv6, Kind::Bool, BOTH, [60, NO, NO, NO]),
    row("ipv6_recvpktinfo", Level::Ipv6, Kind::Bool, BOTH, [49, 61, 36, 19]),
    row("ipv6_recvrthdr", Level::Ipv6, Kind::Bool, BOTH, [56, NO, NO, 38]),
    row("ipv6_recvtclass", Level::Ipv6, Kind::Bool, BOTH, [66, 35, 57, 40]),
    row("ipv6_router_alert", Level::Ipv6, Kind::Signed, WRITE, [22, NO, NO, NO]),
    row("ipv6_router_alert_isolate", Level::Ipv6, Kind::Bool, BOTH, [30, NO, NO, NO]),
    row("ipv6_tclass", Level::Ipv6, Kind::Signed, BOTH, [67, 36, 61, 39]),
    row("ipv6_transparent", Level::Ipv6, Kind::Bool, BOTH, [75, NO, NO, NO]),
    row("ipv6_unicast_hops", Level::Ipv6, Kind::Signed, BOTH, [16, 4, 4, 4]),
    row("ipv6_unicast_if", Level::Ipv6, Kind::IndexNet, BOTH, [76, NO, NO, NO]),
    row("ipv6_unicast_if", Level::Ipv6, Kind::Index, BOTH, [NO, NO, NO, 31]),
    row("ipv6_user_mtu", Level::Ipv6, Kind::Int, BOTH, [NO, NO, NO, 76]),
    row("ipv6_v6only", Level::Ipv6, Kind::Bool, BOTH, [26, 27, 27, 27]),
    row("so_acceptconn", Level::Socket, Kind::Bool, READ, [30, 2, 2, 2]),
    row("so_attach_bpf", Level::Socket, Kind::Int, WRITE, [50, NO, NO, NO]),
    row("so_attach_filter", Level::Socket, Kind::Filter, WRITE, [26, NO, NO, NO]),
    row("so_attach_reuseport_cbpf", Level::Socket, Kind::Filter, WRITE, [51, NO, NO, NO]),
    row("so_attach_reuseport_ebpf", Level::Socket, Kind::Int, WRITE, [52, NO, NO, NO]),
    row("so_bindtodevice", Level::Socket, Kind::Text, BOTH, [25, NO, NO, NO]),
    row("so_bindtoifindex", Level::Socket, Kind::Int, BOTH, [62, NO, NO, NO]),
    row("so_bintime", Level::Socket, Kind::Bool, BOTH, [NO, NO, 0x2000, NO]),
    row("so_bpf_extensions", Level::Socket, Kind::Int, READ, [48, NO, NO, NO]),
    row("so_broadcast", Level::Socket, Kind::Bool, BOTH, [6, 32, 32, 32]),
    row("so_bsdcompat", Level::Socket, Kind::Bool, BOTH, [14, NO, NO, NO]),
    row("so_bsp_state", Level::Socket, Kind::Bytes, READ, [NO, NO, NO, 0x1009]),
    row("so_buf_lock", Level::Socket, Kind::Int, BOTH, [72, NO, NO, NO]),
    row("so_busy_poll", Level::Socket, Kind::Micros, BOTH, [46, NO, NO, NO]),
    row("so_busy_poll_budget", Level::Socket, Kind::Int, WRITE, [70, NO, NO, NO]),
    row("so_cnx_advice", Level::Socket, Kind::Int, WRITE, [53, NO, NO, NO]),
    row("so_compartment_id", Level::Socket, Kind::Int, BOTH, [NO, NO, NO, 0x3004]),
    row("so_conditional_accept", Level::Socket, Kind::Bool, BOTH, [NO, NO, NO, 0x3002]),
    row("so_connect_time", Level::Socket, Kind::SecondsOrNone, READ, [NO, NO, NO, 0x700c]),
    row("so_cookie", Level::Socket, Kind::Long, READ, [57, NO, NO, NO]),
    row("so_debug", Level::Socket, Kind::Bool, BOTH, [1, 1, 1, 1]),
    row("so_detach_bpf", Level::Socket, Kind::Nothing, WRITE, [27, NO, NO, NO]),
    row("so_detach_filter", Level::Socket, Kind::Nothing, WRITE, [27, NO, NO, NO]),
    row("so_detach_reuseport_bpf", Level::Socket, Kind::Nothing, WRITE, [68, NO, NO, NO]),
    row("so_domain", Level::Socket, Kind::Int, READ, [39, NO, 0x1019, NO]),
    row("so_dontlinger", Level::Socket, Kind::Bool, BOTH, [NO, NO, NO, -129]),
    row("so_dontroute", Level::Socket, Kind::Bool, BOTH, [5, 16, 16, 16]),
    row("so_donttrunc", Level::Socket, Kind::Bool, BOTH, [NO, 0x2000, NO, NO]),
    row("so_error", Level::Socket, Kind::Int, READ, [4, 0x1007, 0x1007, 0x1007]),
    row("so_exclusiveaddruse", Level::Socket, Kind::Bool, BOTH, [NO, NO, NO, -5]),
    row("so_get_filter", Level::Socket, Kind::Program, READ, [26, NO, NO, NO]),
    row("so_incoming_cpu", Level::Socket, Kind::Signed, BOTH, [49, NO, NO, NO]),
    row("so_incoming_napi_id", Level::Socket, Kind::Int, READ, [56, NO, NO, NO]),
    row("so_keepalive", Level::Socket, Kind::Bool, BOTH, [9, 8, 8, 8]),
    row("so_linger", Level::Socket, Kind::Linger, BOTH, [13, 0x1080, 128, 128]),
    row("so_linger_sec", Level::Socket, Kind::Linger, BOTH, [NO, 0x1080, NO, NO]),
    row("so_listenincqlen", Level::Socket, Kind::Int, READ, [NO, NO, 0x1013, NO]),
    row("so_listenqlen", Level::Socket, Kind::Int, READ, [NO, NO, 0x1012, NO]),
    row("so_listenqlimit", Level::Socket, Kind::Int, READ, [NO, NO, 0x1011, NO]),
    row("so_lock_filter", Level::Socket, Kind::Bool, BOTH, [44, NO, NO, NO]),
    row("so_mark", Level::Socket, Kind::Int, BOTH, [36, NO, NO, NO]),
    row("so_max_msg_size", Level::Socket, Kind::Int, READ, [NO, NO, NO, 0x2003]),
    row("so_max_pacing_rate", Level::Socket, Kind::Long, BOTH, [47, NO, NO, NO]),
    row("so_maxdg", Level::Socket, Kind::Int, READ, [NO, NO, NO, 0x7009]),
    row("so_maxpathdg", Level::Socket, Kind::Int, READ, [NO, NO, NO, 0x700a]),
    row("so_meminfo", Level::Socket, Kind::Bytes, READ, [55, NO, NO, NO]),
    row("so_netns_cookie", Level::Socket, Kind::Long, READ, [71, NO, NO, NO]),
    row("so_no_check", Level::Socket, Kind::Bool, BOTH, [11, NO, NO, NO]),
    row("so_no_ddp", Level::Socket, Kind::Bool, BOTH, [NO, NO, 0x8000, NO]),
    row("so_no_offload", Level::Socket, Kind::Bool, BOTH, [NO, NO, 0x4000, NO]),
    row("so_noaddrerr", Level::Socket, Kind::Bool, BOTH, [NO, 0x1023, NO, NO]),
    row("so_nofcs", Level::Socket, Kind::Bool, BOTH, [43, NO, NO, NO]),
    row("so_nosigpipe", Level::Socket, Kind::Bool, BOTH, [NO, 0x1022, 0x800, NO]),
    row("so_notifyconflict", Level::Socket, Kind::Bool, BOTH, [NO, 0x1026, NO, NO]),
    row("so_nread", Level::Socket, Kind::Int, READ, [NO, 0x1020, NO, NO]),
    row("so_nwrite", Level::Socket, Kind::Int, READ, [NO, 0x1024, NO, NO]),
    row("so_oobinline", Level::Socket, Kind::Bool, BOTH, [10, 256, 256, 256]),
    row("so_original_dst", Level::Ip, Kind::Address, READ, [80, NO, NO, NO]),
    row("so_original_dst", Level::SolIp, Kind::Address, READ, [NO, NO, NO, 12303]),
    row("so_passcred", Level::Socket, Kind::Bool, BOTH, [16, NO, NO, NO]),
    row("so_passpidfd", Level::Socket, Kind::Bool, BOTH, [76, NO, NO, NO]),
    row("so_passsec", Level::Socket, Kind::Bool, BOTH, [34, NO, NO, NO]),
    row("so_pause_accept", Level::Socket, Kind::Bool, BOTH, [NO, NO, NO, 0x3003]),
    row("so_peek_off", Level::Socket, Kind::Signed, BOTH, [42, NO, NO, NO]),
    row("so_peercred", Level::Socket, Kind::Credentials, READ, [17, NO, NO, NO]),
    row("so_peergroups", Level::Socket, Kind::Ints, READ, [59, NO, NO, NO]),
    row("so_peername", Level::Socket, Kind::Peer, READ, [28, NO, NO, NO]),
    row("so_peerpidfd", Level::Socket, Kind::Descriptor, READ, [77, NO, NO, NO]),
    row("so_peersec", Level::Socket, Kind::Bytes, READ, [31, NO, NO, NO]),
    row("so_port_scalability", Level::Socket, Kind::Bool, BOTH, [NO, NO, NO, 0x3006]),
    row("so_prefer_busy_poll", Level::Socket, Kind::Bool, BOTH, [69, NO, NO, NO]),
    row("so_priority", Level::Socket, Kind::Int, BOTH, [12, NO, NO, NO]),
    row("so_protocol", Level::Socket, Kind::Int, READ, [38, NO, 0x1016, NO]),
    row("so_protocol_info", Level::Socket, Kind::Bytes, READ, [NO, NO, NO, 0x2005]),
    row("so_randomize_port", Level::Socket, Kind::Bool, BOTH, [NO, NO, NO, 0x3005]),
    row("so_randomport", Level::Socket, Kind::Bool, BOTH, [NO, 0x1082, NO, NO]),
    row("so_rcvbuf", Level::Socket, Kind::Int, BOTH, [8, 0x1002, 0x1002, 0x1002]),
    row("so_rcvbufforce", Level::Socket, Kind::Int, WRITE, [33, NO, NO, NO]),
    row("so_rcvlowat", Level::Socket, Kind::Int, BOTH, [18, 0x1004, 0x1004, 0x1004]),
    row("so_rcvmark", Level::Socket, Kind::Bool, BOTH, [75, NO, NO, NO]),
    row("so_rcvtimeo", Level::Socket, Kind::Time, BOTH, [20, 0x1006, 0x1006, 0x1006]),
    row("so_reserve_mem", Level::Socket, Kind::Int, BOTH, [73, NO, NO, NO]),
    row("so_reuse_multicastport", Level::Socket, Kind::Bool, BOTH, [NO, NO, NO, 0x3008]),
    row("so_reuse_unicastport", Level::Socket, Kind::Bool, BOTH, [NO, NO, NO, 0x3007]),
    row("so_reuseaddr", Level::Socket, Kind::Bool, BOTH, [2, 4, 4, 4]),
    row("so_reuseport", Level::Socket, Kind::Bool, BOTH, [15, 512, 512, NO]),
    row("so_reuseport_lb", Level::Socket, Kind::Bool, BOTH, [NO, NO, 0x10000, NO]),
    row("so_reuseshareuid", Level::Socket, Kind::Bool, BOTH, [NO, 0x1025, NO, NO]),
    row("so_rxq_ovfl", Level::Socket, Kind::Bool, BOTH, [40, NO, NO, NO]),
    row("so_select_err_queue", Level::Socket, Kind::Bool, BOTH, [45, NO, NO, NO]),
    row("so_setfib", Level::Socket, Kind::Int, WRITE, [NO, NO, 0x1014, NO]),
    row("so_sndbuf", Level::Socket, Kind::Int, BOTH, [7, 0x1001, 0x1001, 0x1001]),
    row("so_sndbufforce", Level::Socket, Kind::Int, WRITE, [32, NO, NO, NO]),
    row("so_sndlowat", Level::Socket, Kind::Int, READ, [19, NO, NO, NO]),
    row("so_sndlowat", Level::Socket, Kind::Int, BOTH, [NO, 0x1003, 0x1003, 0x1003]),
    row("so_sndtimeo", Level::Socket, Kind::Time, BOTH, [21, 0x1005, 0x1005, 0x1005]),
    row("so_timestamp", Level::Socket, Kind::Bool, BOTH, [29, 1024, 1024, NO]),
    row("so_timestamp_monotonic", Level::Socket, Kind::Bool, BOTH, [NO, 0x800, NO, NO]),
    row("so_timestamping", Level::Socket, Kind::Int, BOTH, [37, NO, NO, NO]),
    row("so_timestampns", Level::Socket, Kind::Bool, BOTH, [35, NO, NO, NO]),
    row("so_ts_clock", Level::Socket, Kind::Int, BOTH, [NO, NO, 0x1017, NO]),
    row("so_txrehash", Level::Socket, Kind::Signed, BOTH, [74, NO, NO, NO]),
    row("so_txtime", Level::Socket, Kind::Bytes, BOTH, [61, NO, NO, NO]),
    row("so_type", Level::Socket, Kind::Int, READ, [3, 0x1008, 0x1008, 0x1008]),
    row("so_update_accept_context", Level::Socket, Kind::Bytes, WRITE, [NO, NO, NO, 0x700b]),
    row("so_update_connect_context", Level::Socket, Kind::Nothing, WRITE, [NO, NO, NO, 0x7010]),
    row("so_useloopback", Level::Socket, Kind::Bool, BOTH, [NO, 64, 64, 64]),
    row("so_user_cookie", Level::Socket, Kind::Int, WRITE, [NO, NO, 0x1015, NO]),
    row("so_wantmore", Level::Socket, Kind::Bool, BOTH, [NO, 0x4000, NO, NO]),
    row("so_wantoobflag", Level::Socket, Kind::Bool, BOTH, [NO, 0x8000, NO, NO]),
    row("so_wifi_status", Level::Socket, Kind::Bool, BOTH, [41, NO, NO, NO]),
    row("so_zerocopy", Level::Socket, Kind::Bool, BOTH, [60, NO, NO, NO]),
    row("tcp_atmark", Level::Tcp, Kind::Int, READ, [NO, NO, NO, 8]),
    row("tcp_bsdurgent", Level::Tcp, Kind::Bool, BOTH, [NO, NO, NO, 0x7000]),
    row("tcp_cc_info", Level::Tcp, Kind::Bytes, READ, [26, NO, NO, NO]),
    row("tcp_congestion", Level::Tcp, Kind::Text, BOTH, [13, NO, 64, NO]),
    row("tcp_congestion_algorithm", Level::Tcp, Kind::Int, BOTH, [NO, NO, NO, 12]),
    row("tcp_connection_info", Level::Tcp, Kind::Bytes, READ, [NO, 0x106, NO, NO]),
    row("tcp_connectiontimeout", Level::Tcp, Kind::Seconds, BOTH, [NO, 32, NO, NO]),
    row("tcp_cork", Level::Tcp, Kind::Bool, BOTH, [3, NO, NO, NO]),
    row("tcp_defer_accept", Level::Tcp, Kind::Seconds, BOTH, [9, NO, NO, NO]),
    row("tcp_delack", Level::Tcp, Kind::Int, BOTH, [NO, NO, 72, NO]),
    row("tcp_delack_max_us", Level::Tcp, Kind::Micros, BOTH, [46, NO, NO, NO]),
    row("tcp_delay_fin_ack", Level::Tcp, Kind::Bool, BOTH, [NO, NO, NO, 13]),
    row("tcp_enable_ecn", Level::Tcp, Kind::Bool, BOTH, [NO, 0x104, NO, NO]),
    row("tcp_expedited_1122", Level::Tcp, Kind::Bool, BOTH, [NO, NO, NO, 2]),
    row("tcp_fail_connect_on_icmp_error", Level::Tcp, Kind::Bool, BOTH, [NO, NO, NO, 18]),
    row("tcp_fastopen", Level::Tcp, Kind::Int, BOTH, [23, 0x105, 1025, 15]),
    row("tcp_fastopen_connect", Level::Tcp, Kind::Bool, BOTH, [30, NO, NO, NO]),
    row("tcp_fastopen_key", Level::Tcp, Kind::Bytes, BOTH, [33, NO, NO, NO]),
    row("tcp_fastopen_no_cookie", Level::Tcp, Kind::Bool, BOTH, [34, NO, NO, NO]),
    row("tcp_icmp_error_info", Level::Tcp, Kind::Bytes, READ, [NO, NO, NO, 19]),
    row("tcp_info", Level::Tcp, Kind::Bytes, READ, [11, NO, 32, NO]),
    row("tcp_inq", Level::Tcp, Kind::Bool, BOTH, [36, NO, NO, NO]),
    row("tcp_is_mptcp", Level::Tcp, Kind::Bool, READ, [43, NO, NO, NO]),
    row("tcp_keepalive", Level::Tcp, Kind::Seconds, BOTH, [NO, 16, NO, 3]),
    row("tcp_keepcnt", Level::Tcp, Kind::Int, BOTH, [6, 0x102, 1024, 16]),
    row("tcp_keepidle", Level::Tcp, Kind::Seconds, BOTH, [4, 16, 256, 3]),
    row("tcp_keepinit", Level::Tcp, Kind::Seconds, BOTH, [NO, NO, 128, NO]),
    row("tcp_keepintvl", Level::Tcp, Kind::Seconds, BOTH, [5, 0x101, 512, 17]),
    row("tcp_linger2", Level::Tcp, Kind::SecondsOrNone, BOTH, [8, NO, NO, NO]),
    row("tcp_maxrt", Level::Tcp, Kind::Seconds, BOTH, [NO, NO, NO, 5]),
    row("tcp_maxrtms", Level::Tcp, Kind::Millis, BOTH, [NO, NO, NO, 14]),
    row("tcp_maxseg", Level::Tcp, Kind::Signed, BOTH, [2, 2, 2, 4]),
    row("tcp_maxunacktime", Level::Tcp, Kind::Seconds, BOTH, [NO, NO, 68, NO]),
    row("tcp_md5sig", Level::Tcp, Kind::Bytes, WRITE, [14, NO, NO, NO]),
    row("tcp_md5sig", Level::Tcp, Kind::Bool, BOTH, [NO, NO, 16, NO]),
    row("tcp_md5sig_ext", Level::Tcp, Kind::Bytes, WRITE, [32, NO, NO, NO]),
    row("tcp_nodelay", Level::Tcp, Kind::Bool, BOTH, [1, 1, 1, 1]),
    row("tcp_noopt", Level::Tcp, Kind::Bool, BOTH, [NO, 8, 8, NO]),
    row("tcp_nopush", Level::Tcp, Kind::Bool, BOTH, [NO, 4, 4, NO]),
    row("tcp_nosynretries", Level::Tcp, Kind::Bool, BOTH, [NO, NO, NO, 9]),
    row("tcp_notsent_lowat", Level::Tcp, Kind::Int, BOTH, [25, 0x201, NO, NO]),
    row("tcp_queue_seq", Level::Tcp, Kind::Int, BOTH, [21, NO, NO, NO]),
    row("tcp_quickack", Level::Tcp, Kind::Bool, BOTH, [12, NO, NO, NO]),
    row("tcp_remote_udp_encaps_port", Level::Tcp, Kind::Int, BOTH, [NO, NO, 71, NO]),
    row("tcp_repair", Level::Tcp, Kind::Signed, BOTH, [19, NO, NO, NO]),
    row("tcp_repair_options", Level::Tcp, Kind::Bytes, WRITE, [22, NO, NO, NO]),
    row("tcp_repair_queue", Level::Tcp, Kind::Signed, BOTH, [20, NO, NO, NO]),
    row("tcp_repair_window", Level::Tcp, Kind::Exactly(20), BOTH, [29, NO, NO, NO]),
    row("tcp_reusport_lb_numa", Level::Tcp, Kind::Signed, WRITE, [NO, NO, 1026, NO]),
    row("tcp_rto_max_ms", Level::Tcp, Kind::Millis, BOTH, [44, NO, NO, NO]),
    row("tcp_rto_min_us", Level::Tcp, Kind::Micros, BOTH, [45, NO, NO, NO]),
    row("tcp_rxt_conndroptime", Level::Tcp, Kind::Seconds, BOTH, [NO, 128, NO, NO]),
    row("tcp_rxt_findrop", Level::Tcp, Kind::Bool, BOTH, [NO, 0x100, NO, NO]),
    row("tcp_save_syn", Level::Tcp, Kind::Bool, BOTH, [27, NO, NO, NO]),
    row("tcp_saved_syn", Level::Tcp, Kind::Bytes, READ, [28, NO, NO, NO]),
    row("tcp_sendmoreacks", Level::Tcp, Kind::Bool, BOTH, [NO, 0x103, NO, NO]),
    row("tcp_stdurg", Level::Tcp, Kind::Bool, BOTH, [NO, NO, NO, 6]),
    row("tcp_syncnt", Level::Tcp, Kind::Int, BOTH, [7, NO, NO, NO]),
    row("tcp_thin_dupack", Level::Tcp, Kind::Bool, BOTH, [17, NO, NO, NO]),
    row("tcp_thin_linear_timeouts", Level::Tcp, Kind::Bool, BOTH, [16, NO, NO, NO]),
    row("tcp_timestamp", Level::Tcp, Kind::Int, BOTH, [24, NO, NO, NO]),
    row("tcp_timestamps", Level::Tcp, Kind::Bool, BOTH, [NO, NO, NO, 10]),
    row("tcp_tx_delay", Level::Tcp, Kind::Micros, BOTH, [37, NO, NO, NO]),
    row("tcp_ulp", Level::Tcp, Kind::Text, BOTH, [31, NO, NO, NO]),
    row("tcp_user_timeout", Level::Tcp, Kind::Millis, BOTH, [18, NO, NO, NO]),
    row("tcp_window_clamp", Level::Tcp, Kind::Int, BOTH, [10, NO, NO, NO]),
    row("udp_checksum_coverage", Level::Udp, Kind::Int, BOTH, [NO, NO, NO, 20]),
    row("udp_cork", Level::Udp, Kind::Bool, BOTH, [1, NO, NO, NO]),
    row("udp_encap", Level::Udp, Kind::Int, BOTH, [100, NO, 1, NO]),
    row("udp_gro", Level::Udp, Kind::Bool, BOTH, [104, NO, NO, NO]),
    row("udp_no_check6_rx", Level::Udp, Kind::Bool, BOTH, [102, NO, NO, NO]),
    row("udp_no_check6_tx", Level::Udp, Kind::Bool, BOTH, [101, NO, NO, NO]),
    row("udp_nochecksum", Level::Udp, Kind::Bool, BOTH, [NO, NO, NO, 1]),
    row("udp_nocksum", Level::Udp, Kind::Bool, BOTH, [NO, 1, NO, NO]),
    row("udp_recv_max_coalesced_size", Level::Udp, Kind::Int, BOTH, [NO, NO, NO, 3]),
    row("udp_segment", Level::Udp, Kind::Int, BOTH, [103, NO, NO, NO]),
    row("udp_send_msg_size", Level::Udp, Kind::Int, BOTH, [NO, NO, NO, 2]),
];

/// What this system has by that name, and its number.
pub fn find(name: &str) -> Option<(&'static Row, i32)> {
    let rows = &TABLE[TABLE.partition_point(|row| row.name < name)..];
    rows.iter().take_while(|row| row.name == name).find_map(|row| Some((row, row.number()?)))
}

/// What this system has.
pub fn table() -> impl Iterator<Item = &'static Row> {
    TABLE.iter().filter(|row| row.number().is_some())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{Ipv4Addr, SocketAddrV4};
    use std::time::Duration;

    use socket2::{Domain, SockAddr, Socket, Type};

    use super::*;
    use crate::sys;

    // The headers' numbers, as far as the crates that bind them have them, which the compiler compares: it takes no such
    // system to find one that is wrong.
    const _: () = {
        let (mut row, mut header) = (0, 0);
        while header < sys::HEADERS.len() {
            let (name, number) = sys::HEADERS[header];
            while TABLE[row].numbers[sys::SYSTEM] == NO || !same(TABLE[row].name, name) {
                row += 1;
                assert!(row < TABLE.len(), "a name of the headers is not in the table, or not in order");
            }
            assert!(TABLE[row].numbers[sys::SYSTEM] == number, "a number is not that of the headers");
            header += 1;
        }
    };

    const fn same(one: &str, other: &str) -> bool {
        let (one, other) = (one.as_bytes(), other.as_bytes());
        let mut i = 0;
        while i < one.len() && i < other.len() && one[i] == other[i] {
            i += 1;
        }
        i == one.len() && i == other.len()
    }

    fn set(socket: &Socket, name: &str, value: &[u8]) {
        let (row, number) = find(name).unwrap();
        sys::setsockopt(socket, sys::level(row.level), number, value).expect(name);
    }

    fn get(socket: &Socket, name: &str) -> Vec<u8> {
        let (row, number) = find(name).unwrap();
        let mut value = [0; 64];
        let length = sys::getsockopt(socket, sys::level(row.level), number, &mut value).expect(name);
        value[..length].to_vec()
    }

    /// What some system alone has is in `sys::SWITCHES`.
    #[test]
    fn switches_differ_are_set_and_read_back() {
        let everywhere = ["so_broadcast", "so_keepalive", "tcp_nodelay", "ip_multicast_loop", "ipv6_v6only"];
        for name in everywhere.iter().chain(sys::SWITCHES) {
            let (domain, kind) = match name.split('_').next() {
                Some("ip") => (Domain::IPV4, Type::DGRAM),
                Some("ipv6") => (Domain::IPV6, Type::DGRAM),
                _ if *name == "so_broadcast" => (Domain::IPV4, Type::DGRAM),
                _ => (Domain::IPV4, Type::STREAM),
            };
            let socket = Socket::new(domain, kind, None).unwrap();
            let is_on = || get(&socket, name).iter().any(|&byte| byte != 0);
            let before = is_on();
            for on in [!before, before] {
                set(&socket, name, &i32::from(on).to_ne_bytes());
                assert_eq!(is_on(), on, "{name}");
            }
        }
    }

    #[test]
    fn times_and_lingering_lie_as_the_system_has_them() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let time = Duration::from_millis(1500);
        set(&socket, "so_rcvtimeo", &sys::time(time));
        assert_eq!(sys::read_time(&get(&socket, "so_rcvtimeo")), time);
        assert_eq!(socket.read_timeout().unwrap(), Some(time));
        for linger in [Some(Duration::from_secs(7)), Some(Duration::ZERO), None] {
            set(&socket, "so_linger", &sys::linger(linger));
            assert_eq!(sys::read_linger(&get(&socket, "so_linger")), linger);
            assert_eq!(socket.linger().unwrap(), linger);
        }
    }

    #[test]
    fn interface_of_multicasts_is_that_of_an_address() {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        for address in [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST] {
            set(&socket, "ip_multicast_if", &sys::interface(address, 0));
            assert_eq!(get(&socket, "ip_multicast_if")[..4], address.octets());
        }
    }

    /// A receiver of multicasts, and a sender to it.
    struct Multicasts(Socket, Socket);

    impl Multicasts {
        fn new((address, index): (Ipv4Addr, u32)) -> Multicasts {
            let any_port = |host| SockAddr::from(SocketAddrV4::new(host, 0));
            let (receiver, sender) =
                (Socket::new(Domain::IPV4, Type::DGRAM, None), Socket::new(Domain::IPV4, Type::DGRAM, None));
            let (receiver, sender) = (receiver.unwrap(), sender.unwrap());
            receiver.bind(&any_port(Ipv4Addr::UNSPECIFIED)).unwrap();
            receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            sender.bind(&any_port(Ipv4Addr::LOCALHOST)).unwrap();
            set(&sender, "ip_multicast_if", &sys::interface(address, index));
            Multicasts(receiver, sender)
        }

        fn does(&self, name: &str, encode: impl Fn(i32) -> (i32, Vec<u8>)) -> bool {
            let (row, number) = find(name).unwrap();
            let (number, value) = encode(number);
            sys::setsockopt(&self.0, sys::level(row.level), number, &value).is_ok()
        }

        /// Whether what is sent to the group comes, before what is sent to the receiver itself.
        fn come(&self, group: Ipv4Addr) -> bool {
            let port = self.0.local_addr().unwrap().as_socket().unwrap().port();
            for (host, text) in [(group, "group"), (Ipv4Addr::LOCALHOST, "itself")] {
                self.1.send_to(text.as_bytes(), &SocketAddrV4::new(host, port).into()).unwrap();
            }
            let receive = || {
                let mut text = [0; 10];
                let length = (&self.0).read(&mut text).unwrap();
                text[..length].to_vec()
            };
            let first = receive();
            first == b"group" && receive() == b"itself"
        }
    }

    /// The tests of groups name the interface in each way that there is. Some cannot pass under Wine, which are ignored on
    /// Windows: on one that is real they are run with `--include-ignored`.
    mod by_address {
        use super::*;

        #[test]
        fn group_is_joined_once_and_a_source_blocked() {
            joins_a_group_once_and_blocks_a_source(sys::loopback()[0]);
        }

        #[test]
        fn source_is_joined_and_dropped() {
            joins_and_drops_a_source(sys::loopback()[0]);
        }

        #[test]
        #[cfg_attr(windows, ignore = "Wine takes the source for the interface")]
        fn another_source_is_joined_on_the_same_interface() {
            joins_another_source(sys::loopback()[0]);
        }
    }

    mod by_index {
        use super::*;

        #[test]
        #[cfg_attr(windows, ignore = "Wine takes the interface of a group by address alone")]
        fn group_is_joined_once_and_a_source_blocked() {
            joins_a_group_once_and_blocks_a_source(sys::loopback()[1]);
        }

        #[test]
        #[cfg_attr(windows, ignore = "Wine takes the interface of a group by address alone")]
        fn source_is_joined_and_dropped() {
            joins_and_drops_a_source(sys::loopback()[1]);
        }

        #[test]
        #[cfg_attr(windows, ignore = "Wine takes the interface of a group by address alone")]
        fn another_source_is_joined_on_the_same_interface() {
            joins_another_source(sys::loopback()[1]);
        }
    }

    fn joins_a_group_once_and_blocks_a_source(interface: (Ipv4Addr, u32)) {
        let (group, source) = (Ipv4Addr::new(239, 1, 2, 9), Ipv4Addr::LOCALHOST);
        let multicasts = Multicasts::new(interface);
        let does = |name| multicasts.does(name, |number| sys::group(number, group, interface));
        let does_of = |name| multicasts.does(name, |number| sys::source(number, group, interface, source));
        for _ in 0..2 {
            assert!(does("ip_add_membership"), "{interface:?}");
            assert!(!does("ip_add_membership") && multicasts.come(group));
            assert!(does_of("ip_block_source") && !multicasts.come(group));
            assert!(does_of("ip_unblock_source") && multicasts.come(group));
            assert!(does("ip_drop_membership") && !multicasts.come(group));
            assert!(!does("ip_drop_membership"));
        }
    }

    fn joins_and_drops_a_source(interface: (Ipv4Addr, u32)) {
        let (multicasts, group, source) = (Multicasts::new(interface), [239, 1, 2, 10].into(), Ipv4Addr::LOCALHOST);
        let does = |name| multicasts.does(name, |number| sys::source(number, group, interface, source));
        assert!(does("ip_add_source_membership") && multicasts.come(group), "{interface:?}");
        assert!(does("ip_drop_source_membership") && !multicasts.come(group));
        assert!(!does("ip_drop_source_membership"));
    }

    fn joins_another_source(interface: (Ipv4Addr, u32)) {
        let (multicasts, group, source) = (Multicasts::new(interface), [239, 1, 2, 11].into(), [127, 0, 0, 9].into());
        let does = |name| multicasts.does(name, |number| sys::source(number, group, interface, source));
        assert!(does("ip_add_source_membership") && !multicasts.come(group), "{interface:?}");
        assert!(does("ip_drop_source_membership"));
    }

    #[test]
    fn names_are_sorted_and_each_is_there_once_for_a_system() {
        for pair in TABLE.windows(2) {
            let both = pair[0].numbers.iter().zip(pair[1].numbers).any(|(&one, other)| one != NO && other != NO);
            assert!(pair[0].name < pair[1].name || pair[0].name == pair[1].name && !both, "{}", pair[1].name);
        }
    }

    #[test]
    fn each_option_is_of_some_system_and_its_level_is_its_names() {
        for row in TABLE {
            assert!(row.numbers.iter().any(|&number| number != NO), "{}", row.name);
            assert!(row.readable || row.writable, "{}", row.name);
            let prefix = match row.level {
                Level::Socket => "so_",
                Level::Tcp => "tcp_",
                Level::Ip | Level::SolIp => "ip_",
                Level::Ipv6 => "ipv6_",
                Level::Udp => "udp_",
            };
            let netfilter = matches!(row.name, "so_original_dst" | "ip6t_so_original_dst");
            assert!(netfilter || row.name.starts_with(prefix), "{}", row.name);
        }
    }
}
