//! Exit codes: 0 done, 1 failed at run time, 2 bad usage or config.

use std::process::ExitCode;

use netpoll::{
    config::ConfigError, dpdk::DpdkError, engine::EngineError, netpoll::options::OptionsError, sandbox::SandboxError,
    sink::SinkError,
};

const FAILED: u8 = 1;
const BAD_USAGE: u8 = 2;

/// What was typed cannot be meant: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Usage(pub(super) String);

/// For what clap says of the command line.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() { BAD_USAGE.into() } else { ExitCode::SUCCESS }
}

/// For a command's error.
pub(super) fn code(error: &anyhow::Error) -> ExitCode {
    if error.chain().any(is_usage) { BAD_USAGE.into() } else { FAILED.into() }
}

/// What the user typed, and not what the machine made of it.
fn is_usage(error: &(dyn std::error::Error + 'static)) -> bool {
    let dpdk = match error.downcast_ref::<EngineError>() {
        Some(EngineError::NoSuchLcore { .. } | EngineError::DuplicateName { .. }) => return true,
        Some(EngineError::Dpdk(error)) => Some(error),
        _ => error.downcast_ref::<DpdkError>(),
    };
    let typed_wrong = |error: &DpdkError| match error {
        DpdkError::Argument { .. } | DpdkError::UnknownLcore { .. } | DpdkError::LcoreNotAllowed { .. } => true,
        // EAL's own words for an argument that it does not know.
        DpdkError::EalInit { log, .. } => log.0.iter().any(|line| line.contains("Invalid 'command line' arguments")),
        _ => false,
    };
    // It does not get better by trying again.
    let reserve = matches!(error.downcast_ref::<SinkError>(), Some(SinkError::DiskTooSmall { .. }));
    let user = matches!(error.downcast_ref(), Some(SandboxError::Unknown { .. } | SandboxError::Become { .. }));
    reserve
        || user
        || dpdk.is_some_and(typed_wrong)
        || error.is::<Usage>()
        || error.is::<ConfigError>()
        || error.is::<OptionsError>()
}
