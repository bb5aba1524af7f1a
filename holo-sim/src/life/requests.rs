//! Requests of clients, as a node's driver takes them.

use bytes::Bytes;
use holo_core::group::Ticket;
use holo_core::replication::{Input, Payload, PayloadId};
use holo_core::{ErrorCode, Failure};

use super::Life;
use crate::env::{Acknowledged, Env, node_index};
use crate::linear::Action;
use crate::network::{End, MILLISECOND};
use crate::operation;
use crate::packet::{Bulk, Job, Outcome, Packet, ReadUnderWay, Request};
use crate::scenario::Flavor;
use crate::store::Staged;
use crate::watch::{Invariant, Place};

impl Life {
    /// A client's request.
    pub(crate) fn on_request(&mut self, env: &mut Env, mut request: Request, has_room: bool) {
        let group = request.element.group;
        if request.action == Action::Read {
            self.begin_read(env, request);
            return;
        }
        if let Some(outcome) = self.turn_away(env, group) {
            self.respond(env, request, outcome);
            return;
        }
        if request.is_bulk {
            if !has_room {
                self.respond(env, request, Outcome::Later);
                return;
            }
            request.payload = Some(self.stage(env, &request));
            if env.rng.chance(300) {
                let later = env.now + env.rng.below(20 * MILLISECOND);
                self.put_off(env, later, Job::Propose(request));
                return;
            }
        }
        self.propose(env, request);
    }

    /// Why a write cannot be taken here; `None` when it can.
    pub(super) fn turn_away(&self, env: &Env, group: usize) -> Option<Outcome> {
        let Some(config) = self.host.config(env.groups[group]) else {
            return Some(Outcome::Elsewhere(None));
        };
        (config.primary != self.me).then(|| Outcome::Elsewhere(Some(node_index(config.primary))))
    }

    fn begin_read(&self, env: &mut Env, request: Request) {
        let group = request.element.group;
        if !self.may_read(env, group) {
            let outcome = self.turn_away(env, group).unwrap_or(Outcome::Later);
            self.respond(env, request, outcome);
            return;
        }
        let read = ReadUnderWay { request, epoch: self.stores[group].gate.epoch };
        let at_the_edge = env.scenario.flavor == Flavor::Leases;
        let (often, span) =
            if at_the_edge { (700, 4 * MILLISECOND) } else { (200, MILLISECOND / 2) };
        if env.rng.chance(often) {
            let later = env.now + env.rng.below(span);
            self.put_off(env, later, Job::FinishRead(read));
        } else {
            self.finish_read(env, read);
        }
    }

    pub(super) fn finish_read(&self, env: &mut Env, read: ReadUnderWay) {
        let group = read.request.element.group;
        let store = &self.stores[group];
        let value = store.values[read.request.element.index];
        let may = store.gate.epoch == read.epoch && self.may_read(env, group);
        let outcome = if may || env.plant.reads_without_second_look() {
            Outcome::Done(value)
        } else {
            Outcome::Later
        };
        self.respond(env, read.request, outcome);
    }

    fn stage(&mut self, env: &mut Env, request: &Request) -> PayloadId {
        self.payloads += 1;
        let id = PayloadId { origin: self.me, number: self.payloads };
        let group = request.element.group;
        let Action::Write(value) = request.action else { return id };
        self.stores[group].staged.insert(id, Staged { value, is_ready: true });
        let config = self.host.config(env.groups[group]).cloned();
        for member in config.iter().flat_map(|config| config.members()) {
            if member != self.me {
                self.send_bulk(env, member, group, Bulk::Stage { id, value });
            }
        }
        self.offer_staged(env, group, id);
        id
    }

    pub(super) fn propose(&mut self, env: &mut Env, request: Request) {
        let group = request.element.group;
        if !self.takes_writes(env, group) {
            self.respond(env, request, Outcome::Later);
            return;
        }
        env.touch(group);
        self.tickets += 1;
        let len = env.scenario.workload.payload_bytes;
        let ticket = Ticket(self.tickets);
        let input = Input::Propose {
            ticket,
            group: env.groups[group],
            request: Some(request.key),
            op: operation::of_request(&request),
            payload: request.payload.map(|id| Payload { id, len }),
        };
        self.waiting.insert(ticket, request);
        if let Err(failure) = self.host.handle_input(self.clock.at(env.now), input) {
            self.waiting.remove(&ticket);
            let outcome = self.outcome_of(env, group, &failure);
            self.respond(env, request, outcome);
        }
        self.settle(env);
    }

    pub(super) fn reply(&mut self, env: &mut Env, ticket: Ticket, outcome: Result<Bytes, Failure>) {
        let Some(request) = self.waiting.remove(&ticket) else {
            let me = self.me;
            env.watch.broken(env.now, Invariant::Contract, || format!("{me} replies twice"));
            return;
        };
        let group = request.element.group;
        let outcome = match outcome {
            Ok(bytes) => {
                let before = bytes.as_ref().try_into().map_or(0, u64::from_le_bytes);
                let place = env.watch.place_of(group, (request.key.session, request.key.number));
                match place {
                    Place::Now(seq) => env.acknowledged.push(Acknowledged { group, seq }),
                    Place::BeforeClose => {}
                    Place::Nowhere => env.watch.broken(env.now, Invariant::I8Copies, || {
                        format!("group {group}: a write was acknowledged and never applied")
                    }),
                }
                Outcome::Done(before)
            }
            Err(failure) => self.outcome_of(env, group, &failure),
        };
        self.respond(env, request, outcome);
    }

    fn outcome_of(&self, env: &mut Env, group: usize, failure: &Failure) -> Outcome {
        match failure.code {
            ErrorCode::WrongNode => self.turn_away(env, group).unwrap_or(Outcome::Later),
            ErrorCode::NotReady | ErrorCode::NoQuorum | ErrorCode::Overloaded => Outcome::Later,
            ErrorCode::OutcomeUnknown => Outcome::Unknown,
            ErrorCode::DataLost => Outcome::Lost,
            ErrorCode::InvalidArgument => Outcome::Refused,
            _ => {
                let me = self.me;
                env.watch.broken(env.now, Invariant::Contract, || {
                    format!("{me} answers a client with {failure}")
                });
                Outcome::Unknown
            }
        }
    }

    pub(super) fn respond(&self, env: &mut Env, request: Request, outcome: Outcome) {
        let (from, to) = (End::Node(self.index), End::Client(request.client));
        env.send(from, to, Packet::Response { request, outcome });
    }
}
