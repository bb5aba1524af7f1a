//! `holo node ls`.

use holo_core::Failure;

use super::Context;
use crate::members::{self, Row};
use crate::table::Table;

/// List the nodes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  holo node ls\n  holo node ls -o jsonl")]
pub(super) struct Args {}

pub(super) async fn run(_args: &Args, context: &Context) -> Result<(), Failure> {
    let cluster = context.connect().await?;
    let view = cluster.view();
    let rows = view.members().iter().zip(members::copies(&view));
    let mut rows: Vec<Row> = rows.map(|(view, copies)| Row::new(view, copies)).collect();
    members::sort_by_name(&mut rows, |row| &row.name);
    if context.output.is_json() {
        context.output.json_rows("nodes", &rows);
        return Ok(());
    }
    let mut table = Table::new(&[
        "name", "id", "address", "zone", ">weight", "state", "", ">primary", ">backup",
    ]);
    for row in rows {
        let up = if row.up { "up" } else { "down" };
        table.row([
            row.name.clone(),
            row.short_id(),
            row.address.clone(),
            row.shown_zone(),
            row.weight.to_string(),
            row.state.clone(),
            up.to_owned(),
            row.primaries.to_string(),
            row.backups.to_string(),
        ]);
    }
    context.output.data(&table.render(context.output.color()));
    Ok(())
}
