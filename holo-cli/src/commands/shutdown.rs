//! `holo shutdown`.

mod ended;
mod whole;

use std::time::Duration;

use holo_client::{Cluster, ClusterView, MemberView};
use holo_core::{ErrorCode, Failure, NodeId};
use serde::Serialize;

use self::ended::Left;
use super::{Context, confirm, drain};
use crate::clock::{Deadline, pause};
use crate::members;

/// How long the others may take to notice that a node is off: more than its silence until it counts as down.
const JUDGED_WITHIN: Duration = Duration::from_secs(10);
/// Time between two looks at whether they have.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Stop one node or all of them
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "holo shutdown [OPTIONS] --node <NODE>\n       holo shutdown [OPTIONS] --all",
    after_help = "\
Examples:
  holo shutdown --node n2
  holo shutdown --node n2 --plan
  holo shutdown --node n2 --now
  holo shutdown --cluster
  holo shutdown --cluster --cancel
  holo shutdown --cluster --now

A node is drained before it stops, so that nothing is lost and nothing has fewer copies; it stays a member, and
`holo agent` and `holo undrain` bring it back. With --now it is not drained: its copies are missing until others are
made, and what only it holds is away until `holo agent` starts it again. It writes that to its disk before its process
ends, however long it takes; do not switch its machine off before.

A cluster takes no writes any more, its nodes write all that they hold to disk, encrypted, and stop; nothing is lost.
`holo agent` on each of them starts it again, with everything in it; --cancel takes it back while they still write. With
--now nobody sees to it that everything is on disk before the first of them stops; each writes what it holds on its way
out. A cluster of `holo dev` lives in memory only: its data goes with it."
)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub(crate) struct Args {
    /// The node: its name, or the first letters of its name or id
    #[arg(long, value_name = "NODE", group = "which")]
    node: Option<String>,
    /// Every node; `--cluster` with no addresses behind it says the same
    #[arg(long, group = "which")]
    all: bool,
    /// Stop at once, without moving anything away
    #[arg(long)]
    now: bool,
    /// Let the cluster go on after all, while its nodes still write
    #[arg(long, conflicts_with_all = ["now", "plan", "node"])]
    cancel: bool,
    /// Only show what would be done
    #[arg(long)]
    plan: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Serialize)]
struct Stopped {
    /// Nodes whose processes have ended.
    stopped: Vec<String>,
    /// Nodes that were told to stop, and of which nothing can be seen from here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    told: Vec<String>,
}

/// What stopping at once would cost.
#[derive(Serialize)]
struct Cost {
    nodes: Vec<String>,
    /// Arrays of which parts lie on these nodes alone, and in memory only.
    lost: Vec<String>,
    /// Arrays of which parts lie on these nodes alone, which write them down.
    away: Vec<String>,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let cluster = context.connect().await?;
    let view = cluster.view();
    let whole = !args.now && args.node.is_none();
    let begins_close = whole && !args.cancel;
    if begins_close {
        // Without a leader nothing of it could be done, and a cluster that lives in memory only cannot do it: that is
        // said before anybody is looked for or asked.
        refuse_close(&cluster).await?;
    }
    let nodes: Vec<&MemberView> = match &args.node {
        Some(wanted) => vec![members::find(&view, wanted)?],
        None => {
            let (off, running) = running(&cluster, &view).await;
            if begins_close && !off.is_empty() {
                // They may have been found to be off only now.
                refuse_close(&cluster).await?;
            }
            for node in off {
                context.output.note(&off_in_words(&node.member.name, args.now));
            }
            running
        }
    };
    if !args.now
        && let [node] = nodes.as_slice()
        && args.node.is_some()
    {
        return in_order(&cluster, node, &args, context).await;
    }
    if whole {
        return whole::run(&cluster, &nodes, &args, context).await;
    }
    let cost = Cost::of(&cluster, &nodes).await?;
    if args.plan {
        show(&cost, context);
        return Ok(());
    }
    let names = cost.nodes.join(", ");
    confirm(context, args.yes, &format!("Stop {names} at once? {}", cost.in_words()))?;
    context.output.note(&format!("stopping {names}: {}", cost.in_words()));
    let (told, refused) = stop_all(&cluster, &nodes).await;
    let unseen = ended::until_ended(&told, Left::Writing, context).await?;
    let names = told.iter().map(|node| node.member.name.clone()).collect();
    done(names, unseen, context);
    refused.map_or(Ok(()), Err)
}

/// Drains the node first.
async fn in_order(
    cluster: &Cluster,
    node: &MemberView,
    args: &Args,
    context: &Context,
) -> Result<(), Failure> {
    let name = &node.member.name;
    let plan = drain::plan(cluster, node).await?;
    if args.plan {
        drain::show_plan(&plan, context);
        return plan.refusal();
    }
    if !plan.is_over() {
        drain::tell_warnings(&plan.warnings, context);
        plan.refusal().map_err(|failure| match failure.code {
            ErrorCode::DrainRefused | ErrorCode::OutOfCapacity => {
                let help = failure.help.clone().unwrap_or_default();
                failure.help(format!(
                    "{help}; or stop it at once with --now, which says what is away then"
                ))
            }
            _ => failure,
        })?;
        confirm(context, args.yes, &format!("Drain and stop {name}? {}.", plan.in_words()))?;
        drain::begin(cluster, node, None).await?;
        drain::follow(cluster, node, &plan.warnings, None, context).await?;
    } else {
        confirm(context, args.yes, &format!("Stop {name}? It is drained and holds nothing."))?;
    }
    stop(cluster, node).await?;
    let unseen = ended::until_ended(&[node], Left::Nothing, context).await?;
    done(vec![name.clone()], unseen, context);
    context.output.note(&format!(
        "it stays a member: `holo agent --dir DIR` starts it again and `holo undrain {name}` gives it its share"
    ));
    Ok(())
}

