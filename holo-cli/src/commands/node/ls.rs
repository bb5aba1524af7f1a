//! `holo node ls`.

use holo_core::Failure;
use serde::Serialize;

use super::Context;
use crate::members;
use crate::table::Table;

/// List the nodes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  holo node ls\n  holo node ls -o jsonl")]
pub(super) struct Args {}

#[derive(Serialize)]
struct Node {
    name: String,
    id: String,
    number: u32,
    address: String,
    zone: String,
    weight: f64,
    state: String,
    up: bool,
    primaries: u64,
    backups: u64,
}

pub(super) async fn run(_args: &Args, context: &Context) -> Result<(), Failure> {
    let cluster = context.connect().await?;
    let view = cluster.view();
    let rows = view.members().iter().zip(members::copies(&view)).map(|(view, copies)| Node {
        name: view.member.name.clone(),
        id: view.member.node.to_string(),
        number: view.number.0,
        address: view.member.address.clone(),
        zone: view.member.zone.clone(),
        weight: f64::from(view.member.weight_milli) / 1000.0,
        state: view.state.clone(),
        up: view.up,
        primaries: copies.0,
        backups: copies.1,
    });
    let rows: Vec<Node> = rows.collect();
    if context.output.is_json() {
        context.output.json_rows("nodes", &rows);
        return Ok(());
    }
    let mut table = Table::new(&[
        "name", "id", "address", "zone", ">weight", "state", "", ">primary", ">backup",
    ]);
    for row in rows {
        let zone = if row.zone.is_empty() { "-".to_owned() } else { row.zone };
        let up = if row.up { "up" } else { "down" };
        let (weight, short) = (row.weight.to_string(), row.id.chars().take(8).collect());
        let (primaries, backups) = (row.primaries.to_string(), row.backups.to_string());
        table.row([
            row.name,
            short,
            row.address,
            zone,
            weight,
            row.state,
            up.to_owned(),
            primaries,
            backups,
        ]);
    }
    context.output.data(&table.render(context.output.color()));
    Ok(())
}
