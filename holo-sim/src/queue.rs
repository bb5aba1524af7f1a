//! Events in the order of their time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Nanoseconds of true time since the run began; no node sees it.
pub(crate) type Time = u64;

/// A queue of events; those of the same time come out in the order in which they went in.
///
/// Events rest in a slab: a heap that moves them about would copy whole messages at every step.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Reverse<(Time, u64, usize)>>,
    slab: Vec<Option<E>>,
    free: Vec<usize>,
    order: u64,
}

impl<E> Queue<E> {
    /// An empty queue.
    pub(crate) fn new() -> Self {
        Self {
            heap: BinaryHeap::with_capacity(512),
            slab: Vec::with_capacity(512),
            free: Vec::with_capacity(512),
            order: 0,
        }
    }

    /// Puts an event at its time.
    pub(crate) fn push(&mut self, at: Time, event: E) {
        let slot = self.free.pop().unwrap_or(self.slab.len());
        if slot == self.slab.len() {
            self.slab.push(Some(event));
        } else {
            self.slab[slot] = Some(event);
        }
        self.order += 1;
        self.heap.push(Reverse((at, self.order, slot)));
    }

    /// The next event with its time.
    pub(crate) fn pop(&mut self) -> Option<(Time, E)> {
        let Reverse((at, _, slot)) = self.heap.pop()?;
        let event = self.slab[slot].take()?;
        self.free.push(slot);
        Some((at, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_by_the_order_of_their_coming() {
        let mut queue = Queue::new();
        for (at, event) in [(5, 'd'), (1, 'a'), (3, 'b'), (3, 'c')] {
            queue.push(at, event);
        }
        assert_eq!(queue.pop(), Some((1, 'a')));
        queue.push(9, 'e');
        let rest: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(rest, [(3, 'b'), (3, 'c'), (5, 'd'), (9, 'e')]);
    }
}
