//! The engine on real DPDK ports without a NIC: net_ring pairs, net_pcap, net_null. One EAL for all tests of this
//! file, without hugepages.

#[path = "../engine/src/netpoll/filter/bad_frames.rs"]
mod bad_frames;
mod support;

use std::{
    collections::BTreeMap,
    io::Write,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use netpoll::{
    LcoreId, QueueId,
    dpdk::{EalConfig, Memory, PortSetup},
    engine::{Engine, EngineConfig, EngineError},
    netpoll::{
        ClientOptions, IdlePolicy, OnFull, Port, PortOptions, RemoteMac, RxFilter, SetupError,
        filter::{PrefixSet, Reason},
        hook::{HookSend, RxBurst, RxHook},
    },
    wire::MacAddr,
};
use support::{Hook, PEER_IP, Recorder, US_IP};

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let eal = EalConfig { memory: Memory::NoHuge { megabytes: 1024 }, ..EalConfig::default() };
        let idle = IdlePolicy::Sleep { max: Duration::from_micros(200) };
        Engine::start(EngineConfig { eal, idle, burst: 32, ..EngineConfig::default() }).unwrap()
    })
}

/// Two ports joined by rings: ours at 10.99.0.1, the peer at 10.99.0.2.
fn pair(name: &str) -> [Arc<Port>; 2] {
    let setup = PortSetup { mbufs_per_queue: Some(8192), ..PortSetup::default() };
    let ours = PortOptions::new(format!("{name}a")).ip(US_IP, 24);
    let peer = PortOptions::new(format!("{name}b")).ip(PEER_IP, 24);
    engine().ring_pair(1024, &setup, [ours, peer]).unwrap()
}

/// Takes ports out, and sees that every mbuf came back.
fn detach(ports: impl IntoIterator<Item = Arc<Port>>) {
    let ports: Vec<_> = ports.into_iter().collect();
    for port in &ports {
        assert!(port.stats().balances(), "{}:\n{}", port.name(), port.stats());
    }
    for port in ports {
        let closed = engine().detach(&port).unwrap();
        assert_eq!(closed.outstanding(), 0, "{}: mbufs out = mbufs back", port.name());
    }
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "waited 20 s for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn datagrams_cross_a_ring_with_arp_resolved_and_every_frame_accounted_for() {
    const FRAMES: u32 = 20_000;
    let [ours, peer] = pair("cross");
    let recorder = Recorder::default();
    let filter = RxFilter { local_ports: 514.into(), ..RxFilter::default() };
    let rx = peer.setup_rx(ClientOptions::new("rx"), filter, recorder.factory()).unwrap();
    let options = ClientOptions::new("tx")
        .remote(PEER_IP, 514)
        .remote_mac(RemoteMac::Arp)
        .on_full(OnFull::Wait(Duration::from_secs(10)));
    let mut tx = ours.setup(options).unwrap();
    for n in 0..FRAMES {
        tx.send(format!("<14>line {n}").as_bytes()).unwrap();
    }
    let sent = tx.cleanup().unwrap();
    assert_eq!((sent.submit.submitted, sent.sent.sent), (u64::from(FRAMES), u64::from(FRAMES)));
    wait_for("the last line", || recorder.0.lock().unwrap().len() == FRAMES as usize);
    let lines = recorder.payloads();
    assert!(lines.iter().enumerate().all(|(n, line)| *line == format!("<14>line {n}").into_bytes()), "in order");
    rx.cleanup().unwrap();
    let (ours_stats, peer_stats) = (ours.stats(), peer.stats());
    assert_eq!(peer_stats.queue.delivered, u64::from(FRAMES));
    assert_eq!(peer_stats.queue.arp_answered, 1);
    assert_eq!(ours_stats.queue.arp_learned, 1);
    assert_eq!(ours_stats.queue.sent, u64::from(FRAMES) + ours_stats.queue.engine_sent);
    detach([ours, peer]);
}

