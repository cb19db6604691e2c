//! What `netpoll sink` writes, and `netpoll logs` reads: templates, JSON lines, rolled files, times, crashes.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::channel,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use netpoll::wire::{
    MacAddr,
    template::{UdpFlow, UdpTemplate},
};
use serde_json::Value;

use super::{
    ring::{Ring, logs},
    support::*,
};

/// A capture file of one frame a payload, from 10.99.0.2 to `port`.
fn capture(dir: &Path, payloads: &[(u16, Vec<u8>)]) -> PathBuf {
    let frames: Vec<_> = payloads.iter().map(|(port, payload)| (2, *port, &payload[..])).collect();
    capture_of(dir, &frames)
}

/// A capture file of frames: the last byte of the source 10.99.0.x, the port, the payload.
pub fn capture_of(dir: &Path, frames: &[(u8, u16, &[u8])]) -> PathBuf {
    // libpcap's file header: microseconds, version 2.4, Ethernet.
    let mut file = [0xa1b2_c3d4_u32, 2 | 4 << 16, 0, 0, 65_535, 1].map(u32::to_le_bytes).concat();
    for (host, port, payload) in frames {
        let flow = UdpFlow {
            src_mac: MacAddr([2, 0, 0, 0, 0, 2]),
            dst_mac: MacAddr::BROADCAST,
            src_ip: [10, 99, 0, *host].into(),
            dst_ip: [10, 99, 0, 1].into(),
            src_port: 4000,
            dst_port: *port,
        };
        let mut frame = vec![0; UdpTemplate::frame_len(payload.len()).max(60)];
        UdpTemplate::new(&flow).emit(&mut frame, payload, 1).unwrap();
        let len = frame.len() as u32;
        file.extend([0, 0, len, len].map(u32::to_le_bytes).concat());
        file.extend(frame);
    }
    let path = dir.join("frames.pcap");
    fs::write(&path, file).unwrap();
    path
}

/// `netpoll sink` with `args`, until it has had all of `payloads`.
pub fn sink(dir: &Path, payloads: &[(u16, Vec<u8>)], args: &[&str]) -> Run {
    let vdev = format!("net_pcap0,rx_pcap={}", capture(dir, payloads).display());
    let (out, count) = (dir.join("out"), payloads.len().to_string());
    let always = ["sink", "--vdev", &vdev, "--listen", "1-65535", "--stats", "0", "--duration", "60"];
    let these = ["--ip", "10.99.0.1/24", "--count", &count, "--out", out.to_str().unwrap()];
    let run = netpoll(&[&always[..], &these, args].concat()).ends(0).balances();
    let stored = format!("    {:<22}{:>14}", "stored", payloads.len());
    let way = run.stdout.split_once("from the NIC to the disk:").unwrap().1;
    assert!(way.contains(&stored), "{run:#?}");
    run
}

fn mixed() -> Vec<(u16, Vec<u8>)> {
    [
        (514, &b"<11>1 2026-11-23T14:16:59Z web1 nginx 42 ID7 [a@1 k=\"v\"] it \"failed\"\\\n"[..]),
        (514, b"<38>Nov 23 14:16:59 db1 sshd[7]: two\nlines"),
        (6666, b"3,17,5000000,-,caller=T1;ata1: failed\n SUBSYSTEM=block\n"),
        (6666, b"6,18,5000100,-,caller=T2,ncfrag=0/40;half of a mess\n"),
        (9999, b"just \xff bytes"),
    ]
    .map(|(port, payload)| (port, payload.to_vec()))
    .to_vec()
}

#[test]
fn lines_are_made_as_the_template_says() {
    let dir = tempfile::tempdir().unwrap();
    let template = "{source} {host} {severity} {app}[{pid}] {seq} {field.SUBSYSTEM} {field.ncfrag}: {message}";
    sink(dir.path(), &mixed(), &["--template", template]);
    let text = fs::read_to_string(dir.path().join("out/netpoll.log")).unwrap();
    assert_eq!(
        text,
        "10.99.0.2:4000 web1 err nginx[42] - - -: it \"failed\"\\\\\n\
         10.99.0.2:4000 db1 info sshd[7] - - -: two\\nlines\n\
         10.99.0.2:4000 10.99.0.2 err -[-] 17 block -: ata1: failed\n\
         10.99.0.2:4000 10.99.0.2 info -[-] 18 - 0/40: half of a mess\n\
         10.99.0.2:4000 10.99.0.2 - -[-] - - -: just \\\\xff bytes\n"
    );
}

