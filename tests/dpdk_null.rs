//! net_null: frames out of nothing and into nothing, and every mbuf accounted for.

use netpoll::{
    dpdk::{DpdkError, DpdkQueue, Eal, EalConfig, Mbuf, Memory, Port, PortSetup, Spreading, StartedPort},
    port::{
        ChecksumVerdict, Frame, MAX_BURST, PortIo,
        spread::{Lane, SpreadBy},
    },
};
use std::sync::Arc;

fn outstanding(port: &StartedPort) -> u32 {
    port.pools().iter().map(|pool| pool.outstanding).sum()
}

fn start(eal: &Arc<Eal>, setup: &PortSetup) -> (StartedPort, Vec<DpdkQueue>) {
    Port::attach(eal, "net_null0,size=64,copy=1").unwrap().start(setup).unwrap()
}

#[test]
fn net_null_end_to_end() {
    let eal =
        Eal::init(EalConfig { memory: Memory::NoHuge { megabytes: 128 }, ..EalConfig::default() }).expect("EAL starts");
    bursts(&eal);
    reserve(&eal);
    frames(&eal);
    removed_and_attached_again(&eal);
    several_queues(&eal);
    any_order_of_dropping(&eal);
    leaked_frame_keeps_its_pool(&eal);
    assert!(Port::list(&eal).is_empty(), "every port is gone");
}

/// Receive, transmit and free move mbufs in a circle.
fn bursts(eal: &Arc<Eal>) {
    let (port, mut queues) = start(eal, &PortSetup::default());
    assert_eq!(port.info().unwrap().driver, "net_null");
    assert!(port.link_up());
    let queue = &mut queues[0];
    let mut frames: Vec<Mbuf> = Vec::with_capacity(MAX_BURST);

    for round in 0..10_000 {
        assert_eq!(queue.rx_burst(&mut frames, 32), 32);
        assert!(frames.iter().all(|frame| frame.data().len() == 64 && frame.is_contiguous()));
        if round % 2 == 0 {
            assert_eq!(queue.tx_burst(&mut frames), 32);
        } else {
            queue.free(&mut frames);
        }
        assert!(frames.is_empty());
    }
    assert_eq!(outstanding(&port), 0);
    assert_eq!(port.stats().rx_frames, 320_000);
    assert_eq!(port.stats().tx_frames, 160_000);

    // The vector is never grown, and what was in it stays.
    assert_eq!(queue.rx_burst(&mut frames, 3), 3);
    let mut small = Vec::with_capacity(4);
    small.append(&mut frames);
    assert_eq!(queue.rx_burst(&mut small, 32), 1);
    assert_eq!((small.len(), small.capacity()), (4, 4));
    assert_eq!(outstanding(&port), 4);
    drop(small);
    assert_eq!(outstanding(&port), 0);

    let error = port.close().unwrap_err();
    assert!(matches!(&error, DpdkError::QueuesInUse { queues: 1, .. }), "{error}");
    drop(queues);
}

/// The reserve serves urgent frames only, when the pool is empty.
fn reserve(eal: &Arc<Eal>) {
    let few = PortSetup { rx_desc: 64, tx_desc: 64, client_mbufs_per_queue: Some(300), ..PortSetup::default() };
    let (port, mut queues) = start(eal, &few);
    let mut frames = Vec::with_capacity(1000);
    let queue = &mut queues[0];
    assert_eq!(queue.alloc(&mut frames, 1000, false), 300);
    assert_eq!(queue.alloc(&mut frames, 10, false), 0);
    let mut received = Vec::with_capacity(32);
    assert_eq!(queue.rx_burst(&mut received, 32), 32, "whatever clients hold, receiving goes on");
    drop(received);
    assert_eq!(queue.alloc(&mut frames, 10, true), 10);
    assert_eq!(queue.alloc(&mut frames, 100, true), 22);
    assert_eq!(queue.alloc(&mut frames, 1, true), 0);
    assert_eq!(outstanding(&port), 332);
    // Both pools' frames in one burst, and frames of a stranger's pool.
    queue.free(&mut frames);
    assert_eq!(outstanding(&port), 0);
    drop(queues);
    assert_eq!(port.close().unwrap().outstanding(), 0);
}

/// What a frame promises.
fn frames(eal: &Arc<Eal>) {
    let (port, mut queues) = start(eal, &PortSetup::default());
    let mut frames = Vec::with_capacity(1);
    assert_eq!(queues[0].alloc(&mut frames, 1, false), 1);
    let frame = &mut frames[0];
    assert!(frame.data().is_empty());
    assert!(frame.resize(2049).is_none() && frame.data().is_empty(), "no room, no change");
    frame.resize(2048).unwrap().fill(7);
    frame.resize(60).unwrap()[0] = 1;
    assert_eq!((frame.data().len(), frame.data()[0], frame.data()[59]), (60, 1, 7));
    frame.data_mut()[1] = 2;
    assert_eq!(frame.data()[..3], [1, 2, 7]);
    let verdicts = |verdict| (verdict, verdict);
    assert_eq!(frame.checksums(), verdicts(ChecksumVerdict::Unknown));
    frame.set_checksums_good();
    assert_eq!(frame.checksums(), verdicts(ChecksumVerdict::Good));
    frame.data_mut()[2] = 3;
    assert_eq!(
        frame.checksums(),
        verdicts(ChecksumVerdict::Unknown),
        "of bytes that may have changed nothing is known"
    );
    frame.request_tx_checksum(14, 20);
    assert_eq!(frame.data().len(), 60);
    // Freed on another thread.
    std::thread::spawn(move || drop(frames)).join().unwrap();
    drop(queues);
    assert_eq!(port.close().unwrap().outstanding(), 0);
}

