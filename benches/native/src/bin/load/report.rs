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

    /// Nearest rank, in us; 0 where there was no message.
    fn percentile(&self, sorted: &[u64], percent: usize) -> f64 {
        let rank = (self.latencies.len() * percent).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).map_or(0.0, |&nanoseconds| nanoseconds as f64 / 1e3)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let messages = self.latencies.len() as u64;
        write!(
            f,
            r#"{{"messages": {messages}, "seconds": {:.6}, "bytes": {}, "p50_us": {:.1}, "p99_us": {:.1}, "resent": {}}}"#,
            self.elapsed.as_secs_f64(),
            messages * self.bytes_each,
            self.percentile(&sorted, 50),
            self.percentile(&sorted, 99),
            self.resent,
        )
    }
}
