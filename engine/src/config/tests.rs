//! Every kind of mistake with its text, what plans come to, and the example files.

use super::*;
use crate::{LcoreId, port::spread::SpreadBy, wire::MacAddr};
use std::{net::Ipv4Addr, time::Duration};

/// A file with nothing wrong, to which tests add.
const PORT: &str = "[[port]]\nname = \"np0\"\ndevice = \"net_null0\"\nip = \"10.0.0.1/24\"\n";

fn machine() -> Machine {
    Machine::with_cpus(vec![0, 1, 2, 3])
}

fn plan(text: &str) -> Plan {
    parse("t.toml", text, &machine()).unwrap_or_else(|e| panic!("{e}"))
}

fn mistakes(text: &str) -> String {
    parse("t.toml", text, &machine()).expect_err("a mistake").to_string()
}

/// The messages alone, `line: key: message`.
fn messages(text: &str) -> Vec<String> {
    let mistakes = parse("t.toml", text, &machine()).expect_err("a mistake");
    mistakes.iter().map(|m| format!("{}: {}: {}", m.line, m.key, m.message)).collect()
}

#[test]
fn all_mistakes_at_once_each_with_place_line_and_caret() {
    let text = "[engine]
idle = \"lazy\"
burst = 8

[[port]]
name = \"np 0\"
device = \"0000:01:00.9\"
queues = 0
\tip = \"10.0.0.0/24\" # tab
[[sink]]
listen = \"514,0\"
";
    assert_eq!(
        mistakes(text),
        r#"t.toml:2:8: engine.idle: found "lazy", expected "busy", "pause" or "sleep"
  2 | idle = "lazy"
    |        ^^^^^^
t.toml:3:1: engine.burst: unknown key, did you mean `burst_frames`?
  3 | burst = 8
    | ^^^^^
t.toml:6:8: port.name: found "np 0", expected a name of 1 to 32 letters, digits, '_', '-' or '.'
  6 | name = "np 0"
    |        ^^^^^^
t.toml:7:10: port.device: found "0000:01:00.9", expected a PCI address like "0000:01:00.0" or a virtual device like "net_tap0,iface=np0"
  7 | device = "0000:01:00.9"
    |          ^^^^^^^^^^^^^^
t.toml:8:10: port.queues: found 0, expected a whole number from 1 to 64
  8 | queues = 0
    |          ^
t.toml:9:7: port.ip: found "10.0.0.0/24", expected a host's address with a prefix length like "10.99.0.1/24"
  9 |  ip = "10.0.0.0/24" # tab
    |       ^^^^^^^^^^^^^
t.toml:10:1: sink.out: missing, expected a folder to write to
 10 | [[sink]]
    | ^^^^^^^^
t.toml:11:10: sink.listen: found "514,0", expected UDP ports from 1 to 65535 like 514, [514, 6666] or "514,6666-6670", none twice
 11 | listen = "514,0"
    |          ^^^^^^^"#
    );
}

#[test]
fn a_fault_inside_an_option_string_is_pointed_at() {
    let client = "[[client]]\nname = \"c\"\ninput = \"-\"\n";
    let options = |target: &str| mistakes(&format!("{PORT}{client}target = {target}\n"));
    assert_eq!(
        options("\"6665@10.0.0.1/np0,66x@10.0.0.2/\""),
        "t.toml:8:29: client.target: found \"66x\", expected the receiver's port number, 0 to 65535, or nothing for 6666
  8 | target = \"6665@10.0.0.1/np0,66x@10.0.0.2/\"
    |                             ^^^"
    );
    // With an escape the place in the string is not that in the file: the whole value is meant.
    assert!(options("\"\\u0036x@/,@10.0.0.2/\"").starts_with("t.toml:8:10: client.target: found \"6x\""));
}

