//! Who may ask for what, checked again when it is applied.

use crate::catalog::command::Authority;
use crate::catalog::state::CatalogState;
use crate::replication::NodeNumber;
use crate::{ErrorCode, Failure, Principal, Verb};

impl CatalogState {
    /// The principal behind a command, if it holds `verb` on `resource`.
    pub(super) fn check_verb(
        &self,
        by: Authority,
        verb: Verb,
        resource: &str,
    ) -> Result<&Principal, Failure> {
        let principal = self.caller(by)?;
        if !principal.may(verb, resource) {
            let message = format!("{} may not {} {resource}", principal.name, verb.name());
            return Err(Failure::new(ErrorCode::Denied, message)
                .help("ask an operator for a role that grants it"));
        }
        Ok(principal)
    }

    /// The principal behind a command.
    pub(super) fn caller(&self, by: Authority) -> Result<&Principal, Failure> {
        let Authority::Principal(key) = by else {
            return Err(denied(by, "do what only principals do"));
        };
        self.principals.get(&key).ok_or_else(|| {
            let message = format!("key {} is not known to this cluster", key.short());
            Failure::new(ErrorCode::Unauthenticated, message)
                .help("use an identity that the cluster knows (HOLO_IDENTITY)")
        })
    }

    /// Refuses all but a voter.
    pub(super) fn check_voter(&self, by: Authority) -> Result<NodeNumber, Failure> {
        match by {
            Authority::Node(number) if self.voters.contains(&number) => Ok(number),
            Authority::Node(_) | Authority::Principal(_) | Authority::Nobody => {
                Err(denied(by, "do what only the catalog's voters do"))
            }
        }
    }

    /// Refuses all but the node itself, while it lives.
    pub(super) fn check_itself(&self, by: Authority, node: NodeNumber) -> Result<(), Failure> {
        if by != Authority::Node(node) {
            return Err(denied(by, &format!("speak for node {node}")));
        }
        let state = self.nodes.get(&node).map(|node| node.state);
        match state {
            Some(state) if state.is_living() => Ok(()),
            Some(state) => {
                let message = format!("node {node} is {}", state.name());
                Err(Failure::new(ErrorCode::Denied, message).help("join again, on a new ticket"))
            }
            None => {
                Err(Failure::new(ErrorCode::Unauthenticated, format!("there is no node {node}")))
            }
        }
    }
}

fn denied(by: Authority, what: &str) -> Failure {
    let who = match by {
        Authority::Nobody => "a stranger".to_owned(),
        Authority::Principal(key) => format!("key {}", key.short()),
        Authority::Node(number) => format!("node {number}"),
    };
    Failure::new(ErrorCode::Denied, format!("{who} may not {what}"))
}
