//! The log sink: the rx hook client that stores every datagram, or says why it could not.
//!
//! ```text
//! polling lcore   SinkHook --push--> Batch (columns)
//!                    | full, or older than the flush interval        ^ empty batches come back
//!                    +--- ring --> writer thread --> spool / text ---+
//! ```

pub mod batch;
pub mod decode;
pub mod record;

pub use batch::{Batch, Columns, RawDatagram};
