//! `holo allocate`.

use holo_client::{AnyArray, Cluster};
use holo_core::wire::SettingsBody;
use holo_core::{DType, Failure, Shape};

use super::Context;
use super::array::Described;
use crate::argument::argument;
use crate::commands::status::CATALOG_WITHIN;
use crate::quantity;

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
    /// Copies of every shard, each on another node, for good [default: 2, or 1 while a single node is in service]
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
    if args.replicas.is_none() && args.like.is_none() {
        tell_fewer_copies(&cluster, &array, context).await;
    }
    Ok(())
}

/// Says of an array that was made with copies by default when they are fewer than this cluster makes where it can: it
/// keeps that number for good. Whoever may not see the settings hears nothing.
pub(super) async fn tell_fewer_copies(cluster: &Cluster, array: &AnyArray, context: &Context) {
    let asked = cluster.with_deadline(CATALOG_WITHIN);
    let Ok(settings) = asked.settings(SettingsBody::default()).await else { return };
    let copies = array.descriptor().class().replicas;
    let usual = settings.replicas_default.unwrap_or_default();
    if let Some(words) = fewer_copies(array.name(), u32::from(copies), usual) {
        context.output.note(&words);
    }
}

fn fewer_copies(name: &str, copies: u32, usual: u32) -> Option<String> {
    if copies >= usual {
        return None;
    }
    let in_service = match copies {
        1 => "only one node is in service".to_owned(),
        some => format!("only {some} nodes are in service"),
    };
    Some(format!(
        "note: {name} has {}, and keeps that number, where {usual} are the default: {in_service} now; for {usual} remove it and make it again once there are as many (`holo undrain`, `holo join`)",
        quantity::copies(u64::from(copies))
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// While all other nodes were drained an array was made with one copy for good, and nobody said so.
    #[test]
    fn an_array_with_fewer_copies_than_by_default_is_told_with_the_reason() {
        let said = fewer_copies("data/q", 1, 2).unwrap();
        assert!(said.starts_with("note: data/q has 1 copy, and keeps that number"), "{said}");
        assert!(said.contains("only one node is in service"), "{said}");
        assert!(said.contains("make it again once there are as many"), "{said}");
        assert!(fewer_copies("a", 2, 3).unwrap().contains("only 2 nodes are in service"));
        assert_eq!(fewer_copies("a", 2, 2), None);
        assert_eq!(fewer_copies("a", 3, 2), None);
    }
}
