//! EAL: started once a process, in a thread of its own.
//!
//! `rte_eal_init` pins the thread that calls it, and threads made by that one afterwards inherit the CPU;
//! so it runs in a thread that does nothing else, which then is the main lcore and runs its jobs.

use std::{
    collections::BTreeSet,
    ffi::{CString, c_char},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use super::{
    args::{EalConfig, Machine, Memory, Plan},
    device,
    error::{DpdkError, Errno, Result},
    lcore::Task,
    log,
};
use crate::ids::{LcoreId, PortId};

/// Whether EAL was started in this process, ever.
static STARTED: AtomicBool = AtomicBool::new(false);

/// DPDK's environment. Everything made from it holds it: it is cleaned up after the last of them.
#[derive(Debug)]
pub struct Eal {
    /// The main one first.
    lcores: Vec<Lcore>,
    memory: Memory,
    jobs: mpsc::Sender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Held through every set-up call: ethdev's are not thread-safe, and the log lines of one call are told
    /// from another's by it.
    control: Mutex<Claims>,
}

/// The ports that someone in this process owns.
#[derive(Debug, Default)]
pub(super) struct Claims(pub(super) BTreeSet<PortId>);

#[derive(Debug)]
pub(super) struct Lcore {
    pub(super) id: LcoreId,
    /// Set while a job runs there. Written by `launch` (takes it) and by the job's end (gives it back).
    pub(super) busy: Arc<AtomicBool>,
}

pub(super) enum Command {
    Run(Task),
    Quit,
}

impl Eal {
    /// Starts EAL. Any thread, once a process: a second call is refused, also after a failure of `rte_eal_init`
    /// itself (it leaves dirty state). What is found wrong before that (lcores, hugepages, arguments) may be
    /// put right and tried again.
    pub fn init(config: EalConfig) -> Result<Arc<Eal>> {
        let plan = Plan::new(&config, &Machine::this())?;
        // Relaxed: it says who is first, and carries nothing else.
        if STARTED.swap(true, Ordering::Relaxed) {
            return Err(DpdkError::AlreadyInitialised);
        }
        log::install();
        let start = log::mark();
        let (ready, started) = mpsc::channel();
        let (jobs, inbox) = mpsc::channel();
        let argv = plan.argv;
        let thread = thread::Builder::new()
            .name("eal-main".into())
            .spawn(move || eal_main(argv, &ready, &inbox))
            .map_err(DpdkError::Spawn)?;
        let lcores = match started.recv() {
            Ok(Ok(lcores)) => lcores,
            Ok(Err(errno)) => return Err(init_error(errno, start, plan.memory)),
            // The thread died without a word: a panic, which it has printed.
            Err(_) => return Err(init_error(Errno::EINVAL, start, plan.memory)),
        };
        let eal = Arc::new(Eal {
            lcores: lcores.into_iter().map(|id| Lcore { id, busy: Arc::default() }).collect(),
            memory: plan.memory,
            jobs,
            thread: Mutex::new(Some(thread)),
            control: Mutex::default(),
        });
        // EAL starts without a device whose probe failed, and says so only in its log.
        for vdev in &plan.vdevs {
            device::check_probed(vdev, start)?;
        }
        Ok(eal)
    }

    /// The lcores, the main one first.
    pub fn lcores(&self) -> Vec<LcoreId> {
        self.lcores.iter().map(|lcore| lcore.id).collect()
    }

    /// The main lcore: the thread that EAL was started in.
    pub fn main_lcore(&self) -> LcoreId {
        self.lcores[0].id
    }

    /// Where packet memory comes from.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    pub(super) fn lcore(&self, id: LcoreId) -> Option<&Lcore> {
        self.lcores.iter().find(|lcore| lcore.id == id)
    }

    /// Gives a job to the main lcore.
    pub(super) fn run_on_main(&self, task: Task) {
        // Not refused: the thread reads until `Quit`, which only our own end sends.
        let _ = self.jobs.send(Command::Run(task));
    }

    /// One set-up call at a time.
    pub(super) fn control(&self) -> MutexGuard<'_, Claims> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Eal {
    fn drop(&mut self) {
        let _ = self.jobs.send(Command::Quit);
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // The last owner may have been a job: then nobody is left to wait for, least of all ourselves.
        if let (Some(thread), None) = (thread, LcoreId::current()) {
            let _ = thread.join();
        }
    }
}

/// The main lcore's thread, from `rte_eal_init` to `rte_eal_cleanup`.
fn eal_main(
    argv: Vec<String>,
    ready: &mpsc::Sender<std::result::Result<Vec<LcoreId>, Errno>>,
    jobs: &mpsc::Receiver<Command>,
) {
    // EAL keeps pointers into its arguments: they live as long as the process.
    let mut argv: Vec<*mut c_char> =
        argv.into_iter().map(|arg| CString::new(arg).unwrap_or_default().into_raw()).collect();
    let argc = argv.len() as i32;
    argv.push(std::ptr::null_mut());
    let argv = argv.leak();
    // SAFETY: `argv` holds `argc` writable strings and an end mark, none of which is ever freed; called once a
    // process (`STARTED`).
    let rc = unsafe { dpdk_sys::rte_eal_init(argc, argv.as_mut_ptr()) };
    if rc < 0 {
        let _ = ready.send(Err(Errno::last()));
        return;
    }
    let _ = ready.send(Ok(eal_lcores()));
    while let Ok(Command::Run(task)) = jobs.recv() {
        task.run();
    }
    // SAFETY: `Eal` is gone, so every port, pool and job that held it is.
    unsafe { dpdk_sys::rte_eal_cleanup() };
}

fn eal_lcores() -> Vec<LcoreId> {
    // SAFETY: these read EAL's configuration, which is complete by now.
    unsafe {
        let main = dpdk_sys::rte_get_main_lcore();
        let mut lcores = vec![LcoreId(main)];
        let mut next = dpdk_sys::rte_get_next_lcore(u32::MAX, 1, 0);
        while next < dpdk_sys::DPDK_MAX_LCORE {
            lcores.push(LcoreId(next));
            next = dpdk_sys::rte_get_next_lcore(next, 1, 0);
        }
        lcores
    }
}

fn init_error(errno: Errno, start: log::Mark, memory: Memory) -> DpdkError {
    let advice = if start.says(&["Permission denied", "Operation not permitted"]) {
        "this user lacks a right: with hugepages or PCI devices run as root, or give the process CAP_IPC_LOCK and CAP_SYS_ADMIN and \
         its user write access to /dev/hugepages and /dev/vfio; or run without hugepages (--no-huge)"
    } else if start.says(&["unrecognized option", "invalid option", "invalid parameter", "Invalid"]) {
        "check the EAL arguments (`dpdk-testpmd --help` lists them); correct and start again"
    } else if matches!(memory, Memory::Hugepages { .. }) {
        "are enough hugepages free? `grep Huge /proc/meminfo` shows them, `sysctl -w vm.nr_hugepages=512` reserves some, \
         --no-huge does without"
    } else {
        "does the machine have that much memory free? `-m` sets it in megabytes"
    };
    DpdkError::EalInit { errno, advice: advice.into(), log: start.quote() }
}
