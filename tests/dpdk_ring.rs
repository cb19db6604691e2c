//! Two ports joined by rings: every frame arrives as it was sent, both ways, and every mbuf goes home.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use netpoll::{
    dpdk::{DpdkError, DpdkQueue, Eal, EalConfig, Mbuf, Memory, Port, PortSetup, RegisteredThread, StartedPort},
    port::{Frame, PortIo},
};

const SETUP: fn() -> PortSetup =
    || PortSetup { rx_desc: 256, tx_desc: 256, client_mbufs_per_queue: Some(2048), ..PortSetup::default() };

fn pair(eal: &Arc<Eal>, queues: u16, size: u32) -> [(StartedPort, Vec<DpdkQueue>); 2] {
    let (a, b) = Port::ring_pair(eal, ["a", "b"], queues, size).unwrap();
    let setup = PortSetup { queues, ..SETUP() };
    [a.start(&setup).unwrap(), b.start(&setup).unwrap()]
}

/// Frame `number` of `sender`: length and every byte follow from both.
fn fill(frame: &mut Mbuf, sender: u8, number: u32) {
    let len = 60 + number as usize * 31 % 1440;
    let bytes = frame.resize(len).unwrap();
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = (place as u32).wrapping_mul(number | 1).to_le_bytes()[0] ^ sender;
    }
    bytes[..4].copy_from_slice(&number.to_le_bytes());
}

fn check(frame: &Mbuf, sender: u8, number: u32) {
    let bytes = frame.data();
    assert_eq!(bytes.len(), 60 + number as usize * 31 % 1440);
    assert_eq!(bytes[..4], number.to_le_bytes(), "in order");
    for (place, byte) in bytes.iter().enumerate().skip(4) {
        assert_eq!(*byte, (place as u32).wrapping_mul(number | 1).to_le_bytes()[0] ^ sender);
    }
}

#[test]
fn ring_pair_end_to_end() {
    let eal = Eal::init(EalConfig { memory: Memory::NoHuge { megabytes: 128 }, ..EalConfig::default() }).unwrap();
    full_ring_gives_frames_back(&eal);
    both_ways_at_once(&eal);
    queues_are_apart(&eal);
    unread_frames_go_home(&eal);
    names_and_sizes(&eal);
    assert!(Port::list(&eal).is_empty());
}

fn full_ring_gives_frames_back(eal: &Arc<Eal>) {
    let [(a, mut qa), (b, mut qb)] = pair(eal, 1, 16);
    let mut frames = Vec::with_capacity(32);
    qa[0].alloc(&mut frames, 32, false);
    for (number, frame) in (0..).zip(&mut frames) {
        fill(frame, 1, number);
    }
    assert_eq!(qa[0].tx_burst(&mut frames), 15, "a ring of 16 places holds 15");
    assert_eq!(frames.len(), 17);
    check(&frames[0], 1, 15);
    assert_eq!(qa[0].tx_burst(&mut frames), 0);
    let mut got = Vec::with_capacity(32);
    assert_eq!(qb[0].rx_burst(&mut got, 32), 15);
    assert_eq!(qa[0].tx_burst(&mut frames), 15);
    assert_eq!(qb[0].rx_burst(&mut got, 32), 15);
    for (number, frame) in (0..).zip(&got) {
        check(frame, 1, number);
    }
    assert_eq!(frames.len(), 2);
    // A stranger's frames: freed in bulk by the other port's queue.
    qb[0].free(&mut got);
    drop((frames, qa, qb));
    assert_eq!((a.close().unwrap().outstanding(), b.close().unwrap().outstanding()), (0, 0));
}

