//! Every command that takes a port, on `net_null`; `sink` against the kernel on a TAP device.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use super::support::*;

#[test]
fn ports_shows_what_dpdk_sees() {
    let run = netpoll(&["ports", "--vdev", "net_null0", "--vdev", "net_null7", "--", "--no-pci"]).ends(0);
    assert!(run.stdout.starts_with("DPDK "), "{run:#?}");
    for words in
        ["port 0  net_null0\n", "port 1  net_null7\n", "driver      net_null\n", "numa node", "rx offloads none\n"]
    {
        assert!(run.stdout.contains(words), "{words}: {run:#?}");
    }
    let run = netpoll(&["ports", "--log-format", "json", "--vdev", "net_null0", "--", "--no-pci"]).ends(0);
    let ports = run.json();
    assert_eq!((ports.len(), &ports[0]["driver"], &ports[0]["numa"]), (1, &"net_null".into(), &(-1).into()));
    assert!(run.stderr.is_empty(), "{run:#?}");
}

/// A NIC's way is its RSS, which net_null has; net_ring's other side has a ring for each queue.
#[test]
fn ports_says_who_spreads_over_queues() {
    let args = ["--vdev", "net_null0", "--vdev", "net_ring0", "--", "--no-pci"];
    let run = netpoll(&[&["ports"][..], &args].concat()).ends(0);
    for words in [
        "spread      by the device (RSS over IP addresses and UDP ports), over at most ",
        "spread      by the device's other side, over at most ",
    ] {
        assert_eq!(run.stdout.matches(words).count(), 1, "{words}: {run:#?}");
    }
    let ports = netpoll(&[&["ports", "--log-format", "json"][..], &args].concat()).ends(0).json();
    for (driver, spread) in [("net_null", "rss"), ("net_ring", "other_side")] {
        let port = ports.iter().find(|port| port["driver"] == driver).expect(driver);
        assert_eq!(port["spread"], spread, "{port}");
    }
}

#[test]
fn ports_without_a_port_says_how_to_get_one() {
    let run = netpoll(&["ports", "--", "--no-pci"]).ends(0);
    for words in ["DPDK sees no port", "dpdk-devbind.py --bind=vfio-pci", "--vdev net_tap0,iface=np0", "netpoll demo"] {
        assert!(run.stdout.contains(words), "{words}: {run:#?}");
    }
}

/// A device that EAL made at its start is taken, not made again.
#[test]
fn a_device_made_by_eal_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_str().unwrap();
    let args = ["sink", "--vdev", "net_null3", "--listen", "514", "--out", out, "--duration", "1"];
    let run = netpoll(&[&args[..], &["--", "--vdev=net_null3"]].concat()).ends(0).balances();
    assert!(run.stdout.starts_with("ready: port net_null3 (net_null) "), "{run:#?}");
}

#[test]
fn sink_ends_by_itself_and_accounts_for_every_frame() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_str().unwrap();
    let args = ["sink", "--vdev", "net_null0", "--ip", "10.99.0.1/24", "--listen", "514,6666-6670", "--out", out];
    let args = [&args[..], &["--queues", "2", "--duration", "2", "--stats", "1", "--idle", "sleep:200"]].concat();
    let run = netpoll(&args).ends(0).balances();
    let ready = run.stdout.lines().next().unwrap();
    assert!(ready.starts_with("ready: port net_null0 (net_null) ") && ready.contains("udp 514,6666-6670"), "{ready}");
    let running = run.stdout.lines().find(|line| line.starts_with("1 s: net_null0: ")).expect("a line of the ledger");
    assert!(running.contains(" arrived = ") && running.contains("; 0 to the sink; "), "{running}");
    assert!(run.stdout.contains("port net_null0, from the NIC to the disk:\n"), "{run:#?}");
    assert!(run.count("arrived") > 0);

    let args = [&args[..], &["--log-format", "json"]].concat();
    let events = netpoll(&args).ends(0).json();
    let kinds: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!((kinds[0], kinds[1], *kinds.last().unwrap()), ("ready", "ledger", "ledger"));
    let (running, last) = (&events[1], events.last().unwrap());
    assert_eq!((&running["final"], &last["final"]), (&false.into(), &true.into()));
    // The same keys, so that one reader does for both.
    assert!(running["net_null0.rx"]["arrived"].as_u64() <= last["net_null0.rx"]["arrived"].as_u64(), "{running}");
    assert_eq!(running["net_null0.sink"]["stored"], 0);
    assert!(
        ["net_null0.rx", "net_null0.sink", "net_null0.way"].iter().all(|key| last[key]["balanced"] == true),
        "{last}"
    );
}

