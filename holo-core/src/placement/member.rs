//! One node of the ring, and the rules that it keeps.

use crate::wire::NodeEntry;
use crate::{ErrorCode, Failure, NodeId, PublicKey, limits};

/// One node of the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its key.
    pub node: NodeId,
    /// A name for people.
    pub name: String,
    /// Where it listens: `127.0.0.1:7400`.
    pub address: String,
    /// Failure domain; empty where nobody named one, which is a domain like any other.
    pub zone: String,
    /// Relative capacity in thousandths; 1000 is normal.
    pub weight_milli: u32,
}

/// Checks a name that is to be given to a `what`, a node or a cluster: people type it, paths and tables hold it, and
/// whoever asks to join has chosen it.
///
/// # Errors
///
/// [`ErrorCode::InvalidArgument`] unless it is 1 to [`limits::NODE_NAME_BYTES_MAX`] ASCII letters, digits, `-`, `_` and
/// `.`, and begins with a letter or digit.
pub fn check_name(what: &str, name: &str) -> Result<(), Failure> {
    let begins = name.starts_with(|first: char| first.is_ascii_alphanumeric());
    let usable = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if begins && name.len() <= limits::NODE_NAME_BYTES_MAX && name.chars().all(usable) {
        return Ok(());
    }
    let most = limits::NODE_NAME_BYTES_MAX;
    let shown: String = name.chars().take(most).collect();
    let message = format!("{shown:?} is no name for a {what}");
    Err(Failure::new(ErrorCode::InvalidArgument, message).help(format!(
        "take 1 to {most} letters, digits, '-', '_' and '.', the first of them a letter or digit"
    )))
}

impl Member {
    pub(super) fn check(&self) -> Result<(), String> {
        let within = |text: &str, max: usize| !text.is_empty() && text.len() <= max;
        if !within(&self.name, limits::NODE_NAME_BYTES_MAX)
            || self.name.chars().any(char::is_control)
        {
            return Err(format!("node {} has no usable name", self.node.short()));
        }
        if !within(&self.address, limits::NODE_ADDRESS_BYTES_MAX) {
            return Err(format!("node {} has no usable address", self.name));
        }
        if self.zone.len() > limits::NODE_NAME_BYTES_MAX {
            return Err(format!("the zone of node {} has too long a name", self.name));
        }
        if self.weight_milli == 0 || self.weight_milli > limits::NODE_WEIGHT_MILLI_MAX {
            return Err(format!(
                "node {} has weight {} thousandths; 1 to {} are possible",
                self.name,
                self.weight_milli,
                limits::NODE_WEIGHT_MILLI_MAX
            ));
        }
        Ok(())
    }
}

impl TryFrom<NodeEntry> for Member {
    type Error = Failure;

    /// Checks a member that came from outside: [`ErrorCode::Malformed`].
    fn try_from(entry: NodeEntry) -> Result<Self, Failure> {
        let member = Self {
            node: NodeId(PublicKey::from_slice(&entry.node)?),
            name: entry.name,
            address: entry.address,
            zone: entry.zone,
            weight_milli: entry.weight_milli,
        };
        member.check().map_err(|why| Failure::new(ErrorCode::Malformed, why))?;
        Ok(member)
    }
}

impl From<&Member> for NodeEntry {
    fn from(member: &Member) -> Self {
        Self {
            node: member.node.0.0.to_vec(),
            name: member.name.clone(),
            address: member.address.clone(),
            zone: member.zone.clone(),
            weight_milli: member.weight_milli,
        }
    }
}
