//! Exact counts at the limit, against forged sources; notices in pairs.

use rtrb::{Consumer, RingBuffer};

use super::*;

const S: u64 = 1_000_000_000;

struct Bench {
    limit: SourceLimit,
    notices: Consumer<Notice>,
    hidden: Counter,
}

impl Bench {
    fn new(lines_per_s: u32) -> Bench {
        let (producer, notices) = RingBuffer::new(8 * LISTED);
        let keys = SourceKeys::fixed([0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03]);
        let limit = SourceLimit::keyed(producer, keys);
        let mut bench = Bench { limit, notices, hidden: Counter::default() };
        bench.limit.set_lines_per_s(lines_per_s, &bench.hidden);
        bench
    }

    fn line(&mut self, src: u32, now: u64) -> bool {
        self.limit.tick(now, &self.hidden);
        self.limit.allows(&addr(src), now, &self.hidden)
    }

    fn lines(&mut self, src: u32, count: usize, now: u64) -> usize {
        (0..count).filter(|_| self.line(src, now)).count()
    }

    fn told(&mut self) -> Vec<Notice> {
        std::iter::from_fn(|| self.notices.pop().ok()).collect()
    }
}

fn addr(src: u32) -> [u8; ADDR_BYTES] {
    crate::sink::batch::addr_bytes(std::net::Ipv4Addr::from(src).into())
}

#[test]
fn a_second_s_worth_at_once_and_then_the_rate() {
    let mut bench = Bench::new(100);
    assert_eq!(bench.lines(1, 250, 5 * S), 100);
    // Two seconds in steps of 1 ms, ten times what is permitted.
    let passed = (1..=2000).filter(|ms| bench.line(1, 5 * S + ms * 1_000_000)).count();
    assert_eq!(passed, 200);
    assert_eq!(bench.lines(1, 250, 60 * S), 100, "full again");
    assert_eq!(bench.lines(2, 100, 60 * S), 100, "another source has its own");
    bench.limit.set_lines_per_s(0, &bench.hidden);
    assert_eq!(bench.lines(1, 10_000, 60 * S), 10_000, "no limit");
}

#[test]
fn a_source_at_its_limit_loses_nothing() {
    for lines in [1, 3, 7, 1000, 999_999, 1_000_000_u32] {
        let mut bench = Bench::new(lines);
        let count = u64::from(lines.min(5000)) * 3;
        for n in 0..count {
            // Rounded up: never a nanosecond too early.
            assert!(bench.line(1, S + (n * S).div_ceil(lines.into())), "line {n} at {lines} a second");
        }
    }
}

#[test]
fn one_notice_when_it_begins_and_one_when_it_ends() {
    let mut bench = Bench::new(10);
    let src = addr(1);
    for step in 0..30 {
        bench.lines(1, 10, S + step * S / 10);
    }
    assert_eq!(bench.told(), [Notice::Begins { src }]);
    // 2.9 s at 100 lines a second: 300 less 10 at once and 29 since.
    bench.limit.tick(S + 29 * S / 10 + QUIET_NS - 1, &bench.hidden);
    assert_eq!(bench.told(), []);
    bench.limit.tick(S + 29 * S / 10 + QUIET_NS + SWEEP_NS, &bench.hidden);
    assert_eq!(bench.told(), [Notice::Ended { src, dropped: 261, lasted_ns: 28 * S / 10 }]);
    // Once more, and the limit is lifted meanwhile.
    bench.lines(1, 15, 100 * S);
    bench.limit.set_lines_per_s(20, &bench.hidden);
    assert_eq!(bench.told(), [Notice::Begins { src }, Notice::Ended { src, dropped: 5, lasted_ns: 0 }]);
    assert_eq!(bench.hidden.get(), 0);
}

#[test]
fn more_limited_sources_than_are_listed_are_limited_all_the_same_and_their_notices_counted() {
    let mut bench = Bench::new(1);
    let sources = 2 * LISTED as u32;
    for src in 1..=sources {
        assert_eq!(bench.lines(src, 5, S), 1, "{src}");
    }
    assert_eq!(bench.told().len(), LISTED);
    assert_eq!(bench.hidden.get(), LISTED as u64);
    bench.limit.tick(10 * S, &bench.hidden);
    let told = bench.told();
    assert_eq!(told.len(), LISTED);
    assert!(told.iter().all(|notice| matches!(notice, Notice::Ended { dropped: 4, .. })), "{told:?}");
    // The others' ends are noticed when they begin anew.
    for src in 1..=sources {
        bench.lines(src, 2, 20 * S);
    }
    assert_eq!(bench.hidden.get(), LISTED as u64 * 3, "their ends, and the beginnings that found no room");
}

/// Forged sources by the hundred thousand: who keeps within the limit loses nothing, who does not is limited as if they
/// were not there.
#[test]
fn forged_sources_neither_harm_the_quiet_nor_free_the_loud() {
    let mut bench = Bench::new(100);
    let (loud, mut passed, mut forged) = (0x0a00_0001_u32, 0, 0x6000_0000_u32);
    for ms in 0..3000_u64 {
        let now = S + ms * 1_000_000;
        for _ in 0..100 {
            forged += 1;
            assert!(bench.line(forged, now), "a forged source's one line");
        }
        passed += bench.lines(loud, 2, now);
        // 50 quiet ones, each at just its limit.
        for quiet in 0..50 {
            if (ms + quiet) % 10 == 0 {
                assert!(bench.line(0x0a00_0100 + quiet as u32, now));
            }
        }
    }
    // 100 at once, and 100 a second for 2.999 s.
    assert_eq!(passed, 100 + 299);
}

#[test]
fn nothing_allocates() {
    let mut bench = Bench::new(1);
    let allocated = allocation_counter::measure(|| {
        for src in 0..100_000 {
            bench.lines(src, 3, S + u64::from(src) * 10_000);
        }
    });
    assert_eq!(allocated.count_total, 0, "{allocated:?}");
    assert!(bench.hidden.get() > 0, "more were limited than are listed");
}
