//! Sockets of the system in a hub, as operations use them: the same on every OS. The other side is the standard
//! library's, but for connecting.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Barrier;
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::*;
use crate::poller::tests::{Coroutine, coroutine, hub};
use crate::sys::OsAddress;
use crate::wait::{NEVER, Reason};

type Coroutines = Hub<Coroutine>;
type Socks = Arc<Source<Coroutine>>;

const PATIENCE: Duration = Duration::from_secs(20);

fn make(domain: socket2::Domain, kind: Type) -> Socks {
    let family = Family::from_domain(domain).unwrap();
    Arc::new(Source::new(Descriptor::make(domain, kind, None).unwrap(), kind, family, None))
}

fn tcp(address: &str) -> Socks {
    make(address.parse::<SocketAddr>().map(socket2::Domain::for_address).unwrap(), Type::STREAM)
}

fn udp() -> Socks {
    let source = make(socket2::Domain::IPV4, Type::DGRAM);
    source.lease().unwrap().with(|socket| socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into())).unwrap();
    source
}

fn address_of(source: &Socks) -> SocketAddr {
    source.lease().unwrap().with(Socket::local_addr).unwrap().as_socket().unwrap()
}

/// A connection over loopback: ours and the standard library's.
fn connection() -> (Socks, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let accepted = Socket::from(listener.accept().unwrap().0);
    accepted.set_nonblocking(true).unwrap();
    (Arc::new(Source::new(accepted, Type::STREAM, Family::Inet, None)), peer)
}

/// Leaves a coroutine in a direction until its next event, or the deadline. `false`: it is ready already.
fn parks(hub: &Arc<Coroutines>, source: &Socks, direction: Direction, who: &Coroutine, deadline: u64) -> bool {
    assert!(source.register(hub).unwrap());
    let (epoch, earliest) = who.wait().park(deadline, &hub.timers, || who.clone());
    if earliest {
        hub.rearm();
    }
    if source.direction(direction).park(Waiter { thread: who.clone(), epoch, since: 0 }).is_err() {
        who.wait().unpark();
        return false;
    }
    if who.wait().leave() {
        hub.push(who.clone());
    }
    true
}

/// Repeats a call until it does not say that it would block. `None`: the deadline passed first.
fn until<R>(
    hub: &Arc<Coroutines>,
    source: &Socks,
    direction: Direction,
    deadline: u64,
    mut call: impl FnMut(&Descriptor) -> io::Result<R>,
) -> Option<io::Result<R>> {
    let who = coroutine(hub, 0);
    let ready = source.direction(direction);
    assert!(ready.claim(1));
    let result = loop {
        let seen = ready.snapshot();
        match call(&source.lease().expect("it is open")) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.would_block(seen),
            result => break Some(result),
        }
        if parks(hub, source, direction, &who, deadline) {
            crate::poller::tests::next(hub);
            if who.wait().reason() == Reason::Expired {
                ready.unpark();
                break None;
            }
        }
    };
    ready.release();
    result
}

fn complete<R>(
    hub: &Arc<Coroutines>,
    source: &Socks,
    direction: Direction,
    call: impl FnMut(&Descriptor) -> io::Result<R>,
) -> io::Result<R> {
    until(hub, source, direction, NEVER, call).unwrap()
}

fn recv(descriptor: &Descriptor, buf: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is as long as it says.
    unsafe { descriptor.recv(buf.as_mut_ptr(), buf.len()) }
}

fn send(descriptor: &Descriptor, data: &[u8]) -> io::Result<usize> {
    // SAFETY: the data are as long as they say.
    unsafe { descriptor.send(data.as_ptr(), data.len()) }
}

fn receive(hub: &Arc<Coroutines>, source: &Socks) -> io::Result<Vec<u8>> {
    let mut buf = [0; 1000];
    complete(hub, source, Direction::Read, |descriptor| recv(descriptor, &mut buf)).map(|n| buf[..n].to_vec())
}

