//! Ten million log lines through net_ring, the sink, the spool and the converter: every one is there once, as it was
//! sent, in the spool's Arrow streams and in the Parquet files, both read by pyarrow.
//!
//! The generator adds up a hash of each line, and one of what its record has to say; it knows both without a decoder.
//! A sum does not depend on the order. Nothing may be lost or shed: the sender waits while more than [`WINDOW`] lines
//! are on their way, which the rings and the batches hold with certainty.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use netpoll::{
    dpdk::{EalConfig, Memory, PortSetup},
    engine::{Engine, EngineConfig},
    netpoll::{ClientOptions, IdlePolicy, Netpoll, OnFull, Port, PortOptions, RxFilter},
    sink::{
        Sink, SinkConfig,
        store::{Converter, StoreConfig},
    },
};
use twox_hash::XxHash64;

const LINES: u64 = 10_000_000;
/// Most lines between the sender and the writer.
const WINDOW: u64 = 8192;
/// Lines between two looks at how many are on their way.
const STRIDE: u64 = 256;
const RING_FRAMES: usize = 1024;
/// A machine that does other things may be slow; one that stands still is a failure.
const PATIENCE: Duration = Duration::from_secs(300);

const SYSLOG: u16 = 514;
const NETCONSOLE: u16 = 6666;

/// Number of lines, and the sum of their hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Content {
    lines: u64,
    sum: u64,
}

impl Content {
    fn add(&mut self, bytes: &[u8], seed: u16) {
        self.lines += 1;
        self.sum = self.sum.wrapping_add(XxHash64::oneshot(seed.into(), bytes));
    }

    /// As tests/ten_million.py prints it.
    fn parse(text: &str) -> Content {
        let mut words = text.split_whitespace().map(|word| word.parse().expect("a number"));
        Content { lines: words.next().expect("a count"), sum: words.next().expect("a sum") }
    }
}

/// Makes line after line, and what has to be found of it.
#[derive(Default)]
struct Generator {
    payload: String,
    text: String,
    row: String,
    /// Of the payloads, the hash's seed being the port.
    payloads: Content,
    /// Of the rows' columns, see [`Generator::row`].
    rows: Content,
}

impl Generator {
    /// Line number `n`, and the port that it goes to.
    fn line(&mut self, n: u64) -> u16 {
        self.payload.clear();
        self.text.clear();
        let (host, app, pid) = (n % 211, n % 31, n * 17 % 32_749);
        let (facility, severity) = (n * 7 % 192 / 8, n * 7 % 8);
        let what = ["served", "refused", "délivré", "timed out after", "closed"][n as usize / 3 % 5];
        let _ = write!(self.text, "request {n} of session {:x} {what} in {} ms", n.wrapping_mul(0x9e37_79b9), n % 977);
        let Generator { payload, text, .. } = self;
        // A formatter that writes to a String does not fail.
        let port = match n % 3 {
            0 => {
                let micros = n % 1_000_000;
                let _ = write!(
                    payload,
                    "<{}>1 2026-11-23T14:16:59.{micros:06}Z host{host} app{app} {pid} ID{} - {text}",
                    n * 7 % 192,
                    n % 9
                );
                self.row(
                    SYSLOG,
                    [
                        &facility,
                        &severity,
                        &format_args!("host{host}"),
                        &format_args!("app{app}"),
                        &pid,
                        &format_args!("ID{}", n % 9),
                        &"",
                    ],
                );
                SYSLOG
            }
            1 => {
                let _ = write!(
                    payload,
                    "<{}>Nov 23 14:{:02}:59 host{host} app{app}[{pid}]: {text}",
                    n * 7 % 192,
                    n / 60 % 60
                );
                self.row(
                    SYSLOG,
                    [&facility, &severity, &format_args!("host{host}"), &format_args!("app{app}"), &pid, &"", &""],
                );
                SYSLOG
            }
            _ => {
                // Bytes from 0x7f on leave a kernel escaped, and a tab, too.
                let _ = write!(payload, "{severity},{n},{},-,caller=T{pid};", n * 11);
                for byte in text.bytes() {
                    let _ = if byte < 0x7f {
                        write!(payload, "{}", char::from(byte))
                    } else {
                        write!(payload, "\\x{byte:02x}")
                    };
                }
                payload.push_str("\\x09end\n");
                text.push_str("\tend");
                self.row(NETCONSOLE, [&0, &severity, &"10.99.0.2", &"", &"", &"", &n]);
                NETCONSOLE
            }
        };
        self.payloads.add(self.payload.as_bytes(), port);
        port
    }

    /// Adds the row of the line: facility, severity, host, app, pid, msgid, seq and message, each after the other with
    /// a unit separator in between; the hash's seed is the port.
    fn row(&mut self, port: u16, columns: [&dyn std::fmt::Display; 7]) {
        self.row.clear();
        for column in columns {
            let _ = write!(self.row, "{column}\x1f");
        }
        self.row.push_str(&self.text);
        self.rows.add(self.row.as_bytes(), port);
    }
}

