//! What a run came to.

use std::fmt;
use std::time::Duration;

pub struct Report {
    /// In ns, one a message.
    latencies: Vec<u64>,
    bytes_each: u64,
    /// Messages that were sent again because nothing had come back for them.
    pub resent: u64,
    pub elapsed: Duration,
}

impl Report {
    /// `bytes_each`: how many bytes one message takes there and back.
    pub fn new(bytes_each: u64) -> Self {
        Report { latencies: Vec::with_capacity(1 << 16), bytes_each, resent: 0, elapsed: Duration::ZERO }
    }

    pub fn add(&mut self, latency: Duration) {
        self.latencies.push(latency.as_nanos() as u64);
    }

    pub fn summary(mut self) -> Summary {
        self.latencies.sort_unstable();
        let messages = self.latencies.len() as u64;
        let percentiles = (messages > 0).then(|| PER_MILLE.map(|rank| percentile(&self.latencies, rank)));
        Summary { messages, bytes: messages * self.bytes_each, elapsed: self.elapsed, percentiles, resent: self.resent }
    }
}

pub const MEGABYTE: u64 = 1_000_000;

/// Those latencies that are reported.
const PER_MILLE: [usize; 3] = [500, 990, 999];

/// Nearest rank, in us.
fn percentile(sorted: &[u64], per_mille: usize) -> f64 {
    let rank = (sorted.len() * per_mille).div_ceil(1000);
    sorted[rank.saturating_sub(1)] as f64 / 1e3
}

/// A line of JSON.
pub struct Summary {
    messages: u64,
    bytes: u64,
    elapsed: Duration,
    percentiles: Option<[f64; PER_MILLE.len()]>,
    resent: u64,
}

impl Summary {
    /// Of bytes in one direction: a message is a megabyte.
    pub fn of_stream(bytes: u64, elapsed: Duration) -> Self {
        Summary { messages: bytes / MEGABYTE, bytes, elapsed, percentiles: None, resent: 0 }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, p999] =
            self.percentiles.map_or(["null".to_owned(), "null".to_owned(), "null".to_owned()], |each| {
                each.map(|microseconds| format!("{microseconds:.1}"))
            });
        write!(
            f,
            r#"{{"messages": {}, "seconds": {:.6}, "bytes": {}, "p50_us": {p50}, "p99_us": {p99}, "p999_us": {p999}, "resent": {}}}"#,
            self.messages,
            self.elapsed.as_secs_f64(),
            self.bytes,
            self.resent,
        )
    }
}
