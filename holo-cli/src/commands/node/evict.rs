//! `holo node evict`.

use holo_core::Failure;
use holo_core::wire::{NodeOrder, NodeOrderKind};
use serde::Serialize;

use super::{Context, order};
use crate::commands::confirm;
use crate::members;
use crate::quantity;

/// Put a node out of the cluster, dead or alive
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  holo node evict n2 --plan
  holo node evict n2

For a node that will not come back: its key is never let in again. What it held is copied anew from the other replicas.
It is refused when the node has the last copy of something, and the arrays are named; --accept-loss gives those parts up:
they read as zeros afterwards. To take a living node out in order, use `holo leave` or `holo drain`.")]
pub(super) struct Args {
    /// The node: its name, or the first letters of its name or id
    node: String,
    /// Give up the data of which it has the last copy
    #[arg(long)]
    accept_loss: bool,
    /// Only show what would be lost
    #[arg(long)]
    plan: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Serialize)]
struct Plan {
    node: String,
    primaries: u64,
    backups: u64,
    /// Arrays of which it has the last copy of some part.
    last_copies: Vec<String>,
    /// Why it stays, whatever is given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    stays: Option<&'static str>,
}

#[derive(Serialize)]
struct Evicted {
    evicted: String,
    lost: Vec<String>,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let cluster = context.connect().await?;
    let view = cluster.view();
    let member = members::find(&view, &args.node)?;
    let name = member.member.name.clone();
    let last_copies = members::arrays_only_on(&cluster, &[member.member.node]).await?;
    let index = view.index_of(member.member.node).unwrap_or(usize::MAX);
    let (primaries, backups) = members::copies(&view).get(index).copied().unwrap_or_default();
    let only_voter =
        view.members().iter().all(|it| !view.votes(it.number) || it.number == member.number);
    let stays = match view.members().len() {
        1 => Some("it is the last node"),
        _ if only_voter => Some(
            "it is the only one that votes in the catalog; drain it first (`holo drain NODE --plan` says what stands in the way)",
        ),
        _ => None,
    };
    let plan = Plan { node: name.clone(), primaries, backups, last_copies, stays };
    if args.plan {
        if context.output.is_json() {
            context.output.json(&plan);
        } else {
            context.output.data(&plan.in_words(args.accept_loss));
        }
        return Ok(());
    }
    let lost = match (args.accept_loss, plan.last_copies.is_empty()) {
        (true, false) => format!(
            " Parts of {} are LOST with it and will read as zeros.",
            members::listed(&plan.last_copies)
        ),
        // Without leave to lose anything the catalog refuses where it must: it knows better than we.
        _ => String::new(),
    };
    confirm(context, args.yes, &format!("Put {name} out of the cluster for ever?{lost}"))?;
    let order = NodeOrder { accept_loss: args.accept_loss, ..order(member, NodeOrderKind::Evict) };
    cluster.change_node(order).await?;
    let what_is_true = plan.afterwards(args.accept_loss);
    let lost = if args.accept_loss { plan.last_copies } else { Vec::new() };
    if context.output.is_json() {
        context.output.json(&Evicted { evicted: name, lost });
    } else {
        context.output.data(&format!("evicted {name}: its key is never let in again"));
        context.output.note(&what_is_true);
    }
    Ok(())
}

impl Plan {
    fn in_words(&self, accept_loss: bool) -> String {
        let copies = format!("{} holds {}", self.node, self.held());
        if let Some(stays) = self.stays {
            let alone = match self.last_copies.as_slice() {
                [] => String::new(),
                arrays => {
                    format!("; it has the last copy of parts of {}", members::listed(arrays))
                }
            };
            return format!("{copies}{alone}; it cannot be put out: {stays}");
        }
        match self.last_copies.as_slice() {
            [] if self.primaries + self.backups == 0 => copies,
            [] => format!("{copies}; no data lies only there"),
            arrays if accept_loss => format!(
                "{copies}; parts of {} are lost with it and read as zeros afterwards",
                members::listed(arrays)
            ),
            arrays => format!(
                "{copies}; it has the last copy of parts of {}: only --accept-loss would put it out",
                members::listed(arrays)
            ),
        }
    }

    fn held(&self) -> String {
        if self.primaries + self.backups == 0 {
            return "nothing".to_owned();
        }
        let (primaries, backups) = (self.primaries, self.backups);
        match (primaries, backups) {
            (0, _) => format!("{} as a backup", quantity::counted(backups, "group")),
            (_, 0) => format!("{} as the primary", quantity::counted(primaries, "group")),
            _ => format!(
                "{} as the primary and {} as a backup",
                quantity::counted(primaries, "group"),
                quantity::count(backups)
            ),
        }
    }

    /// What is true once it has been put out.
    fn afterwards(&self, accept_loss: bool) -> String {
        let copies = match self.primaries + self.backups {
            0 => "it held nothing".to_owned(),
            _ => "`holo status` shows how its copies are made again on the others".to_owned(),
        };
        match self.last_copies.as_slice() {
            // Whatever it seemed to be the last to have: without leave the catalog lets nothing go.
            _ if !accept_loss => copies,
            [] => format!("nothing was lost with it: {copies}"),
            lost => {
                format!("parts of {} are lost and read as zeros; {copies}", members::listed(lost))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(last_copies: &[&str]) -> Plan {
        Plan {
            node: "n3".to_owned(),
            primaries: 2,
            backups: 1,
            last_copies: last_copies.iter().map(|&name| name.to_owned()).collect(),
            stays: None,
        }
    }

    /// It named the vote alone, when the node had the last copy of everything as well.
    #[test]
    fn whoever_cannot_be_put_out_is_said_to_have_the_last_copy_all_the_same() {
        let only_voter = Plan { stays: Some("it votes alone"), ..plan(&["demo/a"]) };
        let said = only_voter.in_words(false);
        assert!(said.contains("the last copy of parts of demo/a"), "{said}");
        assert!(said.ends_with("it cannot be put out: it votes alone"), "{said}");
        assert!(
            !Plan { stays: Some("it votes alone"), ..plan(&[]) }.in_words(false).contains("last")
        );
    }

    #[test]
    fn only_what_was_given_up_is_said_to_be_lost() {
        assert!(plan(&["demo/a"]).afterwards(true).contains("demo/a are lost"));
        // The view was old: somebody else has a copy by now, or the catalog would have refused.
        assert!(!plan(&["demo/a"]).afterwards(false).contains("lost"));
        assert!(plan(&[]).afterwards(true).contains("nothing was lost"));
    }
}
