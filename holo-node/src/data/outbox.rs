//! Messages to peers, in batches: whatever has gathered while the last batch was on its way goes with the next.
//!
//! A batch is a request; its answer brings the peer's messages back, so an operation costs one round trip. What
//! cannot be sent is dropped: the machine expects that and repeats what matters.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use holo_core::replication::{Incarnation, Message, ReplicaId};
use holo_core::wire::{Decode, Kind, PeerBatch};
use holo_core::{Epoch, ErrorCode, Failure, PartitionId, limits};
use holo_net::Request;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::Notify;

use super::DataPlane;

/// How long a batch may take; what it carried is repeated long before.
const BATCH_DEADLINE: Duration = Duration::from_secs(2);
/// Batches to one peer whose answers are awaited at once.
const BATCHES_IN_FLIGHT: usize = 8;
/// Bytes of messages in one batch, about.
const BATCH_BYTES: usize = 256 << 10;
/// Messages that wait for one peer. Beyond, the oldest are dropped: they are repeated if they matter.
const QUEUE_MAX: usize = 8192;

/// Queues to all peers.
#[derive(Debug, Default)]
pub(super) struct Outboxes {
    open: Mutex<BTreeMap<ReplicaId, Arc<Outbox>>>,
}

#[derive(Debug)]
struct Outbox {
    to: ReplicaId,
    queue: Mutex<VecDeque<Message>>,
    news: Notify,
}

impl Outboxes {
    /// Queues a message; the first one to a peer opens its queue.
    pub(super) fn push(&self, plane: &Arc<DataPlane>, to: ReplicaId, message: Message) {
        let outbox = {
            let mut open = self.open.lock();
            let found = open.get(&to).cloned();
            found.unwrap_or_else(|| {
                let outbox = Arc::new(Outbox { to, queue: Mutex::default(), news: Notify::new() });
                open.insert(to, Arc::clone(&outbox));
                plane.spawn(Arc::clone(&outbox).keep_sending(Arc::clone(plane)));
                outbox
            })
        };
        let mut queue = outbox.queue.lock();
        if queue.len() >= QUEUE_MAX {
            queue.pop_front();
        }
        queue.push_back(message);
        drop(queue);
        outbox.news.notify_one();
    }

    /// What waits for a peer that is being answered, up to a batch: with the answer to beats nothing else than beats.
    pub(super) fn take_replies(&self, to: ReplicaId, answered: Kind) -> Vec<Message> {
        let Some(outbox) = self.open.lock().get(&to).cloned() else { return Vec::new() };
        let mut queue = outbox.queue.lock();
        match answered {
            Kind::Beat => take_batch(&mut queue, |kind| kind == Kind::Beat),
            _ => take_batch(&mut queue, |_kind| true),
        }
    }

    /// Closes the queues to replicas that live no more.
    pub(super) fn retain(&self, living: &[ReplicaId]) {
        let living: BTreeSet<ReplicaId> = living.iter().copied().collect();
        let mut open = self.open.lock();
        let dead: Vec<ReplicaId> = open.keys().filter(|to| !living.contains(to)).copied().collect();
        for to in dead {
            if let Some(outbox) = open.remove(&to) {
                outbox.queue.lock().clear();
                // Its task finds that nobody else holds the queue.
                outbox.news.notify_one();
            }
        }
    }
}

impl Outbox {
    async fn keep_sending(self: Arc<Self>, plane: Arc<DataPlane>) {
        let mut answers = FuturesUnordered::new();
        loop {
            if answers.len() < BATCHES_IN_FLIGHT {
                let batch = self.take_batch();
                if !batch.is_empty() {
                    let plane = Arc::clone(&plane);
                    answers.push(exchange(plane, self.to, batch));
                    continue;
                }
            }
            let room = answers.len() < BATCHES_IN_FLIGHT;
            tokio::select! {
                Some(()) = answers.next(), if !answers.is_empty() => {}
                () = self.news.notified(), if room => {
                    // Two: this task's and that of the list. One: the peer is gone.
                    if Arc::strong_count(&self) == 1 {
                        return;
                    }
                }
            }
        }
    }

    /// The next batch, of one kind.
    fn take_batch(&self) -> Vec<Message> {
        let mut queue = self.queue.lock();
        let first = queue.iter().find_map(own_kind).unwrap_or(Kind::Beat);
        take_batch(&mut queue, |kind| kind == first)
    }
}

/// Takes messages from the front of a queue, up to a batch or one of a kind that is not taken.
fn take_batch(queue: &mut VecDeque<Message>, takes: impl Fn(Kind) -> bool) -> Vec<Message> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while bytes < BATCH_BYTES
        && let Some(message) = queue.pop_front_if(|next| own_kind(next).is_none_or(&takes))
    {
        bytes += weight(&message);
        batch.push(message);
    }
    batch
}

/// How a message travels: beats ahead of everything else, for what looks like silence costs a takeover, and the rest so
/// that it does not stand in their way. `None`: an answer to a beat goes along with whatever there is.
fn own_kind(message: &Message) -> Option<Kind> {
    match message {
        Message::Beat(_) => Some(Kind::Beat),
        Message::BeatAck(_) => None,
        _ => Some(Kind::Replicate),
    }
}

/// How a batch travels.
pub(super) fn kind_of(batch: &[Message]) -> Kind {
    batch.iter().find_map(own_kind).unwrap_or(Kind::Beat)
}

