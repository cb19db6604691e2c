//! A writer that does not keep up: the hook goes on, everything is counted, the right things are shed.

use std::net::Ipv4Addr;

use super::{super::disk::faulty::Faults, *};
use crate::{netpoll::hook::Datagram, wire::MacAddr};

/// Lets the writer go when the test ends, however it ends: it would wait for it.
struct Brake(Arc<Faults>);

impl Brake {
    fn release(&self) {
        self.0.stall.store(false, Ordering::Relaxed);
    }
}

impl Drop for Brake {
    fn drop(&mut self) {
        self.release();
    }
}

/// A sink whose writer stands still until it is released.
fn stalled(dir: &Path, config: SinkConfig) -> (Sink, Brake) {
    let disk = FaultyDisk::default();
    let faults = disk.0.clone();
    let sink = Sink::open_on(SinkConfig { dir: dir.to_owned(), ..config }, Arc::new(disk)).unwrap();
    faults.stall.store(true, Ordering::Relaxed);
    (sink, Brake(faults))
}

fn config(shed: ShedPolicy) -> SinkConfig {
    SinkConfig { shed, ..small(SinkConfig::text_only("")) }
}

/// Datagrams that take every way through the hook: each severity, too long, a crash.
fn every_kind() -> Vec<DatagramBuf> {
    let lines: Vec<_> = (0..8).map(|severity| format!("<{}>x", 8 + severity)).collect();
    let mut datagrams: Vec<_> = lines.iter().map(|line| datagram(1, line.as_bytes())).collect();
    datagrams.push(datagram(2, &[b'x'; 9000]));
    datagrams.push(datagram(3, b"0,1,2,-;Kernel panic - not syncing"));
    datagrams
}

/// Delivers them past the last empty batch of a writer that stands still.
fn deliver_all_ways(lane: &mut Lane, datagrams: &[Datagram<'_>]) {
    for step in 0..2000 {
        let now = Now { mono_ns: step * 1_000_000, real_ns: step };
        lane.hook.rx_hook(&NoSend, &RxBurst { now, datagrams });
        lane.hook.tick(now);
    }
}

fn took_all_ways(sink: &Sink) {
    let stats = sink.stats().all_queues();
    assert!(stats.too_long > 0, "{stats:?}");
    assert!(stats.shed_debug > 0 && stats.batch_ring_full + stats.shed_critical > 0, "{stats:?}");
}

#[test]
fn the_hook_never_allocates() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, brake) = stalled(dir.path(), config(ShedPolicy::default()));
    let mut lane = Lane::new(&sink);
    let datagrams = every_kind();
    let datagrams: Vec<_> = datagrams.iter().map(DatagramBuf::datagram).collect();
    let allocated = allocation_counter::measure(|| deliver_all_ways(&mut lane, &datagrams));
    assert_eq!(allocated.count_total, 0, "{allocated:?}");
    took_all_ways(&sink);
    // The writer and its helper allocate, on their own threads.
    brake.release();
    drop(lane);
    assert_settled(&sink.stop());
}

/// On a thread to which the kernel answers every system call with SIGSYS.
#[cfg(all(feature = "dpdk", feature = "cli"))]
#[test]
fn the_hook_makes_no_system_call() {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

    let dir = tempfile::tempdir().unwrap();
    let (sink, brake) = stalled(dir.path(), config(ShedPolicy::default()));
    let mut lane = Lane::new(&sink);
    let datagrams = every_kind();
    let called = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(libc::SIGSYS, called.clone()).unwrap();
    let (before, after) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
    let (noted_before, noted_after) = (before.clone(), after.clone());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    // What a thread's end cannot do without.
    let allowed = [libc::SYS_rt_sigreturn, libc::SYS_exit].map(|call| (call, vec![])).into();
    let filter = SeccompFilter::new(allowed, SeccompAction::Trap, SeccompAction::Allow, arch).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    let lane = std::thread::spawn(move || {
        let datagrams: Vec<_> = datagrams.iter().map(DatagramBuf::datagram).collect();
        seccompiler::apply_filter(&program).unwrap();
        // One that is seen, so that the hook's would be.
        std::thread::yield_now();
        noted_before.store(called.swap(false, Ordering::SeqCst), Ordering::SeqCst);
        deliver_all_ways(&mut lane, &datagrams);
        noted_after.store(called.load(Ordering::SeqCst), Ordering::SeqCst);
        lane
    });
    let lane = lane.join().unwrap();
    assert!(before.load(Ordering::SeqCst), "a system call is seen");
    assert!(!after.load(Ordering::SeqCst), "the hook made a system call");
    took_all_ways(&sink);
    brake.release();
    drop(lane);
    assert_settled(&sink.stop());
}

