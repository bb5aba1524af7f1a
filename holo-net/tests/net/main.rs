//! Endpoints over real sockets on loopback: what works, what is refused and how, and what a hostile network can do.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a broken test ends by its panic")]

mod abandon;
mod background;
mod echo;
mod hostile;
mod limits;
mod lossy;
mod party;
mod places;
mod refusals;
mod relay;
