//! The sandbox, from inside: what is forbidden is refused, by its own error, on every kind of thread; what the engine
//! needs goes on. One process, one sandbox: one test, and a second process for the case with devices attached later.

use std::{
    env, fs,
    io::{Error, ErrorKind},
    net::{TcpListener, UdpSocket},
    os::unix::fs::{PermissionsExt, chroot, symlink},
    path::Path,
    process::Command,
    sync::mpsc,
    thread,
};

use netpoll::{
    dpdk::{EalConfig, Memory, PortSetup},
    engine::{Engine, EngineConfig},
    netpoll::{ClientOptions, PortOptions},
    sandbox::{Sandbox, User},
};
use nix::{errno::Errno, mount, sched, sys, unistd};

/// Set in the copies: which case it is.
const CASE: &str = "NETPOLL_TEST_SANDBOX";

#[test]
fn what_is_forbidden_is_refused_on_every_thread() {
    match env::var(CASE).as_deref() {
        Ok("as-is") => confined(None),
        Ok("nobody") => confined(Some(User::find("65534", Some("65534")).unwrap())),
        Ok("later") => attached_later(),
        _ => {
            again("as-is");
            if is_root() {
                again("nobody");
                again("later");
            } else {
                println!("SKIPPED what_is_forbidden_is_refused_on_every_thread, parts `nobody`, `later`: need root");
            }
        }
    }
}

/// This test once more, in a process of its own.
fn again(case: &str) {
    let mut command = Command::new(env::current_exe().unwrap());
    let test = "what_is_forbidden_is_refused_on_every_thread";
    let output = command.args(["--exact", test, "--nocapture"]).env(CASE, case).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{case}: {}\n{said}", output.status);
}

fn is_root() -> bool {
    unistd::geteuid().is_root()
}

fn engine() -> Engine {
    let memory = Memory::NoHuge { megabytes: 128 };
    let eal = EalConfig { memory, extra_args: vec!["--no-pci".into()], ..EalConfig::default() };
    match Engine::start(EngineConfig { eal, ..EngineConfig::default() }) {
        Ok(engine) => engine,
        Err(error) => panic!("{error}"),
    }
}

fn setup() -> PortSetup {
    PortSetup { mbufs_per_queue: Some(4096), ..PortSetup::default() }
}

fn confined(user: Option<User>) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let out = dir.path().join("out");
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o777)).unwrap();
    let readable = dir.path().join("config");
    fs::write(&readable, "x").unwrap();

    let engine = engine();
    let lcores = engine.lcores();
    let options = PortOptions::new("null0").ip([10, 99, 0, 1].into(), 24);
    let port = engine.attach("net_null0", &setup(), options, &lcores[..1]).unwrap();
    // A thread of ours that was there before.
    let (ask, asked) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
    let earlier = thread::spawn(move || asked.into_iter().for_each(|job| job()));

    let (info, _) = engine.device(&port).unwrap();
    let named = user.is_some();
    let report = Sandbox::new().port(&info).user(user).writable(&out).readable(&readable).apply().unwrap();
    println!("{report:#?}");
    assert!(report.degraded.is_empty(), "this kernel has landlock and seccomp: {report:?}");
    assert_eq!(report.taken.len(), 3 + usize::from(named), "{report:?}");
    every_thread_is_confined(named.then_some("65534"));

    let attempts = || {
        let (out, outside, readable) = (out.clone(), outside.clone(), readable.clone());
        let (done, result) = mpsc::channel();
        let job = move || {
            // Caught, so that the assertion that fails is told here and not lost with the thread.
            let attempt = std::panic::AssertUnwindSafe(|| forbidden(&out, &outside, &readable));
            let _ = done.send(std::panic::catch_unwind(attempt).is_ok());
        };
        (job, result)
    };
    let (job, result) = attempts();
    job();
    assert!(result.recv().unwrap(), "this thread");
    let (job, result) = attempts();
    ask.send(Box::new(job)).unwrap();
    assert!(result.recv().unwrap(), "a thread that was there before");
    let (job, result) = attempts();
    thread::spawn(job).join().unwrap();
    assert!(result.recv().unwrap(), "a new thread");
    if let Some(idle) = lcores.get(1) {
        let (job, result) = attempts();
        engine.eal().launch(*idle, job).unwrap().join().unwrap();
        assert!(result.recv().unwrap(), "an lcore of EAL's");
    } else {
        println!("SKIPPED confined, part `lcore`: the only CPU's lcore polls");
    }
    drop(ask);
    earlier.join().unwrap();

    // The engine goes on: a client, a device that needs nothing, the end.
    let mut client = port.setup(ClientOptions::new("client").remote([10, 99, 0, 2], 514)).unwrap();
    (0..100).for_each(|_| client.send(b"a line").unwrap());
    let stats = client.cleanup().unwrap();
    assert!(stats.balances() && stats.sent.sent == 100, "{stats:?}");
    let other = engine.attach("net_null1", &setup(), PortOptions::new("null1"), &[]).unwrap();
    assert_eq!(engine.detach(&other).unwrap().outstanding(), 0);
    drop((port, other));
    for closed in engine.stop().unwrap() {
        assert_eq!(closed.outstanding(), 0);
    }
}

