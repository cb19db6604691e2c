//! EAL, its lcores and their jobs.

use std::{
    sync::{Arc, Barrier, mpsc},
    thread,
};

use netpoll::{
    LcoreId,
    dpdk::{DpdkError, Eal, EalConfig, Memory, Port, RegisteredThread},
};

#[test]
fn lcores_end_to_end() {
    mistakes_before_the_start_can_be_put_right();
    let allowed = thread::available_parallelism().unwrap().get();
    let eal = Eal::init(EalConfig {
        memory: Memory::NoHuge { megabytes: 32 },
        extra_args: vec!["--vdev".into(), "net_null7".into()],
        ..EalConfig::default()
    })
    .unwrap();
    assert!(matches!(
        Eal::init(EalConfig::default()),
        Err(DpdkError::AlreadyInitialised | DpdkError::NoHugepages { .. })
    ));
    assert_eq!(eal.lcores().len(), allowed, "nothing said: the whole cpuset");
    assert_eq!(eal.lcores()[0], eal.main_lcore());
    for lcore in eal.lcores() {
        jobs(&eal, lcore);
    }
    at_once(&eal);
    unknown(&eal);
    registered(&eal);
    adopted(&eal);
    job_keeps_eal(eal);
}

fn mistakes_before_the_start_can_be_put_right() {
    let error = |lcores: Vec<LcoreId>, args: &[&str]| {
        let extra_args = args.iter().map(|arg| arg.to_string()).collect();
        Eal::init(EalConfig { lcores, extra_args, memory: Memory::NoHuge { megabytes: 32 }, ..EalConfig::default() })
            .unwrap_err()
            .to_string()
    };
    assert!(error(vec![LcoreId(60_000)], &[]).contains("lcore 60000 does not exist; choose from 0"));
    assert!(error(vec![], &["--no-huge", "--in-memory"]).contains("excludes"));
    assert!(error(vec![], &["--proc-type=secondary"]).contains("primary"));
}

fn jobs(eal: &Arc<Eal>, lcore: LcoreId) {
    let (tell, told) = mpsc::channel();
    let job = eal.launch(lcore, move || tell.send((LcoreId::current(), cpus_allowed())).unwrap()).unwrap();
    assert_eq!(job.lcore(), lcore);
    job.join().unwrap();
    assert_eq!(told.recv().unwrap(), (Some(lcore), lcore.to_string()), "on its own CPU, and knows who it is");

    // Busy while it runs, finished after.
    let gate = Arc::new(Barrier::new(2));
    let inside = gate.clone();
    let job = eal
        .launch(lcore, move || {
            inside.wait();
        })
        .unwrap();
    assert!(!job.is_finished());
    assert!(matches!(eal.launch(lcore, || ()), Err(DpdkError::LcoreBusy { .. })));
    gate.wait();
    while !job.is_finished() {
        thread::yield_now();
    }
    job.join().unwrap();

    // A panic is the joiner's to see, and the lcore goes on.
    let panic = eal.launch(lcore, || panic!("on purpose")).unwrap().join().unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"on purpose"));
    for _ in 0..1000 {
        eal.launch(lcore, || ()).unwrap().join().unwrap();
    }
    // Unjoined: the next one waits its turn by being refused, never lost.
    drop(eal.launch(lcore, || ()).unwrap());
    while let Err(DpdkError::LcoreBusy { .. }) = eal.launch(lcore, || ()).map(|job| job.join()) {
        thread::yield_now();
    }
}

fn at_once(eal: &Arc<Eal>) {
    let lcores = eal.lcores();
    let together = Arc::new(Barrier::new(lcores.len()));
    let jobs: Vec<_> = lcores
        .iter()
        .map(|lcore| {
            let together = together.clone();
            eal.launch(*lcore, move || {
                together.wait();
            })
            .unwrap()
        })
        .collect();
    jobs.into_iter().for_each(|job| job.join().unwrap());
}

fn unknown(eal: &Arc<Eal>) {
    let error = eal.launch(LcoreId(4000), || ()).unwrap_err().to_string();
    assert!(error.contains("lcore 4000 does not exist; choose from 0"), "{error}");
}

fn registered(eal: &Arc<Eal>) {
    let together = &Barrier::new(3);
    let ids: Vec<LcoreId> = thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(move || {
                    let me = RegisteredThread::register(eal).unwrap();
                    assert_eq!(LcoreId::current(), Some(me.lcore()));
                    let again = RegisteredThread::register(eal).unwrap_err().to_string();
                    assert!(again.contains("already"), "{again}");
                    together.wait();
                    let id = me.lcore();
                    drop(me);
                    assert_eq!(LcoreId::current(), None);
                    id
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (place, id) in ids.iter().enumerate() {
        assert!(!eal.lcores().contains(id) && !ids[..place].contains(id), "its own id: {ids:?}");
    }
    // Ids come back, or this would run out of them.
    for _ in 0..500 {
        drop(RegisteredThread::register(eal).unwrap());
    }
    let inside = eal.clone();
    let job = eal.launch(eal.main_lcore(), move || assert!(RegisteredThread::register(&inside).is_err())).unwrap();
    job.join().unwrap();
}

/// EAL's own `--vdev` is opened, not made.
fn adopted(eal: &Arc<Eal>) {
    let names: Vec<String> = Port::list(eal).into_iter().map(|port| port.name).collect();
    assert_eq!(names, ["net_null7"]);
    let port = Port::open(eal, "net_null7").unwrap();
    assert_eq!(port.info().unwrap().id, port.id());
    assert!(matches!(Port::open(eal, "net_null7"), Err(DpdkError::PortInUse { .. })));
    let error = Port::open(eal, "net_null8").unwrap_err().to_string();
    assert!(error.contains("no port `net_null8`") && error.contains("net_null7"), "{error}");
    drop(port);
    assert!(Port::list(eal).is_empty());
}

/// The last owner may be a job: it ends, and nothing hangs.
fn job_keeps_eal(eal: Arc<Eal>) {
    let (go, gone) = mpsc::channel::<()>();
    let last = *eal.lcores().last().unwrap();
    let job = eal.launch(last, move || gone.recv().unwrap()).unwrap();
    drop(eal);
    go.send(()).unwrap();
    job.join().unwrap();
}

fn cpus_allowed() -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned()
}
