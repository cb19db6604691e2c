//! The sender of bench/receivers.py: syslog lines, as many as the device takes or at a rate, from this lcore.
//!
//! Every line is one of its own: RFC 3164, 160 bytes, with a number that counts up from 0 in this process. The
//! device's word counts: a frame that `tx_burst` has not taken is offered again, so what is reported was sent.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use netpoll::{
    dpdk::{DpdkQueue, StartedPort},
    port::{Frame, PortIo},
    wire::{
        MacAddr,
        template::{UdpFlow, UdpTemplate},
    },
};

use super::{
    frames::{PEER, US},
    rig::{self, Arguments, BURST, Report, Result, Rig, Side},
};

/// Bytes of a line, as in the other rows of the sink.
pub const LINE: usize = 160;
/// Where its number is.
const NUMBER: std::ops::Range<usize> = 49..59;
const SOURCES: u16 = 8;
const SYSLOG: u16 = 514;

/// A line with the number 0.
pub fn line() -> Vec<u8> {
    let mut line = b"<134>Nov 23 14:16:59 host-17 service[4242]: line 0000000000 ".to_vec();
    line.extend((line.len()..LINE).map(|at| b'a' + (at % 26) as u8));
    line
}

/// What the lcore has while it sends.
struct Sender {
    queue: DpdkQueue,
    templates: Vec<UdpTemplate>,
    line: Vec<u8>,
    next: u64,
    frames: Vec<<DpdkQueue as PortIo>::Buf>,
}

pub struct Offer {
    sender: Arc<Mutex<Sender>>,
    started: StartedPort,
    /// Lines a second; 0: as many as the device takes.
    rate: u64,
}

impl Offer {
    pub fn new(rig: &Rig, arguments: &Arguments) -> Result<Self> {
        let (started, queue) = rig.start(arguments.text("device")?, arguments)?;
        let dst_mac: MacAddr = arguments.text("to")?.parse()?;
        let src_mac = queue.mac();
        let flow = |source| UdpFlow {
            src_mac,
            dst_mac,
            src_ip: PEER,
            dst_ip: US,
            src_port: 40_000 + source,
            dst_port: SYSLOG,
        };
        let templates = (0..SOURCES).map(|source| UdpTemplate::new(&flow(source))).collect();
        let sender = Sender { queue, templates, line: line(), next: 0, frames: Vec::with_capacity(BURST) };
        Ok(Offer { sender: Arc::new(Mutex::new(sender)), started, rate: arguments.number("rate", 0)? as u64 })
    }
}

impl Sender {
    /// Fills a burst of `count` lines.
    fn fill(&mut self, count: usize) {
        self.queue.alloc(&mut self.frames, count, false);
        for frame in &mut self.frames {
            let (mut rest, digits) = (self.next, &mut self.line[NUMBER]);
            for digit in digits.iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            let template = &self.templates[self.next as usize % self.templates.len()];
            let bytes = frame.resize(UdpTemplate::frame_len(LINE)).expect("an mbuf holds a line");
            template.emit(bytes, &self.line, self.next as u16).expect("the frame has the line's length");
            self.next += 1;
        }
    }

    /// Offers what it has until the device has taken it, or `end`.
    fn flush(&mut self, end: Instant) -> u64 {
        let mut sent = 0;
        while !self.frames.is_empty() {
            sent += self.queue.tx_burst(&mut self.frames) as u64;
            if Instant::now() >= end {
                break;
            }
        }
        sent
    }

    fn send(&mut self, slice: Duration, rate: u64) -> u64 {
        let start = Instant::now();
        let mut sent = 0;
        loop {
            let elapsed = start.elapsed();
            if elapsed >= slice {
                // What is filled goes out, or the numbers would have holes.
                return sent + self.flush(start + slice + Duration::from_secs(5));
            }
            let due = match rate {
                0 => BURST as u64,
                rate => ((u128::from(rate) * elapsed.as_nanos() / 1_000_000_000) as u64).saturating_sub(sent),
            };
            let ready = self.frames.len();
            let more = (due as usize).min(BURST).saturating_sub(ready);
            if more == 0 && ready == 0 {
                std::hint::spin_loop();
                continue;
            }
            self.fill(more);
            sent += self.flush(start + slice);
        }
    }
}

impl Side for Offer {
    fn run(&mut self, rig: &Rig, slice: Duration) -> Result<Report> {
        let result = Arc::new(Mutex::new(0));
        let (sender, rate, sent) = (self.sender.clone(), self.rate, result.clone());
        let start = Instant::now();
        let job = rig.launch(move || {
            *sent.lock().expect("written once") = sender.lock().expect("one job at a time").send(slice, rate);
        })?;
        rig::join(job)?;
        let frames = *result.lock().expect("written once");
        Ok(Report { frames, wall: start.elapsed(), more: Vec::new() })
    }

    fn finish(self: Box<Self>) -> Result<()> {
        drop(self.sender);
        // A packet socket's ring may hold the last frames; they are gone with it.
        self.started.close()?;
        Ok(())
    }
}