#[test]
fn text_that_is_not_toml() {
    assert_eq!(
        mistakes("[[port]]\nname = eth0\n"),
        "t.toml:2:8: not TOML: string values must be quoted, expected literal string\n  2 | name = eth0\n    |        ^^^^"
    );
    assert!(mistakes("[eal]\n[eal]\n").contains("t.toml:2:2: not TOML: duplicate key"));
}

#[test]
fn an_empty_file_has_no_port() {
    assert_eq!(mistakes(""), "t.toml:1:1: port: missing, expected at least one [[port]]\n  1 | \n    | ^");
}

/// What is wrong in one section, one mistake each: `text` after [`PORT`] (lines 1 to 4).
#[test]
fn one_mistake_each() {
    let client = "[[client]]\nname = \"c\"\ninput = \"-\"\n";
    let sink = "[[sink]]\nlisten = 514\nout = \"o\"\n";
    let cases: &[(String, &str)] = &[
        // Unknown keys and sections.
        ("vlan = 5".into(), "5: port.vlan: unknown key, expected one of name, device, ip, gateway, queues, spread, lcores, multicast, rx_descriptors, tx_descriptors, mbufs_per_queue, mtu_bytes, promiscuous"),
        ("rx-descriptors = 64".into(), "5: port.rx-descriptors: unknown key, did you mean `rx_descriptors`?"),
        ("[engin]".into(), "5: engin: unknown key, did you mean `engine`?"),
        ("[eal]\nmegabyte = 64".into(), "6: eal.megabyte: unknown key, did you mean `megabytes`?"),
        // Wrong shapes.
        ("[sink]\nlisten = 514".into(), "5: sink: found a table, expected [[sink]], as there may be several"),
        ("[[log]]".into(), "5: log: found an array, expected a section [log]"),
        ("promiscuous = 1".into(), "5: port.promiscuous: found 1, expected true or false"),
        ("queues = 2.0".into(), "5: port.queues: found 2.0, expected a whole number from 1 to 64"),
        ("spread = \"rss\"".into(), "5: port.spread: found \"rss\", expected \"auto\", \"device\" or \"software\""),
        ("queues = -1".into(), "5: port.queues: found -1, expected a whole number from 1 to 64"),
        ("queues = 99999999999999999999".into(), "5: port.queues: found 99999999999999999999, expected a whole number from 1 to 64"),
        ("mtu_bytes = 9601".into(), "5: port.mtu_bytes: found 9601, expected a whole number from 576 to 9600"),
        ("multicast = [\"02:00:00:00:00:01\"]".into(), "5: port.multicast: found \"02:00:00:00:00:01\", expected a multicast address like \"01:00:5e:00:00:fb\" or \"224.0.0.251\""),
        ("multicast = []".into(), "5: port.multicast: found 0 elements, expected 1 to 64"),
        // lcores and queues.
        ("lcores = [1, 1]".into(), "5: port.lcores: found lcore 1 twice, expected each once"),
        ("lcores = [1, 2]".into(), "5: port.lcores: found 2 lcores for 1 queue(s), expected at most one a queue"),
        ("lcores = \"some\"".into(), "5: port.lcores: found \"some\", expected an array of lcores like [0, 1]"),
        ("lcores = [3]\n[eal]\nlcores = [0, 1]".into(), "5: port.lcores: found lcore 3, expected one of eal.lcores (0, 1)"),
        ("[eal]\nlcores = [128]".into(), "6: eal.lcores: found 128, expected a whole number from 0 to 127"),
        // Memory.
        ("mbufs_per_queue = 100".into(), "5: port.mbufs_per_queue: found 100, expected at least 2112 for the descriptors and a burst"),
        ("mbufs_per_queue = 100_000\n[eal]\nmegabytes = 64".into(), "7: eal.megabytes: found 64, expected at least 270 for the ports' mbufs"),
        // EAL arguments that the file has a key for.
        ("[eal]\nargs = [\"--vdev=net_null1\"]".into(), "6: eal.args: found \"--vdev=net_null1\", expected port.device to say that"),
        ("[eal]\nargs = [\"-l0-3\"]".into(), "6: eal.args: found \"-l0-3\", expected eal.lcores to say that"),
        // The idle policy.
        ("[engine]\nidle = \"busy\"\nidle_max_sleep_us = 5".into(), "7: engine.idle_max_sleep_us: only idle = \"sleep\" sleeps, expected no such key"),
        ("[engine]\nidle = \"busy\"\nreal_time = true".into(), "7: engine.real_time: only with idle = \"sleep\" a poll loop is a real-time thread, expected no such key"),
        // Addresses.
        ("gateway = \"10.0.1.1\"".into(), "5: port.gateway: 10.0.1.1 is not a host in 10.0.0.1/24, expected one on the port's network"),
        ("gateway = \"10.0.0.255\"".into(), "5: port.gateway: 10.0.0.255 is not a host in 10.0.0.1/24, expected one on the port's network"),
        ("gateway = \"10.0.0.1\"".into(), "5: port.gateway: 10.0.0.1 is the port's own address, expected another host's"),
        ("[[port]]\nname = \"x\"\ndevice = \"net_null1\"\ngateway = \"10.0.0.2\"".into(), "8: port.gateway: a gateway without `ip`, expected the port to have an address"),
        // Too many of a kind.
        (
            (1..33).map(|i| format!("[[port]]\nname = \"p{i}\"\ndevice = \"net_null{i}\"\n")).collect(),
            "98: port: found 33 of these sections, expected at most 32",
        ),
        // Two of a kind.
        ("[[port]]\nname = \"np0\"\ndevice = \"net_null1\"".into(), "6: port.name: \"np0\" is there already, expected another"),
        ("[[port]]\nname = \"x\"\ndevice = \"net_null0,copy=1\"".into(), "7: port.device: net_null0 is the device of port np0 already, expected another"),
        ("[[port]]\nname = \"x\"\ndevice = \"net_null1\"\nip = \"10.0.0.1/8\"".into(), "8: port.ip: 10.0.0.1 is the address of another port already, expected another"),
        (format!("{client}target = \"@/,@10.0.0.2/\"\n[[client]]\nname = \"c\"\ninput = \"f\"\ntarget = \"@/,@10.0.0.2/\""), "10: client.name: \"c\" is there already, expected another"),
        (format!("{client}target = \"@/,@10.0.0.2/\"\n[[client]]\nname = \"d\"\ninput = \"-\"\ntarget = \"@/,@10.0.0.2/\""), "11: client.input: standard input is another client's already, expected a file or FIFO"),
        (format!("{sink}[[sink]]\nport = \"np0\"\nlisten = 515\nout = \"p\""), "9: sink.port: np0 has a sink already and a port has one rx hook, expected another port"),
        (format!("{sink}[[port]]\nname = \"x\"\ndevice = \"net_null1\"\n[[sink]]\nport = \"x\"\nlisten = 514\nout = \"o/p\"\n").replace("out = \"o\"", "out = \"o\"\nport = \"np0\""), "15: sink.out: another sink writes there already, expected a folder of its own"),
        // Names that lead nowhere.
        (format!("{client}remote_ip = \"10.0.0.2\"\nport = \"np1\""), "9: client.port: no port is called \"np1\", expected one of np0"),
        (format!("{sink}port = \"np1\""), "8: sink.port: no port is called \"np1\", expected one of np0"),
        (format!("{sink}[[port]]\nname = \"x\"\ndevice = \"net_null1\""), "5: sink.port: missing, expected one of the ports (np0, x)"),
        // Targets.
        (client.into(), "5: client.target: missing, expected `target` or `remote_ip` to say whom to send to"),
        (format!("{client}target = \"@/,@10.0.0.2/\"\nremote_port = 5"), "9: client.remote_port: `target` says that already, expected one or the other"),
        (format!("{client}remote_ip = \"127.0.0.1\""), "8: client.remote_ip: found \"127.0.0.1\", expected an address like \"10.99.0.2\""),
        (format!("{client}remote_ip = \"10.0.0.2\"\nremote_mac = \"02\""), "9: client.remote_mac: found \"02\", expected \"arp\", \"broadcast\" or a MAC address like \"02:00:00:00:00:01\""),
        (format!("{client}remote_ip = \"10.0.1.2\"\nremote_mac = \"arp\""), "9: client.remote_mac: 10.0.1.2 is not on the port's network, expected the port to have a `gateway`"),
        (format!("{client}remote_ip = \"239.1.1.1\"\nremote_mac = \"arp\""), "9: client.remote_mac: 239.1.1.1 is not one host's address, expected \"broadcast\" or a MAC address"),
        (format!("{client}remote_ip = \"10.0.0.2\"\non_full = \"wait\""), "9: client.on_full: found \"wait\", expected \"drop\" or { wait_us = 100 }"),
        (format!("{client}remote_ip = \"10.0.0.2\"\non_full = {{ wait_ms = 5 }}"), "9: client.on_full.wait_ms: unknown key, did you mean `wait_us`?"),
        (format!("{client}remote_ip = \"10.0.0.2\"\ncpu = 0\n[engine]\nidle = \"busy\""), "9: client.cpu: CPU 0 polls and never sleeps, expected another"),
        // Option strings.
        (format!("{client}target = \"@/,@10.0.0.2\""), "8: client.target: found the end, expected '/' behind the receiver's address"),
        (format!("{client}target = \"r@/,@10.0.0.2/\""), "8: client.target: found \"r\", expected '+' before 'r': the release goes with the extended format only"),
        (format!("{client}target = \"@/,@10.0.0.2/;@/,@10.0.0.3/\""), "8: client.target: found 2 targets, expected one: a client has one"),
        (format!("{client}target = \"@/np9,@10.0.0.2/\""), "8: client.target: no port is called \"np9\", expected one of np0"),
        (format!("{client}target = \"@/np0,@10.0.0.2/\"\nport = \"np0\""), "9: client.port: `target` says that already, expected one or the other"),
        (format!("{client}target = \"@/02:00:00:00:00:01,@10.0.0.2/\""), "8: client.target: found a port's MAC address, expected the `name` of a [[port]]"),
        (format!("{client}target = \"@/,@fe80::1/\""), "8: client.target: expected the IPv4 addresses of hosts, neither 0.0.0.0/8 nor 127.0.0.0/8"),
        (format!("{client}target = \"@224.0.0.1/,@10.0.0.2/\""), "8: client.target: expected the IPv4 addresses of hosts, neither 0.0.0.0/8 nor 127.0.0.0/8"),
        (format!("{client}target = \"@/,@10.0.0.2/02:00:00:00:00:01\"\nremote_mac = \"arp\""), "9: client.remote_mac: `target` says that already, expected one or the other"),
        (format!("{client}target = \"@/,@10.0.1.2/\"\nremote_mac = \"arp\""), "9: client.remote_mac: 10.0.1.2 is not on the port's network, expected the port to have a `gateway`"),
        (format!("{client}port = \"x\"\nremote_ip = \"10.0.0.2\"\n[[port]]\nname = \"x\"\ndevice = \"net_null1\""), "9: client.remote_ip: the port has no `ip`, expected the client to say its own address"),
        // Sinks.
        (format!("{sink}sync = \"always\""), "8: sink.sync: found \"always\", expected \"never\", \"batch\" or { every_ms = 200 }"),
        (format!("{sink}outputs = [\"text\", \"text\"]"), "8: sink.outputs: found an output twice, expected each once"),
        (format!("{sink}allow = [\"10.0.0.1/8\"]"), "8: sink.allow: found \"10.0.0.1/8\", expected a network like \"10.0.0.0/8\", with no bit set behind its prefix, or a host's address"),
        (format!("{sink}allow = []"), "8: sink.allow: found 0 elements, expected 1 to 1024"),
        (format!("{sink}allow = \"10.0.0.0/8\""), "8: sink.allow: found \"10.0.0.0/8\", expected an array of networks like [\"10.0.0.0/8\"]"),
        (format!("{sink}outputs = [\"csv\"]"), "8: sink.outputs: found \"csv\", expected \"text\", \"jsonl\" or \"parquet\""),
        (format!("{sink}[sink.limits]\nbatches_per_queue = 1"), "9: sink.limits.batches_per_queue: found 1, expected a whole number from 2 to 1024"),
        (format!("{sink}cpu = 0\n[engine]\nidle = \"pause\""), "8: sink.cpu: CPU 0 polls and never sleeps, expected another"),
        ("[log]\nlevel = \"loud\"".into(), "6: log.level: found \"loud\", expected \"error\", \"warn\", \"info\", \"debug\" or \"trace\""),
    ];
    for (text, expected) in cases {
        let got = messages(&format!("{PORT}{text}\n"));
        let first: Vec<_> = got.iter().filter(|m| m.as_str() == *expected).collect();
        assert_eq!(first.len(), 1, "\n{text}\nexpected: {expected}\ngot: {got:#?}");
        // A missing key of `wait_us` goes with the unknown one beside it; nothing else may follow from one mistake.
        assert!(got.len() == 1 || text.contains("wait_ms"), "\n{text}\ngot: {got:#?}");
    }
}

