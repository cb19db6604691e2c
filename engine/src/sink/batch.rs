//! One batch of datagrams in columns: the layout of an Arrow record batch.
//!
//! The hook appends to preallocated columns; the writer hands those same buffers to Arrow, so nothing
//! is converted on the way to the disk. Per row 48 bytes and the payload:
//!
//! | column | layout |
//! |---|---|
//! | `time` | i64, nanoseconds since the Unix epoch (an Arrow timestamp) |
//! | `src_addr`, `dst_addr` | 16 bytes, network byte order; IPv4 is mapped (`::ffff:a.b.c.d`) |
//! | `src_port`, `dst_port` | u16, host byte order |
//! | `payload` | i32 offsets (rows + 1, the first is 0) into one byte buffer |
//!
//! Limits: the offsets are i32, so a batch holds less than 2 GiB of payload. A true IPv4-mapped IPv6
//! address reads back as IPv4.

use std::net::{IpAddr, Ipv6Addr};

use crate::netpoll::hook::Datagram;

/// Bytes of an address column a row.
pub const ADDR_BYTES: usize = 16;

/// What one row costs besides its payload, in bytes.
pub const ROW_BYTES: usize = 8 + 2 * ADDR_BYTES + 2 + 2 + 4;

/// One stored datagram, as read back from a batch or from a spool segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawDatagram<'a> {
    /// When it was received: nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// Source address; IPv4 where it was IPv4.
    pub src_ip: IpAddr,
    /// Source port, host byte order.
    pub src_port: u16,
    /// Destination address.
    pub dst_ip: IpAddr,
    /// Destination port, host byte order.
    pub dst_port: u16,
    /// The UDP payload, untouched.
    pub payload: &'a [u8],
}

/// The columns of a batch, borrowed: from a [`Batch`], or from an Arrow record batch of a spool segment.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    pub(crate) time: &'a [i64],
    pub(crate) src_addr: &'a [u8],
    pub(crate) src_port: &'a [u16],
    pub(crate) dst_addr: &'a [u8],
    pub(crate) dst_port: &'a [u16],
    /// Rows + 1 of them, ascending, inside `payload`.
    pub(crate) offsets: &'a [i32],
    pub(crate) payload: &'a [u8],
}

impl<'a> Columns<'a> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.time.len()
    }

    /// Row `row`, or `None` past the end.
    pub fn get(&self, row: usize) -> Option<RawDatagram<'a>> {
        let from = usize::try_from(*self.offsets.get(row)?).ok()?;
        let to = usize::try_from(*self.offsets.get(row + 1)?).ok()?;
        Some(RawDatagram {
            time_ns: (*self.time.get(row)?).max(0).cast_unsigned(),
            src_ip: addr_at(self.src_addr, row)?,
            src_port: *self.src_port.get(row)?,
            dst_ip: addr_at(self.dst_addr, row)?,
            dst_port: *self.dst_port.get(row)?,
            payload: self.payload.get(from..to)?,
        })
    }

    /// The rows, in the order in which they were received.
    pub fn iter(&self) -> impl Iterator<Item = RawDatagram<'a>> + use<'a> {
        let columns = *self;
        (0..columns.rows()).map_while(move |row| columns.get(row))
    }
}

fn addr_at(column: &[u8], row: usize) -> Option<IpAddr> {
    let bytes = column.get(row * ADDR_BYTES..)?.first_chunk::<ADDR_BYTES>()?;
    Some(Ipv6Addr::from(*bytes).to_canonical())
}

/// `ip` as an address column holds it.
#[inline]
pub(crate) fn addr_bytes(ip: IpAddr) -> [u8; ADDR_BYTES] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// A batch of fixed capacity. Nothing but [`Batch::new`] allocates.
#[derive(Debug)]
pub struct Batch {
    pub(crate) time: Vec<i64>,
    pub(crate) src_addr: Vec<u8>,
    pub(crate) src_port: Vec<u16>,
    pub(crate) dst_addr: Vec<u8>,
    pub(crate) dst_port: Vec<u16>,
    pub(crate) offsets: Vec<i32>,
    pub(crate) payload: Vec<u8>,
    row_capacity: usize,
    byte_capacity: usize,
}

impl Batch {
    /// An empty batch for `rows` datagrams of `bytes` bytes of payload together (each at least 1;
    /// `bytes` is cut to `i32::MAX`). Its memory is touched, so that the hook meets no page fault.
    pub fn new(rows: usize, bytes: usize) -> Batch {
        let rows = rows.max(1);
        let bytes = bytes.clamp(1, i32::MAX as usize);
        let mut batch = Batch {
            time: touched(rows),
            src_addr: touched(rows * ADDR_BYTES),
            src_port: touched(rows),
            dst_addr: touched(rows * ADDR_BYTES),
            dst_port: touched(rows),
            offsets: touched(rows + 1),
            payload: touched(bytes),
            row_capacity: rows,
            byte_capacity: bytes,
        };
        batch.clear();
        batch
    }

