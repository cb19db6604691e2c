//! Sets of CPUs as the kernel and EAL write them: `0-3,8`.

use std::{collections::BTreeSet, fs};

/// The CPUs that this process may run on (taskset, cgroup cpuset).
pub(super) fn allowed() -> BTreeSet<u32> {
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| status.lines().find_map(|line| parse(line.strip_prefix("Cpus_allowed_list:")?.trim())))
        .unwrap_or_default()
}

/// The CPUs that the machine has switched on.
pub(super) fn online() -> BTreeSet<u32> {
    fs::read_to_string("/sys/devices/system/cpu/online").ok().and_then(|list| parse(list.trim())).unwrap_or_default()
}

/// `0-3,8` as a set. `None` if it is not such a list.
pub(super) fn parse(list: &str) -> Option<BTreeSet<u32>> {
    let mut cpus = BTreeSet::new();
    for item in list.split(',') {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (first, last) = (number(first)?, number(last)?);
        // A bound, so that `0-4000000000` does not fill the memory.
        if first > last || last > 65535 {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// The set as `0-3,8`.
pub(super) fn format(cpus: impl IntoIterator<Item = u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let item = |&(first, last): &(u32, u32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    if ranges.is_empty() { "none".into() } else { ranges.iter().map(item).collect::<Vec<_>>().join(",") }
}

/// Strict: digits only.
pub(super) fn number(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) { None } else { text.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_round_trip_and_are_strict() {
        for list in ["0", "0-3", "0-3,8", "1,3,5-7"] {
            assert_eq!(format(parse(list).unwrap()), list);
        }
        assert_eq!(format([]), "none");
        for bad in ["", "a", "3-1", "0-", "-1", "1,,2", "+1", "0-4000000000", " 1"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_formatted_is_parsed(cpus in proptest::collection::btree_set(0..300_u32, 1..40)) {
            proptest::prop_assert_eq!(parse(&format(cpus.iter().copied())), Some(cpus));
        }
    }

    #[test]
    fn this_process_may_run_somewhere() {
        assert!(!allowed().is_empty());
        assert!(allowed().is_subset(&online()));
    }
}
