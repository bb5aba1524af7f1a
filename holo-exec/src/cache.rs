//! A small bounded cache of compiled programs, keyed by a hash of their source.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

/// Keeps the most recently used `capacity` programs.
#[derive(Debug)]
pub(crate) struct ProgramCache<T> {
    capacity: usize,
    state: Mutex<State<T>>,
}

impl<T> ProgramCache<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        let state = State { uses: 0, entries: BTreeMap::new() };
        Self { capacity: capacity.max(1), state: Mutex::new(state) }
    }

    /// The program of `key`, compiled by `compile` when it is not here.
    ///
    /// The lock is not held while compiling: two threads may compile the same program once each, the first one in
    /// is kept.
    pub(crate) fn get_or_compile<E>(
        &self,
        key: [u8; 32],
        compile: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        if let Some(found) = self.state.lock().touch(&key) {
            return Ok(found);
        }
        let fresh = Arc::new(compile()?);
        let mut state = self.state.lock();
        if let Some(found) = state.touch(&key) {
            return Ok(found);
        }
        if state.entries.len() >= self.capacity {
            state.evict_oldest();
        }
        let now = state.next_use();
        state.entries.insert(key, (now, Arc::clone(&fresh)));
        Ok(fresh)
    }
}

#[derive(Debug)]
struct State<T> {
    uses: u64,
    entries: BTreeMap<[u8; 32], (u64, Arc<T>)>,
}

impl<T> State<T> {
    fn next_use(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    fn touch(&mut self, key: &[u8; 32]) -> Option<Arc<T>> {
        let now = self.next_use();
        let (used, program) = self.entries.get_mut(key)?;
        *used = now;
        Some(Arc::clone(program))
    }

    fn evict_oldest(&mut self) {
        let oldest = self.entries.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key);
        if let Some(key) = oldest {
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn the_least_recently_used_program_makes_room() {
        let cache = ProgramCache::new(2);
        let get = |key: u8| -> u32 {
            let mut compiled = 0;
            cache
                .get_or_compile([key; 32], || {
                    compiled = 1;
                    Ok::<_, Infallible>(())
                })
                .unwrap();
            compiled
        };
        assert_eq!([get(1), get(2), get(1)], [1, 1, 0]);
        assert_eq!(get(3), 1, "2 makes room, it was used before 1");
        assert_eq!([get(1), get(3)], [0, 0]);
        assert_eq!(get(2), 1);
    }

    #[test]
    fn a_failed_compilation_is_not_kept() {
        let cache: ProgramCache<()> = ProgramCache::new(2);
        assert!(cache.get_or_compile([1; 32], || Err("no")).is_err());
        assert!(cache.get_or_compile([1; 32], || Ok::<_, &str>(())).is_ok());
    }
}
