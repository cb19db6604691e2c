//! Writes the hand-made part of the corpus anew: `cargo run --no-default-features --bin seeds`, in tests/fuzz.

#[path = "../../../../engine/src/netpoll/filter/bad_frames.rs"]
mod bad_frames;

use std::{collections::BTreeMap, fs, net::IpAddr, path::Path, sync::Arc};

use arrow_array::{ArrayRef, BinaryArray, FixedSizeBinaryArray, RecordBatch, TimestampNanosecondArray, UInt16Array};
use arrow_ipc::writer::StreamWriter;
use netpoll::{netpoll::filter::Reason, sink::spool};
use netpoll_fuzz::input::{SEPARATOR, count};

fn main() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let seeds = [
        ("frame", frames()),
        ("netconsole", netconsole()),
        ("syslog", syslog()),
        ("options", options()),
        ("config", config()),
        ("spool", segments()),
    ];
    for (target, seeds) in seeds {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder).expect("a folder");
        for (name, bytes) in seeds {
            fs::write(folder.join(name), bytes).expect("a file");
        }
    }
}

/// Two bits a verdict, and the bit for segments.
const SEGMENTED: u8 = 0x10;

fn frames() -> Vec<(String, Vec<u8>)> {
    let mut all: BTreeMap<&str, Vec<Vec<u8>>> = BTreeMap::new();
    for (reason, frame) in bad_frames::bad_frames() {
        let head = if reason == Reason::Segmented { SEGMENTED } else { 0 };
        all.entry(reason.name()).or_default().push(count(head, &frame));
    }
    let mut seeds = vec![];
    for (name, frames) in all {
        // Kernel-backed, partial checksums refused, an rx client that takes one peer's datagrams only.
        let setup = if name == "no_rx_client" { 5 } else { 17 };
        seeds.push((format!("bad-{name}"), [vec![setup], frames.concat()].concat()));
    }
    let mut to_answer = bad_frames::good_frame();
    // Its payload asks for a reply; without a checksum it stays right.
    to_answer[42] = b'R';
    to_answer[40..42].fill(0);
    let mut arp_reply = bad_frames::good_arp();
    arp_reply[21] = 2;
    arp_reply[28..32].copy_from_slice(&[10, 0, 0, 9]);
    let mix = [bad_frames::good_frame(), bad_frames::good_arp(), bad_frames::good_echo(), to_answer, arp_reply];
    let burst: Vec<u8> = mix.iter().flat_map(|frame| count(0, frame)).collect();
    for (name, setup) in [("mix", 0), ("mix-few-answers", 8), ("mix-tx-offload", 64), ("mix-no-client", 4)] {
        seeds.push((name.to_owned(), [vec![setup], burst.clone()].concat()));
    }
    seeds.push(("more-than-a-burst".into(), [vec![0], burst.repeat(14)].concat()));
    let verdicts: Vec<u8> = (0..16).flat_map(|head| count(head, &bad_frames::good_frame())).collect();
    seeds.push(("verdicts".into(), [vec![3], verdicts].concat()));
    let mut panics = bad_frames::good_frame();
    panics[40..43].copy_from_slice(b"\0\0P");
    seeds.push(("hook-panics".into(), [vec![32], count(0, &panics), burst].concat()));
    seeds
}

/// Named datagrams, each with its head byte.
fn datagrams(name: &str, pieces: &[(u8, &[u8])]) -> (String, Vec<u8>) {
    let pieces: Vec<_> = pieces.iter().map(|(head, bytes)| [&[*head][..], bytes].concat()).collect();
    (name.to_owned(), pieces.join(SEPARATOR))
}