/// JSON lines beside Parquet: one a datagram, and what a datagram is a whole record of is the same object there.
#[test]
fn json_lines_are_the_objects_that_logs_prints() {
    let dir = tempfile::tempdir().unwrap();
    sink(dir.path(), &mixed(), &["--output", "jsonl,parquet"]);
    let out = dir.path().join("out");
    assert!(!out.join("netpoll.log").exists());
    let text = fs::read_to_string(out.join("netpoll.jsonl")).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[0]["fields"]["a@1.k"], "v");
    assert_eq!((&lines[3]["fields"]["ncfrag"], &lines[3]["seq"]), (&"0/40".into(), &18.into()));
    let records = logs(&out, &[]);
    assert_eq!(records.len(), 5);
    // All came at one moment: in what order `logs` has them is by host.
    for line in lines.iter().filter(|line| line["format"] != "netconsole+") {
        assert!(records.contains(line), "{line} is not one of {records:#?}");
    }
    // Of a kernel only the store knows the time, and the whole of a message.
    let record = records.iter().find(|record| record["seq"] == 17).unwrap();
    assert!(lines[2]["event_time"].is_null() && record["event_time"].is_string());
    assert_eq!((&lines[2]["message"], &lines[2]["fields"]), (&record["message"], &record["fields"]));
}

#[test]
fn what_cannot_be_written_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_str().unwrap();
    let always = ["sink", "--vdev", "net_null0", "--listen", "514", "--out", out];
    for (args, said) in [
        (&["--template", "{time} {hots}"][..], "at character 9: unknown `hots`, did you mean `host`?"),
        (&["--template", "{time}", "--output", "parquet"], "--template is for text"),
        (&["--output", "text,jsonl"], "expected one of them"),
        (&["--output", "parquet", "--zstd"], "are for text files"),
        (&["--output", "xml"], "[possible values: text, jsonl, parquet, both]"),
        (&["--roll-age", "5"], "expected a time like `90s`"),
        (&["--min-free", "900T"], "of which the sink is to leave 943718400.0 MiB free"),
    ] {
        let run = netpoll(&[&always[..], args].concat()).ends(2);
        assert!(run.stderr.contains(said), "{args:?}: {run:#?}");
    }
    // The same in a file, with the place.
    let file = dir.path().join("netpoll.toml");
    let port = "[[port]]\nname = \"a\"\ndevice = \"net_null0\"\n[[sink]]\nlisten = 514\nout = \"x\"\n";
    for (line, said) in [
        ("template = \"{hots}\"", "7:12: sink.template: at character 2: unknown `hots`, did you mean `host`?"),
        ("outputs = [\"text\", \"jsonl\"]", "7:11: sink.outputs: found both"),
        ("outputs = [\"jsonl\"]\ntemplate = \"{host}\"", "8:12: sink.template: a template is for the output \"text\""),
    ] {
        fs::write(&file, format!("{port}{line}\n")).unwrap();
        let run = netpoll(&["check", "-c", file.to_str().unwrap()]).ends(2);
        assert!(run.stderr.contains(said), "{line}: {run:#?}");
    }
    fs::write(&file, format!("{port}template = \"{{time}} {{host}}\"\ncompress = true\n")).unwrap();
    netpoll(&["check", "-c", file.to_str().unwrap()]).ends(0);
}

fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, suffix));
        } else if path.to_str().unwrap().ends_with(suffix) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn bytes(files: &[PathBuf]) -> u64 {
    files.iter().map(|path| path.metadata().unwrap().len()).sum()
}

