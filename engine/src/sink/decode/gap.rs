//! What is missing between two messages of a source.
//!
//! `seq` numbers the kernel's records: one that is missing was lost, or never sent (the console's log
//! level filters). `msgid` numbers what netconsole did send: one that is missing was lost on the way.
//! Where the messages on both sides carry a msgid, the two are told apart; where not, the gap is of
//! unknown kind.
//!
//! What the sink itself dropped comes to the decoder as [`Loss`]es, ahead of the datagrams that followed. Each
//! is told as a gap of its own ([`GapKind::LostHere`], with the reason), for sources of every format, and what
//! it explains is taken off the gaps in seq and msgid. What is then left of a gap was lost on the way, unless
//! the sink lost something at that time without knowing whose it was: then it says just "lost".
//!
//! Limits: the last of a source's messages make no gap until another one comes. What the NIC missed is asked
//! for a few times a second: a gap that is settled before that says "on the way". A datagram that was dropped
//! here and also came in a second copy is told as lost here, though nothing is missing.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
};

use super::flow::FlowKey;
use crate::sink::loss::{Loss, Whose};

/// Why messages are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "store", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum GapKind {
    /// msgids follow each other over a gap in seq: the sender never sent them.
    NeverSent,
    /// msgids are missing, and the sink lost nothing at that time whose source it does not know.
    LostOnTheWay,
    /// msgids are missing, and the sink may have lost them: it lost something then, and does not know whose.
    Lost,
    /// The sink dropped them; the reason is with it. Counts datagrams, not messages.
    LostHere,
    /// Only seq is there to go by, and the sink does not know to have dropped them.
    Unknown,
}

impl GapKind {
    /// As it is stored and printed.
    pub fn name(self) -> &'static str {
        match self {
            GapKind::NeverSent => "never_sent",
            GapKind::LostOnTheWay => "lost_on_the_way",
            GapKind::Lost => "lost",
            GapKind::LostHere => "lost_here",
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
    /// Receive time of the message before it, in nanoseconds since the Unix epoch; of what was lost here, of the
    /// first that was.
    pub after_ns: u64,
    /// Receive time of the message behind it; of what was lost here, of the last that was.
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
    /// Seq of the message before it, where they have one.
    pub after_seq: Option<u64>,
    /// Seq of the message behind it.
    pub before_seq: Option<u64>,
    /// Of what was lost here: the ledger's name for why.
    pub reason: Option<String>,
}

impl Gap {
    /// What was lost here.
    pub(super) fn here(loss: &Loss) -> Gap {
        let Whose { src_ip, src_port, dst_ip, dst_port } = loss.whose;
        let span = loss.seqs.span();
        Gap {
            after_ns: loss.first_ns,
            before_ns: loss.last_ns,
            src_ip,
            src_port,
            dst_ip,
            dst_port,
            kind: GapKind::LostHere,
            count: loss.count,
            after_seq: span.map(|(first, _)| first.saturating_sub(1)),
            before_seq: span.map(|(_, last)| last.saturating_add(1)),
            reason: Some(loss.reason.clone().into_owned()),
        }
    }
}

/// Gaps as they are kept and told: what was lost here becomes one a source and reason, as long as it goes on.
#[cfg(feature = "store")]
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    list: Vec<Gap>,
    here: HashMap<(IpAddr, u16, IpAddr, u16, String), usize>,
}

#[cfg(feature = "store")]
impl Gaps {
    /// Silence that ends one.
    const APART_NS: u64 = 60_000_000_000;

