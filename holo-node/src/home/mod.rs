//! A node's directory: its config, its keys, and what it knows of its cluster when it starts.
//!
//! ```text
//! node.toml        what the operator says of the node
//! node.identity    its Ed25519 key
//! cluster.toml     which cluster it belongs to, under which number, and who the other members were
//! join.ticket      it has not joined yet: with this ticket it will
//! founding.toml    it is the first node, and the cluster is not made yet
//! root.key         the cluster's root key; only on the first node, and may be taken offline
//! voter.toml       secrets that the voters share; only on nodes that vote or have voted
//! catalog.key      what the catalog's file and those in `hold` are encrypted with
//! catalog.redb     the catalog, on nodes that vote
//! client.identity  the first operator's key; only on the first node
//! hold             the pages of its groups, while the whole cluster is shut down
//! kept             the pages of its groups, from when it stopped alone until it has its share again
//! kept.toml        the files in `kept`, as long as none of them has been deleted
//! lock             held by the process that runs the node
//! ```
//!
//! The directory is for its owner only (0700), and so is every file in it (0600).

mod files;
mod found;
mod join;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use holo_core::replication::NodeNumber;
use holo_core::{ClusterId, ErrorCode, Failure, PublicKey, UnixMillis};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use found::{InitOptions, Initialized, TicketText, init};
pub use join::{JoinOptions, Joined, join};

pub(crate) use files::make_directory;
pub(crate) use found::{Founding, new_ticket, sign_issuer};
pub(crate) use join::{Tries, ask_to_join, prepare_join};

/// What to do with a node that cannot be what it was any more.
pub(crate) const JOIN_ANEW: &str = "join anew in a new directory and with a new ticket: `holo ticket create`, then `holo join TICKET --dir DIR`";

/// The list of what is in `kept`.
pub(crate) const KEPT_LIST: &str = "kept.toml";
/// What is encrypted with the key of the catalog.
const ENCRYPTED: [&str; 3] = ["catalog.redb", "hold", "kept"];

/// A node's directory.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    path: PathBuf,
}

/// Which cluster a node belongs to, and who the members were when it last knew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Belonging {
    pub(crate) cluster_name: String,
    /// The root public key, whose BLAKE3 is the cluster's id.
    pub(crate) root: PublicKey,
    pub(crate) number: NodeNumber,
    /// The voter that the catalog's file stands for; 0 before the node's first vote.
    pub(crate) voter: u64,
    pub(crate) members: Vec<KnownMember>,
}

/// A member of the cluster, where it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownMember {
    pub(crate) number: NodeNumber,
    pub(crate) key: PublicKey,
    pub(crate) name: String,
    pub(crate) address: String,
    /// It voted in the catalog.
    pub(crate) votes: bool,
}

/// What the voters share.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SharedSecrets {
    /// Placement keys come from it.
    pub(crate) placement: Zeroizing<[u8; 32]>,
    /// Seed of the key that signs for the catalog.
    pub(crate) issuer_seed: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for SharedSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

impl Home {
    pub(crate) fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn identity_file(&self) -> PathBuf {
        self.file("node.identity")
    }

    /// Takes the directory for this process.
    pub(crate) fn lock(&self) -> Result<File, Failure> {
        files::lock(&self.file("lock"))
    }

    /// Which cluster the node belongs to; `None` before it has joined one.
    pub(crate) fn belonging(&self) -> Result<Option<Belonging>, Failure> {
        let path = self.file("cluster.toml");
        let Some(text) = files::read(&path)? else { return Ok(None) };
        let broken = |why: String| {
            Failure::new(ErrorCode::Corrupt, format!("{}: {why}", path.display())).help(JOIN_ANEW)
        };
        let file: ClusterFile =
            toml::from_str(&text).map_err(|source| broken(source.message().to_owned()))?;
        file.check().map(Some).map_err(|failure| broken(failure.message))
    }

