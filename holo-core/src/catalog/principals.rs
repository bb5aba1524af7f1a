//! Principals, settings, sessions: what operators and nodes ask for that is about no data.

use crate::catalog::admission::check_settings;
use crate::catalog::changes::Subject;
use crate::catalog::command::{Answer, Authority, Settings};
use crate::catalog::state::CatalogState;
use crate::replication::NodeNumber;
use crate::{ErrorCode, Failure, Grant, Policy, Principal, PublicKey, TenantId, Verb, limits};

/// What grants of CONFIG are about.
pub(super) const CLUSTER: &str = "cluster";

impl CatalogState {
    /// The principals, by key.
    pub fn principals(&self) -> impl Iterator<Item = &Principal> {
        self.principals.values()
    }

    /// Who may do what: the principals, and the living nodes as members towards each other.
    pub fn policy(&self) -> Policy {
        let members =
            self.nodes.values().filter(|node| node.state.is_living()).map(|node| Principal {
                key: node.id.0,
                name: format!("node {}", node.name),
                tenant: TenantId(0),
                grants: vec![Grant::any(Verb::Member), Grant::any(Verb::Status)],
            });
        // A key that is a node's is nothing else.
        Policy::new(self.principals.values().cloned().chain(members))
    }

    pub(super) fn put_principal(
        &mut self,
        by: Authority,
        principal: Principal,
    ) -> Result<Answer, Failure> {
        let grantor = self.check_verb(by, Verb::Role, &of_tenant(principal.tenant))?;
        check_principal(&principal)?;
        for grant in &principal.grants {
            // With tenant-wide ROLE one may not hand out what one does not hold, or ROLE would be everything.
            if !grantor.may(grant.verb, &grant.pattern) {
                let message = format!(
                    "{} does not hold {}:{} and cannot grant it",
                    grantor.name,
                    grant.verb.name(),
                    grant.pattern
                );
                return Err(Failure::new(ErrorCode::Denied, message)
                    .help("ask somebody who holds it to grant it"));
            }
        }
        match self.principals.get(&principal.key) {
            Some(known) if *known == principal => return Ok(Answer::Done),
            Some(known) => {
                let tenant = known.tenant;
                self.check_verb(by, Verb::Role, &of_tenant(tenant))?;
                if !holds_role(&principal) {
                    self.refuse_last_role(principal.key)?;
                }
            }
            None if self.principals.len() >= limits::PRINCIPALS_MAX => {
                let message = format!("the cluster has {} principals", limits::PRINCIPALS_MAX);
                return Err(
                    Failure::new(ErrorCode::OutOfCapacity, message).help("remove some of them")
                );
            }
            None => {}
        }
        self.touch(Subject::Principal(Box::new(principal.key)));
        self.principals.insert(principal.key, principal);
        Ok(Answer::Done)
    }

    pub(super) fn remove_principal(
        &mut self,
        by: Authority,
        key: PublicKey,
    ) -> Result<Answer, Failure> {
        let Some(known) = self.principals.get(&key) else {
            return self.check_verb(by, Verb::Role, "tenants").map(|_| Answer::Done);
        };
        self.check_verb(by, Verb::Role, &of_tenant(known.tenant))?;
        self.refuse_last_role(key)?;
        self.principals.remove(&key);
        self.touch(Subject::Principal(Box::new(key)));
        Ok(Answer::Done)
    }

    pub(super) fn put_settings(
        &mut self,
        by: Authority,
        settings: Settings,
    ) -> Result<Answer, Failure> {
        self.check_verb(by, Verb::Config, CLUSTER)?;
        check_settings(&settings)?;
        if self.settings != settings {
            self.settings = settings;
            self.touch(Subject::Settings);
        }
        Ok(Answer::Done)
    }

    pub(super) fn lease_sessions(
        &mut self,
        by: Authority,
        node: NodeNumber,
        count: u32,
    ) -> Result<Answer, Failure> {
        self.check_itself(by, node)?;
        if count == 0 || count > limits::SESSIONS_LEASED_MAX {
            let message =
                format!("{count} session ids; 1 to {} are possible", limits::SESSIONS_LEASED_MAX);
            return Err(Failure::new(ErrorCode::InvalidArgument, message));
        }
        let first = self.next_session;
        self.next_session = first
            .checked_add(u64::from(count))
            .ok_or_else(|| Failure::new(ErrorCode::OutOfCapacity, "the last session id of all"))?;
        self.touch(Subject::Sessions);
        Ok(Answer::Sessions { first, count })
    }

    pub(super) fn expire_sessions(&mut self, by: Authority, below: u64) -> Result<Answer, Failure> {
        self.check_voter(by)?;
        if below > self.next_session {
            let message = format!("session {below} was never given out");
            return Err(Failure::new(ErrorCode::InvalidArgument, message));
        }
        if below > self.sessions_expired_below {
            self.sessions_expired_below = below;
            self.touch(Subject::Sessions);
        }
        Ok(Answer::Done)
    }

    /// Somebody must remain who can add principals.
    fn refuse_last_role(&self, key: PublicKey) -> Result<(), Failure> {
        let others = self.principals.values().any(|other| other.key != key && holds_role(other));
        if others || !self.principals.get(&key).is_some_and(holds_role) {
            return Ok(());
        }
        Err(Failure::new(ErrorCode::Conflict, "nobody else is granted ROLE")
            .help("grant ROLE to another principal first"))
    }
}

fn holds_role(principal: &Principal) -> bool {
    principal.grants.iter().any(|grant| grant.verb == Verb::Role)
}

fn of_tenant(tenant: TenantId) -> String {
    format!("tenants/{tenant}")
}

/// Checks a principal that somebody wants to add.
pub(super) fn check_principal(principal: &Principal) -> Result<(), Failure> {
    let refuse = |why: String| Err(Failure::new(ErrorCode::InvalidArgument, why));
    let name = &principal.name;
    if name.is_empty()
        || name.len() > limits::NODE_NAME_BYTES_MAX
        || name.chars().any(char::is_control)
    {
        return refuse(format!("{name:?} is no name for a principal"));
    }
    if principal.tenant == TenantId(0) {
        return refuse(format!("principal {name}: tenant 0 is the cluster's own"));
    }
    if principal.grants.len() > limits::GRANTS_MAX {
        return refuse(format!(
            "principal {name}: {} grants, at most {} are possible",
            principal.grants.len(),
            limits::GRANTS_MAX
        ));
    }
    for grant in &principal.grants {
        if grant.verb == Verb::Member {
            return refuse(format!("principal {name}: MEMBER is for nodes"));
        }
        let pattern = &grant.pattern;
        let stars_inside = pattern.strip_suffix('*').unwrap_or(pattern).contains('*');
        if pattern.is_empty() || pattern.len() > limits::GRANT_PATTERN_BYTES_MAX || stars_inside {
            return refuse(format!(
                "principal {name}: {pattern:?} is no pattern: a name, or the start of one and *"
            ));
        }
    }
    Ok(())
}
