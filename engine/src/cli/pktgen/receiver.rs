//! The receiving side: an rx hook that reads stamps, and what it came to.

use std::sync::{Arc, Mutex, PoisonError};

use netpoll::{
    counters,
    netpoll::{
        ClientOptions, Netpoll, Port, RxFilter,
        hook::{HookSend, RxBurst, RxHook},
    },
};

use super::{
    clock::Clock,
    latency::Latency,
    payload::PATTERN,
    size::{wire_bits, with_payload},
    stamp::{BINARY_LEN, Form, Stamp},
    window::{Arrival, Window},
};

counters! {
    /// Where the datagrams that the hook was given ended: each in one of these.
    pub(super) struct RxCounters => RxStats {
        /// Ours, for the first time.
        received,
        /// Ours, and came before.
        duplicates,
        /// Ours, and so late that nobody can say whether it came before.
        too_old,
        /// Ours, beyond what the receiver was told to take.
        over_limit,
        /// Ours, but not as they were sent.
        corrupt,
        /// Of a stream that is not asked for.
        unknown_stream,
        /// Of another run of a generator.
        other_run,
        /// Not a generator's.
        unstamped,
    }
}

/// What a receiver looks for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Of this run; `None`: of the first that is seen.
    pub(super) run: Option<u16>,
    /// Streams 0 to this, this not.
    pub(super) streams: usize,
    /// Streams begin with the first number that comes, whatever it is.
    pub(super) joins_late: bool,
    /// Datagrams of ours that are taken at most.
    pub(super) limit: Option<u64>,
    /// Its time stamps are by this clock; `None`: of some time in the past.
    pub(super) clock: Option<Clock>,
}

/// All windows together, in bits: 8 MiB; and the least and most of one.
const WINDOWS_LEN: usize = 1 << 26;
const WINDOW_LENS: [usize; 2] = [64, 1 << 16];

/// A receiver at work. Its hook has all the state, and leaves it here when it goes.
pub(super) struct Receiving {
    np: Netpoll,
    counters: Arc<RxCounters>,
    left: Arc<Mutex<Option<Received>>>,
    wanted: Wanted,
}

/// What a receiver came to.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) stats: RxStats,
    windows: Box<[Window]>,
    /// Of those received: came after a frame that was sent later. And how many numbers behind at most.
    pub(super) reordered: u64,
    pub(super) furthest: u64,
    pub(super) latency: Latency,
    /// Of those received: their stamp is of a time still to come, so the two clocks are not the same.
    pub(super) from_the_future: u64,
    /// Of those received: bits on the wire.
    pub(super) wire_bits: u64,
    /// Of those received: when the first and the last came.
    first_ns: u64,
    last_ns: u64,
}

impl Receiving {
    /// Makes it the port's rx client.
    pub(super) fn start(port: &Arc<Port>, wanted: Wanted) -> anyhow::Result<Receiving> {
        let counters = Arc::<RxCounters>::default();
        let left = Arc::new(Mutex::new(None));
        let mut hook = Some(Hook::new(&wanted, &counters, &left));
        let make = move |_| -> Box<dyn RxHook> { Box::new(hook.take().expect("one queue")) };
        let np = port.setup_rx(ClientOptions::new("pktgen").ring_frames(1), RxFilter::default(), make)?;
        Ok(Receiving { np, counters, left, wanted })
    }

    /// How it is going.
    pub(super) fn stats(&self) -> RxStats {
        self.counters.snapshot()
    }

    /// Ends it. `ends`: how many each stream was to send, where that is known.
    pub(super) fn finish(self, ends: Option<&[u64]>) -> anyhow::Result<Received> {
        self.np.cleanup()?;
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut received = left.ok_or_else(|| anyhow::anyhow!("the receiver was lost; please report this"))?;
        if let Some(ends) = ends {
            debug_assert_eq!(ends.len(), self.wanted.streams);
            received.windows.iter_mut().zip(ends).for_each(|(window, end)| window.finish(*end));
        }
        Ok(received)
    }
}

impl Received {
    /// Numbers that were sent, as far as is known, and have not come.
    pub(super) fn missing(&self) -> u64 {
        self.windows.iter().map(Window::missing).sum()
    }

    /// Streams of which something came.
    pub(super) fn streams(&self) -> usize {
        self.windows.iter().filter(|window| !window.is_untouched()).count()
    }

