//! loom models of a client's rings changing hands: credits out, frames in, and the clean-up that takes both back while an lcore
//! polls. What is ours runs as it ships (gate, mailbox, dirty map, closing); the rings are counts with the orderings of rtrb,
//! which tests its own with loom.

use loom::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{
    closing::Closing,
    dirty::DirtyMap,
    gate::{CONTROL, Gate},
    mailbox::Mailbox,
};
use crate::LcoreId;

/// Buffers on their way from the one side to the other.
struct Ring {
    pushed: AtomicUsize,
    taken: AtomicUsize,
}

impl Ring {
    fn with(buffers: usize) -> Arc<Ring> {
        Arc::new(Ring { pushed: AtomicUsize::new(buffers), taken: AtomicUsize::new(0) })
    }

    fn push(&self) {
        self.pushed.store(self.pushed.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    fn take(&self) -> bool {
        let taken = self.taken.load(Ordering::Relaxed);
        let is_some = self.pushed.load(Ordering::Acquire) > taken;
        if is_some {
            self.taken.store(taken + 1, Ordering::Release);
        }
        is_some
    }

    fn is_empty(&self) -> bool {
        self.pushed.load(Ordering::Acquire) == self.taken.load(Ordering::Relaxed)
    }
}

/// The two rings of a client, either side's view.
#[derive(Clone)]
struct Rings {
    tx: Arc<Ring>,
    free: Arc<Ring>,
}

impl Rings {
    fn with(credits: usize) -> Rings {
        Rings { tx: Ring::with(0), free: Ring::with(credits) }
    }

    /// What `submit` and `mark` do.
    fn send(&self, dirty: &DirtyMap) -> bool {
        let credit = self.free.take();
        if credit {
            self.tx.push();
            dirty.mark(0);
        }
        credit
    }
}

/// What the gate guards.
#[derive(Default)]
struct State {
    client: Option<Rings>,
    sent: usize,
    dropped: usize,
}

impl State {
    /// A client's turn, as `take_from` gives it: a frame out, a credit back; or its bit is cleared.
    fn turn(&mut self, dirty: &DirtyMap) {
        if dirty.next(0).is_none() {
            return;
        }
        match &self.client {
            Some(rings) if rings.tx.take() => {
                self.sent += 1;
                rings.free.push();
            }
            Some(rings) => dirty.clear_if(0, || rings.tx.is_empty()),
            None => dirty.clear(0),
        }
    }

    /// What `remove_client` does with `force`.
    fn remove(&mut self, dirty: &DirtyMap) {
        if let Some(rings) = self.client.take() {
            while rings.tx.take() {
                self.dropped += 1;
            }
        }
        dirty.clear(0);
    }
}

struct Context {
    gate: Gate<State>,
    mailbox: Mailbox<State>,
    dirty: Arc<DirtyMap>,
}

impl Context {
    fn new(client: Option<Rings>) -> Arc<Context> {
        let gate = Gate::new(State { client, ..State::default() });
        Arc::new(Context { gate, mailbox: Mailbox::new(), dirty: Arc::new(DirtyMap::new(1)) })
    }

    fn poll(&self, lcore: LcoreId) {
        if let Ok(mut state) = self.gate.try_enter(lcore) {
            if self.mailbox.has_news() {
                self.mailbox.apply(&mut state);
            }
            state.turn(&self.dirty);
        }
    }

    /// As `PollContext::change`.
    fn change(&self, change: impl FnOnce(&mut State) + Send + 'static) {
        let ticket = self.mailbox.post(Box::new(change));
        while !self.mailbox.is_applied(ticket) {
            match self.gate.try_enter(CONTROL) {
                Ok(mut state) => self.mailbox.apply(&mut state),
                Err(_) => thread::yield_now(),
            }
        }
    }

    fn remove_client(&self) {
        let dirty = self.dirty.clone();
        self.change(move |state| state.remove(&dirty));
    }
}

fn bounded(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// Another thread sends while the client is cleaned up and an lcore polls: each buffer is back, each frame that was queued was
/// sent or dropped by the clean-up, and no mark is left for the slot's next client.
///
/// Three threads, so preemptions are bounded (all interleavings take hours). Seen to fail with `close` left out or behind the
/// removal, with the credits taken back before the removal is applied, and with the mark outside of `enter`.
#[test]
fn a_shared_client_is_cleaned_up_under_its_sender() {
    bounded(2, || {
        let rings = Rings::with(1);
        let (context, closing) = (Context::new(Some(rings.clone())), Arc::new(Closing::new()));
        let sender = {
            let (context, closing, rings) = (context.clone(), closing.clone(), rings.clone());
            thread::spawn(move || closing.enter(|| rings.send(&context.dirty)).is_some_and(|queued| queued))
        };
        let lcore = {
            let context = context.clone();
            thread::spawn(move || context.poll(LcoreId(0)))
        };
        closing.close();
        context.remove_client();
        let mut credits = 0;
        while rings.free.take() {
            credits += 1;
        }
        let queued = usize::from(sender.join().unwrap());
        lcore.join().unwrap();
        let state = context.gate.try_enter(CONTROL).unwrap();
        assert_eq!(state.sent + state.dropped, queued, "each frame that was queued, once");
        assert_eq!(credits + state.dropped, 1, "buffers out = buffers back");
        assert!(rings.tx.is_empty() && rings.free.is_empty());
        assert_eq!(context.dirty.next(0), None, "a mark is left");
    });
}

/// A client of one thread comes, sends, and goes while an lcore polls; the next one in its slot is not overlooked: its frames
/// are out, or its mark is there.
///
/// Seen to fail with the second look of `clear_if` left out, and with its ring attached behind its first frame's mark. (The
/// fences D1 and D2: `dirty.rs` has the model that fails without them.)
#[test]
fn the_next_client_of_a_slot_is_not_overlooked() {
    bounded(3, || {
        let context = Context::new(None);
        let lcore = {
            let context = context.clone();
            thread::spawn(move || (0..3).for_each(|_| context.poll(LcoreId(0))))
        };
        let first = Rings::with(1);
        let attached = first.clone();
        context.change(move |state| state.client = Some(attached));
        assert!(first.send(&context.dirty));
        context.remove_client();
        assert!(first.tx.is_empty());
        let second = Rings::with(2);
        let attached = second.clone();
        context.change(move |state| state.client = Some(attached));
        assert!(second.send(&context.dirty));
        // While the lcore may be at the first one, and finds the ring empty behind it.
        assert!(second.send(&context.dirty));
        lcore.join().unwrap();
        assert!(second.tx.is_empty() || context.dirty.next(0) == Some(0), "a frame is neither out nor marked");
        (0..2).for_each(|_| context.poll(LcoreId(0)));
        let state = context.gate.try_enter(CONTROL).unwrap();
        assert_eq!(state.sent + state.dropped, 3);
    });
}
