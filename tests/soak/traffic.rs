//! Who sends: clients that come and go, and a stranger with frames of its own.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use netpoll::{
    dpdk::DpdkQueue,
    netpoll::{ClientOptions, ClientStats, Netpoll, OnFull, Port},
    port::{Frame, PortIo},
};

use super::{
    bad_frames::{self, US_MAC},
    random::Random,
};

/// What was sent, and what happened.
#[derive(Default)]
pub struct Totals {
    pub clients: ClientStats,
    /// Frames of the stranger that went out.
    pub stranger: u64,
    events: BTreeMap<&'static str, u64>,
}

impl Totals {
    pub fn event(&mut self, name: &'static str) {
        *self.events.entry(name).or_default() += 1;
    }

    pub fn add(&mut self, sent: Sent) {
        sent.clients.iter().for_each(|client| self.clients.merge(client));
        self.stranger += sent.stranger;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (lines, sent) = (self.clients.submit.submitted, self.clients.sent.sent);
        write!(f, "{lines} lines ({sent} sent), {} frames of a stranger", self.stranger)?;
        self.events.iter().try_for_each(|(name, count)| write!(f, ", {count} {name}"))
    }
}

/// A round's traffic while it runs.
pub struct Traffic {
    clients: Vec<JoinHandle<ClientStats>>,
    stranger: JoinHandle<(Stranger, u64)>,
    back: Arc<Mutex<Option<Stranger>>>,
}

/// What it came to.
pub struct Sent {
    clients: Vec<ClientStats>,
    stranger: u64,
}

impl Traffic {
    pub fn start(
        random: &mut Random,
        port: &Arc<Port>,
        stranger: Stranger,
        back: Arc<Mutex<Option<Stranger>>>,
    ) -> Traffic {
        let clients = 1 + random.below(5);
        let clients = (0..clients).map(|number| {
            let random = Random(random.next());
            let options = ClientOptions::new(format!("client{number}"))
                .local([10, 99, 0, 1], 40_000 + number as u16)
                .remote([10, 99, 0, 2], if number % 2 == 0 { 514 } else { 6666 })
                .ring_frames(64 << (number % 4))
                .on_full(if number % 3 == 0 { OnFull::Drop } else { OnFull::Wait(Duration::from_millis(20)) });
            let client = port.setup(options).unwrap();
            thread::spawn(move || send_lines(client, number, random))
        });
        let clients = clients.collect();
        let seed = Random(random.next());
        Traffic { clients, stranger: thread::spawn(move || stranger.send(seed)), back }
    }

    /// Waits for its end.
    pub fn finish(self) -> Sent {
        let clients: Vec<_> = self.clients.into_iter().map(|thread| thread.join().unwrap()).collect();
        for stats in &clients {
            assert!(stats.balances() && stats.queued == 0, "a client's ledger: {stats:#?}");
        }
        let (stranger, sent) = self.stranger.join().unwrap();
        *self.back.lock().unwrap() = Some(stranger);
        Sent { clients, stranger: sent }
    }
}

/// Lines of one client: netconsole basic and extended, both syslogs, bytes that are none of these.
fn send_lines(mut client: Netpoll, number: u64, mut random: Random) -> ClientStats {
    let lines = random.below(4000);
    let pause = random.below(40);
    for seq in 0..lines {
        let text = random.next();
        let line = match (number + seq / 500) % 5 {
            0 => format!("6,{seq},{},-;netpoll soak {text:x}\n SUBSYSTEM=net\n", seq * 10).into_bytes(),
            1 => format!("<{}>1 2026-01-02T03:04:05Z host{number} app {seq} - - {text:x}", text % 192).into_bytes(),
            2 => format!("<13>Jan  2 03:04:05 host{number} app[{seq}]: {text:x}").into_bytes(),
            3 => format!("[ {seq}.{:06}] basic {text:x}\n", text % 1_000_000).into_bytes(),
            _ => (0..text % 1200).map(|place| (text >> (place % 56)) as u8).collect(),
        };
        // Refused or queued: either is counted.
        let _ = client.send(&line);
        if seq % 64 == 0 {
            thread::sleep(Duration::from_micros(pause * 50));
        }
    }
    client.cleanup().unwrap()
}

/// The other end of port s: frames as they are, and the answers to them.
pub struct Stranger {
    queue: DpdkQueue,
    /// Made for the port's address.
    frames: Vec<Vec<u8>>,
    pub answers: u64,
}

impl Stranger {
    pub fn new(queue: DpdkQueue, mac: [u8; 6]) -> Stranger {
        let mut frames: Vec<_> = bad_frames::bad_frames().into_iter().map(|(_, frame)| frame).collect();
        frames.push(bad_frames::good_frame());
        frames.push(bad_frames::good_arp());
        frames.push(bad_frames::good_echo());
        for frame in frames.iter_mut().filter(|frame| frame.len() >= 6 && frame[..6] == US_MAC) {
            frame[..6].copy_from_slice(&mac);
        }
        // A ring carries no empty mbuf further than a NIC would.
        frames.retain(|frame| !frame.is_empty());
        Stranger { queue, frames, answers: 0 }
    }

    /// A flood of one kind, or of all; how many went out.
    fn send(mut self, mut random: Random) -> (Stranger, u64) {
        let frames = 500 + random.below(8000);
        let kinds = self.frames.len() as u64;
        // Every second round: one kind only, the last two being ARP and ICMP.
        let flood = (random.below(1) == 0).then(|| kinds - 1 - random.below(3));
        let (mut sent, mut burst) = (0, Vec::with_capacity(32));
        while sent < frames {
            if self.queue.alloc(&mut burst, 32, false) == 0 {
                thread::sleep(Duration::from_micros(100));
            }
            for frame in &mut burst {
                let kind = flood.unwrap_or_else(|| random.below(kinds - 1));
                let bytes = &self.frames[kind as usize];
                frame.resize(bytes.len()).unwrap().copy_from_slice(bytes);
            }
            while !burst.is_empty() {
                sent += self.queue.tx_burst(&mut burst) as u64;
                self.take_answers();
                // The ring is full: the port is not polled faster.
                if !burst.is_empty() {
                    thread::sleep(Duration::from_micros(100));
                }
            }
        }
        (self, sent)
    }

    pub fn take_answers(&mut self) {
        let mut answers = Vec::with_capacity(32);
        while self.queue.rx_burst(&mut answers, 32) > 0 {
            self.answers += answers.len() as u64;
            answers.clear();
        }
    }
}
