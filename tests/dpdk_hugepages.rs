//! Hugepages: asked for where there are none, and used where there are.

use std::fs;

use netpoll::{
    dpdk::{DpdkError, Eal, EalConfig, Memory, Port, PortSetup},
    port::PortIo,
};

const RESERVE: &str = "/proc/sys/vm/nr_hugepages";
/// 128 MB in pages of 2 MB.
const PAGES: u64 = 64;

fn read(path: &str) -> u64 {
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn free() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo.lines().find_map(|line| line.strip_prefix("HugePages_Free:")).unwrap_or("0");
    line.trim().parse().unwrap_or(0)
}

/// Gives the machine back as it was, also when the test fails.
struct Restore(u64);

impl Drop for Restore {
    fn drop(&mut self) {
        let _ = fs::write(RESERVE, self.0.to_string());
    }
}

/// What this process has mapped; what is free says nothing, as others take and return some meanwhile.
fn ours_kb() -> u64 {
    let maps = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let mapped = maps.lines().filter_map(|line| {
        let (name, kb) = line.split_once(':')?;
        name.ends_with("_Hugetlb").then(|| kb.trim().trim_end_matches(" kB").parse::<u64>().unwrap())
    });
    mapped.sum()
}

#[test]
fn hugepages_in_memory() {
    let hugepages = || EalConfig { memory: Memory::Hugepages { megabytes: Some(64) }, ..EalConfig::default() };
    let before = read(RESERVE);
    if free() == 0 {
        let error = Eal::init(hugepages()).unwrap_err();
        assert!(matches!(error, DpdkError::NoHugepages { .. }));
        assert!(error.to_string().contains("vm.nr_hugepages"), "{error}");
        assert!(matches!(Memory::detect(), Memory::NoHuge { .. }));
    }
    let _restore = Restore(before);
    if free() < PAGES {
        if let Err(error) = fs::write(RESERVE, (before + PAGES).to_string()) {
            println!("SKIPPED hugepages_in_memory: none are free, and reserving some needs root ({RESERVE}: {error})");
            return;
        }
        if free() < PAGES {
            println!(
                "SKIPPED hugepages_in_memory: the kernel finds no room for {PAGES} hugepages now (memory is fragmented)"
            );
            return;
        }
    }
    assert_eq!(Memory::detect(), Memory::default());
    let eal = Eal::init(hugepages()).unwrap();
    assert!(ours_kb() >= 64 * 1024, "64 MB of them are ours now");
    let (port, mut queues) = Port::attach(&eal, "net_null0").unwrap().start(&PortSetup::default()).unwrap();
    let mut frames = Vec::with_capacity(32);
    assert_eq!(queues[0].rx_burst(&mut frames, 32), 32);
    queues[0].free(&mut frames);
    drop((frames, queues));
    assert_eq!(port.close().unwrap().outstanding(), 0);
    // EAL keeps its first pages until the process ends: those count as surplus once `_restore` has run, and go then.
    drop(eal);
}