/// Everything that must not work, and beside it what must.
fn forbidden(out: &Path, outside: &Path, readable: &Path) {
    let denied = |what: &str, result: Result<(), Error>| {
        let error = result.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{what}: {error}");
    };
    let refused = |what: &str, result: Result<(), Errno>| assert_eq!(result, Err(Errno::EPERM), "{what}");

    // Files: landlock's EACCES, for root, too.
    let inside = out.join("file");
    fs::write(&inside, "x").expect("its own folder");
    fs::rename(&inside, out.join("other")).expect("its own folder");
    fs::read(readable).expect("what it was told to read");
    denied("to write what it may read", fs::write(readable, "y"));
    for file in ["/etc/passwd", "/etc/shadow", "/proc/1/environ", "/proc/version"] {
        denied(file, fs::read(file).map(drop));
    }
    denied("to write outside", fs::write(outside.join("file"), "x"));
    denied("to make a folder outside", fs::create_dir(outside.join("folder")));
    let link = out.join(format!("link-{:?}", thread::current().id()));
    symlink(outside.join("file"), &link).expect("its own folder");
    denied("to write outside, by a link", fs::write(&link, "x"));
    fs::remove_file(&link).unwrap();
    denied("to list /root", fs::read_dir("/root").map(drop));
    let moved = fs::rename(out.join("other"), outside.join("file")).expect_err("to move a file outside");
    assert!(matches!(moved.kind(), ErrorKind::CrossesDevices | ErrorKind::PermissionDenied), "{moved}");
    assert_eq!(fs::read_dir(outside).map_err(|error| error.kind()).map(drop), Err(ErrorKind::PermissionDenied));

    // System calls: the filter's EPERM.
    let run = Command::new("/bin/true").spawn().map(drop).expect_err("another program");
    assert_eq!(run.raw_os_error(), Some(libc_eperm()), "{run}");
    for (what, result) in [
        ("a UDP socket", UdpSocket::bind("127.0.0.1:0").map(drop)),
        ("a TCP socket", TcpListener::bind("127.0.0.1:0").map(drop)),
        ("a socket in the file system", std::os::unix::net::UnixDatagram::unbound().map(drop)),
        ("chroot", chroot(out)),
        ("chmod", fs::set_permissions(out.join("other"), fs::Permissions::from_mode(0o4755))),
    ] {
        assert_eq!(result.map_err(|error| error.raw_os_error()), Err(Some(libc_eperm())), "{what}");
    }
    let parent = unistd::getppid();
    refused("ptrace", sys::ptrace::attach(parent));
    refused("a signal to another process", sys::signal::kill(parent, None));
    sys::signal::kill(unistd::getpid(), None).expect("a signal to itself");
    let nothing: Option<&str> = None;
    refused("mount", mount::mount(Some("none"), out, Some("tmpfs"), mount::MsFlags::empty(), nothing));
    refused("umount", mount::umount("/proc"));
    refused("a user namespace", sched::unshare(sched::CloneFlags::CLONE_NEWUSER));
    refused("setuid", unistd::setuid(unistd::Uid::from_raw(0)));
    refused("setgroups", unistd::setgroups(&[]));
}

fn libc_eperm() -> i32 {
    Errno::EPERM as i32
}

/// As the kernel tells it.
fn every_thread_is_confined(uid: Option<&str>) {
    let mut names = Vec::new();
    for entry in fs::read_dir("/proc/self/task").unwrap() {
        let status = fs::read_to_string(entry.unwrap().path().join("status")).unwrap();
        let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim();
        for (key, wanted) in
            [("CapEff:", "0"), ("CapPrm:", "0"), ("CapInh:", "0"), ("NoNewPrivs:", "1"), ("Seccomp:", "2")]
        {
            assert_eq!(value(key).trim_start_matches('0'), wanted.trim_start_matches('0'), "{key}\n{status}");
        }
        if let Some(uid) = uid {
            assert!(value("Uid:").split_whitespace().all(|id| id == uid), "{status}");
            assert!(value("Gid:").split_whitespace().all(|id| id == uid), "{status}");
            assert_eq!(value("Groups:"), "");
        }
        names.push(value("Name:").to_owned());
    }
    assert!(names.len() >= 5, "main, the test, interrupts, lcores, the earlier one: {names:?}");
    assert!(names.iter().any(|name| name.starts_with("eal-intr")), "EAL's own thread: {names:?}");
}

/// A TAP and an af_packet port, attached inside: what that takes was kept, and nothing else.
fn attached_later() {
    let name = format!("nps{}", std::process::id() % 1_000_000);
    let (tap, packet) = (format!("net_tap0,iface={name}"), format!("net_af_packet0,iface={name}"));
    let engine = engine();
    let report = Sandbox::new().attach_later(&tap).attach_later(&packet).apply().unwrap();
    assert!(report.taken.iter().any(|step| step.ends_with("net_admin net_raw")), "{report:?}");
    for _ in 0..2 {
        let first = engine.attach(&tap, &setup(), PortOptions::new("tap"), &[]).unwrap();
        let second = engine.attach(&packet, &setup(), PortOptions::new("packet"), &[]).unwrap();
        for port in [&second, &first] {
            assert_eq!(engine.detach(port).unwrap().outstanding(), 0);
        }
        assert!(!Path::new("/sys/class/net").join(&name).exists(), "the interface is gone");
    }
    let error = UdpSocket::bind("127.0.0.1:0").map(drop);
    // Its ports need AF_INET for the interface's flags: a socket there is, but nothing to reach a file with.
    assert!(error.is_ok(), "{error:?}");
    assert_eq!(Command::new("/bin/true").spawn().map(drop).map_err(|e| e.raw_os_error()), Err(Some(libc_eperm())));
    assert_eq!(fs::write("/tmp/netpoll-sandbox", "x").map_err(|e| e.kind()), Err(ErrorKind::PermissionDenied));
    engine.stop().unwrap();
}
