//! `sock._sock`: the poll/register core of the Python library `sock`.
//!
//! The rooms at this level are plain Rust and test without Python; everything that Python sees is in `py`.

pub mod address;
pub mod chaos;
pub mod clock;
pub mod options;
mod poll;
pub mod poller;
pub mod readiness;
pub mod socket;
mod sync;
pub mod sys;
pub mod timers;
pub mod wait;

#[cfg(all(test, feature = "model"))]
mod model;
#[cfg(all(test, not(feature = "model")))]
mod properties;
#[cfg(feature = "python")]
mod py;
