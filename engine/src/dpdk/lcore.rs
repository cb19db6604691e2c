//! Jobs on lcores, and std threads that become one.

use std::{
    any::Any,
    ffi::{c_int, c_void},
    fmt,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::{
    cpus,
    eal::Eal,
    error::{DpdkError, Errno, Result},
};
use crate::ids::{EnteredLcore, LcoreId};

/// A job on an lcore. Dropping it leaves the job running.
#[derive(Debug)]
pub struct LcoreJob {
    lcore: LcoreId,
    end: Arc<End>,
}

/// How a job ended.
#[derive(Default)]
struct End {
    result: Mutex<Option<thread::Result<()>>>,
    changed: Condvar,
    finished: AtomicBool,
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("End").field("finished", &self.finished).finish_non_exhaustive()
    }
}

impl Eal {
    /// Runs `job` on `lcore`: the main one or a worker. Any thread. The job's thread is that lcore
    /// ([`LcoreId::current`]) while it runs, and EAL is not cleaned up before it ends. A panic in it goes to
    /// [`LcoreJob::join`].
    pub fn launch(self: &Arc<Self>, lcore: LcoreId, job: impl FnOnce() + Send + 'static) -> Result<LcoreJob> {
        let Some(slot) = self.lcore(lcore) else {
            return Err(DpdkError::UnknownLcore { lcore, known: cpus::format(self.lcores().iter().map(|l| l.0)) });
        };
        // L1 pairs with L2: what the last job did there is seen before the next one starts.
        if slot.busy.swap(true, Ordering::Acquire) {
            return Err(DpdkError::LcoreBusy { lcore });
        }
        let end = Arc::<End>::default();
        let task = Task { lcore, job: Box::new(job), end: end.clone(), busy: slot.busy.clone(), _eal: self.clone() };
        if lcore == self.main_lcore() {
            self.run_on_main(task);
        } else {
            launch_worker(lcore, task)?;
        }
        Ok(LcoreJob { lcore, end })
    }
}

impl LcoreJob {
    /// Where it runs.
    pub fn lcore(&self) -> LcoreId {
        self.lcore
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        // L3 pairs with L4: who sees the end sees what the job did.
        self.end.finished.load(Ordering::Acquire)
    }

    /// Waits for its end. `Err` holds its panic.
    pub fn join(self) -> thread::Result<()> {
        let mut result = self.end.result.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match result.take() {
                Some(result) => return result,
                None => result = self.end.changed.wait(result).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// What an lcore runs.
pub(super) struct Task {
    lcore: LcoreId,
    job: Box<dyn FnOnce() + Send>,
    end: Arc<End>,
    busy: Arc<AtomicBool>,
    _eal: Arc<Eal>,
}

impl Task {
    /// On the lcore's own thread.
    pub(super) fn run(self) {
        let Task { lcore, job, end, busy, _eal } = self;
        let entered = lcore.enter();
        let result = catch_unwind(AssertUnwindSafe(job)).map_err(|panic: Box<dyn Any + Send>| panic);
        // L2 pairs with L1.
        busy.store(false, Ordering::Release);
        *end.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        // L4 pairs with L3.
        end.finished.store(true, Ordering::Release);
        end.changed.notify_all();
        // Maybe the last owner of EAL: its end must find us on an lcore still, so as not to wait for itself.
        drop(_eal);
        drop(entered);
    }
}

fn launch_worker(lcore: LcoreId, task: Task) -> Result<()> {
    let busy = task.busy.clone();
    let task = Box::into_raw(Box::new(task));
    // SAFETY: a worker lcore, which is ours alone (`busy`) and whose last job has ended, so the wait is for the
    // few instructions between the job's end and EAL's own note of it. `task` is handed over to
    // `run_task` unless the launch fails.
    let rc = unsafe {
        dpdk_sys::rte_eal_wait_lcore(lcore.0);
        dpdk_sys::rte_eal_remote_launch(Some(run_task), task.cast(), lcore.0)
    };
    if rc == 0 {
        return Ok(());
    }
    // SAFETY: the launch failed, so the box is ours again.
    drop(unsafe { Box::from_raw(task) });
    // L2 pairs with L1.
    busy.store(false, Ordering::Release);
    Err(DpdkError::Call {
        call: "rte_eal_remote_launch",
        device: format!("lcore {lcore}"),
        errno: Errno::from_code(rc),
        advice: "is the lcore free?".into(),
        log: Default::default(),
    })
}

unsafe extern "C" fn run_task(task: *mut c_void) -> c_int {
    // SAFETY: `launch_worker` made this box and handed it over.
    unsafe { Box::from_raw(task.cast::<Task>()) }.run();
    0
}

/// The calling std thread as an lcore of its own: it may poll, and has a cache in every mempool. For one
/// thread; ends when dropped.
#[derive(Debug)]
pub struct RegisteredThread {
    lcore: LcoreId,
    entered: Option<EnteredLcore>,
    _eal: Arc<Eal>,
    _not_send: PhantomData<*const ()>,
}

impl RegisteredThread {
    /// Registers the calling thread. Refused on a thread that is an lcore already (it would lose its id), and
    /// when EAL has no lcore id left.
    pub fn register(eal: &Arc<Eal>) -> Result<RegisteredThread> {
        // SAFETY: reads a thread-local integer.
        let current = unsafe { dpdk_sys::shim_lcore_id() };
        if current != dpdk_sys::DPDK_LCORE_ID_ANY || LcoreId::current().is_some() {
            let lcore = LcoreId::current().unwrap_or(LcoreId(current));
            return Err(DpdkError::Register { problem: format!("it is lcore {lcore} already; use that") });
        }
        // SAFETY: EAL runs (`eal`), and this thread is not one of its own (above).
        if unsafe { dpdk_sys::rte_thread_register() } != 0 {
            let errno = Errno::last();
            return Err(DpdkError::Register {
                problem: format!("{errno}; DPDK has {} lcore ids in all, use fewer threads", dpdk_sys::DPDK_MAX_LCORE),
            });
        }
        // SAFETY: as above.
        let lcore = LcoreId(unsafe { dpdk_sys::shim_lcore_id() });
        Ok(RegisteredThread { lcore, entered: Some(lcore.enter()), _eal: eal.clone(), _not_send: PhantomData })
    }

    /// The id that DPDK gave it.
    pub fn lcore(&self) -> LcoreId {
        self.lcore
    }
}

impl Drop for RegisteredThread {
    fn drop(&mut self) {
        self.entered.take();
        // SAFETY: this very thread was registered (the guard is not `Send`), and EAL runs still.
        unsafe { dpdk_sys::rte_thread_unregister() };
    }
}
