//! What an error number means. Apple's and Windows' are plain numbers, so that what only these systems say is compiled
//! and tested on every other; where they are at home, the compiler compares them with the headers.

use std::io;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code)] // those that are not here are for the tests
enum System {
    Apple,
    Windows,
    /// Any other, by the numbers of its own headers.
    #[cfg(not(any(windows, target_vendor = "apple")))]
    Unix,
}

#[cfg(target_vendor = "apple")]
const HERE: System = System::Apple;
#[cfg(windows)]
const HERE: System = System::Windows;
#[cfg(not(any(windows, target_vendor = "apple")))]
const HERE: System = System::Unix;

/// Apple's numbers, `sys/errno.h`.
mod apple {
    pub const EPERM: i32 = 1;
    #[cfg(any(unix, test))]
    pub const EINVAL: i32 = 22;
    pub const EPROTOTYPE: i32 = 41;
    pub const ENOPROTOOPT: i32 = 42;
    pub const ENETDOWN: i32 = 50;
    pub const ENETUNREACH: i32 = 51;
    pub const ECONNABORTED: i32 = 53;
    pub const ECONNRESET: i32 = 54;
    #[cfg(any(unix, test))]
    pub const ENOTCONN: i32 = 57;
    pub const EHOSTDOWN: i32 = 64;
    pub const EHOSTUNREACH: i32 = 65;
    pub const EPROTO: i32 = 100;
    pub const EOPNOTSUPP: i32 = 102;
}

/// Windows' numbers, `winerror.h`.
mod windows {
    pub const ERROR_NETNAME_DELETED: i32 = 64;
    pub const WSAEINVAL: i32 = 10022;
    pub const WSAENETDOWN: i32 = 10050;
    pub const WSAECONNABORTED: i32 = 10053;
    pub const WSAECONNRESET: i32 = 10054;
    pub const WSAENOTCONN: i32 = 10057;
}

#[cfg(target_vendor = "apple")]
const _: () = assert!(
    apple::EPERM == libc::EPERM
        && apple::EINVAL == libc::EINVAL
        && apple::EPROTOTYPE == libc::EPROTOTYPE
        && apple::ENOPROTOOPT == libc::ENOPROTOOPT
        && apple::ENETDOWN == libc::ENETDOWN
        && apple::ENETUNREACH == libc::ENETUNREACH
        && apple::ECONNABORTED == libc::ECONNABORTED
        && apple::ECONNRESET == libc::ECONNRESET
        && apple::ENOTCONN == libc::ENOTCONN
        && apple::EHOSTDOWN == libc::EHOSTDOWN
        && apple::EHOSTUNREACH == libc::EHOSTUNREACH
        && apple::EPROTO == libc::EPROTO
        && apple::EOPNOTSUPP == libc::EOPNOTSUPP
);

#[cfg(windows)]
const _: () = {
    use windows_sys::Win32::Networking::WinSock as ws;
    assert!(
        windows::WSAEINVAL == ws::WSAEINVAL
            && windows::WSAENETDOWN == ws::WSAENETDOWN
            && windows::WSAECONNABORTED == ws::WSAECONNABORTED
            && windows::WSAECONNRESET == ws::WSAECONNRESET
            && windows::WSAENOTCONN == ws::WSAENOTCONN
    );
};

/// Errors of accept that concern one client, or the network, and not the listener (accept(2)).
pub fn is_transient_accept(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|number| concerns_one_client(number, HERE))
}

fn concerns_one_client(number: i32, system: System) -> bool {
    match system {
        System::Apple => matches!(
            number,
            apple::ECONNABORTED
                | apple::EPROTO
                | apple::EPERM
                | apple::ECONNRESET
                | apple::ENETDOWN
                | apple::ENOPROTOOPT
                | apple::EHOSTDOWN
                | apple::EHOSTUNREACH
                | apple::EOPNOTSUPP
                | apple::ENETUNREACH
        ),
        System::Windows => matches!(
            number,
            windows::WSAECONNRESET | windows::WSAECONNABORTED | windows::WSAENETDOWN | windows::ERROR_NETNAME_DELETED
        ),
        #[cfg(not(any(windows, target_vendor = "apple")))]
        System::Unix => {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            if number == libc::ENONET {
                return true;
            }
            matches!(
                number,
                libc::ECONNABORTED
                    | libc::EPROTO
                    | libc::EPERM
                    | libc::ECONNRESET
                    | libc::ENETDOWN
                    | libc::ENOPROTOOPT
                    | libc::EHOSTDOWN
                    | libc::EHOSTUNREACH
                    | libc::EOPNOTSUPP
                    | libc::ENETUNREACH
            )
        }
    }
}

