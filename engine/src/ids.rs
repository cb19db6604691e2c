//! Newtypes for the small numbers that DPDK code likes to mix up.

use std::{cell::Cell, fmt, marker::PhantomData};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A DPDK port number.
    PortId(u16)
);
id!(
    /// A receive or transmit queue of a port.
    QueueId(u16)
);
id!(
    /// A logical core: what `smp_processor_id()` is to Linux. A thread that polls has one.
    LcoreId(u32)
);
id!(
    /// A NUMA node, or -1 for "any".
    NumaSocket(i32)
);

crate::sync::thread_local! {
    static CURRENT_LCORE: Cell<Option<LcoreId>> = const { Cell::new(None) };
}

impl LcoreId {
    /// The lcore that the calling thread is, if it is one: what `smp_processor_id()` is to Linux.
    #[inline]
    pub fn current() -> Option<LcoreId> {
        CURRENT_LCORE.with(Cell::get)
    }

    /// Makes the calling thread this lcore until the guard is dropped. Whoever hands out lcore ids (the
    /// EAL's lcores, registered threads, tests) sees to it that no two threads hold the same one.
    pub fn enter(self) -> EnteredLcore {
        EnteredLcore { before: CURRENT_LCORE.with(|lcore| lcore.replace(Some(self))), _not_send: PhantomData }
    }
}

/// The calling thread is an lcore for as long as this lives.
#[derive(Debug)]
#[must_use]
pub struct EnteredLcore {
    before: Option<LcoreId>,
    _not_send: PhantomData<*const ()>,
}

impl Drop for EnteredLcore {
    fn drop(&mut self) {
        CURRENT_LCORE.with(|lcore| lcore.set(self.before));
    }
}
