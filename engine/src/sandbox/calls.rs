//! Which system calls: a seccomp filter of what is refused.

use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use super::{Needs, Report, SandboxError};

/// Refused whatever the arguments. What a sink and its ports have no use for: other programs, other processes, the
/// machine's set-up, and ways around the rules for files (landlock does not see owners, modes and attributes).
#[rustfmt::skip]
const REFUSED: &[i64] = &[
    // Programs.
    libc::SYS_execve, libc::SYS_execveat,
    // Other processes.
    libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_kcmp, libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd, libc::SYS_pidfd_send_signal, libc::SYS_process_madvise,
    // Mounts and namespaces.
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root, libc::SYS_chroot, libc::SYS_move_mount,
    libc::SYS_open_tree, libc::SYS_fsopen, libc::SYS_fsconfig, libc::SYS_fsmount, libc::SYS_fspick,
    libc::SYS_mount_setattr, libc::SYS_unshare, libc::SYS_setns, libc::SYS_quotactl,
    // The kernel.
    libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module, libc::SYS_kexec_load, libc::SYS_reboot,
    libc::SYS_swapon, libc::SYS_swapoff, libc::SYS_acct, libc::SYS_syslog, libc::SYS_perf_event_open,
    libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl, libc::SYS_personality, libc::SYS_vhangup,
    libc::SYS_userfaultfd, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register,
    libc::SYS_fanotify_init, libc::SYS_lookup_dcookie, libc::SYS_nfsservctl,
    // The clock and the machine's name.
    libc::SYS_settimeofday, libc::SYS_clock_settime, libc::SYS_adjtimex, libc::SYS_clock_adjtime,
    libc::SYS_sethostname, libc::SYS_setdomainname,
    // Who we are, and landlock's blind spots.
    libc::SYS_setuid, libc::SYS_setgid, libc::SYS_setreuid, libc::SYS_setregid, libc::SYS_setresuid,
    libc::SYS_setresgid, libc::SYS_setgroups, libc::SYS_setfsuid, libc::SYS_setfsgid, libc::SYS_capset,
    libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchown, libc::SYS_fchownat, libc::SYS_setxattr,
    libc::SYS_lsetxattr, libc::SYS_fsetxattr, libc::SYS_removexattr, libc::SYS_lremovexattr, libc::SYS_fremovexattr,
    libc::SYS_open_by_handle_at, libc::SYS_name_to_handle_at, libc::SYS_mknodat,
    // fchmodat2, newer than the libc crate's lists of some targets.
    452,
];

/// Those that only x86-64 has.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const REFUSED_HERE: &[i64] = &[
    libc::SYS_fork, libc::SYS_vfork, libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown, libc::SYS_mknod,
    libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt, libc::SYS_kexec_file_load, libc::SYS_uselib,
    libc::SYS_ustat, libc::SYS_sysfs,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[i64] = &[];

/// bpf(2)'s commands that make something new.
const BPF_MAP_CREATE: u64 = 0;
const BPF_PROG_LOAD: u64 = 5;

/// Puts the filter on every thread; whether it is there.
pub(super) fn apply(needs: &Needs, report: &mut Report) -> Result<bool, SandboxError> {
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else {
        report.degraded.push(format!("no filter of system calls for {}", std::env::consts::ARCH));
        return Ok(false);
    };
    let failed =
        |error: seccompiler::BackendError| SandboxError::Step { step: "seccomp", error: io::Error::other(error) };
    let refused = refused(needs).map_err(failed)?;
    let count = refused.len();
    let programs = [
        (refused, SeccompAction::Errno(libc::EPERM as u32)),
        // Its flags are in memory, where no filter looks: glibc then makes threads by clone, whose flags are seen.
        (vec![(libc::SYS_clone3, vec![])], SeccompAction::Errno(libc::ENOSYS as u32)),
    ];
    for (rules, action) in programs {
        let filter = SeccompFilter::new(rules.into_iter().collect(), SeccompAction::Allow, action, arch);
        let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(failed)?;
        match seccompiler::apply_filter_all_threads(&program) {
            Ok(()) => {}
            Err(seccompiler::Error::Seccomp(error)) if error.raw_os_error() == Some(libc::EINVAL) => {
                report.degraded.push("this kernel has no seccomp filters: system calls are not restricted".into());
                return Ok(false);
            }
            Err(error) => return Err(SandboxError::Step { step: "seccomp", error: io::Error::other(error) }),
        }
    }
    let sockets = if needs.sockets.is_empty() { "no" } else { "few" };
    report.taken.push(format!("{count} system calls are refused, {sockets} new sockets (seccomp)"));
    Ok(true)
}

type Rules = Vec<(i64, Vec<SeccompRule>)>;

fn refused(needs: &Needs) -> Result<Rules, seccompiler::BackendError> {
    let when = |argument, op, value| SeccompCondition::new(argument, Dword, op, value);
    let mut rules: Rules = REFUSED.iter().chain(REFUSED_HERE).map(|call| (*call, Vec::new())).collect();
    // Threads, and no processes.
    let threads = libc::CLONE_THREAD as u64;
    let process = SeccompRule::new(vec![when(0, SeccompCmpOp::MaskedEq(threads), 0)?])?;
    rules.push((libc::SYS_clone, vec![process]));
    // Signals to ourselves, and to nobody else.
    for call in [libc::SYS_kill, libc::SYS_tgkill, libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo] {
        let other = SeccompRule::new(vec![when(0, SeccompCmpOp::Ne, std::process::id().into())?])?;
        rules.push((call, vec![other]));
    }
    rules.push((libc::SYS_tkill, Vec::new()));
    let families = needs.sockets.iter().map(|family| when(0, SeccompCmpOp::Ne, *family as u64));
    let families = families.collect::<Result<Vec<_>, _>>()?;
    rules.push((libc::SYS_socket, if families.is_empty() { Vec::new() } else { vec![SeccompRule::new(families)?] }));
    if !needs.bpf {
        rules.push((libc::SYS_bpf, Vec::new()));
    } else if !needs.bpf_load {
        let making = [BPF_MAP_CREATE, BPF_PROG_LOAD].map(|command| when(0, SeccompCmpOp::Eq, command));
        let making = making.into_iter().map(|condition| SeccompRule::new(vec![condition?]));
        rules.push((libc::SYS_bpf, making.collect::<Result<_, _>>()?));
    }
    Ok(rules)
}
