//! What does not attach says why, in words, and can be put right in the same process.

use std::{process::Command, sync::Arc};

use netpoll::dpdk::{DpdkError, Eal, EalConfig, Memory, Port, PortSetup};

fn error(eal: &Arc<Eal>, devargs: &str) -> DpdkError {
    let error = Port::attach(eal, devargs).unwrap_err();
    println!("{devargs}: {error}");
    error
}

#[test]
fn attach_errors_are_readable() {
    let eal = Eal::init(EalConfig { memory: Memory::NoHuge { megabytes: 64 }, ..EalConfig::default() }).unwrap();

    let unknown = error(&eal, "net_nul0");
    assert!(matches!(unknown, DpdkError::UnknownDriver { .. }));
    assert!(unknown.to_string().contains("net_null") && unknown.to_string().contains("apt install"));

    let missing = error(&eal, "net_af_packet0,iface=nonesuch0");
    assert!(matches!(&missing, DpdkError::NoSuchInterface { interface, .. } if interface == "nonesuch0"));
    assert!(missing.to_string().contains("lo"), "names the ones there are");
    assert!(matches!(error(&eal, "net_pcap0,rx_iface_in=nonesuch0"), DpdkError::NoSuchInterface { .. }));

    // The driver's own words are in the error.
    let file = error(&eal, "net_pcap0,rx_pcap=/nonexistent.pcap").to_string();
    assert!(file.contains("DPDK said") && file.contains("/nonexistent.pcap"), "{file}");
    let argument = error(&eal, "net_null0,colour=blue").to_string();
    assert!(argument.contains("net_null0"), "{argument}");
    for bad in ["", "  ", ",iface=x", &"x".repeat(200)] {
        assert!(matches!(error(&eal, bad), DpdkError::BadDevice { .. }));
    }
    assert!(error(&eal, "net_tap0,iface=a-name-that-is-too-long").to_string().contains("1 to 15 characters"));
    assert!(error(&eal, "ffff:ff:1f.7").to_string().contains("no PCI device at this address"));

    let first = Port::attach(&eal, "net_null0").unwrap();
    assert!(matches!(error(&eal, "net_null0"), DpdkError::AlreadyExists { .. }));
    drop(first);

    // A name that failed is free again, right after.
    for _ in 0..3 {
        error(&eal, "net_pcap0,rx_pcap=/nonexistent.pcap");
        let port = Port::attach(&eal, "net_pcap0,rx_iface_in=lo,tx_iface=lo");
        // Without the right to capture, that fails too, and says which right it is.
        match port {
            Ok(port) => assert_eq!(port.info().unwrap().driver, "net_pcap"),
            Err(error) => assert!(matches!(error, DpdkError::Permission { .. }), "{error}"),
        }
    }
    let bad_setup = |setup: PortSetup| Port::attach(&eal, "net_null0").unwrap().start(&setup).unwrap_err().to_string();
    let few = bad_setup(PortSetup { mbufs_per_queue: Some(100), ..PortSetup::default() });
    assert!(few.contains("100 mbufs a queue are too few") && few.contains("at least"), "{few}");
    let memory = bad_setup(PortSetup { mbufs_per_queue: Some(1 << 20), ..PortSetup::default() });
    assert!(memory.contains("1048576 mbufs") && memory.contains("raise the memory"), "{memory}");
    assert!(Port::list(&eal).is_empty(), "nothing is left behind");

    tap(&eal);
}

/// The kernel's own refusals, on an interface that is no TAP.
fn tap(eal: &Arc<Eal>) {
    let link =
        |args: &str| Command::new("ip").arg("link").args(args.split(' ')).output().is_ok_and(|o| o.status.success());
    let name = format!("npd{}", std::process::id() % 100_000);
    if !link(&format!("add {name} type veth peer name {name}p")) {
        println!("SKIPPED attach_errors_are_readable, part `tap`: making an interface needs root and veth");
        return;
    }
    let busy = Port::attach(eal, &format!("net_tap0,iface={name}")).map(drop);
    assert!(link(&format!("del {name}")));
    let error = busy.unwrap_err().to_string();
    println!("{error}");
    assert!(error.contains("DPDK said") && error.contains("net_tap0"), "{error}");
    for _ in 0..3 {
        let port = Port::attach(eal, &format!("net_tap0,iface={name}")).unwrap();
        let (port, queues) = port.start(&PortSetup::default()).unwrap();
        assert!(port.offloads().kernel_backed);
        assert!(std::path::Path::new("/sys/class/net").join(&name).exists());
        drop(queues);
        assert_eq!(port.close().unwrap().outstanding(), 0);
        assert!(!std::path::Path::new("/sys/class/net").join(&name).exists(), "the interface is gone");
    }
}
