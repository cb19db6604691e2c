//! What is missing between two messages of a source.
//!
//! `seq` numbers the kernel's records: one that is missing was lost, or never sent (the console's log
//! level filters). `msgid` numbers what netconsole did send: one that is missing was lost on the way.
//! Where the messages on both sides carry a msgid, the two are told apart; where not, the gap is of
//! unknown kind.

use std::net::IpAddr;

/// Why messages are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "store", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum GapKind {
    /// msgids follow each other over a gap in seq: the sender never sent them.
    NeverSent,
    /// msgids are missing: sent, and lost on the way (or here: the sink's own counters tell).
    Lost,
    /// Only seq is there to go by.
    Unknown,
}

impl GapKind {
    /// As it is stored and printed.
    pub fn name(self) -> &'static str {
        match self {
            GapKind::NeverSent => "never_sent",
            GapKind::Lost => "lost",
            GapKind::Unknown => "unknown",
        }
    }
}

/// Messages that did not come, between two that did.
///
/// A seq gap of which some were lost and some never sent is two of these over the same range of seq.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "store", derive(serde::Serialize, serde::Deserialize))]
pub struct Gap {
    /// Receive time of the message before it, in nanoseconds since the Unix epoch.
    pub after_ns: u64,
    /// Receive time of the message behind it.
    pub before_ns: u64,
    /// Source address.
    pub src_ip: IpAddr,
    /// Source port.
    pub src_port: u16,
    /// Destination address.
    pub dst_ip: IpAddr,
    /// Destination port.
    pub dst_port: u16,
    /// Why they are missing.
    pub kind: GapKind,
    /// How many.
    pub count: u64,
    /// Seq of the message before it.
    pub after_seq: u64,
    /// Seq of the message behind it.
    pub before_seq: u64,
}

/// The last message of a source that was let go in order.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "store", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Last {
    pub seq: u64,
    pub msgid: Option<u32>,
    pub time_ns: u64,
}

/// How many are missing between `last` and `next`, of which `taken` messages went out before their
/// turn (joined into an earlier one): `(lost, never sent, unknown)`.
pub(crate) fn missing(last: &Last, next: &Last, taken: u64) -> (u64, u64, u64) {
    let seqs = next.seq.saturating_sub(last.seq).saturating_sub(1).saturating_sub(taken);
    match (last.msgid, next.msgid) {
        (Some(before), Some(after)) => {
            // The counter is 32 bits wide and wraps. Backwards: the target was set up anew.
            let ids = after.wrapping_sub(before);
            let ids = if ids > u32::MAX / 2 { 0 } else { u64::from(ids.saturating_sub(1)) };
            let lost = ids.saturating_sub(taken);
            (lost, seqs.saturating_sub(lost), 0)
        }
        _ => (0, 0, seqs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(before: (u64, Option<u32>), after: (u64, Option<u32>), taken: u64) -> (u64, u64, u64) {
        let last = |(seq, msgid)| Last { seq, msgid, time_ns: 0 };
        missing(&last(before), &last(after), taken)
    }

    #[test]
    fn lost_and_never_sent_are_told_apart() {
        assert_eq!(between((4, None), (5, None), 0), (0, 0, 0));
        assert_eq!(between((4, None), (8, None), 0), (0, 0, 3));
        assert_eq!(between((4, None), (8, None), 1), (0, 0, 2));
        assert_eq!(between((4, Some(9)), (8, Some(10)), 0), (0, 3, 0));
        assert_eq!(between((4, Some(9)), (8, Some(12)), 0), (2, 1, 0));
        assert_eq!(between((4, Some(u32::MAX)), (6, Some(1)), 0), (1, 0, 0));
        assert_eq!(between((4, Some(9)), (5, Some(0)), 0), (0, 0, 0));
        assert_eq!(between((4, Some(9)), (5, Some(9)), 0), (0, 0, 0));
    }
}
