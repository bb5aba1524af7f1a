//! Who may come in: members, principals, and strangers who want to become members.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use holo_core::catalog::{Admission, Answer, Authority, NewNode, NodeState, Operation};
use holo_core::replication::NodeNumber;
use holo_core::wire::{Decode, JoinReply, JoinRequest, Kind, WIRE_VERSION, welcome_statement};
use holo_core::{
    ErrorCode, Failure, Instant, NodeId, Policy, PublicKey, Role, UnixMillis, check_name, limits,
};
use holo_net::{Peer, Request};
use parking_lot::Mutex;

use super::health::check_clock;
use super::{Control, Phase};
use crate::home::JOIN_ANEW;
use crate::links::HAS_LEFT;

/// How long a stranger may stay.
const STRANGER_TIME: Duration = Duration::from_secs(60);
/// How long an admission is tried.
const ADMIT_PATIENCE: Duration = Duration::from_secs(8);

/// How long a ticket that is not known here is looked for.
const TICKET_PATIENCE: Duration = Duration::from_millis(500);

/// Nodes that are no members, by key, with the time until which they may stay.
#[derive(Debug, Default)]
pub(crate) struct Strangers(Mutex<BTreeMap<PublicKey, Instant>>);

impl Strangers {
    fn admit(&self, key: PublicKey, now: Instant) -> Result<(), Failure> {
        let mut strangers = self.0.lock();
        strangers.retain(|_, until| *until > now);
        if strangers.len() >= limits::STRANGERS_MAX && !strangers.contains_key(&key) {
            let message = format!("{} nodes are asking to join", limits::STRANGERS_MAX);
            return Err(Failure::new(ErrorCode::Overloaded, message).retry_after_ms(1000));
        }
        strangers.insert(key, now.after(STRANGER_TIME));
        Ok(())
    }

    fn may_stay(&self, key: PublicKey, now: Instant) -> bool {
        self.0.lock().get(&key).is_some_and(|until| *until > now)
    }
}

/// Says whether a key is a user's. Right after a start a node may know more of the catalog than what it has made of it:
/// the version `known`, and policy and all else as of the version `facts_of`.
fn admit_user(
    policy: &Policy,
    key: PublicKey,
    node: &str,
    (facts_of, known): (u64, u64),
) -> Result<(), Failure> {
    match policy.principal(key) {
        Err(_unknown) if facts_of < known => {
            let message = format!("node {node} has not taken over all that it knows");
            Err(Failure::new(ErrorCode::NotReady, message)
                .help("it has just started, which takes a moment; try again, or ask another node")
                .retry_after_ms(50))
        }
        principal => principal.map(drop),
    }
}

/// What a node that has left, or was put out, is told.
pub(super) fn former(name: &str, state: NodeState) -> Failure {
    let (code, did) = match state {
        NodeState::Left => (HAS_LEFT, "has left the cluster"),
        _ => (ErrorCode::Denied, "was put out of the cluster"),
    };
    let message = format!("node {name} {did}: it is no member any more");
    Failure::new(code, message).help(format!("to come back, {JOIN_ANEW}"))
}

impl Control {
    /// Decides whether a peer may talk to this node at all.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::ShuttingDown`], [`ErrorCode::NotReady`] for users of a node that does not know its cluster yet,
    /// [`ErrorCode::Unauthenticated`], [`ErrorCode::Denied`], [`ErrorCode::Overloaded`] for too many strangers.
    pub(crate) fn admit(self: &Arc<Self>, peer: &Peer) -> Result<(), Failure> {
        if let Phase::Over(_) | Phase::Stopping = &*self.phase.borrow() {
            let message = format!("node {} is stopping", self.config.name);
            return Err(Failure::new(ErrorCode::ShuttingDown, message));
        }
        if peer.role == Role::Node {
            if self.node_number(peer.key).is_some() {
                if !peer.background {
                    self.links.admitted(peer.key);
                }
                return Ok(());
            }
            // A principal's key with a node's certificate is somebody's mistake or attack.
            if self.policy.load().principal(peer.key).is_ok() {
                let message = format!("key {} came as a node", peer.key.short());
                return Err(Failure::new(ErrorCode::Denied, message));
            }
            self.refuse_former(peer.key)?;
            return self.strangers.admit(peer.key, self.clock.now());
        }
        if !self.copy.is_known() {
            let message = format!(
                "node {} does not know its cluster yet; {}",
                self.config.name,
                self.waits_for()
            );
            return Err(Failure::new(ErrorCode::NotReady, message).retry_after_ms(500));
        }
        // Before the policy: one that is taken over meanwhile must not look as if it were older.
        let facts_of = self.facts_of.load(Ordering::SeqCst);
        let policy = self.policy.load();
        let known = *self.copy.version().borrow();
        admit_user(&policy, peer.key, &self.config.name, (facts_of, known))?;
        if self.node_number(peer.key).is_some() {
            let message = format!("key {} came as a client", peer.key.short());
            return Err(Failure::new(ErrorCode::Denied, message));
        }
        Ok(())
    }

