//! One side of a comparison: the engine, doing one thing on one lcore for as long as it is told.
//!
//! `bench/compare.py` starts it as `side CASE [KEY=VALUE]...` beside `dpdk-testpmd` or another `side` and lets them
//! work in turns. Standard input says `run MILLISECONDS`, each answered by one line `frames=N wall_ns=M ...`; at its end
//! the ports are closed, the ledger is checked, and `exact` is the last word. Anything that does not balance is a
//! panic: no number without a ledger.
//!
//! The lcore that works is lcore 1, the main one is lcore 0, as in `dpdk-testpmd -l 0,1`. The work itself is the
//! library's: `PollLoop`, `Netpoll::send`, `Netpoll::poll`.

mod arp;
mod frames;
mod offer;
mod receive;
mod rig;
mod send;
#[cfg(feature = "store")]
mod spool;
mod spread;
mod wrappers;

use std::{
    error::Error,
    io::{BufRead, Write, stdin, stdout},
    time::Duration,
};

use rig::{Arguments, Rig, Side};

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo bench` and `cargo test --benches` start every bench with flags and without a case.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let Some((case, arguments)) = words.split_first() else {
        println!("started by bench/compare.py (`make bench`)");
        return Ok(());
    };
    let arguments = Arguments::parse(arguments)?;
    if case == "pcap" {
        return frames::write_pcap(&arguments);
    }
    let rig = Rig::new(&arguments)?;
    let mut side: Box<dyn Side> = match case.as_str() {
        "free" => Box::new(receive::Free::new(&rig, &arguments)?),
        "receive" => Box::new(receive::Receive::new(&rig, &arguments)?),
        "verified" => Box::new(receive::Receive::verified(&rig, &arguments)?),
        "loopback" => Box::new(receive::Receive::loopback(&rig, &arguments)?),
        "forward" => Box::new(receive::Free::loopback(&rig, &arguments)?),
        "echo" => Box::new(receive::Receive::echo(&rig, &arguments)?),
        "spread" => Box::new(spread::Spread::new(&rig, &arguments)?),
        "send" => Box::new(send::Send::new(&rig, &arguments)?),
        "stream" => Box::new(send::Stream::new(&rig, &arguments)?),
        "latency" => Box::new(send::Latency::new(&rig, &arguments)?),
        "offer" => Box::new(offer::Offer::new(&rig, &arguments)?),
        #[cfg(feature = "store")]
        "spool" => Box::new(spool::Spool::new(&rig, &arguments)?),
        #[cfg(feature = "store")]
        "write" => Box::new(spool::Write256k::new(&arguments)?),
        "arp" => Box::new(arp::ArpSide::new(&rig, &arguments)?),
        _ => return Err(format!("no case {case:?}").into()),
    };
    let mut out = stdout();
    writeln!(out, "ready")?;
    for line in stdin().lock().lines() {
        let line = line?;
        let slice = match line.strip_prefix("run ") {
            Some(milliseconds) => Duration::from_millis(milliseconds.parse()?),
            None => break,
        };
        let report = side.run(&rig, slice)?;
        writeln!(out, "{report}")?;
        out.flush()?;
    }
    side.finish()?;
    writeln!(out, "exact")?;
    Ok(())
}
