//! The long run of the program: `netpoll run` as a process with the kernel as its peer, and faults at random from a seed.
//!
//! ```text
//! UDP sockets, ping -> np0, a TAP      -> netpoll run -> text, taken away as it rolls   } on one small tmpfs
//!                   -> np1, a veth     ->             -> Parquet, and at times text     }
//! a closed port     <- np0             <-             <- a client that reads a FIFO
//! ```
//! `make soak` runs it for `SECONDS`, after the library's (`tests/soak.rs`). For the first half of the time the program is
//! also told to end, killed, and robbed of its TAP; the second half is one process, whose memory, descriptors and threads
//! must stay where they are. After each round nothing moves: what the kernel says of the TAP is what the program says.
//! Needs root; all of it lies in a network and a mount namespace that end with the test.

#[path = "soak/asked.rs"]
mod asked;
#[path = "soak/machine.rs"]
mod machine;
#[path = "soak_program/process.rs"]
mod process;
#[path = "soak/random.rs"]
mod random;
#[path = "soak_program/rig.rs"]
mod rig;
#[path = "soak_program/shipped.rs"]
mod shipped;
#[path = "soak_program/traffic.rs"]
mod traffic;

use std::time::{Duration, Instant};

use asked::Asked;
use machine::{Use, is_root};
use nix::sched::{CloneFlags, unshare};
use random::Random;
use rig::Rig;

/// Growth that passes within one process, from the most of its first third of rounds to the most of its last: a sorted
/// part of Parquet, files about to be closed, the threads of a text output that comes and goes.
const GROWTH_LIMIT: Use = Use { resident_mib: 64, descriptors: 6, threads: 2 };
/// Rounds in each half, however slow the machine.
const LEAST_ROUNDS: usize = 3;

fn main() {
    let Some(Asked { seconds, seed }) = Asked::of("soak_program", 12) else { return };
    if !is_root() {
        println!("SKIPPED soak_program: needs root, for namespaces, a TAP and a small tmpfs");
        return;
    }
    // Before there is any thread: they all live in these.
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("namespaces");
    machine::run("mount", "--make-rprivate /");
    // Shows the network namespace of who mounts it.
    machine::run("mount", "-t sysfs sysfs /sys");
    let mut random = Random(seed);
    let mut rig = Rig::start();
    let start = Instant::now();
    let half = Duration::from_secs(seconds) / 2;
    let mut rounds = 0;
    // Each way to end once at least, in an order of their own.
    let first = random.below(2);
    while start.elapsed() < half || rounds < LEAST_ROUNDS {
        rig.round(&mut random);
        rig.again((first + rounds as u64) % 3);
        rounds += 1;
    }
    let mut used: Vec<Use> = Vec::new();
    let mut told = Instant::now();
    while start.elapsed() < 2 * half || used.len() < LEAST_ROUNDS {
        rig.round(&mut random);
        used.push(rig.usage());
        if told.elapsed() > Duration::from_secs(30) {
            told = Instant::now();
            println!("soak_program: {:.0} s, {rig}", start.elapsed().as_secs_f64());
        }
    }
    rig.finish();
    let (first, last) = Use::is_flat(&used, GROWTH_LIMIT);
    println!("soak_program: {rig}");
    println!(
        "soak_program: {} rounds in one process; at most {first} in the first third, {last} in the last",
        used.len()
    );
}
