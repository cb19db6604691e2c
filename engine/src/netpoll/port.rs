//! `Port`: what carries a [`NetpollInfo`], and where clients are set up and cleaned up.
//!
//! Set-ups and clean-ups of one port take turns (`Port::setup`). They change poll contexts through
//! [`PollContext::change`] only, which returns after a grace period. `Port::npinfo`'s own lock is held for a pointer's
//! copy only, so that a hook may look at it while a set-up waits for that hook's poll to end.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use super::{
    SetupError,
    arp::{self, Neighbours},
    client::{self, ClientOptions, ClientShared, Netpoll, Placement, RemoteMac},
    context::{MAX_CLIENTS, PollContext},
    hook::RxHookFactory,
    info::{NetpollInfo, NewRx, Registry, RxFilter},
    poll::{EngineClient, PollState},
    published::Published,
    ring::{self},
    stats::{PortStats, QueueLedger},
};
use crate::{
    PortId, QueueId,
    port::{Frame, Offloads, PortIo},
    sync::{AtomicBool, AtomicU32, Mutex, MutexGuard, Ordering, PoisonError},
    wire::{MacAddr, ethernet, template::HEADERS_LEN},
};

/// What a port is told by its user.
#[derive(Clone, Debug)]
pub struct PortOptions {
    /// Name, for messages and for the options grammar.
    pub name: String,
    /// MAC address in place of the device's; the device must deliver what is sent to it (promiscuous, or a virtual one).
    pub mac: Option<MacAddr>,
    /// The port's own address and the length of its on-link prefix.
    pub ip: Option<(Ipv4Addr, u8)>,
    /// Where off-link frames go.
    pub gateway: Option<Ipv4Addr>,
    /// Largest IP packet, in bytes.
    pub mtu: usize,
    /// Multicast MAC addresses that are accepted.
    pub multicast: Vec<MacAddr>,
    /// Accept UDP checksums that hold only the pseudo-header's sum, on kernel-backed devices.
    pub accept_partial: bool,
    /// ARP and ICMP answers a second, over all queues.
    pub answers_per_second: u32,
}

impl PortOptions {
    /// A port without an address.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            mac: None,
            ip: None,
            gateway: None,
            mtu: 1500,
            multicast: Vec::new(),
            accept_partial: true,
            answers_per_second: 10_000,
        }
    }

    /// With this address and prefix length.
    pub fn ip(mut self, ip: Ipv4Addr, prefix_len: u8) -> Self {
        self.ip = Some((ip, prefix_len));
        self
    }
}

/// What clients and poll contexts both need of a port.
#[derive(Debug)]
pub(crate) struct PortShared {
    pub(crate) id: PortId,
    pub(crate) mac: MacAddr,
    pub(crate) offloads: Offloads,
    pub(crate) options: PortOptions,
    /// Link state as the poll contexts last saw it. Written by them, read by `send`. Relaxed: a frame that is let through a
    /// moment too late is counted `port_down` in the ring.
    up: AtomicBool,
}

impl PortShared {
    #[inline]
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    pub(crate) fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
    }
}

/// A port of the engine: Linux's `net_device`, as far as netpoll sees it.
#[derive(Debug)]
pub struct Port<P: PortIo = super::DefaultIo> {
    pub(crate) shared: Arc<PortShared>,
    ledgers: Box<[Arc<QueueLedger>]>,
    npinfo: Published<Option<Arc<NetpollInfo<P>>>>,
    /// Held throughout a set-up or clean-up.
    setup: Mutex<Setup<P>>,
}

#[derive(Debug)]
struct Setup<P: PortIo> {
    /// The queues, while there is no `NetpollInfo` to hold them.
    idle: Vec<P>,
    /// There was a `NetpollInfo` before: what waits in the NIC is of its time.
    served: bool,
    closed: bool,
}