/// The engine with two ports, `a` to send on and `b` to receive on, both polled by one lcore.
fn engine() -> (Engine, [Arc<Port>; 2]) {
    let eal = EalConfig { memory: Memory::NoHuge { megabytes: 256 }, ..EalConfig::default() };
    let idle = IdlePolicy::Sleep { max: Duration::from_micros(200) };
    let engine = Engine::start(EngineConfig { eal, idle, burst: 32, ..EngineConfig::default() }).unwrap();
    let lcore = *engine.lcores().last().unwrap();
    let mbufs = 2 * RING_FRAMES + 2 * WINDOW as usize;
    let setup =
        PortSetup { mbufs_per_queue: Some(4096), client_mbufs_per_queue: Some(mbufs as u32), ..PortSetup::default() };
    let (a, b) = netpoll::dpdk::Port::ring_pair(engine.eal(), ["a", "b"], 1, 2 * WINDOW as u32).unwrap();
    let run = |port, name: &str, host| {
        engine.run(port, &setup, PortOptions::new(name).ip([10, 99, 0, host].into(), 24), &[lcore]).unwrap()
    };
    let ports = [run(a, "a", 2), run(b, "b", 1)];
    (engine, ports)
}

/// Sends all lines, no faster than the sink's writer takes them.
fn send(generator: &mut Generator, clients: &mut [Netpoll; 2], sink: &Sink, lines: u64) {
    for n in 0..lines {
        if n.is_multiple_of(STRIDE) {
            let start = Instant::now();
            while n - sink.stats().writer.taken_rows > WINDOW - STRIDE {
                assert!(start.elapsed() < PATIENCE, "line {n} is not sent yet: {}", sink.ledger());
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        let client = &mut clients[usize::from(generator.line(n) == NETCONSOLE)];
        client.send(generator.payload.as_bytes()).unwrap();
    }
}

/// From the generator to the spool in `dir`, without a loss.
fn receive(dir: &Path, lines: u64) -> Generator {
    let sink = Sink::open(SinkConfig::new(dir)).unwrap();
    let (engine, [tx, rx]) = engine();
    let filter = RxFilter { local_ports: [SYSLOG, NETCONSOLE].into_iter().collect(), ..RxFilter::default() };
    let receiver = rx.setup_rx(ClientOptions::new("sink").ring_frames(1), filter, sink.hooks()).unwrap();
    let mut clients = [SYSLOG, NETCONSOLE].map(|port| {
        let options = ClientOptions::new(format!("to{port}")).remote([10, 99, 0, 1], port).ring_frames(RING_FRAMES);
        tx.setup(options.on_full(OnFull::Wait(PATIENCE))).unwrap()
    });
    let mut generator = Generator::default();
    send(&mut generator, &mut clients, &sink, lines);
    let mut submitted = 0;
    for client in clients {
        let stats = client.cleanup().unwrap();
        assert_eq!((stats.submit.submitted, stats.queued), (stats.sent.sent, 0), "{stats}");
        submitted += stats.sent.sent;
    }
    assert_eq!(submitted, lines);
    let start = Instant::now();
    while rx.stats().queue.delivered < lines {
        assert!(start.elapsed() < PATIENCE, "{}", rx.stats());
        std::thread::sleep(Duration::from_millis(1));
    }
    receiver.cleanup().unwrap();
    let ledger = sink.stop();
    assert_eq!((ledger.delivered, ledger.stored, ledger.in_flight, ledger.dropped()), (lines, lines, 0, 0), "{ledger}");
    for port in [&tx, &rx] {
        assert!(port.stats().balances(), "{}", port.stats());
    }
    // Beside the lines only the ports' own announcements.
    assert_eq!(tx.stats().queue.sent, lines + tx.stats().queue.engine_sent);
    assert_eq!(rx.stats().arrived(), tx.stats().queue.sent);
    drop((tx, rx));
    let missing: u64 = engine.stop().unwrap().iter().map(|port| port.outstanding()).sum();
    assert_eq!(missing, 0, "mbufs out = mbufs back");
    generator
}

/// Starts tests/ten_million.py, which reads `dir` by pyarrow.
fn readback(mode: &str, dir: &Path) -> Child {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/ten_million.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(mode).arg(dir).stdout(Stdio::piped()).spawn().unwrap()
}

/// What it found; `None`, and it is said, where there is no pyarrow.
fn found(child: Child) -> Option<Content> {
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}\n{said}", output.status);
    if said.starts_with("skipped") {
        eprintln!("SKIPPED pyarrow's reading: {said}");
        return None;
    }
    Some(Content::parse(&said))
}

#[test]
fn ten_million_lines_are_stored_once_and_as_they_were_sent() {
    let lines = std::env::var("NETPOLL_LINES").map_or(LINES, |lines| lines.parse().unwrap());
    let out = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (dir, kept) = (out.path(), out.path().join("kept"));
    let start = Instant::now();
    let Generator { payloads, rows, .. } = receive(dir, lines);
    assert_eq!((payloads.lines, rows.lines), (lines, lines));
    eprintln!("{lines} lines are in the spool after {:?}", start.elapsed());

    // The converter removes what it has converted: the streams are read under other names, at the same time.
    fs::create_dir(&kept).unwrap();
    for segment in fs::read_dir(dir.join("spool")).unwrap() {
        let path = segment.unwrap().path();
        fs::hard_link(&path, kept.join(path.file_name().unwrap())).unwrap();
    }
    let spool = readback("spool", &kept);
    let mut converter = Converter::open(StoreConfig::new(dir)).unwrap();
    let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    converter.finish(now_ns).unwrap();
    let totals = converter.totals();
    assert_eq!(["datagrams", "records", "parquet_rows"].map(|name| totals[name]), [lines; 3], "{totals:?}");
    eprintln!("and in Parquet after {:?}", start.elapsed());
    let Some(found_in_spool) = found(spool) else { return };
    assert_eq!(found_in_spool, payloads, "the spool, by pyarrow");
    fs::remove_dir_all(&kept).unwrap();
    assert_eq!(found(readback("parquet", dir)), Some(rows), "Parquet, by pyarrow");
    eprintln!("and read back after {:?}", start.elapsed());
}