    pub fn push(&mut self, gap: &Gap) {
        let Some(reason) = &gap.reason else { return self.list.push(gap.clone()) };
        let key = (gap.src_ip, gap.src_port, gap.dst_ip, gap.dst_port, reason.clone());
        if let Some(at) = self.here.get(&key) {
            let open = &mut self.list[*at];
            if gap.after_ns.saturating_sub(open.before_ns) < Gaps::APART_NS {
                open.count += gap.count;
                open.after_ns = open.after_ns.min(gap.after_ns);
                open.before_ns = open.before_ns.max(gap.before_ns);
                open.after_seq = [open.after_seq, gap.after_seq].into_iter().flatten().min();
                open.before_seq = open.before_seq.max(gap.before_seq);
                return;
            }
        }
        self.here.insert(key, self.list.len());
        self.list.push(gap.clone());
    }

    pub fn take(&mut self) -> Vec<Gap> {
        self.here.clear();
        std::mem::take(&mut self.list)
    }

    pub fn clear(&mut self) {
        self.take();
    }
}

/// What was lost here and may explain gaps that are not settled yet. Bounded.
#[derive(Debug, Default)]
pub(super) struct Here {
    by_flow: HashMap<FlowKey, Vec<Loss>>,
    count: usize,
    /// Of unknown sources: when.
    unknown: VecDeque<(u64, u64)>,
}

impl Here {
    const MOST: usize = 4096;
    const MOST_UNKNOWN: usize = 256;
    /// Receive times of a gap's ends and of a loss in it may be apart by this, the queues' batches come in any order.
    const SLACK_NS: u64 = 1_000_000_000;
    /// No gap is settled later than this.
    const LASTS_NS: u64 = 30_000_000_000;

    pub fn add(&mut self, loss: &Loss) {
        if self.count >= Here::MOST {
            self.expire(loss.last_ns);
        }
        let known = loss.whose != Whose::UNKNOWN;
        if known && loss.seqs.is_empty() {
            return;
        }
        if known && self.count < Here::MOST {
            self.count += 1;
            let Whose { src_ip, src_port, dst_ip, dst_port } = loss.whose;
            self.by_flow.entry(FlowKey { src_ip, src_port, dst_ip, dst_port }).or_default().push(loss.clone());
            return;
        }
        if self.unknown.len() >= Here::MOST_UNKNOWN {
            self.unknown.pop_front();
        }
        self.unknown.push_back((loss.first_ns, loss.last_ns));
    }

    fn expire(&mut self, now_ns: u64) {
        self.by_flow.retain(|_, losses| {
            losses.retain(|loss| loss.last_ns.saturating_add(Here::LASTS_NS) > now_ns);
            !losses.is_empty()
        });
        self.count = self.by_flow.values().map(Vec::len).sum();
    }

    /// How many of the `missing` messages between `last` and `next` were dropped here (and are not among those `taken`
    /// early). They are settled then, and forgotten.
    pub fn settle(&mut self, key: &FlowKey, last: &Last, next: &Last, taken: &[u64], missing: u64) -> u64 {
        // The common case.
        if self.count == 0 {
            return 0;
        }
        let Some(losses) = self.by_flow.get_mut(key) else { return 0 };
        let mut seqs: Vec<u64> = losses
            .iter()
            .filter(|loss| overlap(loss.first_ns, loss.last_ns, last, next))
            .flat_map(|loss| loss.seqs.iter())
            .filter(|seq| (last.seq.saturating_add(1)..next.seq).contains(seq) && !taken.contains(seq))
            .collect();
        seqs.sort_unstable();
        seqs.dedup();
        let mut settled = missing.min(seqs.len() as u64);
        for loss in losses.iter_mut().filter(|loss| overlap(loss.first_ns, loss.last_ns, last, next)) {
            settled += loss.seqs.take_others(last.seq, next.seq, missing - settled);
        }
        let before = losses.len();
        losses.retain(|loss| loss.seqs.span().is_some_and(|(_, last)| last > next.seq));
        self.count -= before - losses.len();
        if losses.is_empty() {
            self.by_flow.remove(key);
        }
        settled
    }

    /// Something was lost here between the two, and nobody knows whose it was.
    pub fn lost_unknown(&self, last: &Last, next: &Last) -> bool {
        self.unknown.iter().any(|(first_ns, last_ns)| overlap(*first_ns, *last_ns, last, next))
    }