impl<P: PortIo> Port<P> {
    /// A port of one or more queues. Their MAC address and offloads are those of the first.
    ///
    /// # Panics
    /// Without a queue.
    pub fn new(id: PortId, options: PortOptions, queues: Vec<P>) -> Arc<Self> {
        let first = queues.first().expect("a port has at least one queue");
        let shared = Arc::new(PortShared {
            id,
            mac: options.mac.unwrap_or_else(|| match first.mac() {
                // net_ring has none; zero is no sender's address.
                MacAddr([0, 0, 0, 0, 0, 0]) => local_mac(id),
                mac => mac,
            }),
            offloads: first.offloads(),
            options,
            up: AtomicBool::new(first.link_up()),
        });
        Arc::new(Self {
            shared,
            ledgers: queues.iter().map(|_| Arc::default()).collect(),
            npinfo: Published::new(None),
            setup: Mutex::new(Setup { idle: queues, served: false, closed: false }),
        })
    }

    /// The port's number.
    pub fn id(&self) -> PortId {
        self.shared.id
    }

    /// The port's name.
    pub fn name(&self) -> &str {
        &self.shared.options.name
    }

    /// The port's MAC address.
    pub fn mac(&self) -> MacAddr {
        self.shared.mac
    }

    /// What it was told.
    pub fn options(&self) -> &PortOptions {
        &self.shared.options
    }

    /// How many queues it has.
    pub fn queues(&self) -> usize {
        self.ledgers.len()
    }

    /// Whether the link was up when a poll context last looked.
    pub fn is_up(&self) -> bool {
        self.shared.is_up()
    }

    /// What the port's clients share, while it has any.
    pub fn npinfo(&self) -> Option<Arc<NetpollInfo<P>>> {
        self.npinfo.get()
    }

    /// For a poll loop: `Some` with the new value where [`Port::npinfo`] changed since `seen`.
    pub(crate) fn npinfo_since(&self, seen: &mut u64) -> Option<Option<Arc<NetpollInfo<P>>>> {
        self.npinfo.since(seen)
    }

    /// Sets up a client that only sends.
    pub fn setup(self: &Arc<Self>, options: ClientOptions) -> Result<Netpoll<P>, SetupError> {
        self.setup_client(options, None)
    }

    /// Sets up the port's rx client. At most one: a second is refused with the holder's name.
    pub fn setup_rx(
        self: &Arc<Self>,
        mut options: ClientOptions,
        filter: RxFilter,
        mut hooks: impl RxHookFactory,
    ) -> Result<Netpoll<P>, SetupError> {
        options.shared = true;
        self.setup_client(options, Some((filter, &mut hooks)))
    }

    fn setup_client(
        self: &Arc<Self>,
        options: ClientOptions,
        mut rx: Option<(RxFilter, &mut dyn RxHookFactory)>,
    ) -> Result<Netpoll<P>, SetupError> {
        super::context::refuse_in_poll()?;
        let client_options = Checked::new(&options, &self.shared.options, rx.as_ref().map(|(filter, _)| filter))?;
        // The user's code runs first, while nothing is locked or half done.
        let rx = rx.as_mut().map(|(filter, hooks)| {
            let hooks = (0..self.queues()).map(|queue| hooks.rx_hook(QueueId(queue as u16))).collect();
            NewRx { filter: filter.clone(), hooks }
        });
        let mut setup = self.lock_setup();
        if setup.closed {
            return Err(SetupError::PortClosed { port: self.name().into() });
        }
        let present = self.npinfo();
        let fresh = present.is_none();
        let info = present.unwrap_or_else(|| self.fresh_info(&mut setup));
        let result = self.add_client(&info, &options, client_options, rx);
        match &result {
            // Last thing to do, as in the patch: publish.
            Ok(_) if fresh => self.publish(Some(info)),
            Err(_) if fresh => setup.idle = Self::dissolve(&info),
            _ => {}
        }
        result
    }

