//! What is sent, by whom, to whom, how fast.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use netpoll::{
    netpoll::{ClientOptions, OnFull, Port, RemoteMac},
    wire::{
        MacAddr,
        template::{UdpFlow, UdpTemplate},
    },
};

use super::{clock::Clock, load::Load, outlet::Outlet, payload::Kind, replay::Replay, size::Sizes, source::Sources};

/// What is sent, by how many.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) what: What,
    pub(super) load: Load,
    /// What is due before this has passed is sent.
    pub(super) takes: Duration,
    /// Who is behind then gets so much longer.
    pub(super) catch_up: Duration,
    /// Frames at most.
    pub(super) count: Option<u64>,
    /// Streams: 0 to this.
    pub(super) streams: usize,
    pub(super) threads: usize,
    /// Streams are templates that share a client a thread.
    pub(super) raw: bool,
    pub(super) sources: Sources,
    pub(super) to: (Ipv4Addr, u16),
    pub(super) mac: RemoteMac,
    pub(super) clock: Clock,
    pub(super) run: u16,
}

/// The frames.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// Made here.
    Made { kind: Kind, sizes: Sizes },
    /// From a file; `recorded`: at its own times.
    Replay { replay: Arc<Replay>, recorded: bool },
}

/// Frames that all clients' rings hold together, about; and the least and most of one.
const RINGS_FRAMES: usize = 8192;
const RING_FRAMES: [usize; 2] = [4, 512];
/// Longest wait of a client for room in its ring.
const WAIT_FOR_ROOM: Duration = Duration::from_millis(50);

impl Plan {
    /// Frames that a client's ring holds.
    pub(super) fn ring_frames(&self) -> usize {
        let [least, most] = RING_FRAMES;
        (RINGS_FRAMES / self.clients()).clamp(least, most)
    }

    /// Clients of the engine.
    pub(super) fn clients(&self) -> usize {
        if self.raw { self.threads } else { self.streams }
    }

    /// How many of `count` frames each stream sends.
    pub(super) fn ends(&self, count: u64) -> Vec<u64> {
        let streams = self.streams as u64;
        (0..streams).map(|stream| count / streams + u64::from(stream < count % streams)).collect()
    }

    /// The streams of a thread: every so many-th.
    pub(super) fn streams_of(&self, thread: usize) -> impl Iterator<Item = usize> + Clone {
        (thread..self.streams).step_by(self.threads)
    }

    fn client(&self, name: String) -> ClientOptions {
        ClientOptions::new(name).ring_frames(self.ring_frames()).on_full(OnFull::Wait(WAIT_FOR_ROOM))
    }

    /// A thread's way out.
    pub(super) fn outlet(&self, port: &Arc<Port>, thread: usize) -> anyhow::Result<Outlet> {
        if !self.raw {
            let client = |stream| {
                let ((ip, from), (to, port_to)) = (self.sources.of(stream), self.to);
                let options = self.client(format!("stream{stream}"));
                port.setup(options.local(ip, from).remote(to, port_to).remote_mac(self.mac))
            };
            let clients = self.streams_of(thread).map(client).collect::<Result<_, _>>()?;
            return Ok(Outlet::Clients(clients));
        }
        let dst_mac = match self.mac {
            RemoteMac::Fixed(mac) => mac,
            RemoteMac::Arp => MacAddr::BROADCAST,
        };
        let template = |stream| {
            let ((src_ip, src_port), (dst_ip, dst_port)) = (self.sources.of(stream), self.to);
            UdpTemplate::new(&UdpFlow { src_mac: port.mac(), dst_mac, src_ip, dst_ip, src_port, dst_port })
        };
        let client = port.setup(self.client(format!("raw{thread}")))?;
        let templates = match self.what {
            What::Made { .. } => self.streams_of(thread).map(template).collect(),
            What::Replay { .. } => Vec::new(),
        };
        Ok(Outlet::Raw { client: Box::new(client), templates, frame: Vec::new(), ip_id: 0 })
    }
}

/// Whose turn it is: streams take frames in turn, and a thread has every so many-th stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turns {
    /// Streams of this thread, and of all.
    own: u64,
    streams: u64,
    thread: u64,
    threads: u64,
}

impl Turns {
    pub(super) fn new(plan: &Plan, thread: usize) -> Turns {
        let (own, streams) = (plan.streams_of(thread).count() as u64, plan.streams as u64);
        Turns { own, streams, thread: thread as u64, threads: plan.threads as u64 }
    }

    /// The number, among the frames of all threads, of this thread's frame number `number`.
    #[inline]
    pub(super) fn global(&self, number: u64) -> u64 {
        if self.own == self.streams {
            return number;
        }
        number / self.own * self.streams + number % self.own * self.threads + self.thread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(streams: usize, threads: usize) -> Plan {
        Plan {
            what: What::Made { kind: Kind::Udp, sizes: Sizes::one(64) },
            load: Load::Max,
            takes: Duration::MAX,
            catch_up: Duration::ZERO,
            count: None,
            streams,
            threads,
            raw: false,
            sources: Sources { ips: "10.0.0.1".parse().unwrap(), ports: "1-1000".parse().unwrap() },
            to: ([10, 0, 0, 2].into(), 9),
            mac: RemoteMac::Fixed(MacAddr::BROADCAST),
            clock: Clock::Monotonic,
            run: 1,
        }
    }

    #[test]
    fn each_stream_is_of_one_thread_and_ends_where_a_receiver_expects() {
        for (streams, threads, count) in [(1, 1, 5), (7, 3, 100), (8, 8, 3), (5, 2, 0)] {
            let plan = plan(streams, threads);
            let mut all: Vec<usize> = (0..threads).flat_map(|thread| plan.streams_of(thread)).collect();
            all.sort_unstable();
            assert_eq!(all, (0..streams).collect::<Vec<_>>());
            all.clear();
            let ends = plan.ends(count);
            assert_eq!(ends.iter().sum::<u64>(), count);
            for thread in 0..threads {
                // In turn, the first ones get one more: what a worker does.
                let own: Vec<u64> = plan.streams_of(thread).map(|stream| ends[stream]).collect();
                let (sum, len) = (own.iter().sum::<u64>(), own.len() as u64);
                let turns: Vec<u64> = (0..len).map(|n| sum / len + u64::from(n < sum % len)).collect();
                assert_eq!(own, turns);
                // All threads' numbers together are 0 to `count`, each once.
                let numbers = Turns::new(&plan, thread);
                all.extend((0..sum).map(|number| numbers.global(number) as usize));
            }
            all.sort_unstable();
            assert_eq!(all, (0..count as usize).collect::<Vec<_>>());
        }
    }

    #[test]
    fn rings_are_smaller_the_more_there_are() {
        assert_eq!((plan(1, 1).ring_frames(), plan(64, 1).ring_frames(), plan(10_000, 1).ring_frames()), (512, 128, 4));
        assert_eq!(Plan { raw: true, ..plan(10_000, 2) }.ring_frames(), 512);
    }
}
