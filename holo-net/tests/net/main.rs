//! Endpoints over real sockets on loopback: what works, what is refused and how, and what a hostile network can do.

mod echo;
mod hostile;
mod limits;
mod lossy;
mod party;
mod refusals;
mod relay;