    /// From the first frame to the last.
    pub(super) fn took_ns(&self) -> u64 {
        self.last_ns - self.first_ns
    }
}

impl RxStats {
    /// All that the hook was given.
    pub(super) fn delivered(&self) -> u64 {
        self.iter().map(|(_, _, count)| count).sum()
    }

    /// Frames of ours that came, each once, as far as can be told.
    pub(super) fn arrived(&self) -> u64 {
        self.received + self.over_limit + self.corrupt
    }
}

struct Hook {
    run: Option<u16>,
    joins_late: bool,
    clock: Option<Clock>,
    /// Datagrams that are still taken.
    takes: u64,
    counters: Arc<RxCounters>,
    /// Taken when the hook goes.
    received: Option<Received>,
    left: Arc<Mutex<Option<Received>>>,
}

impl Hook {
    fn new(wanted: &Wanted, counters: &Arc<RxCounters>, left: &Arc<Mutex<Option<Received>>>) -> Hook {
        let Wanted { run, streams, joins_late, limit, clock } = *wanted;
        let [least, most] = WINDOW_LENS;
        let len = (WINDOWS_LEN / streams.next_power_of_two()).clamp(least, most);
        let received = Received {
            stats: RxStats::default(),
            windows: vec![Window::new(len); streams].into(),
            reordered: 0,
            furthest: 0,
            latency: Latency::new(),
            from_the_future: 0,
            wire_bits: 0,
            first_ns: 0,
            last_ns: 0,
        };
        let (counters, left, takes) = (counters.clone(), left.clone(), limit.unwrap_or(u64::MAX));
        Hook { run, joins_late, clock, takes, counters, received: Some(received), left }
    }

    #[inline]
    fn take(&mut self, payload: &[u8], now_ns: u64) {
        let counters = &*self.counters;
        let Some(received) = &mut self.received else { return };
        let Some((stamp, form)) = Stamp::read(payload) else { return counters.unstamped.add(1) };
        if stamp.run != *self.run.get_or_insert(stamp.run) {
            return counters.other_run.add(1);
        }
        let Some(window) = received.windows.get_mut(stamp.stream as usize) else {
            return counters.unknown_stream.add(1);
        };
        if form == Form::Binary && !PATTERN.starts_with(&payload[BINARY_LEN..]) {
            return counters.corrupt.add(1);
        }
        if self.takes == 0 {
            return counters.over_limit.add(1);
        }
        self.takes -= 1;
        if self.joins_late && window.is_untouched() {
            window.start_at(stamp.seq);
        }
        match window.arrive(stamp.seq) {
            Arrival::InOrder => {}
            Arrival::Reordered(behind) => {
                received.reordered += 1;
                received.furthest = received.furthest.max(behind);
            }
            Arrival::Duplicate => return counters.duplicates.add(1),
            Arrival::TooOld => return counters.too_old.add(1),
        }
        if counters.received.get() == 0 {
            received.first_ns = now_ns;
        }
        received.last_ns = now_ns;
        counters.received.add(1);
        received.wire_bits += wire_bits(with_payload(payload.len()));
        match stamp.age_ns(now_ns) {
            _ if self.clock.is_none() => {}
            Some(age) => received.latency.record(age, 1),
            None => received.from_the_future += 1,
        }
    }
}

impl RxHook for Hook {
    fn rx_hook(&mut self, _: &dyn HookSend, burst: &RxBurst<'_>) {
        // Not the burst's own time: that was before its frames were looked for.
        let now_ns = self.clock.unwrap_or(Clock::Monotonic).now_ns();
        for datagram in burst.datagrams {
            self.take(datagram.payload(), now_ns);
        }
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        let stats = self.counters.snapshot();
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) =
            self.received.take().map(|received| Received { stats, ..received });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::pktgen::payload::{Kind, Moment};

    const RUN: u16 = 7;

    fn wanted(streams: usize) -> Wanted {
        Wanted { run: Some(RUN), streams, joins_late: false, limit: None, clock: Some(Clock::Monotonic) }
    }

