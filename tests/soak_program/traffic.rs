//! The kernel's side: sockets that send, and ping.

use std::{
    net::UdpSocket,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::random::Random;

/// Streams of numbered lines, each from one socket; each stream's numbers only rise, over the whole run.
pub struct Traffic {
    next: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<()>>,
    pings: Vec<Child>,
    stop: Arc<AtomicBool>,
}

/// Streams to the TAP, then those to the veth.
pub const STREAMS: usize = 6;
/// Our ends and the program's, by stream.
pub fn ends(stream: usize) -> (&'static str, &'static str) {
    if stream < STREAMS / 2 { ("10.99.0.2", "10.99.0.1") } else { ("10.98.0.2", "10.98.0.1") }
}

impl Traffic {
    pub fn new() -> Traffic {
        let next = (0..STREAMS).map(|_| Arc::default()).collect();
        Traffic { next, threads: Vec::new(), pings: Vec::new(), stop: Arc::default() }
    }

    /// How many lines were sent, all in all.
    pub fn lines(&self) -> u64 {
        self.next.iter().map(|next| next.load(Ordering::Relaxed)).sum()
    }

    /// Some streams, some of them as fast as they can; at times a flood of pings beside them.
    pub fn start(&mut self, random: &mut Random) {
        self.stop.store(false, Ordering::Relaxed);
        for stream in 0..STREAMS {
            if random.below(3) > 0 {
                let (next, stop, random) = (self.next[stream].clone(), self.stop.clone(), Random(random.next()));
                self.threads.push(thread::spawn(move || send(stream, &next, &stop, random)));
            }
        }
        if random.below(1) == 0 {
            let to = ends(random.below(STREAMS as u64 - 1) as usize).1;
            let ping =
                Command::new("ping").args(["-f", "-q", "-c", "2000", "-w", "2", to]).stdout(Stdio::null()).spawn();
            self.pings.push(ping.expect("ping"));
        }
    }

    /// Ends it; nothing more leaves.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
        for mut ping in self.pings.drain(..) {
            // Told by its exit code: whether it got an answer to each. It need not.
            let _ = ping.kill();
            ping.wait().unwrap();
        }
    }
}

/// Lines of one stream until it is to stop; a link that is down costs lines, and that is all.
fn send(stream: usize, next: &AtomicU64, stop: &AtomicBool, mut random: Random) {
    let (from, to) = ends(stream);
    let Ok(socket) = UdpSocket::bind((from, 20_000 + stream as u16)) else { return };
    // A full queue of the device is no reason to wait.
    socket.set_nonblocking(true).unwrap();
    let flood = random.below(3) == 0;
    let port = if random.below(7) == 0 { 9 } else { 514 };
    let lines = if flood { 20_000 } else { 5000 };
    for sent in 0..lines {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let line = match number / 100 % 3 {
            0 => format!("6,{number},{},-;soak {stream} {number}", number * 10),
            1 => format!("<{}>1 2026-01-02T03:04:05Z host app {number} - - soak {stream} {number}", number % 192),
            _ => format!("<13>Jan  2 03:04:05 host app[{number}]: soak {stream} {number}"),
        };
        // No room, no link, or the answer of a closed port to an earlier one: what has left is counted by the device.
        let _ = socket.send_to(line.as_bytes(), (to, port));
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if sent % 16 == 0 && !flood {
            thread::sleep(Duration::from_micros(random.below(4000)));
        }
    }
}