#[test]
fn defaults_leave_nothing_open() {
    let plan = plan(PORT);
    assert_eq!(plan.eal.lcores, [LcoreId(0)]);
    assert_eq!(plan.eal.memory, Memory::NoHuge { megabytes: 128 });
    assert_eq!(plan.engine.idle, Idle::Sleep { max_us: 200, real_time: true }, "the default must not burn a core");
    assert_eq!(plan.engine.burst_frames, 32);
    let port = &plan.ports[0];
    assert_eq!(port.queue_lcores, [LcoreId(0)]);
    assert_eq!((port.rx_descriptors, port.tx_descriptors, port.mbufs_per_queue), (1024, 1024, 4095));
    assert_eq!(port.mtu_bytes, 1500);
    assert_eq!(plan.log.ledger_interval, Some(Duration::from_secs(60)));
}

#[test]
fn lcores_are_given_out_round_robin_around_those_that_are_named() {
    let ports = "[[port]]\nname = \"a\"\ndevice = \"net_null0\"\nqueues = 3\n\
                 [[port]]\nname = \"b\"\ndevice = \"net_null1\"\nqueues = 2\nlcores = [2]\n";
    let lcores = |plan: &Plan| -> Vec<Vec<u32>> {
        plan.ports.iter().map(|p| p.queue_lcores.iter().map(|l| l.0).collect()).collect()
    };
    let named = plan(&format!("[eal]\nlcores = [3, 1, 2]\n{ports}"));
    assert_eq!(lcores(&named), [vec![1, 3, 1], vec![2, 2]]);
    assert_eq!(named.ports[0].spread, SpreadBy::Auto);
    let software = plan(&ports.replacen("queues = 3", "queues = 3\nspread = \"software\"", 1));
    assert_eq!(software.ports[0].spread, SpreadBy::Software);
    assert!(software.to_string().contains("0@0 1@1 2@1 spread in software, descriptors"), "{software}");
    // Automatic: a CPU a queue, one CPU left over, and what the port names.
    let automatic = plan(ports);
    assert_eq!(automatic.eal.lcores, [0, 1, 2].map(LcoreId));
    assert_eq!(lcores(&automatic), [vec![0, 1, 0], vec![2, 2]]);
    // A container's CPUs do not begin at 0.
    let cpuset = parse("t.toml", PORT, &Machine::with_cpus(vec![6, 7])).expect("a plan");
    assert_eq!(cpuset.eal.lcores, [LcoreId(6)]);
}

