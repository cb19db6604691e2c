//! `--receive`: the receiving side by itself.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;

use super::{
    super::{exit::Usage, ledger::Ledger, out::Out, stop::Stop},
    PktgenArgs, books,
    receiver::{Receiving, Wanted},
    report,
    trial::{Ends, RESIDUAL},
};

/// Between two looks, and between two lines that say how it is going.
const STEP: Duration = Duration::from_millis(20);
const STATUS: Duration = Duration::from_secs(1);

pub(super) fn run(args: &PktgenArgs, out: Out) -> anyhow::Result<()> {
    if !args.ports.named().0 {
        return Err(Usage("--receive: on which port? Name it with --vdev or --device".into()).into());
    }
    let hgrm = args.open_hgrm()?;
    let stop = Stop::install().context("cannot handle signals")?;
    let (engine, Ends { tx: port, .. }) = args.ports.start(&args.machine, &args.idle, 0, args.to.0)?;
    args.sandbox.apply(&engine, [], [])?;
    let streams = args.clients as usize;
    // As many as are sent, by the same rule: then what never came is known, too.
    let ends = args.count.map(|count| {
        let streams = streams as u64;
        (0..streams).map(|stream| count / streams + u64::from(stream < count % streams)).collect::<Vec<_>>()
    });
    let wanted = Wanted { run: None, streams, joins_late: ends.is_none(), limit: None, clock: Some(args.clock) };
    let receiving = Receiving::start(&port, wanted)?;
    let driver = engine.device(&port).map_or("?".into(), |(info, _)| info.driver);
    let (name, mac) = (port.name(), port.mac());
    let text = format!("ready: port {name} ({driver}) {mac}, receiving");
    out.event("ready", text, json!({"port": name, "driver": driver, "mac": mac.to_string()}));

    wait(args, &receiving, &stop, out);

    let received = receiving.finish(ends.as_deref())?;
    let lost = args.count.map(|count| (received.missing(), count));
    let text = report::received_text(&received, lost);
    out.event("result", text, json!({"received": report::received_json(&received, lost.map(|(lost, _)| lost))}));
    let closed = engine.stop()?;
    let mut ledger = Ledger::default();
    books::tell_receiver(&mut ledger, &port, &received.stats);
    if let Some((lost, count)) = lost {
        books::tell_numbers(&mut ledger, count, received.stats.received, lost);
    }
    ledger.mbufs(&closed);
    let balanced = ledger.print(out);
    let latency = Some(&received.latency).filter(|latency| latency.count() > 0);
    hgrm.map_or(Ok(()), |hgrm| hgrm.write(latency))?;
    balanced
}

/// Until the end is asked for, the time is over, or all has come that will; says how it is going.
fn wait(args: &PktgenArgs, receiving: &Receiving, stop: &Stop, out: Out) {
    let start = Instant::now();
    let (mut last, mut since, mut told) = (0, start, start);
    while args.duration.is_none_or(|limit| start.elapsed() < limit) && !stop.wait(STEP) {
        let stats = receiving.stats();
        if stats.delivered() != last {
            (last, since) = (stats.delivered(), Instant::now());
        }
        let over = stats.received > 0 && since.elapsed() >= RESIDUAL;
        if args.count.is_some_and(|count| stats.received >= count || over) {
            return;
        }
        if told.elapsed() >= STATUS {
            told = Instant::now();
            let seconds = start.elapsed().as_secs_f64();
            let text = format!("{seconds:4.1} s  {:>10} received  {} duplicates", stats.received, stats.duplicates);
            let value = json!({"seconds": seconds, "received": stats.received, "duplicates": stats.duplicates});
            out.progress(text, value);
        }
    }
}