    fn add_client(
        self: &Arc<Self>,
        info: &Arc<NetpollInfo<P>>,
        options: &ClientOptions,
        checked: Checked,
        rx: Option<NewRx>,
    ) -> Result<Netpoll<P>, SetupError> {
        if let (Some(_), Some(holder)) = (&rx, &info.registry().rx_np) {
            let (port, holder) = (self.name().into(), holder.name.clone());
            return Err(SetupError::RxTaken { port, holder });
        }
        let (queue, slot) = info.registry().take_slot().ok_or(SetupError::TooManyClients { most: MAX_CLIENTS })?;
        let context = &info.contexts[queue];
        let first = options.first_credits.unwrap_or(options.ring_frames).clamp(1, options.ring_frames);
        let mut credits = context.change(move |state: &mut PollState<P>| state.alloc(first));
        let room = credits.first_mut().map_or(usize::MAX, buffer_room);
        let max_payload = client::max_payload(self.shared.options.mtu).min(room.saturating_sub(HEADERS_LEN));
        let shared = ClientShared::new(
            options,
            checked.remote,
            Placement {
                port: self.shared.clone(),
                dirty: context.dirty.clone(),
                slot,
                local_ip: checked.local_ip,
                max_payload,
            },
        );
        let (client_ring, mut engine_ring) = ring::ring(options.ring_frames, options.shared);
        let owed = options.ring_frames - credits.len();
        engine_ring.give(&mut credits);
        let engine_client = EngineClient::new(shared.clone(), engine_ring, checked.next_hop, owed);
        context.change(move |state| state.add_client(slot, engine_client));
        let has_hook = rx.is_some();
        let client = Netpoll {
            port: self.clone(),
            info: info.clone(),
            shared,
            ring: client_ring,
            queue,
            has_hook,
            cleaned_up: false,
        };
        info.registry().clients += 1;
        info.change_addresses(checked.local_ip, true);
        if let Some(rx) = rx {
            info.set_rx_np(&client, rx);
        }
        Ok(client)
    }

    /// The other half of [`Netpoll::cleanup`].
    pub(crate) fn cleanup_client(&self, client: &mut Netpoll<P>) -> Result<(), SetupError> {
        super::context::refuse_in_poll()?;
        let hooks = {
            let mut setup = self.lock_setup();
            let info = client.info.clone();
            let hooks = if client.has_hook { info.clear_rx_np() } else { Vec::new() };
            client.shared.close();
            info.remove_client(client);
            info.change_addresses(client.shared.local_ip, false);
            let left = {
                let mut registry = info.registry();
                registry.clients -= 1;
                registry.free_slots[client.queue].push(client.shared.slot);
                registry.clients
            };
            if left == 0 {
                self.publish(None);
                setup.idle = Self::dissolve(&info);
            }
            hooks
        };
        // Outside the lock: a hook may own clients of this very port.
        drop(hooks);
        Ok(())
    }

    /// The counters of all queues since the port was made. (Inside a hook, what the device itself lost is as of the
    /// last call outside.)
    pub fn stats(&self) -> PortStats {
        let mut stats = PortStats::default();
        for queue in 0..self.queues() {
            stats.merge(&self.queue_stats(QueueId(queue as u16)));
        }
        stats
    }

    /// The counters of one queue.
    ///
    /// # Panics
    /// If there is no such queue.
    pub fn queue_stats(&self, queue: QueueId) -> PortStats {
        let queue = usize::from(queue.0);
        let mut stats = PortStats::default();
        let ledger = &self.ledgers[queue];
        stats.add(ledger);
        stats.missed = if super::context::refuse_in_poll().is_ok() {
            let mut setup = self.lock_setup();
            let missed = match self.npinfo() {
                Some(info) => info.contexts[queue].change(|state| state.missed()),
                None => setup.idle.get_mut(queue).map_or_else(|| ledger.missed(), PortIo::missed),
            };
            ledger.set_missed(missed);
            missed
        } else {
            ledger.missed()
        };
        stats
    }