#[test]
fn a_stalled_writer_never_holds_the_hook_up() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, brake) = stalled(dir.path(), config(ShedPolicy::OFF));
    let mut lane = Lane::new(&sink);
    let block = lines(0..640);
    let mut longest = Duration::ZERO;
    // As long as disks have been seen to, and longer.
    while lane.start.elapsed() < Duration::from_secs(10) {
        let start = Instant::now();
        lane.deliver(1, block.iter().map(Vec::as_slice));
        longest = longest.max(start.elapsed());
    }
    let ledger = sink.ledger();
    assert!(ledger.balanced(), "{ledger}");
    // All batches are full, the rest was dropped.
    assert_eq!((ledger.stored, ledger.in_flight), (0, 16 * 64), "{ledger}");
    assert_eq!(ledger.drop_count("batch_ring_full"), ledger.delivered - 16 * 64);
    assert!(longest < Duration::from_millis(500), "{longest:?}");
    brake.release();
    wait_for("the batches come back", || {
        lane.deliver(1, block.iter().take(10).map(Vec::as_slice));
        sink.ledger().stored > 2000
    });
    drop(lane);
    let ledger = sink.stop();
    assert_settled(&ledger);
    assert_eq!(messages(&dir.path().join("netpoll.log")).len() as u64, ledger.stored);
}

#[test]
fn under_overload_debug_goes_first_and_errors_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, brake) = stalled(dir.path(), config(ShedPolicy::default()));
    let mut lane = Lane::new(&sink);
    // Each severity from a source of its own, at the same rate.
    for number in 0..110 {
        for severity in 0..8u8 {
            lane.deliver(severity, [format!("<{}>line {number}", 128 + severity).as_bytes()]);
        }
    }
    let stats = sink.stats().all_queues();
    let shed = [stats.shed_error, stats.shed_warning, stats.shed_notice, stats.shed_info, stats.shed_debug];
    assert!(shed.is_sorted_by(|a, b| a < b || (*a == 0 && *b == 0)), "{shed:?}");
    assert!(stats.shed_debug > 30, "{stats:?}");
    assert_eq!((stats.shed_emergency, stats.shed_alert, stats.shed_critical, stats.shed_error), (0, 0, 0, 0));
    brake.release();
    drop(lane);
    let ledger = sink.stop();
    assert_settled(&ledger);
    let found = messages(&dir.path().join("netpoll.log"));
    for severity in 0..4 {
        let prefix = format!("<{}>", 128 + severity);
        assert_eq!(found.iter().filter(|message| message.starts_with(&prefix)).count(), 110, "{prefix}");
    }
}

#[test]
fn a_crash_is_kept_whatever_happens() {
    let dir = tempfile::tempdir().unwrap();
    let (sink, brake) = stalled(dir.path(), config(ShedPolicy::default()));
    let mut lane = Lane::new(&sink);
    lane.deliver(9, [&b"4,100,1,-;------------[ cut here ]------------"[..]]);
    for number in 0..2000 {
        lane.deliver(1, [format!("<131>an error {number}").as_bytes()]);
    }
    assert!(sink.stats().all_queues().shed_error > 0);
    for number in 0..50 {
        lane.deliver(9, [format!("4,{},1,-; frame {number}", 101 + number).as_bytes()]);
        lane.deliver(9, [format!("<134>chatter {number}").as_bytes()]);
    }
    lane.deliver(9, [&b"4,200,1,-;---[ end trace 0000000000000000 ]---"[..]]);
    brake.release();
    drop(lane);
    assert_settled(&sink.stop());
    let found = messages(&dir.path().join("netpoll.log"));
    assert_eq!(found.iter().filter(|message| message.starts_with("4,")).count(), 52);
    assert_eq!(found.iter().filter(|message| message.contains("chatter")).count(), 0);
}

