//! `NetpollInfo`: what a port's clients share.
//!
//! A port's [`Port::npinfo`](super::Port::npinfo) is there exactly while it has clients: the first client's set-up makes it and publishes it
//! last, the last client's clean-up takes it down, and a later client gets a fresh one. Poll loops look it up through a
//! generation count, so that the hot path reads one word that nobody writes.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    SetupError,
    client::{ClientShared, HookSender, Netpoll},
    context::{MAX_CLIENTS, PollContext},
    filter::{PortSet, PrefixSet},
    hook::RxHook,
    poll::{Budget, PollState, RxNp},
    ring::ClientRing,
};
use crate::{
    LcoreId,
    port::PortIo,
    sync::{self, AtomicU32, Mutex, MutexGuard, Ordering, PoisonError},
};

/// How long a clean-up lets the port take what the client has submitted.
const CLEANUP_LIMIT: Duration = Duration::from_millis(100);

/// The state that a port's clients share: Linux's `struct netpoll_info`.
#[derive(Debug)]
pub struct NetpollInfo<P: PortIo = super::DefaultIo> {
    /// `poll_lock` and `poll_owner`, one pair a queue.
    pub(crate) contexts: Box<[PollContext<P>]>,
    /// Relaxed: for who looks; the poll contexts have their own.
    pub(super) rx_flags: AtomicU32,
    pub(super) registry: Mutex<Registry>,
}

/// `rx_flags`: a client has an rx hook.
pub const RX_ENABLED: u32 = 1;
/// `rx_flags`: the port is being polled only to make room for sending.
pub const RX_DROP: u32 = 2;

#[derive(Debug, Default)]
pub(super) struct Registry {
    pub(super) clients: usize,
    /// Of each context that sends, the slots that are free again.
    pub(super) free_slots: Vec<Vec<usize>>,
    pub(super) next_slots: Vec<usize>,
    pub(super) next_queue: usize,
    /// Local addresses, and how many clients use each.
    pub(super) addresses: HashMap<Ipv4Addr, usize>,
    /// `rx_np`: the one client with an rx hook.
    pub(super) rx_np: Option<Arc<ClientShared>>,
}

/// What an rx client wants to receive.
#[derive(Clone, Debug)]
pub struct RxFilter {
    /// Only datagrams to this address; `None`: any that reaches the port.
    pub local_ip: Option<IpAddr>,
    /// Only datagrams from this address.
    pub remote_ip: Option<IpAddr>,
    /// Only datagrams from these prefixes. ARP and ICMP echo are answered to anybody all the same.
    pub allow: PrefixSet,
    /// Only datagrams to these UDP ports.
    pub local_ports: PortSet,
}

impl Default for RxFilter {
    fn default() -> Self {
        Self { local_ip: None, remote_ip: None, allow: PrefixSet::Any, local_ports: PortSet::Any }
    }
}

impl RxFilter {
    /// Refuses, in the name of `client`, what the filter cannot compare with.
    pub(super) fn check(&self, client: &str) -> Result<(), SetupError> {
        match [self.local_ip, self.remote_ip].into_iter().flatten().find(IpAddr::is_ipv6) {
            Some(ip) => Err(SetupError::AddressFamily { client: client.to_owned(), ip }),
            None => Ok(()),
        }
    }
}

impl<P: PortIo> Netpoll<P> {
    /// Goes on with another filter, where the client has an rx hook. No frame is lost over it: each is judged by the old
    /// filter or by the new one, queue by queue, and when this returns by the new one. Not from inside an rx hook.
    pub fn set_filter(&self, filter: &RxFilter) -> Result<(), SetupError> {
        super::context::refuse_in_poll()?;
        filter.check(&self.shared.name)?;
        for context in self.info.contexts.iter().filter(|_| self.has_hook) {
            let filter = filter.clone();
            context.change(move |state| state.set_filter(&filter));
        }
        Ok(())
    }
}

impl<P: PortIo> NetpollInfo<P> {
    /// The lcore that polls the port now: of the first queue that has one.
    pub fn poll_owner(&self) -> Option<LcoreId> {
        self.contexts.iter().find_map(PollContext::poll_owner)
    }

    /// [`RX_ENABLED`] and [`RX_DROP`].
    pub fn rx_flags(&self) -> u32 {
        let dropping = self.contexts.iter().any(PollContext::is_making_room);
        self.rx_flags.load(Ordering::Relaxed) | if dropping { RX_DROP } else { 0 }
    }

    /// The name of the one client with an rx hook.
    pub fn rx_np(&self) -> Option<String> {
        self.registry().rx_np.as_ref().map(|client| client.name.clone())
    }

    /// How many clients the port has.
    pub fn clients(&self) -> usize {
        self.registry().clients
    }

