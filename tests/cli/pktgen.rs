//! `netpoll pktgen`: exact counts of what was sent, received, lost, doubled and overtaken.

use std::{fs, path::Path, process::Command, time::Duration};

use serde_json::Value;

use super::support::*;

/// A run's events, and the one of `kind`.
#[track_caller]
fn event(run: &Run, kind: &str) -> Value {
    let events = run.json();
    let found = events.into_iter().find(|event| event["event"] == kind);
    found.unwrap_or_else(|| panic!("no {kind}: {run:#?}"))
}

/// Runs it to a good end, its ledger balanced, and gives the result.
#[track_caller]
fn pktgen(args: &[&str]) -> Value {
    let run = netpoll(&[&["pktgen", "--log-format", "json"], args].concat()).ends(0);
    assert_eq!(event(&run, "ledger")["balanced"], true, "{run:#?}");
    event(&run, "result")
}

/// `count` were sent, and each came once, in order.
#[track_caller]
fn all_came(result: &Value, count: u64) {
    let (sent, received) = (&result["sent"], &result["received"]);
    assert_eq!((&sent["frames"], &sent["submitted"], &sent["complete"]), (&count.into(), &count.into(), &true.into()));
    assert_eq!(received["frames"], count, "{result:#}");
    for name in ["lost", "missing", "duplicates", "reordered", "too_old", "corrupt", "unstamped", "from_the_future"] {
        assert_eq!(received[name], 0, "{name}: {result:#}");
    }
    assert_eq!(received["latency"]["count"], count);
}

#[test]
fn a_short_run_as_people_see_it() {
    let run = netpoll(&["pktgen", "--rate", "20k", "--count", "2000"]).ends(0).balances();
    let header = "netpoll pktgen: 1 client from 198.18.0.1:10000, 64 B udp, 20000 frames/s, 2000 frames: \
                  port pktgen0 = rings = port pktgen1";
    assert_eq!(run.stdout.lines().next(), Some(header));
    assert_eq!((run.count("sent"), run.count("received"), run.count("lost")), (2000, 2000, 0), "{run:#?}");
    assert_eq!((run.count("duplicates"), run.count("reordered")), (0, 0));
    for words in ["frames by their numbers:", "  behind schedule   p50 ", "  latency           p50 "] {
        assert!(run.stdout.contains(words), "{words}: {run:#?}");
    }
}

#[test]
fn each_payload_arrives_and_is_read() {
    for kind in ["udp", "netconsole", "netconsole-ext", "syslog"] {
        let result =
            pktgen(&["--payload", kind, "--clients", "5", "--threads", "2", "--rate", "20k", "--count", "1001"]);
        all_came(&result, 1001);
        assert_eq!(result["received"]["streams"], 5);
        let size = if kind == "udp" { 64 } else { 200 };
        assert_eq!(result["received"]["wire_bits"], 1001 * (size + 20) * 8, "{kind}");
    }
}

#[test]
fn imix_is_seven_to_four_to_one() {
    let result = pktgen(&["--size", "imix", "--rate", "20Mbit", "--count", "1200"]);
    all_came(&result, 1200);
    let bits = (700 * 84 + 400 * 614 + 100 * 1538) * 8;
    assert_eq!((&result["sent"]["wire_bits"], &result["received"]["wire_bits"]), (&bits.into(), &bits.into()));
}

/// Templates instead of clients, the largest frames, as fast as it goes.
#[test]
fn raw_templates_at_full_speed() {
    let result = pktgen(&[
        "--raw",
        "--clients",
        "300",
        "--threads",
        "3",
        "--size",
        "64,1518",
        "--rate",
        "max",
        "--count",
        "30000",
    ]);
    all_came(&result, 30_000);
    assert_eq!(result["received"]["streams"], 300);
    assert_eq!(result["sent"]["behind_schedule"]["count"], 0, "no rate, no schedule");
}

/// As many frames as the rate makes in the time, never early.
#[test]
fn the_rate_makes_an_exact_number() {
    for (rate, seconds, count) in [("5000", "0.4", 2000), ("1001", "0.5", 501), ("1Mbit", "0.5", 745)] {
        let result = pktgen(&["--rate", rate, "--duration", seconds, "--threads", "1"]);
        all_came(&result, count);
        let (took, asked) = (result["sent"]["seconds"].as_f64().unwrap(), seconds.parse::<f64>().unwrap());
        // The last one is due a frame's time before the end, and was not sent before.
        assert!(took >= asked * (1.0 - 1.5 / count as f64), "{took} of {asked}");
        assert_eq!(result["sent"]["behind_schedule"]["count"], count);
    }
    // Parts of the rate, too.
    all_came(&pktgen(&["--rate", "7000", "--duration", "0.3", "--clients", "3", "--threads", "3"]), 2100);
}