fn both_ways_at_once(eal: &Arc<Eal>) {
    const FRAMES: u32 = 200_000;
    let [(a, qa), (b, qb)] = pair(eal, 1, 1024);
    let stop = Arc::new(AtomicBool::new(false));
    let side = |queues: Vec<DpdkQueue>, me: u8, other: u8| {
        let (eal, stop) = (eal.clone(), stop.clone());
        thread::spawn(move || {
            let _lcore = RegisteredThread::register(&eal).unwrap();
            let [mut queue] = <[DpdkQueue; 1]>::try_from(queues).unwrap();
            let (mut out, mut got) = (Vec::with_capacity(32), Vec::with_capacity(32));
            let (mut sent, mut received) = (0, 0);
            while !stop.load(Ordering::Relaxed) && (sent < FRAMES || received < FRAMES || !out.is_empty()) {
                if out.is_empty() && sent < FRAMES {
                    queue.alloc(&mut out, 32.min((FRAMES - sent) as usize), false);
                    for frame in &mut out {
                        fill(frame, me, sent);
                        sent += 1;
                    }
                }
                queue.tx_burst(&mut out);
                if queue.rx_burst(&mut got, 32) == 0 {
                    thread::yield_now();
                }
                for frame in &got {
                    check(frame, other, received);
                    received += 1;
                }
                queue.free(&mut got);
            }
            (sent, received)
        })
    };
    let (one, two) = (side(qa, 1, 2), side(qb, 2, 1));
    let results = [one.join(), two.join()].map(|result| {
        // A side that failed must not leave the other one waiting.
        stop.store(true, Ordering::Relaxed);
        result
    });
    for result in results {
        assert_eq!(result.unwrap(), (FRAMES, FRAMES));
    }
    let closed = [a.close().unwrap(), b.close().unwrap()];
    assert_eq!(closed.map(|port| port.outstanding()), [0, 0]);
}

fn queues_are_apart(eal: &Arc<Eal>) {
    let [(a, mut qa), (b, mut qb)] = pair(eal, 3, 64);
    for (number, queue) in (0..).zip(&mut qa) {
        let mut frames = Vec::with_capacity(1);
        queue.alloc(&mut frames, 1, false);
        fill(&mut frames[0], 0, number);
        assert_eq!(queue.tx_burst(&mut frames), 1);
    }
    for (number, queue) in (0..).zip(&mut qb) {
        let mut frames = Vec::with_capacity(8);
        assert_eq!(queue.rx_burst(&mut frames, 8), 1);
        check(&frames[0], 0, number);
    }
    drop((qa, qb));
    assert_eq!(a.close().unwrap().outstanding() + b.close().unwrap().outstanding(), 0);
}

/// What is in a ring when the ports close is freed to the pool that it came from.
fn unread_frames_go_home(eal: &Arc<Eal>) {
    let [(a, mut qa), (b, mut qb)] = pair(eal, 1, 64);
    for queue in [&mut qa[0], &mut qb[0]] {
        let mut frames = Vec::with_capacity(20);
        queue.alloc(&mut frames, 20, false);
        frames.iter_mut().for_each(|frame| fill(frame, 0, 0));
        assert_eq!(queue.tx_burst(&mut frames), 20);
    }
    drop(qa);
    let a = a.close().unwrap();
    assert_eq!(a.outstanding(), 20, "on their way to b, which still runs");
    let mut got = Vec::with_capacity(8);
    assert_eq!(qb[0].rx_burst(&mut got, 8), 8, "frames of a closed port are still good");
    check(&got[7], 0, 0);
    drop(qb);
    let b = b.close().unwrap();
    assert_eq!((a.outstanding(), b.outstanding()), (8, 0));
    drop(got);
    assert_eq!((a.outstanding(), b.outstanding()), (0, 0));
}

fn names_and_sizes(eal: &Arc<Eal>) {
    let error = |names, queues, size| Port::ring_pair(eal, names, queues, size).unwrap_err();
    assert!(error(["a", "b"], 1, 100).to_string().contains("power of two"));
    assert!(error(["a", "b"], 0, 64).to_string().contains("1 to 16 queues"));
    assert!(error(["a,b", "b"], 1, 64).to_string().contains("no comma"));
    assert!(matches!(error(["a", "a"], 1, 64), DpdkError::AlreadyExists { .. }));
    let _held = Port::ring_pair(eal, ["a", "b"], 1, 64).unwrap();
    assert!(matches!(error(["c", "b"], 1, 64), DpdkError::AlreadyExists { .. }));
    // Not started: closing is all the same.
}
