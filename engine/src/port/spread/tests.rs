//! Lanes by themselves, over a port in memory; what a port with clients makes of them is in tests/engine_spread.rs.

use std::collections::HashMap;

use super::*;
use crate::port::memory::{MemoryBuf, MemoryPort, Wire};

const US: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

/// `workers` that hold at most `frames`, passing, over a port with `buffers`.
fn spread(workers: usize, frames: usize, buffers: usize) -> (Vec<Lane<MemoryPort>>, Wire) {
    let (port, wire) = MemoryPort::new(US, 4096, buffers);
    let mut lanes = over(port, workers, frames);
    lanes[0].pass_on(true);
    (lanes, wire)
}

/// A datagram from 10.0.0.`source`, with a number.
fn numbered(source: u8, number: u32) -> Vec<u8> {
    let mut frame = vec![0x22; 12];
    frame.extend([8, 0, 0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, source, 10, 0, 0, 200]);
    frame.extend([0; 8]);
    frame.extend(number.to_be_bytes());
    frame
}

/// From which source a frame is, and its number.
fn read(frame: &MemoryBuf) -> (u8, u32) {
    let data = frame.data();
    (data[29], u32::from_be_bytes(*data.last_chunk().unwrap()))
}

fn poll(lane: &mut Lane<MemoryPort>) -> Vec<MemoryBuf> {
    let mut frames = Vec::with_capacity(MAX_BURST);
    let got = lane.rx_burst(&mut frames, MAX_BURST);
    assert_eq!(got, frames.len());
    frames
}

/// 60,000 datagrams of 60 sources, every worker in a thread of its own: each source's in order, none lost, every buffer
/// back in the pool.
#[test]
fn each_source_keeps_its_order_over_three_workers() {
    const SOURCES: u8 = 60;
    const EACH: u32 = 1000;
    let (mut lanes, wire) = spread(3, 512, 2048);
    let workers = lanes.split_off(1);
    let mut receiver = lanes.pop().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = workers
        .into_iter()
        .map(|mut lane| {
            let done = done.clone();
            std::thread::spawn(move || {
                let mut last = HashMap::new();
                let mut got = 0;
                loop {
                    // Before the look at the ring: what was passed on before `done` is seen.
                    let ended = done.load(Ordering::Acquire);
                    let mut frames = poll(&mut lane);
                    if frames.is_empty() {
                        if ended {
                            return (got, last, lane);
                        }
                        std::thread::yield_now();
                    }
                    for (source, number) in frames.iter().map(read) {
                        let before = last.insert(source, number);
                        assert_eq!(before.map_or(0, |before| before + 1), number, "source {source}");
                    }
                    got += frames.len();
                    lane.free(&mut frames);
                }
            })
        })
        .collect();
    let full = |lane: &mut Lane<MemoryPort>| lane.missed();
    for number in 0..EACH {
        for source in 0..SOURCES {
            // Only as many on the way as every worker can hold by itself, so that nothing is dropped.
            while wire.pool().outstanding() >= 500 {
                assert!(poll(&mut receiver).is_empty(), "datagrams are for workers");
                std::thread::yield_now();
            }
            assert!(wire.inject(&numbered(source, number)));
        }
    }
    let sent = u64::from(EACH) * u64::from(SOURCES);
    while full(&mut receiver).taken < sent {
        poll(&mut receiver);
    }
    done.store(true, Ordering::Release);
    let ends: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let mut sources = 0;
    for (got, last, mut lane) in ends {
        assert!(got > 0 && last.values().all(|number| *number == EACH - 1), "each source by one worker");
        assert_eq!((got, full(&mut lane).spread_full), (last.len() * EACH as usize, 0));
        sources += last.len();
    }
    assert_eq!(sources, usize::from(SOURCES));
    while wire.pool().outstanding() > 0 {
        assert!(poll(&mut receiver).is_empty());
    }
}