#[test]
fn one_screaming_source_does_not_starve_the_others() {
    let dir = tempfile::tempdir().unwrap();
    // The slow disk: each write of 64 rows takes a while, far less than source 1 sends.
    let (sink, brake) = stalled(dir.path(), config(ShedPolicy::default()));
    let slow = Arc::new(AtomicBool::new(true));
    let pump = std::thread::spawn({
        let (faults, slow) = (brake.0.clone(), slow.clone());
        move || {
            while slow.load(Ordering::Relaxed) {
                brake.release();
                std::thread::sleep(Duration::from_millis(2));
                faults.stall.store(true, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
            brake.release();
        }
    });
    let mut lane = Lane::new(&sink);
    let scream = vec![&b"<134>AAAAAAAAAAAAAAAA"[..]; 64];
    for number in 0..400 {
        for _ in 0..10 {
            lane.deliver(1, scream.iter().copied());
        }
        for quiet in 2..5 {
            lane.deliver(quiet, [format!("<134>quiet {number}").as_bytes()]);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    slow.store(false, Ordering::Relaxed);
    pump.join().unwrap();
    drop(lane);
    let ledger = sink.stop();
    assert_settled(&ledger);
    let fair_share = ledger.drop_count("fair_share");
    let found = messages(&dir.path().join("netpoll.log"));
    // Source 1 was alone at first and had filled everything before the others came.
    let settled = |message: &&String| {
        message.split_once("quiet ").is_some_and(|(_, number)| number.parse::<u32>().unwrap() >= 100)
    };
    let quiet = found.iter().filter(settled).count();
    assert!(fair_share > 10_000, "source 1 was too slow to be shed: {ledger}");
    assert_eq!(quiet, 900, "{quiet} of 900 quiet lines stored; {ledger}");
}

/// The whole way: a port whose sink cannot write at all answers ARP in the very poll in which it is asked.
#[test]
fn a_disk_that_stalls_does_not_delay_arp() {
    use crate::{
        LcoreId, PortId,
        netpoll::{ClientOptions, Port, PortOptions, RxFilter},
        port::memory::MemoryPort,
        wire::{
            arp::Arp,
            template::{UdpFlow, UdpTemplate},
        },
    };
    let _lcore = LcoreId(120).enter();
    let dir = tempfile::tempdir().unwrap();
    let (sink, brake) = stalled(dir.path(), config(ShedPolicy::default()));
    let (us, peer) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
    let (us_ip, peer_ip) = (Ipv4Addr::new(10, 99, 0, 1), Ipv4Addr::new(10, 99, 0, 2));
    let (io, wire) = MemoryPort::new(us, 256, 1024);
    let port = Port::new(PortId(0), PortOptions::new("mem0").ip(us_ip, 24), vec![io]);
    let np = port.setup_rx(ClientOptions::new("sink").ring_frames(1), RxFilter::default(), sink.hooks()).unwrap();
    while wire.take().is_some() {}
    let flow = UdpFlow { src_mac: peer, dst_mac: us, src_ip: peer_ip, dst_ip: us_ip, src_port: 4000, dst_port: 514 };
    let mut frame = vec![0; 100];
    UdpTemplate::new(&flow).emit(&mut frame, b"<14>a line that nobody can write", 1).unwrap();
    let mut request = vec![0; 60];
    Arp::request(peer, peer_ip, us_ip).emit_frame(&mut request, MacAddr::BROADCAST).unwrap();
    let rounds = 500;
    for _ in 0..rounds {
        (0..31).for_each(|_| assert!(wire.inject(&frame)));
        assert!(wire.inject(&request));
        assert!(np.poll(32).is_some_and(|work| work >= 32));
        assert_eq!(wire.take().map(|reply| reply[21]), Some(2), "a reply, at once");
    }
    let stats = port.stats();
    assert_eq!((stats.queue.delivered, stats.queue.arp_answered), (31 * rounds, rounds));
    let ledger = sink.ledger();
    assert_eq!(ledger.stored, 0, "it did stall");
    assert!(ledger.dropped() > 31 * rounds / 2, "{ledger}");
    np.cleanup().unwrap();
    brake.release();
    let ledger = sink.stop();
    assert_settled(&ledger);
    assert_eq!(ledger.delivered, 31 * rounds);
    while wire.take_buf().is_some() {}
    assert_eq!(wire.pool().outstanding(), 0, "mbufs out = mbufs back");
}
