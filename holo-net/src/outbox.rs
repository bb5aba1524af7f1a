//! Small messages on their way into one stream: many callers append, one writer takes all there is at once.

use bytes::{Bytes, BytesMut};
use holo_core::limits;
use holo_core::wire::{FrameHeader, Lane};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::frame::put_frame;

/// Lets everybody run who can, before something is written to a stream of this lane: what they have to say to the same
/// peer leaves in the same packet. Beats of replicas and of the catalog go along with each other so; who waits for data
/// does not wait for them.
pub(crate) async fn gather(lane: Lane) {
    if lane <= Lane::Catalog {
        tokio::task::yield_now().await;
    }
}

/// The bounded queue of one stream.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    filled: Notify,
    drained: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    bytes: BytesMut,
    closed: bool,
}

impl Outbox {
    /// Appends a message; waits while the queue is full. `false` when the stream is gone.
    pub(crate) async fn push(&self, header: &FrameHeader, body: &[u8]) -> bool {
        loop {
            // Listen before looking, or the wake-up between the two is lost.
            let drained = self.drained.notified();
            if let Some(queued) = self.try_push(header, body) {
                return queued;
            }
            drained.await;
        }
    }

    /// Everything that is queued, as soon as there is something and what goes along with it has gathered; `None` when the
    /// stream is gone.
    pub(crate) async fn take(&self, lane: Lane) -> Option<Bytes> {
        while self.is_waiting() {
            self.filled.notified().await;
        }
        gather(lane).await;
        let mut queue = self.queue.lock();
        if queue.closed {
            return None;
        }
        let was_full = queue.bytes.len() >= limits::SEND_QUEUE_BYTES_MAX;
        let bytes = queue.bytes.split().freeze();
        drop(queue);
        if was_full {
            self.drained.notify_waiters();
        }
        Some(bytes)
    }

    fn is_waiting(&self) -> bool {
        let queue = self.queue.lock();
        queue.bytes.is_empty() && !queue.closed
    }

    /// Ends it: the writer stops and nobody waits for room any more.
    pub(crate) fn close(&self) {
        self.queue.lock().closed = true;
        self.filled.notify_one();
        self.drained.notify_waiters();
    }

    /// `None` when it is full, else whether the message was queued. A message is taken whole when there is any room.
    fn try_push(&self, header: &FrameHeader, body: &[u8]) -> Option<bool> {
        let mut queue = self.queue.lock();
        if queue.closed {
            return Some(false);
        }
        if queue.bytes.len() >= limits::SEND_QUEUE_BYTES_MAX {
            return None;
        }
        let was_empty = queue.bytes.is_empty();
        put_frame(&mut queue.bytes, header, body);
        drop(queue);
        if was_empty {
            self.filled.notify_one();
        }
        Some(true)
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Waker};

    use holo_core::RequestId;
    use holo_core::wire::{HEADER_BYTES, Kind};
    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn the_writer_takes_all_that_is_queued_at_once() {
        let outbox = Outbox::default();
        for id in 0..3 {
            let header = FrameHeader::request(Kind::Get, RequestId(id), 4);
            assert!(outbox.push(&header, b"body").await);
        }
        assert_eq!(outbox.take(Lane::Client).await.unwrap().len(), 3 * (HEADER_BYTES + 4));
    }

    #[tokio::test]
    async fn a_full_queue_makes_callers_wait_until_it_is_drained() {
        let outbox = Outbox::default();
        let body = vec![0; limits::BODY_BYTES_MAX as usize];
        let header = FrameHeader::request(Kind::Get, RequestId(1), limits::BODY_BYTES_MAX);
        for _ in 0..8 {
            assert!(outbox.push(&header, &body).await);
        }
        let mut waiting = pin!(outbox.push(&header, &body));
        let mut context = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        assert!(outbox.take(Lane::Client).await.is_some());
        assert!(waiting.await);
        outbox.close();
        assert!(!outbox.push(&header, &body).await);
        assert_eq!(outbox.take(Lane::Client).await, None);
    }

    #[tokio::test]
    async fn beats_leave_together_with_what_others_are_about_to_say() {
        for (lane, taken) in [(Lane::Membership, 2), (Lane::Client, 1)] {
            let outbox = Arc::new(Outbox::default());
            let header = FrameHeader::request(Kind::Beat, RequestId(1), 4);
            let frame = HEADER_BYTES + 4;
            let (saying, writing) = (Arc::clone(&outbox), outbox);
            let mut tasks = JoinSet::new();
            // Another task, which takes some steps before it has more to say.
            tasks.spawn(async move {
                assert!(saying.push(&header, b"beat").await);
                let mut steps = JoinSet::new();
                for _ in 0..3 {
                    steps.spawn(async {});
                    steps.join_next().await.unwrap().unwrap();
                }
                assert!(saying.push(&header, b"beat").await);
                None
            });
            tasks.spawn(async move { writing.take(lane).await });
            let ended = tasks.join_all().await;
            let bytes = ended.into_iter().flatten().next();
            assert_eq!(bytes.unwrap().len(), taken * frame, "{lane:?}");
        }
    }
}
