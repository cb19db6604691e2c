//! `--user`, `--no-sandbox`: what the process keeps once its ports run.

use std::path::PathBuf;

use clap::Args;
use netpoll::{
    config::{SecurityPlan, UserName},
    engine::Engine,
    sandbox::{Sandbox, User},
};

/// What every command that runs for long takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Security")]
pub(super) struct SandboxArgs {
    /// Become this user once the ports run, with --out its own to write: `netpoll`, `netpoll:adm`, `1000:4`
    #[arg(long, value_name = "USER[:GROUP]", value_parser = user)]
    user: Option<UserName>,
    /// Keep all rights. Without this the process gives up what its ports do not need: capabilities, other files than its
    /// own, system calls.
    #[arg(long)]
    no_sandbox: bool,
}

fn user(text: &str) -> Result<UserName, String> {
    UserName::parse(text).ok_or_else(|| format!("expected {}", UserName::EXPECTED))
}

impl SandboxArgs {
    /// With what the command line says before what the file says.
    pub(super) fn over(&self, plan: &SecurityPlan) -> SandboxArgs {
        SandboxArgs {
            user: self.user.clone().or_else(|| plan.user.clone()),
            no_sandbox: self.no_sandbox || !plan.sandbox,
        }
    }

    /// Gives up what is not needed from here on: the engine's ports run, and files are opened after this.
    pub(super) fn apply(
        &self,
        engine: &Engine,
        writable: impl IntoIterator<Item = PathBuf>,
        readable: impl IntoIterator<Item = PathBuf>,
    ) -> anyhow::Result<()> {
        let find = |name: &UserName| User::find(&name.user, name.group.as_deref());
        let user = self.user.as_ref().map(find).transpose()?;
        let mut sandbox = Sandbox::new().user(user).open(self.no_sandbox).real_time(engine.is_real_time());
        for port in engine.ports() {
            if let Some((info, _)) = engine.device(&port) {
                sandbox = sandbox.port(&info);
            }
        }
        sandbox = writable.into_iter().fold(sandbox, Sandbox::writable);
        sandbox = readable.into_iter().fold(sandbox, Sandbox::readable);
        let report = sandbox.apply()?;
        report.taken.iter().for_each(|step| tracing::info!("sandbox: {step}"));
        report.degraded.iter().for_each(|step| tracing::warn!("sandbox: {step}"));
        if self.no_sandbox {
            tracing::info!("sandbox: none, as asked for");
        }
        Ok(())
    }
}
