//! `netpoll pktgen`: frames at a rate, and what became of each of them.
//!
//! ```text
//! generator: workers -> schedule, payload + stamp -> outlet: clients' rings -> tx port
//!                                                            (rings, a network, a device under test)
//! receiver: hook <- stamp, window, latency                             <- rx port
//! trial: one of both | search + ndr: trials for the highest rate | report; books: all trials -> ledger
//! args size load source replay clock ports -> plan      what was typed
//! ```
//! Each frame has a stream and a number in it. The receiver counts what it gets, and apart from that the gaps in the
//! numbers: `sent = received + lost` is an equation of three counts, and the run fails if it does not hold.
//!
//! Limits: one queue a port; IPv4 and UDP, other frames by `--replay`.

mod args;
mod books;
mod clock;
mod generator;
mod latency;
mod load;
mod ndr;
mod outlet;
mod payload;
mod plan;
mod ports;
mod receive;
mod receiver;
mod replay;
mod report;
mod schedule;
mod search;
mod size;
mod source;
mod stamp;
mod trial;
mod window;
mod worker;

use std::time::Instant;

use anyhow::Context as _;
use netpoll::config::LogLevel;
use serde_json::json;

pub(super) use self::args::PktgenArgs;
use self::{
    books::Books,
    latency::Latency,
    plan::Plan,
    trial::{Ends, Outcome},
};
use super::{log::LogArgs, out::Out, status::Progress, stop::Stop};

pub(super) fn run(args: &PktgenArgs, log: &LogArgs, out: Out) -> anyhow::Result<()> {
    log.start(LogLevel::Warn);
    if args.receive {
        return receive::run(args, out);
    }
    let plan = args.plan()?;
    let limit = args.limit(&plan)?;
    let hgrm = args.open_hgrm()?;
    let stop = Stop::install().context("cannot handle signals")?;
    let client_mbufs = plan.clients() * plan.ring_frames();
    let (engine, ends) = args.ports.start(&args.machine, &args.idle, client_mbufs, plan.to.0)?;
    args.sandbox.apply(&engine, [], [])?;
    let plan = args.addressed(plan, &ends);
    let mut books = Books::new(plan.clients());
    let (from, to) = (ends.tx.name(), ends.rx.as_ref().map(|rx| rx.name()));
    let way = match (to, ends.joined) {
        (Some(to), true) => format!("port {from} = rings = port {to}"),
        (Some(to), false) => format!("port {from} -> port {to}"),
        (None, _) => format!("port {from}"),
    };
    out.text(format_args!("netpoll pktgen: {}: {way}", args.describe(&plan)));
    let result = if args.find_ndr {
        ndr::find(args, &plan, &ends, &mut books, &stop, out).map(|outcome| outcome.and_then(latency))
    } else {
        one(&plan, limit, &ends, &mut books, &stop, out).map(latency)
    };
    let closed = engine.stop()?;
    let balanced = books.ledger(&ends, &closed).print(out);
    let latency = result?;
    hgrm.map_or(Ok(()), |hgrm| hgrm.write(latency.as_ref()))?;
    balanced
}

/// One trial, and its report.
fn one(
    plan: &Plan,
    limit: Option<u64>,
    ends: &Ends,
    books: &mut Books,
    stop: &Stop,
    out: Out,
) -> anyhow::Result<Outcome> {
    let mut progress = Progress::new(out, plan.lasts());
    let start = Instant::now();
    let outcome = ends.run(plan, limit, stop, &mut |sent, received| {
        if Instant::now() >= progress.next() {
            let now = start.elapsed().as_secs_f64();
            let text = match ends.rx {
                Some(_) => format!("{now:4.1} s  {sent:>10} sent  {received:>10} received"),
                None => format!("{now:4.1} s  {sent:>10} sent"),
            };
            progress.show(&text, json!({"seconds": now, "sent": sent, "received": received}));
        }
    })?;
    progress.finish();
    books.add(&outcome);
    out.event("result", report::text(&outcome), report::json(&outcome));
    Ok(outcome)
}

fn latency(outcome: Outcome) -> Option<Latency> {
    outcome.received.map(|received| received.latency)
}
