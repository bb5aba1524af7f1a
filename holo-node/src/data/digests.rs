//! What replicas contain, in a few bytes each: an operator asks all holders of a group and compares.
//!
//! Every page is hashed anew, whatever was known of it before: a bit that flipped in memory shows, too.

use std::collections::BTreeSet;
use std::sync::Arc;

use holo_core::group::Seq;
use holo_core::replication::{GroupId, Role};
use holo_core::wire::{DigestQuery, GroupBody, GroupDigests, ReplicaDigest, ReplicaDigestBody};
use holo_core::{Epoch, ErrorCode, Failure, limits};

use super::{DataPlane, Frozen};
use crate::workers::blocking;

/// Bytes of pages that are hashed for one answer; the group that goes beyond it is the last one in it.
const ANSWER_BYTES: u64 = 64 << 20;
/// When to come again while another one is being answered.
const BUSY_RETRY_MS: u32 = 50;

/// A replica at one moment.
struct Moment {
    group: GroupId,
    epoch: Epoch,
    applied: Seq,
    shards: [u8; 32],
    frozen: Frozen,
}

impl DataPlane {
    /// Digests of the groups that this node holds in sync. One question at a time is answered: it reads all that is
    /// here.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Malformed`], [`ErrorCode::TooLarge`], [`ErrorCode::Overloaded`] while another one is answered.
    pub(crate) async fn group_digests(
        self: Arc<Self>,
        query: DigestQuery,
    ) -> Result<GroupDigests, Failure> {
        let groups = self.asked_for(&query)?;
        let Ok(_alone) = self.digesting.try_lock() else {
            let message = "this node is reading its copies for somebody else";
            return Err(Failure::new(ErrorCode::Overloaded, message).retry_after_ms(BUSY_RETRY_MS));
        };
        let (mut replicas, mut bytes) = (Vec::new(), 0);
        let mut groups = groups.into_iter();
        for group in groups.by_ref() {
            let Some(moment) = self.moment(group) else { continue };
            let replica = blocking(move || moment.digest()).await?;
            bytes += replica.bytes;
            replicas.push(ReplicaDigestBody::from(&replica));
            if bytes >= ANSWER_BYTES || replicas.len() >= limits::DIGEST_GROUPS_MAX {
                break;
            }
        }
        Ok(GroupDigests { replicas, more: groups.len() > 0 })
    }

    /// The groups of a question that have their turn, ascending.
    fn asked_for(&self, query: &DigestQuery) -> Result<Vec<GroupId>, Failure> {
        if query.groups.len() > limits::DIGEST_GROUPS_MAX {
            let message = format!(
                "{} groups in one question, at most {}",
                query.groups.len(),
                limits::DIGEST_GROUPS_MAX
            );
            return Err(Failure::new(ErrorCode::TooLarge, message));
        }
        let after = query.after.map(GroupId::try_from).transpose()?;
        let named = query.groups.iter().map(|body: &GroupBody| GroupId::try_from(*body));
        let named: BTreeSet<GroupId> = named.collect::<Result<_, _>>()?;
        let mut groups: BTreeSet<GroupId> = self.summary().iter().map(|it| it.group).collect();
        groups.retain(|group| {
            (named.is_empty() || named.contains(group)) && after.is_none_or(|after| *group > after)
        });
        Ok(groups.into_iter().collect())
    }

    /// A group as it is now, between two operations; nothing unless this is an in-sync replica of it.
    fn moment(&self, group: GroupId) -> Option<Moment> {
        let machine = self.machine.lock();
        let it = machine.host.group_summary(group)?;
        let in_sync = matches!(it.role, Role::Primary | Role::PrimaryPending | Role::Backup);
        if !in_sync || it.lost || !it.has_base {
            return None;
        }
        let here = self.arrays.shards_of_group(group);
        let mut shards = blake3::Hasher::new();
        for (array, index, _) in &here {
            shards.update(&array.0.to_le_bytes()).update(&index.0.to_le_bytes());
        }
        Some(Moment {
            group,
            epoch: it.epoch,
            applied: it.applied,
            shards: *shards.finalize().as_bytes(),
            frozen: Frozen::of(&here),
        })
    }
}

impl Moment {
    /// Reads every page.
    fn digest(&self) -> Result<ReplicaDigest, Failure> {
        let (mut pages, mut bytes) = (blake3::Hasher::new(), 0);
        self.frozen.for_each_page(|array, index, page, run| {
            // A page of zeros that somebody wrote is as good as one that nobody wrote.
            if run.slices().all(|slice| slice.iter().all(|byte| *byte == 0)) {
                return Ok(());
            }
            let mut content = blake3::Hasher::new();
            for slice in run.slices() {
                content.update(slice);
            }
            pages.update(&array.0.to_le_bytes()).update(&index.0.to_le_bytes());
            pages.update(&page.to_le_bytes()).update(content.finalize().as_bytes());
            bytes += run.len() as u64;
            Ok(())
        })?;
        Ok(ReplicaDigest {
            group: self.group,
            epoch: self.epoch,
            applied: self.applied,
            shards: self.shards,
            pages: *pages.finalize().as_bytes(),
            bytes,
        })
    }
}
