//! A disk that does not take what is written: told when that begins and when it is over, however many rows it costs.
//!
//! The ledger counts each row; this is for people. A disk that comes and goes is told of every ten seconds at most.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// What is wrong with one thing that a log does: writing, or syncing.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    begun: Option<Begun>,
    quiet_until: Option<Instant>,
    /// Troubles that were not told of since the last one that was.
    hidden: u64,
}

#[derive(Debug)]
struct Begun {
    at: Instant,
    told: bool,
    rows: u64,
}

impl Trouble {
    /// After one was told.
    const QUIET: Duration = Duration::from_secs(10);

    /// `rows` are lost to it. The words, if it begins with them and is to be told.
    pub(super) fn costs(&mut self, rows: u64, now: Instant, what: impl fmt::Display) -> Option<String> {
        if let Some(begun) = &mut self.begun {
            begun.rows += rows;
            return None;
        }
        let told = self.quiet_until.is_none_or(|until| now >= until);
        self.begun = Some(Begun { at: now, told, rows });
        if !told {
            self.hidden += 1;
            return None;
        }
        self.quiet_until = Some(now + Self::QUIET);
        match std::mem::take(&mut self.hidden) {
            0 => Some(what.to_string()),
            hidden => Some(format!("{what} ({hidden} times more since the last time that this was told)")),
        }
    }

    /// It works. The words, if it did not and that was told.
    #[inline]
    pub(super) fn is_over(&mut self, now: Instant) -> Option<String> {
        let Begun { at, told, rows } = self.begun.take()?;
        let lasted = now.duration_since(at).as_secs_f64();
        told.then(|| format!("works again after {lasted:.1} s; {rows} lines were dropped and counted meanwhile"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_at_its_begin_and_its_end() {
        let start = Instant::now();
        let mut trouble = Trouble::default();
        assert_eq!(trouble.is_over(start), None, "nothing was wrong");
        assert_eq!(trouble.costs(7, start, "it is full").as_deref(), Some("it is full"));
        let second = Duration::from_secs(1);
        assert_eq!(trouble.costs(5, start + second, "it is full"), None);
        let over = trouble.is_over(start + 2 * second);
        assert_eq!(over.as_deref(), Some("works again after 2.0 s; 12 lines were dropped and counted meanwhile"));
        assert_eq!(trouble.is_over(start + 3 * second), None, "once");
    }

    #[test]
    fn one_that_comes_and_goes_is_told_of_now_and_then() {
        let start = Instant::now();
        let mut trouble = Trouble::default();
        let mut told = Vec::new();
        for tenth in 0..205 {
            let now = start + Duration::from_millis(100) * tenth;
            told.extend(trouble.costs(1, now, "no"));
            trouble.is_over(now);
        }
        let again = "no (99 times more since the last time that this was told)";
        assert_eq!(told, ["no", again, again]);
    }
}
