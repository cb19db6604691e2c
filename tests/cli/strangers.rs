//! Who may send, and how much: a capture from several sources, replayed into `netpoll sink`.

use std::{fs, io::Write, path::Path};

use netpoll::netpoll::filter::Reason;

use super::{bad_frames, support::*};

const TO: [u8; 4] = [10, 99, 0, 1];

fn line(src: [u8; 4], text: &str) -> Vec<u8> {
    let datagram = bad_frames::datagram(src, TO, 514, text.as_bytes());
    bad_frames::frame([0xff; 6], 0x0800, &bad_frames::packet(src, TO, 17, &datagram))
}

fn write_pcap(path: &Path, frames: &[Vec<u8>]) {
    let mut file = fs::File::create(path).unwrap();
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    file.write_all(&words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1])).unwrap();
    for frame in frames {
        file.write_all(&words(&[0, 0, frame.len() as u32, frame.len() as u32])).unwrap();
        file.write_all(frame).unwrap();
    }
}

#[test]
fn allow_lists_and_limits_for_each_source_with_notices() {
    let dir = tempfile::tempdir().unwrap();
    let (capture, out) = (dir.path().join("in.pcap"), dir.path().join("out"));
    let frames: Vec<_> = (0..50)
        .map(|n| line([10, 0, 0, 2], &format!("<14>loud {n}")))
        .chain((0..7).map(|n| line([192, 0, 2, 9], &format!("<14>stranger {n}"))))
        .chain([line([10, 0, 0, 3], "<14>quiet"), line([192, 0, 2, 7], "<14>a host by itself")])
        .collect();
    write_pcap(&capture, &frames);
    let device = format!("net_pcap0,rx_pcap={},tx_pcap=/dev/null", capture.display());
    let args = ["sink", "--vdev", &device, "--ip", "10.99.0.1/24", "--listen", "514", "--out", out.to_str().unwrap()];
    let limits = ["--allow", "10.0.0.0/8,192.0.2.7", "--max-lines-per-source-per-s", "1", "--count", "52"];
    let run = netpoll(&[&args[..], &limits, &["--duration", "60"]].concat()).ends(0).balances();
    assert_eq!((run.count("arrived"), run.count(Reason::NotAllowed.name()), run.count("delivered")), (59, 7, 52));
    let (stored, dropped) = (run.count("stored"), run.count("source_rate"));
    assert_eq!(stored + dropped, 52);
    // One, and one more for each second that the replay took on this machine.
    assert!((40..50).contains(&dropped), "{run:#?}");
    let text = fs::read_to_string(out.join("netpoll.log")).unwrap();
    assert_eq!(text.lines().count() as u64, stored);
    assert!(
        text.contains("<14>quiet") && text.contains("<14>a host by itself") && !text.contains("stranger"),
        "{text}"
    );
    assert!(run.stderr.contains("10.0.0.2 sends more than max_lines_per_source_per_s"), "{run:#?}");
    let ended = |line: &str| -> Option<u64> {
        line.split_once("10.0.0.2 is not limited any more: ")?.1.split(' ').next()?.parse().ok()
    };
    assert_eq!(run.stderr.lines().filter_map(ended).sum::<u64>(), dropped, "{run:#?}");
}