#[test]
fn an_echo_on_a_hook_returns_every_datagram_in_order() {
    const FRAMES: u32 = 10_000;
    let [ours, peer] = pair("echo");
    let echo = peer
        .setup_rx(ClientOptions::new("echo"), RxFilter::default(), |_: QueueId| {
            Box::new(Hook(|np: &dyn HookSend, burst: &RxBurst<'_>| {
                for datagram in burst.datagrams {
                    np.reply(datagram, datagram.payload()).unwrap();
                }
            })) as Box<dyn RxHook>
        })
        .unwrap();
    let recorder = Recorder::default();
    let options = ClientOptions::new("asker").local(US_IP, 7777).remote(PEER_IP, 7);
    let asker = ours.setup_rx(options, RxFilter::default(), recorder.factory()).unwrap();
    let sender = asker.shared().unwrap();
    for n in 0..FRAMES {
        // As many under way as the rings hold with certainty.
        wait_for("the echo to keep up", || n as usize - recorder.0.lock().unwrap().len() < 64);
        sender.send(&n.to_be_bytes()).unwrap();
    }
    wait_for("the last echo", || recorder.0.lock().unwrap().len() == FRAMES as usize);
    let got = recorder.payloads();
    assert!(got.iter().enumerate().all(|(n, echo)| *echo == (n as u32).to_be_bytes()), "in order, without loss");
    drop((asker, echo));
    detach([ours, peer]);
}

