//! `holo ticket`: what lets a new node in.

use std::time::Duration;

use holo_client::ClusterView;
use holo_core::wire::{TicketBody, TicketOrder};
use holo_core::{ErrorCode, Failure, PublicKey};
use serde::Serialize;

use super::Context;
use crate::argument::{self, argument};
use crate::clock;
use crate::members;
use crate::quantity;
use crate::table::Table;

/// Make, list and withdraw the tickets with which nodes join
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  holo ticket create
  holo ticket create --valid 10m --name n4
  holo ticket ls
  holo ticket revoke 5f0c12ab

A ticket lets one node in, once, until it ends. Whoever has its text can use it: pass it on like a password.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Create(CreateArgs),
    Ls(LsArgs),
    Revoke(RevokeArgs),
}

/// Make a ticket and print the line to paste on the new node
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  holo ticket create --valid 10m")]
struct CreateArgs {
    /// How long it is good for, at most 7 days
    #[arg(long, value_name = "TIME", value_parser = argument(quantity::parse_duration), default_value = "1h")]
    valid: Duration,
    /// The name that the node must take [default: any]
    #[arg(long, value_name = "NODE", value_parser = argument(argument::node_name))]
    name: Option<String>,
}

/// List the tickets, used ones too
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  holo ticket ls")]
struct LsArgs {}

/// Withdraw a ticket that has not been used
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  holo ticket revoke 5f0c12ab")]
struct RevokeArgs {
    /// The first letters of its key, as `holo ticket ls` shows it
    key: String,
}

#[derive(Serialize)]
struct Created {
    ticket: String,
    #[serde(flatten)]
    about: Ticket,
}

#[derive(Serialize)]
struct Ticket {
    key: String,
    expires_unix_ms: u64,
    /// The name that the node must take; empty for any.
    node_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    used_by: Option<String>,
}

#[derive(Serialize)]
struct Revoked {
    revoked: String,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.command {
        Command::Create(args) => create(args, context).await,
        Command::Ls(LsArgs {}) => ls(context).await,
        Command::Revoke(args) => revoke(args, context).await,
    }
}

async fn create(args: CreateArgs, context: &Context) -> Result<(), Failure> {
    let cluster = context.connect().await?;
    let lifetime_ms = u64::try_from(args.valid.as_millis()).unwrap_or(u64::MAX);
    let order = TicketOrder { lifetime_ms, node_name: args.name.unwrap_or_default() };
    let body = cluster.create_ticket(order).await?;
    let ticket = body.text.clone();
    let about = Ticket::new(&body, &cluster.view())?;
    if context.output.is_json() {
        context.output.json(&Created { ticket, about });
        return Ok(());
    }
    context.output.data(&format!("holo join {ticket}"));
    context.output.note(&format!(
        "\nfor one node, {}; keep it secret until it is used; `holo ticket revoke {}` withdraws it",
        about.ends_in_words(clock::unix_ms()),
        about.short_key()
    ));
    Ok(())
}

async fn ls(context: &Context) -> Result<(), Failure> {
    let cluster = context.connect().await?;
    let view = cluster.view();
    let tickets = cluster.tickets().await?;
    let rows = tickets.iter().map(|body| Ticket::new(body, &view));
    let rows: Vec<Ticket> = rows.collect::<Result<_, _>>()?;
    if context.output.is_json() {
        context.output.json_rows("tickets", &rows);
        return Ok(());
    }
    let now = clock::unix_ms();
    let mut table = Table::new(&["key", "for node", "used by", "ends"]);
    for row in rows {
        let ends = match row.used_by {
            Some(_) => "-".to_owned(),
            None => row.ends_in_words(now),
        };
        let key = row.short_key();
        let (any, nobody) = ("any".to_owned(), "-".to_owned());
        let name = if row.node_name.is_empty() { any } else { row.node_name };
        table.row([key, name, row.used_by.unwrap_or(nobody), ends]);
    }
    context.output.data(&table.render(context.output.color()));
    Ok(())
}

async fn revoke(args: RevokeArgs, context: &Context) -> Result<(), Failure> {
    let cluster = context.connect().await?;
    // The cluster wants 8 letters; a person fewer, as long as they are clear.
    let wanted = args.key.to_ascii_lowercase();
    if wanted.is_empty() {
        return Err(Failure::new(ErrorCode::InvalidArgument, "the ticket's key is empty")
            .help("see `holo ticket ls`"));
    }
    let mut found = Vec::new();
    for body in cluster.tickets().await? {
        let key = PublicKey::from_slice(&body.key)?.to_hex();
        if key.starts_with(&wanted) {
            found.push(key);
        }
    }
    let key = match found.as_slice() {
        [key] => key.clone(),
        [] => {
            return Err(Failure::new(ErrorCode::NotFound, format!("ticket {wanted}: not found"))
                .help("see `holo ticket ls`"));
        }
        several => {
            let message = format!("{} tickets begin with {wanted}", several.len());
            return Err(Failure::new(ErrorCode::InvalidArgument, message).help("give more letters"));
        }
    };
    cluster.revoke_ticket(&key).await?;
    let short: String = key.chars().take(8).collect();
    if context.output.is_json() {
        context.output.json(&Revoked { revoked: key });
    } else {
        context.output.data(&format!("revoked ticket {short}"));
    }
    Ok(())
}

impl Ticket {
    fn new(body: &TicketBody, view: &ClusterView) -> Result<Self, Failure> {
        Ok(Self {
            key: PublicKey::from_slice(&body.key)?.to_hex(),
            expires_unix_ms: body.expires_unix_ms,
            node_name: body.node_name.clone(),
            used_by: (body.used_by != 0).then(|| members::name_of(view, body.used_by)),
        })
    }

    /// The start of its key, by which it is withdrawn.
    fn short_key(&self) -> String {
        self.key.chars().take(8).collect()
    }

    fn ends_in_words(&self, now_unix_ms: u64) -> String {
        match self.expires_unix_ms.checked_sub(now_unix_ms) {
            Some(left) if left > 0 => {
                format!("good for {}", quantity::rough_duration(Duration::from_millis(left)))
            }
            _ => {
                let since = Duration::from_millis(now_unix_ms - self.expires_unix_ms);
                format!("expired {} ago", quantity::rough_duration(since))
            }
        }
    }
}