    /// Appends one datagram received at `real_ns` (since the Unix epoch). `false`, and no change, if
    /// there is no room for it.
    #[inline]
    pub fn push(&mut self, datagram: &Datagram<'_>, real_ns: u64) -> bool {
        let end = self.payload.len() + datagram.payload().len();
        if self.time.len() >= self.row_capacity || end > self.byte_capacity {
            return false;
        }
        self.time.push(real_ns.cast_signed());
        self.src_addr.extend_from_slice(&addr_bytes(datagram.src_ip()));
        self.src_port.push(datagram.src_port());
        self.dst_addr.extend_from_slice(&addr_bytes(datagram.dst_ip()));
        self.dst_port.push(datagram.dst_port());
        self.payload.extend_from_slice(datagram.payload());
        // `byte_capacity` is at most `i32::MAX`.
        self.offsets.push(end as i32);
        true
    }

    /// Number of rows.
    #[inline]
    pub fn rows(&self) -> usize {
        self.time.len()
    }

    /// Whether it holds no row.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.time.is_empty()
    }

    /// Payload bytes held.
    pub fn payload_bytes(&self) -> usize {
        self.payload.len()
    }

    /// Rows that it can hold.
    pub fn row_capacity(&self) -> usize {
        self.row_capacity
    }

    /// Payload bytes that it can hold.
    #[inline]
    pub fn byte_capacity(&self) -> usize {
        self.byte_capacity
    }

    /// Forgets the rows and keeps the memory.
    pub fn clear(&mut self) {
        self.time.clear();
        self.src_addr.clear();
        self.src_port.clear();
        self.dst_addr.clear();
        self.dst_port.clear();
        self.offsets.clear();
        self.offsets.push(0);
        self.payload.clear();
    }

    /// The columns, to be read.
    pub fn columns(&self) -> Columns<'_> {
        Columns {
            time: &self.time,
            src_addr: &self.src_addr,
            src_port: &self.src_port,
            dst_addr: &self.dst_addr,
            dst_port: &self.dst_port,
            offsets: &self.offsets,
            payload: &self.payload,
        }
    }

    /// The rows, in the order in which they were pushed.
    pub fn iter(&self) -> impl Iterator<Item = RawDatagram<'_>> {
        self.columns().iter()
    }
}

/// A vector whose `len` elements of capacity have been written: a zeroed one would be mapped lazily.
fn touched<T: Copy + From<u8>>(len: usize) -> Vec<T> {
    let mut column = Vec::with_capacity(len);
    column.resize(len, T::from(1));
    column
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::netpoll::hook::DatagramBuf;

    fn push(batch: &mut Batch, src: IpAddr, dst: IpAddr, ports: (u16, u16), payload: &[u8], time_ns: u64) -> bool {
        batch.push(&DatagramBuf::new((src, ports.0).into(), (dst, ports.1).into(), payload).datagram(), time_ns)
    }

    /// Whether there was room for a datagram with that payload.
    fn fits(batch: &mut Batch, payload: &[u8]) -> bool {
        push(batch, ANY, ANY, (1, 2), payload, 0)
    }

    const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

    #[test]
    fn room_ends_at_rows_and_at_bytes_exactly() {
        let mut batch = Batch::new(2, 10);
        assert!(batch.is_empty());
        assert!(!fits(&mut batch, &[0; 11]));
        assert!(fits(&mut batch, &[0; 10]));
        assert!(!fits(&mut batch, b"x"), "no byte left");
        assert!(fits(&mut batch, b""));
        assert!(!fits(&mut batch, b""), "no row left");
        assert_eq!((batch.rows(), batch.payload_bytes()), (2, 10));
        batch.clear();
        assert!(batch.is_empty());
        assert!(fits(&mut batch, &[0; 10]));
    }

    #[test]
    fn memory_stays_where_it_is() {
        let mut batch = Batch::new(100, 1000);
        let before = (batch.time.as_ptr(), batch.offsets.as_ptr(), batch.payload.as_ptr(), batch.src_addr.as_ptr());
        for _ in 0..3 {
            while fits(&mut batch, b"0123456789") {}
            assert_eq!(batch.rows(), 100);
            batch.clear();
        }
        let after = (batch.time.as_ptr(), batch.offsets.as_ptr(), batch.payload.as_ptr(), batch.src_addr.as_ptr());
        assert_eq!(before, after);
    }

    proptest! {
        #[test]
        fn what_is_pushed_is_read(
            rows in prop::collection::vec(
                (any::<IpAddr>(), any::<IpAddr>(), any::<(u16, u16)>(), prop::collection::vec(any::<u8>(), 0..50), 0..u64::MAX / 2),
                0..20,
            ),
        ) {
            let mut batch = Batch::new(20, 1000);
            for (src, dst, ports, payload, time) in &rows {
                prop_assert!(push(&mut batch, *src, *dst, *ports, payload, *time));
            }
            let read: Vec<_> = batch.iter().collect();
            prop_assert_eq!(read.len(), rows.len());
            for (read, (src, dst, ports, payload, time)) in read.iter().zip(&rows) {
                prop_assert_eq!(read.time_ns, *time);
                prop_assert_eq!((read.src_ip, read.dst_ip), (src.to_canonical(), dst.to_canonical()));
                prop_assert_eq!((read.src_port, read.dst_port), *ports);
                prop_assert_eq!(read.payload, &payload[..]);
            }
        }
    }
}