/// A socket says that it has no peer.
#[cfg(any(unix, test))]
pub fn is_not_connected(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|number| says_no_peer(number, HERE))
}

#[cfg(any(unix, test))]
fn says_no_peer(number: i32, system: System) -> bool {
    match system {
        // macOS says EINVAL of a socket that is shut down both ways or whose peer has gone.
        System::Apple => matches!(number, apple::ENOTCONN | apple::EINVAL),
        System::Windows => matches!(number, windows::WSAENOTCONN | windows::WSAEINVAL),
        #[cfg(not(any(windows, target_vendor = "apple")))]
        System::Unix => matches!(number, libc::ENOTCONN | libc::EINVAL),
    }
}

/// What a failed send on a stream comes to.
#[cold]
#[cfg_attr(windows, allow(dead_code))]
pub fn failed_send(error: io::Error) -> io::Error {
    match error.raw_os_error().map(|number| (number, number_of_send(number, HERE))) {
        Some((told, meant)) if told != meant => io::Error::from_raw_os_error(meant),
        _ => error,
    }
}

fn number_of_send(number: i32, system: System) -> i32 {
    match (number, system) {
        // What macOS says while a connection is being torn down.
        (apple::EPROTOTYPE, System::Apple) => apple::ECONNRESET,
        _ => number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_goes_on_after_what_concerns_one_client_and_on_windows_after_a_deleted_netname() {
        for number in [64, 10050, 10053, 10054] {
            assert!(concerns_one_client(number, System::Windows), "{number}");
        }
        for number in [1, 42, 50, 51, 53, 54, 64, 65, 100, 102] {
            assert!(concerns_one_client(number, System::Apple), "{number}");
        }
        // No descriptor, no memory, no listener, "would block": these are not one client's.
        for number in [6, 10004, 10022, 10024, 10035, 10038, 10055] {
            assert!(!concerns_one_client(number, System::Windows), "{number}");
        }
        for number in [4, 9, 12, 22, 23, 24, 35, 38, 55] {
            assert!(!concerns_one_client(number, System::Apple), "{number}");
        }
    }

    #[test]
    fn send_that_fails_with_eprototype_was_reset_on_apple_alone() {
        assert_eq!(number_of_send(41, System::Apple), 54);
        assert_eq!(number_of_send(41, System::Windows), 41);
        // What is said for other reasons stays what it is: a pipe that is broken, "would block".
        for number in [32, 35, 54, 57] {
            assert_eq!(number_of_send(number, System::Apple), number);
        }
    }

    #[test]
    fn peer_that_is_not_there_is_told_in_two_ways() {
        for (numbers, system) in [([57, 22], System::Apple), ([10057, 10022], System::Windows)] {
            assert!(numbers.iter().all(|&number| says_no_peer(number, system)));
            assert!(!says_no_peer(54, system) && !says_no_peer(10054, system));
        }
    }

    #[test]
    fn error_of_this_system_is_judged_by_its_own_numbers() {
        let here = |kind: io::ErrorKind| {
            let numbers = 1..=20_000;
            numbers.map(io::Error::from_raw_os_error).filter(move |error| error.kind() == kind)
        };
        for kind in [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset] {
            assert!(here(kind).any(|error| is_transient_accept(&error)), "{kind:?}");
            assert!(here(kind).all(|error| failed_send(error).kind() == kind), "{kind:?}");
        }
        assert!(here(io::ErrorKind::NotConnected).any(|error| is_not_connected(&error)));
        assert!(!here(io::ErrorKind::WouldBlock).any(|error| is_transient_accept(&error)));
        // Linux' own EPROTOTYPE, of a wrong socket() call, is no reset.
        let told = io::Error::from_raw_os_error(91);
        assert_eq!(failed_send(told).raw_os_error(), Some(91));
        assert!(!is_transient_accept(&io::ErrorKind::ConnectionReset.into()), "no number of the OS");
    }
}
