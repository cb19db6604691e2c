//! ARP for our own sending: asking for remote addresses, remembering the answers.
//!
//! (Answering others is in [`poll`](super::poll), in the request's own mbuf.)
//!
//! A client whose remote MAC is to be found by ARP has a *next hop*: its remote address where that is on the
//! port's link, else the gateway. Its frames wait in its own ring until the next hop is known, so waiting frames
//! are bounded by the ring and the client's drop policy applies. The table holds next hops of clients only, so
//! what strangers send can change entries but never add any.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::wire::MacAddr;

/// Between two requests for the same address.
const RETRY_NS: u64 = 1_000_000_000;
/// Unanswered requests until an address counts as unreachable.
const TRIES: u32 = 3;
/// Age at which an address in use is asked for again, while the old answer stays in use.
const REFRESH_NS: u64 = 30_000_000_000;

/// The next hops of a port's clients.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    table: Mutex<HashMap<Ipv4Addr, Neighbour>>,
}

#[derive(Debug, Default)]
struct Neighbour {
    mac: Option<MacAddr>,
    learned_at_ns: u64,
    asked_at_ns: Option<u64>,
    /// Requests since the last answer.
    tries: u32,
}

/// What is known about a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lookup {
    pub(crate) state: Resolution,
    /// A request is due now; the caller sends it.
    pub(crate) ask: bool,
    /// Ask again no sooner than this.
    pub(crate) valid_until_ns: u64,
}

/// Whether a next hop's MAC is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    Known(MacAddr),
    /// Asked, not answered yet.
    Waiting,
    /// Asked as often as we do, not answered: what waits for it is dropped.
    Unreachable,
}

impl Neighbours {
    /// Looks `next_hop` up, and says whether to ask for it now. Cold: a client keeps the answer until
    /// `valid_until_ns`.
    pub(crate) fn lookup(&self, next_hop: Ipv4Addr, now_ns: u64) -> Lookup {
        let mut table = self.lock();
        let entry = table.entry(next_hop).or_default();
        let fresh = entry.mac.is_some() && now_ns < entry.learned_at_ns + REFRESH_NS;
        let due = entry.asked_at_ns.is_none_or(|asked| now_ns >= asked + RETRY_NS);
        let ask = !fresh && due;
        if ask {
            entry.asked_at_ns = Some(now_ns);
            entry.tries = entry.tries.saturating_add(1);
        }
        // The last request has its full second to be answered.
        let exhausted = entry.tries > TRIES;
        let state = match entry.mac {
            Some(mac) if !exhausted => Resolution::Known(mac),
            _ if exhausted => Resolution::Unreachable,
            _ => Resolution::Waiting,
        };
        if state == Resolution::Unreachable {
            entry.mac = None;
        }
        let valid_until_ns = match state {
            Resolution::Known(_) if fresh => entry.learned_at_ns + REFRESH_NS,
            Resolution::Known(_) | Resolution::Unreachable => now_ns + RETRY_NS,
            // Looked at again each poll: the answer may come with any burst.
            Resolution::Waiting => now_ns,
        };
        Lookup { state, ask, valid_until_ns }
    }

    /// Takes in a sender's address, where we care for it. Whether we did.
    pub(crate) fn learn(&self, ip: Ipv4Addr, mac: MacAddr, now_ns: u64) -> bool {
        match self.lock().get_mut(&ip) {
            Some(entry) => {
                *entry = Neighbour { mac: Some(mac), learned_at_ns: now_ns, asked_at_ns: None, tries: 0 };
                true
            }
            None => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Ipv4Addr, Neighbour>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where frames for `remote` go first: itself on the link, else the gateway.
pub(crate) fn next_hop(remote: Ipv4Addr, prefix: Option<(Ipv4Addr, u8)>, gateway: Option<Ipv4Addr>) -> Ipv4Addr {
    let on_link = prefix.is_none_or(|(ip, bits)| {
        let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
        u32::from(ip) & mask == u32::from(remote) & mask
    });
    if on_link { remote } else { gateway.unwrap_or(remote) }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    #[test]
    fn asked_three_times_a_second_apart_then_unreachable_and_asked_on() {
        let table = Neighbours::default();
        let asks: Vec<_> = (0..60).map(|tenth| table.lookup(HOST, tenth * SECOND / 10)).collect();
        let asked: Vec<_> = asks.iter().enumerate().filter(|(_, l)| l.ask).map(|(i, _)| i).collect();
        assert_eq!(asked, [0, 10, 20, 30, 40, 50]);
        assert!(asks[..30].iter().all(|l| l.state == Resolution::Waiting));
        assert!(asks[30..].iter().all(|l| l.state == Resolution::Unreachable));
        assert!(table.learn(HOST, MAC, 6 * SECOND));
        assert_eq!(table.lookup(HOST, 6 * SECOND).state, Resolution::Known(MAC));
    }

    #[test]
    fn a_known_address_is_refreshed_while_in_use_and_given_up_when_silent() {
        let table = Neighbours::default();
        table.lookup(HOST, 0);
        table.learn(HOST, MAC, 0);
        let fresh = table.lookup(HOST, SECOND);
        assert_eq!(fresh, Lookup { state: Resolution::Known(MAC), ask: false, valid_until_ns: 30 * SECOND });
        for (second, ask) in [(30, true), (31, true), (32, true)] {
            let lookup = table.lookup(HOST, second * SECOND);
            assert_eq!((lookup.state, lookup.ask), (Resolution::Known(MAC), ask), "{second} s");
        }
        assert_eq!(table.lookup(HOST, 33 * SECOND).state, Resolution::Unreachable);
    }

    #[test]
    fn strangers_add_nothing() {
        let table = Neighbours::default();
        assert!(!table.learn(HOST, MAC, 0));
        assert!(table.lock().is_empty());
    }

    #[test]
    fn off_link_goes_to_the_gateway() {
        let (ip, gateway) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 254));
        let far = Ipv4Addr::new(192, 0, 2, 7);
        assert_eq!(next_hop(HOST, Some((ip, 24)), Some(gateway)), HOST);
        assert_eq!(next_hop(far, Some((ip, 24)), Some(gateway)), gateway);
        assert_eq!(next_hop(far, Some((ip, 24)), None), far);
        assert_eq!(next_hop(far, Some((ip, 0)), Some(gateway)), far);
        assert_eq!(next_hop(far, None, Some(gateway)), far);
    }
}