#[test]
fn everything_said_is_in_the_plan() {
    let plan = plan(&format!(
        "{PORT}gateway = \"10.0.0.254\"\nmulticast = [\"224.128.0.251\", \"33:33:00:00:00:01\"]\n\
         [[client]]\nname = \"a\"\ninput = \"-\"\nremote_ip = \"192.0.2.1\"\nremote_mac = \"arp\"\non_full = {{ wait_us = 7 }}\n\
         [[client]]\nname = \"b\"\ninput = \"f\"\ntarget = \"+@/np0,@10.0.0.2/02:00:00:00:00:01\"\nurgent = true\ncpu = 3\n\
         [[sink]]\nlisten = [6667, 514, 6666]\nout = \"o\"\nsync = {{ every_ms = 5 }}\noutputs = [\"parquet\", \"text\"]\n\
         allow = [\"10.0.0.0/8\", \"192.0.2.7\"]\nlimits = {{ max_lines_per_source_per_s = 500 }}\n\
         [security]\nuser = \"netpoll:adm\"\nsandbox = false\n"
    ));
    assert_eq!(
        plan.ports[0].multicast,
        [MacAddr([0x01, 0x00, 0x5e, 0x00, 0x00, 0xfb]), MacAddr([0x33, 0x33, 0, 0, 0, 1])]
    );
    let [a, b] = &plan.clients[..] else { panic!("two clients") };
    let target = Target {
        extended: false,
        release: false,
        local_ip: Ipv4Addr::new(10, 0, 0, 1),
        local_port: 6665,
        remote_ip: Ipv4Addr::new(192, 0, 2, 1),
        remote_port: 6666,
        remote_mac: RemoteMac::Arp,
    };
    assert_eq!((a.target, &a.input, a.on_full), (target, &Input::Stdin, OnFull::Wait { us: 7 }));
    let target = Target {
        extended: true,
        remote_ip: Ipv4Addr::new(10, 0, 0, 2),
        remote_mac: RemoteMac::Given(MacAddr([2, 0, 0, 0, 0, 1])),
        ..target
    };
    assert_eq!((b.port, b.target, b.urgent, b.cpu), (0, target, true, Some(3)));
    let sink = &plan.sinks[0];
    assert_eq!(sink.listen.to_string(), "514,6666-6667");
    assert_eq!(
        (sink.sync, &sink.outputs[..]),
        (Sync::Every(Duration::from_millis(5)), &[Output::Parquet, Output::Text][..])
    );
    // Decoding and Parquet need memory, too, where they are built in.
    let memory = if cfg!(feature = "store") { 249 } else { 89 };
    assert_eq!(
        plan.to_string(),
        format!(
            "eal      lcores 0, memory 128 MiB without hugepages
engine   idle sleep up to 200 us, real-time, burst 32 frames, 10000 ARP/ICMP replies/s a port
port     np0        net_null0, ip 10.0.0.1/24 via 10.0.0.254
                    queues@lcores 0@0, descriptors 1024/1024, mbufs 4095 a queue, mtu 1500
client   a          stdin -> 10.0.0.1:6665 -> 192.0.2.1:6666 (arp) on np0
                    ring 512 frames, when full wait 7 us
client   b          f -> 10.0.0.1:6665 -> 10.0.0.2:6666 (02:00:00:00:00:01, extended) on np0
                    ring 512 frames, when full drop
sink     np0        udp 514,6666-6667 -> o (parquet, text)
                    only from 10.0.0.0/8, 192.0.2.7/32
                    at most 500 lines/s of one source
                    flush after 100ms, sync every 5ms
                    memory up to {memory} MiB, however many send
security user netpoll:adm, sandbox off
"
        )
    );
}

