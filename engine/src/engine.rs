//! The engine: EAL, poll loops on its lcores, and ports that come and go.
//!
//! ```no_run
//! use netpoll::{engine::{Engine, EngineConfig}, netpoll::{ClientOptions, PortOptions}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::start(EngineConfig::default())?;
//! let options = PortOptions::new("null0").ip([10, 99, 0, 1].into(), 24);
//! let port = engine.attach("net_null0", &Default::default(), options, &[])?;
//! let mut client = port.setup(ClientOptions::new("logger").remote([10, 99, 0, 2], 514))?;
//! client.send(b"<14>a line")?;
//! println!("{}", client.cleanup()?);
//! engine.stop()?;
//! # Ok(())
//! # }
//! ```
//!
//! Teardown follows ownership: clients are cleaned up (or dropped), then [`Engine::stop`] ends the loops, which drain the
//! rings, closes the ports and tells whether every mbuf came back; EAL is cleaned up when the last owner is dropped.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    LcoreId, QueueId,
    dpdk::{self, ClosedPort, DpdkError, Eal, EalConfig, LcoreJob, PortInfo, PortSetup, Spreading, StartedPort},
    netpoll::{IdlePolicy, PollLoop, PollLoopHandle, Port, PortOptions, SetupError},
    port::MAX_BURST,
};

/// What an engine is started with.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// EAL: lcores, memory.
    pub eal: EalConfig,
    /// What an idle poll loop does.
    pub idle: IdlePolicy,
    /// Whether a poll loop that sleeps when idle is a real-time thread, where the process may have such: on a CPU that it shares it runs
    /// at once when it wakes up. One that has not slept for 20 ms is ordinary until it sleeps again.
    pub real_time: bool,
    /// Frames a poll, 1 to [`MAX_BURST`].
    pub burst: usize,
}

impl Default for EngineConfig {
    /// Hugepages where there are any, all lcores of the cpuset, sleeping when idle, real-time, bursts of 32.
    fn default() -> Self {
        let eal = EalConfig { memory: dpdk::Memory::detect(), ..EalConfig::default() };
        Self { eal, idle: IdlePolicy::default(), real_time: true, burst: MAX_BURST / 2 }
    }
}

/// Why the engine could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// DPDK refused.
    #[error(transparent)]
    Dpdk(#[from] DpdkError),
    /// A port refused.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The lcore is not one of the engine's.
    #[error("port {port}: lcore {lcore} is not one of the engine's ({known}); name it in the engine's lcores too")]
    NoSuchLcore {
        /// The port.
        port: String,
        /// What was asked for.
        lcore: LcoreId,
        /// What there is.
        known: String,
    },
    /// Two ports of one name.
    #[error("a port named {name:?} is there already; give this one another name")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A poll loop panicked.
    #[error("the poll loop on lcore {lcore} panicked: {message}")]
    LoopPanicked {
        /// Where.
        lcore: LcoreId,
        /// What it said.
        message: String,
    },
    /// The port is not this engine's.
    #[error("port {name:?} is not one of this engine's")]
    UnknownPort {
        /// Its name.
        name: String,
    },
}

/// EAL, its poll loops and its ports. Any thread.
#[derive(Debug)]
pub struct Engine {
    eal: Arc<Eal>,
    idle: IdlePolicy,
    real_time: bool,
    burst: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    workers: Vec<Worker>,
    ports: Vec<Running>,
}

/// A poll loop on its lcore.
#[derive(Debug)]
struct Worker {
    lcore: LcoreId,
    queues: usize,
    handle: PollLoopHandle,
    job: LcoreJob,
}

#[derive(Debug)]
struct Running {
    port: Arc<Port>,
    device: StartedPort,
    spreading: Spreading,
    lcores: Vec<LcoreId>,
}

impl Engine {
    /// Starts EAL. Poll loops start with the first queue that an lcore is given.
    pub fn start(config: EngineConfig) -> Result<Engine, EngineError> {
        let EngineConfig { eal, idle, real_time, burst } = config;
        let eal = Eal::init(eal)?;
        let wanted = real_time && matches!(idle, IdlePolicy::Sleep { .. });
        let real_time = wanted && dpdk::may_be_real_time();
        if wanted && !real_time {
            tracing::info!(
                "poll loops do not become real-time threads: on a CPU that they share with others, frames may wait for some ms. It takes \
                 CAP_SYS_NICE, or RLIMIT_RTPRIO 1 (`--ulimit rtprio=1` in Docker, `LimitRTPRIO=1` in systemd), and that no other \
                 policy was chosen for the process (`chrt`)"
            );
        }
        Ok(Engine { eal, idle, real_time, burst, state: Mutex::default() })
    }

