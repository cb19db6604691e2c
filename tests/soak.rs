//! The long run: mixed traffic and faults at random from a seed, the ledger exact whenever all is quiet.
//!
//! ```text
//! clients, come and go -> port a == rings == port b -> rx hook (stalls) -> sink on a small tmpfs (full) -> Parquet
//! stranger: bad frames, floods of ARP and ICMP -> rings -> port s          ports attached, detached: net_tap, net_null
//! ```
//! `make soak` runs it for `SECONDS`, ten minutes if not told; `make test` for a few seconds with a fixed seed. Rounds
//! of traffic and events, then a checkpoint: nothing moves, and every equation is compared, each side counted apart. At
//! the end: mbufs out = mbufs back, memory flat, no more descriptors than before.

#[path = "soak/asked.rs"]
mod asked;
#[path = "../engine/src/netpoll/filter/bad_frames.rs"]
mod bad_frames;
#[path = "soak/machine.rs"]
mod machine;
#[path = "soak/random.rs"]
mod random;
#[path = "soak/rig.rs"]
mod rig;
#[path = "soak/traffic.rs"]
mod traffic;

// The bad frames look for it here.
use netpoll::netpoll::filter::Reason;

use std::time::{Duration, Instant};

use asked::Asked;
use machine::{Folder, Use, is_root};
use random::Random;
use rig::Rig;
use traffic::Totals;

/// Growth that passes, from the most of the first third of checkpoints to the most of the last. Memory: a sorted part of
/// Parquet, some batches, and glibc's arenas of the threads that come and go; a leak of a byte a frame is more in a minute.
/// Descriptors: files that are about to be closed. Threads: those of the events under way.
const GROWTH_LIMIT: Use = Use { resident_mib: 64, descriptors: 6, threads: 4 };

fn main() {
    let Some(Asked { seconds, seed }) = Asked::of("soak", 12) else { return };
    let mut random = Random(seed);
    let folder = Folder::new();
    let mut rig = Rig::start(&folder);
    let mut totals = Totals::default();
    let mut used: Vec<Use> = Vec::new();
    let start = Instant::now();
    let mut told = start;
    while start.elapsed() < Duration::from_secs(seconds) || used.len() < 3 {
        round(&mut rig, &mut random, &mut totals, &folder);
        rig.checkpoint(&totals);
        used.push(Use::of("self"));
        if told.elapsed() > Duration::from_secs(30) {
            told = Instant::now();
            println!(
                "soak: {:.0} s, {} rounds, {totals}, {}",
                start.elapsed().as_secs_f64(),
                used.len(),
                Use::of("self")
            );
        }
    }
    let rounds = used.len();
    rig.finish(&totals);
    let (first, last) = Use::is_flat(&used, GROWTH_LIMIT);
    println!("soak: {rounds} rounds, {totals}; at most {first} in the first third, {last} in the last");
}

/// Traffic of a random shape, and one to three events while it runs.
fn round(rig: &mut Rig, random: &mut Random, totals: &mut Totals, folder: &Folder) {
    let traffic = rig.traffic(random);
    for _ in 0..=random.below(2) {
        std::thread::sleep(Duration::from_millis(random.below(150)));
        match random.below(9) {
            0 => rig.reload(random, totals),
            1 => rig.roll(totals),
            2 => rig.stall(random, totals),
            3 => {
                if folder.fill_for(Duration::from_millis(100 + random.below(400))) {
                    totals.event("disk full");
                }
            }
            4 if is_root() => rig.tap(random, totals),
            4 | 5 => rig.null_port(random, totals),
            6 => rig.second_hook(totals),
            7 => rig.hook_again(totals),
            _ => rig.link_of_idle_clients(random, totals),
        }
    }
    totals.add(traffic.finish());
}
