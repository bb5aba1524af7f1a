//! A number that tells events apart, for the hash of a run.

use holo_core::replication::Message;

use crate::network::End;
use crate::packet::{Bulk, Event, FromCatalog, Packet, ToCatalog};
use crate::rng::mix;

/// Digest of an event: what it is and the numbers that matter.
pub(crate) fn of_event(event: &Event) -> u64 {
    match event {
        Event::Deliver { from, to, packet } => {
            mix(of_end(*from) << 8 ^ of_end(*to)) ^ of_packet(packet)
        }
        Event::NodeTimer { node } => 0x100 + *node as u64,
        Event::Job { node, life, .. } => {
            0x200 + *node as u64 + (u64::from(life.incarnation.0) << 16)
        }
        Event::ClientTimer { client } => 0x300 + *client as u64,
        Event::CatalogTimer => 0x400,
        Event::Fault => 0x500,
        Event::Start { node } => 0x600 + *node as u64,
        Event::Poll { node, .. } => 0x700 + *node as u64,
        Event::Room { node } => 0x800 + *node as u64,
        Event::Heal => 0x900,
        Event::Close => 0xC00,
        Event::Reboot => 0xD00,
        Event::Stop { node, .. } => 0xE00 + *node as u64,
        Event::Crash { node } => 0xB00 + *node as u64,
        Event::Look => 0xA00,
    }
}

fn of_end(end: End) -> u64 {
    match end {
        End::Node(index) => index as u64,
        End::Client(index) => 0x40 + index as u64,
        End::Catalog => 0x80,
    }
}

fn of_packet(packet: &Packet) -> u64 {
    match packet {
        Packet::Peer { from, message, .. } => {
            mix(u64::from(from.incarnation.0) ^ 1).wrapping_add(of_message(message))
        }
        Packet::Bulk { group, bulk, .. } => {
            let number = match bulk {
                Bulk::Stage { id, value } => mix(id.number) ^ value,
                Bulk::WantPayload(id) => mix(id.number ^ 2),
                Bulk::WantSnapshot(id) => mix(id.0 ^ 3),
                Bulk::Piece { snapshot, index, .. } => mix(snapshot.0 ^ 4) ^ *index as u64,
                Bulk::NoSnapshot(id) => mix(id.0 ^ 5),
                Bulk::WantIndex(id) => mix(id.0 ^ 17),
                Bulk::Index { snapshot, .. } => mix(snapshot.0 ^ 18),
                Bulk::WantPieces { snapshot, missing } => {
                    mix(snapshot.0 ^ 19) ^ u64::from(*missing)
                }
            };
            mix(number ^ *group as u64)
        }
        Packet::Request(request) => mix(request.call ^ request.key.number << 20 ^ 6),
        Packet::Response { request, outcome } => {
            let outcome = match outcome {
                crate::packet::Outcome::Done(seen) => mix(*seen ^ 7),
                other => u64::from(matches!(other, crate::packet::Outcome::Unknown)),
            };
            mix(request.call ^ 8).wrapping_add(outcome)
        }
        Packet::ToCatalog(message) => match message {
            ToCatalog::Register { boot, .. } => mix(boot ^ 9),
            ToCatalog::Propose(proposal) => mix(proposal.epoch.0 ^ 10),
            ToCatalog::Poll { known, .. } => mix(*known as u64 ^ 11),
            ToCatalog::Hold { held, .. } => mix(held.epoch.0 << 32 ^ held.seq.0 ^ 15),
            ToCatalog::Reopen { held, .. } => mix(held.at.0 << 32 ^ held.seq.0 ^ 16),
            ToCatalog::Resume { found, .. } => {
                mix(found.past.at.0 << 32 ^ u64::from(found.is_whole) ^ 20)
            }
        },
        Packet::FromCatalog(message) => match message {
            FromCatalog::Registered { boot, .. } => mix(boot ^ 12),
            FromCatalog::News { known } => mix(*known as u64 ^ 13),
            FromCatalog::Refused { epoch, .. } => mix(epoch.0 ^ 14),
        },
    }
}

fn of_message(message: &Message) -> u64 {
    match message {
        Message::Append(append) => {
            let words = append.epoch.0 << 40 ^ append.prev.seq.0 << 20 ^ append.commit.0;
            mix(words ^ (append.entries.len() as u64) << 56 ^ 1 << 60)
        }
        Message::AppendAck(ack) => {
            mix(ack.epoch.0 << 40 ^ ack.matched.0 << 20 ^ ack.committed.0 ^ 2 << 60)
        }
        Message::AppendNack(nack) => mix(nack.epoch.0 << 40 ^ nack.have.0 ^ 3 << 60),
        Message::SnapshotOffer(offer) => mix(offer.epoch.0 << 40 ^ offer.at.seq.0 ^ 4 << 60),
        Message::Release(release) => mix(release.up_to.0 ^ 5 << 60),
        Message::Beat(beat) => mix(beat.sent_at.0 ^ beat.known_set.0 << 50 ^ 6 << 60),
        Message::BeatAck(ack) => mix(ack.sent_at.0 ^ ack.set_version.0 << 50 ^ 7 << 60),
    }
}
