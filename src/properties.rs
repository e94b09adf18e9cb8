//! What holds for all sequences of steps, against models that are too simple to be wrong: `make fuzz` tries more of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use socket2::{Domain, Socket, Type};

use crate::address::{Address, Family};
use crate::options::{self, Kind, TABLE};
use crate::readiness::{Readiness, Snapshot};
use crate::sys;
use crate::timers::{Key, Timers};

#[derive(Clone, Debug)]
enum Timing {
    Add(u64),
    Reset(prop::sample::Index, u64),
    Remove(prop::sample::Index),
    Fire(u64),
    Drain,
}

fn timing() -> impl Strategy<Value = Timing> {
    let due = prop_oneof![0..20_u64, any::<u64>()];
    prop_oneof![
        6 => due.clone().prop_map(Timing::Add),
        2 => (any::<prop::sample::Index>(), due.clone()).prop_map(|(which, due)| Timing::Reset(which, due)),
        2 => any::<prop::sample::Index>().prop_map(Timing::Remove),
        2 => due.prop_map(Timing::Fire),
        1 => Just(Timing::Drain),
    ]
}

#[derive(Clone, Copy, Debug)]
enum Turn {
    Look,
    Event(bool),
    Drained,
    WouldBlock,
    Park(u8),
    Unpark,
    Claim,
    Release,
    Close,
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        4 => Just(Turn::Look),
        3 => any::<bool>().prop_map(Turn::Event),
        2 => Just(Turn::Drained),
        3 => Just(Turn::WouldBlock),
        4 => any::<u8>().prop_map(Turn::Park),
        1 => Just(Turn::Unpark),
        1 => Just(Turn::Claim),
        1 => Just(Turn::Release),
        1 => prop::bool::weighted(0.1).prop_map(|close| if close { Turn::Close } else { Turn::Look }),
    ]
}

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
}

/// Any at all, where the system has 64 bits for the seconds.
fn duration() -> impl Strategy<Value = Duration> {
    let seconds = prop_oneof![0..100_u64, 0..u64::from(u32::MAX), any::<u64>()];
    let seconds = seconds.prop_map(|s| if cfg!(target_pointer_width = "64") { s } else { s.min(i32::MAX as u64) });
    (seconds, 0..1_000_000_000_u32).prop_map(|(seconds, nanoseconds)| Duration::new(seconds, nanoseconds))
}

/// Names of options, and what is nearly one.
fn name() -> impl Strategy<Value = String> {
    let row = || (0..TABLE.len()).prop_map(|row| TABLE[row].name.to_owned());
    prop_oneof![
        2 => row(),
        1 => (row(), any::<prop::sample::Index>()).prop_map(|(name, at)| name[..at.index(name.len())].to_owned()),
        1 => (row(), "[a-z_ \0]{1,3}").prop_map(|(name, more)| name + &more),
        1 => row().prop_map(|name| name.to_uppercase()),
        1 => ".{0,40}",
    ]
}

/// A socket of one's own, of either family and kind, or an end of a pair; the other end goes with it.
fn of_its_own(which: usize) -> (Socket, Option<Socket>) {
    let (domain, kind) = [Domain::IPV4, Domain::IPV6]
        .into_iter()
        .flat_map(|domain| [(domain, Type::STREAM), (domain, Type::DGRAM)])
        .nth(which % 4)
        .expect("there are four");
    #[cfg(unix)]
    if which >= 4 {
        let (one, other) = Socket::pair(Domain::UNIX, kind, None).expect("a pair");
        return (one, Some(other));
    }
    // Not every machine has IPv6.
    let socket = Socket::new(domain, kind, None).or_else(|_| Socket::new(Domain::IPV4, kind, None));
    (socket.expect("a socket"), None)
}