/// Every file in config/ gives a plan, on any machine.
#[test]
fn example_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("config/") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|e| e != "toml") {
            continue;
        }
        let plan = load(&path, &Machine::with_cpus(vec![0])).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(plan.sinks.len(), 1, "{}", path.display());
        let (port, sink) = (&plan.ports[0], &plan.sinks[0]);
        assert!(port.ip.is_some() && sink.listen.contains(514) && sink.listen.contains(6666), "{}", path.display());
        let name = path.file_stem().and_then(|s| s.to_str()).expect("a name").to_owned();
        match name.as_str() {
            "appliance" => {
                assert!(matches!(port.device, Device::Pci { .. }));
                assert_eq!(plan.eal.memory, Memory::Hugepages { megabytes: Some(512) });
                assert_eq!((plan.engine.idle, &port.queue_lcores[..]), (Idle::Busy, &[LcoreId(1), LcoreId(2)][..]));
            }
            "container" => {
                assert!(port.device.to_string().contains("iface=eth0"));
                assert_eq!(plan.eal.lcores, [LcoreId(0)], "no fixed lcores");
            }
            "laptop" => {
                assert_eq!(port.device.name(), "net_tap0");
                assert!(matches!(plan.eal.memory, Memory::NoHuge { .. }));
                assert!(matches!(plan.engine.idle, Idle::Sleep { .. }));
                assert_eq!(plan.clients.len(), 1);
            }
            _ => panic!("{name}: say here what this example shows"),
        }
        seen.push(name);
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
}

