//! Help, mistakes in what was typed, and what the machine refuses.

use super::support::*;

const COMMANDS: [&str; 7] = ["demo", "sink", "send", "pktgen", "run", "ports", "check"];

#[test]
fn help_shows_an_example_of_each_command() {
    let all = netpoll(&["--help"]).ends(0).stdout;
    for command in COMMANDS {
        assert!(all.contains(&format!("\n  {command} ")), "{command} in {all}");
        let help = netpoll(&[command, "--help"]).ends(0);
        let (_, examples) = help.stdout.split_once("Example").unwrap_or_else(|| panic!("{help:#?}"));
        assert!(examples.contains(&format!("netpoll {command}")), "{help:#?}");
        let takes_eal_arguments = command != "check";
        assert_eq!(help.stdout.contains("EAL ARGUMENTS"), takes_eal_arguments, "{help:#?}");
    }
    assert!(netpoll(&["--version"]).ends(0).stdout.starts_with("netpoll "));
    // Nothing typed: the help, as an error.
    assert!(netpoll(&[]).ends(2).stderr.contains("Usage:"));
}

/// Exit code 2, and words that say what was expected.
#[test]
fn what_was_typed_wrong() {
    let sink = |rest: &[&'static str]| [&["sink", "--listen", "514", "--out", "x"], rest].concat();
    let send = |target: &'static str| vec!["send", "--vdev", "net_null0", "--ip", "10.99.0.1/24", target];
    let cases: Vec<(Vec<&str>, &str)> = vec![
        (vec!["sing"], "'sink'"),
        (vec!["demo", "--rate", "1e6"], "expected lines a second, 1 to 1000000000, or `max`"),
        (vec!["demo", "--clients", "0"], "0 is not in 1..=256"),
        (vec!["demo", "--idle", "sleep:0"], "expected `sleep`, `sleep:1` to `sleep:50000`"),
        (vec!["demo", "-q", "-v"], "cannot be used with"),
        (vec!["ports", "--", "-m", "12x"], "expected a number of megabytes"),
        (sink(&[]), "--vdev <DEVICE>"),
        (sink(&["--vdev", "tap0"]), "expected a virtual device like `net_tap0,iface=np0`"),
        (sink(&["--vdev", "net_null0", "--device", "0000:01:00.0"]), "cannot be used with"),
        (sink(&["--device", "net_null0"]), "expected a PCI address like `0000:01:00.0`"),
        (sink(&["--vdev", "net_null0", "--ip", "10.99.0.1"]), "expected a host's IPv4 address with a prefix length"),
        (
            sink(&["--vdev", "net_null0", "--ip", "10.99.0.1/24", "--gateway", "10.9.0.1"]),
            "expected another host in 10.99.0.1/24",
        ),
        (sink(&["--vdev", "net_null0", "--allow", "10.0.0.0/8,10.0.0.1/8"]), "'10.0.0.1/8' for '--allow <NETWORKS>'"),
        (
            sink(&["--vdev", "net_null0", "--allow", "10"]),
            "expected a network like `10.0.0.0/8`, with no bit set behind",
        ),
        (sink(&["--vdev", "net_null0", "--lcores", "0-"]), "expected CPU numbers and ranges"),
        (sink(&["--vdev", "net_null0", "--lcores", "4000"]), "lcore 4000 does not exist; choose from"),
        (sink(&["--vdev", "net_null0", "--no-huge", "--hugepages"]), "cannot be used with"),
        (sink(&["--vdev", "net_null0", "--", "--proc-type=secondary"]), "always a primary process"),
        (
            vec!["sink", "--vdev", "net_null0", "--out", "x", "--listen", "514,514"],
            "expected UDP ports from 1 to 65535",
        ),
        (send("x@10.99.0.1/,514@10.99.0.2/"), "byte 0: found \"x\", expected the source's port number"),
        (send("6665@10.99.0.1/np0,514@10.99.0.2/02:"), "the next hop's MAC address, or nothing for broadcast"),
        (send("@/,@10.99.0.2"), "found the end, expected '/'"),
        (send("r@/,@10.99.0.2/"), "expected '+' before 'r'"),
        (send("@/,@fe80::1/"), "fe80::1 is an IPv6 address; expected IPv4"),
        (send("@/other0,@10.99.0.2/"), "no port is other0; expected net_null0 or "),
        (send("65535@/,@10.99.0.2/").into_iter().chain(["--clients", "2"]).collect(), "expected at most 65534"),
        (vec!["send", "--vdev", "net_null0", "@/,@10.99.0.2/"], "no source address; put one before the `/`"),
        (send("@/,@10.99.0.2/02:00:00:00:00:01").into_iter().chain(["--arp"]).collect(), "expected one or the other"),
    ];
    for (args, words) in cases {
        let run = netpoll(&args).ends(2);
        assert!(run.stderr.contains(words) && run.stdout.is_empty(), "{args:?}: {words}: {run:#?}");
    }
}

/// EAL tells its own usage first.
#[test]
fn an_eal_argument_that_does_not_exist() {
    let run = netpoll(&["ports", "--", "--bogus"]).ends(2);
    assert!(run.stderr.contains("check the EAL arguments"), "{run:#?}");
}

/// The place in an option string is pointed at.
#[test]
fn a_bad_option_string_is_shown_with_its_place() {
    let run = netpoll(&["send", "--vdev", "net_null0", "6665@10.0.0.1/np0,x@10.0.0.2/"]).ends(2);
    let lines: Vec<_> = run.stderr.lines().collect();
    let at =
        lines.iter().position(|line| line.trim_end() == "                    ^").unwrap_or_else(|| panic!("{run:#?}"));
    assert_eq!(lines[at - 1], "  6665@10.0.0.1/np0,x@10.0.0.2/");
}

/// Exit code 1, told once, with what to do.
#[test]
fn what_the_machine_refuses() {
    let sink = |device: &'static str| vec!["sink", "--listen", "514", "--out", "/proc/none", "--vdev", device];
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_str().unwrap();
    let good_dir = |device: &'static str| vec!["sink", "--listen", "514", "--out", out, "--vdev", device];
    let cases = [
        (good_dir("net_nothing0"), "net_nothing0: no driver for it is loaded"),
        (good_dir("net_af_packet0,iface=nosuch0"), "there is no network interface `nosuch0` here"),
        (vec!["sink", "--listen", "514", "--out", out, "--device", "ffff:1f:1f.7"], "dpdk-devbind.py"),
        (sink("net_null0"), "cannot use the directory /proc/none"),
        (vec!["ports", "--vdev", "net_null0", "--vdev", "net_null0"], "exists already"),
        (vec!["send", "--vdev", "net_null0", "@10.0.0.1/,@10.0.0.2/", "/no/such/file"], "cannot read /no/such/file"),
    ];
    for (args, words) in cases {
        let run = netpoll(&args).ends(1);
        assert_eq!(run.stderr.matches(words).count(), 1, "{args:?}: {words}: {run:#?}");
        // Ports may have run by then.
        let said = run.stderr.lines().find(|line| !line.contains("sandbox: ")).unwrap_or_default();
        assert!(said.starts_with("netpoll: ") && run.stdout.is_empty(), "{run:#?}");
    }
}

#[test]
fn errors_are_objects_for_machines() {
    let run = netpoll(&["ports", "--vdev", "net_nothing0", "--log-format", "json"]).ends(1);
    let error: serde_json::Value = serde_json::from_str(run.stderr.trim()).unwrap();
    assert_eq!((error["event"].as_str(), error["level"].as_str()), (Some("error"), Some("ERROR")));
    assert!(error["message"].as_str().unwrap().starts_with("net_nothing0: no driver"), "{error}");
}
