//! Short words for what the log of a run shows.

use std::fmt;

use holo_core::replication::{GroupConfig, GroupId, Message, ReplicaId};

/// A config in a few characters: `e13 *1.1 2.1 + 3.2`, the primary with a star, learners after the plus.
pub(crate) struct Config<'a>(pub(crate) &'a GroupConfig);

impl fmt::Display for Config<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{}", self.0.epoch.0)?;
        for member in &self.0.in_sync {
            let star = if *member == self.0.primary { "*" } else { "" };
            write!(f, " {star}{member}")?;
        }
        if !self.0.learners.is_empty() {
            f.write_str(" +")?;
        }
        for learner in &self.0.learners {
            write!(f, " {learner}")?;
        }
        if self.0.lost { f.write_str(" LOST") } else { Ok(()) }
    }
}

/// The group that a message is about; those of leases are about many.
pub(crate) fn group_of(message: &Message) -> Option<GroupId> {
    match message {
        Message::Append(append) => Some(append.group),
        Message::AppendAck(ack) => Some(ack.group),
        Message::AppendNack(nack) => Some(nack.group),
        Message::SnapshotOffer(offer) => Some(offer.group),
        Message::Release(release) => Some(release.group),
        Message::Beat(_) | Message::BeatAck(_) => None,
    }
}

/// A message between machines.
pub(crate) struct Said<'a>(pub(crate) ReplicaId, pub(crate) ReplicaId, pub(crate) &'a Message);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(from, to, message) = self;
        write!(f, "{from} -> {to} ")?;
        match message {
            Message::Append(it) => {
                let (prev, commit) = (it.prev, it.commit.0);
                write!(
                    f,
                    "append {} e{} after {}@e{}",
                    it.group, it.epoch.0, prev.seq.0, prev.epoch.0
                )?;
                if let (Some(first), Some(last)) = (it.entries.first(), it.entries.last()) {
                    write!(f, ", entries {}..={}", first.seq.0, last.seq.0)?;
                }
                write!(f, ", commit {commit}")?;
                if it.claim.is_some() { f.write_str(", with config") } else { Ok(()) }
            }
            Message::AppendAck(it) => {
                let based = if it.based { "" } else { ", no base" };
                let (matched, committed) = (it.matched.0, it.committed.0);
                write!(
                    f,
                    "ack {} e{} matched {matched}, committed {committed}{based}",
                    it.group, it.epoch.0
                )
            }
            Message::AppendNack(it) => {
                let wants = if it.needs_snapshot { ", needs a snapshot" } else { "" };
                write!(f, "nack {} e{} have {}{wants}", it.group, it.epoch.0, it.have.0)?;
                if it.claim.is_some() { f.write_str(", with config") } else { Ok(()) }
            }
            Message::SnapshotOffer(it) => write!(
                f,
                "offers snapshot {} of {} e{} at {}@e{}",
                it.snapshot.0, it.group, it.epoch.0, it.at.seq.0, it.at.epoch.0
            ),
            Message::Release(it) => write!(f, "releases {} up to e{}", it.group, it.up_to.0),
            Message::Beat(it) => {
                write!(f, "beat sent {}, knows set {}", it.sent_at.0, it.known_set.0)?;
                if let Some(answered) = it.answered {
                    write!(f, ", had the answer to {}", answered.0)?;
                }
                for news in &it.commits {
                    write!(f, ", {} e{} commit {}", news.group, news.epoch.0, news.commit.0)?;
                }
                Ok(())
            }
            Message::BeatAck(it) => {
                write!(f, "answers beat {}, set {}", it.sent_at.0, it.set_version.0)?;
                for group in it.set.iter().flatten() {
                    write!(f, " {group}")?;
                }
                Ok(())
            }
        }
    }
}
