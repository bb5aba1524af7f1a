//! `holo array ls`.

use holo_core::Failure;

use super::{Context, Described};
use crate::quantity;
use crate::table::Table;

/// List the arrays that you may read
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  holo array ls\n  holo array ls demo/ -o jsonl")]
pub(crate) struct Args {
    /// Only arrays whose names start like this
    #[arg(default_value = "", hide_default_value = true)]
    prefix: String,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let cluster = context.connect().await?;
    let arrays = cluster.arrays().await?;
    let rows: Vec<Described> = arrays
        .iter()
        .filter(|array| array.name().starts_with(&args.prefix))
        .map(|array| Described::from(array.descriptor()))
        .collect();
    if context.output.is_json() {
        context.output.json_rows("arrays", &rows);
        return Ok(());
    }
    if rows.is_empty() {
        context
            .output
            .note("no arrays; make one with `holo allocate NAME --shape N --dtype float64`");
        return Ok(());
    }
    let mut table = Table::new(&["name", "dtype", "shape", ">size", ">shards", ">copies"]);
    for row in rows {
        table.row([
            row.name,
            row.dtype.to_owned(),
            row.shape_text,
            quantity::bytes(row.bytes),
            quantity::count(row.shards),
            row.replicas.to_string(),
        ]);
    }
    context.output.data(&table.render(context.output.color()));
    Ok(())
}
