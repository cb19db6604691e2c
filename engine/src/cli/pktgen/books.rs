//! What all trials of a run came to, and the ledger from it.

use netpoll::{
    dpdk::ClosedPort,
    netpoll::{ClientStats, Port},
};

use super::{
    super::ledger::Ledger,
    receiver::RxStats,
    trial::{Ends, Outcome},
};

/// Sums.
pub(super) struct Books {
    clients: usize,
    frames: u64,
    stats: ClientStats,
    balanced: bool,
    rx: RxStats,
    missing: u64,
    numbered: bool,
}

impl Books {
    pub(super) fn new(clients: usize) -> Books {
        let (stats, rx) = (ClientStats::default(), RxStats::default());
        Books { clients, frames: 0, stats, balanced: true, rx, missing: 0, numbered: true }
    }

    /// One more trial.
    pub(super) fn add(&mut self, outcome: &Outcome) {
        self.frames += outcome.generated.frames;
        self.stats.merge(&outcome.generated.stats);
        self.balanced &= outcome.generated.balanced;
        self.numbered &= outcome.numbered;
        if let Some(received) = &outcome.received {
            self.rx.merge(&received.stats);
            self.missing += received.missing();
        }
    }

    /// The ledger, from the generator to the receiver. Everybody is at rest.
    pub(super) fn ledger(&self, ends: &Ends, closed: &[ClosedPort]) -> Ledger {
        let mut ledger = Ledger::default();
        let (tx, tx_stats) = (ends.tx.name(), ends.tx.stats());
        let submitted = self.stats.submit.submitted;
        let left = format!("the generator: {} frames", self.frames);
        ledger.equal("generated", (&left, self.frames), (&format!("{submitted} submitted"), submitted));
        ledger.client("tx.clients", &format!("{} on {tx}, sending", clients(self.clients)), &self.stats);
        ledger.verdict("tx.each", "each client by itself", self.balanced);
        let (left_port, of_clients, own) = (tx_stats.queue.sent, self.stats.sent.sent, tx_stats.queue.engine_sent);
        let right = format!("{of_clients} of clients + {own} of ARP and ICMP");
        ledger.equal("tx", (&format!("{tx}: {left_port} sent"), left_port), (&right, of_clients + own));
        if tx_stats.arrived() > 0 {
            ledger.port("tx.rx", &format!("{tx}, receiving"), &tx_stats);
        }
        if let Some(rx) = &ends.rx {
            let arrived = rx.stats().arrived();
            if ends.joined {
                let right = format!("{arrived} that arrived at {}", rx.name());
                ledger.equal("wire", (&format!("{tx}: {left_port} sent"), left_port), (&right, arrived));
            }
            tell_receiver(&mut ledger, rx, &self.rx);
            if self.numbered {
                let unsent = submitted.saturating_sub(of_clients);
                // What never left has a number, too; that it is missing is no loss.
                let lost = self.missing.saturating_sub(unsent);
                tell_numbers(&mut ledger, of_clients, self.rx.received, lost);
            }
        }
        ledger.mbufs(closed);
        ledger
    }
}

/// The receiving port, and the hook's own account of what it was given.
pub(super) fn tell_receiver(ledger: &mut Ledger, rx: &Port, stats: &RxStats) {
    let name = rx.name();
    let port = rx.stats();
    ledger.port("rx", &format!("{name}, receiving"), &port);
    let parts: Vec<(&str, u64)> = stats.iter().map(|(name, _, count)| (name, count)).collect();
    ledger.parts("hook", &format!("the receiver on {name}"), ("delivered", port.queue.delivered), &parts);
}

/// `sent = received + lost`, the three counted by three: the port, the receiver, the gaps between numbers.
pub(super) fn tell_numbers(ledger: &mut Ledger, sent: u64, received: u64, lost: u64) {
    ledger.parts("frames", "frames by their numbers", ("sent", sent), &[("received", received), ("lost", lost)]);
}

fn clients(count: usize) -> String {
    if count == 1 { "1 client".into() } else { format!("{count} clients") }
}

#[cfg(test)]
mod tests {
    use netpoll::config::LogFormat;

    use super::*;
    use crate::cli::out::Out;

    /// A frame that is neither received nor lost, or both, is an error: exit code 1.
    #[test]
    fn what_does_not_add_up_fails() {
        let print = |sent, received, lost| {
            let mut ledger = Ledger::default();
            tell_numbers(&mut ledger, sent, received, lost);
            ledger.print(Out::new(LogFormat::Text))
        };
        assert!(print(10, 7, 3).is_ok());
        for (received, lost) in [(7, 2), (8, 3), (0, 0)] {
            let error = print(10, received, lost).unwrap_err().to_string();
            assert!(error.contains("frames by their numbers"), "{error}");
        }
    }
}
