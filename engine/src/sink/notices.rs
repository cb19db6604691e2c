//! Notices of sources that are limited: from the hook, which may not log, by a ring to the writer, which does.
//!
//! They are limited themselves, since who forges sources makes them; what is hidden is counted and told.

use std::{
    net::Ipv6Addr,
    time::{Duration, Instant},
};

use super::batch::ADDR_BYTES;

/// What the writer is to tell. `src` as in an address column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// A source has begun to be limited.
    Begins { src: [u8; ADDR_BYTES] },
    /// It is not any more: from the first line that was dropped to the last it took `lasted_ns`.
    Ended { src: [u8; ADDR_BYTES], dropped: u64, lasted_ns: u64 },
}

/// Notices that wait for the writer, a hook.
pub(super) const RING: usize = 256;

/// Chooses which notices are told.
#[derive(Debug)]
pub(super) struct Notices {
    window_start: Instant,
    told: usize,
    hidden: u64,
}

impl Notices {
    const WINDOW: Duration = Duration::from_secs(10);
    /// Notices that are told in one window.
    const MOST: usize = 20;

    pub(super) fn new(now: Instant) -> Notices {
        Notices { window_start: now, told: 0, hidden: 0 }
    }

    /// The words for `notice`, if it is to be told.
    pub(super) fn take(&mut self, notice: Notice, now: Instant) -> Option<String> {
        if self.told == Self::MOST {
            // The window may be over: then `hidden` has room to be told first.
            if now.duration_since(self.window_start) < Self::WINDOW || self.hidden > 0 {
                self.hidden += 1;
                return None;
            }
        }
        self.next_window(now);
        self.told += 1;
        Some(words(notice))
    }

    /// Counts notices that found no room on their way here.
    pub(super) fn hide(&mut self, count: u64) {
        self.hidden += count;
    }

    /// What was hidden, once a window is over or, with `last`, at once.
    pub(super) fn hidden(&mut self, now: Instant, last: bool) -> Option<String> {
        let due = last || now.duration_since(self.window_start) >= Self::WINDOW;
        if self.hidden == 0 || !due {
            return None;
        }
        let hidden = std::mem::take(&mut self.hidden);
        self.next_window(now);
        Some(format!("{hidden} more notices of sources that are limited were hidden"))
    }

    fn next_window(&mut self, now: Instant) {
        if now.duration_since(self.window_start) >= Self::WINDOW {
            (self.window_start, self.told) = (now, 0);
        }
    }
}

fn words(notice: Notice) -> String {
    let ip = |src| Ipv6Addr::from(src).to_canonical();
    match notice {
        Notice::Begins { src } => format!("{} sends more than max_lines_per_source_per_s: lines are dropped", ip(src)),
        Notice::Ended { src, dropped, lasted_ns } => format!(
            "{} is not limited any more: {dropped} of its lines were dropped in {:.1} s",
            ip(src),
            lasted_ns as f64 / 1e9
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn src(last: u8) -> [u8; ADDR_BYTES] {
        crate::sink::batch::addr_bytes([10, 0, 0, last].into())
    }

    #[test]
    fn notices_are_few_and_what_is_hidden_is_told() {
        let start = Instant::now();
        let mut notices = Notices::new(start);
        let begins = |notices: &mut Notices, count: u8, now| {
            (0..count).filter_map(|last| notices.take(Notice::Begins { src: src(last) }, now)).collect::<Vec<_>>()
        };
        let told = begins(&mut notices, 50, start);
        assert_eq!(told.len(), 20);
        assert_eq!(told[7], "10.0.0.7 sends more than max_lines_per_source_per_s: lines are dropped");
        assert_eq!(notices.hidden(start, false), None, "not while the window lasts");
        notices.hide(5);
        let later = start + Notices::WINDOW;
        assert_eq!(
            notices.hidden(later, false).as_deref(),
            Some("35 more notices of sources that are limited were hidden")
        );
        assert_eq!(notices.hidden(later, true), None, "told once");
        assert_eq!(begins(&mut notices, 30, later).len(), 20, "a window of its own");
        assert!(notices.hidden(later, true).is_some_and(|text| text.starts_with("10 more")), "at the end at once");
        let ended = Notice::Ended { src: src(9), dropped: 1234, lasted_ns: 2_650_000_000 };
        assert_eq!(
            notices.take(ended, later + Notices::WINDOW).as_deref(),
            Some("10.0.0.9 is not limited any more: 1234 of its lines were dropped in 2.6 s")
        );
    }
}