    /// Writes down which cluster the node belongs to.
    pub(crate) fn set_belonging(&self, belonging: &Belonging) -> Result<(), Failure> {
        let text = toml::to_string(&ClusterFile::from(belonging))
            .map_err(|source| Failure::new(ErrorCode::Internal, source.to_string()))?;
        let head = "# Written by the node. It finds its way back to its cluster by this file.\n";
        files::write(&self.file("cluster.toml"), &format!("{head}{text}"))
    }

    /// The ticket that the node will join with; `None` once it has.
    pub(crate) fn pending_ticket(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        files::read_secret(&self.file("join.ticket"))
    }

    pub(crate) fn set_pending_ticket(&self, text: &str) -> Result<(), Failure> {
        files::write(&self.file("join.ticket"), text)
    }

    pub(crate) fn forget_ticket(&self) -> Result<(), Failure> {
        files::remove(&self.file("join.ticket"))
    }

    /// The secrets of the voters; `None` on a node that never voted.
    pub(crate) fn voter_secrets(&self) -> Result<Option<SharedSecrets>, Failure> {
        let path = self.file("voter.toml");
        let Some(text) = files::read_secret(&path)? else { return Ok(None) };
        let broken = || {
            // The content is never part of the message.
            Failure::new(ErrorCode::Corrupt, format!("{} is damaged", path.display()))
                .help(JOIN_ANEW)
        };
        let file: VoterFile = toml::from_str(&text).ok().ok_or_else(broken)?;
        let key = |text: &str| ClusterId::from_hex(text).ok().map(|key| Zeroizing::new(key.0));
        let placement = key(&file.placement_secret).ok_or_else(broken)?;
        let issuer_seed = key(&file.issuer_seed).ok_or_else(broken)?;
        Ok(Some(SharedSecrets { placement, issuer_seed }))
    }

    pub(crate) fn set_voter_secrets(&self, secrets: &SharedSecrets) -> Result<(), Failure> {
        let hex = |key: &[u8; 32]| Zeroizing::new(ClusterId(*key).to_hex());
        let text = Zeroizing::new(format!(
            "# Secrets of the catalog's voters.\nplacement_secret = \"{}\"\nissuer_seed = \"{}\"\n",
            *hex(&secrets.placement),
            *hex(&secrets.issuer_seed)
        ));
        files::write(&self.file("voter.toml"), &text)
    }

    /// The cluster's root key, while it is here.
    pub(crate) fn root_seed(&self) -> Result<Option<Zeroizing<[u8; 32]>>, Failure> {
        files::read_key(&self.file("root.key"))
    }

    /// What the catalog's file is encrypted with; made when it is first asked for.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::FileFailed`] when there is none and something is encrypted with it: a new one would make that look
    /// damaged.
    pub(crate) fn catalog_key(&self) -> Result<Zeroizing<[u8; 32]>, Failure> {
        let path = self.file("catalog.key");
        if let Some(key) = files::read_key(&path)? {
            return Ok(key);
        }
        for name in ENCRYPTED {
            let encrypted = self.file(name);
            if files::has_files(&encrypted, "hold")? {
                let message = format!(
                    "{} is not there, and {} cannot be read without it",
                    path.display(),
                    encrypted.display()
                );
                return Err(Failure::new(ErrorCode::FileFailed, message).help(format!(
                    "bring the key back, or delete {name} to go on without: what nobody else has of that is lost then"
                )));
            }
        }
        let key = random_key()?;
        files::write_key(&path, &key)?;
        Ok(key)
    }

    /// The names of all files in `kept`; `None` when some may have been deleted since they were written.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::FileFailed`], [`ErrorCode::Corrupt`].
    pub(crate) fn kept_list(&self) -> Result<Option<Vec<String>>, Failure> {
        let path = self.file(KEPT_LIST);
        let Some(text) = files::read(&path)? else { return Ok(None) };
        let list: Option<KeptList> = toml::from_str(&text).ok();
        let broken = || {
            Failure::new(ErrorCode::Corrupt, format!("{} is damaged", path.display()))
                .help("delete it, when all files that the node wrote are in `kept` beside it")
        };
        list.map(|list| Some(list.files)).ok_or_else(broken)
    }