    /// Gives a hook such `(run, stream, seq)`, each at a time of its own, and ends it.
    fn receive(wanted: Wanted, stamps: &[(u16, u32, u64)], ends: &[u64]) -> Received {
        let (counters, left) = (Arc::default(), Arc::default());
        let mut hook = Hook::new(&wanted, &counters, &left);
        for (at, (run, stream, seq)) in stamps.iter().enumerate() {
            let mut payload = vec![0; 40];
            let stamp = Stamp { run: *run, stream: *stream, seq: *seq, sent: 1000 * at as u64 };
            Kind::Udp.write(&stamp, Moment::default(), &mut payload);
            hook.take(&payload, 1000 * at as u64 + 250);
        }
        drop(hook);
        let mut received = left.lock().unwrap().take().unwrap();
        received.windows.iter_mut().zip(ends).for_each(|(window, end)| window.finish(*end));
        received
    }

    fn ours(seqs: &[u64]) -> Vec<(u16, u32, u64)> {
        seqs.iter().map(|seq| (RUN, 0, *seq)).collect()
    }

    #[test]
    fn loss_duplicates_and_reordering_to_the_frame() {
        // 10 sent: 3 and 9 lost, 5 twice, 6 overtaken by 7 and 8.
        let received = receive(wanted(1), &ours(&[0, 1, 2, 4, 5, 5, 7, 8, 6]), &[10]);
        assert_eq!(received.stats, RxStats { received: 8, duplicates: 1, ..RxStats::default() });
        assert_eq!((received.missing(), received.reordered, received.furthest), (2, 1, 2));
        assert_eq!((received.latency.count(), received.from_the_future), (8, 0));
        assert_eq!((received.took_ns(), received.wire_bits), (8000, 8 * wire_bits(86)));
    }

    #[test]
    fn each_stream_by_itself() {
        let stamps = [(RUN, 0, 0), (RUN, 1, 0), (RUN, 1, 1), (RUN, 0, 2), (RUN, 2, 0), (RUN + 1, 0, 1), (RUN, 0, 1)];
        let received = receive(wanted(2), &stamps, &[3, 4]);
        let expected = RxStats { received: 5, unknown_stream: 1, other_run: 1, ..RxStats::default() };
        assert_eq!(received.stats, expected);
        assert_eq!((received.missing(), received.reordered, received.streams()), (2, 1, 2));
        assert_eq!(received.stats.delivered(), 7);
    }

    #[test]
    fn a_stream_of_which_nothing_came_is_missing() {
        let received = receive(wanted(3), &ours(&[0]), &[1, 5, 0]);
        assert_eq!((received.stats.received, received.missing(), received.streams()), (1, 5, 2));
    }

    #[test]
    fn more_than_is_taken_is_missing_and_counted() {
        let received = receive(Wanted { limit: Some(3), ..wanted(1) }, &ours(&[0, 1, 1, 2, 3]), &[4]);
        assert_eq!(received.stats, RxStats { received: 2, duplicates: 1, over_limit: 2, ..RxStats::default() });
        assert_eq!(received.missing(), 2);
    }

    #[test]
    fn who_joins_late_takes_the_first_run_and_number() {
        let late = Wanted { run: None, joins_late: true, ..wanted(1) };
        let received = receive(late, &[(9, 0, 500), (9, 0, 502), (8, 0, 0)], &[]);
        assert_eq!(received.stats, RxStats { received: 2, other_run: 1, ..RxStats::default() });
        assert_eq!(received.missing(), 1);
    }

    #[test]
    fn strangers_and_broken_ones() {
        let (counters, left) = (Arc::default(), Arc::default());
        let mut hook = Hook::new(&wanted(1), &counters, &left);
        let mut payload = vec![0; 1472];
        let stamp = Stamp { run: RUN, ..Stamp::default() };
        Kind::Udp.write(&stamp, Moment::default(), &mut payload);
        hook.take(b"<14>another line", 5);
        hook.take(&payload[..BINARY_LEN - 1], 5);
        for at in BINARY_LEN..payload.len() {
            payload[at] ^= 1;
            hook.take(&payload, 5);
            payload[at] ^= 1;
        }
        // As it was, and longer than anything of ours.
        hook.take(&payload, 5);
        hook.take(&[0; 2000], 5);
        let stats = counters.snapshot();
        let corrupt = (payload.len() - BINARY_LEN) as u64;
        assert_eq!(stats, RxStats { received: 1, unstamped: 3, corrupt, ..RxStats::default() });
    }
}