/// A worker that takes nothing holds what it may, and no more; what else is for it is dropped and counted, and the
/// other one gets all of its own.
#[test]
fn a_worker_that_stalls_costs_its_share() {
    const HELD: usize = 100;
    let (mut lanes, wire) = spread(2, HELD, 4096);
    let [ours, theirs] =
        [0, 1].map(|worker| (1..=200).find(|source| worker_of(0x0a00_0000 + u32::from(*source), 2) == worker).unwrap());
    let mut got = 0;
    for number in 0..1000 {
        assert!(wire.inject(&numbered(ours, number)) && wire.inject(&numbered(theirs, number)));
        assert!(poll(&mut lanes[0]).is_empty());
        assert_eq!(lanes[0].passed_on(), 2, "taken from the device, whatever became of them");
        let mut frames = poll(&mut lanes[2]);
        got += frames.len();
        lanes[2].free(&mut frames);
    }
    assert_eq!(got, 1000);
    assert_eq!((lanes[1].waiting(), lanes[2].waiting()), (HELD, 0));
    assert_eq!(lanes[1].missed().spread_full, 1000 - HELD as u64);
    assert_eq!(lanes[2].missed().spread_full, 0);
    assert_eq!(lanes[0].missed().taken, 2000);
    // The last one of the other worker's is still on its way back.
    assert_eq!(wire.pool().outstanding(), HELD + 1);

    // In its hands they still count.
    let mut frames = poll(&mut lanes[1]);
    assert!(wire.inject(&numbered(ours, 1000)));
    poll(&mut lanes[0]);
    assert_eq!((frames.len(), lanes[1].missed().spread_full), (MAX_BURST, 1001 - HELD as u64));
    // Given back, they make room.
    assert!(frames.iter().map(read).eq((0..MAX_BURST as u32).map(|number| (ours, number))), "the oldest are kept");
    lanes[1].free(&mut frames);
    assert!(wire.inject(&numbered(ours, 1001)));
    poll(&mut lanes[0]);
    assert_eq!(lanes[1].waiting(), HELD - MAX_BURST + 1);
    drop(lanes);
    assert_eq!(wire.pool().outstanding(), 0, "what lay in the rings is back");
}

#[test]
fn without_a_hook_the_receiver_keeps_everything() {
    let (mut lanes, wire) = spread(2, 64, 256);
    lanes[0].pass_on(false);
    for source in 0..20 {
        assert!(wire.inject(&numbered(source, 0)));
    }
    let mut frames = poll(&mut lanes[0]);
    assert_eq!((frames.len(), lanes[0].passed_on()), (20, 0));
    lanes[0].free(&mut frames);
    assert_eq!(lanes[0].missed(), Missed { taken: 20, ..Missed::default() });
    assert_eq!((lanes[1].waiting(), lanes[2].waiting()), (0, 0));
}

#[test]
fn only_the_receiver_sends_and_answers() {
    let (mut lanes, wire) = spread(1, 64, 256);
    let arp = [&[0xff; 12][..], &[8, 6], &[0; 46]].concat();
    assert!(wire.inject(&arp) && wire.inject(&numbered(1, 7)));
    let mut kept = poll(&mut lanes[0]);
    assert_eq!((kept.len(), lanes[0].passed_on(), lanes[1].waiting()), (1, 1, 1));
    assert_eq!((lanes[0].sends(), lanes[1].sends()), (true, false));

    let mut theirs = poll(&mut lanes[1]);
    assert_eq!(lanes[1].tx_burst(&mut theirs), 0);
    assert_eq!(theirs.len(), 1, "it stays with the caller");
    let mut none = Vec::with_capacity(8);
    assert_eq!(lanes[1].alloc(&mut none, 8, true), 0);
    lanes[1].free(&mut theirs);

    assert_eq!(lanes[0].tx_burst(&mut kept), 1);
    assert_eq!(wire.take().as_deref(), Some(&arp[..]));
    assert_eq!(lanes[0].alloc(&mut none, 8, false), 8);
    // Frames that never came by the ring go back all the same.
    lanes[1].free(&mut none);
    drop(lanes);
    assert_eq!(wire.pool().outstanding(), 0);
}

#[test]
fn the_link_is_the_devices() {
    let (lanes, wire) = spread(1, 64, 256);
    assert!(lanes.iter().all(Lane::link_up));
    wire.set_link(false);
    assert!(!lanes[0].link_up(), "who looks first is the receiver");
    assert!(!lanes[1].link_up());
    assert!(lanes.iter().all(|lane| lane.mac() == US));
}