#[test]
fn sixty_four_clients_on_eight_threads_keep_their_order() {
    const FRAMES: u32 = 2000;
    let [ours, peer] = pair("many");
    let orders: Arc<Vec<AtomicU32>> = Arc::new((0..64).map(|_| AtomicU32::new(0)).collect());
    let (delivered, broken) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (next, count, wrong) = (orders.clone(), delivered.clone(), broken.clone());
    let rx = peer
        .setup_rx(ClientOptions::new("rx"), RxFilter::default(), move |_| {
            let (next, count, wrong) = (next.clone(), count.clone(), wrong.clone());
            Box::new(Hook(move |_: &dyn HookSend, burst: &RxBurst<'_>| {
                for datagram in burst.datagrams {
                    let (client, seq) = datagram.payload().split_at(1);
                    let seq = u32::from_be_bytes(seq.try_into().unwrap());
                    let before = next[usize::from(client[0])].swap(seq + 1, Ordering::Relaxed);
                    if seq < before {
                        wrong.store(true, Ordering::Relaxed);
                    }
                }
                count.fetch_add(burst.datagrams.len() as u64, Ordering::Relaxed);
            })) as Box<dyn RxHook>
        })
        .unwrap();
    let threads: Vec<_> = (0..8_u8)
        .map(|thread| {
            let ours = ours.clone();
            std::thread::spawn(move || {
                let mut clients: Vec<_> = (0..8)
                    .map(|n| {
                        let options = ClientOptions::new(format!("c{thread}.{n}")).remote(PEER_IP, 514);
                        (thread * 8 + n, ours.setup(options).unwrap())
                    })
                    .collect();
                for seq in 0..FRAMES {
                    for (id, np) in &mut clients {
                        let mut line = [0; 5];
                        line[0] = *id;
                        line[1..].copy_from_slice(&seq.to_be_bytes());
                        // Queued or refused: counted either way.
                        let _ = np.send(&line);
                    }
                }
                clients.into_iter().map(|(_, np)| np.cleanup().unwrap()).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut sent = 0;
    for stats in threads.into_iter().flat_map(|thread| thread.join().unwrap()) {
        assert_eq!(stats.submit.submitted, u64::from(FRAMES));
        assert_eq!(stats.queued, 0);
        assert!(stats.balances(), "{stats}");
        sent += stats.sent.sent;
    }
    wait_for("what was sent to arrive", || delivered.load(Ordering::Relaxed) == sent);
    assert!(!broken.load(Ordering::Relaxed), "each client's frames in the order of submission");
    assert!(sent >= 64 * 64, "{sent}");
    drop(rx);
    detach([ours, peer]);
}

#[test]
fn ports_come_and_go_while_the_others_run() {
    let [ours, peer] = pair("stay");
    let recorder = Recorder::default();
    let rx = peer.setup_rx(ClientOptions::new("rx"), RxFilter::default(), recorder.factory()).unwrap();
    let mut tx = ours.setup(ClientOptions::new("tx").remote(PEER_IP, 514)).unwrap();
    let mut sent = 0;
    for round in 0..5 {
        let name = format!("guest{round}");
        let options = PortOptions::new(name.clone()).ip([10, 99, 1, 1].into(), 24);
        let guest = engine().attach(&format!("net_null_{name}"), &PortSetup::default(), options, &[]).unwrap();
        assert!(engine().device(&guest).unwrap().0.driver.contains("null"));
        let client = guest.setup(ClientOptions::new("guest").remote(PEER_IP, 514)).unwrap();
        let refused = engine().detach(&guest).unwrap_err();
        assert!(matches!(refused, EngineError::Setup(SetupError::InUse { clients: 1, .. })), "{refused}");
        tx.send(b"meanwhile").unwrap();
        sent += 1;
        drop(client);
        detach([guest]);
    }
    wait_for("the lines of the port that stayed", || recorder.0.lock().unwrap().len() == sent);
    drop((rx, tx));
    detach([ours, peer]);
}

/// The same device again, under the same name, from another thread than the first: clients, hook and ledger start anew.
#[test]
fn a_device_is_removed_and_put_back_under_its_own_name() {
    let [ours, peer] = pair("steady");
    let recorder = Recorder::default();
    let rx = peer.setup_rx(ClientOptions::new("rx"), RxFilter::default(), recorder.factory()).unwrap();
    let mut tx = ours.setup(ClientOptions::new("tx").remote(PEER_IP, 514)).unwrap();
    for round in 1..=5 {
        let options = PortOptions::new("plug0").ip([10, 99, 2, 1].into(), 24);
        let device = "net_null_plug,size=64,copy=1";
        let guest = engine().attach(device, &PortSetup::default(), options, &[]).unwrap();
        let client = guest.setup(ClientOptions::new("guest").remote(PEER_IP, 514)).unwrap();
        // net_null receives without end: it is in the middle of it when it is pulled.
        wait_for("frames", || guest.stats().queue.received > 1000);
        tx.send(b"meanwhile").unwrap();
        assert_eq!(client.cleanup().unwrap().queued, 0);
        std::thread::spawn(move || detach([guest])).join().unwrap();
        wait_for("the line of the port that stayed", || recorder.0.lock().unwrap().len() == round);
    }
    assert_eq!(engine().stopped_lcore(), None);
    drop((rx, tx));
    detach([ours, peer]);
}

#[test]
fn several_queues_each_with_its_own_context_and_clients_spread_over_them() {
    let setup = PortSetup { queues: 2, ..PortSetup::default() };
    let options = |name: &str, ip| PortOptions::new(name).ip(ip, 24);
    let [ours, peer] =
        engine().ring_pair(1024, &setup, [options("multia", US_IP), options("multib", PEER_IP)]).unwrap();
    let hooks = Arc::new(AtomicU32::new(0));
    let by_queue: Arc<[AtomicU64; 2]> = Arc::default();
    let (made, counts) = (hooks.clone(), by_queue.clone());
    let rx = peer
        .setup_rx(ClientOptions::new("rx"), RxFilter::default(), move |queue: QueueId| {
            made.fetch_add(1, Ordering::Relaxed);
            let counts = counts.clone();
            Box::new(Hook(move |_: &dyn HookSend, burst: &RxBurst<'_>| {
                counts[usize::from(queue.0)].fetch_add(burst.datagrams.len() as u64, Ordering::Relaxed);
            })) as Box<dyn RxHook>
        })
        .unwrap();
    assert_eq!(hooks.load(Ordering::Relaxed), 2, "one instance a queue");
    let mut clients: Vec<_> =
        (0..4).map(|n| ours.setup(ClientOptions::new(format!("c{n}")).remote(PEER_IP, 514)).unwrap()).collect();
    for np in &mut clients {
        for _ in 0..50 {
            np.send(b"line").unwrap();
        }
    }
    wait_for("both queues", || by_queue.iter().all(|count| count.load(Ordering::Relaxed) == 100));
    let per_queue: Vec<_> = (0..2).map(|queue| peer.queue_stats(QueueId(queue)).queue.delivered).collect();
    assert_eq!(per_queue, [100, 100]);
    drop((rx, clients));
    detach([ours, peer]);
}

/// The bad frames of every kind once more, this time from a capture file through net_pcap.
#[test]
fn a_capture_of_bad_frames_ends_in_the_same_counters() {
    let capture = tempfile::NamedTempFile::new().unwrap();
    // Not in the bytes, not possible in a capture, only for another rx client, or only on a kernel-backed port.
    let elsewhere = [Reason::Segmented, Reason::NoRxClient, Reason::NotAllowed, Reason::UdpPartialRefused];
    let frames: Vec<_> = bad_frames::bad_frames()
        .into_iter()
        .filter(|(reason, frame)| !elsewhere.contains(reason) && !frame.is_empty())
        .collect();
    let good = bad_frames::good_frame();
    write_pcap(capture.as_file(), frames.iter().map(|(_, frame)| frame.as_slice()).chain([good.as_slice()]));
    let mut options = PortOptions::new("pcap0").ip(bad_frames::US_IP.into(), 24);
    options.mac = Some(MacAddr(bad_frames::US_MAC));
    let device = format!("net_pcap0,rx_pcap={},tx_pcap=/dev/null", capture.path().display());
    let port = engine().attach(&device, &PortSetup::default(), options, &[]).unwrap();
    let recorder = Recorder::default();
    let filter = RxFilter {
        local_ip: Some(bad_frames::US_IP.into()),
        remote_ip: Some(bad_frames::PEER_IP.into()),
        allow: PrefixSet::Any,
        local_ports: bad_frames::PORT.into(),
    };
    let rx = port.setup_rx(ClientOptions::new("rx"), filter, recorder.factory()).unwrap();
    wait_for("the end of the capture", || port.stats().queue.received == frames.len() as u64 + 1);
    let mut expected = BTreeMap::new();
    for (reason, _) in &frames {
        *expected.entry(reason.name()).or_insert(0) += 1;
    }
    expected.insert("delivered", 1);
    let counted: BTreeMap<_, _> = port.stats().endings().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counted, expected);
    assert_eq!(recorder.payloads(), [bad_frames::PAYLOAD]);
    drop(rx);
    detach([port]);
}

fn write_pcap<'a>(mut file: impl Write, frames: impl Iterator<Item = &'a [u8]>) {
    let word = |value: u32| value.to_le_bytes();
    file.write_all(&word(0xa1b2_c3d4)).unwrap();
    file.write_all(&[2, 0, 4, 0]).unwrap();
    for value in [0, 0, 65_535, 1] {
        file.write_all(&word(value)).unwrap();
    }
    for frame in frames {
        let len = frame.len() as u32;
        for value in [0, 0, len, len] {
            file.write_all(&word(value)).unwrap();
        }
        file.write_all(frame).unwrap();
    }
}

