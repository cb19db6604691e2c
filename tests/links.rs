//! Two processes of this program with a shared-memory link between them: net_memif, and net_vhost with virtio_user. One
//! runs `netpoll sink`, the other `netpoll send`; ARP is resolved over the link, and both ledgers balance.

#[path = "support/peer.rs"]
mod peer;

use std::fs;

use peer::{Sink, count, is_root, send, written};

const LINES: usize = 300;

fn lines() -> String {
    (1..=LINES).map(|n| format!("line {n} over the link\n")).collect()
}

/// Both ledgers, and each line once.
fn check(sent: &str, mut sink: Sink, out: &std::path::Path) {
    assert_eq!((count(sent, "submitted"), count(sent, "arp_learned")), (LINES as u64, 1), "{sent}");
    sink.wait_for(&[("delivered", LINES as u64)]);
    let said = sink.stop();
    assert_eq!((count(&said, "delivered"), count(&said, "arp_answered")), (LINES as u64, 1), "{said}");
    let written = written(out);
    for n in 1..=LINES {
        assert_eq!(written.lines().filter(|line| line.ends_with(&format!(" line {n} over the link"))).count(), 1);
    }
}

#[test]
fn memif_between_two_processes() {
    let dir = tempfile::tempdir().unwrap();
    let link = format!("id=0,socket-abstract=no,socket={}", dir.path().join("memif").display());
    let out = dir.path().join("out");
    let sink = Sink::start(None, &["--no-huge"], &format!("net_memif0,role=server,{link}"), &out);
    let vdev = format!("net_memif0,role=client,{link}");
    let sent = send(&["--no-huge", "--vdev", &vdev, "6665@10.99.0.2/,514@10.99.0.1/"], &lines());
    check(&sent, sink, &out);
}

/// Hugepages for as long as this lives, where there are too few.
struct Hugepages(Option<String>);

const NR_HUGEPAGES: &str = "/proc/sys/vm/nr_hugepages";

impl Hugepages {
    fn reserve(pages: u64) -> Self {
        let before = fs::read_to_string(NR_HUGEPAGES).unwrap();
        if before.trim().parse::<u64>().unwrap() >= pages {
            return Self(None);
        }
        fs::write(NR_HUGEPAGES, pages.to_string()).unwrap();
        Self(Some(before))
    }
}

impl Drop for Hugepages {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = fs::write(NR_HUGEPAGES, before.trim());
        }
    }
}

/// What a virtual machine's port is to its host. The device shares its memory, so it takes hugepages.
#[test]
fn vhost_and_virtio_user() {
    if !is_root("vhost_and_virtio_user", "hugepages") {
        return;
    }
    let _pages = Hugepages::reserve(512);
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("vhost");
    let out = dir.path().join("out");
    let sink = Sink::start(None, &["--hugepages"], &format!("net_vhost0,iface={}", socket.display()), &out);
    let vdev = format!("net_virtio_user0,path={}", socket.display());
    let target = "6665@10.99.0.2/,514@10.99.0.1/";
    let sent = send(&["--hugepages", "--vdev", &vdev, target, "--", "--single-file-segments"], &lines());
    check(&sent, sink, &out);
}