proptest! {
    /// Against a sorted map from (when, which change) to values; each key that ever was is tried again at the end.
    #[test]
    fn timers_fire_as_a_sorted_list_does(steps in vec(timing(), 0..200)) {
        let mut timers = Timers::default();
        let mut model = BTreeMap::<(u64, usize), (Key, usize)>::new();
        let mut keys = Vec::<Key>::new();
        let entry = |model: &BTreeMap<(u64, usize), (Key, usize)>, key| {
            model.iter().find(|(_, known)| known.0 == key).map(|(&at, &known)| (at, known))
        };
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Timing::Add(due) => {
                    let key = timers.add(due, n);
                    prop_assert!(!keys.contains(&key), "a key is given once");
                    keys.push(key);
                    model.insert((due, n), (key, n));
                }
                Timing::Reset(which, due) if !keys.is_empty() => {
                    let key = keys[which.index(keys.len())];
                    let known = entry(&model, key);
                    prop_assert_eq!(timers.reset(key, due), known.is_some());
                    if let Some((at, value)) = known {
                        model.remove(&at);
                        model.insert((due, n), value);
                    }
                }
                Timing::Remove(which) if !keys.is_empty() => {
                    let key = keys[which.index(keys.len())];
                    let known = entry(&model, key);
                    prop_assert_eq!(timers.remove(key), known.map(|(_, (_, value))| value));
                    if let Some((at, _)) = known {
                        model.remove(&at);
                    }
                }
                Timing::Fire(now) => {
                    while let Some(fired) = timers.pop_due(now) {
                        let (at, first) = model.pop_first().expect("it had that many");
                        prop_assert!(at.0 <= now, "fired early");
                        prop_assert_eq!(fired, first);
                    }
                    prop_assert!(model.keys().next().is_none_or(|at| at.0 > now), "not fired");
                }
                Timing::Drain => {
                    let mut all = timers.drain();
                    all.sort_unstable();
                    let mut values: Vec<_> = std::mem::take(&mut model).into_values().map(|(_, value)| value).collect();
                    values.sort_unstable();
                    prop_assert_eq!(all, values);
                }
                Timing::Reset(..) | Timing::Remove(_) => {}
            }
            prop_assert_eq!(timers.len(), model.len());
            prop_assert_eq!(timers.is_empty(), model.is_empty());
            prop_assert_eq!(timers.next_due(), model.keys().next().map(|at| at.0));
        }
        for key in keys {
            prop_assert_eq!(timers.remove(key), entry(&model, key).map(|(_, (_, value))| value));
        }
    }

    /// Against four plain fields. What was seen before a call is as old as the steps make it.
    #[test]
    fn readiness_forgets_no_event_and_wakes_each_waiter_once(steps in vec(turn(), 0..200)) {
        let direction = Readiness::new();
        let (mut ready, mut ended, mut closed, mut claimed) = (true, false, false, false);
        let mut waiter = None;
        // What was seen last, and whether an event has come since.
        let mut seen: (Snapshot, bool) = (direction.snapshot(), false);
        for step in steps {
            match step {
                Turn::Look => seen = (direction.snapshot(), false),
                Turn::Event(ends) => {
                    // As the hub does: one that is no news leaves no trace, as a call that follows looks anew.
                    let woken = if direction.knows(ends) { None } else { direction.event(ends) };
                    prop_assert_eq!(woken, waiter.take());
                    (ready, ended, seen.1) = (true, ended || ends, true);
                }
                // By the operation that has it alone.
                Turn::Drained | Turn::WouldBlock if !claimed => {}
                Turn::Drained => {
                    direction.drained(seen.0);
                    if !seen.1 && !ended {
                        ready = false;
                    }
                }
                Turn::WouldBlock => {
                    direction.would_block(seen.0);
                    if !seen.1 {
                        (ready, ended) = (false, false);
                    }
                }
                Turn::Park(who) if waiter.is_none() => {
                    let parks = !ready && !closed;
                    prop_assert_eq!(direction.park(who), if parks { Ok(()) } else { Err(who) });
                    waiter = parks.then_some(who);
                }
                Turn::Park(_) => {}
                Turn::Unpark => prop_assert_eq!(direction.unpark(), waiter.take()),
                Turn::Claim => {
                    if !claimed {
                        seen = (direction.snapshot(), false);
                    }
                    prop_assert_eq!(direction.claim(1), !claimed);
                    claimed = true;
                }
                Turn::Release => {
                    direction.release();
                    claimed = false;
                }
                Turn::Close => {
                    prop_assert_eq!(direction.close(), waiter.take());
                    closed = true;
                }
            }
            prop_assert_eq!(direction.snapshot().is_ready(), ready);
            prop_assert_eq!(direction.snapshot().is_closed(), closed);
            prop_assert_eq!(direction.with_waiter(|&who| who), waiter);
        }
    }

    /// To text, to the OS and back.
    #[test]
    fn addresses_come_back_from_text_and_from_the_os(ip in ip(), port: u16, flow: u32, scope: u32) {
        let address = match ip {
            IpAddr::V4(ip) => Address::V4(SocketAddrV4::new(ip, port)),
            IpAddr::V6(ip) => Address::V6(SocketAddrV6::new(ip, port, flow, scope)),
        };
        prop_assert_eq!(Address::from_os(&address.to_os().unwrap()), Some(address.clone()));
        let written = if address.family() == Family::Inet6 { format!("{ip}%{scope}") } else { ip.to_string() };
        let read = Address::parse(&written, port).expect("what is written can be read");
        prop_assert_eq!((read.port(), read.to_string().contains(&ip.to_string())), (port, true));
        if flow == 0 || address.family() == Family::Inet {
            prop_assert_eq!(&read, &address);
        }
        prop_assert_eq!(read.is_wildcard(), ip.is_unspecified());
    }

    /// Unix keeps microseconds, Windows milliseconds, and no time ends early there.
    #[test]
    fn times_of_options_come_back_from_the_systems_bytes(time in duration()) {
        let kept = if cfg!(windows) {
            let milliseconds = time.as_nanos() / 1000;
            Duration::from_millis(milliseconds.div_ceil(1000).min(u32::MAX.into()) as u64)
        } else {
            Duration::new(time.as_secs(), time.subsec_micros() * 1000)
        };
        prop_assert_eq!(sys::read_time(&sys::time(time)), kept);
        prop_assert_eq!(sys::read_time(&sys::time(kept)), kept);
    }

    /// Whole seconds, as many as there is room for.
    #[test]
    fn linger_comes_back_from_the_systems_bytes(time in prop::option::of(duration())) {
        let most = if cfg!(windows) { u64::from(u16::MAX) } else { i32::MAX as u64 };
        let kept = time.map(|time| Duration::from_secs(time.as_secs().min(most)));
        prop_assert_eq!(sys::read_linger(&sys::linger(time)), kept);
    }

    #[test]
    fn any_bytes_are_a_time_and_a_linger_or_too_few(bytes in vec(prop_oneof![any::<u8>(), Just(0xFF)], 0..40)) {
        let time = sys::read_time(&bytes);
        prop_assert!(bytes.len() >= sys::time(time).len() || time == Duration::ZERO);
        let linger = sys::read_linger(&bytes);
        prop_assert!(bytes.len() >= sys::linger(linger).len() || linger.is_none());
    }

    /// Against a look at each row.
    #[test]
    fn text_is_an_option_of_this_system_by_that_name_or_none(name in name()) {
        let expected = TABLE.iter().find(|row| row.name == name && row.number().is_some());
        match (options::find(&name), expected) {
            (Some((row, number)), Some(expected)) => {
                prop_assert!(std::ptr::eq(row, expected));
                prop_assert_eq!(Some(number), expected.number());
            }
            (found, expected) => prop_assert!(found.is_none() && expected.is_none(), "{:?}", name),
        }
    }

    /// Taken or refused, and what is read lies within the room for it.
    #[test]
    fn any_bytes_are_set_as_any_option_and_what_is_read_fits(
        which in 0..6_usize,
        row: prop::sample::Index,
        bytes in vec(any::<u8>(), 0..300),
        room in 0..300_usize,
    ) {
        let rows: Vec<_> = options::table().collect();
        let row = rows[row.index(rows.len())];
        let number = row.number().expect("this system has it");
        let (socket, _other) = of_its_own(which);
        if row.writable {
            // Refused as well as taken: both are right.
            let _ = match row.kind {
                Kind::Filter => sys::attach_filter(&socket, number, &bytes),
                _ => sys::setsockopt(&socket, sys::level(row.level), number, &bytes),
            };
        }
        if row.readable && matches!(row.kind, Kind::Program) {
            let _ = sys::filter(&socket, number);
        } else if row.readable {
            const UNTOUCHED: u8 = 0xA5;
            let mut value = vec![UNTOUCHED; room + 64];
            if let Ok(length) = sys::getsockopt(&socket, sys::level(row.level), number, &mut value[..room]) {
                prop_assert!(length <= room, "{}: {} of {}", row.name, length, room);
            }
            prop_assert!(value[room..].iter().all(|&byte| byte == UNTOUCHED), "{}", row.name);
        }
    }

    #[test]
    fn no_text_is_more_than_an_address_or_none(text in ".{0,60}", port: u16) {
        if let Some(address) = Address::parse(&text, port) {
            let ip = text.split_once('%').map_or(&*text, |(ip, _)| ip);
            prop_assert!(ip.parse::<IpAddr>().is_ok() && address.port() == port);
        }
    }
}

/// Abstract names are Linux'.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod of_unix {
    use super::*;

    proptest! {
        #[test]
        fn names_of_unix_sockets_come_back_from_the_os_or_are_refused(name in vec(any::<u8>(), 0..130)) {
            let address = Address::Unix(name.clone().into());
            let path = name.first().is_some_and(|&first| first != 0);
            match address.to_os() {
                Ok(os) if !path || !name.contains(&0) => prop_assert_eq!(Address::from_os(&os), Some(address)),
                Ok(_) => prop_assert!(false, "a path with a zero byte in it would be another path"),
                Err(_) => prop_assert!(name.len() > 107 || path && name.contains(&0)),
            }
        }
    }
}
