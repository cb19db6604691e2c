//! How a run is going: a live line on a terminal, plain lines elsewhere, objects for machines.

use std::{
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::out::Out;

/// Between two lines where there is no terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(1);
/// Between two pictures on a terminal.
const LIVE_INTERVAL: Duration = Duration::from_millis(100);

/// A progress line of something that takes a known time.
#[derive(Debug)]
pub(super) struct Progress {
    out: Out,
    bar: Option<ProgressBar>,
    start: Instant,
    next: Instant,
}

impl Progress {
    /// Starts the clock.
    pub(super) fn new(out: Out, takes: Duration) -> Progress {
        let live = stderr().is_terminal() && !out.is_json();
        let bar = live.then(|| {
            let bar = ProgressBar::with_draw_target(Some(takes.as_millis() as u64), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{wide_bar:.} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
            bar
        });
        let start = Instant::now();
        Progress { out, bar, start, next: start + LIVE_INTERVAL }
    }

    /// When the next line is due.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Shows a line.
    pub(super) fn show(&mut self, text: &str, value: Value) {
        let interval = match &self.bar {
            Some(bar) => {
                bar.set_position(self.start.elapsed().as_millis() as u64);
                bar.set_message(text.to_owned());
                LIVE_INTERVAL
            }
            None if self.start.elapsed() < PLAIN_INTERVAL => PLAIN_INTERVAL,
            None => {
                self.out.progress(text, value);
                PLAIN_INTERVAL
            }
        };
        self.next = Instant::now() + interval;
    }

    /// Tells something for good, above the live line.
    pub(super) fn tell(&self, text: &str, value: Value) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => self.out.progress(text, value),
        }
    }

    /// Makes way for the result.
    pub(super) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
