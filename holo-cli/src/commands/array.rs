//! `holo array`: what one does with arrays besides computing.

mod elements;
mod get;
mod info;
mod ls;
mod put;
mod rm;
mod target;
mod text;

use std::fmt;

use holo_core::{ArrayDescriptor, Failure};
use serde::Serialize;

use super::Context;
use crate::quantity;

/// List, look at, read, write and remove arrays
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  holo array ls
  holo array get 'demo/a[0:10, ::2]'
  holo array put demo/a --in data.npy")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Ls(ls::Args),
    Info(info::Args),
    Get(get::Args),
    Put(put::Args),
    Rm(rm::Args),
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.command {
        Command::Ls(args) => ls::run(args, context).await,
        Command::Info(args) => info::run(args, context).await,
        Command::Get(args) => Box::pin(get::run(args, context)).await,
        Command::Put(args) => Box::pin(put::run(args, context)).await,
        Command::Rm(args) => rm::run(args, context).await,
    }
}

/// An array as the command shows it; the placement key stays inside.
#[derive(Debug, Serialize)]
pub(crate) struct Described {
    pub(crate) name: String,
    pub(crate) id: u64,
    pub(crate) dtype: &'static str,
    pub(crate) shape: Vec<u64>,
    pub(crate) elems: u64,
    pub(crate) bytes: u64,
    pub(crate) shards: u64,
    pub(crate) shard_elems: u64,
    pub(crate) colocation: u64,
    pub(crate) replicas: u8,
    pub(crate) min_in_sync: u8,
    pub(crate) created_unix_ms: u64,
    #[serde(skip)]
    pub(crate) shape_text: String,
}

impl From<&ArrayDescriptor> for Described {
    fn from(array: &ArrayDescriptor) -> Self {
        let layout = &array.layout;
        Self {
            name: array.name.as_str().to_owned(),
            id: array.id.0,
            dtype: layout.dtype().name(),
            shape: layout.shape().dims().to_vec(),
            elems: layout.elems(),
            bytes: layout.bytes(),
            shards: layout.shards(),
            shard_elems: layout.shard_elems(),
            colocation: array.colocation.0,
            replicas: array.class().replicas,
            min_in_sync: array.class().min_in_sync,
            created_unix_ms: array.created.0,
            shape_text: layout.shape().to_string(),
        }
    }
}

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} {}, {} in {}, {}",
            self.name,
            self.dtype,
            self.shape_text,
            quantity::bytes(self.bytes),
            quantity::counted(self.shards, "shard"),
            quantity::copies(u64::from(self.replicas)),
        )
    }
}
