//! `holo array rm`.

use holo_core::Failure;

use super::super::confirm;
use super::Context;

/// Remove an array and free its memory
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  holo array rm demo/a --yes")]
pub(crate) struct Args {
    /// The array
    name: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    // Asked before anybody connects: a script without --yes fails the same way everywhere.
    confirm(context, args.yes, &format!("Remove array {} and all its elements?", args.name))?;
    let cluster = context.connect().await?;
    cluster.remove(&args.name).await?;
    context.output.note(&format!("removed {}", args.name));
    Ok(())
}
