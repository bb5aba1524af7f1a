//! Heartbeats: every node tells the catalog's leader that it lives, and how it does.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holo_catalog::rest;
use holo_core::replication::NodeNumber;
use holo_core::wire::{Decode, Heartbeat, HeartbeatReply, Kind};
use holo_core::{ErrorCode, Failure};
use holo_net::Request;
use prost::Message;

use super::Control;
use super::health::check_clock;
use crate::home::fill_random;
use crate::links::pause_for;

/// How long the leader may take.
const BEAT_DEADLINE: Duration = Duration::from_secs(2);
/// Pause after a beat that nobody heard.
const PAUSE: Duration = Duration::from_millis(100);
/// Whoever was heard within it is not deaf; at most the quarter of any silence that somebody is judged by.
const MOMENT_MAX: Duration = Duration::from_millis(100);

impl Control {
    /// Sends heartbeats for as long as it is polled.
    pub(super) async fn keep_beating(self: Arc<Self>) {
        let mut turn = 0;
        loop {
            match self.beat(turn).await {
                Ok(()) => {}
                Err(failure) if failure.code == ErrorCode::ClockSkew => {
                    tracing::warn!(message = %failure.message, "heartbeats are refused");
                }
                Err(failure) => {
                    tracing::debug!(%failure, "a heartbeat was not heard");
                    turn += 1;
                    pause_for(PAUSE).await;
                    continue;
                }
            }
            rest(self.config.timers.liveness).await;
        }
    }

    /// Whether voters' words reach this node, asked until one does, for `patience` at most, unless one did a moment ago. A
    /// node that speaks and hears nothing takes everybody else for silent: it must not take over what it could not serve.
    pub(super) async fn hears(&self, patience: Duration) -> bool {
        let answered = *self.answered.lock();
        let timers = &self.config.timers.replication;
        let moment = MOMENT_MAX.min(timers.evict.min(timers.take_over) / 4);
        if answered.is_some_and(|at| self.clock.now().since(at) < moment) {
            return true;
        }
        let until = self.clock.now().after(patience);
        let mut turn = 0;
        loop {
            let silent = self.beat(turn).await.is_err_and(|failure| {
                matches!(
                    failure.code,
                    ErrorCode::DeadlineExceeded
                        | ErrorCode::ConnectionLost
                        | ErrorCode::Unreachable
                )
            });
            if !silent || self.clock.now() >= until {
                return !silent;
            }
            turn += 1;
            pause_for(PAUSE).await;
        }
    }

    async fn beat(&self, turn: usize) -> Result<(), Failure> {
        self.try_beat(turn).await?;
        *self.answered.lock() = Some(self.clock.now());
        Ok(())
    }

    async fn try_beat(&self, turn: usize) -> Result<(), Failure> {
        let Some(replica) = self.replica() else { return Ok(()) };
        let mut nonce = [0; 16];
        fill_random(&mut nonce)?;
        let beat = Heartbeat {
            incarnation: replica.incarnation.0,
            unix_ms: self.clock.wall().0,
            nonce: nonce.to_vec(),
            version: *self.copy.version().borrow(),
            load: self.load.get().map(|load| load()),
            cannot_write: self.cannot_write.lock().clone(),
        };
        if self.is_leader() {
            return self.health.lock().hear(
                self.clock.now(),
                self.clock.wall(),
                replica.node,
                &beat,
            );
        }
        let body = Bytes::from(beat.encode_to_vec());
        // The first one asked may only know who leads.
        for _ in 0..2 {
            let (voter, link) = self.any_voter(turn).ok_or_else(|| {
                Failure::new(ErrorCode::Unreachable, "no voter of the catalog is linked")
            })?;
            let request = Request::new(Kind::Heartbeat, BEAT_DEADLINE, body.clone());
            let reply =
                HeartbeatReply::decode_body(&self.call_voter(voter, &link, request).await?)?;
            if reply.leader == 0 {
                return Ok(());
            }
            self.note_leader(NodeNumber(reply.leader));
        }
        Err(Failure::new(ErrorCode::WrongNode, "the catalog's leader is changing"))
    }

    /// Answers another node's heartbeat.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoQuorum`] where nobody is known to lead, and those of hearing it.
    pub(crate) fn serve_beat(
        &self,
        from: NodeNumber,
        beat: &Heartbeat,
    ) -> Result<HeartbeatReply, Failure> {
        let wall = self.clock.wall();
        if !self.is_leader() {
            check_clock(holo_core::UnixMillis(beat.unix_ms), wall)?;
            let leader = self.leader().filter(|leader| Some(*leader) != self.number());
            let leader = leader.ok_or_else(|| self.no_leader())?;
            return Ok(HeartbeatReply { unix_ms: wall.0, leader: leader.0 });
        }
        self.health.lock().hear(self.clock.now(), wall, from, beat)?;
        Ok(HeartbeatReply { unix_ms: wall.0, leader: 0 })
    }
}
