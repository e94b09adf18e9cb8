"""Prints the page of socket options from the library's own table: python docs/make_options.py > docs/options.md"""

from sock import _sock

HEAD = """# Socket options

For `s.setopt(name, value)` and `s.getopt(name)`; `sock.options()` lists those of the running system. Names are the
system's, in lower case. What only another system has raises `not_supported`; a name that none has, `ValueError`.

| type | value |
|---|---|
| bool, int, str | as in Python |
| float | seconds; rounded up to what the system counts in |
| float or none | seconds, or None for none at all (`tcp_linger2`: no FIN-WAIT-2; `so_connect_time`: not connected) |
| linger | seconds as an int, or None for off |
| bytes | the system's structure as it is; of a filter its instructions |
| membership | (group, interface): the interface by name, index or (IPv4) address, or None for the system's choice |
| source membership | (group, interface, source): the interface as above |
| interface | by name, index or (`ip_multicast_if`) address |
| credentials | (pid, uid, gid) |
| ints, address | a list of ints; a `SockAddr` |
| descriptor | an int: a new file descriptor, for the caller to close |
| none | None: setting it does something |

A name begins with its level: `so_` is SOL_SOCKET, `tcp_`, `ip_`, `ipv6_` and `udp_` are those protocols. Two are of the
firewall: `so_original_dst` is of IP, `ip6t_so_original_dst` of IPv6, on Windows both of SOL_IP.

`ip_local_port_range` is the lowest port and, times 65,536, the highest. On Linux `tcp_linger2` is at most 120
seconds, and 0 the system's choice. `ip_multicast_if` reads as an address: 0.0.0.0 where it was set by a name or an
index.

`r`: can be read; `w`: can be set. Some need rights, or a certain kind or state of socket: the error says so.

| option | type | | systems |
|---|---|---|---|"""


def main() -> None:
    print(HEAD)
    for name, kind, readable, writable, systems in _sock.option_rows():
        print(f'| `{name}` | {kind} | {"r" * readable}{"w" * writable} | {", ".join(systems)} |')


if __name__ == '__main__':
    main()
