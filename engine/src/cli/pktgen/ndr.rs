//! `--find-ndr`: trials until the highest rate without loss is known.

use std::time::Instant;

use anyhow::{bail, ensure};
use serde_json::json;

use super::{
    super::{out::Out, status::Progress, stop::Stop},
    PktgenArgs,
    books::Books,
    load::Load,
    plan::Plan,
    report,
    search::Search,
    trial::{Ends, Outcome},
};

/// Trials that it takes about, before their number is known.
const ABOUT: u32 = 8;

/// Searches, reports, and gives back the best trial; `None`: not one passed.
pub(super) fn find(
    args: &PktgenArgs,
    plan: &Plan,
    ends: &Ends,
    books: &mut Books,
    stop: &Stop,
    out: Out,
) -> anyhow::Result<Option<Outcome>> {
    let mut live =
        Live { number: 0, best: 0, progress: Progress::new(out, plan.takes * ABOUT), start: Instant::now(), out };
    let mut best = None;
    let mut go = |load: Load, best: u64| -> anyhow::Result<(Outcome, Verdict)> {
        let plan = Plan { load, ..plan.clone() };
        live.best = best;
        let outcome = live.trial(&plan, args.limit(&plan)?, ends, stop)?;
        books.add(&outcome);
        ensure!(!stop.asked(), "interrupted: no result; the highest rate that passed so far is {}", load.with(best));
        let verdict = Verdict::of(&outcome, load, args.reach);
        live.tell(&outcome, load, &verdict);
        Ok((outcome, verdict))
    };
    // As fast as it goes is no rate: what it comes to is the first one, and may be the last.
    let (unit, highest) = match plan.load.per_second() {
        Some(rate) => (plan.load, rate),
        None => {
            let (outcome, verdict) = go(Load::Max, 0)?;
            let highest = (outcome.rate() as u64).max(1);
            if verdict.passed {
                live.progress.finish();
                tell(Load::Frames(highest), &outcome, true, out);
                return Ok(Some(outcome));
            }
            (Load::Frames(highest), highest)
        }
    };
    let mut search = Search::new(highest, (highest as f64 * args.resolution / 100.0) as u64);
    while let Some(rate) = search.next() {
        let (outcome, verdict) = go(unit.with(rate), search.passed())?;
        if verdict.passed {
            best = Some(outcome);
        }
        search.tried(rate, verdict.passed);
    }
    live.progress.finish();
    match &best {
        Some(outcome) => tell(unit.with(search.passed()), outcome, search.passed() == highest, out),
        None => {
            out.event("ndr", "highest rate without loss: none", json!({"found": false}));
            bail!(
                "no rate passed, down to {}; a lower --rate or a finer --resolution may",
                unit.with(search.lowest_failed())
            );
        }
    }
    Ok(best)
}

/// The result.
fn tell(load: Load, outcome: &Outcome, at_highest: bool, out: Out) {
    let why = if at_highest { ": the highest that was tried, so the limit is elsewhere" } else { "" };
    let text = format!("\nhighest rate without loss: {load}{why}\n{}", report::text(outcome));
    let mut value =
        json!({"found": true, "load": load.to_string(), "rate": load.per_second(), "at_highest": at_highest});
    value["trial"] = report::json(outcome);
    out.event("ndr", text, value);
}

/// What a trial says.
struct Verdict {
    passed: bool,
    why: String,
}

impl Verdict {
    /// Nothing was lost, and at least `reach` percent of the load was sent in its time.
    fn of(outcome: &Outcome, load: Load, reach: f64) -> Verdict {
        let lost = outcome.lost();
        let generated = &outcome.generated;
        let unsent = generated.frames.saturating_sub(generated.stats.sent.sent);
        let reached = match load {
            Load::Max => 100.0,
            Load::Frames(rate) => 100.0 * outcome.rate() / rate as f64,
            Load::Bits(rate) => {
                let each = generated.wire_bits as f64 / generated.frames.max(1) as f64;
                100.0 * outcome.rate() * each / rate as f64
            }
        };
        // A trial of a single frame has no rate.
        let reached = if generated.frames > 1 { reached } else { 100.0 };
        let why = match (lost, unsent) {
            (0, 0) if reached < reach => format!("only {reached:.1} % of the rate was sent"),
            (0, 0) => "passed".into(),
            (0, unsent) => format!("{unsent} did not leave"),
            (lost, _) => format!("{lost} lost"),
        };
        Verdict { passed: lost + unsent == 0 && reached >= reach, why }
    }
}

/// The line that says how it is going.
struct Live {
    number: u32,
    best: u64,
    progress: Progress,
    start: Instant,
    out: Out,
}

impl Live {
    fn trial(&mut self, plan: &Plan, limit: Option<u64>, ends: &Ends, stop: &Stop) -> anyhow::Result<Outcome> {
        self.number += 1;
        let (number, best, start) = (self.number, self.best, self.start);
        let progress = &mut self.progress;
        ends.run(plan, limit, stop, &mut |sent, received| {
            if Instant::now() >= progress.next() {
                let load = plan.load;
                let best = if best > 0 { load.with(best).to_string() } else { "none yet".into() };
                let text = format!("trial {number}: {load}: {sent} sent, {received} received; best: {best}");
                let value = json!({
                    "seconds": start.elapsed().as_secs_f64(), "trial": number, "load": load.to_string(), "sent": sent,
                    "received": received,
                });
                progress.show(&text, value);
            }
        })
    }

    /// A trial's result.
    fn tell(&self, outcome: &Outcome, load: Load, verdict: &Verdict) {
        let (number, rate, why) = (self.number, outcome.rate(), &verdict.why);
        if self.out.is_json() {
            let mut value = json!({"trial": number, "load": load.to_string(), "rate": load.per_second()});
            (value["passed"], value["why"]) = (verdict.passed.into(), why.as_str().into());
            value["result"] = report::json(outcome);
            return self.out.event("trial", "", value);
        }
        self.progress.tell(&format!("trial {number:>2}: {load}: {rate:.0} frames/s sent, {why}"), json!({}));
    }
}
