//! The ledger as it is told at the end: every equation of the way from NIC to file, both sides, and whether they agree.

use std::fmt::Write as _;

use netpoll::{
    dpdk::ClosedPort,
    netpoll::{ClientStats, PortStats},
    sink::SinkLedger,
};
use serde_json::{Map, Value, json};

use super::out::Out;

/// Equations, in the order of the way.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    text: String,
    json: Map<String, Value>,
    wrong: Vec<String>,
}

impl Ledger {
    /// A client's, or the sum of several.
    pub(super) fn client(&mut self, key: &str, title: &str, stats: &ClientStats) {
        let _ = write!(self.text, "{title}:\n{stats}");
        let endings = stats.endings();
        let value = json!({
            "submitted": stats.submit.submitted,
            "queued": stats.queued,
            "endings": nonzero(endings.into_iter()),
            "balanced": stats.balances(),
        });
        self.add(key, title, value, stats.balances());
    }

    /// A port's receiving side.
    pub(super) fn port(&mut self, key: &str, title: &str, stats: &PortStats) {
        let _ = write!(self.text, "{title}:\n{stats}");
        let value = json!({
            "arrived": stats.arrived(),
            "endings": nonzero(stats.endings()),
            "balanced": stats.balances(),
        });
        self.add(key, title, value, stats.balances());
    }

    /// Two counts that must be equal, made by different parts; each with its words.
    pub(super) fn equal(&mut self, key: &str, (left_text, left): (&str, u64), (right_text, right): (&str, u64)) {
        let balanced = left == right;
        let (sign, verdict) = if balanced { ("=", "") } else { ("is not", "  NOT BALANCED") };
        let text = format!("{left_text} {sign} {right_text}");
        let _ = writeln!(self.text, "{text}{verdict}");
        self.add(key, &text, json!({"left": left, "right": right, "balanced": balanced}), balanced);
    }

    /// Every mbuf that left a pool must have come back.
    pub(super) fn mbufs(&mut self, ports: &[ClosedPort]) {
        let count: u64 = ports.iter().flat_map(ClosedPort::pools).map(|pool| u64::from(pool.count)).sum();
        let out: u64 = ports.iter().map(ClosedPort::outstanding).sum();
        let balanced = out == 0;
        let verdict = if balanced {
            format!("mbufs out = mbufs back (all {count} are in their pools)")
        } else {
            format!("{out} of {count} mbufs did not come back  NOT BALANCED")
        };
        let _ = writeln!(self.text, "{verdict}");
        self.add("mbufs", &verdict, json!({"count": count, "outstanding": out, "balanced": balanced}), balanced);
    }

    /// The sink's side, over all runs on its folder.
    pub(super) fn sink(&mut self, key: &str, title: &str, sink: &SinkLedger) {
        // As ports and clients show theirs.
        let (accounted, verdict) = (sink.stored + sink.in_flight + sink.dropped(), sink.balanced());
        let verdict = if verdict { "balanced" } else { "NOT BALANCED" };
        let _ = writeln!(self.text, "{title}:\n  {:<24}{:>14}", "delivered", sink.delivered);
        let ends = [("stored", sink.stored), ("in_flight", sink.in_flight)].into_iter();
        let ends = ends.chain(sink.drops.iter().map(|reason| (reason.name.as_str(), reason.count)));
        for (name, count) in ends.filter(|(_, count)| *count > 0) {
            let _ = writeln!(self.text, "    {name:<22}{count:>14}");
        }
        let _ = writeln!(self.text, "  {:<24}{accounted:>14}  {verdict}", "accounted for");
        let value = json!({
            "delivered": sink.delivered,
            "stored": sink.stored,
            "in_flight": sink.in_flight,
            "drops": nonzero(sink.drops.iter().map(|reason| (reason.name.as_str(), reason.count))),
            "balanced": sink.balanced(),
        });
        self.add(key, title, value, sink.balanced());
    }

    /// A whole and what it came to, both counted apart.
    pub(super) fn parts(&mut self, key: &str, title: &str, whole: (&str, u64), parts: &[(&str, u64)]) {
        let sum: u64 = parts.iter().map(|(_, count)| count).sum();
        let balanced = sum == whole.1;
        let verdict = if balanced { "balanced" } else { "NOT BALANCED" };
        let _ = writeln!(self.text, "{title}:\n  {:<24}{:>14}", whole.0, whole.1);
        for (name, count) in parts.iter().filter(|(_, count)| *count > 0) {
            let _ = writeln!(self.text, "    {name:<22}{count:>14}");
        }
        let _ = writeln!(self.text, "  {:<24}{sum:>14}  {verdict}", "accounted for");
        let mut value = json!({"parts": nonzero(parts.iter().copied()), "balanced": balanced});
        value[whole.0] = whole.1.into();
        self.add(key, title, value, balanced);
    }

    /// Something that was checked elsewhere; told only if it does not hold.
    pub(super) fn verdict(&mut self, key: &str, title: &str, balanced: bool) {
        if !balanced {
            let _ = writeln!(self.text, "{title}  NOT BALANCED");
        }
        self.add(key, title, balanced.into(), balanced);
    }

    /// Prints it. An error if an equation does not hold: the program or a driver has lost count.
    pub(super) fn print(mut self, out: Out) -> anyhow::Result<()> {
        let balanced = self.wrong.is_empty();
        self.json.insert("balanced".into(), balanced.into());
        let verdict = if balanced { "balanced: every frame is accounted for" } else { "NOT BALANCED" };
        let text = format!("\nThe ledger\n{}{verdict}", self.text);
        out.event("ledger", text, Value::Object(self.json));
        anyhow::ensure!(
            balanced,
            "the ledger does not balance: {}; frames or mbufs were lost count of, please report this with the ledger above",
            self.wrong.join("; ")
        );
        Ok(())
    }

    fn add(&mut self, key: &str, title: &str, value: Value, balanced: bool) {
        self.json.insert(key.into(), value);
        if !balanced {
            self.wrong.push(title.into());
        }
    }
}

/// The counts that are not 0, by name.
pub(super) fn nonzero<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> Value {
    Value::Object(counts.filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), count.into())).collect())
}

/// What a sum of clients lost: everything that was submitted and neither sent nor still queued.
pub(super) fn lost(stats: &ClientStats) -> u64 {
    stats.submit.submitted - stats.sent.sent - stats.queued
}
