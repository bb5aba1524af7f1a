//! Voters in one process, over a network that cuts, delays and loses. Time is paused: it passes only while everybody
//! waits, so a slow machine changes nothing.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a broken test ends by its panic")]

mod agreement;
mod chaos;
mod recovery;
mod refusals;
mod slowness;
mod snapshots;
mod voters;
mod world;
