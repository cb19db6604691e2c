//! The long run: mixed traffic and faults at random from a seed, the ledger exact whenever all is quiet.
//!
//! ```text
//! clients, come and go -> port a == rings == port b -> rx hook (stalls) -> sink on a small tmpfs (full) -> Parquet
//! stranger: bad frames, floods of ARP and ICMP -> rings -> port s          ports attached, detached: net_tap, net_null
//! ```
//! `make soak` runs it for `SECONDS`, ten minutes if not told; `make test` for a few seconds with a fixed seed. Rounds
//! of traffic and events, then a checkpoint: nothing moves, and every equation is compared, each side counted apart. At
//! the end: mbufs out = mbufs back, memory flat, no more descriptors than before.

#[path = "../engine/src/netpoll/filter/bad_frames.rs"]
mod bad_frames;
#[path = "soak/machine.rs"]
mod machine;
#[path = "soak/rig.rs"]
mod rig;
#[path = "soak/traffic.rs"]
mod traffic;

// The bad frames look for it here.
use netpoll::netpoll::filter::Reason;

use std::{
    env,
    time::{Duration, Instant},
};

use machine::{Folder, Use, is_root};
use rig::Rig;
use traffic::{Random, Totals};

/// Growth of resident memory that passes, from the most of the first third of checkpoints to the most of the last:
/// a sorted part of Parquet, some batches, and glibc's arenas of the threads that come and go. A leak of a byte a frame
/// is more in a minute.
const GROWTH_LIMIT_MIB: u64 = 64;
/// The same of open descriptors: files that are about to be closed.
const DESCRIPTORS_LIMIT: u64 = 6;

fn main() {
    // As the usual harness would: `cargo test other_name` and `--list` run nothing here.
    if env::args()
        .skip(1)
        .any(|argument| argument == "--list" || !argument.starts_with('-') && !"soak".contains(&argument))
    {
        return;
    }
    let number = |name: &str| {
        env::var(name)
            .ok()
            .filter(|text| !text.is_empty())
            .map(|text| text.parse::<u64>().unwrap_or_else(|_| panic!("{name}={text}: expected a whole number")))
    };
    let seconds = number("SOAK_SECONDS").unwrap_or(12);
    let seed = number("SOAK_SEED").unwrap_or(20_050_601);
    println!("soak: {seconds} s, seed {seed}: again with `make soak SECONDS={seconds} SEED={seed}`");
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
        used.push(Use::now());
        if told.elapsed() > Duration::from_secs(30) {
            told = Instant::now();
            println!("soak: {:.0} s, {} rounds, {totals}, {}", start.elapsed().as_secs_f64(), used.len(), Use::now());
        }
    }
    let rounds = used.len();
    rig.finish(&totals);
    let third = rounds.div_ceil(3);
    let (first, last) = (Use::most(&used[..third]), Use::most(&used[rounds - third..]));
    println!("soak: {rounds} rounds, {totals}; at most {first} in the first third, {last} in the last");
    assert!(last.resident_mib <= first.resident_mib + GROWTH_LIMIT_MIB, "memory grows: {first}, then {last}");
    assert!(last.descriptors <= first.descriptors + DESCRIPTORS_LIMIT, "descriptors grow: {first}, then {last}");
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
            3 => folder.fill_for(Duration::from_millis(100 + random.below(400)), totals),
            4 if is_root() => rig.tap(random, totals),
            4 | 5 => rig.null_port(random, totals),
            6 => rig.second_hook(totals),
            7 => rig.hook_again(totals),
            _ => rig.link_of_idle_clients(random, totals),
        }
    }
    totals.add(traffic.finish());
}
