//! What holds for all sequences of steps, against models that are too simple to be wrong: `make fuzz` tries more of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};

use proptest::collection::vec;
use proptest::prelude::*;

use crate::address::{Address, Family};
use crate::readiness::{Readiness, Snapshot};
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
                    prop_assert_eq!(direction.event(ends), waiter.take());
                    (ready, ended, seen.1) = (true, ended || ends, true);
                }
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

    #[cfg(any(target_os = "linux", target_os = "android"))]
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

    #[test]
    fn no_text_is_more_than_an_address_or_none(text in ".{0,60}", port: u16) {
        if let Some(address) = Address::parse(&text, port) {
            let ip = text.split_once('%').map_or(&*text, |(ip, _)| ip);
            prop_assert!(ip.parse::<IpAddr>().is_ok() && address.port() == port);
        }
    }
}