#[test]
fn files_that_are_no_config() {
    let folder = std::env::temp_dir().join(format!("netpoll-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let error = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).expect("a file");
        load(&path, &machine()).expect_err("no config").to_string()
    };
    assert!(error("bytes", b"\n\n\xff").ends_with("bytes:3: not UTF-8 text, expected a TOML file"));
    assert!(error("long", &vec![b'\n'; 1 << 21]).ends_with("longer than 1048576 bytes, expected a config file"));
    let missing = load(&folder.join("none"), &machine()).expect_err("no file").to_string();
    assert!(missing.contains("none: cannot read the config file: No such file"), "{missing}");
    std::fs::remove_dir_all(&folder).expect("removed");
}

/// Whatever stands in a file, quoting it neither panics nor steers a terminal nor floods one.
#[test]
fn hostile_text_is_quoted_harmlessly() {
    let long = format!("{PORT}{} = \"{}\"\n", "k".repeat(5000), "v".repeat(5000));
    let text = mistakes(&long);
    assert!(text.lines().all(|line| line.chars().count() < 300), "{text}");
    let many = format!("{PORT}{}", (0..200).map(|i| format!("zzzzzz{i} = 1\n")).collect::<String>());
    assert!(mistakes(&many).ends_with("t.toml: and 150 more mistakes"));
    // More mistakes than are put into words, in a file as long as it may be.
    let most = format!("{PORT}{}", (0..80_000).map(|i| format!("z{i}=1\n")).collect::<String>());
    assert!(mistakes(&most).ends_with("t.toml: and 79950 more mistakes"));
    let clients = "[[client]]\n".repeat(90_000);
    assert!(mistakes(&format!("{PORT}{clients}")).ends_with("more mistakes"));
    for bad in ["\u{1b}[2J = 1", "name = \"\u{7f}\"", "ip = \"\\u001b[2J\"", "é = 'ü'\u{0}", "\u{feff}x"] {
        let text = mistakes(&format!("{PORT}{bad}"));
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    }
}

proptest::proptest! {
    #[test]
    fn any_text_gives_a_plan_or_mistakes(text in "[\\[\\]a-z_=\"0-9.,:{}\\n \u{1b}é]{0,200}") {
        if let Err(e) = parse("t.toml", &format!("{PORT}{text}"), &machine()) {
            proptest::prop_assert!(e.iter().count() > 0);
            proptest::prop_assert!(!e.to_string().is_empty());
        }
    }
}
