//! From the clients' rings to the port.

use super::*;

impl<P: PortIo> PollState<P> {
    /// Whether frames are staged, or may be in a ring.
    #[inline]
    pub(super) fn has_frames_to_send(&self) -> bool {
        !self.stage.is_empty() || !self.dirty.is_clean()
    }

    /// Takes frames from the clients' rings, a burst each, and offers them to the port.
    pub(super) fn drain_clients(&mut self, now_ns: u64) -> usize {
        if !self.owed.is_empty() {
            self.pay_owed();
        }
        self.flush(now_ns);
        if self.stage.is_blocked() || self.dirty.is_clean() {
            return 0;
        }
        let mut taken = 0;
        // Round and round, from where the last poll stopped, until a whole round leaves nothing behind. A ring that was
        // emptied just now is not looked at again: its client keeps its mark until a poll finds nothing there.
        let (mut at, mut left) = (self.turn, true);
        while taken < TX_BUDGET {
            let Some(slot) = self.dirty.next(at) else {
                if !left {
                    break;
                }
                (at, left) = (0, false);
                continue;
            };
            at = slot + 1;
            let turn = self.take_from(slot, CLIENT_BURST.min(TX_BUDGET - taken), now_ns);
            left |= turn.left;
            taken += turn.taken;
        }
        self.turn = at;
        self.flush(now_ns);
        taken
    }

    /// One client's turn.
    pub(super) fn take_from(&mut self, slot: usize, most: usize, now_ns: u64) -> Turn {
        let nothing = Turn { taken: 0, left: false };
        let Some(client) = self.clients.get_mut(slot).and_then(Option::as_mut) else {
            self.dirty.clear(slot);
            return nothing;
        };
        if client.next_hop.is_some() && now_ns >= client.valid_until_ns {
            self.resolve(slot, now_ns);
        }
        let Some(client) = self.clients[slot].as_mut() else { return nothing };
        let dst_mac = match (client.next_hop, client.resolution) {
            (None, _) => None,
            (Some(_), Resolution::Known(mac)) => Some(mac),
            (Some(_), Resolution::Waiting) => return nothing,
            (Some(_), Resolution::Unreachable) => {
                let dropped = client.ring.take(&mut self.done, MAX_BURST);
                client.shared.sent.unresolved.add(dropped as u64);
                self.io.free(&mut self.done);
                self.refill(slot, dropped);
                return Turn { taken: dropped, left: dropped > 0 };
            }
        };
        let taken = client.ring.take(&mut self.stage.frames, most);
        if taken == 0 {
            self.dirty.clear_if(slot, || client.ring.is_empty());
            return nothing;
        }
        let left = !client.ring.is_empty();
        if let Some(mac) = dst_mac {
            let staged = self.stage.frames.len();
            for frame in &mut self.stage.frames[staged - taken..] {
                ethernet::set_dst(frame.data_mut(), mac);
            }
        }
        self.stage.own_last(&client.shared, taken);
        self.refill(slot, taken);
        Turn { taken, left }
    }

    /// Gives a client credits for `spent` frames and for what it is owed, as far as the pool has them.
    fn refill(&mut self, slot: usize, spent: usize) {
        let Some(client) = self.clients[slot].as_mut() else { return };
        client.owed += spent;
        let wanted = client.owed.min(self.credits.capacity());
        let got = self.io.alloc(&mut self.credits, wanted, client.shared.urgent);
        client.ring.give(&mut self.credits);
        // What found no room goes back: the client has its full number already.
        self.io.free(&mut self.credits);
        client.owed -= got;
        client.shared.set_owed(client.owed);
        if got < wanted {
            self.ledger.counters.pool_empty.add(1);
        }
        if client.owed > 0 && !client.in_owed_list {
            client.in_owed_list = true;
            self.owed.push(slot);
        }
    }

    /// Tries to pay the client that has waited longest.
    #[cold]
    fn pay_owed(&mut self) {
        let slot = self.owed.remove(0);
        if let Some(client) = self.clients.get_mut(slot).and_then(Option::as_mut) {
            client.in_owed_list = false;
            self.refill(slot, 0);
        }
    }

    /// Brings a client's next hop up to date, and asks for it where that is due.
    #[cold]
    fn resolve(&mut self, slot: usize, now_ns: u64) {
        let Some(client) = self.clients[slot].as_mut() else { return };
        let Some(next_hop) = client.next_hop else { return };
        let lookup = self.neighbours.lookup(next_hop, now_ns);
        (client.resolution, client.valid_until_ns) = (lookup.state, lookup.valid_until_ns);
        let local_ip = client.shared.local_ip;
        if lookup.ask {
            self.send_arp(Arp::request(self.filter.rules().mac, local_ip, next_hop));
        }
    }

    /// Tells the link that an address is ours.
    pub(crate) fn announce(&mut self, ip: Ipv4Addr) {
        self.send_arp(Arp::gratuitous(self.filter.rules().mac, ip));
        self.flush(crate::netpoll::clock::now().mono_ns);
    }

    fn send_arp(&mut self, arp: Arp) {
        if self.io.alloc(&mut self.credits, 1, true) == 0 {
            return self.ledger.counters.pool_empty.add(1);
        }
        let Some(mut frame) = self.credits.pop() else { return };
        let emitted =
            frame.resize(ethernet::MIN_FRAME_LEN).and_then(|bytes| arp.emit_frame(bytes, MacAddr::BROADCAST)).is_some();
        if emitted && let Err(frame) = self.stage.push_own(frame, &self.ledger.counters) {
            drop(frame);
        }
    }

    #[inline]
    pub(super) fn flush(&mut self, now_ns: u64) {
        self.stage.flush(&mut self.io, &self.ledger.counters, now_ns);
    }

    /// Looks at the link now and then; what waits when it goes down is dropped.
    #[inline]
    pub(super) fn check_link(&mut self, now_ns: u64) {
        if now_ns.wrapping_sub(self.link_checked_ns) >= LINK_CHECK_NS {
            self.link_checked_ns = now_ns;
            let up = self.io.link_up();
            if up != self.port.is_up() {
                self.port.set_up(up);
                tracing::warn!(port = self.port.options.name, up, "link changed");
            }
            if !up {
                self.drop_queued();
            }
        }
    }

    /// The link is down: nothing that was submitted can leave.
    #[cold]
    fn drop_queued(&mut self) {
        self.stage.drop_all(&mut self.io, &self.ledger.counters);
        let mut at = 0;
        while let Some(slot) = self.dirty.next(at) {
            at = slot + 1;
            let Some(client) = self.clients.get_mut(slot).and_then(Option::as_mut) else { continue };
            let mut dropped = 0;
            // Bounded by the ring: no credit comes back before this is done.
            while client.ring.take(&mut self.done, MAX_BURST) > 0 {
                dropped += self.done.len();
                self.io.free(&mut self.done);
            }
            client.shared.sent.port_down.add(dropped as u64);
            self.refill(slot, dropped);
        }
    }
}