#[test]
fn net_null_takes_everything() {
    let result = pktgen(&["--vdev", "net_null0,no-rx=1", "--rate", "max", "--count", "50000", "--clients", "64"]);
    assert_eq!(result["sent"]["frames"], 50_000);
    assert_eq!(result.get("received"), None);
}

/// The latencies as a file that HdrHistogram's tools read.
#[test]
fn latencies_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("latency.hgrm");
    let result = pktgen(&["--count", "500", "--rate", "10k", "--hgrm", file.to_str().unwrap()]);
    let text = fs::read_to_string(&file).unwrap();
    let mut lines = text.lines();
    let names: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(names, ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]);
    let rows: Vec<Vec<f64>> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_whitespace().map(|number| number.parse().unwrap()).collect())
        .collect();
    let last = rows.last().unwrap();
    assert_eq!(last[1..], [1.0, 500.0], "{text}");
    // In microseconds, to a thousandth.
    let max = result["received"]["latency"]["max_ns"].as_f64().unwrap() / 1000.0;
    assert!((last[0] / max - 1.0).abs() < 0.002, "{last:?} {max}");
    assert!(rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][2] <= pair[1][2]), "{text}");
}

/// A receiver that takes 7,000 a second passes 6,875 and fails 7,500: whatever this machine is busy with.
#[test]
fn the_highest_rate_without_loss_is_found() {
    let args =
        ["--find-ndr", "--rate", "20000", "--limit", "7000", "--duration", "0.2", "--resolution", "5", "--reach", "1"];
    let run = netpoll(&[&["pktgen", "--log-format", "json"], &args[..]].concat()).ends(0);
    let trials: Vec<_> = run.json().into_iter().filter(|event| event["event"] == "trial").collect();
    let rates: Vec<_> = trials.iter().map(|trial| trial["rate"].as_u64().unwrap()).collect();
    assert_eq!(rates, [20_000, 10_000, 5_000, 7_500, 6_250, 6_875], "{trials:#?}");
    let lost: Vec<_> = trials.iter().map(|trial| trial["result"]["received"]["lost"].as_u64().unwrap()).collect();
    assert_eq!(lost, [2600, 600, 0, 100, 0, 0]);
    let found = event(&run, "ndr");
    assert_eq!((&found["rate"], &found["load"]), (&6875.into(), &"6875 frames/s".into()), "{found:#}");
    let ledger = event(&run, "ledger");
    assert_eq!((&ledger["balanced"], &ledger["hook"]["parts"]["over_limit"]), (&true.into(), &3300.into()));
    assert_eq!(ledger["frames"]["parts"]["lost"], 3300);

    // As text: a line a trial, and the result.
    let run = netpoll(&[&["pktgen"], &args[..]].concat()).ends(0).balances();
    assert!(run.stdout.contains("highest rate without loss: 6875 frames/s\n"), "{run:#?}");
    assert!(run.stderr.contains("trial  4: 7500 frames/s: ") && run.stderr.contains(" 100 lost\n"), "{run:#?}");
}

#[test]
fn no_rate_without_loss_is_a_failure() {
    let args = [
        "pktgen",
        "--find-ndr",
        "--rate",
        "1000",
        "--limit",
        "1",
        "--duration",
        "0.1",
        "--resolution",
        "50",
        "--reach",
        "1",
    ];
    let run = netpoll(&args).ends(1).balances();
    assert!(run.stderr.contains("no rate passed, down to 500 frames/s"), "{run:#?}");
}

/// A capture's frames, as `pktgen` itself sends them through net_pcap.
fn capture(file: &Path, args: &[&str]) -> Vec<Vec<u8>> {
    let vdev = format!("net_pcap0,tx_pcap={}", file.display());
    pktgen(&[&["--vdev", &vdev, "--rate", "max"], args].concat());
    let bytes = fs::read(file).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (mut at, mut frames) = (24, Vec::new());
    while at < bytes.len() {
        let len = word(at + 8) as usize;
        frames.push(bytes[at + 16..at + 16 + len].to_vec());
        at += 16 + len;
    }
    frames.retain(|frame| frame[12..14] == [8, 0]);
    frames
}

fn write_capture(file: &Path, frames: impl IntoIterator<Item = Vec<u8>>) {
    let mut bytes = Vec::new();
    let words = |bytes: &mut Vec<u8>, words: &[u32]| words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
    words(&mut bytes, &[0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 65535, 1]);
    for (number, frame) in frames.into_iter().enumerate() {
        words(&mut bytes, &[0, 100 * number as u32, frame.len() as u32, frame.len() as u32]);
        bytes.extend(frame);
    }
    fs::write(file, bytes).unwrap();
}

