//! `holo allocate`.

use holo_core::{DType, Failure, Shape};

use super::Context;
use super::array::Described;
use crate::argument::argument;

/// Make a shared array of zeros
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  holo allocate demo/a --shape 1000,1000 --dtype float64
  holo allocate demo/mask --like demo/a --dtype bool
  holo allocate demo/safe --shape 1000000 --dtype float64 --replicas 3 --min-in-sync 2
  holo ALLOCATE demo/b --shape 100_000_000 --dtype int64

Zeros take no memory until something is written over them. An array made --like another has its shards on the same
nodes, so one expression can use both. A write is acknowledged when every copy in sync has it; when nodes die, it goes on
with those that are left, down to --min-in-sync.")]
pub(crate) struct Args {
    /// Name: letters, digits, _ - . in segments parted by /
    name: String,
    /// Extents, outermost first: 1000 or 1000,1000 [default: those of --like]
    #[arg(long, required_unless_present = "like")]
    shape: Option<String>,
    /// Type of the elements: bool, int8 to int64, uint8 to uint64, float32, float64
    #[arg(long, value_parser = argument(DType::parse))]
    dtype: DType,
    /// An array to lie beside
    #[arg(long, value_name = "NAME")]
    like: Option<String>,
    /// Elements of a shard [default: 524288]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    shard_elems: Option<u64>,
    /// Copies of every shard, each on another node [default: 2, or 1 on a single node]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    replicas: Option<u32>,
    /// Copies in sync without which nothing is written [default: 1]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    min_in_sync: Option<u32>,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let shape = args.shape.as_deref().map(Shape::parse).transpose()?;
    let cluster = context.connect().await?;
    let mut builder = cluster.array(&args.name);
    if let Some(shape) = &shape {
        builder = builder.shape(shape.dims());
    }
    if let Some(like) = &args.like {
        builder = builder.like(like);
    }
    if let Some(elems) = args.shard_elems {
        builder = builder.shard_elems(elems);
    }
    if let Some(copies) = args.replicas {
        builder = builder.replicas(copies);
    }
    if let Some(copies) = args.min_in_sync {
        builder = builder.min_in_sync(copies);
    }
    let array = builder.create_any(args.dtype).await?;
    let described = Described::from(array.descriptor());
    if context.output.is_json() {
        context.output.json(&described);
    } else {
        context.output.data(&format!("allocated {described}"));
    }
    Ok(())
}