    /// Polls `queue` once as `lcore`; see [`Netpoll::poll`].
    pub(crate) fn poll(&self, queue: usize, lcore: LcoreId, budget: usize) -> Option<usize> {
        self.contexts[queue].poll(lcore, Budget::one_burst(budget), false)
    }

    /// The same, only to make room for sending.
    pub(crate) fn make_room(&self, queue: usize, lcore: LcoreId, budget: usize) -> Option<usize> {
        self.contexts[queue].poll(lcore, Budget::one_burst(budget), true)
    }

    pub(super) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a client's local address in or out, and tells the contexts where that changes the set.
    pub(super) fn change_addresses(&self, ip: Ipv4Addr, added: bool) {
        if ip.is_unspecified() {
            return;
        }
        let addresses: Vec<Ipv4Addr> = {
            let mut registry = self.registry();
            let users = registry.addresses.entry(ip).or_default();
            *users = if added { *users + 1 } else { *users - 1 };
            match (*users, added) {
                (1, true) => {}
                (0, false) => drop(registry.addresses.remove(&ip)),
                _ => return,
            }
            registry.addresses.keys().copied().collect()
        };
        for (number, context) in self.contexts.iter().enumerate() {
            let addresses = addresses.clone();
            context.change(move |state| {
                state.filter.change(|rules| rules.addresses = addresses.into_iter().collect());
                if added && number == 0 {
                    state.announce(ip);
                }
            });
        }
    }
}

/// A new rx client's filter and hooks, one a queue.
pub(super) struct NewRx {
    pub(super) filter: RxFilter,
    pub(super) hooks: Vec<Box<dyn RxHook>>,
}

impl<P: PortIo> NetpollInfo<P> {
    pub(super) fn set_rx_np(&self, client: &Netpoll<P>, rx: NewRx) {
        let ClientRing::Shared(ring) = &client.ring else { unreachable!("an rx client's ring is shared") };
        // The first queue last: where it is the one that passes datagrams on, the others have their hooks by then.
        for (queue, (context, hook)) in self.contexts.iter().zip(rx.hooks).enumerate().rev() {
            let np = HookSender::new(client.shared.clone(), ring.clone(), queue == client.queue);
            let filter = rx.filter.clone();
            context.change(move |state| state.set_rx_np(RxNp::new(hook, np), &filter));
        }
        self.registry().rx_np = Some(client.shared.clone());
        self.rx_flags.fetch_or(RX_ENABLED, Ordering::Relaxed);
    }

    /// Takes the hook out of every context. After this it is not called any more.
    pub(super) fn clear_rx_np(&self) -> Vec<RxNp<P::Buf>> {
        self.rx_flags.fetch_and(!RX_ENABLED, Ordering::Relaxed);
        // The first queue first: then nothing is passed on any more, and what was is still for the hooks.
        let hooks = self.contexts.iter().filter_map(|context| {
            wait_until_taken(context);
            context.change(PollState::clear_rx_np)
        });
        let hooks = hooks.collect();
        self.registry().rx_np = None;
        hooks
    }

    /// Lets the port take what the client has submitted, then takes the client out and its credits back.
    pub(super) fn remove_client(&self, client: &mut Netpoll<P>) {
        let context = &self.contexts[client.queue];
        let slot = client.shared.slot;
        let start = Instant::now();
        loop {
            let force = start.elapsed() >= CLEANUP_LIMIT;
            let now = super::clock::now();
            if context.change(move |state| state.remove_client(slot, now, force)).is_some() {
                break;
            }
            sync::sleep(Duration::from_micros(50));
        }
        let mut credits = client.ring.reclaim();
        context.change(move |state| state.free(&mut credits));
    }
}

/// How long a clean-up lets a worker's hook have what was passed on to it.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// Waits, for a bounded time, until the queue has taken what was passed on to it.
fn wait_until_taken<P: PortIo>(context: &PollContext<P>) {
    let start = Instant::now();
    while context.change(|state| state.waiting()) > 0 && start.elapsed() < DRAIN_LIMIT {
        std::thread::sleep(Duration::from_micros(50));
    }
}

impl Registry {
    /// A free slot: `(queue, slot)`. Clients are spread over the queues in turn.
    pub(super) fn take_slot(&mut self) -> Option<(usize, usize)> {
        let queues = self.next_slots.len();
        for _ in 0..queues {
            let queue = self.next_queue % queues;
            self.next_queue += 1;
            if let Some(slot) = self.free_slots[queue].pop() {
                return Some((queue, slot));
            }
            if self.next_slots[queue] < MAX_CLIENTS {
                self.next_slots[queue] += 1;
                return Some((queue, self.next_slots[queue] - 1));
            }
        }
        None
    }
}
