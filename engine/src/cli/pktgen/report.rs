//! What a run came to, for people and machines.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{
    load::bits,
    receiver::Received,
    trial::{Outcome, rate},
};

/// Sent and received, as text.
pub(super) fn text(outcome: &Outcome) -> String {
    let mut text = String::new();
    let generated = &outcome.generated;
    let took = generated.took.as_nanos() as u64;
    line(
        &mut text,
        "sent",
        generated.stats.sent.sent,
        outcome.rate(),
        wire_rate(generated.wire_bits, generated.frames, took),
    );
    let unsent = generated.frames.saturating_sub(generated.stats.sent.sent);
    if unsent > 0 {
        let _ = writeln!(text, "  {unsent} more did not leave, for the reasons in the ledger");
    }
    if generated.late.count() > 0 {
        let _ = writeln!(text, "  behind schedule   {}", generated.late.text());
    }
    if !generated.complete {
        let _ = writeln!(text, "  not all that was due was sent: the port or this machine is slower than the load");
    }
    if let Some(received) = &outcome.received {
        text += &received_text(received, outcome.numbered.then(|| (outcome.lost(), generated.stats.sent.sent)));
    }
    text
}

/// The receiving side alone. `lost` of how many, where that is known.
pub(super) fn received_text(received: &Received, lost: Option<(u64, u64)>) -> String {
    let mut text = String::new();
    let stats = &received.stats;
    let took = received.took_ns();
    line(
        &mut text,
        "received",
        stats.received,
        rate(stats.received, took),
        wire_rate(received.wire_bits, stats.received, took),
    );
    match lost {
        Some((lost, sent)) => {
            let _ = writeln!(text, "  lost        {lost:>14}  {:.4} %", percent(lost, sent));
        }
        None => {
            let _ = writeln!(text, "  missing     {:>14}  up to the last one that came", received.missing());
        }
    }
    let _ = writeln!(text, "  duplicates  {:>14}", stats.duplicates);
    let _ = write!(text, "  reordered   {:>14}", received.reordered);
    let _ =
        if received.reordered > 0 { writeln!(text, "  {} behind at most", received.furthest) } else { writeln!(text) };
    for (name, what, count) in stats.iter().filter(|(name, _, count)| *count > 0 && !TOLD.contains(name)) {
        let _ = writeln!(text, "  {name:<12}{count:>14}  {what}");
    }
    if received.from_the_future > 0 {
        let (count, advice) =
            (received.from_the_future, "the clocks differ: on two machines --clock real, kept by PTP");
        let _ = writeln!(text, "  {count} came before they were sent: {advice}");
    }
    if received.latency.count() > 0 {
        let _ = writeln!(text, "  latency           {}", received.latency.text());
    }
    text
}

/// Told in lines of their own.
const TOLD: [&str; 2] = ["received", "duplicates"];

fn line(text: &mut String, what: &str, frames: u64, rate: f64, wire: f64) {
    let _ = writeln!(text, "{what:<14}{frames:>14}  {rate:.1} frames/s, {} on the wire", bits(wire));
}

/// Bits a second of `frames` frames from the first to the last.
fn wire_rate(all_bits: u64, frames: u64, took_ns: u64) -> f64 {
    rate(frames, took_ns) * all_bits as f64 / frames.max(1) as f64
}

fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

/// The same for machines.
pub(super) fn json(outcome: &Outcome) -> Value {
    let generated = &outcome.generated;
    let took = generated.took.as_nanos() as u64;
    let mut value = json!({"sent": {
        "frames": generated.stats.sent.sent,
        "submitted": generated.frames,
        "seconds": generated.took.as_secs_f64(),
        "frames_per_second": outcome.rate(),
        "bits_per_second": wire_rate(generated.wire_bits, generated.frames, took),
        "wire_bits": generated.wire_bits,
        "complete": generated.complete,
        "behind_schedule": generated.late.json(),
    }});
    if let Some(received) = &outcome.received {
        value["received"] = received_json(received, outcome.numbered.then(|| outcome.lost()));
    }
    value
}

/// The receiving side alone.
pub(super) fn received_json(received: &Received, lost: Option<u64>) -> Value {
    let (stats, took) = (&received.stats, received.took_ns());
    let mut value = json!({
        "frames": stats.received,
        "seconds": took as f64 / 1e9,
        "frames_per_second": rate(stats.received, took),
        "bits_per_second": wire_rate(received.wire_bits, stats.received, took),
        "wire_bits": received.wire_bits,
        "streams": received.streams(),
        "missing": received.missing(),
        "reordered": received.reordered,
        "furthest": received.furthest,
        "from_the_future": received.from_the_future,
        "latency": received.latency.json(),
    });
    if let Some(lost) = lost {
        value["lost"] = lost.into();
    }
    for (name, _, count) in stats.iter().filter(|(name, _, _)| *name != "received") {
        value[name] = count.into();
    }
    value
}
