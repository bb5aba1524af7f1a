//! Somebody with a channel of its own and no business in a group: forges configs, replays old ones, repeats and bends
//! what it has heard. What it sends comes by its own channel, so the sender is never a lie.

use std::sync::Arc;

use bytes::Bytes;
use holo_core::Epoch;
use holo_core::group::Seq;
use holo_core::replication::{
    Append, AppendAck, ConfigClaim, GroupConfig, Input, Message, Release, ReplicaId,
};

use crate::brief;
use crate::catalog::News;
use crate::env::{Overheard, node_index};
use crate::faults::outsider;
use crate::linear::Action;
use crate::network::MILLISECOND;
use crate::network::{End, NODES_MAX};
use crate::operation::spoil;
use crate::packet::{Event, Packet};
use crate::world::World;

/// Does one hostile thing.
pub(crate) fn forge(world: &mut World) {
    let group = world.rng.index(world.catalog.groups());
    let evil = outsider(world, group);
    match world.rng.below(6) {
        0 => forged_config(world, group, evil),
        1 => replayed_config(world, group),
        2 => repeat_overheard(world, None),
        3 => repeat_overheard(world, Some((evil, group))),
        4 => false_ack(world, group, evil),
        _ => false_append(world, group, evil),
    }
}

/// A config that the catalog never made, told as news and by an append of its primary.
fn forged_config(world: &mut World, group: usize, evil: ReplicaId) {
    let claim = world.catalog.claim(group).clone();
    let mut members = claim.config.in_sync.clone();
    if world.rng.chance(500) {
        members = vec![world.rng.pick(&members)];
    }
    let primary = world.rng.pick(&members);
    let forged = GroupConfig {
        epoch: Epoch(claim.config.epoch.0 + world.rng.between(1, 3)),
        primary,
        in_sync: members,
        learners: Vec::new(),
        ..(*claim.config).clone()
    };
    let proof = match world.rng.below(3) {
        0 => claim.proof,
        1 => Bytes::new(),
        _ => Bytes::copy_from_slice(&world.rng.next().to_le_bytes()),
    };
    world.env.say(|| format!("{evil} forges {}", brief::Config(&forged)));
    let forged = ConfigClaim { config: Arc::new(forged), proof };
    for node in 0..world.joined {
        if world.rng.chance(500) {
            hand_over(world, node, Input::Config(forged.clone()));
        }
    }
}

/// A config that the catalog did make, long ago.
fn replayed_config(world: &mut World, group: usize) {
    let old: Vec<&ConfigClaim> = world
        .catalog
        .feed()
        .iter()
        .filter_map(|news| match news {
            News::Config { group: of, claim } if *of == group => Some(claim),
            _ => None,
        })
        .collect();
    let Some(claim) = old.get(world.rng.index(old.len())).map(|claim| (*claim).clone()) else {
        return;
    };
    world.env.say(|| format!("somebody replays {}", brief::Config(&claim.config)));
    for node in 0..world.joined {
        if world.rng.chance(500) {
            hand_over(world, node, Input::Config(claim.clone()));
        }
    }
}

/// A message that was heard, again: late by the channel that it came by, or by the forger's own.
fn repeat_overheard(world: &mut World, by: Option<(ReplicaId, usize)>) {
    let count = world.env.overheard.len();
    let Some(heard) = world.env.overheard.get(world.rng.index(count)).cloned() else { return };
    let Overheard { from, to, message } = heard;
    match by {
        None => send(world, from, to, message),
        // In another group the forger may have a role, and what it says there counts.
        Some((evil, group)) if brief::group_of(&message) == Some(world.env.groups[group]) => {
            send(world, evil, to, message);
        }
        Some(_) => {}
    }
}

/// "I hold everything": from somebody whose word does not count.
fn false_ack(world: &mut World, group: usize, evil: ReplicaId) {
    let config = Arc::clone(&world.catalog.claim(group).config);
    let id = config.group;
    let matched = Seq(world.env.watch.commit(group).0 + world.rng.below(50));
    let message = if world.rng.chance(300) {
        Message::Release(Release { group: id, up_to: Epoch(config.epoch.0 + 5) })
    } else {
        let (epoch, committed) = (config.epoch, matched);
        Message::AppendAck(AppendAck { group: id, epoch, matched, committed, based: true })
    };
    send(world, evil, config.primary, message);
}

/// Entries that no primary ordered, with the present config as an alibi.
fn false_append(world: &mut World, group: usize, evil: ReplicaId) {
    let heard = world.env.overheard.iter().rev().find_map(|heard| match &heard.message {
        Message::Append(append)
            if !append.entries.is_empty() && world.env.groups[group] == append.group =>
        {
            Some((heard.to, append.clone()))
        }
        _ => None,
    });
    let Some((to, append)) = heard else { return };
    let claim = world.catalog.claim(group).clone();
    let number = world.rng.next() >> 24;
    let mut entries = append.entries;
    for entry in &mut entries {
        spoil(&mut entry.op, Action::Write(number | 1));
        entry.epoch = claim.config.epoch;
    }
    let commit = entries.last().map_or(append.commit, |entry| entry.seq);
    let epoch = claim.config.epoch;
    let forged = Append { epoch, claim: Some(claim), entries, commit, ..append };
    send(world, evil, to, Message::Append(forged));
}

fn send(world: &mut World, from: ReplicaId, to: ReplicaId, message: Message) {
    let node = node_index(to);
    if node >= NODES_MAX {
        return;
    }
    world.env.say(|| format!("hostile {}", brief::Said(from, to, &message)));
    let at = world.env.now + world.rng.below(5 * MILLISECOND);
    let (end, sender) = (End::Node(node), End::Node(node_index(from).min(NODES_MAX - 1)));
    let packet = Box::new(Packet::Peer { from, to, message });
    world.env.queue.push(at, Event::Deliver { from: sender, to: end, packet });
}

fn hand_over(world: &mut World, node: usize, input: Input) {
    if world.nodes[node].paused_until > world.env.now {
        return;
    }
    if let Some(life) = world.nodes[node].life_mut() {
        life.input(&mut world.env, input);
    }
}
