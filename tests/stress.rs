//! Every protocol between threads at once, by real threads on real cores: what the loom models show for two or three steps
//! at a time, here by the hundred thousand, with the ledgers as judges. `make sanitize` runs it under AddressSanitizer and
//! valgrind, where a hook that is called after its end, or a ring that is freed too soon, is an error of its own.
//!
//! `NETPOLL_STRESS` says how much of it, in percent (default 100: seconds).

#[path = "stress/clients.rs"]
mod clients;
#[path = "stress/sink.rs"]
mod sink;
mod support;

use std::sync::atomic::{AtomicBool, Ordering};

/// So many rounds, or what part of them `NETPOLL_STRESS` says.
fn rounds(of: u64) -> u64 {
    let percent = std::env::var("NETPOLL_STRESS").map_or(100, |n| n.parse().expect("NETPOLL_STRESS is a number"));
    (of * percent / 100).max(4)
}

/// Tells the threads that help that the others are through, by a panic too.
struct Through<'a>(&'a AtomicBool);

impl Drop for Through<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
