//! `holo node ls`.

use holo_client::Cluster;
use holo_core::{ErrorCode, Failure};

use super::Context;
use crate::commands::status;
use crate::members::{self, Row};
use crate::table::Table;

/// List the nodes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  holo node ls
  holo node ls -o jsonl

Ends with exit code 8 when the catalog has no quorum: then the list is the last that was agreed on, and nobody says who of
them is still up. `holo status` asks each of them.")]
pub(super) struct Args {}

pub(super) async fn run(_args: &Args, context: &Context) -> Result<(), Failure> {
    let cluster = context.connect().await?;
    let agreed = agreed(&cluster).await;
    let view = cluster.view();
    let rows = view.members().iter().zip(members::copies(&view));
    let mut rows: Vec<Row> = rows.map(|(view, copies)| Row::new(view, copies)).collect();
    members::sort_by_name(&mut rows, |row| &row.name);
    if context.output.is_json() {
        context.output.json_rows("nodes", &rows);
        return agreed;
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
    agreed
}

/// Whether the catalog agrees on anything at present: a node's view stays as it was while it does not.
async fn agreed(cluster: &Cluster) -> Result<(), Failure> {
    let asked = cluster.with_deadline(status::CATALOG_WITHIN).report().await;
    asked.map_or_else(|error| unagreed(&Failure::from(error)), |_| Ok(()))
}

/// What a missing word of the catalog's leader means for the list.
fn unagreed(failure: &Failure) -> Result<(), Failure> {
    if matches!(failure.code, ErrorCode::Denied | ErrorCode::Unauthenticated) {
        // Whoever may not ask how the cluster is may have the list all the same.
        return Ok(());
    }
    Err(status::no_quorum(failure).help(
        "the list is the last that was agreed on, and who is up may have changed since; `holo status` asks each node",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes that stood still were listed as up, with exit code 0.
    #[test]
    fn a_list_without_a_quorum_says_that_it_is_old() {
        let silent = Failure::new(ErrorCode::DeadlineExceeded, "n1 said nothing for 3 s");
        let said = unagreed(&silent).unwrap_err();
        assert_eq!((said.code, said.code.exit_code()), (ErrorCode::NoQuorum, 8));
        assert!(said.help.unwrap().contains("`holo status`"));
        assert_eq!(unagreed(&Failure::new(ErrorCode::Denied, "no status for you")), Ok(()));
    }
}