    /// Tells a node that was put out that it was, so that it ends.
    fn refuse_former(&self, key: PublicKey) -> Result<(), Failure> {
        let gone = self.copy.read(|state| {
            let mut gone = state.nodes().filter(|it| it.id.0 == key && !it.state.is_living());
            gone.next().map(|node| (node.name.clone(), node.state))
        });
        match gone {
            Some((name, state)) => Err(former(&name, state)),
            None => Ok(()),
        }
    }

    /// These are members no more. They may stay as strangers for a moment, to hear that they are.
    pub(super) fn see_off(&self, former: impl Iterator<Item = PublicKey>) {
        let now = self.clock.now();
        for key in former {
            // Without a place among the strangers its connection is closed at once.
            drop(self.strangers.admit(key, now));
        }
    }

    /// Closes connections of those who are known no more, and of strangers who stayed too long.
    pub(super) fn close_strangers_and_former(&self) {
        let Some(endpoint) = self.endpoint.lock().clone() else { return };
        let (policy, now) = (self.policy.load(), self.clock.now());
        for link in endpoint.connections() {
            let peer = link.peer();
            let known = match peer.role {
                Role::Node => self.node_number(peer.key).is_some(),
                Role::Client => policy.principal(peer.key).is_ok(),
            };
            if !known && !self.strangers.may_stay(peer.key, now) && self.copy.is_known() {
                link.close(ErrorCode::Unauthenticated, "this key is not known to the cluster");
            }
        }
    }

    /// Answers a node that wants to join, or a member that passes its request on.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotReady`], [`ErrorCode::VersionMismatch`], [`ErrorCode::ClockSkew`], [`ErrorCode::Malformed`],
    /// [`ErrorCode::IdentityMismatch`] when the request is for another node than the stranger,
    /// [`ErrorCode::InvalidArgument`] for what is no name, and those of the admission.
    pub(crate) async fn serve_join(&self, peer: &Peer, body: Bytes) -> Result<JoinReply, Failure> {
        let request = JoinRequest::decode_body(&body)?;
        // The first node of a cluster is ready when the cluster and its first tickets are made.
        if self.replica().is_none() {
            let message =
                format!("node {} lets nobody in yet; {}", self.config.name, self.waits_for());
            return Err(Failure::new(ErrorCode::NotReady, message).retry_after_ms(100));
        }
        if request.wire_version != u32::from(WIRE_VERSION) {
            let message = format!(
                "the node ({}) speaks wire version {}, the cluster {WIRE_VERSION}",
                request.agent, request.wire_version
            );
            return Err(Failure::new(ErrorCode::VersionMismatch, message)
                .help("run the same release on all machines"));
        }
        if !matches!(&*self.phase.borrow(), Phase::Ready(_)) {
            // A first node lets nobody in before its first tickets are made: they would look withdrawn.
            let message = format!("node {} is starting; {}", self.config.name, self.waits_for());
            return Err(Failure::new(ErrorCode::NotReady, message).retry_after_ms(100));
        }
        let node = NodeId(PublicKey::from_slice(&request.node)?);
        let passed_on = self.node_number(peer.key).is_some();
        if !passed_on && node.0 != peer.key {
            let message = "the request is for another node than the one that sends it";
            return Err(Failure::new(ErrorCode::IdentityMismatch, message));
        }
        check_clock(UnixMillis(request.unix_ms), self.clock.wall())?;
        check_name("node", &request.name)?;
        let nonce = sized(&request.nonce, "a nonce has 16 bytes")?;
        let admission = Admission {
            ticket: PublicKey::from_slice(&request.ticket)?,
            node: NewNode {
                id: node,
                name: request.name.clone(),
                address: request.address.clone(),
                zone: request.zone.clone(),
                weight_milli: request.weight_milli,
                agent: request.agent.clone(),
            },
            signature: sized(&request.signature, "a signature has 64 bytes")?,
        };
        if self.prover().is_none() {
            // Only a voter can sign a welcome.
            if passed_on {
                return Err(super::propose::not_a_voter());
            }
            return self.pass_join_on(body).await;
        }
        self.check_ticket(&admission).await?;
        let admitted = self
            .propose(Authority::Nobody, Operation::AdmitNode(admission), ADMIT_PATIENCE)
            .await?;
        let Answer::Admitted(number) = admitted else {
            return Err(Failure::new(ErrorCode::Internal, "an admission without a number"));
        };
        tracing::info!(node = %number, name = %request.name, address = %request.address, "a node was let in");
        self.welcome(node, number, &nonce)
    }