/// Clients and templates put the same frames on the wire: sources in turn, numbers that count up, patterns.
#[test]
fn frames_on_the_wire() {
    let dir = tempfile::tempdir().unwrap();
    let args = [
        "--clients",
        "6",
        "--count",
        "60",
        "--src-ip",
        "10.0.0.7-10.0.0.8",
        "--src-port",
        "100-102",
        "--to",
        "10.9.9.9:77",
        "--mac",
        "02:00:00:00:00:77",
        "--size",
        "80",
    ];
    let clients = capture(&dir.path().join("clients"), &args);
    let raw = capture(&dir.path().join("raw"), &[&args[..], &["--raw"]].concat());
    assert_eq!((clients.len(), raw.len()), (60, 60));
    let mut next = [0_u64; 6];
    // Each client's ring is drained in turn, so the order between streams is the port's; within one it is the generator's.
    for frame in &clients {
        let stream = usize::from(frame[48]);
        assert_eq!(frame[..6], [2, 0, 0, 0, 0, 0x77]);
        assert_eq!((&frame[26..30], &frame[30..34]), (&[10, 0, 0, 7 + (stream % 2) as u8][..], &[10, 9, 9, 9][..]));
        assert_eq!(frame[34..38], [0, 100 + (stream / 2) as u8, 0, 77]);
        assert_eq!((frame.len(), &frame[42..44]), (76, &b"nP"[..]));
        let seq = frame[49..55].iter().fold(0, |seq, byte| seq << 8 | u64::from(*byte));
        assert_eq!(seq, next[stream], "stream {stream}");
        next[stream] += 1;
        assert!(frame[60..].iter().enumerate().all(|(at, byte)| *byte == at as u8), "{frame:?}");
    }
    assert_eq!(next, [10; 6]);
    // All but what differs from run to run: IPv4's id and sums, the UDP sum, run and time.
    let known = |frame: &[u8]| [&frame[..18], &frame[20..24], &frame[26..40], &frame[46..55], &frame[60..]].concat();
    let sorted = |frames: &[Vec<u8>]| {
        let mut frames: Vec<_> = frames.iter().map(|frame| known(frame)).collect();
        frames.sort_unstable();
        frames
    };
    assert_eq!(sorted(&clients), sorted(&raw));
}

/// A capture with known faults: 4 missing, 2 doubled, 3 overtaken.
#[test]
fn a_replay_is_counted_to_the_frame() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("capture");
    let mut frames = capture(&file, &["--count", "100", "--size", "128"]);
    assert_eq!(frames.len(), 100);
    frames.insert(50, frames[20].clone());
    frames.insert(60, frames[59].clone());
    let [a, b, c] = [70, 71, 72].map(|at| frames[at].clone());
    (frames[70], frames[71], frames[72]) = (c, a, b);
    frames.swap(80, 81);
    frames.drain(90..94);
    // No generator's, and not even UDP: the port's filter has a counter for it.
    frames.push(vec![0xff; 60]);
    let count = frames.len() as u64;
    write_capture(&file, frames);

    let path = file.to_str().unwrap();
    for args in [&["--replay", path][..], &["--replay", path, "--rate", "5000"]] {
        let result = pktgen(args);
        let received = &result["received"];
        assert_eq!(result["sent"]["frames"], count);
        let names = ["frames", "missing", "duplicates", "reordered", "furthest", "corrupt", "unstamped"];
        let counts: Vec<_> = names.iter().map(|name| received[*name].as_u64().unwrap()).collect();
        assert_eq!(counts, [96, 4, 2, 3, 2, 0, 0], "{result:#}");
    }
    // Twice through and a bit: the second round are all second copies.
    let received =
        pktgen(&["--replay", path, "--rate", "max", "--count", &(2 * count + 10).to_string()])["received"].take();
    assert_eq!((&received["frames"], &received["missing"]), (&96.into(), &4.into()), "{received:#}");
    assert_eq!(received["duplicates"], 2 + 98 + 10);
}

#[test]
fn a_capture_that_cannot_be_replayed_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("text");
    fs::write(&file, "no capture, whatever its name says").unwrap();
    let run = netpoll(&["pktgen", "--replay", file.to_str().unwrap()]).ends(1);
    assert!(run.stderr.contains("neither pcap nor pcapng; expected a file as tcpdump -w"), "{run:#?}");
    let run = netpoll(&["pktgen", "--replay", "/no/such/file"]).ends(1);
    assert!(run.stderr.contains("cannot read /no/such/file"), "{run:#?}");
}