/// Rolled by size, compressed, and every line is in one of them.
#[test]
fn text_files_roll_and_are_compressed() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let mut count = 0;
    // A file rolls once the next one has been made: how soon that is depends on what else the machine does.
    while files(&out, "Z.zst").len() < 2 {
        assert!(count < 200_000, "{:?}", files(&out, ""));
        let line = |at| (514, format!("<14>line {at:06} {}", "x".repeat(150)).into_bytes());
        let lines: Vec<_> = (count..count + 8000).map(line).collect();
        count += 8000;
        sink(dir.path(), &lines, &["--roll-bytes", "100K", "--zstd"]);
    }
    assert!(files(&out, "Z").is_empty(), "not compressed: {:?}", files(&out, ""));
    let rolled = files(&out, "Z.zst");
    let mut text = Vec::new();
    for path in &rolled {
        zstd::stream::copy_decode(fs::File::open(path).unwrap(), &mut text).unwrap();
    }
    text.extend(fs::read(out.join("netpoll.log")).unwrap());
    let text = String::from_utf8(text).unwrap();
    assert!(text.lines().enumerate().all(|(at, line)| line.contains(&format!(" <14>line {at:06} "))), "in order");
    assert_eq!(text.lines().count(), count);
}

/// By age and by bytes: the oldest go, the newest stay, and what is kept is still read.
#[test]
fn old_files_of_the_store_go() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("out/store");
    let lines = |round: u32| -> Vec<_> {
        let line =
            |at| (514, format!("<14>round {round} {at} {:x}", at * 2_654_435_761_u64 + u64::from(round)).into_bytes());
        (0..2000).map(line).collect()
    };
    sink(dir.path(), &lines(0), &["--output", "parquet"]);
    let first = files(&store, ".parquet");
    assert_eq!(first.len(), 1);
    // One of the same conversion, of long ago: as if it had been running for years.
    let old = store.join("date=2020-01-01/hour=05");
    fs::create_dir_all(&old).unwrap();
    fs::copy(&first[0], old.join(first[0].file_name().unwrap())).unwrap();
    let keep = (bytes(&first) * 5 / 2).to_string();
    sink(dir.path(), &lines(1), &["--output", "parquet", "--keep-days", "365"]);
    assert!(!old.exists() && !store.join("date=2020-01-01").exists(), "{:?}", files(&store, ""));
    assert_eq!(files(&store, ".parquet").len(), 2);
    for round in 2..4 {
        sink(dir.path(), &lines(round), &["--output", "parquet", "--keep-bytes", &keep]);
        let kept = files(&store, ".parquet");
        assert!(kept.len() == 2 && bytes(&kept) <= keep.parse().unwrap(), "{kept:?}");
        let found = logs(&dir.path().join("out"), &[]);
        let rounds = [round - 1, round].map(|round| format!("round {round} "));
        assert_eq!(found.len(), 4000);
        let is_one = |record: &Value| rounds.iter().any(|round| record["message"].as_str().unwrap().starts_with(round));
        assert!(found.iter().all(is_one), "the two last rounds");
    }
}

/// A line is seen by `netpoll logs --follow` a moment after it was sent.
#[test]
fn follow_shows_a_line_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut it =
        Ring::start(dir.path(), "listen = \"514-515\"\noutputs = [\"parquet\"]\nlimits = { segment_age_s = 1 }");
    it.send(0, 0..1);
    let out = it.out();
    wait_until("the first line", || logs(&out, &[]).len() == 1);
    let mut command = Command::new(PROGRAM);
    command.args(["logs", "--follow", "--format", "json", "--dir"]).arg(&out).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (lines, shown) = channel();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
    // Over many rolls and conversions (one a second), each line once, in order, soon.
    let mut took = Vec::new();
    for number in 0..25 {
        let start = Instant::now();
        if number > 0 {
            it.send(0, number..number + 1);
        }
        let line = shown.recv_timeout(Duration::from_secs(30)).expect("a line within 30 s");
        took.push(start.elapsed());
        let record: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(record["message"], format!("line {number:06}"));
        std::thread::sleep(Duration::from_millis(50));
    }
    took.sort();
    let (median, slowest) = (took[took.len() / 2], took[took.len() - 1]);
    eprintln!("lines were shown {median:?} after they were sent, the slowest {slowest:?}");
    // What is asked for is a second; ten times that, for single ones, is for machines that do other things.
    assert!(median < Duration::from_secs(1) && slowest < Duration::from_secs(10), "{took:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    it.end(25);
}

