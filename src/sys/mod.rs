//! The operating systems. Every `cfg(target_os)` and every unsafe call of an OS lives in this folder; each side
//! supplies the same names:
//!
//! | name | what it is |
//! |---|---|
//! | `Descriptor` | a non-blocking socket: system calls, registering with mio, closing |
//! | `RawDescriptor` | the OS's own handle: `c_int` or `SOCKET` |
//! | `SHORT_MEANS_DRAINED` | a short read or write says that the next one would block |
//! | `RECONNECTS` | a TCP socket whose connect failed may connect again |
//! | `now` | monotonic nanoseconds |
//! | `number` | a descriptor as Python's number |
//! | `OPTIONS` | the socket options that not every OS has |
//! | `interface_index`, `os_str`, `unix_name` | names of interfaces and of unix sockets |
//! | `listen_options`, `bind_options` | what is set before bind so that every OS behaves alike |
//! | `SignalPipe` | bytes that a signal handler writes wake the poller |
//! | `is_transient_accept`, `is_not_connected`, `ALREADY_CONNECTED` | what an error number means |
//! | `poller_fd` | the number behind a registry: epoll, kqueue |

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::*;
#[cfg(windows)]
pub use windows::*;
