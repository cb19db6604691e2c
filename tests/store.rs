//! From real senders to Parquet: what they send is found once by `netpoll logs`, while the sink runs and after it has
//! stopped, and read back by pyarrow.

#[path = "support/peer.rs"]
mod peer;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

use peer::{Namespace, Sink, is_root, run};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_netpoll");
/// Lines of `netpoll logs` beside a running sink take a second at most; this is for a machine that does other things.
const LIMIT: Duration = Duration::from_secs(10);

/// `netpoll logs --dir DIR --format json ARGS`.
fn logs(dir: &Path, args: &[&str]) -> Vec<Value> {
    let all = [&["logs", "--dir", dir.to_str().unwrap(), "--format", "json"], args].concat();
    run(PROGRAM, &all).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits until `netpoll logs` with `args` gives `count` records; how long that took.
fn until(dir: &Path, args: &[&str], count: usize) -> Duration {
    let start = Instant::now();
    loop {
        let found = logs(dir, args);
        assert!(found.len() <= count, "{args:?}: {found:#?}");
        if found.len() == count {
            return start.elapsed();
        }
        assert!(start.elapsed() < LIMIT, "{args:?}: {} of {count}", found.len());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// rsyslogd in a namespace, with a configuration, socket and pid file of its own.
struct Rsyslog {
    child: Child,
    socket: PathBuf,
}

impl Rsyslog {
    /// `None`, and it is said: it is not installed.
    fn start(namespace: &Namespace, dir: &Path) -> Option<Rsyslog> {
        if !Path::new("/usr/sbin/rsyslogd").exists() {
            eprintln!("SKIPPED rsyslog's omfwd: rsyslogd is not installed");
            return None;
        }
        let socket = dir.join("socket");
        let config = format!(
            "module(load=\"imuxsock\" SysSock.Use=\"off\")\ninput(type=\"imuxsock\" Socket=\"{}\")\n\
             if $programname == 'by-rsyslog' then {{\n\
             action(type=\"omfwd\" target=\"10.99.0.1\" port=\"514\" protocol=\"udp\" \
             template=\"RSYSLOG_SyslogProtocol23Format\")\n}}\n",
            socket.display()
        );
        let file = dir.join("rsyslog.conf");
        fs::write(&file, config).unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &namespace.0, "rsyslogd", "-n", "-i"]).arg(dir.join("pid")).arg("-f").arg(file);
        let this = Rsyslog { child: command.spawn().unwrap(), socket };
        let start = Instant::now();
        while !this.socket.exists() {
            assert!(start.elapsed() < LIMIT, "rsyslogd does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(this)
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        // `ip netns exec` becomes the program: this is rsyslogd itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a record of the generator comes to.
#[derive(Debug, PartialEq)]
struct Meant {
    message: String,
    parts: u64,
}

/// Extended netconsole as the kernel writes it: `count` messages from seq 1000 on but for `lost`, long ones in fragments;
/// neighbours swapped, fragments last first, some twice. The datagrams, and by seq what they mean.
fn netconsole(count: u64, lost: u64) -> (Vec<Vec<u8>>, BTreeMap<u64, Meant>) {
    let (mut messages, mut meant) = (Vec::new(), BTreeMap::new());
    for seq in 1000..1000 + count {
        let long = if seq % 3 == 0 { "long ".repeat(400 + seq as usize % 7) } else { String::new() };
        let message = format!("{long}tab\tback\\slash {seq} é");
        let mut escaped = String::new();
        for byte in message.bytes() {
            match byte {
                0x20..0x7f if byte != b'\\' => escaped.push(char::from(byte)),
                _ => write!(escaped, "\\x{byte:02x}").unwrap(),
            }
        }
        let body = format!("{escaped}\n SUBSYSTEM=net\n msgid={}\n", seq + 7);
        let header = format!("6.1.0,{},{seq},{},-,caller=T{}", seq % 8, seq * 1000, seq % 5);
        let mut datagrams: Vec<Vec<u8>> = match body.len() {
            ..900 => vec![format!("{header};{body}").into_bytes()],
            total => (0..total)
                .step_by(900)
                .map(|at| {
                    let slice = &body[at..total.min(at + 900)];
                    format!("{header},ncfrag={at}/{total};{slice}").into_bytes()
                })
                .collect(),
        };
        if seq == lost {
            continue;
        }
        meant.insert(seq, Meant { message, parts: datagrams.len() as u64 });
        datagrams.reverse();
        if seq % 4 == 0 {
            datagrams.push(datagrams[0].clone());
        }
        messages.push(datagrams);
    }
    // The first opens the flow; later neighbours may come in either order.
    messages[1..].chunks_exact_mut(2).for_each(|two| two.swap(0, 1));
    (messages.concat(), meant)
}

/// Sends datagrams from one socket.
fn send(namespace: &Namespace, dir: &Path, datagrams: &[Vec<u8>]) {
    let mut script = String::from("exec 3>/dev/udp/10.99.0.1/6666\n");
    for (at, datagram) in datagrams.iter().enumerate() {
        let file = dir.join(format!("datagram{at}"));
        fs::write(&file, datagram).unwrap();
        writeln!(script, "cat {} >&3", file.display()).unwrap();
    }
    run("ip", &["netns", "exec", &namespace.0, "bash", "-e", "-c", &script]);
}

fn check_netconsole(records: &[Value], meant: &BTreeMap<u64, Meant>) {
    let found: Vec<&Value> = records.iter().filter(|record| record["format"] == "netconsole+").collect();
    assert_eq!(found.len(), meant.len());
    for record in found {
        let seq = record["seq"].as_u64().unwrap();
        let got =
            Meant { message: record["message"].as_str().unwrap().to_owned(), parts: record["parts"].as_u64().unwrap() };
        assert_eq!(got, meant[&seq], "seq {seq}");
        assert_eq!(record["fields"]["SUBSYSTEM"], "net");
        assert_eq!(record["msgid"], (seq + 7).to_string());
    }
}

/// Rows as pyarrow reads them; `None`, and it is said: pyarrow cannot be had.
fn readback(mode: &str, dir: &Path) -> Option<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/store_readback.py");
    let said = run("python3", &[script.to_str().unwrap(), mode, dir.to_str().unwrap()]);
    if said.starts_with("skipped") {
        eprintln!("SKIPPED pyarrow's reading: {said}");
        return None;
    }
    Some(said)
}

#[test]
fn senders_behind_a_tap() {
    if !is_root("senders_behind_a_tap", "a network namespace and a TAP") {
        return;
    }
    let (ns, work, out) = (Namespace::new("store"), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dir = out.path();
    let sink = Sink::start(Some(&ns), &["--no-huge", "--output", "both"], "net_tap0,iface=np0", dir);
    ns.run("ip addr add 10.99.0.2/24 dev np0");
    ns.run("ip link set np0 up");
    ns.run("ping -c 1 -W 2 10.99.0.1");

    for format in ["rfc3164", "rfc5424"] {
        ns.run(&format!("logger -d -n 10.99.0.1 -P 514 --{format} -p user.err -t by-logger line-by-{format}"));
        let took = until(dir, &["--grep", &format!("^line-by-{format}$"), "--field", "app=by-logger"], 1);
        eprintln!("{format}: found {took:?} after it was sent");
    }
    let rsyslog = Rsyslog::start(&ns, work.path());
    if let Some(rsyslog) = &rsyslog {
        for at in 0..50 {
            let socket = rsyslog.socket.to_str().unwrap();
            run("logger", &["-u", socket, "-t", "by-rsyslog", "-p", "daemon.info", &format!("line {at} by rsyslog")]);
        }
        until(dir, &["--field", "app=by-rsyslog", "--field", "format=rfc5424", "--grep", r"line \d+ by rsyslog$"], 50);
    }
    let by_rsyslog = if rsyslog.is_some() { 50 } else { 0 };
    drop(rsyslog);
    let (datagrams, meant) = netconsole(60, 1031);
    send(&ns, work.path(), &datagrams);
    until(dir, &["--field", "format=netconsole+"], meant.len());
    check_netconsole(&logs(dir, &[]), &meant);
    // Selection by severity and host, and text.
    let severe = meant.keys().filter(|seq| *seq % 8 <= 3).count() + 2;
    assert_eq!(logs(dir, &["--severity", "err"]).len(), severe);
    assert_eq!(logs(dir, &["--host", "10.99.0.9"]).len(), 0);
    assert_eq!(logs(dir, &["--since", "1h", "--until", "30m"]).len(), 0);

    let said = sink.stop();
    let all = 2 + by_rsyslog + meant.len();
    let records = logs(dir, &[]);
    assert_eq!(records.len(), all);
    check_netconsole(&records, &meant);
    let gaps = logs(dir, &["--gaps"]);
    assert!(gaps.len() == 1 && gaps[0]["kind"] == "lost_on_the_way" && gaps[0]["after_seq"] == 1030, "{gaps:#?}");
    assert!(said.contains(&format!("{all} records = {all} rows in Parquet files")), "{said}");
    assert_eq!(peer_segments(dir), 0, "segments are left in the spool");

    let Some(rows) = readback("rows", dir) else { return };
    let rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), all);
    check_netconsole(&rows, &meant);
    let texts = |records: &[Value]| {
        let mut texts: Vec<String> = records.iter().map(|r| format!("{} {}", r["host"], r["message"])).collect();
        texts.sort();
        texts
    };
    assert_eq!(texts(&rows), texts(&records));
}

fn peer_segments(dir: &Path) -> usize {
    fs::read_dir(dir.join("spool")).unwrap().count()
}

/// Some 100,000 lines over rings: every line of the text is a row of the Parquet, and the other way round.
#[test]
fn lines_over_rings_are_the_same_in_text_and_parquet() {
    let out = tempfile::tempdir().unwrap();
    let dir = out.path().to_str().unwrap();
    let said = run(PROGRAM, &["demo", "--parquet", "--rate", "60000", "--seconds", "3", "--out", dir]);
    assert!(said.contains("balanced: every frame") && !said.contains("NOT BALANCED"), "{said}");
    let count = said.lines().find_map(|line| line.split_once(" records = ")).unwrap().0.parse::<u64>().unwrap();
    assert!(count > 10_000, "{said}");
    assert_eq!(run(PROGRAM, &["logs", "--dir", dir]).lines().count() as u64, count);
    if let Some(said) = readback("demo", out.path()) {
        assert!(said.contains(&format!("{count} rows are the {count} lines")), "{said}");
    }
}

#[test]
fn logs_says_what_is_wrong() {
    let out = tempfile::tempdir().unwrap();
    let dir = out.path().to_str().unwrap();
    for args in [
        &["--dir", dir][..],
        &["--dir", dir, "--since", "yesterday"],
        &["--dir", dir, "--severity", "9"],
        &["--dir", dir, "--grep", "("],
        &["--dir", dir, "--gaps", "--severity", "1"],
    ] {
        let output = Command::new(PROGRAM).arg("logs").args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
    }
}