    /// Refuses a bad ticket before the catalog is asked: whoever has none costs it nothing.
    async fn check_ticket(&self, admission: &Admission) -> Result<(), Failure> {
        let mut version = self.copy.version();
        let until = self.clock.now().after(TICKET_PATIENCE);
        loop {
            version.mark_unchanged();
            let wall = self.clock.wall();
            let checked = self.copy.read(|state| state.check_admission(admission, wall));
            let left = until.since(self.clock.now());
            if checked.is_ok() || left.is_zero() {
                return checked;
            }
            // This voter may not have heard of a ticket that was made a moment ago.
            drop(tokio::time::timeout(left, version.changed()).await);
        }
    }

    async fn pass_join_on(&self, body: Bytes) -> Result<JoinReply, Failure> {
        let (voter, link) = self.any_voter(0).ok_or_else(|| {
            Failure::new(ErrorCode::NoQuorum, "none of the catalog's voters can be reached")
                .retry_after_ms(500)
        })?;
        let request = Request::new(Kind::Join, ADMIT_PATIENCE, body);
        JoinReply::decode_body(&self.call_voter(voter, &link, request).await?)
    }

    fn welcome(
        &self,
        node: NodeId,
        number: NodeNumber,
        nonce: &[u8; 16],
    ) -> Result<JoinReply, Failure> {
        let prover = self.prover().ok_or_else(super::propose::not_a_voter)?;
        let issuer = prover.issuer();
        let mut reply = self.copy.read(|state| {
            let certificate = state.issuers().find(|it| it.issuer == issuer);
            let view = state.view()?;
            Ok::<_, Failure>(JoinReply {
                number: number.0,
                cluster_name: state.cluster_name().to_owned(),
                root: state.root().0.to_vec(),
                issuer: certificate.map(Into::into),
                welcome: Vec::new(),
                members: view.to_body().members,
                voters: state.voters().iter().map(|voter| voter.0).collect(),
            })
        })?;
        let statement = welcome_statement(self.cluster()?, node, nonce, &reply);
        reply.welcome = prover.sign(&statement).to_vec();
        Ok(reply)
    }
}

fn sized<const N: usize>(bytes: &[u8], why: &str) -> Result<[u8; N], Failure> {
    bytes.try_into().map_err(|_length| Failure::new(ErrorCode::Malformed, why.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_who_comes_too_early_is_told_to_come_again_and_not_that_nobody_knows_them() {
        let (nobody, key) = (Policy::default(), PublicKey([1; 32]));
        let early = admit_user(&nobody, key, "n1", (3, 4)).unwrap_err();
        assert_eq!((early.code, early.retry_after_ms), (ErrorCode::NotReady, Some(50)));
        assert!(early.help.is_some());
        let unknown = admit_user(&nobody, key, "n1", (4, 4)).unwrap_err();
        assert_eq!(unknown.code, ErrorCode::Unauthenticated);
    }

    #[test]
    fn strangers_are_few_and_stay_for_a_while() {
        let strangers = Strangers::default();
        for number in 0..limits::STRANGERS_MAX {
            let key = PublicKey([u8::try_from(number).unwrap(); 32]);
            strangers.admit(key, Instant(0)).unwrap();
        }
        let (late, known) = (PublicKey([255; 32]), PublicKey([0; 32]));
        assert_eq!(strangers.admit(late, Instant(1)).unwrap_err().code, ErrorCode::Overloaded);
        strangers.admit(known, Instant(1)).unwrap();
        let over = Instant(0).after(STRANGER_TIME);
        assert!(!strangers.may_stay(PublicKey([1; 32]), over));
        assert!(strangers.may_stay(known, over), "it came again later");
        strangers.admit(late, over).unwrap();
    }
}
