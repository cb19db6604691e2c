//! The ledger as it is told at the end: every equation of the way from NIC to file, both sides, and whether they agree.

use std::fmt::Write as _;

use netpoll::{
    dpdk::ClosedPort,
    netpoll::{ClientStats, PortStats},
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
        let _ = write!(self.text, "{title}\n{stats}");
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
        let _ = write!(self.text, "{title}\n{stats}");
        let value = json!({
            "arrived": stats.arrived(),
            "endings": nonzero(stats.endings()),
            "balanced": stats.balances(),
        });
        self.add(key, title, value, stats.balances());
    }

    /// Two counters that must be equal, counted by different parts.
    pub(super) fn equal(&mut self, key: &str, (left_name, left): (&str, u64), (right_name, right): (&str, u64)) {
        let balanced = left == right;
        let sign = if balanced { "=" } else { "is not" };
        let text = format!("{left_name} {left} {sign} {right_name} {right}");
        let _ = writeln!(self.text, "{text}{}", if balanced { "" } else { "  NOT BALANCED" });
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

    /// Something else with a verdict of its own.
    pub(super) fn other(&mut self, key: &str, title: &str, text: &str, value: Value, balanced: bool) {
        let _ = writeln!(self.text, "{title}\n{text}");
        self.add(key, title, value, balanced);
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
