//! Who is heard from, for the catalog's leader to judge by.
//!
//! Feeds planning and `holo status`, never safety: replicas judge each other by beats of their own.

use std::collections::{BTreeMap, VecDeque};

use holo_core::replication::{Incarnation, NodeNumber, ReplicaId};
use holo_core::wire::{Heartbeat, NodeLoad};
use holo_core::{ErrorCode, Failure, Instant, UnixMillis, limits};

/// Nonces of one node that are remembered.
const NONCES_KEPT: usize = 128;
/// Characters of a node's own words that are kept.
const REASON_CHARS_MAX: usize = 500;

/// What nodes said of themselves.
#[derive(Debug, Default)]
pub(crate) struct Health {
    beats: BTreeMap<NodeNumber, Beats>,
}

/// The beats of one node.
#[derive(Debug)]
pub(crate) struct Beats {
    /// When the last one came.
    pub(crate) heard: Instant,
    /// Its life.
    pub(crate) incarnation: Incarnation,
    /// By how many milliseconds its clock is ahead of ours.
    pub(crate) ahead_ms: i64,
    /// What it holds and does.
    pub(crate) load: NodeLoad,
    /// Why it cannot write down what it holds; empty when it can.
    pub(crate) cannot_write: String,
    nonces: VecDeque<[u8; 16]>,
}

impl Health {
    /// Forgets all of it: others are told from now on.
    pub(crate) fn forget(&mut self) {
        self.beats.clear();
    }

    /// Takes a heartbeat of a node whose channel has proven who it is.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::ClockSkew`] when its clock is too far from ours, [`ErrorCode::Malformed`], [`ErrorCode::Conflict`] for
    /// one that was heard before.
    pub(crate) fn hear(
        &mut self,
        now: Instant,
        wall: UnixMillis,
        from: NodeNumber,
        beat: &Heartbeat,
    ) -> Result<(), Failure> {
        check_clock(UnixMillis(beat.unix_ms), wall)?;
        let nonce: [u8; 16] = beat.nonce.as_slice().try_into().map_err(|_length| {
            Failure::new(ErrorCode::Malformed, "a heartbeat's nonce has 16 bytes")
        })?;
        let known = self.beats.entry(from).or_insert_with(|| Beats {
            heard: now,
            incarnation: Incarnation(0),
            ahead_ms: 0,
            load: NodeLoad::default(),
            cannot_write: String::new(),
            nonces: VecDeque::new(),
        });
        if known.nonces.contains(&nonce) {
            return Err(Failure::new(ErrorCode::Conflict, "this heartbeat was heard before"));
        }
        if known.nonces.len() == NONCES_KEPT {
            known.nonces.pop_front();
        }
        known.nonces.push_back(nonce);
        known.heard = now;
        known.incarnation = Incarnation(beat.incarnation);
        known.ahead_ms = beat.unix_ms.wrapping_sub(wall.0).cast_signed();
        known.load = beat.load.unwrap_or_default();
        let words = beat.cannot_write.chars().filter(|letter| !letter.is_control());
        known.cannot_write = words.take(REASON_CHARS_MAX).collect();
        Ok(())
    }

    /// When a life of a node was heard last.
    pub(crate) fn heard(&self, replica: ReplicaId) -> Option<Instant> {
        self.beats_of(replica).map(|beats| beats.heard)
    }

    /// What a node said last.
    pub(crate) fn beats(&self, node: NodeNumber) -> Option<&Beats> {
        self.beats.get(&node)
    }

    /// What a node said last in this life.
    pub(crate) fn load(&self, replica: ReplicaId) -> Option<NodeLoad> {
        self.beats_of(replica).map(|beats| beats.load)
    }

    /// Why a node cannot write down what it holds, as it said in this life; `None` when it can.
    pub(crate) fn cannot_write(&self, replica: ReplicaId) -> Option<&str> {
        let reason = self.beats_of(replica).map(|beats| beats.cannot_write.as_str());
        reason.filter(|reason| !reason.is_empty())
    }

    fn beats_of(&self, replica: ReplicaId) -> Option<&Beats> {
        self.beats.get(&replica.node).filter(|beats| beats.incarnation == replica.incarnation)
    }
}

/// Refuses a clock that is too far from ours.
///
/// # Errors
///
/// [`ErrorCode::ClockSkew`], with both times.
pub(crate) fn check_clock(theirs: UnixMillis, ours: UnixMillis) -> Result<(), Failure> {
    let apart = theirs.0.abs_diff(ours.0);
    if apart <= limits::CLOCK_SKEW_MAX_MS {
        return Ok(());
    }
    let message = format!(
        "the clocks are {} s apart: the node says {} ms since 1970, the member that it asked {} ms; {} s are allowed",
        apart / 1000,
        theirs.0,
        ours.0,
        limits::CLOCK_SKEW_MAX_MS / 1000
    );
    Err(Failure::new(ErrorCode::ClockSkew, message)
        .help("set the clock of one of the two machines, best by NTP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: UnixMillis = UnixMillis(1_700_000_000_000);

    fn beat(nonce: u8, unix_ms: u64) -> Heartbeat {
        Heartbeat { incarnation: 1, unix_ms, nonce: vec![nonce; 16], ..Heartbeat::default() }
    }

    #[test]
    fn a_clock_that_is_off_is_named_with_both_times() {
        let mut health = Health::default();
        let (now, from) = (Instant(0), NodeNumber(1));
        let refused = health.hear(now, WALL, from, &beat(1, WALL.0 + 60_001)).unwrap_err();
        assert_eq!(refused.code, ErrorCode::ClockSkew);
        assert!(
            refused.message.contains("1700000060001") && refused.message.contains("1700000000000")
        );
        health.hear(now, WALL, from, &beat(1, WALL.0 - 60_000)).unwrap();
        assert_eq!(health.beats(from).unwrap().ahead_ms, -60_000);
    }

    #[test]
    fn what_a_node_cannot_write_is_told_until_it_can_and_in_bounds() {
        let mut health = Health::default();
        let from = ReplicaId { node: NodeNumber(1), incarnation: Incarnation(1) };
        let mut said = |nonce, reason: &str| {
            let beat = Heartbeat { cannot_write: reason.to_owned(), ..beat(nonce, WALL.0) };
            health.hear(Instant(0), WALL, from.node, &beat).unwrap();
            health.cannot_write(from).map(str::to_owned)
        };
        let full = "hold: No space left on device";
        assert_eq!(said(1, full).as_deref(), Some(full));
        assert_eq!(said(2, "\u{1b}[2Jhold\n").as_deref(), Some("[2Jhold"));
        assert_eq!(said(3, &"x".repeat(9000)).map(|reason| reason.len()), Some(REASON_CHARS_MAX));
        assert_eq!(said(4, ""), None);
    }

    #[test]
    fn a_heartbeat_counts_once() {
        let mut health = Health::default();
        let (now, from) = (Instant(0), NodeNumber(1));
        health.hear(now, WALL, from, &beat(1, WALL.0)).unwrap();
        let refused = health.hear(now, WALL, from, &beat(1, WALL.0)).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Conflict);
        health.hear(now, WALL, NodeNumber(2), &beat(1, WALL.0)).unwrap();
        assert!(
            health
                .hear(now, WALL, from, &Heartbeat { unix_ms: WALL.0, ..Heartbeat::default() })
                .is_err()
        );
    }
}
