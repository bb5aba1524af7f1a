//! The ring of a cluster as a picture.

use holo_core::PartitionId;
use holo_core::replication::Class;

use super::Snapshot;
use crate::members::sort_by_name;
use crate::picture::{Member, Ring};

/// The picture of who holds the groups of `class`; without one, of the class with the most copies.
pub(crate) fn ring_of(snapshot: &Snapshot, class: Option<Class>) -> Ring {
    let view = &snapshot.view;
    let class = class.or_else(|| view.classes().max_by_key(|class| class.replicas));
    let holders = |index| class.map_or(&[][..], |class| view.holders(class, PartitionId(index)));
    let all: Vec<&[u16]> = (0..view.partitions()).map(holders).collect();
    let mut in_order: Vec<_> = view.members().iter().enumerate().collect();
    sort_by_name(&mut in_order, |(_, it)| &it.member.name);
    let place = |owner: usize| in_order.iter().position(|(index, _)| *index == owner);
    let owners = all.iter().map(|holders| place(usize::from(*holders.first()?)));
    let members = in_order.iter().map(|&(index, member)| {
        let said = snapshot.status.iter().find(|it| it.member.node == member.member.node);
        let said = said.and_then(|it| it.outcome.as_ref().ok());
        let backs =
            |holders: &&&[u16]| holders.iter().skip(1).any(|holder| usize::from(*holder) == index);
        Member {
            name: member.member.name.clone(),
            id: member.member.node.short(),
            backups: all.iter().filter(backs).count(),
            shards: said.map(|said| said.shards),
            bytes: said.map_or(0, |said| said.frame_bytes),
        }
    });
    Ring {
        title: view.cluster_name().to_owned(),
        owners: owners.collect(),
        members: members.collect(),
    }
}