/// The scheduling policy of an lcore's thread: field 41 of its stat, where the third one follows the name.
fn policy(lcore: LcoreId) -> Option<i32> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.join("stat")).ok());
    let stat = stats.into_iter().find(|stat| stat.contains(&format!("(poll-{lcore})")))?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(38)?.parse().ok()
}

#[test]
fn a_loop_goes_before_others_while_it_sleeps_and_not_when_it_has_work_all_the_time() {
    if !engine().is_real_time() {
        println!("SKIPPED a_loop_goes_before_others_...: needs CAP_SYS_NICE or RLIMIT_RTPRIO");
        return;
    }
    const SCHED_OTHER: i32 = 0;
    const SCHED_RR: i32 = 2;
    let lcore = engine().lcores()[0];
    let attach = |device: &str| {
        let options = PortOptions::new(device).ip([10, 99, 3, 1].into(), 24);
        engine().attach(device, &PortSetup::default(), options, &[lcore]).unwrap()
    };
    let quiet = attach("net_null_quiet,no-rx=1");
    wait_for("a loop that sleeps to be urgent", || policy(lcore) == Some(SCHED_RR));
    // Frames without end, as soon as somebody is there.
    let flood = attach("net_null_flood");
    let client = flood.setup(ClientOptions::new("guest").remote(PEER_IP, 514)).unwrap();
    wait_for("a loop that never sleeps to be ordinary", || policy(lcore) == Some(SCHED_OTHER));
    client.cleanup().unwrap();
    detach([flood]);
    wait_for("it to be urgent again", || policy(lcore) == Some(SCHED_RR));
    detach([quiet]);
}

#[test]
fn lcores_and_names_are_checked_with_a_readable_answer() {
    let options = || PortOptions::new("nowhere");
    let error = engine().attach("net_null_x", &PortSetup::default(), options(), &[netpoll::LcoreId(99)]).unwrap_err();
    assert!(error.to_string().contains("lcore 99"), "{error}");
    let port = engine().attach("net_null_x", &PortSetup::default(), options(), &[]).unwrap();
    let error = engine().attach("net_null_y", &PortSetup::default(), options(), &[]).unwrap_err();
    assert!(error.to_string().contains("\"nowhere\""), "{error}");
    detach([port]);
}
