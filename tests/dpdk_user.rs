//! Without hugepages, as root and as an ordinary user: the same program, started again by `setpriv`.

use std::{env, fs, path::PathBuf, process::Command};

use netpoll::{
    dpdk::{DpdkError, Eal, EalConfig, Memory, Port, PortSetup},
    port::PortIo,
};

/// Set in the copy that runs as an ordinary user.
const INNER: &str = "NETPOLL_TEST_ORDINARY_USER";
const NOBODY: &str = "65534";

#[test]
fn no_huge_as_any_user() {
    works();
    if env::var_os(INNER).is_some() {
        return;
    }
    if uid() != "0" {
        println!("SKIPPED no_huge_as_any_user, part `as root`: this is uid {} already", uid());
        return;
    }
    // Where nobody can reach it, wherever the sources are.
    let dir = env::temp_dir().join(format!("netpoll-user-{}", std::process::id()));
    fs::create_dir(&dir).unwrap();
    let program: PathBuf = dir.join("test");
    fs::copy(env::current_exe().unwrap(), &program).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--"])
        .arg(&program)
        .args(["--exact", "no_huge_as_any_user", "--nocapture"])
        .env(INNER, "1")
        // Root's, so not writable: EAL must do without a directory of its own.
        .env("XDG_RUNTIME_DIR", &dir)
        .current_dir("/")
        .output();
    fs::remove_dir_all(&dir).unwrap();
    let output = output.expect("setpriv (util-linux) runs");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    print!("{text}");
    assert!(output.status.success() && text.contains("1 passed"), "as an ordinary user: {text}");
}

fn works() {
    // Hugepages that are not there are told before EAL starts, and then it starts without.
    let eal = Eal::init(EalConfig { memory: Memory::NoHuge { megabytes: 64 }, ..EalConfig::default() }).unwrap();
    let (port, mut queues) = Port::attach(&eal, "net_null0")
        .unwrap()
        .start(&PortSetup { mbufs_per_queue: Some(4096), ..PortSetup::default() })
        .unwrap();
    let mut frames = Vec::with_capacity(32);
    assert_eq!(queues[0].rx_burst(&mut frames, 32), 32);
    assert_eq!(queues[0].tx_burst(&mut frames), 32);
    drop(queues);
    assert_eq!(port.close().unwrap().outstanding(), 0);
    let (a, b) = Port::ring_pair(&eal, ["a", "b"], 1, 64).unwrap();
    drop((a, b));
    if uid() != "0" {
        denied(&eal);
    }
}

/// What an ordinary user may not do says which right it wants.
fn denied(eal: &std::sync::Arc<Eal>) {
    for (devargs, right) in [
        ("net_tap0,iface=npuser0", "CAP_NET_ADMIN"),
        ("net_af_packet0,iface=lo", "CAP_NET_RAW"),
        ("net_pcap0,rx_iface_in=lo", "CAP_NET_RAW"),
    ] {
        // Some drivers ask the kernel only when they start.
        let error = Port::attach(eal, devargs).and_then(|port| port.start(&PortSetup::default())).unwrap_err();
        println!("{error}");
        assert!(matches!(error, DpdkError::Permission { .. }), "{devargs}: {error}");
        assert!(error.to_string().contains(right), "{devargs}: {error}");
    }
}

fn uid() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    uids.split_whitespace().nth(1).unwrap().to_owned()
}
