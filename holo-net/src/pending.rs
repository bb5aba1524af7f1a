//! Requests that wait for their answers, by request id.

use bytes::Bytes;
use holo_core::{Failure, RequestId};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// What a caller gets.
pub(crate) type Answer = Result<Bytes, Failure>;

/// The open requests of one connection.
///
/// An id is the index of a slot and the slot's generation, so that an answer which comes after its caller has gone
/// meets a newer generation and is dropped.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    ended: Option<Failure>,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    waiter: Option<oneshot::Sender<Answer>>,
}

impl Pending {
    /// Opens a request.
    ///
    /// # Errors
    ///
    /// Why the connection has ended, when it has.
    pub(crate) fn open(&self) -> Result<Waiting<'_>, Failure> {
        let (sender, answer) = oneshot::channel();
        let mut guard = self.slots.lock();
        let slots = &mut *guard;
        if let Some(failure) = &slots.ended {
            return Err(failure.clone());
        }
        let index = match slots.free.pop() {
            Some(index) => index,
            None => {
                slots.slots.push(Slot::default());
                // The number of slots is bounded by the requests in flight.
                u32::try_from(slots.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let slot = &mut slots.slots[index as usize];
        slot.waiter = Some(sender);
        let id = RequestId(u64::from(slot.generation) << 32 | u64::from(index));
        Ok(Waiting { pending: self, id, answer })
    }

    /// Takes out who waits for these answers; those that nobody waits for any more are dropped.
    pub(crate) fn complete(&self, answers: &mut Vec<(RequestId, Answer)>) {
        let mut woken = Vec::with_capacity(answers.len());
        let mut slots = self.slots.lock();
        for (id, answer) in answers.drain(..) {
            if let Some(waiter) = slots.release(id) {
                woken.push((waiter, answer));
            }
        }
        drop(slots);
        for (waiter, answer) in woken {
            // The caller may have gone between the lock and here.
            drop(waiter.send(answer));
        }
    }

    /// Fails every open request and each later one.
    pub(crate) fn end(&self, failure: &Failure) {
        let mut slots = self.slots.lock();
        slots.ended.get_or_insert_with(|| failure.clone());
        let waiters: Vec<_> =
            slots.slots.iter_mut().filter_map(|slot| slot.waiter.take()).collect();
        drop(slots);
        for waiter in waiters {
            drop(waiter.send(Err(failure.clone())));
        }
    }
}

impl Slots {
    fn release(&mut self, id: RequestId) -> Option<oneshot::Sender<Answer>> {
        let index = u32::try_from(id.0 & u64::from(u32::MAX)).ok()?;
        let slot = self.slots.get_mut(index as usize)?;
        if u64::from(slot.generation) != id.0 >> 32 {
            return None;
        }
        let waiter = slot.waiter.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        Some(waiter)
    }
}

/// One open request; dropping it forgets the request.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    pending: &'a Pending,
    pub(crate) id: RequestId,
    answer: oneshot::Receiver<Answer>,
}

impl Waiting<'_> {
    /// The answer; `None` when the connection went away without one.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // An answered slot has a newer generation already, so that this is nothing then.
        drop(self.pending.slots.lock().release(self.id));
    }
}

#[cfg(test)]
mod tests {
    use holo_core::ErrorCode;

    use super::*;

    #[tokio::test]
    async fn an_answer_reaches_its_request_and_no_other() {
        let pending = Pending::default();
        let mut first = pending.open().unwrap();
        let mut second = pending.open().unwrap();
        assert_ne!(first.id, second.id);
        pending.complete(&mut vec![
            (second.id, Ok(Bytes::from_static(b"2"))),
            (RequestId(77), Ok(Bytes::new())),
            (RequestId(u64::MAX), Ok(Bytes::new())),
            (first.id, Ok(Bytes::from_static(b"1"))),
        ]);
        assert_eq!(first.answer().await.unwrap().unwrap(), "1");
        assert_eq!(second.answer().await.unwrap().unwrap(), "2");
    }

    #[tokio::test]
    async fn a_late_answer_does_not_reach_the_next_request_in_its_slot() {
        let pending = Pending::default();
        let late = pending.open().unwrap().id;
        let mut next = pending.open().unwrap();
        assert_eq!(next.id.0 & u64::from(u32::MAX), late.0 & u64::from(u32::MAX), "same slot");
        pending.complete(&mut vec![(late, Ok(Bytes::from_static(b"late")))]);
        pending.complete(&mut vec![(next.id, Ok(Bytes::from_static(b"next")))]);
        assert_eq!(next.answer().await.unwrap().unwrap(), "next");
    }

    #[tokio::test]
    async fn the_end_fails_open_requests_and_later_ones_with_the_first_reason() {
        let pending = Pending::default();
        let mut open = pending.open().unwrap();
        pending.end(&Failure::new(ErrorCode::Denied, "no"));
        pending.end(&Failure::new(ErrorCode::Internal, "later"));
        assert_eq!(open.answer().await.unwrap().unwrap_err().code, ErrorCode::Denied);
        assert_eq!(pending.open().unwrap_err().code, ErrorCode::Denied);
    }
}
