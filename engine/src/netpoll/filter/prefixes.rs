//! A set of IPv4 prefixes: whom the rx client listens to.

use std::net::Ipv4Addr;

/// A set of IPv4 prefixes, made with `collect()`. No prefixes give the empty set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PrefixSet {
    /// Every address.
    #[default]
    Any,
    /// First and last address of each range: ascending, none touches the next.
    Ranges(Box<[(u32, u32)]>),
}

impl PrefixSet {
    /// Whether it holds `ip`; one compare for [`PrefixSet::Any`], else O(log n).
    #[inline]
    pub fn contains(&self, ip: Ipv4Addr) -> bool {
        match self {
            PrefixSet::Any => true,
            PrefixSet::Ranges(ranges) => in_ranges(ranges, ip.into()),
        }
    }
}

fn in_ranges(ranges: &[(u32, u32)], ip: u32) -> bool {
    let after = ranges.partition_point(|&(first, _)| first <= ip);
    after > 0 && ip <= ranges[after - 1].1
}

/// An address in the prefix and the prefix's length; lengths above 32 count as 32. Prefixes may overlap.
impl FromIterator<(Ipv4Addr, u8)> for PrefixSet {
    fn from_iter<I: IntoIterator<Item = (Ipv4Addr, u8)>>(prefixes: I) -> Self {
        let range = |(ip, len): (Ipv4Addr, u8)| {
            let host_mask = u32::MAX.checked_shr(len.into()).unwrap_or(0);
            (u32::from(ip) & !host_mask, u32::from(ip) | host_mask)
        };
        let mut ranges: Vec<_> = prefixes.into_iter().map(range).collect();
        ranges.sort_unstable();
        // `before` is the earlier of the two, and stays.
        ranges.dedup_by(|range, before| {
            let joins = range.0 <= before.1.saturating_add(1);
            if joins {
                before.1 = before.1.max(range.1);
            }
            joins
        });
        PrefixSet::Ranges(ranges.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(prefixes: &[([u8; 4], u8)]) -> PrefixSet {
        prefixes.iter().map(|&(ip, len)| (Ipv4Addr::from(ip), len)).collect()
    }

    #[test]
    fn edges_and_joining() {
        assert!(PrefixSet::Any.contains([1, 2, 3, 4].into()) && PrefixSet::default() == PrefixSet::Any);
        assert!(!set(&[]).contains([1, 2, 3, 4].into()));
        let all = set(&[([9, 9, 9, 9], 0)]);
        assert!(all.contains([0; 4].into()) && all.contains([255; 4].into()));
        let ten = set(&[([10, 0, 0, 0], 9), ([10, 128, 0, 0], 9), ([10, 1, 2, 3], 32)]);
        assert_eq!(ten, PrefixSet::Ranges([(0x0a00_0000, 0x0aff_ffff)].into()), "halves join, what is inside goes");
        assert!(ten.contains([10, 0, 0, 0].into()) && ten.contains([10, 255, 255, 255].into()));
        assert!(!ten.contains([9, 255, 255, 255].into()) && !ten.contains([11, 0, 0, 0].into()));
        let last = set(&[([255; 4], 32), ([255, 255, 255, 254], 32), ([0; 4], 32)]);
        assert_eq!(last, PrefixSet::Ranges([(0, 0), (u32::MAX - 1, u32::MAX)].into()));
    }

    proptest! {
        /// As one prefix after the other says it, at every edge.
        #[test]
        fn a_set_is_its_prefixes(prefixes in proptest::collection::vec((any::<u32>(), 0u8..=32), 0..12), other: u32) {
            let set: PrefixSet = prefixes.iter().map(|&(ip, len)| (Ipv4Addr::from(ip), len)).collect();
            let holds = |ip: u32| prefixes.iter().any(|&(net, len)| len == 0 || (ip ^ net) >> (32 - len) == 0);
            for ip in prefixes.iter().flat_map(|&(net, len)| {
                let mask = u32::MAX.checked_shr(len.into()).unwrap_or(0);
                let (first, last) = (net & !mask, net | mask);
                [net, first, last, first.wrapping_sub(1), last.wrapping_add(1)]
            }).chain([other]) {
                prop_assert_eq!(set.contains(ip.into()), holds(ip), "{}", Ipv4Addr::from(ip));
            }
        }
    }
}