/// Two processes with a link of shared memory between them; the receiver knows what it should have got.
#[test]
fn the_receiver_in_another_process() {
    // What was sent, what the receiver is told was sent.
    for (sent, told) in [(3000_u64, 3000_u64), (3000, 3005)] {
        let dir = tempfile::tempdir().unwrap();
        let link = format!("id=0,socket-abstract=no,socket={}", dir.path().join("memif").display());
        let (server, client) = (format!("net_memif0,role=server,{link}"), format!("net_memif0,role=client,{link}"));
        let (sent_text, told_text) = (sent.to_string(), told.to_string());
        let mut command = Command::new(PROGRAM);
        command.args(["pktgen", "--receive", "--no-huge", "--vdev", &server, "--clients", "4", "--count", &told_text]);
        command.args(["--duration", "60"]);
        let mut receiver = Running::start(&mut command);
        receiver.until("ready: port net_memif0 (net_memif) ");
        let result =
            pktgen(&["--no-huge", "--vdev", &client, "--clients", "4", "--rate", "20k", "--count", &sent_text]);
        assert_eq!(result["sent"]["frames"], sent);
        let run = receiver.end().ends(0).balances();
        assert_eq!((run.count("received"), run.count("lost")), (sent, told - sent), "{run:#?}");
    }
}

#[test]
fn a_run_can_be_interrupted() {
    let mut command = Command::new(PROGRAM);
    command.args(["pktgen", "--rate", "1000", "--duration", "1h"]);
    let running = Running::start(&mut command);
    running.until_it_handles_signals();
    std::thread::sleep(Duration::from_millis(300));
    running.signal("INT");
    let run = running.end().ends(0).balances();
    assert_eq!(run.count("sent"), run.count("received"), "{run:#?}");
    assert_eq!(run.count("lost"), 0);
}

/// A search that is interrupted has no result.
#[test]
fn a_search_can_be_interrupted() {
    let mut command = Command::new(PROGRAM);
    command.args(["pktgen", "--find-ndr", "--rate", "1000", "--duration", "1h"]);
    let running = Running::start(&mut command);
    running.until_it_handles_signals();
    std::thread::sleep(Duration::from_millis(300));
    running.signal("TERM");
    let run = running.end().ends(1).balances();
    assert!(run.stderr.contains("interrupted: no result"), "{run:#?}");
}

#[test]
fn what_was_typed_wrong() {
    let cases: &[(&[&str], &str)] = &[
        (&["--rate", "1e6"], "expected frames a second like `100000`, `1.5M` or `20kpps`, bits a second"),
        (&["--duration", "0"], "expected a time like `10` or `0.5`"),
        (&["--count", "0"], "0 is not in 1.."),
        (&["--size", "63"], "expected a frame size with FCS from 64 to 1518"),
        (
            &["--size", "64", "--payload", "syslog"],
            "--size 64 B: such a payload with its number and time takes frames of 163 to",
        ),
        (&["--size", "1500", "--payload", "netconsole"], "to 1046 bytes"),
        (&["--payload", "gelf"], "[possible values: udp, netconsole, netconsole-ext, syslog]"),
        (&["--clients", "20000"], "20000 clients; expected at most 16384, or --raw"),
        (&["--src-ip", "10.0.0.2-10.0.0.1"], "from the lowest to the highest"),
        (&["--src-port", "0"], "expected UDP ports from 1 to 65535"),
        (&["--to", "example.org"], "expected an IPv4 address like `198.19.0.1`"),
        (&["--mac", "02:00:00:00:00:01", "--arp"], "cannot be used with"),
        (&["--replay", "x", "--payload", "udp"], "cannot be used with"),
        (&["--receive"], "--receive: on which port? Name it with --vdev or --device"),
        (&["--receive", "--vdev", "net_null0", "--rate", "1"], "cannot be used with"),
        (&["--rx-vdev", "net_null0"], "a port to receive on, but none to send from"),
        (&["--vdev", "net_null0", "--find-ndr"], "--find-ndr has to see what arrives"),
        (&["--vdev", "net_null0", "--hgrm", "x"], "--hgrm and --limit are about what arrives"),
        (&["--limit", "100", "--count", "10"], "--limit is by the time of a trial; say --duration, too"),
        (&["--limit", "1Mbit"], "expected frames a second like `7000`"),
        (&["--resolution", "1"], "--find-ndr"),
        (&["--find-ndr", "--resolution", "0"], "expected percent, more than 0"),
        (&["--find-ndr", "--count", "5"], "cannot be used with"),
    ];
    for (args, words) in cases {
        let run = netpoll(&[&["pktgen"], *args].concat()).ends(2);
        assert!(run.stderr.contains(words) && run.stdout.is_empty(), "{args:?}: {words}: {run:#?}");
    }
    let run = netpoll(&["pktgen", "--count", "1", "--hgrm", "/no/such/folder/x"]).ends(1);
    assert!(run.stderr.contains("cannot write /no/such/folder/x"), "{run:#?}");
}