    /// Takes the port out of service and gives its queues back. Refused while it has clients.
    pub fn close(&self) -> Result<Vec<P>, SetupError> {
        let mut setup = self.lock_setup();
        if let Some(info) = self.npinfo() {
            return Err(SetupError::InUse { port: self.name().into(), clients: info.clients() });
        }
        setup.closed = true;
        self.shared.set_up(false);
        for (queue, ledger) in setup.idle.iter_mut().zip(&self.ledgers) {
            ledger.set_missed(queue.missed());
        }
        Ok(std::mem::take(&mut setup.idle))
    }

    fn lock_setup(&self) -> MutexGuard<'_, Setup<P>> {
        self.setup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, npinfo: Option<Arc<NetpollInfo<P>>>) {
        drop(self.npinfo.set(npinfo));
    }

    fn fresh_info(&self, setup: &mut Setup<P>) -> Arc<NetpollInfo<P>> {
        let queues = std::mem::take(&mut setup.idle);
        let stale = std::mem::replace(&mut setup.served, true);
        let neighbours = Arc::new(Neighbours::default());
        // Those that send come first; they answer, and have the clients.
        let sending = queues.iter().take_while(|queue| queue.sends()).count().max(1);
        let contexts: Box<[_]> = queues
            .into_iter()
            .zip(&self.ledgers)
            .map(|(io, ledger)| {
                PollContext::new(PollState::new(io, &self.shared, ledger, &neighbours, sending as u32, stale))
            })
            .collect();
        let registry =
            Registry { free_slots: vec![Vec::new(); sending], next_slots: vec![0; sending], ..Registry::default() };
        Arc::new(NetpollInfo { contexts, rx_flags: AtomicU32::new(0), registry: Mutex::new(registry) })
    }

    /// Takes the queues out of a `NetpollInfo` that has no client any more. Poll loops that still hold it find nothing
    /// in it.
    fn dissolve(info: &NetpollInfo<P>) -> Vec<P> {
        info.contexts.iter().filter_map(|context| context.take().map(PollState::into_io)).collect()
    }
}

/// What the options come to on this port.
struct Checked {
    local_ip: Ipv4Addr,
    remote: Option<(Ipv4Addr, u16)>,
    next_hop: Option<Ipv4Addr>,
}

impl Checked {
    fn new(options: &ClientOptions, port: &PortOptions, filter: Option<&RxFilter>) -> Result<Self, SetupError> {
        if options.ring_frames == 0 {
            return Err(SetupError::NoRing { client: options.name.clone() });
        }
        let v4 = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => Ok(ip),
            IpAddr::V6(_) => Err(SetupError::AddressFamily { client: options.name.clone(), ip }),
        };
        let port_ip = port.ip.map_or(Ipv4Addr::UNSPECIFIED, |(ip, _)| ip);
        let local_ip = options.local_ip.map_or(Ok(port_ip), v4)?;
        let remote = options.remote.map(|(ip, port)| v4(ip).map(|ip| (ip, port))).transpose()?;
        filter.map_or(Ok(()), |filter| filter.check(&options.name))?;
        let next_hop = match (options.remote_mac, remote) {
            (RemoteMac::Arp, Some((ip, _))) => Some(arp::next_hop(ip, port.ip, port.gateway)),
            _ => None,
        };
        Ok(Self { local_ip, remote, next_hop })
    }
}

/// A locally administered address for a port whose device has none: `02:6e:70` ("np") and the port's number.
fn local_mac(id: PortId) -> MacAddr {
    let [high, low] = id.0.to_be_bytes();
    MacAddr([0x02, 0x6e, 0x70, 0x00, high, low])
}

/// Bytes that a buffer of this port takes, up to the largest frame that anyone asks for.
fn buffer_room<B: Frame>(buffer: &mut B) -> usize {
    let (mut fits, mut too_long) = (ethernet::MIN_FRAME_LEN, 1 << 16);
    while too_long - fits > 1 {
        let middle = fits.midpoint(too_long);
        if buffer.resize(middle).is_some() { fits = middle } else { too_long = middle }
    }
    buffer.resize(0);
    fits
}