    /// Whether its poll loops become real-time threads while it runs, and so need the right to.
    pub fn is_real_time(&self) -> bool {
        self.real_time
    }

    /// EAL.
    pub fn eal(&self) -> &Arc<Eal> {
        &self.eal
    }

    /// The lcores that poll loops may run on.
    pub fn lcores(&self) -> Vec<LcoreId> {
        self.eal.lcores()
    }

    /// Attaches a device (`net_tap0,iface=np0`, `0000:01:00.0`), starts it, and has it polled: queue `i` by
    /// `lcores[i]`, round and round; with no lcores given, by those that have the least to do. Of several queues, what
    /// the device does not have or does not spread its frames over is made in software ([`Engine::spreading`]).
    pub fn attach(
        &self,
        device: &str,
        setup: &PortSetup,
        options: PortOptions,
        lcores: &[LcoreId],
    ) -> Result<Arc<Port>, EngineError> {
        self.check(&options.name, lcores)?;
        let device = dpdk::Port::attach(&self.eal, device)?;
        self.run(device, setup, options, lcores)
    }

    /// Two ports joined by rings: what leaves one arrives at the other. For demonstrations, tests and benchmarks.
    pub fn ring_pair(
        &self,
        ring_frames: u32,
        setup: &PortSetup,
        options: [PortOptions; 2],
    ) -> Result<[Arc<Port>; 2], EngineError> {
        let names = [options[0].name.clone(), options[1].name.clone()];
        names.iter().try_for_each(|name| self.check(name, &[]))?;
        let (a, b) = dpdk::Port::ring_pair(&self.eal, [&names[0], &names[1]], setup.queues, ring_frames)?;
        let [a_options, b_options] = options;
        Ok([self.run(a, setup, a_options, &[])?, self.run(b, setup, b_options, &[])?])
    }

    /// Starts a device that is attached already, and has it polled.
    pub fn run(
        &self,
        device: dpdk::Port,
        setup: &PortSetup,
        options: PortOptions,
        lcores: &[LcoreId],
    ) -> Result<Arc<Port>, EngineError> {
        let mut state = self.state();
        let (device, queues, spreading) = device.start_spread(setup)?;
        let port = Port::new(device.id(), options, queues);
        let mut running = Running { port: port.clone(), device, spreading, lcores: Vec::new() };
        for queue in 0..port.queues() {
            let lcore = match lcores {
                [] => state.least_busy(&running.may_poll(self.eal.lcores())),
                lcores => lcores[queue % lcores.len()],
            };
            state.poll(self, lcore, &port, QueueId(queue as u16))?;
            running.lcores.push(lcore);
        }
        state.ports.push(running);
        Ok(port)
    }

    /// The ports, in the order in which they came.
    pub fn ports(&self) -> Vec<Arc<Port>> {
        self.state().ports.iter().map(|running| running.port.clone()).collect()
    }

    /// An lcore whose poll loop has ended though nobody asked it to: a bug below it panicked. Its ports are deaf from then on.
    pub fn stopped_lcore(&self) -> Option<LcoreId> {
        self.state().workers.iter().find(|worker| worker.job.is_finished()).map(|worker| worker.lcore)
    }

    /// How frames get to the queues of a port.
    pub fn spreading(&self, port: &Port) -> Option<Spreading> {
        Some(self.state().ports.iter().find(|running| running.port.id() == port.id())?.spreading)
    }

    /// What the device of a port says of itself, and the lcores that poll its queues.
    pub fn device(&self, port: &Port) -> Option<(PortInfo, Vec<LcoreId>)> {
        let state = self.state();
        let running = state.ports.iter().find(|running| running.port.id() == port.id())?;
        Some((running.device.info().ok()?, running.lcores.clone()))
    }

    /// Takes a port out while the others run on. Refused while it has clients.
    pub fn detach(&self, port: &Arc<Port>) -> Result<ClosedPort, EngineError> {
        let mut state = self.state();
        let Some(at) = state.ports.iter().position(|running| Arc::ptr_eq(&running.port, port)) else {
            return Err(EngineError::UnknownPort { name: port.name().into() });
        };
        let queues = port.close()?;
        let running = state.ports.remove(at);
        for worker in &mut state.workers {
            worker.queues -= running.lcores.iter().filter(|lcore| **lcore == worker.lcore).count();
            worker.handle.remove(port);
        }
        drop(queues);
        Ok(running.device.close()?)
    }