    pub(crate) fn set_kept_list(&self, names: &[String]) -> Result<(), Failure> {
        let text = toml::to_string(&KeptList { files: names.to_vec() })
            .map_err(|source| Failure::new(ErrorCode::Internal, source.to_string()))?;
        let head = "# Written by the node when it stopped. It does not start while one of these is missing in `kept`.\n";
        files::write(&self.file(KEPT_LIST), &format!("{head}{text}"))
    }

    /// From now on files in `kept` may be deleted.
    pub(crate) fn forget_kept_list(&self) -> Result<(), Failure> {
        files::remove_for_good(&self.file(KEPT_LIST))
    }

    /// The founding that is still to be done.
    pub(crate) fn founding(&self) -> Result<Option<Founding>, Failure> {
        let Some(text) = files::read(&self.file("founding.toml"))? else { return Ok(None) };
        Founding::parse(&text).map(Some).map_err(|failure| failure.context("founding.toml"))
    }

    pub(crate) fn forget_founding(&self) -> Result<(), Failure> {
        files::remove(&self.file("founding.toml"))
    }
}

impl Belonging {
    /// The cluster's id.
    pub(crate) fn cluster(&self) -> ClusterId {
        ClusterId(*blake3::hash(&self.root.0).as_bytes())
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptList {
    files: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterFile {
    cluster_name: String,
    root: String,
    number: u32,
    #[serde(default)]
    voter: u64,
    #[serde(default)]
    members: Vec<MemberEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberEntry {
    number: u32,
    key: String,
    name: String,
    address: String,
    votes: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct VoterFile {
    placement_secret: String,
    issuer_seed: String,
}

impl ClusterFile {
    fn check(self) -> Result<Belonging, Failure> {
        let members = self.members.into_iter().map(|entry| {
            Ok(KnownMember {
                number: NodeNumber(entry.number),
                key: PublicKey::from_hex(&entry.key)?,
                name: entry.name,
                address: entry.address,
                votes: entry.votes,
            })
        });
        let members = members.collect::<Result<Vec<_>, Failure>>()?;
        let numbers: BTreeSet<_> = members.iter().map(|member| member.number).collect();
        if numbers.len() != members.len() || self.number == 0 {
            return Err(Failure::new(ErrorCode::Corrupt, "a member is named twice"));
        }
        Ok(Belonging {
            cluster_name: self.cluster_name,
            root: PublicKey::from_hex(&self.root)?,
            number: NodeNumber(self.number),
            voter: self.voter,
            members,
        })
    }
}

impl From<&Belonging> for ClusterFile {
    fn from(belonging: &Belonging) -> Self {
        let members = belonging.members.iter().map(|member| MemberEntry {
            number: member.number.0,
            key: member.key.to_hex(),
            name: member.name.clone(),
            address: member.address.clone(),
            votes: member.votes,
        });
        Self {
            cluster_name: belonging.cluster_name.clone(),
            root: belonging.root.to_hex(),
            number: belonging.number.0,
            voter: belonging.voter,
            members: members.collect(),
        }
    }
}

/// 32 bytes that nobody can guess.
pub(crate) fn random_key() -> Result<Zeroizing<[u8; 32]>, Failure> {
    let mut key = Zeroizing::new([0; 32]);
    fill_random(&mut *key)?;
    Ok(key)
}

/// Bytes that nobody can guess.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<(), Failure> {
    getrandom::fill(bytes)
        .map_err(|source| Failure::new(ErrorCode::Internal, format!("no randomness: {source}")))
}

/// When something ends that is good for so many milliseconds from now.
pub(crate) fn after(now: UnixMillis, millis: u64) -> UnixMillis {
    UnixMillis(now.0.saturating_add(millis))
}

#[cfg(test)]
mod tests;
