//! The ledger as it is told: at the end every equation of the way from NIC to file, both sides, and whether they agree;
//! while it runs the counts.

use std::{
    fmt::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use netpoll::{
    dpdk::ClosedPort,
    netpoll::{ClientStats, PortStats},
    sink::{SinkLedger, store::Backlog},
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
        if let Some((taken, ended)) = stats.spread() {
            let left = format!("{title}: {taken} taken from the device");
            self.equal(&format!("{key}.spread"), (&left, taken), ("what its queues got and had no room for", ended));
        }
    }

    /// Two counts that must be equal, made by different parts; each with its words.
    pub(super) fn equal(&mut self, key: &str, (left_text, left): (&str, u64), (right_text, right): (&str, u64)) {
        let balanced = left == right;
        let (sign, verdict) = if balanced { ("=", "") } else { ("is not", "  NOT BALANCED") };
        let text = format!("{left_text} {sign} {right_text}");
        let _ = writeln!(self.text, "{text}{verdict}");
        self.add(key, &text, json!({"left": left, "right": right, "balanced": balanced}), balanced);
    }

    /// From the NIC to the disk in one: what arrived at a port in this run, and where it is now. `written`: this run's
    /// share of the sink's ledger.
    pub(super) fn way(&mut self, port: &str, stats: &PortStats, written: &SinkLedger) {
        let mut ends: Vec<(&str, u64)> = vec![("stored", written.stored), ("in_flight", written.in_flight)];
        stats.endings().filter(|(name, _)| *name != "delivered").for_each(|end| ends.push(end));
        ends.extend(written.drops.iter().map(|reason| (reason.name.as_str(), reason.count)));
        let title = format!("port {port}, from the NIC to the disk");
        self.parts(&format!("{port}.way"), &title, ("arrived", stats.arrived()), &ends);
    }

    /// Every mbuf that left a pool must have come back.
    pub(super) fn mbufs(&mut self, ports: &[ClosedPort]) {
        let count: u64 = ports.iter().flat_map(ClosedPort::pools).map(|pool| u64::from(pool.count)).sum();
        let out: u64 = ports.iter().map(ClosedPort::outstanding).sum();
        self.mbufs_back(count, out);
    }

    fn mbufs_back(&mut self, count: u64, out: u64) {
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
        self.json.insert("final".into(), true.into());
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

/// The ledger while everything moves: no verdict, as the two sides of an equation are not read at one moment. What is on
/// its way between them is told as such.
pub(super) struct Running {
    seconds: f64,
    text: Vec<String>,
    json: Map<String, Value>,
}

impl Running {
    pub(super) fn new(seconds: f64) -> Running {
        Running { seconds, text: Vec::new(), json: Map::new() }
    }

    /// A port, and what became of its datagrams in its sink.
    pub(super) fn port(&mut self, name: &str, up: bool, stats: &PortStats, written: Option<&SinkLedger>) {
        let (arrived, sent) = (stats.arrived(), stats.queue.sent);
        let rx = nonzero(stats.endings());
        let mut text = format!("{:.0} s: {name}: {arrived} arrived{}", self.seconds, sum(stats.endings()));
        let value = json!({"up": up, "arrived": arrived, "endings": rx, "sent": sent});
        self.json.insert(format!("{name}.rx"), value);
        if let Some(written) = written {
            let drops = || written.drops.iter().map(|reason| (reason.name.as_str(), reason.count));
            let ends = [("stored", written.stored), ("in flight", written.in_flight)].into_iter();
            let _ = write!(text, "; {} to the sink{}", written.delivered, sum(ends.chain(drops())));
            let value = json!({
                "delivered": written.delivered, "stored": written.stored, "in_flight": written.in_flight,
                "dropped": written.dropped(), "drops": nonzero(drops()),
            });
            self.json.insert(format!("{name}.sink"), value);
        }
        self.text.push(format!("{text}; {sent} sent"));
    }

    /// What is behind the port named last in the spool, and not in Parquet yet.
    pub(super) fn backlog(&mut self, name: &str, backlog: &Backlog, now: SystemTime) {
        let Backlog { segments, bytes, .. } = *backlog;
        let now_ns = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        let age_s = backlog.age_ns(now_ns) as f64 / 1e9;
        if let Some(text) = self.text.last_mut() {
            let megabytes = bytes as f64 / 1e6;
            let _ = write!(text, "; not yet in Parquet: {segments} segments, {megabytes:.1} MB, oldest {age_s:.0} s");
        }
        let value = json!({"segments": segments, "bytes": bytes, "oldest_age_s": age_s});
        self.json.insert(format!("{name}.spool"), value);
    }

    pub(super) fn print(mut self, out: Out) {
        self.json.insert("seconds".into(), self.seconds.into());
        self.json.insert("final".into(), false.into());
        out.event("ledger", self.text.join("\n"), Value::Object(self.json));
    }
}

/// ` = 5 stored + 1 shed_debug`, without what is 0.
fn sum<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> String {
    let terms: Vec<_> = counts.filter(|(_, count)| *count > 0).map(|(name, count)| format!("{count} {name}")).collect();
    if terms.is_empty() { String::new() } else { format!(" = {}", terms.join(" + ")) }
}

/// The counts that are not 0, by name.
pub(super) fn nonzero<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> Value {
    Value::Object(counts.filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), count.into())).collect())
}

/// What a sum of clients lost: everything that was submitted and neither sent nor still queued.
pub(super) fn lost(stats: &ClientStats) -> u64 {
    stats.submit.submitted - stats.sent.sent - stats.queued
}

#[cfg(test)]
mod tests {
    use netpoll::config::LogFormat;

    use super::*;

    #[test]
    fn an_mbuf_that_did_not_come_back_is_an_error() {
        let mut ledger = Ledger::default();
        ledger.mbufs_back(4096, 0);
        ledger.print(Out::new(LogFormat::Json)).expect("balanced");
        let mut ledger = Ledger::default();
        ledger.mbufs_back(4096, 3);
        let error = ledger.print(Out::new(LogFormat::Json)).expect_err("three are missing").to_string();
        assert!(error.contains("3 of 4096 mbufs did not come back"), "{error}");
    }
}
