use super::*;

fn machine() -> Machine {
    Machine {
        online: (0..8).chain([200, 201]).collect(),
        allowed: [2, 3, 200].into(),
        hugepages: Hugepages { reserved: 4, free: 2 },
    }
}

fn plan(config: EalConfig) -> Result<Plan> {
    Plan::new(&config, &machine())
}

fn typed(args: &str) -> Result<Plan> {
    plan(EalConfig { extra_args: args.split_whitespace().map(String::from).collect(), ..EalConfig::default() })
}

fn argv(args: &str) -> Vec<String> {
    typed(args).unwrap().argv
}

fn error(args: &str) -> String {
    typed(args).unwrap_err().to_string()
}

#[test]
fn nothing_said_means_the_cpuset_and_hugepages() {
    assert_eq!(
        argv(""),
        ["netpoll", "--lcores=2,3,0@200", "--no-telemetry", "--main-lcore=2", "--iova-mode=va", "--in-memory"]
    );
}

#[test]
fn config_lcores_and_memory() {
    let config = EalConfig {
        lcores: vec![LcoreId(3), LcoreId(2)],
        memory: Memory::NoHuge { megabytes: 64 },
        file_prefix: Some("x".into()),
        log_level: Some(LogLevel::Warning),
        extra_args: vec![],
    };
    let expected = "netpoll --lcores=3,2 --no-telemetry --main-lcore=3 --iova-mode=va --no-huge --no-shconf -m 64 \
                    --file-prefix=x --log-level=warning";
    assert_eq!(plan(config).unwrap().argv.join(" "), expected);
}

#[test]
fn typed_arguments_win() {
    for lcores in ["-l 3", "-l3", "--lcores 3", "--lcores=3", "-c 0x8", "-c8"] {
        assert_eq!(argv(lcores)[1], "--lcores=3", "{lcores}");
    }
    assert_eq!(argv("--lcores 0@200,3")[1], "--lcores=0@200,3");
    assert_eq!(typed("--no-huge").unwrap().memory, Memory::NoHuge { megabytes: NO_HUGE_MEGABYTES });
    assert_eq!(typed("--no-huge -m 32").unwrap().memory, Memory::NoHuge { megabytes: 32 });
    assert_eq!(typed("-m 32").unwrap().memory, Memory::Hugepages { megabytes: Some(32) });
    let no_huge = EalConfig {
        memory: Memory::NoHuge { megabytes: 9 },
        extra_args: vec!["--in-memory".into()],
        ..Default::default()
    };
    assert_eq!(plan(no_huge).unwrap().memory, Memory::Hugepages { megabytes: None });
    assert!(!argv("--iova-mode=pa").contains(&"--iova-mode=va".to_owned()));
    assert_eq!(typed("--vdev net_null0 --vdev=net_null1,copy=1").unwrap().vdevs, ["net_null0", "net_null1,copy=1"]);
    assert_eq!(argv("-a 0000:03:00.0 --log-level eal,8")[6..], ["-a", "0000:03:00.0", "--log-level", "eal,8"]);
}

#[test]
fn mistakes_are_named() {
    for (args, expected) in [
        ("-l 9", "lcore 9 does not exist; choose from 0-7,200-201"),
        ("-l 4", "lcore 4 is outside the CPUs that this process may use (2-3,200)"),
        ("-l 200", "this DPDK knows lcores 0-"),
        ("-l 2,2", "named twice"),
        ("-l 2 -c 4", "given twice"),
        ("-l", "it needs a value"),
        ("-l two", "expected a list of lcores"),
        ("-c 0", "expected a list of lcores"),
        ("--lcores (0-1)@2", "expected a list of lcores"),
        ("-m lots", "expected a number of megabytes"),
        ("--no-huge --in-memory", "excludes"),
        ("--proc-type=secondary", "primary process"),
        ("--help", "print its usage and exit"),
        ("--", "stop reading"),
    ] {
        let error = error(args);
        assert!(error.contains(expected), "{args}: {error}");
    }
}

#[test]
fn missing_hugepages_are_told_from_used_ones() {
    let check = |reserved, free| check_hugepages(Hugepages { reserved, free }).map_err(|e| e.to_string());
    assert_eq!(check(2, 1), Ok(()));
    assert!(check(0, 0).unwrap_err().starts_with("no hugepages are reserved"));
    assert!(check(7, 0).unwrap_err().starts_with("all 7 hugepages are in use"));
    assert!(check(0, 0).unwrap_err().contains("sysctl -w vm.nr_hugepages"));
}
