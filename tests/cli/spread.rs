//! Several queues of a device that has one: `netpoll sink` spreads in software, and every line is stored.

use std::{collections::HashMap, fs};

use super::{outputs::capture_of, ring::logs, support::*};

const SOURCES: u8 = 40;
const EACH: usize = 100;

/// Numbered lines of 40 sources through net_pcap to text and Parquet, by two workers: each once, and a source's in order.
#[test]
fn every_line_is_stored_through_two_workers() {
    let dir = tempfile::tempdir().unwrap();
    let lines: Vec<_> = (0..EACH)
        .flat_map(|number| (0..SOURCES).map(move |host| (100 + host, format!("<13>source {host} number {number}"))))
        .collect();
    let frames: Vec<_> = lines.iter().map(|(host, line)| (*host, 514, line.as_bytes())).collect();
    let vdev = format!("net_pcap0,rx_pcap={}", capture_of(dir.path(), &frames).display());
    let (out, count) = (dir.path().join("out"), lines.len().to_string());
    let out = out.to_str().unwrap();
    let sink = ["sink", "--vdev", &vdev, "--listen", "514", "--ip", "10.99.0.1/24", "--queues", "3"];
    let until = ["--count", &count, "--duration", "60", "--stats", "0", "--output", "text,parquet", "--out", out];
    // Each queue may hold more frames than there are: however the lcores are scheduled, nothing is dropped.
    let run = netpoll(&[&sink[..], &until].concat()).ends(0).balances();
    assert!(run.stdout.contains("3 queues, spread in software by source, as the device has 1"), "{run:#?}");
    let equation = format!("{count} taken from the device = what its queues got and had no room for");
    assert!(run.stdout.contains(&equation), "{run:#?}");

    let mut next = HashMap::new();
    for line in fs::read_to_string(dir.path().join("out/netpoll.log")).unwrap().lines() {
        let (_, text) = line.split_once("source ").unwrap();
        let (host, number) = text.split_once(" number ").unwrap();
        let next = next.entry(host.to_owned()).or_insert(0);
        assert_eq!(number.parse(), Ok(*next), "of source {host}");
        *next += 1;
    }
    assert!(next.len() == usize::from(SOURCES) && next.values().all(|next| *next == EACH), "{next:?}");

    let mut stored: Vec<_> = logs(&dir.path().join("out"), &[])
        .iter()
        .map(|record| record["message"].as_str().unwrap().to_owned())
        .collect();
    let mut sent: Vec<_> = lines.iter().map(|(_, line)| line.trim_start_matches("<13>").to_owned()).collect();
    stored.sort();
    sent.sort();
    assert!(stored == sent, "{} of {}", stored.len(), sent.len());
}

#[test]
fn a_device_that_is_to_spread_and_cannot_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let vdev = format!("net_pcap0,rx_pcap={}", capture_of(dir.path(), &[(2, 514, b"line")]).display());
    let out = dir.path().join("out");
    let args = ["sink", "--vdev", &vdev, "--listen", "514", "--queues", "2", "--spread", "device", "--out"];
    let run = netpoll(&[&args[..], &[out.to_str().unwrap()]].concat()).ends(1);
    assert!(run.stderr.contains("2 queues were asked for") && run.stderr.contains("gives 1 here"), "{run:#?}");
    assert!(run.stderr.contains("spread them in software"), "{run:#?}");
    let args = ["sink", "--vdev", &vdev, "--listen", "514", "--spread", "rss", "--out", "o"];
    let run = netpoll(&args).ends(2);
    assert!(run.stderr.contains("expected `auto`, `device` or `software`"), "{run:#?}");
}