fn ns(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

fn event_ns(record: &Value, key: &str) -> i64 {
    let text = record[key].as_str().unwrap_or_else(|| panic!("{key}: {record}"));
    let utc = text.strip_suffix('Z').unwrap();
    let (date, time) = utc.split_once('T').unwrap();
    let number = |text: &str| text.parse::<i64>().unwrap();
    let day: Vec<i64> = date.split('-').map(number).collect();
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let clock: Vec<i64> = clock.split(':').map(number).collect();
    let utc = netpoll::sink::record::civil::Utc {
        year: day[0],
        month: day[1] as u32,
        day: day[2] as u32,
        hour: clock[0] as u32,
        minute: clock[1] as u32,
        second: clock[2] as u32,
        nanos: number(&format!("{fraction:0<9}")) as u32,
    };
    utc.to_ns().unwrap()
}

/// A kernel's monotonic stamps become times: exactly those of the datagram that was on its way the shortest, with an error
/// that says so; after a boot anew. Shown by `logs`, stored in the columns.
#[test]
fn kernel_time_becomes_absolute() {
    let dir = tempfile::tempdir().unwrap();
    let mut it = Ring::start(
        dir.path(),
        "listen = \"514-515\"\noutputs = [\"parquet\"]\nformat = \"netconsole\"\nflush_interval_ms = 10",
    );
    let out = it.out();
    let mut sent = 0;
    for uptime_s in [100_000, 5] {
        // This kernel has been up for so long.
        let boot_ns = ns(SystemTime::now()) - uptime_s * 1_000_000_000;
        // Until the sink is sure that these are no old ones: a second at the pace of time, more where the machine stalls.
        let mut records = Vec::new();
        wait_until("the clock has settled", || {
            let usec = (ns(SystemTime::now()) - boot_ns) / 1000;
            it.write(0, &format!("6,{},{usec},-,caller=T1;up {uptime_s}\n", records.len()));
            sent += 1;
            wait_until("it is stored", || logs(&out, &[]).len() == sent);
            records = logs(&out, &["--grep", &format!("^up {uptime_s}$")]);
            let error_ns = records.last().unwrap()["event_error_ns"].as_u64().unwrap();
            error_ns < 3_600_000_000_000
        });
        let count = records.len() as i64;
        assert!(count >= 2, "one record alone says nothing of its age");
        let usec = |record: &Value| record["kernel_usec"].as_i64().unwrap();
        // The way of each, by our own clock; it is never negative.
        let ways = records.iter().map(|record| event_ns(record, "time") - boot_ns - usec(record) * 1000);
        let shortest = ways.min().unwrap();
        assert!(shortest >= 0, "{shortest}");
        let last = records.last().unwrap();
        let told = event_ns(last, "event_time");
        assert_eq!(told - (boot_ns + usec(last) * 1000), shortest, "the estimate is the shortest way's");
        let error_ns = last["event_error_ns"].as_i64().unwrap();
        // 1 ms, a second over the number of samples, and what two clocks may drift apart in a minute or two.
        let least_ns = 1_000_000 + 1_000_000_000 / count;
        assert!((least_ns..least_ns + 10_000_000).contains(&error_ns), "{error_ns} of {count} records");
        // All of them by one clock, as far as their estimates had come.
        for record in &records {
            let boot = event_ns(record, "event_time") - usec(record) * 1000;
            assert!((boot_ns..=event_ns(record, "time")).contains(&boot), "{record}");
        }
    }
    it.end(sent as u64);
    let text = netpoll(&["logs", "--dir", out.to_str().unwrap(), "--time", "sent"]).ends(0).stdout;
    let records = logs(&out, &[]);
    assert_eq!(text.lines().count(), sent);
    let last = records.last().unwrap();
    let shown = format!(
        "{}Z~{}ms ",
        &last["event_time"].as_str().unwrap()[..23],
        last["event_error_ns"].as_u64().unwrap().div_ceil(1_000_000)
    );
    assert!(text.lines().last().unwrap().starts_with(&shown), "{shown}: {text}");
}

/// The ledger of a sink that runs tells how far the converter is behind: lines that lie in the spool, how many segments
/// and bytes they are, how old the oldest is.
#[test]
fn a_running_sink_tells_what_is_not_in_parquet_yet() {
    let dir = tempfile::tempdir().unwrap();
    let mut it = Ring::start(dir.path(), "listen = \"514\"\noutputs = [\"parquet\"]\nflush_interval_ms = 10");
    // Segments, and the age of the oldest line in seconds.
    let told = |line: &str| -> Option<(u64, u64)> {
        let (_, rest) = line.split_once("; not yet in Parquet: ")?;
        let (segments, rest) = rest.split_once(" segments, ")?;
        let (_, age) = rest.split_once("MB, oldest ")?;
        Some((segments.parse().ok()?, age.split(' ').next()?.parse().ok()?))
    };
    it.running.until_line("an empty spool", |line| told(line) == Some((0, 0)));
    it.send(0, 0..1000);
    for age_s in [1, 3] {
        it.running.until_line("lines in the spool, older and older", |line| {
            told(line).is_some_and(|(segments, oldest_s)| segments == 1 && oldest_s >= age_s)
        });
    }
    it.end(1000);
}

/// Two cpus crash at once while a third goes on: one record of each crash, with all of its lines, and the rest is apart.
#[test]
fn a_crash_is_one_record_of_its_cpu() {
    let dir = tempfile::tempdir().unwrap();
    let mut it = Ring::start(dir.path(), "listen = \"514-515\"\noutputs = [\"parquet\"]\nformat = \"netconsole\"");
    let out = it.out();
    let mut lines = String::new();
    let mut sent = 0;
    let mut say = |cpu: u32, severity: u32, text: &str| {
        lines += &format!("{severity},{sent},{},-,caller=C{cpu};{text}\n", 1_000_000 + sent * 10);
        sent += 1;
    };
    let expected = |cpu: u32| -> Vec<String> {
        let inside = (0..30).map(|at| format!(" frame_{at}_of_cpu{cpu}+0x1/0x2"));
        ["------------[ cut here ]------------".to_owned()]
            .into_iter()
            .chain(inside)
            .chain([format!("---[ end trace 00000000000{cpu} ]---")])
            .collect()
    };
    say(2, 6, "before");
    for (first, second) in expected(0).iter().zip(&expected(1)) {
        say(0, 4, first);
        say(1, 4, second);
        say(2, 6, "meanwhile");
    }
    say(2, 6, "after");
    it.write(0, &lines);
    // A panic has no end mark that comes: it ends in silence.
    let panic = "0,5000,9000000,-,caller=T77;Kernel panic - not syncing: Fatal exception\n0,5001,9000010,-,caller=T77;Rebooting\n";
    it.write(1, panic);
    wait_until("three crashes", || logs(&out, &["--field", "flags=crash"]).len() == 3);
    let run = it.end(sent + 2);
    assert_eq!(run.count("stored"), sent + 2);
    let crashes = logs(&out, &["--field", "flags=crash"]);
    for cpu in [0, 1] {
        let caller = format!("C{cpu}");
        let of_cpu: Vec<&Value> = crashes.iter().filter(|record| record["caller"] == caller).collect();
        assert_eq!(of_cpu.len(), 1, "{crashes:#?}");
        assert_eq!(of_cpu[0]["message"].as_str().unwrap().lines().collect::<Vec<_>>(), expected(cpu));
        assert_eq!((&of_cpu[0]["parts"], &of_cpu[0]["severity"]), (&32.into(), &4.into()));
    }
    let panics: Vec<&Value> = crashes.iter().filter(|record| record["severity"] == 0).collect();
    assert_eq!(panics[0]["message"], "Kernel panic - not syncing: Fatal exception\nRebooting");
    let others = logs(&out, &["--severity", "7", "--grep", "^(before|meanwhile|after)$"]);
    assert_eq!((others.len(), logs(&out, &[]).len()), (34, 37));
}
