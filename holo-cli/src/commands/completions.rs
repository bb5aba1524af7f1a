//! `holo completions`.

use clap::CommandFactory;
use holo_core::Failure;

use super::Context;

/// Print a script that completes `holo` on the command line of a shell
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  holo completions bash > ~/.local/share/bash-completion/completions/holo"
)]
pub(crate) struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::Cli::command(), "holo", &mut script);
    context.output.data(String::from_utf8_lossy(&script).trim_end());
    Ok(())
}