    /// All of it, to go on from.
    #[cfg(feature = "store")]
    pub fn snapshot(&self) -> (Vec<Loss>, Vec<(u64, u64)>) {
        (self.by_flow.values().flatten().cloned().collect(), self.unknown.iter().copied().collect())
    }

    #[cfg(feature = "store")]
    pub fn restore((losses, unknown): (Vec<Loss>, Vec<(u64, u64)>)) -> Here {
        let mut here = Here { unknown: unknown.into(), ..Here::default() };
        losses.iter().for_each(|loss| here.add(loss));
        here
    }
}

fn overlap(first_ns: u64, last_ns: u64, last: &Last, next: &Last) -> bool {
    last_ns.saturating_add(Here::SLACK_NS) >= last.time_ns && first_ns <= next.time_ns.saturating_add(Here::SLACK_NS)
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

    const KEY: FlowKey =
        FlowKey { src_ip: Whose::UNKNOWN.src_ip, src_port: 7, dst_ip: Whose::UNKNOWN.dst_ip, dst_port: 0 };

    fn loss(seq: u64) -> Loss {
        let whose = Whose { src_port: 7, ..Whose::UNKNOWN };
        Loss::one(whose, "shed_debug", format!("7,{seq},1,-;x").as_bytes(), seq)
    }

    #[test]
    fn what_was_lost_here_explains_a_gap_once() {
        let last = |seq| Last { seq, msgid: None, time_ns: seq };
        let mut here = Here::default();
        [11, 12, 12, 14, 20].into_iter().for_each(|seq| here.add(&loss(seq)));
        assert_eq!(here.settle(&FlowKey::default(), &last(10), &last(16), &[], 9), 0, "another's");
        assert_eq!(here.settle(&KEY, &last(10), &last(16), &[14], 9), 2);
        assert_eq!(here.settle(&KEY, &last(10), &last(16), &[], 9), 0, "settled");
        assert_eq!(here.settle(&KEY, &last(16), &last(21), &[], 9), 1);
        assert!(here.by_flow.is_empty() && here.count == 0);
    }

    #[test]
    fn it_is_bounded_and_what_is_too_much_is_of_unknown_sources() {
        let mut here = Here::default();
        for seq in 0..2 * Here::MOST as u64 {
            here.add(&loss(seq));
        }
        assert_eq!((here.count, here.unknown.len()), (Here::MOST, Here::MOST_UNKNOWN));
        let last = |time_ns| Last { seq: 1, msgid: None, time_ns };
        assert!(here.lost_unknown(&last(0), &last(1)) && !here.lost_unknown(&last(1 << 50), &last(1 << 51)));
        // What is old makes room.
        here.add(&Loss { last_ns: 1 << 50, ..loss(5) });
        assert_eq!(here.count, 1);
        #[cfg(feature = "store")]
        {
            let restored = Here::restore(here.snapshot());
            assert_eq!((restored.count, restored.unknown), (1, here.unknown));
        }
    }

    #[cfg(feature = "store")]
    #[test]
    fn losses_of_a_source_are_told_as_one_while_they_go_on() {
        let mut gaps = Gaps::default();
        for seq in [5, 9, 7] {
            gaps.push(&Gap::here(&loss(seq)));
        }
        gaps.push(&Gap { after_ns: 1 << 50, ..Gap::here(&loss(50)) });
        gaps.push(&Gap { reason: Some("disk_full".into()), ..Gap::here(&loss(51)) });
        let told = gaps.take();
        let short: Vec<_> = told.iter().map(|gap| (gap.count, gap.after_seq, gap.before_seq)).collect();
        assert_eq!(short, [(3, Some(4), Some(10)), (1, Some(49), Some(51)), (1, Some(50), Some(52))]);
        assert_eq!((told[0].after_ns, told[0].before_ns, gaps.take().len()), (5, 9, 0));
    }

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
