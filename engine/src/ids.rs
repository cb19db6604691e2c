//! Newtypes for the small numbers that DPDK code likes to mix up.

use std::fmt;

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