fn removed_and_attached_again(eal: &Arc<Eal>) {
    for _ in 0..20 {
        let (port, mut queues) = start(eal, &PortSetup::default());
        let mut frames = Vec::with_capacity(8);
        assert_eq!(queues[0].rx_burst(&mut frames, 8), 8);
        drop((frames, queues));
        let closed = port.close().unwrap();
        assert_eq!((closed.name(), closed.outstanding()), ("net_null0", 0));
    }
}

fn several_queues(eal: &Arc<Eal>) {
    let setup = PortSetup { queues: 4, rx_desc: 128, tx_desc: 128, ..PortSetup::default() };
    let (port, mut queues) = start(eal, &setup);
    assert_eq!((queues.len(), port.info().unwrap().rx_queues), (4, 4));
    for queue in &mut queues {
        let mut frames = Vec::with_capacity(8);
        assert_eq!(queue.rx_burst(&mut frames, 8), 8);
        queue.free(&mut frames);
    }
    assert_eq!(queues[1].missed(), Default::default());
    drop(queues);
    assert_eq!(port.close().unwrap().pools().len(), 12);

    spread_by_rss(eal);
    spread_in_software(eal);

    let port = Port::attach(eal, "net_null0").unwrap();
    let error = port.start(&PortSetup { queues: 2000, ..setup }).unwrap_err().to_string();
    assert!(error.contains("2000 queues were asked for") && error.contains("ask for fewer"), "{error}");
}

/// net_null offers RSS, and says afterwards what it was told to hash.
fn spread_by_rss(eal: &Arc<Eal>) {
    // RTE_ETH_RSS_*: the bits of any IPv4 or IPv6 packet, and of UDP over IPv4 (rte_ethdev.h).
    const IPV4_UDP: u64 = 1 << 5;
    let rss = |setup: &PortSetup| {
        let port = Port::attach(eal, "net_null0").unwrap();
        let asked = port.spreading(setup).unwrap();
        let (started, lanes, spreading) = port.start_spread(setup).unwrap();
        assert_eq!(asked, spreading);
        assert!(lanes.iter().all(|lane| matches!(lane, Lane::Device(_))) && lanes.len() == usize::from(setup.queues));
        (spreading, started.info().unwrap())
    };
    for spread in [SpreadBy::Auto, SpreadBy::Device] {
        let (spreading, info) = rss(&PortSetup { queues: 2, spread, ..PortSetup::default() });
        assert_eq!((spreading, info.rx_queues), (Spreading::Rss, 2));
        assert!(info.rss & IPV4_UDP != 0, "{:#x}", info.rss);
        assert_eq!(info.rss & !info.rss_offered, 0, "no more than it offers: {:#x}", info.rss);
        let (spreading, info) = rss(&PortSetup { queues: 1, spread, ..PortSetup::default() });
        assert_eq!((spreading, info.rss), (Spreading::One, 0));
    }
}

/// The same device, told to leave it to us: one queue of its own, and two made of it, with as much memory in all.
fn spread_in_software(eal: &Arc<Eal>) {
    let setup =
        PortSetup { queues: 3, spread: SpreadBy::Software, mbufs_per_queue: Some(4096), ..PortSetup::default() };
    let port = Port::attach(eal, "net_null0").unwrap();
    let (started, mut lanes, spreading) = port.start_spread(&setup).unwrap();
    assert!(matches!(spreading, Spreading::Software { device_queues: 2.. }), "{spreading:?}");
    assert_eq!((lanes.len(), started.info().unwrap().rx_queues), (3, 1));
    assert_eq!(started.pools()[0].count, 3 * 4096);
    // net_null's frames are no datagrams: they stay where they are received.
    lanes[0].pass_on(true);
    let mut frames = Vec::with_capacity(8);
    assert_eq!((lanes[0].rx_burst(&mut frames, 8), lanes[0].passed_on()), (8, 0));
    lanes[0].free(&mut frames);
    assert_eq!(lanes[0].missed().taken, 8);
    drop(lanes);
    assert_eq!(started.close().unwrap().outstanding(), 0);
}

fn any_order_of_dropping(eal: &Arc<Eal>) {
    let (port, mut queues) = start(eal, &PortSetup::default());
    let mut frames = Vec::with_capacity(8);
    drop(port);
    assert_eq!(queues[0].rx_burst(&mut frames, 8), 8, "a queue keeps its port running");
    queues[0].free(&mut frames);
    assert_eq!(Port::list(eal).len(), 1);
    drop(queues);
    assert_eq!(Port::list(eal).len(), 0, "the last queue closes it");
}

fn leaked_frame_keeps_its_pool(eal: &Arc<Eal>) {
    let (port, mut queues) = start(eal, &PortSetup::default());
    let mut frames = Vec::with_capacity(1);
    queues[0].alloc(&mut frames, 1, false);
    frames[0].resize(60).unwrap().fill(9);
    drop(queues);
    let closed = port.close().unwrap();
    assert_eq!(closed.outstanding(), 1);
    drop(closed);
    assert_eq!(frames[0].data(), [9; 60], "the frame outlives its port");
    drop(frames);
}