fn netconsole() -> Vec<(String, Vec<u8>)> {
    let long = [b"x".repeat(1000), b"the rest\n".to_vec()];
    vec![
        datagrams("one", &[(0, b"6,1,2000000,-;hello\n")]),
        datagrams(
            "release",
            &[(0, b"6.12.0,4,7,3000000,-,caller=T12;\x41 \\x41\\x5c\n SUBSYSTEM=pci\n DEVICE=+pci:0\n")],
        ),
        datagrams(
            "user-data",
            &[(0, b"6,1,2,-;text\n foo=bar\n cpu=1\n taskname=init\n release=6.12\n msgid=00000001\n")],
        ),
        datagrams(
            "order",
            &[(0, b"6,3,30,-;c\n"), (4, b"6,1,10,-;a\n"), (8, b"6,2,20,-;b\n"), (16, b"6,9,90,-;gap\n")],
        ),
        datagrams("continued", &[(0, b"6,1,10,c;a"), (4, b"6,2,11,+;b\n"), (4, b"6,3,12,c;c\n"), (4, b"6,4,13,-;d\n")]),
        datagrams(
            "fragments",
            &[
                (0, b"6,1,10,-,ncfrag=0/21;0123456789"),
                (4, b"6,1,10,-,ncfrag=10/21;abcdefghij"),
                (0, b"6,1,10,-,ncfrag=20/21;\n"),
            ],
        ),
        datagrams(
            "fragments-mixed",
            &[
                (128, b"6,2,10,-,ncfrag=10/20;ABCDEFGHIJ"),
                (1, b"6,2,10,-,ncfrag=0/20;other sender"),
                (128, b"6,2,10,-,ncfrag=5/20;56789ABCDE"),
                (0, b"6,2,10,-,ncfrag=5/20;not that"),
                (0, b"6,2,10,-,ncfrag=0/20;0123456789"),
                (20, b"6,3,11,-,ncfrag=5/10;tail"),
            ],
        ),
        datagrams(
            "fragments-hostile",
            &[
                (0, b"6,1,10,-,ncfrag=65535/66000;a"),
                (0, b"6,1,10,-,ncfrag=0/4294967295;a"),
                (0, b"6,1,10,-,ncfrag=4294967295/1;a"),
                (0, b"6,18446744073709551615,18446744073709551615,-,ncfrag=0/1;a"),
            ],
        ),
        datagrams(
            "boots",
            &[(128, b"6,100,99000000,-;old\n"), (148, b"5,0,0,-;Linux version 6.12\n"), (4, b"6,1,1,-;x\n")],
        ),
        datagrams("copies", &[(0, b"6,1,2,-;a\n"), (0, b"6,1,2,-;a\n"), (4, b"6,1,2,-;b\n"), (128, b"6,2,3,-;c\n")]),
        datagrams(
            "crash",
            &[
                (0, b"4,1,10,-;------------[ cut here ]------------\n"),
                (0, b"4,2,11,-;WARNING: CPU: 0 PID: 1 at kernel/panic.c:1\n"),
                (128, b"4,3,12,-;Call Trace:\n"),
                (0, b"4,4,13,-;---[ end trace 0000000000000000 ]---\n"),
                (24, b"6,5,9000000,-;calm\n"),
            ],
        ),
        datagrams("basic", &[(32, b"[    1.000000] hello\n"), (32, b"no end"), (52, b" of it\n")]),
        datagrams("basic-long", &[(32, &long[0]), (36, &long[1]), (160, &long[0]), (56, b"too late\n")]),
        datagrams(
            "either",
            &[(64, b"6,1,2,-;a\n"), (64, b"plain\n"), (96, b"<13>Nov 14 22:13:20 h a: b"), (96, b"\xff\\\n")],
        ),
        datagrams("clock-goes-back", &[(24, b"6,1,2,-;a\n"), (28, b"6,2,3,-;b\n"), (28, b"6,4,5,-;c\n")]),
    ]
}

fn syslog() -> Vec<(String, Vec<u8>)> {
    let one = |name: &str, line: &[u8]| datagrams(name, &[(0, line), (64, line)]);
    vec![
        one("5424", b"<165>1 2023-11-14T22:13:20.123456+01:00 host app 12 ID47 [a@1 k=\"v\" l=\"\\\"\\]\\\\\"][b] \xef\xbb\xbftext"),
        one("5424-nil", b"<0>1 - - - - - -"),
        one("5424-leap", b"<191>1 2016-12-31T23:59:60Z h a p m - \xff"),
        one("5424-damaged", b"<165>1 2023-11-14T22:13:20Z host app 12 ID47 [a k=\"v"),
        one("3164", b"<34>Oct 11 22:14:15 mymachine su[12]: 'su root' failed\n\0"),
        one("3164-rsyslog", b"<13>2023-11-14T22:13:20.5Z host app: text"),
        one("3164-year", b"<13>Nov  4 2023 22:13:20.123: %SYS-5: text"),
        one("3164-cisco", b"<189>45: *Mar  1 18:46:11.123 UTC: %SYS-5-CONFIG_I: text"),
        one("3164-no-host", b"<13>Feb 29 00:00:00 app: text"),
        one("3164-no-time", b"<13>app[x]: text"),
        one("3164-bad-date", b"<13>Feb 30 99:99:99 h app: text"),
        one("no-pri", b"Nov 14 22:13:20 host app: text"),
        one("bad-pri", b"<999>1 - - - - - -"),
        one("no-end-pri", b"<13"),
        one("empty-bom", b"\xef\xbb\xbf\r\n\0"),
        datagrams("raw", &[(96, b"bytes \x00\xfe\r\n"), (96, b"")]),
    ]
}

