//! `holo ring accept-loss`.

use holo_core::Failure;
use holo_core::wire::LossReport;
use serde::Serialize;

use super::Context;
use crate::commands::confirm;
use crate::members;
use crate::quantity;

/// Give up data whose last copy has died: those parts of arrays start anew, as zeros
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  holo ring accept-loss --plan
  holo ring accept-loss

Until then they are neither read nor written (HC1502). What may still come back, from a node that is off or from its
disk, is left alone; `holo node evict NODE --accept-loss` gives up what only that node has. Exit code 6 when nothing is
lost.")]
pub(super) struct Args {
    /// Only show what is lost
    #[arg(long)]
    plan: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Serialize)]
struct Loss {
    /// Groups whose last copy has died.
    groups: u64,
    /// Arrays with data in them.
    arrays: Vec<String>,
    /// Groups that nobody serves, and that may come back.
    groups_awaited: u64,
    /// With these nodes.
    waits_for: Vec<String>,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let cluster = context.connect().await?;
    let plan = cluster.plan_loss().await?;
    let loss = Loss::from(&plan);
    if args.plan {
        if context.output.is_json() {
            context.output.json(&loss);
        } else {
            context.output.data(&loss.in_words());
        }
        return Ok(());
    }
    if plan.groups == 0 {
        // It refuses, and says why. What was lost meanwhile is not what this plan stands for: it refuses that, too.
        return cluster.accept_loss(&plan).await.map(drop).map_err(Failure::from);
    }
    let question = format!(
        "Give up parts of {}, {} in all? They will read as zeros.",
        members::listed(&loss.arrays),
        quantity::counted(loss.groups, "group")
    );
    confirm(context, args.yes, &question)?;
    let given_up = Loss::from(&cluster.accept_loss(&plan).await?);
    if context.output.is_json() {
        context.output.json(&given_up);
        return Ok(());
    }
    let groups = quantity::counted(given_up.groups, "group");
    context
        .output
        .data(&format!("gave up {groups}: parts of {}", members::listed(&given_up.arrays)));
    if given_up.groups_awaited > 0 {
        context.output.note(&given_up.waiting());
    }
    Ok(())
}

impl From<&LossReport> for Loss {
    fn from(report: &LossReport) -> Self {
        Self {
            groups: report.groups,
            arrays: report.arrays.clone(),
            groups_awaited: report.groups_awaited,
            waits_for: report.waits_for.clone(),
        }
    }
}

impl Loss {
    fn in_words(&self) -> String {
        let lost = match self.groups {
            0 => "nothing is lost".to_owned(),
            groups => format!(
                "{}, with parts of {}, lost their last copy",
                quantity::counted(groups, "group"),
                members::listed(&self.arrays)
            ),
        };
        match self.groups_awaited {
            0 => lost,
            _ => format!("{lost}; {}", self.waiting()),
        }
    }

    fn waiting(&self) -> String {
        format!(
            "{} may come back with {}",
            quantity::counted(self.groups_awaited, "group"),
            members::listed(&self.waits_for)
        )
    }
}