    /// Ends the poll loops, which drain the rings first, and closes the ports. Refused, with everything still running,
    /// while a port has clients. What it returns says whether every mbuf came back.
    pub fn stop(&self) -> Result<Vec<ClosedPort>, EngineError> {
        let ports = self.ports();
        if let Some((port, info)) = ports.iter().find_map(|port| port.npinfo().map(|info| (port, info))) {
            let (port, clients) = (port.name().into(), info.clients());
            return Err(SetupError::InUse { port, clients }.into());
        }
        let panicked = self.stop_loops();
        let closed = ports.iter().map(|port| self.detach(port)).collect::<Result<_, _>>()?;
        panicked.map_or(Ok(closed), Err)
    }

    /// Stops all loops and waits for their ends; the first panic, if one panicked.
    fn stop_loops(&self) -> Option<EngineError> {
        let workers = std::mem::take(&mut self.state().workers);
        workers.iter().for_each(|worker| worker.handle.stop());
        let mut panicked = None;
        for worker in workers {
            if let Err(panic) = worker.job.join() {
                let message = panic.downcast_ref::<&str>().map(ToString::to_string);
                let message = message.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
                panicked = panicked.or(Some(EngineError::LoopPanicked { lcore: worker.lcore, message }));
            }
        }
        panicked
    }

    fn check(&self, name: &str, lcores: &[LcoreId]) -> Result<(), EngineError> {
        if self.state().ports.iter().any(|running| running.port.name() == name) {
            return Err(EngineError::DuplicateName { name: name.into() });
        }
        let known: HashSet<_> = self.eal.lcores().into_iter().collect();
        match lcores.iter().find(|lcore| !known.contains(lcore)) {
            Some(&lcore) => {
                let mut known: Vec<_> = known.iter().map(|lcore| lcore.0).collect();
                known.sort_unstable();
                let known = known.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
                Err(EngineError::NoSuchLcore { port: name.into(), lcore, known })
            }
            None => Ok(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Loops hold ports, ports hold EAL: without this nothing of it would ever end.
        if let Some(error) = self.stop_loops() {
            tracing::error!(%error, "while stopping");
        }
    }
}

impl Running {
    /// Of `lcores`, those that the next queue may be polled by: where one queue receives for the others, not that one's,
    /// if there is another, so that no hook delays what is answered.
    fn may_poll(&self, lcores: Vec<LcoreId>) -> Vec<LcoreId> {
        let receiver = match self.spreading {
            Spreading::Software { .. } => self.lcores.first(),
            _ => None,
        };
        let others: Vec<_> = lcores.iter().copied().filter(|lcore| Some(lcore) != receiver).collect();
        if others.is_empty() { lcores } else { others }
    }
}

impl State {
    /// The lcore with the fewest queues; among equals the highest, since interrupts prefer CPU 0.
    fn least_busy(&self, lcores: &[LcoreId]) -> LcoreId {
        let queues = |lcore: &LcoreId| self.workers.iter().find(|w| w.lcore == *lcore).map_or(0, |w| w.queues);
        lcores.iter().copied().rev().min_by_key(queues).expect("EAL has at least one lcore")
    }

    /// Has `lcore` poll that queue; starts its loop where it has none.
    fn poll(&mut self, engine: &Engine, lcore: LcoreId, port: &Arc<Port>, queue: QueueId) -> Result<(), EngineError> {
        if let Some(worker) = self.workers.iter_mut().find(|worker| worker.lcore == lcore) {
            worker.handle.add(port, queue);
            worker.queues += 1;
            return Ok(());
        }
        let mut poll_loop = PollLoop::new(engine.idle, engine.burst);
        if engine.real_time {
            poll_loop.real_time_by(|real_time| {
                let done = dpdk::set_real_time(real_time);
                if let Err(error) = &done {
                    tracing::warn!("a poll loop stays as urgent as it is: {error}");
                }
                done.is_ok()
            });
        }
        poll_loop.add(port, queue);
        let handle = poll_loop.handle();
        let job = engine.eal.launch(lcore, move || poll_loop.run())?;
        self.workers.push(Worker { lcore, queues: 1, handle, job });
        Ok(())
    }
}