fn options() -> Vec<(String, Vec<u8>)> {
    [
        ("full", "+r6665@10.0.0.1/np0,6666@10.0.0.2/02:00:00:00:00:01"),
        ("least", "@/,@10.0.0.2/"),
        ("several", "@/np0,@10.0.0.2/;+@/np1,514@10.0.0.3/ff:ff:ff:ff:ff:ff"),
        ("v6", "@fe80::1/eth0,@ff02::1/"),
        ("families", "@10.0.0.1/,@::1/"),
        ("pci", "@/0000:01:00.0,@10.0.0.2/"),
        ("device-mac", "@/02:00:00:00:00:01,1@10.0.0.2/"),
        ("release-alone", "r@/,@10.0.0.2/"),
        ("port-too-high", "65536@/,@10.0.0.2/"),
        ("sign", "+ +1@/,@10.0.0.2/"),
        ("empty-target", "@/,@10.0.0.2/;"),
        ("behind-the-end", "@/,@10.0.0.2/02:00:00:00:00:01x"),
        ("not-ascii", "@/ä€,@10.0.0.2/\u{1b}[31m"),
    ]
    .map(|(name, text)| (name.to_owned(), text.into()))
    .into()
}

fn config() -> Vec<(String, Vec<u8>)> {
    let mut seeds: Vec<_> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config"))
        .expect("the examples")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| {
            (path.file_stem().expect("a name").to_str().expect("UTF-8").to_owned(), fs::read(&path).expect("a file"))
        })
        .collect();
    let texts = [
        ("least", "[[port]]\nname = \"p\"\ndevice = \"vdev:net_null0\"\n"),
        ("not-toml", "[[port]\nname = \"p"),
        ("wrong-types", "eal = 1\nengine = []\nport = {}\nclient = [1]\n[log]\nlevel = 7\n"),
        ("unknown-keys", "[[port]]\nnmae = \"p\"\n[enigne]\n\"\\u001b[31m\" = 1\n"),
        (
            "twice",
            "[[port]]\nname = \"p\"\ndevice = \"vdev:net_null0\"\n[[port]]\nname = \"p\"\ndevice = \"vdev:net_null0\"\n",
        ),
        ("dates", "[engine]\nidle = 1979-05-27T07:32:00Z\n[eal]\nlcores = [0, 1.5, inf, nan, 0x7fffffffffffffff]\n"),
        ("nested", "a = [[[[[[[[{b.c.d.e=[{f={}}]}]]]]]]]]\n"),
    ];
    seeds.extend(texts.map(|(name, text)| (name.to_owned(), text.into())));
    seeds
}

/// A segment of `batches` batches of a few rows.
fn segment(batches: u16, finished: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &spool::schema()).expect("a stream");
    for batch in 0..batches {
        let rows: [&[u8]; 3] = [b"<13>Nov 14 22:13:20 h a: b", b"6,1,2,-;netconsole\n", b""];
        let addr = |last: u8| -> ArrayRef {
            let ip: IpAddr = [10, 0, 0, last].into();
            let IpAddr::V4(ip) = ip else { unreachable!() };
            let octets = [ip.to_ipv6_mapped().octets(); 3];
            Arc::new(FixedSizeBinaryArray::try_from_iter(octets.iter()).expect("addresses"))
        };
        let time = TimestampNanosecondArray::from_iter_values((0..3).map(|row| 1_700_000_000_000_000_000 + row));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(time.with_timezone("UTC")),
            addr(2),
            Arc::new(UInt16Array::from_iter_values([6665, batch, 1])),
            addr(1),
            Arc::new(UInt16Array::from_iter_values([514, 6666, 9])),
            Arc::new(BinaryArray::from_iter_values(rows)),
        ];
        writer.write(&RecordBatch::try_new(spool::schema(), columns).expect("a batch")).expect("room");
    }
    writer.finish().expect("room");
    drop(writer);
    if !finished {
        bytes.truncate(bytes.len() - 8);
    }
    bytes
}

fn segments() -> Vec<(String, Vec<u8>)> {
    let whole = segment(1, true);
    let two = segment(2, false);
    let mut zeros = whole.clone();
    let len = zeros.len();
    zeros[len - 200..].fill(0);
    let mut marker = whole.clone();
    marker[..4].fill(0);
    let mut long = whole.clone();
    long[4..8].copy_from_slice(&0xffff_u32.to_le_bytes());
    let schema = segment(0, false);
    vec![
        ("whole".into(), whole.clone()),
        ("growing".into(), two.clone()),
        ("torn".into(), two[..two.len() - 50].to_vec()),
        ("no-rows".into(), segment(0, true)),
        ("zeros-at-the-end".into(), zeros),
        ("no-marker".into(), marker),
        ("metadata-too-long".into(), long),
        ("batch-without-schema".into(), whole[schema.len()..].to_vec()),
        ("schema-twice".into(), [schema, whole].concat()),
    ]
}