#[test]
fn send_sends_every_line_to_every_target() {
    let lines: String = (0..5000).map(|number| format!("line {number}\n")).collect();
    let targets = "6665@10.99.0.1/net_null0,514@10.99.0.2/;+r7000@10.99.0.1/,@10.99.0.3/02:00:00:00:00:03";
    let run = netpoll_reading(lines.as_bytes(), &["send", "--vdev", "net_null0", "--clients", "3", targets]);
    let run = run.ends(0).balances();
    assert!(run.stdout.contains("lines to send: 10000 = 10000 submitted + 0 left"), "{run:#?}");
    assert!(run.stdout.contains("client send1.2 on net_null0, sending:"), "{run:#?}");
    assert!(run.stdout.contains(" = 10000 of clients + "), "{run:#?}");
}

#[test]
fn send_keeps_to_count_and_rate() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lines");
    fs::write(&file, "a\nb\nc\n".repeat(1000)).unwrap();
    let target = "@10.99.0.1/,@10.99.0.2/";
    let start = Instant::now();
    let run =
        netpoll(&["send", "--vdev", "net_null0", "--rate", "1000", "--count", "1500", target, file.to_str().unwrap()]);
    let took = start.elapsed();
    run.ends(0).balances().stdout.contains("lines to send: 1500 = 1500").then_some(()).expect("1500 lines");
    assert!(took > Duration::from_millis(1450), "{took:?}");
}

/// What does not leave is a failure, unless it may be lost.
#[test]
fn send_tells_what_did_not_leave() {
    let text = format!("short\n{}\nshort again without an end", "x".repeat(3000));
    let args = ["send", "--vdev", "net_null0", "@10.99.0.1/,@10.99.0.2/"];
    let run = netpoll_reading(text.as_bytes(), &args).ends(1).balances();
    assert!(run.stderr.contains("1 of 3 lines did not leave"), "{run:#?}");
    assert_eq!((run.count("too_long"), run.count("submitted")), (1, 3));
    netpoll_reading(text.as_bytes(), &[&args[..], &["--allow-loss"]].concat()).ends(0).balances();
    // Nobody answers ARP on net_null.
    let args = ["send", "--vdev", "net_null0", "--ip", "10.99.0.1/24", "--arp", "@/,@10.99.0.2/"];
    let run = netpoll_reading(b"a\nb\n", &args).ends(1).balances();
    assert_eq!(run.count("unresolved"), 2, "{run:#?}");
}

/// The kernel on the other side: its `logger` and ARP, in a network namespace of our own.
#[test]
fn a_tap_device_delivers_the_kernels_lines_to_the_file() {
    if !is_root("sink on net_tap") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--net", PROGRAM, "sink", "--vdev", "net_tap0,iface=npcli0", "--ip", "10.99.0.1/24"]);
    command.args(["--listen", "514,6666", "--count", "100", "--duration", "60", "--out"]).arg(dir.path());
    let mut running = Running::start(&mut command);
    let ready = running.until("ready: port npcli0 (net_tap) ");
    let pid = running.pid().to_string();
    let inside = |args: &[&str]| {
        let output = Command::new("nsenter").args(["-t", &pid, "-n", "--"]).args(args).output().expect("nsenter");
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    inside(&["ip", "addr", "add", "10.99.0.2/24", "dev", "npcli0"]);
    inside(&["ip", "link", "set", "npcli0", "up"]);
    for number in 0..100 {
        inside(&["logger", "-d", "-n", "10.99.0.1", "-P", "514", "-t", "test", &format!("line {number} ")]);
        if number == 0 {
            // The line is sent once the answer is there, which `logger` does not wait for.
            let mac = ready.split_whitespace().nth(4).unwrap();
            let limit = Instant::now() + Duration::from_secs(20);
            while !inside(&["ip", "neigh", "show", "10.99.0.1"]).contains(mac) {
                assert!(Instant::now() < limit, "no {mac} among the neighbours");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
    let run = running.end().ends(0).balances();
    assert_eq!(run.count("delivered"), 100, "{run:#?}");
    let text = fs::read_to_string(dir.path().join("netpoll.log")).unwrap();
    assert_eq!(text.lines().count(), 100);
    for (number, line) in text.lines().enumerate() {
        assert!(line.contains(" 10.99.0.2:") && line.contains(&format!("line {number} ")), "{line}");
    }
}
