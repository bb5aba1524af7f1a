//! `holo array info`.

use holo_core::placement::MemberView;
use holo_core::{Failure, ShardIndex};
use serde::Serialize;

use super::{Context, Described};
use crate::quantity;
use crate::table::Table;

/// Shards counted at most; beyond them the shares of the nodes are those of the ring anyway.
const SHARDS_COUNTED_MAX: u64 = 1 << 20;

/// Show all about one array, and which nodes hold how much of it
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  holo array info demo/a")]
pub(crate) struct Args {
    /// The array
    name: String,
}

#[derive(Serialize)]
struct Info {
    #[serde(flatten)]
    array: Described,
    /// Shards that died with their last copy.
    lost_shards: u64,
    nodes: Vec<Share>,
}

#[derive(Serialize)]
struct Share {
    name: String,
    id: String,
    /// Shards that it orders the writes of.
    shards: u64,
    bytes: u64,
    /// Shards that it holds a further copy of.
    backups: u64,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let cluster = context.connect().await?;
    let array = cluster.open_any(&args.name).await?;
    let view = cluster.view();
    let mut nodes: Vec<Share> = view
        .members()
        .iter()
        .map(|MemberView { member, .. }| Share {
            name: member.name.clone(),
            id: member.node.to_string(),
            shards: 0,
            bytes: 0,
            backups: 0,
        })
        .collect();
    let mut lost = 0;
    for shard in (0..array.layout().shards().min(SHARDS_COUNTED_MAX)).map(ShardIndex) {
        let partition = view.partition_of(array.descriptor(), shard);
        let mut holders = view.holders(array.descriptor().class(), partition).iter();
        let Some(primary) = holders.next() else {
            lost += 1;
            continue;
        };
        nodes[usize::from(*primary)].shards += 1;
        nodes[usize::from(*primary)].bytes += array.layout().bytes_in_shard(shard);
        for backup in holders {
            nodes[usize::from(*backup)].backups += 1;
        }
    }
    let info = Info { array: Described::from(array.descriptor()), lost_shards: lost, nodes };
    if context.output.is_json() {
        context.output.json(&info);
    } else {
        context.output.data(&in_words(&info, context.output.color()));
    }
    Ok(())
}

fn in_words(info: &Info, color: bool) -> String {
    let array = &info.array;
    let lost = match info.lost_shards {
        0 => String::new(),
        lost => format!("LOST        {}\n", quantity::counted(lost, "shard")),
    };
    let mut text = format!(
        "name        {}\nid          {}\ndtype       {}\nshape       {}\nelements    {}\nsize        {}\n\
         shards      {} of {} elements\ncopies      {}, writes need {}\ncolocation  {}\n{lost}\n",
        array.name,
        array.id,
        array.dtype,
        array.shape_text,
        quantity::count(array.elems),
        quantity::bytes(array.bytes),
        quantity::count(array.shards),
        quantity::count(array.shard_elems),
        array.replicas,
        array.min_in_sync,
        array.colocation,
    );
    let mut table = Table::new(&["node", "id", ">shards", ">size", ">backups"]);
    for node in &info.nodes {
        let short: String = node.id.chars().take(8).collect();
        table.row([
            node.name.clone(),
            short,
            quantity::count(node.shards),
            quantity::bytes(node.bytes),
            quantity::count(node.backups),
        ]);
    }
    text.push_str(&table.render(color));
    text
}
