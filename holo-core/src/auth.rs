//! Authorization: one choke point whose value every protected function requires.
//!
//! A function that reads an array takes an [`Authorized<action::Read>`]. Only [`Policy::authorize`] makes one, so a
//! forgotten check does not compile.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use crate::{ErrorCode, Failure, PublicKey, TenantId};

/// Who may do what, by public key. Deny by default.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    principals: BTreeMap<PublicKey, Principal>,
}

impl Policy {
    /// A policy of the given principals; the last one of a key wins.
    pub fn new(principals: impl IntoIterator<Item = Principal>) -> Self {
        Self {
            principals: principals
                .into_iter()
                .map(|principal| (principal.key, principal))
                .collect(),
        }
    }

    /// The principal behind a key that a handshake has proved.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Unauthenticated`] for a key that this cluster does not know.
    pub fn principal(&self, key: PublicKey) -> Result<&Principal, Failure> {
        self.principals.get(&key).ok_or_else(|| {
            Failure::new(
                ErrorCode::Unauthenticated,
                format!("key {} is not known to this cluster", key.short()),
            )
            .help("use the identity file that the cluster was configured with (HOLO_IDENTITY)")
        })
    }

    /// Decides whether `key` may do `A` to `resource`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Unauthenticated`] for an unknown key, [`ErrorCode::Denied`] when no grant covers the action.
    pub fn authorize<A: Action>(
        &self,
        key: PublicKey,
        resource: &str,
    ) -> Result<Authorized<A>, Failure> {
        let principal = self.principal(key)?;
        if !principal.may(A::VERB, resource) {
            let message = format!("{} may not {} {resource}", principal.name, A::VERB.name());
            return Err(Failure::new(ErrorCode::Denied, message)
                .help("ask an operator for a role that grants it"));
        }
        Ok(Authorized {
            principal: key,
            tenant: principal.tenant,
            resource: resource.to_owned(),
            action: PhantomData,
        })
    }
}

/// Proof that [`Policy::authorize`] allowed the action `A` on a resource.
#[derive(Clone, Debug)]
pub struct Authorized<A> {
    principal: PublicKey,
    tenant: TenantId,
    resource: String,
    action: PhantomData<A>,
}

impl<A: Action> Authorized<A> {
    /// Who may do it.
    pub fn principal(&self) -> PublicKey {
        self.principal
    }

    /// For which tenant.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// To what.
    pub fn resource(&self) -> &str {
        &self.resource
    }
}

/// A key with its tenant and grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The Ed25519 key that its certificate names.
    pub key: PublicKey,
    /// A name for people and logs.
    pub name: String,
    /// Whose arrays and quotas it works with.
    pub tenant: TenantId,
    /// What it may do.
    pub grants: Vec<Grant>,
}

impl Principal {
    /// Whether a grant of its covers `verb` on `resource`: for decisions about what it holds. What protects a resource
    /// asks [`Policy::authorize`].
    pub fn may(&self, verb: Verb, resource: &str) -> bool {
        self.grants.iter().any(|grant| grant.verb == verb && grant.covers(resource))
    }
}

/// Permission for one verb on the resources that a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The verb.
    pub verb: Verb,
    /// A resource name, or a prefix that ends in `*`.
    pub pattern: String,
}

impl Grant {
    /// Permission for `verb` on everything of the tenant.
    pub fn any(verb: Verb) -> Self {
        Self { verb, pattern: "*".to_owned() }
    }

    fn covers(&self, resource: &str) -> bool {
        match self.pattern.strip_suffix('*') {
            Some(prefix) => resource.starts_with(prefix),
            None => self.pattern == resource,
        }
    }
}

/// An action as a type, so that [`Authorized`] can tell them apart.
pub trait Action {
    /// The verb that a grant must have.
    const VERB: Verb;
}

macro_rules! verbs {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// What can be granted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Verb {
            $($(#[$doc])* $name,)*
        }

        impl Verb {
            /// Every verb.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name in configs and messages, in capitals.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The verb of a name.
            ///
            /// # Errors
            ///
            /// [`ErrorCode::ConfigInvalid`], listing what there is.
            pub fn parse(text: &str) -> Result<Self, Failure> {
                Self::ALL.iter().copied().find(|verb| verb.name() == text).ok_or_else(|| {
                    let known: Vec<_> = Self::ALL.iter().map(|verb| verb.name()).collect();
                    Failure::new(ErrorCode::ConfigInvalid, format!("{text:?} is no verb"))
                        .help(format!("use one of {}", known.join(", ")))
                })
            }
        }

        /// One type per verb.
        pub mod action {
            $(
                $(#[$doc])*
                #[derive(Clone, Copy, Debug)]
                pub struct $name;

                impl super::Action for $name {
                    const VERB: super::Verb = super::Verb::$name;
                }
            )*
        }
    };
}

verbs! {
    /// Create an array.
    Allocate = "ALLOCATE";
    /// Read elements and metadata of an array.
    Read = "READ";
    /// Write elements of an array.
    Write = "WRITE";
    /// Run an expression or a module.
    Run = "RUN";
    /// Remove an array.
    Free = "FREE";
    /// See nodes, links and load.
    Status = "STATUS";
    /// Empty a node of its data.
    Drain = "DRAIN";
    /// Stop a node.
    Shutdown = "SHUTDOWN";
    /// Let nodes into the cluster: make and withdraw tickets.
    Admit = "ADMIT";
    /// Say who may do what: add and remove principals of a tenant.
    Role = "ROLE";
    /// Change the cluster's settings and placement, and give up lost data.
    Config = "CONFIG";
    /// Act as a member of the ring towards another member.
    Member = "MEMBER";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> (Policy, PublicKey) {
        let key = PublicKey([7; 32]);
        let grants = vec![
            Grant { verb: Verb::Read, pattern: "demo/*".into() },
            Grant { verb: Verb::Write, pattern: "demo/a".into() },
        ];
        (Policy::new([Principal { key, name: "ann".into(), tenant: TenantId(3), grants }]), key)
    }

    #[test]
    fn what_is_granted_is_allowed_and_the_rest_denied() {
        let (policy, key) = policy();
        assert_eq!(policy.authorize::<action::Read>(key, "demo/x").unwrap().tenant(), TenantId(3));
        assert!(policy.authorize::<action::Write>(key, "demo/a").is_ok());
        for resource in ["demo/ab", "demo", "other"] {
            let refused = policy.authorize::<action::Write>(key, resource).unwrap_err();
            assert_eq!(refused.code, ErrorCode::Denied, "{resource}");
        }
        assert_eq!(
            policy.authorize::<action::Run>(key, "demo/x").unwrap_err().code,
            ErrorCode::Denied
        );
    }

    #[test]
    fn an_unknown_key_is_nobody() {
        let (policy, _) = policy();
        let refused = policy.authorize::<action::Read>(PublicKey([8; 32]), "demo/x").unwrap_err();
        assert_eq!(refused.code, ErrorCode::Unauthenticated);
    }
}
