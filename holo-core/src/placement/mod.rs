//! Which nodes hold which partition: a consistent-hash ring, and the versioned table that is computed from it.
//!
//! The ring gives order and candidates: 128 points per node of normal weight, and a partition's replicas are the
//! first nodes clockwise from its place, each on another node and, as far as there are enough, in another zone. A
//! plain ring leaves some nodes with a quarter more than their share, so a sticky bounded-load pass follows: a
//! replica stays where it was unless its node is above 1.05 of its share. The accepted deviations are what the table
//! records; a lookup is an array index. Everything here is a pure function of its arguments.
//!
//! Zones are filled abreast, so that each has room on both sides of its share: what a dead node held then moves once,
//! and what a new one gets is what others have to give away.
//!
//! Shares come from what is feasible, not from raw weights: a node holds a partition at most once and, where zones
//! are kept apart, a zone at most once too, so the excess of a heavy zone is poured over the others.

mod balance;
mod member;
mod pace;
mod ring;
mod room;
mod share;
mod table;
mod view;

pub use member::{Member, check_name};
pub use ring::{Ring, VNODES};
pub use table::{PlacementTable, partition_of};
pub use view::{ClusterView, MemberView};

#[cfg(test)]
mod tests;