fn connect(hub: &Arc<Coroutines>, source: &Socks, to: SocketAddr) -> io::Result<()> {
    let mut begun = false;
    complete(hub, source, Direction::Write, |descriptor| {
        if !begun {
            begun = true;
            return if descriptor.connect(&to.into())? { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        connected(descriptor)
    })
}

fn connected(descriptor: &Descriptor) -> io::Result<()> {
    if descriptor.is_connected()? { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
}

fn connects_and_accepts(address: &str) {
    let hub = hub();
    let (listener, client) = (tcp(address), tcp(address));
    listener
        .lease()
        .unwrap()
        .with(|socket| {
            sys::listen_options(socket)?;
            socket.bind(&address.parse::<SocketAddr>().unwrap().into())?;
            socket.listen(16)
        })
        .unwrap();
    connect(&hub, &client, address_of(&listener)).unwrap();
    let (accepted, peer) = complete(&hub, &listener, Direction::Read, Descriptor::accept).unwrap();
    assert_eq!(peer.as_socket().unwrap(), address_of(&client));
    let server = Arc::new(Source::new(accepted, Type::STREAM, client.family(), None));
    assert_eq!(send(&client.lease().unwrap(), b"there").unwrap(), 5);
    assert_eq!(receive(&hub, &server).unwrap(), b"there");
    assert_eq!(send(&server.lease().unwrap(), b"back").unwrap(), 4);
    assert_eq!(receive(&hub, &client).unwrap(), b"back");
}

#[test]
fn tcp_over_ipv4_connects_accepts_and_carries_both_ways() {
    connects_and_accepts("127.0.0.1:0");
}

#[test]
fn tcp_over_ipv6_connects_accepts_and_carries_both_ways() {
    connects_and_accepts("[::1]:0");
}

#[test]
fn connect_where_nobody_listens_is_refused_and_the_socket_goes_on_where_it_can() {
    let hub = hub();
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let source = tcp("127.0.0.1:0");
    assert_eq!(connect(&hub, &source, dead).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    if !sys::RECONNECTS {
        assert!(source.renew().unwrap().is_none(), "nobody had bound it");
    }
    let live = TcpListener::bind("127.0.0.1:0").unwrap();
    connect(&hub, &source, live.local_addr().unwrap()).unwrap();
    assert_eq!(live.accept().unwrap().1, address_of(&source));
}

#[test]
fn fresh_socket_has_the_address_that_the_one_before_was_bound_to() {
    let source = tcp("127.0.0.1:0");
    source.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into(), false).unwrap();
    let (address, id) = (address_of(&source), source.lease().unwrap().raw());
    let bound = source.renew().unwrap().expect("it was bound");
    let now = source.lease().unwrap().with(Socket::local_addr).ok().and_then(|now| now.as_socket());
    assert!(now != Some(address), "it is a fresh one");
    source.bind(&bound, false).unwrap();
    assert_eq!(address_of(&source), address);
    assert!(cfg!(windows) || source.lease().unwrap().raw() == id);
}

/// A listener with a full backlog, and whom that is full of. On some systems it answers nobody else.
fn full() -> (Socket, Vec<Socks>) {
    let full = Socket::new(socket2::Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap();
    let queued: Vec<Socks> = (0..4).map(|_| tcp("127.0.0.1:0")).collect();
    for one in &queued {
        let _ = one.lease().unwrap().connect(&address);
    }
    (full, queued)
}

#[test]
fn look_before_a_connect_has_ended_finds_no_connection_and_is_woken_at_its_end() {
    let hub = hub();
    let (full, _queued) = full();
    let source = tcp("127.0.0.1:0");
    assert!(source.register(&hub).unwrap());
    let lease = source.lease().unwrap();
    assert!(!lease.connect(&full.local_addr().unwrap()).unwrap());
    for _ in 0..3 {
        assert!(!lease.is_connected().unwrap(), "nobody has answered");
    }
    let ours = address_of(&source);
    let accepts = thread::spawn(move || while full.accept().unwrap().1.as_socket() != Some(ours) {});
    complete(&hub, &source, Direction::Write, connected).unwrap();
    accepts.join().unwrap();
}

#[test]
fn connect_that_is_given_up_leaves_a_socket_that_connects() {
    let hub = hub();
    // Where somebody answers, the connect may be done, which must not matter.
    let (full, _queued) = full();
    let address = full.local_addr().unwrap();
    let source = tcp("127.0.0.1:0");
    let mut begun = false;
    until(&hub, &source, Direction::Write, crate::clock::now() + 10_000_000, |descriptor| {
        let done = !std::mem::replace(&mut begun, true) && descriptor.connect(&address)?;
        if done { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    });
    if !source.give_up_connect().unwrap() {
        assert!(source.renew().unwrap().is_none(), "nobody had bound it");
    }
    assert!(source.write.snapshot().is_ready(), "the next one would wait before it has begun");
    let live = TcpListener::bind("127.0.0.1:0").unwrap();
    connect(&hub, &source, live.local_addr().unwrap()).unwrap();
    let mut peer = live.accept().unwrap().0;
    peer.write_all(b"hello").unwrap();
    assert_eq!(receive(&hub, &source).unwrap(), b"hello");
}

#[test]
fn reset_of_the_peer_is_an_error_of_who_waits() {
    let hub = hub();
    let (source, peer) = connection();
    let resets = thread::spawn(move || {
        SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
    });
    assert_eq!(receive(&hub, &source).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    resets.join().unwrap();
}

#[test]
fn half_closed_connection_carries_the_other_way() {
    let hub = hub();
    let (source, mut peer) = connection();
    assert_eq!(send(&source.lease().unwrap(), b"the last").unwrap(), 8);
    source.shutdown(Shutdown::Write, &mut Vec::new()).unwrap();
    let mut got = Vec::new();
    peer.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"the last");
    peer.write_all(b"still").unwrap();
    assert_eq!(receive(&hub, &source).unwrap(), b"still");
    drop(peer);
    assert_eq!(receive(&hub, &source).unwrap(), b"");
}

#[test]
fn shutdown_of_reading_ends_the_read_of_who_waits() {
    let hub = hub();
    let (source, _peer) = connection();
    let mut shut = false;
    let got = complete(&hub, &source, Direction::Read, |descriptor| {
        let got = recv(descriptor, &mut [0; 10]);
        if !std::mem::replace(&mut shut, true) {
            // As another thread may at any time: between the call and the parking, too.
            let source = source.clone();
            thread::spawn(move || source.shutdown(Shutdown::Read, &mut Vec::new()).unwrap());
        }
        got
    });
    assert_eq!(got.unwrap(), 0);
}

#[test]
fn sender_waits_for_a_peer_that_does_not_read_and_loses_nothing() {
    const LEN: usize = 32 << 20;
    let data: Vec<u8> = (0..LEN).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect();
    let hub = hub();
    let (source, mut peer) = connection();
    let (full, is_full) = std::sync::mpsc::channel();
    let reads = thread::spawn(move || {
        is_full.recv_timeout(PATIENCE).expect("the sender never had to wait");
        let mut got = vec![0; LEN];
        peer.read_exact(&mut got).unwrap();
        got
    });
    let mut sent = 0;
    while sent < LEN {
        sent += complete(&hub, &source, Direction::Write, |descriptor| {
            send(descriptor, &data[sent..]).inspect_err(|_| {
                let _told_already = full.send(());
            })
        })
        .unwrap();
    }
    assert!(reads.join().unwrap() == data);
}

#[test]
fn deadline_ends_a_wait_not_early_and_leaves_the_socket_whole() {
    let hub = hub();
    let (source, mut peer) = connection();
    let deadline = sys::now() + 20_000_000;
    let mut buf = [0; 10];
    assert!(until(&hub, &source, Direction::Read, deadline, |descriptor| recv(descriptor, &mut buf)).is_none());
    assert!(sys::now() >= deadline);
    peer.write_all(b"later").unwrap();
    assert_eq!(receive(&hub, &source).unwrap(), b"later");
}

#[test]
fn waker_ends_a_wait_in_which_sockets_are_silent() {
    let hub = hub();
    let (source, _peer) = connection();
    assert!(source.register(&hub).unwrap());
    let waits = {
        let hub = hub.clone();
        thread::spawn(move || crate::poller::tests::next(&hub))
    };
    hub.push(coroutine(&hub, 9));
    assert_eq!(waits.join().unwrap(), 9);
}

#[test]
fn socket_moves_to_another_hub_when_nobody_waits() {
    let (one, other) = (hub(), hub());
    let (source, mut peer) = connection();
    for (hub, data) in [(&one, b"1"), (&other, b"2"), (&one, b"3")] {
        let deadline = sys::now() + 1_000_000;
        assert!(until(hub, &source, Direction::Read, deadline, |descriptor| recv(descriptor, &mut [0])).is_none());
        peer.write_all(data).unwrap();
        assert_eq!(receive(hub, &source).unwrap(), data);
    }
}

#[test]
fn socket_stays_in_the_hub_in_which_somebody_waits() {
    let (one, other) = (hub(), hub());
    let (source, _peer) = connection();
    source.read.begin_to_wait();
    assert!(parks(&one, &source, Direction::Read, &coroutine(&one, 0), NEVER));
    assert!(!source.register(&other).unwrap());
    source.close(&mut Vec::new());
}

#[test]
fn both_directions_come_to_a_hub_at_once_from_two_os_threads() {
    let hub = hub();
    for _ in 0..500 {
        let (source, _peer) = connection();
        let together = Barrier::new(2);
        thread::scope(|scope| {
            for direction in [Direction::Read, Direction::Write] {
                let (hub, source, together) = (&hub, &source, &together);
                scope.spawn(move || {
                    let who = coroutine(hub, 0);
                    source.direction(direction).begin_to_wait();
                    together.wait();
                    parks(hub, source, direction, &who, NEVER);
                });
            }
        });
        source.close(&mut Vec::new());
    }
}

#[test]
fn detached_descriptor_is_open_and_the_callers() {
    let (source, mut peer) = connection();
    let raw = source.detach(&mut Vec::new()).unwrap();
    assert!(source.is_closed());
    // SAFETY: it was given to us, open.
    let taken = unsafe { Descriptor::adopt(raw) }.unwrap();
    assert_eq!(taken.send(b"taken").unwrap(), 5);
    let mut got = [0; 5];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"taken");
}

#[test]
fn datagrams_keep_their_bounds_and_senders() {
    let hub = hub();
    let source = udp();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let to = OsAddress::new(&Address::parse("127.0.0.1", peer.local_addr().unwrap().port()).unwrap()).unwrap();
    for data in [&b"first"[..], b"", b"third"] {
        // SAFETY: the data are as long as they say.
        let sent = unsafe { source.lease().unwrap().send_to(data.as_ptr(), data.len(), Some(&to)) };
        assert_eq!(sent.unwrap(), data.len());
        let mut got = [0; 100];
        let (n, from) = peer.recv_from(&mut got).unwrap();
        assert_eq!((&got[..n], from), (data, address_of(&source)));
        peer.send_to(data, from).unwrap();
        let came = complete(&hub, &source, Direction::Read, |descriptor| {
            // SAFETY: the buffer is as long as it says.
            unsafe { descriptor.recv_from(got.as_mut_ptr(), got.len(), true) }
        })
        .unwrap();
        assert_eq!((&got[..came.len], came.truncated), (data, false));
        assert_eq!(came.from.unwrap().to_string(), peer.local_addr().unwrap().to_string());
    }
}

#[test]
fn datagram_that_does_not_fit_is_cut_and_says_so() {
    let hub = hub();
    let source = udp();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.send_to(b"longer", address_of(&source)).unwrap();
    peer.send_to(b"fits", address_of(&source)).unwrap();
    let mut got = [0; 4];
    for (data, truncated) in [(b"long", true), (b"fits", false)] {
        let came = complete(&hub, &source, Direction::Read, |descriptor| {
            // SAFETY: the buffer is as long as it says.
            unsafe { descriptor.recv_from(got.as_mut_ptr(), got.len(), true) }
        })
        .unwrap();
        assert_eq!((&got, came.truncated), (data, truncated));
    }
}

/// Several datagrams each way, the last but one of which does not fit; `each`: by a system call for each, on any OS.
fn several_datagrams(each: bool) {
    let hub = hub();
    let (here, there) = (udp(), udp());
    here.lease().unwrap().connect(&address_of(&there).into()).unwrap();
    let data: Vec<_> = [0, 1, 2, 9, 3].into_iter().map(|i| vec![i; usize::from(i)]).collect();
    let all: Vec<_> = data.iter().map(|one| (one.as_ptr(), one.len(), None)).collect();
    let lease = here.lease().unwrap();
    // SAFETY: each is as long as it says.
    let sent = unsafe { if each { lease.send_each(&all) } else { lease.send_many(&all) } };
    assert!(matches!(sent, Ok((5, None))));
    let mut buffers = vec![vec![0; 4]; 8];
    let mut came = Vec::new();
    while came.len() < 5 {
        let rooms: Vec<_> = buffers[came.len()..].iter_mut().map(|one| (one.as_mut_ptr(), one.len())).collect();
        let some = complete(&hub, &there, Direction::Read, |descriptor| {
            // SAFETY: each is as long as it says.
            unsafe { if each { descriptor.recv_each(&rooms) } else { descriptor.recv_many(&rooms) } }
        });
        came.extend(some.unwrap().0);
    }
    assert_eq!(came.len(), 5);
    for ((one, buffer), data) in came.iter().zip(&buffers).zip(&data) {
        assert_eq!(buffer[..one.len], data[..data.len().min(4)]);
        assert_eq!(one.truncated, data.len() > 4);
        assert_eq!(one.from.as_ref().unwrap().to_string(), address_of(&here).to_string());
    }
    // Only what concerns the first one is an error.
    let long = vec![0; 70_000];
    let wrong = [(data[4].as_ptr(), 3, None), (long.as_ptr(), long.len(), None), (data[4].as_ptr(), 3, None)];
    // SAFETY: each is as long as it says.
    let send = |wrong| unsafe { if each { lease.send_each(wrong) } else { lease.send_many(wrong) } };
    let (sent, failed) = send(&wrong).unwrap();
    // A call for all of them tells nothing of the second one.
    let told = each || !cfg!(any(target_os = "linux", target_os = "android"));
    assert_eq!((sent, failed.is_some()), (1, told));
    assert_ne!(send(&wrong[1..]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn several_datagrams_go_and_come_at_once() {
    several_datagrams(false);
}

#[test]
fn several_datagrams_go_and_come_one_by_one_where_the_system_has_no_call_for_all() {
    several_datagrams(true);
}

#[test]
fn failure_that_is_kept_is_told_once_and_wakes_who_waits_and_goes_with_the_socket() {
    let hub = hub();
    let source = udp();
    let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
    let mut stale = Vec::new();
    assert!(source.lease_unless_failed().is_some());
    source.read.begin_to_wait();
    source.keep_failure(refused(), &mut stale);
    assert!(source.read.snapshot().is_ready() && source.has_failure());
    assert!(source.lease_unless_failed().is_none(), "who would move a datagram tells it first");
    assert!(source.lease().is_some(), "options are not concerned");
    assert_eq!(source.take_failure().unwrap().kind(), io::ErrorKind::ConnectionRefused);
    assert!(source.take_failure().is_none());
    assert!(source.lease_unless_failed().is_some());
    // One that is kept holds up no end of the socket.
    source.keep_failure(refused(), &mut stale);
    let lease = source.lease().unwrap();
    assert!(source.close(&mut stale));
    assert!(!source.has_failure() && sys::number(lease.raw()) >= 0);
    drop(lease);
    assert!(source.is_closed() && source.lease().is_none());
    source.keep_failure(refused(), &mut stale);
    assert!(!source.has_failure());
    assert!(stale.is_empty());
    drop(hub);
}

/// The numbers by which the system tells of an ICMP error of an earlier datagram.
fn numbers_of_icmp(hub: &Arc<Coroutines>, dead: SocketAddr) -> Vec<i32> {
    if cfg!(windows) {
        // WSAECONNRESET of a port, WSAENETRESET of a time to live. Wine never tells them.
        return vec![10054, 10052];
    }
    let source = udp();
    source.lease().unwrap().connect(&dead.into()).unwrap();
    send(&source.lease().unwrap(), b"into the void").unwrap();
    vec![receive(hub, &source).unwrap_err().raw_os_error().unwrap()]
}

#[test]
fn icmp_error_of_an_earlier_datagram_is_of_a_connected_socket_alone_and_ends_none() {
    let hub = hub();
    let dead = address_of(&udp());
    let to = |address: SocketAddr| OsAddress::new(&Address::parse("127.0.0.1", address.port()).unwrap()).unwrap();
    for number in numbers_of_icmp(&hub, dead) {
        let failed = || io::Error::from_raw_os_error(number);
        let server = udp();
        let lease = server.lease().unwrap();
        assert!(lease.datagram_failure(failed()).is_none());
        assert_eq!(lease.datagram_failure(io::ErrorKind::WouldBlock.into()).unwrap().kind(), io::ErrorKind::WouldBlock);
        // SAFETY: the data are as long as they say.
        unsafe { lease.send_to(b"void".as_ptr(), 4, Some(&to(dead))).unwrap() };
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"ping", address_of(&server)).unwrap();
        let got = complete(&hub, &server, Direction::Read, |descriptor| {
            // What operations do: the call again, where it is nothing.
            let mut got = [0; 100];
            recv(descriptor, &mut got).or_else(|error| match lease.datagram_failure(error) {
                Some(error) => Err(error),
                None => recv(descriptor, &mut got),
            })
        });
        assert_eq!(got.unwrap(), 4);
        lease.connect(&client.local_addr().unwrap().into()).unwrap();
        let reported = lease.datagram_failure(failed()).unwrap();
        let far = number == 10052;
        let kind = if far { io::ErrorKind::HostUnreachable } else { io::ErrorKind::ConnectionRefused };
        assert_eq!(reported.kind(), kind);
        assert_eq!(send(&lease, b"pong").unwrap(), 4);
        assert_eq!(client.recv_from(&mut [0; 100]).unwrap(), (4, address_of(&server)));
    }
}

#[test]
fn several_os_threads_on_one_hub_serve_many_connections() {
    const CONNECTIONS: usize = 50;
    const MESSAGES: usize = 20;
    let hub = hub();
    let (sources, peers): (Vec<_>, Vec<_>) = (0..CONNECTIONS).map(|_| connection()).unzip();
    let sources = Arc::new(sources);
    let ended = Arc::new(AtomicUsize::new(0));
    for id in 0..CONNECTIONS {
        hub.push(coroutine(&hub, id));
    }
    let serve = {
        let hub = hub.clone();
        move || {
            while ended.load(Ordering::SeqCst) < CONNECTIONS {
                let Some(who) = hub.take() else {
                    hub.wait(sys::now() + 50_000_000, hub.interrupts()).unwrap();
                    continue;
                };
                who.wait().enter();
                let source = &sources[who.id()];
                let mut buf = [0; 100];
                loop {
                    // It has it already where it was left waiting.
                    assert!(source.read.claim(who.id() + 1) || source.read.claimant() == who.id() + 1);
                    let seen = source.read.snapshot();
                    let got = recv(&source.lease().unwrap(), &mut buf);
                    match got {
                        Ok(0) => {
                            ended.fetch_add(1, Ordering::SeqCst);
                            hub.interrupt();
                            break;
                        }
                        Ok(n) => {
                            source.read.release();
                            assert_eq!(send(&source.lease().unwrap(), &buf[..n]).unwrap(), n);
                        }
                        Err(error) => {
                            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                            source.read.would_block(seen);
                            if parks(&hub, source, Direction::Read, &who, NEVER) {
                                break;
                            }
                        }
                    }
                }
            }
        }
    };
    let servers: Vec<_> = (0..4).map(|_| thread::spawn(serve.clone())).collect();
    let clients: Vec<_> = peers
        .into_iter()
        .enumerate()
        .map(|(id, mut peer)| {
            thread::spawn(move || {
                for i in 0..MESSAGES {
                    let data = [(id * MESSAGES + i) as u8; 30];
                    peer.write_all(&data).unwrap();
                    let mut got = [0; 30];
                    peer.read_exact(&mut got).unwrap();
                    assert_eq!(got, data);
                }
            })
        })
        .collect();
    for each in clients.into_iter().chain(servers) {
        each.join().unwrap();
    }
}

/// What Windows has not: descriptors that are numbers, which anybody may close; an ICMP error at once, as Linux has it.
#[cfg(unix)]
mod of_unix {
    use std::time::Instant;

    use super::*;

    /// Of TCP and of a unix socket, until an option takes that away.
    #[test]
    fn read_that_ends_before_its_buffer_says_whether_there_is_more() {
        let (tcp, tcp_peer) = connection();
        let (ours, unix_peer) = Socket::pair(socket2::Domain::UNIX, Type::STREAM, None).unwrap();
        let unix: Socks = Arc::new(Source::new(ours, Type::STREAM, Family::Unix, None));
        for (source, peer) in [(tcp, Socket::from(tcp_peer)), (unix, unix_peer)] {
            let lease = source.lease().unwrap();
            assert!(source.read.claim(1));
            // How many bytes, and whether that was told to be all.
            let receive = |buf: &mut [u8]| {
                source.read.event(false);
                let seen = source.read.snapshot();
                // SAFETY: the buffer is as long as it says.
                let n = unsafe { until_there(|| lease.recv(buf.as_mut_ptr(), buf.len(), seen)) };
                (n, !source.read.snapshot().is_ready())
            };
            let comes = |room: usize| {
                peer.send(b"12345").unwrap();
                let mut buf = [0; 10];
                let got = receive(&mut buf[..room]);
                assert_eq!(&buf[..got.0], &b"12345"[..got.0]);
                got
            };
            assert_eq!(comes(10), (5, sys::SHORT_MEANS_DRAINED));
            assert_eq!(comes(5), (5, false));
            source.short_means_nothing();
            assert_eq!(comes(10), (5, false));
            peer.shutdown(std::net::Shutdown::Both).unwrap();
            assert_eq!(receive(&mut [0; 10]), (0, false));
        }
    }

    fn until_there<R>(mut call: impl FnMut() -> io::Result<R>) -> R {
        let begin = Instant::now();
        loop {
            match call() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && begin.elapsed() < PATIENCE => {
                    thread::yield_now();
                }
                got => return got.unwrap(),
            }
        }
    }

    /// A kqueue is not inherited: what has its numbers in the child is somebody else's.
    #[test]
    fn child_closes_no_number_of_a_poll_that_it_has_not() {
        let hub = hub();
        // SAFETY: the child makes system calls, drops the hub and is over.
        let child = unsafe { libc::fork() };
        if child == 0 {
            hub.set_forked();
            // SAFETY: as said; these take no pointers.
            unsafe {
                let others: Vec<_> = (0..16).map(|_| libc::dup(libc::STDIN_FILENO)).collect();
                drop(hub);
                let whole = others.iter().all(|&fd| libc::fcntl(fd, libc::F_GETFD) >= 0);
                libc::_exit(i32::from(!whole));
            }
        }
        let mut status = -1;
        // SAFETY: the child just made, and a place for how it ended.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
    }

    #[test]
    #[cfg(any(target_os = "linux", target_os = "android"))] // whose loopback tells of it before the call is over
    fn error_that_an_earlier_datagram_met_comes_out_where_a_later_one_goes_by_itself() {
        let dead = address_of(&udp());
        let source = udp();
        let lease = source.lease().unwrap();
        lease.connect(&dead.into()).unwrap();
        let all = [(b"void".as_ptr(), 4, None), (b"void".as_ptr(), 4, None), (b"void".as_ptr(), 4, None)];
        // SAFETY: each is as long as it says.
        let (sent, failed) = unsafe { lease.send_each(&all) }.unwrap();
        assert_eq!(sent, 1);
        assert_eq!(lease.datagram_failure(failed.unwrap()).unwrap().kind(), io::ErrorKind::ConnectionRefused);
    }

    /// Numbers are given from the lowest one on, so that no other test has got this one when it is closed again.
    #[test]
    fn descriptor_that_somebody_else_has_closed_does_not_end_the_program() {
        use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

        let made = Descriptor::make(socket2::Domain::IPV4, Type::STREAM, None).unwrap();
        // SAFETY: the number is open; the new one is the caller's alone.
        let number = unsafe { libc::fcntl(made.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 200) };
        assert!(number >= 200);
        // SAFETY: as above.
        let high = unsafe { OwnedFd::from_raw_fd(number) };
        let source: Socks = Arc::new(Source::new(high.into(), Type::STREAM, Family::Inet, None));
        // SAFETY: there is no call on it.
        assert_eq!(unsafe { libc::close(number) }, 0);
        assert!(source.close(&mut Vec::new()));
    }
}