/// Sends a batch and hands the answer to the machine. A loss is no error here.
async fn exchange(plane: Arc<DataPlane>, to: ReplicaId, batch: Vec<Message>) {
    let Some(link) = plane.control.link(to.node) else { return };
    let kind = kind_of(&batch);
    let body = encode(plane.me.incarnation, to.incarnation, &batch);
    let request = Request {
        kind,
        partition: PartitionId(0),
        epoch: Epoch(0),
        deadline: BATCH_DEADLINE,
        body,
    };
    match link.call(request).await.and_then(|answer| decode(&answer)) {
        Ok(answer) if answer.from == to.incarnation => {
            if !answer.messages.is_empty() {
                plane.feed(to, answer.messages);
            }
        }
        Ok(_) => {}
        Err(failure) => {
            tracing::debug!(%to, code = %failure.code, message = %failure.message, "batch lost");
        }
    }
}

/// A batch whose parts are checked.
pub(crate) struct Batch {
    /// The life of its sender.
    pub(crate) from: Incarnation,
    /// The life of the receiver that it is for.
    pub(crate) to: Incarnation,
    /// The messages.
    pub(crate) messages: Vec<Message>,
}

/// The bytes of a batch.
pub(crate) fn encode(from: Incarnation, to: Incarnation, messages: &[Message]) -> Bytes {
    let batch = PeerBatch {
        from_incarnation: from.0,
        to_incarnation: to.0,
        messages: messages.iter().map(holo_core::wire::PeerMessage::from).collect(),
    };
    Bytes::from(batch.encode_to_vec())
}

/// Reads a batch that came from outside.
///
/// # Errors
///
/// [`ErrorCode::Malformed`], [`ErrorCode::TooLarge`].
pub(crate) fn decode(bytes: &[u8]) -> Result<Batch, Failure> {
    let batch = PeerBatch::decode_body(bytes)?;
    if batch.messages.len() > QUEUE_MAX {
        let message = format!("{} messages in one batch", batch.messages.len());
        return Err(Failure::new(ErrorCode::TooLarge, message));
    }
    let messages = batch.messages.into_iter().map(Message::try_from).collect::<Result<_, _>>()?;
    Ok(Batch {
        from: Incarnation(batch.from_incarnation),
        to: Incarnation(batch.to_incarnation),
        messages,
    })
}

/// What a message weighs, roughly.
fn weight(message: &Message) -> usize {
    let bytes = match message {
        Message::Append(append) => append.entries.iter().map(|entry| entry.wire_bytes()).sum(),
        Message::SnapshotOffer(_) => u64::from(limits::BODY_BYTES_MAX) / 2,
        Message::BeatAck(ack) => 16 * ack.set.iter().flatten().count() as u64,
        Message::Beat(beat) => 32 * beat.commits.len() as u64,
        _ => 0,
    };
    256 + usize::try_from(bytes).unwrap_or(BATCH_BYTES)
}

#[cfg(test)]
mod tests {
    use holo_core::Instant;
    use holo_core::replication::{Beat, BeatAck, Class, GroupId, NodeNumber, Release, SetVersion};
    use proptest::prelude::*;

    use super::*;

    fn ack() -> Message {
        Message::BeatAck(BeatAck { sent_at: Instant(1), set_version: SetVersion(1), set: None })
    }

    fn beat() -> Message {
        let (sent_at, known_set) = (Instant(1), SetVersion(1));
        Message::Beat(Beat { sent_at, known_set, answered: None, commits: Vec::new() })
    }

    fn heavy() -> Message {
        let class = Class { replicas: 2, min_in_sync: 1 };
        let group = GroupId { partition: PartitionId(1), class };
        Message::Release(Release { group, up_to: Epoch(1) })
    }

    fn outbox(messages: Vec<Message>) -> Outbox {
        let to = ReplicaId { node: NodeNumber(2), incarnation: Incarnation(1) };
        Outbox { to, queue: Mutex::new(messages.into()), news: Notify::new() }
    }

    #[test]
    fn beats_travel_alone_and_their_answers_with_whatever_there_is() {
        // The answer to a beat that is owed goes before what is sent next: it put whole batches of entries in the way of
        // beats.
        let cases = [
            (vec![ack(), heavy(), heavy()], vec![(Kind::Replicate, 3)]),
            (vec![ack(), beat(), heavy()], vec![(Kind::Beat, 2), (Kind::Replicate, 1)]),
            (vec![heavy(), ack(), beat()], vec![(Kind::Replicate, 2), (Kind::Beat, 1)]),
            (vec![ack()], vec![(Kind::Beat, 1)]),
        ];
        for (messages, wanted) in cases {
            let outbox = outbox(messages);
            let batches = std::iter::repeat_with(|| outbox.take_batch());
            let batches = batches.take_while(|batch| !batch.is_empty());
            let found: Vec<_> = batches.map(|batch| (kind_of(&batch), batch.len())).collect();
            assert_eq!(found, wanted);
        }
    }

    #[test]
    fn the_answer_to_beats_carries_nothing_else() {
        let to = outbox(Vec::new()).to;
        let outboxes = Outboxes::default();
        let waiting = Arc::new(outbox(vec![beat(), heavy(), beat()]));
        outboxes.open.lock().insert(to, waiting);
        assert_eq!(outboxes.take_replies(to, Kind::Beat).len(), 1);
        assert_eq!(outboxes.take_replies(to, Kind::Beat).len(), 0);
        assert_eq!(outboxes.take_replies(to, Kind::Replicate).len(), 2);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_batch_or_refused(
            noise in proptest::collection::vec(any::<u8>(), 0..100),
            at in any::<proptest::sample::Index>(),
            flip in 1u8..,
        ) {
            crate::fuzzing::batch(&noise);
            let mut bytes = encode(Incarnation(1), Incarnation(2), &[ack(), beat(), heavy()]).to_vec();
            let place = at.index(bytes.len());
            bytes[place] ^= flip;
            crate::fuzzing::batch(&bytes);
        }
    }
}
