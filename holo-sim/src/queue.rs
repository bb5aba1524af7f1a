//! Events in the order of their time.

/// Nanoseconds of true time since the run began; no node sees it.
pub(crate) type Time = u64;

/// A queue of events; those of the same time come out in the order in which they went in.
///
/// Some dozens of events wait at a time, most of them for a moment near the next one: in a sorted list, whose end comes
/// first, the next one is taken off for nothing and a new one moves few others. Events rest in a slab, so that only their
/// places move.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    /// Times, latest first, each with the slot of its event.
    places: Vec<(Time, usize)>,
    slab: Vec<Option<E>>,
    free: Vec<usize>,
}

/// Events for which there is room from the start.
const ROOM: usize = 128;

impl<E> Queue<E> {
    /// An empty queue.
    pub(crate) fn new() -> Self {
        Self {
            places: Vec::with_capacity(ROOM),
            slab: Vec::with_capacity(ROOM),
            free: Vec::with_capacity(ROOM),
        }
    }

    /// Puts an event at its time.
    pub(crate) fn push(&mut self, at: Time, event: E) {
        let slot = self.free.pop().unwrap_or(self.slab.len());
        if let Some(empty) = self.slab.get_mut(slot) {
            *empty = Some(event);
        } else {
            self.slab.push(Some(event));
        }
        // Behind all of the same time: they come out first.
        let place = self.places.partition_point(|(time, _)| *time > at);
        self.places.insert(place, (at, slot));
    }

    /// The next event with its time.
    pub(crate) fn pop(&mut self) -> Option<(Time, E)> {
        let (at, slot) = self.places.pop()?;
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
