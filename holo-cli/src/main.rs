//! The `holo` command: one binary that is a node, a cluster for one afternoon, and the way to talk to both.
//!
//! A command is a file of `commands` with its doc comment, its arguments and one function. Data goes to stdout, prose
//! and progress to stderr, both through `output`; a [`Failure`] decides the exit code.

mod argument;
mod clock;
mod commands;
mod logging;
mod members;
mod output;
mod picture;
mod processes;
mod progress;
mod quantity;
mod settings;
mod signals;
mod table;

use std::process::ExitCode;

use clap::Parser;
use holo_core::{ErrorCode, Failure};

use crate::commands::{Command, Context};
use crate::output::{Format, Output};

/// Shared memory and sandboxed compute over a handful of machines.
#[derive(Debug, Parser)]
#[command(
    name = "holo",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  holo demo                                   see all of it in a minute
  holo dev                                    keep a cluster on this machine running
  holo init --name lab --listen 10.0.0.1:7400 found a cluster; it prints the `holo join` line for the others
  holo status --watch
  holo allocate demo/a --shape 1000000 --dtype float64
  holo run --expr 'sqrt(x*x + 1)' --in x=demo/a --out demo/b
  holo array get 'demo/b[0:10]'

Settings: flag, then HOLO_* variable, then ~/.config/holo/config.toml (cluster, identity, timeout), then the default.
HOLO_LOG=debug shows on stderr what happens inside. With -o json, data on stdout and errors on stderr are JSON.
Exit codes: 0 ok, 1 unexpected, 2 usage, 3 not found, 4 unauthenticated, 5 denied, 6 conflict, 7 quota or capacity,
  8 no quorum, 9 timeout or unreachable, 10 integrity, 11 version, 20 task failed, 21 task hit a limit, 22 cancelled."
)]
struct Cli {
    #[command(flatten)]
    cluster: settings::Flags,
    #[command(flatten)]
    presentation: Presentation,
    #[command(subcommand)]
    command: Command,
}

/// How to talk to whoever called us.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
struct Presentation {
    /// How data is printed
    #[arg(short, long, global = true, env = "HOLO_OUTPUT", value_enum, default_value_t = Format::Table, hide_env_values = true)]
    output: Format,
    /// Say nothing but data and errors
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Use no colour, even on a terminal (NO_COLOR does the same)
    #[arg(long, global = true)]
    no_color: bool,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(argument::whole_cluster(std::env::args_os())) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    if let Command::GpuWorker(_) = cli.command {
        return commands::gpu_worker();
    }
    let output =
        Output::new(cli.presentation.output, cli.presentation.quiet, cli.presentation.no_color);
    let context = Context { output, flags: cli.cluster };
    let ended = run(cli.command, &context).and_then(|()| context.output.finish());
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            context.output.failure(&failure);
            ExitCode::from(failure.code.exit_code())
        }
    }
}

fn run(command: Command, context: &Context) -> Result<(), Failure> {
    // One thread for all of the network: a request that hops between threads waits for an idle core to wake up each
    // time, which more than doubles its latency. Kernels have threads of their own.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|source| {
            Failure::new(ErrorCode::Internal, format!("cannot start the async runtime: {source}"))
        })?;
    if !command.runs_a_node() {
        logging::start(&context.output, None)?;
    }
    runtime.block_on(commands::run(command, context))
}

/// Help and version are data; anything else is a mistake of the caller.
fn usage(error: &clap::Error) -> ExitCode {
    // Nothing sensible is left to do when the terminal is gone.
    error.print().ok();
    ExitCode::from(
        u8::try_from(error.exit_code()).unwrap_or_else(|_| ErrorCode::InvalidArgument.exit_code()),
    )
}
