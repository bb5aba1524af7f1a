//! `holo principal`: who may use the cluster, and for what.

use std::path::PathBuf;

use holo_core::wire::PrincipalBody;
use holo_core::{ErrorCode, Failure, PublicKey};
use serde::Serialize;

use super::{Context, confirm};
use crate::argument::argument;
use crate::commands::dev::shell_quoted;
use crate::table::Table;

/// Add, list and remove those who may use the cluster
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  holo principal add ann --new ann.identity --grant READ --grant 'WRITE:ann/*' --grant 'ALLOCATE:ann/*' --grant RUN
  holo principal ls
  holo principal rm ann

A grant is a verb, or VERB:PATTERN with a name or a prefix that ends in *. Verbs: ALLOCATE, READ, WRITE, RUN, FREE, STATUS,
DRAIN, SHUTDOWN, ADMIT (tickets), CONFIG, ROLE. Nobody can grant what they may not do themselves.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Add(AddArgs),
    Ls(LsArgs),
    Rm(RmArgs),
}

/// Let a key use the cluster, or change what it may do
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  holo principal add ann --new ann.identity --grant READ --grant STATUS
  holo principal add ann --key 5f0c...64 digits --grant READ

--new makes a key and writes it to a file, which is then Ann's HOLO_IDENTITY: hand it over like a password.")]
#[command(group = clap::ArgGroup::new("whose").required(true))]
struct AddArgs {
    /// A name for people
    name: String,
    /// Make a key for them in this file
    #[arg(long, value_name = "FILE", group = "whose")]
    new: Option<PathBuf>,
    /// The public key that they have already
    #[arg(long, value_name = "KEY", value_parser = argument(PublicKey::from_hex), group = "whose")]
    key: Option<PublicKey>,
    /// What they may do: READ, 'WRITE:ann/*'; may be given several times
    #[arg(long, value_name = "GRANT", required = true)]
    grant: Vec<String>,
    /// Their tenant
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    tenant: u32,
}

/// List who may use the cluster
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  holo principal ls")]
struct LsArgs {}

/// Take all grants from a key
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  holo principal rm ann")]
struct RmArgs {
    /// Their name, or the first letters of their key
    who: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Serialize)]
struct Principal {
    name: String,
    key: String,
    tenant: u32,
    grants: Vec<String>,
}

#[derive(Serialize)]
struct Removed {
    removed: String,
    key: String,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.command {
        Command::Add(args) => add(args, context).await,
        Command::Ls(LsArgs {}) => ls(context).await,
        Command::Rm(args) => rm(args, context).await,
    }
}

async fn add(args: AddArgs, context: &Context) -> Result<(), Failure> {
    let cluster = context.connect().await?;
    let key = match (args.key, &args.new) {
        (Some(key), _) => key,
        (None, Some(file)) => cluster.create_identity(file)?,
        (None, None) => {
            return Err(Failure::new(ErrorCode::InvalidArgument, "neither --new nor --key"));
        }
    };
    let (name, tenant, grants) = (args.name, args.tenant, args.grant);
    let body = PrincipalBody { key: key.0.to_vec(), name, tenant, grants };
    let put = cluster.put_principal(body.clone()).await;
    if let (Err(_), Some(file)) = (&put, &args.new) {
        // A key that may do nothing would only be in the way of the next try; the refusal is the news.
        drop(std::fs::remove_file(file));
    }
    put?;
    let added = Principal::new(&body)?;
    if context.output.is_json() {
        context.output.json(&added);
        return Ok(());
    }
    context.output.data(&format!("{} may {}", added.name, added.grants.join(", ")));
    if let Some(file) = &args.new {
        let file = shell_quoted(file);
        context.output.note(&format!("export HOLO_IDENTITY={file} is how they say who they are"));
    }
    Ok(())
}

async fn ls(context: &Context) -> Result<(), Failure> {
    let cluster = context.connect().await?;
    let principals = cluster.principals().await?;
    let rows: Vec<Principal> =
        principals.iter().map(Principal::new).collect::<Result<_, Failure>>()?;
    if context.output.is_json() {
        context.output.json_rows("principals", &rows);
        return Ok(());
    }
    let mut table = Table::new(&["name", "key", ">tenant", "grants"]);
    for row in rows {
        let short = row.key.chars().take(8).collect();
        table.row([row.name, short, row.tenant.to_string(), row.grants.join(" ")]);
    }
    context.output.data(&table.render(context.output.color()));
    Ok(())
}

async fn rm(args: RmArgs, context: &Context) -> Result<(), Failure> {
    let cluster = context.connect().await?;
    let principals = cluster.principals().await?;
    let rows: Vec<Principal> =
        principals.iter().map(Principal::new).collect::<Result<_, Failure>>()?;
    let digits = args.who.to_ascii_lowercase();
    let fits = |row: &&Principal| {
        row.name == args.who || (!digits.is_empty() && row.key.starts_with(&digits))
    };
    let found: Vec<&Principal> = rows.iter().filter(fits).collect();
    let found = match found.as_slice() {
        [one] => *one,
        [] => {
            let message = format!("principal {}: not found", args.who);
            return Err(Failure::new(ErrorCode::NotFound, message).help("see `holo principal ls`"));
        }
        several => {
            let message = format!("{} principals fit {}", several.len(), args.who);
            return Err(Failure::new(ErrorCode::InvalidArgument, message)
                .help("give letters of the key that only one has"));
        }
    };
    let short: String = found.key.chars().take(8).collect();
    let question = format!("Shut {} ({short}) out of the cluster?", found.name);
    confirm(context, args.yes, &question)?;
    cluster.remove_principal(PublicKey::from_hex(&found.key)?).await?;
    if context.output.is_json() {
        let (removed, key) = (found.name.clone(), found.key.clone());
        context.output.json(&Removed { removed, key });
    } else {
        context.output.data(&format!("removed {} ({short})", found.name));
    }
    Ok(())
}

impl Principal {
    fn new(body: &PrincipalBody) -> Result<Self, Failure> {
        Ok(Self {
            name: body.name.clone(),
            key: PublicKey::from_slice(&body.key)?.to_hex(),
            tenant: body.tenant,
            grants: body.grants.clone(),
        })
    }
}
