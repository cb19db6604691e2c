//! What changes a poll context while it is in service.

use super::*;

/// Changes, each run through [`PollContext::change`](super::context::PollContext::change).
impl<P: PortIo> PollState<P> {
    pub(crate) fn alloc(&mut self, count: usize) -> Vec<P::Buf> {
        let mut buffers = Vec::with_capacity(count);
        self.io.alloc(&mut buffers, count, false);
        buffers
    }

    pub(crate) fn free(&mut self, buffers: &mut Vec<P::Buf>) {
        self.io.free(buffers);
    }

    pub(crate) fn missed(&mut self) -> Missed {
        self.io.missed()
    }

    /// Frames that a queue made in software has still to take.
    pub(crate) fn waiting(&mut self) -> usize {
        self.io.waiting()
    }

    pub(crate) fn add_client(&mut self, slot: usize, client: EngineClient<P::Buf>) {
        if self.clients.len() <= slot {
            self.clients.resize_with(slot + 1, || None);
            self.owed.reserve(slot + 1);
        }
        client.shared.set_owed(client.owed);
        self.clients[slot] = Some(client);
    }

    /// Moves on what the client has submitted; `Some` once it is out of here. With `force`, what is left is dropped.
    pub(crate) fn remove_client(&mut self, slot: usize, now: Now, force: bool) -> Option<()> {
        let mut rounds = STAGE_FRAMES;
        while rounds > 0 && !self.stage.is_blocked() && self.take_from(slot, TX_BUDGET, now.mono_ns).taken > 0 {
            self.flush(now.mono_ns);
            rounds -= 1;
        }
        self.flush(now.mono_ns);
        let client = self.clients[slot].as_mut()?;
        let done = client.ring.is_empty() && client.shared.staged() == 0;
        if !done && !force {
            return None;
        }
        self.stage.drop_client(&mut self.io, &client.shared);
        let mut left = Vec::new();
        while client.ring.take(&mut left, MAX_BURST) > 0 {}
        client.shared.sent.cleanup.add(left.len() as u64);
        self.io.free(&mut left);
        self.owed.retain(|owed| *owed != slot);
        self.dirty.clear(slot);
        self.clients[slot] = None;
        Some(())
    }

    pub(crate) fn set_rx_np(&mut self, rx_np: RxNp<P::Buf>, filter: &RxFilter) {
        self.set_filter(filter);
        self.rx_np = Some(rx_np);
        self.io.pass_on(true);
    }

    pub(crate) fn set_filter(&mut self, filter: &RxFilter) {
        let v4 = |ip| match ip {
            Some(std::net::IpAddr::V4(ip)) => Some(ip),
            _ => None,
        };
        self.filter.change(|rules| {
            rules.rx_client = true;
            rules.local_ip = v4(filter.local_ip);
            rules.remote_ip = v4(filter.remote_ip);
            rules.allow = filter.allow.clone();
            rules.local_ports = filter.local_ports.clone();
        });
    }

    pub(crate) fn clear_rx_np(&mut self) -> Option<RxNp<P::Buf>> {
        self.io.pass_on(false);
        self.filter.change(|rules| rules.rx_client = false);
        self.rx_np.take()
    }

    /// The queue itself, with nothing of ours left in it.
    pub(crate) fn into_io(mut self) -> P {
        self.flush(crate::netpoll::clock::now().mono_ns);
        if !self.stage.is_empty() {
            self.stage.drop_all(&mut self.io, &self.ledger.counters);
        }
        if self.io.waiting() > 0 {
            drop_stale(&mut self.io, &mut self.rx, &self.ledger.counters);
        }
        self.io
    }
}
