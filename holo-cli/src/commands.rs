//! One file a command.

mod agent;
mod allocate;
mod array;
mod completions;
mod demo;
mod dev;
mod drain;
mod gpu_worker;
mod init;
mod join;
mod leave;
mod node;
mod principal;
mod ring;
mod run;
mod shutdown;
mod status;
mod ticket;
mod version;

use std::path::Path;

use holo_client::Cluster;
use holo_core::{ErrorCode, Failure};
use holo_node::{Config, NodeSettings};

use crate::output::Output;
use crate::settings::{Flags, Settings};

pub(crate) use gpu_worker::run as gpu_worker;

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Demo(demo::Args),
    Dev(dev::Args),
    Init(init::Args),
    Join(join::Args),
    Agent(agent::Args),
    Status(status::Args),
    #[command(visible_alias = "alloc", alias = "ALLOCATE")]
    Allocate(allocate::Args),
    Array(array::Args),
    #[command(alias = "RUN")]
    Run(run::Args),
    Node(node::Args),
    #[command(alias = "DRAIN")]
    Drain(drain::Args),
    Undrain(drain::UndrainArgs),
    Ring(ring::Args),
    Ticket(ticket::Args),
    Principal(principal::Args),
    Leave(leave::Args),
    #[command(alias = "SHUTDOWN")]
    Shutdown(shutdown::Args),
    Version(version::Args),
    Completions(completions::Args),
    #[command(hide = true)]
    GpuWorker(gpu_worker::Args),
}

impl Command {
    /// Whether it runs a node, and starts its log itself.
    pub(crate) fn runs_a_node(&self) -> bool {
        matches!(self, Self::Agent(_) | Self::Init(_) | Self::Join(_))
    }
}

/// What every command gets.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where to print.
    pub(crate) output: Output,
    /// Where the cluster is.
    pub(crate) flags: Flags,
}

impl Context {
    /// Connects to the cluster that flags, variables and the user's file name.
    pub(crate) async fn connect(&self) -> Result<Cluster, Failure> {
        Settings::resolve(&self.flags)?.connect().await
    }

    /// The same for one call, which then keeps to `--timeout` with all that it takes.
    pub(crate) async fn connect_for_one_call(&self) -> Result<Cluster, Failure> {
        Settings::resolve(&self.flags)?.connect_for_one_call().await
    }

    /// As [`Self::connect`]; what nobody said comes from the directory of a node on this machine.
    pub(crate) async fn connect_beside(&self, dir: Option<&Path>) -> Result<Cluster, Failure> {
        let settings = Settings::resolve(&self.flags)?;
        match dir {
            Some(dir) => {
                let config = Config::load(dir, &NodeSettings::default())?;
                settings.beside(&config.advertise, dir).connect().await
            }
            None => settings.connect().await,
        }
    }
}

/// Runs a command to its end.
///
/// # Errors
///
/// Whatever ends the command; its code decides the exit code.
pub(crate) async fn run(command: Command, context: &Context) -> Result<(), Failure> {
    // Each future is boxed: the largest would otherwise be the size of all.
    match command {
        Command::Demo(args) => Box::pin(demo::run(args, context)).await,
        Command::Dev(args) => Box::pin(dev::run(args, context)).await,
        Command::Init(args) => Box::pin(init::run(args, context)).await,
        Command::Join(args) => Box::pin(join::run(args, context)).await,
        Command::Agent(args) => Box::pin(agent::run(args, context)).await,
        Command::Status(args) => Box::pin(status::run(args, context)).await,
        Command::Allocate(args) => Box::pin(allocate::run(args, context)).await,
        Command::Array(args) => Box::pin(array::run(args, context)).await,
        Command::Run(args) => Box::pin(run::run(args, context)).await,
        Command::Node(args) => Box::pin(node::run(args, context)).await,
        Command::Drain(args) => Box::pin(drain::run(args, context)).await,
        Command::Undrain(args) => Box::pin(drain::run_undrain(args, context)).await,
        Command::Ring(args) => Box::pin(ring::run(args, context)).await,
        Command::Ticket(args) => Box::pin(ticket::run(args, context)).await,
        Command::Principal(args) => Box::pin(principal::run(args, context)).await,
        Command::Leave(args) => Box::pin(leave::run(args, context)).await,
        Command::Shutdown(args) => Box::pin(shutdown::run(args, context)).await,
        Command::Version(args) => version::run(&args, context),
        Command::Completions(args) => completions::run(&args, context),
        Command::GpuWorker(_) => {
            Err(Failure::new(ErrorCode::Internal, "the GPU worker runs without an async runtime"))
        }
    }
}

/// Asks before something is destroyed.
///
/// # Errors
///
/// [`ErrorCode::InvalidArgument`] when nobody can be asked and nobody said `--yes`, [`ErrorCode::Cancelled`] when the
/// answer is no.
pub(crate) fn confirm(context: &Context, yes: bool, question: &str) -> Result<(), Failure> {
    use std::io::IsTerminal;
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(
            ErrorCode::InvalidArgument,
            format!("{question} Nobody can answer: standard input is no terminal"),
        )
        .help("give --yes to do it without a question"));
    }
    context.output.warn(&format!("{question} Type yes to go on:"));
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    match read {
        Ok(_) if answer.trim().eq_ignore_ascii_case("yes") => Ok(()),
        Ok(_) => Err(Failure::new(ErrorCode::Cancelled, "not done: the answer was not yes")),
        Err(source) => Err(Failure::new(ErrorCode::Cancelled, format!("not done: {source}"))),
    }
}