/// The members that are off already, and the others. Those do not answer, and the others miss them too. One that is only
/// silent towards us counts as running, and the attempt to stop it says what is wrong.
async fn running<'a>(
    cluster: &Cluster,
    view: &'a ClusterView,
) -> (Vec<&'a MemberView>, Vec<&'a MemberView>) {
    let asked = cluster.status().await;
    let silent: Vec<NodeId> = asked
        .iter()
        .filter(|status| {
            status.outcome.as_ref().is_err_and(|error| members::is_silence(error.code()))
        })
        .map(|status| status.member.node)
        .collect();
    let missed = missed_by_all(cluster, &silent).await;
    let mut members: Vec<&MemberView> = view.members().iter().collect();
    members::sort_by_name(&mut members, |it| &it.member.name);
    members.into_iter().partition(|it| missed.contains(&it.member.node))
}

/// What a node that is off means for a stop of the others: in order, it is refused where the node has the last copy of
/// something.
fn off_in_words(name: &str, now: bool) -> String {
    match now {
        true => format!("{name} is off already: what only it held is not there"),
        false => format!("{name} is off already: the others have copies of all that it held"),
    }
}

/// Whether the nodes write nothing down when they stop. Where nobody says, the worst is assumed.
async fn lives_in_memory(cluster: &Cluster) -> bool {
    match cluster.watch_close().await {
        Ok(report) => {
            report.refusal.is_some_and(|refusal| Failure::from(refusal).code == ErrorCode::NotYet)
        }
        Err(_) => true,
    }
}

/// Whether the cluster would stop in order.
///
/// # Errors
///
/// What stands in the way, and those of asking.
async fn refuse_close(cluster: &Cluster) -> Result<(), Failure> {
    let refusal = cluster.watch_close().await?.refusal;
    refusal.map_or(Ok(()), |refusal| Err(refusal.into()))
}

/// Which of these nodes the cluster has found to be down; waits as long as it may take to find that out.
async fn missed_by_all(cluster: &Cluster, silent: &[NodeId]) -> Vec<NodeId> {
    let deadline = Deadline::after(JUDGED_WITHIN);
    loop {
        // Without an answer nobody judges; then the last view counts.
        let view = match cluster.refresh().await {
            Ok(view) => view,
            Err(_) => cluster.view(),
        };
        let is_down = |node: &&NodeId| {
            !view.members().iter().any(|member| member.member.node == **node && member.up)
        };
        let down: Vec<NodeId> = silent.iter().filter(is_down).copied().collect();
        if down.len() == silent.len() || deadline.is_past() {
            return down;
        }
        pause(LOOK_INTERVAL).await;
    }
}

/// Stops the nodes; one that refuses does not keep the others. Gives those that were told, and the first refusal.
async fn stop_all<'a>(
    cluster: &Cluster,
    nodes: &[&'a MemberView],
) -> (Vec<&'a MemberView>, Option<Failure>) {
    let (mut told, mut refused) = (Vec::new(), None);
    for node in nodes {
        match stop(cluster, node).await {
            Ok(()) => told.push(*node),
            Err(failure) => refused = refused.or(Some(failure)),
        }
    }
    (told, refused)
}

async fn stop(cluster: &Cluster, node: &MemberView) -> Result<(), Failure> {
    let Err(error) = cluster.shutdown(node.member.node, true).await else { return Ok(()) };
    match error.code() {
        // The node may be gone before its reply is out, or have been told by somebody else.
        ErrorCode::ShuttingDown | ErrorCode::ConnectionLost => Ok(()),
        _ => Err(Failure::from(error).context(format!("node {}", node.member.name))),
    }
}

/// Says of nodes that they have stopped, but for those whose end was not seen.
fn done(mut names: Vec<String>, unseen: Vec<String>, context: &Context) {
    names.retain(|name| !unseen.contains(name));
    if context.output.is_json() {
        context.output.json(&Stopped { stopped: names, told: unseen });
        return;
    }
    if !names.is_empty() {
        context.output.data(&format!("stopped {}", names.join(", ")));
    }
    if !unseen.is_empty() {
        context.output.data(&format!("told to stop: {}", unseen.join(", ")));
    }
}

fn show(cost: &Cost, context: &Context) {
    if context.output.is_json() {
        context.output.json(cost);
    } else {
        context.output.data(&format!(
            "stopping {} at once: {}",
            cost.nodes.join(", "),
            cost.in_words()
        ));
    }
}

impl Cost {
    async fn of(cluster: &Cluster, nodes: &[&MemberView]) -> Result<Self, Failure> {
        let ids: Vec<_> = nodes.iter().map(|node| node.member.node).collect();
        let alone = members::arrays_only_on(cluster, &ids).await?;
        let (lost, away) = match lives_in_memory(cluster).await {
            true => (alone, Vec::new()),
            false => (Vec::new(), alone),
        };
        let names = nodes.iter().map(|node| node.member.name.clone()).collect();
        Ok(Self { nodes: names, lost, away })
    }

    fn in_words(&self) -> String {
        match (self.lost.as_slice(), self.away.as_slice()) {
            ([], []) => "no array that you may see loses anything by it.".to_owned(),
            ([], away) => format!(
                "parts of {} lie nowhere else: they are written to disk, and there again when {} started again.",
                members::listed(away),
                match self.nodes.as_slice() {
                    [node] => format!("{node} is"),
                    _ => "these nodes are".to_owned(),
                }
            ),
            (lost, _) => {
                format!("parts of {} lie nowhere else and will be LOST.", members::listed(lost))
            }
        }
    }
}
